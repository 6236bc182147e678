//! What every study has at hand: whom it tells how it goes on, whether it is to stop, and where results are kept.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use crate::report::Store;
use coprof_core::error::{Error, Remedy, Result};

/// Is told how a study goes on.
pub trait Observer: Send + Sync {
    /// A message for people.
    fn say(&self, message: &str);
    /// A message for people, with what they can do about it.
    fn advise(&self, message: &str, remedy: Remedy);
    /// A message for those who want to know more.
    fn detail(&self, message: &str);
    /// A part of the work begins that takes a while. It is over when what is returned is dropped.
    fn progress(&self, what: &str) -> Box<dyn Progress>;
}

/// Is told how far a part of the work is.
pub trait Progress: Send + Sync {
    /// This share was done before: the time left is reckoned from here.
    fn start_at(&self, share: f64);
    /// The share that is done, 0 to 1.
    fn set(&self, share: f64);
}

/// What every study has at hand.
#[derive(Clone)]
pub struct Context {
    observer: Arc<dyn Observer>,
    flag: Arc<AtomicBool>,
    is_stopped: Arc<dyn Fn() -> bool + Send + Sync>,
    store: Store,
}

impl Context {
    /// Tells `observer`, stops once `flag` is set, and keeps results in `store`.
    pub fn new(observer: Arc<dyn Observer>, flag: Arc<AtomicBool>, store: Store) -> Self {
        let own = Arc::clone(&flag);
        Self { observer, flag, is_stopped: Arc::new(move || own.load(Ordering::Relaxed)), store }
    }

    /// A message for people.
    pub fn say(&self, message: impl AsRef<str>) {
        self.observer.say(message.as_ref());
    }

    /// A message for people, with what they can do about it.
    pub fn advise(&self, message: impl AsRef<str>, remedy: Remedy) {
        self.observer.advise(message.as_ref(), remedy);
    }

    /// A message for those who want to know more.
    pub fn detail(&self, message: impl AsRef<str>) {
        self.observer.detail(message.as_ref());
    }

    /// A part of the work begins that takes a while.
    pub fn progress(&self, what: &str) -> Box<dyn Progress> {
        self.observer.progress(what)
    }

    /// What says whether the study is to stop, for long work.
    pub fn stop(&self) -> &(dyn Fn() -> bool + Send + Sync) {
        &*self.is_stopped
    }

    /// The same as a flag, for threads.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.flag)
    }

    /// Whether the study is to stop.
    pub fn is_stopped(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }

    /// An error where the study is to stop.
    pub fn check(&self) -> Result<()> {
        if self.is_stopped() { Err(Error::interrupted()) } else { Ok(()) }
    }

    /// Where results are kept.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Keeps a result, unless the study is to stop.
    pub fn save(&self, kind: &str, document: &impl Serialize) -> Result<PathBuf> {
        self.check()?;
        self.store.save(kind, document)
    }
}
