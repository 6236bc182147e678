//! The walk through all configurations of more than two nodes: label setting for a shortest path with several criteria
//! (E. Q. V. Martins, "On a multicriteria shortest path problem", European Journal of Operational Research 16, 1984),
//! within a branch and bound over regions of the thresholds' settings (`region.rs`).
//!
//! Under a region's highest thresholds the fewest samples reach each exit, and with them it is known what every stretch of layers
//! costs on every node. What is left is a path through the links: behind node `k` crosses the frontier of
//! a resume cut that covers the one before, with so many exits tried so far. Labels that meet in the same resume cut with
//! the same exits tried have the same future, whatever lies behind them: interval and latency of any continuation
//! grow with the label's own interval, latency, the reading that the next node still has to do, and the message that it
//! has to hold (and, where a quantity is varied, with what that makes of the interval). So a label that another one beats or
//! equals in all of these needs no continuation, nor does one that the sink has no use for with the least that is still ahead
//! (`to_go.rs`). All that remain are gone through to the end: no configuration that could be best is missed.
//!
//! At most one crossing may be lossy: what two do together has not been measured.

use std::cmp::Ordering;

use super::answers::{Answers, Grids};
use super::moves::{Crossing, Leg, Lossy, Meeting, Message, Moves, Part, Wanted};
use super::pareto::Point;
use super::plan::{Plan, Threshold};
use super::region::Region;
use super::sink::{Config, Sensitivity, Sink, Varied, Walk};
use super::space::{EMPTY, Space};
use super::tally::{MAX_EXITS, Setting};
use super::to_go::{Least, ToGo};

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
    /// One that has of each figure the best of these: if it is useless somewhere, so are they all.
    fn ideal<'l>(labels: impl Iterator<Item = &'l Self>) -> Self {
        let least = |a: Self, b: &Self| Self {
            interval: a.interval.min(b.interval),
            latency: a.latency.min(b.latency),
            reading: a.reading.min(b.reading),
            message: a.message.min(b.message),
            ..a
        };
        let infinite = f64::INFINITY;
        let none = Self {
            interval: infinite,
            latency: infinite,
            reading: infinite,
            message: infinite,
            before: None,
            row: None,
            tried: 0,
            sensitivity: Sensitivity::default(),
        };
        labels.fold(none, least)
    }

    fn is_no_worse(&self, other: &Self) -> bool {
        self.interval <= other.interval
            && self.latency <= other.latency
            && self.reading <= other.reading
            && self.message <= other.message
            && self.sensitivity.is_no_worse(&other.sensitivity)
    }
}

/// A way over a link.
struct Hop<'h> {
    leg: &'h Leg,
    crossing: &'h Crossing,
    message: Message,
    /// What is ahead behind it.
    ahead: Least,
}

/// A label behind a hop, and what its continuation seems to come to.
struct Onward {
    figure: f64,
    label: Label,
    to: Meeting,
}

impl Onward {
    fn order(a: &Self, b: &Self) -> Ordering {
        a.figure.total_cmp(&b.figure)
    }
}

/// What crosses each link of a finished path, and the node that tries each exit.
#[derive(Clone, PartialEq)]
struct Finished {
    rows: Vec<Option<usize>>,
    node_of: [usize; MAX_EXITS + 1],
}

/// A finished path, by its index.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct PathId(usize);

/// The setting whose labels are followed.
struct Followed<'w> {
    wanted: &'w Wanted,
    to_go: &'w ToGo,
    setting: Setting,
    right: u32,
}

/// Has use for what a sink has use for, and what is faster than this by more than rounding. Microseconds.
struct Faster<'s, S> {
    than: f64,
    sink: &'s S,
}

impl<S: Sink<PathId>> Sink<PathId> for Faster<'_, S> {
    fn is_pruned(&self, interval: f64, latency: f64, right: u32) -> bool {
        interval >= self.than * (1.0 - 1e-9) || self.sink.is_pruned(interval, latency, right)
    }

    fn take(&mut self, _: Point<Config<PathId>>, _: impl FnOnce(Varied) -> Sensitivity) {}
}

pub(super) struct Tiers<'s, 'a> {
    moves: Moves<'s, 'a>,
    grids: &'s Grids,
    answers: &'s Answers,
    side: usize,
    limited: bool,
    varied: Option<Varied>,
    finished: Vec<Finished>,
    /// What is ahead, where there is one setting.
    to_go: Option<ToGo>,
    /// Every label under the present setting that was kept.
    labels: Vec<Label>,
    /// How many configurations were followed to their end.
    configurations: u64,
}

