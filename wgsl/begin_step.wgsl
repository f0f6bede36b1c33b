// rows[b] = states[active[b]]   for the sessions of this step: what each one's next token is and where it goes.
//
// states [8] RowInfo by slot; rows [batch] RowInfo.
#import row_info

struct Params {
    batch: u32,
    active_0: u32,
    active_1: u32,
    active_2: u32,
    active_3: u32,
    active_4: u32,
    active_5: u32,
    active_6: u32,
    active_7: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> states: array<RowInfo>;
@group(0) @binding(2) var<storage, read_write> rows: array<RowInfo>;

@compute @workgroup_size(1)
fn main() {
#for b 8
    if (#{b}u < p.batch) {
        rows[#{b}u] = states[p.active_#{b}];
    }
#endfor
}
