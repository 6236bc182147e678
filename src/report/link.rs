//! The result of `coprof link`.

use serde::{Deserialize, Serialize};

use super::document::Envelope;
use super::table::{bar, new_table};
use crate::measure::{Direction, LinkProfile, RoundTrips};

/// The document of `coprof link`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkDocument {
    /// What every document has.
    #[serde(flatten)]
    pub envelope: Envelope,
    /// The peer's address, or `loopback` for an edge in the same process.
    pub peer: String,
    /// Facts about the peer's host, as it reports them.
    pub peer_host: serde_json::Value,
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
    format!("link to {}\n{figures}\n\n{trips}\n\n{}", document.peer, sizes_plot(&profile.uplink))
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

/// Time against size on the uplink, a bar per size.
fn sizes_plot(direction: &Direction) -> String {
    let longest = direction.frame_times.iter().map(|point| point.time_us.0).fold(f64::MIN_POSITIVE, f64::max);
    let mut table = new_table(["message", "time", "uplink, time against size"]);
    for point in &direction.frame_times {
        let size = point.frame_bytes;
        let size = if size < 1024 { format!("{size} B") } else { format!("{} KiB", size / 1024) };
        table.add_row([size, point.time_us.to_string(), bar(point.time_us.0 / longest, 50)]);
    }
    table.to_string()
}
