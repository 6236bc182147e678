//! SIGINT and SIGTERM: one flag that every long loop looks at.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use crate::error::{Error, Result};

static STOP: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Sets the flag from now on when a signal comes.
pub fn listen() -> Result<()> {
    ctrlc::set_handler(|| STOP.store(true, Ordering::Relaxed))
        .map_err(|error| Error::failed(format!("cannot listen for SIGINT: {error}")))
}

/// Whether a signal has come.
pub fn asked() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// The flag itself, for threads.
pub fn flag() -> Arc<AtomicBool> {
    Arc::clone(&STOP)
}
