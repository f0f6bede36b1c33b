// y[m, n] (+)= act(bias[n] + sum_k x[m, k] * W[n, k])   for many rows m: prefill and the vision tower.
//
// x    [x_first_row + m, cols]  f32, four a vector
// w    [rows, cols]             int8 | f16 | f32, 16 bytes a vector; one slice of the matrix
// bias [matrix rows]            f32, read where flags has HAS_BIAS
// y    [y_first_row + m, y_stride] f32; with swiglu, W's rows come in pairs (gate, up) and
//                               y[n] = silu(W[2n] x) * (W[2n+1] x)
// scales [rows, cols/32]        f16, two a word (int8 only)
//
// Workgroup of 64 makes a tile of 64 rows m by 64 columns n, 8 by 8 an invocation, 32 columns k at a time
// through workgroup memory, dequantised on the way in. Variants: WEIGHTS, EPILOGUE, F16.
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
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
#if WEIGHTS == f16
#if F16
@group(0) @binding(2) var<storage, read> w: array<vec4<f16>>;
#else
@group(0) @binding(2) var<storage, read> w: array<vec4<u32>>;
#endif
#else
@group(0) @binding(2) var<storage, read> w: array<vec4<u32>>;
#endif
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
#if WEIGHTS == int8
#if F16
@group(0) @binding(5) var<storage, read> scales: array<f16>;
#else
@group(0) @binding(5) var<storage, read> scales: array<u32>;
#endif
#endif

// [k][row / 4], the row's remainder in the component.
var<workgroup> x_tile: array<vec4<f32>, 512>;
var<workgroup> w_tile: array<vec4<f32>, 512>;

fn put_w(k: u32, row: u32, v: vec4<f32>) {
#for e 4
    w_tile[(k + #{e}u) * 16u + row / 4u][row % 4u] = v[#{e}];
#endfor
}

fn load_w(row: u32, local: u32, k0: u32) {
    let valid = row < p.rows;
#if WEIGHTS == int8
    let blocks = p.cols / 32u;
    let at = row * blocks + k0 / 32u;
    var scale = 0.0;
    var q0 = vec4<u32>(0u);
    var q1 = vec4<u32>(0u);
    if (valid) {
#if F16
        scale = f32(scales[at]);
#else
        scale = halves(scales[at / 2u])[at % 2u];
#endif
        q0 = w[at * 2u];
        q1 = w[at * 2u + 1u];
    }
#for c 4
    put_w(#{c}u * 4u, local, bytes(q0[#{c}]) * scale);
#endfor
#for c 4
    put_w(16u + #{c}u * 4u, local, bytes(q1[#{c}]) * scale);
#endfor
#endif
#if WEIGHTS == f16
#if F16
#for c 8
    {
        var v = vec4<f32>(0.0);
        if (valid && k0 + #{c}u * 4u < p.cols) {
            v = vec4<f32>(w[(row * p.cols + k0) / 4u + #{c}u]);
        }
        put_w(#{c}u * 4u, local, v);
    }
#endfor
#else
#for c 4
    {
        var q = vec4<u32>(0u);
        if (valid && k0 + #{c}u * 8u < p.cols) {
            q = w[(row * p.cols + k0) / 8u + #{c}u];
        }
        put_w(#{c}u * 8u, local, vec4<f32>(halves(q.x), halves(q.y)));
        put_w(#{c}u * 8u + 4u, local, vec4<f32>(halves(q.z), halves(q.w)));
    }
#endfor
#endif
#endif
#if WEIGHTS == f32
#for c 8
    {
        var q = vec4<f32>(0.0);
        if (valid && k0 + #{c}u * 4u < p.cols) {
            q = bitcast<vec4<f32>>(w[(row * p.cols + k0) / 4u + #{c}u]);
        }
        put_w(#{c}u * 4u, local, q);
    }
#endfor
#endif
}

fn load_x(row: u32, local: u32, k0: u32) {
    let at = ((row + p.x_first_row) * p.cols + k0) / 4u;
#for c 8
    {
        var v = vec4<f32>(0.0);
        if (row < p.m && k0 + #{c}u * 4u < p.cols) {
            v = x[at + #{c}u];
        }
#for e 4
        x_tile[(#{c}u * 4u + #{e}u) * 16u + local / 4u][local % 4u] = v[#{e}];
#endfor
    }
#endfor
}

fn write(m: u32, n: u32, sum: f32) {
    if (m >= p.m || n >= p.rows) {
        return;
    }
    let column = p.first_row + n;
    end_sum((m + p.y_first_row) * p.y_stride + column, column, sum);
}

fn write_pair(m: u32, n: u32, gate: f32, up: f32) {
    if (m < p.m && n + 1u < p.rows) {
        end_pair((m + p.y_first_row) * p.y_stride + (p.first_row + n) / 2u, gate, up);
    }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) tile: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let n0 = (tile.x + p.first_tile) * 64u;
    let m0 = tile.y * 64u;
    let tx = local % 8u;
    let ty = local / 8u;
#for g 2
#for c 4
    var acc_#{g}_#{c}_0 = vec4<f32>(0.0);
    var acc_#{g}_#{c}_1 = vec4<f32>(0.0);
#endfor
#endfor
    for (var k0 = 0u; k0 < p.cols; k0 += 32u) {
        workgroupBarrier();
        load_x(m0 + local, local, k0);
        load_w(n0 + local, local, k0);
        workgroupBarrier();
        for (var k = 0u; k < 32u; k += 1u) {
            let a_0 = x_tile[k * 16u + ty * 2u];
            let a_1 = x_tile[k * 16u + ty * 2u + 1u];
            let b_0 = w_tile[k * 16u + tx * 2u];
            let b_1 = w_tile[k * 16u + tx * 2u + 1u];
#for g 2
#for c 4
            acc_#{g}_#{c}_0 = fma(vec4<f32>(a_#{g}[#{c}]), b_0, acc_#{g}_#{c}_0);
            acc_#{g}_#{c}_1 = fma(vec4<f32>(a_#{g}[#{c}]), b_1, acc_#{g}_#{c}_1);
#endfor
#endfor
        }
    }
#for g 2
#for c 4
#for h 2
    {
        let m = m0 + ty * 8u + #{g}u * 4u + #{c}u;
        let n = n0 + tx * 8u + #{h}u * 4u;
        let v = acc_#{g}_#{c}_#{h};
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
#endfor
}
