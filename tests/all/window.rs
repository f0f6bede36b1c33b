//! The window without a screen: a person types, clicks and drops; scripted events play the engine.

use std::path::Path;
use std::sync::Arc;

use egui::{ColorImage, Event, ImeEvent, Key, Modifiers};
use egui_kittest::kittest::Queryable;
use ocelli::app::texts::{Language, set_language};
use ocelli::app::{PictureState, Places, Preferences};
use ocelli::chat::message::Role;
use ocelli::chat::transfer::Format;
use ocelli::chat::tree::MessageState;
use ocelli::engine::{AnswerEvent, LoadEvent, PictureReport, PromptPreview, StopReason};
use ocelli::error::{Error, Result};

use crate::played::*;
use crate::support::small_disk::{SmallDisk, fill};

#[test]
fn an_empty_window_says_what_to_do_and_sends_nothing() {
    let mut window = Window::open();
    window.run();
    assert!(window.see("Open a model to begin"));
    window.type_text("hello");
    window.press_enter();
    assert_eq!(window.asked(), 0);
    assert_eq!(window.draft(), "hello");
    assert!(window.see("Open a model first."));
}

#[test]
fn loading_shows_how_far_it_is_and_can_be_cancelled() {
    let mut window = Window::open();
    window.harness.state_mut().open_model("/models/tiny".into());
    window.engine.0.borrow().loads[0]
        .1
        .send(LoadEvent::Uploading { done_bytes: 300_000_000, total_bytes: 2_000_000_000 })
        .unwrap();
    window.run();
    assert!(
        window.harness.query_all_by_value("Loading 300 MB of 2.00 GB").next().is_some()
            || window.see("300 MB of 2.00 GB")
    );
    window.click("Cancel");
    assert!(window.engine.0.borrow().loads[0].2.is_cancelled());
}

#[test]
fn typing_and_enter_send_the_question_and_tokens_appear_as_they_come() {
    let mut window = Window::ready();
    window.type_text("What is it?");
    window.press_enter();
    assert_eq!(window.asked(), 1);
    {
        let script = window.engine.0.borrow();
        let messages = &script.asks[0].0.messages;
        assert_eq!(messages.len(), 1);
        assert_eq!((messages[0].role, messages[0].plain_text()), (Role::User, "What is it?".to_owned()));
    }
    assert_eq!(window.draft(), "");
    window.say(AnswerEvent::Prefill { done: 100, total: 400, reused: 64 });
    assert!(window.see("Reading the prompt: 100 of 400 tokens, 64 reused"));
    window.say(AnswerEvent::Vision { index: 0, done: 3, total: 24 });
    assert!(window.see("block 3 of 24"));
    window.say(token("A small"));
    assert!(window.see("A small"));
    window.say(token(" cat."));
    assert!(window.see("A small cat."));
    assert!(window.see("Writing: 2 tokens"));
    window.say(summary("A small cat.", StopReason::End));
    assert!(window.see("3 tokens · 2.0 tok/s · first token after 2.50 s · prompt of 1,234 tokens, 34 reused, 600 tok/s · pictures 0.25 s"));
    window.type_text("Sure?");
    window.click("Send");
    assert_eq!(window.engine.0.borrow().asks[1].0.messages.len(), 3);
}

#[test]
fn shift_enter_starts_a_new_line() {
    let mut window = Window::ready();
    window.type_text("one");
    window.harness.key_press_modifiers(Modifiers::SHIFT, Key::Enter);
    window.run();
    window.type_text("two");
    assert_eq!(window.draft(), "one\ntwo");
    assert_eq!(window.asked(), 0);
}

#[test]
fn enter_that_ends_a_composed_word_does_not_send() {
    let mut window = Window::ready();
    let preedit = |text: &str| Event::Ime(ImeEvent::Preedit { text: text.into(), active_range_chars: None });
    window.harness.event(preedit("neko"));
    window.run();
    window.press_enter();
    assert_eq!(window.asked(), 0);
    window.harness.event(Event::Ime(ImeEvent::Commit("cat".into())));
    window.run();
    assert_eq!(window.draft(), "cat");
    assert_eq!(window.asked(), 0);
    window.press_enter();
    assert_eq!(window.asked(), 1);
}

