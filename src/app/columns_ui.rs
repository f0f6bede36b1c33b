//! Room `app`: draws what is written of a comparison: the fields that columns share, each column's own, variables, assertions.

use egui::{Button, ComboBox, DragValue, Frame, Margin, RichText, TextEdit, Ui};

use super::command::Command;
use super::comparing::{Comparing, MOST_COLUMNS};
use super::comparing_ui::CompareCommand;
use super::style;
use super::texts::{Texts, fill};
use crate::compare::{Fields, Pairing, SAMPLE, Scalar, samples};
use crate::model::recipe::Recipe;

/// A field that a column has of its own or shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Prompt,
    System,
    Pictures,
    PictureSize,
    AnswerStart,
    Reference,
    MaxTokens,
    Temperature,
    TopP,
    TopK,
    MinP,
    Presence,
    Repetition,
    Seed,
    Stop,
    Model,
    Recipe,
    Server,
    Before,
}

const FIELDS: [Field; 19] = [
    Field::Prompt,
    Field::System,
    Field::Pictures,
    Field::PictureSize,
    Field::AnswerStart,
    Field::Reference,
    Field::MaxTokens,
    Field::Temperature,
    Field::TopP,
    Field::TopK,
    Field::MinP,
    Field::Presence,
    Field::Repetition,
    Field::Seed,
    Field::Stop,
    Field::Model,
    Field::Recipe,
    Field::Server,
    Field::Before,
];

impl Field {
    fn name(self, t: &Texts) -> &'static str {
        match self {
            Self::Prompt => t.field_prompt,
            Self::System => t.instructions,
            Self::Pictures => t.field_pictures,
            Self::PictureSize => t.field_picture_size,
            Self::AnswerStart => t.field_answer_start,
            Self::Reference => t.field_reference,
            Self::MaxTokens => t.field_max_tokens,
            Self::Temperature => t.temperature,
            Self::TopP => "Top-p",
            Self::TopK => "Top-k",
            Self::MinP => "Min-p",
            Self::Presence => t.presence_penalty,
            Self::Repetition => t.repetition_penalty,
            Self::Seed => t.seed,
            Self::Stop => t.stop_strings,
            Self::Model => t.field_model,
            Self::Recipe => t.field_recipe,
            Self::Server => t.field_server,
            Self::Before => t.field_before,
        }
    }

    fn is_set(self, f: &Fields) -> bool {
        match self {
            Self::Prompt => f.prompt.is_some(),
            Self::System => f.system.is_some(),
            Self::Pictures => f.pictures.is_some(),
            Self::PictureSize => f.picture_size.is_some(),
            Self::AnswerStart => f.answer_start.is_some(),
            Self::Reference => f.reference.is_some(),
            Self::MaxTokens => f.max_tokens.is_some(),
            Self::Temperature => f.temperature.is_some(),
            Self::TopP => f.top_p.is_some(),
            Self::TopK => f.top_k.is_some(),
            Self::MinP => f.min_p.is_some(),
            Self::Presence => f.presence_penalty.is_some(),
            Self::Repetition => f.repetition_penalty.is_some(),
            Self::Seed => f.seed.is_some(),
            Self::Stop => f.stop.is_some(),
            Self::Model => f.model.is_some(),
            Self::Recipe => f.recipe.is_some(),
            Self::Server => f.server.is_some() || f.server_model.is_some(),
            Self::Before => f.before.is_some(),
        }
    }

    /// Takes `from`'s value, or the usual one where it has none.
    fn set(self, f: &mut Fields, from: &Fields) {
        match self {
            Self::Prompt => f.prompt = Some(from.prompt.clone().unwrap_or_default()),
            Self::System => f.system = Some(from.system.clone().unwrap_or_default()),
            Self::Pictures => f.pictures = Some(from.pictures.clone().unwrap_or_default()),
            Self::PictureSize => {
                f.picture_size = Some(from.picture_size.clone().unwrap_or(Scalar::Integer(448)));
            }
            Self::AnswerStart => f.answer_start = Some(from.answer_start.clone().unwrap_or_default()),
            Self::Reference => f.reference = Some(from.reference.clone().unwrap_or_default()),
            Self::MaxTokens => f.max_tokens = from.max_tokens.or(Some(256)),
            Self::Temperature => f.temperature = from.temperature.or(Some(0.7)),
            Self::TopP => f.top_p = from.top_p.or(Some(0.8)),
            Self::TopK => f.top_k = from.top_k.or(Some(20)),
            Self::MinP => f.min_p = from.min_p.or(Some(0.0)),
            Self::Presence => f.presence_penalty = from.presence_penalty.or(Some(0.0)),
            Self::Repetition => f.repetition_penalty = from.repetition_penalty.or(Some(1.0)),
            Self::Seed => f.seed = from.seed.or(Some(0)),
            Self::Stop => f.stop = Some(from.stop.clone().unwrap_or_default()),
            Self::Model => f.model = Some(from.model.clone().unwrap_or_default()),
            Self::Recipe => f.recipe = from.recipe.or(Some(Recipe::Int8Hu)),
            Self::Server => {
                f.server = Some(from.server.clone().unwrap_or_default());
                f.server_model = Some(from.server_model.clone().unwrap_or_default());
            }
            Self::Before => f.before.clone_from(&from.before),
        }
    }

    fn clear(self, f: &mut Fields) {
        match self {
            Self::Prompt => f.prompt = None,
            Self::System => f.system = None,
            Self::Pictures => f.pictures = None,
            Self::PictureSize => f.picture_size = None,
            Self::AnswerStart => f.answer_start = None,
            Self::Reference => f.reference = None,
            Self::MaxTokens => f.max_tokens = None,
            Self::Temperature => f.temperature = None,
            Self::TopP => f.top_p = None,
            Self::TopK => f.top_k = None,
            Self::MinP => f.min_p = None,
            Self::Presence => f.presence_penalty = None,
            Self::Repetition => f.repetition_penalty = None,
            Self::Seed => f.seed = None,
            Self::Stop => f.stop = None,
            Self::Model => f.model = None,
            Self::Recipe => f.recipe = None,
            Self::Server => (f.server, f.server_model) = (None, None),
            Self::Before => f.before = None,
        }
    }
}

