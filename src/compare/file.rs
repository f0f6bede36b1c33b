//! Room `compare`: a comparison as a file: columns, what they share, the values of variables, what is asserted of answers.
//! TOML, to be read, changed by hand and kept in git. Only parses and prints; files it names are opened later.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::check::Check;
use super::variables::check_name;
use crate::bounded;
use crate::chat::message::Role;
use crate::error::{Error, Result};
use crate::model::recipe::Recipe;

/// Bytes of a comparison file, at most: TOML of nothing but brackets becomes a hundred times as many.
const MAX_BYTES: u64 = 4 << 20;
/// Columns of a comparison, at most.
pub const MAX_COLUMNS: usize = 64;
const DOING: &str = "reading the comparison";

/// What is tested next to each other.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Comparison {
    /// What it is about.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub title: String,
    /// What all columns have that do not say otherwise.
    #[serde(skip_serializing_if = "is_default")]
    pub shared: Fields,
    /// The columns, each with what is its own.
    pub columns: Vec<Fields>,
    /// Values of `{{name}}` in texts, picture names and sizes.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub variables: IndexMap<String, Vec<Scalar>>,
    /// Which values go together, and how often each cell runs.
    #[serde(skip_serializing_if = "is_default")]
    pub matrix: Matrix,
    /// What must hold of answers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub assertions: Vec<Check>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A value of a variable as it is written: text, a number, true or false.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Scalar {
    /// A whole number.
    Integer(i64),
    /// Another number.
    Number(f64),
    /// True or false.
    Flag(bool),
    /// Text.
    Text(String),
}

impl std::fmt::Display for Scalar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Integer(n) => write!(f, "{n}"),
            Self::Number(n) => write!(f, "{n}"),
            Self::Flag(b) => write!(f, "{b}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl From<String> for Scalar {
    /// As it would be typed: `448` is a number, `448x336` a text.
    fn from(text: String) -> Self {
        match text.trim().parse() {
            Ok(n) => Self::Integer(n),
            Err(_) => Self::Text(text),
        }
    }
}

/// How the values of variables make rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pairing {
    /// Every value with every other.
    #[default]
    Cartesian,
    /// The first values together, then the second ones: all variables have the same number of values.
    Paired,
}

/// Which values go together, and how often each cell runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Matrix {
    /// How the values of variables make rows.
    #[serde(skip_serializing_if = "is_default")]
    pub pairing: Pairing,
    /// A file of values: its first line names variables, each other line has a value of each. Its lines go with every row of the
    /// other variables.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub csv: Option<PathBuf>,
    /// Times each cell runs, each with the next seed.
    #[serde(skip_serializing_if = "is_one")]
    pub repeats: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_one(n: &usize) -> bool {
    *n == 1
}

impl Default for Matrix {
    fn default() -> Self {
        Self { pairing: Pairing::default(), csv: None, repeats: 1 }
    }
}

/// An earlier turn of the conversation that the prompt goes on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    /// Who says it.
    pub role: Role,
    /// Its pictures, which come before its text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pictures: Vec<String>,
    /// What.
    #[serde(default)]
    pub text: String,
}

/// Fields, each of which a column has of its own or shares.
macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident: $type:ty,)*) => {
        /// What a column asks, of whom, and how. What is `None` is shared, or the model's own.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct Fields {
            $($(#[$doc])* #[serde(skip_serializing_if = "Option::is_none")] pub $name: Option<$type>,)*
        }

        impl Fields {
            /// These over `shared`: what is not said here is taken from there.
            #[must_use]
            pub fn over(&self, shared: &Self) -> Self {
                Self { $($name: self.$name.clone().or_else(|| shared.$name.clone()),)* }
            }

            /// The names of what is said here.
            #[must_use]
            pub fn said(&self) -> Vec<&'static str> {
                let mut said = Vec::new();
                $(if self.$name.is_some() { said.push(stringify!($name)); })*
                said
            }
        }
    };
}

