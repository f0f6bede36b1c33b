//! Room `compare`: JSON schemas that answers are held against (drafts 4 to 2020-12; formats are checked). A schema is
//! one piece: it refers to nothing outside itself, so nothing is ever fetched or opened, and checks with it are bounded
//! ([`super::schema_cost`]).

use std::{fmt, sync::Arc};

use boon::{Compiler, Draft, ErrorKind, SchemaIndex, Schemas, UrlLoader, ValidationError};
use serde_json::Value;

use super::schema_cost::{Plan, Refusal};
use super::words::excerpt;
use crate::{Error, Result};

/// The address a schema has among its own references. Nothing is there.
const HERE: &str = "ocelli:///schema";

/// A schema that can be used.
#[derive(Clone)]
pub struct Schema(Arc<Compiled>);

struct Compiled {
    schemas: Schemas,
    index: SchemaIndex,
    /// The schema, for working out beforehand what a check costs.
    plan: Plan,
}

/// Fetches nothing, opens nothing.
struct Refuses;

impl UrlLoader for Refuses {
    fn load(&self, url: &str) -> Result<Value, Box<dyn std::error::Error>> {
        Err(format!("{url} is outside the schema, and nothing is fetched").into())
    }
}

impl Schema {
    /// Checks a schema and makes it ready.
    ///
    /// # Errors
    /// It is no valid schema, refers to something outside itself, or is too large or too deep.
    pub fn compile(schema: &Value) -> Result<Self> {
        let refused = |cause: &dyn fmt::Display| Error::new("reading a JSON schema", cause).quoting();
        let plan = Plan::of(schema).map_err(|Refusal { cause, help }| refused(&cause).help(help))?;
        let mut compiler = Compiler::new();
        compiler.set_default_draft(Draft::V2020_12);
        compiler.enable_format_assertions();
        compiler.use_loader(Box::new(Refuses));
        let mut schemas = Schemas::new();
        let told_of = |error: &boon::CompileError| match error {
            boon::CompileError::ValidationError { src, .. } => {
                refused(&format!("it is no valid schema: {}", told(src)))
            }
            other => refused(&format!("{other:#}").replace(HERE, "the schema")),
        };
        compiler.add_resource(HERE, schema.clone()).map_err(|e| told_of(&e))?;
        let index = compiler.compile(HERE, &mut schemas).map_err(|e| told_of(&e))?;
        Ok(Self(Arc::new(Compiled { schemas, index, plan })))
    }

    /// Does the schema allow this value? The inner error says what it does not allow, the outer one why that cannot be
    /// found out.
    pub(super) fn check(&self, value: &Value) -> Result<Result<(), String>, String> {
        self.0.plan.bound(value).map_err(|Refusal { cause, .. }| cause)?;
        Ok(self.0.schemas.validate(value, self.0.index).map_err(|e| told(&e)))
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Schema").field(self.0.plan.schema()).finish()
    }
}

/// The first thing that is wrong, where it is, and how many more there are beside it.
fn told(error: &ValidationError<'_, '_>) -> String {
    let (mut at, mut more) = (error, 0);
    while matches!(
        at.kind,
        ErrorKind::Schema { .. } | ErrorKind::Group | ErrorKind::Reference { .. } | ErrorKind::AllOf
    ) {
        let Some(first) = at.causes.first() else { break };
        more += at.causes.len() - 1;
        at = first;
    }
    let place = at.instance_location.to_string();
    let place = if place.is_empty() { String::new() } else { format!("at {}: ", excerpt(&place)) };
    let what = match &at.kind {
        ErrorKind::AnyOf => format!("none of the {} choices of anyOf fits", at.causes.len()),
        ErrorKind::OneOf(None) => format!("none of the {} choices of oneOf fits", at.causes.len()),
        ErrorKind::OneOf(Some((first, second))) => {
            format!("choices {} and {} of oneOf both fit", first + 1, second + 1)
        }
        ErrorKind::FalseSchema => "nothing may be here".to_owned(),
        kind => long_excerpt(&kind.to_string()),
    };
    let more = match more {
        0 => String::new(),
        1 => " (and one thing more)".to_owned(),
        n => format!(" (and {n} things more)"),
    };
    format!("{place}{what}{more}")
}

/// What the checker says, on one line; a value that it quotes may be long.
fn long_excerpt(text: &str) -> String {
    const SHOWN: usize = 200;
    let mut shown: String = text.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests;
