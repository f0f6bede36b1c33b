// o[r, head] = sum_j softmax_j(scale * q[r, head] . k[j, kv_head]) v[j, kv_head]   for many rows r at once.
// Paged (text prefill): j runs over the session's cache up to the row's own index (causal).
// Dense (vision tower): j runs over the rows of the same frame.
//
// One dispatch covers keys [key_first, key_first + key_count); running maximum and sum are carried in
// `state` and the unnormalised sum in `o` from one dispatch to the next (flags FIRST, LAST), so that long
// sequences divide into short pieces of work. Tiles of 16 keys begin at multiples of 16 from the first
// key of the sequence or frame, whatever the division: the result does not depend on it.
//
// Parameters and bindings: see attention_rows. Workgroup of 128: 32 rows of one head; four invocations share a row.
// Variants: KV (f16, int8, f32, dense), HEAD_DIM.
#import attention_rows

const ROWS = 32u;
const KEYS = 16u;
// Vectors of a row that one of its four invocations accumulates, rounded up.
const OWN = (VECTORS + 3u) / 4u;

var<workgroup> q_tile: array<vec4<f32>, ROWS * VECTORS>;
var<workgroup> kv_tile: array<vec4<f32>, KEYS * VECTORS>;
var<workgroup> scores: array<f32, ROWS * KEYS>;
var<workgroup> weights: array<f32, ROWS * KEYS>;

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let head = workgroup.y;
    let kv_head = head / (p.heads / p.kv_heads);
    let tile_row = workgroup.x * ROWS;
    let own_row = local / 4u;
    let part = local % 4u;
    let row = p.first_row + min(tile_row + own_row, p.rows - 1u);
    let valid_row = tile_row + own_row < p.rows;
    let key_end = p.key_first + p.key_count;
#if KV == dense
    let slot = 0u;
    let own_end = key_end;
    let tile_end = key_end;
#else
    let slot = rows[row].slot;
    let own_end = min(rows[row].index + 1u, key_end);
    // The rows of a chunk follow each other: the tile's last row sees the most keys.
    let last = p.first_row + min(tile_row + ROWS, p.rows) - 1u;
    let tile_end = min(rows[last].index + 1u, key_end);
#endif
    for (var i = local; i < ROWS * VECTORS; i += 128u) {
        let from_at = p.first_row + min(tile_row + i / VECTORS, p.rows - 1u);
        q_tile[i] = q[(from_at * p.heads + head) * VECTORS + i % VECTORS] * p.scale;
    }
    let own_at = row * p.heads + head;
    var maximum = -1e30;
    var sum = 0.0;
#for i 8
    var acc_#{i} = vec4<f32>(0.0);
#endfor
    if ((p.flags & FIRST) == 0u) {
        maximum = state[own_at].x;
        sum = state[own_at].y;
#for i 8
        if (part + #{i}u * 4u < VECTORS) {
            acc_#{i} = o[own_at * VECTORS + part + #{i}u * 4u];
        }
#endfor
    }

    for (var j0 = p.key_first; j0 < tile_end; j0 += KEYS) {
        workgroupBarrier();
        for (var i = local; i < KEYS * VECTORS; i += 128u) {
            var vector = vec4<f32>(0.0);
            let j = j0 + i / VECTORS;
            if (j < tile_end) {
                vector = load_k(key_base(slot, j, kv_head) + i % VECTORS);
#if KV == int8
                vector *= k_scale(slot, j, kv_head);
#endif
            }
            kv_tile[i] = vector;
        }
        workgroupBarrier();
        var dots = vec4<f32>(0.0);
        for (var i = 0u; i < VECTORS; i += 1u) {
            let a = q_tile[own_row * VECTORS + i];
#for c 4
            dots[#{c}] += dot(a, kv_tile[(part * 4u + #{c}u) * VECTORS + i]);
#endfor
        }
#for c 4
        scores[own_row * KEYS + part * 4u + #{c}u] = select(-1e30, dots[#{c}], j0 + part * 4u + #{c}u < own_end);
#endfor
        workgroupBarrier();
        var tile_maximum = maximum;
#for c 16
        tile_maximum = max(tile_maximum, scores[own_row * KEYS + #{c}u]);
#endfor
#for c 4
        {
            let s = scores[own_row * KEYS + part * 4u + #{c}u];
            weights[own_row * KEYS + part * 4u + #{c}u] = select(0.0, exp(s - tile_maximum), s > -1e29);
        }
#endfor
        for (var i = local; i < KEYS * VECTORS; i += 128u) {
            var vector = vec4<f32>(0.0);
            let j = j0 + i / VECTORS;
            if (j < tile_end) {
                vector = load_v(key_base(slot, j, kv_head) + i % VECTORS);
#if KV == int8
                vector *= v_scale(slot, j, kv_head);
#endif
            }
            kv_tile[i] = vector;
        }
        let decay = exp(maximum - tile_maximum);
        maximum = tile_maximum;
        sum *= decay;
#for i 8
        acc_#{i} *= decay;
#endfor
        workgroupBarrier();
        for (var c = 0u; c < KEYS; c += 1u) {
            let weight = weights[own_row * KEYS + c];
            sum += weight;
#for i 8
            if (#{i}u < OWN && part + #{i}u * 4u < VECTORS) {
                acc_#{i} = fma(vec4<f32>(weight), kv_tile[c * VECTORS + part + #{i}u * 4u], acc_#{i});
            }
#endfor
        }
    }

    if (!valid_row) {
        return;
    }
    if (part == 0u) {
        state[own_at] = vec2<f32>(maximum, sum);
    }
    let divisor = select(1.0, 1.0 / sum, (p.flags & LAST) != 0u);
#for i 8
    if (#{i}u < OWN && part + #{i}u * 4u < VECTORS) {
        o[own_at * VECTORS + part + #{i}u * 4u] = acc_#{i} * divisor;
    }
#endfor
}
