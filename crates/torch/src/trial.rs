//! Chooses among ways to compute the same by running them in turn: a host whose speed drifts is equally fast for all of
//! them in a round.

use std::time::{Duration, Instant};

const ROUNDS: std::ops::Range<usize> = 3..41;

/// Counts who is the fastest in most rounds.
pub struct Race {
    times: Vec<Duration>,
    wins: Vec<usize>,
}

impl Race {
    pub fn of(ways: usize) -> Self {
        Self { times: vec![Duration::MAX; ways], wins: vec![0; ways] }
    }

    /// Whether there are rounds enough, or the budget is spent.
    pub fn is_over(rounds: usize, spent: Duration, budget: Duration) -> bool {
        rounds >= ROUNDS.end || rounds >= ROUNDS.start && spent > budget
    }

    /// A way's time in this round. Who has none wins nothing; a number that is no way's counts for nothing.
    pub fn lap(&mut self, way: usize, time: Duration) {
        if let Some(own) = self.times.get_mut(way) {
            *own = time;
        }
    }

    pub fn end_round(&mut self) {
        let winner = (0..self.times.len()).min_by_key(|&way| self.times[way]);
        if let Some(way) = winner.filter(|&way| self.times[way] < Duration::MAX) {
            self.wins[way] += 1;
        }
        self.times.fill(Duration::MAX);
    }

    /// The first one of equals.
    pub fn winner(&self) -> usize {
        (0..self.wins.len()).rev().max_by_key(|&way| self.wins[way]).unwrap_or(0)
    }
}

/// The place of the way that wins most rounds. A single one is not run; one that fails wins nothing.
pub fn fastest<W, E>(
    ways: &mut [W],
    budget: Duration,
    mut run: impl FnMut(&mut W) -> Result<(), E>,
) -> usize {
    let mut race = Race::of(ways.len());
    let start = Instant::now();
    for round in 0.. {
        if ways.len() < 2 || Race::is_over(round, start.elapsed(), budget) {
            break;
        }
        for (place, way) in ways.iter_mut().enumerate() {
            let start = Instant::now();
            if run(way).is_ok() {
                race.lap(place, start.elapsed());
            }
        }
        race.end_round();
    }
    race.winner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_wins_most_rounds_is_chosen_and_the_first_one_of_equals() {
        let mut race = Race::of(3);
        assert_eq!(race.winner(), 0);
        for round in [[5, 4, 9], [5, 6, 4], [5, 4, 1], [3, 2, 3]] {
            round.iter().enumerate().for_each(|(way, &time)| race.lap(way, Duration::from_micros(time)));
            race.lap(3, Duration::ZERO);
            race.end_round();
        }
        assert_eq!((race.winner(), &race.wins), (1, &vec![0, 2, 2]));
        race.end_round();
        assert_eq!(race.wins, [0, 2, 2], "a round without times is won by nobody");
    }

    #[test]
    fn a_race_has_enough_rounds_and_ends_with_its_budget() {
        let budget = Duration::from_secs(1);
        assert!(!Race::is_over(2, Duration::from_secs(9), budget));
        assert!(Race::is_over(3, Duration::from_secs(9), budget));
        assert!(!Race::is_over(40, Duration::ZERO, budget));
        assert!(Race::is_over(41, Duration::ZERO, budget));
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
        let run = |way: &mut usize| {
            runs.push(*way);
            if *way == 1 { Ok(()) } else { Err(()) }
        };
        assert_eq!(fastest(&mut [0, 1, 2], Duration::ZERO, run), 1);
        assert_eq!(runs, [0, 1, 2, 0, 1, 2, 0, 1, 2]);
    }
}
