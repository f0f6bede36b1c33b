// Shared: what a row of activations stands for. The engine's `RowInfo` has the same layout.
struct RowInfo {
    // Text id, or vocab_size + slot for a row of the picture arena (an extension id).
    token: u32,
    // M-RoPE position.
    t: u32,
    h: u32,
    w: u32,
    // Place in the sequence, which is also its place in the KV cache.
    index: u32,
    // Row of the page table and of the sampler's state.
    slot: u32,
    // Random draws made so far.
    draws: u32,
    // 1: one of several rows of its slot (a verify pass); the sampler leaves the slot's state alone.
    verify: u32,
}
