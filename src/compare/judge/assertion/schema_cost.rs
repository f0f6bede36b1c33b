//! Room `compare`: what checking a value with a JSON schema costs at most, worked out before it is done. A schema of a few
//! lines can ask for 2¹⁰⁰ checks (choices between references to itself, once more at each level of the answer); here each pair
//! of a schema's part and a value's part is looked at once, and what lies below a pair is added up. Types and values are
//! not looked at: a check may cost less than this says, never more.

use std::collections::HashMap;

use serde_json::{Map, Value};

/// How deep a schema's text may nest.
const MAX_NESTING: usize = 32;
/// How many parts with rules a schema may have.
const MAX_PARTS: usize = 4000;
/// The most that a check may cost, in rules held against values: about a second.
const MAX_COST: u64 = 2_000_000;
/// How many pairs of a schema's part and a value's part are looked at.
const MAX_PAIRS: usize = 500_000;
/// How many rules may lead to one another, value by value: each takes some 3 KiB of the checker's stack, of which a thread
/// may have 1 MiB.
const MAX_DEPTH: usize = 120;
/// The largest program that a pattern in a schema may become, in bytes.
const MAX_PROGRAM: usize = 1 << 20;

/// Stands for any value without parts.
static NULL: Value = Value::Null;

/// Keywords whose schema is held against the same value.
const SAME: [&str; 4] = ["not", "if", "then", "else"];
const SAME_LISTS: [&str; 3] = ["allOf", "anyOf", "oneOf"];
const SAME_MAPS: [&str; 2] = ["dependentSchemas", "dependencies"];
const REFERENCES: [&str; 3] = ["$ref", "$dynamicRef", "$recursiveRef"];
/// Keywords whose schema is held against each property of an object, each item of a list.
const EACH_PROPERTY: [&str; 2] = ["additionalProperties", "unevaluatedProperties"];
const EACH_ITEM: [&str; 4] = ["items", "additionalItems", "contains", "unevaluatedItems"];
/// Keywords that keep schemas for references only.
const KEPT_MAPS: [&str; 2] = ["$defs", "definitions"];

/// Why a schema, or a check, is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// What is wrong.
    pub(super) cause: String,
    /// What to do.
    pub(super) help: &'static str,
}

type Fallible<T> = Result<T, Refusal>;

fn refuse<T>(cause: impl Into<String>, help: &'static str) -> Fallible<T> {
    Err(Refusal { cause: cause.into(), help })
}

/// A schema whose checks can be bounded.
pub(super) struct Plan {
    schema: Value,
    /// Names that references use for places (`$anchor`), as JSON pointers.
    anchors: HashMap<String, String>,
}

impl Plan {
    /// Refuses a schema that is too large or too deep, that refers to something outside itself, or to itself without
    /// going on to another value.
    pub(super) fn of(schema: &Value) -> Fallible<Self> {
        if !nests_at_most(schema, MAX_NESTING) {
            return refuse(
                format!("it nests deeper than {MAX_NESTING} levels"),
                "use $defs and $ref for inner parts",
            );
        }
        let mut plan = Self { schema: schema.clone(), anchors: HashMap::new() };
        plan.anchors = anchors(schema)?;
        let mut bound = Bound::new(&plan);
        // All parts that rules lead to, whatever the value.
        let (mut todo, mut seen) = (vec![&plan.schema], std::collections::HashSet::new());
        while let Some(part) = todo.pop() {
            if !seen.insert(std::ptr::from_ref(part)) {
                continue;
            }
            if seen.len() > MAX_PARTS {
                return refuse(format!("it has more than {MAX_PARTS} parts"), "check with a smaller schema");
            }
            if let Value::Object(part) = part {
                check_patterns(part)?;
                plan.same(part, &mut todo)?;
                below(part, &mut todo);
            }
            // Finds circles.
            bound.cost(part, &NULL, 0)?;
        }
        Ok(plan)
    }

    /// The schema.
    pub(super) fn schema(&self) -> &Value {
        &self.schema
    }

    /// Refuses a value that takes too long to check.
    pub(super) fn bound(&self, value: &Value) -> Fallible<()> {
        let cost = Bound::new(self).cost(&self.schema, value, 0)?;
        if cost > MAX_COST { too_long() } else { Ok(()) }
    }

