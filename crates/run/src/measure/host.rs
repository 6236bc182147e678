//! What the host is: stands in every report, since times mean nothing without it.

use std::fs;

use serde::{Deserialize, Serialize};
use sysinfo::{Components, CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

use coprof_core::model::ModelHash;

/// What the host is and how coprof runs on it. What it does not show is absent, never zero.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HostFacts {
    /// Tells hosts apart, and each from itself before it was started anew (Linux).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// Model of the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    /// Instruction set: `x86_64`, `aarch64`.
    pub arch: String,
    /// Cores, not counting hardware threads apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub physical_cores: Option<usize>,
    /// Hardware threads that this process may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logical_cores: Option<usize>,
    /// Main memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Operating system with its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os: Option<String>,
    /// Version of the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Frequency governor of the first core (Linux).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub governor: Option<String>,
    /// The hottest sensor at the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature_c: Option<f32>,
    /// coprof's version.
    pub coprof_version: String,
    /// Threads that layers run on.
    pub threads: usize,
    /// The cores that threads are pinned to; empty: not pinned.
    #[serde(default)]
    pub pinned_cores: Vec<usize>,
}

impl HostFacts {
    /// Asks the system; `threads` and `pinned_cores` are the caller's doing.
    pub fn gather(threads: usize, pinned_cores: &[usize]) -> Self {
        let wanted = RefreshKind::nothing()
            .with_cpu(CpuRefreshKind::nothing())
            .with_memory(MemoryRefreshKind::nothing().with_ram());
        let system = System::new_with_specifics(wanted).ok();
        let brand = system.as_ref().and_then(|system| system.cpus().first()).map(|cpu| cpu.brand());
        Self {
            // Hashed: the kernel's own number is nobody's business.
            machine: read_line("/proc/sys/kernel/random/boot_id")
                .map(|boot| ModelHash::of(boot.as_bytes()).short().to_owned()),
            cpu: brand.and_then(shown).or_else(device_tree_model),
            arch: System::cpu_arch(),
            physical_cores: System::physical_core_count().ok(),
            logical_cores: std::thread::available_parallelism().ok().map(Into::into),
            memory_bytes: system.map(|system| system.total_memory()).filter(|&bytes| bytes > 0),
            os: System::long_os_version().ok(),
            kernel: System::kernel_version().ok(),
            governor: read_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            temperature_c: hottest(),
            coprof_version: env!("CARGO_PKG_VERSION").into(),
            threads,
            pinned_cores: pinned_cores.to_vec(),
        }
    }

    /// What decides the host's peak: the same key, the same peak.
    pub fn peak_key(&self) -> String {
        let cores = |cores: Option<usize>| cores.map_or("?".into(), |cores| cores.to_string());
        format!(
            "{} {} cores={}/{} threads={}",
            self.cpu.as_deref().unwrap_or("?"),
            self.arch,
            cores(self.physical_cores),
            cores(self.logical_cores),
            self.threads
        )
    }
}

/// The cores that the calling thread may run on, of which `taskset` or a container may leave only some; empty where
/// the system does not tell.
pub fn cores() -> Vec<usize> {
    core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect()
}

/// The board's name where the CPU has none: small ARM boards.
fn device_tree_model() -> Option<String> {
    read_line("/proc/device-tree/model")
}

fn hottest() -> Option<f32> {
    let sensors = Components::new_with_refreshed_list().ok()?;
    let shown = sensors.iter().filter_map(|sensor| sensor.temperature());
    shown.filter(|degrees| degrees.is_finite()).max_by(f32::total_cmp)
}

fn read_line(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().and_then(|text| shown(&text))
}

/// The text without what surrounds it; `None` when nothing is left.
fn shown(text: &str) -> Option<String> {
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!text.is_empty()).then(|| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_shows_something_and_reads_back() {
        let facts = HostFacts::gather(2, &[1]);
        assert!(facts.memory_bytes.is_none_or(|bytes| bytes > 1 << 20));
        assert!(!facts.arch.is_empty() && facts.threads == 2);
        let json = serde_json::to_string(&facts).unwrap();
        assert_eq!(serde_json::from_str::<HostFacts>(&json).unwrap(), facts);
    }

    #[test]
    fn the_key_tells_threads_apart_but_not_temperatures() {
        let facts = HostFacts { threads: 1, ..HostFacts::default() };
        assert_eq!(facts.peak_key(), HostFacts { temperature_c: Some(50.0), ..facts.clone() }.peak_key());
        assert_ne!(facts.peak_key(), HostFacts { threads: 2, ..facts.clone() }.peak_key());
    }

    #[test]
    fn blanks_are_not_facts() {
        assert_eq!((shown(" \n\0"), shown(" x\0").as_deref()), (None, Some("x")));
    }
}
