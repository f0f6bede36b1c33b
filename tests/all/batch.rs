//! `ocelli batch`, run as a user runs it.

use std::fs;

use ocelli::model::recipe::Recipe;
use serde_json::{Value, json};

use crate::commands::{Place, Run, model};
use crate::support::*;

fn lines(text: &str) -> Vec<Value> {
    assert!(text.ends_with('\n'), "whole lines: {text}");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn user(content: &Value) -> Value {
    json!({"role": "user", "content": content})
}

fn picture(name: &str) -> Value {
    json!({"type": "image", "image": fixtures().join("pictures").join(name)})
}

#[test]
fn a_batch_answers_each_line_as_it_would_be_answered_alone() {
    let place = Place::new();
    let model = model("mono", Recipe::Int8Hu);
    let greedy = ["--model", &model, "--greedy", "--max-tokens", "12"];
    let pictures = ["tiny.png", "small.png", "square.png", "wide.png"];
    let questions: Vec<Value> = (0..20)
        .map(|n| {
            let text = json!({"type": "text", "text": format!("Question {n}: what is this?")});
            json!([user(&json!([picture(pictures[n % 4]), text]))])
        })
        .collect();
    let file: String = questions
        .iter()
        .enumerate()
        .map(|(n, messages)| json!({"id": n, "messages": messages}).to_string() + "\n")
        .collect();
    fs::write(place.path("questions.jsonl"), file).unwrap();
    let run = place.fine(&[&["batch", "questions.jsonl"], &greedy[..]].concat());
    assert!(run.stderr.contains("20 lines, 20 answers in "), "{}", run.stderr);
    let answers = lines(run.text());
    assert_eq!(
        answers.iter().map(|a| a["id"].as_u64().unwrap()).collect::<Vec<_>>(),
        (0..20).collect::<Vec<_>>()
    );
    for n in [0, 7, 19] {
        fs::write(place.path("messages.json"), questions[n].to_string()).unwrap();
        let alone = place
            .fine(&[&["generate", "--messages", "messages.json", "--json"], &greedy[..]].concat())
            .json();
        assert_eq!(answers[n]["answers"], json!([alone["text"]]), "line {n}");
        assert_eq!(answers[n]["finish"], json!([alone["stop_reason"]]));
        assert_eq!(answers[n]["prompt_tokens"], alone["prompt_tokens"]);
        assert_eq!(answers[n]["new_tokens"], alone["ids"].as_array().unwrap().len());
        assert!(answers[n]["ttft_ms"].as_f64().unwrap() > 0.0 && answers[n].get("error").is_none());
    }
}

#[test]
fn follow_up_questions_of_a_line_see_the_answers_before_them() {
    let place = Place::new();
    let model = model("mono", Recipe::Int8Hu);
    let greedy = ["--model", &model, "--greedy", "--max-tokens", "8"];
    let first = user(&json!([picture("small.png"), {"type": "text", "text": "What is this?"}]));
    let (second, third) = (user(&json!("And what else?")), user(&json!("Are you sure?")));
    let line = json!({"id": {"any": ["thing"]}, "messages": [first, second, third], "split": "ignored"});
    fs::write(place.path("questions.jsonl"), line.to_string()).unwrap();
    // The answers go to the file, nothing to standard output.
    let run = place.fine(&[&["batch", "questions.jsonl", "--out", "answers.jsonl"], &greedy[..]].concat());
    assert_eq!(run.text(), "");
    let answers = lines(&fs::read_to_string(place.path("answers.jsonl")).unwrap());
    assert_eq!((answers.len(), &answers[0]["id"]), (1, &json!({"any": ["thing"]})));
    let said = |n: usize| json!({"role": "assistant", "content": answers[0]["answers"][n]});
    let told = json!([first, said(0), second, said(1), third]);
    fs::write(place.path("messages.json"), told.to_string()).unwrap();
    let alone =
        place.fine(&[&["generate", "--messages", "messages.json", "--json"], &greedy[..]].concat()).json();
    assert_eq!(answers[0]["answers"][2], alone["text"]);
    assert_eq!(answers[0]["finish"].as_array().unwrap().len(), 3);
}

#[test]
fn a_bad_line_gets_an_error_and_the_others_go_on() {
    let place = Place::new();
    let model = model("mono", Recipe::Int8Hu);
    let good = |id: u32| json!({"id": id, "messages": [user(&json!("Hello"))]}).to_string();
    let missing = json!({"id": "m", "messages": [user(&json!([{"type": "image", "image": "none.png"}]))]});
    fs::write(place.path("broken.png"), b"no picture").unwrap();
    let broken = json!({"id": "b", "messages": [user(&json!([{"type": "image", "image": "broken.png"}]))]});
    let text = [
        good(1).as_bytes(),
        b"{not json",
        b"\xff\xfe",
        missing.to_string().as_bytes(),
        b"",
        br#"{"id": 9, "messages": []}"#,
        b"[1]",
        broken.to_string().as_bytes(),
        good(2).as_bytes(),
    ]
    .join(&b'\n');
    fs::write(place.path("questions.jsonl"), text).unwrap();
    let arguments = ["batch", "questions.jsonl", "--model", &model, "--greedy", "--max-tokens", "4"];
    let run = place.run(&arguments);
    assert_eq!(run.status, Some(1), "{}", run.stderr);
    let last = run.stderr.lines().last().unwrap();
    assert!(last.starts_with("ocelli: answering the batch: 6 of 8 lines have an error ("), "{last}");
    let answers = lines(run.text());
    let ids: Vec<&Value> = answers.iter().map(|a| &a["id"]).collect();
    let (n, m, b) = (Value::Null, json!("m"), json!("b"));
    assert_eq!(ids, [&json!(1), &n, &n, &m, &json!(9), &n, &b, &json!(2)]);
    let error = |n: usize| answers[n]["error"].as_str().unwrap_or_else(|| panic!("line {n}: {}", answers[n]));
    for (n, word) in
        [(1, "line 2"), (2, "line 3"), (3, "none.png"), (4, "line 6"), (5, "line 7"), (6, "broken.png")]
    {
        assert!(error(n).contains(word), "{n}: {}", error(n));
        assert_eq!(answers[n]["answers"], json!([]));
    }
    assert_eq!(answers[0]["answers"], answers[7]["answers"]);
    assert!(answers[0].get("error").is_none());
}

#[test]
fn conversations_that_fill_the_cache_together_are_asked_again_alone() {
    let place = Place::new();
    let model = model("mono", Recipe::Int8Hu);
    let long = "word ".repeat(60);
    let text: String = (0..6)
        .map(|n| json!({"id": n, "messages": [user(&json!(format!("{n} {long}")))]}).to_string() + "\n")
        .collect();
    fs::write(place.path("questions.jsonl"), text).unwrap();
    let arguments =
        ["batch", "questions.jsonl", "--model", &model, "--greedy", "--max-tokens", "4", "--context", "576"];
    let run = place.fine(&arguments);
    let answers = lines(run.text());
    assert!(answers.len() == 6 && answers.iter().all(|a| a["new_tokens"] == 4), "{}", run.text());
}

#[test]
fn what_cannot_run_at_all_is_said_before_an_older_file_of_answers_is_touched() {
    let place = Place::new();
    let model = model("mono", Recipe::Int8Hu);
    fs::write(place.path("questions.jsonl"), json!({"messages": [user(&json!("Hi"))]}).to_string()).unwrap();
    fs::write(place.path("answers.jsonl"), "older").unwrap();
    fs::write(place.path("empty.jsonl"), "\n\n").unwrap();
    for (arguments, word) in [
        (vec!["none.jsonl", "--model", &model], "none.jsonl"),
        (vec!["empty.jsonl", "--model", &model], "there is no line in it"),
        (vec!["questions.jsonl", "--model", "none"], "no such folder"),
        (vec!["questions.jsonl", "--model", &model, "--out", "no/where.jsonl"], "its folder does not exist"),
        (
            vec!["questions.jsonl", "--model", &model, "--out", "./questions.jsonl"],
            "the file with the questions",
        ),
        (vec!["questions.jsonl", "--model", &model, "--max-tokens", "0"], "--max-tokens"),
        (vec!["questions.jsonl", "--model", &model, "--top-p", "7"], "top"),
    ] {
        let mut all = vec!["batch"];
        all.extend(&arguments);
        if !arguments.contains(&"--out") {
            all.extend(["--out", "answers.jsonl"]);
        }
        let run: Run = place.run(&all);
        assert_eq!(run.status, Some(1), "{arguments:?}: {}", run.stderr);
        let last = run.stderr.lines().last().unwrap();
        assert!(last.starts_with("ocelli: ") && last.contains(word), "{arguments:?}: {last}");
        assert_eq!(fs::read(place.path("answers.jsonl")).unwrap(), b"older");
    }
}
