//! Room `app`: draws servers elsewhere: the small window that adds, changes and removes them, and in the settings of a chat the
//! choice of where its answers come from.

use egui::{
    Button, ComboBox, Context, Id, Label, Modal, PopupCloseBehavior, RichText, Role, ScrollArea, TextEdit,
    Ui, WidgetInfo,
};

use super::actions::Action;
use super::command::Command;
use super::settings::Settings;
use super::state::{Elsewhere, ModelList, State};
use super::style;
use super::texts::{Texts, fill, texts};
use crate::error::Error;
use crate::remote::{Key, Server, ServerModel};

/// Width of the window of servers, points.
const WIDTH: f32 = 520.0;
/// Names of models that are told after a list was asked for.
const SHOWN_MODELS: usize = 6;

/// What is being typed of a server.
#[derive(Default)]
struct Form {
    /// The address of the server that is changed; `None`: a new one.
    before: Option<String>,
    name: String,
    address: String,
    key: String,
    error: Option<Error>,
    /// The address that was asked for its models from here.
    listed: Option<String>,
}

/// The window of servers while it is open. Holds what is typed: it is gone when the window is closed.
#[derive(Default)]
pub(super) struct ServersView {
    form: Option<Form>,
    /// The server that is to be removed, if that is confirmed.
    removing: Option<String>,
}

/// What the choice of a server and model remembers from frame to frame.
#[derive(Debug, Default)]
pub(super) struct ChoiceView {
    was_open: bool,
    other_model: String,
}

/// Draws the window of servers; false when it is to be closed.
pub(super) fn servers_ui(
    ctx: &Context,
    state: &State,
    view: &mut ServersView,
    commands: &mut Vec<Command>,
) -> bool {
    let t = texts(ctx);
    let size = ctx.content_rect().size();
    let had_form = view.form.is_some();
    let modal = Modal::new(Id::unique("servers")).show(ctx, |ui| {
        ui.set_width(WIDTH.min(size.x - 40.0));
        ui.heading(t.servers_title);
        ui.label(t.servers_words);
        ui.weak(t.servers_privacy);
        ui.add_space(6.0);
        // As high as it needs at once, not as it was before a form came.
        let most = size.y * 0.7;
        ScrollArea::vertical().max_height(most).min_scrolled_height(most).show(ui, |ui| {
            let elsewhere = &state.elsewhere;
            if elsewhere.servers.is_empty() {
                ui.weak(t.no_servers);
            }
            for server in &elsewhere.servers {
                ui.separator();
                ui.push_id(&server.base_url, |ui| server_ui(ui, elsewhere, server, view, t, commands));
            }
            ui.separator();
            let done = match &mut view.form {
                Some(form) => form_ui(ui, elsewhere, form, t, commands),
                None => {
                    if ui.button(t.add_server).clicked() {
                        (view.form, view.removing) = (Some(Form::default()), None);
                    }
                    false
                }
            };
            if done {
                view.form = None;
            }
        });
        ui.add_space(6.0);
        ui.button(t.close).clicked()
    });
    if had_form != view.form.is_some() {
        // It stands in the middle by the height it had before.
        ctx.request_repaint();
    }
    !modal.inner && !modal.should_close()
}

fn server_ui(
    ui: &mut Ui,
    elsewhere: &Elsewhere,
    server: &Server,
    view: &mut ServersView,
    t: &Texts,
    commands: &mut Vec<Command>,
) {
    let named = |text: &str| fill(text, &[("name", &server.name)]);
    ui.horizontal_wrapped(|ui| {
        ui.strong(&server.name);
        ui.weak(&server.base_url);
    });
    ui.horizontal_wrapped(|ui| {
        if style::quiet_button(ui, t.edit, &named(t.edit_server), true).clicked() {
            view.removing = None;
            view.form = Some(Form {
                before: Some(server.base_url.clone()),
                name: server.name.clone(),
                address: server.base_url.clone(),
                ..Form::default()
            });
        }
        if view.removing.as_ref() == Some(&server.base_url) {
            if ui.button(named(t.remove_server_sure)).clicked() {
                commands.push(Command::RemoveServer(server.base_url.clone()));
                (view.removing, view.form) = (None, None);
            }
            if ui.button(t.cancel).clicked() {
                view.removing = None;
            }
        } else if style::quiet_button(ui, t.delete, &named(t.remove_server), true).clicked() {
            view.removing = Some(server.base_url.clone());
        }
        if (server.has_key || elsewhere.key_trouble.contains_key(&server.base_url))
            && style::quiet_button(ui, t.forget_key, t.forget_key, true).clicked()
        {
            commands.push(Command::ForgetKey(server.base_url.clone()));
        }
    });
    if elsewhere.is_keeping(&server.base_url) {
        ui.weak(t.key_being_kept);
    } else if let Some(error) = elsewhere.key_trouble.get(&server.base_url) {
        error_ui(ui, &fill(t.key_this_run, &[("error", error)]));
    } else if server.has_key {
        ui.weak(t.key_kept);
    }
    if server.is_readable_on_the_way() {
        ui.add(Label::new(RichText::new(t.readable_on_the_way).color(ui.visuals().warn_fg_color)).wrap());
    }
}