fields! {
    /// What the column is called.
    name: String,
    /// The model: a name, a folder or a file, as `--model` takes it.
    model: String,
    /// How its weights are stored.
    recipe: Recipe,
    /// The address of a server that answers instead.
    server: String,
    /// Which of the server's models.
    server_model: String,
    /// Instructions before the conversation.
    system: String,
    /// Earlier turns, the first first.
    before: Vec<Turn>,
    /// Pictures of the prompt: files (from the comparison's folder), or `sample:NAME` for one in this program.
    pictures: Vec<String>,
    /// A picture's area when the model sees it, as the side of a square or `WIDTHxHEIGHT`, pixels; its shape stays. Larger and
    /// smaller ones are resized to it.
    picture_size: Scalar,
    /// The question.
    prompt: String,
    /// Text that the answer begins with.
    answer_start: String,
    /// An answer whose likelihood is measured.
    reference: String,
    /// Tokens of the answer, at most.
    max_tokens: usize,
    /// The answer ends before the first of these.
    stop: Vec<String>,
    /// 0: greedy.
    temperature: f32,
    /// Keep the smallest set of tokens whose probability reaches this.
    top_p: f32,
    /// Keep the k most likely.
    top_k: u32,
    /// Keep tokens at least this likely against the most likely.
    min_p: f32,
    /// Taken off the logits of tokens of the answer.
    presence_penalty: f32,
    /// Divides the logits of tokens of prompt and answer.
    repetition_penalty: f32,
    /// The first repeat's seed; each later one has the next.
    seed: u64,
}

impl Comparison {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or is no comparison; the message says where.
    pub fn read(path: &Path) -> Result<Self> {
        let fail = |e: &dyn std::fmt::Display| Error::new(DOING, e).at_path(path);
        let text = bounded::stream(path, MAX_BYTES)
            .and_then(bounded::text)
            .map_err(|e| fail(&e).help("give the file of a comparison"))?;
        Self::parse(&text).map_err(|e| e.at_path(path))
    }

    /// Reads its text.
    ///
    /// # Errors
    /// That is no comparison; the message says where.
    pub fn parse(text: &str) -> Result<Self> {
        Self::parse_any(text).map_err(Error::quoting)
    }

    fn parse_any(text: &str) -> Result<Self> {
        let text = text.trim_start_matches('\u{feff}');
        let comparison: Self = toml::from_str(text).map_err(|e| {
            let before = |end: usize| text.bytes().take(end).filter(|byte| *byte == b'\n').count();
            let line = e.span().map(|span| 1 + before(span.start));
            let place = line.map_or(String::new(), |line| format!("line {line}: "));
            Error::new(DOING, format!("{place}{}", e.message()))
                .help("docs/guide/comparisons.md shows the form")
        })?;
        comparison.check()?;
        Ok(comparison)
    }

    /// Its text.
    ///
    /// # Errors
    /// It holds what TOML cannot: numbers above 2^63.
    pub fn print(&self) -> Result<String> {
        toml::to_string_pretty(self).map_err(|e| Error::new("writing the comparison", e))
    }

    /// Is it one that can be run, as far as can be seen without its files?
    ///
    /// # Errors
    /// It is not, and why.
    pub fn check(&self) -> Result<()> {
        let fail = |why: String| Err(Error::new(DOING, why));
        if self.columns.is_empty() || self.columns.len() > MAX_COLUMNS {
            return fail(format!("it has {} columns; 1 to {MAX_COLUMNS} are possible", self.columns.len()));
        }
        if self.shared.name.is_some() {
            return fail("`name` is a column's own: it cannot be shared".into());
        }
        let names = self.column_names();
        for (n, name) in names.iter().enumerate() {
            if names[..n].contains(name) {
                return fail(format!("two columns are called {name:?}"));
            }
        }
        for name in self.variables.keys() {
            check_name(name)?;
        }
        if let Some((name, _)) = self.variables.iter().find(|(_, values)| values.is_empty()) {
            return fail(format!("the variable {name} has no value"));
        }
        if self.matrix.repeats == 0 {
            return fail("repeats is 0: no cell would ever run".into());
        }
        for (name, column) in names.iter().zip(&self.columns) {
            let fields = column.over(&self.shared);
            if fields.prompt.as_deref().unwrap_or_default().trim().is_empty()
                && fields.pictures.as_ref().is_none_or(Vec::is_empty)
            {
                return Err(Error::new(DOING, format!("the column {name:?} has no prompt"))
                    .help("write one under [shared], or in the column"));
            }
            if fields.max_tokens == Some(0) {
                return fail(format!("the column {name:?} allows answers of 0 tokens"));
            }
            if fields.server.is_some() && fields.server_model.is_none() {
                return fail(format!("the column {name:?} names a server, but no `server_model`"));
            }
        }
        for (n, assertion) in self.assertions.iter().enumerate() {
            assertion.check_columns(&names).map_err(|e| e.at(format!("assertion {}", n + 1)))?;
        }
        Ok(())
    }

