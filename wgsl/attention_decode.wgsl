// One new row of each session of the batch against its own KV cache, in pieces of 256 keys:
//   partial[row, head, piece] = (m, l, acc) with m = max_j s_j, l = sum_j exp(s_j - m),
//   acc = sum_j exp(s_j - m) v_j, s_j = scale * q . k_j, j over the piece's keys up to the row's index.
// Pieces are of fixed size: the result does not depend on how long the cache may grow or who else is in the batch.
//
// GROUP query heads share a KV head, and here one read of its keys and values. Scores: an invocation has four keys, one of
// each page of the piece, and takes 16 dimensions of them at a time. Values: an invocation has 16 dimensions of every
// so-manieth key. Loops are unrolled, and what is the same for all invocations is read at fixed places of workgroup memory:
// software devices read that once for all lanes, and anything else once for each. Keys past the last are the last one
// again and weigh nothing, so that nothing else is read. In int8 a key's scale multiplies its score, and a value's its weight.
//
// q [batch, heads, HEAD_DIM] f32; k, v, page_table: see paged_kv; rows [batch] RowInfo;
// partial [batch, heads, max_pieces, HEAD_DIM + 4] f32 (m, l, two unused, acc)
// Workgroup of 64: one (piece, GROUP heads, row). Variants: KV (f16, int8, f32), HEAD_DIM, GROUP (1, 2, 4).
#import weights
#import row_info

struct Params {
    heads: u32,
    kv_heads: u32,
    max_pages: u32,
    max_pieces: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> k: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> v: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> rows: array<RowInfo>;
@group(0) @binding(5) var<storage, read> page_table: array<u32>;
@group(0) @binding(6) var<storage, read_write> partial: array<vec4<f32>>;
#import paged_kv

const VECTORS = #{HEAD_DIM}u / 4u;
// A head's dimensions in sixteens.
const CHUNKS = #{HEAD_DIM}u / 16u;
// Vectors of four words that sixteen elements take.
#if KV == int8
const CHUNK = 1u;
#else
#if KV == f16
const CHUNK = 2u;
#else
const CHUNK = 4u;
#endif
#endif
const PIECE = 256u;
// Invocations that share the sums over values: each has every GROUPS-th key of a page.
const GROUPS = 64u / CHUNKS;

// [GROUP, 128 / 4]; not VECTORS, so that the places that #for writes down are there in every variant.
var<workgroup> q_tile: array<vec4<f32>, #{GROUP}u * 32u>;
// [GROUP, 64]: the weights of the keys t, t + 64, t + 128 and t + 192.
var<workgroup> key_weights: array<vec4<f32>, #{GROUP}u * 64u>;
var<workgroup> gathered: array<f32, #{GROUP}u * 64u>;
var<workgroup> sums: array<vec4<f32>, 256>;

struct Sixteen {
    a: vec4<f32>,
    b: vec4<f32>,
    c: vec4<f32>,
    d: vec4<f32>,
}

fn from_bytes(x: vec4<u32>) -> Sixteen {
    return Sixteen(bytes(x.x), bytes(x.y), bytes(x.z), bytes(x.w));
}

fn from_halves(x: vec4<u32>, y: vec4<u32>) -> Sixteen {
    return Sixteen(
        vec4<f32>(halves(x.x), halves(x.y)),
        vec4<f32>(halves(x.z), halves(x.w)),
        vec4<f32>(halves(y.x), halves(y.y)),
        vec4<f32>(halves(y.z), halves(y.w)),
    );
}

fn from_words(x: vec4<u32>, y: vec4<u32>, z: vec4<u32>, w: vec4<u32>) -> Sixteen {
    return Sixteen(bitcast<vec4<f32>>(x), bitcast<vec4<f32>>(y), bitcast<vec4<f32>>(z), bitcast<vec4<f32>>(w));
}

fn load_k(at: u32) -> Sixteen {
#if KV == int8
    return from_bytes(k[at]);
#else
#if KV == f16
    return from_halves(k[at], k[at + 1u]);
#else
    return from_words(k[at], k[at + 1u], k[at + 2u], k[at + 3u]);
#endif
#endif
}

fn load_v(at: u32) -> Sixteen {
#if KV == int8
    return from_bytes(v[at]);
#else
#if KV == f16
    return from_halves(v[at], v[at + 1u]);
#else
    return from_words(v[at], v[at + 1u], v[at + 2u], v[at + 3u]);
#endif
#endif
}

#if KV == int8
fn k_scale(slot: u32, j: u32, kv_head: u32) -> f32 {
    let at = kv_scale(slot, j, kv_head);
    return bitcast<f32>(k[at / 4u][at % 4u]);
}

fn v_scale(slot: u32, j: u32, kv_head: u32) -> f32 {
    let at = kv_scale(slot, j, kv_head);
    return bitcast<f32>(v[at / 4u][at % 4u]);
}
#endif

fn add_dot(a: vec4<f32>, b: vec4<f32>, s: f32) -> f32 {
    return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, s))));
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let head = workgroup.y * #{GROUP}u;
    let b = workgroup.z;
    let kv_head = head / (p.heads / p.kv_heads);
    let slot = rows[b].slot;
    let last = rows[b].index;
    let first = workgroup.x * PIECE;
    let q_at = (b * p.heads + head) * VECTORS;
    for (var i = local; i < #{GROUP}u * VECTORS; i += 64u) {
        q_tile[i / VECTORS * 32u + i % VECTORS] = q[q_at + i] * p.scale;
    }
