//! Plays the engine with channels and checks what the window makes of it.

use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use super::*;
use crate::app::chat::{AnswerDetails, FileData, QuestionDetails, details};
use crate::app::progress::Stage;
use crate::chat::history::ConversationId;
use crate::chat::message::{Message, Part, Role};
use crate::chat::store::Event;
use crate::chat::tree::{Attachment, AttachmentKind, Entry, MessageState, Tree};
use crate::clock;
use crate::engine::{
    Answer, AnswerEvent, Disturbance, PictureReport, RemoteSummary, Request, StopReason, Summary, TokenEvent,
};
use crate::gpu::StepTimes;
use crate::model::config::GenerationDefaults;
use crate::model::picture::Picture;
use crate::model::preprocessor::{PreprocessorConfig, Preprocessors};
use crate::model::sampler::{Sampling, TokenRecord};
use crate::model::tokenizer::tests::small;
use crate::remote::{Server, ServerModel};
use std::sync::Arc;

#[derive(Default)]
struct Script {
    loads: Vec<(LoadRequest, Sender<LoadEvent>, Cancel)>,
    asks: Vec<(Request, Sender<AnswerEvent>, Cancel)>,
}

impl Backend for Script {
    fn load(&mut self, request: LoadRequest) -> Load {
        let (sender, events) = channel();
        let cancel = Cancel::default();
        self.loads.push((request, sender, cancel.clone()));
        Load { events, cancel }
    }

    fn ask(&mut self, request: Request) -> Answer {
        let (sender, events) = channel();
        let cancel = Cancel::default();
        self.asks.push((request, sender, cancel.clone()));
        Answer { events, cancel }
    }

    fn preview(&mut self, _: Request, _: Cancel) -> Receiver<Result<PromptPreview>> {
        channel().1
    }

    fn unload(&mut self) {}

    fn set_profiling(&mut self, _: bool) -> Receiver<Result<()>> {
        channel().1
    }

    fn profile(&mut self) -> Receiver<Result<crate::gpu::ProfileReport>> {
        channel().1
    }

    fn ceilings(&mut self) -> Receiver<Result<crate::gpu::Ceilings>> {
        channel().1
    }
}

impl Script {
    fn say(&self, event: AnswerEvent) {
        self.asks.last().unwrap().1.send(event).unwrap();
    }
}

fn preprocessors() -> Preprocessors {
    let image = PreprocessorConfig {
        patch_size: 16,
        temporal_patch_size: 2,
        merge_size: 2,
        min_pixels: 4 * 1024,
        max_pixels: 16_384 * 1024,
    };
    Preprocessors { image, video: None }
}

fn info() -> ModelInfo {
    ModelInfo {
        name: "tiny".into(),
        folder: "/models/tiny".into(),
        recipe: Recipe::Int8Hu,
        context: 4096,
        load_secs: 0.5,
        measured_bytes: 1_600_000,
        memory: MemoryPlan {
            weights_bytes: 1_000_000,
            kv_bytes: 500_000,
            working_bytes: 100_000,
            passing_bytes: 50_000,
            context: 4096,
        },
        defaults: GenerationDefaults { do_sample: true, temperature: 0.7, ..GenerationDefaults::default() },
        image_tokens: (4, 16_384),
        takes_pictures: true,
        notes: Vec::new(),
        takes_clips: false,
        weights_bytes_per_step: 1_000_000,
        kv_bytes_per_token: 100,
        adapter: "test".into(),
        has_timestamps: true,
        tokenizer: Arc::new(small()),
        preprocessors: preprocessors(),
    }
}

fn token(text: &str) -> AnswerEvent {
    token_at(text, Instant::now())
}

fn token_at(text: &str, arrived: Instant) -> AnswerEvent {
    let record =
        TokenRecord { id: 1, logprob: -0.5, index: 0, rank: 0, entropy: 1.0, alternatives: Vec::new() };
    AnswerEvent::Token(Box::new(TokenEvent {
        text: text.into(),
        record,
        times: StepTimes::default(),
        decoded_ns: clock::ns_at(arrived),
        bytes: 0,
        disturbance: Disturbance::default(),
        ends_prefill: false,
        batch: 1,
        drafted: false,
        arrived,
    }))
}

fn summary(text: &str, reason: StopReason) -> AnswerEvent {
    AnswerEvent::Finished(Box::new(Summary {
        reason,
        text: text.into(),
        ids: vec![1; text.len()],
        drafted_tokens: 0,
        accepted_tokens: 0,
        prompt_tokens: 100,
        reused_tokens: 20,
        vision_secs: 0.0,
        prefill_secs: 0.1,
        ttft_secs: 0.2,
        decode_secs: 1.0,
    }))
}

fn ready() -> (State, Script) {
    let (mut state, mut script) = (State::new(4096, None), Script::default());
    state.open_model(Path::new("/models/tiny"), &mut script);
    script.loads[0].1.send(LoadEvent::Loaded(Box::new(info()))).unwrap();
    state.poll(&mut script, Instant::now());
    (state, script)
}

fn ask(state: &mut State, script: &mut Script, text: &str) {
    state.chat.draft.text = text.into();
    state.send(script, Instant::now());
}

/// A file of its own each time, as far as its hash goes.
fn read_file() -> ReadFile {
    static NEXT: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(1);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let picture = Picture::from_rgb(2, 2, vec![number; 12]).unwrap();
    let data =
        FileData { bytes: vec![number].into(), picture: Some(Arc::new(picture)), size: (2, 2), frames: 1 };
    ReadFile { hash: [number; 32], kind: AttachmentKind::Image, data }
}

