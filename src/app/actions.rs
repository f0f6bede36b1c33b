//! Room `app`: what can be done without pointing at something, in one table. Menus, shortcuts, the command palette and
//! the sheet of shortcuts are made from it.

use egui::{Key, KeyboardShortcut, Modifiers};

use super::texts::Texts;

/// Something to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// An empty conversation.
    NewChat,
    /// The models of this machine, and those that can be had.
    Models,
    /// Choose a model's folder.
    OpenModel,
    /// Load the model in this program.
    UseDemo,
    /// Servers that can answer instead of this machine.
    OpenServers,
    /// Choose pictures for the question.
    AddPictures,
    /// Choose a folder of frames for the question.
    AddFrames,
    /// Write this conversation to a file that can be imported.
    ExportChat,
    /// Write this conversation as Markdown.
    ExportMarkdown,
    /// Write all conversations to a file that can be imported.
    ExportAll,
    /// Read conversations from a file.
    Import,
    /// End the program.
    Quit,
    /// Send the question.
    Send,
    /// Stop the answer.
    Stop,
    /// Change the last question.
    EditLast,
    /// Another answer to the last question.
    Regenerate,
    /// Go on with the last answer.
    Continue,
    /// Copy the last answer.
    CopyAnswer,
    /// Undo the last deletion.
    Undo,
    /// Give this conversation another name.
    Rename,
    /// Keep this conversation on top, or not.
    Pin,
    /// Delete this conversation.
    DeleteChat,
    /// The conversation above in the list.
    PreviousChat,
    /// The conversation below in the list.
    NextChat,
    /// Look for words in all conversations.
    Search,
    /// The command palette.
    Palette,
    /// The sheet of shortcuts.
    Shortcuts,
    /// What the program is, and the licences of what is in it.
    About,
    /// The comparison, or the chat again.
    Compare,
    /// Read a comparison from a file.
    OpenComparison,
    /// The list of conversations, there or not.
    ToggleHistory,
    /// The settings, there or not.
    ToggleSettings,
    /// What every token cost, there or not.
    Costs,
    /// The prompt and its tokens.
    ShowPrompt,
    /// Everything larger.
    ZoomIn,
    /// Everything smaller.
    ZoomOut,
    /// The usual size.
    ZoomReset,
    /// The system's theme.
    ThemeSystem,
    /// Light.
    ThemeLight,
    /// Dark.
    ThemeDark,
    /// What a report of a fault needs, into the clipboard.
    CopyDiagnostics,
    /// The folder of the log, in the system's file manager.
    ShowLogs,
}

/// A menu.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Menu {
    /// Files and models.
    File,
    /// Messages and conversations.
    Chat,
    /// What is on the screen.
    View,
}

/// All menus.
pub const MENUS: [Menu; 3] = [Menu::File, Menu::Chat, Menu::View];

impl Menu {
    /// What it is called.
    #[must_use]
    pub fn name(self, texts: &Texts) -> &'static str {
        match self {
            Self::File => texts.menu_file,
            Self::Chat => texts.menu_chat,
            Self::View => texts.menu_view,
        }
    }
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// What is done.
    pub action: Action,
    /// What it is called.
    pub name: fn(&Texts) -> &'static str,
    /// Where it stands.
    pub menu: Menu,
    /// How it is done by keys.
    pub keys: Option<KeyboardShortcut>,
    /// A line is drawn above it in its menu.
    pub begins_group: bool,
}

const fn command(key: Key) -> KeyboardShortcut {
    KeyboardShortcut::new(Modifiers::COMMAND, key)
}

const fn command_shift(key: Key) -> KeyboardShortcut {
    KeyboardShortcut::new(Modifiers::COMMAND.plus(Modifiers::SHIFT), key)
}

const fn plain(key: Key) -> KeyboardShortcut {
    KeyboardShortcut::new(Modifiers::NONE, key)
}

macro_rules! rows {
    ($($menu:ident, $group:literal: $action:ident, $name:ident, $keys:expr;)*) => {
        &[$(Row {
            action: Action::$action,
            name: |texts| texts.$name,
            menu: Menu::$menu,
            keys: $keys,
            begins_group: $group == 1,
        },)*]
    };
}

