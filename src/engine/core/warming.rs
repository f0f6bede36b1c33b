//! Kernels that answers come to want later are compiled while the first ones go on without them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::gpu::{Gpu, KernelKey};

/// A thread that compiles. Dropping it waits for the kernel it is at: nothing may use the device after its last owner.
pub(super) struct Warming {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Warming {
    /// Begins; where the system refuses a thread, each kernel is compiled when it is wanted.
    pub fn begin(gpu: &Gpu, keys: Vec<KernelKey>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (gpu, seen) = (gpu.clone(), stop.clone());
        let thread =
            std::thread::Builder::new().name("kernels".into()).spawn(move || gpu.compile_ahead(&keys, &seen));
        Self { stop, thread: thread.ok() }
    }
}

impl Drop for Warming {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that compiles kernels has panicked");
        }
    }
}
