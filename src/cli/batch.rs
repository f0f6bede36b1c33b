//! `ocelli batch`: many conversations from a file, answered several at once.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{ErrorKind as IoErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::convert::ProgressLine;
use super::generate::{TokenLimits, check_files, load};
use super::sampling::{SamplingArgs, check_max_tokens};
use super::{ModelArgs, say, waker};
use crate::bounded;
use crate::chat::message::{Message, Role};
use crate::chat::openai::{MAX_VALUES, conversation_from};
use crate::engine::{Answer, AnswerEvent, Engine, Request, StopReason, Summary};
use crate::error::{Error, ErrorKind, Result};
use crate::model::linear::MAX_BATCH;
use crate::model::preprocessor::TokenRange;
use crate::model::sampler::Sampling;

const DOING: &str = "answering the batch";
/// Bytes of the file of questions, at most: it is in memory whole.
const MAX_QUESTIONS_BYTES: u64 = 4 << 30;

/// Requests handed to the engine at once: those that run, and as many whose prompts are made meanwhile, so that the device
/// never waits for a picture to be read.
const ASKED: usize = 2 * MAX_BATCH;

/// Answer many questions, eight at a time.
///
/// Each line of QUESTIONS is a JSON object with `messages`, in OpenAI's content-list form as `generate --messages` reads it,
/// and perhaps an `id` and `tools`. Where several messages of the user follow one another, each is asked in turn, with the
/// model's own answers to the earlier ones before it. Relative paths of pictures start at the current folder. Where tokens are
/// drawn, each line has a seed of its own: the seed plus the number of lines before it.
///
/// Each line gets a line of JSON in the answers, in the same order: id, answers and finish (one each turn; finish says why
/// the answer ended), prompt_tokens and new_tokens (of all turns together), ttft_ms (from asking to the first token of the
/// first turn), and error where something went wrong. Then the other lines go on, and the exit status is 1 at the end.
///
/// ocelli batch questions.jsonl --out answers.jsonl --model Qwen3-VL-2B-Instruct --greedy
#[derive(clap::Args, Clone, Debug)]
pub struct BatchArgs {
    /// The questions: on each line a JSON object with messages, as generate --messages reads them, and perhaps an id; several
    /// messages of the user in a row are asked in turn
    #[arg(value_name = "QUESTIONS")]
    pub questions: PathBuf,

    /// Where to write the answers, a line of JSON each, in the order of the questions; standard output without it
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,

    /// Model and device
    #[command(flatten)]
    pub model: ModelArgs,

    /// How tokens are chosen
    #[command(flatten)]
    pub sampling: SamplingArgs,

    /// Tokens of each answer, at most
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub max_tokens: Option<usize>,

    /// Image tokens a picture may take, as MIN-MAX or MAX; the model's own limits otherwise
    #[arg(long, value_name = "MIN-MAX")]
    pub image_tokens: Option<TokenLimits>,
}

/// Runs the command.
///
/// # Errors
/// What kept all of it from running; or, at the end, that lines have errors of their own.
pub fn run(args: &BatchArgs) -> Result<()> {
    // What is wrong with the arguments is said before minutes go into loading.
    args.sampling.check()?;
    check_max_tokens(args.max_tokens)?;
    let doing = "reading the questions";
    let text = bounded::stream(&args.questions, MAX_QUESTIONS_BYTES)
        .map_err(|e| Error::new(doing, e).at_path(&args.questions).help("give a file of JSON lines"))?;
    let lines: Vec<(usize, &[u8])> = (1..)
        .zip(text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii))
        .filter(|l| !l.1.is_empty())
        .collect();
    if lines.is_empty() {
        return Err(Error::new(doing, "there is no line in it").at_path(&args.questions));
    }
    if let Some(out) = &args.out {
        check_out(out, &args.questions)?;
    }
    let gpu = args.model.device()?;
    let (wake, woken) = waker();
    let engine = Engine::start(gpu, wake)?;
    let info = load(&engine, &args.model)?;
    let (sampling, drawn) = args.sampling.resolve(&info.defaults)?;
    if drawn {
        say(&format!("seed {}", sampling.seed));
    }
    let batch = Batch {
        engine,
        woken,
        sampling,
        max_tokens: args.max_tokens,
        image_tokens: args.image_tokens.map(|limits| limits.resolve(info.image_tokens.0)),
        lines: lines.into_iter().enumerate().collect(),
        running: Vec::new(),
        crowded: VecDeque::new(),
        out: Ordered::new(args.out.as_deref())?,
        progress: ProgressLine::new("answering"),
        began: Instant::now(),
        turns: 0,
        failed: 0,
    };
    batch.run()
}