/// The texts shown, first to last.
fn shown(state: &State) -> Vec<&str> {
    state.chat.shown().map(|entry| entry.text.as_str()).collect()
}

fn id_of(state: &State, place: usize) -> MessageId {
    state.chat.tree.path()[place]
}

fn answered(state: &mut State, script: &mut Script, question: &str, answer: &str) {
    ask(state, script, question);
    script.say(summary(answer, StopReason::End));
    state.poll(script, Instant::now());
}

#[test]
fn a_model_is_loaded_with_the_windows_pacing_and_its_own_defaults() {
    let (state, script) = ready();
    let request = &script.loads[0].0;
    assert_eq!(request.options.pacing, Pacing::WINDOW);
    assert_eq!(request.options.context, 4096);
    assert!(!state.chat.settings.greedy);
    assert_eq!(state.chat.settings.sampling, Sampling { temperature: 0.7, ..Sampling::GREEDY });
    // A quarter of the context for one picture, said in the settings.
    assert_eq!(state.chat.settings.image_token_range().map(|range| range.max_tokens), Some(1024));
}

#[test]
fn a_load_shows_its_steps_and_a_failed_one_its_error() {
    let (mut state, mut script) = (State::new(4096, None), Script::default());
    state.open_model(Path::new("/models/tiny"), &mut script);
    script.loads[0].1.send(LoadEvent::Converting { done_bytes: 1, total_bytes: 4 }).unwrap();
    state.poll(&mut script, Instant::now());
    let ModelState::Loading(loading) = &state.model else { panic!("not loading") };
    assert_eq!((loading.step, loading.bytes), (LoadStep::Converting, Some((1, 4))));
    script.loads[0].1.send(LoadEvent::Failed(Error::new("reading the checkpoint", "it is torn"))).unwrap();
    state.poll(&mut script, Instant::now());
    assert!(matches!(state.model, ModelState::None));
    assert!(state.notices[0].text.contains("it is torn"));
    assert_eq!(state.last_folder.as_deref(), Some(Path::new("/models/tiny")));
}

#[test]
fn a_load_the_user_stops_is_no_error() {
    let (mut state, mut script) = (State::new(4096, None), Script::default());
    state.open_model(Path::new("/models/tiny"), &mut script);
    state.cancel_load();
    assert!(script.loads[0].2.is_cancelled());
    script.loads[0].1.send(LoadEvent::Failed(Error::cancelled("loading the model"))).unwrap();
    state.poll(&mut script, Instant::now());
    assert!(matches!(state.model, ModelState::None) && state.notices.is_empty());
}

#[test]
fn an_engine_that_is_gone_is_an_error_and_not_a_wait() {
    let (mut state, mut script) = ready();
    ask(&mut state, &mut script, "hello");
    script.asks.clear();
    state.poll(&mut script, Instant::now());
    assert!(state.notices[0].text.contains("has stopped"));
    assert_eq!(state.chat.draft.text, "hello");
    assert!(!state.is_busy());
}

#[test]
fn a_second_question_carries_the_first_answer_and_its_pictures() {
    let (mut state, mut script) = ready();
    state.chat.settings.system_prompt = "Be brief.".into();
    let id = state.add_picture("a.png".into(), AttachmentKind::Image);
    state.picture_read(id, Ok(read_file()));
    ask(&mut state, &mut script, "What is it?");
    assert!(state.chat.draft.is_empty());
    script.say(token("A c"));
    script.say(token("at."));
    script.say(summary("A cat.", StopReason::End));
    state.poll(&mut script, Instant::now());
    assert_eq!(shown(&state)[1], "A cat.");
    assert_eq!(state.context_used(), 106);
    ask(&mut state, &mut script, "Sure?");
    let messages = &script.asks[1].0.messages;
    let roles: Vec<Role> = messages.iter().map(|m| m.role).collect();
    assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::User]);
    assert!(matches!(messages[1].parts[..], [Part::Image(_), Part::Text(_)]));
    assert_eq!(messages[2].plain_text(), "A cat.");
}

#[test]
fn a_question_waits_for_its_pictures_and_is_sent_when_they_are_read() {
    let (mut state, mut script) = ready();
    let id = state.add_picture("a.png".into(), AttachmentKind::Image);
    ask(&mut state, &mut script, "What is it?");
    assert!(script.asks.is_empty() && state.progress().is_some_and(|p| p.stage == Stage::Reading));
    state.picture_read(id, Ok(read_file()));
    state.poll(&mut script, Instant::now());
    assert_eq!(script.asks.len(), 1);
    assert_eq!(script.asks[0].0.messages[0].images().count(), 1);
}

#[test]
fn a_picture_that_cannot_be_read_is_never_left_out_silently() {
    let (mut state, mut script) = ready();
    let id = state.add_picture("a.png".into(), AttachmentKind::Image);
    ask(&mut state, &mut script, "What is it?");
    state.picture_read(id, Err(Error::new("reading the picture", "no such file")));
    state.poll(&mut script, Instant::now());
    assert!(script.asks.is_empty() && !state.is_busy());
    assert!(
        state.notices[0].text.contains("no such file")
            && state.notices[0].text.contains("remove the picture")
    );
    assert_eq!(state.chat.draft.text, "What is it?");
    state.remove_picture(id);
    state.send(&mut script, Instant::now());
    assert_eq!(script.asks.len(), 1);
}

