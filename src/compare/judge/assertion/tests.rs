use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::json;

use super::*;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct File {
    assertions: Vec<Assertion>,
}

fn assertion(table: Value) -> Assertion {
    serde_json::from_value(table).unwrap_or_else(|e| panic!("{e}"))
}

fn refusal(table: Value) -> String {
    serde_json::from_value::<Assertion>(table).expect_err("it should be refused").to_string()
}

fn answer(text: &str) -> Subject<'_> {
    Subject { text, tokens: Some(7), reason: StopReason::End }
}

fn check(table: Value, text: &str) -> Verdict {
    assertion(table).check(&answer(text))
}

/// Held against the text, each table passes or not, and says so.
#[track_caller]
fn judged(table: Value, text: &str, passed: bool, why: &str) {
    let shown = format!("{table} of {text:?}");
    let verdict = check(table, text);
    assert_eq!((verdict.passed, verdict.why.as_str()), (passed, why), "{shown}");
}

#[test]
fn texts_are_looked_for_as_they_are_or_whatever_the_case() {
    judged(json!({"contains": "cat"}), "A cat.", true, "The answer contains \"cat\".");
    judged(json!({"contains": "cat"}), "A Cat.", false, "The answer lacks \"cat\".");
    let both = json!({"contains": ["cat", "DOG"], "ignore_case": true});
    judged(
        both.clone(),
        "A Cat, a dog.",
        true,
        "The answer contains \"cat\" and \"DOG\" (whatever the case).",
    );
    judged(both, "A dog.", false, "The answer lacks \"cat\" (whatever the case), 1 of 2 wanted texts.");
    judged(json!({"lacks": "sorry"}), "A cat.", true, "The answer lacks \"sorry\".");
    judged(json!({"lacks": ["sorry", "cat"]}), "A cat.", false, "The answer contains \"cat\".");
    judged(json!({"equals": " red"}), "red\n", true, "The answer is \"red\".");
    judged(json!({"equals": "red"}), "Red", false, "The answer is \"Red\", 3 characters, not \"red\".");
    judged(
        json!({"equals": "red", "ignore_case": true}),
        "Red",
        true,
        "The answer is \"Red\" (whatever the case).",
    );
    // A capital sigma ends a word as another letter than it has inside of one.
    assert!(check(json!({"contains": "ΟΔΟΣ", "ignore_case": true}), "η οδοσήμανση, η οδός").passed);
    assert!(check(json!({"equals": "ΟΔΟΣ", "ignore_case": true}), "οδος").passed);
}

#[test]
fn a_pattern_is_found_or_not() {
    let table = json!({"regex": "^(yes|no)"});
    judged(table.clone(), "yes, it is", true, "^(yes|no) is found, as \"yes\".");
    judged(table, "Yes, it is", false, "^(yes|no) is not found in the answer.");
    assert!(check(json!({"regex": "^(yes|no)", "ignore_case": true}), "Yes").passed);
}

#[test]
fn json_counts_bare_and_in_a_fence_and_the_verdict_says_which() {
    judged(json!({"json": true}), " {\"a\": 1}\n", true, "The answer is JSON (an object).");
    judged(json!({"json": true}), "```json\n[1]\n```", true, "The answer is JSON in a code fence (a list).");
    judged(json!({"json": true}), "```\n[1]\n```\n", true, "The answer is JSON in a code fence (a list).");
    judged(json!({"json": true}), "", false, "The answer is no JSON: it is empty.");
    for text in
        ["Here: {}", "```python\n[1]\n```", "``````", "```json\n```", "```json", "{} {}", "{'a': 1}", "NaN"]
    {
        assert!(!check(json!({"json": true}), text).passed, "{text}");
        assert!(check(json!({"json": false}), text).passed, "{text}");
    }
    assert!(!check(json!({"json": false}), "{}").passed);
}

