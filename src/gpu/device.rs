//! The device: choosing an adapter, asking it for what it has, and keeping what goes wrong.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::injected::{Plan, Point};
use super::kernels::Registry;
use super::profile::Ceilings;
use super::shader_source::KernelEdit;
use super::tuning::{self, Tuning};
use crate::error::{Error, ErrorKind, Result};

/// How to choose and open a device.
#[derive(Clone, Debug, Default)]
pub struct GpuOptions {
    /// Part of an adapter's name, or its number in `ocelli devices`; `None`: the fastest kind first.
    pub adapter: Option<String>,
    /// Go on as if the adapter had no subgroups.
    pub without_subgroups: bool,
    /// Go on as if the adapter had no native f16.
    pub without_f16: bool,
    /// Go on as if the adapter had no matrix units.
    pub without_cooperative_matrix: bool,
    /// Go on as if the adapter could not time passes.
    pub without_timestamps: bool,
    /// Bind at most this many bytes at once, below the adapter's own limit; tests slice small models with it.
    pub max_binding_bytes: Option<usize>,
    /// Compile kernels with naga's checks of every index and loop; without, the texts answer for themselves.
    pub checked_kernels: bool,
    /// Which kernels matrix products run on; `None`: the default for the kind of device.
    pub tuning: Option<Tuning>,
    /// Changes to the kernels' text; nothing but the tests makes any.
    #[doc(hidden)]
    pub kernel_edits: Vec<KernelEdit>,
}

/// An adapter as `ocelli devices` lists it.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct AdapterSummary {
    /// Its number in the list.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// Vulkan, Metal, DX12.
    pub backend: String,
    /// Discrete, integrated, software.
    pub kind: String,
    /// How many adapters of this name, kind and backend come before it.
    pub twin: usize,
    /// Driver and version.
    pub driver: String,
    /// Largest storage binding, bytes.
    pub max_binding_bytes: u64,
    /// Largest buffer, bytes.
    pub max_buffer_bytes: u64,
    /// Smallest and largest subgroup.
    pub subgroup_sizes: (u32, u32),
    /// Subgroup operations in compute.
    pub subgroups: bool,
    /// f16 in kernels.
    pub f16: bool,
    /// Side of the square f16 matrices that its matrix units multiply, with sums in f32; null without such units.
    pub cooperative_matrix: Option<u32>,
    /// Timestamps around passes.
    pub timestamps: bool,
}

impl AdapterSummary {
    /// Does the processor do the work of this device?
    #[must_use]
    pub fn is_software(&self) -> bool {
        self.kind == SOFTWARE
    }

    /// The name with what tells it from others of that name: a card may be there by Vulkan and by DX12, or twice.
    #[must_use]
    pub fn full_name(&self) -> String {
        let twin = if self.twin > 0 { format!(" #{}", self.twin + 1) } else { String::new() };
        format!("{} ({}, {}){twin}", self.name, self.kind, self.backend)
    }
}

/// The adapter that is meant: a number, a name in full, or a part of one.
fn find(all: &[AdapterSummary], wanted: &str) -> Option<usize> {
    if let Some(index) = wanted.parse().ok().filter(|&i| i < all.len()) {
        return Some(index);
    }
    let wanted = wanted.to_lowercase();
    let fits: [fn(&AdapterSummary, &str) -> bool; 4] = [
        |a, wanted| a.full_name().to_lowercase() == wanted,
        |a, wanted| a.name.to_lowercase() == wanted,
        |a, wanted| a.name.to_lowercase().contains(wanted),
        |a, wanted| a.full_name().to_lowercase().contains(wanted),
    ];
    fits.iter().find_map(|fits| all.iter().position(|a| fits(a, &wanted)))
}

const SOFTWARE: &str = "software";

fn instance() -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    wgpu::Instance::new(descriptor.with_env())
}

fn adapters(instance: &wgpu::Instance) -> Vec<wgpu::Adapter> {
    let mut all = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    // The fastest kind first; the order of the system otherwise.
    all.sort_by_key(|adapter| match adapter.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu | wgpu::DeviceType::Other => 2,
        wgpu::DeviceType::Cpu => 3,
    });
    all
}

