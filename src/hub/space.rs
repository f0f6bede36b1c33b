//! Room `hub`: how much room there is on a disk.

use std::path::Path;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machines_disk_has_some_room() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let free = free_on_disk(&folder.path().join("not/there/yet")).expect("the system says");
        assert!(free > 0);
        assert_eq!([words(999), words(4_260_000_000), words(680_000_000)], ["1 kB", "4.26 GB", "680 MB"]);
    }
}