#[test]
fn a_schema_tells_what_does_not_fit_and_where() {
    let table = json!({"json_schema": {
        "type": "object",
        "required": ["cats"],
        "properties": {"cats": {"type": "array", "items": {"$ref": "#/$defs/cat"}}},
        "$defs": {"cat": {"type": "object", "properties": {"age": {"type": "integer", "minimum": 0}}}},
    }});
    let fits = "The answer is JSON in a code fence (an object) and fits the schema.";
    judged(table.clone(), "```json\n{\"cats\": [{\"age\": 3}]}\n```", true, fits);
    let verdict = check(table.clone(), r#"{"cats": [{"age": 3}, {"age": "old"}]}"#);
    assert!(
        !verdict.passed && verdict.why.contains("at /cats/1/age: want integer, but got string"),
        "{verdict:?}"
    );
    let verdict = check(table.clone(), "{}");
    assert!(!verdict.passed && verdict.why.contains("missing properties 'cats'"), "{verdict:?}");
    assert!(check(table, "no").why.contains("is no JSON"));
    let date = json!({"json_schema": {"format": "date"}});
    assert!(check(date.clone(), "\"2024-02-29\"").passed);
    assert!(!check(date, "\"2023-02-29\"").passed);
    // Of a draft that the schema names: `items` as a list is of 2019-09 and before.
    let old = json!({"json_schema": {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "items": [{"type": "string"}],
        "additionalItems": false,
    }});
    assert!(check(old.clone(), "[\"a\"]").passed);
    assert!(!check(old, "[\"a\", 1]").passed);
}

#[test]
fn a_schema_in_a_file_is_asked_for_and_without_it_nothing_passes() {
    for not in [false, true] {
        let table = json!({"json_schema": "cat.json", "not": not});
        let mut assertion = assertion(table.clone());
        assert_eq!(assertion.schema_file(), Some("cat.json"));
        let verdict = assertion.check(&answer("{}"));
        assert!(!verdict.passed);
        assert_eq!(verdict.why, "Could not be checked: the schema \"cat.json\" has not been read.");
        let error = assertion.set_schema(&json!({"type": "cat"})).unwrap_err().to_string();
        assert!(error.contains("cat.json") && error.contains("no valid schema"), "{error}");
        assertion.set_schema(&json!({"type": "object"})).unwrap();
        assert_eq!(assertion.schema_file(), None);
        assert_eq!(assertion.check(&answer("{}")).passed, !not);
        assert_eq!(assertion.check(&answer("[]")).passed, not);
        // Written as it was.
        assert_eq!(serde_json::to_value(&assertion).unwrap(), table);
    }
}

#[test]
fn lengths_are_counted_in_words_characters_and_tokens() {
    judged(json!({"min_words": 3}), "It can't be.", true, "The answer has 3 words, at least 3 wanted.");
    judged(
        json!({"min_words": 3, "max_words": 4}),
        "No.",
        false,
        "The answer has 1 word, at least 3 wanted.",
    );
    judged(json!({"max_words": 2}), "It is so", false, "The answer has 3 words, at most 2 wanted.");
    // Each character of Chinese is a word.
    judged(json!({"max_words": 4}), "一只白猫。", true, "The answer has 4 words, at most 4 wanted.");
    judged(json!({"max_characters": 2}), " 👨‍👩‍👧é\n", true, "The answer has 2 characters, at most 2 wanted.");
    judged(json!({"max_characters": 2}), "abc", false, "The answer has 3 characters, at most 2 wanted.");
    judged(json!({"max_tokens": 7}), "", true, "The answer has 7 tokens, at most 7 wanted.");
    judged(json!({"max_tokens": 6}), "", false, "The answer has 7 tokens, at most 6 wanted.");
    let untold = Subject { tokens: None, ..answer("a") };
    let verdict = assertion(json!({"max_tokens": 6, "not": true})).check(&untold);
    assert_eq!(
        (verdict.passed, verdict.why.as_str()),
        (false, "Could not be checked: how many tokens the answer has is not known.")
    );
    // What is known to fail needs no tokens.
    assert!(assertion(json!({"max_tokens": 6, "contains": "b", "not": true})).check(&untold).passed);
}

#[test]
fn the_best_box_counts_with_its_iou() {
    let text =
        r#"[{"bbox_2d": [0, 0, 100, 100], "label": "Cat"}, {"bbox_2d": [0, 0, 100, 50], "label": "dog"}]"#;
    let near = json!({"box": [0, 0, 100, 100]});
    judged(near, text, true, "IoU 1.00 of the best box, 0.5 wanted.");
    let dog = json!({"box": [0, 0, 100, 100], "label": "dog", "min_iou": 0.6});
    judged(dog, text, false, "IoU 0.50 of the best box labelled \"dog\", 0.6 wanted.");
    assert!(check(json!({"box": [0, 0, 100, 90], "label": " cat "}), text).passed);
    let far = json!({"box": [500, 500, 600, 600]});
    judged(far, text, false, "IoU 0.00 of the best box of 2 candidates, 0.5 wanted.");
    let bird = json!({"box": [0, 0, 100, 100], "label": "bird"});
    let why = "The answer has no box labelled \"bird\", but 2 boxes labelled \"Cat\" and \"dog\".";
    judged(bird, text, false, why);
    judged(json!({"box": [0, 0, 1, 1]}), "a cat", false, "The answer has no box.");
    judged(json!({"box": [0, 0, 1, 1]}), r#"{"point_2d": [0, 0]}"#, false, "The answer has no box.");
    // 0.49975 would read as 0.50.
    let almost = check(json!({"box": [0, 0, 1000, 1000]}), r#"{"bbox_2d": [0, 0, 1000, 499.75]}"#);
    assert_eq!((almost.passed, almost.why.as_str()), (false, "IoU 0.49975 of the best box, 0.5 wanted."));
}

#[test]
fn only_the_model_ends_an_answer_by_itself() {
    let table = json!({"stops_by_itself": true});
    judged(table.clone(), "", true, "The answer stopped by itself.");
    for reason in
        [StopReason::StopString, StopReason::MaxTokens, StopReason::ContextFull, StopReason::Cancelled]
    {
        assert!(!assertion(table.clone()).check(&Subject { reason, ..answer("") }).passed, "{reason:?}");
        assert!(assertion(json!({"stops_by_itself": false})).check(&Subject { reason, ..answer("") }).passed);
    }
}

#[test]
fn all_of_a_table_must_hold_and_not_turns_all_of_it_around() {
    let table = |not: bool| json!({"contains": "cat", "max_words": 2, "not": not});
    judged(
        table(false),
        "a cat",
        true,
        "The answer contains \"cat\"; the answer has 2 words, at most 2 wanted.",
    );
    judged(table(false), "not a cat", false, "The answer has 3 words, at most 2 wanted.");
    judged(
        table(true),
        "a cat",
        false,
        "This should not hold: the answer contains \"cat\"; the answer has 2 words, at most 2 wanted.",
    );
    judged(
        table(true),
        "not a cat",
        true,
        "As wanted, this does not hold: the answer has 3 words, at most 2 wanted.",
    );
}

#[test]
fn names_and_columns_are_kept() {
    let all = assertion(json!({"contains": "a"}));
    assert!(all.is_for("x") && all.name().is_none() && all.columns().is_none() && !all.is_turned_around());
    let some =
        assertion(json!({"contains": "a", "columns": ["8B", "2B"], "name": "names a cat", "not": true}));
    assert!(some.is_for("2B") && !some.is_for("4B") && some.is_turned_around());
    assert_eq!(some.name(), Some("names a cat"));
}

#[test]
fn toml_and_json_say_the_same_and_are_written_as_they_were_read() {
    let text = r#"
assertions = [
    { contains = "cat" },
    { contains = ["a", "b"], ignore_case = true },
    { lacks = "sorry" },
    { equals = "red" },
    { regex = "^(yes|no)" },
    { json = true },
    { json_schema = { type = "object", required = ["a"], properties = { a = { minimum = 0.5 } } }, name = "b" },
    { json_schema = "schema.json" },
    { min_words = 3, max_words = 40 },
    { max_characters = 200 },
    { max_tokens = 50 },
    { box = [1, 2.5, 300, 400], min_iou = 0.5, label = "cat" },
    { stops_by_itself = true, columns = ["8B"], not = true },
]
"#;
    let file: File = toml::from_str(text).unwrap();
    assert_eq!(file.assertions.len(), 13);
    let values: toml::Value = toml::from_str(text).unwrap();
    let written = toml::to_string(&file).unwrap();
    assert_eq!(toml::from_str::<toml::Value>(&written).unwrap(), values);
    let json = serde_json::to_string(&file).unwrap();
    assert_eq!(serde_json::from_str::<File>(&json).unwrap(), file);
    assert!(json.contains(r#""contains":"cat""#) && json.contains("[1,2.5,300,400]"), "{json}");
}

#[test]
fn what_is_written_wrong_is_refused_with_what_would_be_right() {
    for (table, parts) in [
        (
            json!({"contain": "cat"}),
            &["no key `contain`", "did you mean `contains`?", "keys are contains, lacks, "][..],
        ),
        (json!({"temperature": 1}), &["no key `temperature`", "(the keys are"]),
        (json!({}), &["asks nothing"]),
        (json!({"name": "x", "not": true}), &["\"x\"", "asks nothing"]),
        (json!({"contains": ""}), &["`contains`", "none of them empty"]),
        (json!({"contains": []}), &["`contains`", "none of them empty"]),
        (json!({"contains": ["a", 1]}), &["`contains`", "list of texts"]),
        (json!({"contains": null}), &["`contains` is null"]),
        (json!({"equals": ["a"]}), &["`equals`", "a text"]),
        (json!({"ignore_case": true, "json": true}), &["`ignore_case` alone", "`regex`"]),
        (json!({"json": "yes"}), &["`json` is \"yes\"", "true or false"]),
        (json!({"min_words": -1}), &["`min_words` is -1", "whole number"]),
        (json!({"max_tokens": 1.5}), &["`max_tokens` is 1.5", "whole number"]),
        (json!({"min_words": 5, "max_words": 4}), &["at least 5 and at most 4"]),
        (json!({"box": [0, 0, 100]}), &["`box`", "[left, top, right, bottom]"]),
        (json!({"box": [0, 0, 1200, 100]}), &["`box`", "from 0 to 1000", "whatever its size in pixels"]),
        (json!({"box": [100, 0, 50, 100]}), &["left < right"]),
        (json!({"min_iou": 0.5, "json": true}), &["`min_iou` alone", "`box`"]),
        (json!({"label": "a", "json": true}), &["`label` alone", "`box`"]),
        (json!({"box": [0, 0, 1, 1], "min_iou": 1.5}), &["`min_iou`", "up to 1"]),
        (json!({"box": [0, 0, 1, 1], "min_iou": 0}), &["`min_iou`", "above 0"]),
        (json!({"json": true, "columns": []}), &["`columns`", "at least one"]),
        (json!({"json": true, "columns": "8B"}), &["`columns`", "list of names"]),
        (json!({"regex": "(a"}), &["`regex` cannot be used", "unclosed"]),
        (json!({"regex": "(?=a)"}), &["look-around"]),
        (json!({"json_schema": 3}), &["`json_schema` is 3"]),
        (json!({"json_schema": {"type": "cat"}}), &["no valid schema", "/type"]),
    ] {
        let error = refusal(table.clone());
        assert!(parts.iter().all(|part| error.contains(part)) && !error.contains('\n'), "{table}: {error}");
    }
    let error = toml::from_str::<File>("assertions = [{ box = [nan, 0, 1, 1] }]").unwrap_err().to_string();
    assert!(error.contains("`box`"), "{error}");
}

#[test]
fn patterns_that_explode_are_refused_or_stay_linear() {
    assert!(refusal(json!({"regex": r"(\w{1,100}){1,100}"})).contains("smaller counts"));
    assert!(refusal(json!({"regex": "a".repeat(5000)})).contains("5000 bytes"));
    // A backtracking engine takes 2^n steps for these.
    let start = Instant::now();
    let text = "a".repeat(20_000) + "!";
    for pattern in ["^(a+)+$", "^(a|aa)+$", "^(a|a?)+$", r"^(\w+\s?)*$"] {
        assert!(!check(json!({"regex": pattern}), &text).passed);
    }
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn huge_answers_are_not_looked_at_and_long_ones_cost_little() {
    let huge = "a ".repeat(MAX_ANSWER_BYTES / 2 + 1);
    for not in [false, true] {
        let verdict = check(json!({"contains": "a", "not": not}), &huge);
        assert!(!verdict.passed && verdict.why.contains("4194306 bytes"), "{verdict:?}");
    }
    let start = Instant::now();
    let long = "[".repeat(1 << 20);
    for table in [
        json!({"json": true}),
        json!({"box": [0, 0, 1, 1]}),
        json!({"json_schema": {}}),
        json!({"equals": "a"}),
        json!({"min_words": 1}),
        json!({"contains": "a", "ignore_case": true}),
    ] {
        let verdict = check(table, &long);
        assert!(!verdict.passed && verdict.why.len() < 300, "{}", verdict.why);
    }
    assert!(start.elapsed() < Duration::from_secs(5));
}

proptest! {
    #[test]
    fn any_table_is_read_or_refused_and_what_is_read_is_written_back(
        key in prop::sample::select(&table::KEYS[..]),
        other in prop::sample::select(&table::KEYS[..]),
        value in prop_oneof![
            any::<bool>().prop_map(Value::from), any::<i64>().prop_map(Value::from), any::<f64>().prop_map(Value::from),
            "\\PC{0,8}".prop_map(Value::from), Just(json!([0, 0, 10, 10])), Just(json!(["a"])), Just(json!({"type": "array"})),
        ],
        text in "\\PC{0,40}",
    ) {
        let table = json!({key: value.clone(), other: value});
        if let Ok(assertion) = serde_json::from_value::<Assertion>(table.clone()) {
            prop_assert_eq!(serde_json::to_value(&assertion).unwrap(), table);
            let verdict = assertion.check(&answer(&text));
            prop_assert!(verdict.why.ends_with('.') && !verdict.why.contains('\n'), "{}", verdict.why);
        }
    }

    #[test]
    fn not_turns_every_verdict_around(text in "[ab ]{0,6}") {
        let table = |not: bool| json!({"contains": "ab", "max_characters": 4, "not": not});
        prop_assert_ne!(check(table(false), &text).passed, check(table(true), &text).passed);
    }
}
