//! Headers that claim more than there is.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ocelli::costs::unpack;
use ocelli::error::ErrorKind;
use ocelli::model::checkpoint::check_header;
use ocelli::model::clip::Clip;
use ocelli::model::gguf;
use ocelli::model::picture::{Picture, file_kind};
use ocelli::model::preprocessor::FrameSampling;

/// Claims are found out at once; a busy machine is given time.
const AT_ONCE: Duration = Duration::from_secs(5);

#[track_caller]
fn at_once<T>(work: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let done = work();
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    done
}

const HUGE: u64 = 1 << 60;

#[test]
fn weights_of_two_to_the_sixtieth() {
    let length = |n: u64| n.to_le_bytes().to_vec();
    let header = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes(), &[0; 16]].concat();
    for file in [
        length(HUGE),
        length(u64::MAX),
        header(&format!(r#"{{"w":{{"dtype":"F32","shape":[{HUGE}],"data_offsets":[0,16]}}}}"#)),
        header(&format!(r#"{{"w":{{"dtype":"F32","shape":[{HUGE},{HUGE}],"data_offsets":[0,{HUGE}]}}}}"#)),
        header(&format!(r#"{{"w":{{"dtype":"I8","shape":[{HUGE}],"data_offsets":[0,{HUGE}]}}}}"#)),
        header(&format!(r#"{{"w":{{"dtype":"I8","shape":[0,{HUGE}],"data_offsets":[{HUGE},{HUGE}]}}}}"#)),
    ] {
        at_once(|| check_header(&file).unwrap_err());
    }
    let gguf = |rest: &[&[u8]]| [b"GGUF\x03\0\0\0".as_slice(), &rest.concat()].concat();
    let (huge, none, one) = (HUGE.to_le_bytes(), 0_u64.to_le_bytes(), 1_u64.to_le_bytes());
    let (text, list) = (8_u32.to_le_bytes(), 9_u32.to_le_bytes());
    for file in [
        gguf(&[&huge, &none]),
        gguf(&[&none, &huge]),
        gguf(&[&none, &one, &huge]),
        gguf(&[&none, &one, &one, b"k", &text, &huge]),
        gguf(&[&none, &one, &one, b"k", &list, &text, &huge]),
        gguf(&[&none, &one, &one, b"k", &list, &4_u32.to_le_bytes(), &huge]),
        gguf(&[&one, &none, &one, b"t", &2_u32.to_le_bytes(), &huge, &huge, &none[..4], &none]),
        gguf(&[&one, &none, &one, b"t", &1_u32.to_le_bytes(), &32_u64.to_le_bytes(), &none[..4], &huge]),
    ] {
        at_once(|| gguf::check_header(&file).unwrap_err());
    }
}

/// Files of each format that claim 2^16 pixels, or as many as the format can, in both directions, and hold next to none.
fn enormous() -> Vec<(&'static str, Vec<u8>)> {
    let tag = |id: u16, kind: u16, value: u32| {
        [&id.to_le_bytes()[..], &kind.to_le_bytes(), &1_u32.to_le_bytes(), &value.to_le_bytes()].concat()
    };
    let tags = [
        (256, 60_000),
        (257, 60_000),
        (258, 8),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (278, 60_000),
        (279, 9),
    ];
    let directory: Vec<u8> = tags.iter().flat_map(|(id, value)| tag(*id, 4, *value)).collect();
    let tiff =
        [b"II*\0".as_slice(), &20_u32.to_le_bytes(), &[7; 12], &9_u16.to_le_bytes(), &directory, &[0; 4]]
            .concat();
    let bmp = [
        b"BM".as_slice(),
        &90_u32.to_le_bytes(),
        &[0; 4],
        &54_u32.to_le_bytes(),
        &40_u32.to_le_bytes(),
        &1_000_000_u32.to_le_bytes(),
        &1_000_000_u32.to_le_bytes(),
        &1_u16.to_le_bytes(),
        &24_u16.to_le_bytes(),
        &[0; 24],
        &[7; 36],
    ]
    .concat();
    let gif = [
        b"GIF89a".as_slice(),
        &[0xff; 4],
        &[0, 0, 0],
        b",\0\0\0\0",
        &[0xff; 4],
        &[0, 2, 2, 0x4c, 1, 0],
        b";",
    ]
    .concat();
    let frame = [&[8_u8][..], &[0xff; 4], &[1, 1, 0x11, 0]].concat();
    let jpeg = [
        b"\xff\xd8\xff\xc0\0\x0b".as_slice(),
        &frame,
        b"\xff\xda\0\x08\x01\x01\0\0\x3f\0",
        &[0; 9],
        b"\xff\xd9",
    ]
    .concat();
    // A VP8L chunk: 14 bits each of width and height, less one.
    let webp =
        [b"RIFF\x1a\0\0\0WEBPVP8L\x0e\0\0\0\x2f".as_slice(), &[0xff, 0xff, 0xff, 0x0f], &[0; 9]].concat();
    let extended =
        [b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0".as_slice(), &[0xff; 6], b"ANIM\0\0\0\0"].concat();
    vec![
        ("tiff", tiff),
        ("bmp", bmp),
        ("gif", gif),
        ("jpeg", jpeg),
        ("webp", webp),
        ("extended webp", extended),
    ]
}

#[test]
fn pictures_of_billions_of_pixels() {
    for (name, bytes) in enormous() {
        let error = at_once(|| Picture::from_bytes(&bytes, name).unwrap_err());
        println!("{error}");
        let _ = at_once(|| file_kind(&bytes, name));
        let animation: Arc<[u8]> = bytes.into();
        at_once(|| Clip::from_bytes(animation, name, FrameSampling::default()).unwrap_err());
    }
    let (_, gif) = enormous().swap_remove(2);
    let error = Picture::from_bytes(&gif, "a.gif").unwrap_err();
    assert!(
        error.get_kind() == ErrorKind::DoesNotFit && error.to_string().contains("65535x65535"),
        "{error}"
    );
}

#[test]
fn an_animation_of_very_many_tiny_frames() {
    let frame = [b"!\xf9\x04\0\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0".as_slice()].concat();
    let head = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff";
    let bytes: Arc<[u8]> = [head.as_slice(), &frame.repeat(150_000), b";"].concat().into();
    let error = at_once(|| Clip::from_bytes(bytes, "a.gif", FrameSampling::default()).unwrap_err());
    assert!(error.to_string().contains("more than 100000 frames"), "{error}");
}

fn packed(raw: &[u8]) -> Vec<u8> {
    let mut deflated = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    deflated.write_all(raw).unwrap();
    let deflated = deflated.finish().unwrap();
    [&[1], (deflated.len() as u32).to_le_bytes().as_slice(), deflated.as_slice()].concat()
}

#[test]
fn costs_that_claim_to_be_many() {
    let number = |mut n: u64| {
        let mut bytes = Vec::new();
        while n > 127 {
            bytes.push(n as u8 & 127 | 128);
            n >>= 7;
        }
        bytes.push(n as u8);
        bytes
    };
    for raw in [
        number(HUGE),
        // One piece whose model's name is that long, or whose list of pictures.
        [number(1), number(HUGE)].concat(),
        [vec![1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], number(HUGE)].concat(),
        // A deflate bomb: half a gigabyte of nothing, and as many pieces that hold nothing as fit.
        [number(9000), vec![0; 512 << 20]].concat(),
        [number(1_000_000), vec![0; 40 << 20]].concat(),
    ] {
        let bytes = packed(&raw);
        assert!(bytes.len() < 1 << 20);
        let error = at_once(|| unpack(&bytes).unwrap_err());
        println!("{error}");
    }
    let length = [&[1], u32::MAX.to_le_bytes().as_slice(), &[0; 9]].concat();
    assert!(unpack(&length).unwrap_err().to_string().contains("ends too early"));
}