#[test]
fn a_question_that_fails_comes_back_with_what_was_typed_since() {
    let (mut state, mut script) = ready();
    let id = state.add_picture("a.png".into(), AttachmentKind::Image);
    state.picture_read(id, Ok(read_file()));
    ask(&mut state, &mut script, "What is it?");
    state.chat.draft.text = "And".into();
    script.say(AnswerEvent::Failed(Error::new("answering", "the context is too small")));
    state.poll(&mut script, Instant::now());
    assert!(state.chat.tree.is_empty());
    assert_eq!(state.chat.draft.text, "What is it?\n\nAnd");
    assert_eq!(state.chat.draft.pictures.len(), 1);
    assert!(state.notices[0].text.contains("too small"));
    state.dismiss(state.notices[0].id);
    assert!(state.notices.is_empty());
}

#[test]
fn what_had_come_before_an_error_or_a_stop_stays() {
    let (mut state, mut script) = ready();
    ask(&mut state, &mut script, "one");
    script.say(token("Half"));
    script.say(AnswerEvent::Failed(Error::new("answering", "the device is gone")));
    state.poll(&mut script, Instant::now());
    assert_eq!(shown(&state)[1], "Half");
    assert_eq!(state.chat.last().unwrap().state, MessageState::Failed);
    ask(&mut state, &mut script, "two");
    script.say(token("Some"));
    state.poll(&mut script, Instant::now());
    state.stop();
    assert!(script.asks[1].2.is_cancelled() && state.progress().is_some_and(|p| p.stopping));
    script.say(summary("Some", StopReason::Cancelled));
    state.poll(&mut script, Instant::now());
    assert!(!state.is_busy());
    assert_eq!(shown(&state)[3], "Some");
    assert_eq!(state.chat.last().unwrap().state, MessageState::Stopped);
}

#[test]
fn a_question_stopped_before_its_first_word_comes_back_without_an_error() {
    let (mut state, mut script) = ready();
    ask(&mut state, &mut script, "one");
    state.stop();
    script.say(AnswerEvent::Failed(Error::cancelled("making the prompt")));
    state.poll(&mut script, Instant::now());
    assert_eq!(state.chat.draft.text, "one");
    state.send(&mut script, Instant::now());
    state.stop();
    script.say(summary("", StopReason::Cancelled));
    state.poll(&mut script, Instant::now());
    assert_eq!(state.chat.draft.text, "one");
    assert!(state.chat.tree.is_empty() && state.notices.is_empty());
}

#[test]
fn nothing_is_sent_twice_or_without_a_model() {
    let (mut state, mut script) = (State::new(4096, None), Script::default());
    ask(&mut state, &mut script, "one");
    assert!(script.asks.is_empty() && state.chat.draft.text == "one");
    let (mut state, mut script) = ready();
    ask(&mut state, &mut script, "one");
    ask(&mut state, &mut script, "two");
    assert_eq!(script.asks.len(), 1);
    assert_eq!(state.chat.draft.text, "two");
}

#[test]
fn asking_again_makes_a_sibling_and_leaves_the_draft() {
    let (mut state, mut script) = ready();
    answered(&mut state, &mut script, "one", "1");
    state.chat.draft.text = "next".into();
    let first = id_of(&state, 1);
    state.regenerate(first, &mut script, Instant::now());
    assert_eq!(script.asks[1].0.messages.len(), 1);
    assert_eq!(state.chat.draft.text, "next");
    script.say(summary("uno", StopReason::End));
    state.poll(&mut script, Instant::now());
    assert_eq!(shown(&state), ["one", "uno"]);
    let siblings = state.chat.tree.siblings(id_of(&state, 1)).unwrap();
    assert_eq!((siblings.index, siblings.count, siblings.previous), (1, 2, Some(first)));
    state.show_branch(first);
    assert_eq!(shown(&state), ["one", "1"]);
}

#[test]
fn an_edited_question_is_a_branch_and_the_old_one_stays() {
    let (mut state, mut script) = ready();
    answered(&mut state, &mut script, "one", "1");
    answered(&mut state, &mut script, "two", "2");
    state.edit(id_of(&state, 2));
    state.chat.editing.as_mut().unwrap().draft.text = "three".into();
    state.send_edit(&mut script, Instant::now());
    let texts: Vec<String> = script.asks[2].0.messages.iter().map(Message::plain_text).collect();
    assert_eq!(texts, ["one", "1", "three"]);
    script.say(summary("3", StopReason::End));
    state.poll(&mut script, Instant::now());
    assert_eq!(shown(&state), ["one", "1", "three", "3"]);
    assert_eq!(state.chat.tree.len(), 6);
    assert!(state.chat.editing.is_none());
}

#[test]
fn an_edited_question_without_an_answer_goes_back_to_being_edited() {
    let (mut state, mut script) = ready();
    answered(&mut state, &mut script, "one", "1");
    let old = id_of(&state, 0);
    state.edit(old);
    state.chat.editing.as_mut().unwrap().draft.text = "uno".into();
    state.send_edit(&mut script, Instant::now());
    script.say(AnswerEvent::Failed(Error::new("answering", "no room")));
    state.poll(&mut script, Instant::now());
    assert_eq!(shown(&state), ["one", "1"]);
    let editing = state.chat.editing.as_ref().unwrap();
    assert_eq!((editing.message, editing.draft.text.as_str()), (old, "uno"));
}

