// Shared: how a row of a matrix product ends: bias, activation, adding to what is there.
// Needs the parameter `flags`, `bias` [matrix rows] f32 and `y` f32. Variants: EPILOGUE.
#import gelu

const HAS_BIAS = 1u;
const ACCUMULATE = 2u;

// The sum of matrix row `column` goes to y[at].
fn end_sum(at: u32, column: u32, sum: f32) {
    var v = sum;
    if ((p.flags & HAS_BIAS) != 0u) {
        v += bias[column];
    }
#if EPILOGUE == gelu_tanh
    v = gelu_tanh(v);
#endif
#if EPILOGUE == gelu_erf
    v = gelu_erf(v);
#endif
    if ((p.flags & ACCUMULATE) != 0u) {
        v += y[at];
    }
    y[at] = v;
}

// The sums of a gate and its up go to y[at].
fn end_pair(at: u32, gate: f32, up: f32) {
    y[at] = silu(gate) * up;
}
