//! The walk through all configurations of two nodes, by branch and bound (A. H. Land, A. G. Doig: "An automatic method of solving
//! discrete programming problems", Econometrica 28, 1960).
//!
//! A configuration is: what crosses (a resume cut under an encoding, or nothing), how many exits come before the crossing, and
//! a setting of all thresholds. The device's own cut needs no search: it runs what its exits and the resume cut need.
//! Settings come in regions (`region.rs`). Every stage's time is a sum over exits of what reaching one costs, times the samples
//! that reach it, which are fewest under the region's highest thresholds. So no configuration of the region at this place is
//! faster than that one, and none is more often right than the region's bound (`answers.rs`): where the sink has no use for a
//! configuration with these figures, the place is left out of the region's halves. Regions are gone through from the
//! largest to the smallest, so that a coarse picture of all settings comes first.

use super::answers::{Answered, Answers, Grids};
use super::memory::{Heads, Memory};
use super::pareto::Point;
use super::plan::{Plan, Threshold};
use super::region::Region;
use super::sink::{Config, Sensitivity, Sink, Varied, Walk};
use super::space::{CutId, EMPTY, Resume, Space};
use super::tally::Setting;

/// What crosses the link under a configuration, and where its exits are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The row of the encoding table; `None` where nothing crosses.
    pub row: Option<usize>,
    /// Exits from this one on are tried on the edge.
    pub edge_from: usize,
}

pub(super) struct TwoNodes<'s, 'a> {
    space: &'s Space<'a>,
    grids: &'s Grids,
    answers: &'s Answers,
    /// Side exits.
    side: usize,
    /// Per path the rows that no other row of it is at least as good as, in all three times.
    rows: Vec<Vec<usize>>,
    memory: Memory<'s, 'a>,
    fixed: Fixed,
    /// Whether configurations are left out in which nothing crosses.
    must_cross: bool,
    configurations: u64,
}

/// What all settings that have the same exits on have in common.
struct Pattern {
    /// The exits that are on; all leave at the last one at the latest.
    exits: Vec<usize>,
    crossings: Vec<Crossing>,
    /// Per crossing and exit that is on: what each sample that reaches it costs the device and the edge. Microseconds.
    work: Vec<[f64; 2]>,
    rows: Vec<Row>,
}

/// A path and the exits before it.
struct Crossing {
    /// `None` where nothing crosses.
    path: Option<usize>,
    edge_from: usize,
    /// As many samples cross as reach this one of the exits that are on.
    sends: usize,
    /// Of each cost of a message the least among its rows.
    least: Times,
}

/// A crossing under one encoding.
struct Row {
    crossing: usize,
    /// The row of the encoding table; `None` where nothing crosses.
    id: Option<usize>,
    costs: Times,
}

/// What one message costs, or what a region's highest thresholds need, summed over samples. Microseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    device: f64,
    link: f64,
    edge: f64,
    /// What crossing adds to latency: a message that is alone, the ways there and back, and the edge's pause.
    travel: f64,
    /// The part of `travel` that the link's speed decides.
    lone: f64,
    /// The part of the link's time that its bytes take.
    bytes: f64,
}

/// A look at a region.
#[derive(Clone, Copy)]
struct Visit<'v> {
    pattern: &'v Pattern,
    region: &'v Region,
    uncut: &'v Answered,
    fresh: bool,
}

/// A region under which some rows of a pattern are still possible.
struct Open {
    region: Region,
    rows: Vec<u32>,
    /// Whether its highest thresholds have not been looked at.
    fresh: bool,
}

impl<'s, 'a> TwoNodes<'s, 'a> {
    pub fn new(space: &'s Space<'a>, grids: &'s Grids, answers: &'s Answers) -> Self {
        Self {
            space,
            grids,
            answers,
            side: space.scenario.exits.len() - 1,
            rows: space.paths.iter().map(|path| space.useful_rows(0, path, None)).collect(),
            memory: Memory::new(space),
            fixed: Fixed::of(space),
            must_cross: false,
            configurations: 0,
        }
    }

    /// The walk through the same configurations where times are others.
    pub fn at<'t, 'b>(&'t self, space: &'t Space<'b>) -> TwoNodes<'t, 'b> {
        TwoNodes::new(space, self.grids, self.answers)
    }

