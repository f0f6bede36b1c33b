//! What every token cost, in the window: coloured tokens, the timeline by mouse and keyboard, branches, files, the history.

use std::fs;
use std::time::{Duration, Instant};

use egui::{Key, Modifiers};
use egui_kittest::kittest::Queryable;
use ocelli::app::Outcome;
use ocelli::app::texts::{Language, set_language};
use ocelli::chat::tree::MessageId;
use ocelli::clock;
use ocelli::costs::colour::Metric;
use ocelli::costs::write::{Form, Plot};
use ocelli::engine::{AnswerEvent, Disturbance, StopReason, Summary, TokenEvent};
use ocelli::error::Error;
use ocelli::gpu::StepTimes;
use ocelli::model::sampler::TokenRecord;

use crate::played::*;
use crate::screenshots::Stage;

/// Ids of tokens whose texts are whole words, and the text of all of them.
fn words(count: usize) -> (Vec<u32>, String) {
    let tokenizer = tokenizer();
    let text = "No. The red circle is left of the blue star, and the green triangle is above it. ";
    let ids = tokenizer.encode_plain(text).unwrap();
    let ids: Vec<u32> = ids.iter().copied().cycle().take(count).collect();
    let text = tokenizer.decode(&ids, true);
    (ids, text)
}

/// The `n`-th token of an answer, ten milliseconds after the one before; another one was nearly as likely.
fn token_event(id: u32, n: u64, asked_ns: u64) -> AnswerEvent {
    let begin_ns = asked_ns + 20_000_000 + n * 10_000_000;
    let at = |ms: u64| begin_ns + ms * 1_000_000;
    let tokenizer = tokenizer();
    let text = String::from_utf8_lossy(tokenizer.token_bytes(id).unwrap()).into_owned();
    let times = StepTimes {
        recorded_ns: begin_ns - 2_000_000,
        submitted_ns: begin_ns - 1_000_000,
        begin_ns,
        mark_ns: at(7),
        end_ns: at(8),
        read_ns: at(9),
    };
    AnswerEvent::Token(Box::new(TokenEvent {
        text,
        record: TokenRecord {
            id,
            logprob: -0.25,
            index: 30 + u32::try_from(n).unwrap(),
            rank: 0,
            entropy: 0.9,
            alternatives: vec![(id, -0.25), (id + 1, -1.9)],
        },
        times,
        decoded_ns: at(9),
        bytes: 1_000_000,
        disturbance: Disturbance::default(),
        ends_prefill: n == 0,
        batch: 1,
        drafted: false,
        arrived: Instant::now(),
    }))
}

/// An answer of so many tokens, all at once.
fn answer(window: &mut Window, count: usize) -> (Vec<u32>, String) {
    let (ids, text) = words(count);
    window.type_text("What is it?");
    window.press_enter();
    let asked = clock::now_ns();
    {
        let script = window.engine.0.borrow();
        let events = &script.asks.last().unwrap().1;
        for (n, id) in (0..).zip(&ids) {
            events.send(token_event(*id, n, asked)).unwrap();
        }
        events.send(end(&ids, &text)).unwrap();
    }
    window.run();
    (ids, text)
}

fn end(ids: &[u32], text: &str) -> AnswerEvent {
    let AnswerEvent::Finished(summary) = summary(text, StopReason::End) else { panic!("no summary") };
    AnswerEvent::Finished(Box::new(Summary { ids: ids.to_vec(), ..*summary }))
}

fn last(window: &Window) -> MessageId {
    window.state().chat.last().unwrap().id
}

/// The panel is opened, the timeline has the keyboard.
fn open_timeline(window: &mut Window) {
    window.press(Modifiers::COMMAND, Key::J);
    window.harness.get_by_label_contains("Timeline of").focus();
    window.run();
}

