//! What fuzzing has kept, once more through the functions that it found them with (`fuzz/`): the corpora, which reach as far into
//! each reader as fuzzing did, and the inputs that once ended badly.

#[path = "../../fuzz/bodies/mod.rs"]
mod bodies;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// No input that is kept takes longer; the slowest take a tenth of it.
const LONGEST: Duration = Duration::from_secs(10);

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Runs what is kept of a target; gives the number of files.
fn replay(kind: &str, name: &str) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(kind).join(name);
    let files = files(&folder);
    for file in &files {
        let began = Instant::now();
        bodies::run(name, &fs::read(file).unwrap());
        assert!(began.elapsed() < LONGEST, "{} takes {:?}", file.display(), began.elapsed());
    }
    files.len()
}

#[test]
fn what_fuzzing_has_kept_ends_well() {
    let replayed: Vec<usize> = std::thread::scope(|scope| {
        let threads: Vec<_> = bodies::ALL
            .map(|(name, _)| scope.spawn(move || replay("corpus", name) + replay("regressions", name)))
            .into_iter()
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for ((name, _), files) in bodies::ALL.iter().zip(replayed) {
        assert!(files > 0, "nothing is kept of {name}");
    }
}

#[test]
fn every_body_is_a_target_and_every_kept_folder_has_one() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    for (name, _) in bodies::ALL {
        assert!(fuzz.join("fuzz_targets").join(name).with_extension("rs").is_file(), "{name}");
        assert!(
            manifest.contains(&format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"")),
            "{name}"
        );
    }
    for folder in ["corpus", "regressions"].iter().flat_map(|kind| files(&fuzz.join(kind))) {
        let name = folder.file_name().unwrap().to_str().unwrap();
        assert!(bodies::ALL.iter().any(|(known, _)| *known == name), "{name}");
    }
}