/// What names models and servers that can be chosen.
pub(super) struct Choices<'a> {
    /// Models of this machine.
    pub models: Vec<String>,
    /// Addresses and models of servers.
    pub servers: Vec<(&'a str, &'a [String])>,
}

/// Draws what columns share, and what the whole comparison has.
pub(super) fn shared_ui(
    ui: &mut Ui,
    comparing: &mut Comparing,
    choices: &Choices<'_>,
    t: &Texts,
    commands: &mut Vec<Command>,
) {
    ui.strong(t.shared_fields);
    let mut shared = std::mem::take(&mut comparing.comparison.shared);
    if shared.prompt.is_none() && comparing.comparison.columns.iter().any(|column| column.prompt.is_none()) {
        shared.prompt = Some(String::new());
    }
    fields_ui(ui, (&mut shared, &Fields::default()), None, choices, t, commands);
    comparing.comparison.shared = shared;
    ui.add_space(4.0);
    egui::CollapsingHeader::new(t.variables)
        .id_salt("variables")
        .default_open(!comparing.variable_lines.is_empty())
        .show(ui, |ui| variables_ui(ui, comparing, t));
    egui::CollapsingHeader::new(t.assertions)
        .id_salt("assertions")
        .default_open(!comparing.assertion_lines.is_empty())
        .show(ui, |ui| assertions_ui(ui, comparing, t));
}

