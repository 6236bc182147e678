//! What every JSON document carries besides its figures.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use coprof_core::model::{Graph, ModelHash};
use coprof_core::units::{BitRate, Micros};
use coprof_run::measure::{HostFacts, HostPeak};

/// What was emulated, as given on the command line. Two results fit together only where this is the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Emulation {
    /// This device was made slower by this factor; 1 for its own speed.
    pub slowdown: f64,
    /// The link was shaped to this rate in user space.
    pub link_bits_per_second: Option<BitRate>,
    /// The link was given this one-way delay in user space.
    pub link_delay_us: Option<Micros>,
}

impl Emulation {
    /// Nothing is emulated.
    pub const NONE: Self = Self { slowdown: 1.0, link_bits_per_second: None, link_delay_us: None };

    /// Whether the link is shaped.
    pub fn shapes_link(&self) -> bool {
        self.link_bits_per_second.is_some() || self.link_delay_us.is_some()
    }

    /// What is emulated, in words; `None` when nothing is.
    pub fn describe(&self) -> Option<String> {
        let mut parts = Vec::new();
        if self.slowdown != 1.0 {
            parts.push(format!("device {}× slower than this host", self.slowdown));
        }
        let link: Vec<String> = [
            self.link_bits_per_second.map(|rate| rate.to_string()),
            self.link_delay_us.map(|delay| format!("{delay} one way")),
        ]
        .into_iter()
        .flatten()
        .collect();
        if !link.is_empty() {
            parts.push(format!("link {}", link.join(", ")));
        }
        (!parts.is_empty()).then(|| format!("emulated: {}", parts.join("; ")))
    }

    /// A view of a result, with what was emulated in a line below it.
    pub fn noted_below(&self, view: String) -> String {
        match self.describe() {
            Some(emulated) => format!("{view}\n{emulated}"),
            None => view,
        }
    }
}

/// Which model a document is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFacts {
    /// What people call it.
    pub name: String,
    /// The hash of its file.
    pub sha256: ModelHash,
    /// When two of its answers count as the same, in words; absent where nobody has read its file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreement: Option<String>,
}

impl From<&Graph> for ModelFacts {
    fn from(graph: &Graph) -> Self {
        Self { name: graph.name.clone(), sha256: graph.hash.clone(), agreement: Some(graph.agreement()) }
    }
}

/// The host that measured, and its peak where that was asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HostReport {
    /// What it is.
    #[serde(flatten)]
    pub facts: HostFacts,
    /// What it can do at most.
    #[serde(flatten)]
    pub peak: Option<PeakFacts>,
}

impl From<HostFacts> for HostReport {
    fn from(facts: HostFacts) -> Self {
        Self { facts, peak: None }
    }
}

/// What a host can do at most, on as many threads as layers have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeakFacts {
    /// Billions of floating-point operations per second, by multiply-adds in registers.
    pub peak_gflops: f64,
    /// The same by a LINPACK solve.
    pub solve_gflops: f64,
    /// Bytes read plus bytes written per second by a large copy.
    pub copy_bytes_per_s: f64,
    /// When it was measured, in seconds since 1970.
    pub peak_measured_unix_s: u64,
}

impl From<&HostPeak> for PeakFacts {
    fn from(peak: &HostPeak) -> Self {
        Self {
            peak_gflops: peak.peak_gflops,
            solve_gflops: peak.solve_gflops,
            copy_bytes_per_s: peak.copy_bytes_per_s,
            peak_measured_unix_s: peak.measured_unix_s,
        }
    }
}

/// What every document starts with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// The document's kind and version, `coprof.layers/1` for example.
    pub schema: String,
    /// The version of coprof that wrote it.
    pub coprof_version: String,
    /// When, as UTC in RFC 3339.
    pub created: String,
    /// The host that measured.
    pub host: HostReport,
    /// Identifies the host: results of another host are not picked up.
    pub host_id: String,
    /// The model; absent where the result is about none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelFacts>,
    /// Threads per node that computes here.
    pub threads: usize,
    /// The core that the device's thread was pinned to.
    pub pinned_core: Option<usize>,
    /// What was emulated; `null` when nothing was.
    pub emulated: Option<Emulation>,
}

impl Envelope {
    /// What agreement with the uncut model means, behind its name: ` (same class)`.
    pub fn meaning_of_agreement(&self) -> String {
        let agreement = self.model.as_ref().and_then(|model| model.agreement.as_ref());
        agreement.map_or_else(String::new, |words| format!(" ({words})"))
    }

    /// How long ago that was; `None` where the time makes no sense.
    pub fn age(&self) -> Option<Duration> {
        let created = humantime::parse_rfc3339(&self.created).ok()?;
        let age = SystemTime::now().duration_since(created).ok()?;
        Some(Duration::from_secs(age.as_secs()))
    }

    /// The envelope of a result that was worked out here and now from what this one is about.
    #[must_use]
    pub fn renewed(&self, kind: &str) -> Self {
        Self {
            schema: format!("coprof.{kind}/1"),
            coprof_version: env!("CARGO_PKG_VERSION").into(),
            created: timestamp(SystemTime::now()),
            ..self.clone()
        }
    }
}

/// A moment as UTC in RFC 3339, to the millisecond so that names of later files sort after earlier ones.
pub fn timestamp(moment: SystemTime) -> String {
    humantime::format_rfc3339_millis(moment.max(SystemTime::UNIX_EPOCH + Duration::from_secs(1))).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hosts_peak_stands_beside_its_facts() {
        let facts = HostFacts { cpu: Some("x".into()), temperature_c: Some(50.3), ..HostFacts::default() };
        let peak =
            PeakFacts { peak_gflops: 1.5, solve_gflops: 0.5, copy_bytes_per_s: 2.0, peak_measured_unix_s: 3 };
        for (host, figure) in
            [(HostReport::from(facts.clone()), None), (HostReport { facts, peak: Some(peak) }, Some(1.5))]
        {
            let text = serde_json::to_string(&host).unwrap();
            let json: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!((json["cpu"].as_str(), json["temperature_c"].as_f64()), (Some("x"), Some(50.3)));
            assert_eq!(json.get("peak_gflops").and_then(serde_json::Value::as_f64), figure);
            assert_eq!(serde_json::from_str::<HostReport>(&text).unwrap(), host);
        }
    }
}