#[test]
fn stop_cancels_and_keeps_what_came() {
    let mut window = Window::ready();
    window.type_text("Tell a long story");
    window.press_enter();
    window.say(token("Once upon"));
    window.click("Stop");
    assert!(window.engine.0.borrow().asks[0].2.is_cancelled());
    assert!(window.see("Stopping…"));
    window.say(summary("Once upon", StopReason::Cancelled));
    assert!(window.see("Once upon"));
    assert!(window.see("stopped · 3 tokens"));
    assert!(window.harness.query_by_label("Stop").is_none());
}

#[test]
fn an_error_is_shown_and_the_question_is_there_to_send_again() {
    let mut window = Window::ready();
    window.type_text("What is it?");
    window.press_enter();
    window.say(AnswerEvent::Failed(Error::new(
        "answering",
        "the prompt has 9000 tokens and the context holds 4096",
    )));
    assert!(window.see("the context holds 4096"));
    assert_eq!(window.draft(), "What is it?");
    window.click("Close");
    assert!(!window.see("the context holds 4096"));
    window.press_enter();
    assert_eq!(window.asked(), 2);
}

#[test]
fn pictures_are_read_shown_sent_and_can_be_removed() {
    let mut window = Window::ready();
    let (_folder, path) = picture_file();
    window.harness.state_mut().add_pictures(vec![path.clone(), path, "/no/such/dog.png".into()]);
    window.wait_until(|state| {
        state.chat.draft.pictures.iter().all(|p| !matches!(p.state, PictureState::Reading))
    });
    assert!(window.see("40×30"));
    assert!(window.see("cannot be read"));
    window.press_enter();
    assert_eq!(window.asked(), 0);
    assert!(window.see("remove the picture, then send again"));
    window.click("Remove dog.png");
    window.harness.get_all_by_label("Remove cat.png").next().unwrap().click();
    window.run();
    window.type_text("What is it?");
    window.press_enter();
    assert_eq!(window.engine.0.borrow().asks[0].0.messages[0].images().count(), 1);
    let report = PictureReport {
        index: 0,
        is_clip: false,
        resized: (64, 64),
        grid: [1, 4, 4],
        tokens: 4,
        vision_secs: None,
    };
    window.say(AnswerEvent::Picture(report));
    assert!(window.see("seen at 64×64, 4 tokens, reused, 0 s"));
}

#[test]
fn a_pasted_picture_is_added() {
    let mut window = Window::ready();
    let pixels = ColorImage::from_rgb([5, 4], &[90; 60]);
    window.harness.event(Event::PasteImage(Arc::new(pixels)));
    window.run();
    window.wait_until(
        |state| matches!(state.chat.draft.pictures[..], [ref p] if matches!(p.state, PictureState::Ready(_, 5, 4))),
    );
    assert!(window.see("pasted.png"));
}

#[derive(Debug)]
struct Dropped(std::path::PathBuf);

impl egui::DroppedFile for Dropped {
    fn path(&self) -> &Path {
        &self.0
    }

    fn bytes(&self) -> Result<Vec<u8>, String> {
        Err("nobody reads it here".into())
    }
}

#[test]
fn a_dropped_picture_is_added_and_a_dropped_folder_is_a_model() {
    let mut window = Window::ready();
    let (folder, path) = picture_file();
    window.harness.input_mut().hovered_files =
        vec![egui::HoveredFile { path: Some(path.clone()), ..Default::default() }];
    window.harness.run_steps(2);
    window.harness.input_mut().hovered_files.clear();
    let model = folder.path().join("model");
    std::fs::create_dir(&model).unwrap();
    std::fs::write(model.join("config.json"), "{}").unwrap();
    for path in [path, model.clone()] {
        window.harness.input_mut().dropped_files = vec![Arc::new(Dropped(path))];
        window.run();
    }
    window.wait_until(|state| {
        state.chat.draft.pictures.len() == 1 && state.last_folder.as_ref() == Some(&model)
    });
    assert_eq!(window.engine.0.borrow().loads.len(), 2);
}

