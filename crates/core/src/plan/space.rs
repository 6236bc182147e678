//! A scenario turned into indices: cuts interned, prefix sums of times, and tables found once.

use std::collections::{BTreeMap, HashMap};

use super::layers::Trunk;
use super::outcomes::Outcomes;
use super::plan::{ExitPlan, LinkPlan, NodePlan, Plan, Threshold};
use super::problem::Problem;
use super::scenario::EncodedFrontier;
use crate::codec::Encoding;
use crate::error::{Error, Result};
use crate::model::{Dag, LayerSet, Tensor};

/// A cut of [`Space`].
pub(super) type CutId = usize;

/// The cut before the first layer.
pub(super) const EMPTY: CutId = 0;

/// A cut behind which a node may take over, joined with what exits need.
pub(super) struct Resume {
    /// `with[exits]`: the cut together with all that the first `exits` exits need; `with[0]` is the cut itself.
    pub with: Vec<CutId>,
    /// Per exit whether its head can be run from what crosses.
    pub can_try: Vec<bool>,
}

impl Resume {
    pub fn cut(&self) -> CutId {
        self.with[0]
    }
}

/// What the exits behind a cut answer under one element type; every lossless coder shares it.
pub(super) struct Path<'a> {
    /// Index into [`Space::resumes`].
    pub resume: usize,
    /// Where answers behind it are not the uncut model's: one per exit, `None` where the exit cannot be tried there.
    pub lossy: Option<Vec<Option<&'a Outcomes>>>,
    /// The rows of [`Problem::encodings`] that take this path.
    pub rows: Vec<usize>,
}

impl<'a> Path<'a> {
    /// What an exit behind this path answers.
    pub fn outcomes(&self, scenario: &'a Problem, exit: usize) -> Option<&'a Outcomes> {
        self.lossy.as_ref().map_or(Some(&scenario.outcomes[exit]), |lossy| lossy[exit])
    }
}

/// A scenario with its names resolved.
pub(super) struct Space<'a> {
    pub scenario: &'a Problem,
    pub trunk: Trunk,
    /// Per exit the cut that it needs; each covers the one before.
    pub needs: Vec<CutId>,
    pub resumes: Vec<Resume>,
    pub paths: Vec<Path<'a>>,
    sets: Vec<LayerSet>,
    sizes: Vec<usize>,
    ids: HashMap<LayerSet, CutId>,
    /// `run[node][cut]`: time of all layers in the cut.
    run: Vec<Vec<f64>>,
    ranges: Vec<HashMap<(CutId, CutId), f64>>,
    /// `forbidden[node][cut]`: how many of the cut's layers the node may not run.
    forbidden: Vec<Vec<u32>>,
}

impl<'a> Space<'a> {
    pub fn new(scenario: &'a Problem) -> Result<Self> {
        let trunk =
            Trunk::new(&scenario.layers).map_err(|what| Error::failed(format!("scenario: {what}")))?;
        let nodes = scenario.nodes.len();
        let mut space = Self {
            scenario,
            trunk,
            needs: Vec::new(),
            resumes: Vec::new(),
            paths: Vec::new(),
            sets: Vec::new(),
            sizes: Vec::new(),
            ids: HashMap::new(),
            run: vec![Vec::new(); nodes],
            ranges: vec![HashMap::new(); nodes],
            forbidden: vec![Vec::new(); nodes],
        };
        space.find_needs()?;
        space.find_paths()?;
        space.find_ranges()?;
        Ok(space)
    }

    fn find_needs(&mut self) -> Result<()> {
        let mut before = LayerSet::default();
        self.intern(before.clone());
        for exit in &self.scenario.exits {
            let needs = self.cut(exit.tips())?;
            if !needs.covers(&before) {
                return Err(Error::failed(format!(
                    "scenario: exit '{}' must need all that the exits before it need; list exits in the order of the trunk",
                    exit.name
                )));
            }
            before = needs.clone();
            let id = self.intern(needs);
            self.needs.push(id);
        }
        if before != *self.trunk.dag.trunk() {
            return Err(Error::failed(
                "scenario: the last exit must be the final one, after all layers of the trunk",
            ));
        }
        Ok(())
    }

    fn find_paths(&mut self) -> Result<()> {
        let whole = self.trunk.dag.trunk().clone();
        let mut found: BTreeMap<(LayerSet, Encoding), Vec<usize>> = BTreeMap::new();
        for (index, row) in self.scenario.encodings.iter().enumerate() {
            found.entry((self.cut(&row.cut)?, row.encoding.without_coder())).or_default().push(index);
        }
        let lossy: HashMap<(LayerSet, Encoding), &'a [Option<Outcomes>]> = (self.scenario.lossy_outcomes)
            .iter()
            .map(|row| Ok(((self.cut(&row.cut)?, row.element), row.exits.as_slice())))
            .collect::<Result<_>>()?;
        let mut resumes: HashMap<CutId, usize> = HashMap::new();
        for (key, rows) in found.into_iter().filter(|((cut, _), _)| *cut != whole) {
            let outcomes = if key.1.is_lossless() { None } else { Some(self.lossy(&lossy, &key)?) };
            let id = self.intern(key.0);
            let resume = *resumes.entry(id).or_insert(self.resumes.len());
            if resume == self.resumes.len() {
                let resume = self.resume(id);
                self.resumes.push(resume);
            }
            self.paths.push(Path { resume, lossy: outcomes, rows });
        }
        Ok(())
    }