#[test]
fn an_edited_answer_is_gone_on_with_from_its_end() {
    let (mut state, mut script) = ready();
    answered(&mut state, &mut script, "Count", "1, 2");
    state.edit(id_of(&state, 1));
    state.chat.editing.as_mut().unwrap().draft.text = "1, 2, 3,".into();
    let edited = state.save_edit().unwrap();
    assert!(details::<AnswerDetails>(state.chat.tree.get(edited).unwrap()).is_edited);
    state.continue_answer(edited, &mut script, Instant::now());
    let request = &script.asks[1].0;
    assert_eq!(request.answer_start.as_deref(), Some("1, 2, 3,"));
    assert_eq!(request.messages.len(), 1);
    script.say(token(" 4"));
    state.poll(&mut script, Instant::now());
    assert_eq!(shown(&state)[1], "1, 2, 3, 4");
    script.say(summary(" 4, 5", StopReason::MaxTokens));
    state.poll(&mut script, Instant::now());
    assert_eq!(shown(&state)[1], "1, 2, 3, 4, 5");
    let about: AnswerDetails = details(state.chat.last().unwrap());
    assert!(about.is_edited && about.figures.unwrap().reason == StopReason::MaxTokens);
    assert_eq!(state.chat.last().unwrap().state, MessageState::Stopped);
}

#[test]
fn stopping_before_the_first_word_of_a_second_answer_leaves_the_first() {
    let (mut state, mut script) = ready();
    answered(&mut state, &mut script, "one", "1");
    state.regenerate(id_of(&state, 1), &mut script, Instant::now());
    state.stop();
    script.say(summary("", StopReason::Cancelled));
    state.poll(&mut script, Instant::now());
    assert_eq!(shown(&state), ["one", "1"]);
    assert_eq!(state.chat.tree.len(), 2);
    assert!(state.chat.draft.is_empty());
}

#[test]
fn a_deleted_branch_comes_back_when_undone() {
    let (mut state, mut script) = ready();
    answered(&mut state, &mut script, "one", "1");
    answered(&mut state, &mut script, "two", "2");
    let now = Instant::now();
    state.delete_branch(id_of(&state, 2), now);
    assert_eq!(shown(&state), ["one", "1"]);
    assert!(state.jobs.iter().any(|job| matches!(job, Job::DeleteMessages(ids) if ids.len() == 2)));
    state.poll(&mut script, now + Duration::from_secs(1));
    state.undo(None);
    assert_eq!(shown(&state), ["one", "1", "two", "2"]);
    assert!(matches!(state.jobs.last(), Some(Job::RestoreMessages(ids)) if ids.len() == 2));
    state.delete_branch(id_of(&state, 2), now);
    state.poll(&mut script, now + Duration::from_mins(1));
    assert!(state.undo.is_empty(), "the offer ends");
}

#[test]
fn an_answer_goes_on_in_a_chat_that_is_not_on_the_screen() {
    let (mut state, mut script) = ready();
    ask(&mut state, &mut script, "one");
    let first = state.chat.id;
    state.new_chat();
    assert!(state.chat.tree.is_empty() && state.progress().is_none());
    assert!(state.is_answering(first) && !script.asks[0].2.is_cancelled());
    ask(&mut state, &mut script, "two");
    assert_eq!(script.asks.len(), 2, "both at once");
    script.asks[0].1.send(token("late")).unwrap();
    state.poll(&mut script, Instant::now());
    assert_eq!(shown(&state), ["two", ""]);
    state.open_chat(first, None);
    assert_eq!(shown(&state), ["one", "late"]);
    assert!(state.progress().is_some());
}

#[test]
fn messages_go_to_the_history_as_they_happen() {
    let (mut state, mut script) = ready();
    ask(&mut state, &mut script, "What is it?");
    let kinds = |state: &State| -> Vec<String> {
        let name =
            |job: &Job| format!("{job:?}").split([' ', '(', '{']).next().unwrap_or_default().to_owned();
        state.jobs.iter().map(name).collect()
    };
    assert_eq!(kinds(&state), ["Create", "SetTitle", "Add", "Add", "Update"]);
    assert!(matches!(&state.jobs[1], Job::SetTitle { title, own: false, .. } if title == "What is it?"));
    state.jobs.clear();
    script.say(token("A"));
    state.poll(&mut script, Instant::now());
    assert!(state.jobs.is_empty(), "not for each token");
    script.say(token(" cat"));
    state.poll(&mut script, Instant::now() + Duration::from_secs(1));
    assert!(
        matches!(&state.jobs[..], [Job::Update { text, state: MessageState::Streaming, .. }] if text == "A cat")
    );
    script.say(summary("A cat.", StopReason::End));
    state.poll(&mut script, Instant::now());
    assert!(
        matches!(state.jobs.last(), Some(Job::Update { text, state: MessageState::Complete, .. }) if text == "A cat.")
    );
}

