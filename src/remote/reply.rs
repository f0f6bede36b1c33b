//! Room `remote`: what a server says, read from its JSON. Everything in it may be missing or of another kind than documented; what
//! is not understood counts as not said.

use serde_json::Value;

use super::keys::Key;
use crate::bounded;
use crate::error::{Error, Result};

/// Letters of a server's own words that are shown.
const MOST_WORDS: usize = 400;
/// Values in what a server says at once: a whole answer may tell twenty alternatives of each of its tokens.
pub(super) const MOST_VALUES: usize = 10_000_000;

/// A token as the server tells it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Told {
    pub text: String,
    pub logprob: f32,
    pub alternatives: Vec<(String, f32)>,
}

/// Why the server says it has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    End,
    StopString,
    Length,
    /// For a reason that is none of these.
    Other(String),
}

/// Tokens as the server counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub prompt: Option<usize>,
    pub cached: Option<usize>,
    pub new: Option<usize>,
}

/// One piece of an answer, or a whole one.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Said {
    pub text: String,
    pub thinking: String,
    pub told: Vec<Told>,
    pub finish: Option<Finish>,
    pub usage: Option<Usage>,
    pub model: Option<String>,
}

/// Reads a piece of a stream, or the whole answer of a server that does not stream. `Err`: the server reports an error, in its
/// words, or this is no JSON.
pub(super) fn read(doing: &str, name: &str, key: Option<&Key>, data: &str) -> Result<Said> {
    let json = bounded::json(data.as_bytes(), MOST_VALUES).map_err(|_| {
        Error::new(doing, "what it sends is no JSON")
            .at(name)
            .help("this may be no server of this kind: check its address")
    })?;
    let choice = json.get("choices").and_then(|choices| choices.get(0));
    if choice.is_none()
        && let Some(words) = error_words(&json)
    {
        let why = format!("it reports an error: {}", shown(&words, key));
        return Err(Error::new(doing, why).quoting().at(name).help("look after the server, then ask again"));
    }
    if json.get("choices").is_none() && json.get("usage").is_none() {
        return Err(Error::new(doing, "what it sends is no answer")
            .at(name)
            .help("this may be no server of this kind: check its address"));
    }
    let mut said = Said {
        usage: json.get("usage").and_then(usage),
        model: json.get("model").and_then(Value::as_str).map(str::to_owned),
        ..Said::default()
    };
    let Some(choice) = choice else { return Ok(said) };
    let message = choice.get("delta").or_else(|| choice.get("message")).unwrap_or(&Value::Null);
    said.text = text(message.get("content"));
    said.thinking = ["reasoning_content", "reasoning"]
        .iter()
        .map(|field| text(message.get(*field)))
        .find(|text| !text.is_empty())
        .unwrap_or_default();
    let told = choice.pointer("/logprobs/content").and_then(Value::as_array);
    said.told = told.into_iter().flatten().filter_map(token).collect();
    said.finish = choice.get("finish_reason").and_then(Value::as_str).map(|reason| match reason {
        // vLLM says which stop string it was.
        "stop" if choice.get("stop_reason").is_some_and(Value::is_string) => Finish::StopString,
        "stop" | "eos" | "eos_token" => Finish::End,
        "length" => Finish::Length,
        other => Finish::Other(shown(other, key)),
    });
    Ok(said)
}

/// A text, or the text of a list of parts.
fn text(content: Option<&Value>) -> String {
    match content {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str)).collect()
        }
        _ => String::new(),
    }
}

/// vLLM writes -9999 for minus infinity; JSON has no other way.
fn logprob(value: Option<&Value>) -> Option<f32> {
    value
        .and_then(Value::as_f64)
        .map(|logprob| logprob as f32)
        .filter(|logprob| logprob.is_finite() && *logprob <= 0.0)
}

fn token(entry: &Value) -> Option<Told> {
    let pair =
        |entry: &Value| Some((entry.get("token")?.as_str()?.to_owned(), logprob(entry.get("logprob"))?));
    let (text, logprob) = pair(entry)?;
    let top = entry.get("top_logprobs").and_then(Value::as_array);
    Some(Told { text, logprob, alternatives: top.into_iter().flatten().filter_map(pair).collect() })
}

fn usage(json: &Value) -> Option<Usage> {
    let count =
        |path: &str| json.pointer(path).and_then(Value::as_u64).and_then(|count| usize::try_from(count).ok());
    json.is_object().then(|| Usage {
        prompt: count("/prompt_tokens"),
        cached: count("/prompt_tokens_details/cached_tokens"),
        new: count("/completion_tokens"),
    })
}

/// The words of an error, wherever servers put them.
fn error_words(json: &Value) -> Option<String> {
    let words = |value: &Value| value.as_str().map(str::to_owned);
    for path in ["/error/message", "/error", "/message", "/detail", "/detail/0/msg"] {
        if let Some(words) = json.pointer(path).and_then(words).filter(|words| !words.trim().is_empty()) {
            return Some(words);
        }
    }
    json.get("error").filter(|error| !error.is_null()).map(Value::to_string)
}

