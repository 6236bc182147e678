//! What a thread needs before it runs layers, and the dense solve that finds the host's peak.
//!
//! libtorch and oneDNN ask for memory dozens of times for each layer, and give it back. mimalloc is linked in place of the C
//! library's allocator, in which small networks spend a notable part of their time.

use std::marker::PhantomData;
use std::sync::Once;

use tch::{Device, Kind, TchError, Tensor};

use coprof_core::error::{Error, Result};
use coprof_run::measure::cores;

/// The calling thread, readied for layers. It cannot be sent to another thread, so who holds it runs on the thread that was
/// readied: models are loaded with it, since oneDNN settles at loading how many threads each of its primitives will start.
#[derive(Debug)]
pub struct ComputeThread {
    is_pinned: bool,
    stays_here: PhantomData<*const ()>,
}

impl ComputeThread {
    /// Limits libtorch on the calling thread to `threads` threads and pins the thread to a core where one is given.
    pub fn prepare(threads: usize, core: Option<usize>) -> Self {
        keep_memory();
        // OpenMP keeps the number per calling thread, so every thread that runs layers must say it.
        tch::set_num_threads(i32::try_from(threads.max(1)).unwrap_or(i32::MAX));
        let is_pinned = core.is_some_and(|id| core_affinity::set_for_current(core_affinity::CoreId { id }));
        Self { is_pinned, stays_here: PhantomData }
    }

    /// Whether it is pinned to a core.
    pub fn is_pinned(&self) -> bool {
        self.is_pinned
    }
}

/// How many threads libtorch starts for work of the calling thread, and the cores that the thread may run on.
pub fn thread_state() -> (usize, Vec<usize>) {
    (usize::try_from(tch::get_num_threads()).unwrap_or(0), cores())
}

/// Keeps memory that is given back in the process: the next task needs it again, and getting it anew from the system would
/// cost a page fault for every 4 KiB.
fn keep_memory() {
    static ONCE: Once = Once::new();
    /// `mi_option_purge_delay`, which the crate has no name for.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    // SAFETY: sets a number in a table; mimalloc allows it at any time.
    ONCE.call_once(|| unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) });
}

/// A dense system `A x = b` in single precision, solved by LU with partial pivoting: the work that LINPACK counts as
/// 2/3 n³ + 2 n² floating-point operations.
#[derive(Default)]
pub struct DenseSolver {
    system: Option<(usize, Tensor, Tensor)>,
}

impl DenseSolver {
    /// Solves a random system of order `n`, made at the first call with this `n` and kept for the next ones.
    pub fn solve(&mut self, n: usize) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        self.solve_kept(n).map_err(|error| Error::failed(format!("libtorch's dense solve failed: {error}")))
    }

    fn solve_kept(&mut self, n: usize) -> std::result::Result<(), TchError> {
        let order = i64::try_from(n).map_err(|_| TchError::Shape(format!("order {n} is too large")))?;
        let options = (Kind::Float, Device::Cpu);
        if self.system.as_ref().is_none_or(|(kept, _, _)| *kept != n) {
            self.system =
                Some((n, Tensor::f_rand([order, order], options)?, Tensor::f_rand([order, 1], options)?));
        }
        match &self.system {
            Some((_, a, b)) => Tensor::f_linalg_solve(a, b, true).map(drop),
            None => Ok(()),
        }
    }
}
