//! Guessing tokens ahead changes when they come and nothing else: ids, log-probabilities, alternatives, entropies and text are
//! those of plain decoding, bit for bit, whether the guesses are right, wrong, or both by turns.

use ocelli::chat::message::{Message, Part, Role};
use ocelli::engine::{Answer, AnswerEvent, Engine, Request, Speculation, StopReason};
use ocelli::gpu::Pacing;
use ocelli::model::loaded::LoadOptions;
use ocelli::model::recipe::Recipe;
use ocelli::model::sampler::Sampling;

use crate::engine::{ROOM, Told, collect, greedy, ids, picture, start, user};
use crate::support::*;

/// Guesses are looked up, or the last token again; nearly all are wrong in these models' texts. None is spoilt, or all are.
const LOOKED_UP: Speculation = Speculation::Always { answer: None, wrong_every: 0 };
const SPOILT: Speculation = Speculation::Always { answer: None, wrong_every: 1 };

/// Guesses at an answer that is known already: all right, but for each `wrong_every`-th.
fn known(answer: &[u32], wrong_every: usize) -> Speculation {
    Speculation::Always { answer: Some(answer.into()), wrong_every }
}

const SAMPLED: Sampling = Sampling { temperature: 0.7, top_p: 0.8, top_k: 20, seed: 11, ..Sampling::GREEDY };

fn with(request: &Request, speculation: Speculation) -> Request {
    Request { speculation, ..request.clone() }
}

fn counts(told: &Told) -> (usize, usize) {
    let summary = told.end.as_ref().unwrap();
    let drafted = told.tokens.iter().filter(|t| t.drafted).count();
    assert_eq!(drafted, summary.accepted_tokens, "the events say what the summary says");
    (summary.drafted_tokens, summary.accepted_tokens)
}

/// The answer without guesses, asked a second time: like whoever asks after it, it finds all of its prompt but one token in the
/// cache, where a prefill in other chunks has other roundings.
fn plainly(engine: &Engine, request: &Request) -> Told {
    let request = with(request, Speculation::Off);
    collect(&engine.ask(request.clone()));
    let told = collect(&engine.ask(request));
    assert_eq!(counts(&told), (0, 0));
    told
}

/// Everything that is said of tokens, to the bit.
fn assert_same(plain: &Told, other: &Told, what: &str) {
    let (a, b) = (plain.end.as_ref().unwrap(), other.end.as_ref().unwrap());
    assert_eq!(a.ids, b.ids, "{what}");
    assert_eq!((a.reason, &a.text), (b.reason, &b.text), "{what}");
    assert_eq!(plain.tokens.len(), other.tokens.len());
    for (n, (x, y)) in plain.tokens.iter().zip(&other.tokens).enumerate() {
        let bits = |v: f32| v.to_bits();
        let (x, y) = (&x.record, &y.record);
        assert_eq!((x.id, x.index, x.rank), (y.id, y.index, y.rank), "{what}: token {n}");
        assert_eq!(bits(x.logprob), bits(y.logprob), "{what}: token {n}");
        assert_eq!(bits(x.entropy), bits(y.entropy), "{what}: token {n}");
        let alternatives = |r: &ocelli::model::sampler::TokenRecord| -> Vec<(u32, u32)> {
            r.alternatives.iter().map(|&(id, p)| (id, bits(p))).collect()
        };
        assert_eq!(alternatives(x), alternatives(y), "{what}: token {n}");
    }
}

#[test]
fn guesses_right_or_wrong_leave_every_token_as_it_is_greedy_and_sampled_with_and_without_pictures() {
    let flat = Sampling { temperature: 1.0, seed: 3, ..Sampling::GREEDY };
    for (recipe, name, sampling) in [
        (Recipe::F32, "text", Sampling::GREEDY),
        (Recipe::F32, "text", flat),
        (Recipe::F32, "two_pictures", SAMPLED),
        (Recipe::Int8Hu, "two_pictures", Sampling::GREEDY),
        (Recipe::Int8Hu, "video", flat),
        (Recipe::Int8Hu, "text", SAMPLED),
    ] {
        let engine = start("ladder", recipe, ROOM);
        let case = Case::read("ladder", name);
        let request = Request { sampling, ..greedy(&case, 40) };
        let plain = plainly(&engine, &request);
        let answer = ids(&plain);
        if sampling == Sampling::GREEDY {
            assert_eq!(answer[..24], case.greedy(recipe));
        }
        for (mode, right) in [
            (known(&answer, 0), 34..35),
            (known(&answer, 3), 13..27),
            (known(&answer, 5), 20..32),
            (LOOKED_UP, 0..40),
            (SPOILT, 0..10),
        ] {
            let what = format!("{} {recipe} {sampling:?} {mode:?}", case.name);
            let told = collect(&engine.ask(with(&request, mode)));
            assert_same(&plain, &told, &what);
            let (drafted, accepted) = counts(&told);
            assert!(right.contains(&accepted) && drafted >= 34, "{what}: {accepted} of {drafted}");
        }
    }
}

