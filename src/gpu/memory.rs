//! Room `gpu`: how much memory an adapter and its machine have, as far as driver and system say.
#![allow(
    unsafe_code,
    reason = "wgpu says nothing of an adapter's memory; Vulkan does, through wgpu's own handles"
)]

use sysinfo::{MemoryRefreshKind, RefreshKind, System};

use super::device::Gpu;

/// Memory of an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct AdapterMemory {
    /// Bytes of its own memory, or of the part of the machine's that it may use.
    pub total_bytes: u64,
    /// Is it the machine's memory, which programs share?
    pub is_shared: bool,
}

/// The part of a Mac's memory that Metal advises a program to use, about.
const METAL_SHARE: f64 = 0.75;

impl Gpu {
    /// What the driver says of the adapter's memory. `machine_bytes` is this machine's memory in all, for adapters that share it.
    /// `None` where nobody says (DX12).
    #[must_use]
    pub fn adapter_memory(&self, machine_bytes: Option<u64>) -> Option<AdapterMemory> {
        let info = self.adapter().get_info();
        let is_shared = info.device_type != wgpu::DeviceType::DiscreteGpu;
        if info.backend == wgpu::Backend::Metal {
            let total_bytes = (machine_bytes? as f64 * METAL_SHARE) as u64;
            return Some(AdapterMemory { total_bytes, is_shared: true });
        }
        // Drivers that share the machine's memory tell of heaps that are no limits: 2 GiB for some software devices, a small part
        // for some that sit beside a processor.
        let total_bytes = if is_shared { machine_bytes } else { self.vulkan_heaps() };
        total_bytes.map(|total_bytes| AdapterMemory { total_bytes, is_shared })
    }

    /// Bytes of the largest heap that is the device's own.
    #[cfg(any(target_os = "linux", target_os = "windows", target_os = "freebsd", target_os = "android"))]
    fn vulkan_heaps(&self) -> Option<u64> {
        // SAFETY: the handle is only read from, and dropped before the adapter: nothing of it is destroyed or kept.
        let adapter = unsafe { self.adapter().as_hal::<wgpu::hal::api::Vulkan>() }?;
        let instance = adapter.shared_instance().raw_instance();
        // SAFETY: the physical device belongs to this instance, and both live as long as `adapter` does. The call only fills a
        // structure, which it returns.
        let memory = unsafe { instance.get_physical_device_memory_properties(adapter.raw_physical_device()) };
        // Bit 0 of a heap's flags: device local.
        let heaps = memory.memory_heaps.iter().take(memory.memory_heap_count as usize);
        heaps.filter(|heap| heap.flags.as_raw() & 1 == 1).map(|heap| heap.size).max()
    }

    #[cfg(not(any(
        target_os = "linux",
        target_os = "windows",
        target_os = "freebsd",
        target_os = "android"
    )))]
    #[expect(clippy::unused_self, reason = "the same call on every system")]
    fn vulkan_heaps(&self) -> Option<u64> {
        None
    }

    /// Does the processor do the work of a device?
    #[must_use]
    pub fn is_software(&self) -> bool {
        self.adapter().get_info().device_type == wgpu::DeviceType::Cpu
    }

    /// Bytes the driver's allocator holds for this device, where it says so: more than what buffers need, because it takes memory in
    /// blocks.
    #[must_use]
    pub fn reserved_bytes(&self) -> Option<u64> {
        self.device().generate_allocator_report().map(|report| report.total_reserved_bytes)
    }
}

/// This machine's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct MachineMemory {
    /// Bytes in all.
    pub total_bytes: u64,
    /// Bytes that programs can have now.
    pub available_bytes: u64,
}

/// What the system says of its memory; `None` where it says nothing.
#[must_use]
pub fn machine_memory() -> Option<MachineMemory> {
    let system = System::new_with_specifics(
        RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram()),
    );
    let memory =
        MachineMemory { total_bytes: system.total_memory(), available_bytes: system.available_memory() };
    (memory.total_bytes > 0).then_some(memory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_memory() {
        let memory = machine_memory().expect("the system says");
        assert!(memory.available_bytes <= memory.total_bytes && memory.total_bytes > 1 << 28);
    }
}
