//! Room `app`: does Enter send, or does it belong to an input method that is composing a word?

use egui::{Event, ImeEvent, Key};

/// Follows an input method through the window's events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Composition {
    composing: bool,
}

impl Composition {
    /// Is a word being composed?
    #[must_use]
    pub fn is_composing(self) -> bool {
        self.composing
    }

    /// Takes in a frame's events, in order. While the question is `typed`, takes out of them each Enter that is not a
    /// new line (Shift+Enter, Alt+Enter stay); otherwise Enter belongs to whatever has the keyboard. True when one of them is to send: not while a word is composed, nor in the frame in
    /// which it is committed, where the Enter is the one that committed it.
    pub fn take_enter(&mut self, events: &mut Vec<Event>, typed: bool) -> bool {
        let (mut sends, mut ime_spoke) = (false, false);
        events.retain(|event| match event {
            Event::Ime(ImeEvent::Preedit { text, .. }) => {
                ime_spoke |= self.composing || !text.is_empty();
                self.composing = !text.is_empty();
                true
            }
            Event::Ime(ImeEvent::Commit(_)) => {
                ime_spoke = true;
                self.composing = false;
                true
            }
            Event::WindowFocused(false) => {
                self.composing = false;
                true
            }
            Event::Key { key: Key::Enter, pressed: true, modifiers, repeat, .. }
                if typed && !modifiers.shift && !modifiers.alt =>
            {
                sends |= !self.composing && !ime_spoke && !repeat;
                false
            }
            _ => true,
        });
        sends
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use egui::Modifiers;

    fn enter(modifiers: Modifiers) -> Event {
        Event::Key { key: Key::Enter, physical_key: None, pressed: true, repeat: false, modifiers }
    }

    fn preedit(text: &str) -> Event {
        Event::Ime(ImeEvent::Preedit { text: text.into(), active_range_chars: None })
    }

    #[test]
    fn enter_sends_and_shift_enter_is_left_for_the_text() {
        let mut composition = Composition::default();
        let mut events = vec![enter(Modifiers::NONE)];
        assert!(composition.take_enter(&mut events, true) && events.is_empty());
        let mut events = vec![enter(Modifiers::SHIFT)];
        assert!(!composition.take_enter(&mut events, true) && events.len() == 1);
    }

    #[test]
    fn enter_does_not_send_while_a_word_is_composed_nor_when_it_commits_one() {
        let mut composition = Composition::default();
        assert!(!composition.take_enter(&mut vec![preedit("に")], true));
        assert!(!composition.take_enter(&mut vec![enter(Modifiers::NONE)], true));
        let commit = Event::Ime(ImeEvent::Commit("日".into()));
        assert!(!composition.take_enter(&mut vec![preedit(""), commit, enter(Modifiers::NONE)], true));
        assert!(composition.take_enter(&mut vec![enter(Modifiers::NONE)], true));
    }

    #[test]
    fn an_input_method_that_only_says_it_is_idle_does_not_hold_enter_back() {
        assert!(Composition::default().take_enter(&mut vec![preedit(""), enter(Modifiers::NONE)], true));
    }

    #[test]
    fn enter_elsewhere_is_left_alone() {
        let mut events = vec![enter(Modifiers::NONE)];
        assert!(!Composition::default().take_enter(&mut events, false) && events.len() == 1);
    }

    #[test]
    fn leaving_the_window_ends_a_composition() {
        let mut composition = Composition::default();
        assert!(!composition.take_enter(&mut vec![preedit("に"), Event::WindowFocused(false)], true));
        assert!(composition.take_enter(&mut vec![enter(Modifiers::NONE)], true));
    }
}
