// For each row and head: q' = rope(rms(q) * q_weight), k' = rope(rms(k) * k_weight), v' = v; q' goes to `q`,
// k' and v' to the row's place in the KV cache. In int8: scale = max |x| / 127 over the head, quants = round(x / scale).
//
// rope, interleaved M-RoPE: frequency k < HEAD_DIM/2 uses the position's h if k % 3 == 1 and k < 3*section_h,
// its w if k % 3 == 2 and k < 3*section_w, else its t; with angle a = position * theta^(-2k/HEAD_DIM):
//   o[k] = i[k] cos a - i[k + HEAD_DIM/2] sin a,   o[k + HEAD_DIM/2] = i[k + HEAD_DIM/2] cos a + i[k] sin a
//
// rows [rows] RowInfo; qkv [rows, heads + 2 kv_heads, HEAD_DIM] f32; norms [2, HEAD_DIM] f32 (q, then k);
// rope_table [positions, HEAD_DIM/2] (cos, sin); page_table: see paged_kv; q [rows, heads, HEAD_DIM] f32;
// k_cache, v_cache: see paged_kv. Workgroup of 32: one row and head; an invocation takes elements
// 2i, 2i+1 and their partners. Variants: KV (f16, int8, f32), HEAD_DIM.
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

var<workgroup> gathered: array<f32, 32>;
#if KV == int8
var<workgroup> pairs: array<vec2<u32>, 32>;
#endif

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

fn store(is_value: bool, at: u32, word: u32) {
    if (is_value) {
        v_cache[at] = word;
    } else {
        k_cache[at] = word;
    }
}
#if KV == int8

// Two quants, from -127 to 127, in the lower half of a word.
fn two_bytes(v: vec2<f32>) -> u32 {
    let b = bitcast<vec2<u32>>(vec2<i32>(round(v))) & vec2<u32>(0xffu);
    return b.x | (b.y << 8u);
}
#endif

@compute @workgroup_size(32)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let head = workgroup.x;
    let row = rows[workgroup.y];
    let all_heads = p.heads + 2u * p.kv_heads;
    let from_at = (workgroup.y * all_heads + head) * #{HEAD_DIM}u;
    let in_head = local < HALF / 2u;
    // Invocations beyond the head have its last elements once more, and store nothing.
    let k = min(local, HALF / 2u - 1u) * 2u;
    var low = vec2<f32>(qkv[from_at + k], qkv[from_at + k + 1u]);
    var high = vec2<f32>(qkv[from_at + HALF + k], qkv[from_at + HALF + k + 1u]);
    gathered[local] = select(0.0, dot(low, low) + dot(high, high), in_head);
    for (var half = 16u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (local < half) {
            gathered[local] += gathered[local + half];
        }
    }
    workgroupBarrier();
    if (head < p.heads + p.kv_heads) {
        let scale = 1.0 / sqrt(gathered[0] / f32(#{HEAD_DIM}u) + p.eps);
        let norm = select(0u, #{HEAD_DIM}u, head >= p.heads);
        low *= scale * vec2<f32>(norms[norm + k], norms[norm + k + 1u]);
        high *= scale * vec2<f32>(norms[norm + HALF + k], norms[norm + HALF + k + 1u]);
        let turn_0 = rope_table[position(row, k) * HALF + k];
        let turn_1 = rope_table[position(row, k + 1u) * HALF + k + 1u];
        let cosine = vec2<f32>(turn_0.x, turn_1.x);
        let sine = vec2<f32>(turn_0.y, turn_1.y);
        let turned_low = low * cosine - high * sine;
        high = high * cosine + low * sine;
        low = turned_low;
    }
    if (head < p.heads) {
        if (in_head) {
            let to = (workgroup.y * p.heads + head) * #{HEAD_DIM}u;
            q[to + k] = low.x;
            q[to + k + 1u] = low.y;
            q[to + HALF + k] = high.x;
            q[to + HALF + k + 1u] = high.y;
        }
        return;
    }
    // Values stand after all keys.
    let is_value = head >= p.heads + p.kv_heads;
    let kv_head = (head - p.heads) % p.kv_heads;
    let to = kv_vector(row.slot, row.index, kv_head);
#if KV == f16
    if (in_head) {
        store(is_value, to * 2u + k / 2u, pack2x16float(low));
        store(is_value, to * 2u + (HALF + k) / 2u, pack2x16float(high));
    }
#endif
#if KV == f32
    if (in_head) {
        store(is_value, to * 4u + k, bitcast<u32>(low.x));
        store(is_value, to * 4u + k + 1u, bitcast<u32>(low.y));
        store(is_value, to * 4u + HALF + k, bitcast<u32>(high.x));
        store(is_value, to * 4u + HALF + k + 1u, bitcast<u32>(high.y));
    }
#endif
#if KV == int8
    let size = max(abs(low), abs(high));
    workgroupBarrier();
    gathered[local] = max(size.x, size.y);
    workgroupBarrier();
    var largest = 0.0;
#for i 32
    largest = max(largest, gathered[#{i}]);
#endfor
    // A head of zeros, or of what no f32 can divide by, is stored as zeros.
    let in_quants = select(0.0, 127.0 / largest, largest > 1e-30);
    pairs[local] = vec2<u32>(two_bytes(low * in_quants), two_bytes(high * in_quants));
    workgroupBarrier();
    if (in_head) {
        // A word is two pairs: invocations of even number store one of the low half, the others one of the high half.
        let both = pairs[local - local % 2u] | (pairs[local - local % 2u + 1u] << vec2<u32>(16u));
        if (local % 2u == 0u) {
            store(is_value, to + local / 2u, both.x);
        } else {
            store(is_value, to + HALF / 4u + local / 2u, both.y);
        }
    }
    if (local == 0u) {
        store(is_value, kv_scale(row.slot, row.index, kv_head), bitcast<u32>(largest / 127.0));
    }
#endif
}
