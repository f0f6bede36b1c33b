//! Plays the engine with channels and checks what the window makes of it.

use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use super::*;
use crate::chat::message::{Part, Role};
use crate::engine::{Cancel, StopReason, TokenEvent};
use crate::gpu::StepTimes;
use crate::model::config::GenerationDefaults;
use crate::model::picture::Picture;
use crate::model::sampler::{Sampling, TokenRecord};
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

    fn unload(&mut self) {}
}

impl Script {
    fn say(&self, event: AnswerEvent) {
        self.asks.last().unwrap().1.send(event).unwrap();
    }
}

fn info() -> ModelInfo {
    ModelInfo {
        name: "tiny".into(),
        folder: "/models/tiny".into(),
        recipe: Recipe::Int8Hu,
        context: 4096,
        load_secs: 0.5,
        memory: MemoryPlan { weights_bytes: 1_000_000, kv_bytes: 500_000, context: 4096 },
        defaults: GenerationDefaults { do_sample: true, temperature: 0.7, ..GenerationDefaults::default() },
        image_tokens: (4, 16_384),
        takes_clips: false,
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
        batch: 1,
        arrived,
    }))
}

fn summary(text: &str, reason: StopReason) -> AnswerEvent {
    AnswerEvent::Finished(Box::new(Summary {
        reason,
        text: text.into(),
        ids: vec![1; text.len()],
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
    state.draft.text = text.into();
    state.send(script, Instant::now());
}

fn picture() -> ImageSource {
    ImageSource::Picture(Arc::new(Picture::from_rgb(2, 2, vec![0; 12]).unwrap()))
}

#[test]
fn a_model_is_loaded_with_the_windows_pacing_and_its_own_defaults() {
    let (state, script) = ready();
    let request = &script.loads[0].0;
    assert_eq!(request.options.pacing, Pacing::WINDOW);
    assert_eq!(request.options.context, 4096);
    assert!(!state.settings.greedy);
    assert_eq!(state.settings.sampling, Sampling { temperature: 0.7, ..Sampling::GREEDY });
    // A quarter of the context for one picture, said in the settings.
    assert_eq!(state.settings.image_token_range().map(|range| range.max_tokens), Some(1024));
}

#[test]
fn a_load_shows_its_steps_and_a_failed_one_its_error() {
    let (mut state, mut script) = (State::new(4096, None), Script::default());
    state.open_model(Path::new("/models/tiny"), &mut script);
    script.loads[0].1.send(LoadEvent::Converting { done_bytes: 1, total_bytes: 4 }).unwrap();
    state.poll(&mut script, Instant::now());
    let ModelState::Loading(loading) = &state.model else { panic!("not loading") };
    assert_eq!((loading.step, loading.bytes), ("Converting", Some((1, 4))));
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
    assert!(state.notices[0].text.contains("the engine has stopped"));
    assert_eq!(state.draft.text, "hello");
    assert!(!state.is_busy());
}

#[test]
fn a_second_question_carries_the_first_answer_and_its_pictures() {
    let (mut state, mut script) = ready();
    state.settings.system_prompt = "Be brief.".into();
    let id = state.add_picture("a.png".into());
    state.picture_read(id, Ok((picture(), 2, 2)));
    ask(&mut state, &mut script, "What is it?");
    assert!(state.draft.is_empty());
    script.say(token("A c"));
    script.say(token("at."));
    script.say(summary("A cat.", StopReason::End));
    state.poll(&mut script, Instant::now());
    assert_eq!(state.turns[0].reply.text, "A cat.");
    assert_eq!(state.context_used, 106);
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
    let id = state.add_picture("a.png".into());
    ask(&mut state, &mut script, "What is it?");
    assert!(script.asks.is_empty() && state.progress().is_some_and(|p| p.stage == Stage::Reading));
    state.picture_read(id, Ok((picture(), 2, 2)));
    state.poll(&mut script, Instant::now());
    assert_eq!(script.asks.len(), 1);
    assert_eq!(script.asks[0].0.messages[0].images().count(), 1);
}

#[test]
fn a_picture_that_cannot_be_read_is_never_left_out_silently() {
    let (mut state, mut script) = ready();
    let id = state.add_picture("a.png".into());
    ask(&mut state, &mut script, "What is it?");
    state.picture_read(id, Err(Error::new("reading the picture", "no such file")));
    state.poll(&mut script, Instant::now());
    assert!(script.asks.is_empty() && !state.is_busy());
    assert!(
        state.notices[0].text.contains("no such file")
            && state.notices[0].text.contains("remove the picture")
    );
    assert_eq!(state.draft.text, "What is it?");
    state.remove_picture(id);
    state.send(&mut script, Instant::now());
    assert_eq!(script.asks.len(), 1);
}

#[test]
fn a_question_that_fails_comes_back_with_what_was_typed_since() {
    let (mut state, mut script) = ready();
    let id = state.add_picture("a.png".into());
    state.picture_read(id, Ok((picture(), 2, 2)));
    ask(&mut state, &mut script, "What is it?");
    state.draft.text = "And".into();
    script.say(AnswerEvent::Failed(Error::new("answering", "the context is too small")));
    state.poll(&mut script, Instant::now());
    assert!(state.turns.is_empty());
    assert_eq!(state.draft.text, "What is it?\n\nAnd");
    assert_eq!(state.draft.pictures.len(), 1);
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
    assert_eq!(state.turns[0].reply.text, "Half");
    assert!(matches!(state.turns[0].reply.end, Some(ReplyEnd::Broken)));
    ask(&mut state, &mut script, "two");
    script.say(token("Some"));
    state.poll(&mut script, Instant::now());
    state.stop();
    assert!(script.asks[1].2.is_cancelled() && state.progress().is_some_and(|p| p.stopping));
    script.say(summary("Some", StopReason::Cancelled));
    state.poll(&mut script, Instant::now());
    assert!(!state.is_busy());
    assert_eq!(state.turns[1].reply.text, "Some");
}

#[test]
fn a_question_stopped_before_its_first_word_comes_back_without_an_error() {
    let (mut state, mut script) = ready();
    ask(&mut state, &mut script, "one");
    state.stop();
    script.say(AnswerEvent::Failed(Error::cancelled("making the prompt")));
    state.poll(&mut script, Instant::now());
    assert_eq!(state.draft.text, "one");
    state.send(&mut script, Instant::now());
    state.stop();
    script.say(summary("", StopReason::Cancelled));
    state.poll(&mut script, Instant::now());
    assert_eq!(state.draft.text, "one");
    assert!(state.turns.is_empty() && state.notices.is_empty());
}

#[test]
fn nothing_is_sent_twice_or_without_a_model() {
    let (mut state, mut script) = (State::new(4096, None), Script::default());
    ask(&mut state, &mut script, "one");
    assert!(script.asks.is_empty() && state.draft.text == "one");
    let (mut state, mut script) = ready();
    ask(&mut state, &mut script, "one");
    ask(&mut state, &mut script, "two");
    assert_eq!(script.asks.len(), 1);
    assert_eq!(state.draft.text, "two");
}

#[test]
fn asking_again_replaces_the_last_answer_and_leaves_the_draft() {
    let (mut state, mut script) = ready();
    ask(&mut state, &mut script, "one");
    script.say(summary("1", StopReason::End));
    state.poll(&mut script, Instant::now());
    state.draft.text = "next".into();
    state.ask_again(&mut script, Instant::now());
    assert_eq!(script.asks[1].0.messages.len(), 1);
    assert_eq!((state.turns.len(), state.turns[0].reply.text.as_str()), (1, ""));
    assert_eq!(state.draft.text, "next");
}

#[test]
fn a_new_chat_stops_the_answer_and_hears_no_more_of_it() {
    let (mut state, mut script) = ready();
    ask(&mut state, &mut script, "one");
    state.new_chat();
    assert!(script.asks[0].2.is_cancelled());
    drop(script.asks[0].1.send(token("late")));
    state.poll(&mut script, Instant::now());
    assert!(state.turns.is_empty() && !state.is_busy() && state.context_used == 0);
}

#[test]
fn pictures_are_told_what_the_model_saw_of_them_in_order_over_turns() {
    let (mut state, mut script) = ready();
    for name in ["a.png", "b.png"] {
        let id = state.add_picture(name.into());
        state.picture_read(id, Ok((picture(), 2, 2)));
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
    let seen = |turn: usize| state.turns[turn].question.pictures[0].report.clone().unwrap().vision_secs;
    assert_eq!((seen(0), seen(1)), (None, Some(0.1)));
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
    state.settings.greedy = false;
    state.settings.new_seed = false;
    state.settings.sampling = Sampling { temperature: 0.3, top_k: 5, seed: 9, ..Sampling::GREEDY };
    (state.settings.limit_tokens, state.settings.max_tokens) = (true, 33);
    state.settings.choose_image_tokens = false;
    ask(&mut state, &mut script, "one");
    let request = &script.asks[0].0;
    assert_eq!(request.sampling, state.settings.sampling);
    assert_eq!((request.max_tokens, request.image_tokens), (Some(33), None));
}

#[test]
fn a_samples_question_is_sent_as_soon_as_its_picture_is_read_and_what_was_typed_waits() {
    let (mut state, mut script) = ready();
    let first = state.add_picture("one.png".into());
    state.sample_added(0, first);
    let second = state.add_picture("two.png".into());
    state.sample_added(1, second);
    assert_eq!(state.draft.pictures.len(), 1, "another sample takes its place");
    assert_eq!(state.chosen_sample(), Some(1));
    state.draft.text = "typed".into();
    state.ask_sample("What is it?".into(), &mut script, Instant::now());
    assert!(script.asks.is_empty() && state.is_busy());
    state.picture_read(second, Ok((picture(), 2, 2)));
    state.poll(&mut script, Instant::now());
    assert_eq!(script.asks[0].0.messages[0].plain_text(), "What is it?");
    assert_eq!(script.asks[0].0.messages[0].images().count(), 1);
    assert_eq!((state.draft.text.as_str(), state.chosen_sample()), ("typed", None));

    // Stopped before it was sent, it is gone and what was typed is back.
    script.say(summary("A cat.", StopReason::End));
    state.poll(&mut script, Instant::now());
    let third = state.add_picture("three.png".into());
    state.sample_added(2, third);
    state.ask_sample("And this?".into(), &mut script, Instant::now());
    state.stop();
    assert_eq!((state.draft.text.as_str(), script.asks.len()), ("typed", 1));
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
