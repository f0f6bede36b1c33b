//! Models as a person gets them: with the window, by accessible names.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use egui::{Key, Modifiers};
use egui_kittest::kittest::Queryable;
use ocelli::app::models::{Models, Outcome};
use ocelli::app::texts::{Language, set_language};
use ocelli::engine::LoadEvent;
use ocelli::error::{Error, ErrorKind};
use ocelli::model::memory::Room;

use super::pulling::{library, settings};
use super::server::*;
use crate::played::*;

const REPO: &str = "Qwen/Qwen3-VL-2B-Instruct";

/// A window whose models are in `home` and come from `hub`, on a device with 11 GB for a model.
fn window(hub: &Hub, home: &Path) -> Window {
    let mut window = Window::open();
    let ctx = window.harness.ctx.clone();
    let places = Ok((library(home), settings(hub, home)));
    let wake = Arc::new(move || ctx.request_repaint());
    window.harness.state_mut().models = Models::in_places(places, Some(Room::limited(11_000_000_000)), wake);
    window.run();
    window
}

fn open_models(window: &mut Window) {
    window.press(Modifiers::COMMAND, Key::M);
    window.wait_for(|app| !app.models.is_busy());
}

fn ended(window: &mut Window) {
    window.wait_for(|app| app.models.tasks.iter().all(|task| !matches!(task.outcome, Outcome::Running)));
}

fn loads(window: &Window) -> Vec<std::path::PathBuf> {
    window.engine.0.borrow().loads.iter().map(|load| load.0.folder.clone()).collect()
}

#[test]
fn one_click_fetches_the_recommended_model_and_opens_it() {
    let (hub, home) = (Hub::with_model(&[2]), tempfile::tempdir().unwrap());
    let mut window = window(&hub, home.path());
    assert!(window.see("8.88 GB to download") || window.see("8.90 GB to download"));
    window.click("Get Qwen3-VL-4B-Instruct");
    window.wait_for(|app| app.state.last_folder.is_some());
    let folder = home.path().join("hub/models--Qwen--Qwen3-VL-4B-Instruct/snapshots").join(COMMIT);
    assert_eq!(loads(&window), [folder]);
}

#[test]
fn a_download_shows_how_far_it_is_pauses_and_goes_on() {
    let (hub, home) = (Hub::with_model(&[30]), tempfile::tempdir().unwrap());
    hub.speed.store(8_000_000, Ordering::Relaxed);
    let mut window = window(&hub, home.path());
    open_models(&mut window);
    assert!(window.see("recommended for this device") && window.see("too large for this device"));
    window.click(&format!("Download {REPO}"));
    window.wait_for(|app| app.models.pulling().is_some_and(|progress| progress.bytes_per_sec.is_some()));
    assert!(window.see("MB/s") && window.see("of 31 MB"));
    window.click("Pause");
    ended(&mut window);
    assert!(window.see("What has come is kept"));
    window.wait_for(|app| !app.models.is_busy());
    // Another day, another window: it says what is there.
    drop(window);
    let mut window = self::window(&hub, home.path());
    open_models(&mut window);
    hub.speed.store(0, Ordering::Relaxed);
    window.click(&format!("Resume the download of {REPO}"));
    window.wait_for(|app| app.state.last_folder.is_some());
    assert!(hub.sent_bytes() < hub.total_bytes() + (2 << 20), "it went on where it was");
    open_models(&mut window);
    assert!(window.see("in the hub's cache"));
}

#[test]
fn what_goes_wrong_is_said_where_it_happens_and_can_be_tried_again() {
    let (hub, home) = (Hub::with_model(&[1]), tempfile::tempdir().unwrap());
    let mut window = window(&hub, home.path());
    open_models(&mut window);
    let field = "Any other repository:";
    window.harness.get_all_by_label(field).last().unwrap().focus();
    window.run();
    window.type_text("nonsense");
    window.click("Download this repository");
    assert!(window.see("a repository is owner/name"));
    hub.state.lock().unwrap().refuse = Some((403, "GatedRepo"));
    window.click(&format!("Download {REPO}"));
    ended(&mut window);
    assert!(window.see("ask for access on the model's page"));
    hub.state.lock().unwrap().refuse = None;
    window.click("Resume");
    window.wait_for(|app| app.state.last_folder.is_some());
}

