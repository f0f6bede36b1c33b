// size[0] = the lanes of a subgroup as this device really runs workgroups of 64; adapters report a range only.
struct Params {
    unused: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> size: array<u32>;

@compute @workgroup_size(64)
fn main(
    @builtin(local_invocation_index) local: u32,
#if SUBGROUPS
    @builtin(subgroup_size) lanes: u32,
#endif
) {
    if (local == 0u) {
#if SUBGROUPS
        size[0] = lanes + p.unused;
#else
        size[0] = 1u + p.unused;
#endif
    }
}
