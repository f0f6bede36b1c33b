//! Room `app`: what is remembered of how the costs of answers are looked at: which answer, which tokens, how far in.

use std::ops::Range;

use super::timeline::Timeline;
use super::tokens_ui::TokensView;
use crate::chat::tree::MessageId;
use crate::costs::colour::Metric;
use crate::costs::write::{Form, Plot};
use crate::costs::{Costs, Figures};
use crate::gpu::GroupBy;

/// A page of the panel of costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Page {
    /// Lanes over time.
    #[default]
    Timeline,
    /// Plots.
    Plots,
    /// Time by kernel.
    Kernels,
    /// Attention and the logit lens.
    Inside,
}

/// What the user asks of it, and what drawing it needs.
#[derive(Clone, Debug, PartialEq)]
pub enum CostsCommand {
    /// Look at this answer.
    Open(MessageId),
    /// Ask the history what it cost.
    Want(MessageId),
    /// Answer anew from this token on, with another in its place.
    Branch {
        /// Which answer.
        answer: MessageId,
        /// Its token, over all its pieces.
        token: usize,
        /// The token to go on with.
        id: u32,
    },
    /// Time each kernel, or no more.
    Profile(bool),
    /// The profile is on the screen.
    WantProfile,
    /// Measure the device's limits.
    Measure,
    /// Nobody looks into a token any more.
    StopLooking,
    /// Look into this token.
    LookInside(MessageId, usize),
    /// Choose a file for what these answers cost.
    Export(Form, Vec<MessageId>),
    /// Write the panel as it is seen to a picture.
    Picture,
}

/// How the costs are looked at.
#[derive(Debug, Default)]
pub struct CostsView {
    /// The page.
    pub page: Page,
    /// What the answers' tokens are coloured by; `None`: answers are shown as Markdown.
    pub metric: Option<Metric>,
    /// The answer that was chosen; `None`: the last one, whichever that is.
    pub answer: Option<MessageId>,
    /// The answer that is looked at.
    pub current: Option<MessageId>,
    /// The answer that was asked last, as of the last frame.
    last_asked: Option<MessageId>,
    /// All answers of this run of the program instead of one.
    pub whole_run: bool,
    /// The chosen token, over all pieces of its answer.
    pub pinned: Option<usize>,
    /// Chosen tokens.
    pub selection: Option<Range<usize>>,
    /// Bring the chosen token into sight.
    pub reveal: bool,
    /// What is plotted.
    pub plot: Plot,
    /// Another answer to compare with.
    pub beside: Option<MessageId>,
    /// The layer and the head whose attention is shown; `None`: the mean of all.
    pub layer: Option<usize>,
    /// See there.
    pub head: Option<usize>,
    /// Attention averaged, and of what.
    pub(super) weights: Option<(WeightsOf, Vec<f32>)>,
    /// The part whose kernels are listed.
    pub(super) part: String,
    /// What they are put together by.
    pub(super) group: Grouping,
    /// What they are sorted by.
    pub(super) sort: SortBy,
    /// Figures, and of what.
    pub(super) figures: Option<(FiguresOf, Figures)>,
    /// The lanes.
    pub(super) timeline: Timeline,
    /// The coloured texts.
    pub(super) tokens: TokensView,
    /// Where the panel was drawn last.
    pub(super) rect: Option<egui::Rect>,
}

/// The answer, the token, the layer and the head that weights are of.
type WeightsOf = (MessageId, usize, Option<usize>, Option<usize>);

/// The answer, its tokens and the selection that figures are of, and how many changes there had been.
type FiguresOf = (MessageId, usize, Option<Range<usize>>, u64);

/// What kernels are put together by: what they compute, unless it is chosen otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grouping(pub GroupBy);

impl Default for Grouping {
    fn default() -> Self {
        Self(GroupBy::Kind)
    }
}

/// What a table of kernels is sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortBy {
    /// As they come.
    Order,
    /// Time.
    #[default]
    Ms,
    /// Dispatches.
    Count,
    /// Bytes a second.
    GbS,
    /// Operations a second.
    GflopS,
    /// The share of what the device could do.
    Roofline,
}

impl CostsView {
    /// Looks at another answer.
    pub fn open(&mut self, answer: MessageId) {
        self.answer = Some(answer);
        self.look_at(answer);
    }

    /// An answer is on the page, chosen or not.
    pub(super) fn look_at(&mut self, answer: MessageId) {
        if self.current.replace(answer) != Some(answer) {
            (self.pinned, self.selection) = (None, None);
            self.timeline.fit();
        }
    }

    /// This one was asked last: where it is another than before, it is looked at.
    pub(super) fn follow(&mut self, last_asked: Option<MessageId>) {
        if self.last_asked != last_asked {
            (self.last_asked, self.answer) = (last_asked, None);
        }
    }

    /// Chooses a token, and brings it into sight elsewhere.
    pub fn pin(&mut self, answer: MessageId, token: usize) {
        self.open(answer);
        self.pinned = Some(token);
        self.selection = None;
        self.reveal = true;
    }

    /// Moves to the token so many places away, of `count`; `extend`: the selection grows.
    pub fn step(&mut self, by: isize, count: usize, extend: bool) {
        let Some(last) = count.checked_sub(1) else { return };
        let from = self.pinned.unwrap_or(if by > 0 { 0 } else { last });
        let to = if self.pinned.is_none() { from } else { from.saturating_add_signed(by).min(last) };
        if extend {
            let (first, end) = self.selection.clone().map_or((from, from + 1), |s| (s.start, s.end));
            // The end that moves is the one the chosen token is at.
            let anchor = if from + 1 == end { first } else { end - 1 };
            self.selection = Some(anchor.min(to)..anchor.max(to) + 1);
        } else {
            self.selection = None;
        }
        self.pinned = Some(to);
        self.reveal = true;
    }
}

/// The token so many places on in the pieces of an answer: its piece and its place there.
#[must_use]
pub fn nth<'a>(pieces: &[&'a Costs], mut token: usize) -> Option<(&'a Costs, usize)> {
    for costs in pieces {
        if token < costs.tokens.len() {
            return Some((costs, token));
        }
        token -= costs.tokens.len();
    }
    None
}

/// Tokens of all pieces.
#[must_use]
pub fn count(pieces: &[&Costs]) -> usize {
    pieces.iter().map(|costs| costs.tokens.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_stepped_through_and_selections_grow_from_where_they_began() {
        let mut view = CostsView::default();
        view.step(1, 10, false);
        assert_eq!(view.pinned, Some(0));
        view.step(1, 10, false);
        view.step(-5, 10, false);
        assert_eq!(view.pinned, Some(0));
        view.step(4, 10, false);
        view.step(1, 10, true);
        view.step(1, 10, true);
        assert_eq!((view.pinned, view.selection.clone()), (Some(6), Some(4..7)));
        view.step(-4, 10, true);
        assert_eq!((view.pinned, view.selection.clone()), (Some(2), Some(2..5)));
        view.step(100, 10, false);
        assert_eq!((view.pinned, view.selection.clone()), (Some(9), None));
        view.step(1, 0, false);
    }
}
