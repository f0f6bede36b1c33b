//! When a piece of work was where.

use crate::gpu::StepTimes;

/// The stages of a token's (or chunk's, or picture's) way, nanoseconds since the question was asked; 0: not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// The processor began to record its step.
    pub recorded: u64,
    /// The step was submitted.
    pub submitted: u64,
    /// It began on the device.
    pub begin: u64,
    /// The device began to sample.
    pub sampling: u64,
    /// It ended on the device.
    pub end: u64,
    /// Its record was read back.
    pub read: u64,
    /// Its text was there.
    pub decoded: u64,
    /// The window had drawn it.
    pub painted: u64,
}

/// A stretch between two moments of [`Times`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The processor records.
    Recording,
    /// Submitted, behind other work.
    Queue,
    /// On the device.
    Device,
    /// Of that, the choice of the token.
    Sampling,
    /// On its way back.
    Readback,
    /// From its bytes to text.
    Text,
    /// From text to the screen.
    Window,
}

impl Times {
    /// Those of a step, since `asked_ns` of [`crate::clock`].
    #[must_use]
    pub fn of_step(step: &StepTimes, asked_ns: u64) -> Self {
        // Zero stays "not known".
        let since = |ns: u64| if ns == 0 { 0 } else { ns.saturating_sub(asked_ns).max(1) };
        Self {
            recorded: since(step.recorded_ns),
            submitted: since(step.submitted_ns),
            begin: since(step.begin_ns),
            sampling: since(step.mark_ns),
            end: since(step.end_ns),
            read: since(step.read_ns),
            decoded: 0,
            painted: 0,
        }
    }

    /// Where it began and ended on the device or, where that is not known, was submitted and read back. `None`: neither is known.
    #[must_use]
    pub fn device(&self) -> Option<(u64, u64)> {
        let span = if self.end > 0 { (self.begin, self.end) } else { (self.submitted, self.read) };
        (span.0 > 0 && span.1 > 0).then_some((span.0.min(span.1), span.1))
    }

    /// Nanoseconds of [`Times::device`].
    #[must_use]
    pub fn device_ns(&self) -> u64 {
        self.device().map_or(0, |(begin, end)| end - begin)
    }

    /// When it was there for whoever waits.
    #[must_use]
    pub fn arrival(&self) -> u64 {
        if self.decoded > 0 { self.decoded } else { self.read }
    }

    /// A stretch of it; `None`: not known, or of no length.
    #[must_use]
    pub fn stage(&self, stage: Stage) -> Option<(u64, u64)> {
        let (begin, end) = match stage {
            Stage::Recording => (self.recorded, self.submitted),
            Stage::Queue => (self.submitted, self.begin),
            Stage::Device => self.device()?,
            Stage::Sampling => (self.sampling, self.end),
            Stage::Readback => (self.end, self.read),
            Stage::Text => (self.read, self.decoded),
            Stage::Window => (self.decoded, self.painted),
        };
        (begin > 0 && end > begin).then_some((begin, end))
    }
}
