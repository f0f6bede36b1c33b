//! `bench --sweep`: how speed changes with the context, the prompt, the batch and the picture.

use super::BenchArgs;
use crate::cli::workload::{Workload, patches};
use crate::cli::{print, print_json, say};
use crate::error::Result;
use crate::model::kv_cache::PAGE_TOKENS;
use crate::model::linear::MAX_BATCH;

/// One point of the sweep.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Point {
    /// context, prompt, batch or picture: what changes along the row of points.
    pub axis: &'static str,
    /// Tokens of context, tokens of the prompt, sessions in a step, or the picture's side in pixels.
    pub value: usize,
    /// Tokens a second, over all sessions; for pictures image tokens a second.
    pub tok_s: f64,
    /// Milliseconds of a step, of the whole prompt, or of the picture.
    pub ms: f64,
}

const CONTEXTS: [usize; 6] = [128, 512, 2048, 4096, 8192, 32768];
const PROMPTS: [usize; 5] = [16, 64, 256, 1024, 4096];
const BATCHES: [usize; 5] = [1, 2, 3, 4, 8];
const SIDES: [usize; 5] = [224, 448, 768, 1024, 1792];
/// Context of the steps that the batches are compared at.
const BATCH_CONTEXT: usize = 128;

impl Workload<'_> {
    /// Measures what fits into the context made room for, prints it as it comes, and returns it.
    pub(super) fn sweep(&mut self, args: &BenchArgs) -> Result<Vec<Point>> {
        let (steps, json) = (args.new_tokens, args.json);
        let mut points = Vec::new();
        let add = |point: Point, points: &mut Vec<Point>| -> Result<bool> {
            if json {
                say(&line(&point));
            } else {
                print(&(line(&point) + "\n"))?;
            }
            let ends = point.ms > args.longest * 1e3;
            if ends {
                say(&format!("the rest of this row takes longer than --longest {}", args.longest));
            }
            points.push(point);
            Ok(ends)
        };
        let room = self.model.context();
        for context in CONTEXTS.into_iter().filter(|&n| n + steps + 2 <= room) {
            let secs = self.steps_at(&[0], context, steps)?;
            let ms = secs * 1e3 / steps as f64;
            if add(Point { axis: "context", value: context, tok_s: 1e3 / ms, ms }, &mut points)? {
                break;
            }
        }
        for batch in BATCHES.into_iter().filter(|&n| n * (BATCH_CONTEXT + steps + PAGE_TOKENS) <= room) {
            let slots: Vec<usize> = (0..batch.min(MAX_BATCH)).collect();
            let secs = self.steps_at(&slots, BATCH_CONTEXT, steps)?;
            let ms = secs * 1e3 / steps as f64;
            let tok_s = batch as f64 * 1e3 / ms;
            if add(Point { axis: "batch", value: batch, tok_s, ms }, &mut points)? {
                break;
            }
        }
        for prompt in PROMPTS.into_iter().filter(|&n| n < room) {
            // The first run compiles what these many rows want.
            self.session(0, 0, prompt.min(16), 0)?;
            let secs = self.session(0, 0, prompt, 0)?;
            let tok_s = prompt as f64 / secs;
            if add(Point { axis: "prompt", value: prompt, tok_s, ms: secs * 1e3 }, &mut points)? {
                break;
            }
        }
        for side in SIDES {
            if self.model.vision.is_none() {
                break;
            }
            let Ok(Some((gh, gw))) = patches((side, side), self.model) else { continue };
            self.size = Some((gh, gw));
            let ms = self.encode()?;
            let tokens = gh * gw / self.model.config.vision.merge_unit();
            let tok_s = tokens as f64 * 1e3 / ms;
            if add(Point { axis: "picture", value: side, tok_s, ms }, &mut points)? {
                break;
            }
        }
        if json {
            print_json(&points)?;
        }
        Ok(points)
    }

    /// Seconds of `steps` decode steps of sessions that have `context` tokens each; what their caches hold does not matter.
    fn steps_at(&mut self, slots: &[usize], context: usize, steps: usize) -> Result<f64> {
        let pages_each = (context + steps + 2).div_ceil(PAGE_TOKENS);
        for &slot in slots {
            self.place(slot, slot * pages_each * PAGE_TOKENS, context);
        }
        // The first step compiles the kernels of this batch.
        self.decode(slots, context, 1)?;
        self.decode(slots, context + 1, steps).map(|decoded| decoded.secs)
    }
}

fn line(point: &Point) -> String {
    format!("{:8} {:6}  {:10.2} tok/s  {:10.1} ms", point.axis, point.value, point.tok_s, point.ms)
}