fn summary(index: usize, adapter: &wgpu::Adapter) -> AdapterSummary {
    let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
    AdapterSummary {
        index,
        name: info.name,
        backend: info.backend.to_string(),
        twin: 0,
        kind: match info.device_type {
            wgpu::DeviceType::DiscreteGpu => "discrete",
            wgpu::DeviceType::IntegratedGpu => "integrated",
            wgpu::DeviceType::VirtualGpu => "virtual",
            wgpu::DeviceType::Cpu => SOFTWARE,
            wgpu::DeviceType::Other => "other",
        }
        .to_owned(),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        max_binding_bytes: limits.max_storage_buffer_binding_size,
        max_buffer_bytes: limits.max_buffer_size,
        subgroup_sizes: (info.subgroup_min_size, info.subgroup_max_size),
        subgroups: features.contains(wgpu::Features::SUBGROUP),
        f16: features.contains(wgpu::Features::SHADER_F16),
        cooperative_matrix: cooperative_size(adapter),
        timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
    }
}

/// The largest square matrices of f16 that the adapter multiplies as one, adding up in f32.
fn cooperative_size(adapter: &wgpu::Adapter) -> Option<u32> {
    let needed = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX
        | wgpu::Features::SHADER_F16
        | wgpu::Features::SUBGROUP;
    // Tiles and a sum of each subgroup take up to 26 KiB.
    let room = adapter.limits().max_compute_workgroup_storage_size >= 32 << 10;
    if !adapter.features().contains(needed) || !room {
        return None;
    }
    let fits = |p: &wgpu::CooperativeMatrixProperties| {
        (p.ab_type, p.cr_type) == (wgpu::CooperativeScalarType::F16, wgpu::CooperativeScalarType::F32)
            && p.m_size == p.n_size
            && p.n_size == p.k_size
    };
    adapter.cooperative_matrix_properties().iter().filter(|p| fits(p)).map(|p| p.m_size).max()
}

/// What an adapter must be told before it gives matrix units: nothing else of ours is experimental.
#[expect(unsafe_code, reason = "asked for only where the adapter has the one feature; the reason is below")]
fn experimental(needed: bool) -> wgpu::ExperimentalFeatures {
    if needed {
        // SAFETY: the one experimental feature that is asked for with it are cooperative matrices, which one kernel uses
        // (`matmul_cooperative`): it loads from and stores to workgroup memory of fixed size only, at places below constants
        // whatever the subgroups' number. It runs where a driver's results were compared with those of the plain kernel
        // (`model::calibration`), and the tests hold it against sums in f64 on a device that has such units.
        unsafe { wgpu::ExperimentalFeatures::enabled() }
    } else {
        wgpu::ExperimentalFeatures::disabled()
    }
}

/// All adapters of this machine, best first.
#[must_use]
pub fn list_adapters() -> Vec<AdapterSummary> {
    summaries(&adapters(&instance()))
}

fn summaries(adapters: &[wgpu::Adapter]) -> Vec<AdapterSummary> {
    let mut all: Vec<AdapterSummary> = adapters.iter().enumerate().map(|(i, a)| summary(i, a)).collect();
    number_twins(&mut all);
    all
}

fn number_twins(all: &mut [AdapterSummary]) {
    let mut seen = std::collections::HashMap::new();
    for summary in all {
        let count: &mut usize = seen.entry(summary.full_name()).or_default();
        summary.twin = *count;
        *count += 1;
    }
}

/// One open device and its queue, shared by the window and the engine. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Gpu(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    instance: wgpu::Instance,
    adapter: wgpu::Adapter,
    device: wgpu::Device,
    queue: wgpu::Queue,
    summary: AdapterSummary,
    subgroups: bool,
    f16: bool,
    cooperative: Option<u32>,
    int64: bool,
    timestamps: bool,
    untimed: AtomicBool,
    checked_kernels: bool,
    max_binding_bytes: usize,
    /// Lanes of a subgroup, once asked.
    lanes: OnceLock<u32>,
    tuning: Mutex<Option<Tuning>>,
    ceilings: Mutex<Option<Ceilings>>,
    registry: Registry,
    fault: Arc<Fault>,
    injected: Plan,
    kernel_edits: Vec<KernelEdit>,
    allocated_bytes: AtomicU64,
}

