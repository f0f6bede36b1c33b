// Reads every vector of a buffer and keeps nothing: the device's own read bandwidth.
//
// source [vectors] 16 bytes each; sink: written only if the sum is a value it never is. Variants: WIDE (64-bit integers).
struct Params {
    vectors: u32,
    groups_x: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
#if WIDE
@group(0) @binding(1) var<storage, read> source: array<vec2<u64>>;
#else
@group(0) @binding(1) var<storage, read> source: array<vec4<u32>>;
#endif
@group(0) @binding(2) var<storage, read_write> sink: array<u32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let first = (workgroup.x + workgroup.y * p.groups_x) * 4096u + local;
#if WIDE
    var sum = vec2<u64>(0lu);
#else
    var sum = vec4<u32>(0u);
#endif
#for i 16
    if (first + #{i}u * 256u < p.vectors) {
        sum ^= source[first + #{i}u * 256u];
    }
#endfor
#if WIDE
    let all = u32(sum.x ^ sum.y);
#else
    let all = sum.x ^ sum.y ^ sum.z ^ sum.w;
#endif
    if (all == 0x12345678u) {
        sink[local] = all;
    }
}
