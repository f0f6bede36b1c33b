//! Servers elsewhere through the window: added, asked for their models, chosen, asked; and never a key where none belongs.

use std::io::Write;
use std::sync::{Arc, Mutex};

use egui::{Key as Press, Modifiers};
use egui_kittest::kittest::Queryable;
use ocelli::app::texts::Language;
use ocelli::app::{AnswerDetails, Obstacle, Places, Preferences, details};
use ocelli::chat::transfer::Format;
use ocelli::chat::tree::MessageState;
use ocelli::engine::StopReason;
use ocelli::error::{Error, Result};
use ocelli::remote::{Key, KeyStore, Keys, Server, ServerModel};
use serde_json::json;

use crate::played::*;
use crate::support::loopback::*;

const SECRET: &str = "sk-very-secret-0123";

fn models() -> Do {
    let body =
        r#"{"data":[{"id":"Qwen3-VL-235B","owned_by":"vllm"},{"id":"Qwen3-VL-8B","owned_by":"vllm"}]}"#;
    page("200 OK", "application/json", "", body)
}

/// A server with two models that answers with these steps.
fn cluster(answer: Vec<Do>) -> Loopback {
    Loopback::start(move |seen, _| if seen.line.starts_with("GET") { vec![models()] } else { answer.clone() })
}

fn saying(text: &str) -> Vec<Do> {
    vec![stream_head(), Do::Send(format!("{}{}", word(text), ending("stop", 1200, 7)).into_bytes())]
}

/// A window without a model, whose chat's answers come from this server.
fn connected(server: &Loopback) -> Window {
    connected_with(server, Places::default())
}

fn connected_with(server: &Loopback, places: Places) -> Window {
    let cluster = Server { software: Some("vllm".into()), ..Server::new("Cluster", &server.url).unwrap() };
    let model = ServerModel { base_url: cluster.base_url.clone(), model: "Qwen3-VL-235B".into() };
    let mut window =
        Window::open_with(places, Preferences { servers: vec![cluster], ..Preferences::default() });
    window.harness.state_mut().state.chat.settings.answers_from = Some(model);
    window.run();
    window
}

fn answered(window: &mut Window) {
    window.wait_until(|state| state.progress().is_none());
}

