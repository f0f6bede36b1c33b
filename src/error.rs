//! The one error value of the program. A person reads it on one line: what was being done, to which
//! file, tensor or picture, what is wrong, and what they can do about it.

use std::fmt;

/// Letters that are shown of a cause, a subject or an advice, each.
const MOST_LETTERS: usize = 2000;

/// `Result` with the program's own [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, said so that the person who sees it can act.
///
/// Built in the order it is read:
/// `Error::new("reading the checkpoint", "it ends in the middle of a tensor").at(path).help("download it again")`.
#[derive(Clone, PartialEq, Eq)]
pub struct Error(Box<Parts>);

#[derive(Clone, PartialEq, Eq)]
struct Parts {
    doing: String,
    subject: Option<String>,
    cause: String,
    help: Option<String>,
    kind: ErrorKind,
    quotes: bool,
}

/// What a caller may want to tell apart; everything else is for the reader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErrorKind {
    /// Any error nobody has to handle in a special way.
    #[default]
    Other,
    /// The user asked for it to stop.
    Cancelled,
    /// The request needs more memory or context than there is.
    DoesNotFit,
    /// The model's vision file is missing; without it the model can be used for texts.
    NoVision,
    /// The model was changed while the request was made: asked again, it is answered by the next.
    ModelChanged,
    /// The device failed at something it had taken on: what it computed since nobody knows when cannot be trusted.
    DeviceFailed,
    /// A fault in the program itself ended the work in a panic, which was caught.
    Panicked,
    /// The GPU device is gone and must be rebuilt.
    DeviceLost,
}

impl Error {
    /// An error met while `doing` something ("reading the checkpoint"), because of `cause`.
    #[must_use]
    pub fn new(doing: impl fmt::Display, cause: impl fmt::Display) -> Self {
        Self(Box::new(Parts {
            doing: doing.to_string(),
            subject: None,
            cause: cause.to_string(),
            help: None,
            kind: ErrorKind::Other,
            quotes: false,
        }))
    }

    /// The file, tensor or picture it happened to. The innermost name given first stays first.
    #[must_use]
    pub fn at(mut self, subject: impl fmt::Display) -> Self {
        self.0.subject = Some(match self.0.subject.take() {
            None => subject.to_string(),
            Some(inner) => format!("{inner} in {subject}"),
        });
        self
    }

    /// Like [`Error::at`], for a path.
    #[must_use]
    pub fn at_path(self, path: &std::path::Path) -> Self {
        self.at(path.display())
    }

    /// What the user can do. The first advice given stays.
    #[must_use]
    pub fn help(mut self, help: impl fmt::Display) -> Self {
        self.0.help.get_or_insert_with(|| help.to_string());
        self
    }

    /// Marks the error for callers that tell kinds apart.
    #[must_use]
    pub fn kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// The kind given by [`Error::kind`].
    #[must_use]
    pub fn get_kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Marks that the cause holds words from outside, which may be what somebody wrote: a server's, or those of a file with
    /// prompts or answers in it. The user reads them; the log does not get them.
    #[must_use]
    pub fn quoting(mut self) -> Self {
        self.0.quotes = true;
        self
    }

    /// The error as the log may hold it: whole or, of one that quotes, what was being done, to what, and its kind.
    #[must_use]
    pub fn for_log(&self) -> String {
        let kind = self.0.kind;
        if self.0.quotes {
            let cause = format!("what is wrong quotes what may be private, and is not in the log ({kind:?})");
            return Self(Box::new(Parts { cause, help: None, ..(*self.0).clone() })).to_string();
        }
        if kind == ErrorKind::Panicked {
            return Self(Box::new(Parts { cause: without_quotes(&self.0.cause), ..(*self.0).clone() }))
                .to_string();
        }
        self.to_string()
    }

    /// The error for work the user has stopped.
    #[must_use]
    pub fn cancelled(doing: impl fmt::Display) -> Self {
        Self::new(doing, "cancelled").kind(ErrorKind::Cancelled)
    }
}

/// Backquoted words of the standard library's own in what a panic says.
const ITS_OWN: [&str; 6] =
    ["`Result::unwrap()`", "`Err`", "`Option::unwrap()`", "`None`", "`left == right`", "`left != right`"];

