//! The words for the model's work in profiles: parts, which run in steps, and what kernels compute.

/// The vision tower; a step is a picture or a pair of a clip's frames.
pub const VISION: &str = "vision";
/// Prompts; a step is a chunk of one.
pub const PREFILL: &str = "prefill";
/// Answers; a step gives each session a token, or verifies guesses.
pub const DECODE: &str = "decode";

/// All parts, in the order in which a question goes through them.
pub const PARTS: [&str; 3] = [VISION, PREFILL, DECODE];

pub(super) const STEP_STATE: &str = "step state";
pub(super) const EMBEDDING: &str = "embedding";
pub(super) const PICTURE_ROWS: &str = "picture rows";
pub(super) const NORM: &str = "norm";
pub(super) const QKV: &str = "q, k, v";
pub(super) const ROPE: &str = "rope";
pub(super) const ROPE_AND_CACHE: &str = "rope and cache";
pub(super) const ATTENTION: &str = "attention";
pub(super) const OUTPUT: &str = "output";
pub(super) const GATE_AND_UP: &str = "gate and up";
pub(super) const DOWN: &str = "down";
pub(super) const HEAD: &str = "head";
pub(super) const SAMPLING: &str = "sampling";
pub(super) const SCORING: &str = "scoring";
pub(super) const PATCHES: &str = "patches";
pub(super) const POSITIONS: &str = "positions";
pub(super) const UP: &str = "up";
pub(super) const MERGER: &str = "merger";
