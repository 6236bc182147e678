//! The command line: flags in, studies called, results out.

mod args;
mod bars;
mod demo;
mod encodings;
mod exits;
mod fetch;
mod key;
mod layers;
mod link;
mod models;
mod optimize;
mod output;
mod remedies;
mod replay;
mod serve;
mod stop;

use clap::{Parser, Subcommand};

use coprof_core::error::{Error, Kind, Result};
use output::Output;

/// Splits a deep neural network between a device and an edge server: measures layers, link and exits, finds the best
/// pipeline, runs it, and shows how far the prediction was from what happened.
#[derive(Parser)]
#[command(name = "coprof", version, max_term_width = 100, propagate_version = true)]
#[command(after_help = "Try `coprof demo` first: all of it on this machine, in under two minutes.")]
pub struct Cli {
    /// Print one JSON document instead of tables
    #[arg(long, global = true)]
    json: bool,
    /// Print no messages and no progress
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Print more messages
    #[arg(short, long, global = true)]
    verbose: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// All of it on one machine: an emulated slow device and link, this host as the edge
    #[command(after_help = demo::EXAMPLE)]
    Demo(demo::Args),
    /// The bundled models; any model as a drawing with its cuts
    #[command(after_help = models::EXAMPLE)]
    Models(models::Args),
    /// Latency, output size and speed of every layer
    #[command(after_help = layers::EXAMPLE)]
    Layers(layers::Args),
    /// Bandwidth both ways, round trips idle and loaded, time against size
    #[command(after_help = link::EXAMPLE)]
    Link(link::Args),
    /// Early-exit thresholds against CIFAR-10 accuracy
    #[command(after_help = exits::EXAMPLE)]
    Exits(exits::Args),
    /// Size and accuracy of every encoding at every cut, on CIFAR-10
    #[command(after_help = encodings::EXAMPLE)]
    Encodings(encodings::Args),
    /// The best plan, why, the baselines and the Pareto front
    #[command(after_help = optimize::EXAMPLE)]
    Optimize(optimize::Args),
    /// Run the plan over TCP; predicted beside measured
    #[command(after_help = replay::EXAMPLE)]
    Replay(replay::Args),
    /// The edge that the other commands connect to
    #[command(after_help = serve::EXAMPLE)]
    Serve(serve::Args),
    /// A new key for an edge and those who may use it
    #[command(after_help = key::EXAMPLE)]
    Key(key::Args),
    /// Download data
    #[command(after_help = fetch::EXAMPLE)]
    Fetch(fetch::Args),
}

/// What is still to be told of a failure: nothing where that of a signal was told already.
pub fn untold(error: &Error) -> Option<String> {
    let is_untold = error.kind() != Kind::Interrupted || stop::is_untold();
    is_untold.then(|| remedies::told(error))
}

/// Runs the command that was asked for.
pub fn run(cli: Cli) -> Result<()> {
    let output = Output::new(cli.json, cli.quiet, cli.verbose);
    stop::listen()?;
    let done = run_command(cli.command, output);
    // Whatever came of it after a signal, the signal is what counts.
    stop::check().and(done)
}

fn run_command(command: Command, output: Output) -> Result<()> {
    match command {
        Command::Demo(args) => demo::run(&args, output),
        Command::Models(args) => models::run(&args, output),
        Command::Layers(args) => layers::run(&args, output),
        Command::Link(args) => link::run(&args, output),
        Command::Exits(args) => exits::run(&args, output),
        Command::Encodings(args) => encodings::run(&args, output),
        Command::Optimize(args) => optimize::run(&args, output),
        Command::Replay(args) => replay::run(&args, output),
        Command::Serve(args) => serve::run(&args, output),
        Command::Key(args) => key::run(&args, output),
        Command::Fetch(args) => fetch::run(&args, output),
    }
}