#[test]
fn a_server_is_added_listed_chosen_and_answers_about_a_picture() {
    let server = cluster(saying("A cat from afar."));
    let mut window = Window::open();
    window.press(Modifiers::COMMAND, Press::Comma);
    window.click_last("Servers…");
    assert!(window.see("No server has been added yet."));
    assert!(window.see("Text and pictures of a chat go to the server that you choose for it"));
    window.click("Add a server");
    for (field, text) in [("Server's name", "Cluster"), ("Address", &server.url), ("Key", SECRET)] {
        window.harness.get_by_label(field).focus();
        window.run();
        window.type_text(text);
    }
    assert_eq!(window.harness.unnamed_widgets(), Vec::<String>::new());
    assert!(window.harness.query_all_by_value(SECRET).next().is_none(), "screen readers do not read the key");
    assert!(window.harness.query_all_by_value("Cluster").next().is_some());
    window.click("List models");
    window.wait_until(|state| {
        state.elsewhere.lists.values().all(|list| !matches!(list, ocelli::app::ModelList::Asked(_)))
    });
    assert!(window.see("It has 2 models: Qwen3-VL-235B, Qwen3-VL-8B"));
    window.click("Save");
    window.wait_until(|state| state.elsewhere.servers.iter().all(|server| server.has_key));
    assert!(window.see("Its key is in the keyring."));
    window.click_last("Close");

    assert_eq!(window.state().cannot_ask(), Some(Obstacle::NoModel));
    window.click("Where answers come from");
    window.click("Cluster");
    assert_eq!(window.state().cannot_ask(), Some(Obstacle::NoServerModel));
    window.click("The server's model");
    window.click("Qwen3-VL-235B");
    assert_eq!(window.state().cannot_ask(), None);
    assert!(window.see("Answers come from Cluster"));
    // The list of models may still be on its way; nothing moves from under the pointer when it comes.
    assert!(window.see("Qwen3-VL-235B on Cluster"), "the top bar says it");
    assert_eq!(window.harness.unnamed_widgets(), Vec::<String>::new());
    window.press(Modifiers::COMMAND, Press::Comma);

    let (_folder, path) = picture_file();
    let file = std::fs::read(&path).unwrap();
    window.harness.state_mut().add_pictures(vec![path]);
    window.wait_until(|state| !state.chat.draft.is_reading());
    assert!(
        window.see("40×30") && !window.see("tokens of a context"),
        "what a picture costs there is not known"
    );
    window.harness.get_by_label("Question").focus();
    window.run();
    window.type_text("What is it?");
    window.press_enter();
    answered(&mut window);
    assert_eq!(window.shown(), ["What is it?", "A cat from afar."]);
    assert!(window.see("7 tokens") && window.see("prompt of 1,200 tokens") && window.see("seen from here"));
    assert_eq!(window.asked(), 0, "the engine of this machine was not asked");
    let asked = server.last_question();
    assert_eq!(asked.header("authorization"), Some(format!("Bearer {SECRET}").as_str()));
    let content = &asked.json()["messages"][0]["content"];
    use base64::Engine as _;
    let url = format!("data:image/png;base64,{}", base64::engine::general_purpose::STANDARD.encode(file));
    assert_eq!(content[0], json!({"type": "image_url", "image_url": {"url": url}}), "the file as it is");
    assert_eq!(content[1], json!({"type": "text", "text": "What is it?"}));
    assert_eq!(asked.json().get("temperature"), None, "sampling is left to the server until it is changed");
    let about: AnswerDetails = details(window.state().chat.last().unwrap());
    assert_eq!((about.model.as_str(), about.server.as_str()), ("Qwen3-VL-235B", "Cluster"));
    assert!(about.figures.is_none() && about.sampling.is_none());
}

#[test]
fn sampling_is_the_servers_until_it_is_taken_over_and_images_and_stops_are_as_set() {
    let server = cluster(saying("x"));
    let mut window = connected(&server);
    window.press(Modifiers::COMMAND, Press::Comma);
    let ask = |window: &mut Window| {
        window.harness.get_by_label("Question").focus();
        window.run();
        window.type_text("Hello?");
        window.press_enter();
        answered(window);
        server.last_question().json()
    };
    assert_eq!(ask(&mut window).get("temperature"), None);
    window.click("Leave it to the server how tokens are chosen");
    assert_eq!(ask(&mut window)["temperature"], json!(0.0));
    window.click("Sample");
    window.harness.state_mut().state.chat.settings.stop_lines = "END".into();
    window.harness.state_mut().state.chat.settings.choose_image_tokens = true;
    let asked = ask(&mut window);
    assert_eq!((&asked["temperature"], &asked["stop"]), (&json!(1.0), &json!(["END"])));
    assert!(asked["seed"].is_u64(), "each answer has its own");
    window.click("Leave it to the server how tokens are chosen");
    assert_eq!(ask(&mut window).get("seed"), None);
    let names: Vec<String> = asked.as_object().unwrap().keys().cloned().collect();
    assert!(names.iter().all(|name| !name.contains("pixels") && !name.contains("tokens")), "{names:?}");
}

#[test]
fn nothing_is_sent_before_it_is_asked_for() {
    let server = cluster(saying("x"));
    let mut window = connected(&server);
    window.press(Modifiers::COMMAND, Press::Comma);
    window.click_last("Servers…");
    window.click("Change Cluster");
    window.click("Cancel");
    window.click_last("Close");
    window.type_text("not yet");
    window.run();
    assert_eq!(server.seen().len(), 0);
    window.click("The server's model");
    server.wait();
    assert_eq!(server.seen()[0].line, "GET /v1/models");
    window.wait_until(|state| !state.is_busy());
    window.run();
    assert_eq!(server.seen().len(), 1, "it is asked once each time it is opened");
}