fn variables_ui(ui: &mut Ui, comparing: &mut Comparing, t: &Texts) {
    ui.label(RichText::new(t.variables_hint).small().weak());
    let mut gone = None;
    for (n, (name, lines)) in comparing.variable_lines.iter_mut().enumerate() {
        ui.horizontal(|ui| {
            let width = ui.available_width() - 34.0;
            let field = TextEdit::singleline(name).hint_text(t.variable_name).desired_width(width);
            style::named(ui.add(field), t.variable_name);
            if style::quiet_button(ui, "×", t.remove, true).clicked() {
                gone = Some(n);
            }
        });
        let field = TextEdit::multiline(lines)
            .hint_text(t.variable_values)
            .desired_rows(2)
            .desired_width(f32::INFINITY);
        let field = ui.add(field);
        field.widget_info(|| {
            egui::WidgetInfo::labeled(egui::Role::MultilineTextInput, true, t.variable_values)
        });
    }
    if let Some(n) = gone {
        comparing.variable_lines.remove(n);
    }
    ui.horizontal_wrapped(|ui| {
        if ui.small_button(t.add_variable).clicked() {
            let n = comparing.variable_lines.len() + 1;
            comparing.variable_lines.push((format!("v{n}"), String::new()));
        }
        let matrix = &mut comparing.comparison.matrix;
        let mut paired = matrix.pairing == Pairing::Paired;
        if ui.checkbox(&mut paired, t.paired).on_hover_text(t.paired_hint).changed() {
            matrix.pairing = if paired { Pairing::Paired } else { Pairing::Cartesian };
        }
    });
    ui.horizontal(|ui| {
        let label = ui.label(t.repeats);
        let repeats = DragValue::new(&mut comparing.comparison.matrix.repeats).range(1..=1000);
        ui.add(repeats).labelled_by(label.id).on_hover_text(t.repeats_hint);
    });
    let matrix = &mut comparing.comparison.matrix;
    ui.horizontal(|ui| {
        let label = ui.label("CSV");
        let mut csv = matrix.csv.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        let field = TextEdit::singleline(&mut csv).hint_text(t.csv_hint).desired_width(f32::INFINITY);
        if ui.add(field).labelled_by(label.id).changed() {
            matrix.csv = (!csv.trim().is_empty()).then(|| csv.into());
        }
    });
}

/// What can be asserted, as it is written.
const TEMPLATES: [&str; 10] = [
    "contains = \"…\"",
    "lacks = \"…\"",
    "equals = \"…\", ignore_case = true",
    "regex = \"^(yes|no)\"",
    "json = true",
    "json_schema = { type = \"object\" }",
    "max_words = 40",
    "max_tokens = 64",
    "box = [100, 100, 500, 500], min_iou = 0.5",
    "stops_by_itself = true",
];

fn assertions_ui(ui: &mut Ui, comparing: &mut Comparing, t: &Texts) {
    ui.label(RichText::new(t.assertions_hint).small().weak());
    let mut gone = None;
    for (n, line) in comparing.assertion_lines.iter_mut().enumerate() {
        ui.horizontal(|ui| {
            let width = ui.available_width() - 34.0;
            let field = TextEdit::singleline(line).code_editor().desired_width(width);
            style::named(ui.add(field), t.assertion);
            if style::quiet_button(ui, "×", t.remove, true).clicked() {
                gone = Some(n);
            }
        });
    }
    if let Some(n) = gone {
        comparing.assertion_lines.remove(n);
    }
    ui.menu_button(t.add_assertion, |ui| {
        for template in TEMPLATES {
            if ui.button(RichText::new(template).monospace()).clicked() {
                comparing.assertion_lines.push(template.to_owned());
                ui.close();
            }
        }
    });
}

/// Draws a column's head and its own fields.
pub(super) fn column_ui(
    ui: &mut Ui,
    comparing: &mut Comparing,
    n: usize,
    choices: &Choices<'_>,
    t: &Texts,
    commands: &mut Vec<Command>,
) {
    let names = comparing.comparison.column_names();
    let count = names.len();
    let Some(mut column) = comparing.comparison.columns.get(n).cloned() else { return };
    let mut done = None;
    ui.horizontal(|ui| {
        let mut name = column.name.clone().unwrap_or_default();
        let hint = names.get(n).cloned().unwrap_or_default();
        let field = TextEdit::singleline(&mut name)
            .hint_text(hint)
            .desired_width((ui.available_width() - 70.0).max(60.0));
        if style::named(ui.add(field), t.column_name).changed() {
            column.name = (!name.trim().is_empty()).then_some(name);
        }
        let menu = ui.menu_button("…", |ui| {
            let mut item = |text: &str, enabled: bool, what: Move| {
                if ui.add_enabled(enabled, Button::new(text)).clicked() {
                    done = Some(what);
                    ui.close();
                }
            };
            item(t.duplicate, count < MOST_COLUMNS, Move::Duplicate);
            item(t.move_left, n > 0, Move::Left);
            item(t.move_right, n + 1 < count, Move::Right);
            item(t.collapse, true, Move::Collapse);
            item(t.remove, count > 1, Move::Remove);
        });
        style::named(menu.response, &fill(t.column_menu, &[("name", &names[n])]));
    });
    let shared = comparing.comparison.shared.clone();
    fields_ui(ui, (&mut column, &shared), Some(n), choices, t, commands);
    comparing.comparison.columns[n] = column;
    if let Some(done) = done {
        done.carry_out(comparing, n);
    }
}

