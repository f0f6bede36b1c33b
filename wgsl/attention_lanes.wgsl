// o[r, head] = sum_j softmax_j(scale * q[r, head] . k[j, kv_head]) v[j, kv_head]   for many rows r at once, on software
// devices (see matmul_lanes). The same as attention_flash, with its bindings, parameters and division into dispatches,
// without workgroup memory.
//
// A subgroup has eight rows of one head and goes over the keys in tiles of two for each lane. Scores: a lane has a key, and
// the rows' values of q go to all lanes by broadcasts. Values: a lane has elements of v, and the weights go to all lanes.
// Tiles begin at multiples of two subgroups from the first key, whatever the division: the result does not depend on it.
//
// In int8 a key's scale multiplies its score, and a value's its weight: once a key, not once an element.
//
// Workgroup of 32. Variants: KV (f16, int8, f32, dense), HEAD_DIM, LANES (of a subgroup: 8, 16 or 32), WIDE (64-bit integers).
#import attention_rows

const LANES = #{LANES}u;

@compute @workgroup_size(32)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let head = workgroup.y;
    let kv_head = head / (p.heads / p.kv_heads);
    let tile_row = (workgroup.x * (32u / LANES) + subgroup) * 8u;
    if (tile_row >= p.rows) {
        return;
    }
    let key_end = p.key_first + p.key_count;
#for r 8
    let at_#{r} = (p.first_row + min(tile_row + #{r}u, p.rows - 1u)) * p.heads + head;
#endfor
    // The row whose q this lane loads.
    let own_row = p.first_row + min(tile_row + lane % 8u, p.rows - 1u);
    let q_at = (own_row * p.heads + head) * VECTORS;
#if KV == dense
    let slot = 0u;
    let tile_end = key_end;
#else
    let slot = rows[own_row].slot;
    let own_end = min(rows[own_row].index + 1u, key_end);
    // The rows of a chunk follow each other: the tile's last row sees the most keys.
    let tile_end = subgroupBroadcast(own_end, 7u);
#endif
#for r 8
#if KV == dense
    let end_#{r} = key_end;
#else
    let end_#{r} = subgroupBroadcast(own_end, #{r}u);
#endif
    var maximum_#{r} = -1e30;
    var sum_#{r} = 0.0;
#for i OWN
    var acc_#{r}_#{i} = vec4<f32>(0.0);
#endfor
#endfor
    if ((p.flags & FIRST) == 0u) {
#for r 8
        maximum_#{r} = state[at_#{r}].x;
        sum_#{r} = state[at_#{r}].y;
#for i OWN
        if (lane + #{i}u * LANES < VECTORS) {
            acc_#{r}_#{i} = o[at_#{r} * VECTORS + lane + #{i}u * LANES];
        }
#endfor
#endfor
    }

    for (var j0 = p.key_first; j0 < tile_end; j0 += 2u * LANES) {
#for s 2
        let j_#{s} = j0 + #{s}u * LANES + lane;
        // Keys past the end are the last one; its score counts as none.
        let base_#{s} = key_base(slot, min(j_#{s}, tile_end - 1u), kv_head);
#if KV == int8
        let scale_#{s} = p.scale * k_scale(slot, min(j_#{s}, tile_end - 1u), kv_head);
        let v_scale_#{s} = v_scale(slot, min(j_#{s}, tile_end - 1u), kv_head);
#else
        let scale_#{s} = p.scale;
#endif
#for r 8
        var score_#{r}_#{s} = 0.0;
#endfor
#endfor
        for (var i = 0u; i < VECTORS; i += 1u) {
            let q_four = load_q(q_at + i);
#for s 2
            let k_#{s} = load_k(base_#{s} + i);
#endfor
#for r 8
#for e 4
            {
                let value = subgroupBroadcast(q_four[#{e}], #{r}u);
                score_#{r}_0 = fma(k_0[#{e}], value, score_#{r}_0);
                score_#{r}_1 = fma(k_1[#{e}], value, score_#{r}_1);
            }
#endfor
#endfor
        }
#for r 8
        score_#{r}_0 = select(-1e30, score_#{r}_0 * scale_0, j_0 < end_#{r});
        score_#{r}_1 = select(-1e30, score_#{r}_1 * scale_1, j_1 < end_#{r});
        let next_#{r} = max(maximum_#{r}, subgroupMax(max(score_#{r}_0, score_#{r}_1)));
        var weight_#{r}_0 = select(0.0, exp(score_#{r}_0 - next_#{r}), score_#{r}_0 > -1e29);
        var weight_#{r}_1 = select(0.0, exp(score_#{r}_1 - next_#{r}), score_#{r}_1 > -1e29);
        let decay_#{r} = exp(maximum_#{r} - next_#{r});
        sum_#{r} = fma(sum_#{r}, decay_#{r}, subgroupAdd(weight_#{r}_0 + weight_#{r}_1));
        maximum_#{r} = next_#{r};
#if KV == int8
        weight_#{r}_0 *= v_scale_0;
        weight_#{r}_1 *= v_scale_1;
#endif
#for i OWN
        acc_#{r}_#{i} *= decay_#{r};
#endfor
#endfor
#for s 2
#for c LANES
        {
            let base = subgroupBroadcast(base_#{s}, #{c}u);
#for i OWN
            let v_#{i} = load_v(base + min(lane + #{i}u * LANES, VECTORS - 1u));
#endfor
#for r 8
            let weight_#{r} = subgroupBroadcast(weight_#{r}_#{s}, #{c}u);
#for i OWN
            acc_#{r}_#{i} = fma(vec4<f32>(weight_#{r}), v_#{i}, acc_#{r}_#{i});
#endfor
#endfor
        }
#endfor
#endfor
    }

#for r 8
    if (tile_row + #{r}u < p.rows) {
        if (lane == 0u) {
            state[at_#{r}] = vec2<f32>(maximum_#{r}, sum_#{r});
        }
        let divisor = select(1.0, 1.0 / sum_#{r}, (p.flags & LAST) != 0u);
#for i OWN
        if (lane + #{i}u * LANES < VECTORS) {
            o[at_#{r} * VECTORS + lane + #{i}u * LANES] = acc_#{r}_#{i} * divisor;
        }
#endfor
    }
#endfor
}
