//! The walk through all configurations of more than two nodes: label setting for a shortest path with several criteria
//! (E. Q. V. Martins, "On a multicriteria shortest path problem", European Journal of Operational Research 16, 1984).
//!
//! For each setting of the thresholds (`answers.rs`) the samples that reach each exit are known, and with them what every
//! stretch of layers costs on every node. What is left is a path through the links: behind node `k` crosses the frontier of
//! a resume cut that covers the one before, with so many exits tried so far. Labels that meet in the same resume cut with
//! the same exits tried have the same future, whatever lies behind them: interval and latency of any continuation
//! grow with the label's own interval, latency, the reading that the next node still has to do, and the message that it
//! has to hold (and, where a quantity is varied, with what that makes of the interval). So a label that another one beats or
//! equals in all of these needs no continuation, and all that remain are gone through to the end: no configuration that
//! could be best is missed.
//!
//! At most one crossing may be lossy: what two do together has not been measured.

use super::answers::{Answers, Block, Grids};
use super::memory::{Heads, Memory};
use super::pareto::Point;
use super::plan::{Plan, Threshold};
use super::scenario::EncodedFrontier;
use super::sink::{Config, Sensitivity, Sink, Varied};
use super::space::{CutId, EMPTY, Space};
use super::tally::MAX_EXITS;

/// A lossy path that is crossed, exits from `edge_from` on lying behind it.
#[derive(Clone, Copy)]
struct Lossy {
    path: usize,
    edge_from: usize,
}

/// The setting whose labels are looked for: exits that are on, samples that reach each, and right answers.
struct Wanted {
    config: Config,
    exits: Vec<usize>,
    reach: Vec<f64>,
    right: u32,
    lossy: Option<Lossy>,
}

/// A path as far as one link, with all of its figures that what follows depends on.
#[derive(Clone, Copy)]
struct Label {
    /// Slowest stage so far, and all time so far with the reading that follows. Microseconds, summed over samples.
    interval: f64,
    latency: f64,
    /// The part of the next node's stage that reading takes.
    reading: f64,
    /// Bytes of the message, where memory is limited.
    message: f64,
    /// The label before, by link and index.
    before: Option<usize>,
    row: Option<usize>,
    tried: usize,
    /// How the interval moves; zero where nothing is varied.
    sensitivity: Sensitivity,
}

impl Label {
    fn is_no_worse(&self, other: &Self) -> bool {
        self.interval <= other.interval
            && self.latency <= other.latency
            && self.reading <= other.reading
            && self.message <= other.message
            && self.sensitivity.is_no_worse(&other.sensitivity)
    }
}

/// Where labels meet: a resume cut, exits tried, and whether the lossy path was crossed.
#[derive(Clone, Copy)]
struct Meeting {
    resume: Option<usize>,
    tried: usize,
    crossed: bool,
}

/// What crosses each link of a finished path, and the node that tries each exit.
#[derive(Clone, PartialEq)]
struct Finished {
    rows: Vec<Option<usize>>,
    node_of: [usize; MAX_EXITS + 1],
}

/// A part of the configurations: those whose first crossings are these, the one behind them another.
struct Part {
    same: Vec<Option<usize>>,
    but_not: Option<usize>,
}

pub(super) struct Tiers<'s, 'a> {
    space: &'s Space<'a>,
    grids: &'s Grids,
    side: usize,
    nodes: usize,
    /// `rows[link][path]`: rows that no other row of the path is at least as good as.
    rows: Vec<Vec<Vec<usize>>>,
    /// Per resume cut those that cover it.
    onward: Vec<Vec<usize>>,
    /// Per resume cut the paths that are exact.
    exact: Vec<Vec<usize>>,
    memory: Memory<'s, 'a>,
    limited: bool,
    varied: Option<Varied>,
    finished: Vec<Finished>,
    part: Option<Part>,
    /// Every label under the present setting that was kept.
    labels: Vec<Label>,
    /// How many configurations were followed to their end.
    pub configurations: u64,
}