/// What can be done with a column.
#[derive(Clone, Copy)]
enum Move {
    Duplicate,
    Left,
    Right,
    Collapse,
    Remove,
}

impl Move {
    fn carry_out(self, comparing: &mut Comparing, n: usize) {
        let collapsed = &mut comparing.looking.collapsed;
        let columns = &mut comparing.comparison.columns;
        match self {
            Self::Collapse => drop(collapsed.insert(n)),
            Self::Left => columns.swap(n - 1, n),
            Self::Right => columns.swap(n, n + 1),
            Self::Remove => {
                columns.remove(n);
                collapsed.clear();
            }
            Self::Duplicate => {
                let mut copy = columns[n].clone();
                copy.name = copy.name.map(|name| format!("{name} 2"));
                columns.insert(n + 1, copy);
                collapsed.clear();
            }
        }
    }
}

/// Draws the fields that are said, and a menu of those that are not.
fn fields_ui(
    ui: &mut Ui,
    (fields, shared): (&mut Fields, &Fields),
    column: Option<usize>,
    choices: &Choices<'_>,
    t: &Texts,
    commands: &mut Vec<Command>,
) {
    let frame = Frame::new().inner_margin(Margin::symmetric(0, 1));
    for field in FIELDS {
        if !field.is_set(fields) {
            continue;
        }
        frame.show(ui, |ui| {
            ui.push_id((field.name(t), column), |ui| {
                field_ui(ui, field, fields, column, choices, t, commands);
            });
        });
    }
    let name = if column.is_some() { t.own_field } else { t.add_field };
    ui.menu_button(RichText::new(name).small(), |ui| {
        for field in FIELDS {
            // Earlier turns come from a chat.
            if field != Field::Before && !field.is_set(fields) && ui.button(field.name(t)).clicked() {
                field.set(fields, shared);
                ui.close();
            }
        }
    });
}

fn field_ui(
    ui: &mut Ui,
    field: Field,
    fields: &mut Fields,
    column: Option<usize>,
    choices: &Choices<'_>,
    t: &Texts,
    commands: &mut Vec<Command>,
) {
    let name = field.name(t);
    let unlink = if column.is_some() { t.use_shared } else { t.remove };
    let mut gone = false;
    // Values of a few letters stand beside their name, texts under it.
    ui.horizontal(|ui| {
        let label = ui.label(RichText::new(name).small());
        let number = |ui: &mut Ui, value: &mut Option<f32>, range: std::ops::RangeInclusive<f32>| {
            if let Some(value) = value {
                ui.add(DragValue::new(value).range(range).speed(0.01).max_decimals(2)).labelled_by(label.id);
            }
        };
        match field {
            Field::MaxTokens => {
                if let Some(n) = &mut fields.max_tokens {
                    ui.add(DragValue::new(n).range(1..=32_768)).labelled_by(label.id);
                }
            }
            Field::TopK => {
                if let Some(n) = &mut fields.top_k {
                    ui.add(DragValue::new(n).range(0..=200)).labelled_by(label.id);
                }
            }
            Field::Seed => {
                if let Some(n) = &mut fields.seed {
                    ui.add(DragValue::new(n)).labelled_by(label.id);
                }
            }
            Field::Temperature => number(ui, &mut fields.temperature, 0.0..=2.0),
            Field::TopP => number(ui, &mut fields.top_p, 0.01..=1.0),
            Field::MinP => number(ui, &mut fields.min_p, 0.0..=1.0),
            Field::Presence => number(ui, &mut fields.presence_penalty, 0.0..=2.0),
            Field::Repetition => number(ui, &mut fields.repetition_penalty, 0.1..=2.0),
            Field::PictureSize => {
                let mut text = fields.picture_size.as_ref().map(ToString::to_string).unwrap_or_default();
                let edit = TextEdit::singleline(&mut text).desired_width(80.0);
                if ui.add(edit).labelled_by(label.id).on_hover_text(t.picture_size_hint).changed() {
                    fields.picture_size = Some(Scalar::from(text));
                }
            }
            Field::Recipe => {
                if let Some(recipe) = &mut fields.recipe {
                    ComboBox::from_id_salt("recipe").selected_text(recipe.name()).show_ui(ui, |ui| {
                        for choice in Recipe::ALL {
                            ui.selectable_value(recipe, choice, choice.name());
                        }
                    });
                }
            }
            Field::Before => {
                let turns = fields.before.as_ref().map_or(0, Vec::len);
                ui.label(RichText::new(fill(t.earlier_turns, &[("n", &turns)])).small().weak());
            }
            _ => {}
        }
        ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
            let close = format!("{name}: {unlink}");
            gone = style::quiet_button(ui, "×", &close, true).clicked();
        });
    });
    below_ui(ui, field, fields, column, choices, t, commands);
    if gone {
        field.clear(fields);
    }
}

