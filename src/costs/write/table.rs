//! Tables: a line for each token.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::trace::{known, number};
use crate::costs::{Costs, Times, TokenCost};
use crate::error::{Error, Result};

const HEAD: [&str; 27] = [
    "answer",
    "n",
    "id",
    "text",
    "logprob",
    "rank",
    "entropy",
    "latency_ms",
    "device_ms",
    "index",
    "pages",
    "batch",
    "bytes",
    "gb_s",
    "drafted",
    "forced",
    "compiled",
    "grew_page",
    "interrupted",
    "recorded_us",
    "submitted_us",
    "begin_us",
    "sampling_us",
    "end_us",
    "read_us",
    "decoded_us",
    "painted_us",
];

fn moments(times: &Times) -> [u64; 8] {
    [
        times.recorded,
        times.submitted,
        times.begin,
        times.sampling,
        times.end,
        times.read,
        times.decoded,
        times.painted,
    ]
}

/// A comma-separated table with a line for each token. Times are microseconds since the answer's question; what is not known is empty.
///
/// # Errors
/// The table cannot be written.
pub fn csv(all: &[Costs]) -> Result<String> {
    let failed = |e: csv::Error| Error::new("writing a table", e);
    let mut table = csv::Writer::from_writer(Vec::new());
    table.write_record(HEAD).map_err(failed)?;
    for (answer, costs) in all.iter().enumerate() {
        for (n, token) in costs.tokens.iter().enumerate() {
            let mut row = vec![answer.to_string(), n.to_string(), token.id.to_string()];
            row.push(safe(&costs.text_of(token.id)).into_owned());
            row.extend(
                [token.logprob, token.entropy]
                    .map(|p| if p.is_nan() { String::new() } else { p.to_string() }),
            );
            row.insert(5, if token.rank == u32::MAX { String::new() } else { token.rank.to_string() });
            row.push(costs.latency_ms(n).map_or_else(String::new, |ms| format!("{ms:.3}")));
            row.push(match token.times.device_ns() {
                0 => String::new(),
                ns => format!("{:.3}", ns as f64 / 1e6),
            });
            row.extend([token.index, token.pages(), token.batch].map(|n| n.to_string()));
            row.push(if token.bytes == 0 { String::new() } else { token.bytes.to_string() });
            row.push(token.gb_s().map_or_else(String::new, |rate| format!("{rate:.3}")));
            let flags = [token.drafted, token.forced, token.compiled, token.grew_page, token.interrupted];
            row.extend(flags.map(|flag| u8::from(flag).to_string()));
            row.extend(
                moments(&token.times).map(|ns| if ns == 0 { String::new() } else { (ns / 1000).to_string() }),
            );
            table.write_record(row).map_err(failed)?;
        }
    }
    let bytes = table.into_inner().map_err(|e| Error::new("writing a table", e))?;
    String::from_utf8(bytes).map_err(|e| Error::new("writing a table", e))
}

fn times_json(times: &Times) -> Value {
    let us = |ns: u64| if ns == 0 { Value::Null } else { json!(ns as f64 / 1e3) };
    json!({
        "recorded_us": us(times.recorded), "submitted_us": us(times.submitted), "begin_us": us(times.begin),
        "sampling_us": us(times.sampling), "end_us": us(times.end), "read_us": us(times.read),
        "decoded_us": us(times.decoded), "painted_us": us(times.painted),
    })
}

/// A JSON object a line: one for each answer, then its pictures, pieces of the prompt and tokens.
#[must_use]
pub fn json_lines(all: &[Costs]) -> String {
    let mut lines = String::new();
    let mut line = |value: Value| {
        lines.push_str(&value.to_string());
        lines.push('\n');
    };
    for (answer, costs) in all.iter().enumerate() {
        line(json!({
            "kind": "answer", "answer": answer, "model": costs.model, "adapter": costs.adapter,
            "has_device_times": costs.has_device_times, "asked_unix_us": costs.asked_us,
            "prepared_us": costs.prepared as f64 / 1e3, "finished_us": costs.finished as f64 / 1e3,
            "prompt_tokens": costs.prompt_tokens, "reused_tokens": costs.reused_tokens, "new_tokens": costs.tokens.len(),
            "weights_bytes": costs.weights_bytes, "kv_bytes_per_token": costs.kv_bytes_per_token,
            "bandwidth_gb_s": costs.bandwidth_gb_s, "is_copied": costs.is_copied,
        }));
        for picture in &costs.pictures {
            let times = times_json(&picture.times);
            line(json!({ "kind": "picture", "answer": answer, "index": picture.index, "times": times }));
        }
        for chunk in &costs.chunks {
            let times = times_json(&chunk.times);
            line(json!({
                "kind": "chunk", "answer": answer, "first": chunk.first, "tokens": chunk.tokens, "times": times,
            }));
        }
        for (n, token) in costs.tokens.iter().enumerate() {
            line(token_json(costs, answer, n, token));
        }
    }
    lines
}

fn token_json(costs: &Costs, answer: usize, n: usize, token: &TokenCost) -> Value {
    let top: Vec<Value> = token
        .alternatives
        .iter()
        .map(|&(id, p)| json!({ "id": id, "text": costs.text_of(id), "logprob": number(p) }))
        .collect();
    json!({
        "kind": "token", "answer": answer, "n": n, "id": token.id, "text": costs.text_of(token.id),
        "bytes_of_text": costs.piece(token.id), "logprob": number(token.logprob), "rank": known(token.rank),
        "entropy": number(token.entropy), "top": top, "latency_ms": costs.latency_ms(n),
        "device_ms": token.times.device_ns() as f64 / 1e6, "index": token.index, "pages": token.pages(),
        "batch": token.batch, "bytes": token.bytes, "gb_s": token.gb_s(), "drafted": token.drafted,
        "forced": token.forced, "compiled": token.compiled, "grew_page": token.grew_page,
        "interrupted": token.interrupted, "times": times_json(&token.times),
    })
}

/// A text that no spreadsheet runs. White space before the sign does not help in all of them, nor do its full-width forms.
#[must_use]
pub fn safe(text: &str) -> Cow<'_, str> {
    let signs = ['=', '+', '-', '@', '＝', '＋', '－', '＠'];
    let is_number = text.trim().parse::<f64>().is_ok_and(f64::is_finite);
    if text.trim_start().starts_with(signs) && !is_number {
        Cow::Owned(format!("'{text}"))
    } else {
        Cow::Borrowed(text)
    }
}
