// y[first + r] = l[r, t] - log(sum_i exp(l[r, i])), with t = targets[first + r]: how likely a given next token is.
//
// l: logits [rows, vocab] f32; targets [..] u32, below vocab; y [..] f32. One workgroup of 64 a row.
#import reduce

struct Params {
    vocab: u32,
    first: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> targets: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) row: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let at = row.x * p.vocab;
    var m = -3.0e38;
    for (var i = local; i < p.vocab; i += 64u) {
        m = max(m, logits[at + i]);
    }
    m = workgroup_max(local, m);
    var sum = 0.0;
    for (var i = local; i < p.vocab; i += 64u) {
        sum += exp(logits[at + i] - m);
    }
    sum = workgroup_sum(local, sum);
    if (local == 0u) {
        y[p.first + row.x] = logits[at + targets[p.first + row.x]] - m - log(sum);
    }
}
