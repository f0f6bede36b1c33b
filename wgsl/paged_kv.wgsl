// Shared: where a token's keys or values lie. A layer's cache is pages, each [kv_head, 64 tokens, HEAD_DIM] in vectors
// of four elements: f32 in vec4<f32>, f16 in vec2<u32>.
// Needs `page_table` [slots, max_pages] u32 and the parameters max_pages and kv_heads.
const PAGE_TOKENS = 64u;

fn kv_vector(slot: u32, index: u32, kv_head: u32) -> u32 {
    let page = page_table[slot * p.max_pages + index / PAGE_TOKENS];
    return ((page * p.kv_heads + kv_head) * PAGE_TOKENS + index % PAGE_TOKENS) * (#{HEAD_DIM}u / 4u);
}
