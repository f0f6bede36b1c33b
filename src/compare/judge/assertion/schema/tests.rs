use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::Schema;

fn refusal(schema: &Value) -> String {
    Schema::compile(schema).expect_err("it should be refused").to_string()
}

/// Lists in lists, so deep.
fn nested(depth: usize) -> Value {
    (0..depth).fold(json!(1), |inner, _| json!([inner]))
}

#[test]
fn nothing_outside_a_schema_is_fetched_or_opened() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("schema.json");
    std::fs::write(&file, "{}").unwrap();
    let file = format!("file://{}", file.display());
    for outside in [
        &file,
        "http://127.0.0.1:9/schema.json",
        "https://json-schema.org/draft/2020-12/schema",
        "other.json",
        "other.json#/a",
    ] {
        let error = refusal(&json!({"items": {"$ref": outside}}));
        assert!(error.contains("outside it; nothing is fetched") && error.contains("$defs"), "{error}");
        // A place that no rule leads to may refer to anything.
        let unused = Schema::compile(&json!({"examples": [{"$ref": outside}]}));
        assert!(unused.is_ok());
        let error = refusal(&json!({"$schema": outside, "$id": "x", "type": "cat"}));
        assert!(error.contains("$schema") || error.contains("no valid schema"), "{error}");
    }
    // Not even where a word unknown to us is a rule: the checker itself fetches nothing.
    assert!(refusal(&json!({"$defs": {"a": {"$id": "http://127.0.0.1:9/b"}}})).contains("$id"));
}

#[test]
fn references_within_a_schema_work() {
    let tree = Schema::compile(&json!({
        "$dynamicAnchor": "node",
        "type": "array",
        "items": {"anyOf": [{"$dynamicRef": "#node"}, {"$ref": "#number"}, {"$ref": "#/$defs/a~1b"}]},
        "$defs": {"n": {"$anchor": "number", "type": "number"}, "a/b": {"type": "null"}},
    }))
    .unwrap();
    assert_eq!(tree.check(&json!([1, [2, []], null])), Ok(Ok(())));
    assert!(tree.check(&json!([1, ["a"]])).unwrap().is_err());
    let old = json!({
        "$schema": "http://json-schema.org/draft-04/schema#",
        "properties": {"id": {"$ref": "#text"}},
        "definitions": {"t": {"id": "#text", "type": "string"}},
    });
    let old = Schema::compile(&old).unwrap();
    assert_eq!(old.check(&json!({"id": "a"})), Ok(Ok(())));
    assert!(old.check(&json!({"id": 1})).unwrap().is_err());
    for missing in ["#/$defs/c", "#c", "#/$defs/%61"] {
        assert!(refusal(&json!({"$ref": missing, "$defs": {"a": {}}})).contains(missing));
    }
}

#[test]
fn a_schema_that_leads_to_itself_on_the_spot_is_refused() {
    for schema in [
        json!({"$ref": "#"}),
        json!({"anyOf": [{"type": "string"}, {"$ref": "#"}]}),
        json!({"$ref": "#/$defs/a", "$defs": {"a": {"not": {"$ref": "#/$defs/b"}}, "b": {"allOf": [{"$ref": "#/$defs/a"}]}}}),
        json!({"items": {"dependentSchemas": {"a": {"$ref": "#/items"}}}}),
    ] {
        assert!(refusal(&schema).contains("refers to itself"), "{schema}");
    }
}

