//! Room `hub`: how much room there is on a disk.

pub use crate::model::disk::free_on_disk;

/// Bytes for people: `4.26 GB`, `680 MB`.
#[must_use]
pub fn words(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.0} kB", (bytes as f64 / 1e3).ceil()),
        1_000_000..1_000_000_000 => format!("{:.0} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_a_person_writes_them() {
        assert_eq!([words(999), words(4_260_000_000), words(680_000_000)], ["1 kB", "4.26 GB", "680 MB"]);
    }
}
