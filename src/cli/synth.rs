//! `ocelli synth`: a checkpoint with a real size's shapes and random weights.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use super::convert::ProgressLine;
use crate::error::Result;
use crate::model::convert::partial::gigabytes;
use crate::model::synth::{Preset, synthesise};

/// Make a checkpoint of a real size with RANDOM weights, to measure speed and memory without a download.
///
/// The folder has the layout of the Hugging Face hub (bf16) and every tensor has the shape it has in the released model;
/// the weights are random numbers, so what the model answers means nothing. Preset and seed determine every byte.
#[derive(clap::Args, Clone, Debug)]
pub struct SynthArgs {
    /// Whose shapes: 2b (4.26 GB), 4b (8.88 GB), 8b (17.53 GB), or tiny (a few megabytes)
    #[arg(long, value_name = "2b|4b|8b|tiny")]
    pub preset: Preset,

    /// Which random numbers
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,

    /// Folder to make; it must not exist yet, or be empty
    #[arg(value_name = "DST")]
    pub destination: PathBuf,
}

/// Runs the command. Nothing goes to standard output.
///
/// # Errors
/// Those of [`synthesise`].
pub fn run(args: &SynthArgs) -> Result<()> {
    let mut line = ProgressLine::new("making random weights");
    let never = AtomicBool::new(false);
    let result =
        synthesise(args.preset, args.seed, &args.destination, &mut |progress| line.show(progress), &never);
    line.end();
    let bytes = result?;
    line.say(&format!(
        "{} of random weights with the shapes of {} in {}; what this model answers means nothing",
        gigabytes(bytes),
        args.preset,
        args.destination.display()
    ));
    Ok(())
}
