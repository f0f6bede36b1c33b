//! Room `app`: carries out what the user asked of a comparison, and takes in the files they chose for it.

use std::path::PathBuf;
use std::sync::Arc;

use egui::Context;

use super::comparing::{Comparing, Told, Wake};
use super::comparing_ui::{CompareCommand, file_name};
use super::dialogs::Chosen;
use super::message_list::ScrollTo;
use super::texts::{fill, texts};
use super::window::{WAKE_DELAY, WindowApp};
use crate::compare::{Comparison, samples};

/// Where comparisons and their results are, in the window's folder.
const FOLDER: &str = "comparisons";

impl WindowApp {
    fn comparisons_folder(&self) -> Option<PathBuf> {
        self.places.folder().map(|folder| folder.join(FOLDER))
    }

    pub(super) fn comparison_wake(&self) -> Wake {
        let ctx = self.ctx.clone();
        Arc::new(move || ctx.request_repaint_after(WAKE_DELAY))
    }

    /// The comparison; the first time, the one that was run last, or the example.
    fn comparing(&mut self) -> &mut Comparing {
        let (folder, wake) = (self.comparisons_folder(), self.comparison_wake());
        self.state.comparing.get_or_insert_with(|| {
            let mut comparing = Box::new(Comparing::new(folder.as_deref()));
            comparing.open_last(&wake);
            comparing
        })
    }

    pub(super) fn compare(&mut self, ctx: &Context, frame: &eframe::Frame, command: CompareCommand) {
        let wake = self.comparison_wake();
        let device = (self.adapter.clone(), String::new());
        match command {
            CompareCommand::Toggle => {
                self.comparing();
                self.state.shows_comparison = !self.state.shows_comparison;
                if self.state.shows_comparison {
                    self.models.look();
                }
            }
            CompareCommand::New => self.comparing().begin_new(),
            CompareCommand::Example => match Comparison::parse(samples::EXAMPLE) {
                Ok(example) => self.comparing().replace(example, None),
                Err(error) => self.state.report(&error),
            },
            CompareCommand::Open => self.dialogs.choose_comparison(ctx, frame),
            CompareCommand::Save => {
                let name = file_name(self.comparing());
                self.dialogs.choose_comparison_file(ctx, frame, (&name, false));
            }
            CompareCommand::Report => {
                let name = PathBuf::from(file_name(self.comparing())).with_extension("html");
                self.dialogs.choose_comparison_file(ctx, frame, (&name.to_string_lossy(), true));
            }
            CompareCommand::Run(anew) => {
                let comparing = self.comparing();
                comparing.begin(device, (anew, true), &wake);
                // What comes is what one wants to see.
                comparing.looking.hide_editor |= comparing.preparing;
            }
            CompareCommand::Pause(paused) => self.comparing().pause(paused),
            CompareCommand::Stop => self.comparing().stop(),
            CompareCommand::Rate(key, rating) => self.comparing().rate(&key, rating),
            CompareCommand::ToChat(number) => match self.state.chat_of_cell(number) {
                Ok(()) => self.scroll_to = Some(ScrollTo::End),
                Err(error) => self.state.report(&error),
            },
            CompareCommand::From(message) => {
                self.comparing();
                let folder = self.comparisons_folder();
                if let Err(error) = self.state.compare_from(message, folder.as_deref()) {
                    self.state.report(&error);
                }
            }
            CompareCommand::AddPictures(column) => {
                self.dialogs.choose_comparison_pictures(ctx, frame, column);
            }
        }
    }

    /// Runs the comparison, as if its button had been pressed; for tests and pictures of the window.
    pub fn run_comparison(&mut self) {
        let (device, wake) = ((self.adapter.clone(), String::new()), self.comparison_wake());
        self.comparing().begin(device, (false, true), &wake);
    }

    /// Shows the comparison; for tests and pictures of the window.
    pub fn show_comparison(&mut self) {
        self.comparing();
        self.state.shows_comparison = true;
    }

    /// Reads a comparison, as if its file had been chosen.
    pub fn open_comparison(&mut self, file: PathBuf) {
        self.chosen(Chosen::Comparison(file));
    }

    /// Writes the comparison, as if a place for it had been chosen.
    pub fn save_comparison(&mut self, file: PathBuf) {
        self.chosen(Chosen::SaveComparison(file));
    }

    pub(super) fn chosen_for_comparison(&mut self, chosen: Chosen) {
        let wake = self.comparison_wake();
        match chosen {
            Chosen::Comparison(path) => {
                self.comparing().open(path, &wake);
                self.state.shows_comparison = true;
            }
            Chosen::SaveComparison(path) => self.comparing().save(path, &wake),
            Chosen::Report(path) => self.comparing().report(path, &wake),
            Chosen::ComparisonPictures(column, files) => {
                let comparison = &mut self.comparing().comparison;
                let fields = match column {
                    Some(n) => comparison.columns.get_mut(n),
                    None => Some(&mut comparison.shared),
                };
                let Some(fields) = fields else { return };
                let names = files.iter().map(|file| file.display().to_string());
                fields.pictures.get_or_insert_default().extend(names);
            }
            _ => {}
        }
    }

    /// Says what the comparison's thread has done.
    pub(super) fn tell_of_comparison(&mut self, ctx: &Context) {
        let t = texts(ctx);
        for told in std::mem::take(&mut self.state.comparison_news) {
            match told {
                Told::NothingMissing => self.state.tell(t.nothing_missing.to_owned(), false),
                Told::Opened => {
                    // What is known of it is shown at once.
                    let (device, wake) = ((self.adapter.clone(), String::new()), self.comparison_wake());
                    self.comparing().begin(device, (false, false), &wake);
                }
                Told::Written(path) => {
                    self.state.tell(fill(t.file_written, &[("path", &path.display())]), false);
                }
            }
        }
    }
}
