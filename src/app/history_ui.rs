//! Room `app`: draws the list of conversations: search, folders, pins.

use egui::{
    Button, CollapsingHeader, Id, Key, Label, RichText, ScrollArea, TextEdit, Ui, text::LayoutJob,
    text::TextFormat,
};

use super::actions::Action;
use super::command::Command;
use super::state::State;
use super::style;
use super::texts::{Texts, fill, texts};
use crate::chat::history::{Conversation, ConversationId, Hit};
use crate::chat::store::MOST_HITS;
use crate::chat::transfer::Format;

/// The search field, for putting the keyboard on it.
pub(super) fn search_id() -> Id {
    Id::unique("search conversations")
}

/// What is being typed about a conversation.
#[derive(Debug)]
pub(super) struct Naming {
    /// Which.
    pub id: ConversationId,
    /// The text so far.
    pub text: String,
    /// A folder's name, not a title.
    pub is_folder: bool,
    /// The field has had the keyboard.
    pub had_focus: bool,
    /// The field was drawn in this frame.
    pub was_drawn: bool,
}

/// Draws it.
pub(super) fn history_ui(
    ui: &mut Ui,
    state: &mut State,
    naming: &mut Option<Naming>,
    commands: &mut Vec<Command>,
) {
    let t = texts(ui.ctx());
    ui.horizontal(|ui| {
        ui.strong(t.conversations);
        ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
            let can = !state.chat.tree.is_empty() || state.chat.is_loading;
            if ui.add_enabled(can, Button::new(t.new_chat)).on_hover_text(t.new_chat_hint).clicked() {
                commands.push(Command::Do(Action::NewChat));
            }
        });
    });
    let search = TextEdit::singleline(&mut state.search.query)
        .id(search_id())
        .hint_text(t.search_hint)
        .desired_width(f32::INFINITY);
    let search = ui.add(search);
    search.widget_info(|| egui::WidgetInfo::labeled(egui::Role::TextInput, true, t.search_all));
    if search.has_focus() && ui.input(|input| input.key_pressed(Key::Escape)) {
        state.search.query.clear();
    }
    state.search_changed();
    ui.add_space(2.0);
    ScrollArea::vertical().id_salt("conversations").auto_shrink(false).show(ui, |ui| {
        if state.search.query.trim().is_empty() {
            list_ui(ui, state, naming, t, commands);
        } else {
            hits_ui(ui, state, t, commands);
        }
    });
}

fn list_ui(ui: &mut Ui, state: &State, naming: &mut Option<Naming>, t: &Texts, commands: &mut Vec<Command>) {
    let order = state.in_order();
    if order.is_empty() {
        ui.add_space(8.0);
        ui.weak(t.no_conversations);
        return;
    }
    let folder_of = |c: &Conversation| if c.pinned { String::new() } else { c.folder.clone() };
    for group in order.chunk_by(|a, b| folder_of(a) == folder_of(b)) {
        let folder = group.first().map(|c| folder_of(c)).unwrap_or_default();
        if folder.is_empty() {
            for conversation in group {
                row_ui(ui, state, conversation, naming, t, commands);
            }
            continue;
        }
        // A title that is being typed must be seen.
        let is_named = naming.as_ref().is_some_and(|naming| group.iter().any(|c| c.id == naming.id));
        let header = CollapsingHeader::new(&folder).id_salt(("folder", &folder)).default_open(true);
        header.open(is_named.then_some(true)).show(ui, |ui| {
            for conversation in group {
                row_ui(ui, state, conversation, naming, t, commands);
            }
        });
    }
}

fn row_ui(
    ui: &mut Ui,
    state: &State,
    conversation: &Conversation,
    naming: &mut Option<Naming>,
    t: &Texts,
    commands: &mut Vec<Command>,
) {
    let id = conversation.id;
    if naming.as_ref().is_some_and(|naming| naming.id == id) {
        naming_ui(ui, naming, t, commands);
        return;
    }
    // A long list costs what is in sight.
    let height = ui.spacing().interact_size.y;
    let rect = egui::Rect::from_min_size(ui.cursor().min, egui::vec2(ui.available_width(), height));
    if !ui.is_rect_visible(rect.expand(height)) {
        ui.allocate_space(rect.size());
        return;
    }
    let title = if conversation.title.is_empty() { t.untitled } else { conversation.title.as_str() };
    let mut text = String::new();
    if conversation.pinned {
        text.push_str("★ ");
    }
    if state.is_answering(id) {
        text.push_str("… ");
    }
    text.push_str(title);
    ui.push_id(id.0, |ui| {
        let is_here = state.chat.id == id;
        let layout = egui::Layout::top_down_justified(egui::Align::LEFT);
        let row = ui.with_layout(layout, |ui| ui.add(Button::selectable(is_here, text).truncate())).inner;
        let values: [(&str, &dyn std::fmt::Display); 2] =
            [("title", &title), ("messages", &conversation.messages)];
        let row = row.on_hover_text(fill(t.chat_hover, &values));
        if row.clicked() {
            commands.push(Command::OpenChat(id, None));
        }
        if row.double_clicked() {
            commands.push(Command::StartRename(id));
        }
        row.context_menu(|ui| chat_menu(ui, state, conversation, t, commands));
    });
}

