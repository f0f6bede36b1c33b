//! A disk that is soon full: a tmpfs of a given size, where this system lets us mount one (Linux, as root).

use std::io::Write;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// Unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk(TempDir);

impl SmallDisk {
    /// `None`, and a line that says so, where it cannot be had: the test that asked for it then tests nothing.
    pub fn mount(size_bytes: u64) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = cfg!(target_os = "linux")
            && Command::new("mount")
                .args(["-t", "tmpfs", "-o", &format!("size={size_bytes}"), "ocelli-test"])
                .arg(folder.path())
                .output()
                .is_ok_and(|output| output.status.success());
        if !mounted {
            eprintln!("not tested: this system gives us no small disk (mounting a tmpfs needs root)");
        }
        mounted.then(|| Self(folder))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

/// Writes into a new file until nothing more fits.
pub fn fill(file: &Path) {
    let mut file = std::fs::File::create(file).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
}