/// What stands under a field's name: texts, lists, choices with long names.
fn below_ui(
    ui: &mut Ui,
    field: Field,
    fields: &mut Fields,
    column: Option<usize>,
    choices: &Choices<'_>,
    t: &Texts,
    commands: &mut Vec<Command>,
) {
    let name = field.name(t);
    let text_field = |ui: &mut Ui, text: &mut Option<String>, rows: usize| {
        if let Some(text) = text {
            let edit = TextEdit::multiline(text).desired_rows(rows).desired_width(f32::INFINITY);
            ui.add(edit)
                .widget_info(|| egui::WidgetInfo::labeled(egui::Role::MultilineTextInput, true, name));
        }
    };
    match field {
        Field::Prompt => text_field(ui, &mut fields.prompt, 3),
        Field::System => text_field(ui, &mut fields.system, 2),
        Field::AnswerStart => text_field(ui, &mut fields.answer_start, 1),
        Field::Reference => text_field(ui, &mut fields.reference, 2),
        Field::Stop => {
            let mut text = fields.stop.clone().unwrap_or_default().join("\n");
            let edit = TextEdit::multiline(&mut text).desired_rows(1).desired_width(f32::INFINITY);
            if style::named(ui.add(edit), name).changed() {
                fields.stop = Some(text.lines().map(str::to_owned).collect());
            }
        }
        Field::Pictures => {
            if let Some(pictures) = &mut fields.pictures {
                pictures_ui(ui, pictures, column, t, commands);
            }
        }
        Field::Model => {
            if let Some(model) = &mut fields.model {
                let shown = if model.is_empty() { t.no_model } else { model.as_str() }.to_owned();
                ComboBox::from_id_salt("model").selected_text(shown).truncate().show_ui(ui, |ui| {
                    for choice in &choices.models {
                        ui.selectable_value(model, choice.clone(), choice);
                    }
                });
            }
        }
        Field::Server => {
            let (server, model) = (fields.server.clone(), fields.server_model.clone());
            let shown = model.filter(|model| !model.is_empty()).unwrap_or_else(|| t.servers.to_owned());
            ComboBox::from_id_salt("server").selected_text(shown).truncate().show_ui(ui, |ui| {
                for (address, models) in &choices.servers {
                    for model in *models {
                        let chosen = server.as_deref() == Some(*address)
                            && fields.server_model.as_ref() == Some(model);
                        if ui.selectable_label(chosen, format!("{model} · {address}")).clicked() {
                            fields.server = Some((*address).to_owned());
                            fields.server_model = Some(model.clone());
                        }
                    }
                }
            });
        }
        _ => {}
    }
}

fn pictures_ui(
    ui: &mut Ui,
    pictures: &mut Vec<String>,
    column: Option<usize>,
    t: &Texts,
    commands: &mut Vec<Command>,
) {
    let mut gone = None;
    for (n, picture) in pictures.iter_mut().enumerate() {
        ui.horizontal(|ui| {
            let width = ui.available_width() - 34.0;
            let field = TextEdit::singleline(picture).desired_width(width);
            style::named(ui.add(field), t.field_pictures);
            let close = fill(t.remove_named, &[("name", &picture)]);
            if style::quiet_button(ui, "×", &close, true).clicked() {
                gone = Some(n);
            }
        });
    }
    if let Some(n) = gone {
        pictures.remove(n);
    }
    ui.horizontal_wrapped(|ui| {
        if ui.small_button(t.add_pictures).clicked() {
            commands.push(Command::Compare(CompareCommand::AddPictures(column)));
        }
        ui.menu_button(RichText::new(t.samples).small(), |ui| {
            for (name, _) in samples::PICTURES {
                if ui.button(name).clicked() {
                    pictures.push(format!("{SAMPLE}{name}"));
                    ui.close();
                }
            }
        });
    });
}
