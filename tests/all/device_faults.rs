//! The device fails at places drawn by lot (a thousand of them by `OCELLI_TEST_FAULTS=1000`; fewer in each run of the tests, for their time): it is lost, it has no memory, refuses a kernel, fails at a command, at
//! reading back, at waiting; and the program itself has a fault. Every answer under way ends, with its end or with an error that
//! says what can be done; no later answer has a token that it would not have had; no page and no buffer is left behind.

use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use ocelli::engine::{Answer, AnswerEvent, Engine, LoadEvent, LoadRequest, Request, Speculation, StopReason};
use ocelli::error::{Error, ErrorKind};
use ocelli::gpu::{Gpu, GpuOptions, Injected};
use ocelli::model::loaded::LoadOptions;
use ocelli::model::recipe::Recipe;

use crate::engine::{ROOM, collect, greedy, ids};
use crate::support::*;

const CHECKPOINT: &str = "mono";
/// Few pages, so that one that is lost is missed soon.
const OPTIONS: LoadOptions = LoadOptions { context: 384, ..ROOM };
/// An answer that has not ended after this long never will.
const PATIENCE: Duration = Duration::from_mins(1);

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// How an answer ended.
#[track_caller]
fn end_of(answer: &Answer) -> Result<StopReason, Error> {
    let until = Instant::now() + PATIENCE;
    loop {
        match answer.events.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(AnswerEvent::Finished(summary)) => return Ok(summary.reason),
            Ok(AnswerEvent::Failed(error)) => return Err(error),
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout) => panic!("an answer hangs"),
            Err(RecvTimeoutError::Disconnected) => panic!("an answer broke off without a word"),
        }
    }
}

#[track_caller]
fn assert_says_what_can_be_done(error: &Error) {
    let said = error.to_string();
    if error.get_kind() == ErrorKind::Cancelled {
        return;
    }
    assert!(said.contains(": ") && said.ends_with(')') && !said.contains('\n'), "{said}");
}

struct Machine {
    gpu: Gpu,
    engine: Engine,
}

impl Machine {
    fn new() -> Self {
        let gpu = Gpu::new(&GpuOptions::default()).unwrap();
        let engine = Engine::start(gpu.clone(), Arc::new(|| {})).unwrap();
        Self { gpu, engine }
    }

    fn load(&self) -> Result<(), Error> {
        let folder = converted(CHECKPOINT, Recipe::Int8Hu).folder().to_owned();
        let load = self.engine.load(LoadRequest { folder, recipe: None, options: OPTIONS });
        let until = Instant::now() + PATIENCE;
        loop {
            match load.events.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(LoadEvent::Loaded(_)) => return Ok(()),
                Ok(LoadEvent::Failed(error)) => return Err(error),
                Ok(_) => {}
                Err(error) => panic!("a load hangs or broke off: {error}"),
            }
        }
    }
}

struct Questions {
    cases: Vec<Case>,
    /// What each is answered when nothing fails.
    answers: Vec<Vec<u32>>,
}

const TOKENS: usize = 6;

impl Questions {
    fn new(machine: &Machine) -> Self {
        let cases: Vec<Case> = ["text", "square", "two_turns"].map(|n| Case::read(CHECKPOINT, n)).into();
        let answers =
            cases.iter().map(|c| ids(&collect(&machine.engine.ask(greedy(c, TOKENS))))).collect::<Vec<_>>();
        Self { cases, answers }
    }

    fn ask(&self, engine: &Engine, n: usize) -> Answer {
        engine.ask(self.request(n))
    }

    fn request(&self, n: usize) -> Request {
        greedy(&self.cases[n], TOKENS)
    }
}

/// What is true of a device that works, whatever it has been through.
#[track_caller]
fn assert_sound(machine: &Machine, questions: &Questions, n: usize, context: &str) {
    let told = collect(&machine.engine.ask(questions.request(n)));
    let got = told.end.as_ref().map(|_| ids(&told));
    let got = got.unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_eq!(got, questions.answers[n], "{context}");
}

/// All pages can be had: an answer goes on until the context is full.
#[track_caller]
fn assert_no_page_is_lost(machine: &Machine, questions: &Questions, context: &str) {
    let request =
        Request { max_tokens: None, ignore_end: true, speculation: Speculation::Off, ..questions.request(0) };
    let told = collect(&machine.engine.ask(request));
    let summary = told.end.unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_eq!(summary.reason, StopReason::ContextFull, "{context}");
    let tokens = summary.prompt_tokens + summary.ids.len();
    assert!(tokens >= OPTIONS.context, "{context}: full at {tokens} tokens");
}

fn count(met: &mut [(Injected, u64)], kind: Injected, more: u64) {
    met.iter_mut().filter(|(k, _)| *k == kind).for_each(|(_, n)| *n += more);
}