#[test]
fn an_answer_from_afar_is_stopped_asked_again_and_gone_on_with() {
    let steps = |text: &str| vec![stream_head(), Do::Send(word(text).into_bytes())];
    let server = Loopback::start(move |seen, _| {
        let json = seen.json();
        if json.get("continue_final_message").is_some() {
            return saying(" upon a time");
        }
        let mut begun = steps("Once");
        begun.push(Do::Hang);
        begun
    });
    let mut window = connected(&server);
    window.type_text("Tell");
    window.press_enter();
    window.wait_until(|state| state.chat.last().is_some_and(|last| last.text == "Once"));
    assert!(window.see("Coming in, pieces: 1") && window.see("seen from here"));
    window.click("Stop");
    answered(&mut window);
    assert_eq!(window.state().chat.last().unwrap().state, MessageState::Stopped);
    assert!(window.see("stopped"));
    window.click("Go on with the answer");
    answered(&mut window);
    assert_eq!(window.shown(), ["Tell", "Once upon a time"]);
    let asked = server.last_question().json();
    assert_eq!(asked["messages"][1], json!({"role": "assistant", "content": "Once"}));
    window.click("Another answer to the same question, beside this one");
    window.wait_until(|state| state.chat.last().is_some_and(|last| last.text == "Once"));
    window.click("Stop");
    answered(&mut window);
    assert!(window.see("2/2"));

    // A server of which it is not known.
    window.harness.state_mut().state.elsewhere.servers[0].software = None;
    let questions = || server.seen().iter().filter(|seen| seen.line.starts_with("POST")).count();
    let before = questions();
    window.click("Go on with the answer");
    assert!(window.see("it is not known whether this server can go on"));
    assert_eq!((questions(), window.shown()), (before, vec!["Tell".to_owned(), "Once".to_owned()]));
}

#[test]
fn errors_are_shown_where_they_happen_and_what_came_stays() {
    let page = page("404 Not Found", "application/json", "", r#"{"error":{"message":"no such model"}}"#);
    let server = cluster(vec![page]);
    let mut window = connected(&server);
    window.type_text("Hello?");
    window.press_enter();
    answered(&mut window);
    assert!(window.see("it knows no such address or model (404): no such model"));
    assert_eq!(window.draft(), "Hello?", "the question is there to send again");

    let server = cluster(vec![stream_head(), Do::Send(word("Half an").into_bytes()), Do::Reset]);
    let mut window = connected(&server);
    window.type_text("Hello?");
    window.press_enter();
    answered(&mut window);
    assert_eq!(window.shown(), ["Hello?", "Half an"]);
    assert_eq!(window.state().chat.last().unwrap().state, MessageState::Failed);
    assert!(window.see("cut"));

    // A list of models that cannot be had.
    let refusing =
        Loopback::always(vec![crate::support::loopback::page("401 Unauthorized", "text/plain", "", "")]);
    let mut window = connected(&refusing);
    window.press(Modifiers::COMMAND, Press::Comma);
    window.click("The server's model");
    window.wait_until(|state| !state.is_busy());
    assert!(window.see("it wants a key (401)"));
}

/// What is logged on this thread.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn errors_that_quote_what_was_written_are_shown_whole_and_logged_without_it() {
    const WRITTEN: &str = "private words 7391";
    let logged = Logged::default();
    let own = logged.clone();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
    let _logging = tracing::subscriber::set_default(subscriber.with_writer(move || own.clone()).finish());
    let said = json!({"error": {"message": format!("no answer to: {WRITTEN}")}});
    let refusal = page("400 Bad Request", "application/json", "", &said.to_string());
    let in_stream = [word("Half"), event(&said)].concat();
    for answer in [vec![refusal], vec![stream_head(), Do::Send(in_stream.into_bytes())]] {
        let server = cluster(answer);
        let mut window = connected(&server);
        window.type_text(WRITTEN);
        window.press_enter();
        answered(&mut window);
        assert!(window.see(&format!("no answer to: {WRITTEN}")), "the window shows it whole");
    }

    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let comparison = file("c.toml", format!("[[columns]]\nprompt = \"x\"\nmax_tokens = \"{WRITTEN}\"\n"));
    let chat = file("c.json", format!("[{{\"role\": \"{WRITTEN}\", \"content\": \"x\"}}]"));
    let mut window = Window::open();
    let shown = |state: &ocelli::app::State| state.notices.iter().any(|notice| notice.text.contains(WRITTEN));
    window.harness.state_mut().open_comparison(comparison);
    window.wait_until(shown);
    window.harness.state_mut().state.notices.clear();
    window.harness.state_mut().import(chat);
    window.wait_until(shown);

    let log = String::from_utf8(logged.0.lock().unwrap().clone()).unwrap();
    for told in ["asking the server Cluster:", "reading the comparison", "c.toml", "c.json"] {
        assert!(log.contains(told), "{told} is not in the log: {log}");
    }
    assert!(!log.contains("7391"), "{log}");
}

