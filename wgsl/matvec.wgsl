// y[b, n] (+)= act(bias[n] + sum_k x[b, k] * W[n, k])   for a batch b of 1…8 rows: one read of W serves all.
//
// x    [batch, cols]        f32, four a vector
// w    [rows, cols]         int8 | f16 | f32, 16 bytes a vector, row-major; one slice of the matrix
// bias [matrix rows]        f32, read where flags has HAS_BIAS
// y    [batch, y_stride]    f32, from column y_first on; with swiglu, rows come in pairs (gate, up) and
//                           y[n] = silu(W[2n] x) * (W[2n+1] x)
// scales [rows, cols/32]    f16, two a word (int8 only)
//
// Workgroup of 64. With subgroups each one takes ROWS rows; without, the workgroup does. Lanes stride over
// the columns; one reduction a row at the end. The sum of a row never depends on the batch: explicit fma,
// fixed order. Variants: WEIGHTS, EPILOGUE, BATCH, ROWS (4 or 8), SUBGROUPS, F16.
#import weights
#import product_end

struct Params {
    rows: u32,
    cols: u32,
    first_row: u32,
    y_stride: u32,
    batch: u32,
    flags: u32,
    groups_x: u32,
}

const ROWS = #{ROWS}u;

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

#if SUBGROUPS
#else
var<workgroup> shared_sums: array<f32, ROWS * #{BATCH}u * 64u>;
#endif

fn write(b: u32, n: u32, sum: f32) {
    let column = p.first_row + n;
    end_sum(b * p.y_stride + column, column, sum);
}

fn write_pair(b: u32, n: u32, gate: f32, up: f32) {
    if (n + 1u < p.rows) {
        end_pair(b * p.y_stride + (p.first_row + n) / 2u, gate, up);
    }
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
#if SUBGROUPS
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
    @builtin(subgroup_invocation_id) lane: u32,
    @builtin(subgroup_size) lanes: u32,
#endif
) {
#if SUBGROUPS
    let group = (workgroup.x + workgroup.y * p.groups_x) * subgroups + subgroup;
#else
    let group = workgroup.x + workgroup.y * p.groups_x;
    let lane = local;
    let lanes = 64u;
#endif
    let row = group * ROWS;
    let x_stride = p.cols / 4u;
    // Rows past the end read the last row and write nothing.
#for r ROWS
    let row_#{r} = min(row + #{r}u, p.rows - 1u);
#for b BATCH
    var sum_#{r}_#{b} = 0.0;
#endfor
#endfor

#if WEIGHTS == int8
    let blocks = p.cols / 32u;
    for (var j = lane; j < blocks; j += lanes) {
#for r ROWS
        let scale_at_#{r} = row_#{r} * blocks + j;
#if F16
        let scale_#{r} = f32(scales[scale_at_#{r}]);
#else
        let scale_#{r} = halves(scales[scale_at_#{r} / 2u])[scale_at_#{r} % 2u];
#endif
#for b BATCH
        var part_#{r}_#{b} = 0.0;
#endfor
#endfor
#for h 2
#for r ROWS
        let q_#{h}_#{r} = w[(row_#{r} * blocks + j) * 2u + #{h}u];
#endfor
#for c 4
#for r ROWS
        let w_#{h}_#{c}_#{r} = bytes(q_#{h}_#{r}[#{c}]);
#endfor
#for b BATCH
        let x_#{h}_#{c}_#{b} = x[#{b}u * x_stride + j * 8u + #{h}u * 4u + #{c}u];
#for r ROWS
#for e 4
        part_#{r}_#{b} = fma(w_#{h}_#{c}_#{r}[#{e}], x_#{h}_#{c}_#{b}[#{e}], part_#{r}_#{b});
#endfor
#endfor
#endfor
#endfor
#endfor
#for r ROWS
#for b BATCH
        sum_#{r}_#{b} = fma(scale_#{r}, part_#{r}_#{b}, sum_#{r}_#{b});
#endfor
#endfor
    }
#endif
#if WEIGHTS == f16
    let vectors = p.cols / 8u;
    for (var j = lane; j < vectors; j += lanes) {
#if F16
#else
#for r ROWS
        let q_#{r} = w[row_#{r} * vectors + j];
#endfor
#endif
#for h 2
#for r ROWS
#if F16
        let w_#{h}_#{r} = vec4<f32>(w[(row_#{r} * vectors + j) * 2u + #{h}u]);
#else
        let w_#{h}_#{r} = vec4<f32>(halves(q_#{r}[#{h} * 2]), halves(q_#{r}[#{h} * 2 + 1]));
#endif
#endfor
#for b BATCH
        let x_#{h}_#{b} = x[#{b}u * x_stride + j * 2u + #{h}u];
#for r ROWS
#for e 4
        sum_#{r}_#{b} = fma(w_#{h}_#{r}[#{e}], x_#{h}_#{b}[#{e}], sum_#{r}_#{b});
#endfor
#endfor
#endfor
#endfor
    }
#endif
#if WEIGHTS == f32
    let vectors = p.cols / 4u;
    for (var j = lane; j < vectors; j += lanes) {
#for r ROWS
        let w_#{r} = bitcast<vec4<f32>>(w[row_#{r} * vectors + j]);
#endfor
#for b BATCH
        let x_#{b} = x[#{b}u * x_stride + j];
#for r ROWS
#for e 4
        sum_#{r}_#{b} = fma(w_#{r}[#{e}], x_#{b}[#{e}], sum_#{r}_#{b});
#endfor
#endfor
#endfor
    }
#endif

#if SUBGROUPS
#for r ROWS
#for b BATCH
    sum_#{r}_#{b} = subgroupAdd(sum_#{r}_#{b});
#endfor
#endfor
#else
#for r ROWS
#for b BATCH
    shared_sums[(#{r}u * #{BATCH}u + #{b}u) * 64u + local] = sum_#{r}_#{b};
#endfor
#endfor
    for (var half = 32u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (local < half) {
            for (var v = 0u; v < ROWS * #{BATCH}u; v += 1u) {
                shared_sums[v * 64u + local] += shared_sums[v * 64u + local + half];
            }
        }
    }
    workgroupBarrier();
#for r ROWS
#for b BATCH
    sum_#{r}_#{b} = shared_sums[(#{r}u * #{BATCH}u + #{b}u) * 64u];
#endfor
#endfor
#endif

    if (lane != 0u) {
        return;
    }
#for b BATCH
    if (#{b}u < p.batch) {
#if EPILOGUE == swiglu
        write_pair(#{b}u, row, sum_0_#{b}, sum_1_#{b});
        write_pair(#{b}u, row + 2u, sum_2_#{b}, sum_3_#{b});
#if ROWS == 8
        write_pair(#{b}u, row + 4u, sum_4_#{b}, sum_5_#{b});
        write_pair(#{b}u, row + 6u, sum_6_#{b}, sum_7_#{b});
#endif
#else
#for r ROWS
        if (row + #{r}u < p.rows) {
            write(#{b}u, row + #{r}u, sum_#{r}_#{b});
        }
#endfor
#endif
    }
#endfor
}
