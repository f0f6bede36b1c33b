// y[m, n] (+)= act(bias[n] + sum_k x[m, k] * W[n, k])   for many rows m, on devices where a load costs more than arithmetic
// and a value crosses a subgroup for nothing: software devices. The same product as matmul, without workgroup memory.
//
// A lane owns COLUMNS columns n; lane l % 8 loads row l % 8 of each group of eight rows m, and every row's value goes to all
// lanes by a broadcast. A subgroup makes a tile of 8 * GROUPS rows by COLUMNS * subgroup_size columns. Subgroups have at
// least eight lanes. The sum of an element runs over k in order, whatever the tile.
//
// Bindings and flags: see matmul. first_tile counts workgroups along n.
// Workgroup of 64. Variants: WEIGHTS, EPILOGUE, GROUPS (of eight rows), COLUMNS (even), WIDE (see lanes_weights).
#import lanes_weights
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
#if WIDE
@group(0) @binding(1) var<storage, read> x: array<u64>;
#else
@group(0) @binding(1) var<storage, read> x: array<vec2<f32>>;
#endif
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
#if WEIGHTS == int8
@group(0) @binding(5) var<storage, read> scales: array<u32>;
#endif

fn two_of_x(pair: u32) -> vec2<f32> {
#if WIDE
    return bitcast<vec2<f32>>(words(x[pair]));
#else
    return x[pair];
#endif
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
fn main(
    @builtin(workgroup_id) tile: vec3<u32>,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
    @builtin(subgroup_invocation_id) lane: u32,
    @builtin(subgroup_size) lanes: u32,
) {
    // Columns in pairs, so that one lane has a gate and its up: n_0, n_0 + 1, then as many further on as the lanes cover.
    let first = ((tile.x + p.first_tile) * subgroups + subgroup) * lanes * #{COLUMNS}u;
    let m0 = tile.y * #{GROUPS}u * 8u;
    let units = p.cols / 8u;
#for t COLUMNS
    let n_#{t} = first + (#{t}u / 2u * lanes + lane) * 2u + #{t}u % 2u;
    // Columns past the end read the last one and write nothing.
    let row_#{t} = min(n_#{t}, p.rows - 1u);
#endfor
#for g GROUPS
    let x_at_#{g} = (min(m0 + #{g}u * 8u + lane % 8u, p.m - 1u) + p.x_first_row) * units;
#for c 8
#for t COLUMNS
    var sum_#{g}_#{c}_#{t} = 0.0;
#endfor
#endfor
#endfor
#if WEIGHTS == int8
    for (var block = 0u; block < units / 4u; block += 1u) {
#for t COLUMNS
        let scale_at_#{t} = row_#{t} * (units / 4u) + block;
        let scale_#{t} = halves(scales[scale_at_#{t} / 2u])[scale_at_#{t} % 2u];
#endfor
        for (var unit = block * 4u; unit < block * 4u + 4u; unit += 1u) {
#else
    {
        for (var unit = 0u; unit < units; unit += 1u) {
#endif
#for t COLUMNS
            let eight_#{t} = weights_of(row_#{t}, units, unit);
#if WEIGHTS == int8
            let w_0_#{t} = eight_#{t}.low * scale_#{t};
            let w_1_#{t} = eight_#{t}.high * scale_#{t};
#else
            let w_0_#{t} = eight_#{t}.low;
            let w_1_#{t} = eight_#{t}.high;
#endif
#endfor
#for i 2
#for g GROUPS
            let x_#{i}_0_#{g} = two_of_x((x_at_#{g} + unit) * 4u + #{i}u * 2u);
            let x_#{i}_1_#{g} = two_of_x((x_at_#{g} + unit) * 4u + #{i}u * 2u + 1u);
#for c 8
#for h 2
#for e 2
            {
                let value = subgroupBroadcast(x_#{i}_#{h}_#{g}[#{e}], #{c}u);
#for t COLUMNS
                sum_#{g}_#{c}_#{t} = fma(w_#{i}_#{t}[#{h} * 2 + #{e}], value, sum_#{g}_#{c}_#{t});
#endfor
            }
#endfor
#endfor
#endfor
#endfor
#endfor
        }
    }
#for g GROUPS
#for c 8
#if EPILOGUE == swiglu
    write_pair(m0 + #{g}u * 8u + #{c}u, n_0, sum_#{g}_#{c}_0, sum_#{g}_#{c}_1);
#if COLUMNS == 4
    write_pair(m0 + #{g}u * 8u + #{c}u, n_2, sum_#{g}_#{c}_2, sum_#{g}_#{c}_3);
#endif
#else
#for t COLUMNS
    write(m0 + #{g}u * 8u + #{c}u, n_#{t}, sum_#{g}_#{c}_#{t});
#endfor
#endif
#endfor
#endfor
}