#[test]
fn tokens_are_stepped_through_chosen_and_counted_by_keys() {
    let mut window = Window::ready();
    let (ids, text) = answer(&mut window, 40);
    assert_eq!(window.shown(), ["What is it?".to_owned(), text]);
    open_timeline(&mut window);
    assert!(window.see("Answer: 40 tokens, 100.00 tok/s, median 10.00 ms"));
    let press = |window: &mut Window, key, times: usize, modifiers| {
        for _ in 0..times {
            window.press(modifiers, key);
        }
    };
    press(&mut window, Key::ArrowRight, 4, Modifiers::NONE);
    assert!(window.see("token 4 chosen") && window.see("token 4"));
    assert!(window.see(&ids[3].to_string()) && window.see("77.9 %"));
    // Its way: recorded, waited, ran, was sampled, came back.
    for (name, time) in [("Recording", "1.00 ms"), ("Device", "8.00 ms"), ("Sampling", "1.00 ms")] {
        assert!(window.see(name) && window.see(time), "{name} {time}");
    }
    press(&mut window, Key::ArrowRight, 6, Modifiers::SHIFT);
    assert!(window.see("Selection: 7 tokens"));
    press(&mut window, Key::ArrowLeft, 2, Modifiers::SHIFT);
    assert!(window.see("Selection: 5 tokens, 100.00 tok/s"));
    press(&mut window, Key::ArrowDown, 1, Modifiers::NONE);
    assert!(window.see("token 18 chosen") && window.see("Answer: 40 tokens"));
    press(&mut window, Key::End, 1, Modifiers::NONE);
    assert!(window.see("token 40 chosen"));
    for key in [Key::W, Key::W, Key::A, Key::D, Key::S, Key::Plus, Key::Minus, Key::F, Key::Home] {
        press(&mut window, key, 1, Modifiers::NONE);
    }
    assert!(window.see("token 1 chosen"));
    press(&mut window, Key::Escape, 1, Modifiers::NONE);
    assert!(window.see("token 0 chosen"));
    // What is typed goes to the question again once that has the keyboard.
    window.harness.get_by_label("Question").focus();
    window.type_text("was");
    assert_eq!(window.draft(), "was");
}

#[test]
fn colours_replace_markdown_and_a_click_chooses_a_token() {
    let mut window = Window::ready();
    let (_, text) = answer(&mut window, 30);
    window.press(Modifiers::COMMAND, Key::J);
    assert!(!window.see("tokens of the answer"));
    for metric in Metric::ALL {
        window.harness.state_mut().preferences.colour_by = Some(metric);
        window.run();
        assert!(window.see("30 tokens of the answer"), "{metric:?}");
        assert!(window.see("Legend"), "{metric:?}");
    }
    let tokens = window.harness.get_by_label_contains("30 tokens of the answer");
    let at = tokens.rect().left_top() + egui::vec2(3.0, 8.0);
    window.harness.drag_at(at);
    window.harness.drop_at(at);
    window.run();
    assert!(window.see("token 1 chosen"), "a click on the first word");
    // With the keyboard on the text, arrows step too.
    window.press(Modifiers::NONE, Key::ArrowRight);
    assert!(window.see("token 2 chosen"));
    // A text that was changed is not made of its tokens any more.
    assert!(text.len() > 20);
    window.click("Change this answer; the old one stays beside it");
    window.type_text("!");
    window.click("Save");
    assert!(!window.see("tokens of the answer"));
}

#[test]
fn a_click_on_an_alternative_answers_anew_from_there() {
    let mut window = Window::ready();
    let (ids, _) = answer(&mut window, 12);
    open_timeline(&mut window);
    for _ in 0..6 {
        window.press(Modifiers::NONE, Key::ArrowRight);
    }
    let other = ids[5] + 1;
    let name = format!(
        "Answer anew from here with “{}”",
        String::from_utf8_lossy(tokenizer().token_bytes(other).unwrap()).replace(' ', "·")
    );
    window.click(&name);
    assert_eq!(window.asked(), 2);
    let request = window.engine.0.borrow().asks[1].0.clone();
    let mut begins = ids[..5].to_vec();
    begins.push(other);
    assert_eq!(request.answer_ids, begins);
    let start = tokenizer().decode(&begins, true);
    assert_eq!(window.shown()[1], start, "what was there stays on the screen");
    let asked = clock::now_ns();
    window.say(token_event(ids[0], 0, asked));
    let rest = String::from_utf8_lossy(tokenizer().token_bytes(ids[0]).unwrap()).into_owned();
    window.say(end(&ids[..1], &rest));
    assert_eq!(window.shown()[1], format!("{start}{rest}"));
    assert!(window.see("2/2"), "both versions are there");
    // The tokens before are the other answer's; the chosen one says so.
    window.harness.state_mut().preferences.colour_by = Some(Metric::Probability);
    window.run();
    assert!(window.see("7 tokens of the answer"));
    window.harness.get_by_label_contains("Timeline of").focus();
    window.run();
    for _ in 0..6 {
        window.press(Modifiers::NONE, Key::ArrowRight);
    }
    assert!(window.see("Chosen by you"));
}

