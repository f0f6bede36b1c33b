// Shared: where a token's keys or values lie. A layer's cache is pages, each [kv_head, 64 tokens, HEAD_DIM] in vectors
// of four elements: f32 in vec4<f32>, f16 in vec2<u32>, int8 in a u32. In int8 each head's part of a page ends with
// [64 tokens] scales in f32, so that whatever takes or copies a page has both: element = quant * scale of token and head.
// Needs `page_table` [slots, max_pages] u32 and the parameters max_pages and kv_heads. Variants: KV, HEAD_DIM.
const PAGE_TOKENS = 64u;
const TOKEN_VECTORS = #{HEAD_DIM}u / 4u;
// Vectors of a head's part of a page.
#if KV == int8
const PART_VECTORS = PAGE_TOKENS * (TOKEN_VECTORS + 1u);
#else
const PART_VECTORS = PAGE_TOKENS * TOKEN_VECTORS;
#endif

fn kv_part(slot: u32, index: u32, kv_head: u32) -> u32 {
    let page = page_table[slot * p.max_pages + index / PAGE_TOKENS];
    return (page * p.kv_heads + kv_head) * PART_VECTORS;
}

fn kv_vector(slot: u32, index: u32, kv_head: u32) -> u32 {
    return kv_part(slot, index, kv_head) + index % PAGE_TOKENS * TOKEN_VECTORS;
}
#if KV == int8

// The word with a token's scale.
fn kv_scale(slot: u32, index: u32, kv_head: u32) -> u32 {
    return kv_part(slot, index, kv_head) + PAGE_TOKENS * TOKEN_VECTORS + index % PAGE_TOKENS;
}
#endif
