//! Groups of flags that several commands share.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::report::Emulation;
use crate::runtime::TorchDevice;
use crate::study::{
    Agreements, Context, EdgeOptions, InputShape, LocalNode, Model, ModelOptions, NodeOptions, OutputChoice,
};
use coprof_core::error::Result;
use coprof_core::plan::Policy;
use coprof_core::units::{BitRate, Micros};

/// Which model.
#[derive(Args, Clone, Debug)]
pub struct ModelArgs {
    /// A bundled model (`coprof models` lists them) or an ONNX file
    #[arg(long, value_name = "NAME|FILE.onnx", default_value = "alexnet")]
    model: String,
    #[command(flatten)]
    reading: ReadingArgs,
}

impl ModelArgs {
    /// As studies take it.
    pub fn options(&self) -> ModelOptions {
        self.reading.of(&self.model)
    }
}

/// How a model's file is read.
#[derive(Args, Clone, Debug)]
pub struct ReadingArgs {
    /// The shape of the model's input, batch of 1 included, where its file leaves sides open: 1x3x224x224; of several inputs once
    /// for each, by name
    #[arg(long, value_name = "[NAME:]SHAPE")]
    input_shape: Vec<InputShape>,
    /// Which outputs of the file are its exits, the final one last [default: all, where each lies deeper than the one before it
    /// and tells the same classes apart; else none]
    #[arg(long, value_name = "NAME,…,FINAL", value_delimiter = ',', conflicts_with = "outputs")]
    exits: Vec<String>,
    /// Which outputs of the file are its results, which come together at the end [default: all, unless they are exits]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    outputs: Vec<String>,
    /// When two answers count as the same: class, decision (each number on the same side of 0.5), cosine:LEAST or rel:MOST
    /// (‖difference‖ / ‖expected‖), for all outputs or some by name, as age=rel:0.1 [default: by the kind of each output]
    #[arg(long, value_name = "[NAME=]HOW,…")]
    agree: Option<Agreements>,
}

impl ReadingArgs {
    /// Of this model, as studies take it.
    pub fn of(&self, model: &str) -> ModelOptions {
        ModelOptions {
            name: model.to_owned(),
            input_shapes: self.input_shape.clone(),
            outputs: OutputChoice {
                exits: self.exits.clone(),
                results: self.outputs.clone(),
                agreements: self.agree.clone(),
            },
        }
    }
}

/// How layers run here.
#[derive(Args, Clone, Debug)]
pub struct RuntimeArgs {
    /// Threads per layer, at most as many as there are cores; 1 also pins the thread
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: u16,
    /// The core to pin to [default: the first for the device, the last for the edge]
    #[arg(long, value_name = "N")]
    pub core: Option<usize>,
    /// cpu or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: TorchDevice,
}

impl RuntimeArgs {
    /// As studies take them.
    pub fn options(&self) -> NodeOptions {
        NodeOptions { threads: self.threads, core: self.core, device: self.device }
    }
}

/// A model on this machine.
#[derive(Args, Clone, Debug)]
pub struct LocalArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    runtime: RuntimeArgs,
}

impl LocalArgs {
    /// Both, as studies take them.
    pub fn open(&self, context: &Context) -> Result<(Model, LocalNode)> {
        Ok((Model::open(&self.model.options(), context)?, LocalNode::as_device(&self.runtime.options())?))
    }
}

/// What a replay sends.
#[derive(Args, Clone, Debug)]
pub struct FrameArgs {
    /// CIFAR-10 (its binary folder or archive), or inputs without labels: a folder of PNG or JPEG pictures, or an .npy array
    /// as the model takes it (.npz, by name, for several inputs) [default: CIFAR-10 in $COPROF_DATA or datasets/, else made-up frames]
    #[arg(long, value_name = "DIR|FILE")]
    pub data: Option<PathBuf>,
}

/// A model on this machine, and the images that its records are made on.
#[derive(Args, Clone, Debug)]
pub struct RecordArgs {
    #[command(flatten)]
    pub local: LocalArgs,
    /// CIFAR-10: its binary folder or archive [default: $COPROF_DATA, else datasets/]
    #[arg(long, value_name = "DIR|FILE")]
    pub data: Option<PathBuf>,
}

/// What to emulate.
#[derive(Args, Clone, Debug)]
pub struct EmulationArgs {
    /// Emulate a device K times slower than this host
    #[arg(long, value_name = "K", value_parser = slowdown)]
    pub slowdown: Option<f64>,
    /// Emulate a link of this rate, both ways: 20mbit, 500kbit, 1gbit
    #[arg(long, value_name = "RATE", value_parser = bit_rate)]
    pub link_rate: Option<BitRate>,
    /// Emulate a link with this one-way delay: 5ms
    #[arg(long, value_name = "DELAY", value_parser = delay)]
    pub link_delay: Option<Duration>,
}

impl EmulationArgs {
    /// As it stands in documents.
    pub fn emulation(&self) -> Emulation {
        Emulation {
            slowdown: self.slowdown.unwrap_or(1.0),
            link_bits_per_second: self.link_rate,
            link_delay_us: self.link_delay.map(Micros::from),
        }
    }
}

/// What both sides must have.
#[derive(Args, Clone, Debug)]
pub struct KeyArgs {
    /// The file of the key that this machine and the edge share, on an edge of one or more; `coprof key` makes it
    #[arg(long = "key", value_name = "FILE", env = "COPROF_KEY_FILE", hide_env_values = true)]
    pub file: Option<PathBuf>,
}

