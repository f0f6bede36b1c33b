// y[r, i] = weight[i] * (x[r, i] - mean) / sqrt(variance + eps) + bias[i]
//
// x, y [rows, width] f32, four a vector; weight, bias [width] f32. One workgroup of 64 a row.
#import reduce

struct Params {
    width: u32,
    eps: f32,
    x_first_row: u32,
    y_first_row: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) row: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let vectors = p.width / 4u;
    let from_at = (row.x + p.x_first_row) * vectors;
    let to = (row.x + p.y_first_row) * vectors;
    var sum = 0.0;
    for (var i = local; i < vectors; i += 64u) {
        sum += dot(x[from_at + i], vec4<f32>(1.0));
    }
    let mean = workgroup_sum(local, sum) / f32(p.width);
    var squares = 0.0;
    for (var i = local; i < vectors; i += 64u) {
        let v = x[from_at + i] - vec4<f32>(mean);
        squares += dot(v, v);
    }
    let scale = 1.0 / sqrt(workgroup_sum(local, squares) / f32(p.width) + p.eps);
    for (var i = local; i < vectors; i += 64u) {
        y[to + i] = weight[i] * ((x[from_at + i] - vec4<f32>(mean)) * scale) + bias[i];
    }
}