    /// Adds the schemas that are held against the same value as `part`.
    fn same<'a>(&'a self, part: &'a Map<String, Value>, all: &mut Vec<&'a Value>) -> Fallible<()> {
        all.extend(SAME.iter().filter_map(|key| part.get(*key)));
        all.extend(SAME_LISTS.iter().filter_map(|key| part.get(*key)?.as_array()).flatten());
        all.extend(SAME_MAPS.iter().filter_map(|key| part.get(*key)?.as_object()).flat_map(Map::values));
        for key in REFERENCES {
            if let Some(Value::String(reference)) = part.get(key) {
                all.push(self.target(reference)?);
            }
        }
        Ok(())
    }

    fn target(&self, reference: &str) -> Fallible<&Value> {
        const HELP: &str = "put all parts into one schema, below $defs, and refer to them as #/$defs/name";
        let shown = super::words::quoted(reference);
        let Some(place) = reference.strip_prefix('#') else {
            return refuse(format!("it refers to {shown}, which is outside it; nothing is fetched"), HELP);
        };
        if place.contains('%') {
            return refuse(format!("it refers to {shown}"), "write references without % signs");
        }
        let pointer = if place.is_empty() || place.starts_with('/') {
            Some(place)
        } else {
            self.anchors.get(place).map(String::as_str)
        };
        match pointer.and_then(|pointer| self.schema.pointer(pointer)) {
            Some(target) => Ok(target),
            None => refuse(format!("it refers to {shown}, which is not there"), HELP),
        }
    }
}

fn too_long<T>() -> Fallible<T> {
    refuse(
        "checking the answer with this schema would take too long",
        "use fewer choices (anyOf, oneOf) of a schema in itself",
    )
}

/// Adds the schemas that are held against what is inside a value, and those kept for references.
fn below<'a>(part: &'a Map<String, Value>, all: &mut Vec<&'a Value>) {
    all.extend(EACH_PROPERTY.iter().chain(&EACH_ITEM).filter_map(|key| part.get(*key)));
    all.extend(["propertyNames", "contentSchema"].iter().filter_map(|key| part.get(*key)));
    let maps = KEPT_MAPS.iter().chain(&["properties", "patternProperties"]);
    all.extend(maps.filter_map(|key| part.get(*key)?.as_object()).flat_map(Map::values));
    all.extend(["prefixItems", "items"].iter().filter_map(|key| part.get(*key)?.as_array()).flatten());
}

/// Refuses patterns that would become very large programs. Whether they are patterns at all is seen later.
fn check_patterns(part: &Map<String, Value>) -> Fallible<()> {
    let names = part.get("patternProperties").and_then(Value::as_object);
    let patterns = names.into_iter().flat_map(Map::keys).map(String::as_str);
    for pattern in patterns.chain(part.get("pattern").and_then(Value::as_str)) {
        let built = regex::RegexBuilder::new(pattern).size_limit(MAX_PROGRAM).build();
        if matches!(built, Err(regex::Error::CompiledTooBig(_))) {
            let shown = super::words::quoted(pattern);
            return refuse(format!("its pattern {shown} is too large"), "use smaller counts of repetition");
        }
    }
    Ok(())
}

fn nests_at_most(value: &Value, levels: usize) -> bool {
    let Some(inner) = levels.checked_sub(1) else { return false };
    match value {
        Value::Array(list) => list.iter().all(|value| nests_at_most(value, inner)),
        Value::Object(object) => object.values().all(|value| nests_at_most(value, inner)),
        _ => true,
    }
}

