//! What a dispatch does and for whom: its floating-point operations and bytes, and its place in the model's work.

/// What one dispatch must do at least, and what pacing takes it for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Floating-point operations of the result: a multiply-add is two, an `exp` one; what a kernel computes beyond that
    /// (masked keys, a tile's empty rows) does not count.
    pub flops: f64,
    /// Bytes that have to be moved: each input read once, each output written once, as they are stored.
    pub bytes: f64,
    /// Pacing's estimate ([`super::Recorder::piece_cost`]).
    pub cost: f64,
}

impl Work {
    /// Nothing is known of it; pacing takes it for next to nothing.
    pub const UNCOUNTED: Self = Self { flops: 0.0, bytes: 0.0, cost: 1.0 };

    /// So many operations and bytes; the cost is operations plus three per byte.
    #[must_use]
    pub fn new(flops: usize, bytes: usize) -> Self {
        let (flops, bytes) = (flops as f64, bytes as f64);
        Self { flops, bytes, cost: flops + 3.0 * bytes }
    }

    /// The same, which pacing takes for `cost`: small kernels cost more than what they must do, and a tile of a product
    /// costs as much with few rows in it.
    #[must_use]
    pub fn costing(self, cost: f64) -> Self {
        Self { cost, ..self }
    }
}

/// The part of work that nobody named.
pub const UNNAMED: &str = "other";

/// For whom a dispatch works. The words are the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scope {
    /// A stage that runs in steps: vision, prefill, decode.
    pub part: &'static str,
    /// The layer; `None`: outside of layers.
    pub layer: Option<u32>,
    /// What is computed: norm, attention, down.
    pub kind: &'static str,
}

impl Default for Scope {
    fn default() -> Self {
        Self { part: UNNAMED, layer: None, kind: UNNAMED }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_is_operations_plus_three_per_byte_unless_said_otherwise() {
        assert!((Work::new(10, 4).cost - 22.0).abs() < 1e-12);
        let other = Work::new(10, 4).costing(5.0);
        assert_eq!((other.flops, other.bytes, other.cost), (10.0, 4.0, 5.0));
    }
}
