//! Room `model`. How much room a disk has, asked before gigabytes are written.

use std::path::Path;

use crate::error::{Error, Result};
use crate::model::convert::partial::gigabytes;

/// Bytes free on the disk of `path`, or of the nearest folder above it that exists; `None` where the system does not say.
#[must_use]
pub fn free_on_disk(path: &Path) -> Option<u64> {
    let there = path.ancestors().find(|folder| folder.exists())?;
    let there = if there.as_os_str().is_empty() { Path::new(".") } else { there };
    fs4::available_space(there).ok()
}

/// Checks that `bytes` fit on the disk of `path`.
///
/// # Errors
/// They do not; the error has both numbers.
pub fn check_disk(path: &Path, bytes: u64, doing: &str) -> Result<()> {
    match free_on_disk(path) {
        Some(free) if free < bytes => {
            let cause =
                format!("{} are needed on the disk and {} are free", gigabytes(bytes), gigabytes(free));
            Err(Error::new(doing, cause)
                .at_path(path)
                .help("free some space, or choose a folder on another disk (OCELLI_CACHE)"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_a_disk_has_is_refused_with_both_numbers() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("not/there/yet");
        assert!(free_on_disk(&path).expect("the system says") > 0);
        check_disk(&path, 1, "converting").expect("one byte fits");
        let error = check_disk(&path, u64::MAX, "converting").expect_err("that is too much").to_string();
        assert!(error.contains("are free") && error.contains("OCELLI_CACHE"), "{error}");
    }
}
