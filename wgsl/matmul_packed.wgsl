// y[m, n] (+)= act(bias[n] + sum_k x[m, k] * W[n, k])   for many rows m, in integers: four products an instruction where the
// device has one. The same product as matmul: x has two digits of int8, about as exact as f16 rows with a scale.
//
// x        [m, cols]      high digits of 32 columns, then their low ones, four a word, as narrow_rows makes them
// w        [rows, cols]   int8, 16 a vector; bias, y: see matmul
// x_scales [m, cols/32]   f32
// scales   [rows, cols/32] f16
//
// Workgroup of 128 makes a tile of 64 rows m by 64 columns n, 8 by 4 an invocation, a block of 32 columns k at a time through
// workgroup memory. Sums of a block are exact: 254 times those of high digits and those of low ones are below
// 2^28. Variants: EPILOGUE, F16.
#import weights
#import product_end

struct Params {
    m: u32,
    rows: u32,
    cols: u32,
    first_row: u32,
    y_stride: u32,
    x_first_row: u32,
    y_first_row: u32,
    flags: u32,
    first_tile: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> w: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read> x_scales: array<f32>;
#if F16
@group(0) @binding(6) var<storage, read> scales: array<f16>;
#else
@group(0) @binding(6) var<storage, read> scales: array<u32>;
#endif

// [high digits, low digits][word of four k][row / 4], the row's remainder in the component.
var<workgroup> x_tile: array<vec4<u32>, 256>;
var<workgroup> w_tile: array<vec4<u32>, 128>;
// [row / 4]
var<workgroup> x_scale: array<vec4<f32>, 16>;
var<workgroup> w_scale: array<vec4<f32>, 16>;

fn write(m: u32, n: u32, sum: f32) {
    if (m < p.m && n < p.rows) {
        let column = p.first_row + n;
        end_sum((m + p.y_first_row) * p.y_stride + column, column, sum);
    }
}

fn write_pair(m: u32, n: u32, gate: f32, up: f32) {
    if (m < p.m && n + 1u < p.rows) {
        end_pair((m + p.y_first_row) * p.y_stride + (p.first_row + n) / 2u, gate, up);
    }
}

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) tile: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let n0 = (tile.x + p.first_tile) * 64u;
    let m0 = tile.y * 64u;
    let tx = local % 16u;
    let ty = local / 16u;
    // What this invocation brings: half a block of a row. Rows past the end read the last one and are not written.
    let row = local / 2u;
    let half = local % 2u;
    let blocks = p.cols / 32u;
    let x_at = min(m0 + row, p.m - 1u) * blocks;
    let w_at = min(n0 + row, p.rows - 1u) * blocks;
    // [h][i]: row 4 h + i of eight, four columns a vector.
#for h 2
#for i 4
    var sum_#{h}_#{i} = vec4<f32>(0.0);
#endfor
#endfor
    for (var block = 0u; block < blocks; block += 1u) {
        let x_high = x[(x_at + block) * 4u + half];
        let x_low = x[(x_at + block) * 4u + 2u + half];
        let w_own = w[(w_at + block) * 2u + half];
        workgroupBarrier();
#for c 4
        x_tile[(half * 4u + #{c}u) * 16u + row / 4u][row % 4u] = x_high[#{c}];
        x_tile[(8u + half * 4u + #{c}u) * 16u + row / 4u][row % 4u] = x_low[#{c}];
        w_tile[(half * 4u + #{c}u) * 16u + row / 4u][row % 4u] = w_own[#{c}];
#endfor
        if (half == 0u) {
            x_scale[row / 4u][row % 4u] = x_scales[x_at + block];
        } else {
#if F16
            w_scale[row / 4u][row % 4u] = f32(scales[w_at + block]);
#else
            w_scale[row / 4u][row % 4u] = halves(scales[(w_at + block) / 2u])[(w_at + block) % 2u];
#endif
        }
        workgroupBarrier();
#for h 2
#for i 4
        var part_#{h}_#{i} = vec4<i32>(0);
#endfor
#endfor
        // High digits, then 254 times their sums and low digits.
#for d 2
#if d == 1
#for h 2
#for i 4
        part_#{h}_#{i} *= 254;
#endfor
#endfor
#endif
        for (var k = 0u; k < 8u; k += 1u) {
            let b = w_tile[k * 16u + tx];
#for h 2
            let a_#{h} = x_tile[(#{d}u * 8u + k) * 16u + ty * 2u + #{h}u];
#for i 4
            part_#{h}_#{i} += vec4<i32>(
                dot4I8Packed(a_#{h}[#{i}], b.x),
                dot4I8Packed(a_#{h}[#{i}], b.y),
                dot4I8Packed(a_#{h}[#{i}], b.z),
                dot4I8Packed(a_#{h}[#{i}], b.w),
            );
#endfor
#endfor
        }
#endfor
        let b_scale = w_scale[tx] / 254.0;
#for h 2
        let a_scale_#{h} = x_scale[ty * 2u + #{h}u];
#for i 4
        sum_#{h}_#{i} = fma(vec4<f32>(part_#{h}_#{i}), b_scale * a_scale_#{h}[#{i}], sum_#{h}_#{i});
#endfor
#endfor
    }
#for h 2
#for i 4
    {
        let m = m0 + ty * 8u + #{h}u * 4u + #{i}u;
        let n = n0 + tx * 4u;
        let v = sum_#{h}_#{i};
#if EPILOGUE == swiglu
        write_pair(m, n, v.x, v.y);
        write_pair(m, n + 2u, v.z, v.w);
#else
#for e 4
        write(m, n + #{e}u, v[#{e}]);
#endfor
#endif
    }
#endfor
#endfor
}