#[test]
fn choices_that_double_at_each_level_are_not_checked() {
    let doubling = Schema::compile(&json!({"anyOf": [
        {"items": {"$ref": "#"}, "minItems": 2},
        {"items": {"$ref": "#"}, "maxItems": 0},
    ]}))
    .unwrap();
    let start = Instant::now();
    assert!(doubling.check(&nested(5)).unwrap().is_err());
    let unknown = doubling.check(&nested(30)).unwrap_err();
    assert!(unknown.contains("would take too long"), "{unknown}");
    // The same without levels: 2^40 ways through forty parts.
    let parts: serde_json::Map<String, Value> = (0..40)
        .map(|n| (format!("p{n}"), json!({"anyOf": [{"$ref": format!("#/$defs/p{}", n + 1)}, {"$ref": format!("#/$defs/p{}", n + 1)}]})))
        .chain([("p40".to_owned(), json!(false))])
        .collect();
    let wide = Schema::compile(&json!({"$ref": "#/$defs/p0", "$defs": parts})).unwrap();
    assert!(wide.check(&json!(1)).unwrap_err().contains("would take too long"));
    // What is large but not doubled is checked.
    let large = Schema::compile(
        &json!({"items": {"anyOf": [{"type": "string"}, {"required": ["a"], "maxProperties": 1}]}}),
    );
    let list = Value::from((0..50_000).map(|n| json!({"a": n})).collect::<Vec<_>>());
    assert_eq!(large.unwrap().check(&list), Ok(Ok(())));
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn deep_and_large_schemas_are_refused_and_those_just_below_fit_any_threads_stack() {
    let deep = |levels| (0..levels).fold(json!({}), |inner, _| json!({"items": inner}));
    assert!(refusal(&deep(60)).contains("nests deeper than 32"));
    let parts: Vec<Value> = (0..5000).map(|_| json!({"type": "string"})).collect();
    assert!(refusal(&json!({"prefixItems": parts})).contains("more than 4000 parts"));
    // A chain of references: each is a step deeper in the checker.
    let chain = |links: usize| {
        let parts: serde_json::Map<String, Value> = (0..links)
            .map(|n| (format!("p{n}"), json!({"allOf": [{"$ref": format!("#/$defs/p{}", n + 1)}]})))
            .chain([(format!("p{links}"), json!({"items": {"$ref": "#/$defs/p0"}}))])
            .collect();
        Schema::compile(&json!({"$ref": "#/$defs/p0", "$defs": parts}))
    };
    assert!(chain(200).unwrap_err().to_string().contains("nests too deep"));
    // The smallest stack a main thread has (on Windows) is 1 MiB: half of it must do.
    let on_a_small_stack = move || {
        assert_eq!(Schema::compile(&deep(31)).unwrap().check(&nested(100)), Ok(Ok(())));
        // Four steps a level, 120 in all.
        let steps = chain(1).unwrap();
        assert_eq!(steps.check(&nested(29)), Ok(Ok(())));
        assert!(steps.check(&nested(31)).unwrap_err().contains("nest too deep"));
        assert_eq!(chain(57).unwrap().check(&json!(1)), Ok(Ok(())));
    };
    let thread = std::thread::Builder::new().stack_size(512 << 10).spawn(on_a_small_stack).unwrap();
    assert!(thread.join().is_ok());
}

#[test]
fn what_does_not_fit_is_told_in_one_short_line() {
    let check =
        |schema: Value, value: Value| Schema::compile(&schema).unwrap().check(&value).unwrap().unwrap_err();
    assert_eq!(
        check(json!({"anyOf": [{"type": "string"}, {"type": "null"}]}), json!(1)),
        "none of the 2 choices of anyOf fits"
    );
    assert_eq!(
        check(json!({"oneOf": [{"type": "string"}, {"type": "null"}]}), json!(1)),
        "none of the 2 choices of oneOf fits"
    );
    assert_eq!(
        check(json!({"oneOf": [{"minimum": 1}, {"type": "null"}, {"minimum": 2}]}), json!(3)),
        "choices 1 and 3 of oneOf both fit"
    );
    assert_eq!(check(json!({"properties": {"a": false}}), json!({"a": 1})), "at /a: nothing may be here");
    assert_eq!(
        check(
            json!({"required": ["b"], "properties": {"a": {"type": "null"}}, "maxProperties": 0}),
            json!({"a": 1})
        ),
        "maximum 0 properties required, but got 1 properties (and 2 things more)"
    );
    let long = check(json!({"enum": vec!["a\nb".repeat(100); 50]}), json!(1));
    assert!(long.chars().count() < 250 && !long.contains('\n'), "{long}");
}

#[test]
fn large_patterns_are_refused_and_hard_ones_stay_linear() {
    for schema in
        [json!({"pattern": r"(\w{1,100}){1,100}"}), json!({"patternProperties": {r"(\w{1,100}){1,100}": {}}})]
    {
        assert!(refusal(&schema).contains("too large"));
    }
    assert!(refusal(&json!({"pattern": "(a"})).contains("no valid schema"));
    let start = Instant::now();
    let schema = Schema::compile(&json!({"pattern": "^(a+)+$"})).unwrap();
    assert!(schema.check(&json!("a".repeat(20_000) + "!")).unwrap().is_err());
    assert!(start.elapsed() < Duration::from_secs(5));
}

fn json_soup() -> impl Strategy<Value = Value> {
    let words = prop::sample::select(
        &[
            "$ref",
            "$id",
            "$anchor",
            "$dynamicRef",
            "$defs",
            "properties",
            "items",
            "anyOf",
            "allOf",
            "not",
            "if",
            "type",
            "enum",
            "required",
            "pattern",
            "patternProperties",
            "additionalProperties",
            "prefixItems",
            "unevaluatedItems",
            "dependencies",
            "propertyNames",
            "format",
            "minimum",
            "uniqueItems",
            "contains",
            "a",
        ][..],
    );
    let texts = prop::sample::select(
        &["#", "#/items", "#a", "a", "string", "array", "date", "[", "#/$defs/a", "/", "~", "email"][..],
    );
    let leaf = prop_oneof![
        texts.prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        (-3..3_i32).prop_map(Value::from),
        Just(Value::Null)
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            2 => prop::collection::vec((words.clone(), inner.clone()), 0..4)
                .prop_map(|all| Value::Object(all.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())),
            1 => prop::collection::vec(inner, 0..3).prop_map(Value::from),
        ]
    })
}

proptest! {
    #[test]
    fn no_schema_and_no_value_is_too_strange(schema in json_soup(), value in json_soup()) {
        if let Ok(schema) = Schema::compile(&schema) {
            let once = schema.check(&value);
            prop_assert_eq!(once, schema.check(&value));
        }
    }
}
