// Shared: a 64-bit integer is two words, the first in its lower half. Variants: WIDE (where there are such integers).
#if WIDE
fn words(both: u64) -> vec2<u32> {
    return vec2<u32>(u32(both & 0xfffffffflu), u32(both >> 32u));
}
#endif