#[test]
fn each_pass_with_guesses_gives_up_to_eight_tokens_and_its_time_is_divided_among_them() {
    let engine = start("mono", Recipe::F32, ROOM);
    let request = greedy(&Case::read("mono", "text"), 65);
    let plain = plainly(&engine, &request);
    let told = collect(&engine.ask(with(&request, known(&ids(&plain), 0))));
    assert_same(&plain, &told, "known");
    // The first token is prefill's; then come passes of eight, but for one where a page of the cache ends.
    let (drafted, accepted) = counts(&told);
    assert_eq!(drafted, accepted);
    let passes: Vec<usize> = (0..65).filter(|&n| !told.tokens[n].drafted).collect();
    assert!(passes[..2] == [0, 8] && (9..=11).contains(&passes.len()), "{passes:?}");
    for pair in told.tokens.windows(2) {
        let (a, b) = (pair[0].times, pair[1].times);
        assert!(a.begin_ns <= a.end_ns && a.end_ns <= b.begin_ns);
        assert!(!pair[0].drafted || a.end_ns == b.begin_ns);
    }
}

#[test]
fn left_to_itself_it_guesses_where_that_pays_or_not_and_the_tokens_are_the_same() {
    let engine = start("mono", Recipe::F32, ROOM);
    let text = "one two three four five six seven eight nine ten ";
    let mut request = Request::new(vec![user(&text.repeat(8))]);
    request.max_tokens = Some(300);
    request.ignore_end = true;
    // So sharp and so long that it must begin to say the same again, or not: both are fine.
    for temperature in [0.0, 1.0] {
        request.sampling.temperature = temperature;
        let plain = plainly(&engine, &request);
        let told = collect(&engine.ask(with(&request, Speculation::Auto)));
        assert_same(&plain, &told, "auto");
    }
}

#[test]
fn sessions_that_share_passes_with_guesses_say_what_each_says_alone() {
    let engine = start("ladder", Recipe::Int8Hu, ROOM);
    let names = ["square", "text", "two_turns", "tiny"];
    let requests: Vec<Request> = (0..)
        .zip(names)
        .map(|(n, name)| {
            let mut request = greedy(&Case::read("ladder", name), 60);
            if n % 2 == 1 {
                request.sampling = Sampling { seed: n, ..SAMPLED };
            }
            if n == 3 {
                request.sampling.presence_penalty = 0.7;
            }
            request
        })
        .collect();
    let plain: Vec<Told> = requests.iter().map(|r| plainly(&engine, r)).collect();
    let known = |n: usize, wrong_every: usize| known(&ids(&plain[n]), wrong_every);
    // Two, then four; one that never guesses among them, and one that may not.
    for modes in [
        vec![known(0, 0), known(1, 3)],
        vec![known(0, 2), LOOKED_UP, Speculation::Off, known(3, 0)],
        vec![SPOILT, known(1, 0), known(2, 4), Speculation::Auto],
    ] {
        let answers: Vec<Answer> = modes
            .iter()
            .zip(&requests)
            .map(|(mode, request)| engine.ask(with(request, mode.clone())))
            .collect();
        let told: Vec<Told> = answers.iter().map(collect).collect();
        for (n, mode) in modes.iter().enumerate() {
            assert_same(&plain[n], &told[n], names[n]);
            let guesses = matches!(mode, Speculation::Always { .. }) && n != 3;
            assert_eq!(counts(&told[n]).0 > 0, guesses, "{} {mode:?}", names[n]);
        }
        let shared = told.iter().flat_map(|t| &t.tokens).filter(|t| t.drafted && t.batch > 1).count();
        assert!(shared > 0, "no guess was right in a pass that sessions shared");
    }
}

