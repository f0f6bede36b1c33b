// rows[b] = states[slots[b]]   for the sessions of this step: what each one's next token is and where it goes.
//
// states [8] RowInfo by slot; rows [batch] RowInfo.
#import row_info

struct Params {
    slots: array<vec4<u32>, 2>,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> states: array<RowInfo>;
@group(0) @binding(2) var<storage, read_write> rows: array<RowInfo>;

// A workgroup a session: a branch on what `Params` say would have some software devices compile the kernel anew in each step.
@compute @workgroup_size(1)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>) {
    let b = workgroup.x;
    rows[b] = states[p.slots[b / 4u][b % 4u]];
}
