//! The GPU room: wgpu and nothing of Qwen. Choosing and sharing the device, buffers, the kernel
//! registry, recording and pacing of work, timestamps and readback.

mod bandwidth;
mod buffers;
mod ceilings;
mod device;
mod device_clock;
mod injected;
mod kernels;
pub mod memory;
mod profile;
mod readback;
mod recorder;
mod shader_source;
mod tuning;
mod waiting;
mod work;

pub use bandwidth::measure_read_bandwidth;
pub use buffers::{BufferExt, storage_bytes};
pub use ceilings::measure_peak_flops;
pub use device::{AdapterSummary, Gpu, GpuOptions, list_adapters};
pub use device_clock::DeviceClock;
#[doc(hidden)]
pub use injected::Injected;
pub use kernels::{FAMILIES, Family, Kernel, KernelKey, all_variants};
pub use profile::{Bound, Ceilings, Group, GroupBy, KernelRow, METHOD, PartTime, ProfileReport, Totals};
pub use readback::{Readback, ReadbackRing};
pub use recorder::{Pacing, RECORDER_BYTES, Recorder, StepTimes};
pub use shader_source::{KernelEdit, expand};
pub use tuning::{MatrixKernel, Tuning, VectorKernel};
pub use work::{Scope, UNNAMED, Work};
