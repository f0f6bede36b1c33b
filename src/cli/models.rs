//! `ocelli models`: the models of this machine, and those that can be had.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use clap::Subcommand;

use super::convert::ProgressLine;
use super::{print, print_json, say};
use crate::error::{Error, Result};
use crate::hub::library::{Kind, Library, Model};
use crate::hub::pull::{PullProgress, PullStage};
use crate::hub::space::words;
use crate::hub::{HubSettings, PullRequest, RepoId, Revision, catalogue, pull};
use crate::model::recipe::Recipe;

/// Find, download, verify, name and remove models.
///
/// Downloads go into the cache that all tools of the Hugging Face hub share, and what is there already is used. HF_ENDPOINT,
/// HF_HOME, HF_HUB_CACHE, HF_TOKEN, HF_HUB_OFFLINE, HTTPS_PROXY and the token that `hf auth login` keeps are honoured.
#[derive(clap::Args, Clone, Debug)]
pub struct ModelsArgs {
    /// What to do
    #[command(subcommand)]
    pub command: ModelsCommand,
}

/// The parts of `ocelli models`.
#[derive(Subcommand, Clone, Debug)]
pub enum ModelsCommand {
    /// Show the models of this machine
    List {
        /// Show those that can be downloaded instead
        #[arg(long)]
        catalogue: bool,
        /// Print JSON instead
        #[arg(long)]
        json: bool,
    },
    /// Download a model, or go on with a download; prints what to give to --model
    Pull {
        /// The repository: owner/name, or the address of its page
        repo: RepoId,
        /// Branch, tag or commit
        #[arg(long, default_value = "main")]
        revision: Revision,
        /// Of a repository with GGUF files: which of them, for instance Q8_0 (the default) or Q4_K_M
        #[arg(long, value_name = "Q8_0|F16|…")]
        quantisation: Option<String>,
        /// Connections at a time
        #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=16))]
        connections: u8,
    },
    /// Take a folder or a GGUF file into the list, where it lies
    Import {
        /// A checkpoint's folder, a converted model's, or a .gguf file
        path: PathBuf,
        /// What to call it
        #[arg(long)]
        name: Option<String>,
    },
    /// Compute the checksums of a model's files again
    Verify {
        /// The model's name
        name: String,
        /// Remove damaged files, so that `pull` fetches them, and only them, again
        #[arg(long)]
        discard: bool,
    },
    /// Give a model another name
    Rename {
        /// The model's name
        name: String,
        /// Its new name
        new_name: String,
    },
    /// Remove a model from the hub's cache, with what was converted of it; of an imported one only its name and conversions
    Remove {
        /// The model's name
        name: String,
        /// Only what was converted of it
        #[arg(long)]
        conversions: bool,
    },
}

/// The library of this account.
///
/// # Errors
/// A cache has no place.
pub fn library() -> Result<Library> {
    let data = std::env::var_os("OCELLI_DATA").filter(|value| !value.is_empty()).map(PathBuf::from);
    Library::find(data.as_deref())
}

/// Runs the command.
///
/// # Errors
/// Whatever stopped it; damaged files.
pub fn run(args: &ModelsArgs) -> Result<()> {
    match &args.command {
        ModelsCommand::List { catalogue: true, json } => show_catalogue(*json),
        ModelsCommand::List { json, .. } => list(*json),
        ModelsCommand::Pull { repo, revision, quantisation, connections } => {
            let mut request = PullRequest::new(repo.clone());
            request.revision = revision.clone();
            request.quantisation.clone_from(quantisation);
            request.connections = usize::from(*connections);
            fetch(&request)
        }
        ModelsCommand::Import { path, name } => {
            let name = library()?.import(path, name.as_deref())?;
            print(&format!("{name}\n"))
        }
        ModelsCommand::Verify { name, discard } => verify(name, *discard),
        ModelsCommand::Rename { name, new_name } => {
            let library = library()?;
            library.rename(&library.named(name)?, new_name)
        }
        ModelsCommand::Remove { name, conversions } => remove(name, *conversions),
    }
}

fn list(json: bool) -> Result<()> {
    let models = library()?.list()?;
    if json {
        return print_json(&models);
    }
    let mut text = String::new();
    for model in &models {
        let _ = writeln!(text, "{}", model.name);
        let _ = writeln!(text, "    {}", describe(model));
        for conversion in &model.conversions {
            let _ = writeln!(text, "    converted: {} ({})", conversion.recipe, words(conversion.bytes));
        }
    }
    print(&text)
}

fn describe(model: &Model) -> String {
    let place = model.place.display();
    match model.kind {
        Kind::BuiltIn => "in this program; --model demo".to_owned(),
        Kind::Hub => {
            let commit = model.commit.as_deref().and_then(|commit| commit.get(..8)).unwrap_or("");
            format!("{} in the hub's cache, commit {commit}", words(model.bytes))
        }
        Kind::Imported if !model.is_there => format!("not there any more: {place}"),
        Kind::Imported => format!("{} in {place}", words(model.bytes)),
        Kind::Conversion => {
            format!("{}, converted from something that is not in this list", words(model.bytes))
        }
    }
}