#[test]
fn what_the_program_was_started_with_is_opened() {
    let (folder, picture) = picture_file();
    let model = folder.path().join("Qwen3VL-2B-Q8_0.gguf");
    std::fs::write(&model, "GGUF").unwrap();
    let mut window = Window::open();
    window.harness.state_mut().open_given(vec![picture, model.clone()], Some("/models/other".into()));
    window.wait_until(|state| matches!(state.chat.draft.pictures[..], [ref p] if p.name == "cat.png"));
    // No model before the one that is meant: loading it would only have to be broken off.
    assert_eq!(window.engine.0.borrow().loads.len(), 1);
    assert_eq!(window.state().last_folder.as_ref(), Some(&model));

    let folder = tempfile::tempdir().unwrap();
    let chat = folder.path().join("cat.ocelli-chat");
    std::fs::write(&chat, r#"[{"role": "user", "content": "What does the cat look at?"}]"#).unwrap();
    let comparison = folder.path().join("two.ocelli-compare");
    std::fs::write(&comparison, "title = \"Two questions\"\n[[columns]]\nprompt = \"Where?\"\n").unwrap();
    let mut window = Window::open_in(folder.path());
    window.harness.state_mut().open_given(vec![chat, comparison], Some("/models/other".into()));
    window.wait_until(|state| !state.list.is_empty() && state.comparing.is_some());
    assert_eq!(window.engine.0.borrow().loads.len(), 1);
    assert!(window.state().shows_comparison);
    window.wait_until(|state| {
        state.comparing.as_ref().is_some_and(|comparing| comparing.comparison.title == "Two questions")
    });
}

#[test]
fn files_that_the_system_wants_opened_are_opened() {
    let mut window = Window::ready();
    let (_folder, picture) = picture_file();
    let opened = window.harness.state().opened.clone();
    opened.add(vec![picture]);
    window.run();
    window.wait_until(|state| matches!(state.chat.draft.pictures[..], [ref p] if p.name == "cat.png"));
    // From now on they wake the window.
    while window.repaint.try_recv().is_ok() {}
    opened.add(vec!["/no/such/dog.png".into()]);
    assert!(window.repaint.try_recv().is_ok());
}

#[test]
fn the_program_says_what_it_is_made_of() {
    let mut window = Window::ready();
    window.click("View");
    window.click("About Ocelli and its licences");
    window.run();
    assert!(window.see("MIT or Apache-2.0, as you prefer."));
    assert!(window.see("SQLite — public domain"));
    window.click("Copy the licences");
    window.click("Close");
    assert!(!window.see("SQLite — public domain"));
}

#[test]
fn a_dropped_folder_of_pictures_is_a_clip() {
    let mut window = Window::ready();
    let folder = tempfile::tempdir().unwrap();
    for name in ["f10.png", "f2.png", "f1.png"] {
        image::RgbImage::new(64, 64).save(folder.path().join(name)).unwrap();
    }
    window.harness.input_mut().dropped_files = vec![Arc::new(Dropped(folder.path().to_path_buf()))];
    window.run();
    window.wait_until(|state| state.chat.draft.pictures.len() == 3 && !state.chat.draft.is_reading());
    let names: Vec<_> = window.state().chat.draft.pictures.iter().map(|p| p.name.clone()).collect();
    assert!(names[0].ends_with("/f1.png") && names[2].ends_with("/f10.png"), "{names:?}");
    assert!(window.see("clip of 3 frames"));
    window.type_text("What happens?");
    window.press_enter();
    let script = window.engine.0.borrow();
    assert_eq!(script.asks[0].0.messages[0].videos().count(), 1);
    assert_eq!(script.asks[0].0.messages[0].images().count(), 0);
}

#[test]
fn enter_in_the_instructions_is_a_new_line() {
    let mut window = Window::ready();
    window.click("Settings");
    window.harness.get_by_role_and_label(egui::Role::MultilineTextInput, "Instructions").focus();
    window.run();
    window.type_text("Be");
    window.press_enter();
    window.type_text("brief.");
    assert_eq!(window.harness.state().state.chat.settings.system_prompt, "Be\nbrief.");
}

#[test]
fn the_settings_have_names_and_work() {
    let mut window = Window::ready();
    window.click("Settings");
    window.run();
    window.click("Sample");
    assert!(!window.harness.state().state.chat.settings.greedy);
    window.click("Presets");
    window.click("The model's own settings");
    assert!(window.harness.state().state.chat.settings.greedy);
    assert!(!window.see("Qwen's advice for text"), "the menu closes");
    window.click("Light");
    assert!(!window.harness.ctx.global_style().visuals.dark_mode);
    // Every widget a person can act on has a name; the harness checks it after each run.
    assert_eq!(window.harness.unnamed_widgets(), Vec::<String>::new());
}

#[test]
fn a_new_chat_is_empty_and_the_old_one_is_in_the_list() {
    let mut window = Window::ready();
    window.exchange("one", "1");
    window.press(Modifiers::COMMAND, Key::N);
    assert!(window.see("Ask about pictures"));
    window.type_text("two");
    window.press_enter();
    assert_eq!(window.engine.0.borrow().asks[1].0.messages.len(), 1);
    window.say(summary("2", StopReason::End));
    window.wait_until(|state| state.list.len() == 2);
    window.click("one");
    window.wait_until(|state| state.chat.shown().count() == 2);
    assert_eq!(window.shown(), ["one", "1"]);
}

#[test]
fn a_question_is_edited_in_its_place_and_both_versions_can_be_seen() {
    let mut window = Window::ready();
    window.exchange("What is this?", "A cat.");
    window.press(Modifiers::NONE, Key::ArrowUp);
    assert!(window.see("Editing: sending makes a branch"));
    window.press(Modifiers::COMMAND, Key::A);
    window.type_text("And that?");
    window.press_enter();
    window.say(summary("A dog.", StopReason::End));
    assert_eq!(window.shown(), ["And that?", "A dog."]);
    assert!(window.see("2/2"));
    window.click("Previous version");
    assert_eq!(window.shown(), ["What is this?", "A cat."]);
    window.click("Next version");
    assert_eq!(window.shown(), ["And that?", "A dog."]);
}

#[test]
fn escape_leaves_an_edit_and_stops_an_answer() {
    let mut window = Window::ready();
    window.exchange("one", "1");
    window.press(Modifiers::NONE, Key::ArrowUp);
    assert!(window.state().chat.editing.is_some());
    window.press(Modifiers::NONE, Key::Escape);
    assert!(window.state().chat.editing.is_none());
    window.harness.get_by_label("Question").focus();
    window.run();
    window.type_text("two");
    window.press_enter();
    window.say(token("2"));
    window.press(Modifiers::NONE, Key::Escape);
    assert!(window.engine.0.borrow().asks[1].2.is_cancelled());
}

#[test]
fn another_answer_stands_beside_the_first_and_a_stopped_one_is_gone_on_with() {
    let mut window = Window::ready();
    window.exchange("Tell", "Once");
    window.click("Another answer to the same question, beside this one");
    window.say(token("Twice"));
    window.say(summary("Twice", StopReason::Cancelled));
    assert_eq!(window.shown(), ["Tell", "Twice"]);
    assert_eq!(window.state().chat.last().unwrap().state, MessageState::Stopped);
    window.click("Go on with the answer");
    assert_eq!(window.engine.0.borrow().asks[2].0.answer_start.as_deref(), Some("Twice"));
    window.say(summary(" upon a time", StopReason::End));
    assert_eq!(window.shown(), ["Tell", "Twice upon a time"]);
}

#[test]
fn a_deleted_message_can_be_had_back() {
    let mut window = Window::ready();
    window.exchange("one", "1");
    window.exchange("two", "2");
    window.harness.get_all_by_label("Delete this message and all that follow it").nth(2).unwrap().click();
    window.run();
    assert_eq!(window.shown(), ["one", "1"]);
    assert!(window.see("Deleted: 2 messages"));
    window.click("Undo");
    assert_eq!(window.shown(), ["one", "1", "two", "2"]);
}

#[test]
fn conversations_outlive_the_window() {
    let folder = tempfile::tempdir().unwrap();
    let (_pictures, path) = picture_file();
    {
        let mut window = Window::open_in(folder.path()).with_model();
        window.harness.state_mut().add_pictures(vec![path]);
        window.wait_until(|state| !state.chat.draft.is_reading());
        window.exchange("What is it?", "An orange **cat**.");
        window.type_text("never sent");
        window.wait_until(|state| state.list.first().is_some_and(|c| c.messages == 2));
    }
    let mut window = Window::open_in(folder.path()).with_model();
    window.wait_until(|state| state.list.len() == 1);
    window.click("What is it?");
    window.wait_until(|state| state.chat.shown().count() == 2 && state.files.len() == 1);
    assert_eq!(window.shown(), ["What is it?", "An orange **cat**."]);
    assert_eq!(window.draft(), "never sent");
    window.press_enter();
    let script = window.engine.0.borrow();
    let messages = &script.asks[0].0.messages;
    assert_eq!(messages.len(), 3);
    assert_eq!(messages[0].images().count(), 1);
    assert_eq!(messages[0].images().next().unwrap().load().unwrap().width(), 40);
}

#[test]
fn words_are_found_in_old_conversations_and_lead_to_their_message() {
    let mut window = Window::ready();
    window.exchange("About zebras", "They are striped.");
    window.press(Modifiers::COMMAND, Key::N);
    window.exchange("About lions", "They are not.");
    window.press(Modifiers::COMMAND, Key::F);
    window.type_text("stripe");
    window.wait_until(|state| state.search.hits.len() == 1);
    assert!(window.see("1 message"));
    window.click("They are striped.");
    window.wait_until(|state| state.chat.shown().count() == 2);
    assert_eq!(window.shown()[0], "About zebras");
}

#[test]
fn a_conversation_is_renamed_pinned_put_into_a_folder_deleted_and_had_back() {
    let mut window = Window::ready();
    window.exchange("one", "1");
    window.wait_until(|state| state.list.len() == 1);
    window.press(Modifiers::NONE, Key::F2);
    window.press(Modifiers::COMMAND, Key::A);
    window.type_text("My cats");
    window.press_enter();
    window.wait_until(|state| state.list[0].title == "My cats");
    window.press(Modifiers::COMMAND | Modifiers::SHIFT, Key::P);
    window.wait_until(|state| state.list[0].pinned);
    assert!(window.see("★ My cats"));
    window.press(Modifiers::COMMAND | Modifiers::SHIFT, Key::D);
    window.wait_until(|state| state.list.is_empty());
    assert!(window.see("Chat deleted: My cats"));
    window.click("Undo");
    window.wait_until(|state| state.list.len() == 1);
}

#[test]
fn conversations_are_exported_and_imported() {
    let folder = tempfile::tempdir().unwrap();
    let (json, markdown) = (folder.path().join("all.json"), folder.path().join("chat.md"));
    let mut window = Window::ready();
    window.exchange("What is it?", "A *cat*.");
    window.wait_until(|state| state.list.first().is_some_and(|c| c.messages == 2));
    window.harness.state_mut().export(None, Format::Json, json.clone());
    let id = window.state().chat.id;
    window.harness.state_mut().export(Some(id), Format::Markdown, markdown.clone());
    window.wait_until(|state| state.notices.len() == 2);
    assert!(window.see("Exported 1 chat to"));
    assert!(std::fs::read_to_string(&markdown).unwrap().contains("A *cat*."));
    let mut other = Window::ready();
    other.harness.state_mut().import(json);
    other.wait_until(|state| state.chat.shown().count() == 2);
    assert_eq!(other.shown(), ["What is it?", "A *cat*."]);
    other.harness.state_mut().import(markdown);
    other.wait_until(|state| state.notices.iter().any(|notice| notice.is_error));
    assert_eq!(other.shown().len(), 2, "what was there stays");
}

#[test]
fn the_palette_finds_commands_and_the_sheet_lists_keys() {
    let mut window = Window::ready();
    window.press(Modifiers::COMMAND, Key::K);
    window.type_text("dark");
    window.press_enter();
    assert!(window.harness.ctx.global_style().visuals.dark_mode);
    window.press(Modifiers::NONE, Key::F1);
    assert!(window.see("Command palette"));
    window.press(Modifiers::NONE, Key::Escape);
    assert!(!window.see("Shift+Enter starts a new line. Up in"));
    assert_eq!(window.asked(), 0);
}

#[test]
fn the_prompt_can_be_read_before_it_is_sent() {
    let mut window = Window::ready();
    window.type_text("What is it?");
    window.press(Modifiers::COMMAND, Key::P);
    {
        let script = window.engine.0.borrow();
        assert_eq!(script.previews[0].0.messages[0].plain_text(), "What is it?");
        let tokens = vec![(5, "<|im_start|>".to_owned()), (6, "What".to_owned())];
        let preview = PromptPreview { text: "<|im_start|>What".into(), tokens, pictures: Vec::new() };
        script.previews[0].1.send(Ok(preview)).unwrap();
    }
    window.run();
    assert!(window.see("<|im_start|>What"));
    assert!(window.see("2 tokens, 0 of them of pictures"));
    window.click("Tokens");
    assert!(window.see("What"));
    window.click_last("Close");
    assert!(!window.see("2 tokens, 0 of them"));
    assert_eq!(window.asked(), 0);
}

#[test]
fn boxes_of_an_answer_are_listed_in_pixels_of_the_picture() {
    let mut window = Window::ready();
    let (_folder, path) = picture_file();
    window.harness.state_mut().add_pictures(vec![path]);
    window.wait_until(|state| !state.chat.draft.is_reading());
    window.exchange("Where?", "```json\n[{\"bbox_2d\": [100, 200, 500, 600], \"label\": \"ear\"}]\n```");
    assert!(window.see("ear"));
    assert!(window.see("4, 6 to 20, 18"));
    window.click("Copy what was found, in pixels of the picture, as JSON");
    let copied = window.harness.output().platform_output.commands.iter().find_map(|command| match command {
        egui::OutputCommand::CopyText(text) => Some(text.clone()),
        _ => None,
    });
    if let Some(copied) = copied {
        assert!(copied.contains("ear"), "{copied}");
    }
    window.harness.get_all_by_label("Enlarge cat.png").last().unwrap().click();
    window.run();
    assert!(window.see("file of 40×30 pixels"));
    window.press(Modifiers::NONE, Key::Escape);
    assert!(!window.see("file of 40×30 pixels"));
}

#[test]
fn a_box_is_drawn_on_the_picture_that_the_answer_names() {
    let mut window = Window::ready();
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.png", "b.png"] {
        let path = folder.path().join(name);
        image::RgbImage::from_pixel(64, 48, image::Rgb([90, 120, 200])).save(&path).unwrap();
        window.harness.state_mut().add_pictures(vec![path]);
    }
    window.wait_until(|state| !state.chat.draft.is_reading());
    window.exchange("Where?", "[{\"point_2d\": [500, 250], \"label\": \"nose\", \"image\": 2}]");
    let named = |name: &str| window.harness.query_all_by_label(&format!("Enlarge {name}")).count();
    assert_eq!((named("a.png"), named("b.png")), (1, 2));
    assert!(window.see("32, 12"));
}