    fn lossy(
        &self,
        known: &HashMap<(LayerSet, Encoding), &'a [Option<Outcomes>]>,
        key: &(LayerSet, Encoding),
    ) -> Result<Vec<Option<&'a Outcomes>>> {
        let row = known.get(key).filter(|row| row.last().is_some_and(Option::is_some)).ok_or_else(|| {
            Error::failed(format!(
                "scenario: no outcomes for the lossy encoding {} at cut [{}]; `coprof encodings` measures them, and a \
                 hand-made row may give its `accuracy`",
                key.1,
                self.names(&key.0).join(", ")
            ))
        })?;
        Ok(row.iter().map(Option::as_ref).collect())
    }

    fn resume(&mut self, cut: CutId) -> Resume {
        let set = self.sets[cut].clone();
        let joined = |space: &mut Self, &need: &CutId| {
            let union = set.union(&space.sets[need]);
            space.intern(union)
        };
        let needs = self.needs.clone();
        let with = std::iter::once(cut).chain(needs.iter().map(|need| joined(self, need))).collect();
        let can_try = (0..needs.len()).map(|exit| self.can_try(&set, exit)).collect();
        Resume { with, can_try }
    }

    /// What an exit's head reads: the tips of what it needs, or the input. The final exit's reads what its node has: results
    /// of nodes before stay there or come back, and none of them is needed further on.
    pub fn head_reads(&self, exit: usize) -> Vec<Tensor> {
        if exit + 1 == self.needs.len() {
            return Vec::new();
        }
        let tips = self.trunk.dag.tips(&self.sets[self.needs[exit]]);
        if tips.is_empty() { vec![None] } else { tips.into_iter().map(Some).collect() }
    }

    /// Whether an exit's head can be run on a node that takes over behind `resume`: what it reads is computed there or
    /// crosses.
    pub fn can_try(&self, resume: &LayerSet, exit: usize) -> bool {
        Dag::can_run(resume, &self.trunk.dag.frontier(resume), self.head_reads(exit))
    }

    fn find_ranges(&mut self) -> Result<()> {
        for (node, spec) in self.scenario.nodes.iter().enumerate() {
            for range in &spec.ranges {
                let (from, to) = (self.cut(&range.from)?, self.cut(&range.to)?);
                if !to.covers(&from) {
                    return Err(Error::failed(format!(
                        "scenario: a range of node '{}' ends before it starts",
                        spec.name
                    )));
                }
                let key = (self.intern(from), self.intern(to));
                self.ranges[node].insert(key, range.time_us.0);
            }
        }
        Ok(())
    }

    fn intern(&mut self, set: LayerSet) -> CutId {
        if let Some(&id) = self.ids.get(&set) {
            return id;
        }
        for (node, spec) in self.scenario.nodes.iter().enumerate() {
            self.run[node].push(set.iter().map(|layer| spec.layers_us[layer].0).sum());
            let forbidden = |layer: &usize| {
                spec.may_not_run.iter().any(|name| *name == self.scenario.layers[*layer].name)
            };
            let count = if spec.may_not_run.is_empty() { 0 } else { set.iter().filter(forbidden).count() };
            self.forbidden[node].push(count as u32);
        }
        self.sizes.push(set.iter().count());
        self.sets.push(set.clone());
        self.ids.insert(set, self.sets.len() - 1);
        self.sets.len() - 1
    }

    /// The cut with these tips.
    pub fn cut(&self, tips: &[String]) -> Result<LayerSet> {
        let find = |name: &String| {
            self.trunk
                .find(name)
                .ok_or_else(|| Error::failed(format!("no layer '{name}' in the scenario's trunk")))
        };
        Ok(self.trunk.dag.up_to(tips.iter().map(find).collect::<Result<Vec<_>>>()?))
    }

    /// How many cuts it has: the greatest id is one less.
    pub fn cuts(&self) -> usize {
        self.sets.len()
    }

    /// How many layers a cut has.
    pub fn size(&self, cut: CutId) -> usize {
        self.sizes[cut]
    }

    pub fn set(&self, cut: CutId) -> &LayerSet {
        &self.sets[cut]
    }

    /// The cut of these layers where it is one of the space's.
    pub fn id(&self, set: &LayerSet) -> Option<CutId> {
        self.ids.get(set).copied()
    }

    /// The names of a cut's tips.
    pub fn names(&self, cut: &LayerSet) -> Vec<String> {
        self.trunk.dag.tips(cut).into_iter().map(|tip| self.scenario.layers[tip].name.clone()).collect()
    }

    /// Time of the layers between two cuts in microseconds: measured as a range, or their sum.
    #[inline]
    pub fn run_time(&self, node: usize, from: CutId, to: CutId) -> f64 {
        let ranges = &self.ranges[node];
        if !ranges.is_empty()
            && let Some(&time) = ranges.get(&(from, to))
        {
            return time;
        }
        if from == to { 0.0 } else { (self.run[node][to] - self.run[node][from]).max(0.0) }
    }

    /// Whether a node may run the layers between two cuts.
    pub fn may_run(&self, node: usize, from: CutId, to: CutId) -> bool {
        self.forbidden[node][from] == self.forbidden[node][to]
    }

    /// Time in microseconds that one message under this row occupies a link.
    pub fn link_time(&self, link: usize, row: &EncodedFrontier) -> f64 {
        self.scenario.links[link].stream_time(row.bytes).0
    }

    /// Time in microseconds that one message under this row takes when it is alone.
    pub fn lone_time(&self, link: usize, row: &EncodedFrontier) -> f64 {
        self.scenario.links[link].lone_time(row.bytes).0
    }

    /// What work of this node takes in a full pipeline.
    #[inline]
    pub fn busy(&self, node: usize, time: f64) -> f64 {
        time * self.scenario.nodes[node].busy_factor
    }

    /// What share of the lesser node's work both of two wait for; all of it where they have one core between them.
    pub fn contention(&self) -> f64 {
        if self.scenario.shares_a_core() { 1.0 } else { self.scenario.contention }
    }

    /// What work of this node takes after a pause.
    #[inline]
    pub fn paused(&self, node: usize, time: f64) -> f64 {
        time * self.scenario.nodes[node].pause_factor
    }

    /// What a task that is alone finds slower at this node, whatever its work is.
    #[inline]
    pub fn pause(&self, node: usize) -> f64 {
        self.scenario.nodes[node].pause_us.0
    }

    /// The rows of a path but `excluded` that no other one beats or equals in encoding, size and decoding on a link.
    pub fn useful_rows(&self, link: usize, path: &Path<'_>, excluded: Option<usize>) -> Vec<usize> {
        let costs = |row: usize| {
            let row = &self.scenario.encodings[row];
            [row.encode_us[link].0, row.bytes, row.decode_us[link + 1].0]
        };
        let rows: Vec<usize> = path.rows.iter().copied().filter(|row| Some(*row) != excluded).collect();
        let beaten = |row: usize| {
            rows.iter().any(|&other| {
                let (a, b) = (costs(other), costs(row));
                a.iter().zip(&b).all(|(a, b)| a <= b) && (a != b || other < row)
            })
        };
        rows.iter().copied().filter(|&row| !beaten(row)).collect()
    }

    /// The path and row of a cut under an encoding.
    pub fn find_row(&self, resume: &LayerSet, encoding: Encoding) -> Result<(&Path<'a>, usize)> {
        let of_cut = |path: &&Path<'a>| *resume == self.sets[self.resumes[path.resume].cut()];
        let row = |path: &Path<'a>| {
            path.rows.iter().copied().find(|&row| self.scenario.encodings[row].encoding == encoding)
        };
        let found = self.paths.iter().filter(of_cut).find_map(|path| Some((path, row(path)?)));
        found.ok_or_else(|| {
            Error::failed(format!(
                "the scenario has no encoding {encoding} at cut [{}]",
                self.names(resume).join(", ")
            ))
        })
    }

    /// A plan in names. `cuts` holds a cut per node, `links` a row of the encoding table per link, `exits` each exit's
    /// threshold and node.
    pub fn plan(&self, cuts: &[CutId], links: &[Option<usize>], exits: &[(Threshold, usize)]) -> Plan {
        let link = |row: &Option<usize>| {
            row.map(|row| &self.scenario.encodings[row]).map(|row| LinkPlan {
                resume: row.cut.clone(),
                encoding: row.encoding,
                calibration: None,
            })
        };
        let exit = |(site, &(threshold, node)): (&super::scenario::ExitSite, &(Threshold, usize))| ExitPlan {
            name: site.name.clone(),
            threshold,
            node,
        };
        Plan {
            model: self.scenario.model.sha256.clone(),
            nodes: cuts.iter().map(|&cut| NodePlan { cut: self.names(&self.sets[cut]) }).collect(),
            links: links.iter().map(link).collect(),
            exits: self.scenario.exits.iter().zip(exits).map(exit).collect(),
        }
    }
}
