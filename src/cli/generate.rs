//! `ocelli generate`: a question, answered on standard output as it comes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use super::convert::ProgressLine;
use super::sampling::{SamplingArgs, check_max_tokens};
use super::{ModelArgs, elsewhere, print, print_json, say};
use crate::bounded;
use crate::chat::message::{ImageSource, Message, Part, Role, VideoSource};
use crate::chat::openai::{MAX_JSON_BYTES, parse_conversation};
use crate::chat::transfer::write_file;
use crate::costs::write::Form;
use crate::costs::{About, Costs, Ledger};
use crate::engine::{
    AnswerEvent, Engine, LoadEvent, LoadRequest, ModelInfo, Request, Speculation, StopReason, Summary,
    TokenEvent,
};
use crate::error::{Error, Result};
use crate::gpu::measure_read_bandwidth;
use crate::model::clip::sort_frames;
use crate::model::convert::{Progress, Stage};
use crate::model::picture::check_file;
use crate::model::preprocessor::TokenRange;
use crate::model::prompt::VideoPrompt;
use crate::model::sampler::Sampling;

/// Ask a question about pictures, or just a question.
///
/// Pictures come before the question, in the order given. Sampling settings that are not given are the model's own.
///
/// ocelli generate --model Qwen3-VL-2B-Instruct --image cat.jpg "What is this?"
#[derive(clap::Args, Clone, Debug)]
pub struct GenerateArgs {
    /// The question
    #[arg(value_name = "PROMPT")]
    pub prompt: Option<String>,

    /// Model and device
    #[command(flatten)]
    pub model: ModelArgs,

    /// A picture: PNG, JPEG, WebP, GIF, BMP or TIFF (repeat for more)
    #[arg(long, value_name = "FILE")]
    pub image: Vec<PathBuf>,

    /// A clip: an animated GIF, WebP or PNG, or a folder of frames in the order of their names, frame 9 before frame 10 (repeat for more)
    #[arg(long, value_name = "FILE")]
    pub video: Vec<PathBuf>,

    /// Frames a second of clips given as folders; for animations, how many a second to look at
    #[arg(long, allow_negative_numbers = true)]
    pub fps: Option<f64>,

    /// The system prompt
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,

    /// A conversation to go on from, as JSON in OpenAI's content-list form; PROMPT, if given, is added as the last message
    #[arg(long, value_name = "FILE")]
    pub messages: Option<PathBuf>,

    /// How tokens are chosen
    #[command(flatten)]
    pub sampling: SamplingArgs,

    /// Tokens of the answer, at most
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub max_tokens: Option<usize>,

    /// End before this text (repeat for more)
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,

    /// Image tokens a picture may take, as MIN-MAX or MAX; the model's own limits otherwise
    #[arg(long, value_name = "MIN-MAX")]
    pub image_tokens: Option<TokenLimits>,

    /// Guess tokens ahead from the prompt and the answer so far, and check several in one pass: auto (where it is faster) or off;
    /// the answer is the same
    #[arg(long, value_name = "off|auto", default_value = Speculation::default().name())]
    pub speculate: Speculation,

    /// Write clips into the prompt as transformers 5 does, not as the release (4.57) did
    #[arg(long)]
    pub video_prompt_v5: bool,

    /// Write "Picture 1: " and so on before each picture
    #[arg(long)]
    pub add_vision_id: bool,

    /// Ask a server that speaks OpenAI's chat completions (vLLM, llama.cpp, LM Studio) instead of this machine; its key is the
    /// one of OCELLI_SERVER_KEY, or the one that the window has put into the keyring
    #[arg(long, value_name = "URL", requires = "server_model")]
    pub server: Option<String>,

    /// The server's model
    #[arg(long, value_name = "NAME", requires = "server")]
    pub server_model: Option<String>,

    /// Also write what every token cost to a file: .json is a trace that ui.perfetto.dev opens, .csv a table, .jsonl a JSON object a
    /// line, .svg a plot of latencies
    #[arg(long, value_name = "FILE", conflicts_with = "server")]
    pub trace_out: Option<PathBuf>,