#[test]
fn the_cost_of_a_picture_is_shown_before_it_is_sent_and_follows_the_range() {
    let mut window = Window::ready();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.png");
    image::RgbImage::new(640, 320).save(&path).unwrap();
    window.harness.state_mut().add_pictures(vec![path]);
    window.wait_until(|state| !state.chat.draft.is_reading());
    assert!(window.see("640×320 · 200 tokens"));
    assert!(window.see("The pictures will take 200 of 4,096 tokens."));
    let settings = &mut window.harness.state_mut().state.chat.settings;
    settings.choose_image_tokens = true;
    settings.image_tokens.max_tokens = 50;
    window.run();
    assert!(window.see("640×320 · 50 tokens"));
}

#[test]
fn pictures_are_reordered_and_each_button_says_which() {
    let mut window = Window::ready();
    let folder = tempfile::tempdir().unwrap();
    let paths = ["a.png", "b.png"].map(|name| {
        let path = folder.path().join(name);
        image::RgbImage::new(64, 64).save(&path).unwrap();
        path
    });
    window.harness.state_mut().add_pictures(paths.to_vec());
    window.wait_until(|state| !state.chat.draft.is_reading());
    window.click("Move b.png to the left");
    let names: Vec<_> = window.state().chat.draft.pictures.iter().map(|p| p.name.clone()).collect();
    assert_eq!(names, ["b.png", "a.png"]);
}

