//! Quantities with their units, so that no bare number crosses a boundary between rooms.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, Mul, Sub};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

/// A time span in microseconds; fractions matter, since fast layers take fewer than ten.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Micros(pub f64);

impl Micros {
    /// No time at all.
    pub const ZERO: Self = Self(0.0);

    /// The longer of two spans.
    pub fn max(self, other: Self) -> Self {
        Self(self.0.max(other.0))
    }

    /// The shorter of two spans.
    pub fn min(self, other: Self) -> Self {
        Self(self.0.min(other.0))
    }

    /// Tasks per second when one finishes in every such span; infinite for zero.
    pub fn rate_per_s(self) -> f64 {
        1e6 / self.0
    }

    /// As a [`Duration`]; negative and non-finite spans become zero.
    pub fn to_duration(self) -> Duration {
        Duration::try_from_secs_f64(self.0 / 1e6).unwrap_or(Duration::ZERO)
    }
}

impl From<Duration> for Micros {
    fn from(span: Duration) -> Self {
        Self(span.as_secs_f64() * 1e6)
    }
}

impl Add for Micros {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl AddAssign for Micros {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

impl Sub for Micros {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl Mul<f64> for Micros {
    type Output = Self;
    fn mul(self, factor: f64) -> Self {
        Self(self.0 * factor)
    }
}

impl Div<Micros> for Micros {
    type Output = f64;
    fn div(self, other: Self) -> f64 {
        self.0 / other.0
    }
}

impl Sum for Micros {
    fn sum<I: Iterator<Item = Self>>(spans: I) -> Self {
        Self(spans.map(|span| span.0).sum())
    }
}

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (value, unit) = match self.0.abs() {
            us if us < 1e3 => (self.0, "µs"),
            us if us < 1e6 => (self.0 / 1e3, "ms"),
            _ => (self.0 / 1e6, "s"),
        };
        let digits = if value.abs() < 10.0 { 2 } else { usize::from(value.abs() < 100.0) };
        f.pad(&format!("{value:.digits$} {unit}"))
    }
}

/// A data rate in bits per second of payload (goodput).
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BitRate(pub f64);

impl BitRate {
    /// The time that `bytes` take at this rate.
    pub fn time_for(self, bytes: f64) -> Micros {
        Micros(bytes * 8e6 / self.0)
    }
}

impl fmt::Display for BitRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (value, unit) = match self.0 {
            bps if bps < 1e6 => (bps / 1e3, "kbit/s"),
            bps if bps < 1e9 => (bps / 1e6, "Mbit/s"),
            bps => (bps / 1e9, "Gbit/s"),
        };
        let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
        f.pad(&format!("{value:.digits$} {unit}"))
    }
}

/// A share or probability, 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Share(pub f64);

impl Share {
    /// `part` of `whole`; zero of nothing.
    pub fn of(part: usize, whole: usize) -> Self {
        Self(if whole == 0 { 0.0 } else { part as f64 / whole as f64 })
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:.2} %", self.0 * 100.0))
    }
}
/// Reads a rate per second: `null` is an infinite one, which JSON has no number for.
pub(crate) fn rate<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::INFINITY))
}

/// Reads the two ends of an interval of such rates.
pub(crate) fn rates<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[f64; 2], D::Error> {
    let ends: [Option<f64>; 2] = Deserialize::deserialize(deserializer)?;
    Ok(ends.map(|end| end.unwrap_or(f64::INFINITY)))
}
