//! Room `compare`: an answer read as JSON, bare or in the fence that models like to put around it.

use serde_json::Value;

/// An answer that is JSON.
pub(super) struct Json {
    /// What it says.
    pub(super) value: Value,
    /// Did it stand in a fence?
    pub(super) fenced: bool,
}

impl Json {
    /// Reads an answer, white space around it left aside; the error says why it is no JSON. Nesting beyond 127 levels
    /// is refused by the reader.
    pub(super) fn read(answer: &str) -> Result<Self, String> {
        let answer = answer.trim();
        let (text, fenced) = match fenced(answer) {
            Some(inner) => (inner, true),
            None => (answer, false),
        };
        if text.trim().is_empty() {
            return Err("it is empty".to_owned());
        }
        match serde_json::from_str(text) {
            Ok(value) => Ok(Self { value, fenced }),
            Err(e) => Err(e.to_string()),
        }
    }

    /// "JSON" or "JSON in a fence", and of what kind.
    pub(super) fn told(&self) -> String {
        let kind = match &self.value {
            Value::Null => "null",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::String(_) => "a text",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object",
        };
        format!("JSON{} ({kind})", if self.fenced { " in a code fence" } else { "" })
    }
}

/// What is between ```` ```json ```` (or a bare fence) and the closing one, if that is all there is.
fn fenced(answer: &str) -> Option<&str> {
    let inner = answer.strip_prefix("```")?.strip_suffix("```")?;
    let (language, inner) = inner.split_once('\n')?;
    let language = language.trim();
    (language.is_empty() || language.eq_ignore_ascii_case("json")).then_some(inner)
}
