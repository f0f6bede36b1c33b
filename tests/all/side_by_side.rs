//! Comparisons in the window, on the real engine with the demo model: run, rated, hidden, broken off and gone on with, made of a
//! chat and made into one.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use egui::{Key, Modifiers};
use egui_kittest::kittest::Queryable;
use ocelli::app::comparing::{Comparing, Filter};
use ocelli::app::{AnswerDetails, Places, Sample, details};
use ocelli::chat::message::Role;
use ocelli::compare::judge::Rating;
use ocelli::compare::{Comparison, Fields, read_results};

use crate::screenshots::Stage;

fn comparing(stage: &Stage) -> &Comparing {
    stage.state().comparing.as_deref().expect("there is a comparison")
}

fn comparing_mut(stage: &mut Stage) -> &mut Comparing {
    stage.harness.state_mut().state.comparing.as_deref_mut().expect("there is a comparison")
}

fn is_done(state: &ocelli::app::State) -> bool {
    state.comparing.as_ref().is_some_and(|c| c.plan.is_some() && !c.is_busy())
}

/// Opens the comparison with this text.
fn write(stage: &mut Stage, text: &str) {
    stage.harness.state_mut().show_comparison();
    let comparison = Comparison::parse(text).unwrap();
    comparing_mut(stage).replace(comparison, None);
    stage.harness.run_steps(2);
}

fn run(stage: &mut Stage) {
    stage.harness.state_mut().run_comparison();
    stage.wait_until("the comparison", is_done);
}

const COLOURS: &str = r#"
[shared]
prompt = "What colour is the {{thing}}?"
pictures = ["sample:shapes.png"]
temperature = 0.0
max_tokens = 24
[[columns]]
name = "plain"
[[columns]]
name = "sharp"
picture_size = 384
reference = "Blue."
[variables]
thing = ["star", "circle"]
[[assertions]]
regex = "(?i)blue|red"
"#;

#[test]
fn a_comparison_runs_in_the_window_shares_its_pictures_and_is_judged() {
    let mut stage = Stage::open();
    stage.press(Modifiers::COMMAND, Key::T);
    assert!(stage.state().shows_comparison);
    write(&mut stage, COLOURS);
    stage.click("Run 4 cells");
    stage.wait_until("the comparison", is_done);
    let comparing = comparing(&stage);
    assert_eq!(comparing.results.len(), 4);
    for result in comparing.results.values() {
        assert!(result.passed(), "{result:?}");
        assert_eq!(result.ids.len(), result.logprobs.len());
        assert!(result.mean_logprob().unwrap() <= 0.0);
        assert_eq!(result.reference.is_some(), result.column == "sharp");
    }
    let star = comparing.results.values().find(|r| r.column == "sharp" && r.prompt.contains("star")).unwrap();
    let circle =
        comparing.results.values().find(|r| r.column == "sharp" && r.prompt.contains("circle")).unwrap();
    assert!(star.answer.to_lowercase().contains("blue"), "{}", star.answer);
    let perplexity = |r: &ocelli::compare::CellResult| r.reference.unwrap().perplexity;
    assert!(perplexity(star) < perplexity(circle), "“Blue.” is likelier of the blue star");
    // Each size is encoded once, for both rows.
    let savings = comparing_mut(&mut stage).savings().unwrap();
    assert_eq!((savings.pictures, savings.shared_pictures), (4, 2), "{savings:?}");
    assert!(savings.reused_tokens > 0 && savings.saved_secs > 0.0);
    assert!(stage.harness.query_all_by_label_contains("4 of 4 hold").next().is_some());
    // What each token cost, of all columns; a reference is no part of it.
    let compared = stage.state().comparing.as_ref().unwrap();
    assert_eq!(compared.costs.len(), 4);
    for (number, costs) in &compared.costs {
        let ids: Vec<u32> = costs.tokens.iter().map(|token| token.id).collect();
        assert_eq!(ids, compared.results[number].ids);
        assert!(costs.tokens.iter().all(|token| token.times.end > 0));
    }
    stage.click("What each token cost, the columns beside each other");
    assert!(stage.harness.query_by_label_contains("Row 2: what every token cost").is_some());
    assert_eq!(stage.harness.unnamed_widgets(), Vec::<String>::new());
    stage.click("Close");
    assert!(stage.harness.query_by_label_contains("what every token cost").is_none());
}