impl<'s, 'a> Tiers<'s, 'a> {
    pub fn new(space: &'s Space<'a>, grids: &'s Grids) -> Self {
        let resumes = space.resumes.len();
        let covers =
            |a: usize, b: usize| space.set(space.resumes[a].cut()).covers(space.set(space.resumes[b].cut()));
        let of_link = |link| space.paths.iter().map(|path| space.useful_rows(link, path, None)).collect();
        let exact = |resume| {
            let here =
                |path: &usize| space.paths[*path].resume == resume && space.paths[*path].lossy.is_none();
            (0..space.paths.len()).filter(here).collect()
        };
        let nodes = space.scenario.nodes.len();
        Self {
            space,
            grids,
            side: space.scenario.exits.len() - 1,
            nodes,
            rows: (0..nodes - 1).map(of_link).collect(),
            onward: (0..resumes).map(|b| (0..resumes).filter(|&a| covers(a, b)).collect()).collect(),
            exact: (0..resumes).map(exact).collect(),
            memory: Memory::new(space),
            limited: space.scenario.nodes.iter().any(|node| node.memory_bytes.is_some()),
            varied: None,
            finished: Vec::new(),
            part: None,
            labels: Vec::new(),
            configurations: 0,
        }
    }

    /// Walks through all configurations that cross otherwise than this one, in parts that do not overlap.
    pub fn others(&self, config: &Config) -> Vec<Self> {
        let rows = &self.finished[config.place as usize].rows;
        (0..rows.len())
            .map(|link| self.part(Part { same: rows[..link].to_vec(), but_not: rows[link] }))
            .collect()
    }

    /// A walk through a part, with all that was worked out so far.
    fn part(&self, part: Part) -> Self {
        let mut rows = self.rows.clone();
        let space = self.space;
        let link = part.same.len();
        rows[link] = space.paths.iter().map(|path| space.useful_rows(link, path, part.but_not)).collect();
        Self {
            rows,
            onward: self.onward.clone(),
            exact: self.exact.clone(),
            memory: self.memory.clone(),
            finished: Vec::new(),
            part: Some(part),
            labels: Vec::new(),
            ..*self
        }
    }

    /// Shows `sink` every configuration that it does not prune and that no other label beats.
    pub fn walk(&mut self, sink: &mut impl Sink) {
        let (space, grids, side) = (self.space, self.grids, self.side);
        self.varied = sink.varied();
        if let Some(answers) = Answers::new(space.scenario, grids, None, side) {
            answers.blocks(&mut |block| self.block(block, None, sink));
        }
        for path in (0..space.paths.len()).filter(|&path| space.paths[path].lossy.is_some()) {
            for edge_from in 0..=side {
                if let Some(answers) =
                    Answers::new(space.scenario, grids, Some((path, &space.paths[path])), edge_from)
                {
                    answers.blocks(&mut |block| self.block(block, Some(Lossy { path, edge_from }), sink));
                }
            }
        }
    }

    fn block(&mut self, block: &Block<'_>, lossy: Option<Lossy>, sink: &mut impl Sink) {
        let steps = if block.ends_at.is_some() { 1 } else { block.last_alive.len() };
        for step in 0..steps {
            let always = self.side > 0 && step > 0 && step + 1 == steps;
            let last = if block.ends_at.is_some() { 0 } else { block.last_alive[step] };
            if step > 0 && !always && block.ends_at.is_none() && !block.differs(step) {
                continue;
            }
            let mut setting = block.setting;
            let mut right = block.right;
            if block.ends_at.is_none() {
                right += block.last_right[step];
                if self.side > 0 {
                    setting[self.side - 1] = step as u16;
                }
            }
            let mut exits: Vec<usize> = (0..self.side).filter(|&exit| setting[exit] > 0).collect();
            let mut reach: Vec<f64> = exits.iter().map(|&exit| f64::from(block.alive[exit])).collect();
            if block.ends_at.is_none() && !always {
                exits.push(self.side);
                reach.push(f64::from(last));
            }
            let config = Config { setting, place: 0 };
            self.ways_of(&Wanted { config, exits, reach, right, lossy }, sink);
        }
    }

    /// Goes through all labels under one setting, node after node.
    fn ways_of(&mut self, wanted: &Wanted, sink: &mut impl Sink) {
        // The least `edge_from` that means the same stands for the others.
        let meant = |lossy: Lossy| {
            let before = wanted.exits.iter().rfind(|&&exit| exit < lossy.edge_from);
            lossy.edge_from == before.map_or(0, |exit| exit + 1)
                && wanted.exits.last().is_some_and(|&exit| exit >= lossy.edge_from)
        };
        if wanted.lossy.is_some_and(|lossy| !meant(lossy)) {
            return;
        }
        self.labels.clear();
        let start = Label {
            interval: 0.0,
            latency: self.space.scenario.samples() as f64 * self.space.pause(0),
            reading: 0.0,
            message: 0.0,
            before: None,
            row: None,
            tried: 0,
            sensitivity: Sensitivity::default(),
        };
        self.labels.push(start);
        let origin = Meeting { resume: None, tried: 0, crossed: false };
        let mut here = vec![(origin, vec![0])];
        for node in 0..self.nodes {
            let slots = self.space.resumes.len() * (wanted.exits.len() + 1) * 2;
            let mut there: Vec<Vec<usize>> = vec![Vec::new(); if node + 1 < self.nodes { slots } else { 0 }];
            for (meeting, labels) in &here {
                self.node(node, *meeting, labels, wanted, &mut there, sink);
            }
            let of_slot = |(slot, labels): (usize, Vec<usize>)| (self.meeting(slot, wanted), labels);
            here =
                there.into_iter().enumerate().filter(|(_, labels)| !labels.is_empty()).map(of_slot).collect();
        }
    }

