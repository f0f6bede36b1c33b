// y[r, i] = exp(y[r, i] - m) / sum_i exp(y[r, i] - m),  m = max_i y[r, i]; in place.
//
// y [rows, width] f32. One workgroup of 64 a row.
#import reduce

struct Params {
    width: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) row: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let at = row.x * p.width;
    var m = -3.0e38;
    for (var i = local; i < p.width; i += 64u) {
        m = max(m, y[at + i]);
    }
    m = workgroup_max(local, m);
    var sum = 0.0;
    for (var i = local; i < p.width; i += 64u) {
        let e = exp(y[at + i] - m);
        y[at + i] = e;
        sum += e;
    }
    sum = workgroup_sum(local, sum);
    for (var i = local; i < p.width; i += 64u) {
        y[at + i] /= sum;
    }
}