/// Which edge, and how it is reached.
#[derive(Args, Clone, Debug)]
pub struct EdgeArgs {
    /// A host that runs `coprof serve` [default: an edge in this process, on loopback; port 7411]
    #[arg(long, value_name = "HOST[:PORT]")]
    peer: Option<String>,
    #[command(flatten)]
    key: KeyArgs,
    /// Wait so long for a session where others have all of the peer's, as 10m [default: end with exit code 3]
    #[arg(long, value_name = "SPAN", value_parser = span, requires = "peer")]
    wait: Option<Duration>,
}

impl EdgeArgs {
    /// As studies take them.
    pub fn options(&self) -> EdgeOptions {
        EdgeOptions {
            peer: self.peer.clone(),
            key: self.key.file.clone(),
            wait: self.wait.unwrap_or_default(),
        }
    }
}

/// Both nodes and the link between them.
#[derive(Args, Clone, Debug)]
pub struct NodesArgs {
    #[command(flatten)]
    pub edge: EdgeArgs,
    #[command(flatten)]
    pub emulation: EmulationArgs,
    #[command(flatten)]
    pub runtime: RuntimeArgs,
}

/// A baseline by name; the help lists them all.
pub fn policy() -> impl TypedValueParser<Value = Policy> {
    PossibleValuesParser::new(Policy::ALL.map(Policy::name)).try_map(|name| name.parse::<Policy>())
}

fn slowdown(text: &str) -> Result<f64, String> {
    let factor: f64 =
        text.trim_end_matches('x').parse().map_err(|_| "a factor such as 8 was expected".to_string())?;
    if (1.0..=1000.0).contains(&factor) {
        Ok(factor)
    } else {
        Err("a factor of 1 to 1000 was expected".into())
    }
}

/// `20mbit`, `2.5Mbit/s`, `500kbit`, `1gbit`: decimal multiples, as `tc` and iperf3 have them.
pub fn bit_rate(text: &str) -> Result<BitRate, String> {
    let wrong = || format!("a rate such as 20mbit, 500kbit or 1gbit was expected, found '{text}'");
    let lower = text.to_ascii_lowercase();
    let lower = lower.trim_end_matches("/s").trim_end_matches("ps");
    let digits = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let factor = match unit.trim() {
        "bit" => 1.0,
        "k" | "kb" | "kbit" => 1e3,
        "m" | "mb" | "mbit" => 1e6,
        "g" | "gb" | "gbit" => 1e9,
        _ => return Err(wrong()),
    };
    let rate = number.parse::<f64>().map_err(|_| wrong())? * factor;
    if (1e3..=1e12).contains(&rate) {
        Ok(BitRate(rate))
    } else {
        Err("a rate of 1 kbit/s to 1 Tbit/s was expected".into())
    }
}

fn delay(text: &str) -> Result<Duration, String> {
    let delay = humantime::parse_duration(text)
        .map_err(|_| format!("a delay such as 5ms was expected, found '{text}'"))?;
    if delay <= Duration::from_secs(10) {
        Ok(delay)
    } else {
        Err("a delay of at most 10s was expected".into())
    }
}

/// A span such as `30ms`.
pub fn span(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| format!("a time such as 30ms was expected, found '{text}'"))
}

/// A share as `85`, `85%` or `0.85`.
pub fn share(text: &str) -> Result<coprof_core::units::Share, String> {
    let wrong = || format!("an accuracy such as 85% or 0.85 was expected, found '{text}'");
    let (number, percent) = text.strip_suffix('%').map_or((text, false), |number| (number.trim(), true));
    let value: f64 = number.parse().map_err(|_| wrong())?;
    let value = if percent || value > 1.0 { value / 100.0 } else { value };
    if (0.0..=1.0).contains(&value) { Ok(coprof_core::units::Share(value)) } else { Err(wrong()) }
}

/// A probability as `95`, `95%` or `0.95`, short of certainty.
pub fn confidence(text: &str) -> Result<coprof_core::units::Share, String> {
    let wrong = || format!("a confidence below 100 % such as 95% or 0.95 was expected, found '{text}'");
    share(text).ok().filter(|share| share.0 > 0.0 && share.0 < 1.0).ok_or_else(wrong)
}

/// A share of 0 up to 1, as `0`, `2%` or `0.02`.
pub fn ties(text: &str) -> Result<coprof_core::units::Share, String> {
    share(text).map_err(|_| format!("a share such as 2% or 0.02 was expected, found '{text}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_decimal_and_need_a_unit() {
        for (text, rate) in
            [("20mbit", 20e6), ("2.5Mbit/s", 2.5e6), ("500kbps", 5e5), ("1gbit", 1e9), ("64kbit", 64e3)]
        {
            assert_eq!(bit_rate(text), Ok(BitRate(rate)), "{text}");
        }
        for text in ["", "20", "mbit", "-1mbit", "1.2.3mbit", "0mbit", "20mib", "NaNmbit"] {
            assert!(bit_rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn shares_come_as_percent_or_fraction() {
        for text in ["85%", "0.85", "85"] {
            assert!((share(text).unwrap().0 - 0.85).abs() < 1e-12, "{text}");
        }
        for text in ["", "-1", "101%", "NaN", "x"] {
            assert!(share(text).is_err(), "{text}");
        }
    }

    #[test]
    fn slowdowns_are_sane() {
        assert_eq!(slowdown("8"), Ok(8.0));
        assert_eq!(slowdown("8x"), Ok(8.0));
        assert!(["0", "0.5", "inf", "NaN", "-8", "1e9", ""].iter().all(|text| slowdown(text).is_err()));
    }
}