    fn slot(meeting: Meeting, wanted: &Wanted) -> usize {
        let resume = meeting.resume.unwrap_or(0);
        (resume * (wanted.exits.len() + 1) + meeting.tried) * 2 + usize::from(meeting.crossed)
    }

    fn meeting(&self, slot: usize, wanted: &Wanted) -> Meeting {
        let (rest, crossed) = (slot / 2, slot % 2 == 1);
        let width = wanted.exits.len() + 1;
        Meeting { resume: Some(rest / width), tried: rest % width, crossed }
    }

    /// Everything that one node can do for labels that meet before it: try more exits, then send, or be done.
    fn node(
        &mut self,
        node: usize,
        from: Meeting,
        labels: &[usize],
        wanted: &Wanted,
        there: &mut [Vec<usize>],
        sink: &mut impl Sink,
    ) {
        let space = self.space;
        let resume = from.resume.map(|resume| &space.resumes[resume]);
        let begin = resume.map_or(EMPTY, super::space::Resume::cut);
        // Every sample comes to the first node; what those cost that come to a later one stands with their reading.
        let arrivals = if node == 0 { space.scenario.samples() as f64 } else { 0.0 };
        let mut heads = Heads::default();
        let (mut at, mut time) = (begin, arrivals * space.scenario.nodes[node].task_us.0);
        for tried in from.tried..wanted.exits.len() {
            if node + 1 < self.nodes {
                let leg = Leg { node, from: Meeting { tried, ..from }, begin, at, time, heads };
                self.send(&leg, labels, wanted, there, sink);
            }
            let exit = wanted.exits[tried];
            let next = resume.map_or(space.needs[exit], |resume| resume.with[exit + 1]);
            let behind = wanted.lossy.is_some_and(|lossy| exit >= lossy.edge_from);
            let known = wanted.lossy.is_none_or(|lossy| {
                !behind || space.paths[lossy.path].outcomes(space.scenario, exit).is_some()
            });
            if behind != (wanted.lossy.is_some() && from.crossed)
                || !known
                || resume.is_some_and(|resume| !resume.can_try[exit])
                || !space.may_run(node, at, next)
            {
                return;
            }
            let step = space.run_time(node, at, next) + space.scenario.nodes[node].exits_us[exit].0;
            time += wanted.reach[tried] * step;
            heads = heads.with(exit);
            at = next;
        }
        self.finish(node, labels, [begin, at], (time, heads), wanted, sink);
    }

    fn finish(
        &mut self,
        node: usize,
        labels: &[usize],
        run: [CutId; 2],
        (time, heads): (f64, Heads),
        wanted: &Wanted,
        sink: &mut impl Sink,
    ) {
        let samples = self.space.scenario.samples() as f64;
        let room = self.memory.room(node, run, None, heads);
        for &index in labels {
            let label = self.labels[index];
            if !self.wanted_part(node, None) || !self.memory.holds(room, label.message) {
                continue;
            }
            let interval = label.interval.max(self.busy(node, label.reading + time, label.row)) / samples;
            let latency = (label.latency + self.space.paused(node, time)) / samples;
            if !sink.is_pruned(interval, latency, wanted.right) {
                self.finished.push(self.trace(index, wanted));
                let config = Config { place: self.finished.len() as u32 - 1, ..wanted.config };
                let sensitivity = self.sensitivity(&label, node, label.reading + time, None);
                let mean = Sensitivity {
                    others: sensitivity.others / samples,
                    fixed: sensitivity.fixed.map(|fixed| fixed / samples),
                    slope: sensitivity.slope.map(|slope| slope / samples),
                    latency_slope: sensitivity.latency_slope / samples,
                };
                sink.take(Point { interval, latency, right: wanted.right, config }, mean);
            }
        }
        self.configurations += labels.len() as u64;
    }

