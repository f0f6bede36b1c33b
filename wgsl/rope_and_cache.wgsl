// For each row and head: q' = rope(rms(q) * q_weight), k' = rope(rms(k) * k_weight), v' = v; q' goes to `q`,
// k' and v' to the row's place in the KV cache.
//
// rope, interleaved M-RoPE: frequency k < HEAD_DIM/2 uses the position's h if k % 3 == 1 and k < 3*section_h,
// its w if k % 3 == 2 and k < 3*section_w, else its t; with angle a = position * theta^(-2k/HEAD_DIM):
//   o[k] = i[k] cos a - i[k + HEAD_DIM/2] sin a,   o[k + HEAD_DIM/2] = i[k + HEAD_DIM/2] cos a + i[k] sin a
//
// rows [rows] RowInfo; qkv [rows, heads + 2 kv_heads, HEAD_DIM] f32; norms [2, HEAD_DIM] f32 (q, then k);
// rope_table [positions, HEAD_DIM/2] (cos, sin); page_table: see paged_kv; q [rows, heads, HEAD_DIM] f32;
// k_cache, v_cache: see paged_kv. Workgroup of 32: one row and head; an invocation takes elements
// 2i, 2i+1 and their partners. Variants: KV (f16, f32), HEAD_DIM.
#import row_info

struct Params {
    heads: u32,
    kv_heads: u32,
    max_pages: u32,
    section_h: u32,
    section_w: u32,
    eps: f32,
    positions: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> rows: array<RowInfo>;
@group(0) @binding(2) var<storage, read> qkv: array<f32>;
@group(0) @binding(3) var<storage, read> norms: array<f32>;
@group(0) @binding(4) var<storage, read> rope_table: array<vec2<f32>>;
@group(0) @binding(5) var<storage, read> page_table: array<u32>;
@group(0) @binding(6) var<storage, read_write> q: array<f32>;
@group(0) @binding(7) var<storage, read_write> k_cache: array<u32>;
@group(0) @binding(8) var<storage, read_write> v_cache: array<u32>;
#import paged_kv

var<workgroup> squares: array<f32, 32>;

const HALF = #{HEAD_DIM}u / 2u;

fn position(row: RowInfo, k: u32) -> u32 {
    var at = row.t;
    if (k % 3u == 1u && k < 3u * p.section_h) {
        at = row.h;
    }
    if (k % 3u == 2u && k < 3u * p.section_w) {
        at = row.w;
    }
    return min(at, p.positions - 1u);
}

// Two neighbouring elements at `element` (even) of a head that begins at vector `base`.
fn store_k(base: u32, element: u32, v: vec2<f32>) {
#if KV == f16
    k_cache[base * 2u + element / 2u] = pack2x16float(v);
#else
    k_cache[base * 4u + element] = bitcast<u32>(v.x);
    k_cache[base * 4u + element + 1u] = bitcast<u32>(v.y);
#endif
}

fn store_v(base: u32, element: u32, v: vec2<f32>) {
#if KV == f16
    v_cache[base * 2u + element / 2u] = pack2x16float(v);
#else
    v_cache[base * 4u + element] = bitcast<u32>(v.x);
    v_cache[base * 4u + element + 1u] = bitcast<u32>(v.y);
#endif
}

@compute @workgroup_size(32)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let head = workgroup.x;
    let row = rows[workgroup.y];
    let all_heads = p.heads + 2u * p.kv_heads;
    let from_at = (workgroup.y * all_heads + head) * #{HEAD_DIM}u;
    let in_head = local < HALF / 2u;
    let k = local * 2u;
    var low = vec2<f32>(0.0);
    var high = vec2<f32>(0.0);
    if (in_head) {
        low = vec2<f32>(qkv[from_at + k], qkv[from_at + k + 1u]);
        high = vec2<f32>(qkv[from_at + HALF + k], qkv[from_at + HALF + k + 1u]);
    }
    squares[local] = dot(low, low) + dot(high, high);
    for (var half = 16u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (local < half) {
            squares[local] += squares[local + half];
        }
    }
    workgroupBarrier();
    if (!in_head) {
        return;
    }
    if (head >= p.heads + p.kv_heads) {
        let base = kv_vector(row.slot, row.index, head - p.heads - p.kv_heads);
        store_v(base, k, low);
        store_v(base, HALF + k, high);
        return;
    }
    let scale = 1.0 / sqrt(squares[0] / f32(#{HEAD_DIM}u) + p.eps);
    let norm = select(0u, #{HEAD_DIM}u, head >= p.heads);
    low *= scale * vec2<f32>(norms[norm + k], norms[norm + k + 1u]);
    high *= scale * vec2<f32>(norms[norm + HALF + k], norms[norm + HALF + k + 1u]);
    let turn_0 = rope_table[position(row, k) * HALF + k];
    let turn_1 = rope_table[position(row, k + 1u) * HALF + k + 1u];
    let cosine = vec2<f32>(turn_0.x, turn_1.x);
    let sine = vec2<f32>(turn_0.y, turn_1.y);
    let turned_low = low * cosine - high * sine;
    let turned_high = high * cosine + low * sine;
    if (head < p.heads) {
        let to = (workgroup.y * p.heads + head) * #{HEAD_DIM}u;
        q[to + k] = turned_low.x;
        q[to + k + 1u] = turned_low.y;
        q[to + HALF + k] = turned_high.x;
        q[to + HALF + k + 1u] = turned_high.y;
    } else {
        let base = kv_vector(row.slot, row.index, head - p.heads);
        store_k(base, k, turned_low);
        store_k(base, HALF + k, turned_high);
    }
}
