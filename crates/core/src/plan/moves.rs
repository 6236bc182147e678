//! What each of several nodes can do with the tasks that reach it: try exits, send what the next one needs, or be done.

use std::rc::Rc;

use super::memory::{Heads, Memory};
use super::outcomes::SampleSet;
use super::space::{CutId, EMPTY, Resume, Space};

/// A lossy path that is crossed, exits from `edge_from` on lying behind it.
#[derive(Clone, Copy)]
pub(super) struct Lossy {
    pub path: usize,
    pub edge_from: usize,
}

/// Settings whose configurations are looked for.
pub(super) struct Wanted {
    /// The exits that are on; all leave at the last one at the latest.
    pub exits: Vec<usize>,
    /// Samples that reach each of them.
    pub reach: Vec<f64>,
    pub lossy: Option<Lossy>,
}

/// Where tasks come to a node: behind a resume cut, with so many of the exits tried, and with the lossy path crossed or not.
#[derive(Clone, Copy)]
pub(super) struct Meeting {
    /// `None` before the first node.
    pub resume: Option<usize>,
    pub tried: usize,
    pub crossed: bool,
}

impl Meeting {
    pub const START: Self = Self { resume: None, tried: 0, crossed: false };

    /// Its place among [`Moves::meetings`].
    pub fn slot(self, wanted: &Wanted) -> usize {
        (self.resume.unwrap_or(0) * wanted.exits.len() + self.tried) * 2 + usize::from(self.crossed)
    }

    /// The meeting at a place.
    pub fn of_slot(slot: usize, wanted: &Wanted) -> Self {
        let (rest, width) = (slot / 2, wanted.exits.len());
        Self { resume: Some(rest / width), tried: rest % width, crossed: slot % 2 == 1 }
    }
}

/// What a node has done when it sends, or is done.
pub(super) struct Leg {
    pub node: usize,
    /// Where tasks came to it, with the exits tried that it has tried since.
    pub from: Meeting,
    /// The cut behind which it took over, and the one as far as it has run.
    pub begin: CutId,
    pub at: CutId,
    /// Microseconds, summed over samples, without reading what it received.
    pub time: f64,
    pub heads: Heads,
    /// Whether every exit has been tried.
    pub done: bool,
}

/// A way on from a leg.
pub(super) struct Crossing {
    pub path: usize,
    /// Where the next node takes over.
    pub to: Meeting,
    /// What the node has spent, without encoding.
    pub time: f64,
    /// Bytes that it has left for messages.
    pub room: f64,
}

/// What a message costs under one row of the encoding table. Microseconds, summed over samples, but for the bytes.
pub(super) struct Message {
    pub row: usize,
    pub bytes: f64,
    pub encode: f64,
    pub link: f64,
    /// What a lone message takes, there and back, with the pause of the next node.
    pub travel: f64,
    /// What the next node spends on each message as it comes.
    pub reading: f64,
}

/// A part of the configurations: those whose first crossings are these rows, the one behind them another.
#[derive(Clone)]
pub(super) struct Part {
    pub same: Vec<Option<usize>>,
    pub but_not: Option<usize>,
}

/// Which resume cuts cover which: a bit for each pair, since there are millions.
struct Onward {
    /// Words of a row.
    width: usize,
    /// A row for the input, then one per resume cut: those that cover it.
    bits: Vec<u64>,
}

impl Onward {
    fn new(space: &Space<'_>) -> Self {
        let cut = |resume: &Resume| (space.size(resume.cut()), space.set(resume.cut()));
        let cuts: Vec<_> = space.resumes.iter().map(cut).collect();
        let row = |from: Option<usize>| {
            let covers = |to: usize| {
                from.is_none_or(|from| cuts[to].0 >= cuts[from].0 && cuts[to].1.covers(cuts[from].1))
            };
            SampleSet::of(cuts.len(), covers).words().to_vec()
        };
        let rows = std::iter::once(None).chain((0..cuts.len()).map(Some));
        Self { width: cuts.len().div_ceil(64), bits: rows.flat_map(row).collect() }
    }

