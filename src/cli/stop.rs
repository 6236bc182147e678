//! SIGINT and SIGTERM: a flag that long loops look at, and an end for work that does not look in time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

use super::bars;
use coprof_core::error::{Error, Result};
use coprof_run::data::abandon_unfinished;

/// How long work may go on after the first signal. What is left of a second then is for the system: it takes 0.14 s for each GB of
/// memory that it takes back.
const PATIENCE: Duration = Duration::from_millis(400);
/// How much longer, in milliseconds, where something is to be brought to its end first.
static MORE_PATIENCE: AtomicU64 = AtomicU64::new(0);
/// How long the end waits for a file that is being put in place …
const WAIT: Duration = Duration::from_millis(100);
/// … after a second signal …
const SHORT_WAIT: Duration = Duration::from_millis(5);
/// … and for somebody to read its last words.
const LAST_WORDS: Duration = Duration::from_millis(200);

static STOP: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);
static IS_TOLD: AtomicBool = AtomicBool::new(false);

/// From now on, a signal sets the flag and lets the process end within a second; the next one ends it at once.
pub fn listen() -> Result<()> {
    let on_signal = || {
        if STOP.swap(true, Ordering::Relaxed) {
            end(SHORT_WAIT);
        }
        let watch = || {
            thread::sleep(PATIENCE + Duration::from_millis(MORE_PATIENCE.load(Ordering::Relaxed)));
            end(WAIT);
        };
        if thread::Builder::new().spawn(watch).is_err() {
            end(WAIT);
        }
    };
    ctrlc::set_handler(on_signal).map_err(|error| Error::failed(format!("cannot listen for SIGINT: {error}")))
}

/// From now on, work may go on for so much longer after the first signal. A second one still ends it at once.
pub fn allow(span: Duration) {
    MORE_PATIENCE.store(span.as_millis().try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// Whether a signal has come.
pub fn asked() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// An error once a signal has come.
pub fn check() -> Result<()> {
    if asked() { Err(Error::interrupted()) } else { Ok(()) }
}

/// The flag itself, for threads.
pub fn flag() -> Arc<AtomicBool> {
    Arc::clone(&STOP)
}

/// Whether nobody has said yet that the process was interrupted. Who asks first is to say it.
pub fn is_untold() -> bool {
    !IS_TOLD.swap(true, Ordering::Relaxed)
}

/// Ends the process, whatever its threads are doing, without anything half written.
fn end(wait: Duration) -> ! {
    abandon_unfinished(wait);
    if is_untold() {
        // Where nobody reads stderr, the end comes all the same.
        let unheard = || {
            thread::sleep(LAST_WORDS);
            exit();
        };
        if thread::Builder::new().spawn(unheard).is_ok() {
            bars::last_words(&Error::interrupted());
        }
    }
    exit()
}

fn exit() -> ! {
    // SAFETY: ends the process. Unlike `exit` it calls no destructors: libtorch's must not run while its threads compute.
    unsafe { libc::_exit(Error::interrupted().exit_code().into()) }
}
