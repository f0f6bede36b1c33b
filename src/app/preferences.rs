//! Room `app`: what the window remembers from one start to the next, besides conversations. A JSON file; what cannot be read in
//! it counts as never set.

use std::path::{Path, PathBuf};

use egui::ThemePreference;

use super::settings::Settings;
use super::texts::Language;
use crate::bounded;
use crate::chat::store::shared_file::{MOST_BYTES, MOST_VALUES};
use crate::costs::colour::Metric;
use crate::error::Error;
use crate::remote::Server;

/// Settings under a name.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Preset {
    /// What the user calls them.
    pub name: String,
    /// What they are.
    pub settings: Settings,
}

/// Where the window was, in points.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct WindowPlace {
    /// Left and top; `None`: the system says nothing of it.
    pub position: Option<[f32; 2]>,
    /// Width and height.
    pub size: [f32; 2],
    /// It fills the screen.
    pub maximized: bool,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Preferences {
    /// The window's language; `None`: the system's.
    pub language: Option<Language>,
    /// `system`, `light` or `dark`.
    pub theme: String,
    /// The size of everything, as a factor.
    pub zoom: f32,
    /// The list of conversations is there.
    pub history_open: bool,
    /// The settings are there.
    pub settings_open: bool,
    /// Width of the list of conversations, points.
    pub history_width: f32,
    /// Width of the settings, points.
    pub settings_width: f32,
    /// The panel of costs is there.
    pub costs_open: bool,
    /// Its height, points.
    pub costs_height: f32,
    /// What tokens of answers are coloured by; `None`: not at all.
    pub colour_by: Option<Metric>,
    /// Answers are shown as Markdown; otherwise as the text they are.
    pub markdown: bool,
    /// The model opened last.
    pub last_model: Option<PathBuf>,
    /// Settings for new conversations.
    pub settings: Settings,
    /// Named settings.
    pub presets: Vec<Preset>,
    /// A question that was typed into a new conversation and not sent.
    pub unsent: String,
    /// Where the window was.
    pub window: Option<WindowPlace>,
    /// The adapter that was chosen in the settings; `None`: the best one.
    pub adapter: Option<String>,
    /// How keys and values are stored, by name; `None`: as the model's recipe has it.
    pub kv: Option<String>,
    /// Servers that answers may come from. Their keys are in the system's keyring.
    pub servers: Vec<Server>,
}

impl Default for Preferences {
    fn default() -> Self {
        Self {
            language: None,
            theme: "system".into(),
            zoom: 1.0,
            history_open: true,
            settings_open: false,
            history_width: 230.0,
            settings_width: 310.0,
            costs_open: false,
            costs_height: 300.0,
            colour_by: None,
            markdown: true,
            last_model: None,
            settings: Settings::default(),
            presets: Vec::new(),
            unsent: String::new(),
            window: None,
            adapter: None,
            kv: None,
            servers: Vec::new(),
        }
    }
}

impl Preferences {
    /// Reads the file. One that is not there gives the usual ones; a part that is wrong is left out. One that cannot be read gives the
    /// usual ones, too, and what is to be told of it: it is set aside, since those would be written over it.
    #[must_use]
    pub fn read(path: &Path) -> (Self, Option<Error>) {
        const DOING: &str = "reading the preferences";
        let read = bounded::file(path, MOST_BYTES).and_then(bounded::text);
        let why = match read {
            Ok(text) => match Self::from_text(&text) {
                Some(preferences) => return (preferences, None),
                None => "it is not JSON, or not as this program writes it".to_owned(),
            },
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return (Self::default(), None),
            Err(e) => e.to_string(),
        };
        let aside = path.with_extension("json.unreadable");
        let help = match std::fs::rename(path, &aside) {
            Ok(()) => format!("the usual ones are taken; the file is now {}", aside.display()),
            Err(e) => format!("the usual ones are taken, and the file could not be set aside ({e})"),
        };
        (Self::default(), Some(Error::new(DOING, why).at_path(path).help(help)))
    }

