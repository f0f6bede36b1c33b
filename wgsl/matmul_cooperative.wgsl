// y[m, n] (+)= act(bias[n] + x_scales[m] * sum_k x[m, k] * W[n, k])   for many rows m, on the device's matrix units.
// The same product as matmul: factors are rounded to f16, sums are f32.
//
// x        [m, cols]  f16, as narrow_rows makes them
// w, bias, y, scales  see matmul; W in int8 or f16
// x_scales [m]        f32
//
// int8 weights go in 64 times as large, since f16 has few bits below 2^-14; above 1023 they would be too large.
// Workgroup of 128 makes a tile of 64 rows m by 64 columns n, 32 columns k at a time: the next 32 are on their way to registers
// while these are multiplied. A subgroup has FM by FN fragments of SIZE by SIZE; GRID_M by GRID_N subgroups make the
// tile. Where the device runs fewer subgroups than that, they come more than once.
// Variants: WEIGHTS (int8, f16), EPILOGUE, SIZE (8 or 16), GRID_M, GRID_N, FM, FN (GRID * F * SIZE = 64).
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
@group(0) @binding(1) var<storage, read> x: array<vec4<f16>>;
#if WEIGHTS == f16
@group(0) @binding(2) var<storage, read> w: array<vec4<f16>>;
#else
@group(0) @binding(2) var<storage, read> w: array<vec4<u32>>;
#endif
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read> x_scales: array<f32>;
#if WEIGHTS == int8
@group(0) @binding(6) var<storage, read> scales: array<f16>;
#endif

// A row of a tile: 32 columns k, and eight that keep rows on banks of their own.
const STRIDE = 40u;
const FRAGMENT = #{SIZE}u * #{SIZE}u;
const GRID = #{GRID_M}u * #{GRID_N}u;
#if WEIGHTS == int8
const W_FACTOR = 64.0;
#else
const W_FACTOR = 1.0;
#endif

var<workgroup> x_tile: array<f16, 64u * STRIDE>;
var<workgroup> w_tile: array<f16, 64u * STRIDE>;
// A fragment of each subgroup, on its way to y.
var<workgroup> sums: array<f32, GRID * FRAGMENT>;

struct Sixteen {
    a: vec4<f16>,
    b: vec4<f16>,
    c: vec4<f16>,
    d: vec4<f16>,
}

// Columns k … k + 15 of a row of x; past the end of the row 0.
fn sixteen_of_x(row: u32, k: u32) -> Sixteen {
    let at = (row * p.cols + k) / 4u;
    var v: Sixteen;
    if (k < p.cols) {
        v.a = x[at];
        v.b = x[at + 1u];
    }
    if (k + 8u < p.cols) {
        v.c = x[at + 2u];
        v.d = x[at + 3u];
    }
    return v;
}

fn sixteen_of_w(row: u32, k: u32) -> Sixteen {
#if WEIGHTS == int8
    let q = w[(row * p.cols + k) / 16u];
    let scale = f32(scales[(row * p.cols + k) / 32u]) * W_FACTOR;
    return Sixteen(
        vec4<f16>(bytes(q.x) * scale),
        vec4<f16>(bytes(q.y) * scale),
        vec4<f16>(bytes(q.z) * scale),
        vec4<f16>(bytes(q.w) * scale),
    );
#else
    let at = (row * p.cols + k) / 4u;
    var v: Sixteen;
    if (k < p.cols) {
        v.a = w[at];
        v.b = w[at + 1u];
    }
    if (k + 8u < p.cols) {
        v.c = w[at + 2u];
        v.d = w[at + 3u];
    }
    return v;
#endif
}