    fn from(&self, resume: Option<usize>) -> impl Iterator<Item = usize> + '_ {
        let row = resume.map_or(0, |resume| resume + 1);
        let words = &self.bits[row * self.width..(row + 1) * self.width];
        words.iter().enumerate().flat_map(|(word, &bits)| {
            std::iter::successors(Some(bits), |bits| Some(bits & bits.wrapping_sub(1)))
                .take_while(|bits| *bits != 0)
                .map(move |bits| word * 64 + bits.trailing_zeros() as usize)
        })
    }
}

#[derive(Clone)]
pub(super) struct Moves<'s, 'a> {
    pub space: &'s Space<'a>,
    pub nodes: usize,
    /// `rows[link][path]`: rows that no other row of the path is at least as good as.
    rows: Vec<Vec<Vec<usize>>>,
    onward: Rc<Onward>,
    /// Per resume cut the paths that are exact.
    exact: Vec<Vec<usize>>,
    memory: Memory<'s, 'a>,
    part: Option<Part>,
}

impl<'s, 'a> Moves<'s, 'a> {
    pub fn new(space: &'s Space<'a>) -> Self {
        let resumes = space.resumes.len();
        let of_link = |link| space.paths.iter().map(|path| space.useful_rows(link, path, None)).collect();
        let mut exact = vec![Vec::new(); resumes];
        for (index, path) in space.paths.iter().enumerate().filter(|(_, path)| path.lossy.is_none()) {
            exact[path.resume].push(index);
        }
        let nodes = space.scenario.nodes.len();
        Self {
            space,
            nodes,
            rows: (0..nodes - 1).map(of_link).collect(),
            onward: Rc::new(Onward::new(space)),
            exact,
            memory: Memory::new(space),
            part: None,
        }
    }

    /// Those of a part alone.
    pub fn of_part(&self, part: Part) -> Self {
        let (space, link) = (self.space, part.same.len());
        let mut rows = self.rows.clone();
        rows[link] = space.paths.iter().map(|path| space.useful_rows(link, path, part.but_not)).collect();
        Self { rows, part: Some(part), ..self.clone() }
    }

    /// How many meetings there are between two nodes.
    pub fn meetings(&self, wanted: &Wanted) -> usize {
        self.space.resumes.len() * wanted.exits.len() * 2
    }

    /// Everything that a node can do for what meets before it: more and more exits, and after each what it has done so far. The
    /// last leg is done where it can try them all.
    pub fn legs(&self, node: usize, from: Meeting, wanted: &Wanted) -> Vec<Leg> {
        let space = self.space;
        let resume = from.resume.map(|resume| &space.resumes[resume]);
        let begin = resume.map_or(EMPTY, Resume::cut);
        // Every sample comes to the first node; what those cost that come to a later one stands with their reading.
        let arrivals = if node == 0 { space.scenario.samples() as f64 } else { 0.0 };
        let time = arrivals * space.scenario.nodes[node].task_us.0;
        let mut legs = Vec::new();
        let mut leg = Leg { node, from, begin, at: begin, time, heads: Heads::default(), done: false };
        for tried in from.tried..wanted.exits.len() {
            let exit = wanted.exits[tried];
            let next = resume.map_or(space.needs[exit], |resume| resume.with[exit + 1]);
            let (at, time, heads) = (leg.at, leg.time, leg.heads);
            legs.push(leg);
            let can_try = resume.is_none_or(|resume| resume.can_try[exit]);
            if !can_try || !self.answers(exit, from, wanted) || !space.may_run(node, at, next) {
                return legs;
            }
            let step = space.run_time(node, at, next) + space.scenario.nodes[node].exits_us[exit].0;
            leg = Leg {
                node,
                from: Meeting { tried: tried + 1, ..from },
                begin,
                at: next,
                time: time + wanted.reach[tried] * step,
                heads: heads.with(exit),
                done: tried + 1 == wanted.exits.len(),
            };
        }
        legs.push(leg);
        legs
    }

    /// Whether it is known what an exit answers here: before the lossy path if it lies before, else behind it.
    fn answers(&self, exit: usize, at: Meeting, wanted: &Wanted) -> bool {
        let Some(lossy) = wanted.lossy else { return true };
        let behind = exit >= lossy.edge_from;
        let path = &self.space.paths[lossy.path];
        behind == at.crossed && (!behind || path.outcomes(self.space.scenario, exit).is_some())
    }

