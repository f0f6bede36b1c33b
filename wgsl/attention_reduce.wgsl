// Joins the pieces of attention_decode:  o = sum_s acc_s exp(m_s - M) / sum_s l_s exp(m_s - M),  M = max_s m_s.
//
// partial [batch, heads, max_pieces, HEAD_DIM + 4] f32; rows [batch] RowInfo; o [batch, heads, HEAD_DIM] f32
// Workgroup of 32: one (head, row), one invocation a vector of four. Variants: HEAD_DIM.
#import row_info

struct Params {
    heads: u32,
    max_pieces: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> partial: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> rows: array<RowInfo>;
@group(0) @binding(3) var<storage, read_write> o: array<vec4<f32>>;

const VECTORS = #{HEAD_DIM}u / 4u;

@compute @workgroup_size(32)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    if (local >= VECTORS) {
        return;
    }
    let at = workgroup.y * p.heads + workgroup.x;
    let pieces = rows[workgroup.y].index / 256u + 1u;
    var maximum = -1e30;
    var sum = 0.0;
    var acc = vec4<f32>(0.0);
    for (var s = 0u; s < pieces; s += 1u) {
        let from_at = (at * p.max_pieces + s) * (VECTORS + 1u);
        let head = partial[from_at];
        let next = max(maximum, head.x);
        let decay = exp(maximum - next);
        let scale = exp(head.x - next);
        sum = sum * decay + head.y * scale;
        acc = acc * decay + partial[from_at + 1u + local] * scale;
        maximum = next;
    }
    o[at * VECTORS + local] = acc / sum;
}
