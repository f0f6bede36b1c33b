//! Room `compare`: assertions of a comparison. Texts in them may hold variables, which are filled in for each cell.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::{Map, Value};

use super::judge::{Assertion, Subject, Verdict};
use super::plan::Plan;
use super::result::{CellResult, Checked};
use super::variables::{fill, names};
use crate::bounded;
use crate::error::{Error, Result};

/// Bytes of a file with a schema, at most.
const MAX_SCHEMA_BYTES: u64 = 4 << 20;
/// Values in it, at most: more than a schema that can be used has.
const MAX_SCHEMA_VALUES: usize = 200_000;

/// An assertion as the file has it.
#[derive(Clone, Debug)]
pub struct Check {
    table: Map<String, Value>,
    /// `None`: it holds variables, and is read anew for each row.
    fixed: Option<Assertion>,
}

impl PartialEq for Check {
    fn eq(&self, other: &Self) -> bool {
        self.table == other.table
    }
}

impl Serialize for Check {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.table.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Check {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        Self::new(Map::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl Check {
    /// Of a table.
    ///
    /// # Errors
    /// That is no assertion.
    pub fn new(table: Map<String, Value>) -> Result<Self> {
        let fixed = if holds_variables(&table) { None } else { Some(Assertion::from_table(table.clone())?) };
        Ok(Self { table, fixed })
    }

    /// Its table.
    #[must_use]
    pub fn table(&self) -> &Map<String, Value> {
        &self.table
    }

    /// The columns it is for; `None`: all.
    fn columns(&self) -> Option<Vec<&str>> {
        Some(self.table.get("columns")?.as_array()?.iter().filter_map(Value::as_str).collect())
    }

    /// Are there columns of the names it has?
    ///
    /// # Errors
    /// One is missing.
    pub fn check_columns(&self, names: &[String]) -> Result<()> {
        let unknown =
            self.columns().into_iter().flatten().find(|column| !names.iter().any(|name| name == column));
        match unknown {
            Some(column) => {
                let why = format!(
                    "it is for a column {column:?}, and there is none (there are {})",
                    names.join(", ")
                );
                Err(Error::new("reading the comparison", why))
            }
            None => Ok(()),
        }
    }

    /// What it asserts, in words: its name, or its keys and values.
    #[must_use]
    pub fn words(&self) -> String {
        if let Some(name) = self.table.get("name").and_then(Value::as_str) {
            return name.to_owned();
        }
        let shown = self.table.iter().filter(|(key, _)| *key != "columns");
        shown.map(|(key, value)| format!("{key} {value}")).collect::<Vec<_>>().join(", ")
    }

    /// The assertion for a row of values; schemas in files start at `base`.
    fn assertion(&self, values: &HashMap<&str, &str>, base: &Path) -> Result<Assertion> {
        let mut assertion = match &self.fixed {
            Some(fixed) => fixed.clone(),
            None => {
                let mut table = Value::Object(self.table.clone());
                fill_in(&mut table, values)?;
                match table {
                    Value::Object(table) => Assertion::from_table(table)?,
                    _ => Assertion::from_table(Map::new())?,
                }
            }
        };
        if let Some(file) = assertion.schema_file() {
            let path = base.join(file);
            let fail = |e: &dyn std::fmt::Display| Error::new("reading the schema", e).at_path(&path);
            let text = bounded::file(&path, MAX_SCHEMA_BYTES).map_err(|e| fail(&e))?;
            let schema = bounded::json(&text, MAX_SCHEMA_VALUES).map_err(|e| fail(&e))?;
            assertion.set_schema(&schema).map_err(|e| e.at_path(&path))?;
        }
        Ok(assertion)
    }
}

fn holds_variables(table: &Map<String, Value>) -> bool {
    fn holds(value: &Value) -> bool {
        match value {
            Value::String(text) => names(text).next().is_some(),
            Value::Array(list) => list.iter().any(holds),
            Value::Object(table) => table.values().any(holds),
            _ => false,
        }
    }
    table.values().any(holds)
}

fn fill_in(value: &mut Value, values: &HashMap<&str, &str>) -> Result<()> {
    match value {
        Value::String(text) => {
            let whole = names(text).next().is_some_and(|name| text.trim() == format!("{{{{{name}}}}}"));
            let filled = fill(text, values)?;
            // A number that a variable stands for is a number: `max_words = "{{words}}"`.
            *value = match filled.trim().parse::<serde_json::Number>() {
                Ok(number) if whole && !filled.trim().is_empty() => Value::Number(number),
                _ => Value::String(filled),
            };
            Ok(())
        }
        Value::Array(list) => list.iter_mut().try_for_each(|value| fill_in(value, values)),
        Value::Object(table) => table.values_mut().try_for_each(|value| fill_in(value, values)),
        _ => Ok(()),
    }
}

/// What comes out of the assertions that are for an answer's column. One that cannot be read has not passed, and says why.
#[must_use]
pub fn verdicts(plan: &Plan, result: &CellResult) -> Vec<Checked> {
    let values: HashMap<&str, &str> = result.values.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let subject = Subject { text: &result.answer, tokens: result.figures.new_tokens, reason: result.reason };
    let mine =
        |check: &Check| check.columns().is_none_or(|columns| columns.contains(&result.column.as_str()));
    let all = plan.comparison.assertions.iter().enumerate().filter(|(_, check)| mine(check));
    all.map(|(number, check)| {
        let verdict = match check.assertion(&values, plan.pictures.base()) {
            Ok(assertion) => assertion.check(&subject),
            Err(error) => Verdict { passed: false, why: error.to_string() },
        };
        Checked { number, what: check.words(), verdict }
    })
    .collect()
}