    fn send(
        &mut self,
        leg: &Leg,
        labels: &[usize],
        wanted: &Wanted,
        there: &mut [Vec<usize>],
        sink: &impl Sink,
    ) {
        let space = self.space;
        let tried = leg.from.tried;
        let onward = leg.from.resume.map_or(space.resumes.len(), |resume| self.onward[resume].len());
        for index in 0..onward {
            let to = leg.from.resume.map_or(index, |resume| self.onward[resume][index]);
            let resume = &space.resumes[to];
            if !wanted.exits[tried..].iter().all(|&exit| resume.can_try[exit]) {
                continue;
            }
            let ran = tried.checked_sub(1).filter(|_| leg.at != leg.begin).map(|last| wanted.exits[last] + 1);
            let cut = resume.with[ran.unwrap_or(0)];
            if !space.may_run(leg.node, leg.at, cut) {
                continue;
            }
            let time = leg.time + wanted.reach[tried] * space.run_time(leg.node, leg.at, cut);
            for path in 0..self.exact[to].len() {
                let crossing =
                    Crossing { path: self.exact[to][path], to, cut, time, crossed: leg.from.crossed };
                self.cross(leg, &crossing, labels, wanted, there, sink);
            }
            let lossy = wanted.lossy.filter(|lossy| {
                let before = tried.checked_sub(1).map_or(0, |last| wanted.exits[last] + 1);
                !leg.from.crossed && space.paths[lossy.path].resume == to && before == lossy.edge_from
            });
            if let Some(lossy) = lossy {
                let crossing = Crossing { path: lossy.path, to, cut, time, crossed: true };
                self.cross(leg, &crossing, labels, wanted, there, sink);
            }
        }
    }

    fn cross(
        &mut self,
        leg: &Leg,
        crossing: &Crossing,
        labels: &[usize],
        wanted: &Wanted,
        there: &mut [Vec<usize>],
        sink: &impl Sink,
    ) {
        let (space, node) = (self.space, leg.node);
        let (reach, samples) = (wanted.reach[leg.from.tried], space.scenario.samples() as f64);
        let meeting = Meeting { resume: Some(crossing.to), tried: leg.from.tried, crossed: crossing.crossed };
        let slot = Self::slot(meeting, wanted);
        let sends = Some(space.resumes[crossing.to].cut());
        let room = self.memory.room(node, [leg.begin, crossing.cut], sends, leg.heads);
        for at in 0..self.rows[node][crossing.path].len() {
            let row_id = self.rows[node][crossing.path][at];
            let row = &space.scenario.encodings[row_id];
            let stage = crossing.time + reach * row.encode_us[node].0;
            let link = reach * space.link_time(node, row);
            let reading = reach * (row.decode_us[node + 1] + space.scenario.nodes[node + 1].task_us).0;
            let transit = space.scenario.links[node].transit().0;
            let travel = reach * (space.lone_time(node, row) + transit + space.pause(node + 1));
            if !self.memory.holds(room, row.bytes) || !self.wanted_part(node, Some(row_id)) {
                continue;
            }
            for &index in labels {
                let before = self.labels[index];
                if !self.memory.holds(room, before.message + row.bytes) {
                    continue;
                }
                let label = Label {
                    interval: before.interval.max(space.busy(node, before.reading + stage)).max(link),
                    latency: before.latency
                        + space.paused(node, stage)
                        + travel
                        + space.paused(node + 1, reading),
                    reading,
                    message: if self.limited { row.bytes } else { 0.0 },
                    before: Some(index),
                    row: Some(row_id),
                    tried: leg.from.tried,
                    sensitivity: self.sensitivity(
                        &before,
                        node,
                        before.reading + stage,
                        Some((link, reach, row)),
                    ),
                };
                let interval = label.interval.max(space.busy(node + 1, reading));
                if sink.is_pruned(interval / samples, label.latency / samples, wanted.right) {
                    continue;
                }
                self.keep(label, &mut there[slot]);
            }
        }
    }

    /// What a node's stage takes in a full pipeline: longer, where a task that came to it has crossed anything.
    fn busy(&self, node: usize, stage: f64, received: Option<usize>) -> f64 {
        if received.is_some() { self.space.busy(node, stage) } else { stage }
    }