    /// Shows what the region's highest thresholds do, and returns the rows that may do better under others.
    fn visit(&self, visit: &Visit<'_>, rows: &[u32], sink: &mut impl Sink<Place>) -> Vec<u32> {
        let Visit { pattern, region, uncut, .. } = *visit;
        let mut left = Vec::new();
        for of_crossing in rows.chunk_by(|&a, &b| pattern.same_crossing(a, b)) {
            let at = pattern.rows[of_crossing[0] as usize].crossing;
            let crossing = &pattern.crossings[at];
            let figures = |reach: &[u32]| {
                let stages = pattern.stages(at, reach, &crossing.least);
                Weigh { fixed: self.fixed, crosses: crossing.path.is_some(), stages: &stages }.figures()
            };
            // As far as the message nothing differs from uncut, and that alone may be too much.
            let (interval, latency) = figures(&uncut.reach[..=crossing.sends]);
            if sink.is_pruned(interval, latency, u32::MAX) {
                continue;
            }
            let answered = crossing.path.map_or(*uncut, |path| {
                self.answers.behind(path, crossing.edge_from, region, &pattern.exits, uncut)
            });
            let (interval, latency) = figures(&answered.reach);
            if !sink.is_pruned(interval, latency, answered.most_right) {
                let better = of_crossing.iter().filter(|&&row| self.show(visit, row, &answered, sink));
                left.extend(better);
            }
        }
        left
    }

    /// Shows what a row does under the region's highest thresholds; true where it may do better under others, and is not left.
    fn show(&self, visit: &Visit<'_>, row: u32, answered: &Answered, sink: &mut impl Sink<Place>) -> bool {
        let row = &visit.pattern.rows[row as usize];
        let crossing = &visit.pattern.crossings[row.crossing];
        let stages = visit.pattern.stages(row.crossing, &answered.reach, &row.costs);
        let weigh = Weigh { fixed: self.fixed, crosses: crossing.path.is_some(), stages: &stages };
        let (interval, latency) = weigh.figures();
        let Answered { right, most_right, .. } = *answered;
        if sink.is_pruned(interval, latency, most_right)
            || sink.is_hopeless(latency, most_right, |varied| weigh.sensitivity(varied))
        {
            return false;
        }
        let is_left = most_right > right && sink.is_over();
        if is_left {
            sink.leave(interval, latency, most_right);
        }
        if visit.fresh && !sink.is_pruned(interval, latency, right) {
            let place = Place { row: row.id, edge_from: crossing.edge_from };
            let config = Config { setting: visit.region.to, place };
            sink.take(Point { interval, latency, right, config }, |varied| weigh.sensitivity(varied));
        }
        most_right > right && !is_left
    }

    /// All places for the exits that a region has on.
    fn pattern(&mut self, region: &Region) -> Pattern {
        let exits = region.exits(&self.grids.steps());
        let mut pattern = Pattern { exits, crossings: Vec::new(), work: Vec::new(), rows: Vec::new() };
        let settings = region.settings();
        if !self.must_cross {
            self.configurations = self.configurations.saturating_add(settings);
            self.stay(&mut pattern);
        }
        for path in 0..self.space.paths.len() {
            let rows = self.space.paths[path].rows.len() as u64;
            for tried in 0..pattern.exits.len() {
                self.configurations = self.configurations.saturating_add(settings.saturating_mul(rows));
                self.cross(&mut pattern, path, tried);
            }
        }
        pattern
    }

    /// Nothing crosses: all exits are the device's.
    fn stay(&mut self, pattern: &mut Pattern) {
        let Some(run) = self.run(&pattern.exits, 0, None) else { return };
        let room = self.memory.room(0, [EMPTY, run.end], None, run.heads);
        if self.memory.holds(room, 0.0) {
            pattern.work.extend(run.steps.iter().map(|&step| [step, 0.0]));
            pattern.work[0][0] += self.space.scenario.nodes[0].task_us.0;
            let (crossing, costs) = (pattern.crossings.len(), Times::default());
            pattern.rows.push(Row { crossing, id: None, costs });
            pattern.crossings.push(Crossing { path: None, edge_from: self.side + 1, sends: 0, least: costs });
        }
    }