impl<'s, 'a> Tiers<'s, 'a> {
    pub fn new(space: &'s Space<'a>, grids: &'s Grids, answers: &'s Answers) -> Self {
        Self {
            moves: Moves::new(space),
            grids,
            answers,
            side: space.scenario.exits.len() - 1,
            limited: space.scenario.nodes.iter().any(|node| node.memory_bytes.is_some()),
            varied: None,
            to_go: None,
            finished: Vec::new(),
            labels: Vec::new(),
            configurations: 0,
        }
    }

    /// Minds how figures move with this quantity.
    pub fn vary(&mut self, varied: Varied) {
        self.varied = Some(varied);
    }

    /// The walk through the same configurations where this quantity has another value.
    pub fn at<'t, 'b>(&'t self, space: &'t Space<'b>, varied: Varied) -> Tiers<'t, 'b> {
        let mut other = Tiers::new(space, self.grids, self.answers);
        other.vary(varied);
        let last_changed = match varied {
            Varied::Link(link) => link,
            Varied::Device => 0,
        };
        other.to_go = self.to_go.as_ref().map(|to_go| to_go.behind(last_changed));
        other
    }

    /// A walk through a part, with all that was worked out so far.
    fn part(&self, part: Part) -> Self {
        let to_go = self.to_go.as_ref().map(|to_go| to_go.behind(part.same.len()));
        let moves = self.moves.of_part(part);
        Self { moves, to_go, finished: Vec::new(), labels: Vec::new(), ..*self }
    }

    /// What is ahead under these settings, kept where they are the only ones.
    fn ahead_of(&mut self, wanted: &Wanted) -> ToGo {
        if self.side > 0 || wanted.lossy.is_some() {
            return ToGo::new(&self.moves, wanted);
        }
        let known = match &self.to_go {
            Some(known) => known.clone(),
            None => ToGo::new(&self.moves, wanted),
        };
        self.to_go = Some(known.clone());
        known
    }

    /// Where the edge may begin among the exits that a region has on.
    fn edge_from(&self, region: &Region) -> Vec<usize> {
        let exits = region.exits(&self.grids.steps());
        let behind = |exit: &usize| exit + 1;
        std::iter::once(0).chain(exits[..exits.len() - 1].iter().map(behind)).collect()
    }

    /// Goes through a region and its halves, the larger ones first.
    fn regions(&mut self, region: Region, lossy: Option<Lossy>, sink: &mut impl Sink<PathId>) {
        let mut open = vec![(region, true)];
        while !open.is_empty() {
            let mut next = Vec::new();
            for (region, fresh) in open {
                if let Some(exit) = self.visit(&region, fresh, lossy, sink) {
                    let [lower, upper] = region.halves(exit);
                    next.extend([(lower, true), (upper, false)]);
                }
            }
            open = next;
        }
    }

    /// Follows what the region's highest thresholds do, and tells by which exit to divide it where others may do better.
    fn visit(
        &mut self,
        region: &Region,
        fresh: bool,
        lossy: Option<Lossy>,
        sink: &mut impl Sink<PathId>,
    ) -> Option<usize> {
        let exits = region.exits(&self.grids.steps());
        let uncut = self.answers.uncut(region, &exits);
        let answered = lossy
            .map_or(uncut, |lossy| self.answers.behind(lossy.path, lossy.edge_from, region, &exits, &uncut));
        let reach = answered.reach[..exits.len()].iter().map(|&reach| f64::from(reach)).collect();
        let wanted = Wanted { exits, reach, lossy };
        let to_go = self.ahead_of(&wanted);
        let ahead = to_go.at(&mut self.moves, 0, Meeting::START, &wanted);
        let samples = self.moves.space.scenario.samples() as f64;
        let start = self.start();
        let interval = ahead.interval / samples;
        let latency = (start.latency + ahead.latency) / samples;
        if !ahead.is_any() || sink.is_pruned(interval, latency, answered.most_right) {
            return None;
        }
        if sink.is_over() {
            sink.leave(interval, latency, answered.most_right);
            return None;
        }
        let split = uncut.most_undecided(region, &wanted.exits);
        if fresh && !sink.is_pruned(interval, latency, answered.right) {
            let (setting, right) = (region.to, answered.right);
            let followed = Followed { wanted: &wanted, to_go: &to_go, setting, right };
            self.descend(&followed, sink);
            self.follow(&followed, sink);
        }
        split.filter(|_| answered.most_right > answered.right)
    }

