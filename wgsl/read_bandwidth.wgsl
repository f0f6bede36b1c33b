// Reads every vector of a buffer and keeps nothing: the device's own read bandwidth.
//
// source [vectors] 16 bytes each; sink: written only if the sum is a value it never is.
struct Params {
    vectors: u32,
    groups_x: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> source: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> sink: array<u32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let first = (workgroup.x + workgroup.y * p.groups_x) * 4096u + local;
    var sum = vec4<u32>(0u);
#for i 16
    if (first + #{i}u * 256u < p.vectors) {
        sum ^= source[first + #{i}u * 256u];
    }
#endfor
    if ((sum.x ^ sum.y ^ sum.z ^ sum.w) == 0x12345678u) {
        sink[local] = sum.x;
    }
}
