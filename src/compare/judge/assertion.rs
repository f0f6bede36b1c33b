//! Room `compare`: what an answer must hold, written as a table of TOML or JSON: `{ contains = "cat", max_words = 40 }`.
//! All conditions of a table must hold; `not = true` asks that they do not.
//!
//! | keys | what must hold |
//! | --- | --- |
//! | `contains`, `lacks` | a text or all of a list is, or none is, in the answer |
//! | `equals` | the answer is this, white space around it left aside |
//! | `regex` | the pattern is found (Rust's syntax; `ignore_case` counts for all four) |
//! | `json`, `json_schema` | the answer is JSON, bare or in a code fence; a schema (a table, or a file's name) allows it |
//! | `min_words`, `max_words`, `max_characters`, `max_tokens` | how long it is |
//! | `box`, `min_iou` (0.5), `label` | a box of the answer, so labelled, covers this one so well |
//! | `stops_by_itself` | the model ended it |
//! | `name`, `columns`, `not` | words for people; only for these columns; the other way round |

mod boxes;
mod condition;
mod json;
mod schema;
mod schema_cost;
mod table;
mod words;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::{Map, Value};

pub use condition::{Case, Condition, SchemaSource};
pub use schema::Schema;

use self::condition::Outcome;
use self::table::{Table, refused};
use self::words::sentence;
use crate::Result;
use crate::engine::StopReason;

/// How well a box must cover the wanted one, where `min_iou` is not given.
pub const DEFAULT_MIN_IOU: f64 = 0.5;

/// The longest answer that is checked, in bytes: more than any context holds.
pub const MAX_ANSWER_BYTES: usize = 4 << 20;

/// What an answer must hold. Reads from a table and writes back the same one.
#[derive(Clone, Debug)]
pub struct Assertion {
    /// As it was written.
    table: Map<String, Value>,
    conditions: Vec<Condition>,
    name: Option<String>,
    columns: Option<Vec<String>>,
    not: bool,
}

/// An answer that is judged.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its text.
    pub text: &'a str,
    /// How many tokens it has; `None`: not known (a server elsewhere did not tell).
    pub tokens: Option<usize>,
    /// Why it ended.
    pub reason: StopReason,
}

/// What came out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Does the answer hold what it must? What could not be checked has not passed.
    pub passed: bool,
    /// Why, in one sentence, with what was measured.
    pub why: String,
}

impl Assertion {
    /// Reads a table.
    ///
    /// # Errors
    /// A key is not known, a value is not of its kind, a pattern or a schema cannot be used, or nothing is asked.
    pub fn from_table(table: Map<String, Value>) -> Result<Self> {
        let name = table.get("name").and_then(Value::as_str).map(str::to_owned);
        let named = |error: crate::Error| match &name {
            Some(name) => error.at(words::quoted(name)),
            None => error,
        };
        Self::read(table).map_err(named)
    }

    fn read(table: Map<String, Value>) -> Result<Self> {
        let read = Table::new(&table)?;
        let (name, columns) = (read.text("name")?, read.names("columns")?);
        let not = read.boolean("not")?.unwrap_or(false);
        let conditions = condition::read_all(read)?;
        Ok(Self { table, conditions, name, columns, not })
    }

    /// The table it was read from.
    #[must_use]
    pub fn table(&self) -> &Map<String, Value> {
        &self.table
    }

    /// What must hold (or not, see [`Assertion::is_turned_around`]).
    #[must_use]
    pub fn conditions(&self) -> &[Condition] {
        &self.conditions
    }

    /// What people call it; `None`: it has no name.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The columns it is for; `None`: all.
    #[must_use]
    pub fn columns(&self) -> Option<&[String]> {
        self.columns.as_deref()
    }

    /// Is it for this column?
    #[must_use]
    pub fn is_for(&self, column: &str) -> bool {
        self.columns.as_ref().is_none_or(|columns| columns.iter().any(|name| name == column))
    }

    /// Must the conditions, together, not hold?
    #[must_use]
    pub fn is_turned_around(&self) -> bool {
        self.not
    }

    /// The name of the file with its schema, as it is written in the table, if nobody has given the schema yet.
    #[must_use]
    pub fn schema_file(&self) -> Option<&str> {
        self.conditions.iter().find_map(|condition| match condition {
            Condition::FitsSchema(SchemaSource::File(path)) => Some(path.as_str()),
            _ => None,
        })
    }

    /// Gives it the schema that is in its [`Assertion::schema_file`]. The table goes on naming the file.
    ///
    /// # Errors
    /// It is no schema, or one that cannot be used; or the assertion has no schema in a file.
    pub fn set_schema(&mut self, schema: &Value) -> Result<()> {
        let Some(path) = self.schema_file().map(str::to_owned) else {
            return Err(refused("it names no file with a schema").help("write json_schema = \"file.json\""));
        };
        let schema = Schema::compile(schema).map_err(|error| error.at(path))?;
        for condition in &mut self.conditions {
            if let Condition::FitsSchema(source) = condition {
                *source = SchemaSource::Read(schema.clone());
            }
        }
        Ok(())
    }

    /// Holds it against an answer.
    #[must_use]
    pub fn check(&self, subject: &Subject<'_>) -> Verdict {
        if subject.text.len() > MAX_ANSWER_BYTES {
            let bytes = subject.text.len();
            return Verdict {
                passed: false,
                why: format!(
                    "Could not be checked: the answer has {bytes} bytes, {MAX_ANSWER_BYTES} at most are looked at."
                ),
            };
        }
        let (mut held, mut failed, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
        for condition in &self.conditions {
            match condition.check(subject) {
                Outcome::Measured(true, measured) => held.push(measured),
                Outcome::Measured(false, measured) => failed.push(measured),
                Outcome::Unknown(why) => unknown.push(why),
            }
        }
        // One condition that fails decides, whatever the unknown ones would say.
        let (holds, told) = match (failed.is_empty(), unknown.is_empty()) {
            (false, _) => (false, failed),
            (true, true) => (true, held),
            (true, false) => {
                return Verdict {
                    passed: false,
                    why: format!("Could not be checked: {}.", unknown.join("; ")),
                };
            }
        };
        let why = match (self.not, holds) {
            (false, _) => sentence(&told),
            (true, true) => format!("This should not hold: {}.", told.join("; ")),
            (true, false) => format!("As wanted, this does not hold: {}.", told.join("; ")),
        };
        Verdict { passed: holds != self.not, why }
    }
}

/// Two assertions are the same if they are written the same.
impl PartialEq for Assertion {
    fn eq(&self, other: &Self) -> bool {
        self.table == other.table
    }
}

impl Serialize for Assertion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.table.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Assertion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_table(Map::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