#[test]
fn a_chat_from_the_history_asks_for_its_pictures_before_it_is_asked_on() {
    let (mut state, mut script) = ready();
    let attachment = Attachment { kind: AttachmentKind::Image, name: "old.png".into(), hash: [77; 32] };
    let entry = |id, parent, role, text: &str, attachments| Entry {
        id: MessageId(id),
        parent,
        role,
        text: text.into(),
        attachments,
        state: MessageState::Complete,
        details: serde_json::Value::Null,
        created_ms: 0,
        chosen: None,
    };
    let tree = Tree::new(
        [
            entry(1, None, Role::User, "What?", vec![attachment]),
            entry(2, Some(MessageId(1)), Role::Assistant, "A cat.", Vec::new()),
        ],
        None,
    );
    let id = ConversationId(5);
    state.open_chat(id, None);
    assert!(state.chat.is_loading && state.cannot_send() == Some(Obstacle::ChatLoading));
    let settings = serde_json::json!({"system_prompt": "Be kind.", "draft": "typed"});
    state.history_event(Event::Opened { conversation: id, tree, settings });
    assert_eq!((state.chat.draft.text.as_str(), shown(&state)), ("typed", vec!["What?", "A cat."]));
    state.jobs.clear();
    ask(&mut state, &mut script, "Sure?");
    assert!(
        script.asks.is_empty()
            && state.jobs.iter().any(|job| matches!(job, Job::File(a) if a.hash == [77; 32]))
    );
    state.history_event(Event::File { hash: [77; 32], result: Ok(vec![1, 2].into()) });
    state.poll(&mut script, Instant::now());
    let messages = &script.asks[0].0.messages;
    let roles: Vec<Role> = messages.iter().map(|m| m.role).collect();
    assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::User]);
    assert_eq!(messages[1].images().count(), 1);
}

#[test]
fn pictures_of_a_draft_are_reordered() {
    let (mut state, _) = ready();
    let ids: Vec<u64> =
        ["a", "b", "c"].map(|name| state.add_picture(name.into(), AttachmentKind::Image)).to_vec();
    state.move_picture(ids[2], 0);
    let names = |state: &State| state.chat.draft.pictures.iter().map(|p| p.name.clone()).collect::<String>();
    assert_eq!(names(&state), "cab");
    state.move_picture(ids[2], 9);
    assert_eq!(names(&state), "abc");
}

#[test]
fn pictures_are_told_what_the_model_saw_of_them_in_order_over_turns() {
    let (mut state, mut script) = ready();
    for name in ["a.png", "b.png"] {
        let id = state.add_picture(name.into(), AttachmentKind::Image);
        state.picture_read(id, Ok(read_file()));
        ask(&mut state, &mut script, name);
        if name == "a.png" {
            script.say(summary("yes", StopReason::End));
            state.poll(&mut script, Instant::now());
        }
    }
    let report = |index, vision_secs| PictureReport {
        index,
        is_clip: false,
        resized: (64, 32),
        grid: [1, 2, 4],
        tokens: 2,
        vision_secs,
    };
    script.say(AnswerEvent::Picture(report(1, Some(0.1))));
    script.say(AnswerEvent::Picture(report(0, None)));
    state.poll(&mut script, Instant::now());
    let seen = |place: usize| {
        let entry = state.chat.tree.get(id_of(&state, place)).unwrap();
        details::<QuestionDetails>(entry).pictures[0].clone().unwrap().vision_secs
    };
    assert_eq!((seen(0), seen(2)), (None, Some(0.1)));
    assert_eq!(state.progress().unwrap().pictures_done, (2, 1));
}

#[test]
fn the_live_rate_falls_when_tokens_stay_away() {
    let start = Instant::now();
    let mut progress = Progress::new(0, start);
    for i in 0..11 {
        progress.see(&token_at("x", start + Duration::from_millis(1000 + i * 100)));
    }
    let last = start + Duration::from_secs(2);
    assert_eq!(progress.first_token, Some(Duration::from_secs(1)));
    assert!((progress.tokens_per_sec(last).unwrap() - 10.0).abs() < 1e-9);
    assert!((progress.tokens_per_sec(last + Duration::from_secs(4)).unwrap() - 2.0).abs() < 1e-9);
    assert_eq!(progress.silent(last + Duration::from_secs(4)), Some(Duration::from_secs(4)));
}

#[test]
fn the_settings_reach_the_request() {
    let (mut state, mut script) = ready();
    state.chat.settings.greedy = false;
    state.chat.settings.new_seed = false;
    state.chat.settings.sampling = Sampling { temperature: 0.3, top_k: 5, seed: 9, ..Sampling::GREEDY };
    (state.chat.settings.limit_tokens, state.chat.settings.max_tokens) = (true, 33);
    state.chat.settings.choose_image_tokens = false;
    ask(&mut state, &mut script, "one");
    let request = &script.asks[0].0;
    assert_eq!(request.sampling, state.chat.settings.sampling);
    assert_eq!((request.max_tokens, request.image_tokens), (Some(33), None));
}

#[test]
fn a_samples_question_is_sent_as_soon_as_its_picture_is_read_and_what_was_typed_waits() {
    let (mut state, mut script) = ready();
    let first = state.add_picture("one.png".into(), AttachmentKind::Image);
    state.sample_added(0, first);
    let second = state.add_picture("two.png".into(), AttachmentKind::Image);
    state.sample_added(1, second);
    assert_eq!(state.chat.draft.pictures.len(), 1, "another sample takes its place");
    assert_eq!(state.chosen_sample(), Some(1));
    state.chat.draft.text = "typed".into();
    state.ask_sample("What is it?".into(), &mut script, Instant::now());
    assert!(script.asks.is_empty() && state.is_busy());
    state.picture_read(second, Ok(read_file()));
    state.poll(&mut script, Instant::now());
    assert_eq!(script.asks[0].0.messages[0].plain_text(), "What is it?");
    assert_eq!(script.asks[0].0.messages[0].images().count(), 1);
    assert_eq!((state.chat.draft.text.as_str(), state.chosen_sample()), ("typed", None));

    // Stopped before it was sent, it is gone and what was typed is back.
    script.say(summary("A cat.", StopReason::End));
    state.poll(&mut script, Instant::now());
    let third = state.add_picture("three.png".into(), AttachmentKind::Image);
    state.sample_added(2, third);
    state.ask_sample("And this?".into(), &mut script, Instant::now());
    state.stop();
    assert_eq!((state.chat.draft.text.as_str(), script.asks.len()), ("typed", 1));
}

