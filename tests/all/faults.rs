//! Would the suite see the mistakes others have made? Each is planted on purpose, in the kernels' text or in
//! the decoder, and must fail a gate of the f32 parity tests that the unchanged program passes.

use ocelli::engine::trace::trace;
use ocelli::gpu::{Gpu, GpuOptions, KernelEdit, Tuning};
use ocelli::model::kv_cache::KvFormat;
use ocelli::model::loaded::LoadOptions;
use ocelli::model::recipe::Recipe;

use crate::int8_cache;
use crate::support::*;

struct Fault {
    name: &'static str,
    /// Is it one of the int8 cache, and so a matter of that cache's gates?
    int8_cache: bool,
    edits: &'static [(&'static str, &'static str, &'static str)],
    first_deepstack_layer: usize,
}

const fn kernel(name: &'static str, edits: &'static [(&'static str, &'static str, &'static str)]) -> Fault {
    Fault { name, int8_cache: false, edits, first_deepstack_layer: 0 }
}

const fn int8_cache(
    name: &'static str,
    edits: &'static [(&'static str, &'static str, &'static str)],
) -> Fault {
    Fault { int8_cache: true, ..kernel(name, edits) }
}

const FAULTS: &[Fault] = &[
    kernel(
        "M-RoPE sections in blocks, not interleaved",
        &[
            (
                "rope_and_cache",
                "k % 3u == 1u && k < 3u * p.section_h",
                "k >= HALF - p.section_h - p.section_w && k < HALF - p.section_w",
            ),
            ("rope_and_cache", "k % 3u == 2u && k < 3u * p.section_w", "k >= HALF - p.section_w"),
        ],
    ),
    kernel(
        "M-RoPE without height and width",
        &[("rope_and_cache", "at = row.h;", "at = row.t;"), ("rope_and_cache", "at = row.w;", "at = row.t;")],
    ),
    kernel(
        "rotation the wrong way round",
        &[("rope_and_cache", "low * cosine - high * sine", "low * cosine + high * sine")],
    ),
    kernel(
        "no norm of q and k",
        &[(
            "rope_and_cache",
            "let scale = 1.0 / sqrt(gathered[0]",
            "let scale = 1.0; let unused = (gathered[0]",
        )],
    ),
    kernel(
        "position table without align_corners",
        &[(
            "vision_position",
            "let y = f32(i * (p.side - 1u)) / f32(max(n - 1u, 1u));",
            "let y = max((f32(i) + 0.5) * f32(p.side) / f32(n) - 0.5, 0.0);",
        )],
    ),
    kernel(
        "exact GELU in the tower's blocks",
        &[(
            "gelu",
            "return 0.5 * x * (1.0 + tanh(u));",
            "return 0.5 * x * (1.0 + erf(x * 0.7071067811865476));",
        )],
    ),
    kernel(
        "tanh GELU in the mergers",
        &[("gelu", "return 0.5 * x * (1.0 + erf(x * 0.7071067811865476));", "return gelu_tanh(x);")],
    ),
    Fault { first_deepstack_layer: 1, ..kernel("DeepStack one layer late", &[]) },
    kernel("DeepStack not added", &[("embed_pictures", "v += x[at];", "v = x[at];")]),
    kernel(
        "decoding without rope_delta",
        &[("sample", "let position = max(row.t, max(row.h, row.w)) + 1u;", "let position = row.index + 1u;")],
    ),
    kernel(
        "query heads on the wrong KV head",
        &[
            (
                "attention_flash",
                "let kv_head = head / (p.heads / p.kv_heads);",
                "let kv_head = head % p.kv_heads;",
            ),
            (
                "attention_decode",
                "let kv_head = head / (p.heads / p.kv_heads);",
                "let kv_head = head % p.kv_heads;",
            ),
        ],
    ),
    kernel("RMSNorm epsilon of 1e-5", &[("rms_norm", "+ p.eps", "+ 10.0 * p.eps")]),
    kernel(
        "patches in raster order",
        &[
            (
                "vision_position",
                "let row = (block / (p.gw / 2u)) * 2u + (r / 2u) % 2u;",
                "let row = r / p.gw + 0u * block;",
            ),
            ("vision_position", "let col = (block % (p.gw / 2u)) * 2u + r % 2u;", "let col = r % p.gw;"),
        ],
    ),
    kernel(
        "rows and columns of the tower's rotation swapped",
        &[("vision_rope", "select(col, row, i < quarter)", "select(row, col, i < quarter)")],
    ),
    kernel(
        "every token sees the next one",
        &[("attention_flash", "rows[row].index + 1u", "rows[row].index + 2u")],
    ),
    kernel(
        "only the first piece of a long cache attended",
        &[(
            "attention_reduce",
            "rows[workgroup.y].index / 256u + 1u",
            "min(rows[workgroup.y].index / 256u + 1u, 1u)",
        )],
    ),
    kernel(
        "every token sees the next one (software devices)",
        &[("attention_lanes", "rows[own_row].index + 1u", "rows[own_row].index + 2u")],
    ),
    kernel("gate and up swapped", &[("product_end", "silu(gate) * up", "silu(up) * gate")]),
    kernel(
        "gate and up swapped (software devices)",
        &[("product_end", "silu(gate) * up", "silu(up) * gate")],
    ),
    kernel("biases left out", &[("product_end", "const HAS_BIAS = 1u;", "const HAS_BIAS = 4u;")]),
    kernel(
        "biases left out (software devices)",
        &[("product_end", "const HAS_BIAS = 1u;", "const HAS_BIAS = 4u;")],
    ),
    kernel(
        "rows of the second head on the first (software devices)",
        &[("attention_lanes", "let kv_head = head / (p.heads / p.kv_heads);", "let kv_head = 0u * head;")],
    ),
    kernel(
        "pictures one slot off",
        &[(
            "embed_pictures",
            "arena[(token - p.vocab) * vectors + i]",
            "arena[(token - p.vocab + 1u) * vectors + i]",
        )],
    ),
    int8_cache(
        "int8 cache: the scale of the token before",
        &[
            ("attention_rows", "(slot, j, kv_head)])", "(slot, max(j, 1u) - 1u, kv_head)])"),
            (
                "attention_decode",
                "let at = kv_scale(slot, j, kv_head);",
                "let at = kv_scale(slot, max(j, 1u) - 1u, kv_head);",
            ),
        ],
    ),
    int8_cache(
        "int8 cache: values by the scale of the first key of each piece, in decoding",
        &[(
            "attention_decode",
            "v_scale(slot, min(first + #{u}u * 64u + local, last), kv_head)",
            "v_scale(slot, first, kv_head)",
        )],
    ),
    int8_cache(
        "int8 cache: values by the keys' scales (software devices)",
        &[("attention_lanes", "v_scale(slot, min(j_#{s}", "k_scale(slot, min(j_#{s}")],
    ),
    int8_cache(
        "int8 cache: quants without a sign",
        &[(
            "weights",
            "return vec4<f32>((vec4<i32>(bitcast<i32>(word)) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));",
            "return unpack4x8unorm(word) * 255.0;",
        )],
    ),
    int8_cache(
        "int8 cache: pairs of elements swapped",
        &[(
            "rope_and_cache",
            "pairs[local - local % 2u] | (pairs[local - local % 2u + 1u]",
            "pairs[local - local % 2u + 1u] | (pairs[local - local % 2u]",
        )],
    ),
];