    /// Every sample that has not left at the first exits that are on crosses over `path`.
    fn cross(&mut self, pattern: &mut Pattern, path: usize, tried: usize) {
        let space = self.space;
        let resume = &space.resumes[space.paths[path].resume];
        let (before, behind) = pattern.exits.split_at(tried);
        let edge_from = before.last().map_or(0, |exit| exit + 1);
        let (Some(device), Some(edge)) = (self.run(before, 0, None), self.run(behind, 1, Some(path))) else {
            return;
        };
        let cut = resume.with[edge_from];
        if !space.may_run(0, device.end, cut) {
            return;
        }
        let [own, other] = [0, 1].map(|node| space.scenario.nodes[node].task_us.0);
        let rooms = [
            self.memory.room(0, [EMPTY, cut], Some(resume.cut()), device.heads),
            self.memory.room(1, [resume.cut(), edge.end], None, edge.heads),
        ];
        let crossing = pattern.crossings.len();
        let holds = |&row: &usize| {
            rooms.iter().all(|&room| self.memory.holds(room, space.scenario.encodings[row].bytes))
        };
        let rows = self.rows[path].iter().copied().filter(holds);
        let row = |row| Row { crossing, id: Some(row), costs: Times::of_message(space, row) };
        let before = pattern.rows.len();
        pattern.rows.extend(rows.map(row));
        let costs = pattern.rows[before..].iter().map(|row| row.costs);
        let Some(least) = costs.reduce(Times::least) else { return };
        let first = pattern.work.len();
        pattern.work.extend(device.steps.iter().map(|&step| [step, 0.0]));
        pattern.work.extend(edge.steps.iter().map(|&step| [0.0, step]));
        pattern.work[first][0] += own;
        pattern.work[first + tried][0] += space.run_time(0, device.end, cut);
        pattern.work[first + tried][1] += other;
        pattern.crossings.push(Crossing { path: Some(path), edge_from, sends: tried, least });
    }

    /// What a node spends on each of these exits, behind `path` or from the input on; `None` where it cannot or may not.
    fn run(&self, exits: &[usize], node: usize, path: Option<usize>) -> Option<Run> {
        let space = self.space;
        let resume = path.map(|path| &space.resumes[space.paths[path].resume]);
        let mut run = Run {
            steps: Vec::with_capacity(exits.len()),
            end: resume.map_or(EMPTY, Resume::cut),
            heads: Heads::default(),
        };
        for &exit in exits {
            let next = resume.map_or(space.needs[exit], |resume| resume.with[exit + 1]);
            let known = path.is_none_or(|path| space.paths[path].outcomes(space.scenario, exit).is_some());
            if !known
                || resume.is_some_and(|resume| !resume.can_try[exit])
                || !space.may_run(node, run.end, next)
            {
                return None;
            }
            run.steps.push(space.run_time(node, run.end, next) + space.scenario.nodes[node].exits_us[exit].0);
            run.heads = run.heads.with(exit);
            run.end = next;
        }
        Some(run)
    }

    /// Each exit's threshold and node.
    fn exits(&self, setting: &Setting, edge_from: usize) -> Vec<(Threshold, usize)> {
        let node = |exit: usize| usize::from(exit >= edge_from);
        let threshold = |exit: usize| self.grids.thresholds[exit][usize::from(setting[exit])];
        let mut exits: Vec<(Threshold, usize)> =
            (0..self.side).map(|exit| (threshold(exit), node(exit))).collect();
        let ends = exits.iter().any(|(threshold, _)| *threshold == Threshold::Always);
        exits.push((if ends { Threshold::Never } else { Threshold::Always }, node(self.side)));
        exits
    }
}

impl Walk for TwoNodes<'_, '_> {
    type Place = Place;

    fn walk(&mut self, sink: &mut impl Sink<Place>) {
        for region in Region::all(&self.grids.steps()) {
            let pattern = self.pattern(&region);
            let rows = (0..pattern.rows.len() as u32).collect();
            let mut open = vec![Open { region, rows, fresh: true }];
            while !open.is_empty() {
                let mut next = Vec::new();
                for Open { region, rows, fresh } in open {
                    let uncut = self.answers.uncut(&region, &pattern.exits);
                    let visit = Visit { pattern: &pattern, region: &region, uncut: &uncut, fresh };
                    let rows = self.visit(&visit, &rows, sink);
                    let split = uncut.most_undecided(&region, &pattern.exits);
                    if let Some(exit) = split.filter(|_| !rows.is_empty()) {
                        let [lower, upper] = region.halves(exit);
                        next.push(Open { region: lower, rows: rows.clone(), fresh: true });
                        next.push(Open { region: upper, rows, fresh: false });
                    }
                }
                open = next;
            }
        }
    }

