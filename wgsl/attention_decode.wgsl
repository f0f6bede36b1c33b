// One new row of each session of the batch against its own KV cache, in pieces of 256 keys:
//   partial[row, head, piece] = (m, l, acc) with m = max_j s_j, l = sum_j exp(s_j - m),
//   acc = sum_j exp(s_j - m) v_j, s_j = scale * q . k_j, j over the piece's keys up to the row's index.
// Pieces are of fixed size: the result does not depend on how long the cache may grow or who else is in the batch.
//
// q [batch, heads, HEAD_DIM] f32; k, v, page_table: see paged_kv; rows [batch] RowInfo;
// partial [batch, heads, max_pieces, HEAD_DIM + 4] f32 (m, l, two unused, acc)
// Workgroup of 64: one (piece, head, row). Variants: KV (f16, f32), HEAD_DIM, F16.
#import weights
#import row_info
#import reduce

struct Params {
    heads: u32,
    kv_heads: u32,
    max_pages: u32,
    max_pieces: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;
#if KV == f16
#if F16
@group(0) @binding(2) var<storage, read> k: array<vec4<f16>>;
@group(0) @binding(3) var<storage, read> v: array<vec4<f16>>;
#else
@group(0) @binding(2) var<storage, read> k: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read> v: array<vec2<u32>>;
#endif
#else
@group(0) @binding(2) var<storage, read> k: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> v: array<vec4<f32>>;
#endif
@group(0) @binding(4) var<storage, read> rows: array<RowInfo>;
@group(0) @binding(5) var<storage, read> page_table: array<u32>;
@group(0) @binding(6) var<storage, read_write> partial: array<vec4<f32>>;
#import paged_kv

const VECTORS = #{HEAD_DIM}u / 4u;
// The 64 invocations are GROUPS groups of one invocation a vector when values are summed.
const GROUPS = 64u / VECTORS;
const PIECE = 256u;

var<workgroup> scores: array<f32, PIECE>;
var<workgroup> sums: array<vec4<f32>, 64>;

fn load_k(at: u32) -> vec4<f32> {
#if KV == f16
#if F16
    return vec4<f32>(k[at]);
#else
    return vec4<f32>(halves(k[at].x), halves(k[at].y));
#endif
#else
    return k[at];
#endif
}

fn load_v(at: u32) -> vec4<f32> {
#if KV == f16
#if F16
    return vec4<f32>(v[at]);
#else
    return vec4<f32>(halves(v[at].x), halves(v[at].y));
#endif
#else
    return v[at];
#endif
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let head = workgroup.y;
    let b = workgroup.z;
    let kv_head = head / (p.heads / p.kv_heads);
    let slot = rows[b].slot;
    let first = workgroup.x * PIECE;
    let length = rows[b].index + 1u;
    // A piece past the end has no keys and leaves an empty partial, which is never read.
    let count = select(0u, min(length - first, PIECE), first < length);
    let q_at = (b * p.heads + head) * VECTORS;

    var maximum = -1e30;
    for (var j = local; j < count; j += 64u) {
        let base = kv_vector(slot, first + j, kv_head);
        var s = 0.0;
        for (var i = 0u; i < VECTORS; i += 1u) {
            s += dot(q[q_at + i], load_k(base + i));
        }
        s *= p.scale;
        scores[j] = s;
        maximum = max(maximum, s);
    }
    maximum = workgroup_max(local, maximum);
    var l = 0.0;
    for (var j = local; j < count; j += 64u) {
        let e = exp(scores[j] - maximum);
        scores[j] = e;
        l += e;
    }
    l = workgroup_sum(local, l);

    let vector = local % VECTORS;
    let group = local / VECTORS;
    var acc = vec4<f32>(0.0);
    for (var j = group; j < count; j += GROUPS) {
        acc = fma(vec4<f32>(scores[j]), load_v(kv_vector(slot, first + j, kv_head) + vector), acc);
    }
    sums[local] = acc;
    workgroupBarrier();
    let to = ((b * p.heads + head) * p.max_pieces + workgroup.x) * (VECTORS + 1u);
    if (local == 0u) {
        partial[to] = vec4<f32>(maximum, l, 0.0, 0.0);
    }
    if (local < VECTORS) {
        for (var g = 1u; g < GROUPS; g += 1u) {
            acc += sums[g * VECTORS + local];
        }
        partial[to + 1u + local] = acc;
    }
}
