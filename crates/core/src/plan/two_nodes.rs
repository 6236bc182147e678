//! The walk through all configurations of two nodes.
//!
//! A configuration is: what crosses (a resume cut under an encoding, or nothing), how many exits come before the crossing, and
//! a setting of all thresholds. The device's own cut needs no search: it runs what its exits and the resume cut need.
//! Settings come in blocks (`answers.rs`) that differ only in the last side exit's threshold. Within a block only the number
//! `f` of samples that reach the final exit varies, and every stage's time is `a + b f` with `a, b` not negative. So
//! no configuration of a block, or of a part of it, is better than one with the part's least `f` and its greatest count
//! of right answers would be: where the sink has no use for that one, the part is passed over.

use super::answers::{Answers, Block, CHUNK, Grids};
use super::memory::{Heads, Memory};
use super::pareto::Point;
use super::plan::{Plan, Threshold};
use super::select::Criteria;
use super::sink::{Config, Sensitivity, Sink, Varied};
use super::space::{CutId, EMPTY, Resume, Space};
use super::tally::{MAX_EXITS, Setting};

/// What the last side exit does in a part of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    /// It is off, or the block ends before it.
    Off,
    /// It lets samples leave at one of the grid's entropies.
    Steps,
    /// Everybody leaves there.
    Always,
}

impl Last {
    const ALL: [Self; 3] = [Self::Off, Self::Steps, Self::Always];
}

/// What crosses the link under a configuration, and where its exits are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The row of the encoding table; `None` where nothing crosses.
    pub row: Option<usize>,
    /// Exits from this one on are tried on the edge.
    pub edge_from: usize,
}

/// A time that grows with the number of samples that reach the final exit. Microseconds, summed over samples.
#[derive(Clone, Copy, Debug, Default)]
struct Affine {
    base: f64,
    per_last: f64,
}

impl Affine {
    fn at(self, last: f64) -> f64 {
        self.base + self.per_last * last
    }

    fn plus(self, other: Self, factor: f64) -> Self {
        Self { base: self.base + other.base * factor, per_last: self.per_last + other.per_last * factor }
    }
}

/// The stages' times under one block and place.
#[derive(Clone, Copy, Debug, Default)]
struct Stages {
    device: Affine,
    link: Affine,
    edge: Affine,
    /// What crossing adds to latency: messages that are alone, the ways there and back, and the edge's pause.
    travel: Affine,
    /// The part of `travel` that the link's speed decides.
    lone: Affine,
    /// The part of the link's time that its bytes take.
    bytes: Affine,
}

/// What a block costs at a place, before an encoding is chosen.
struct Crossing {
    device: Affine,
    edge: Affine,
    messages: Affine,
    /// The device's cut, and the edge's.
    cuts: [CutId; 2],
    /// The heads that each runs.
    heads: [Heads; 2],
}

pub(super) struct TwoNodes<'s, 'a> {
    space: &'s Space<'a>,
    grids: &'s Grids,
    /// Side exits.
    side: usize,
    /// Per path the rows that no other row of it is at least as good as, in all three times.
    rows: Vec<Vec<usize>>,
    memory: Memory<'s, 'a>,
    fixed: Fixed,
    /// A row that may not be used, or nothing that may not be left uncrossed: see [`TwoNodes::without`].
    excluded: Option<Option<usize>>,
    criteria: Criteria,
    /// Per path and first exit on the edge, the least first figure that a bound met on the way left possible where as much must
    /// be right as under the criteria. Its other constraints do not count, so that it stays a bound when times move.
    possible: Vec<f64>,
    /// The path and first exit on the edge that are being walked, as an index into `possible`.
    here: usize,
    /// The lossy paths with their first exits on the edge, most promising first, and what is possible there.
    lossy: Vec<(usize, usize, f64)>,
    /// How many configurations there are.
    pub configurations: u64,
}

