//! Room `app`: answers laid out in lanes over time. Plain data: bars in the order they begin, found by halving, so that a hundred thousand
//! tokens cost a frame no more than what is seen of them.

use std::time::{Duration, Instant};

use crate::chat::tree::MessageId;
use crate::costs::{Cause, Costs, Stage, Times, stalls};

/// A lane. The order is that of the way through the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Frames of the window.
    Frames,
    /// The processor records.
    Recording,
    /// Submitted, behind other work.
    Queue,
    /// The vision tower.
    Vision,
    /// Pieces of the prompt.
    Prefill,
    /// Tokens.
    Decode,
    /// The choice of tokens.
    Sampling,
    /// On the way back.
    Readback,
    /// Tokens that came late.
    Stalls,
}

impl Lane {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Frames,
        Self::Recording,
        Self::Queue,
        Self::Vision,
        Self::Prefill,
        Self::Decode,
        Self::Sampling,
        Self::Readback,
        Self::Stalls,
    ];
}

/// What a bar stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum What {
    /// A token of an answer, over all its pieces.
    Token(MessageId, u32),
    /// Tokens of a prompt.
    Chunk(u32),
    /// A picture.
    Picture(u32),
    /// A frame.
    Frame,
    /// A late token: its answer, its place, what it took and what is usual (milliseconds).
    Stall(MessageId, u32, Cause, f32, f32),
}

/// A stretch of a lane.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bar {
    /// Seconds since the first question.
    pub begin: f64,
    /// The same.
    pub end: f64,
    /// What it is.
    pub what: What,
}

/// Lanes, and the part of them that is seen.
#[derive(Debug, Default)]
pub struct Timeline {
    lanes: [Vec<Bar>; Lane::ALL.len()],
    /// What they were made of: answers, their tokens, and how many changes of finished ones there had been.
    made_of: Option<(Vec<(MessageId, usize)>, u64)>,
    made_at: Option<Instant>,
    /// Seconds, the last end.
    length: f64,
    /// What is seen, seconds; `None`: all of it.
    seen: Option<(f64, f64)>,
    /// Bring the chosen token into sight.
    pub reveal: bool,
}

/// Lanes of an answer that comes in are made anew after this.
const AGAIN: Duration = Duration::from_millis(250);
/// No closer than this, seconds.
const CLOSEST: f64 = 20e-6;

impl Timeline {
    /// Shows all of it from now on.
    pub fn fit(&mut self) {
        self.seen = None;
    }

    /// What is seen, seconds.
    #[must_use]
    pub fn seen(&self) -> (f64, f64) {
        self.seen.unwrap_or((0.0, self.length.max(1e-3)))
    }

    /// Seconds from the first question to the last end.
    #[must_use]
    pub fn length(&self) -> f64 {
        self.length
    }

    /// The bars of a lane, in the order they begin.
    #[must_use]
    pub fn bars(&self, lane: Lane) -> &[Bar] {
        &self.lanes[lane as usize]
    }

    /// Makes what is seen `factor` times as long around a moment.
    pub fn zoom(&mut self, factor: f64, around: f64) {
        let (begin, end) = self.seen();
        let length = ((end - begin) * factor).clamp(CLOSEST, self.length.max(CLOSEST) * 1.2);
        let share = ((around - begin) / (end - begin)).clamp(0.0, 1.0);
        self.set_seen(around - length * share, length);
    }

    /// Moves what is seen by a share of its length.
    pub fn pan(&mut self, share: f64) {
        let (begin, end) = self.seen();
        self.set_seen(begin + (end - begin) * share, end - begin);
    }

    fn set_seen(&mut self, begin: f64, length: f64) {
        if length >= self.length * 1.2 {
            self.seen = None;
            return;
        }
        // Something of it stays in sight.
        let begin = begin.clamp(-0.5 * length, (self.length - 0.5 * length).max(-0.5 * length));
        self.seen = Some((begin, begin + length));
    }

    /// Moves what is seen so that a moment is in it.
    pub fn bring_into_sight(&mut self, moment: f64) {
        let (begin, end) = self.seen();
        let margin = 0.05 * (end - begin);
        if moment < begin + margin || moment > end - margin {
            self.set_seen(moment - (end - begin) / 2.0, end - begin);
        }
    }

