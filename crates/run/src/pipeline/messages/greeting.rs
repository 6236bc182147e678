//! The first frame of either side.

use serde::{Deserialize, Serialize};

use super::super::wire::PROTOCOL;
use super::printable;
use crate::measure::HostFacts;
use coprof_core::error::{Error, Result};

/// The client's greeting.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct Hello {
    pub protocol: u32,
    /// coprof's version, for messages.
    pub coprof: String,
}

/// The server's greeting.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct Welcome {
    pub protocol: u32,
    /// coprof's version, for messages.
    pub coprof: String,
    /// What the host is.
    pub host: HostFacts,
}

impl Hello {
    pub fn ours() -> Self {
        Self { protocol: PROTOCOL, coprof: env!("CARGO_PKG_VERSION").into() }
    }

    /// Whether the two versions can talk; else the message for both sides.
    pub fn check(protocol: u32, coprof: &str) -> Result<()> {
        if protocol == PROTOCOL {
            return Ok(());
        }
        let ours = env!("CARGO_PKG_VERSION");
        Err(Error::peer(format!(
            "one side speaks protocol {PROTOCOL} (coprof {ours}), the other protocol {protocol} (coprof {}); install \
             the same coprof on both",
            printable(coprof)
        )))
    }
}