impl<'s, 'a> TwoNodes<'s, 'a> {
    pub fn new(space: &'s Space<'a>, grids: &'s Grids) -> Self {
        Self {
            space,
            grids,
            side: space.scenario.exits.len() - 1,
            rows: space.paths.iter().map(|path| space.useful_rows(0, path, None)).collect(),
            memory: Memory::new(space),
            fixed: Fixed::of(space),
            excluded: None,
            criteria: Criteria::of(space.scenario),
            possible: vec![f64::INFINITY; space.paths.len() * space.needs.len()],
            here: 0,
            lossy: (0..space.paths.len())
                .filter(|&path| space.paths[path].lossy.is_some())
                .flat_map(|path| {
                    (0..space.needs.len()).map(move |edge_from| (path, edge_from, f64::NEG_INFINITY))
                })
                .collect(),
            configurations: 0,
        }
    }

    /// After a walk: the walk through those configurations only that do not cross in this row (`None`: that cross at all).
    /// What the first one found to be possible at best tells it where not to look.
    pub fn without(&self, row: Option<usize>) -> Self {
        let rows = self.space.paths.iter().map(|path| self.space.useful_rows(0, path, row)).collect();
        let walk = Self::new(self.space, self.grids).with_possible(&self.possible);
        Self { rows, excluded: Some(row), ..walk }
    }

    /// After a walk: see the field.
    pub fn possible(self) -> Vec<f64> {
        self.possible
    }

    /// Goes to the most promising paths first, by what another walk found to be possible, and asks the sink before each.
    pub fn with_possible(mut self, possible: &[f64]) -> Self {
        for (path, edge_from, least) in &mut self.lossy {
            *least = possible[*path * (self.side + 1) + *edge_from];
        }
        self.lossy.sort_by(|a, b| a.2.total_cmp(&b.2));
        self
    }

    /// Shows `sink` every configuration that it does not prune.
    pub fn walk(&mut self, sink: &mut impl Sink) {
        let (space, grids, side) = (self.space, self.grids, self.side);
        let exact: Vec<usize> =
            (0..space.paths.len()).filter(|&path| space.paths[path].lossy.is_none()).collect();
        if let Some(answers) = Answers::new(space.scenario, grids, None, side) {
            answers.blocks(&mut |block| {
                self.stay(block, sink);
                for &path in &exact {
                    (0..=side).for_each(|edge_from| self.cross(block, path, edge_from, sink));
                }
            });
        }
        for (path, edge_from, possible) in self.lossy.clone() {
            if sink.is_too_late(possible) {
                continue;
            }
            let answers = Answers::new(space.scenario, grids, Some((path, &space.paths[path])), edge_from);
            if let Some(answers) = answers {
                answers.blocks(&mut |block| self.cross(block, path, edge_from, sink));
            }
        }
    }

    /// Nothing crosses: all exits are the device's.
    fn stay(&mut self, block: &Block<'_>, sink: &mut impl Sink) {
        if self.excluded == Some(None) {
            return;
        }
        let place = Place { row: None, edge_from: self.side + 1 };
        for last in Last::ALL {
            let Some(on) = exits_on(block, self.side, last) else { continue };
            self.configurations += settings(block, last);
            let Some((device, end, heads)) = self.run(block, &on, 0, 0..self.side + 1, None) else {
                continue;
            };
            let room = self.memory.room(0, [EMPTY, end], None, heads);
            if self.memory.holds(room, 0.0) {
                self.here = usize::MAX;
                self.weigh(block, last, place, &Stages { device, ..Stages::default() }, sink);
            }
        }
    }

    /// Every sample that has not left at the exits before `edge_from` crosses over `path`.
    fn cross(&mut self, block: &Block<'_>, path: usize, edge_from: usize, sink: &mut impl Sink) {
        for last in Last::ALL {
            let Some(on) = exits_on(block, self.side, last) else { continue };
            // With no exit between two values of `edge_from` they mean the same: only the least is looked at.
            let meant = edge_from == 0 || on[edge_from - 1];
            if !meant || block.ends_at.is_some_and(|end| end < edge_from) {
                continue;
            }
            let rows = self.space.paths[path].rows.len() as u64;
            self.configurations += settings(block, last) * rows;
            if let Some(crossing) = self.crossing(block, &on, path, edge_from) {
                self.weigh_rows(block, last, path, edge_from, &crossing, sink);
            }
        }
    }

