//! A trace in the Trace Event Format, which Perfetto and Chrome open. Lanes are threads of one process; what may overlap in a lane (steps
//! that wait, or are on their way back) is asynchronous there. Times are microseconds since the first question.

use serde_json::{Value, json};

use crate::costs::{Costs, Stage, Times, stalls};

/// A lane: a thread of the trace. The order is that of the way through the program.
#[derive(Clone, Copy)]
enum Lane {
    Answers = 1,
    Frames,
    Recording,
    Queue,
    Vision,
    Prefill,
    Decode,
    Sampling,
    Readback,
    Stalls,
}

const LANES: [(Lane, &str); 10] = [
    (Lane::Answers, "answers"),
    (Lane::Frames, "window frames"),
    (Lane::Recording, "recording (processor)"),
    (Lane::Queue, "queue"),
    (Lane::Vision, "vision (device)"),
    (Lane::Prefill, "prefill (device)"),
    (Lane::Decode, "decode (device)"),
    (Lane::Sampling, "sampling (device)"),
    (Lane::Readback, "readback"),
    (Lane::Stalls, "stalls"),
];

struct Writer {
    events: Vec<Value>,
    /// Microseconds that the answer of now was asked after the first.
    offset_us: f64,
    next_id: u64,
}

impl Writer {
    fn us(&self, ns: u64) -> f64 {
        self.offset_us + ns as f64 / 1e3
    }

    /// A stretch that lies in or beside others of its lane, never across.
    fn span(&mut self, lane: Lane, name: &str, span: Option<(u64, u64)>, args: &Value) {
        let Some((begin, end)) = span else { return };
        let (ts, dur) = (self.us(begin), end.saturating_sub(begin) as f64 / 1e3);
        self.events.push(json!({
            "name": name, "ph": "X", "pid": 1, "tid": lane as u32, "ts": ts, "dur": dur, "args": args,
        }));
    }

    /// A stretch that may overlap others.
    fn loose(&mut self, lane: Lane, name: &str, span: Option<(u64, u64)>, args: &Value) {
        let Some((begin, end)) = span else { return };
        self.next_id += 1;
        let (id, cat, tid) = (self.next_id, LANES[lane as usize - 1].1, lane as u32);
        for (ph, at) in [("b", begin), ("e", end)] {
            let ts = self.us(at);
            self.events.push(json!({
                "name": name, "cat": cat, "ph": ph, "id": id, "pid": 1, "tid": tid, "ts": ts, "args": args,
            }));
        }
    }

    fn step(&mut self, lane: Lane, name: &str, times: &Times, args: &Value) {
        self.span(Lane::Recording, name, times.stage(Stage::Recording), &json!({}));
        self.loose(Lane::Queue, name, times.stage(Stage::Queue), &json!({}));
        self.span(lane, name, times.device(), args);
        self.span(Lane::Sampling, name, times.stage(Stage::Sampling), &json!({}));
        self.loose(Lane::Readback, name, times.stage(Stage::Readback), &json!({}));
    }
}

/// The trace of several answers.
#[must_use]
pub fn trace(all: &[Costs]) -> String {
    let own = all.iter().filter(|costs| !costs.is_copied);
    let first_us = own.map(|costs| costs.asked_us).min().unwrap_or(0);
    let mut events =
        vec![json!({ "name": "process_name", "ph": "M", "pid": 1, "args": { "name": "Ocelli" } })];
    for (lane, name) in LANES {
        let tid = lane as u32;
        events.push(
            json!({ "name": "thread_name", "ph": "M", "pid": 1, "tid": tid, "args": { "name": name } }),
        );
        events.push(
            json!({ "name": "thread_sort_index", "ph": "M", "pid": 1, "tid": tid, "args": { "sort_index": tid } }),
        );
    }
    let mut writer = Writer { events, offset_us: 0.0, next_id: 0 };
    for costs in all.iter().filter(|costs| !costs.is_copied) {
        writer.offset_us = costs.asked_us.saturating_sub(first_us) as f64;
        answer(&mut writer, costs);
    }
    let about = all.first();
    json!({
        "traceEvents": writer.events,
        "displayTimeUnit": "ms",
        "otherData": {
            "program": concat!("Ocelli ", env!("CARGO_PKG_VERSION")),
            "model": about.map(|costs| costs.model.as_str()),
            "adapter": about.map(|costs| costs.adapter.as_str()),
            "bandwidth_gb_s": about.and_then(|costs| costs.bandwidth_gb_s),
        },
    })
    .to_string()
}

fn answer(writer: &mut Writer, costs: &Costs) {
    let about = json!({
        "model": costs.model, "prompt_tokens": costs.prompt_tokens, "reused_tokens": costs.reused_tokens,
        "new_tokens": costs.tokens.len(),
    });
    writer.loose(Lane::Answers, "answer", Some((0, costs.finished)), &about);
    writer.loose(
        Lane::Answers,
        "making the prompt",
        (costs.prepared > 0).then_some((0, costs.prepared)),
        &json!({}),
    );
    for frame in &costs.frames {
        writer.span(Lane::Frames, "frame", Some((frame.begin, frame.end)), &json!({}));
    }
    for picture in &costs.pictures {
        let name = format!("picture {}", picture.index + 1);
        writer.step(Lane::Vision, &name, &picture.times, &json!({}));
    }
    for chunk in &costs.chunks {
        let args = json!({ "first": chunk.first, "tokens": chunk.tokens });
        writer.step(Lane::Prefill, &format!("{} tokens", chunk.tokens), &chunk.times, &args);
    }
    for (n, token) in costs.tokens.iter().enumerate() {
        let args = json!({
            "n": n, "id": token.id, "logprob": number(token.logprob), "rank": known(token.rank), "entropy": number(token.entropy),
            "index": token.index, "batch": token.batch, "pages": token.pages(), "bytes": token.bytes, "gb_s": token.gb_s(),
            "drafted": token.drafted, "compiled": token.compiled, "grew_page": token.grew_page,
            "interrupted": token.interrupted, "latency_ms": costs.latency_ms(n),
        });
        // The first one's step is the prompt's last piece; of a server there is nothing but the arrival.
        if costs.adapter.is_empty() {
            let at = token.times.arrival();
            let before = n.checked_sub(1).and_then(|n| costs.tokens.get(n)).map_or(0, |t| t.times.arrival());
            writer.span(Lane::Decode, &costs.text_of(token.id), (at > before).then_some((before, at)), &args);
        } else if !token.ends_prefill {
            writer.step(Lane::Decode, &costs.text_of(token.id), &token.times, &args);
        }
    }
    for stall in stalls(costs) {
        let at = costs.tokens.get(stall.token).map_or(0, |token| token.times.arrival());
        let ts = writer.us(at);
        writer.events.push(json!({
            "name": stall.cause.name(), "ph": "i", "s": "t", "pid": 1, "tid": Lane::Stalls as u32, "ts": ts,
            "args": { "n": stall.token, "ms": stall.ms, "usual_ms": stall.usual_ms },
        }));
    }
}

/// `null` for what is not known.
pub(super) fn number(value: f32) -> Value {
    if value.is_finite() { json!(value) } else { Value::Null }
}

/// `null` for what is not known.
pub(super) fn known(rank: u32) -> Value {
    if rank == u32::MAX { Value::Null } else { json!(rank) }
}
