// y[b, n] (+)= act(bias[n] + sum_k x[b, k] * W[n, k])   for a batch b of 1…8 rows, on software devices (see matmul_lanes).
// The same product as matvec.
//
// A lane owns four columns n. The lanes of a subgroup load eight values of x between them, and each goes to all by a
// broadcast. Subgroups have 8 to 32 lanes. The sum runs over k in order, in blocks of 32, whatever the batch.
//
// Bindings and flags: see matvec. Workgroup of 32. Variants: WEIGHTS, EPILOGUE, BATCH, WIDE (see lanes_weights).
#import lanes_weights
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

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
#if WEIGHTS == int8
@group(0) @binding(5) var<storage, read> scales: array<u32>;
#endif

#if WEIGHTS == int8
// The scales of blocks `block` and `block + 1` of a row; past the end any.
fn two_scales(row: u32, blocks: u32, block: u32) -> vec2<f32> {
    let at = row * blocks + block;
    if (blocks % 2u == 0u) {
        return halves(scales[at / 2u]);
    }
    let next = row * blocks + min(block + 1u, blocks - 1u);
    return vec2<f32>(halves(scales[at / 2u])[at % 2u], halves(scales[next / 2u])[next % 2u]);
}
#endif

fn write(b: u32, n: u32, sum: f32) {
    if (b >= p.batch || n >= p.rows) {
        return;
    }
    let column = p.first_row + n;
    end_sum(b * p.y_stride + column, column, sum);
}

fn write_pair(b: u32, n: u32, gate: f32, up: f32) {
    if (b < p.batch && n + 1u < p.rows) {
        end_pair(b * p.y_stride + (p.first_row + n) / 2u, gate, up);
    }
}

@compute @workgroup_size(32)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
    @builtin(subgroup_invocation_id) lane: u32,
    @builtin(subgroup_size) lanes: u32,
) {
    // Columns in pairs, so that one lane has a gate and its up.
    let first = ((workgroup.x + workgroup.y * p.groups_x) * subgroups + subgroup) * lanes * 4u;
    let units = p.cols / 8u;
#for t 4
    let n_#{t} = first + (#{t}u / 2u * lanes + lane) * 2u + #{t}u % 2u;
    // Columns past the end read the last one and write nothing.
    let row_#{t} = min(n_#{t}, p.rows - 1u);
#for b BATCH
    var sum_#{t}_#{b} = 0.0;
#endfor
#endfor
    // Eight units at a time, 64 bytes of int8: a row's whole cache line is read at once. Past the end x counts as 0.
    for (var block = 0u; block < units; block += 8u) {
#for q 2
#for v 4
        let unit_#{q}#{v} = min(block + #{q}u * 4u + #{v}u, units - 1u);
#endfor
#endfor
#for t 4
#for q 2
#for v 4
        let eight_#{q}#{v}_#{t} = weights_of(row_#{t}, units, unit_#{q}#{v});
#endfor
#endfor
#if WEIGHTS == int8
        let scale_#{t} = two_scales(row_#{t}, units / 4u, block / 4u);
#endif
#endfor
#for q 2
#for v 4
#for b BATCH
        let x_#{q}#{v}_#{b} = select(
            0.0,
            x[#{b}u * p.cols + unit_#{q}#{v} * 8u + lane % 8u],
            block + #{q}u * 4u + #{v}u < units,
        );
#endfor
#endfor
#endfor
#for q 2
#for t 4
#for b BATCH
        var part_#{q}_#{t}_#{b} = 0.0;
#endfor
#endfor
#for v 4
#for e 4
#for b BATCH
        {
            let value = subgroupBroadcast(x_#{q}#{v}_#{b}, #{e}u);
#for t 4
            part_#{q}_#{t}_#{b} = fma(eight_#{q}#{v}_#{t}.low[#{e}], value, part_#{q}_#{t}_#{b});
#endfor
        }
#endfor
#endfor
#for e 4
#for b BATCH
        {
            let value = subgroupBroadcast(x_#{q}#{v}_#{b}, #{e}u + 4u);
#for t 4
            part_#{q}_#{t}_#{b} = fma(eight_#{q}#{v}_#{t}.high[#{e}], value, part_#{q}_#{t}_#{b});
#endfor
        }
#endfor
#endfor
#endfor
#for t 4
#for b BATCH
#if WEIGHTS == int8
        sum_#{t}_#{b} = fma(scale_#{t}[#{q}], part_#{q}_#{t}_#{b}, sum_#{t}_#{b});
#else
        sum_#{t}_#{b} += part_#{q}_#{t}_#{b};
#endif
#endfor
#endfor
#endfor
    }
#for b BATCH
#if EPILOGUE == swiglu
    write_pair(#{b}u, n_0, sum_0_#{b}, sum_1_#{b});
    write_pair(#{b}u, n_2, sum_2_#{b}, sum_3_#{b});
#else
#for t 4
    write(#{b}u, n_#{t}, sum_#{t}_#{b});
#endfor
#endif
#endfor
}
