//! Room `app`: draws what of this machine is chosen in the settings: the adapter, and how keys and values are stored.

use egui::{ComboBox, Ui};
use poll_promise::Promise;

use super::command::Command;
use super::texts::{Texts, fill};
use crate::gpu::{AdapterSummary, list_adapters};
use crate::model::kv_cache::KvFormat;

/// The adapters of this machine, once asked for.
#[derive(Default)]
pub(super) struct MachineView {
    adapters: Option<Promise<Vec<AdapterSummary>>>,
}

impl std::fmt::Debug for MachineView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MachineView")
    }
}

/// `adapter`: the one in use; `kv`: how keys and values are to be stored, `None`: as the model's recipe has it.
pub(super) fn machine_ui(
    ui: &mut Ui,
    view: &mut MachineView,
    adapter: &str,
    kv: Option<KvFormat>,
    t: &Texts,
    commands: &mut Vec<Command>,
) {
    ui.strong(t.adapter_and_memory);
    let label = ui.label(t.adapter);
    let shown =
        ComboBox::from_id_salt("adapter").selected_text(adapter).width(ui.available_width()).truncate();
    let shown = shown.show_ui(ui, |ui| {
        // Asking the drivers takes a moment, so it is done when somebody wants to know, and on a thread.
        let asked = view.adapters.get_or_insert_with(|| Promise::spawn_thread("adapters", list_adapters));
        let Some(all) = asked.ready() else {
            ui.spinner();
            return;
        };
        for summary in all {
            let name = format!("{} ({}, {})", summary.name, summary.kind, summary.backend);
            if ui.selectable_label(summary.name == adapter, name).clicked() && summary.name != adapter {
                commands.push(Command::UseAdapter(summary.name.clone()));
            }
        }
    });
    shown.response.labelled_by(label.id).on_hover_text(t.adapter_hint);
    let label = ui.label(t.kv_cache);
    let name = |kv: Option<KvFormat>| kv.map_or(t.kv_usual, KvFormat::name);
    let shown = ComboBox::from_id_salt("kv cache").selected_text(name(kv)).show_ui(ui, |ui| {
        for choice in [None].into_iter().chain(KvFormat::ALL.map(Some)) {
            if ui.selectable_label(choice == kv, name(choice)).clicked() && choice != kv {
                commands.push(Command::UseKv(choice));
            }
        }
    });
    shown.response.labelled_by(label.id).on_hover_text(t.kv_cache_hint);
}

/// What the window says when it opens again after something happened to the one before.
pub(super) fn words_after(after: &super::opening::After, t: &Texts) -> Option<(String, bool)> {
    use super::opening::After;
    Some(match after {
        After::Chosen => return None,
        After::Loss => (t.after_loss.to_owned(), false),
        After::Panic(why) => (fill(t.after_panic, &[("why", why)]), true),
        After::AdapterGone { wanted, got } => {
            (fill(t.adapter_gone, &[("wanted", wanted), ("got", got)]), true)
        }
    })
}
