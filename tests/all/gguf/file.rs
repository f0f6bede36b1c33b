//! A GGUF file to be changed at will: a reader and a writer that share nothing with the program's.

use std::path::Path;

#[derive(Clone)]
pub struct Key {
    pub name: String,
    /// Type, and the value's bytes.
    pub kind: u32,
    pub value: Vec<u8>,
}

#[derive(Clone)]
pub struct Tensor {
    pub name: String,
    /// Sizes, fastest axis first.
    pub sizes: Vec<u64>,
    pub kind: u32,
    pub data: Vec<u8>,
}

#[derive(Clone)]
pub struct File {
    pub keys: Vec<Key>,
    pub tensors: Vec<Tensor>,
}

struct Reader<'a>(&'a [u8], usize);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> &'a [u8] {
        let bytes = &self.0[self.1..self.1 + n];
        self.1 += n;
        bytes
    }
    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().unwrap())
    }
    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take(8).try_into().unwrap())
    }
    fn text(&mut self) -> String {
        let n = self.u64() as usize;
        String::from_utf8(self.take(n).to_vec()).unwrap()
    }
    fn skip(&mut self, kind: u32) {
        match kind {
            0 | 1 | 7 => self.1 += 1,
            2 | 3 => self.1 += 2,
            4..=6 => self.1 += 4,
            10..=12 => self.1 += 8,
            8 => drop(self.text()),
            9 => {
                let (inner, count) = (self.u32(), self.u64());
                (0..count).for_each(|_| self.skip(inner));
            }
            other => panic!("type {other}"),
        }
    }
}

fn bytes_of(kind: u32, elements: u64) -> usize {
    (match kind {
        0 => elements * 4,
        1 | 30 => elements * 2,
        8 => elements / 32 * 34,
        12 => elements / 256 * 144,
        14 => elements / 256 * 210,
        other => panic!("element type {other}"),
    }) as usize
}

impl File {
    pub fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let mut r = Reader(&bytes, 8);
        let (tensors, keys) = (r.u64(), r.u64());
        let keys = (0..keys)
            .map(|_| {
                let (name, kind) = (r.text(), r.u32());
                let start = r.1;
                r.skip(kind);
                Key { name, kind, value: bytes[start..r.1].to_vec() }
            })
            .collect();
        let infos: Vec<_> = (0..tensors)
            .map(|_| {
                let (name, axes) = (r.text(), r.u32());
                let sizes: Vec<u64> = (0..axes).map(|_| r.u64()).collect();
                (name, sizes, r.u32(), r.u64() as usize)
            })
            .collect();
        let start = r.1.next_multiple_of(32);
        let tensors = infos
            .into_iter()
            .map(|(name, sizes, kind, offset)| {
                let length = bytes_of(kind, sizes.iter().product());
                Tensor { name, sizes, kind, data: bytes[start + offset..start + offset + length].to_vec() }
            })
            .collect();
        Self { keys, tensors }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF\x03\0\0\0".to_vec();
        let text = |out: &mut Vec<u8>, text: &str| {
            out.extend((text.len() as u64).to_le_bytes());
            out.extend(text.as_bytes());
        };
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.keys.len() as u64).to_le_bytes());
        for key in &self.keys {
            text(&mut out, &key.name);
            out.extend(key.kind.to_le_bytes());
            out.extend(&key.value);
        }
        let mut offset = 0;
        for tensor in &self.tensors {
            text(&mut out, &tensor.name);
            out.extend((tensor.sizes.len() as u32).to_le_bytes());
            tensor.sizes.iter().for_each(|n| out.extend(n.to_le_bytes()));
            out.extend(tensor.kind.to_le_bytes());
            out.extend((offset as u64).to_le_bytes());
            offset += tensor.data.len().next_multiple_of(32);
        }
        for tensor in &self.tensors {
            out.resize(out.len().next_multiple_of(32), 0);
            out.extend(&tensor.data);
        }
        out.resize(out.len().next_multiple_of(32), 0);
        out
    }

    pub fn write(&self, path: &Path) {
        std::fs::write(path, self.bytes()).unwrap();
    }

    pub fn set(&mut self, name: &str, kind: u32, value: Vec<u8>) {
        self.keys.retain(|key| key.name != name);
        self.keys.push(Key { name: name.to_owned(), kind, value });
    }

    pub fn set_number(&mut self, name: &str, value: u32) {
        self.set(name, 4, value.to_le_bytes().to_vec());
    }

    pub fn set_text(&mut self, name: &str, text: &str) {
        let mut value = (text.len() as u64).to_le_bytes().to_vec();
        value.extend(text.as_bytes());
        self.set(name, 8, value);
    }

    pub fn tensor(&mut self, name: &str) -> &mut Tensor {
        self.tensors.iter_mut().find(|tensor| tensor.name == name).unwrap()
    }
}

/// A text model wide enough for K-quants, one layer, with `mono`'s tokenizer, in the mix that is called Q4_K_M.
pub fn k_quants() -> File {
    let mut file = File::read(&super::pair("mono-Q8_0").0);
    for (key, value) in [
        ("embedding_length", 256),
        ("feed_forward_length", 512),
        ("block_count", 1),
        ("attention.head_count", 4),
        ("attention.head_count_kv", 2),
    ] {
        file.set_number(&format!("qwen3vl.{key}"), value);
    }
    let mut state = 9_u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32
    };
    let mut matrix = |name: &str, sizes: [u64; 2], kind: u32| {
        let (size, scales) = if kind == 12 { (144, [0, 2]) } else { (210, [208, 208]) };
        let mut data: Vec<u8> =
            (0..bytes_of(kind, sizes[0] * sizes[1])).map(|_| (random() & 255) as u8).collect();
        for block in data.chunks_mut(size) {
            // Weights of about a tenth.
            for (at, scale) in scales.into_iter().zip([2e-4, 1.5e-3]) {
                let scale = if kind == 12 { scale } else { 4e-5 };
                block[at..at + 2].copy_from_slice(&half::f16::from_f32(scale).to_le_bytes());
            }
        }
        Tensor { name: name.to_owned(), sizes: sizes.to_vec(), kind, data }
    };
    let vector = |name: &str, n: u64| {
        let data = (0..n).flat_map(|i| (1.0 + (i % 7) as f32 / 10.0).to_le_bytes()).collect();
        Tensor { name: name.to_owned(), sizes: vec![n], kind: 0, data }
    };
    file.tensors = vec![
        matrix("token_embd.weight", [256, 704], 14),
        vector("output_norm.weight", 256),
        vector("blk.0.attn_norm.weight", 256),
        matrix("blk.0.attn_q.weight", [256, 256], 12),
        matrix("blk.0.attn_k.weight", [256, 128], 12),
        matrix("blk.0.attn_v.weight", [256, 128], 14),
        vector("blk.0.attn_q_norm.weight", 64),
        vector("blk.0.attn_k_norm.weight", 64),
        matrix("blk.0.attn_output.weight", [256, 256], 12),
        vector("blk.0.ffn_norm.weight", 256),
        matrix("blk.0.ffn_gate.weight", [256, 512], 12),
        matrix("blk.0.ffn_up.weight", [256, 512], 12),
        matrix("blk.0.ffn_down.weight", [512, 256], 14),
    ];
    file
}