    /// Print one JSON object with text, tokens, log-probabilities and times instead of the text
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
///
/// # Errors
/// Whatever kept it from answering.
pub fn run(args: &GenerateArgs) -> Result<()> {
    // What is wrong with the arguments is said before minutes go into loading.
    let mut request = request(args)?;
    args.sampling.check()?;
    let form = args.trace_out.as_deref().map(Form::of_path).transpose()?;
    if let (Some(url), Some(model)) = (&args.server, &args.server_model) {
        return elsewhere::run(args, url, model, request);
    }
    let gpu = args.model.device()?;
    // Beside nothing else, and only where it is of use.
    let bandwidth = form.map(|_| measure_read_bandwidth(&gpu)).transpose()?;
    let engine = Engine::start(gpu, Arc::new(|| {}))?;
    let info = load(&engine, &args.model)?;
    let (sampling, seed_drawn) = args.sampling.resolve(&info.defaults)?;
    request.sampling = sampling;
    request.image_tokens = args.image_tokens.map(|limits| limits.resolve(info.image_tokens.0));
    if seed_drawn {
        say(&format!("seed {}", sampling.seed));
    }
    let about = About { bandwidth_gb_s: bandwidth.map(|rate| rate as f32), ..About::from(&info) };
    let mut ledger = Ledger::new(about, Instant::now(), 0);
    let answer = engine.ask(request);
    let mut told = Told::default();
    for event in &answer.events {
        if form.is_some() {
            ledger.see(&event);
        }
        match event {
            AnswerEvent::Token(token) => {
                if !args.json {
                    print(&token.text)?;
                }
                told.tokens.push(*token);
            }
            AnswerEvent::Text(text) if !args.json => print(&text)?,
            AnswerEvent::Picture(report) => {
                let cost = report.vision_secs.map_or("reused".to_owned(), |s| format!("{:.0} ms", s * 1e3));
                say(&format!(
                    "{} {}: seen at {}x{}, {} tokens, {cost}",
                    if report.is_clip { "clip" } else { "picture" },
                    report.index + 1,
                    report.resized.0,
                    report.resized.1,
                    report.tokens
                ));
                told.pictures.push(report);
            }
            AnswerEvent::Prepared { prompt_text, .. } => told.prompt_text = prompt_text.to_string(),
            AnswerEvent::Finished(summary) => {
                let ends_line = args.json || summary.text.ends_with('\n');
                if !ends_line {
                    print("\n")?;
                }
                if let (Some(path), Some(form)) = (&args.trace_out, form) {
                    write_costs(path, form, ledger.into_costs())?;
                }
                if args.json {
                    return print_json(&report(&info, &told, &summary, &sampling));
                }
                say_figures(&summary);
                return Ok(());
            }
            AnswerEvent::Failed(error) => return Err(error),
            // The others are of servers elsewhere.
            _ => {}
        }
    }
    Err(Error::new("answering", "the engine stopped without a word").help("please report this"))
}

fn write_costs(path: &Path, form: Form, costs: Costs) -> Result<()> {
    let text = form.text(&[costs])?;
    write_file(path, "writing what it cost", text.as_bytes())?;
    say(&format!("what it cost is in {}", path.display()));
    Ok(())
}

#[derive(Default)]
struct Told {
    prompt_text: String,
    pictures: Vec<crate::engine::PictureReport>,
    tokens: Vec<TokenEvent>,
}

/// Why an answer ended, in words.
pub(super) fn reason_words(reason: StopReason) -> &'static str {
    match reason {
        StopReason::End => "the model ended it",
        StopReason::StopString => "a stop string ended it",
        StopReason::MaxTokens => "it reached --max-tokens",
        StopReason::ContextFull => "the context is full",
        StopReason::Cancelled => "cancelled",
    }
}

fn say_figures(s: &Summary) {
    let reason = reason_words(s.reason);
    let guessed = match s.drafted_tokens {
        0 => String::new(),
        drafted => format!(" ({} of {drafted} guesses right)", s.accepted_tokens),
    };
    say(&format!(
        "{} prompt tokens, vision {:.0} ms, prefill {:.1} tok/s, first token after {:.0} ms; {} tokens at {:.1} tok/s{guessed}; {reason}",
        s.prompt_tokens,
        s.vision_secs * 1e3,
        s.prefill_tok_s(),
        s.ttft_secs * 1e3,
        s.ids.len(),
        s.decode_tok_s(),
    ));
}

