//! Room `app`: carries out what the user asked of the costs: files are written on threads of their own.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use egui::Context;

use super::view::{CostsCommand, Page};
use crate::app::dialogs::Chosen;
use crate::app::message_list::ScrollTo;
use crate::app::texts::{fill, texts};
use crate::app::window::{WAKE_DELAY, WindowApp};
use crate::chat::transfer::write_file;
use crate::chat::tree::MessageId;
use crate::costs::Costs;
use crate::costs::write::{Form, Plot};
use crate::error::{Error, Result};

/// A profile on the screen is asked for again after this.
const PROFILE_AGAIN: Duration = Duration::from_millis(750);
const WRITING: &str = "writing what it cost";

/// Files that are being written.
#[derive(Debug)]
pub(in crate::app) struct CostsFiles {
    sender: Sender<Result<PathBuf>>,
    written: Receiver<Result<PathBuf>>,
}

impl Default for CostsFiles {
    fn default() -> Self {
        let (sender, written) = channel();
        Self { sender, written }
    }
}

/// Has a thread write to a file what `make` makes, and tells the sender.
fn write_on_thread(
    sender: Sender<Result<PathBuf>>,
    ctx: &Context,
    to: PathBuf,
    make: impl FnOnce() -> Result<Vec<u8>> + Send + 'static,
) {
    let (ctx, refused) = (ctx.clone(), sender.clone());
    let spawned = std::thread::Builder::new().name("costs".into()).spawn(move || {
        let written = make().and_then(|bytes| write_file(&to, WRITING, &bytes)).map(|()| to);
        // The window may be gone.
        sender.send(written).ok();
        ctx.request_repaint_after(WAKE_DELAY);
    });
    if let Err(e) = spawned {
        refused.send(Err(Error::new(WRITING, e).help("close other programs"))).ok();
    }
}

impl WindowApp {
    /// Tells of files that have been written.
    pub(in crate::app) fn poll_costs(&mut self, ctx: &Context) {
        while let Ok(written) = self.costs_files.written.try_recv() {
            match written {
                Ok(to) => {
                    let words = fill(texts(ctx).costs_written, &[("file", &to.display())]);
                    self.state.tell(words, false);
                }
                Err(error) => self.state.report(&error),
            }
        }
    }

    pub(in crate::app) fn costs_command(
        &mut self,
        ctx: &Context,
        frame: &eframe::Frame,
        command: CostsCommand,
    ) {
        match command {
            CostsCommand::Open(answer) => {
                self.preferences.costs_open = true;
                self.chat_view.costs.open(answer);
            }
            CostsCommand::Want(answer) => self.state.want_costs(answer),
            CostsCommand::Branch { answer, token, id } => {
                self.state.branch(answer, token, id, &mut *self.backend, Instant::now());
                let view = &mut self.chat_view.costs;
                view.answer = None;
                self.scroll_to = Some(ScrollTo::End);
            }
            CostsCommand::Profile(on) => self.state.set_profiling(on, &mut *self.backend),
            CostsCommand::WantProfile => {
                self.state.want_profile(&mut *self.backend, Instant::now());
                ctx.request_repaint_after(PROFILE_AGAIN);
            }
            CostsCommand::Measure => self.state.measure_ceilings(&mut *self.backend),
            CostsCommand::StopLooking => self.state.stop_looking(),
            CostsCommand::LookInside(answer, token) => {
                self.state.look_inside(answer, token, &mut *self.backend);
            }
            CostsCommand::Export(form, answers) => {
                self.dialogs.choose_costs(ctx, frame, Some((form, answers)));
            }
            CostsCommand::Picture => self.dialogs.choose_costs(ctx, frame, None),
        }
    }

    /// Shows this plot, as if it had been chosen.
    pub fn choose_plot(&mut self, plot: Plot) {
        let view = &mut self.chat_view.costs;
        (view.page, view.plot) = (Page::Plots, plot);
    }

    /// Writes what answers cost, as if the file had been chosen.
    pub fn export_costs(&mut self, form: Form, answers: &[MessageId], to: PathBuf) {
        let costs: Vec<Costs> = answers
            .iter()
            .flat_map(|id| self.state.costs_of(*id).into_iter().cloned().collect::<Vec<_>>())
            .collect();
        let sender = self.costs_files.sender.clone();
        write_on_thread(sender, &self.ctx, to, move || form.text(&costs).map(String::into_bytes));
    }

    /// Writes the panel as it is seen in the next frame, as if the file had been chosen.
    pub fn picture_of_costs(&mut self, to: PathBuf) {
        let Some(rect) = self.chat_view.costs.rect else { return };
        let (sender, ctx) = (self.costs_files.sender.clone(), self.ctx.clone());
        let scale = ctx.pixels_per_point();
        let again = ctx.clone();
        ctx.request_screenshot(move |image| {
            write_on_thread(sender, &again, to, move || png(&image.region(&rect, Some(scale))));
        });
    }

    pub(in crate::app) fn costs_chosen(&mut self, chosen: Chosen) {
        match chosen {
            Chosen::Costs(form, answers, to) => self.export_costs(form, &answers, to),
            Chosen::CostsPicture(to) => self.picture_of_costs(to),
            _ => {}
        }
    }
}

fn png(pixels: &egui::ColorImage) -> Result<Vec<u8>> {
    use image::ImageEncoder;
    let [width, height] = pixels.size.map(|side| u32::try_from(side).unwrap_or(0));
    let mut bytes = Vec::new();
    image::codecs::png::PngEncoder::new(&mut bytes)
        .write_image(pixels.as_raw(), width, height, image::ExtendedColorType::Rgba8)
        .map_err(|e| Error::new(WRITING, e))?;
    Ok(bytes)
}
