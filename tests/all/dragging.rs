//! Pictures of a question put into another order by the pointer; and the window used by the keyboard alone.

use egui::{Key, Modifiers};
use egui_kittest::kittest::Queryable;
use ocelli::engine::StopReason;

use crate::played::*;

/// More controls than the window has.
const MANY: usize = 80;

impl Window {
    /// A draft with these pictures, of one colour each.
    fn with_pictures(names: &[&str]) -> Self {
        let mut window = Self::ready();
        let folder = tempfile::tempdir().unwrap();
        let paths = names.iter().map(|name| {
            let path = folder.path().join(name);
            image::RgbImage::from_pixel(64, 64, image::Rgb([200, 120, 40])).save(&path).unwrap();
            path
        });
        window.harness.state_mut().add_pictures(paths.collect());
        window.wait_until(|state| !state.chat.draft.is_reading());
        window
    }

    fn pictures(&self) -> Vec<&str> {
        self.state().chat.draft.pictures.iter().map(|picture| picture.name.as_str()).collect()
    }

    /// Drags the thumbnail of one picture onto another's, as a hand does: in steps.
    fn drag_picture(&mut self, from: &str, onto: &str) {
        let at = |name: &str| self.harness.get_by_label(&format!("Enlarge {name}")).rect().center();
        let (from, onto) = (at(from), at(onto));
        self.harness.hover_at(from);
        self.harness.step();
        self.harness.drag_at(from);
        self.harness.step();
        for share in [0.2, 0.6, 1.0] {
            self.harness.hover_at(from.lerp(onto, share));
            self.harness.step();
        }
        self.harness.drop_at(onto);
        self.run();
    }

    /// Presses Tab until a control of this name has the keyboard.
    #[track_caller]
    fn tab_to(&mut self, name: &str) {
        for _ in 0..MANY {
            self.press(Modifiers::NONE, Key::Tab);
            if self.harness.query_all_by_label(name).any(|node| node.is_focused()) {
                return;
            }
        }
        panic!("{MANY} times Tab, and \"{name}\" never had the keyboard");
    }
}

#[test]
fn a_picture_dragged_onto_another_takes_its_place() {
    let mut window = Window::with_pictures(&["a.png", "b.png", "c.png"]);
    window.drag_picture("c.png", "a.png");
    assert_eq!(window.pictures(), ["c.png", "a.png", "b.png"]);
    window.drag_picture("c.png", "b.png");
    assert_eq!(window.pictures(), ["a.png", "b.png", "c.png"]);
    assert!(!window.see("file of 64×64 pixels"), "a drag is no click");
    window.click("Enlarge a.png");
    assert!(window.see("file of 64×64 pixels"), "a click still is");
}

#[test]
fn a_picture_dropped_on_itself_or_beside_the_others_stays() {
    let mut window = Window::with_pictures(&["a.png", "b.png"]);
    let from = window.harness.get_by_label("Enlarge a.png").rect().center();
    for to in [from + egui::vec2(12.0, 8.0), egui::pos2(500.0, 200.0)] {
        window.harness.hover_at(from);
        window.harness.step();
        window.harness.drag_at(from);
        window.harness.step();
        window.harness.hover_at(from.lerp(to, 0.9));
        window.harness.step();
        window.harness.hover_at(to);
        window.harness.step();
        window.harness.drop_at(to);
        window.run();
        assert_eq!(window.pictures(), ["a.png", "b.png"]);
    }
}

#[test]
fn a_picture_is_removed_and_the_question_sent_by_keys_alone() {
    let mut window = Window::with_pictures(&["a.png", "b.png"]);
    window.tab_to("Remove b.png");
    window.press(Modifiers::NONE, Key::Space);
    assert_eq!(window.pictures(), ["a.png"]);
    window.type_text("What is it?");
    window.tab_to("Send");
    window.press(Modifiers::NONE, Key::Enter);
    assert_eq!(window.asked(), 1);
}

#[test]
fn a_question_is_changed_by_keys_alone() {
    let mut window = Window::ready();
    window.exchange("one", "1");
    window.tab_to("Change this question; the old one stays beside it");
    window.press(Modifiers::NONE, Key::Space);
    assert!(window.state().chat.editing.is_some());
    window.type_text(" more");
    assert_eq!(window.state().chat.editing.as_ref().unwrap().draft.text, "one more");
}

#[test]
fn a_chat_is_opened_and_one_is_looked_for_by_keys_alone() {
    let mut window = Window::ready();
    window.exchange("one", "1");
    window.press(Modifiers::COMMAND, Key::N);
    window.type_text("two");
    window.press_enter();
    window.say(summary("2", StopReason::End));
    window.wait_until(|state| state.list.len() == 2);
    window.tab_to("one");
    window.press(Modifiers::NONE, Key::Enter);
    window.wait_until(|state| state.chat.shown().count() == 2);
    assert_eq!(window.shown(), ["one", "1"]);
    window.tab_to("Search all chats");
    window.type_text("tw");
    window.wait_until(|state| state.search.hits.len() == 1);
}
