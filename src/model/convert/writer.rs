//! Safetensors files written as a stream: the header first, from shapes alone, then the data in any number of pieces.
//!
//! The `safetensors` crate writes from tensors that are in memory whole, reorders them, and gives no checksum; here
//! the embedding of the 8B model passes through in pieces of a megabyte.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::partial::io_error;
use crate::error::{Error, Result};
use crate::model::builtin;
use crate::model::checkpoint::Dtype;
use crate::model::converted::{FileRecord, hex};

/// The data of a file begins at a multiple of this, so that tensors of round sizes are aligned for any use.
const ALIGNMENT: usize = 64;

/// One tensor to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
}

impl Planned {
    /// Bytes of its data.
    pub(crate) fn bytes(&self) -> u64 {
        self.shape.iter().map(|n| *n as u64).product::<u64>() * self.dtype.bytes() as u64
    }
}

/// Spreads tensors over files of at most `limit` bytes of data, in order. A larger tensor gets a file of its own.
/// The result holds the index of the first tensor of each file.
pub(crate) fn cut_into_shards(sizes: impl IntoIterator<Item = u64>, limit: u64) -> Vec<usize> {
    let (mut starts, mut room) = (Vec::new(), 0);
    for (index, size) in sizes.into_iter().enumerate() {
        if starts.is_empty() || size > room {
            starts.push(index);
            room = limit.max(size);
        }
        room -= size;
    }
    starts
}

/// The hub's name for file `index` (from 0) of `count`.
pub(crate) fn shard_name(index: usize, count: usize) -> String {
    format!("model-{:05}-of-{count:05}.safetensors", index + 1)
}

/// A file being written, hashed on the way.
#[derive(Debug)]
pub(crate) struct HashedFile {
    file: BufWriter<File>,
    hash: Sha256,
    written: u64,
    path: PathBuf,
    doing: &'static str,
    /// Bytes of everything that is being made, for the advice when the disk is full.
    needed: u64,
}

impl HashedFile {
    /// Creates the file; it must not exist.
    pub(crate) fn create(path: &Path, doing: &'static str, needed: u64) -> Result<Self> {
        let file = File::create_new(path).map_err(|e| io_error(doing, path, &e, Some(needed)))?;
        Ok(Self {
            file: BufWriter::with_capacity(1 << 18, file),
            hash: Sha256::new(),
            written: 0,
            path: path.to_owned(),
            doing,
            needed,
        })
    }

    fn fail(&self, e: &std::io::Error) -> Error {
        io_error(self.doing, &self.path, e, Some(self.needed))
    }

    /// Appends bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| self.fail(&e))?;
        self.hash.update(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Ends the file, and waits until it is on the disk.
    pub(crate) fn finish(mut self) -> Result<FileRecord> {
        let ended = self.file.flush().and_then(|()| self.file.get_ref().sync_all());
        ended.map_err(|e| self.fail(&e))?;
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(FileRecord { name, bytes: self.written, sha256: hex(&self.hash.finalize()) })
    }
}

/// Writes a small file.
pub(crate) fn write_file(path: &Path, doing: &'static str, bytes: &[u8]) -> Result<FileRecord> {
    let mut file = HashedFile::create(path, doing, bytes.len() as u64)?;
    file.write(bytes)?;
    file.finish()
}

/// Copies a file as it is.
pub(crate) fn copy_file(from: &Path, to: &Path, doing: &'static str) -> Result<FileRecord> {
    let fail = |e: std::io::Error| io_error(doing, from, &e, None);
    let mut source = builtin::open(from).map_err(fail)?;
    let needed = builtin::facts(from).map_err(fail)?.len;
    let mut file = HashedFile::create(to, doing, needed)?;
    let mut piece = vec![0; 1 << 18];
    loop {
        let read = source.read(&mut piece).map_err(fail)?;
        if read == 0 {
            return file.finish();
        }
        file.write(&piece[..read])?;
    }
}

/// A safetensors file being written. Every planned tensor must be written in order and to its last byte.
#[derive(Debug)]
pub(crate) struct ShardWriter {
    file: HashedFile,
    /// Where each tensor's data ends, counted in bytes of the file.
    ends: Vec<u64>,
}

impl ShardWriter {
    /// Creates the file and writes its header. `needed` is the size of everything that is being made.
    pub(crate) fn create(
        path: &Path,
        doing: &'static str,
        tensors: &[Planned],
        note: &str,
        needed: u64,
    ) -> Result<Self> {
        let (header, mut ends) = header(tensors, note);
        let mut file = HashedFile::create(path, doing, needed)?;
        file.write(&header)?;
        for end in &mut ends {
            *end += header.len() as u64;
        }
        Ok(Self { file, ends })
    }

