// Shared: weights as matmul_lanes and matvec_lanes read them, eight columns k at a time: `weights_of(row, unit)` holds
// columns 8 * unit … 8 * unit + 7 of a row of W.
// Every load of these kernels is a load a lane on a software device, however wide: with WIDE (64-bit integers) a load
// brings twice as much. Variants: WEIGHTS, WIDE.
#import weights
#import wide

struct Eight {
    low: vec4<f32>,
    high: vec4<f32>,
}

#if WIDE
@group(0) @binding(2) var<storage, read> w: array<u64>;
#else
@group(0) @binding(2) var<storage, read> w: array<u32>;
#endif

// Words 2 * pair and 2 * pair + 1 of W.
fn two_words(pair: u32) -> vec2<u32> {
#if WIDE
    return words(w[pair]);
#else
    return vec2<u32>(w[pair * 2u], w[pair * 2u + 1u]);
#endif
}

fn weights_of(row: u32, units: u32, unit: u32) -> Eight {
    let at = row * units + unit;
#if WEIGHTS == int8
    let words = two_words(at);
    return Eight(bytes(words.x), bytes(words.y));
#endif
#if WEIGHTS == f16
    let low = two_words(at * 2u);
    let high = two_words(at * 2u + 1u);
    return Eight(vec4<f32>(halves(low.x), halves(low.y)), vec4<f32>(halves(high.x), halves(high.y)));
#endif
#if WEIGHTS == f32
    let a = bitcast<vec2<f32>>(two_words(at * 4u));
    let b = bitcast<vec2<f32>>(two_words(at * 4u + 1u));
    let c = bitcast<vec2<f32>>(two_words(at * 4u + 2u));
    let d = bitcast<vec2<f32>>(two_words(at * 4u + 3u));
    return Eight(vec4<f32>(a, b), vec4<f32>(c, d));
#endif
}
