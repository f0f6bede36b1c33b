//! `ocelli convert`: a hub checkpoint made into a converted model. Also the progress line that `synth` shares.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::model::convert::partial::gigabytes;
use crate::model::convert::{How, Progress, Stage, convert};
use crate::model::recipe::Recipe;

/// Make a checkpoint from the Hugging Face hub into the form that Ocelli loads.
///
/// The result is a folder with the weights in the chosen recipe, and the tokenizer, template and configuration files as
/// they came. It is written to a hidden folder beside DST, read back and compared, and only then given its name: an
/// interrupted conversion leaves nothing that looks finished, and the next one to the same DST cleans up after it.
/// Converting the same checkpoint again gives the same bytes.
///
/// SRC may also be a converted int8 model, with the recipe f16 or f32: its weights are multiplied out (in f32 exactly), so
/// that kernels can be compared on the same weights. What rounding to int8 took away does not come back.
///
/// Or a GGUF file of llama.cpp's, or a folder with one; its vision file (mmproj) is found beside it. Q8_0 weights are taken bit
/// for bit.
#[derive(clap::Args, Clone, Debug)]
pub struct ConvertArgs {
    /// Folder of the checkpoint: config.json, tokenizer.json and safetensors weights; or of a converted int8 model; or a GGUF
    /// file
    #[arg(value_name = "SRC")]
    pub source: PathBuf,

    /// Folder to make; it must not exist yet, or be empty
    #[arg(value_name = "DST")]
    pub destination: PathBuf,

    /// How to store the weights
    ///
    /// int8hu: int8 with a head of its own, the fastest and smallest; int8lin: int8 with an f16 head; f16: everything in
    /// 16 bits; f32: everything in 32 bits, for checking numerics.
    #[arg(long, value_name = "int8hu|int8lin|f16|f32", default_value_t = Recipe::Int8Hu)]
    pub recipe: Recipe,

    /// Convert a GGUF file that has no vision file, for texts only
    #[arg(long)]
    pub text_only: bool,
}

/// Runs the command. Nothing goes to standard output.
///
/// # Errors
/// Those of [`convert`].
pub fn run(args: &ConvertArgs) -> Result<()> {
    let mut line = ProgressLine::new("converting");
    let never = AtomicBool::new(false);
    let how = How { recipe: args.recipe, text_only: args.text_only };
    let result = convert(&args.source, &args.destination, how, &mut |progress| line.show(progress), &never);
    line.end();
    let report = result?;
    for note in &report.notes {
        line.say(&format!("note: {note}"));
    }
    line.say(&format!("{report} in {}, recipe {}", args.destination.display(), args.recipe));
    Ok(())
}

/// One line on standard error that shows how far the work is: rewritten in place on a terminal, a new line for each
/// tenth elsewhere.
#[derive(Debug)]
pub(crate) struct ProgressLine {
    working: &'static str,
    terminal: bool,
    shown: Option<Instant>,
    tenth: Option<(Stage, u64)>,
    width: usize,
}

impl ProgressLine {
    /// Nothing shown yet; `working` is the word for what is being done ("converting").
    pub(crate) fn new(working: &'static str) -> Self {
        Self { working, terminal: std::io::stderr().is_terminal(), shown: None, tenth: None, width: 0 }
    }

    /// Shows how far the work is, if it is time to.
    pub(crate) fn show(&mut self, progress: &Progress<'_>) {
        let tenth = (progress.stage, progress.done_bytes * 10 / progress.total_bytes.max(1));
        let word = if progress.stage == Stage::Verifying { "verifying" } else { self.working };
        let text = line(word, progress);
        self.show_at(tenth, &text);
    }

    /// Shows a text of the caller's, if it is time to; `tenth` is how many tenths of the work are done.
    pub(crate) fn show_text(&mut self, tenth: u64, text: &str) {
        self.show_at((Stage::Converting, tenth), text);
    }

    fn show_at(&mut self, tenth: (Stage, u64), text: &str) {
        const PAUSE: Duration = Duration::from_millis(100);
        if self.terminal {
            if self.shown.is_none_or(|time| time.elapsed() >= PAUSE) {
                let width = text.chars().count();
                let blanks = " ".repeat(self.width.saturating_sub(width));
                self.write(&format!("\r{text}{blanks}"));
                (self.shown, self.width) = (Some(Instant::now()), width);
            }
        } else if self.tenth != Some(tenth) {
            self.write(&format!("{text}\n"));
        }
        self.tenth = Some(tenth);
    }

    /// Takes the line away.
    pub(crate) fn end(&mut self) {
        if self.terminal && self.width > 0 {
            self.write(&format!("\r{}\r", " ".repeat(self.width)));
            self.width = 0;
        }
    }

    /// Says something that stays.
    pub(crate) fn say(&mut self, text: &str) {
        self.end();
        self.write(&format!("{text}\n"));
    }

    #[expect(clippy::unused_self, reason = "writing belongs to the line")]
    fn write(&self, text: &str) {
        // Nobody can be told that standard error is closed.
        drop(std::io::stderr().lock().write_all(text.as_bytes()));
    }
}

/// `converting  37 %  680.00 MB of 1.83 GB  …layers.3.mlp.up_proj.weight`, at most 79 columns.
fn line(word: &str, progress: &Progress<'_>) -> String {
    const COLUMNS: usize = 79;
    let percent = progress.done_bytes * 100 / progress.total_bytes.max(1);
    let mut text = format!(
        "{word} {percent:3} %  {} of {}",
        gigabytes(progress.done_bytes),
        gigabytes(progress.total_bytes)
    );
    let tensor = progress.tensor;
    let room = COLUMNS.saturating_sub(text.len() + 2);
    if tensor.len() <= room {
        if !tensor.is_empty() {
            text.push_str("  ");
            text.push_str(tensor);
        }
    } else if let Some(tail) = tensor.get(tensor.len() + 1 - room.max(1)..) {
        // The end of a name says more than its beginning.
        text.push_str("  …");
        text.push_str(tail);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_keeps_within_a_narrow_terminal() {
        let tensor = "model.language_model.layers.3.post_attention_layernorm.weight";
        let progress = Progress {
            stage: Stage::Converting,
            done_bytes: 680_000_000,
            total_bytes: 1_830_000_000,
            tensor,
        };
        let text = line("converting", &progress);
        assert!(text.starts_with("converting  37 %  680.00 MB of 1.83 GB  …"), "{text}");
        assert!(text.ends_with("layernorm.weight") && text.chars().count() <= 79, "{text}");
        let text = line(
            "verifying",
            &Progress { stage: Stage::Verifying, done_bytes: 0, total_bytes: 0, tensor: "" },
        );
        assert_eq!(text, "verifying   0 %  0.00 MB of 0.00 MB");
    }
}
