//! Room `app`: measures, colours and words that several files draw with.

use std::time::Duration;

use super::texts::figure;
use egui::{
    Align, Button, Color32, Context, FontDefinitions, FontFamily, FontId, Layout, ProgressBar, Response,
    RichText, Role, TextStyle, Theme, Ui, Visuals, WidgetInfo,
};

/// Widest column of text, points: lines stay short enough to read.
pub(super) const COLUMN_WIDTH: f32 = 780.0;
/// Height of a picture in the conversation, points.
pub(super) const PICTURE_HEIGHT: f32 = 120.0;
/// Height of a picture in the composer, points.
pub(super) const DRAFT_PICTURE_HEIGHT: f32 = 56.0;

/// Sizes for both themes. The theme follows the system until the user chooses.
pub(super) fn apply(ctx: &Context) {
    // Arrows and other signs that the text font lacks.
    let mut fonts = FontDefinitions::default();
    fonts.families.entry(FontFamily::Proportional).or_default().push("Hack".to_owned());
    ctx.set_fonts(fonts);
    ctx.all_styles_mut(|style| {
        for (text_style, size) in [
            (TextStyle::Small, 11.5),
            (TextStyle::Body, 14.5),
            (TextStyle::Button, 14.0),
            (TextStyle::Heading, 20.0),
        ] {
            style.text_styles.insert(text_style, FontId::proportional(size));
        }
        style.spacing.item_spacing = egui::vec2(8.0, 6.0);
        style.spacing.button_padding = egui::vec2(8.0, 3.0);
        // As high as a button, so that a label before one stands on its line.
        style.spacing.interact_size.y = 24.0;
        style.spacing.slider_width = 130.0;
    });
    // egui's own greys fall short of the contrast of 4.5:1 that small text needs.
    for (theme, visuals, grey, error, warning) in [
        (Theme::Light, Visuals::light(), 40, Color32::from_rgb(176, 20, 20), Color32::from_rgb(170, 90, 0)),
        (
            Theme::Dark,
            Visuals::dark(),
            215,
            Color32::from_rgb(255, 120, 110),
            Color32::from_rgb(240, 170, 60),
        ),
    ] {
        let mut visuals =
            Visuals { error_fg_color: error, warn_fg_color: warning, weak_text_alpha: 0.78, ..visuals };
        visuals.widgets.noninteractive.fg_stroke.color = Color32::from_gray(grey);
        visuals.indent_has_left_vline = false;
        // A cursor that blinks draws the whole window anew twice a second, for ever.
        visuals.text_cursor.blink = false;
        if theme == Theme::Light {
            visuals.hyperlink_color = Color32::from_rgb(0, 90, 170);
            // White text fields are to be seen without a frame.
            visuals.panel_fill = Color32::from_gray(243);
            visuals.widgets.inactive.weak_bg_fill = Color32::from_gray(225);
            visuals.widgets.inactive.bg_fill = Color32::from_gray(212);
        }
        ctx.set_visuals_of(theme, visuals);
    }
}

/// Digits in groups of three.
pub(super) fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    figure(&out)
}

/// Tokens a second: "32.1 tok/s".
pub(super) fn rate(tokens_per_sec: f64) -> String {
    let digits = usize::from(tokens_per_sec < 99.95);
    figure(&format!("{tokens_per_sec:.digits$} tok/s"))
}

/// "0.35 s", "12.3 s", "2:05 min".
pub(super) fn duration(duration: Duration) -> String {
    secs(duration.as_secs_f64())
}

/// As [`duration`], for seconds.
pub(super) fn secs(secs: f64) -> String {
    if secs < 9.995 {
        figure(&format!("{secs:.2} s"))
    } else if secs < 99.95 {
        figure(&format!("{secs:.1} s"))
    } else {
        format!("{}:{:02} min", secs as u64 / 60, secs as u64 % 60)
    }
}

/// "12 kB", "680 MB", "1.83 GB".
pub(super) fn bytes(bytes: u64) -> String {
    let mega = bytes as f64 / 1e6;
    if mega < 0.9995 {
        format!("{:.0} kB", mega * 1e3)
    } else if mega < 9.95 {
        figure(&format!("{mega:.1} MB"))
    } else if mega < 999.5 {
        format!("{mega:.0} MB")
    } else {
        figure(&format!("{:.2} GB", mega / 1e3))
    }
}

/// A button of few words (or a sign) that stays in the background until it is pointed at. `name`: what screen readers and the
/// hint say.
pub(super) fn quiet_button(ui: &mut Ui, shown: &str, name: &str, enabled: bool) -> Response {
    let button = Button::new(RichText::new(shown).small()).frame_when_inactive(false);
    let response = ui.add_enabled(enabled, button).on_hover_text(name);
    response.widget_info(|| WidgetInfo::labeled(Role::Button, enabled, name));
    response
}

/// Gives a button that shows one word, or a sign, a name of its own for screen readers and for the hint.
pub(super) fn named(button: Response, name: &str) -> Response {
    button.widget_info(|| WidgetInfo::labeled(Role::Button, button.enabled(), name));
    button.on_hover_text(name)
}

/// A column in the middle, not too wide to read.
pub(super) fn column(ui: &mut Ui, contents: impl FnOnce(&mut Ui)) {
    let margin = ((ui.available_width() - COLUMN_WIDTH) / 2.0).max(0.0);
    ui.horizontal_top(|ui| {
        ui.add_space(margin);
        ui.with_layout(Layout::top_down(Align::Min), |ui| {
            ui.set_width(ui.available_width().min(COLUMN_WIDTH));
            contents(ui);
        });
    });
}

/// A bar filled to a share, 0 to 1.
pub(super) fn bar(ui: &Ui, share: f32, width: f32) -> ProgressBar {
    // A bar is never narrower than its corners: an empty one must not look begun.
    let colour = if share > 0.0 { ui.visuals().selection.bg_fill } else { Color32::TRANSPARENT };
    ProgressBar::new(share).desired_width(width).corner_radius(4.0).fill(colour)
}

/// The share of a whole, 0 to 1.
pub(super) fn share(done: f64, total: f64) -> f32 {
    if total > 0.0 { (done / total).clamp(0.0, 1.0) as f32 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_as_a_person_writes_them() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(secs(0.354), "0.35 s");
        assert_eq!(secs(12.34), "12.3 s");
        assert_eq!(secs(125.0), "2:05 min");
        assert_eq!(bytes(680_000_000), "680 MB");
        assert_eq!(bytes(1_830_000_000), "1.83 GB");
        assert_eq!(bytes(12_300), "12 kB");
        assert_eq!(
            [share(1.0, 0.0), share(3.0, 2.0), share(1.0, 2.0)].map(|share| (share * 10.0) as u32),
            [0, 10, 5]
        );
    }
}
