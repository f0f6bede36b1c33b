//! Headers of safetensors files, and the list of shards beside them.

use ocelli::model::checkpoint::{Checkpoint, TensorFiles, check_header};

use super::{Folder, choice, read};

const CONFIG: &[u8] = include_bytes!("../../tests/oracle/fixtures/mono/model/config.json");

/// The first byte says whether the rest is a whole file, a header whose length is right, one with data behind it, or
/// `model.safetensors.index.json`.
pub fn run(data: &[u8]) {
    let Some((door, rest)) = choice(data, 4) else { return };
    match door {
        0 => drop(read(check_header(rest))),
        1 => drop(read(check_header(&with_length(rest)))),
        2 => {
            let Some((size, header)) = rest.split_first_chunk::<2>() else { return };
            let mut file = with_length(header);
            file.resize(file.len() + usize::from(u16::from_le_bytes(*size)), 0);
            let folder = Folder::new();
            folder.put("a.safetensors", &file);
            let names = ["a.safetensors".to_owned()];
            let Some(files) = read(TensorFiles::open(folder.path(), &names)) else { return };
            let mut values = Vec::new();
            for name in files.names() {
                let rows = files.shape(name).and_then(|shape| shape.first().copied()).unwrap_or(1);
                // Empty tensors may have any number of rows.
                read(files.read_f32(name, 0..rows.min(4), &mut values));
            }
        }
        _ => {
            let folder = Folder::new();
            folder.put("config.json", CONFIG);
            folder.put("a.safetensors", &with_length(b"{}"));
            folder.put("model.safetensors.index.json", rest);
            assert!(read(Checkpoint::open(folder.path())).is_none(), "no tensor is there");
        }
    }
}

fn with_length(header: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header].concat()
}