    fn start(&self) -> Label {
        let space = self.moves.space;
        Label {
            interval: 0.0,
            latency: space.scenario.samples() as f64 * space.pause(0),
            reading: 0.0,
            message: 0.0,
            before: None,
            row: None,
            tried: 0,
            sensitivity: Sensitivity::default(),
        }
    }

    /// Shows `sink` some good configurations, so that it can prune: the fastest one, that which seems to have the least latency
    /// of all, then of those that are faster, and so on.
    fn descend(&mut self, followed: &Followed<'_>, sink: &mut impl Sink<PathId>) {
        let mut than = f64::INFINITY;
        if let Some((leg, label)) = self.descent(followed, &Faster { than, sink }, |interval, _| interval) {
            self.finish(&leg, &[label], followed, sink);
        }
        while let Some((leg, label)) = self.descent(followed, &Faster { than, sink }, |_, latency| latency) {
            let Some((interval, _)) = self.end(&leg, label) else { return };
            self.finish(&leg, &[label], followed, sink);
            than = interval;
        }
    }

    /// The way on with the least figure, as it seems, again and again: the label and the leg that end it.
    fn descent(
        &mut self,
        followed: &Followed<'_>,
        sink: &impl Sink<PathId>,
        figure: impl Fn(f64, f64) -> f64,
    ) -> Option<(Leg, usize)> {
        self.labels.clear();
        self.labels.push(self.start());
        let (mut meeting, mut at) = (Meeting::START, 0);
        for node in 0..self.moves.nodes {
            let (mut end, mut onward): (Option<(f64, Leg)>, Option<Onward>) = (None, None);
            for leg in self.moves.legs(node, meeting, followed.wanted) {
                if leg.done {
                    let figures = self.end(&leg, at);
                    let wanted = |&(interval, latency): &(f64, f64)| {
                        !sink.is_pruned(interval, latency, followed.right)
                    };
                    end = figures.filter(wanted).map(|(interval, latency)| (figure(interval, latency), leg));
                } else if node + 1 < self.moves.nodes {
                    let found = self.best_crossing(&leg, at, followed, sink, &figure);
                    onward = [onward, found].into_iter().flatten().min_by(Onward::order);
                }
            }
            if onward.as_ref().is_none_or(|onward| end.as_ref().is_some_and(|end| end.0 <= onward.figure)) {
                return end.map(|(_, leg)| (leg, at));
            }
            let next = onward?;
            self.labels.push(Label { before: Some(at), ..next.label });
            (meeting, at) = (next.to, self.labels.len() - 1);
        }
        None
    }

    /// Of what a leg can send, that which seems to lead to the least figure.
    fn best_crossing(
        &mut self,
        leg: &Leg,
        at: usize,
        followed: &Followed<'_>,
        sink: &impl Sink<PathId>,
        figure: &impl Fn(f64, f64) -> f64,
    ) -> Option<Onward> {
        let (wanted, node) = (followed.wanted, leg.node);
        let samples = self.moves.space.scenario.samples() as f64;
        let mut best: Option<Onward> = None;
        for crossing in self.moves.crossings(leg, wanted) {
            let ahead = followed.to_go.at(&mut self.moves, node + 1, crossing.to, wanted);
            let messages = self.moves.messages(node, crossing.path, wanted.reach[leg.from.tried]);
            for message in messages.filter(|_| ahead.is_any()) {
                let hop = Hop { leg, crossing: &crossing, message, ahead };
                let onward = |label: Label| {
                    let interval = label.interval.max(ahead.interval);
                    let latency = label.latency + ahead.latency;
                    Onward { figure: figure(interval / samples, latency / samples), label, to: crossing.to }
                };
                let found = self.cross(&hop, &self.labels[at], followed, sink).map(onward);
                best = [best, found].into_iter().flatten().min_by(Onward::order);
            }
        }
        best
    }

