//! Room `compare`: the table of results.

use std::collections::{BTreeMap, HashMap};

use csv::{Terminator, WriterBuilder};

use super::words::reason;
use crate::compare::judge::Rating;
use crate::compare::result::{CellResult, Figures};
use crate::costs::write::safe;
use crate::error::{Error, Result};

/// So that spreadsheets read UTF-8.
const BYTE_ORDER_MARK: &str = "\u{feff}";

const BEFORE_VALUES: [&str; 3] = ["row", "repeat", "column"];
const AFTER_VALUES: [&str; 10] = [
    "prompt",
    "pictures",
    "answer",
    "reason",
    "error",
    "answered_by",
    "seed",
    "passed",
    "why_not",
    "mean_logprob",
];
const FIGURES: [&str; 12] = [
    "prompt_tokens",
    "reused_tokens",
    "image_tokens",
    "new_tokens",
    "ttft_ms",
    "vision_ms",
    "prefill_ms",
    "decode_ms",
    "prefill_tok_s",
    "decode_tok_s",
    "batch",
    "seen_from_here",
];
const LAST: [&str; 5] = ["reference_perplexity", "thumb", "stars", "note", "key"];

/// All results as CSV.
pub(super) fn table(results: &[CellResult], ratings: &HashMap<String, Rating>) -> Result<String> {
    let fail = |e: &dyn std::fmt::Display| Error::new("writing the table", e);
    let mut variables: Vec<&str> = Vec::new();
    let mut assertions: BTreeMap<usize, &str> = BTreeMap::new();
    for result in results {
        for (name, _) in &result.values {
            if !variables.contains(&name.as_str()) {
                variables.push(name);
            }
        }
        assertions.extend(result.verdicts.iter().map(|checked| (checked.number, checked.what.as_str())));
    }
    let mut writer = WriterBuilder::new().terminator(Terminator::CRLF).from_writer(Vec::new());
    writer.write_record(head(&variables, &assertions)).map_err(|e| fail(&e))?;
    for result in results {
        let line = line(result, &variables, &assertions, ratings.get(&result.key));
        writer.write_record(&line).map_err(|e| fail(&e))?;
    }
    let bytes = writer.into_inner().map_err(|e| fail(&e))?;
    Ok(BYTE_ORDER_MARK.to_owned() + &String::from_utf8(bytes).map_err(|e| fail(&e))?)
}

fn head(variables: &[&str], assertions: &BTreeMap<usize, &str>) -> Vec<String> {
    let own = || BEFORE_VALUES.iter().chain(&AFTER_VALUES).chain(&FIGURES).chain(&LAST);
    let mut head: Vec<String> = BEFORE_VALUES.map(str::to_owned).to_vec();
    head.extend(variables.iter().map(|name| {
        if own().any(|own| own == name) { format!("variable {name}") } else { (*name).to_owned() }
    }));
    head.extend(AFTER_VALUES.map(str::to_owned));
    head.extend(assertions.iter().map(|(number, what)| format!("assertion {}: {what}", number + 1)));
    head.extend(FIGURES.iter().chain(&LAST).map(|name| (*name).to_owned()));
    head
}

fn line(
    result: &CellResult,
    variables: &[&str],
    assertions: &BTreeMap<usize, &str>,
    rating: Option<&Rating>,
) -> Vec<String> {
    let text = |text: &str| safe(text).into_owned();
    let value = |wanted: &&str| {
        let found = result.values.iter().find(|(name, _)| name == wanted);
        found.map_or(String::new(), |(_, value)| text(value))
    };
    let verdict = |number: &usize| {
        let found = result.verdicts.iter().find(|checked| checked.number == *number);
        found.map_or("", |checked| yes_no(checked.verdict.passed)).to_owned()
    };
    let why_not: Vec<&str> = result
        .verdicts
        .iter()
        .filter(|checked| !checked.verdict.passed)
        .map(|checked| checked.verdict.why.as_str())
        .collect();
    let passed = match (result.verdicts.is_empty(), result.error.is_some()) {
        (true, false) => "",
        _ => yes_no(result.passed()),
    };
    let mut line = vec![(result.row + 1).to_string(), (result.repeat + 1).to_string(), text(&result.column)];
    line.extend(variables.iter().map(value));
    line.extend([
        text(&result.prompt),
        text(&result.pictures.join("; ")),
        text(&result.answer),
        reason(result).to_owned(),
        text(result.error.as_deref().unwrap_or_default()),
        text(&result.answered_by),
        shown(result.seed),
        passed.to_owned(),
        text(&why_not.join(" ")),
        shown(result.mean_logprob()),
    ]);
    line.extend(assertions.keys().map(verdict));
    line.extend(figures(&result.figures));
    line.extend([
        shown(result.reference.map(|reference| reference.perplexity)),
        shown(rating.and_then(|rating| rating.thumb)),
        shown(rating.and_then(|rating| rating.stars)),
        text(rating.map_or("", |rating| &rating.note)),
        result.key.clone(),
    ]);
    line
}