    fn crossing(&self, block: &Block<'_>, on: &[bool], path: usize, edge_from: usize) -> Option<Crossing> {
        let resume = &self.space.resumes[self.space.paths[path].resume];
        let (mut device, mut end, device_heads) = self.run(block, on, 0, 0..edge_from, None)?;
        let tried = (0..edge_from).rfind(|&exit| on[exit]).map_or(0, |exit| exit + 1);
        let messages = self.alive(block, on, edge_from);
        let cut = resume.with[tried];
        if !self.space.may_run(0, end, cut) {
            return None;
        }
        device = device.plus(messages, self.space.run_time(0, end, cut));
        end = cut;
        let (edge, edge_end, edge_heads) = self.run(block, on, 1, edge_from..self.side + 1, Some(path))?;
        let edge = edge.plus(messages, self.space.scenario.nodes[1].task_us.0);
        Some(Crossing { device, edge, messages, cuts: [end, edge_end], heads: [device_heads, edge_heads] })
    }

    /// What a node spends on the exits of a range, behind `path` or from the input on, where it stops, and the heads
    /// that it runs; `None` where it cannot or may not.
    fn run(
        &self,
        block: &Block<'_>,
        on: &[bool],
        node: usize,
        exits: std::ops::Range<usize>,
        path: Option<usize>,
    ) -> Option<(Affine, CutId, Heads)> {
        let space = self.space;
        let resume = path.map(|path| &space.resumes[space.paths[path].resume]);
        let mut at = resume.map_or(EMPTY, Resume::cut);
        // Every task comes to the device; those that come to the edge are counted by its caller.
        let tasks = if node == 0 { f64::from(block.alive[0]) } else { 0.0 };
        let mut time = Affine { base: tasks * space.scenario.nodes[node].task_us.0, per_last: 0.0 };
        let mut heads = Heads::default();
        for exit in exits.filter(|&exit| on[exit]) {
            let next = resume.map_or(space.needs[exit], |resume| resume.with[exit + 1]);
            let known = path.is_none_or(|path| space.paths[path].outcomes(space.scenario, exit).is_some());
            if !known || resume.is_some_and(|resume| !resume.can_try[exit]) || !space.may_run(node, at, next)
            {
                return None;
            }
            let step = space.run_time(node, at, next) + space.scenario.nodes[node].exits_us[exit].0;
            time = time.plus(self.alive(block, on, exit), step);
            heads = heads.with(exit);
            at = next;
        }
        Some((time, at, heads))
    }

    /// How many samples reach an exit.
    fn alive(&self, block: &Block<'_>, on: &[bool], exit: usize) -> Affine {
        if exit == self.side && exit > 0 && on[exit - 1] {
            Affine { base: 0.0, per_last: 1.0 }
        } else {
            // An exit that is off lets everybody pass.
            let reached = (0..exit).rfind(|&before| on[before]).map_or(0, |before| before + 1);
            Affine { base: f64::from(block.alive[reached]), per_last: 0.0 }
        }
    }

    /// Every lossless coder of a path shares its answers; only times and bytes differ.
    fn weigh_rows(
        &mut self,
        block: &Block<'_>,
        last: Last,
        path: usize,
        edge_from: usize,
        crossing: &Crossing,
        sink: &mut impl Sink,
    ) {
        let space = self.space;
        let resume = space.resumes[space.paths[path].resume].cut();
        self.here = path * (self.side + 1) + edge_from;
        let [device_cut, edge_cut] = crossing.cuts;
        let [device_heads, edge_heads] = crossing.heads;
        let rooms = [
            self.memory.room(0, [EMPTY, device_cut], Some(resume), device_heads),
            self.memory.room(1, [resume, edge_cut], None, edge_heads),
        ];
        for index in 0..self.rows[path].len() {
            let row_id = self.rows[path][index];
            let row = &space.scenario.encodings[row_id];
            if rooms.iter().any(|&room| !self.memory.holds(room, row.bytes)) {
                continue;
            }
            let (none, messages) = (Affine::default(), crossing.messages);
            let link = &space.scenario.links[0];
            let bytes = link.bits_per_second.time_for(row.bytes).0;
            let lone = space.lone_time(0, row);
            let stages = Stages {
                device: crossing.device.plus(messages, row.encode_us[0].0),
                link: none.plus(messages, space.link_time(0, row)),
                edge: crossing.edge.plus(messages, row.decode_us[1].0),
                travel: none.plus(messages, lone + link.transit().0 + space.pause(1)),
                lone: none.plus(messages, if link.lone.is_empty() { bytes } else { lone }),
                bytes: none.plus(messages, bytes),
            };
            self.weigh(block, last, Place { row: Some(row_id), edge_from }, &stages, sink);
        }
    }