    /// Goes through all labels under one setting, node after node.
    fn follow(&mut self, followed: &Followed<'_>, sink: &mut impl Sink<PathId>) {
        let wanted = followed.wanted;
        self.labels.clear();
        self.labels.push(self.start());
        let mut here = vec![(Meeting::START, vec![0])];
        for node in 0..self.moves.nodes {
            let slots = if node + 1 < self.moves.nodes { self.moves.meetings(wanted) } else { 0 };
            let mut there: Vec<Vec<Label>> = vec![Vec::new(); slots];
            for (meeting, labels) in &here {
                for leg in self.moves.legs(node, *meeting, wanted) {
                    if leg.done {
                        self.finish(&leg, labels, followed, sink);
                    } else if slots > 0 {
                        self.send(&leg, labels, followed, &mut there, sink);
                    }
                }
            }
            here.clear();
            for (slot, labels) in there.into_iter().enumerate().filter(|(_, labels)| !labels.is_empty()) {
                let first = self.labels.len();
                self.labels.extend(labels);
                here.push((Meeting::of_slot(slot, wanted), (first..self.labels.len()).collect()));
            }
        }
    }

    /// Interval and latency where a label ends with this leg; `None` where its message does not fit into memory.
    fn end(&mut self, leg: &Leg, label: usize) -> Option<(f64, f64)> {
        let label = self.labels[label];
        let room = self.moves.room_at_end(leg);
        if !self.moves.is_wanted(leg.node, None) || !self.moves.holds(room, label.message) {
            return None;
        }
        let samples = self.moves.space.scenario.samples() as f64;
        let stage = self.moves.busy(leg.node, label.reading + leg.time, label.row.is_some());
        let latency = label.latency + self.moves.space.paused(leg.node, leg.time);
        Some((label.interval.max(stage) / samples, latency / samples))
    }

    fn finish(&mut self, leg: &Leg, labels: &[usize], followed: &Followed<'_>, sink: &mut impl Sink<PathId>) {
        let right = followed.right;
        for &index in labels {
            let Some((interval, latency)) = self.end(leg, index) else { continue };
            if !sink.is_pruned(interval, latency, right) {
                self.finished.push(self.trace(index, followed.wanted));
                let config = Config { setting: followed.setting, place: PathId(self.finished.len() - 1) };
                let label = &self.labels[index];
                let sensitivity = self.sensitivity(label, leg.node, label.reading + leg.time, None);
                let samples = self.moves.space.scenario.samples() as f64;
                sink.take(Point { interval, latency, right, config }, |_| sensitivity.over(samples));
            }
        }
        self.configurations += labels.len() as u64;
    }

    fn send(
        &mut self,
        leg: &Leg,
        labels: &[usize],
        followed: &Followed<'_>,
        there: &mut [Vec<Label>],
        sink: &impl Sink<PathId>,
    ) {
        let wanted = followed.wanted;
        let ideal = Label::ideal(labels.iter().map(|&label| &self.labels[label]));
        for crossing in self.moves.crossings(leg, wanted) {
            let ahead = followed.to_go.at(&mut self.moves, leg.node + 1, crossing.to, wanted);
            if !ahead.is_any() {
                continue;
            }
            let slot = crossing.to.slot(wanted);
            let messages = self.moves.messages(leg.node, crossing.path, wanted.reach[leg.from.tried]);
            for message in messages.collect::<Vec<_>>() {
                let hop = Hop { leg, crossing: &crossing, message, ahead };
                if self.cross(&hop, &ideal, followed, sink).is_none() {
                    continue;
                }
                for &index in labels {
                    if let Some(label) = self.cross(&hop, &self.labels[index], followed, sink) {
                        keep(Label { before: Some(index), ..label }, &mut there[slot]);
                    }
                }
            }
        }
    }

    /// A label behind a hop, where the sink may have use for what can become of it.
    fn cross(
        &self,
        hop: &Hop<'_>,
        before: &Label,
        followed: &Followed<'_>,
        sink: &impl Sink<PathId>,
    ) -> Option<Label> {
        let Hop { leg, crossing, message, ahead } = hop;
        let (space, node) = (self.moves.space, leg.node);
        if !self.moves.holds(crossing.room, before.message + message.bytes) {
            return None;
        }
        let stage = crossing.time + message.encode;
        let interval = before.interval.max(space.busy(node, before.reading + stage)).max(message.link);
        let latency = before.latency
            + space.paused(node, stage)
            + message.travel
            + space.paused(node + 1, message.reading);
        let samples = space.scenario.samples() as f64;
        let at_best = interval.max(space.busy(node + 1, message.reading)).max(ahead.interval);
        if sink.is_pruned(at_best / samples, (latency + ahead.latency) / samples, followed.right) {
            return None;
        }
        Some(Label {
            interval,
            latency,
            reading: message.reading,
            message: if self.limited { message.bytes } else { 0.0 },
            before: None,
            row: Some(message.row),
            tried: leg.from.tried,
            sensitivity: self.sensitivity(
                before,
                node,
                before.reading + stage,
                Some((message, followed.wanted.reach[leg.from.tried])),
            ),
        })
    }