fn show_catalogue(json: bool) -> Result<()> {
    let recipe = Recipe::default();
    if json {
        let rows: Vec<_> = catalogue::MODELS
            .iter()
            .map(|entry| {
                serde_json::json!({
                    "repo": entry.repo,
                    "licence": entry.licence,
                    "thinks": entry.thinks,
                    "gguf": entry.is_gguf,
                    "download_bytes": entry.download_bytes(),
                    "converted_bytes": entry.converted_bytes(recipe),
                })
            })
            .collect();
        return print_json(&rows);
    }
    let mut text = String::new();
    for entry in &catalogue::MODELS {
        let _ = writeln!(
            text,
            "{:34} download {:>8}, on the device {:>8} and the KV cache, {}",
            entry.repo,
            words(entry.download_bytes()),
            words(entry.converted_bytes(recipe)),
            entry.licence
        );
    }
    print(&text)
}

fn fetch(request: &PullRequest) -> Result<()> {
    let settings = HubSettings::from_environment()?;
    let mut line = ProgressLine::new("downloading");
    let mut trouble = None;
    let mut show = |progress: &PullProgress| {
        if progress.trouble != trouble {
            trouble.clone_from(&progress.trouble);
            if let Some(words) = &trouble {
                line.say(&format!("{words}; trying again"));
            }
        }
        line.show_text(
            progress.done_bytes.saturating_mul(10) / progress.total_bytes.max(1),
            &progress_words(progress),
        );
    };
    let result = pull(&settings, request, &mut show, &AtomicBool::new(false));
    line.end();
    let pulled = result?;
    if let Some(error) = &pulled.not_asked {
        say(&format!("the hub could not be asked, this is what the cache has: {error}"));
    }
    say(&format!(
        "{} at commit {}: {}, {} of them fetched now",
        request.repo,
        pulled.commit.get(..8).unwrap_or(&pulled.commit),
        words(pulled.total_bytes),
        words(pulled.received_bytes)
    ));
    print(&format!("{}\n", pulled.model.display()))
}

/// `downloading  37 %  1.58 GB of 4.26 GB  85 MB/s  0:32 left`.
fn progress_words(progress: &PullProgress) -> String {
    let percent = progress.done_bytes * 100 / progress.total_bytes.max(1);
    let mut text = match progress.stage {
        PullStage::Asking => return "asking the hub".to_owned(),
        PullStage::Waiting => {
            return "another program is downloading the same file: waiting for it".to_owned();
        }
        PullStage::Fetching => format!("downloading {percent:3} %"),
        PullStage::Verifying => "verifying".to_owned(),
    };
    let _ = write!(text, "  {} of {}", words(progress.done_bytes), words(progress.total_bytes));
    if let Some(speed) = progress.bytes_per_sec {
        let _ = write!(text, "  {}/s", words(speed as u64));
    }
    if let Some(left) = progress.left_secs {
        let left = left as u64;
        let _ = write!(text, "  {}:{:02}:{:02} left", left / 3600, left / 60 % 60, left % 60);
    }
    text
}

fn verify(name: &str, discard: bool) -> Result<()> {
    let library = library()?;
    let model = library.named(name)?;
    let mut line = ProgressLine::new("verifying");
    let mut show = |done: u64, total: u64| {
        let percent = done * 100 / total.max(1);
        line.show_text(
            percent / 10,
            &format!("verifying {percent:3} %  {} of {}", words(done), words(total)),
        );
    };
    let result = library.verify(&model, &mut show, &AtomicBool::new(false));
    line.end();
    let verified = result?;
    if verified.damaged.is_empty() {
        say(&format!("{} files, {}: all are what they should be", verified.files, words(verified.bytes)));
        return Ok(());
    }
    let paths: Vec<String> = verified.damaged.iter().map(|path| path.display().to_string()).collect();
    let error = Error::new("verifying", format!("damaged: {}", paths.join(", "))).at(name);
    if discard {
        let left = library.discard(&verified.damaged)?;
        return Err(if left.is_empty() {
            error.help("they are removed: `ocelli models pull` fetches them again, opening the model converts it again")
        } else {
            error.help("your own files were left alone: convert or download them again")
        });
    }
    Err(error.help("add --discard to remove the damaged files, then `ocelli models pull` fetches them again"))
}

fn remove(name: &str, conversions: bool) -> Result<()> {
    let library = library()?;
    let model = library.named(name)?;
    let freed =
        if conversions { Library::remove_conversions(&model, None)? } else { library.remove(&model)? };
    say(&format!("{} are free again", words(freed)));
    Ok(())
}