fn report(info: &ModelInfo, told: &Told, s: &Summary, sampling: &Sampling) -> Value {
    let tokens: Vec<Value> = told
        .tokens
        .iter()
        .map(|t| {
            json!({
                "id": t.record.id, "text": t.text, "logprob": t.record.logprob, "rank": t.record.rank,
                "entropy": t.record.entropy, "top": t.record.alternatives,
                "drafted": t.drafted, "gpu_ms": (t.times.end_ns.saturating_sub(t.times.begin_ns)) as f64 / 1e6,
            })
        })
        .collect();
    let pictures: Vec<Value> = told
        .pictures
        .iter()
        .map(|p| {
            json!({
                "clip": p.is_clip, "width": p.resized.0, "height": p.resized.1, "grid_thw": p.grid,
                "tokens": p.tokens, "vision_ms": p.vision_secs.map(|s| s * 1e3),
            })
        })
        .collect();
    json!({
        "model": info.name, "recipe": info.recipe.name(), "text": s.text, "ids": s.ids, "stop_reason": s.reason,
        "prompt_text": told.prompt_text, "prompt_tokens": s.prompt_tokens, "reused_tokens": s.reused_tokens,
        "pictures": pictures, "sampling": sampling, "vision_ms": s.vision_secs * 1e3, "ttft_ms": s.ttft_secs * 1e3,
        "prefill_tok_s": s.prefill_tok_s(), "decode_tok_s": s.decode_tok_s(), "drafted_tokens": s.drafted_tokens,
        "accepted_tokens": s.accepted_tokens, "load_s": info.load_secs, "tokens": tokens,
    })
}

/// Loads the model, saying how far it is.
pub(super) fn load(engine: &Engine, args: &ModelArgs) -> Result<ModelInfo> {
    let options = args.load_options()?;
    let load = engine.load(LoadRequest { folder: args.choose()?, recipe: args.recipe, options });
    let mut converting = ProgressLine::new("converting");
    let mut loading = ProgressLine::new("loading");
    for event in &load.events {
        match event {
            LoadEvent::Converting { done_bytes, total_bytes } => {
                converting.show(&Progress { stage: Stage::Converting, done_bytes, total_bytes, tensor: "" });
            }
            LoadEvent::Plan(plan) => {
                converting.end();
                say(&format!(
                    "memory: {:.2} GB of weights, {:.2} GB for a context of {} tokens",
                    plan.weights_bytes as f64 / 1e9,
                    plan.kv_bytes as f64 / 1e9,
                    plan.context
                ));
            }
            LoadEvent::Uploading { done_bytes, total_bytes } => {
                loading.show(&Progress { stage: Stage::Converting, done_bytes, total_bytes, tensor: "" });
            }
            LoadEvent::Loaded(info) => {
                loading.end();
                info.notes.iter().for_each(|note| say(&format!("note: {note}")));
                say(&format!("{} ({}) loaded in {:.1} s", info.name, info.recipe, info.load_secs));
                return Ok(*info);
            }
            LoadEvent::Failed(error) => {
                converting.end();
                loading.end();
                return Err(ModelArgs::advise(error));
            }
        }
    }
    Err(Error::new("loading the model", "the engine stopped without a word").help("please report this"))
}

