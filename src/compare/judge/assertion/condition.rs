//! Room `compare`: one condition of an assertion: read from its table, held against an answer.

use std::fmt;

use regex::{Regex, RegexBuilder};
use serde_json::Value;

use super::schema::Schema;
use super::table::{Table, refused};
use super::words::{characters, counted, excerpt, quoted, quoted_all, words};
use super::{Subject, boxes, json::Json};
use crate::Result;
use crate::engine::StopReason;

/// The longest pattern, in bytes.
const MAX_PATTERN: usize = 4096;

/// The largest program that a pattern may become, in bytes: `\w{1,20}` fits, `\w{1,1000}` does not.
const MAX_PROGRAM: usize = 1 << 20;

/// What an answer must be. Texts compare letter by letter, or without regard to case.
#[derive(Clone, Debug)]
pub enum Condition {
    /// All of these are in it.
    Contains(Vec<String>, Case),
    /// None of these is in it.
    Lacks(Vec<String>, Case),
    /// It is this, white space around both left aside.
    Equals(String, Case),
    /// The pattern is found in it.
    Matches(Regex),
    /// It is JSON, or it is not.
    IsJson(bool),
    /// It is JSON that a schema allows.
    FitsSchema(SchemaSource),
    /// At least so many words.
    MinWords(usize),
    /// At most so many words.
    MaxWords(usize),
    /// At most so many characters, as people see them.
    MaxCharacters(usize),
    /// At most so many tokens.
    MaxTokens(usize),
    /// One of its boxes is where this one is.
    Box {
        /// Left, top, right, bottom in thousandths of the picture's sides.
        wanted: [f64; 4],
        /// The least share of both that both cover.
        min_iou: f64,
        /// What the box must be called.
        label: Option<String>,
    },
    /// The model ended it, or something else did.
    StopsByItself(bool),
}

/// Does a text in capitals count as the same?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// No.
    Told,
    /// Yes.
    Ignored,
}

/// Where a schema comes from.
#[derive(Clone, Debug)]
pub enum SchemaSource {
    /// It stands in the assertion, or has been read.
    Read(Schema),
    /// It is in this file, which nobody has read yet.
    File(String),
}

/// How a condition went.
pub(super) enum Outcome {
    /// It holds, or does not, and what was measured, as a part of a sentence.
    Measured(bool, String),
    /// Nobody can say, because of this.
    Unknown(String),
}

impl Case {
    fn fold(self, text: &str) -> String {
        match self {
            Self::Told => text.to_owned(),
            // Letter by letter, so that a text's part folds as the text does: str::to_lowercase makes a capital sigma
            // another letter at the end of a word.
            Self::Ignored => {
                text.chars().flat_map(char::to_lowercase).map(|c| if c == 'ς' { 'σ' } else { c }).collect()
            }
        }
    }

    fn note(self) -> &'static str {
        match self {
            Self::Told => "",
            Self::Ignored => " (whatever the case)",
        }
    }
}

/// Reads all conditions of a table; there is at least one.
pub(super) fn read_all(table: Table<'_>) -> Result<Vec<Condition>> {
    table.needs("ignore_case", &["contains", "lacks", "equals", "regex"])?;
    table.needs("min_iou", &["box"])?;
    table.needs("label", &["box"])?;
    let case = if table.boolean("ignore_case")? == Some(true) { Case::Ignored } else { Case::Told };
    let mut all = Vec::new();
    all.extend(table.texts("contains")?.map(|texts| Condition::Contains(texts, case)));
    all.extend(table.texts("lacks")?.map(|texts| Condition::Lacks(texts, case)));
    all.extend(table.text("equals")?.map(|text| Condition::Equals(text, case)));
    if let Some(pattern) = table.text("regex")? {
        all.push(Condition::Matches(compile(&pattern, case)?));
    }
    all.extend(table.boolean("json")?.map(Condition::IsJson));
    all.extend(read_schema(table)?.map(Condition::FitsSchema));
    let (min, max) = (table.count("min_words")?, table.count("max_words")?);
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        return Err(refused(format!("no answer has at least {min} and at most {max} words"))
            .help("make `min_words` the smaller one"));
    }
    all.extend(min.map(Condition::MinWords));
    all.extend(max.map(Condition::MaxWords));
    all.extend(table.count("max_characters")?.map(Condition::MaxCharacters));
    all.extend(table.count("max_tokens")?.map(Condition::MaxTokens));
    if let Some(wanted) = table.corners("box")? {
        let min_iou = table.share("min_iou")?.unwrap_or(super::DEFAULT_MIN_IOU);
        all.push(Condition::Box { wanted, min_iou, label: table.text("label")? });
    }
    all.extend(table.boolean("stops_by_itself")?.map(Condition::StopsByItself));
    if all.is_empty() {
        return Err(
            refused("it asks nothing of the answer").help("say what must hold, as in { contains = \"cat\" }")
        );
    }
    Ok(all)
}

fn compile(pattern: &str, case: Case) -> Result<Regex> {
    if pattern.len() > MAX_PATTERN {
        return Err(refused(format!("`regex` has {} bytes", pattern.len()))
            .help(format!("a pattern may have {MAX_PATTERN}")));
    }
    RegexBuilder::new(pattern)
        .case_insensitive(case == Case::Ignored)
        .size_limit(MAX_PROGRAM)
        .dfa_size_limit(MAX_PROGRAM)
        .build()
        .map_err(|e| {
            let help = match e {
                regex::Error::CompiledTooBig(_) => {
                    "use smaller counts of repetition, or (?-u) for ASCII alone"
                }
                _ => "the syntax is that of Rust's regex: no look-around and no back-references",
            };
            refused(format!("`regex` cannot be used: {e}")).help(help)
        })
}