/// The names of places in a schema. A part with an address of its own (`$id`), or of another draft, is refused: references
/// would mean something else there.
fn anchors(schema: &Value) -> Fallible<HashMap<String, String>> {
    let mut anchors = HashMap::new();
    // In draft 4 the address of a part is called `id`; elsewhere that is no word of schemas.
    let draft = schema.get("$schema").and_then(Value::as_str).and_then(boon::Draft::from_url);
    let address = if draft == Some(boon::Draft::V4) { "id" } else { "$id" };
    let mut todo = vec![(schema, String::new())];
    while let Some((value, pointer)) = todo.pop() {
        match value {
            Value::Object(object) => {
                let text = |key: &str| object.get(key).and_then(Value::as_str);
                let fragment = text(address).and_then(|id| id.strip_prefix('#'));
                for name in
                    fragment.into_iter().chain(["$anchor", "$dynamicAnchor"].into_iter().filter_map(text))
                {
                    anchors.insert(name.to_owned(), pointer.clone());
                }
                if fragment.is_none() && text(address).is_some() && !pointer.is_empty() {
                    return refuse(
                        format!("a part of it has an {address} of its own"),
                        "leave it out of inner parts",
                    );
                }
                if let Some(draft) = text("$schema")
                    && (!pointer.is_empty() || boon::Draft::from_url(draft).is_none())
                {
                    let shown = super::words::quoted(draft);
                    return refuse(
                        format!("its $schema is {shown}"),
                        "name a draft from 4 to 2020-12 at the top, or none at all",
                    );
                }
                let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
                todo.extend(object.iter().map(|(key, value)| (value, format!("{pointer}/{}", escaped(key)))));
            }
            Value::Array(list) => {
                todo.extend(list.iter().enumerate().map(|(i, value)| (value, format!("{pointer}/{i}"))));
            }
            _ => {}
        }
    }
    Ok(anchors)
}

/// Costs of pairs: a schema's part and a value's part, by where they lie in memory.
struct Bound<'a> {
    plan: &'a Plan,
    /// `None`: being worked out.
    known: HashMap<(*const Value, *const Value), Option<u64>>,
}

impl<'a> Bound<'a> {
    fn new(plan: &'a Plan) -> Self {
        Self { plan, known: HashMap::new() }
    }

    /// Rules held against values when this part of the schema is held against this value.
    fn cost(&mut self, part: &'a Value, value: &Value, depth: usize) -> Fallible<u64> {
        let Value::Object(rules) = part else { return Ok(1) };
        let pair = (std::ptr::from_ref(part), std::ptr::from_ref(value));
        match self.known.get(&pair) {
            Some(Some(cost)) => return Ok(*cost),
            Some(None) => {
                return refuse(
                    "a part of the schema refers to itself without going on to another value",
                    "let references lead to parts that do not lead back, other than through properties and items",
                );
            }
            None => {}
        }
        if depth > MAX_DEPTH {
            return refuse(
                "schema and answer together nest too deep to be checked",
                "use fewer references to references; this one nests too deep by itself",
            );
        }
        if self.known.len() > MAX_PAIRS {
            return too_long();
        }
        self.known.insert(pair, None);
        let mut same = Vec::new();
        self.plan.same(rules, &mut same)?;
        let mut cost = own_cost(rules, value);
        for inner in same {
            cost = cost.saturating_add(self.cost(inner, value, depth + 1)?);
        }
        match value {
            Value::Object(object) => {
                let names = rules.get("propertyNames").filter(|_| !object.is_empty());
                if let Some(names) = names {
                    let one = self.cost(names, &NULL, depth + 1)?;
                    cost = cost.saturating_add(one.saturating_mul(object.len() as u64));
                }
                let of_patterns = rules.get("patternProperties").and_then(Value::as_object);
                for (key, inner) in object {
                    let own = rules.get("properties").and_then(|properties| properties.get(key));
                    let each = EACH_PROPERTY.iter().filter_map(|key| rules.get(*key));
                    let patterns = of_patterns.into_iter().flat_map(Map::values);
                    for part in own.into_iter().chain(each).chain(patterns) {
                        cost = cost.saturating_add(self.cost(part, inner, depth + 1)?);
                    }
                }
            }
            Value::Array(list) => {
                for (i, inner) in list.iter().enumerate() {
                    let own = ["prefixItems", "items"].iter().filter_map(|key| rules.get(*key)?.get(i));
                    let each = EACH_ITEM.iter().filter_map(|key| rules.get(*key));
                    for part in own.chain(each) {
                        cost = cost.saturating_add(self.cost(part, inner, depth + 1)?);
                    }
                }
            }
            _ => {}
        }
        self.known.insert(pair, Some(cost));
        Ok(cost)
    }
}

/// What the rules of a part alone cost.
fn own_cost(rules: &Map<String, Value>, value: &Value) -> u64 {
    let len = |value: &Value| match value {
        Value::Array(list) => list.len(),
        Value::Object(object) => object.len(),
        Value::String(text) => text.len() / 64,
        _ => 0,
    };
    let of = |key: &str| rules.get(key).map_or(0, len) as u64;
    let (size, listed) = (len(value) as u64, of("required") + of("enum") + of("dependentRequired"));
    1 + listed + size.saturating_mul(1 + of("patternProperties"))
}
