//! A scenario turned into indices: positions along the trunk, prefix sums of times, and tables found once.

use std::collections::BTreeMap;

use super::outcomes::Outcomes;
use super::plan::{ExitPlan, LinkPlan, NodePlan, Plan, Threshold};
use super::scenario::{EncodedFrontier, Scenario};
use crate::codec::Encoding;
use crate::error::{Error, Result};
use crate::units::Micros;

/// How far along the trunk: the number of layers that have run.
pub(super) type Position = usize;

/// What the exits behind a cut answer under one element type; every lossless coder shares it.
pub(super) struct Path<'a> {
    pub resume: Position,
    /// One per exit; `None` where the exit cannot be tried behind this cut.
    pub outcomes: Vec<Option<&'a Outcomes>>,
    /// The rows of [`Scenario::encodings`] that take this path.
    pub rows: Vec<usize>,
}

/// A scenario with its names resolved.
pub(super) struct Space<'a> {
    pub scenario: &'a Scenario,
    /// `run[node][position]`: time of the first `position` trunk layers.
    run: Vec<Vec<Micros>>,
    /// Per exit the position from which it can be tried.
    pub needs: Vec<Position>,
    pub paths: Vec<Path<'a>>,
    /// Per position the tips of that cut.
    tips: Vec<Vec<String>>,
}

impl<'a> Space<'a> {
    pub fn new(scenario: &'a Scenario) -> Result<Self> {
        let tips: Vec<Vec<String>> = (0..=scenario.layers.len()).map(|end| tips_at(scenario, end)).collect();
        let run = scenario.nodes.iter().map(|node| prefix_sums(&node.layers_us)).collect();
        let mut space = Self { scenario, run, needs: Vec::new(), paths: Vec::new(), tips };
        for exit in &scenario.exits {
            let after = exit.after.iter().map(|name| space.layer_end(name)).collect::<Result<Vec<_>>>()?;
            space.needs.push(after.into_iter().max().unwrap_or(0));
        }
        if space.needs.last() != Some(&scenario.layers.len()) || !space.needs.is_sorted() {
            return Err(Error::failed(
                "scenario: exits must be listed in the order of the trunk, the final one after its last layer",
            ));
        }
        space.find_paths()?;
        Ok(space)
    }

    fn find_paths(&mut self) -> Result<()> {
        let mut found: BTreeMap<(Position, Encoding), Vec<usize>> = BTreeMap::new();
        for (index, row) in self.scenario.encodings.iter().enumerate() {
            found.entry((self.position(&row.cut)?, row.encoding.without_coder())).or_default().push(index);
        }
        for ((resume, element), rows) in found {
            let lossy = if element.is_lossless() { None } else { Some(self.lossy(resume, element)?) };
            let outcomes = (0..self.needs.len())
                .map(|exit| {
                    let table = lossy.map_or(Some(&self.scenario.outcomes[exit]), |row| row[exit].as_ref());
                    table.filter(|_| self.needs[exit] >= resume)
                })
                .collect();
            self.paths.push(Path { resume, outcomes, rows });
        }
        Ok(())
    }

    fn lossy(&self, resume: Position, element: Encoding) -> Result<&'a [Option<Outcomes>]> {
        let tips = &self.tips[resume];
        let row = self.scenario.lossy_outcomes.iter().find(|row| row.element == element && row.cut == *tips);
        let row = row.filter(|row| row.exits.last().is_some_and(Option::is_some)).ok_or_else(|| {
            Error::failed(format!(
                "scenario: no outcomes for the lossy encoding {element} at cut [{}]; `coprof encodings` measures them",
                tips.join(", ")
            ))
        })?;
        Ok(&row.exits)
    }

    /// Time of the trunk layers from one position to a later one.
    pub fn run_time(&self, node: usize, from: Position, to: Position) -> Micros {
        self.run[node][to] - self.run[node][from]
    }

    /// Time that one message under this row occupies the link.
    pub fn link_time(&self, row: &EncodedFrontier) -> Micros {
        let link = &self.scenario.links[0];
        link.overhead_us + link.bits_per_second.time_for(row.bytes)
    }

    /// The position of the cut with these tips.
    pub fn position(&self, tips: &[String]) -> Result<Position> {
        let ends = tips.iter().map(|name| self.layer_end(name)).collect::<Result<Vec<_>>>()?;
        let end = ends.into_iter().max().unwrap_or(0);
        let same =
            self.tips[end].len() == tips.len() && self.tips[end].iter().all(|name| tips.contains(name));
        if same {
            Ok(end)
        } else {
            Err(Error::failed(format!("[{}] is no cut along the trunk's order", tips.join(", "))))
        }
    }

    fn layer_end(&self, name: &str) -> Result<Position> {
        let found = self.scenario.layers.iter().position(|layer| layer.name == name);
        found
            .map(|index| index + 1)
            .ok_or_else(|| Error::failed(format!("no layer '{name}' in the scenario's trunk")))
    }

    /// The path and row of a cut under an encoding.
    pub fn find_row(&self, resume: Position, encoding: Encoding) -> Result<(&Path<'a>, &'a EncodedFrontier)> {
        let rows = |path: &Path<'a>| {
            path.rows.iter().map(|&row| &self.scenario.encodings[row]).find(|row| row.encoding == encoding)
        };
        let mut paths = self.paths.iter().filter(|path| path.resume == resume);
        paths.find_map(|path| rows(path).map(|row| (path, row))).ok_or_else(|| {
            Error::failed(format!(
                "the scenario has no encoding {encoding} at cut [{}]",
                self.tips[resume].join(", ")
            ))
        })
    }

    /// A plan in names. `crossing` is the resume cut and the encoding; `exits` gives each exit's threshold and node.
    pub fn plan(
        &self,
        cut: Position,
        crossing: Option<(Position, Encoding)>,
        exits: &[(Threshold, usize)],
    ) -> Plan {
        let last = if crossing.is_some() { self.scenario.layers.len() } else { cut };
        let link =
            crossing.map(|(resume, encoding)| LinkPlan { resume: self.tips[resume].clone(), encoding });
        let names = self.scenario.exits.iter().map(|exit| exit.name.clone());
        Plan {
            model: self.scenario.model.sha256.clone(),
            nodes: vec![NodePlan { cut: self.tips[cut].clone() }, NodePlan { cut: self.tips[last].clone() }],
            links: vec![link],
            exits: names
                .zip(exits)
                .map(|(name, &(threshold, node))| ExitPlan { name, threshold, node })
                .collect(),
        }
    }
}

fn prefix_sums(times: &[Micros]) -> Vec<Micros> {
    let mut sums = vec![Micros::ZERO];
    let mut sum = Micros::ZERO;
    for &time in times {
        sum += time;
        sums.push(sum);
    }
    sums
}

/// The first `end` layers that no other of them reads.
fn tips_at(scenario: &Scenario, end: Position) -> Vec<String> {
    let inside = &scenario.layers[..end];
    let unread = inside.iter().filter(|layer| !inside.iter().any(|other| other.inputs.contains(&layer.name)));
    unread.map(|layer| layer.name.clone()).collect()
}