#[test]
fn a_blind_reader_learns_whose_answers_are_when_all_of_a_row_are_rated() {
    let mut stage = Stage::open();
    write(&mut stage, COLOURS);
    run(&mut stage);
    comparing_mut(&mut stage).looking.blind = true;
    comparing_mut(&mut stage).looking.hide_editor = true;
    stage.harness.run_steps(3);
    let names = |stage: &Stage| ["plain", "sharp"].map(|name| stage.harness.query_all_by_label(name).count());
    assert_eq!(names(&stage), [0, 0], "no name is to be seen");
    stage.click("Good: 1");
    assert_eq!(comparing(&stage).ratings.len(), 1);
    // The last row, whose answers were clicked on last: the other of the two is rated.
    let rated = comparing(&stage).ratings.keys().next().unwrap().clone();
    let row = comparing(&stage).results.values().find(|r| r.key == rated).unwrap().row;
    let other =
        comparing(&stage).results.values().find(|r| r.row == row && r.key != rated).unwrap().key.clone();
    let down = Rating { thumb: Some(-1), ..Rating::default() };
    comparing_mut(&mut stage).rate(&other, down);
    stage.harness.run_steps(3);
    assert_eq!(names(&stage), [1, 1], "the row's names are shown, the other row's are not");
    let summary = comparing_mut(&mut stage).summary().unwrap();
    let wins: usize = summary.columns.iter().map(|c| c.record.wins).sum();
    assert_eq!(wins, 1);
    comparing_mut(&mut stage).looking.filter = Filter::Unrated;
    assert_eq!(comparing(&stage).groups().len(), 1);
    comparing_mut(&mut stage).looking.filter = Filter::Failing;
    assert_eq!(comparing(&stage).groups().len(), 0);
}

#[test]
fn an_answer_becomes_a_chat_that_goes_on_and_a_chat_becomes_a_comparison() {
    let mut stage = Stage::open();
    write(&mut stage, COLOURS);
    run(&mut stage);
    let number = *comparing(&stage).results.iter().find(|(_, r)| r.column == "sharp").unwrap().0;
    let answer = comparing(&stage).results[&number].answer.clone();
    stage.harness.state_mut().state.chat_of_cell(number).unwrap();
    stage.harness.run_steps(3);
    assert!(!stage.state().shows_comparison);
    let shown: Vec<(Role, String)> = stage.state().chat.shown().map(|e| (e.role, e.text.clone())).collect();
    assert_eq!(shown.len(), 2);
    assert_eq!(shown[1], (Role::Assistant, answer));
    assert!(stage.state().chat.settings.greedy && stage.state().chat.settings.choose_image_tokens);
    let question = stage.state().chat.shown().next().unwrap();
    assert_eq!(question.attachments.len(), 1);
    assert!(details::<AnswerDetails>(stage.state().chat.last().unwrap()).model.contains("demo"));
    // And back: the question with its picture, twice.
    stage.click("Test this question side by side, with all that comes before it");
    assert!(stage.state().shows_comparison);
    let c = comparing(&stage);
    assert_eq!(c.comparison.columns.len(), 2);
    assert_eq!(c.comparison.shared.prompt.as_deref(), Some(shown[0].1.as_str()));
    assert_eq!((c.memory.len(), c.comparison.shared.pictures.as_ref().map(Vec::len)), (1, Some(1)));
    comparing_mut(&mut stage).comparison.columns[1] = Fields { max_tokens: Some(1), ..Fields::default() };
    run(&mut stage);
    let c = comparing(&stage);
    let by_column: HashMap<&str, usize> =
        c.results.values().map(|r| (r.column.as_str(), r.ids.len())).collect();
    assert!(by_column["B"] == 1 && by_column["A"] > 1, "{by_column:?}");
    // Saved, its picture is a file.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.toml");
    stage.harness.state_mut().save_comparison(file.clone());
    stage.wait_until("the file", |_| file.exists());
    let saved = Comparison::read(&file).unwrap();
    let picture = &saved.shared.pictures.as_ref().unwrap()[0];
    assert!(folder.path().join(picture).is_file(), "{picture}");
}