#[test]
fn the_window_speaks_german_and_every_control_still_has_a_name() {
    let mut window = Window::ready();
    set_language(&window.harness.ctx, Language::German);
    window.run();
    assert!(window.see("Fragen Sie nach Bildern"));
    window.click("Einstellungen");
    window.harness.get_by_label("Frage").focus();
    window.run();
    window.exchange("Was ist das?", "Eine Katze.");
    assert!(window.see("erstes Token nach"));
    assert_eq!(window.harness.unnamed_widgets(), Vec::<String>::new());
}

#[test]
fn five_thousand_messages_are_opened_and_scrolled() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("long.json");
    let messages: Vec<_> = (0..5000)
        .map(|i| {
            serde_json::json!({
                "role": if i % 2 == 0 { "user" } else { "assistant" },
                "content": format!("message {i}\n\n{}", "word ".repeat(i % 90)),
            })
        })
        .collect();
    std::fs::write(&file, serde_json::to_string(&messages).unwrap()).unwrap();
    let mut window = Window::ready();
    window.harness.state_mut().import(file);
    window.wait_until(|state| state.chat.shown().count() == 5000);
    assert!(window.see("message 4999"));
    assert!(!window.see("message 4000"));
    // By pages, with the keyboard still on the question.
    window.harness.get_by_label("Question").focus();
    window.run();
    for _ in 0..3 {
        window.press(Modifiers::NONE, Key::PageUp);
    }
    assert!(!window.see("message 4999"));
    window.type_text("typed");
    assert_eq!(window.draft(), "typed");
}

