// Shared: sums and maxima over a workgroup of 64, in a fixed tree. Every invocation must call them.
var<workgroup> tree: array<f32, 64>;

fn workgroup_sum(local: u32, v: f32) -> f32 {
    workgroupBarrier();
    tree[local] = v;
    for (var half = 32u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (local < half) {
            tree[local] += tree[local + half];
        }
    }
    workgroupBarrier();
    return tree[0];
}

fn workgroup_max(local: u32, v: f32) -> f32 {
    workgroupBarrier();
    tree[local] = v;
    for (var half = 32u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (local < half) {
            tree[local] = max(tree[local], tree[local + half]);
        }
    }
    workgroupBarrier();
    return tree[0];
}
