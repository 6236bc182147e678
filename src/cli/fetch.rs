//! `coprof fetch`: data that the repository does not carry.

use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueEnum};
use serde::Serialize;

use super::output::Output;
use super::stop;
use coprof_core::error::Result;
use coprof_run::data::fetch_cifar10;

pub const EXAMPLE: &str = "Example:\n  coprof fetch cifar10      # 170 MB into datasets/, checked";

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DataSet {
    /// 60,000 pictures of 32×32 in ten classes (Krizhevsky 2009), official binary archive
    Cifar10,
}

#[derive(ClapArgs)]
pub struct Args {
    /// What to download
    dataset: DataSet,
    /// The folder to put it in
    #[arg(long, value_name = "DIR", default_value = "datasets")]
    to: PathBuf,
}

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    path: PathBuf,
    already_there: bool,
}

pub fn run(args: &Args, output: Output) -> Result<()> {
    let DataSet::Cifar10 = args.dataset;
    let bar = output.context().progress("CIFAR-10");
    let mut progress = |done: u64, total: u64| bar.set(done as f64 / total.max(1) as f64);
    let fetched = fetch_cifar10(&args.to, &mut progress, &stop::asked)?;
    drop(bar);
    let document =
        Document { schema: "coprof.fetch/1", path: fetched.path, already_there: fetched.already_there };
    output.result(&document, || {
        let state = if document.already_there { "was there already" } else { "downloaded" };
        format!("{} ({state}, checksum right)", document.path.display())
    })
}