    /// How a label's figures move after a node's stage, and after the link behind it: the time there, the samples that cross, and
    /// what crosses.
    fn sensitivity(
        &self,
        before: &Label,
        node: usize,
        stage: f64,
        link: Option<(f64, f64, &EncodedFrontier)>,
    ) -> Sensitivity {
        let mut sensitivity = before.sensitivity;
        let Some(varied) = self.varied else { return sensitivity };
        if varied == Varied::Device && node == 0 {
            sensitivity.slope[0] = if link.is_some() { self.space.busy(0, stage) } else { stage };
            sensitivity.latency_slope = self.space.paused(0, stage);
        } else {
            let crosses = link.is_some() || before.row.is_some();
            sensitivity.others =
                sensitivity.others.max(if crosses { self.space.busy(node, stage) } else { stage });
        }
        match link {
            Some((time, reach, row)) if varied == Varied::Link(node) => {
                let spec = &self.space.scenario.links[node];
                let bytes = reach * spec.bits_per_second.time_for(row.bytes).0;
                (sensitivity.fixed[0], sensitivity.slope[0]) = (time - bytes, bytes);
                let lone = reach * spec.lone_time(row.bytes).0;
                sensitivity.latency_slope = if spec.lone.is_empty() { bytes } else { lone };
            }
            Some((time, ..)) => sensitivity.others = sensitivity.others.max(time),
            None => (),
        }
        sensitivity
    }

    /// Keeps a label unless one that meets it is no worse; labels that it makes useless go.
    fn keep(&mut self, label: Label, meeting: &mut Vec<usize>) {
        if meeting.iter().any(|&other| self.labels[other].is_no_worse(&label)) {
            return;
        }
        meeting.retain(|&other| !label.is_no_worse(&self.labels[other]));
        meeting.push(self.labels.len());
        self.labels.push(label);
    }

    /// Whether a label that uses `row` behind `node` lies in the part that is walked.
    fn wanted_part(&self, node: usize, row: Option<usize>) -> bool {
        let Some(part) = &self.part else { return true };
        match node.cmp(&part.same.len()) {
            std::cmp::Ordering::Less => part.same[node] == row,
            std::cmp::Ordering::Equal => part.but_not != row,
            std::cmp::Ordering::Greater => true,
        }
    }

    /// A label in the order of the links.
    fn trace(&self, end: usize, wanted: &Wanted) -> Finished {
        let mut steps = Vec::new();
        let mut at = end;
        while let Some(before) = self.labels[at].before {
            steps.push((self.labels[at].row, self.labels[at].tried));
            at = before;
        }
        steps.reverse();
        let mut rows: Vec<Option<usize>> = steps.iter().map(|(row, _)| *row).collect();
        rows.resize(self.nodes - 1, None);
        let mut node_of = [0; MAX_EXITS + 1];
        for (place, &exit) in wanted.exits.iter().enumerate() {
            node_of[exit] = steps.iter().filter(|(_, tried)| *tried <= place).count();
        }
        Finished { rows, node_of }
    }

    /// The configuration in names.
    pub fn plan(&self, config: &Config) -> Plan {
        let finished = &self.finished[config.place as usize];
        let threshold = |exit: usize| self.grids.thresholds[exit][usize::from(config.setting[exit])];
        let mut exits: Vec<(Threshold, usize)> =
            (0..self.side).map(|exit| (threshold(exit), finished.node_of[exit])).collect();
        let ended = exits.iter().any(|(threshold, _)| *threshold == Threshold::Always);
        let last = if ended { Threshold::Never } else { Threshold::Always };
        exits.push((last, finished.node_of[self.side]));
        let space = self.space;
        let resume_of = |row: usize| {
            let path = space.paths.iter().find(|path| path.rows.contains(&row));
            path.map(|path| path.resume)
        };
        let mut cuts = Vec::new();
        let mut before = EMPTY;
        for node in 0..self.nodes {
            let taken = node.checked_sub(1).and_then(|link| finished.rows[link]).and_then(resume_of);
            let sent = finished.rows.get(node).copied().flatten().and_then(resume_of);
            let tried = (0..=self.side).rfind(|&exit| exits[exit].0.is_on() && exits[exit].1 == node);
            before = match (sent.or(taken), tried) {
                (Some(resume), tried) => space.resumes[resume].with[tried.map_or(0, |exit| exit + 1)],
                (None, Some(exit)) => space.needs[exit],
                (None, None) => before,
            };
            cuts.push(before);
        }
        space.plan(&cuts, &finished.rows, &exits)
    }
}

/// What a node has done when it sends.
struct Leg {
    node: usize,
    from: Meeting,
    /// The cut behind which it took over, and the one as far as it has run.
    begin: CutId,
    at: CutId,
    time: f64,
    heads: Heads,
}

/// A resume cut to which a node sends, over a path.
struct Crossing {
    path: usize,
    to: usize,
    cut: CutId,
    /// What the node has spent, without encoding.
    time: f64,
    crossed: bool,
}
