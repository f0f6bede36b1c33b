//! Room `app`: what is to outlive the window: settings, preferences, and the last words when it closes.

use std::time::{Duration, Instant};

use egui::{Context, ViewportCommand};

use super::device_loss::DeviceWatch;
use super::message_list::ScrollTo;
use super::preferences::WindowPlace;
use super::state::News;
use super::texts::{fill, language, texts};
use super::window::{WAKE_DELAY, WindowApp};
use crate::chat::store::Job;
use crate::diagnostics;

/// Settings and preferences that have changed are kept this long after.
const KEEP_AFTER: Duration = Duration::from_millis(700);
/// Bytes of a text that was not sent that are kept, at most.
const MOST_UNSENT_BYTES: usize = 1 << 20;

impl WindowApp {
    /// Hands the history what there is for it to do.
    pub(super) fn send_jobs(&mut self) {
        for job in std::mem::take(&mut self.state.jobs) {
            self.store.send(job);
        }
    }

    /// Hands over the preferences where they are others than those kept.
    fn send_preferences(&mut self) {
        if self.preferences == self.kept_preferences {
            return;
        }
        let before = self.kept_preferences.to_text();
        self.kept_preferences.clone_from(&self.preferences);
        if let Some(path) = self.places.preferences.clone() {
            self.store.send(Job::WritePreferences { path, before, text: self.preferences.to_text() });
        }
    }

    /// Keeps what has changed: messages at once, settings and preferences when the user is done with them.
    pub(super) fn keep(&mut self, ctx: &Context, now: Instant) {
        self.send_jobs();
        if ctx.input(|input| input.pointer.any_down()) {
            return;
        }
        self.preferences.set_theme(ctx.options(|options| options.theme_preference));
        self.preferences.zoom = ctx.zoom_factor();
        self.preferences.settings.clone_from(&self.state.usual_settings);
        self.preferences.servers.clone_from(&self.state.elsewhere.servers);
        // One that is too long for the file would cost all of it.
        let unsent = Some(self.state.unsent_text()).filter(|text| text.len() <= MOST_UNSENT_BYTES);
        let unsent = unsent.unwrap_or_default();
        if self.preferences.unsent != unsent {
            self.preferences.unsent = unsent.to_owned();
        }
        // A window's place is given in points as they are without our zoom.
        let (zoom, size) = (ctx.zoom_factor(), ctx.content_rect().size());
        let place = ctx.input(|input| {
            let viewport = input.viewport();
            let position = viewport.outer_rect.map(|rect| [rect.min.x * zoom, rect.min.y * zoom]);
            let maximized = viewport.maximized.unwrap_or(false);
            WindowPlace { position, size: [size.x * zoom, size.y * zoom], maximized }
        });
        // The size to come back to from a window that fills the screen is the one it had before.
        match &mut self.preferences.window {
            Some(kept) if place.maximized => kept.maximized = true,
            window => *window = Some(place),
        }
        if self.preferences == self.kept_preferences && !self.state.settings_changed() {
            self.changed_at = None;
            return;
        }
        let changed = *self.changed_at.get_or_insert(now);
        if now.saturating_duration_since(changed) >= KEEP_AFTER {
            self.state.keep_settings();
            self.changed_at = None;
            self.send_preferences();
        } else {
            ctx.request_repaint_after(KEEP_AFTER);
        }
    }

    pub(super) fn poll_history(&mut self, ctx: &Context) {
        let t = texts(ctx);
        let events: Vec<_> = self.store.events().collect();
        for event in events {
            match self.state.history_event(event) {
                None => {}
                Some(News::Exported(to, n)) => {
                    let words = if n == 1 { t.exported_one } else { t.exported };
                    let text = fill(words, &[("n", &n), ("file", &to.display())]);
                    self.state.tell(text, false);
                }
                Some(News::Imported(n)) => {
                    let words = if n == 1 { t.imported_one } else { t.imported };
                    self.state.tell(fill(words, &[("n", &n)]), false);
                }
                Some(News::Unsaved(error)) => self.state.tell(format!("{} {error}", t.unsaved), true),
                Some(News::Damaged(damage)) => {
                    let aside = damage.aside.display();
                    let values: [(&str, &dyn std::fmt::Display); 3] =
                        [("why", &damage.why), ("n", &damage.saved), ("file", &aside)];
                    self.state.tell(fill(t.history_damaged, &values), true);
                }
                Some(News::SavingFails(error)) => {
                    self.state.tell(format!("{} {error}", t.saving_fails), true);
                }
                Some(News::SavingWorks) => {
                    self.state.notices.retain(|notice| !notice.text.starts_with(t.saving_fails));
                    self.state.tell(t.saving_works.to_owned(), false);
                }
            }
        }
        if let Some(id) = self.state.bring_into_sight
            && self.state.chat.tree.path().contains(&id)
        {
            self.state.bring_into_sight = None;
            self.scroll_to = Some(ScrollTo::Item(id.0));
        }
        for path in std::mem::take(&mut self.pictures.annotated) {
            self.state.tell(fill(t.picture_written, &[("file", &path.display())]), false);
        }
    }

    /// Opens the window anew on another adapter: answers under way end with what has come of them.
    pub(super) fn use_adapter(&mut self, ctx: &Context, name: Option<String>) {
        self.preferences.adapter.clone_from(&name);
        if let Some(watch) = &mut self.watch {
            watch.choose(name);
            ctx.request_repaint();
        }
    }

    /// What a report of a fault needs: Markdown, with nothing of the conversations.
    #[must_use]
    pub fn diagnostics(&self, ctx: &Context) -> String {
        let screen = ctx.content_rect();
        let (language, zoom, pixels) = (language(ctx), ctx.zoom_factor(), ctx.pixels_per_point());
        let notes = [
            format!(
                "{:.0} x {:.0} points, {pixels} pixels a point, zoom {zoom}",
                screen.width(),
                screen.height()
            ),
            format!("language {language:?}, {} conversations", self.state.list.len()),
        ];
        diagnostics::report(self.watch.as_ref().map(DeviceWatch::gpu), self.state.model_info(), &notes)
    }

    /// A lost device takes the window with it; the next one begins where this one ended.
    pub(super) fn leave_lost_device(&mut self, ctx: &Context, now: Instant) {
        let Some(watch) = &mut self.watch else { return };
        let state = &self.state;
        if let Some(rest) = watch.lose_if_asked(state, now) {
            ctx.request_repaint_after(rest);
        }
        if watch.must_leave(state, now) {
            self.state.keep_settings();
            self.send_jobs();
            ctx.send_viewport_cmd(ViewportCommand::Close);
        } else if watch.is_lost() {
            ctx.request_repaint_after(WAKE_DELAY);
        }
    }

    /// Keeps everything as it is now: the window is going.
    pub(super) fn leave(&mut self) {
        self.meter.report();
        self.state.poll(&mut *self.backend, Instant::now());
        self.state.settle_all();
        self.state.keep_all_costs();
        self.state.keep_settings();
        self.preferences.settings.clone_from(&self.state.usual_settings);
        self.preferences.servers.clone_from(&self.state.elsewhere.servers);
        self.preferences.unsent = self.state.unsent_text().to_owned();
        self.send_jobs();
        self.send_preferences();
    }
}