fn error_ui(ui: &mut Ui, text: &str) {
    let text = RichText::new(text).color(ui.visuals().error_fg_color);
    ui.add(Label::new(text).selectable(true).wrap());
}

fn field(ui: &mut Ui, name: &str, hint: &str, text: &mut String, is_secret: bool) -> bool {
    let label = ui.label(name);
    let field = TextEdit::singleline(text).hint_text(hint).desired_width(f32::INFINITY).password(is_secret);
    ui.add(field).labelled_by(label.id).changed()
}

/// True when it is done with.
fn form_ui(
    ui: &mut Ui,
    elsewhere: &Elsewhere,
    form: &mut Form,
    t: &Texts,
    commands: &mut Vec<Command>,
) -> bool {
    ui.strong(match &form.before {
        Some(_) => fill(t.edit_server, &[("name", &form.name)]),
        None => t.add_server.to_owned(),
    });
    let mut changed = field(ui, t.server_name, t.server_name_hint, &mut form.name, false);
    changed |= field(ui, t.server_address, "https://server.example:8000/v1", &mut form.address, false);
    changed |= field(ui, t.server_key, t.server_key_hint, &mut form.key, true);
    if changed {
        (form.error, form.listed) = (None, None);
    }
    let mut done = false;
    ui.horizontal_wrapped(|ui| {
        let filled = !form.address.trim().is_empty();
        if ui.add_enabled(filled, Button::new(t.list_models)).on_hover_text(t.server_model_hint).clicked() {
            match form.server(elsewhere) {
                Ok((server, key)) => {
                    (form.error, form.listed) = (None, Some(server.base_url.clone()));
                    commands.push(Command::ListModels(Box::new(server), key));
                }
                Err(error) => form.error = Some(error),
            }
        }
        if ui.add_enabled(filled, Button::new(t.save)).clicked() {
            match form.server(elsewhere) {
                Ok((server, key)) => {
                    commands.push(Command::SaveServer(form.before.take(), Box::new(server), key));
                    done = true;
                }
                Err(error) => form.error = Some(error),
            }
        }
        done |= ui.button(t.cancel).clicked();
    });
    if let Some(error) = &form.error {
        error_ui(ui, &error.to_string());
    }
    if let Some(list) = form.listed.as_ref().and_then(|address| elsewhere.lists.get(address)) {
        match list {
            ModelList::Asked(_) => {
                ui.weak(t.listing_models);
            }
            ModelList::Failed(error) => error_ui(ui, &error.to_string()),
            ModelList::There(listed) if listed.models.is_empty() => {
                ui.weak(t.no_models_listed);
            }
            ModelList::There(listed) => {
                let mut names =
                    listed.models.iter().take(SHOWN_MODELS).cloned().collect::<Vec<_>>().join(", ");
                if listed.models.len() > SHOWN_MODELS {
                    names += ", …";
                }
                let n = style::grouped(listed.models.len());
                ui.add(Label::new(fill(t.models_listed, &[("n", &n), ("names", &names)])).wrap());
            }
        }
    }
    done
}

impl Form {
    /// The server that is described, and the key where one was typed. A server that moves to another address leaves its key
    /// behind: keys are given to the host they were typed for and to no other.
    fn server(&self, elsewhere: &Elsewhere) -> Result<(Server, Option<Key>), Error> {
        let new = Server::new(&self.name, &self.address)?;
        let taken = elsewhere.server(&new.base_url).filter(|_| self.before.as_ref() != Some(&new.base_url));
        if let Some(taken) = taken {
            return Err(Error::new("adding the server", format!("{} has this address already", taken.name))
                .at(&new.name)
                .help("change that one"));
        }
        let key = if self.key.trim().is_empty() { None } else { Some(Key::new(&self.key)?) };
        let known = elsewhere.server(&new.base_url).cloned().unwrap_or_default();
        Ok((Server { name: new.name, base_url: new.base_url, ..known }, key))
    }
}

