//! `ocelli compare`, run as a user runs it.

use std::collections::BTreeMap;
use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use ocelli::compare::Journal;
use ocelli::model::recipe::Recipe;
use serde_json::Value;

use crate::commands::{Place, Run, model};
use crate::support::loopback::*;

/// The lines of cells in a file of results.
#[track_caller]
fn cells(place: &Place, name: &str) -> Vec<Value> {
    let text = fs::read_to_string(place.path(name)).unwrap();
    assert!(text.ends_with('\n'), "whole lines");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["kind"] == "cell").collect()
}

/// Cells by column and row.
fn by_place(cells: &[Value]) -> BTreeMap<(String, u64), &Value> {
    let place = |cell: &Value| (cell["column"].as_str().unwrap().to_owned(), cell["row"].as_u64().unwrap());
    cells.iter().map(|cell| (place(cell), cell)).collect()
}

fn last_line(run: &Run) -> &str {
    run.stderr.lines().last().unwrap_or_default()
}

/// Runs it, which must end with 1 and a last line that begins as errors do.
#[track_caller]
fn fails(place: &Place, arguments: &[&str]) -> Run {
    let run = place.run(arguments);
    assert_eq!(run.status, Some(1), "{arguments:?}: {}", run.stderr);
    assert!(last_line(&run).starts_with("ocelli: "), "{}", run.stderr);
    run
}

#[test]
fn the_example_holds_what_it_asserts_and_leaves_results_a_report_and_a_table() {
    let place = Place::new();
    let always = ["compare", "example", "--out", "r.jsonl"];
    let run = place.fine(&[&always[..], &["--html", "r.html", "--csv", "r.csv"]].concat());
    assert_eq!(cells(&place, "r.jsonl").len(), 18);
    let table = run.text();
    assert!(table.starts_with("column ") && table.lines().count() == 7, "{table}");
    assert!(table.contains("describe, 192") && table.contains("3/3"), "{table}");
    assert!(run.stderr.contains("shared: "), "{}", run.stderr);
    let page = fs::read_to_string(place.path("r.html")).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>"));
    assert_eq!(page.matches("data:image/png;base64,").count(), 3, "each picture once");
    assert!(page.contains("Ran on ") && page.contains(" UTC") && page.contains("holds of 18 of 18 answers"));
    let table = fs::read_to_string(place.path("r.csv")).unwrap();
    let mut reader = csv::Reader::from_reader(table.trim_start_matches('\u{feff}').as_bytes());
    assert!(reader.headers().unwrap().iter().any(|name| name == "assertion 1: names what is there"));
    assert_eq!(reader.records().map(Result::unwrap).count(), 18);
    // Of results that are there, reports are made without running anything.
    let run = place.fine(&[&always[..], &["--html", "again.html", "--csv", "again.csv"]].concat());
    assert!(run.stderr.contains("18 of 18 cells are there already"), "{}", run.stderr);
    for (first, again) in [("r.html", "again.html"), ("r.csv", "again.csv")] {
        assert!(fs::read(place.path(first)).unwrap() == fs::read(place.path(again)).unwrap(), "{again}");
    }
    assert_eq!(cells(&place, "r.jsonl").len(), 18);
}

#[test]
fn an_assertion_that_fails_is_the_commands_error_and_references_have_a_perplexity() {
    let place = Place::new();
    let text = "[shared]\nprompt = \"Hello\"\ntemperature = 0\nmax_tokens = 4\nreference = \"Good day\"\n\
                [[columns]]\nname = \"a\"\n[[columns]]\nname = \"b\"\n\
                [[assertions]]\nname = \"says zzz\"\ncontains = \"zzz\"\ncolumns = [\"b\"]\n\
                [[assertions]]\nmax_tokens = 4\n";
    fs::write(place.path("c.toml"), text).unwrap();
    let model = model("mono", Recipe::Int8Hu);
    let run =
        fails(&place, &["compare", "c.toml", "--model", &model, "--out", "r.jsonl", "--html", "r.html"]);
    let last = last_line(&run);
    assert!(
        last.contains(
            "1 of 2 answers do not hold what is asserted; the first: row 1 of column b: says zzz: "
        ),
        "{last}"
    );
    let cells = cells(&place, "r.jsonl");
    let cells = by_place(&cells);
    let (a, b) = (cells[&("a".to_owned(), 0)], cells[&("b".to_owned(), 0)]);
    assert_eq!((a["verdicts"].as_array().unwrap().len(), b["verdicts"].as_array().unwrap().len()), (1, 2));
    assert_eq!((&b["verdicts"][0]["passed"], &b["verdicts"][1]["passed"]), (&false.into(), &true.into()));
    assert_eq!(a["reference"], b["reference"], "the same model, the same prompt");
    let perplexity = a["reference"]["perplexity"].as_f64().unwrap();
    assert!(perplexity > 1.0);
    assert!(run.text().contains(&format!("{perplexity:.3}")), "{}", run.text());
    let page = fs::read_to_string(place.path("r.html")).unwrap();
    assert!(page.contains("<strong>says zzz</strong>") && page.contains("class=\"row failing\""), "{page}");
}