#[test]
fn what_answers_cost_outlives_the_window() {
    let folder = tempfile::tempdir().unwrap();
    {
        let mut window = Window::open_in(folder.path()).with_model();
        answer(&mut window, 25);
    }
    let mut window = Window::open_in(folder.path()).with_model();
    window.wait_until(|state| state.list.len() == 1);
    window.click("What is it?");
    window.wait_until(|state| state.chat.shown().count() == 2);
    window.press(Modifiers::COMMAND, Key::J);
    let id = last(&window);
    window.wait_until(|state| !state.costs_of(id).is_empty());
    assert!(window.see("Answer: 25 tokens, 100.00 tok/s"));
    let state = window.state();
    let costs = state.costs_of(id);
    assert_eq!((costs[0].model.as_str(), costs[0].tokens.len()), ("tiny", 25));
    assert!(costs[0].tokens.iter().all(|token| token.times.painted > 0), "painted, and kept");
    // Of an answer that was there before anything was kept there is nothing, and that is said.
    window.press(Modifiers::COMMAND, Key::N);
    window.exchange("one", "1");
    window.run();
    assert!(window.see("Nothing is known of what this answer cost"));
}

#[test]
fn an_answer_that_goes_on_after_a_restart_keeps_what_its_beginning_cost() {
    let folder = tempfile::tempdir().unwrap();
    let text = {
        let mut window = Window::open_in(folder.path()).with_model();
        answer(&mut window, 25).1
    };
    {
        let mut window = Window::open_in(folder.path()).with_model();
        window.wait_until(|state| state.list.len() == 1);
        window.click("What is it?");
        window.wait_until(|state| state.chat.shown().count() == 2);
        // Nobody has looked at what it cost: it is not in memory.
        window.press(Modifiers::COMMAND.plus(Modifiers::SHIFT), Key::Enter);
        assert_eq!(window.asked(), 1);
        let (ids, more) = words(4);
        let asked = clock::now_ns();
        for (n, id) in (0..).zip(&ids) {
            window.say(token_event(*id, n, asked));
        }
        window.say(end(&ids, &more));
        assert_eq!(window.shown()[1], format!("{text}{more}"));
        window.press(Modifiers::COMMAND, Key::J);
        let id = last(&window);
        window.wait_until(|state| state.costs_of(id).len() == 2);
    }
    let mut window = Window::open_in(folder.path()).with_model();
    window.wait_until(|state| state.list.len() == 1);
    window.click("What is it?");
    window.wait_until(|state| state.chat.shown().count() == 2);
    window.press(Modifiers::COMMAND, Key::J);
    let id = last(&window);
    window.wait_until(|state| state.costs_of(id).len() == 2);
    let tokens: Vec<usize> = window.state().costs_of(id).iter().map(|costs| costs.tokens.len()).collect();
    assert_eq!(tokens, [25, 4]);
    assert_eq!(window.state().costs_of(id)[1].start_bytes as usize, text.len());
}

#[test]
fn costs_are_written_to_files_and_what_cannot_be_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let mut window = Window::ready();
    answer(&mut window, 10);
    let id = last(&window);
    for (form, name) in [
        (Form::Trace, "a.json"),
        (Form::Csv, "a.csv"),
        (Form::JsonLines, "a.jsonl"),
        (Form::Svg(Plot::Latency), "a.svg"),
    ] {
        let to = folder.path().join(name);
        window.harness.state_mut().export_costs(form, &[id], to.clone());
        window.wait_until(|state| state.notices.iter().any(|notice| notice.text.contains(name)));
        assert!(fs::metadata(to).unwrap().len() > 300, "{name}");
    }
    let nowhere = folder.path().join("no/such/folder/a.csv");
    window.harness.state_mut().export_costs(Form::Csv, &[id], nowhere);
    window.wait_until(|state| state.notices.iter().any(|notice| notice.is_error));
    assert!(window.see("is the folder still there?"));
}