    /// How a label's figures move after a node's stage, and after the link behind it: the time there, what crosses, and the samples
    /// that do.
    fn sensitivity(
        &self,
        before: &Label,
        node: usize,
        stage: f64,
        link: Option<(&Message, f64)>,
    ) -> Sensitivity {
        let mut sensitivity = before.sensitivity;
        let Some(varied) = self.varied else { return sensitivity };
        let stage_in_use = self.moves.busy(node, stage, link.is_some() || before.row.is_some());
        if varied == Varied::Device && node == 0 {
            sensitivity.slope[0] = stage_in_use;
            sensitivity.latency_slope = self.moves.space.paused(0, stage);
        } else {
            sensitivity.others = sensitivity.others.max(stage_in_use);
        }
        match link {
            Some((message, reach)) if varied == Varied::Link(node) => {
                let spec = &self.moves.space.scenario.links[node];
                let bytes = reach * spec.bits_per_second.time_for(message.bytes).0;
                (sensitivity.fixed[0], sensitivity.slope[0]) = (message.link - bytes, bytes);
                let lone = reach * spec.lone_time(message.bytes).0;
                sensitivity.latency_slope = if spec.lone.is_empty() { bytes } else { lone };
            }
            Some((message, _)) => sensitivity.others = sensitivity.others.max(message.link),
            None => (),
        }
        sensitivity
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
        rows.resize(self.moves.nodes - 1, None);
        let mut node_of = [0; MAX_EXITS + 1];
        for (place, &exit) in wanted.exits.iter().enumerate() {
            node_of[exit] = steps.iter().filter(|(_, tried)| *tried <= place).count();
        }
        Finished { rows, node_of }
    }
}

/// Keeps a label unless one that meets it is no worse; labels that it makes useless go.
fn keep(label: Label, meeting: &mut Vec<Label>) {
    if !meeting.iter().any(|other| other.is_no_worse(&label)) {
        meeting.retain(|other| !label.is_no_worse(other));
        meeting.push(label);
    }
}

impl Walk for Tiers<'_, '_> {
    type Place = PathId;

    fn walk(&mut self, sink: &mut impl Sink<PathId>) {
        let space = self.moves.space;
        for region in Region::all(&self.grids.steps()) {
            self.regions(region, None, sink);
            for path in (0..space.paths.len()).filter(|&path| space.paths[path].lossy.is_some()) {
                for edge_from in self.edge_from(&region) {
                    self.regions(region, Some(Lossy { path, edge_from }), sink);
                }
            }
        }
    }

    fn plan(&self, config: &Config<PathId>) -> Plan {
        let finished = &self.finished[config.place.0];
        let threshold = |exit: usize| self.grids.thresholds[exit][usize::from(config.setting[exit])];
        let mut exits: Vec<(Threshold, usize)> =
            (0..self.side).map(|exit| (threshold(exit), finished.node_of[exit])).collect();
        let ended = exits.iter().any(|(threshold, _)| *threshold == Threshold::Always);
        let last = if ended { Threshold::Never } else { Threshold::Always };
        exits.push((last, finished.node_of[self.side]));
        let space = self.moves.space;
        let resume_of = |row: usize| {
            let path = space.paths.iter().find(|path| path.rows.contains(&row));
            path.map(|path| path.resume)
        };
        let mut cuts = Vec::new();
        let mut before = EMPTY;
        for node in 0..self.moves.nodes {
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

    fn others(&self, config: &Config<PathId>) -> Vec<Self> {
        let rows = &self.finished[config.place.0].rows;
        (0..rows.len())
            .map(|link| self.part(Part { same: rows[..link].to_vec(), but_not: rows[link] }))
            .collect()
    }

    fn configurations(&self) -> u64 {
        self.configurations
    }
}