#[test]
fn what_cannot_run_is_said_before_anything_runs() {
    let place = Place::new();
    let one = "[shared]\nprompt = \"{{a}}\"\nmax_tokens = 4\n[[columns]]\n";
    let cycle = format!("{one}[variables]\na = [\"{{{{b}}}}\"]\nb = [\"{{{{a}}}}\"]\n");
    for (text, word) in [
        (format!("{one}promt = \"x\"\n"), "line 5: unknown field `promt`"),
        (format!("{one}[matrix]\ncsv = \"none.csv\"\n"), "none.csv"),
        (format!("{one}[[assertions]]\ncontains = \"x\"\ncolumns = [\"Z\"]\n"), "a column \"Z\""),
        (cycle.clone(), "a → b → a: it holds itself"),
    ] {
        fs::write(place.path("c.toml"), text).unwrap();
        let run = fails(&place, &["compare", "c.toml", "--dry-run"]);
        assert!(last_line(&run).contains(word), "{}", last_line(&run));
    }
    fs::write(place.path("c.toml"), format!("{one}[variables]\na = [1]\n")).unwrap();
    fs::write(place.path("diary.txt"), "Dear diary\n").unwrap();
    for (more, word) in [
        (&["--out", "c.toml"][..], "c.toml"),
        (&["--out", "diary.txt"], "line 1 is no line of results"),
        (&["--html", "no/where.html"], "its folder does not exist"),
        (&["--out", "r.jsonl", "--csv", "./r.jsonl"], "--out and --csv name the same file"),
    ] {
        let run = fails(&place, &[&["compare", "c.toml"], more].concat());
        assert!(last_line(&run).contains(word), "{}", last_line(&run));
    }
    assert_eq!(fs::read_to_string(place.path("diary.txt")).unwrap(), "Dear diary\n");
    // Without --dry-run the cells with the cycle fail, each for itself.
    fs::write(place.path("c.toml"), cycle).unwrap();
    let model = model("mono", Recipe::Int8Hu);
    let run = fails(&place, &["compare", "c.toml", "--model", &model]);
    assert!(
        last_line(&run).contains("1 cells have no answer; the first: row 1 of column A: "),
        "{}",
        run.stderr
    );
}

#[test]
fn a_picture_that_is_missing_fails_its_own_cell_which_runs_again_when_it_is_there() {
    let place = Place::new();
    let text = "[shared]\nprompt = \"What is this?\"\npictures = [\"{{picture}}\"]\ntemperature = 0\nmax_tokens = 4\n\
                [[columns]]\n[variables]\npicture = [\"gone.png\", \"sample:cross.png\"]\n";
    fs::write(place.path("c.toml"), text).unwrap();
    let model = model("mono", Recipe::Int8Hu);
    let always = ["compare", "c.toml", "--model", &model, "--out", "r.jsonl", "--csv", "r.csv"];
    let run = fails(&place, &[&always[..], &["--html", "r.html"]].concat());
    assert!(
        last_line(&run).contains("1 cells have no answer; the first: row 1 of column A: "),
        "{}",
        run.stderr
    );
    let first = cells(&place, "r.jsonl");
    let first = by_place(&first);
    let error = first[&("A".to_owned(), 0)]["error"].as_str().unwrap();
    assert!(error.contains("gone.png"), "{error}");
    assert!(first[&("A".to_owned(), 1)].get("error").is_none());
    let page = fs::read_to_string(place.path("r.html")).unwrap();
    assert!(page.contains("<strong>No answer:</strong> reading the picture gone.png"), "{page}");
    fs::write(place.path("gone.png"), ocelli::compare::samples::picture("shapes.png").unwrap()).unwrap();
    let run = place.fine(&always);
    assert!(run.stderr.contains("1 of 2 cells are there already"), "{}", run.stderr);
    assert_eq!(cells(&place, "r.jsonl").len(), 3, "the error, the cell that was there, and the new one");
    let table = fs::read_to_string(place.path("r.csv")).unwrap();
    assert!(table.lines().count() == 3 && !table.contains("No such file"), "{table}");
}

