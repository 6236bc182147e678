//! How often a guaranteed accuracy floor is kept, and what it costs. Not a timing: a seeded experiment that prints a page.
//!
//!     cargo bench --bench guarantee -- SCENARIO… > docs/guarantee.md
//!
//! The samples of a scenario that `coprof optimize` saved stand for all images that there are. From them as many are drawn again
//! and again, with replacement; each draw is planned with and without a confidence, and what each plan's accuracy is in truth is
//! its accuracy on all of them.

use std::error::Error;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use coprof_core::plan::{Plan, Problem, certify, predict, search};
use coprof_core::units::Share;
use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};

const DRAWS: usize = 1000;
/// How far the floors lie below the accuracy of the uncut model; the first is that where nothing is asked.
const FLOORS: [f64; 2] = [0.01, 0.03];
const CONFIDENCES: [f64; 2] = [0.9, 0.95];

/// What became of a plan: whether it keeps the floor in truth, and its rate over that of the best plan that does.
#[derive(Clone, Copy)]
struct Fate {
    keeps: bool,
    rate: f64,
}

/// A draw: the fate of the plan without a confidence, then with each of them; `None` where no plan was certain enough.
type Draw = Vec<Option<Fate>>;

fn main() -> Result<(), Box<dyn Error>> {
    let files: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    if files.is_empty() {
        return Err("name scenario files that `coprof optimize` saved under reports/".into());
    }
    println!("{PAGE}");
    for file in &files {
        let all = Problem::from_json(&std::fs::read_to_string(file)?)?;
        for (images, all) in [("lossy encodings, too", lossy(&all)?), ("exact encodings", exact(&all)?)] {
            for below in FLOORS {
                let floor = Share(all.uncut_accuracy().0 - below);
                let best = search(&asked(&all, floor, None)?)?.best.prediction.rate_per_s;
                let draws = draws(&all, floor, best);
                for (column, confidence) in [None].into_iter().chain(CONFIDENCES.map(Some)).enumerate() {
                    let fates: Vec<Option<Fate>> = draws.iter().map(|draw| draw[column]).collect();
                    let what = format!("`{}`, {images}, {} images", all.model.name, all.samples());
                    println!("| {what}, floor {floor} {}", row(confidence, &fates));
                }
            }
        }
    }
    Ok(())
}

/// What is known of the same images in all respects.
fn lossy(scenario: &Problem) -> coprof_core::error::Result<Problem> {
    scenario.with(|file| {
        file.constraints = Default::default();
        file.uncut_outcomes.clear();
    })
}

/// What is known of more images, where what crosses changes no answer.
fn exact(scenario: &Problem) -> coprof_core::error::Result<Problem> {
    scenario.with(|file| {
        file.constraints = Default::default();
        if !file.uncut_outcomes.is_empty() {
            file.outcomes = std::mem::take(&mut file.uncut_outcomes);
        }
        file.lossy_outcomes.clear();
        file.encodings.retain(|row| row.encoding.is_lossless());
    })
}

fn asked(scenario: &Problem, floor: Share, confidence: Option<f64>) -> coprof_core::error::Result<Problem> {
    scenario.with(|file| {
        file.constraints.min_accuracy = Some(floor);
        file.constraints.confidence = confidence.map(Share);
    })
}

fn draws(all: &Problem, floor: Share, best: f64) -> Vec<Draw> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(DRAWS)));
    let work = || loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= DRAWS {
            return;
        }
        let draw = drawn(all, floor, best, number as u64).expect("a scenario of samples of a scenario");
        done.lock().expect("no thread panicked").push(draw);
        eprint!("\r{} {} of {DRAWS}", all.model.name, number + 1);
    };
    std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        (0..cores).for_each(|_| drop(scope.spawn(work)));
    });
    eprintln!();
    done.into_inner().expect("no thread panicked")
}

fn drawn(all: &Problem, floor: Share, best: f64, seed: u64) -> coprof_core::error::Result<Draw> {
    let mut random = Pcg64::seed_from_u64(seed);
    let count = all.samples();
    let samples: Vec<usize> = (0..count).map(|_| (random.next_u64() % count as u64) as usize).collect();
    let draw = all.with(|file| {
        let lossy = file.lossy_outcomes.iter_mut().flat_map(|row| row.exits.iter_mut().flatten());
        file.outcomes.iter_mut().chain(lossy).for_each(|known| *known = known.only(&samples));
    })?;
    let fate = |plan: Plan| {
        let truth = predict(all, &plan)?;
        Ok::<_, coprof_core::error::Error>(Fate {
            keeps: truth.accuracy >= floor,
            rate: truth.rate_per_s / best,
        })
    };
    // Where luck has it that no plan reaches the floor, none is given out.
    let plain = search(&asked(&draw, floor, None)?).ok().map(|found| fate(found.best.plan)).transpose()?;
    let certain = |confidence| {
        let certified = certify(&asked(&draw, floor, Some(confidence))?).ok().flatten();
        certified.map(|certified| fate(certified[0].predicted.plan.clone())).transpose()
    };
    [Ok(plain)].into_iter().chain(CONFIDENCES.map(certain)).collect()
}

fn row(confidence: Option<f64>, fates: &[Option<Fate>]) -> String {
    let count = fates.len() as f64;
    let kept = fates.iter().filter(|fate| fate.is_none_or(|fate| fate.keeps)).count();
    let none = fates.iter().filter(|fate| fate.is_none()).count();
    let mut rates: Vec<f64> = fates.iter().flatten().map(|fate| fate.rate).collect();
    rates.sort_by(f64::total_cmp);
    let median = rates.get(rates.len() / 2).map_or("–".into(), |rate| format!("{rate:.2}"));
    let asked = confidence.map_or("none".into(), |confidence| format!("{:.0} %", 100.0 * confidence));
    let [kept, none] = [kept, none].map(|fates| format!("{:.1} %", 100.0 * fates as f64 / count));
    format!("| {asked} | {kept} | {none} | {median} |")
}

const PAGE: &str = "\
# How often a guaranteed accuracy is kept

Made by `cargo bench --bench guarantee -- SCENARIO > docs/guarantee.md`, with the scenario that `coprof optimize --slowdown 8
--link-rate 10mbit --link-delay 5ms` saved under `reports/`. Its images stand for all that there are. A thousand times as many
are drawn from them, with replacement, and planned for under a floor of one and of three points below the uncut model: without
`--confidence`, and with it. Half of the images that are drawn certify: of lossy encodings less is known, so that floors close to
the uncut model are seldom certain.

*Kept*: the plan's accuracy on all images is not below the floor, or no plan was given out. *Rate*: the median of the plans' rates
over that of the plan that one would choose who knew all images.

| what is planned | confidence | kept | no plan | rate |
| --- | ---: | ---: | ---: | ---: |";