    fn weigh(&mut self, block: &Block<'_>, last: Last, place: Place, stages: &Stages, sink: &mut impl Sink) {
        let weigh =
            Weigh { fixed: self.fixed, crosses: place.row.is_some(), place: self.pack(place), stages };
        let mut setting = block.setting;
        let (at, reach) = match last {
            Last::Steps => return self.weigh_steps(block, &weigh, sink),
            _ if block.ends_at.is_some() => (None, 0),
            Last::Off => (Some(0), block.last_alive[0]),
            Last::Always => {
                setting[self.side - 1] = block.last_alive.len() as u16 - 1;
                (Some(block.last_alive.len() - 1), 0)
            }
        };
        let right = block.right + at.map_or(0, |at| block.last_right[at]);
        self.note(weigh.figures(reach), right);
        weigh.one(setting, reach, right, sink);
    }

    fn weigh_steps(&mut self, block: &Block<'_>, weigh: &Weigh<'_>, sink: &mut impl Sink) {
        let always = block.last_alive.len() - 1;
        let mut setting = block.setting;
        for (chunk, &most_right) in block.chunk_right.iter().enumerate() {
            let steps = 1 + chunk * CHUNK..(1 + (chunk + 1) * CHUNK).min(always);
            let (interval, latency) = weigh.figures(block.last_alive[steps.end - 1]);
            self.note((interval, latency), block.right + most_right);
            if sink.is_pruned(interval, latency, block.right + most_right) {
                continue;
            }
            for step in steps.filter(|&step| block.differs(step)) {
                setting[self.side - 1] = step as u16;
                weigh.one(setting, block.last_alive[step], block.right + block.last_right[step], sink);
            }
        }
    }

    /// Remembers that nothing looked at here is better than this.
    fn note(&mut self, (interval, latency): (f64, f64), right: u32) {
        if let Some(possible) = self.possible.get_mut(self.here)
            && right >= self.criteria.min_right
        {
            *possible = possible.min(self.criteria.figures(interval, latency, right)[0]);
        }
    }

    fn pack(&self, place: Place) -> u32 {
        let rows = place.row.map_or(0, |row| row + 1);
        (rows * (MAX_EXITS + 1) + place.edge_from) as u32
    }

    /// What [`Config::place`] stands for.
    pub fn place(config: &Config) -> Place {
        let (row, edge_from) =
            (config.place as usize / (MAX_EXITS + 1), config.place as usize % (MAX_EXITS + 1));
        Place { row: row.checked_sub(1), edge_from }
    }

    /// The configuration in names.
    pub fn plan(&self, config: &Config) -> Plan {
        let place = Self::place(config);
        let threshold = |exit: usize| self.grids.thresholds[exit][usize::from(config.setting[exit])];
        let mut exits: Vec<(Threshold, usize)> =
            (0..self.side).map(|exit| (threshold(exit), usize::from(exit >= place.edge_from))).collect();
        let ends_at = exits.iter().position(|(threshold, _)| *threshold == Threshold::Always);
        let last = if ends_at.is_some() { Threshold::Never } else { Threshold::Always };
        exits.push((last, usize::from(self.side >= place.edge_from)));
        let ends_at = ends_at.unwrap_or(self.side);
        let on_device = |&exit: &usize| exit < place.edge_from && exits[exit].0.is_on();
        let tried = (0..=self.side).rfind(on_device).map_or(0, |exit| exit + 1);
        let path = self.space.paths.iter().find(|path| place.row.is_some_and(|row| path.rows.contains(&row)));
        let cuts = match path {
            Some(path) => {
                let resume = &self.space.resumes[path.resume];
                [resume.with[tried], resume.with[ends_at + 1]]
            }
            None => [self.space.needs[ends_at]; 2],
        };
        self.space.plan(&cuts, &[place.row], &exits)
    }
}