#[test]
fn the_window_is_called_as_the_model_is_and_the_demo_by_its_full_name() {
    let (mut state, mut script) = ready();
    assert_eq!(state.title(), "tiny · Ocelli");
    state.open_model(Path::new(builtin::NAME), &mut script);
    assert_eq!(state.title(), "Ocelli");
    let demo = ModelInfo { folder: builtin::folder().into(), name: builtin::FULL_NAME.into(), ..info() };
    script.loads[1].1.send(LoadEvent::Loaded(Box::new(demo))).unwrap();
    state.poll(&mut script, Instant::now());
    assert!(state.is_demo());
    assert_eq!(state.title(), "Ocelli demo: drawn shapes only, not a general model");
}

#[test]
fn an_answer_that_others_follow_is_gone_on_with_in_a_version_beside_it() {
    let (mut state, mut script) = ready();
    answered(&mut state, &mut script, "one", "1");
    answered(&mut state, &mut script, "two", "2");
    let first = id_of(&state, 1);
    state.continue_answer(first, &mut script, Instant::now());
    script.say(summary(" and more", StopReason::End));
    state.poll(&mut script, Instant::now());
    assert_eq!(shown(&state), ["one", "1 and more"]);
    assert_eq!(state.chat.tree.get(first).unwrap().text, "1");
}

#[test]
fn an_answer_that_nothing_could_be_added_to_is_as_it_was() {
    let (mut state, mut script) = ready();
    answered(&mut state, &mut script, "one", "1");
    let before = state.chat.last().unwrap().clone();
    for end in [
        AnswerEvent::Failed(Error::new("answering", "the context is full")),
        summary("", StopReason::Cancelled),
    ] {
        state.continue_answer(before.id, &mut script, Instant::now());
        script.say(end);
        state.poll(&mut script, Instant::now());
        assert_eq!(state.chat.last().unwrap(), &before);
    }
}

#[test]
fn what_was_typed_into_a_new_chat_and_not_sent_is_not_lost() {
    let (mut state, mut script) = ready();
    answered(&mut state, &mut script, "one", "1");
    let first = state.chat.id;
    state.new_chat();
    state.chat.draft.text = "half a question".into();
    state.open_chat(first, None);
    assert_eq!(state.unsent_text(), "half a question");
    state.new_chat();
    assert_eq!(state.chat.draft.text, "half a question");
}

#[test]
fn a_question_that_comes_back_to_a_chat_off_the_screen_is_kept() {
    let (mut state, mut script) = ready();
    answered(&mut state, &mut script, "one", "1");
    ask(&mut state, &mut script, "two");
    let first = state.chat.id;
    state.new_chat();
    state.jobs.clear();
    script.say(AnswerEvent::Failed(Error::new("answering", "too long")));
    state.poll(&mut script, Instant::now());
    let kept = state.jobs.iter().find_map(|job| match job {
        Job::SetSettings { id, settings } if *id == first => settings.get("draft").cloned(),
        _ => None,
    });
    assert_eq!(kept, Some("two".into()));
}

#[test]
fn an_edited_question_waits_for_pictures_that_are_still_in_the_history() {
    let (mut state, mut script) = ready();
    let id = state.add_picture("a.png".into(), AttachmentKind::Image);
    let file = read_file();
    let hash = file.hash;
    state.picture_read(id, Ok(file));
    answered(&mut state, &mut script, "one", "1");
    let data = state.files.remove(&hash).unwrap();
    state.edit(id_of(&state, 0));
    assert_eq!(state.save_edit(), None, "its picture is not there");
    state.send_edit(&mut script, Instant::now());
    assert_eq!(script.asks.len(), 1);
    state.history_event(Event::File { hash, result: Ok(data.bytes) });
    state.poll(&mut script, Instant::now());
    assert_eq!(script.asks.len(), 2);
    let added = state.jobs.iter().rev().find_map(|job| match job {
        Job::Add { attachments, role: Role::User, .. } => Some(attachments.len()),
        _ => None,
    });
    assert_eq!(added, Some(1));
}

#[test]
fn a_picture_that_the_history_has_lost_is_an_error_and_the_question_comes_back() {
    let (mut state, mut script) = ready();
    let id = state.add_picture("a.png".into(), AttachmentKind::Image);
    let file = read_file();
    let hash = file.hash;
    state.picture_read(id, Ok(file));
    answered(&mut state, &mut script, "one", "1");
    state.files.clear();
    ask(&mut state, &mut script, "two");
    let lost = Error::new("reading a saved picture", "it is not in the database");
    state.history_event(Event::File { hash, result: Err(lost) });
    state.poll(&mut script, Instant::now());
    assert!(!state.is_busy() && script.asks.len() == 1);
    assert_eq!(state.chat.draft.text, "two");
    assert!(state.notices.iter().any(|notice| notice.text.contains("take the picture out")));
}