#[test]
fn a_window_whose_history_is_of_a_newer_program_says_so_and_works() {
    let folder = tempfile::tempdir().unwrap();
    let path = Places::find(Some(folder.path())).unwrap().history.unwrap();
    drop(Window::open_in(folder.path()));
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 999).unwrap();
    drop(connection);
    let before = std::fs::read(&path).unwrap();
    let mut window = Window::open_in(folder.path()).with_model();
    window.wait_until(|state| !state.notices.is_empty());
    assert!(window.see("newer"));
    window.exchange("one", "1");
    assert_eq!(window.shown(), ["one", "1"]);
    drop(window);
    assert_eq!(std::fs::read(&path).unwrap(), before, "the file is as it was");
}

#[test]
fn a_locked_history_is_said_in_the_windows_language_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = Places::find(Some(folder.path())).unwrap().history.unwrap();
    let mut window = Window::open_in(folder.path()).with_model();
    set_language(&window.harness.ctx, Language::German);
    window.run();
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    window.harness.get_by_label("Frage").type_text("eins");
    window.run();
    window.press_enter();
    window.say(summary("1", StopReason::End));
    window.wait_until(|state| !state.notices.is_empty());
    assert!(window.see("Nachrichten können gerade nicht gespeichert werden"));
    other.execute_batch("ROLLBACK").unwrap();
    window.wait_until(|state| state.notices.iter().any(|notice| notice.text.contains("Alles ist wieder")));
    assert!(!window.see("können gerade nicht"));
    drop(window);
    let messages: i64 = other.query_row("SELECT count(*) FROM messages", [], |row| row.get(0)).unwrap();
    assert_eq!(messages, 2);
}

