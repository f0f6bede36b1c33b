// Shared: weights as stored, four columns at a time.
// int8: symmetric blocks of 32 columns, w = q * scale, scale in f16; f16; f32.

// f16 lie in words of two; with native f16 (F16) buffers are declared as f16 instead and loads convert.
// The values are the same. A bitcast of words to f16 would do too, but Mesa 22 gets it wrong.
fn halves(word: u32) -> vec2<f32> {
    return unpack2x16float(word);
}

// Four int8 of one word, by shifts; unpack4xI8 gives the same and is as fast.
fn bytes(word: u32) -> vec4<f32> {
    return vec4<f32>((vec4<i32>(bitcast<i32>(word)) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));
}
