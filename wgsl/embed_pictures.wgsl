// x[r] = arena[token(r) - vocab]   or, with ADD,   x[r] += arena[token(r) - vocab]
// for the rows whose token is an extension id (>= vocab); other rows are left alone.
//
// rows [rows] RowInfo; arena [slots, width] f32: merged picture tokens, or one level of DeepStack features;
// x [rows, width] f32.
#import row_info

struct Params {
    width: u32,
    vocab: u32,
    flags: u32,
}

const ADD = 1u;

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> rows: array<RowInfo>;
@group(0) @binding(2) var<storage, read> arena: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> x: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let vectors = p.width / 4u;
    let i = workgroup.x * 64u + local;
    let token = rows[workgroup.y].token;
    if (i >= vectors || token < p.vocab) {
        return;
    }
    let at = workgroup.y * vectors + i;
    var v = arena[(token - p.vocab) * vectors + i];
    if ((p.flags & ADD) != 0u) {
        v += x[at];
    }
    x[at] = v;
}