#[test]
fn a_chat_that_answers_is_deleted_and_comes_back_with_what_had_come() {
    let (mut state, mut script) = ready();
    ask(&mut state, &mut script, "one");
    script.say(token("Half"));
    state.poll(&mut script, Instant::now());
    state.jobs.clear();
    state.delete_chat(state.chat.id, Instant::now());
    assert!(script.asks[0].2.is_cancelled() && !state.is_busy());
    assert!(
        state.jobs.iter().any(
            |job| matches!(job, Job::Update { text, state: MessageState::Stopped, .. } if text == "Half")
        )
    );
}

#[test]
fn deletions_undone_out_of_order_leave_the_tree_whole() {
    let (mut state, mut script) = ready();
    answered(&mut state, &mut script, "one", "1");
    answered(&mut state, &mut script, "two", "2");
    let now = Instant::now();
    state.delete_branch(id_of(&state, 3), now);
    state.delete_branch(id_of(&state, 1), now);
    let first = state.undo[0].id;
    state.undo(Some(first));
    assert_eq!(shown(&state), ["one", "1", "two", "2"]);
    assert!(state.undo.is_empty());
}

#[test]
fn an_edit_whose_message_is_no_longer_shown_leaves_its_words_to_the_question() {
    let (mut state, mut script) = ready();
    answered(&mut state, &mut script, "one", "1");
    answered(&mut state, &mut script, "two", "2");
    state.edit(id_of(&state, 2));
    state.chat.editing.as_mut().unwrap().draft.text = "changed".into();
    state.regenerate(id_of(&state, 1), &mut script, Instant::now());
    state.poll(&mut script, Instant::now());
    assert!(state.chat.editing.is_none());
    assert_eq!(state.chat.draft.text, "changed");
}

#[test]
fn looking_at_an_old_chat_does_not_change_what_new_ones_begin_with() {
    let (mut state, _) = ready();
    let usual = state.usual_settings.clone();
    state.open_chat(ConversationId(5), None);
    let settings = serde_json::json!({"system_prompt": "Be a pirate."});
    state.history_event(Event::Opened { conversation: ConversationId(5), tree: Tree::default(), settings });
    state.keep_settings();
    assert_eq!(state.usual_settings.system_prompt, usual.system_prompt);
    state.chat.settings.system_prompt = "Be brief.".into();
    state.settings_touched = true;
    state.keep_settings();
    assert_eq!(state.usual_settings.system_prompt, "Be brief.");
}

/// A server that is asked in vain.
fn with_server(state: &mut State, software: Option<&str>) -> ServerModel {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = Server::new("Cluster", &format!("http://127.0.0.1:{port}")).unwrap();
    let chosen = ServerModel { base_url: server.base_url.clone(), model: "big".into() };
    state.elsewhere.servers.push(Server { software: software.map(str::to_owned), ..server });
    chosen
}

fn thought(text: &str) -> AnswerEvent {
    AnswerEvent::Thinking(text.into())
}

fn remote_summary(text: &str, thinking: &str, reason: StopReason) -> AnswerEvent {
    AnswerEvent::RemoteFinished(Box::new(RemoteSummary {
        reason,
        text: text.into(),
        thinking: thinking.into(),
        model: None,
        prompt_tokens: None,
        cached_tokens: None,
        new_tokens: None,
        pieces: 1,
        ttft_secs: None,
        decode_secs: None,
        total_secs: 1.0,
    }))
}

fn thinking_of(state: &State) -> String {
    details::<AnswerDetails>(state.chat.last().unwrap()).thinking
}

#[test]
fn a_question_goes_where_it_was_sent_to_whatever_is_chosen_while_its_pictures_are_read() {
    let (mut state, mut script) = ready();
    let elsewhere = with_server(&mut state, None);
    let id = state.add_picture("a.png".into(), AttachmentKind::Image);
    ask(&mut state, &mut script, "What is it?");
    state.chat.settings.answers_from = Some(elsewhere.clone());
    state.picture_read(id, Ok(read_file()));
    state.poll(&mut script, Instant::now());
    assert_eq!(script.asks.len(), 1, "sent to this machine");
    assert!(state.progress().is_some_and(|p| !p.is_remote));
    assert_eq!(details::<AnswerDetails>(state.chat.last().unwrap()).server, "");
    script.say(summary("A cat.", StopReason::End));
    state.poll(&mut script, Instant::now());

    let id = state.add_picture("b.png".into(), AttachmentKind::Image);
    ask(&mut state, &mut script, "And this?");
    state.chat.settings.answers_from = None;
    state.stop_here();
    assert!(state.progress().is_some(), "it is nothing of this machine's");
    state.picture_read(id, Ok(read_file()));
    state.try_waiting(&mut script, Instant::now());
    assert_eq!(script.asks.len(), 1, "sent to the server");
    assert_eq!(details::<AnswerDetails>(state.chat.last().unwrap()).server, "Cluster");
}

#[test]
fn a_question_whose_server_is_removed_while_its_pictures_are_read_comes_back() {
    let (mut state, mut script) = ready();
    let elsewhere = with_server(&mut state, None);
    state.chat.settings.answers_from = Some(elsewhere.clone());
    let id = state.add_picture("a.png".into(), AttachmentKind::Image);
    ask(&mut state, &mut script, "What is it?");
    state.elsewhere.remove(&elsewhere.base_url);
    state.picture_read(id, Ok(read_file()));
    state.poll(&mut script, Instant::now());
    state.poll(&mut script, Instant::now());
    assert!(script.asks.is_empty() && state.chat.tree.is_empty());
    assert_eq!((state.chat.draft.text.as_str(), state.chat.draft.pictures.len()), ("What is it?", 1));
    assert!(state.notices[0].text.contains("not among the servers"), "{}", state.notices[0].text);
}

