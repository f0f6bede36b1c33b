// x[r] += bilinear(E, row, col)   the learned position table, stretched over the picture (align_corners = true).
// Patch r of a frame of gh x gw patches lies in 2x2-block order: r = ((bh * gw/2 + bw) * 2 + ih) * 2 + iw,
// row = 2 bh + ih, col = 2 bw + iw. In each direction y = row * (side - 1) / max(gh - 1, 1).
//
// table [side * side, width] f32; x [patches, width] f32.
struct Params {
    width: u32,
    side: u32,
    gh: u32,
    gw: u32,
    first_patch: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> table: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> x: array<vec4<f32>>;

struct Tap {
    low: u32,
    high: u32,
    fraction: f32,
}

fn tap(i: u32, n: u32) -> Tap {
    let y = f32(i * (p.side - 1u)) / f32(max(n - 1u, 1u));
    let low = min(u32(y), p.side - 1u);
    return Tap(low, min(low + 1u, p.side - 1u), y - f32(low));
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let vectors = p.width / 4u;
    let i = workgroup.x * 64u + local;
    if (i >= vectors) {
        return;
    }
    let patch_index = p.first_patch + workgroup.y;
    let r = patch_index % (p.gh * p.gw);
    let block = r / 4u;
    let row = (block / (p.gw / 2u)) * 2u + (r / 2u) % 2u;
    let col = (block % (p.gw / 2u)) * 2u + r % 2u;
    let a = tap(row, p.gh);
    let b = tap(col, p.gw);
    let e00 = table[(a.low * p.side + b.low) * vectors + i];
    let e01 = table[(a.low * p.side + b.high) * vectors + i];
    let e10 = table[(a.high * p.side + b.low) * vectors + i];
    let e11 = table[(a.high * p.side + b.high) * vectors + i];
    let e = (1.0 - a.fraction) * (1.0 - b.fraction) * e00 + (1.0 - a.fraction) * b.fraction * e01
        + a.fraction * (1.0 - b.fraction) * e10 + a.fraction * b.fraction * e11;
    x[patch_index * vectors + i] += e;
}