    /// Takes over answers with their pieces. `version` counts changes of those that have ended.
    pub fn take(&mut self, answers: &[(MessageId, Vec<&Costs>)], version: u64) {
        let counts: Vec<(MessageId, usize)> = answers
            .iter()
            .map(|(id, pieces)| {
                let things = |costs: &&Costs| costs.tokens.len() + costs.chunks.len() + costs.pictures.len();
                (*id, pieces.iter().map(things).sum())
            })
            .collect();
        if self.made_of.as_ref().is_some_and(|made| made.0 == counts && made.1 == version) {
            return;
        }
        // While tokens come, a few times a second will do.
        let is_growing =
            self.made_of.as_ref().is_some_and(|made| made.1 == version && made.0.len() == counts.len());
        if is_growing && self.made_at.is_some_and(|at| at.elapsed() < AGAIN) {
            return;
        }
        self.made_at = Some(Instant::now());
        self.made_of = Some((counts, version));
        self.lanes.iter_mut().for_each(Vec::clear);
        let pieces = || answers.iter().flat_map(|(_, pieces)| pieces).filter(|costs| !costs.is_copied);
        let first_us = pieces().map(|costs| costs.asked_us).min().unwrap_or(0);
        for (id, pieces) in answers {
            let mut first = 0;
            for costs in pieces {
                if !costs.is_copied {
                    let offset = costs.asked_us.saturating_sub(first_us) as f64 / 1e6;
                    self.put(*id, costs, first, offset);
                }
                first += u32::try_from(costs.tokens.len()).unwrap_or(0);
            }
        }
        self.length = 0.0;
        for lane in &mut self.lanes {
            lane.sort_by(|a, b| a.begin.total_cmp(&b.begin));
            self.length = lane.iter().fold(self.length, |length, bar| length.max(bar.end));
        }
    }

    fn put(&mut self, answer: MessageId, costs: &Costs, first: u32, offset: f64) {
        let at = |ns: u64| offset + ns as f64 / 1e9;
        let mut put = |lane: Lane, span: Option<(u64, u64)>, what: What| {
            if let Some((begin, end)) = span {
                self.lanes[lane as usize].push(Bar { begin: at(begin), end: at(end), what });
            }
        };
        let step =
            |times: &Times, lane: Lane, what: What, put: &mut dyn FnMut(Lane, Option<(u64, u64)>, What)| {
                put(Lane::Recording, times.stage(Stage::Recording), what);
                put(Lane::Queue, times.stage(Stage::Queue), what);
                put(lane, times.device(), what);
                put(Lane::Sampling, times.stage(Stage::Sampling), what);
                put(Lane::Readback, times.stage(Stage::Readback), what);
            };
        for frame in &costs.frames {
            put(Lane::Frames, Some((frame.begin, frame.end)), What::Frame);
        }
        for picture in &costs.pictures {
            step(&picture.times, Lane::Vision, What::Picture(picture.index), &mut put);
        }
        for chunk in &costs.chunks {
            step(&chunk.times, Lane::Prefill, What::Chunk(chunk.tokens), &mut put);
        }
        let mut before = 0;
        for (n, token) in (first..).zip(&costs.tokens) {
            let what = What::Token(answer, n);
            if costs.adapter.is_empty() {
                // Of a server only arrivals are known.
                put(Lane::Decode, Some((before, token.times.arrival())), what);
            } else if !token.ends_prefill {
                step(&token.times, Lane::Decode, what, &mut put);
            }
            before = token.times.arrival();
        }
        for stall in stalls(costs) {
            let arrival = costs.tokens.get(stall.token).map_or(0, |token| token.times.arrival());
            let began = arrival.saturating_sub((stall.ms * 1e6) as u64);
            let n = first + u32::try_from(stall.token).unwrap_or(0);
            let what = What::Stall(answer, n, stall.cause, stall.ms as f32, stall.usual_ms as f32);
            put(Lane::Stalls, Some((began, arrival)), what);
        }
    }

    /// The bar of a lane at a moment, or the nearest one within `reach` seconds.
    #[must_use]
    pub fn at(&self, lane: Lane, moment: f64, reach: f64) -> Option<&Bar> {
        let bars = self.bars(lane);
        let next = bars.partition_point(|bar| bar.begin <= moment);
        // In some lanes a few bars overlap.
        let near = bars.get(next.saturating_sub(8)..(next + 1).min(bars.len()))?;
        let distance = |bar: &Bar| {
            if bar.begin <= moment && moment <= bar.end {
                0.0
            } else {
                (bar.begin - moment).abs().min((bar.end - moment).abs())
            }
        };
        near.iter()
            .rev()
            .min_by(|a, b| distance(a).total_cmp(&distance(b)))
            .filter(|bar| distance(bar) <= reach)
    }

    /// When a token ran on the device, seconds.
    #[must_use]
    pub fn of_token(&self, answer: MessageId, token: usize) -> Option<(f64, f64)> {
        let bars = self.bars(Lane::Decode);
        let is_it =
            |bar: &&Bar| matches!(bar.what, What::Token(id, n) if id == answer && n as usize == token);
        // Tokens of one answer follow each other: about there, or anywhere.
        let near = bars.get(token.saturating_sub(64)..(token + 64).min(bars.len())).unwrap_or_default();
        near.iter().find(is_it).or_else(|| bars.iter().find(is_it)).map(|bar| (bar.begin, bar.end))
    }

