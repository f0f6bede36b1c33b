// Rows of f32 made narrow, for products that multiply narrow numbers (matmul_cooperative, matmul_packed).
//
// TO == f16:  y[m, k] = f16(x[m, k] / scales[m]), scales[m] a power of two that brings the row's largest value to 1024…2048:
//             nothing overflows, and what is below 2^-24 of the largest may be lost.
// TO == int8: x[m, k] = scales[m, k / 32] * (high[m, k] + low[m, k] / 254), two digits of -127…127 and scales the largest value
//             of each 32 over 127: what is lost is 2^-16 of the largest. y has 32 high ones, then their 32 low ones.
//
// x [x_first_row + m, cols] f32, four a vector; y [m, cols] f16 (two a word), or int8 twice (four a word)
// scales f32, [m] or [m, cols / 32]. One workgroup of 64 a row. What is no number stays none.
#import reduce

struct Params {
    cols: u32,
    x_first_row: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
#if TO == f16
@group(0) @binding(2) var<storage, read_write> y: array<vec2<u32>>;
#else
@group(0) @binding(2) var<storage, read_write> y: array<u32>;
#endif
@group(0) @binding(3) var<storage, read_write> scales: array<f32>;

fn largest(v: vec4<f32>) -> f32 {
    let a = abs(v);
    return max(max(a.x, a.y), max(a.z, a.w));
}

#if TO == f16
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) row: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let vectors = p.cols / 4u;
    let from_at = (row.x + p.x_first_row) * vectors;
    var most = 0.0;
    for (var i = local; i < vectors; i += 64u) {
        most = max(most, largest(x[from_at + i]));
    }
    // The exponent of the largest, ten lower; 2^e as a number has e + 127 in its bits 23 to 30.
    let exponent = clamp(bitcast<u32>(workgroup_max(local, most)) >> 23u, 12u, 254u);
    let inverse = bitcast<f32>((264u - exponent) << 23u);
    for (var i = local; i < vectors; i += 64u) {
        let v = x[from_at + i] * inverse;
        y[row.x * vectors + i] = vec2<u32>(pack2x16float(v.xy), pack2x16float(v.zw));
    }
    if (local == 0u) {
        scales[row.x] = bitcast<f32>((exponent - 10u) << 23u);
    }
}
#endif

#if TO == int8
fn packed(v: vec4<f32>) -> u32 {
    let q = bitcast<vec4<u32>>(vec4<i32>(v)) & vec4<u32>(0xffu);
    return q.x | (q.y << 8u) | (q.z << 16u) | (q.w << 24u);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) row: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let blocks = p.cols / 32u;
    for (var block = local; block < blocks; block += 64u) {
        let from_at = ((row.x + p.x_first_row) * blocks + block) * 8u;
        let to = (row.x * blocks + block) * 16u;
        // As whole numbers, absolute values are in the same order, and what is no number comes after all of them.
        var most_bits = 0u;
#for i 8
        let v#{i} = x[from_at + #{i}u];
        let bits#{i} = bitcast<vec4<u32>>(v#{i}) & vec4<u32>(0x7fffffffu);
        most_bits = max(most_bits, max(max(bits#{i}.x, bits#{i}.y), max(bits#{i}.z, bits#{i}.w)));
#endfor
        let most = bitcast<f32>(most_bits);
        let is_finite = most_bits < 0x7f800000u;
        // Below 2^-120 the inverse would be no number, and the block is 0.
        let inverse = select(0.0, 127.0 / most, most_bits >= 0x03800000u && is_finite);
        scales[row.x * blocks + block] = select(most, most / 127.0, is_finite);
#for i 8
        let high#{i} = round(v#{i} * inverse);
        y[to + #{i}u] = packed(high#{i});
        y[to + 8u + #{i}u] = packed(round((v#{i} * inverse - high#{i}) * 254.0));
#endfor
    }
}
#endif