/// The conversation the arguments describe.
fn request(args: &GenerateArgs) -> Result<Request> {
    let (mut messages, mut tools) = (Vec::new(), None);
    if let Some(file) = &args.messages {
        let conversation = read_messages(file)?;
        messages = conversation.messages;
        tools = conversation.tools;
    }
    if let Some(system) = &args.system {
        messages.insert(0, Message::text(Role::System, system.clone()));
    }
    let mut parts: Vec<Part> =
        args.image.iter().map(|path| Part::Image(ImageSource::Path(path.clone()))).collect();
    for path in &args.video {
        parts.push(Part::Video(clip(path, args.fps)?));
    }
    if let Some(prompt) = &args.prompt {
        parts.push(Part::Text(prompt.clone()));
    }
    if !parts.is_empty() {
        messages.push(Message::new(Role::User, parts));
    }
    if messages.is_empty() {
        return Err(Error::new("asking", "there is no question").help("give a PROMPT, or --messages FILE"));
    }
    check_files(&messages)?;
    check_max_tokens(args.max_tokens)?;
    let mut request = Request::new(messages);
    request.tools = tools;
    request.max_tokens = args.max_tokens;
    request.stop.clone_from(&args.stop);
    request.add_vision_id = args.add_vision_id;
    request.speculation = args.speculate.clone();
    if args.video_prompt_v5 {
        request.video_prompt = VideoPrompt::V5;
    }
    Ok(request)
}

/// Reads a conversation; relative paths in it start at the current folder.
pub(super) fn read_messages(file: &Path) -> Result<crate::chat::openai::Conversation> {
    let doing = "reading the messages";
    let text = bounded::stream(file, MAX_JSON_BYTES as u64)
        .and_then(bounded::text)
        .map_err(|e| Error::new(doing, e).at_path(file).help("give a file of JSON in UTF-8"))?;
    let conversation = parse_conversation(&text, Path::new("")).map_err(|e| e.at_path(file))?;
    check_files(&conversation.messages).map_err(|e| e.at_path(file))?;
    Ok(conversation)
}

/// Are the files of pictures and clips there? What is in them is looked at when the model is loaded.
pub(super) fn check_files(messages: &[Message]) -> Result<()> {
    for (index, message) in messages.iter().enumerate() {
        let frames = message.videos().flat_map(|clip| match clip {
            VideoSource::Frames { frames, .. } => frames.as_slice(),
            VideoSource::Animation { file, .. } => std::slice::from_ref(file),
            VideoSource::Clip(_) => &[],
        });
        for source in message.images().chain(frames) {
            if let ImageSource::Path(path) = source {
                check_file(path).map_err(|e| e.at(format!("message {index}")))?;
            }
        }
    }
    Ok(())
}

fn clip(path: &Path, fps: Option<f64>) -> Result<VideoSource> {
    if !path.is_dir() {
        return Ok(VideoSource::Animation { file: ImageSource::Path(path.to_owned()), fps });
    }
    let doing = "reading the clip";
    let entries = std::fs::read_dir(path).map_err(|e| Error::new(doing, e).at_path(path))?;
    let mut frames: Vec<PathBuf> = entries
        .map(|entry| entry.map(|e| e.path()).map_err(|e| Error::new(doing, e).at_path(path)))
        .collect::<Result<_>>()?;
    frames.retain(|f| f.is_file() && !f.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.')));
    sort_frames(&mut frames);
    Ok(VideoSource::Frames { frames: frames.into_iter().map(ImageSource::Path).collect(), fps })
}

/// A range of image tokens as the user writes it: `MIN-MAX`, or `MAX` with the model's own minimum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenLimits {
    min: Option<u32>,
    max: u32,
}

impl TokenLimits {
    /// With the model's own minimum where none is given.
    #[must_use]
    pub fn resolve(self, model_min: usize) -> TokenRange {
        let model_min = u32::try_from(model_min).unwrap_or(u32::MAX).clamp(1, self.max);
        TokenRange { min_tokens: self.min.unwrap_or(model_min), max_tokens: self.max }
    }
}

impl std::str::FromStr for TokenLimits {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let parse = |s: &str| s.trim().parse::<u32>().ok().filter(|&n| n > 0);
        let limits = match text.split_once('-') {
            Some((min, max)) => parse(min).zip(parse(max)).map(|(min, max)| Self { min: Some(min), max }),
            None => parse(text).map(|max| Self { min: None, max }),
        };
        limits
            .filter(|l| l.min.is_none_or(|min| min <= l.max))
            .ok_or_else(|| "write MIN-MAX, like 256-1024, or MAX".to_owned())
    }
}