#[test]
fn a_damaged_history_is_set_aside_and_the_user_is_told_where() {
    let folder = tempfile::tempdir().unwrap();
    let path = Places::find(Some(folder.path())).unwrap().history.unwrap();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "no database ".repeat(999)).unwrap();
    let preferences = Preferences { language: Some(Language::German), ..Preferences::default() };
    let places = Places::find(Some(folder.path())).unwrap();
    let mut window = Window::open_with(places, preferences).with_model();
    window.wait_until(|state| !state.notices.is_empty());
    assert!(window.see("Der Verlauf der Gespräche war beschädigt") && window.see(".damaged-"));
}

#[test]
fn a_full_disk_is_said_and_everything_is_saved_once_there_is_room() {
    let Some(disk) = SmallDisk::mount(2 << 20) else { return };
    let mut window = Window::open_in(disk.path()).with_model();
    window.exchange("one", "1");
    window.wait_until(|state| state.list.first().is_some_and(|chat| chat.messages == 2));
    let filler = disk.path().join("filler");
    fill(&filler);
    window.exchange(&format!("two {}", "x".repeat(100_000)), "2");
    window.wait_until(|state| !state.notices.is_empty());
    assert!(window.see("Messages cannot be saved just now") && window.see("free some space"));
    // Exported to another disk is what is in the window, not what is saved.
    let elsewhere = tempfile::tempdir().unwrap();
    let to = elsewhere.path().join("rescued.json");
    window.harness.state_mut().export(None, Format::Json, to.clone());
    window.wait_until(|state| state.notices.iter().any(|notice| notice.text.contains("rescued.json")));
    let exported = std::fs::read_to_string(&to).unwrap();
    assert!(exported.contains("\"two xxx") && exported.matches("\"text\":").count() == 4);
    std::fs::remove_file(&filler).unwrap();
    window.wait_until(|state| state.notices.iter().any(|notice| notice.text.contains("saved again")));
    drop(window);
    let mut window = Window::open_in(disk.path()).with_model();
    window.wait_until(|state| state.list.first().is_some_and(|chat| chat.messages == 4));
}

