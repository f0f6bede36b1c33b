//! Room `app`: draws what of this machine is chosen in the settings: the adapter, and how keys and values are stored.

use std::sync::mpsc::{Receiver, TryRecvError, channel};

use egui::{ComboBox, Ui};

use super::command::Command;
use super::texts::{Texts, fill};
use crate::gpu::{AdapterSummary, list_adapters};
use crate::log;
use crate::model::kv_cache::KvFormat;

/// The adapters of this machine, once asked for.
#[derive(Debug, Default)]
pub(super) struct MachineView {
    adapters: Adapters,
}

#[derive(Debug, Default)]
enum Adapters {
    #[default]
    NotAsked,
    Asked(Receiver<Vec<AdapterSummary>>),
    Known(Vec<AdapterSummary>),
}

impl Adapters {
    /// Those there are, when they are known. Asking the drivers takes a moment, so it is done when somebody wants to know, and on a
    /// thread.
    fn wanted(&mut self) -> Option<&[AdapterSummary]> {
        match self {
            Self::NotAsked => {
                let (sender, receiver) = channel();
                let ask = move || {
                    let all = log::catching("listing the adapters", list_adapters);
                    let _ = sender.send(all.unwrap_or_default());
                };
                let asked = std::thread::Builder::new().name("adapters".into()).spawn(ask);
                *self = asked.map_or(Self::Known(Vec::new()), |_| Self::Asked(receiver));
            }
            Self::Asked(receiver) => match receiver.try_recv() {
                Ok(all) => *self = Self::Known(all),
                Err(TryRecvError::Disconnected) => *self = Self::Known(Vec::new()),
                Err(TryRecvError::Empty) => {}
            },
            Self::Known(_) => {}
        }
        if let Self::Known(all) = self { Some(all) } else { None }
    }
}

/// `adapter`: the full name of the one in use; `chosen`: the one that was chosen, `None`: the best one; `kv`: how keys and values are to be stored, `None`: as the model's recipe has it.
pub(super) fn machine_ui(
    ui: &mut Ui,
    view: &mut MachineView,
    (adapter, chosen): (&str, Option<&str>),
    kv: Option<KvFormat>,
    t: &Texts,
    commands: &mut Vec<Command>,
) {
    ui.strong(t.adapter_and_memory);
    let label = ui.label(t.adapter);
    let shown =
        ComboBox::from_id_salt("adapter").selected_text(adapter).width(ui.available_width()).truncate();
    let shown = shown.show_ui(ui, |ui| {
        let Some(all) = view.adapters.wanted() else {
            ui.spinner();
            return;
        };
        if ui.selectable_label(chosen.is_none(), t.best_adapter).clicked() && chosen.is_some() {
            commands.push(Command::UseAdapter(None));
        }
        for name in all.iter().map(AdapterSummary::full_name) {
            let is_chosen = chosen.is_some() && name == adapter;
            if ui.selectable_label(is_chosen, &name).clicked() && !is_chosen {
                commands.push(Command::UseAdapter(Some(name)));
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
