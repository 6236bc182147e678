//! Regions of the thresholds' settings: boxes on the grids of all exits, in which the same exits are on.

use super::tally::{MAX_EXITS, Setting};

/// The settings between two, exit by exit, both included. Which exits are on is the same in all of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Region {
    pub from: Setting,
    pub to: Setting,
}

impl Region {
    /// The largest regions, those with the fewest settings first: every choice of side exits that are on, without an end or
    /// with one of them at which all leave. `steps` holds the thresholds of each side exit between "never" and "always".
    pub fn all(steps: &[u16]) -> Vec<Self> {
        let nothing = Self { from: [0; MAX_EXITS], to: [0; MAX_EXITS] };
        let (mut open, mut ended) = (vec![nothing], Vec::new());
        for (exit, &steps) in steps.iter().enumerate() {
            let with = |region: &Self, from: u16, to: u16| {
                let mut region = *region;
                (region.from[exit], region.to[exit]) = (from, to);
                region
            };
            ended.extend(open.iter().map(|region| with(region, steps + 1, steps + 1)));
            if steps > 0 {
                let on: Vec<Self> = open.iter().map(|region| with(region, 1, steps)).collect();
                open.extend(on);
            }
        }
        open.extend(ended);
        open.sort_by_key(|region| region.settings());
        open
    }

    /// The exits that are on, the final one included unless all leave before it.
    pub fn exits(&self, steps: &[u16]) -> Vec<usize> {
        let mut on: Vec<usize> = (0..steps.len()).filter(|&exit| self.to[exit] > 0).collect();
        if on.last().is_none_or(|&exit| self.to[exit] <= steps[exit]) {
            on.push(steps.len());
        }
        on
    }

    /// How many settings it has; the greatest number where they are more.
    pub fn settings(&self) -> u64 {
        let widths = self.from.iter().zip(&self.to).map(|(from, to)| u64::from(to - from) + 1);
        widths.fold(1, u64::saturating_mul)
    }

    /// Its halves across an exit that it has several thresholds of, the lower ones first. The other half keeps the highest
    /// thresholds.
    pub fn halves(&self, exit: usize) -> [Self; 2] {
        let middle = self.from[exit] + (self.to[exit] - self.from[exit]) / 2;
        let (mut lower, mut upper) = (*self, *self);
        lower.to[exit] = middle;
        upper.from[exit] = middle + 1;
        [lower, upper]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn settings(region: &Region, into: &mut Vec<Setting>) {
        match (0..MAX_EXITS).find(|&exit| region.to[exit] > region.from[exit]) {
            None => into.push(region.to),
            Some(exit) => region.halves(exit).iter().for_each(|half| settings(half, into)),
        }
    }

    #[test]
    fn all_regions_hold_every_setting_once() {
        let steps = [3, 0, 2];
        let mut found = Vec::new();
        for region in Region::all(&steps) {
            let before = found.len();
            settings(&region, &mut found);
            assert_eq!((found.len() - before) as u64, region.settings());
        }
        // Settings of the exits before the one at which all leave, or of all without such an end.
        assert_eq!(found.len(), 4 * 3 + 1 + 4 + 4);
        assert_eq!(found.iter().collect::<HashSet<_>>().len(), found.len());
    }

    #[test]
    fn the_final_exit_is_on_unless_all_leave_before_it() {
        let steps = [3, 2];
        for region in Region::all(&steps) {
            let ends = (0..2).any(|exit| region.to[exit] > steps[exit]);
            assert_eq!(region.exits(&steps).contains(&2), !ends, "{region:?}");
        }
    }
}