#[test]
fn a_penalty_on_what_was_said_means_no_guesses() {
    let engine = start("mono", Recipe::F32, ROOM);
    let case = Case::read("mono", "text");
    for sampling in [
        Sampling { repetition_penalty: 1.1, ..Sampling::GREEDY },
        Sampling { presence_penalty: 1.0, ..SAMPLED },
    ] {
        let request = Request { sampling, ..greedy(&case, 24) };
        let plain = plainly(&engine, &request);
        let told = collect(&engine.ask(with(&request, known(&ids(&plain), 0))));
        assert_same(&plain, &told, "penalty");
        assert_eq!(counts(&told), (0, 0));
    }
}

#[test]
fn a_stop_string_or_a_limit_within_a_run_of_right_guesses_ends_the_answer_there() {
    let engine = start("mono", Recipe::F32, ROOM);
    let request = greedy(&Case::read("mono", "text"), 65);
    let plain = plainly(&engine, &request);
    let answer = ids(&plain);
    let right = known(&answer, 0);

    // Passes end at tokens 8, 16, 24…: this is the middle of one.
    for limit in [1, 2, 13, 17] {
        let limited = Request { max_tokens: Some(limit), ..request.clone() };
        let told = collect(&engine.ask(with(&limited, right.clone())));
        assert_eq!(told.end.as_ref().unwrap().reason, StopReason::MaxTokens);
        assert_eq!(ids(&told), answer[..limit]);
    }

    let text: String = plain.tokens.iter().map(|t| t.text.as_str()).collect();
    let mut within = 0;
    for (start, _) in text.char_indices().skip(20).step_by(9).take(6) {
        let stop: String = text[start..].chars().take(4).collect();
        let stopping = Request { stop: vec![stop.clone()], ..request.clone() };
        let want = collect(&engine.ask(with(&stopping, Speculation::Off)));
        let told = collect(&engine.ask(with(&stopping, right.clone())));
        assert_same(&want, &told, &stop);
        assert_eq!(told.end.as_ref().unwrap().reason, StopReason::StopString);
        within += usize::from(told.tokens.last().unwrap().drafted);
    }
    assert!(within >= 3, "{within} stop strings ended at a guessed token");
}

#[test]
fn end_tokens_end_answers_with_guesses_as_they_end_them_without() {
    let config = ocelli::model::config::ModelConfig::read(&fixtures().join("mono/model")).unwrap();
    let engine = start("mono", Recipe::F32, ROOM);
    let case = Case::read("mono", "text");
    for seed in 0..40 {
        let mut request = greedy(&case, 400);
        request.ignore_end = false;
        request.sampling = Sampling { temperature: 100.0, seed, ..Sampling::GREEDY };
        request.speculation = LOOKED_UP;
        let first = collect(&engine.ask(request.clone()));
        if first.end.as_ref().unwrap().reason != StopReason::End {
            continue;
        }
        let plain = plainly(&engine, &request);
        let mut answer = ids(&plain);
        // The end token is guessed too, and something after it.
        answer.extend([config.eos_token_ids[0], 7, 7, 7]);
        let told = collect(&engine.ask(with(&request, known(&answer, 0))));
        assert_same(&plain, &told, "end token");
        assert_eq!(told.end.as_ref().unwrap().reason, StopReason::End);
        assert!(counts(&told).1 * 2 > answer.len(), "{:?}", counts(&told));
        return;
    }
    panic!("no end token in 16,000 tokens drawn at random");
}

#[test]
fn the_context_fills_to_the_last_token() {
    let mut request = greedy(&Case::read("mono", "text"), 1);
    request.max_tokens = None;
    for context in [128, 192] {
        let fresh = |mode: Speculation| {
            let engine = start("mono", Recipe::F32, LoadOptions { context, ..ROOM });
            collect(&engine.ask(with(&request, mode)))
        };
        let plain = fresh(Speculation::Off);
        for mode in [known(&ids(&plain), 0), known(&ids(&plain), 5), SPOILT] {
            let told = fresh(mode);
            assert_same(&plain, &told, "full context");
            assert!(counts(&told).0 > 0);
            let summary = told.end.unwrap();
            assert_eq!(summary.reason, StopReason::ContextFull);
            assert_eq!(summary.prompt_tokens + summary.ids.len(), context);
        }
    }
}

#[test]
fn sessions_that_fill_the_cache_together_end_with_a_word_and_not_with_silence() {
    // Room for both prompts and a little more: no answer may hang for want of a page.
    let engine = start("mono", Recipe::F32, LoadOptions { context: 256, ..ROOM });
    let request = Request { max_tokens: None, ..greedy(&Case::read("mono", "text"), 1) };
    let answer = ids(&plainly(&engine, &request));
    for modes in
        [[known(&answer, 0), known(&answer, 0)], [LOOKED_UP, Speculation::Off], [SPOILT, known(&answer, 3)]]
    {
        let answers = modes.map(|mode| engine.ask(with(&request, mode)));
        let told = answers.each_ref().map(collect);
        for told in &told {
            assert_eq!(told.end.as_ref().unwrap().reason, StopReason::ContextFull);
            let said = ids(told);
            assert!(said.len() > 20 && said == answer[..said.len()], "{} tokens", said.len());
        }
    }
}

