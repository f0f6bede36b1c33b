//! `ocelli generate --server`: the same question for a server, answered on standard output as it comes.

use std::sync::{Arc, mpsc};
use std::time::Instant;

use serde_json::{Value, json};

use super::generate::{GenerateArgs, reason_words};
use super::{print, print_json, say};
use crate::engine::{AnswerEvent, RemoteSummary, RemoteToken, Request, StopReason};
use crate::error::{Error, ErrorKind, Result};
use crate::remote::{
    Ask, CLIP_FRAMES, KEY_VARIABLE, Key, KeyStore, Keys, Limits, MemoryStore, Server, SystemStore, ask,
};

/// Asks the server.
pub(super) fn run(args: &GenerateArgs, url: &str, model: &str, request: Request) -> Result<()> {
    let mut server = Server::new("", url)?;
    let keys = keys(&mut server)?;
    say_what_is_left_out(args, &request);
    if server.is_readable_on_the_way() {
        say("without https, anyone on the way can read the question and the key");
    }
    let asked = Instant::now();
    let question = Ask {
        server: server.clone(),
        model: model.to_owned(),
        request,
        choosing: args.sampling.choosing(),
        keys,
        limits: Limits::default(),
    };
    let answer = ask(question, Arc::new(|| {}));
    let mut tokens = Vec::new();
    let mut has_thought = false;
    for event in &answer.events {
        match event {
            AnswerEvent::RemoteToken(token) => {
                if !args.json {
                    print(&token.text)?;
                }
                tokens.push(*token);
            }
            AnswerEvent::Thinking(_) if !std::mem::replace(&mut has_thought, true) => {
                say("the model is thinking");
            }
            AnswerEvent::RemoteFinished(summary) => {
                if args.json {
                    return print_json(&report(&server, model, &tokens, &summary, asked));
                }
                if !summary.text.ends_with('\n') {
                    print("\n")?;
                }
                say(&figures(&summary));
                return Ok(());
            }
            AnswerEvent::Failed(error) => {
                if !args.json && !tokens.is_empty() {
                    print("\n")?;
                }
                return Err(error);
            }
            _ => {}
        }
    }
    Err(Error::new("asking the server", "the answer ended without a word").help("please report this"))
}

/// The key of the environment comes first: it was given for this command. A keyring is asked in a thread, as it may wait; one
/// that cannot be reached is no reason not to ask a server that may need no key.
pub(super) fn keys(server: &mut Server) -> Result<Keys> {
    let keys = Keys::new(Arc::new(MemoryStore::default()));
    if let Some(text) = std::env::var(KEY_VARIABLE).ok().filter(|text| !text.trim().is_empty()) {
        keys.hold(&server.base_url, &Key::new(&text).map_err(|e| e.at(KEY_VARIABLE))?);
        return Ok(keys);
    }
    let (sender, receiver) = mpsc::channel();
    let base_url = server.base_url.clone();
    let look = move || {
        let _ = sender.send(SystemStore.get(&base_url));
    };
    let doing = "looking for the server's key";
    std::thread::Builder::new().name("keyring".into()).spawn(look).map_err(|e| Error::new(doing, e))?;
    match receiver.recv() {
        Ok(Ok(Some(key))) => keys.hold(&server.base_url, &key),
        Ok(Err(error)) if error.get_kind() != ErrorKind::Cancelled => {
            tracing::debug!("{error}");
            say(&format!("no key: the keyring cannot be asked, and {KEY_VARIABLE} is not set"));
        }
        _ => {}
    }
    Ok(keys)
}

fn say_what_is_left_out(args: &GenerateArgs, request: &Request) {
    let flags = [
        ("--image-tokens", args.image_tokens.is_some()),
        ("--video-prompt-v5", args.video_prompt_v5),
        ("--add-vision-id", args.add_vision_id),
        ("--fps of folders", args.fps.is_some()),
    ];
    let left: Vec<&str> = flags.iter().filter(|(_, given)| *given).map(|(flag, _)| *flag).collect();
    if !left.is_empty() {
        say(&format!("not applied by servers: {}", left.join(", ")));
    }
    if request.messages.iter().any(|message| message.videos().next().is_some()) {
        say(&format!("clips go as single pictures, in order, at most {CLIP_FRAMES} of each"));
    }
}

fn figures(s: &RemoteSummary) -> String {
    let mut facts = Vec::new();
    facts.extend(s.prompt_tokens.map(|n| format!("{n} prompt tokens")));
    facts.extend(s.ttft_secs.map(|secs| format!("first token after {:.0} ms", secs * 1e3)));
    facts.extend(s.new_tokens.map(|n| format!("{n} tokens")));
    facts.extend(s.tok_s().map(|rate| format!("{rate:.1} tok/s")));
    facts.push(format!("{:.1} s in all", s.total_secs));
    facts.push("seen from here".to_owned());
    // Whether its context is full or it stops everyone there is not told.
    let limit = "it reached the server's limit";
    let reason = if s.reason == StopReason::ContextFull { limit } else { reason_words(s.reason) };
    format!("{}; {reason}", facts.join(", "))
}

fn report(server: &Server, model: &str, tokens: &[RemoteToken], s: &RemoteSummary, asked: Instant) -> Value {
    let tokens: Vec<Value> = tokens
        .iter()
        .map(|token| {
            let arrived_ms = token.arrived.saturating_duration_since(asked).as_secs_f64() * 1e3;
            json!({
                "text": token.text, "logprob": token.logprob, "top": token.alternatives, "arrived_ms": arrived_ms,
            })
        })
        .collect();
    json!({
        "model": s.model.as_deref().unwrap_or(model), "server": server.base_url, "text": s.text, "thinking": s.thinking,
        "stop_reason": s.reason, "prompt_tokens": s.prompt_tokens, "reused_tokens": s.cached_tokens,
        "new_tokens": s.new_tokens, "seen_from_here": true, "ttft_ms": s.ttft_secs.map(|secs| secs * 1e3),
        "decode_tok_s": s.tok_s(), "total_ms": s.total_secs * 1e3, "tokens": tokens,
    })
}