fn figures(f: &Figures) -> [String; 12] {
    let image_tokens =
        (!f.pictures.is_empty()).then(|| f.pictures.iter().map(|picture| picture.tokens).sum::<usize>());
    [
        shown(f.prompt_tokens),
        shown(f.reused_tokens),
        shown(image_tokens),
        shown(f.new_tokens),
        shown(f.ttft_ms),
        shown(f.vision_ms),
        shown(f.prefill_ms),
        shown(f.decode_ms),
        shown(f.prefill_tok_s),
        shown(f.decode_tok_s),
        shown(f.batch),
        yes_no(f.seen_from_here).to_owned(),
    ]
}

fn shown(value: Option<impl ToString>) -> String {
    value.map_or(String::new(), |value| value.to_string())
}

fn yes_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::judge::Verdict;
    use crate::compare::result::{Checked, ReferenceScore};

    fn read(text: &str) -> Vec<HashMap<String, String>> {
        let mut reader = csv::Reader::from_reader(text.trim_start_matches(BYTE_ORDER_MARK).as_bytes());
        let names: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
        let line = |record: csv::StringRecord| {
            names.iter().cloned().zip(record.iter().map(str::to_owned)).collect::<HashMap<_, _>>()
        };
        reader.records().map(|record| line(record.unwrap())).collect()
    }

    #[test]
    fn a_cell_is_a_line_with_its_values_verdicts_figures_and_rating() {
        let checked = |number, passed, why: &str| Checked {
            number,
            what: format!("rule {number}"),
            verdict: Verdict { passed, why: why.into() },
        };
        let first = CellResult {
            key: "k1".into(),
            column: "small".into(),
            values: vec![("thing".into(), "star".into()), ("row".into(), "7".into())],
            prompt: "Where, \"exactly\"?".into(),
            answer: "line 1\nline 2, 中文".into(),
            seed: Some(3),
            logprobs: vec![-1.0, -2.0],
            reference: Some(ReferenceScore { tokens: 1, mean_logprob: -1.0, perplexity: 2.5 }),
            verdicts: vec![checked(0, true, "It is."), checked(2, false, "It is not.")],
            ..CellResult::default()
        };
        let second = CellResult { row: 1, error: Some("gone".into()), ..first.clone() };
        let second = CellResult { key: "k2".into(), verdicts: vec![], ..second };
        let rating = Rating { thumb: Some(-1), stars: Some(2), note: "meh".into() };
        let text = csv_of(&[first, second], &HashMap::from([("k1".to_owned(), rating)]));
        let lines = read(&text);
        let cell = |line: usize, name: &str| lines[line][name].as_str();
        assert_eq!((cell(0, "row"), cell(0, "repeat"), cell(0, "column")), ("1", "1", "small"));
        assert_eq!((cell(0, "thing"), cell(0, "variable row")), ("star", "7"));
        assert_eq!(cell(0, "prompt"), "Where, \"exactly\"?");
        assert_eq!(cell(0, "answer"), "line 1\nline 2, 中文");
        assert_eq!((cell(0, "passed"), cell(0, "why_not")), ("no", "It is not."));
        assert_eq!((cell(0, "assertion 1: rule 0"), cell(0, "assertion 3: rule 2")), ("yes", "no"));
        assert_eq!((cell(0, "mean_logprob"), cell(0, "reference_perplexity")), ("-1.5", "2.5"));
        assert_eq!((cell(0, "thumb"), cell(0, "stars"), cell(0, "note")), ("-1", "2", "meh"));
        assert_eq!((cell(1, "row"), cell(1, "error"), cell(1, "passed")), ("2", "gone", "no"));
        assert_eq!((cell(1, "stars"), cell(1, "assertion 1: rule 0"), cell(0, "seed")), ("", "", "3"));
    }

    fn csv_of(results: &[CellResult], ratings: &HashMap<String, Rating>) -> String {
        let text = table(results, ratings).unwrap();
        assert!(text.starts_with("\u{feff}row,repeat,column,") && text.ends_with("\r\n"));
        text
    }

    #[test]
    fn no_text_becomes_a_formula_and_numbers_stay_numbers() {
        for text in
            ["=1+1", "+1+1", "-cmd|' /C calc'!A0", "@SUM(A1)", "\t=1+1", " =1", "＝1+1", "-inf", "- a list"]
        {
            assert_eq!(safe(text), format!("'{text}"));
        }
        for text in ["", "-5", "+0.5", "-1e3", "a=b", "'=1", "中文", "1-2"] {
            assert_eq!(safe(text), text);
        }
        let answer = CellResult { answer: "=HYPERLINK(\"x\")".into(), ..CellResult::default() };
        let text = csv_of(&[answer], &HashMap::new());
        assert_eq!(read(&text)[0]["answer"], "'=HYPERLINK(\"x\")");
    }
}