    /// What a leg can send.
    pub fn crossings(&mut self, leg: &Leg, wanted: &Wanted) -> Vec<Crossing> {
        let space = self.space;
        let (tried, crossed) = (leg.from.tried, leg.from.crossed);
        let before = tried.checked_sub(1).map_or(0, |last| wanted.exits[last] + 1);
        let lossy = wanted.lossy.filter(|lossy| !crossed && before == lossy.edge_from);
        // Where it has tried none, the cut that it sends is all that it runs.
        let ran = if leg.at == leg.begin { 0 } else { before };
        let onward = Rc::clone(&self.onward);
        let mut crossings = Vec::new();
        for to in onward.from(leg.from.resume) {
            let resume = &space.resumes[to];
            let cut = resume.with[ran];
            if !wanted.exits[tried..].iter().all(|&exit| resume.can_try[exit])
                || !space.may_run(leg.node, leg.at, cut)
            {
                continue;
            }
            let time = leg.time + wanted.reach[tried] * space.run_time(leg.node, leg.at, cut);
            let room = self.memory.room(leg.node, [leg.begin, cut], Some(resume.cut()), leg.heads);
            let meeting = |crossed| Meeting { resume: Some(to), tried, crossed };
            let exact = self.exact[to].iter().map(|&path| (path, crossed));
            let lossy = lossy.filter(|lossy| space.paths[lossy.path].resume == to);
            let paths = exact.chain(lossy.map(|lossy| (lossy.path, true)));
            let given = paths.filter(|&(path, _)| self.is_given(leg.node, path));
            let crossing = |(path, crossed)| Crossing { path, to: meeting(crossed), time, room };
            crossings.extend(given.map(crossing));
        }
        crossings
    }

    /// The messages that cross a path behind a node, as this many samples do.
    pub fn messages(&self, node: usize, path: usize, reach: f64) -> impl Iterator<Item = Message> + '_ {
        let (space, link) = (self.space, &self.space.scenario.links[node]);
        let next = &space.scenario.nodes[node + 1];
        let rows = self.rows[node][path].iter().filter(move |&&row| self.is_wanted(node, Some(row)));
        rows.map(move |&row| {
            let costs = &space.scenario.encodings[row];
            Message {
                row,
                bytes: costs.bytes,
                encode: reach * costs.encode_us[node].0,
                link: reach * space.link_time(node, costs),
                travel: reach * (space.lone_time(node, costs) + link.transit().0 + space.pause(node + 1)),
                reading: reach * (costs.decode_us[node + 1] + next.task_us).0,
            }
        })
    }

    /// Bytes that a node has left for messages when it is done.
    pub fn room_at_end(&mut self, leg: &Leg) -> f64 {
        self.memory.room(leg.node, [leg.begin, leg.at], None, leg.heads)
    }

    /// Whether so much room holds messages of so many bytes.
    pub fn holds(&self, room: f64, bytes: f64) -> bool {
        self.memory.holds(room, bytes)
    }

    /// Whether what crosses in `row` behind `node`, or ends there, lies in the part that is walked.
    pub fn is_wanted(&self, node: usize, row: Option<usize>) -> bool {
        let Some(part) = &self.part else { return true };
        match node.cmp(&part.same.len()) {
            std::cmp::Ordering::Less => part.same[node] == row,
            std::cmp::Ordering::Equal => part.but_not != row,
            std::cmp::Ordering::Greater => true,
        }
    }

    /// Whether a path may be crossed behind `node`: where crossings are given, it must be theirs.
    fn is_given(&self, node: usize, path: usize) -> bool {
        let given = self.part.as_ref().and_then(|part| part.same.get(node));
        given.is_none_or(|row| row.is_some_and(|row| self.space.paths[path].rows.contains(&row)))
    }

    /// What a node's stage takes in a full pipeline: longer, where a task crosses anything.
    pub fn busy(&self, node: usize, stage: f64, crosses: bool) -> f64 {
        if crosses { self.space.busy(node, stage) } else { stage }
    }
}
