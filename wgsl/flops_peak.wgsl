// Multiplies and adds in registers and reads nothing: the device's own peak of f32 multiply-adds.
//
//   x_c = a x_c + b, 16 times a round for each of twelve x_c, which do not wait for one another
//
// sink: written only if the sum is a value it never is, which no compiler can know: a and b come in as parameters. Twelve chains
// and the two factors fit into sixteen registers, which is what processors have at least; GPUs run many workgroups beside
// each other. Workgroup of 64.
struct Params {
    rounds: u32,
    a: f32,
    b: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> sink: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) local: u32) {
    let a = p.a;
    let b = p.b;
#for c 12
    var x#{c} = f32(local) + #{c}.0;
#endfor
    for (var round = 0u; round < p.rounds; round++) {
#for i 16
#for c 12
        x#{c} = fma(a, x#{c}, b);
#endfor
#endfor
    }
    var sum = 0.0;
#for c 12
    sum += x#{c};
#endfor
    if (sum == 12345.678) {
        sink[local] = sum;
    }
}