    /// `None`: it is no JSON object.
    fn from_text(text: &str) -> Option<Self> {
        let usual = Self::default();
        let Ok(serde_json::Value::Object(given)) = bounded::json(text.as_bytes(), MOST_VALUES) else {
            return None;
        };
        let Ok(serde_json::Value::Object(mut whole)) = serde_json::to_value(&usual) else { return None };
        for (key, value) in given {
            if !whole.contains_key(&key) || !is_of_numbers_that_are(&value) {
                continue;
            }
            // Each on its own: one wrong part must not cost the others.
            let mut trial = whole.clone();
            trial.insert(key.clone(), value.clone());
            if serde_json::from_value::<Self>(trial.into()).is_ok() {
                whole.insert(key, value);
            }
        }
        let mut read: Self = serde_json::from_value(whole.into()).unwrap_or(usual);
        read.zoom = if read.zoom.is_finite() { read.zoom.clamp(0.5, 4.0) } else { 1.0 };
        read.window = read.window.filter(|window| {
            let sane = |v: f32, most: f32| v.is_finite() && v.abs() <= most;
            window.size.iter().all(|side| sane(*side, 20_000.0) && *side >= 200.0)
                && window.position.is_none_or(|at| at.iter().all(|v| sane(*v, 50_000.0)))
        });
        Some(read)
    }

    /// The file's content.
    #[must_use]
    pub fn to_text(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// The theme for egui.
    #[must_use]
    pub fn theme_preference(&self) -> ThemePreference {
        match self.theme.as_str() {
            "light" => ThemePreference::Light,
            "dark" => ThemePreference::Dark,
            _ => ThemePreference::System,
        }
    }

    /// Keeps egui's theme.
    pub fn set_theme(&mut self, theme: ThemePreference) {
        self.theme = match theme {
            ThemePreference::System => "system",
            ThemePreference::Light => "light",
            ThemePreference::Dark => "dark",
        }
        .into();
    }
}

/// A number too large for `f32` would be read as infinite, and written as nothing.
fn is_of_numbers_that_are(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Number(number) => {
            number.as_f64().is_some_and(|number| number.abs() <= f64::from(f32::MAX))
        }
        serde_json::Value::Array(values) => values.iter().all(is_of_numbers_that_are),
        serde_json::Value::Object(values) => values.values().all(is_of_numbers_that_are),
        _ => true,
    }
}

/// The preferences in a text as they are written again. A door for `fuzz/`.
#[must_use]
pub fn reread_preferences(text: &str) -> String {
    Preferences::from_text(text).unwrap_or_default().to_text()
}

/// The system's language, as far as the window speaks it.
#[must_use]
pub(super) fn system_language() -> Language {
    let set = ["LC_ALL", "LC_MESSAGES", "LANG"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()));
    if set.is_some_and(|value| value.starts_with("de")) { Language::German } else { Language::English }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_a_wrong_part_costs_only_itself() {
        let mut preferences = Preferences { theme: "dark".into(), zoom: 1.5, ..Preferences::default() };
        preferences.presets.push(Preset { name: "Mine".into(), settings: Settings::default() });
        assert_eq!(Preferences::from_text(&preferences.to_text()), Some(preferences));
        let text = r#"{"theme": "light", "zoom": "wide", "presets": 7, "history_open": false}"#;
        let read = Preferences::from_text(text).unwrap();
        assert_eq!(
            read,
            Preferences { theme: "light".into(), history_open: false, ..Preferences::default() }
        );
        assert_eq!(Preferences::from_text("nonsense"), None);
        let far =
            r#"{"zoom": 1e9, "window": {"position": [1e30, 0], "size": [800, 600], "maximized": false}}"#;
        let read = Preferences::from_text(far).unwrap();
        assert!((read.zoom - 4.0).abs() < 1e-6 && read.window.is_none());
    }

    #[test]
    fn a_file_that_cannot_be_read_is_set_aside_and_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("preferences.json");
        assert_eq!(Preferences::read(&path), (Preferences::default(), None));
        let mine = r#"{"theme": "dark", "presets": [{"name": "by hand",}]}"#;
        std::fs::write(&path, mine).unwrap();
        let (read, error) = Preferences::read(&path);
        assert_eq!(read, Preferences::default());
        let aside = folder.path().join("preferences.json.unreadable");
        assert!(error.unwrap().to_string().contains(&*aside.to_string_lossy()));
        assert_eq!(std::fs::read_to_string(aside).unwrap(), mine);
        assert!(!path.exists());
    }
}
