// Shared: what attention_flash and attention_lanes take: parameters, bindings, and q, k and v four elements at a time.
//
// paged: rows [rows] RowInfo, page_table and k, v as in paged_kv; dense: k, v [rows, heads, HEAD_DIM] f32
// q, o [rows, heads, HEAD_DIM] f32; state [rows, heads] (maximum, sum)
// Variants: KV (f16, int8, f32, dense), HEAD_DIM, WIDE (64-bit integers bring two words a load).
#import weights
#import wide
#if KV == dense
#else
#import row_info
#endif

struct Params {
    rows: u32,
    first_row: u32,
    heads: u32,
    kv_heads: u32,
    key_first: u32,
    key_count: u32,
    max_pages: u32,
    scale: f32,
    flags: u32,
}

const FIRST = 1u;
const LAST = 2u;

@group(0) @binding(0) var<uniform> p: Params;
#if WIDE
@group(0) @binding(1) var<storage, read> q: array<u64>;
#else
@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;
#endif
#if KV == int8
@group(0) @binding(2) var<storage, read> k: array<u32>;
@group(0) @binding(3) var<storage, read> v: array<u32>;
#else
#if WIDE
@group(0) @binding(2) var<storage, read> k: array<u64>;
@group(0) @binding(3) var<storage, read> v: array<u64>;
#else
#if KV == f16
@group(0) @binding(2) var<storage, read> k: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read> v: array<vec2<u32>>;
#else
@group(0) @binding(2) var<storage, read> k: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> v: array<vec4<f32>>;
#endif
#endif
#endif
@group(0) @binding(4) var<storage, read_write> o: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> state: array<vec2<f32>>;
#if KV == dense
#else
@group(0) @binding(6) var<storage, read> rows: array<RowInfo>;
@group(0) @binding(7) var<storage, read> page_table: array<u32>;
#import paged_kv
#endif

const VECTORS = #{HEAD_DIM}u / 4u;

// Where key `j`'s vectors of four begin; j < key_first + key_count.
fn key_base(slot: u32, j: u32, kv_head: u32) -> u32 {
#if KV == dense
    return (j * p.heads + kv_head) * VECTORS;
#else
    return kv_vector(slot, j, kv_head);
#endif
}

fn load_q(at: u32) -> vec4<f32> {
#if WIDE
    return bitcast<vec4<f32>>(vec4<u32>(words(q[at * 2u]), words(q[at * 2u + 1u])));
#else
    return q[at];
#endif
}

// Four elements of a key; in int8 four quants, which want the scale.
fn load_k(at: u32) -> vec4<f32> {
#if KV == int8
    return bytes(k[at]);
#else
#if KV == f16
#if WIDE
    let pair = words(k[at]);
#else
    let pair = k[at];
#endif
    return vec4<f32>(halves(pair.x), halves(pair.y));
#else
#if WIDE
    return bitcast<vec4<f32>>(vec4<u32>(words(k[at * 2u]), words(k[at * 2u + 1u])));
#else
    return k[at];
#endif
#endif
#endif
}

// Four elements of a value, the same way.
fn load_v(at: u32) -> vec4<f32> {
#if KV == int8
    return bytes(v[at]);
#else
#if KV == f16
#if WIDE
    let pair = words(v[at]);
#else
    let pair = v[at];
#endif
    return vec4<f32>(halves(pair.x), halves(pair.y));
#else
#if WIDE
    return bitcast<vec4<f32>>(vec4<u32>(words(v[at * 2u]), words(v[at * 2u + 1u])));
#else
    return v[at];
#endif
#endif
#endif
}
#if KV == int8

fn k_scale(slot: u32, j: u32, kv_head: u32) -> f32 {
    return bitcast<f32>(k[kv_scale(slot, j, kv_head)]);
}

fn v_scale(slot: u32, j: u32, kv_head: u32) -> f32 {
    return bitcast<f32>(v[kv_scale(slot, j, kv_head)]);
}
#endif