/// The first gate of the parity tests that fails, with the figure that failed it.
fn first_failed_gate(fault: &Fault, tuning: Tuning) -> Option<String> {
    let edits = fault.edits.iter().map(|&(file, find, replace)| KernelEdit { file, find, replace }).collect();
    let options = GpuOptions { kernel_edits: edits, tuning: Some(tuning), ..GpuOptions::default() };
    let gpu = Gpu::new(&options).unwrap();
    // Its vision heads are 72 wide, its query heads share KV heads by four, its embedding is small enough for
    // epsilon to matter, and the wide picture tells rows from columns.
    let checkpoint = "ladder";
    let front_end = front_end(checkpoint);
    let kv = if fault.int8_cache { KvFormat::Int8 } else { KvFormat::F32 };
    let options = LoadOptions { context: 1024, kv: Some(kv), ..LoadOptions::default() };
    let mut model = load_with(&gpu, checkpoint, Recipe::F32, options);
    model.text.first_deepstack_layer = fault.first_deepstack_layer;
    for name in ["wide", "long_text"] {
        let case = Case::read(checkpoint, name);
        let prepared = front_end.prepare(&request(&case), &|| false).unwrap();
        let t = trace(&mut model, &prepared, 24, 128).unwrap();
        if let Some(rows) = case.indices("image_rows") {
            for stage in ["image_embeds", "image_deepstack_0"] {
                let got = &t.tensors[stage];
                let width = got.shape[1];
                let chosen: Vec<f32> =
                    rows.iter().flat_map(|&r| got.values[r * width..(r + 1) * width].to_vec()).collect();
                let max = distance(&chosen, &case.tensor(stage).unwrap()).max;
                if max > 2e-4 {
                    return Some(format!("{name}: {stage} off by {max:.1e}"));
                }
            }
        }
        let (stages, cosine, max): (&[_], _, _) = if fault.int8_cache {
            (&["logits"], int8_cache::LOGITS_COSINE, int8_cache::LOGITS_MAX)
        } else {
            (&["layer_outputs_last", "logits"], 0.999_999_9, 1e-3)
        };
        for &stage in stages {
            let d = distance(&t.tensors[stage].values, &case.tensor(stage).unwrap());
            if d.cosine < cosine || d.max > max {
                return Some(format!("{name}: {stage} 1-cos {:.1e}, off by {:.1e}", 1.0 - d.cosine, d.max));
            }
        }
        let greedy: Vec<u32> = t.greedy.iter().map(|r| r.id).collect();
        let want = case.greedy(Recipe::F32);
        if greedy != want {
            let right = greedy.iter().zip(&want).take_while(|(a, b)| a == b).count();
            return Some(format!("{name}: {right} of 24 greedy tokens"));
        }
    }
    None
}

#[test]
fn every_planted_fault_is_caught_and_the_program_itself_is_not() {
    // The kernels of software devices are tested where they can run.
    let has_lanes = Tuning::SOFTWARE.is_possible(&gpu());
    let tunings = [Tuning::PORTABLE, Tuning::SOFTWARE];
    for tuning in tunings.into_iter().take(if has_lanes { 2 } else { 1 }) {
        assert_eq!(first_failed_gate(&kernel("nothing", &[]), tuning), None, "unchanged, {tuning:?}");
        assert_eq!(first_failed_gate(&int8_cache("nothing", &[]), tuning), None, "int8 cache, {tuning:?}");
    }
    assert!(FAULTS.len() >= 10);
    let mut missed = Vec::new();
    for fault in FAULTS {
        let is_of_lanes = fault.name.ends_with("(software devices)");
        if is_of_lanes && !has_lanes {
            continue;
        }
        match first_failed_gate(fault, tunings[usize::from(is_of_lanes)]) {
            Some(gate) => println!("| {} | {gate} |", fault.name),
            None => missed.push(fault.name),
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:?}");
}