#[test]
fn an_answer_that_a_server_cannot_go_on_with_stays_as_it_is_with_what_follows() {
    let (mut state, mut script) = ready();
    answered(&mut state, &mut script, "one", "1");
    answered(&mut state, &mut script, "two", "2");
    state.chat.settings.answers_from = Some(with_server(&mut state, Some("tgi")));
    state.continue_answer(id_of(&state, 1), &mut script, Instant::now());
    assert_eq!((shown(&state), state.chat.tree.len()), (vec!["one", "1", "two", "2"], 4));
    assert!(state.notices[0].text.contains("going on with the answer"), "{}", state.notices[0].text);
}

#[test]
fn a_version_that_nothing_was_added_to_is_taken_away_and_the_one_before_is_shown() {
    let (mut state, mut script) = ready();
    answered(&mut state, &mut script, "one", "1");
    let first = id_of(&state, 1);
    answered(&mut state, &mut script, "two", "2");
    state.regenerate(first, &mut script, Instant::now());
    script.say(summary("uno", StopReason::End));
    state.poll(&mut script, Instant::now());
    state.show_branch(first);
    state.continue_answer(first, &mut script, Instant::now());
    script.say(AnswerEvent::Failed(Error::new("answering", "the context is full")));
    state.poll(&mut script, Instant::now());
    assert_eq!((shown(&state), state.chat.tree.len()), (vec!["one", "1", "two", "2"], 5));
}

#[test]
fn thoughts_that_came_before_an_error_or_a_stop_stay() {
    let ends = [
        (AnswerEvent::Failed(Error::new("asking", "the connection was cut")), MessageState::Failed),
        (AnswerEvent::Failed(Error::cancelled("asking")), MessageState::Stopped),
        (remote_summary("", "Hm.", StopReason::Cancelled), MessageState::Stopped),
    ];
    for (end, expected) in ends {
        let (mut state, mut script) = ready();
        ask(&mut state, &mut script, "one");
        script.say(thought("Hm."));
        script.say(end);
        state.poll(&mut script, Instant::now());
        assert_eq!(shown(&state), ["one", ""]);
        assert_eq!((thinking_of(&state).as_str(), state.chat.last().unwrap().state), ("Hm.", expected));
    }
    let (mut state, mut script) = ready();
    ask(&mut state, &mut script, "one");
    script.say(thought("Hm."));
    state.poll(&mut script, Instant::now());
    state.settle(state.chat.id);
    assert_eq!((shown(&state), thinking_of(&state)), (vec!["one", ""], "Hm.".to_owned()));
    assert!(!state.is_busy());
}

#[test]
fn thoughts_of_both_halves_of_an_answer_stay() {
    let (mut state, mut script) = ready();
    ask(&mut state, &mut script, "one");
    script.say(thought("First."));
    script.say(remote_summary("1, 2", "First.", StopReason::MaxTokens));
    state.poll(&mut script, Instant::now());
    let answer = id_of(&state, 1);
    state.continue_answer(answer, &mut script, Instant::now());
    assert_eq!(thinking_of(&state), "First.");
    script.say(thought("Then."));
    state.poll(&mut script, Instant::now() + Duration::from_secs(1));
    assert_eq!(thinking_of(&state), "First.\n\nThen.");
    script.say(remote_summary(", 3", "Then.", StopReason::MaxTokens));
    state.poll(&mut script, Instant::now());
    assert_eq!((shown(&state)[1], thinking_of(&state).as_str()), ("1, 2, 3", "First.\n\nThen."));
    // This machine's model thinks nothing apart.
    state.continue_answer(answer, &mut script, Instant::now());
    script.say(summary(", 4", StopReason::End));
    state.poll(&mut script, Instant::now());
    assert_eq!(thinking_of(&state), "First.\n\nThen.");
}

#[test]
fn the_next_window_shows_the_conversation_that_was_on_the_screen() {
    let conversation = |id, changed_ms| Conversation {
        id: ConversationId(id),
        title: "A title".into(),
        title_is_own: false,
        pinned: false,
        folder: String::new(),
        settings: serde_json::json!({}),
        created_ms: 1,
        changed_ms,
        messages: 2,
    };
    // The one that was on the screen; one that was being answered then, and was changed since: it is the newest.
    for (left, shown) in [(100, 1), (200, 2), (150, 2)] {
        let mut state = State::new(2048, None);
        state.show_changed_at = Some(left);
        state.history_event(Event::Listed(Vec::new()));
        state.history_event(Event::Listed(vec![conversation(1, 100), conversation(2, 200)]));
        assert_eq!(state.chat.id, ConversationId(shown));
        // Only at first.
        state.history_event(Event::Listed(vec![conversation(3, 300)]));
        assert_eq!(state.chat.id, ConversationId(shown));
    }
}

#[test]
fn the_next_window_opens_the_model_as_it_was_opened_and_others_as_usual() {
    let (mut state, mut backend) = (State::new(2048, None), Script::default());
    state.first_as = Some((Some(Recipe::F16), true));
    for _ in 0..2 {
        state.open_model(Path::new("/models/tiny"), &mut backend);
    }
    let asked = backend.loads.iter().map(|(request, ..)| (request.recipe, request.options.text_only));
    assert_eq!(asked.collect::<Vec<_>>(), [(Some(Recipe::F16), true), (None, false)]);
}
