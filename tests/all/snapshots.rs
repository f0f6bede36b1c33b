//! How the window looks: drawn, and compared with the pictures in `tests/snapshots`. With `UPDATE_SNAPSHOTS=1` in the
//! environment, a picture that differs is written anew: look at it before you keep it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use egui::{Modifiers, Theme};
use egui_kittest::SnapshotOptions;
use egui_kittest::kittest::Queryable;
use ocelli::app::texts::{Language, set_language};
use ocelli::engine::{AnswerEvent, PictureReport, PromptPreview, StopReason};

use crate::played::*;
use crate::screenshots::small_png;

/// Letters and shapes are made into pixels and triangles by the program itself, with fonts inside it, and come out the same
/// everywhere. The device only blends colours and scales pictures, and two drivers, or two versions of one, round
/// differently there: by a level or two of 255. This is the squared distance of two greys that are four levels apart.
const SAME_COLOUR: f32 = 8.0;
/// On the slanted edge of a triangle, drivers may also disagree about which pixels are inside. One in ten thousand of the
/// picture's pixels may be such a pixel; a word that is another one has more.
const MOST_DIFFERENT: usize = 1280 * 800 / 10_000;

/// What is scripted answers with a table, a list and code.
const MARKDOWN: &str = "The picture has **two** shapes:

| Shape  | Colour | Area |
|--------|--------|-----:|
| square | orange | 6400 |
| disc   | blue   | 5027 |

- Nothing covers the *square*.
- The disc's area is `pi * 40 ** 2`:

```python
from math import pi

def area(radius):  # of a disc
    return pi * radius ** 2
```
";

/// A square and a disc, in a folder that goes away with the test.
fn shapes() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shapes.png");
    let picture = image::RgbImage::from_fn(320, 200, |x, y| {
        let (dx, dy) = (f64::from(x) - 230.0, f64::from(y) - 100.0);
        if (50..130).contains(&x) && (60..140).contains(&y) {
            image::Rgb([235, 140, 40])
        } else if dx.hypot(dy) < 40.0 {
            image::Rgb([40, 90, 200])
        } else {
            image::Rgb([225, 228, 215])
        }
    });
    picture.save(&path).unwrap();
    (folder, path)
}

impl Window {
    fn of_snapshot_size(mut self) -> Self {
        self.harness.set_size(egui::vec2(1280.0, 800.0));
        self.run();
        self
    }

    /// Asks something about the picture of [`shapes`].
    fn ask_about_shapes(&mut self, question: &str) {
        let (_folder, path) = shapes();
        self.harness.state_mut().add_pictures(vec![path]);
        self.wait_until(|state| !state.chat.draft.is_reading());
        self.type_text(question);
        self.press_enter();
        self.say(AnswerEvent::Picture(PictureReport {
            index: 0,
            is_clip: false,
            resized: (320, 192),
            grid: [1, 12, 20],
            tokens: 60,
            vision_secs: Some(0.25),
        }));
    }

    /// Compares the window, in both themes, with what is kept under this name.
    #[track_caller]
    fn compare(&mut self, name: &str) {
        let options = SnapshotOptions::new().threshold(SAME_COLOUR).max_failed_pixels(MOST_DIFFERENT);
        self.harness.remove_cursor();
        for (theme, word) in [(Theme::Light, "light"), (Theme::Dark, "dark")] {
            self.harness.ctx.set_theme(theme);
            self.run();
            self.run();
            let name = format!("{name}-{word}");
            let file = Path::new("tests/snapshots").join(&name).with_extension("png");
            let before = fs::read(&file).ok();
            self.harness.snapshot_options(name, &options);
            // One that was written anew is made smaller.
            if fs::read(&file).ok() != before {
                fs::write(&file, small_png(self.harness.render().unwrap())).unwrap();
            }
        }
    }
}

#[test]
fn a_conversation_looks_as_it_did() {
    let mut window = Window::ready().of_snapshot_size();
    window.ask_about_shapes("What shapes are these, and how large?");
    window.say(summary("Two shapes.", StopReason::End));
    for answer in [MARKDOWN, "A square and a disc."] {
        window.click_last("Another answer to the same question, beside this one");
        window.say(summary(answer, StopReason::End));
    }
    window.click("Previous version");
    assert!(window.see("2/3"));
    window.harness.get_by_label("Question").focus();
    window.run();
    window.exchange("And without the disc?", "One shape.");
    let delete = "Delete this message and all that follow it";
    window.harness.get_all_by_label(delete).nth(2).unwrap().click();
    window.run();
    window
        .harness
        .state_mut()
        .state
        .tell("the prompt has 9000 tokens and the context holds 4096".into(), true);
    // The line to undo with stays as long as the test takes.
    window.harness.state_mut().state.undo[0].until += Duration::from_hours(1);
    window.wait_until(|state| state.list.first().is_some_and(|chat| chat.messages > 0));
    window.compare("conversation");
}

#[test]
fn boxes_and_the_list_of_chats_look_as_they_did() {
    let mut window = Window::ready().of_snapshot_size();
    for (title, folder, pinned) in [
        ("Birds at the lake", "Animals", false),
        ("A zebra, counted by its many stripes, twice over", "Animals", false),
        ("Receipts of May", "Work", false),
        ("What is this letter?", "", false),
        ("Two shapes", "", true),
    ] {
        if pinned {
            window.ask_about_shapes("Where are the square and the disc?");
            let boxes = "```json\n[{\"bbox_2d\": [156, 300, 406, 700], \"label\": \"orange square\"},\n \
                         {\"bbox_2d\": [593, 300, 843, 700], \"label\": \"blue disc\"},\n \
                         {\"point_2d\": [500, 500], \"label\": \"middle\"}]\n```";
            window.say(summary(boxes, StopReason::End));
        } else {
            window.exchange(title, "As asked.");
        }
        let id = window.state().chat.id;
        window.wait_until(|state| state.listed(id).is_some_and(|chat| chat.messages == 2));
        let state = &mut window.harness.state_mut().state;
        state.rename(id, title);
        state.set_folder(id, folder);
        state.pin(id, pinned);
        window.run();
        window.wait_until(|state| {
            state
                .listed(id)
                .is_some_and(|chat| chat.title == title && chat.folder == folder && chat.pinned == pinned)
        });
        if !pinned {
            window.press(Modifiers::COMMAND, egui::Key::N);
        }
    }
    window.compare("boxes");
}

/// The window draws no sign that its own fonts lack: it panics here if it does.
#[test]
fn the_signs_for_spaces_in_the_list_of_tokens_are_in_the_programs_fonts() {
    let mut window = Window::ready();
    window.type_text("What is it?");
    window.press(Modifiers::COMMAND, egui::Key::P);
    let preview =
        PromptPreview { text: "a\n\t b".into(), tokens: vec![(5, "a\n\t b".into())], pictures: Vec::new() };
    window.engine.0.borrow().previews[0].1.send(Ok(preview)).unwrap();
    window.run();
    window.click("Tokens");
    assert!(window.see("a↵⇥·b"));
}

#[test]
fn the_settings_in_german_look_as_they_did() {
    let mut window = Window::ready().of_snapshot_size();
    set_language(&window.harness.ctx, Language::German);
    window.run();
    window.click("Einstellungen");
    window.click("Ziehen");
    window.compare("settings");
}
