//! Room: `model`. The demo model that this program carries, read as if its files lay in a folder.
//!
//! Everything that reads a model's files asks here first, so nothing else knows that this folder is on no disk: no copy
//! is made, nothing can be half-written, and an error names the file as it does elsewhere.

use std::borrow::Cow;
use std::io::{self, Read};
use std::path::Path;

use crate::bounded;

/// The name that opens it.
pub const NAME: &str = "demo";
/// What it is, said wherever it is named.
pub const FULL_NAME: &str = "Ocelli demo: drawn shapes only, not a general model";
/// Stands where a path is wanted.
const FOLDER: &str = "<built in>/demo";

/// A file of the model.
macro_rules! embedded {
    ($name:literal) => {
        ($name, include_bytes!(concat!("../../assets/demo-model/", $name)))
    };
}

/// Its files: what `ocelli convert` wrote, and nothing else of the folder they are kept in.
const FILES: [(&str, &[u8]); 9] = [
    embedded!("ocelli.json"),
    embedded!("config.json"),
    embedded!("generation_config.json"),
    embedded!("preprocessor_config.json"),
    embedded!("video_preprocessor_config.json"),
    embedded!("tokenizer.json"),
    embedded!("tokenizer_config.json"),
    embedded!("chat_template.json"),
    embedded!("model-00001-of-00001.safetensors"),
];

/// The folder it is read from; it exists nowhere.
#[must_use]
pub fn folder() -> &'static Path {
    Path::new(FOLDER)
}

/// Is it this model that is meant, by its name or by its folder?
#[must_use]
pub fn is_meant(model: &Path) -> bool {
    model == Path::new(NAME) || model == folder()
}

/// The file at `path`, or that there is none, if it lies in the model's folder; otherwise nothing.
fn find(path: &Path) -> Option<io::Result<&'static [u8]>> {
    let name = path.strip_prefix(FOLDER).ok()?;
    let found = FILES.iter().find(|(known, _)| Path::new(known) == name).map(|(_, bytes)| *bytes);
    Some(found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound)))
}

/// The file at `path`, if it is one of this model's.
pub(crate) fn bytes(path: &Path) -> Option<&'static [u8]> {
    find(path)?.ok()
}

/// What is to be known of a file before it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub is_file: bool,
    pub len: u64,
}

/// Looks at a file, here or on the disk.
pub(crate) fn facts(path: &Path) -> io::Result<Facts> {
    match find(path) {
        Some(found) => found.map(|bytes| Facts { is_file: true, len: bytes.len() as u64 }),
        None => std::fs::metadata(path).map(|m| Facts { is_file: m.is_file(), len: m.len() }),
    }
}

/// Is there a file at `path`, here or on the disk?
pub(crate) fn is_file(path: &Path) -> bool {
    facts(path).is_ok_and(|facts| facts.is_file)
}

/// Reads a file whole, here or, where it has at most so many bytes, from the disk.
pub(crate) fn read(path: &Path, most_bytes: u64) -> io::Result<Cow<'static, [u8]>> {
    match find(path) {
        Some(found) => found.map(Cow::Borrowed),
        None => bounded::file(path, most_bytes).map(Cow::Owned),
    }
}

/// Opens a file for reading, here or from the disk.
pub(crate) fn open(path: &Path) -> io::Result<Box<dyn Read>> {
    match find(path) {
        Some(found) => found.map(|bytes| Box::new(bytes) as Box<dyn Read>),
        // Opening a pipe would wait for its other end.
        None if !facts(path)?.is_file => Err(io::Error::other("it is not a file")),
        None => Ok(Box::new(std::fs::File::open(path)?)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::model::converted::{ConvertedModel, MANIFEST_FILE};
    use crate::model::recipe::Recipe;

    #[test]
    fn the_model_in_the_program_is_complete_whole_and_small() {
        let model = ConvertedModel::open(folder()).expect("opens");
        assert_eq!(model.recipe(), Recipe::Int8Hu);
        model.verify(&mut |_, _| (), &AtomicBool::new(false)).expect("its checksums are right");
        let manifest = model.manifest();
        let records = manifest.weights.iter().chain(&manifest.files).map(|record| record.name.as_str());
        let mut named: Vec<&str> = records.chain([MANIFEST_FILE]).collect();
        let mut here: Vec<&str> = FILES.iter().map(|(name, _)| *name).collect();
        named.sort_unstable();
        here.sort_unstable();
        assert_eq!(here, named);
        assert!(FILES.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() < 8_500_000);
    }

    #[test]
    fn paths_outside_its_folder_mean_the_disk() {
        assert!(is_meant(Path::new("demo")) && is_meant(folder()) && !is_meant(Path::new("./other/demo")));
        assert_eq!(bytes(&folder().join("config.json")), Some(FILES[1].1));
        let error = read(&folder().join("none"), 9).expect_err("there is no such file");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("config.json");
        std::fs::write(&path, b"disk").expect("writable");
        assert_eq!(&*read(&path, 9).expect("readable"), b"disk");
        assert!(is_file(&path) && !is_file(folder.path()) && bytes(&path).is_none());
    }
}