/// Can answers go there? It is made when the model is loaded: an older file is not lost to a wrong --model.
pub(super) fn check_out(out: &Path, questions: &Path) -> Result<()> {
    let doing = "opening the file for the answers";
    if out.is_dir() {
        return Err(Error::new(doing, "this is a folder").at_path(out).help("give the name of a file"));
    }
    if !out.parent().is_none_or(|parent| parent.as_os_str().is_empty() || parent.is_dir()) {
        return Err(Error::new(doing, "its folder does not exist")
            .at_path(out)
            .help("make the folder first"));
    }
    let same = std::fs::canonicalize(out).ok().zip(std::fs::canonicalize(questions).ok());
    if same.is_some_and(|(out, questions)| out == questions) {
        return Err(Error::new(doing, "this is the file with the questions")
            .at_path(out)
            .help("give another name"));
    }
    Ok(())
}

/// A line of the questions on its way.
struct Job {
    /// Its place among the lines that are not empty, from 0.
    place: usize,
    id: Value,
    tools: Option<Value>,
    /// What was said so far, the model's answers too.
    messages: Vec<Message>,
    /// Messages to add, turn by turn.
    turns: VecDeque<Vec<Message>>,
    /// Finished turns.
    summaries: Vec<Summary>,
    /// Nothing runs beside it.
    alone: bool,
    answer: Option<Answer>,
}

impl Job {
    /// Reads line `number` of the file.
    fn parse(place: usize, number: usize, line: &[u8]) -> std::result::Result<Self, (Value, Error)> {
        let here = |e: Error| e.at(format!("line {number}"));
        let fail = |cause: String| Error::new("reading the question", cause).at(format!("line {number}"));
        let value: Value =
            bounded::json(line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line), MAX_VALUES)
                .map_err(|e| (Value::Null, fail(format!("it is not JSON: {e}"))))?;
        let id = value.get("id").cloned().unwrap_or(Value::Null);
        if !value.is_object() {
            return Err((id, fail("it is no JSON object".into())));
        }
        let read = conversation_from(value, Path::new(""))
            .and_then(|conversation| check_files(&conversation.messages).map(|()| conversation));
        match read {
            Ok(conversation) => Ok(Self {
                place,
                id,
                tools: conversation.tools,
                messages: Vec::new(),
                turns: turns(conversation.messages),
                summaries: Vec::new(),
                alone: false,
                answer: None,
            }),
            Err(error) => Err((id, here(error))),
        }
    }
}

/// What is written of a line: its turns that were answered, and what went wrong.
fn report(id: &Value, summaries: &[Summary], error: Option<&Error>) -> Value {
    let sum = |of: fn(&Summary) -> usize| summaries.iter().map(of).sum::<usize>();
    let mut report = json!({
        "id": id,
        "answers": summaries.iter().map(|s| s.text.as_str()).collect::<Vec<_>>(),
        "finish": summaries.iter().map(|s| s.reason).collect::<Vec<_>>(),
        "prompt_tokens": sum(|s| s.prompt_tokens),
        "new_tokens": sum(|s| s.ids.len()),
        "ttft_ms": summaries.first().map(|s| (s.ttft_secs * 1e6).round_ties_even() / 1e3),
    });
    if let Some(error) = error {
        report["error"] = error.to_string().into();
    }
    report
}

/// Cuts a conversation before each message that follows one of the user's, unless the model is said to have answered
/// in between.
fn turns(messages: Vec<Message>) -> VecDeque<Vec<Message>> {
    let mut turns: VecDeque<Vec<Message>> = VecDeque::new();
    for message in messages {
        let asked = turns.back().and_then(|turn| turn.last()).is_some_and(|last| last.role == Role::User);
        match turns.back_mut() {
            Some(turn) if !(asked && message.role == Role::User) => turn.push(message),
            _ => turns.push_back(vec![message]),
        }
    }
    turns
}