/// What the device reported outside any call of ours.
#[derive(Debug, Default)]
struct Fault {
    lost: AtomicBool,
    message: Mutex<Option<String>>,
    /// A test destroys the device: that is a loss.
    destroyed_by_test: AtomicBool,
    wake: OnceLock<Wake>,
}

/// Whom to tell of a loss.
struct Wake(Box<dyn Fn() + Send + Sync>);

impl std::fmt::Debug for Wake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wake")
    }
}

impl Fault {
    fn set(&self, message: String) {
        let mut slot = self.message.lock().unwrap_or_else(PoisonError::into_inner);
        slot.get_or_insert(message);
    }
}

/// Limits below which no kernel of ours can run.
const NEEDED_WORKGROUP_BYTES: u32 = 16 * 1024;
const NEEDED_INVOCATIONS: u32 = 256;
const NEEDED_STORAGE_BUFFERS: u32 = 8;

const OPENING: &str = "opening the GPU";

/// Can our kernels run within these limits?
fn check_limits(limits: &wgpu::Limits) -> Result<()> {
    let needed = [
        ("bytes of workgroup memory", limits.max_compute_workgroup_storage_size, NEEDED_WORKGROUP_BYTES),
        ("invocations in a workgroup", limits.max_compute_invocations_per_workgroup, NEEDED_INVOCATIONS),
        ("storage buffers in a kernel", limits.max_storage_buffers_per_shader_stage, NEEDED_STORAGE_BUFFERS),
    ];
    match needed.into_iter().find(|(_, has, needs)| has < needs) {
        None => Ok(()),
        Some((name, has, needs)) => {
            let why = format!("it allows {has} {name} and the kernels need {needs}");
            Err(Error::new(OPENING, why)
                .help("choose another adapter with --adapter; `ocelli devices` lists them"))
        }
    }
}