/// What the page of a refusal says, short and without the key; of an HTML page, nothing.
pub(super) fn refusal_words(page: &[u8], key: Option<&Key>) -> String {
    let text = String::from_utf8_lossy(page);
    let text = text.trim();
    match bounded::json(text.as_bytes(), MOST_VALUES) {
        Ok(json) => error_words(&json).map(|words| shown(&words, key)).unwrap_or_default(),
        Err(_) if text.starts_with('<') => String::new(),
        Err(_) => shown(text, key),
    }
}

/// A server's words as they may be shown: on one line, not too many, and never the key.
fn shown(words: &str, key: Option<&Key>) -> String {
    let words = key.map_or_else(|| words.to_owned(), |key| key.hide_in(words));
    let line: String = words.split_whitespace().collect::<Vec<_>>().join(" ");
    let visible = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut short: String = line.chars().map(visible).take(MOST_WORDS).collect();
    if line.chars().nth(MOST_WORDS).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(data: &str) -> Said {
        read("asking", "Cluster", None, data).unwrap()
    }

    fn error(data: &str) -> String {
        read("asking", "Cluster", None, data).unwrap_err().to_string()
    }

    #[test]
    fn pieces_of_vllm_and_llama_cpp_are_read() {
        let piece = r#"{"id":"1","object":"chat.completion.chunk","model":"Qwen3-VL-235B","choices":[{"index":0,"delta":{"content":" cat"},
            "logprobs":{"content":[{"token":" cat","logprob":-0.25,"bytes":[32,99,97,116],"top_logprobs":[{"token":" cat","logprob":-0.25},{"token":" dog","logprob":-2.5},{"token":"x","logprob":null}]}]},
            "finish_reason":null}]}"#;
        let told = Told {
            text: " cat".into(),
            logprob: -0.25,
            alternatives: vec![(" cat".into(), -0.25), (" dog".into(), -2.5)],
        };
        assert_eq!(
            said(piece),
            Said {
                text: " cat".into(),
                told: vec![told],
                model: Some("Qwen3-VL-235B".into()),
                ..Said::default()
            }
        );
        let last = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop","stop_reason":"END"}]}"#;
        assert_eq!(said(last).finish, Some(Finish::StopString));
        let usage = r#"{"choices":[],"usage":{"prompt_tokens":100,"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":64}}}"#;
        assert_eq!(said(usage).usage, Some(Usage { prompt: Some(100), cached: Some(64), new: Some(7) }));
        let whole = r#"{"choices":[{"message":{"role":"assistant","content":"A cat.","reasoning_content":"Hm"},"finish_reason":"length"}],"usage":null}"#;
        let whole = said(whole);
        assert_eq!((whole.text.as_str(), whole.thinking.as_str()), ("A cat.", "Hm"));
        assert_eq!((whole.finish, whole.usage), (Some(Finish::Length), None));
    }

    #[test]
    fn an_error_in_the_stream_is_told_in_its_own_words() {
        for data in [
            r#"{"error":{"message":"out of\n memory","code":500}}"#,
            r#"{"error":"out of memory"}"#,
            r#"{"object":"error","message":"out of memory"}"#,
            r#"{"detail":[{"msg":"out of memory"}]}"#,
        ] {
            assert!(error(data).contains("it reports an error: out of memory"), "{data}");
        }
        assert!(error(r#"{"error":{"code":7}}"#).contains(r#"{"code":7}"#));
        assert!(error("Hello").contains("no JSON"));
        assert!(error("{}").contains("no answer") && error("[1]").contains("no answer"));
        let long = format!(r#"{{"error":"{}"}}"#, "x".repeat(5000));
        assert!(error(&long).len() < 600);
    }

    #[test]
    fn a_key_that_a_server_repeats_is_not_shown() {
        let key = Key::new("sk-geheim").unwrap();
        let page = br#"{"error":{"message":"Incorrect API key provided: sk-geheim."}}"#;
        assert_eq!(refusal_words(page, Some(&key)), "Incorrect API key provided: ….");
        assert_eq!(refusal_words(b"<html>502</html>", None), "");
        assert_eq!(refusal_words(b" not\nhere ", None), "not here");
    }

    #[test]
    fn strange_values_are_not_said() {
        let strange = r#"{"model":7,"choices":[{"delta":{"content":7,"reasoning":["x"]},"logprobs":{"content":[{"token":"a"},{"logprob":-1},{"token":"b","logprob":0.5},7]},"finish_reason":7}],"usage":{"prompt_tokens":-1}}"#;
        assert_eq!(said(strange), Said { usage: Some(Usage::default()), ..Said::default() });
        for data in [r#"{"choices":7}"#, r#"{"choices":[7]}"#, r#"{"choices":[{"delta":null}]}"#] {
            assert_eq!(said(data), Said::default(), "{data}");
        }
    }
}