/// What a panic says without the texts that it quotes. From the first quotation mark to the last, as a text may hold some itself; and to
/// the end where there is but one, as what is long is cut off.
#[must_use]
pub fn without_quotes(text: &str) -> String {
    const MARKS: [char; 2] = ['`', '"'];
    let mut from = 0;
    while let Some(at) = text.get(from..).and_then(|rest| rest.find(MARKS)).map(|at| from + at) {
        let (before, quote) = text.split_at(at);
        if let Some(own) = ITS_OWN.iter().find(|own| quote.starts_with(**own)) {
            from = at + own.len();
            continue;
        }
        let after = quote.rfind(MARKS).filter(|end| *end > 0).and_then(|end| quote.get(end + 1..));
        return format!("{before}`…`{}", after.unwrap_or_default());
    }
    text.to_owned()
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let p = &*self.0;
        // Causes come from libraries too, and may quote half a file: keep whatever they say on one line that can be read.
        let one_line = |s: &str| {
            let mut line = s.split_whitespace().collect::<Vec<_>>().join(" ");
            if let Some((end, _)) = line.char_indices().nth(MOST_LETTERS) {
                line.truncate(end);
                line.push('…');
            }
            line
        };
        write!(f, "{}", p.doing)?;
        if let Some(subject) = &p.subject {
            write!(f, " {}", one_line(subject))?;
        }
        write!(f, ": {}", one_line(&p.cause))?;
        if let Some(help) = &p.help {
            write!(f, " ({})", one_line(help))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_reads_as_one_line_with_subject_cause_and_advice() {
        let e = Error::new("reading tensor", "it ends\nearly")
            .at("a.weight")
            .at("model.safetensors")
            .help("download it again");
        assert_eq!(
            e.to_string(),
            "reading tensor a.weight in model.safetensors: it ends early (download it again)"
        );
    }

    #[test]
    fn the_log_gets_no_words_from_outside() {
        let e = Error::new("asking the server", "it says: \"my secret\" is no model")
            .quoting()
            .at("Cluster")
            .help("my secret")
            .kind(ErrorKind::DoesNotFit);
        assert!(e.to_string().contains("my secret"), "the user reads it");
        let log = e.for_log();
        assert!(log.starts_with("asking the server Cluster: ") && log.contains("DoesNotFit"), "{log}");
        assert!(!log.contains("secret"), "{log}");
        let plain = Error::new("reading", "it ends early").at("a.gguf");
        assert_eq!(plain.for_log(), plain.to_string());
        let panic = Error::new("answering", "a fault: byte index 1 is not in `my secret`")
            .kind(ErrorKind::Panicked)
            .help("report it");
        assert_eq!(panic.for_log(), "answering: a fault: byte index 1 is not in `…` (report it)");
    }

    #[test]
    fn what_a_panic_quotes_is_taken_out() {
        for (text, left) in [
            (
                "byte index 3 is not a char boundary; it is inside 'ä' (bytes 2..4) of `my `own` \"text\"`[...]",
                "byte index 3 is not a char boundary; it is inside 'ä' (bytes 2..4) of `…`[...]",
            ),
            ("byte index 9 is out of bounds of `cut off", "byte index 9 is out of bounds of `…`"),
            (
                "called `Result::unwrap()` on an `Err` value: \"my `text`\"",
                "called `Result::unwrap()` on an `Err` value: `…`",
            ),
            (
                "assertion `left == right` failed\n  left: \"my\"\n right: \"text\"",
                "assertion `left == right` failed\n  left: `…`",
            ),
            ("called `Option::unwrap()` on a `None` value", "called `Option::unwrap()` on a `None` value"),
            ("index out of bounds: the len is 3", "index out of bounds: the len is 3"),
            ("`", "`…`"),
            ("", ""),
        ] {
            assert_eq!(without_quotes(text), left);
        }
    }

    #[test]
    fn what_quotes_half_a_file_is_cut_off() {
        let said = Error::new("reading", "ä".repeat(1 << 20)).to_string();
        assert!(said.chars().count() < MOST_LETTERS + 20 && said.ends_with('…'));
    }
}
