//! Chooses among algorithms that compute the same by running them in turn: a host whose speed drifts is equally fast for all of
//! them in a round.

use std::time::{Duration, Instant};

const ROUNDS: std::ops::Range<usize> = 3..41;

/// Counts who is the fastest in most rounds.
pub struct Autotuning {
    times: Vec<Duration>,
    wins: Vec<usize>,
}

impl Autotuning {
    pub fn of(algorithms: usize) -> Self {
        Self { times: vec![Duration::MAX; algorithms], wins: vec![0; algorithms] }
    }

    /// Whether there are rounds enough, or the budget is spent.
    pub fn is_over(rounds: usize, spent: Duration, budget: Duration) -> bool {
        rounds >= ROUNDS.end || rounds >= ROUNDS.start && spent > budget
    }

    /// An algorithm's time in this round. Who has none wins nothing; a number that is no algorithm's counts for nothing.
    pub fn lap(&mut self, algorithm: usize, time: Duration) {
        if let Some(own) = self.times.get_mut(algorithm) {
            *own = time;
        }
    }

    pub fn end_round(&mut self) {
        let winner = (0..self.times.len()).min_by_key(|&algorithm| self.times[algorithm]);
        if let Some(algorithm) = winner.filter(|&algorithm| self.times[algorithm] < Duration::MAX) {
            self.wins[algorithm] += 1;
        }
        self.times.fill(Duration::MAX);
    }

    /// The first one of equals.
    pub fn winner(&self) -> usize {
        (0..self.wins.len()).rev().max_by_key(|&algorithm| self.wins[algorithm]).unwrap_or(0)
    }
}

/// The place of the algorithm that wins most rounds. A single one is not run; one that fails wins nothing.
pub fn fastest<W, E>(
    algorithms: &mut [W],
    budget: Duration,
    mut run: impl FnMut(&mut W) -> Result<(), E>,
) -> usize {
    let mut autotuning = Autotuning::of(algorithms.len());
    let start = Instant::now();
    for round in 0.. {
        if algorithms.len() < 2 || Autotuning::is_over(round, start.elapsed(), budget) {
            break;
        }
        for (place, algorithm) in algorithms.iter_mut().enumerate() {
            let start = Instant::now();
            if run(algorithm).is_ok() {
                autotuning.lap(place, start.elapsed());
            }
        }
        autotuning.end_round();
    }
    autotuning.winner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_wins_most_rounds_is_chosen_and_the_first_one_of_equals() {
        let mut autotuning = Autotuning::of(3);
        assert_eq!(autotuning.winner(), 0);
        for round in [[5, 4, 9], [5, 6, 4], [5, 4, 1], [3, 2, 3]] {
            round
                .iter()
                .enumerate()
                .for_each(|(algorithm, &time)| autotuning.lap(algorithm, Duration::from_micros(time)));
            autotuning.lap(3, Duration::ZERO);
            autotuning.end_round();
        }
        assert_eq!((autotuning.winner(), &autotuning.wins), (1, &vec![0, 2, 2]));
        autotuning.end_round();
        assert_eq!(autotuning.wins, [0, 2, 2], "a round without times is won by nobody");
    }

    #[test]
    fn a_race_has_enough_rounds_and_ends_with_its_budget() {
        let budget = Duration::from_secs(1);
        assert!(!Autotuning::is_over(2, Duration::from_secs(9), budget));
        assert!(Autotuning::is_over(3, Duration::from_secs(9), budget));
        assert!(!Autotuning::is_over(40, Duration::ZERO, budget));
        assert!(Autotuning::is_over(41, Duration::ZERO, budget));
    }

    #[test]
    fn a_single_way_is_not_run() {
        let never = |_: &mut ()| -> Result<(), ()> { panic!("ran") };
        assert_eq!(fastest(&mut [()], Duration::ZERO, never), 0);
        assert_eq!(fastest(&mut [], Duration::ZERO, never), 0);
    }

    #[test]
    fn what_fails_is_not_chosen_and_all_run_in_turn() {
        let mut runs = Vec::new();
        let run = |algorithm: &mut usize| {
            runs.push(*algorithm);
            if *algorithm == 1 { Ok(()) } else { Err(()) }
        };
        assert_eq!(fastest(&mut [0, 1, 2], Duration::ZERO, run), 1);
        assert_eq!(runs, [0, 1, 2, 0, 1, 2, 0, 1, 2]);
    }
}
