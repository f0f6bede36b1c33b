// What one row's query finds in the keys of its cache, before the softmax:
//   s[h, j] = scale * q[h] . k[j, h / (heads / kv_heads)],  j < length.
// Only where somebody looks into a step: attention itself keeps no scores. In int8 a key's scale multiplies its score.
//
// q [heads, HEAD_DIM] f32, turned; k, page_table: see paged_kv; rows [1] RowInfo, for the slot; s [heads, length] f32
// Workgroup of 64: one page and head, an invocation a key. Variants: KV (f16, int8, f32), HEAD_DIM.
#import weights
#import row_info

struct Params {
    heads: u32,
    kv_heads: u32,
    max_pages: u32,
    length: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> k: array<u32>;
@group(0) @binding(3) var<storage, read> rows: array<RowInfo>;
@group(0) @binding(4) var<storage, read> page_table: array<u32>;
@group(0) @binding(5) var<storage, read_write> s: array<f32>;
#import paged_kv

const VECTORS = #{HEAD_DIM}u / 4u;

fn load_k(at: u32) -> vec4<f32> {
#if KV == int8
    return bytes(k[at]);
#else
#if KV == f16
    return vec4<f32>(halves(k[at * 2u]), halves(k[at * 2u + 1u]));
#else
    return bitcast<vec4<f32>>(vec4<u32>(k[at * 4u], k[at * 4u + 1u], k[at * 4u + 2u], k[at * 4u + 3u]));
#endif
#endif
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let head = workgroup.y;
    let kv_head = head / (p.heads / p.kv_heads);
    let slot = rows[0].slot;
    let j = workgroup.x * PAGE_TOKENS + local;
    if (j >= p.length) {
        return;
    }
    let k_at = kv_vector(slot, j, kv_head);
    let q_at = head * VECTORS;
    var sum = 0.0;
    for (var i = 0u; i < VECTORS; i += 1u) {
        sum += dot(q[q_at + i], load_k(k_at + i));
    }
#if KV == int8
    sum *= bitcast<f32>(k[kv_scale(slot, j, kv_head)]);
#endif
    s[head * p.length + j] = sum * p.scale;
}