/// Draws where the answers of a chat come from, to choose.
pub(super) fn choice_ui(
    ui: &mut Ui,
    settings: &mut Settings,
    elsewhere: &Elsewhere,
    view: &mut ChoiceView,
    t: &Texts,
    commands: &mut Vec<Command>,
) {
    let label = ui.strong(t.answers_from);
    let width = ui.available_width();
    let chosen = settings.answers_from.clone();
    let server = chosen.as_ref().and_then(|chosen| elsewhere.server(&chosen.base_url));
    let shown = match (&chosen, server) {
        (None, _) => t.this_machine.to_owned(),
        (Some(_), Some(server)) => server.name.clone(),
        (Some(chosen), None) => fill(t.unknown_server, &[("address", &chosen.base_url)]),
    };
    let combo = ComboBox::from_id_salt("answers from").selected_text(shown).width(width).truncate();
    let combo = combo.show_ui(ui, |ui| {
        if ui.selectable_label(chosen.is_none(), t.this_machine).clicked() {
            settings.answers_from = None;
        }
        for other in &elsewhere.servers {
            let is_chosen = server.is_some_and(|server| server.base_url == other.base_url);
            if ui.selectable_label(is_chosen, &other.name).on_hover_text(&other.base_url).clicked()
                && !is_chosen
            {
                // The only model is meant; of several, one is to be chosen.
                let model = match other.models.as_slice() {
                    [only] => only.clone(),
                    _ => String::new(),
                };
                settings.answers_from = Some(ServerModel { base_url: other.base_url.clone(), model });
            }
        }
    });
    combo.response.labelled_by(label.id).on_hover_text(t.answers_from_hint);
    if let (Some(server), Some(chosen)) = (server, &mut settings.answers_from) {
        model_ui(ui, server, chosen, elsewhere, view, t, commands);
        let values: [(&str, &dyn std::fmt::Display); 2] =
            [("server", &server.name), ("address", &server.base_url)];
        let words = format!("{} {}", fill(t.answers_come_from, &values), t.server_not_applied);
        ui.add(Label::new(RichText::new(words).small().weak()).wrap());
        let mut left = !settings.own_sampling;
        if ui.checkbox(&mut left, t.left_to_server).on_hover_text(t.left_to_server_hint).changed() {
            settings.own_sampling = !left;
        }
    } else if chosen.is_some() && settings.answers_from.is_some() {
        error_ui(ui, t.server_unknown);
    }
    if ui.button(t.servers).clicked() {
        commands.push(Command::Do(Action::OpenServers));
    }
}

fn model_ui(
    ui: &mut Ui,
    server: &Server,
    chosen: &mut ServerModel,
    elsewhere: &Elsewhere,
    view: &mut ChoiceView,
    t: &Texts,
    commands: &mut Vec<Command>,
) {
    let label = ui.label(t.server_model);
    let width = ui.available_width();
    let shown = if chosen.model.trim().is_empty() { t.choose_server_model } else { chosen.model.as_str() };
    let combo = ComboBox::from_id_salt("server's model").selected_text(shown).width(width).truncate();
    let combo = combo.close_behavior(PopupCloseBehavior::CloseOnClickOutside).show_ui(ui, |ui| {
        for model in &server.models {
            if ui.selectable_label(*model == chosen.model, model).clicked() {
                chosen.model.clone_from(model);
                ui.close();
            }
        }
        let other = TextEdit::singleline(&mut view.other_model).hint_text(t.other_model);
        let other = ui.add(other.desired_width(f32::INFINITY));
        other.widget_info(|| WidgetInfo::labeled(Role::TextInput, true, t.other_model));
        if other.lost_focus() && ui.input(|input| input.key_pressed(egui::Key::Enter)) {
            let typed = std::mem::take(&mut view.other_model);
            if !typed.trim().is_empty() {
                typed.trim().clone_into(&mut chosen.model);
                ui.close();
            }
        }
        // Below, so that what can be clicked stays where it is when the list comes.
        match elsewhere.lists.get(&server.base_url) {
            Some(ModelList::Asked(_)) => {
                ui.weak(t.listing_models);
            }
            Some(ModelList::Failed(error)) => {
                ui.set_max_width(width.max(220.0));
                error_ui(ui, &error.to_string());
            }
            Some(ModelList::There(listed)) if listed.models.is_empty() => {
                ui.weak(t.no_models_listed);
            }
            Some(ModelList::There(_)) | None => {}
        }
    });
    let is_open = combo.inner.is_some();
    combo.response.labelled_by(label.id).on_hover_text(t.server_model_hint);
    if is_open && !std::mem::replace(&mut view.was_open, is_open) {
        commands.push(Command::ListModels(Box::new(server.clone()), None));
    }
    view.was_open = is_open;
}

/// Draws what stands at the top in place of the model: the server that answers, and its model.
pub(super) fn place_ui(ui: &mut Ui, state: &State, t: &Texts) {
    match state.answering_server() {
        Some((server, model)) => {
            let model = if model.is_empty() { t.choose_server_model } else { model };
            let values: [(&str, &dyn std::fmt::Display); 2] =
                [("server", &server.name), ("address", &server.base_url)];
            let detail = fill(t.answers_come_from, &values);
            let shown = fill(t.from_server, &[("model", &model), ("server", &server.name)]);
            ui.add(Label::new(RichText::new(shown).strong()).truncate()).on_hover_text(detail);
        }
        None => {
            let address = state.chat.settings.answers_from.as_ref().map_or("", |chosen| &chosen.base_url);
            let shown = fill(t.unknown_server, &[("address", &address)]);
            let shown = RichText::new(shown).color(ui.visuals().error_fg_color);
            ui.add(Label::new(shown).truncate()).on_hover_text(t.server_unknown);
        }
    }
}