#[test]
fn preferences_outlive_the_window() {
    let folder = tempfile::tempdir().unwrap();
    let file = Places::find(Some(folder.path())).unwrap().preferences.unwrap();
    {
        let mut window = Window::open_in(folder.path()).with_model();
        window.press(Modifiers::COMMAND, Key::Comma);
        window.click("Dark");
        window.wait_until(|_| Preferences::read(&file).0.theme == "dark");
    }
    let (read, _) = Preferences::read(&file);
    assert!(read.settings_open);
    let window = Window::open_with(Places::default(), read);
    assert!(window.harness.ctx.global_style().visuals.dark_mode);
}

#[test]
fn a_narrow_window_hides_the_list_until_it_is_asked_for() {
    let mut window = Window::ready();
    window.exchange("one", "1");
    window.wait_until(|state| state.list.len() == 1);
    assert!(window.harness.query_by_label("New chat").is_some());
    window.harness.set_size(egui::vec2(440.0, 700.0));
    window.run();
    assert!(window.harness.query_by_label("New chat").is_none());
    window.click("List of chats");
    assert!(window.harness.query_by_label("New chat").is_some());
    window.harness.set_size(egui::vec2(1000.0, 700.0));
    window.run();
    assert!(window.harness.query_by_label("New chat").is_some());
}

#[test]
fn diagnostics_are_copied_and_hold_nothing_of_the_chat() {
    let mut window = Window::ready();
    window.type_text("My secret question");
    window.press_enter();
    window.say(token("My secret answer"));
    window.say(AnswerEvent::Failed(
        Error::new("answering", "the device is out of memory").help("use a shorter context"),
    ));
    window.press(Modifiers::COMMAND, Key::K);
    window.type_text("copy diagnostics");
    window.press_enter();
    let copied = window.harness.state().diagnostics(&window.harness.ctx);
    for wanted in ["version", "wgpu", "system", "### Model", "tiny", "### What went wrong last"] {
        assert!(copied.contains(wanted), "{wanted} in {copied}");
    }
    assert!(!copied.contains("secret"), "{copied}");
    assert!(window.see("The diagnostics are in the clipboard"));
}

#[test]
fn the_kv_cache_is_chosen_in_the_settings_and_loads_the_model_anew() {
    let mut window = Window::ready();
    window.press(Modifiers::COMMAND, Key::Comma);
    let loads = window.engine.0.borrow().loads.len();
    let shown = window.harness.get_by_role_and_label(egui::accesskit::Role::ComboBox, "KV cache");
    shown.scroll_to_me();
    window.run();
    window.harness.get_by_role_and_label(egui::accesskit::Role::ComboBox, "KV cache").click();
    window.run();
    window.click("int8");
    let script = window.engine.0.borrow();
    assert_eq!(script.loads.len(), loads + 1);
    assert_eq!(script.loads[loads].0.options.kv, Some(ocelli::model::kv_cache::KvFormat::Int8));
}

#[test]
fn a_fault_in_the_engine_is_told_the_words_stay_and_the_model_is_loaded_again() {
    let mut window = Window::ready();
    window.type_text("What is it?");
    window.press_enter();
    window.say(token("A small"));
    let loads = window.engine.0.borrow().loads.len();
    let error = ocelli::log::catching("answering", || panic!("a page is released twice")).unwrap_err();
    window.say(AnswerEvent::Failed(error));
    assert!(window.see("A small") && window.see("a page is released twice"));
    assert_eq!(window.engine.0.borrow().loads.len(), loads + 1);
}