#[test]
fn an_answer_with_guesses_is_cancelled_and_the_next_one_is_right() {
    let engine = start("mono", Recipe::F32, ROOM);
    let request = greedy(&Case::read("mono", "text"), 100);
    let plain = plainly(&engine, &request);
    let answer = ids(&plain);
    for (mode, stop_after) in [(known(&answer, 0), 3), (known(&answer, 4), 50), (LOOKED_UP, 20)] {
        let mut long = with(&request, mode);
        long.max_tokens = Some(1500);
        let asked = engine.ask(long);
        let (mut tokens, mut end) = (Vec::new(), None);
        for event in &asked.events {
            match event {
                AnswerEvent::Token(token) => {
                    tokens.push(token.record.id);
                    if tokens.len() == stop_after {
                        asked.cancel.cancel();
                    }
                }
                AnswerEvent::Finished(summary) => end = Some(*summary),
                _ => {}
            }
        }
        let end = end.unwrap();
        assert_eq!(end.reason, StopReason::Cancelled);
        assert_eq!(end.ids, tokens);
        assert!(tokens.len() < 1000, "{} tokens", tokens.len());
        let common = tokens.len().min(100);
        assert_eq!(tokens[..common], answer[..common]);
        let again = collect(&engine.ask(with(&request, known(&answer, 3))));
        assert_same(&plain, &again, "after a cancelled one");
    }
}

#[test]
fn what_an_answer_with_guesses_leaves_in_the_cache_is_reused_and_right() {
    let question =
        Message::new(Role::User, vec![picture("wide.png"), Part::Text("What is in the picture?".into())]);
    // One answer, the same begun again from its end, and a follow-up question. Nothing else changes than the guesses: right ones
    // with some that are spoilt, or what the lookup finds.
    let all = |mode: &dyn Fn(usize) -> Speculation| {
        let engine = start("mono", Recipe::F32, ROOM);
        let ask = |n: usize, messages: Vec<Message>, answer_start: Option<String>| {
            let mut request = Request::new(messages);
            (request.answer_start, request.max_tokens) = (answer_start, Some(70));
            (request.ignore_end, request.speculation) = (true, mode(n));
            collect(&engine.ask(request))
        };
        let first = ask(0, vec![question.clone()], None);
        let gone_on = ask(1, vec![question.clone()], Some(first.text.clone()));
        let said = Message::text(Role::Assistant, first.text.clone());
        let follow_up = ask(2, vec![question.clone(), said, user("And the colours?")], None);
        [first, gone_on, follow_up]
    };
    let plain = all(&|_| Speculation::Off);
    let answers = plain.each_ref().map(ids);
    let spoilt_at = |wrong_every: usize| {
        let answers = answers.clone();
        move |n: usize| known(&answers[n], wrong_every)
    };
    for (what, mode) in [
        ("right", &spoilt_at(0) as &dyn Fn(usize) -> Speculation),
        ("spoilt", &spoilt_at(3)),
        ("looked up", &|_| LOOKED_UP),
    ] {
        // Wrong guesses leave rows behind that belong to nobody: nothing may ever see them.
        let guessed = all(mode);
        for (n, (plain, guessed)) in plain.iter().zip(&guessed).enumerate() {
            assert_same(plain, guessed, &format!("{what}, answer {n}"));
            let reused = |told: &Told| told.end.as_ref().unwrap().reused_tokens;
            assert_eq!(reused(plain), reused(guessed), "{what}, answer {n}");
            assert!(counts(guessed).0 > 0 && (n == 0 || reused(guessed) > 64));
        }
    }
}

#[test]
fn short_pieces_for_a_window_and_guesses_go_together() {
    let options = LoadOptions { pacing: Pacing { piece_secs: 0.0005, outstanding: 1 }, ..ROOM };
    let engine = start("deep", Recipe::F32, options);
    let case = Case::read("deep", "mixed");
    let want = case.greedy(Recipe::F32);
    let told = collect(&engine.ask(with(&greedy(&case, 24), known(&want, 5))));
    assert_eq!(ids(&told), want);
    assert!(counts(&told).1 > 10);
}