/// What can be done with a conversation.
pub(super) fn chat_menu(
    ui: &mut Ui,
    state: &State,
    conversation: &Conversation,
    t: &Texts,
    commands: &mut Vec<Command>,
) {
    let id = conversation.id;
    let mut item = |ui: &mut Ui, name: &str, command: Command| {
        if ui.button(name).clicked() {
            commands.push(command);
            ui.close();
        }
    };
    item(ui, t.rename_chat, Command::StartRename(id));
    item(ui, if conversation.pinned { t.unpin } else { t.pin_chat }, Command::Pin(id, !conversation.pinned));
    ui.menu_button(t.folder, |ui| {
        if !conversation.folder.is_empty() {
            item(ui, t.no_folder, Command::Folder(id, String::new()));
        }
        for folder in state.folders().into_iter().filter(|folder| *folder != conversation.folder) {
            item(ui, folder, Command::Folder(id, folder.to_owned()));
        }
        item(ui, t.new_folder, Command::StartFolder(id));
    });
    ui.separator();
    item(ui, t.export_chat, Command::Export(Some(id), Format::Json));
    item(ui, t.export_markdown, Command::Export(Some(id), Format::Markdown));
    ui.separator();
    item(ui, t.delete_chat, Command::DeleteChat(id));
}

fn naming_ui(ui: &mut Ui, naming: &mut Option<Naming>, t: &Texts, commands: &mut Vec<Command>) {
    let Some(now) = naming else { return };
    now.was_drawn = true;
    let name = if now.is_folder { t.folder_name } else { t.chat_title };
    let field = ui.add(TextEdit::singleline(&mut now.text).hint_text(name).desired_width(f32::INFINITY));
    field.widget_info(|| egui::WidgetInfo::labeled(egui::Role::TextInput, true, name));
    if !now.had_focus {
        field.request_focus();
        now.had_focus = true;
        return;
    }
    if ui.input(|input| input.key_pressed(Key::Escape)) {
        *naming = None;
        return;
    }
    if field.lost_focus() {
        let (id, text) = (now.id, std::mem::take(&mut now.text));
        commands.push(if now.is_folder { Command::Folder(id, text) } else { Command::Rename(id, text) });
        *naming = None;
    }
}

fn hits_ui(ui: &mut Ui, state: &State, t: &Texts, commands: &mut Vec<Command>) {
    let hits = &state.search.hits;
    if hits.is_empty() {
        ui.weak(t.nothing_found);
        return;
    }
    let words = match hits.len() {
        1 => t.hit,
        MOST_HITS.. => t.hits_cut,
        _ => t.hits,
    };
    ui.weak(fill(words, &[("n", &style::grouped(hits.len()))]));
    for hit in hits {
        let title = state.listed(hit.conversation).map_or("", |c| c.title.as_str());
        let title = if title.is_empty() { t.untitled } else { title };
        ui.push_id(hit.message.0, |ui| {
            ui.add(Label::new(RichText::new(title).small().weak()).truncate());
            let button = Button::new(excerpt(ui, hit)).wrap().frame_when_inactive(false);
            if ui.add(button).clicked() {
                commands.push(Command::OpenChat(hit.conversation, Some(hit.message)));
            }
        });
    }
}

/// A piece of a message with what was found marked.
fn excerpt(ui: &Ui, hit: &Hit) -> LayoutJob {
    let font = egui::TextStyle::Body.resolve(ui.style());
    let colour = ui.visuals().text_color();
    let mut job = LayoutJob::default();
    for (text, found) in &hit.excerpt {
        let mut format = TextFormat::simple(font.clone(), colour);
        if *found {
            format.background = ui.visuals().selection.bg_fill.gamma_multiply(0.6);
            format.color = ui.visuals().strong_text_color();
        }
        // One line of a message may be many.
        job.append(&text.replace('\n', " "), 0.0, format);
    }
    job
}