#[test]
fn the_panel_is_written_as_a_picture() {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = Stage::open();
    stage.type_text("What do you know?");
    stage.press(Modifiers::NONE, Key::Enter);
    stage.wait_until("an answer", |state| {
        state.progress().is_none()
            && state.chat.last().is_some_and(|last| !state.costs_of(last.id).is_empty())
    });
    stage.press(Modifiers::COMMAND, Key::J);
    let to = folder.path().join("panel.png");
    stage.harness.state_mut().picture_of_costs(to.clone());
    stage.wait_until("the picture", |state| state.notices.iter().any(|n| n.text.contains("panel.png")));
    let picture = image::open(to).unwrap();
    assert!(picture.width() > 600 && (150..500).contains(&picture.height()), "{:?}", picture.height());
    let colours: std::collections::HashSet<[u8; 4]> = picture.to_rgba8().pixels().map(|p| p.0).collect();
    assert!(colours.len() > 20, "there is something on it");
}

#[test]
fn a_look_inside_is_asked_for_with_the_tokens_and_its_error_is_read() {
    let mut window = Window::ready();
    let (ids, _) = answer(&mut window, 8);
    open_timeline(&mut window);
    window.press(Modifiers::NONE, Key::ArrowRight);
    window.press(Modifiers::NONE, Key::ArrowRight);
    window.click("Inside");
    assert_eq!(window.asked(), 2);
    let step = window.engine.0.borrow().asks[1].0.inside.clone().unwrap();
    assert_eq!((step.answer.to_vec(), step.token), (ids, 1));
    window.say(AnswerEvent::Failed(Error::new("looking inside an answer", "it does not fit")));
    assert!(window.see("it does not fit"));
    window.click("Try again");
    assert_eq!(window.asked(), 3);
    assert!(matches!(window.state().looking.as_ref().unwrap().outcome, Outcome::Running(_)));
}

#[test]
fn every_control_of_the_panel_has_a_name_in_both_languages() {
    let mut window = Window::ready();
    answer(&mut window, 20);
    answer(&mut window, 20);
    open_timeline(&mut window);
    window.press(Modifiers::NONE, Key::ArrowRight);
    window.harness.state_mut().preferences.colour_by = Some(Metric::Latency);
    for language in [Language::English, Language::German] {
        set_language(&window.harness.ctx, language);
        window.run();
        for plot in Plot::ALL {
            window.harness.state_mut().choose_plot(plot);
            window.run();
            assert_eq!(window.harness.unnamed_widgets(), Vec::<String>::new(), "{plot:?}");
        }
        for page in [["Timeline", "Zeitachse"], ["Kernels", "Kernel"], ["Inside", "Innen"]] {
            window.click(page[usize::from(language == Language::German)]);
            assert_eq!(window.harness.unnamed_widgets(), Vec::<String>::new(), "{page:?}");
        }
    }
}

#[test]
fn a_hundred_thousand_tokens_are_looked_at_from_end_to_end() {
    let mut window = Window::ready();
    answer(&mut window, 100_000);
    open_timeline(&mut window);
    assert!(window.see("Answer: 100,000 tokens"));
    window.harness.state_mut().preferences.colour_by = Some(Metric::Probability);
    window.press(Modifiers::NONE, Key::End);
    assert!(window.see("token 100000 chosen"));
    // Only what is in sight is laid out.
    let shown = window.harness.query_all_by_label_contains("tokens of the answer").count();
    assert!((1..20).contains(&shown), "{shown} blocks");
    frames(&mut window, "zoomed in by and by");
}

/// Frames while the timeline is zoomed and moved; their times are printed for who runs the tests with `--nocapture`.
#[expect(clippy::print_stdout, reason = "figures for who wants them")]
fn frames(window: &mut Window, what: &str) {
    let mut times = Vec::new();
    for n in 0..40 {
        let key = [Key::W, Key::A, Key::D, Key::W][n % 4];
        window.harness.key_press(key);
        let start = Instant::now();
        window.harness.step();
        times.push(start.elapsed());
    }
    times.sort();
    let (median, longest): (Duration, Duration) = (times[20], times[39]);
    println!("{what}: median {median:?}, longest {longest:?}");
}