#[test]
fn a_chat_whose_server_is_gone_says_so_and_can_come_home() {
    let server = cluster(saying("x"));
    let mut window = connected(&server).with_model();
    window.press(Modifiers::COMMAND, Press::Comma);
    window.click_last("Servers…");
    window.click("Remove Cluster");
    window.click("Remove Cluster and its key");
    window.click_last("Close");
    window.harness.get_by_label("Question").focus();
    window.run();
    window.type_text("Hello?");
    window.press_enter();
    assert!(window.see("This chat's server is not there any more"));
    assert_eq!((server.seen().len(), window.asked()), (0, 0));
    window.click("Where answers come from");
    window.click_last("This machine");
    window.harness.get_by_label("Question").focus();
    window.run();
    window.press_enter();
    assert_eq!(window.asked(), 1);
}

#[test]
fn a_model_that_is_opened_here_leaves_answers_from_afar_alone() {
    let server = cluster(vec![stream_head(), Do::Send(word("Once").into_bytes()), Do::Hang]);
    let mut window = connected(&server);
    window.type_text("Tell");
    window.press_enter();
    window.wait_until(|state| state.chat.last().is_some_and(|last| last.text == "Once"));
    let window = window.with_model();
    assert!(window.state().progress().is_some_and(|progress| !progress.stopping));
}

#[test]
fn thoughts_are_shown_beside_the_answer() {
    let thought = event(&json!({"choices": [{"delta": {"reasoning_content": "Whiskers, so a cat."}}]}));
    let stream = format!("{thought}{}{}", word("A cat."), ending("stop", 1, 9));
    let server = cluster(vec![stream_head(), Do::Send(stream.into_bytes())]);
    let mut window = connected(&server);
    window.type_text("What?");
    window.press_enter();
    answered(&mut window);
    assert_eq!(window.shown(), ["What?", "A cat."]);
    assert!(!window.see("Whiskers"));
    window.click("Thoughts");
    assert!(window.see("Whiskers, so a cat."));
}

struct NoKeyring;

impl KeyStore for NoKeyring {
    fn get(&self, _: &str) -> Result<Option<Key>> {
        Err(Error::new("getting the server's key", "this system's keyring cannot be reached"))
    }

    fn set(&self, _: &str, _: Option<&Key>) -> Result<()> {
        Err(Error::new(
            "putting the server's key into the keyring",
            "this system's keyring cannot be reached",
        ))
    }
}

#[test]
fn without_a_keyring_the_key_is_kept_for_this_run_and_that_is_said() {
    let server = cluster(saying("Yes"));
    let mut window = connected(&server);
    window.harness.state_mut().state.elsewhere.keys = Keys::new(Arc::new(NoKeyring));
    window.press(Modifiers::COMMAND, Press::Comma);
    window.click_last("Servers…");
    window.click("Change Cluster");
    window.harness.get_by_label("Key").focus();
    window.run();
    window.type_text(SECRET);
    window.click("Save");
    window.wait_until(|state| !state.is_busy());
    assert!(window.see("Its key is kept until the program ends only"));
    window.click_last("Close");
    window.harness.get_by_label("Question").focus();
    window.run();
    window.type_text("Hello?");
    window.press_enter();
    answered(&mut window);
    assert_eq!(server.seen()[0].header("authorization"), Some(format!("Bearer {SECRET}").as_str()));
    assert!(!window.state().elsewhere.servers[0].has_key, "the next run must not look for it");
}