    fn plan(&self, config: &Config<Place>) -> Plan {
        let place = config.place;
        let exits = self.exits(&config.setting, place.edge_from);
        let ends_at = exits.iter().position(|(threshold, _)| *threshold == Threshold::Always);
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

    fn others(&self, config: &Config<Place>) -> Vec<Self> {
        let excluded = config.place.row;
        let rows = self.space.paths.iter().map(|path| self.space.useful_rows(0, path, excluded)).collect();
        let walk = Self::new(self.space, self.grids, self.answers);
        vec![Self { rows, must_cross: excluded.is_none(), ..walk }]
    }

    fn configurations(&self) -> u64 {
        self.configurations
    }
}

/// What a node does for its exits.
struct Run {
    /// What every sample that reaches an exit costs there.
    steps: Vec<f64>,
    end: CutId,
    heads: Heads,
}

impl Pattern {
    fn same_crossing(&self, a: u32, b: u32) -> bool {
        self.rows[a as usize].crossing == self.rows[b as usize].crossing
    }

    /// The stages' times where so many samples reach the exits that are on, and a message costs that.
    fn stages(&self, crossing: usize, reach: &[u32], costs: &Times) -> Times {
        let width = self.exits.len();
        let works = &self.work[crossing * width..(crossing + 1) * width];
        let [device, edge] = works.iter().zip(reach).fold([0.0; 2], |[device, edge], (work, &reach)| {
            [device + work[0] * f64::from(reach), edge + work[1] * f64::from(reach)]
        });
        costs.of_all(f64::from(reach[self.crossings[crossing].sends]), [device, edge])
    }
}

impl Times {
    /// Of a message in this row.
    fn of_message(space: &Space<'_>, row: usize) -> Self {
        let row = &space.scenario.encodings[row];
        let link = &space.scenario.links[0];
        let bytes = link.bits_per_second.time_for(row.bytes).0;
        let lone = space.lone_time(0, row);
        Self {
            device: row.encode_us[0].0,
            link: space.link_time(0, row),
            edge: row.decode_us[1].0,
            travel: lone + link.transit().0 + space.pause(1),
            lone: if link.lone.is_empty() { bytes } else { lone },
            bytes,
        }
    }

    /// Each figure the lesser of both.
    fn least(self, other: Self) -> Self {
        self.with(other, f64::min)
    }

    /// These of `count` messages, with the nodes' own work.
    fn of_all(self, count: f64, [device, edge]: [f64; 2]) -> Self {
        let work = Self { device, edge, ..Self::default() };
        work.with(self, |work, one| work + count * one)
    }

    fn with(self, other: Self, of: impl Fn(f64, f64) -> f64) -> Self {
        Self {
            device: of(self.device, other.device),
            link: of(self.link, other.link),
            edge: of(self.edge, other.edge),
            travel: of(self.travel, other.travel),
            lone: of(self.lone, other.lone),
            bytes: of(self.bytes, other.bytes),
        }
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

/// Weighs one configuration.
struct Weigh<'w> {
    fixed: Fixed,
    crosses: bool,
    stages: &'w Times,
}

impl Weigh<'_> {
    /// Interval and latency.
    #[inline]
    fn figures(&self) -> (f64, f64) {
        let Times { device, link, edge, travel, .. } = *self.stages;
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

    fn sensitivity(&self, varied: Varied) -> Sensitivity {
        let mean = |stage: f64| stage / self.fixed.samples;
        let (device, edge, link) = (mean(self.stages.device), mean(self.stages.edge), mean(self.stages.link));
        match varied {
            Varied::Device => {
                let (own, edge) = (self.busy(0, device), self.busy(1, edge));
                Sensitivity::of_device(own, edge, link, self.fixed.contention, device * self.fixed.paused[0])
            }
            Varied::Link(_) => {
                let bytes = mean(self.stages.bytes);
                Sensitivity {
                    others: self.nodes(device, edge),
                    fixed: [link - bytes, 0.0],
                    slope: [bytes, 0.0],
                    latency_slope: mean(self.stages.lone),
                }
            }
        }
    }
}