@compute @workgroup_size(128)
fn main(
    @builtin(workgroup_id) tile: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
    @builtin(subgroup_invocation_id) lane: u32,
    @builtin(subgroup_size) lanes: u32,
) {
    let n0 = (tile.x + p.first_tile) * 64u;
    let m0 = tile.y * 64u;
    // What this invocation brings: sixteen columns k of a row. Rows past the end read the last one and are not written.
    let x_row = min(m0 + local / 2u, p.m - 1u);
    let w_row = min(n0 + local / 2u, p.rows - 1u);
    let k_own = local % 2u * 16u;
    let own = local / 2u * STRIDE + k_own;
    for (var first = 0u; first < GRID; first += subgroups) {
        // A subgroup too many does what another one does, with the same sums, and writes nothing to y.
        let place = (first + subgroup) % GRID;
        let is_mine = first + subgroup < GRID;
        let at_m = place / #{GRID_N}u * (#{FM}u * #{SIZE}u);
        let at_n = place % #{GRID_N}u * (#{FN}u * #{SIZE}u);
        workgroupBarrier();
        for (var i = local; i < FRAGMENT; i += 128u) {
            sums[i] = 0.0;
        }
        workgroupBarrier();
#for i FM
#for j FN
        var sum_#{i}_#{j} = coopLoadT<coop_mat#{SIZE}x#{SIZE}<f32, C>>(&sums[0], #{SIZE}u);
#endfor
#endfor
        var next_x = sixteen_of_x(x_row, k_own);
        var next_w = sixteen_of_w(w_row, k_own);
        for (var k0 = 0u; k0 < p.cols; k0 += 32u) {
            workgroupBarrier();
#for e 4
            x_tile[own + #{e}u] = next_x.a[#{e}];
            w_tile[own + #{e}u] = next_w.a[#{e}];
#endfor
#for e 4
            x_tile[own + #{e}u + 4u] = next_x.b[#{e}];
            w_tile[own + #{e}u + 4u] = next_w.b[#{e}];
#endfor
#for e 4
            x_tile[own + #{e}u + 8u] = next_x.c[#{e}];
            w_tile[own + #{e}u + 8u] = next_w.c[#{e}];
#endfor
#for e 4
            x_tile[own + #{e}u + 12u] = next_x.d[#{e}];
            w_tile[own + #{e}u + 12u] = next_w.d[#{e}];
#endfor
            workgroupBarrier();
            if (k0 + 32u < p.cols) {
                next_x = sixteen_of_x(x_row, k0 + 32u + k_own);
                next_w = sixteen_of_w(w_row, k0 + 32u + k_own);
            }
            for (var k = 0u; k < 32u; k += #{SIZE}u) {
#for i FM
                let a_#{i} = coopLoadT<coop_mat#{SIZE}x#{SIZE}<f16, A>>(
                    &x_tile[(at_m + #{i}u * #{SIZE}u) * STRIDE + k],
                    STRIDE,
                );
#endfor
#for j FN
                // W's rows are the columns of this factor.
                let b_#{j} = coopLoad<coop_mat#{SIZE}x#{SIZE}<f16, B>>(
                    &w_tile[(at_n + #{j}u * #{SIZE}u) * STRIDE + k],
                    STRIDE,
                );
#for i FM
                sum_#{i}_#{j} = coopMultiplyAdd(a_#{i}, b_#{j}, sum_#{i}_#{j});
#endfor
#endfor
            }
        }
#for i FM
#for j FN
        workgroupBarrier();
        coopStoreT(sum_#{i}_#{j}, &sums[place * FRAGMENT], #{SIZE}u);
        workgroupBarrier();
        if (is_mine) {
#if EPILOGUE == swiglu
            for (var e = lane; e < FRAGMENT / 2u; e += lanes) {
                let m = m0 + at_m + #{i}u * #{SIZE}u + e / (#{SIZE}u / 2u);
                let n = n0 + at_n + #{j}u * #{SIZE}u + e % (#{SIZE}u / 2u) * 2u;
                if (m < p.m && n + 1u < p.rows) {
                    let scale = x_scales[m] / W_FACTOR;
                    let at = place * FRAGMENT + e * 2u;
                    let to = (m + p.y_first_row) * p.y_stride + (p.first_row + n) / 2u;
                    end_pair(to, sums[at] * scale, sums[at + 1u] * scale);
                }
            }
#else
            for (var e = lane; e < FRAGMENT; e += lanes) {
                let m = m0 + at_m + #{i}u * #{SIZE}u + e / #{SIZE}u;
                let n = n0 + at_n + #{j}u * #{SIZE}u + e % #{SIZE}u;
                if (m < p.m && n < p.rows) {
                    let column = p.first_row + n;
                    let to = (m + p.y_first_row) * p.y_stride + column;
                    end_sum(to, column, sums[place * FRAGMENT + e] * (x_scales[m] / W_FACTOR));
                }
            }
#endif
        }
#endfor
#endfor
    }
}