fn places(folder: &Path) -> Places {
    Places { history: Some(folder.join("history.sqlite")), preferences: None }
}

#[test]
fn a_run_that_was_broken_off_is_there_at_the_next_start_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let many = format!("{COLOURS}\n[matrix]\nrepeats = 6").replace("temperature = 0.0", "temperature = 1.0");
    let mut stage = Stage::open_in(places(folder.path()));
    write(&mut stage, &many);
    stage.harness.state_mut().run_comparison();
    stage.wait_until("some cells", |state| state.comparing.as_ref().is_some_and(|c| c.results.len() >= 3));
    let results = folder.path().join("comparisons/last.results.jsonl");
    let before = read_results(&results).unwrap().cells;
    assert!(before.len() >= 3 && before.len() < 24, "{}", before.len());
    drop(stage);

    let mut stage = Stage::open_in(places(folder.path()));
    stage.harness.state_mut().show_comparison();
    stage.wait_until("what was there", |state| {
        state.comparing.as_ref().is_some_and(|c| c.plan.is_some() && !c.preparing && c.results.len() >= 3)
    });
    assert_eq!(comparing(&stage).comparison.matrix.repeats, 6);
    let missing = 24 - comparing(&stage).results.len();
    stage.click(&format!("Go on: {missing} cells are missing"));
    stage.wait_until("the rest", |state| {
        is_done(state) && state.comparing.as_ref().unwrap().results.len() == 24
    });
    drop(stage);
    let text = fs::read_to_string(&results).unwrap();
    let mut keys: Vec<String> = text
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|line| line["kind"] == "cell")
        .map(|line| line["key"].as_str().unwrap().to_owned())
        .collect();
    let all = keys.len();
    keys.sort();
    keys.dedup();
    assert_eq!((all, keys.len()), (24, 24), "each cell ran once");
}

#[test]
fn a_model_that_is_changed_in_the_middle_holds_the_run_and_costs_no_cell() {
    let mut stage = Stage::open();
    write(&mut stage, &format!("{COLOURS}\n[matrix]\nrepeats = 6"));
    stage.harness.state_mut().run_comparison();
    stage.wait_until("some cells", |state| state.comparing.as_ref().is_some_and(|c| c.results.len() >= 3));
    stage.harness.state_mut().open_model(ocelli::model::builtin::NAME.into());
    stage.wait_until("the model", |state| matches!(state.model, ocelli::app::ModelState::Ready(_)));
    assert!(comparing(&stage).run.as_ref().unwrap().is_paused());
    assert!(comparing(&stage).results.len() < 24);
    stage.click("Go on");
    stage.wait_until("the rest", |state| {
        is_done(state) && state.comparing.as_ref().unwrap().results.len() == 24
    });
    assert!(comparing(&stage).results.values().all(|result| result.error.is_none()));
}

#[test]
fn what_is_wrong_with_a_comparison_is_said_and_nothing_is_lost() {
    let mut stage = Stage::open();
    write(&mut stage, COLOURS);
    comparing_mut(&mut stage).assertion_lines.push("contain = \"x\"".into());
    comparing_mut(&mut stage).read_lines();
    stage.harness.run_steps(3);
    let problem = comparing(&stage).problem.as_ref().unwrap().to_string();
    assert!(problem.contains("line 2") && problem.contains("contain"), "{problem}");
    assert!(stage.harness.query_all_by_label_contains("reading the assertions").next().is_some());
    comparing_mut(&mut stage).assertion_lines.pop();
    comparing_mut(&mut stage).comparison.columns[1].pictures = Some(vec!["gone.png".into()]);
    comparing_mut(&mut stage).comparison.columns[0].recipe = None;
    comparing_mut(&mut stage).read_lines();
    run(&mut stage);
    let c = comparing(&stage);
    let failed = c.results.values().filter(|r| r.error.is_some()).count();
    assert_eq!((c.results.len(), failed), (4, 2), "the other column goes on");
    assert!(c.results.values().filter_map(|r| r.error.as_ref()).all(|e| e.contains("gone.png")));
    let sample = Sample::all().unwrap().remove(0);
    stage.harness.state_mut().state.shows_comparison = false;
    stage.ask_sample(&sample, "What colour is the star?");
}