    /// Appends data of the tensor whose turn it is.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write(bytes)
    }

    /// Checks that exactly the first `count` tensors have been written.
    pub(crate) fn check_end_of_tensor(&self, count: usize) -> Result<()> {
        let wanted = count.checked_sub(1).and_then(|last| self.ends.get(last));
        if wanted.is_none_or(|end| *end == self.file.written) {
            return Ok(());
        }
        Err(Error::new(self.file.doing, format!("tensor {count} of the file has a wrong number of bytes"))
            .at_path(&self.file.path)
            .help("this is an error of the program: please report it"))
    }

    /// Ends the file.
    pub(crate) fn finish(self) -> Result<FileRecord> {
        self.check_end_of_tensor(self.ends.len())?;
        self.file.finish()
    }
}

/// The bytes before the data, and where each tensor ends, counted from the beginning of the data.
fn header(tensors: &[Planned], note: &str) -> (Vec<u8>, Vec<u64>) {
    let mut map = Map::new();
    // Python's loaders look for the format "pt".
    map.insert("__metadata__".into(), json!({"format": "pt", "note": note}));
    let (mut ends, mut end) = (Vec::with_capacity(tensors.len()), 0);
    for tensor in tensors {
        let begin = end;
        end += tensor.bytes();
        let entry =
            json!({"dtype": tensor.dtype.name(), "shape": tensor.shape, "data_offsets": [begin, end]});
        map.insert(tensor.name.clone(), entry);
        ends.push(end);
    }
    let mut json = Value::Object(map).to_string().into_bytes();
    json.resize((8 + json.len()).next_multiple_of(ALIGNMENT) - 8, b' ');
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut json);
    (bytes, ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_file_is_read_by_the_safetensors_crate_and_its_data_is_aligned() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("w.safetensors");
        let tensors = [
            Planned { name: "b".into(), dtype: Dtype::F32, shape: vec![2, 3] },
            Planned { name: "a\"quoted".into(), dtype: Dtype::I8, shape: vec![5] },
        ];
        let mut writer = ShardWriter::create(&path, "writing", &tensors, "for a test", 29).expect("created");
        writer.write(&[1; 20]).expect("written");
        assert!(writer.check_end_of_tensor(1).is_err());
        writer.write(&[1; 4]).expect("written");
        writer.check_end_of_tensor(1).expect("the first is complete");
        writer.write(&[2; 5]).expect("written");
        let record = writer.finish().expect("complete");
        let bytes = std::fs::read(&path).expect("readable");
        assert_eq!((record.bytes, record.sha256), (bytes.len() as u64, hex(&Sha256::digest(&bytes))));
        let read = safetensors::SafeTensors::deserialize(&bytes).expect("valid");
        assert_eq!(read.tensor("b").expect("there").shape(), [2, 3]);
        assert_eq!(read.tensor("a\"quoted").expect("there").data(), [2; 5]);
        assert_eq!((bytes.len() - 29) % ALIGNMENT, 0);
    }

    #[test]
    fn shards_keep_the_order_and_the_limit() {
        assert_eq!(cut_into_shards([5, 5, 1, 20, 3, 3], 10), [0, 2, 3, 4]);
        assert_eq!(cut_into_shards([], 10), Vec::<usize>::new());
        assert_eq!(shard_name(0, 3), "model-00001-of-00003.safetensors");
    }
}
