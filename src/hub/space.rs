//! Room `hub`: how much room there is, on a disk and in memory.

use std::path::Path;

use sysinfo::{MemoryRefreshKind, RefreshKind, System};

/// Bytes for people: `4.26 GB`, `680 MB`.
#[must_use]
pub fn words(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.0} kB", (bytes as f64 / 1e3).ceil()),
        1_000_000..1_000_000_000 => format!("{:.0} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

/// Bytes free on the disk of `path`, or of the nearest folder above it that exists; `None` where the system does not say.
#[must_use]
pub fn free_on_disk(path: &Path) -> Option<u64> {
    let there = path.ancestors().find(|folder| folder.exists())?;
    let there = if there.as_os_str().is_empty() { Path::new(".") } else { there };
    fs4::available_space(there).ok()
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
    fn this_machine_has_memory_and_its_disk_some_room() {
        let memory = machine_memory().expect("the system says");
        assert!(memory.available_bytes <= memory.total_bytes && memory.total_bytes > 1 << 28);
        let folder = tempfile::tempdir().expect("temporary folder");
        let free = free_on_disk(&folder.path().join("not/there/yet")).expect("the system says");
        assert!(free > 0);
        assert_eq!([words(999), words(4_260_000_000), words(680_000_000)], ["1 kB", "4.26 GB", "680 MB"]);
    }
}
