//! Room `app`: every word the window says, in one table: a name, then English, then German. A language is a column; a
//! missing translation does not compile. `{name}` stands for a value, see [`fill`]. What the engine and the system
//! report (errors) is English.

use egui::{Context, Id};

/// The window's languages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// English.
    #[default]
    English,
    /// German.
    German,
}

impl Language {
    /// All of them, with what each calls itself.
    pub const ALL: [(Self, &'static str); 2] = [(Self::English, "English"), (Self::German, "Deutsch")];

    /// The language's words.
    #[must_use]
    pub fn texts(self) -> &'static Texts {
        match self {
            Self::English => &ENGLISH,
            Self::German => &GERMAN,
        }
    }
}

/// The words of the language that was set.
#[must_use]
pub fn texts(ctx: &Context) -> &'static Texts {
    ctx.data(|data| data.get_temp::<Language>(Id::NULL)).unwrap_or_default().texts()
}

/// Sets the language from the next frame on.
pub fn set_language(ctx: &Context, language: Language) {
    ctx.data_mut(|data| data.insert_temp(Id::NULL, language));
    ctx.request_repaint();
}

/// Puts values into a text: each `{name}` is replaced by the value of that name.
#[must_use]
pub fn fill(text: &str, values: &[(&str, &dyn std::fmt::Display)]) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        match after.split_once('}') {
            Some((name, behind)) if values.iter().any(|(known, _)| *known == name) => {
                for (_, value) in values.iter().filter(|(known, _)| *known == name) {
                    out.push_str(&value.to_string());
                }
                rest = behind;
            }
            _ => {
                out.push('{');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

macro_rules! texts {
    ($($name:ident: $english:literal, $german:literal;)*) => {
        /// The words of one language, by name.
        #[derive(Debug)]
        pub struct Texts {
            $(
                #[doc = $english]
                pub $name: &'static str,
            )*
        }
        static ENGLISH: Texts = Texts { $($name: $english,)* };
        static GERMAN: Texts = Texts { $($name: $german,)* };
        #[cfg(test)]
        const ALL: &[(&str, &str, &str)] = &[$((stringify!($name), $english, $german),)*];
    };
}

texts! {
    // Everywhere.
    close: "Close", "Schließen";
    cancel: "Cancel", "Abbrechen";
    copy: "Copy", "Kopieren";
    undo: "Undo", "Rückgängig";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_put_in_by_name_and_other_braces_stay() {
        assert_eq!(fill("{done} of {total}", &[("total", &5), ("done", &"two")]), "two of 5");
        assert_eq!(fill("{x} {", &[("y", &1)]), "{x} {");
    }

    #[test]
    fn both_languages_say_something_and_name_the_same_values() {
        let names = |text: &str| {
            let mut names: Vec<String> = text
                .split('{')
                .skip(1)
                .filter_map(|rest| rest.split_once('}').map(|(name, _)| name.to_owned()))
                .collect();
            names.sort();
            names
        };
        for (name, english, german) in ALL {
            assert!(!english.trim().is_empty() && !german.trim().is_empty(), "{name}");
            assert_eq!(names(english), names(german), "{name}");
        }
    }
}
