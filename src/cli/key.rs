//! `coprof key`: a new key.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use serde::Serialize;

use super::output::Output;
use crate::study::keys;
use coprof_core::error::Result;

pub const EXAMPLE: &str = "Examples:
  coprof key --output coprof.key                     # a file that only you can read
  coprof key board7 --output board7.key              # a key that the edge's log calls board7
  (umask 077; coprof key > coprof.key)               # the same by hand: others must not read it
Copy the file to both machines, with scp say, and give it to both sides with --key FILE or COPROF_KEY_FILE.
An edge takes several: put their lines into one file there.";

#[derive(ClapArgs)]
pub struct Args {
    /// What the edge's log calls whoever has the key
    name: Option<String>,
    /// Write it to a new file that only you can read, instead of to stdout
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    /// The line of a key file, unless it was written to one.
    line: Option<&'a str>,
    file: Option<&'a PathBuf>,
}

pub fn run(args: &Args, output: Output) -> Result<()> {
    let line = keys::new_line(args.name.as_deref())?;
    if let Some(path) = &args.output {
        keys::write(path, &line)?;
    }
    let file = args.output.as_ref();
    let document = Document { schema: "coprof.key/1", line: file.is_none().then_some(&line), file };
    output.result(&document, || file.map_or_else(|| line.clone(), |path| format!("wrote {}", path.display())))
}