#[test]
fn a_dry_run_says_what_each_column_asks_of_a_hundred_thousand_cells_within_seconds() {
    let place = Place::new();
    let numbers = |n: usize| (0..n).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    let text = format!(
        "[shared]\nprompt = \"\"\"Is {{{{a}}}}\nmore than {{{{b}}}}?\"\"\"\ntemperature = 0.7\n[[columns]]\nname = \"plain\"\n\
         [[columns]]\nname = \"served\"\nserver = \"http://127.0.0.1:9\"\nserver_model = \"big\"\n\
         [variables]\na = [{}]\nb = [{}]\n[matrix]\ncsv = \"v.csv\"\n",
        numbers(500),
        numbers(50)
    );
    fs::write(place.path("c.toml"), text).unwrap();
    fs::write(place.path("v.csv"), "c\n1\n2\n").unwrap();
    let start = Instant::now();
    let run = place.fine(&["compare", "c.toml", "--dry-run"]);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    assert!(run.stderr.contains("100000 cells: 2 columns × 50000 rows"), "{}", run.stderr);
    let told = run.text();
    for words in [
        "a: 0, 1, 2, 3, 4, 5, 6, 7, … (500 values)",
        "plain: asks the model of --model\n",
        "served: asks big at http://127.0.0.1:9\n",
        "Is 0\n",
        "more than 0?",
        "  temperature = 0.7\n",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
}

#[test]
fn the_example_of_the_guide_is_a_comparison() {
    let place = Place::new();
    let guide = include_str!("../../docs/guide/comparisons.md");
    let text = guide.split_once("```toml\n").unwrap().1.split_once("```").unwrap().0;
    fs::write(place.path("sizes.toml"), text).unwrap();
    let run = place.fine(&["compare", "sizes.toml", "--dry-run"]);
    assert!(run.stderr.contains("6 cells: 2 columns × 3 rows"), "{}", run.stderr);
    assert!(run.text().contains("  prompt = \"What colour is the star? One word.\"\n"), "{}", run.text());
}

#[test]
fn a_run_that_is_killed_goes_on_where_it_was_and_says_the_same_bit_for_bit() {
    const CELLS: usize = 120;
    let place = Place::new();
    let values = (0..CELLS / 4).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    // Drawn tokens: what is said must not depend on what runs beside it.
    let text = format!(
        "[shared]\nprompt = \"Say {{{{n}}}} and more.\"\ntemperature = 0.9\nmax_tokens = 24\n[[columns]]\n[[columns]]\nseed = 7\n\
         [variables]\nn = [{values}]\n[matrix]\nrepeats = 2\n"
    );
    fs::write(place.path("c.toml"), text).unwrap();
    let model = model("mono", Recipe::Int8Hu);
    let arguments = ["compare", "c.toml", "--model", &model, "--out", "r.jsonl"];
    let mut child = place.command(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    let done =
        || fs::read_to_string(place.path("r.jsonl")).unwrap_or_default().matches("\"kind\":\"cell\"").count();
    while done() < 20 {
        assert!(start.elapsed() < Duration::from_mins(2) && child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(5));
    }
    // SIGKILL: it has no time to tidy up.
    child.kill().unwrap();
    child.wait().unwrap();
    let before = done();
    assert!((20..CELLS).contains(&before), "{before} cells were done when it was killed");
    let run = place.fine(&arguments);
    let kept = format!(" of {CELLS} cells are there already");
    assert!(run.stderr.contains(&kept), "{}", run.stderr);
    let unbroken = ["compare", "c.toml", "--model", &model, "--out", "unbroken.jsonl"];
    let other = Journal::open(&place.path("unbroken.jsonl")).unwrap();
    let refused = fails(&place, &unbroken);
    assert!(last_line(&refused).contains("another run is writing it"), "{}", refused.stderr);
    drop(other);
    place.fine(&unbroken);

    let (broken, unbroken) = (cells(&place, "r.jsonl"), cells(&place, "unbroken.jsonl"));
    let keyed = |cells: &[Value]| -> BTreeMap<String, Value> {
        let of = |name: &str, cell: &Value| cell[name].clone();
        let all = cells.iter().map(|cell| {
            let told = ["answer", "ids", "logprobs", "seed", "reason", "row", "repeat", "column"];
            (cell["key"].as_str().unwrap().to_owned(), told.map(|name| of(name, cell)).to_vec().into())
        });
        all.collect()
    };
    assert_eq!((broken.len(), keyed(&broken).len()), (CELLS, CELLS), "every cell exactly once");
    assert_eq!(unbroken.len(), CELLS);
    assert!(keyed(&broken) == keyed(&unbroken), "bit for bit");
    assert!(broken.iter().any(|cell| cell["ids"] != broken[0]["ids"]), "they do say different things");
    let beginnings =
        fs::read_to_string(place.path("r.jsonl")).unwrap().matches("{\"kind\":\"begin\"").count();
    assert_eq!(beginnings, 2);
}

#[test]
fn recipes_of_one_model_take_turns_and_servers_answer_beside_them() {
    let place = Place::new();
    let served = Loopback::always(vec![
        stream_head(),
        Do::Send(format!("{}{}", word("A cat from afar."), ending("stop", 12, 5)).into_bytes()),
    ]);
    let broken = Loopback::always(vec![page("500 Internal Server Error", "text/plain", "", "out of order")]);
    let model = model("mono", Recipe::Int8Hu);
    let text = format!(
        "[shared]\nprompt = \"Say {{{{n}}}}\"\ntemperature = 0\nmax_tokens = 4\n\
         [[columns]]\nname = \"int8\"\nmodel = '{model}'\n\
         [[columns]]\nname = \"served\"\nserver = '{}'\nserver_model = \"big\"\n\
         [[columns]]\nname = \"full\"\nmodel = '{model}'\nrecipe = \"f32\"\n\
         [[columns]]\nname = \"broken\"\nserver = '{}'\nserver_model = \"big\"\n\
         [variables]\nn = [1, 2, 3]\n[[assertions]]\nlacks = \"zzz\"\n",
        served.url, broken.url
    );
    fs::write(place.path("c.toml"), text).unwrap();
    let run = fails(&place, &["compare", "c.toml", "--out", "r.jsonl"]);
    assert!(
        last_line(&run).contains("3 cells have no answer; the first: row 1 of column broken: "),
        "{}",
        run.stderr
    );
    let cells = cells(&place, "r.jsonl");
    assert_eq!(cells.len(), 12);
    let of = by_place(&cells);
    for row in 0..3 {
        let cell = |column: &str| of[&(column.to_owned(), row)];
        let by = |column: &str| cell(column)["answered_by"].as_str().unwrap().to_owned();
        assert!(
            by("int8").ends_with("(int8hu)") && by("full").ends_with("(f32)"),
            "{} {}",
            by("int8"),
            by("full")
        );
        assert_eq!(by("served"), format!("big at {}", served.url));
        assert_eq!(cell("served")["answer"], "A cat from afar.");
        assert_eq!(
            (&cell("served")["figures"]["new_tokens"], &cell("served")["ids"]),
            (&5.into(), &Value::Array(vec![]))
        );
        assert!(cell("broken")["error"].as_str().unwrap().contains("500"), "{}", cell("broken")["error"]);
        assert!(["int8", "full", "served"].iter().all(|column| cell(column).get("error").is_none()));
    }
    let question = served.last_question().json();
    assert!(question["messages"][0].to_string().contains("Say "), "{question}");
    // Each model's cells run together: the second is loaded once.
    let local: Vec<&str> = cells
        .iter()
        .filter_map(|cell| cell["column"].as_str().filter(|name| ["int8", "full"].contains(name)))
        .collect();
    assert_eq!(local, ["int8", "int8", "int8", "full", "full", "full"]);
}