    /// What each column is called: as it says, or `A`, `B`, …
    #[must_use]
    pub fn column_names(&self) -> Vec<String> {
        let letter = |n: usize| {
            let letter = char::from(b'A' + u8::try_from(n % 26).unwrap_or(0)).to_string();
            if n < 26 { letter } else { format!("{letter}{}", n / 26) }
        };
        let name = |(n, column): (usize, &Fields)| match column.name.as_deref().map(str::trim) {
            Some(name) if !name.is_empty() => name.to_owned(),
            _ => letter(n),
        };
        self.columns.iter().enumerate().map(name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = r#"
title = "How large must the picture be?"

[shared]
prompt = "What colour is the {{thing}}?"
pictures = ["sample:shapes.png"]
temperature = 0.0
max_tokens = 32

[[columns]]
name = "small"
picture_size = 128

[[columns]]
name = "wide"
picture_size = "448x224"
system = "One word."

[[columns.before]]
role = "user"
text = "Hello"

[variables]
thing = ["star", "circle", 7, true]

[matrix]
repeats = 2
"#;

    #[test]
    fn a_comparison_is_read_and_printed_as_the_same() {
        let c = Comparison::parse(FULL).unwrap();
        assert_eq!(c.column_names(), ["small", "wide"]);
        assert_eq!(c.columns[1].picture_size, Some(Scalar::Text("448x224".into())));
        let merged = c.columns[1].over(&c.shared);
        assert_eq!((merged.max_tokens, merged.system.as_deref()), (Some(32), Some("One word.")));
        let values: Vec<String> = c.variables["thing"].iter().map(ToString::to_string).collect();
        assert_eq!(values, ["star", "circle", "7", "true"]);
        let printed = c.print().unwrap();
        assert_eq!(Comparison::parse(&printed).unwrap(), c, "{printed}");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, words) in [
            ("", "0 columns"),
            ("[[columns]]\nprompt = 1", "line 2"),
            ("\u{feff}a\n\"", "line 1"),
            ("[[columns]]\npromt = \"x\"", "unknown field `promt`"),
            ("[[columns]]\nname = \"a\"", "\"a\" has no prompt"),
            ("[shared]\nname = \"a\"\nprompt = \"x\"\n[[columns]]", "cannot be shared"),
            (
                "[shared]\nprompt = \"x\"\n[[columns]]\nname = \"A\"\n[[columns]]\nname = \"A\"",
                "two columns are called \"A\"",
            ),
            ("[[columns]]\nprompt = \"x\"\nmax_tokens = 0", "0 tokens"),
            ("[[columns]]\nprompt = \"x\"\nserver = \"http://127.0.0.1\"", "no `server_model`"),
            ("[[columns]]\nprompt = \"x\"\n[matrix]\nrepeats = 0", "repeats is 0"),
            ("[[columns]]\nprompt = \"x\"\n[variables]\na = []", "the variable a has no value"),
            ("[[columns]]\nprompt = \"x\"\n[variables]\n\"a b\" = [1]", "no name of a variable"),
            ("[[columns]]\nprompt = \"x\"\nrecipe = \"int3\"", "line 3"),
        ] {
            let error = Comparison::parse(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn columns_without_a_name_have_letters() {
        let columns = "[[columns]]\n".repeat(28);
        let c = Comparison::parse(&format!("[shared]\nprompt = \"x\"\n{columns}")).unwrap();
        let names = c.column_names();
        assert_eq!([&names[0], &names[25], &names[26]], ["A", "Z", "A1"]);
    }
}