    /// What is drawn of a lane in so many pixels: bars as pixels from and to, where many share a pixel one of them. Never more than there are
    /// pixels.
    pub fn drawn(&self, lane: Lane, pixels: f32, mut draw: impl FnMut(f32, f32, &Bar)) {
        let (begin, end) = self.seen();
        let bars = self.bars(lane);
        let scale = f64::from(pixels) / (end - begin);
        let to_pixel = |moment: f64| ((moment - begin) * scale) as f32;
        // Bars that began before and reach into sight: as far back as bars overlap.
        let mut n = bars.partition_point(|bar| bar.begin < begin).saturating_sub(8);
        while let Some(bar) = bars.get(n) {
            if bar.begin > end {
                break;
            }
            let (from, to) = (to_pixel(bar.begin), to_pixel(bar.end));
            if to >= 0.0 {
                draw(from.max(0.0), to.min(pixels).max(from.max(0.0) + 1.0), bar);
            }
            if to - from >= 1.0 {
                n += 1;
                continue;
            }
            // The next one that begins in another pixel.
            let next_pixel = begin + f64::from(from.floor() + 1.0) / scale;
            let rest = bars.get(n + 1..).unwrap_or_default();
            // Most often it is one of the next few.
            let near = rest.iter().take(16).position(|bar| bar.begin >= next_pixel);
            n += 1 + near.unwrap_or_else(|| rest.partition_point(|bar| bar.begin < next_pixel));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::costs::samples::answer;

    const ID: MessageId = MessageId(7);

    fn timeline(costs: &Costs) -> Timeline {
        let mut timeline = Timeline::default();
        timeline.take(&[(ID, vec![costs])], 1);
        timeline
    }

    #[test]
    fn every_step_has_its_bars_and_can_be_found() {
        let costs = answer(100, 4);
        let timeline = timeline(&costs);
        let lanes = Lane::ALL.map(|lane| timeline.bars(lane).len());
        // 99 steps after the first token, two pieces of the prompt, one picture; the first two are not sampled.
        assert_eq!(lanes[1..8], [102, 102, 1, 2, 99, 100, 102]);
        for n in [1, 50, 99] {
            let (begin, end) = timeline.of_token(ID, n).unwrap();
            let bar = timeline.at(Lane::Decode, f64::midpoint(begin, end), 0.0).unwrap();
            assert_eq!(bar.what, What::Token(ID, u32::try_from(n).unwrap()));
            assert!((begin * 1e9 - costs.tokens[n].times.begin as f64).abs() < 1.0);
        }
        assert_eq!(timeline.of_token(ID, 0), None);
        assert!(timeline.at(Lane::Decode, timeline.length() + 5.0, 0.1).is_none());
    }

    #[test]
    fn no_more_is_drawn_than_there_are_pixels() {
        let costs = answer(20_000, 6);
        let mut timeline = timeline(&costs);
        for _ in 0..12 {
            for lane in Lane::ALL {
                let (mut count, mut covered) = (0, 0.0f32);
                timeline.drawn(lane, 800.0, |from, to, _| {
                    assert!((0.0..=800.0).contains(&from) && to <= 801.0 && to > from);
                    count += 1;
                    covered = covered.max(to);
                });
                assert!(count <= 1700, "{lane:?} {count}");
            }
            timeline.zoom(0.4, timeline.length() / 2.0);
        }
        // Where each bar is wider than a pixel, each one is drawn.
        let (begin, end) = timeline.seen();
        let wanted =
            timeline.bars(Lane::Decode).iter().filter(|bar| bar.end >= begin && bar.begin <= end).count();
        let mut count = 0;
        timeline.drawn(Lane::Decode, 800.0, |_, _, _| count += 1);
        assert_eq!(count, wanted);
    }

    #[test]
    fn what_is_seen_stays_about_the_answer() {
        let costs = answer(500, 9);
        let mut timeline = timeline(&costs);
        let length = timeline.length();
        assert_eq!(timeline.seen(), (0.0, length));
        timeline.zoom(0.1, 0.5 * length);
        let (begin, end) = timeline.seen();
        assert!(((end - begin) - 0.1 * length).abs() < 1e-9 && begin < 0.5 * length && end > 0.5 * length);
        for _ in 0..100 {
            timeline.pan(0.5);
        }
        assert!(timeline.seen().0 <= length);
        timeline.bring_into_sight(0.2 * length);
        let (begin, end) = timeline.seen();
        assert!(begin < 0.2 * length && end > 0.2 * length);
        for _ in 0..100 {
            timeline.zoom(0.5, 0.2 * length);
        }
        let (begin, end) = timeline.seen();
        assert!(end - begin >= CLOSEST * 0.99);
        for _ in 0..100 {
            timeline.zoom(2.0, 0.2 * length);
        }
        assert_eq!(timeline.seen(), (0.0, length));
    }

    #[test]
    fn pieces_follow_each_other_and_copied_ones_have_no_times() {
        let first = answer(10, 1);
        let mut second = answer(5, 2);
        second.asked_us = first.asked_us + 60_000_000;
        let copy = first.beginning(4);
        let mut timeline = Timeline::default();
        timeline.take(&[(ID, vec![&copy, &second])], 1);
        assert_eq!(timeline.bars(Lane::Decode).len(), 4);
        assert_eq!(timeline.bars(Lane::Decode)[0].what, What::Token(ID, 5));
        timeline.take(&[(ID, vec![&first]), (MessageId(8), vec![&second])], 2);
        assert_eq!(timeline.bars(Lane::Decode).len(), 9 + 4);
        assert!(timeline.length() > 60.0);
    }
}
