// Rotates q and k of the vision tower in place. For a head of d elements and pair index i < d/2:
// angle = (i < d/4 ? row : col) * 10000^(-2 (i mod d/4) / (d/2)), with the patch's full-resolution row and column:
//   x'[i] = x[i] cos - x[i + d/2] sin,   x'[i + d/2] = x[i + d/2] cos + x[i] sin
// Patches lie in 2x2-block order (see vision_position).
//
// turns [side, d/4] (cos, sin) f32; q, k [patches, heads, d] f32. An invocation takes one pair of q and k.
struct Params {
    patches: u32,
    heads: u32,
    head_dim: u32,
    gh: u32,
    gw: u32,
    groups_x: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> turns: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read_write> q: array<f32>;
@group(0) @binding(3) var<storage, read_write> k: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let half = p.head_dim / 2u;
    let quarter = p.head_dim / 4u;
    let id = (workgroup.x + workgroup.y * p.groups_x) * 64u + local;
    let patch_index = id / (p.heads * half);
    if (patch_index >= p.patches) {
        return;
    }
    let head = (id / half) % p.heads;
    let i = id % half;
    let r = patch_index % (p.gh * p.gw);
    let block = r / 4u;
    let row = (block / (p.gw / 2u)) * 2u + (r / 2u) % 2u;
    let col = (block % (p.gw / 2u)) * 2u + r % 2u;
    let turn = turns[select(col, row, i < quarter) * quarter + i % quarter];
    let at = (patch_index * p.heads + head) * p.head_dim + i;
    let q0 = q[at];
    let q1 = q[at + half];
    q[at] = q0 * turn.x - q1 * turn.y;
    q[at + half] = q1 * turn.x + q0 * turn.y;
    let k0 = k[at];
    let k1 = k[at + half];
    k[at] = k0 * turn.x - k1 * turn.y;
    k[at + half] = k1 * turn.x + k0 * turn.y;
}
