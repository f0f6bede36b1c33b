// x[r] = E[token(r)]   where token(r) lies in this slice of the table; other rows are left alone.
//
// rows [rows] RowInfo; table [count, width] f16 | f32: the slice that begins at token `first`;
// x [rows, width] f32. Variants: WEIGHTS (f16, f32), F16.
#import weights
#import row_info

struct Params {
    width: u32,
    first: u32,
    count: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> rows: array<RowInfo>;
#if WEIGHTS == f16
#if F16
@group(0) @binding(2) var<storage, read> table: array<vec4<f16>>;
#else
@group(0) @binding(2) var<storage, read> table: array<vec2<u32>>;
#endif
#else
@group(0) @binding(2) var<storage, read> table: array<vec4<f32>>;
#endif
@group(0) @binding(3) var<storage, read_write> x: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let vectors = p.width / 4u;
    let i = workgroup.x * 64u + local;
    let token = rows[workgroup.y].token;
    if (i >= vectors || token < p.first || token - p.first >= p.count) {
        return;
    }
    let at = (token - p.first) * vectors + i;
#if WEIGHTS == f16
#if F16
    x[workgroup.y * vectors + i] = vec4<f32>(table[at]);
#else
    let v = table[at];
    x[workgroup.y * vectors + i] = vec4<f32>(halves(v.x), halves(v.y));
#endif
#else
    x[workgroup.y * vectors + i] = table[at];
#endif
}