#for u 4
    let k_at_#{u} = kv_vector(slot, min(first + #{u}u * 64u + local, last), kv_head) * CHUNK / 4u;
#if KV == int8
    let k_scale_#{u} = k_scale(slot, min(first + #{u}u * 64u + local, last), kv_head);
    let v_scale_#{u} = v_scale(slot, min(first + #{u}u * 64u + local, last), kv_head);
#endif
#for h GROUP
    var s_#{u}_#{h} = 0.0;
#endfor
#endfor
    workgroupBarrier();
#for c 8
    if (#{c}u < CHUNKS) {
#for h GROUP
#for i 4
        let q_#{h}_#{i} = q_tile[#{h}u * 32u + #{c}u * 4u + #{i}u];
#endfor
#endfor
#for u 4
        {
            let x = load_k(k_at_#{u} + #{c}u * CHUNK);
#for h GROUP
            s_#{u}_#{h} = add_dot(q_#{h}_0, x.a, s_#{u}_#{h});
            s_#{u}_#{h} = add_dot(q_#{h}_1, x.b, s_#{u}_#{h});
            s_#{u}_#{h} = add_dot(q_#{h}_2, x.c, s_#{u}_#{h});
            s_#{u}_#{h} = add_dot(q_#{h}_3, x.d, s_#{u}_#{h});
#endfor
        }
#endfor
    }
#endfor

#for h GROUP
    // A piece past the end has no keys and leaves an empty partial, which is never read.
    var m_#{h} = -1e30;
#for u 4
#if KV == int8
    s_#{u}_#{h} *= k_scale_#{u};
#endif
    s_#{u}_#{h} = select(-1e30, s_#{u}_#{h}, first + #{u}u * 64u + local <= last);
    m_#{h} = max(m_#{h}, s_#{u}_#{h});
#endfor
    gathered[#{h}u * 64u + local] = m_#{h};
#endfor
    workgroupBarrier();
#for h GROUP
#for i 64
    m_#{h} = max(m_#{h}, gathered[#{h}u * 64u + #{i}u]);
#endfor
#endfor
    workgroupBarrier();
#for h GROUP
    var l_#{h} = 0.0;
    var e_#{h} = vec4<f32>(0.0);
#for u 4
    e_#{h}[#{u}] = select(0.0, exp(s_#{u}_#{h} - m_#{h}), first + #{u}u * 64u + local <= last);
    l_#{h} += e_#{h}[#{u}];
#if KV == int8
    e_#{h}[#{u}] *= v_scale_#{u};
#endif
#endfor
    key_weights[#{h}u * 64u + local] = e_#{h};
    gathered[#{h}u * 64u + local] = l_#{h};
#endfor
    workgroupBarrier();
#for h GROUP
    l_#{h} = 0.0;
#for i 64
    l_#{h} += gathered[#{h}u * 64u + #{i}u];
#endfor
#endfor

    let part = local % CHUNKS;
    let group = local / CHUNKS;
#for h GROUP
#for i 4
    var acc_#{h}_#{i} = vec4<f32>(0.0);
#endfor
#endfor
#for u 4
    // The first token of a page, or of the last key's.
    let v_at_#{u} = kv_vector(slot, min(first + #{u}u * 64u, last) / PAGE_TOKENS * PAGE_TOKENS, kv_head) * CHUNK / 4u;
#endfor
#for r 16
    if (#{r}u * GROUPS < PAGE_TOKENS) {
        let t = group + #{r}u * GROUPS;
#for h GROUP
        let w_#{h} = key_weights[#{h}u * 64u + t];
#endfor
#for u 4
        {
            let token = min(first + #{u}u * 64u + t, last) % PAGE_TOKENS;
            let x = load_v(v_at_#{u} + (token * CHUNKS + part) * CHUNK);
#for h GROUP
            acc_#{h}_0 = fma(vec4<f32>(w_#{h}[#{u}]), x.a, acc_#{h}_0);
            acc_#{h}_1 = fma(vec4<f32>(w_#{h}[#{u}]), x.b, acc_#{h}_1);
            acc_#{h}_2 = fma(vec4<f32>(w_#{h}[#{u}]), x.c, acc_#{h}_2);
            acc_#{h}_3 = fma(vec4<f32>(w_#{h}[#{u}]), x.d, acc_#{h}_3);
#endfor
        }
#endfor
    }
#endfor

#for h GROUP
    workgroupBarrier();
#for i 4
    sums[group * VECTORS + part * 4u + #{i}u] = acc_#{h}_#{i};
#endfor
    workgroupBarrier();
    {
        let to = (((b * p.heads + head + #{h}u) * p.max_pieces) + workgroup.x) * (VECTORS + 1u);
        if (local == 0u) {
            partial[to] = vec4<f32>(m_#{h}, l_#{h}, 0.0, 0.0);
        }
        if (local < VECTORS) {
            var sum = sums[local];
            for (var g = 1u; g < GROUPS; g += 1u) {
                sum += sums[g * VECTORS + local];
            }
            partial[to + 1u + local] = sum;
        }
    }
#endfor
}