/// The table, in the order of the menus. The number before the colon is 1 where a group begins.
pub const TABLE: &[Row] = rows! {
    File, 0: NewChat, new_chat, Some(command(Key::N));
    File, 1: Models, models_and_more, Some(command(Key::M));
    File, 0: OpenModel, open_model, Some(command(Key::O));
    File, 0: UseDemo, use_demo, None;
    File, 0: OpenServers, servers, None;
    File, 1: AddPictures, add_pictures, Some(command(Key::I));
    File, 0: AddFrames, add_frames, None;
    File, 1: ExportChat, export_chat, Some(command(Key::E));
    File, 0: ExportMarkdown, export_markdown, Some(command_shift(Key::E));
    File, 0: ExportAll, export_all, None;
    File, 0: Import, import, None;
    File, 0: OpenComparison, open_comparison, None;
    File, 1: Quit, quit, Some(command(Key::Q));
    Chat, 0: Send, send, Some(plain(Key::Enter));
    Chat, 0: Stop, stop, Some(plain(Key::Escape));
    Chat, 1: EditLast, edit_last, Some(plain(Key::ArrowUp));
    Chat, 0: Regenerate, regenerate, Some(command(Key::R));
    Chat, 0: Continue, continue_answer, Some(command_shift(Key::Enter));
    Chat, 0: CopyAnswer, copy_answer, Some(command_shift(Key::C));
    Chat, 1: Undo, undo_deletion, Some(command_shift(Key::U));
    Chat, 0: Rename, rename_chat, Some(plain(Key::F2));
    Chat, 0: Pin, pin_chat, Some(command_shift(Key::P));
    Chat, 0: DeleteChat, delete_chat, Some(command_shift(Key::D));
    Chat, 1: PreviousChat, previous_chat, Some(command(Key::PageUp));
    Chat, 0: NextChat, next_chat, Some(command(Key::PageDown));
    View, 0: Compare, side_by_side, Some(command(Key::T));
    View, 0: Costs, costs, Some(command(Key::J));
    View, 1: Search, search_all, Some(command(Key::F));
    View, 0: Palette, palette, Some(command(Key::K));
    View, 0: Shortcuts, shortcuts, Some(plain(Key::F1));
    View, 0: About, about, None;
    View, 1: ToggleHistory, toggle_history, Some(command(Key::B));
    View, 0: ToggleSettings, toggle_settings, Some(command(Key::Comma));
    View, 0: ShowPrompt, show_prompt, Some(command(Key::P));
    View, 1: ZoomIn, zoom_in, Some(command(Key::Plus));
    View, 0: ZoomOut, zoom_out, Some(command(Key::Minus));
    View, 0: ZoomReset, zoom_reset, Some(command(Key::Num0));
    View, 1: ThemeSystem, theme_system, None;
    View, 0: ThemeLight, theme_light, None;
    View, 0: ThemeDark, theme_dark, None;
    View, 1: CopyDiagnostics, copy_diagnostics, None;
    View, 0: ShowLogs, show_logs, None;
};

impl Action {
    /// Is the key left to whatever has the keyboard, and acted upon there? (Enter belongs to the question, Escape to what is
    /// open, Up to an empty question, the sizes to egui.)
    #[must_use]
    pub fn keys_are_elsewhere(self) -> bool {
        matches!(
            self,
            Self::Send | Self::Stop | Self::EditLast | Self::ZoomIn | Self::ZoomOut | Self::ZoomReset
        )
    }
}

/// The actions whose keys were pressed; the presses are taken out of the input. Those with more modifiers come first, so that
/// Ctrl+Shift+E is not taken for Ctrl+E.
pub(super) fn pressed(input: &mut egui::InputState) -> Vec<Action> {
    let mut rows: Vec<&Row> = TABLE.iter().filter(|row| !row.action.keys_are_elsewhere()).collect();
    rows.sort_by_key(|row| !row.keys.is_some_and(|keys| keys.modifiers.shift));
    rows.into_iter()
        .filter(|row| row.keys.is_some_and(|keys| input.consume_shortcut(&keys)))
        .map(|row| row.action)
        .collect()
}

/// How well a command fits what was typed into the palette: `None` not at all, less is better. Every letter must come, in
/// order.
#[must_use]
pub fn fit(name: &str, typed: &str) -> Option<usize> {
    let name = name.to_lowercase();
    let typed = typed.trim().to_lowercase();
    if let Some(at) = name.find(&typed) {
        return Some(at);
    }
    let (mut from, mut gaps) = (0, 100);
    for letter in typed.chars().filter(|c| !c.is_whitespace()) {
        let at = name.get(from..)?.find(letter)?;
        gaps += at;
        from += at + letter.len_utf8();
    }
    Some(gaps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::texts::Language;
    use std::collections::HashSet;

    #[test]
    fn every_action_is_in_the_table_once_and_no_keys_twice() {
        let actions: HashSet<String> = TABLE.iter().map(|row| format!("{:?}", row.action)).collect();
        assert_eq!(actions.len(), TABLE.len());
        let keys: Vec<KeyboardShortcut> = TABLE.iter().filter_map(|row| row.keys).collect();
        for (i, a) in keys.iter().enumerate() {
            assert!(!keys[..i].contains(a), "{a:?}");
        }
        for (_, language) in Language::ALL.iter().map(|(l, n)| (n, l.texts())) {
            let names: HashSet<&str> = TABLE.iter().map(|row| (row.name)(language)).collect();
            assert_eq!(names.len(), TABLE.len(), "two commands have one name");
        }
    }

    #[test]
    fn the_palette_finds_by_letters_in_order() {
        assert_eq!(fit("New chat", "new"), Some(0));
        assert!(fit("New chat", "nch").is_some());
        assert!(fit("New chat", "nch") > fit("New chat", "chat"));
        assert_eq!(fit("New chat", "xyz"), None);
        assert_eq!(fit("Über alles", "über"), Some(0));
    }
}
