// Shared: both GELUs of the model. The blocks of the tower use the tanh form, the mergers the exact one.

fn gelu_tanh(x: f32) -> f32 {
    // sqrt(2/pi); the argument is clamped where tanh is 1 in f32 anyway: some drivers overflow.
    let u = clamp(0.7978845608028654 * (x + 0.044715 * x * x * x), -15.0, 15.0);
    return 0.5 * x * (1.0 + tanh(u));
}

// erf by a degree-13 odd / degree-8 even rational (Eigen's coefficients for f32), |error| < 3e-7.
fn erf(v: f32) -> f32 {
    let x = clamp(v, -4.0, 4.0);
    let z = x * x;
    var p = fma(z, -2.72614225801306e-10, 2.77068142495902e-08);
    p = fma(z, p, -2.10102402082508e-06);
    p = fma(z, p, -5.69250639462346e-05);
    p = fma(z, p, -7.34990630326855e-04);
    p = fma(z, p, -2.95459980854025e-03);
    p = fma(z, p, -1.60960333262415e-02);
    var q = fma(z, -1.45660718464996e-05, -2.13374055278905e-04);
    q = fma(z, q, -1.68282697438203e-03);
    q = fma(z, q, -7.37332916720468e-03);
    q = fma(z, q, -1.42647390514189e-02);
    return x * p / q;
}

fn gelu_erf(x: f32) -> f32 {
    return 0.5 * x * (1.0 + erf(x * 0.7071067811865476));
}

fn silu(x: f32) -> f32 {
    return x / (1.0 + exp(-x));
}
