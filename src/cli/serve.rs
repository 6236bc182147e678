//! `coprof serve`: the edge.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use clap::Args as ClapArgs;
use serde::Serialize;

use super::args::{self, KeyArgs, RuntimeArgs};
use super::output::Output;
use super::stop;
use crate::study::{EdgeServices, LocalNode, PORT, keys};
use coprof_core::error::{Error, Result};
use coprof_run::pipeline::{Deadlines, ServeOptions, Server};

pub const EXAMPLE: &str = "Examples:
  coprof serve                                       # for this machine only
  coprof serve --listen 0.0.0.0 --key coprof.key     # for all who have a key of this file, encrypted
  coprof serve --listen 0.0.0.0 --insecure           # for everyone who reaches port 7411, in clear text
One peer measures at a time, others wait for their turn.
Each model runs on one thread, pinned to the last core; --threads and --device change that.";

#[derive(ClapArgs)]
pub struct Args {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = listen_address, default_value = "127.0.0.1")]
    listen: SocketAddr,
    #[command(flatten)]
    key: KeyArgs,
    /// Take connections from other machines, unencrypted and without a key
    #[arg(long, conflicts_with = "file")]
    insecure: bool,
    /// How long sessions under way may go on after SIGINT or SIGTERM; a second signal ends them at once
    #[arg(long, value_name = "SPAN", value_parser = drain, default_value = "30s")]
    drain: Duration,
    #[command(flatten)]
    runtime: RuntimeArgs,
}

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    listening: SocketAddr,
}

fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let bare = |ip: IpAddr| SocketAddr::new(ip, PORT);
    let wrong = || format!("an address such as 127.0.0.1 or 0.0.0.0:{PORT} was expected, found '{text}'");
    if text == "localhost" {
        return Ok(bare(Ipv4Addr::LOCALHOST.into()));
    }
    text.parse().or_else(|_| text.parse().map(bare)).map_err(|_| wrong())
}

fn drain(text: &str) -> Result<Duration, String> {
    args::span(text).and_then(|span| {
        let is_sane = span <= Duration::from_secs(24 * 60 * 60);
        if is_sane { Ok(span) } else { Err("a time of at most 24h was expected".into()) }
    })
}

pub fn run(args: &Args, output: Output) -> Result<()> {
    let keys = args.key.file.as_deref().map(keys::read_ring).transpose()?;
    let node = LocalNode::as_edge(&args.runtime.options())?;
    let options = ServeOptions {
        listen: args.listen,
        keys,
        insecure: args.insecure,
        deadlines: Deadlines::default(),
        drain: args.drain,
        on_event: Arc::new(move |event| output.detail(event)),
    };
    let server = Server::bind(&options, Arc::new(EdgeServices::new(node)))?;
    let document = Document { schema: "coprof.serve/1", listening: server.addr() };
    output.result(&document, || format!("listening on {}", server.addr()))?;
    stop::allow(args.drain);
    server.run(&stop::flag(), &mut |sessions| {
        let longest = humantime::format_duration(args.drain);
        output.say(format!("waiting up to {longest} for the end of sessions under way: {sessions}"));
    });
    if stop::asked() { Err(Error::interrupted()) } else { Ok(()) }
}