#[test]
fn a_key_is_in_no_file_and_in_no_message() {
    let folder = tempfile::tempdir().unwrap();
    let refused = page("401 Unauthorized", "text/plain", "", &format!("bad key {SECRET}"));
    let server = Loopback::start(move |seen, n| {
        if seen.line.starts_with("GET") {
            vec![models()]
        } else if n == 0 {
            vec![refused.clone()]
        } else {
            saying("Yes")
        }
    });
    {
        let mut window = connected_with(&server, Places::find(Some(folder.path())).unwrap());
        let state = &mut window.harness.state_mut().state;
        let cluster = state.elsewhere.servers[0].clone();
        state.save_server(Some(&cluster.base_url), cluster.clone(), Some(Key::new(SECRET).unwrap()));
        window.wait_until(|state| state.elsewhere.servers[0].has_key && !state.is_busy());
        assert!(!format!("{:?}", window.state()).contains(SECRET));
        window.type_text("Hello?");
        window.press_enter();
        answered(&mut window);
        assert!(window.see("it refuses the key (401): bad key …"));
        window.press_enter();
        answered(&mut window);
        assert_eq!(window.shown(), ["Hello?", "Yes"]);
        let to = folder.path().join("export.json");
        window.harness.state_mut().export(None, Format::Json, to.clone());
        window.wait_until(|state| state.notices.iter().any(|notice| notice.text.contains("export.json")));
    }
    let preferences = std::fs::read_to_string(folder.path().join("preferences.json")).unwrap();
    assert!(preferences.contains("Cluster") && preferences.contains(&server.url));
    let mut files = 0;
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()));
        files += 1;
    }
    assert!(files >= 3, "history, preferences and export");
}

#[test]
fn a_preset_changes_how_and_not_where() {
    let server = cluster(saying("x"));
    let mut window = connected(&server);
    let here = window.state().chat.settings.answers_from.clone();
    window.press(Modifiers::COMMAND, Press::Comma);
    window.click("Presets");
    window.harness.get_by_label("Name for these settings").focus();
    window.run();
    window.type_text("Mine");
    window.click_last("Save");
    assert_eq!(window.harness.state().preferences.presets[0].settings.answers_from, None);
    window.click("Presets");
    window.click("Mine");
    assert_eq!(window.state().chat.settings.answers_from, here);
}

#[test]
fn the_window_of_servers_speaks_german() {
    let server = cluster(saying("x"));
    let mut window = connected(&server);
    ocelli::app::texts::set_language(&window.harness.ctx, Language::German);
    window.run();
    window.press(Modifiers::COMMAND, Press::Comma);
    assert!(window.see("Woher die Antworten kommen") && window.see("Qwen3-VL-235B auf Cluster"));
    window.click_last("Server…");
    window.click("Server hinzufügen");
    for words in ["Schlüssel", "Adresse", "Modelle auflisten", "an keinen anderen"] {
        assert!(window.see(words), "{words}");
    }
    assert_eq!(window.harness.unnamed_widgets(), Vec::<String>::new());
    window.click_last("Schließen");
    window.harness.get_by_label("Frage").focus();
    window.run();
    window.type_text("Ja?");
    window.press_enter();
    answered(&mut window);
    assert!(window.see("von hier gesehen"));
}

#[test]
fn a_summary_of_this_machine_is_not_marked_as_seen_from_here() {
    let mut window = Window::ready();
    window.type_text("Hello");
    window.press_enter();
    window.say(summary("Hi", StopReason::End));
    assert!(window.see("first token after") && !window.see("seen from here"));
    assert!(window.state().chat.last().is_some());
}
