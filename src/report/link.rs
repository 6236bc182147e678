//! The result of `coprof link`.

use serde::{Deserialize, Serialize};

use super::document::Envelope;
use super::table::{bar, new_table};
use coprof_core::units::Micros;
use coprof_run::measure::{Direction, HostFacts, LinkProfile, RoundTrips};

/// The document of `coprof link`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkDocument {
    /// What every document has.
    #[serde(flatten)]
    pub envelope: Envelope,
    /// The peer's address, or `loopback` for an edge in the same process.
    pub peer: String,
    /// The peer's host, as it reports it.
    pub peer_host: HostFacts,
    /// What was measured.
    #[serde(flatten)]
    pub profile: LinkProfile,
}

/// The tables of `coprof link`.
pub fn link_view(document: &LinkDocument) -> String {
    let profile = &document.profile;
    let mut figures = new_table(["link", "bandwidth", "per message", "time of 3 KiB"]);
    let directions = [
        ("uplink", &profile.uplink, &profile.transfer),
        ("downlink", &profile.downlink, &profile.downlink_transfer),
    ];
    for (name, direction, transfer) in directions {
        figures.add_row([
            name.to_owned(),
            direction.bits_per_second.to_string(),
            transfer.overhead_us.to_string(),
            transfer.time_for(3072.0).to_string(),
        ]);
    }
    let mut trips = new_table(["round trips", "min", "median", "p99", "samples"]);
    trips.add_row(trip_cells("idle", &profile.rtt_us));
    if let Some(loaded) = &profile.rtt_loaded_us {
        trips.add_row(trip_cells("under load", loaded));
    }
    let bursts = [("uplink", &profile.uplink), ("downlink", &profile.downlink)];
    let bursts: String =
        bursts.into_iter().filter_map(|(name, direction)| burst_line(name, direction)).collect();
    format!("link to {}\n{figures}\n{bursts}\n{trips}\n\n{}", document.peer, sizes_plot(profile))
}

/// What a bursting link does.
fn burst_line(name: &str, direction: &Direction) -> Option<String> {
    let burst = direction.burst?;
    Some(format!(
        "the {name} bursts: about {} KiB pass at {}, then {} lasts\n",
        burst.bytes.div_ceil(1024),
        burst.bits_per_second,
        direction.bits_per_second
    ))
}

fn trip_cells(name: &str, trips: &RoundTrips) -> [String; 5] {
    let mark = if trips.p99_settled { "" } else { "?" };
    [
        name.into(),
        trips.min.to_string(),
        trips.median.to_string(),
        format!("{}{mark}", trips.p99),
        trips.samples.raw().len().to_string(),
    ]
}

/// Time against size on the uplink, a bar per size: in a stream, and alone after a pause.
fn sizes_plot(profile: &LinkProfile) -> String {
    let streams = profile.uplink.frame_times.iter().map(|point| (point.frame_bytes, point.time_us));
    let lone = profile.lone.iter().map(|message| (message.bytes as usize, message.time_us));
    let mut points: Vec<(usize, &str, Micros)> =
        streams.map(|(size, time)| (size, "in a stream", time)).collect();
    points.extend(lone.map(|(size, time)| (size, "alone", time)));
    points.sort_by_key(|(size, how, _)| (*how, *size));
    let longest = points.iter().map(|(.., time)| time.0).fold(f64::MIN_POSITIVE, f64::max);
    let mut table = new_table(["message", "uplink", "time", "time against size"]);
    for (size, how, time) in points {
        let size = if size < 1024 { format!("{size} B") } else { format!("{} KiB", size / 1024) };
        table.add_row([size, how.into(), time.to_string(), bar(time.0 / longest, 40)]);
    }
    table.to_string()
}

/// The rows of its CSV file, the header first.
pub fn link_csv(profile: &LinkProfile) -> Vec<Vec<String>> {
    let mut rows = vec![["direction", "frame_bytes", "time_us"].map(str::to_owned).to_vec()];
    for (name, direction) in [("uplink", &profile.uplink), ("downlink", &profile.downlink)] {
        rows.extend(direction.frame_times.iter().map(|point| {
            vec![name.into(), point.frame_bytes.to_string(), format!("{:.3}", point.time_us.0)]
        }));
    }
    rows
}