fn read_schema(table: Table<'_>) -> Result<Option<SchemaSource>> {
    match table.get("json_schema") {
        None => Ok(None),
        Some(Value::String(path)) if !path.is_empty() => Ok(Some(SchemaSource::File(path.clone()))),
        Some(schema @ Value::Object(_)) => Ok(Some(SchemaSource::Read(Schema::compile(schema)?))),
        Some(other) => Err(refused(format!("`json_schema` is {}", excerpt(&other.to_string())))
            .help("it must be a table with the schema, or the name of a JSON file with it")),
    }
}

impl Condition {
    /// Holds it against an answer.
    pub(super) fn check(&self, subject: &Subject<'_>) -> Outcome {
        let text = subject.text;
        let (held, measured) = match self {
            Self::Contains(wanted, case) => contains(text, wanted, *case),
            Self::Lacks(unwanted, case) => lacks(text, unwanted, *case),
            Self::Equals(wanted, case) => equals(text, wanted, *case),
            Self::Matches(regex) => match regex.find(text) {
                Some(found) => (true, format!("{} is found, as {}", regex.as_str(), quoted(found.as_str()))),
                None => (false, format!("{} is not found in the answer", regex.as_str())),
            },
            Self::IsJson(wanted) => match Json::read(text) {
                Ok(json) => (*wanted, format!("the answer is {}", json.told())),
                Err(why) => (!wanted, format!("the answer is no JSON: {}", excerpt(&why))),
            },
            Self::FitsSchema(SchemaSource::File(path)) => {
                return Outcome::Unknown(format!("the schema {} has not been read", quoted(path)));
            }
            Self::FitsSchema(SchemaSource::Read(schema)) => match Json::read(text) {
                Ok(json) => match schema.check(&json.value) {
                    Ok(Ok(())) => (true, format!("the answer is {} and fits the schema", json.told())),
                    Ok(Err(why)) => (false, format!("the answer does not fit the schema: {why}")),
                    Err(unknown) => return Outcome::Unknown(unknown),
                },
                Err(why) => (false, format!("the answer is no JSON: {}", excerpt(&why))),
            },
            Self::MinWords(least) => within(words(text), "word", |n| n >= *least, "at least", *least),
            Self::MaxWords(most) => within(words(text), "word", |n| n <= *most, "at most", *most),
            Self::MaxCharacters(most) => {
                within(characters(text), "character", |n| n <= *most, "at most", *most)
            }
            Self::MaxTokens(most) => match subject.tokens {
                Some(n) => within(n, "token", |n| n <= *most, "at most", *most),
                None => return Outcome::Unknown("how many tokens the answer has is not known".to_owned()),
            },
            Self::Box { wanted, min_iou, label } => boxes::check(text, *wanted, *min_iou, label.as_deref()),
            Self::StopsByItself(wanted) => {
                let by_itself = subject.reason == StopReason::End;
                (by_itself == *wanted, format!("the answer {}", ended(subject.reason)))
            }
        };
        Outcome::Measured(held, measured)
    }
}

fn contains(text: &str, wanted: &[String], case: Case) -> (bool, String) {
    let folded = case.fold(text);
    let (there, missing): (Vec<&str>, Vec<&str>) =
        wanted.iter().map(String::as_str).partition(|wanted| folded.contains(&case.fold(wanted)));
    if missing.is_empty() {
        (true, format!("the answer contains {}{}", quoted_all(&there), case.note()))
    } else {
        let of = if wanted.len() > 1 {
            format!(", {} of {} wanted texts", missing.len(), wanted.len())
        } else {
            String::new()
        };
        (false, format!("the answer lacks {}{}{of}", quoted_all(&missing), case.note()))
    }
}

fn lacks(text: &str, unwanted: &[String], case: Case) -> (bool, String) {
    let folded = case.fold(text);
    let (there, missing): (Vec<&str>, Vec<&str>) =
        unwanted.iter().map(String::as_str).partition(|unwanted| folded.contains(&case.fold(unwanted)));
    if there.is_empty() {
        (true, format!("the answer lacks {}{}", quoted_all(&missing), case.note()))
    } else {
        (false, format!("the answer contains {}{}", quoted_all(&there), case.note()))
    }
}

fn equals(text: &str, wanted: &str, case: Case) -> (bool, String) {
    let (text, wanted) = (text.trim(), wanted.trim());
    if case.fold(text) == case.fold(wanted) {
        (true, format!("the answer is {}{}", quoted(text), case.note()))
    } else {
        let length = format!(", {}", counted(characters(text), "character"));
        (false, format!("the answer is {}{length}, not {}{}", quoted(text), quoted(wanted), case.note()))
    }
}

fn within(n: usize, thing: &str, holds: impl Fn(usize) -> bool, bound: &str, limit: usize) -> (bool, String) {
    (holds(n), format!("the answer has {}, {bound} {limit} wanted", counted(n, thing)))
}

fn ended(reason: StopReason) -> impl fmt::Display {
    match reason {
        StopReason::End => "stopped by itself",
        StopReason::StopString => "was ended by a stop string",
        StopReason::MaxTokens => "was cut off at the most tokens",
        StopReason::ContextFull => "was cut off by a full context",
        StopReason::Cancelled => "was cancelled",
    }
}