/// How a look at a job ended.
enum Step {
    Waits,
    Done(Option<Error>),
    /// It needs more of the cache than the others leave.
    Crowded,
}

struct Batch<'a> {
    engine: Engine,
    /// Something happened to some answer.
    woken: Receiver<()>,
    sampling: Sampling,
    max_tokens: Option<usize>,
    image_tokens: Option<TokenRange>,
    /// Lines not begun: place, number in the file, text.
    lines: VecDeque<(usize, (usize, &'a [u8]))>,
    running: Vec<Job>,
    /// Jobs that did not fit beside others, to be asked again alone.
    crowded: VecDeque<Job>,
    out: Ordered,
    progress: ProgressLine,
    began: Instant,
    turns: usize,
    failed: usize,
}

impl Batch<'_> {
    fn run(mut self) -> Result<()> {
        let total = self.lines.len();
        loop {
            self.begin()?;
            if self.running.is_empty() || self.out.reader_gone {
                break;
            }
            // Not for ever: if the engine's thread is gone its answers are, and nobody wakes us.
            let _ = self.woken.recv_timeout(Duration::from_secs(1));
            self.look()?;
            self.show(total);
        }
        self.progress.end();
        let secs = self.began.elapsed().as_secs_f64();
        say(&format!(
            "{} lines, {} answers in {secs:.1} s: {:.1} answers a second",
            self.out.written,
            self.turns,
            self.turns as f64 / secs.max(1e-9)
        ));
        if self.failed > 0 {
            let why = format!("{} of {total} lines have an error", self.failed);
            return Err(Error::new(DOING, why).help("their lines in the answers say which"));
        }
        Ok(())
    }

    /// Hands lines to the engine while there is room.
    fn begin(&mut self) -> Result<()> {
        // Those that need the cache for themselves go first: everything behind them waits to be written.
        if let Some(mut job) = self.crowded.pop_front_if(|_| self.running.is_empty()) {
            job.alone = true;
            self.ask(&mut job);
            self.running.push(job);
        }
        while self.running.len() < ASKED
            && self.crowded.is_empty()
            && !self.running.iter().any(|job| job.alone)
        {
            let Some((place, (number, line))) = self.lines.pop_front() else { break };
            match Job::parse(place, number, line) {
                Ok(mut job) => {
                    if let Some(turn) = job.turns.pop_front() {
                        job.messages.extend(turn);
                    }
                    self.ask(&mut job);
                    self.running.push(job);
                }
                Err((id, error)) => {
                    self.failed += 1;
                    self.write(place, &report(&id, &[], Some(&error)))?;
                }
            }
        }
        Ok(())
    }

    /// Asks what a job's messages end with.
    fn ask(&self, job: &mut Job) {
        let mut request = Request::new(job.messages.clone());
        request.tools.clone_from(&job.tools);
        request.max_tokens = self.max_tokens;
        request.image_tokens = self.image_tokens;
        request.sampling = self.sampling;
        request.sampling.seed = self.sampling.seed.wrapping_add(job.place as u64);
        job.answer = Some(self.engine.ask(request));
    }

    /// Takes what has come for the running jobs.
    fn look(&mut self) -> Result<()> {
        let mut index = 0;
        while index < self.running.len() {
            let mut job = self.running.swap_remove(index);
            match self.step(&mut job)? {
                Step::Waits => {
                    // Back where it was.
                    self.running.push(job);
                    let last = self.running.len() - 1;
                    self.running.swap(index, last);
                    index += 1;
                }
                Step::Crowded => self.crowded.push_back(job),
                Step::Done(error) => {
                    self.failed += usize::from(error.is_some());
                    self.write(job.place, &report(&job.id, &job.summaries, error.as_ref()))?;
                }
            }
        }
        Ok(())
    }

    fn step(&mut self, job: &mut Job) -> Result<Step> {
        let Some(answer) = &job.answer else { return Ok(Step::Done(None)) };
        loop {
            match answer.events.try_recv() {
                Ok(AnswerEvent::Finished(summary)) => {
                    // The context may be full of the others' tokens.
                    if summary.reason == StopReason::ContextFull && !job.alone {
                        return Ok(Step::Crowded);
                    }
                    self.turns += 1;
                    let text = summary.text.clone();
                    job.summaries.push(*summary);
                    let Some(turn) = job.turns.pop_front() else { return Ok(Step::Done(None)) };
                    job.messages.push(Message::text(Role::Assistant, text));
                    job.messages.extend(turn);
                    self.ask(job);
                    return Ok(Step::Waits);
                }
                Ok(AnswerEvent::Failed(error)) => match error.get_kind() {
                    // Nothing after it can be answered.
                    ErrorKind::DeviceLost => return Err(error),
                    ErrorKind::DoesNotFit if !job.alone => return Ok(Step::Crowded),
                    _ => return Ok(Step::Done(Some(error))),
                },
                Ok(_) => {}
                Err(mpsc::TryRecvError::Empty) => return Ok(Step::Waits),
                Err(mpsc::TryRecvError::Disconnected) => {
                    return Err(
                        Error::new(DOING, "the engine stopped without a word").help("please report this")
                    );
                }
            }
        }
    }

    fn write(&mut self, place: usize, report: &Value) -> Result<()> {
        self.progress.end();
        self.out.push(place, report.to_string() + "\n")
    }

    fn show(&mut self, total: usize) {
        let secs = self.began.elapsed().as_secs_f64();
        let written = self.out.written;
        let text =
            format!("{written} of {total} lines, {:.1} answers a second", self.turns as f64 / secs.max(1e-9));
        self.progress.show_text(written as u64 * 10 / total as u64, &text);
    }
}