#[test]
fn models_are_verified_renamed_and_removed() {
    let (hub, home) = (Hub::with_model(&[1]), tempfile::tempdir().unwrap());
    let mut window = window(&hub, home.path());
    open_models(&mut window);
    window.click(&format!("Download {REPO}"));
    window.wait_for(|app| app.state.last_folder.is_some() && !app.models.is_busy());
    open_models(&mut window);
    let more = format!("More for {REPO}");
    window.click(&more);
    window.click("Verify");
    ended(&mut window);
    assert!(window.see("all are what they should be"));

    let weights = home.path().join("hub/models--Qwen--Qwen3-VL-2B-Instruct/snapshots").join(COMMIT);
    let blob = std::fs::canonicalize(weights.join("model-00001-of-00001.safetensors")).unwrap();
    let mut bytes = std::fs::read(&blob).unwrap();
    bytes[5] ^= 1;
    std::fs::write(&blob, bytes).unwrap();
    window.click(&more);
    window.click("Verify");
    ended(&mut window);
    assert!(window.see("Damaged: ") && window.see(blob.file_name().unwrap().to_str().unwrap()));
    window.click("Remove the damaged files");
    window.wait_for(|app| app.models.listing.as_ref().is_ok_and(|listing| listing.models.len() == 1));
    window.click(&format!("Download {REPO}"));
    // The one that came first is still being opened: this one takes no place, and the window stays.
    window.wait_for(|app| app.models.listing.as_ref().is_ok_and(|listing| listing.models.len() == 2));
    window.click(&more);
    window.click("Rename");
    window.harness.get_all_by_label("Name of the model").last().unwrap().focus();
    window.run();
    window.press(Modifiers::COMMAND, Key::A);
    window.type_text("eyes");
    window.click("Save");
    window.wait_for(|app| {
        app.models
            .listing
            .as_ref()
            .is_ok_and(|listing| listing.models.iter().any(|model| model.name == "eyes"))
    });
    window.click("More for eyes");
    window.click("Remove");
    assert!(window.see("Remove eyes from this disk?"));
    window.click("Remove");
    window.wait_for(|app| app.models.listing.as_ref().is_ok_and(|listing| listing.models.len() == 1));
    assert!(!blob.exists());
}

#[test]
fn a_model_whose_vision_file_is_missing_can_be_opened_for_texts_only() {
    let mut window = Window::ready();
    window.harness.state_mut().open_model("/models/text.gguf".into());
    let error = Error::new("opening", "its vision file is missing").kind(ErrorKind::NoVision);
    window.engine.0.borrow().loads[1].1.send(LoadEvent::Failed(error)).unwrap();
    window.run();
    window.click("Open it for texts only");
    {
        let script = window.engine.0.borrow();
        let (request, events, _) = &script.loads[2];
        assert!(request.options.text_only && request.folder.ends_with("text.gguf"));
        let mut info = info();
        info.takes_pictures = false;
        events.send(LoadEvent::Loaded(Box::new(info))).unwrap();
    }
    window.run();
    assert!(!window.see("Open it for texts only"));
    let (_folder, picture) = picture_file();
    window.harness.state_mut().add_pictures(vec![picture]);
    window.wait_until(|state| !state.chat.draft.is_reading() && !state.chat.draft.pictures.is_empty());
    window.type_text("What is it?");
    window.press_enter();
    assert_eq!(window.asked(), 0);
    assert!(window.see("opened for texts only"));
}

#[test]
fn the_models_window_speaks_german_and_every_control_has_a_name() {
    let (hub, home) = (Hub::with_model(&[1]), tempfile::tempdir().unwrap());
    let mut window = window(&hub, home.path());
    set_language(&window.harness.ctx, Language::German);
    open_models(&mut window);
    assert!(window.see("Auf diesem Rechner") && window.see("empfohlen für dieses Gerät"));
    window.click(&format!("{REPO} herunterladen"));
    window.wait_for(|app| app.state.last_folder.is_some() && !app.models.is_busy());
    open_models(&mut window);
    window.click("Denkende Modelle und GGUF-Dateien zeigen");
    assert!(window.see("Qwen/Qwen3-VL-8B-Thinking-GGUF"));
    assert_eq!(window.harness.unnamed_widgets(), Vec::<String>::new());
}
