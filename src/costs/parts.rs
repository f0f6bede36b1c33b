//! Where the time of an answer went: each moment between the question and the end belongs to one part, so that the parts add up to the
//! whole.

use super::{Costs, Stage};

/// What a moment was spent on. Where several things went on at once, it belongs to the first of these that did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// The device chose a token.
    Sampling,
    /// The device ran decode steps.
    Decode,
    /// The device ran pieces of the prompt.
    Prefill,
    /// The device ran the vision tower.
    Vision,
    /// The prompt was made: template, tokens, pictures resized.
    Prompt,
    /// The window drew, and the device did nothing for this answer.
    Window,
    /// The processor recorded a step, and the device did nothing for this answer.
    Recording,
    /// A step waited for other work on the device: other answers, the window.
    Queue,
    /// A result was on its way back.
    Readback,
    /// Nothing of the above: between steps, or waiting for a place among other answers.
    Gaps,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Sampling,
        Self::Decode,
        Self::Prefill,
        Self::Vision,
        Self::Prompt,
        Self::Window,
        Self::Recording,
        Self::Queue,
        Self::Readback,
        Self::Gaps,
    ];

    /// As time goes: the order in which they are shown.
    pub const SHOWN: [Self; 10] = [
        Self::Prompt,
        Self::Vision,
        Self::Prefill,
        Self::Decode,
        Self::Sampling,
        Self::Readback,
        Self::Recording,
        Self::Queue,
        Self::Window,
        Self::Gaps,
    ];

    /// Its name in files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sampling => "sampling",
            Self::Decode => "decode",
            Self::Prefill => "prefill",
            Self::Vision => "vision",
            Self::Prompt => "prompt",
            Self::Window => "window",
            Self::Recording => "recording",
            Self::Queue => "queue",
            Self::Readback => "readback",
            Self::Gaps => "gaps",
        }
    }
}

/// A part and its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartTime {
    /// Which.
    pub part: Part,
    /// Nanoseconds.
    pub ns: u64,
}

/// The time of an answer by part, all parts in the order of [`Part::SHOWN`]; they add up to [`Costs::finished`].
#[must_use]
pub fn parts(costs: &Costs) -> Vec<PartTime> {
    let mut spans: Vec<(u64, u64, Part)> = Vec::new();
    let mut put = |span: Option<(u64, u64)>, part| {
        if let Some((begin, end)) = span {
            spans.push((begin.min(costs.finished), end.min(costs.finished), part));
        }
    };
    put(Some((0, costs.prepared)), Part::Prompt);
    for frame in &costs.frames {
        put(Some((frame.begin, frame.end)), Part::Window);
    }
    for (all, part) in [
        (costs.pictures.iter().map(|picture| picture.times).collect::<Vec<_>>(), Part::Vision),
        (costs.chunks.iter().map(|chunk| chunk.times).collect(), Part::Prefill),
        (costs.tokens.iter().filter(|token| !token.ends_prefill).map(|t| t.times).collect(), Part::Decode),
    ] {
        for times in all {
            put(times.device(), part);
        }
    }
    let tokens = costs.tokens.iter().map(|token| token.times);
    let steps = tokens.chain(costs.chunks.iter().map(|chunk| chunk.times));
    for times in steps.chain(costs.pictures.iter().map(|picture| picture.times)) {
        put(times.stage(Stage::Sampling), Part::Sampling);
        put(times.stage(Stage::Recording), Part::Recording);
        put(times.stage(Stage::Queue), Part::Queue);
        put(times.stage(Stage::Readback), Part::Readback);
    }
    let mut sums = sweep(spans, costs.finished);
    if costs.is_copied {
        sums = [0; Part::ALL.len()];
    }
    Part::SHOWN.iter().map(|&part| PartTime { part, ns: sums[part as usize] }).collect()
}

/// Gives each moment before `end` to the first part that has it.
fn sweep(spans: Vec<(u64, u64, Part)>, end: u64) -> [u64; Part::ALL.len()] {
    let mut edges: Vec<(u64, bool, Part)> = Vec::with_capacity(spans.len() * 2);
    for (begin, end, part) in spans.into_iter().filter(|(begin, end, _)| end > begin) {
        edges.push((begin, true, part));
        edges.push((end, false, part));
    }
    edges.sort_unstable_by_key(|&(at, ..)| at);
    let (mut open, mut sums) = ([0u32; Part::ALL.len()], [0u64; Part::ALL.len()]);
    let mut at = 0;
    let owner = |open: &[u32]| open.iter().position(|&n| n > 0).unwrap_or(Part::Gaps as usize);
    for (edge, opens, part) in edges {
        sums[owner(&open)] += edge - at;
        at = edge;
        let count = &mut open[part as usize];
        *count = if opens { *count + 1 } else { count.saturating_sub(1) };
    }
    sums[owner(&open)] += end.saturating_sub(at);
    sums
}