/// Writes lines in the order of their places, each as soon as those before it are written.
struct Ordered {
    file: Option<(File, PathBuf)>,
    early: BTreeMap<usize, String>,
    written: usize,
    /// Whoever read standard output has gone.
    reader_gone: bool,
}

impl Ordered {
    fn new(path: Option<&Path>) -> Result<Self> {
        let file = match path {
            None => None,
            Some(path) => {
                let file = File::create(path).map_err(|e| {
                    Error::new("making the file for the answers", e)
                        .at_path(path)
                        .help("choose another place")
                })?;
                Some((file, path.to_owned()))
            }
        };
        Ok(Self { file, early: BTreeMap::new(), written: 0, reader_gone: false })
    }

    fn push(&mut self, place: usize, line: String) -> Result<()> {
        self.early.insert(place, line);
        while let Some(line) = self.early.remove(&self.written) {
            self.written += 1;
            // In one piece and at once: whatever ends the program leaves whole lines.
            let (result, to) = match &mut self.file {
                Some((file, path)) => (file.write_all(line.as_bytes()), path.display().to_string()),
                None => {
                    let mut out = std::io::stdout().lock();
                    (
                        out.write_all(line.as_bytes()).and_then(|()| out.flush()),
                        "to standard output".to_owned(),
                    )
                }
            };
            match result {
                Err(e) if e.kind() == IoErrorKind::BrokenPipe && self.file.is_none() => {
                    self.reader_gone = true;
                }
                result => result.map_err(|e| Error::new("writing the answers", e).at(to))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(text: &str) -> Vec<String> {
        let letter = |role: char| match role {
            's' => Role::System,
            'a' => Role::Assistant,
            't' => Role::Tool,
            _ => Role::User,
        };
        let messages = text.chars().map(|role| Message::text(letter(role), "")).collect();
        let of = |turn: &Vec<Message>| turn.iter().map(|m| &m.role.as_str()[..1]).collect::<String>();
        turns(messages).iter().map(of).collect()
    }

    #[test]
    fn questions_without_an_answer_between_are_turns_of_their_own() {
        assert_eq!(roles("u"), ["u"]);
        assert_eq!(roles("suu"), ["su", "u"]);
        assert_eq!(roles("suauu"), ["suau", "u"]);
        assert_eq!(roles("uuu"), ["u", "u", "u"]);
        assert_eq!(roles("uatu"), ["uatu"]);
    }

    #[test]
    fn answers_are_written_in_order_as_soon_as_they_can_be() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("answers.jsonl");
        let mut out = Ordered::new(Some(&path)).expect("made");
        let written = || std::fs::read_to_string(&path).expect("readable");
        out.push(1, "b\n".into()).expect("written");
        assert_eq!(written(), "");
        out.push(0, "a\n".into()).expect("written");
        assert_eq!(written(), "a\nb\n");
        out.push(2, "c\n".into()).expect("written");
        assert_eq!(written(), "a\nb\nc\n");
    }
}
