//! GGUF files: headers, blocks, and a whole small model with pieces written over.

use ocelli::model::gguf::{check_header, decode_blocks, read_whole};

use super::{Folder, choice, patched, read};

const TEXT: &[u8] = include_bytes!("../../tests/oracle/fixtures/gguf/mono-Q8_0/mono-Q8_0.gguf");
const VISION: &[u8] = include_bytes!("../../tests/oracle/fixtures/gguf/mono-Q8_0/mmproj-mono-Q8_0.gguf");
/// Bytes of the text file before its tensors, and of the vision file.
const TEXT_HEADER: usize = 24 << 10;
const VISION_HEADER: usize = 8 << 10;

/// The first byte says whether the rest is a whole file, what follows the magic, blocks of a type, or pieces written over the text
/// file or the vision file of a small model.
pub fn run(data: &[u8]) {
    let Some((door, rest)) = choice(data, 6) else { return };
    match door {
        0 => drop(read(check_header(rest))),
        1 => drop(read(check_header(&[b"GGUF\x03\0\0\0", rest].concat()))),
        2 => {
            let Some((kind, blocks)) = rest.split_first() else { return };
            decode_blocks(u32::from(*kind % 40), blocks, &mut Vec::new());
        }
        3 => whole(&patched(TEXT, rest, TEXT_HEADER), Some(VISION)),
        4 => whole(&patched(TEXT, rest, TEXT_HEADER), None),
        _ => whole(TEXT, Some(&patched(VISION, rest, VISION_HEADER))),
    }
}

fn whole(text: &[u8], vision: Option<&[u8]>) {
    let folder = Folder::new();
    let text = folder.put("a.gguf", text);
    let vision = vision.map(|bytes| folder.put("mmproj-a.gguf", bytes));
    read(read_whole(&text, vision.as_deref()));
}
