//! Chooses among ways to compute the same by running them.

use std::time::{Duration, Instant};

/// The place of the way that is the fastest in most rounds: in a round all run in turn, so that a host whose speed drifts
/// is equally fast for all of them. There are 3 to 41 rounds, and no new one begins once `budget` is spent. A way that
/// fails wins nothing.
pub fn fastest<W, E>(
    ways: &mut [W],
    budget: Duration,
    mut run: impl FnMut(&mut W) -> Result<(), E>,
) -> usize {
    const ROUNDS: std::ops::Range<usize> = 3..41;
    let mut wins = vec![0; ways.len()];
    let start = Instant::now();
    for round in 0..ROUNDS.end {
        if ways.len() < 2 || round >= ROUNDS.start && start.elapsed() > budget {
            break;
        }
        let times = ways.iter_mut().map(|way| {
            let start = Instant::now();
            run(way).map_or(Duration::MAX, |()| start.elapsed())
        });
        if let Some((winner, _)) = times.enumerate().min_by_key(|(_, time)| *time) {
            wins[winner] += 1;
        }
    }
    // Of equals the first one.
    (0..ways.len()).rev().max_by_key(|&way| wins[way]).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

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
