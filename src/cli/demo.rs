//! `coprof demo`: all of it on one machine.

use std::time::Duration;

use clap::Args as ClapArgs;

use super::args::{EmulationArgs, FrameArgs, ModelArgs, RuntimeArgs};
use super::output::Output;
use crate::report::{ReplayDocument, exits_view, layers_view, link_view, optimize_view, replay_view};
use crate::study::demo::{self, Options, Step};
use coprof_core::error::Result;
use coprof_core::units::BitRate;

pub const EXAMPLE: &str = "Examples:
  coprof demo                                     # an 8 times slower device on a 2 Mbit/s, 5 ms link
  coprof demo --slowdown 4 --link-rate 20mbit     # another board, another link";

/// A device so much slower than this host …
const SLOWDOWN: f64 = 8.0;
/// … on a link like those that Edgent (MECOMM 2018) measured: 0.05 to 1.5 Mbit/s …
const LINK_RATE: BitRate = BitRate(2e6);
/// … with this delay.
const LINK_DELAY: Duration = Duration::from_millis(5);

#[derive(ClapArgs)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    emulation: EmulationArgs,
    #[command(flatten)]
    runtime: RuntimeArgs,
    #[command(flatten)]
    data: FrameArgs,
}

impl Args {
    /// As studies take them; the demo emulates what no flag says otherwise.
    fn options(&self) -> Options {
        let emulation = EmulationArgs {
            slowdown: self.emulation.slowdown.or(Some(SLOWDOWN)),
            link_rate: self.emulation.link_rate.or(Some(LINK_RATE)),
            link_delay: self.emulation.link_delay.or(Some(LINK_DELAY)),
        };
        Options {
            model: self.model.options(),
            emulation: emulation.emulation(),
            node: self.runtime.options(),
            data: self.data.data.clone(),
        }
    }
}

pub fn run(args: &Args, output: Output) -> Result<()> {
    let options = args.options();
    let emulated = options.emulation.describe().unwrap_or_default();
    let mut show = |step: Step<'_>| {
        if output.is_json() { Ok(()) } else { output.text(&shown(step, &emulated)) }
    };
    let (document, path) = demo::run(&options, &mut show, &output.context())?;
    output.result(&document, || {
        let replays: Vec<&ReplayDocument> = document.replays.iter().collect();
        format!(
            "\n── replay: what was predicted, and what happened ──\n{}\n{emulated}",
            replay_view(&replays)
        )
    })?;
    output.say(format!("saved {}", path.display()));
    Ok(())
}

/// What a step found, under its title.
fn shown(step: Step<'_>, emulated: &str) -> String {
    let (title, view) = match step {
        Step::Layers(found) => ("layers, on this host".into(), layers_view(found)),
        Step::Link(found) => {
            let emulated = found.envelope.emulated.and_then(|emulation| emulation.describe());
            (format!("link, {}", emulated.unwrap_or_default()), link_view(found))
        }
        Step::Exits(found) => ("exits, from the committed record of CIFAR-10".into(), exits_view(found)),
        Step::Optimize(found) => (format!("optimize, {emulated}"), optimize_view(found)),
    };
    format!("\n── {title} ──\n{view}")
}