/// The exits that run in a part of a block, the final one included; `None` where the block has no such part.
fn exits_on(block: &Block<'_>, side: usize, last: Last) -> Option<[bool; MAX_EXITS + 1]> {
    let mut on = [false; MAX_EXITS + 1];
    (0..side).for_each(|exit| on[exit] = block.setting[exit] > 0);
    match last {
        Last::Off => on[side] = block.ends_at.is_none(),
        _ if block.ends_at.is_some() || side == 0 => return None,
        Last::Steps => (on[side - 1], on[side]) = (true, true),
        Last::Always => on[side - 1] = true,
    }
    Some(on)
}

/// How many settings a part of a block has.
fn settings(block: &Block<'_>, last: Last) -> u64 {
    match last {
        Last::Steps => block.last_alive.len() as u64 - 2,
        _ => 1,
    }
}

/// What all configurations have in common.
#[derive(Clone, Copy)]
struct Fixed {
    samples: f64,
    /// How much longer each node's stage is in a full pipeline.
    busy: [f64; 2],
    /// What a task alone finds slower on the device.
    pause: f64,
    /// How many times as long each node's work takes a task that is alone.
    paused: [f64; 2],
    /// What share of the lesser node's work both wait for; all of it where they have one core between them.
    contention: f64,
}

impl Fixed {
    fn of(space: &Space<'_>) -> Self {
        let scenario = space.scenario;
        Self {
            samples: scenario.samples() as f64,
            busy: [0, 1].map(|node| scenario.nodes[node].busy_factor),
            pause: scenario.nodes[0].pause_us.0,
            paused: [0, 1].map(|node| scenario.nodes[node].pause_factor),
            contention: space.contention(),
        }
    }
}

/// Weighs the settings of one block at one place.
struct Weigh<'w> {
    fixed: Fixed,
    crosses: bool,
    place: u32,
    stages: &'w Stages,
}

impl Weigh<'_> {
    /// Interval and latency when so many samples reach the final exit.
    #[inline]
    fn figures(&self, last: u32) -> (f64, f64) {
        let last = f64::from(last);
        let [device, edge] = [self.stages.device, self.stages.edge].map(|s| s.at(last));
        let [link, travel] = [self.stages.link, self.stages.travel].map(|s| s.at(last));
        let interval = self.nodes(device, edge).max(link) / self.fixed.samples;
        let latency = device * self.fixed.paused[0] + edge * self.fixed.paused[1] + travel;
        (interval, latency / self.fixed.samples + self.fixed.pause)
    }

    /// What a node's work takes in a full pipeline.
    #[inline]
    fn busy(&self, node: usize, time: f64) -> f64 {
        if self.crosses { time * self.fixed.busy[node] } else { time }
    }

    /// What the slower node needs, with what it loses to the other.
    #[inline]
    fn nodes(&self, device: f64, edge: f64) -> f64 {
        let (device, edge) = (self.busy(0, device), self.busy(1, edge));
        device.max(edge) + device.min(edge) * self.fixed.contention
    }

    #[inline]
    fn one(&self, setting: Setting, last: u32, right: u32, sink: &mut impl Sink) {
        let (interval, latency) = self.figures(last);
        if !sink.is_pruned(interval, latency, right) {
            let config = Config { setting, place: self.place };
            let sensitivity =
                sink.varied().map_or_else(Sensitivity::default, |varied| self.sensitivity(varied, last));
            sink.take(Point { interval, latency, right, config }, sensitivity);
        }
    }

    fn sensitivity(&self, varied: Varied, last: u32) -> Sensitivity {
        let last = f64::from(last);
        let at = |stage: Affine| stage.at(last) / self.fixed.samples;
        let (device, edge, link) = (at(self.stages.device), at(self.stages.edge), at(self.stages.link));
        match varied {
            Varied::Device => {
                let (own, edge) = (self.busy(0, device), self.busy(1, edge));
                Sensitivity::of_device(own, edge, link, self.fixed.contention, device * self.fixed.paused[0])
            }
            Varied::Link(_) => {
                let bytes = at(self.stages.bytes);
                let others = self.nodes(device, edge);
                Sensitivity {
                    others,
                    fixed: [link - bytes, 0.0],
                    slope: [bytes, 0.0],
                    latency_slope: at(self.stages.lone),
                }
            }
        }
    }
}
