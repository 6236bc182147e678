//! The same simulation, step by step with an event queue, for the tests to compare with: slow, and without any of the
//! arguments that [`flow`](super::flow) rests on. Delays take place where they belong, between the stages.

use std::collections::{BTreeMap, VecDeque};

use super::flow::Passage;

/// One task: its service times, and the delay of its reply.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub service: Vec<f64>,
    pub reply: f64,
}

/// Who decides when the next task comes.
#[derive(Clone, Debug)]
pub(super) enum Arrivals {
    /// At these times.
    At(Vec<f64>),
    /// Fewer than so many unanswered, and the first stage free.
    Closed(usize),
}

/// What happened: the passages, and per stage the means over time.
#[derive(Debug)]
pub(super) struct Happened {
    pub passages: Vec<Passage>,
    pub mean_waiting: Vec<f64>,
    pub max_waiting: Vec<usize>,
    pub utilisation: Vec<f64>,
}

/// At one time, ends and answers come before arrivals, and else what was scheduled first comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Ended(usize),
    Answered,
    Arrived(usize, usize),
}

#[derive(Clone, Default)]
struct Server {
    queue: VecDeque<usize>,
    serving: Option<usize>,
    /// Shift of this stage's clock: the delays before it.
    behind: f64,
    waiting_time: f64,
    working_time: f64,
    /// When a task joined the queue, and how long that made it.
    joined: Vec<(f64, usize)>,
}

struct Simulation<'a> {
    jobs: &'a [Job],
    hops: &'a [f64],
    warm_up: usize,
    /// Time as an integer of microseconds / 1024, so that events order exactly; then a running number.
    events: BTreeMap<(u64, u8, u64), Event>,
    scheduled: u64,
    servers: Vec<Server>,
    passages: Vec<Passage>,
    now: f64,
    from: f64,
    to: f64,
}

/// Runs `jobs`, of which the first `warm_up` are not measured; `hops[k]` is the delay before stage `k`. All times must be
/// multiples of 1/1024.
pub(super) fn simulate(jobs: &[Job], hops: &[f64], arrivals: &Arrivals, warm_up: usize) -> Happened {
    let mut behind = 0.0;
    let server = |hop: &f64| {
        behind += hop;
        Server { behind, ..Server::default() }
    };
    let mut simulation = Simulation {
        jobs,
        hops,
        warm_up,
        events: BTreeMap::new(),
        scheduled: 0,
        servers: hops.iter().map(server).collect(),
        passages: vec![Passage { arrived: f64::NAN, finished: f64::NAN }; jobs.len()],
        now: 0.0,
        from: f64::INFINITY,
        to: f64::INFINITY,
    };
    match arrivals {
        Arrivals::At(times) => {
            for (task, &time) in times.iter().enumerate() {
                simulation.schedule(time, Event::Arrived(0, task));
            }
            while simulation.step().is_some() {}
        }
        Arrivals::Closed(in_flight) => simulation.run_closed(*in_flight),
    }
    simulation.happened()
}

impl Simulation<'_> {
    fn schedule(&mut self, at: f64, event: Event) {
        let ticks = at * 1024.0;
        assert_eq!(ticks, ticks.trunc(), "times must be multiples of 1/1024");
        self.scheduled += 1;
        let order = u8::from(matches!(event, Event::Arrived(..)));
        self.events.insert((ticks as u64, order, self.scheduled), event);
    }

    fn run_closed(&mut self, in_flight: usize) {
        let (mut started, mut unanswered) = (0, 0);
        loop {
            while started < self.jobs.len() && unanswered < in_flight && self.servers[0].serving.is_none() {
                self.arrive(0, started);
                started += 1;
                unanswered += 1;
            }
            match self.step() {
                Some(Event::Answered) => unanswered -= 1,
                Some(_) => {}
                None => break,
            }
        }
    }

    /// Handles the next event.
    fn step(&mut self) -> Option<Event> {
        let ((ticks, ..), event) = self.events.pop_first()?;
        self.advance(ticks as f64 / 1024.0);
        match event {
            Event::Ended(stage) => self.end(stage),
            Event::Arrived(stage, task) => self.arrive(stage, task),
            Event::Answered => {}
        }
        Some(event)
    }

    /// Lets time pass, and adds up who waits and works meanwhile, within the window on each stage's own clock.
    fn advance(&mut self, to: f64) {
        for server in &mut self.servers {
            let (from, until) = (self.now.max(self.from + server.behind), to.min(self.to + server.behind));
            let passed = (until - from).max(0.0);
            server.waiting_time += passed * server.queue.len() as f64;
            server.working_time += if server.serving.is_some() { passed } else { 0.0 };
        }
        self.now = to;
    }

    fn arrive(&mut self, stage: usize, task: usize) {
        if stage == 0 {
            self.passages[task].arrived = self.now;
            if task == self.warm_up {
                self.from = self.now;
            }
            if task + 1 == self.jobs.len() {
                self.to = self.now;
            }
        }
        let server = &mut self.servers[stage];
        if server.serving.is_some() {
            server.queue.push_back(task);
            server.joined.push((self.now - server.behind, server.queue.len()));
        } else {
            self.serve(stage, task);
        }
    }

    fn serve(&mut self, stage: usize, task: usize) {
        self.servers[stage].serving = Some(task);
        self.schedule(self.now + self.jobs[task].service[stage], Event::Ended(stage));
    }

    fn end(&mut self, stage: usize) {
        let task = self.servers[stage].serving.take().unwrap();
        if stage + 1 < self.jobs[task].service.len() {
            self.schedule(self.now + self.hops[stage + 1], Event::Arrived(stage + 1, task));
        } else {
            let finished = self.now + self.jobs[task].reply;
            self.passages[task].finished = finished;
            self.schedule(finished, Event::Answered);
        }
        if let Some(next) = self.servers[stage].queue.pop_front() {
            self.serve(stage, next);
        }
    }

    fn happened(self) -> Happened {
        let length = self.to - self.from;
        let mean = |time: f64| if length > 0.0 { time / length } else { 0.0 };
        let window = self.from..=self.to;
        let longest = |server: &Server| {
            let within = server.joined.iter().filter(|(at, _)| window.contains(at));
            within.map(|&(_, length)| length).max().unwrap_or(0)
        };
        Happened {
            mean_waiting: self.servers.iter().map(|server| mean(server.waiting_time)).collect(),
            max_waiting: self.servers.iter().map(longest).collect(),
            utilisation: self.servers.iter().map(|server| mean(server.working_time)).collect(),
            passages: self.passages,
        }
    }
}

/// For each task, when it and all before it were answered.
pub(super) fn completions(passages: &[Passage]) -> Vec<f64> {
    let mut complete = 0.0_f64;
    let known = |passage: &Passage| {
        complete = complete.max(passage.finished);
        complete
    };
    passages.iter().map(known).collect()
}

/// Sorted latencies.
pub(super) fn latencies(passages: &[Passage]) -> Vec<f64> {
    let mut sorted: Vec<f64> = passages.iter().map(Passage::latency).collect();
    sorted.sort_by(f64::total_cmp);
    sorted
}