#[test]
fn faults_at_any_place_are_survived() {
    let (faults, seed) = (number("OCELLI_TEST_FAULTS", 150), number("OCELLI_TEST_SEED", 9));
    // Of a hundred faults. A loss takes a new device with all its kernels, which is slow on a software device.
    let losses = number("OCELLI_TEST_LOSSES", 2);
    println!("OCELLI_TEST_SEED={seed}");
    let mut dice = Dice(seed);
    let mut machine = Machine::new();
    machine.load().unwrap();
    let questions = Questions::new(&machine);
    assert_no_page_is_lost(&machine, &questions, "at first");
    let mut settled_bytes = None;
    let mut met: Vec<(Injected, u64)> = Injected::ALL.map(|kind| (kind, 0)).into();
    let (mut ended, mut failed, mut in_loads, mut rounds) = (0, 0, 0, 0);
    let begun = Instant::now();
    while met.iter().map(|(_, n)| n).sum::<u64>() < faults {
        rounds += 1;
        assert!(rounds < 20 * faults, "faults are not met: {met:?}");
        let kind = if dice.below(100) < losses {
            Injected::Lost
        } else {
            let others = [
                Injected::OutOfMemory,
                Injected::CommandFailed,
                Injected::Unreadable,
                Injected::WaitFailed,
                Injected::Panic,
            ];
            others[dice.below(5) as usize]
        };
        let while_loading = kind == Injected::OutOfMemory || dice.below(20) == 0;
        let before = machine.gpu.faults_met();
        let after = 1 + dice.below(if while_loading { 60 } else { 25 });
        let context = format!("round {rounds}, {kind:?} at the place {after}, loading: {while_loading}");
        machine.gpu.inject(kind, after);
        if while_loading {
            match machine.load() {
                Ok(()) => {}
                Err(error) => {
                    assert_says_what_can_be_done(&error);
                    in_loads += 1;
                }
            }
        }
        let answers: Vec<Answer> = (0..=dice.below(3))
            .map(|_| {
                let answer = questions.ask(&machine.engine, dice.below(3) as usize);
                if dice.below(6) == 0 {
                    answer.cancel.cancel();
                }
                answer
            })
            .collect();
        for answer in &answers {
            match end_of(answer) {
                Ok(_) => ended += 1,
                Err(error) => {
                    assert_says_what_can_be_done(&error);
                    failed += 1;
                }
            }
        }
        machine.gpu.inject(kind, 0);
        let happened = machine.gpu.faults_met() - before;
        assert!(happened <= 1, "{context}");
        count(&mut met, kind, happened);
        // What the device has failed at may only be told to the next who asks; a thread that compiles ahead may meet it later still.
        let next = end_of(&questions.ask(&machine.engine, 0));
        if let Err(error) = next {
            assert_says_what_can_be_done(&error);
            settled_bytes = None;
            // The model went with a panic or a load that failed, or it is loaded in vain: it was a refused command of before.
            if let Err(error) = machine.load() {
                assert_eq!(error.get_kind(), ErrorKind::DeviceLost, "{context}: {error}");
                assert_says_what_can_be_done(&error);
                assert!(machine.gpu.is_lost(), "{context}: {error}");
                machine = Machine::new();
                // Kernels are compiled once a device, so this is where one can be refused.
                machine.gpu.inject(Injected::Refused, 1 + dice.below(30));
                if let Err(error) = machine.load() {
                    assert_says_what_can_be_done(&error);
                    in_loads += 1;
                }
                machine.gpu.inject(Injected::Refused, 0);
                count(&mut met, Injected::Refused, machine.gpu.faults_met());
                machine.load().unwrap_or_else(|error| panic!("{context}: {error}"));
            }
        }
        assert_sound(&machine, &questions, rounds as usize % 3, &context);
        if rounds % 100 == 0 {
            assert_no_page_is_lost(&machine, &questions, &context);
        }
        if rounds % 10 == 0 {
            // Eight rows in a step need buffers that one row does not, but what is there once is used again.
            let bytes = machine.gpu.allocated_bytes();
            let most = *settled_bytes.get_or_insert(bytes + (1 << 20));
            assert!(bytes <= most, "{context}: {bytes} bytes in buffers, once {most}");
        }
    }
    assert_no_page_is_lost(&machine, &questions, "at the end");
    println!(
        "{rounds} rounds, {:.0} s: {met:?}; {ended} answers ended, {failed} failed with an error, {in_loads} loads failed",
        begun.elapsed().as_secs_f64()
    );
    assert!(met.iter().all(|(_, n)| *n > 0 || faults < 500), "{met:?}");
}