impl Gpu {
    /// Opens the adapter the options name, or the best one, with all the limits it has and the
    /// features of ours that it has.
    ///
    /// # Errors
    /// There is no adapter, none of that name, or it lacks a limit the kernels need.
    pub fn new(options: &GpuOptions) -> Result<Self> {
        let doing = OPENING;
        let instance = instance();
        let all = adapters(&instance);
        let mut summaries = summaries(&all);
        let index = match &options.adapter {
            None => (!all.is_empty()).then_some(0),
            Some(wanted) => find(&summaries, wanted),
        };
        let Some((index, adapter)) = index.and_then(|i| all.get(i).map(|a| (i, a.clone()))) else {
            return Err(match &options.adapter {
                Some(name) if !all.is_empty() => {
                    Error::new(doing, format!("no adapter is called '{name}'")).help("`ocelli devices` lists them")
                }
                _ => Error::new(doing, "no Vulkan, Metal or DX12 adapter was found")
                    .help("install your card's Vulkan driver, or Mesa's software device: apt install mesa-vulkan-drivers"),
            });
        };
        let summary = summaries.swap_remove(index);
        let limits = adapter.limits();
        check_limits(&limits).map_err(|e| e.at(&summary.name))?;
        let wanted = wgpu::Features::SUBGROUP
            | wgpu::Features::SHADER_F16
            | wgpu::Features::SHADER_INT64
            | wgpu::Features::TIMESTAMP_QUERY;
        let request = |cooperative: bool| {
            let mut wanted = wanted;
            wanted.set(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX, cooperative);
            pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
                label: Some("ocelli"),
                required_features: adapter.features() & wanted,
                required_limits: limits.clone(),
                experimental_features: experimental(cooperative),
                memory_hints: wgpu::MemoryHints::MemoryUsage,
                trace: wgpu::Trace::Off,
            }))
        };
        let cooperative = summary.cooperative_matrix.is_some() && !options.without_cooperative_matrix;
        let (device, queue) = request(cooperative)
            // What is experimental may be what a driver has and cannot open.
            .or_else(|e| if cooperative { request(false) } else { Err(e) })
            .map_err(|e| {
                Error::new(doing, e)
                    .at(&summary.name)
                    .help("update its driver or choose another with --adapter")
            })?;

        let fault = Arc::new(Fault::default());
        let seen = fault.clone();
        device.set_device_lost_callback(move |reason, message| {
            // Dropping the last handle reports `Destroyed`; that is no loss.
            if reason != wgpu::DeviceLostReason::Destroyed || seen.destroyed_by_test.load(Ordering::Acquire) {
                seen.set(format!("the device was lost: {message}"));
                seen.lost.store(true, Ordering::Release);
                if let Some(wake) = seen.wake.get() {
                    (wake.0)();
                }
            }
        });
        let seen = fault.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            tracing::error!("{error}");
            seen.set(error.to_string());
        }));
        let max_binding_bytes =
            usize::try_from(device.limits().max_storage_buffer_binding_size).unwrap_or(usize::MAX);
        let max_binding_bytes =
            options.max_binding_bytes.unwrap_or(usize::MAX).min(max_binding_bytes) / 256 * 256;
        Ok(Self(Arc::new(Inner {
            subgroups: summary.subgroups && !options.without_subgroups,
            f16: summary.f16 && !options.without_f16,
            cooperative: summary.cooperative_matrix.filter(|_| {
                device.features().contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX)
                    && !options.without_f16
                    && !options.without_subgroups
            }),
            int64: device.features().contains(wgpu::Features::SHADER_INT64),
            timestamps: summary.timestamps && !options.without_timestamps,
            untimed: AtomicBool::new(false),
            checked_kernels: options.checked_kernels,
            lanes: OnceLock::new(),
            tuning: Mutex::new(options.tuning),
            ceilings: Mutex::new(None),
            instance,
            adapter,
            device,
            queue,
            summary,
            max_binding_bytes,
            registry: Registry::default(),
            fault,
            injected: Plan::default(),
            kernel_edits: options.kernel_edits.clone(),
            allocated_bytes: AtomicU64::new(0),
        })))
    }

    /// The instance the device came from; the window is opened on it.
    #[must_use]
    pub fn instance(&self) -> &wgpu::Instance {
        &self.0.instance
    }

    /// The adapter the device came from.
    #[must_use]
    pub fn adapter(&self) -> &wgpu::Adapter {
        &self.0.adapter
    }

    /// The device.
    #[must_use]
    pub fn device(&self) -> &wgpu::Device {
        &self.0.device
    }

    /// The one queue.
    #[must_use]
    pub fn queue(&self) -> &wgpu::Queue {
        &self.0.queue
    }

    /// The adapter in words and numbers.
    #[must_use]
    pub fn summary(&self) -> &AdapterSummary {
        &self.0.summary
    }

    /// The adapter's name.
    #[must_use]
    pub fn adapter_name(&self) -> &str {
        &self.0.summary.name
    }

    /// Do kernels use subgroup operations?
    #[must_use]
    pub fn has_subgroups(&self) -> bool {
        self.0.subgroups
    }

    /// Do kernels use native f16?
    #[must_use]
    pub fn has_f16(&self) -> bool {
        self.0.f16
    }

    /// Side of the square matrices of f16 that the device multiplies as one with sums in f32: 8 or 16; `None` without matrix
    /// units.
    #[must_use]
    pub fn cooperative_matrix(&self) -> Option<u32> {
        self.0.cooperative
    }

    /// Have kernels 64-bit integers?
    #[must_use]
    pub fn has_int64(&self) -> bool {
        self.0.int64
    }

    pub(super) fn has_checked_kernels(&self) -> bool {
        self.0.checked_kernels
    }

    /// Have subgroups the 8 to 32 lanes that the kernels named `_lanes` want? Asks the device the first time.
    #[must_use]
    pub fn fits_lanes(&self) -> bool {
        matches!(self.subgroup_lanes(), 8 | 16 | 32)
    }

    /// Lanes of a subgroup as the device runs workgroups of 64; 1 without subgroups. Asks the device the first time.
    #[must_use]
    pub fn subgroup_lanes(&self) -> u32 {
        *self.0.lanes.get_or_init(|| {
            tuning::probe_subgroup_size(self).unwrap_or_else(|error| {
                tracing::debug!("{error}");
                1
            })
        })
    }

    /// Which kernels matrix products run on.
    #[must_use]
    pub fn tuning(&self) -> Tuning {
        let set = *self.0.tuning.lock().unwrap_or_else(PoisonError::into_inner);
        set.filter(|tuning| tuning.is_possible(self)).unwrap_or_else(|| Tuning::default_for(self))
    }

    /// Was a choice of kernels set, by options or [`Gpu::set_tuning`]?
    #[must_use]
    pub fn is_tuned(&self) -> bool {
        self.0.tuning.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Changes what models loaded from now on run their products on.
    pub fn set_tuning(&self, tuning: Tuning) {
        *self.0.tuning.lock().unwrap_or_else(PoisonError::into_inner) = Some(tuning);
    }

    /// The ceilings, once [`Gpu::ceilings`] has measured them.
    #[must_use]
    pub fn known_ceilings(&self) -> Option<Ceilings> {
        self.0.ceilings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn keep_ceilings(&self, ceilings: &Ceilings) {
        *self.0.ceilings.lock().unwrap_or_else(PoisonError::into_inner) = Some(ceilings.clone());
    }

    /// Can passes be timed on the GPU?
    #[must_use]
    pub fn has_timestamps(&self) -> bool {
        self.0.timestamps
    }

    /// Leaves steps untimed for a while, as if the adapter had no timestamps: what they cost is measured that way.
    #[doc(hidden)]
    pub fn leave_untimed(&self, untimed: bool) {
        self.0.untimed.store(untimed, Ordering::Relaxed);
    }

    pub(super) fn is_untimed(&self) -> bool {
        self.0.untimed.load(Ordering::Relaxed)
    }

    /// # Errors
    /// The adapter has no timestamps.
    pub fn check_timestamps(&self) -> Result<()> {
        if self.has_timestamps() {
            return Ok(());
        }
        let why = "this adapter has no timestamps, so only whole answers can be timed";
        Err(Error::new("timing kernels", why)
            .at(self.adapter_name())
            .help("choose another adapter with --adapter, or go on without profile mode"))
    }

    /// The largest subgroup the device may use; 1 without subgroups.
    #[must_use]
    pub fn max_subgroup_size(&self) -> u32 {
        if self.0.subgroups { self.0.summary.subgroup_sizes.1.max(1) } else { 1 }
    }

    /// The most bytes one binding may hold.
    #[must_use]
    pub fn max_binding_bytes(&self) -> usize {
        self.0.max_binding_bytes
    }

    /// Bytes of all buffers made so far, for `gpu_mb`; freed ones are taken off by [`Gpu::uncount_bytes`].
    #[must_use]
    pub fn allocated_bytes(&self) -> u64 {
        self.0.allocated_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn count_bytes(&self, bytes: u64) {
        self.0.allocated_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Takes freed buffers off [`Gpu::allocated_bytes`].
    pub fn uncount_bytes(&self, bytes: u64) {
        let less = |counted: u64| Some(counted.saturating_sub(bytes));
        let _ = self.0.allocated_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Has `wake` called, on any thread, once the device is found to be lost. The first caller's is.
    pub fn when_lost(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.0.fault.wake.set(Wake(Box::new(wake)));
    }

    /// Is the device known to be lost?
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.0.fault.lost.load(Ordering::Acquire)
    }

    /// Like [`Gpu::is_lost`], but asks the device first.
    #[must_use]
    pub fn find_out_if_lost(&self) -> bool {
        // What it says of its work is of no interest here; a loss is told to the callback.
        let _ = self.device().poll(wgpu::PollType::Poll);
        self.is_lost()
    }

    /// Destroys the device under all who use it, as if a driver had lost it; for tests.
    #[doc(hidden)]
    pub fn lose(&self) {
        let fault = &self.0.fault;
        fault.destroyed_by_test.store(true, Ordering::Release);
        // Known before anything fails of it, as with a loss that a driver reports.
        fault.set("the device was lost: a test destroyed it".to_owned());
        fault.lost.store(true, Ordering::Release);
        self.device().destroy();
        // With work under way, whoever asks the device next is the first to know.
        let _ = self.find_out_if_lost();
    }

    pub(super) fn injected(&self) -> &Plan {
        &self.0.injected
    }

    /// Keeps an error that belongs to no call, for [`Gpu::check`].
    pub(super) fn report(&self, message: &str) {
        self.0.fault.set(message.to_owned());
    }

    pub(super) fn refused(doing: &str, why: &str) -> Error {
        Error::new(doing, why).help("update the graphics driver, or choose another adapter")
    }

    pub(super) fn out_of_memory(doing: &str, why: &str) -> Error {
        Error::new(doing, format!("the device is out of memory: {why}"))
            .help("use a smaller model, a shorter context or a smaller recipe")
            .kind(ErrorKind::DoesNotFit)
    }

    pub(super) fn kernel_edits(&self) -> &[KernelEdit] {
        &self.0.kernel_edits
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.0.registry
    }

    /// The first error the device has reported outside a call since the last time it was asked, if any.
    ///
    /// # Errors
    /// That error; of kind [`ErrorKind::DeviceLost`] when the device is gone.
    pub fn check(&self) -> Result<()> {
        let lost = self.0.fault.lost.load(Ordering::Acquire);
        let mut slot = self.0.fault.message.lock().unwrap_or_else(PoisonError::into_inner);
        // A refused command is reported once; a lost device stays lost.
        let message = if lost { slot.clone() } else { slot.take() };
        let Some(message) = message else { return Ok(()) };
        let error = Error::new("running on the GPU", message).at(self.adapter_name());
        let kind = if lost { ErrorKind::DeviceLost } else { ErrorKind::DeviceFailed };
        Err(error.help("ask again; if it happens again, reload the model and update the driver").kind(kind))
    }

    /// Runs `make` and turns what the device says of it into an error.
    pub(super) fn scoped<T>(
        &self,
        doing: &str,
        subject: &str,
        point: Point,
        make: impl FnOnce(&wgpu::Device) -> T,
    ) -> Result<T> {
        self.pass(point).map_err(|error| error.at(subject))?;
        let memory = self.device().push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        // What a driver's compiler refuses is an internal error on some.
        let internal = self.device().push_error_scope(wgpu::ErrorFilter::Internal);
        let validation = self.device().push_error_scope(wgpu::ErrorFilter::Validation);
        let made = make(self.device());
        let validation = pollster::block_on(validation.pop());
        let internal = pollster::block_on(internal.pop());
        let memory = pollster::block_on(memory.pop());
        if let Some(error) = memory {
            return Err(Self::out_of_memory(doing, &error.to_string()).at(subject));
        }
        match validation.or(internal) {
            Some(error) => Err(Self::refused(doing, &error.to_string()).at(subject)),
            None => Ok(made),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_allows_less_than_the_kernels_need_is_refused_by_name() {
        let usual = wgpu::Limits::default();
        check_limits(&usual).unwrap();
        let (bytes, threads) = (NEEDED_WORKGROUP_BYTES - 1, NEEDED_INVOCATIONS - 1);
        for (limits, wanted) in [
            (wgpu::Limits { max_compute_workgroup_storage_size: bytes, ..usual.clone() }, "workgroup memory"),
            (wgpu::Limits { max_compute_invocations_per_workgroup: threads, ..usual.clone() }, "invocations"),
            (wgpu::Limits { max_storage_buffers_per_shader_stage: 4, ..usual.clone() }, "storage buffers"),
        ] {
            let error = check_limits(&limits).unwrap_err().to_string();
            assert!(error.contains(wanted) && error.contains("--adapter"), "{error}");
        }
    }

    #[test]
    fn adapters_of_one_name_are_told_apart_and_a_part_of_a_name_is_enough() {
        let named = |(index, &(name, backend)): (usize, &(&str, &str))| AdapterSummary {
            index,
            name: name.into(),
            backend: backend.into(),
            kind: "discrete".into(),
            ..AdapterSummary::default()
        };
        let names =
            [("RTX 4070 Ti", "vulkan"), ("RTX 4070", "vulkan"), ("RTX 4070", "dx12"), ("RTX 4070", "vulkan")];
        let mut all: Vec<AdapterSummary> = names.iter().enumerate().map(named).collect();
        number_twins(&mut all);
        for summary in &all {
            assert_eq!(find(&all, &summary.full_name()), Some(summary.index), "{}", summary.full_name());
        }
        let wanted =
            [("2", 2), ("rtx 4070", 1), ("4070 t", 0), ("RTX", 0), ("dx12", 2), ("(discrete, vulkan) #2", 3)];
        for (wanted, index) in wanted {
            assert_eq!(find(&all, wanted), Some(index), "{wanted}");
        }
        assert_eq!(find(&all, "Radeon"), None);
    }
}
