//! Answers from servers elsewhere, with a server on this machine that does as it is told.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ocelli::chat::message::{Message, Role};
use ocelli::engine::{AnswerEvent, RemoteSummary, RemoteToken, Request, StopReason};
use ocelli::error::Error;
use ocelli::model::sampler::Sampling;
use ocelli::remote::{Ask, Choosing, Key, Keys, Limits, MemoryStore, Server, ask, list_models};
use serde_json::json;

use crate::commands::{Place, Run};
use crate::support::loopback::*;

const SECRET: &str = "sk-very-secret-0123";

/// What came of a question.
#[derive(Debug, Default)]
struct Told {
    text: String,
    thinking: String,
    tokens: Vec<RemoteToken>,
    end: Option<Result<RemoteSummary, Error>>,
}

impl Told {
    fn summary(&self) -> &RemoteSummary {
        self.end.as_ref().unwrap().as_ref().unwrap()
    }

    fn error(&self) -> String {
        self.end.as_ref().unwrap().as_ref().unwrap_err().to_string()
    }
}

fn keys_with(server: &mut Server) -> Keys {
    let keys = Keys::new(Arc::new(MemoryStore::default()));
    let _ = keys.keep(&server.base_url, &Key::new(SECRET).unwrap());
    server.has_key = true;
    keys
}

fn question(url: &str) -> Ask {
    let mut server = Server::new("Cluster", url).unwrap();
    let keys = keys_with(&mut server);
    Ask {
        server,
        model: "Qwen3-VL-235B".into(),
        request: Request::new(vec![Message::text(Role::User, "Hello")]),
        choosing: Choosing::from(&Sampling::GREEDY),
        keys,
        limits: Limits { first: Duration::from_secs(20), idle: Duration::from_secs(20), ..Limits::default() },
    }
}

fn answer(question: Ask) -> Told {
    listen(&ask(question, Arc::new(|| {})))
}

fn listen(answer: &ocelli::engine::Answer) -> Told {
    let mut told = Told::default();
    for event in &answer.events {
        assert!(told.end.is_none(), "nothing comes after the end");
        match event {
            AnswerEvent::RemoteToken(token) => {
                told.text.push_str(&token.text);
                told.tokens.push(*token);
            }
            AnswerEvent::Thinking(text) => told.thinking.push_str(&text),
            AnswerEvent::RemoteFinished(summary) => told.end = Some(Ok(*summary)),
            AnswerEvent::Failed(error) => told.end = Some(Err(error)),
            other => panic!("a server says no such thing: {other:?}"),
        }
    }
    assert!(told.end.is_some(), "an answer has an end");
    told
}

fn answer_of(steps: Vec<Do>) -> Told {
    let server = Loopback::always(steps);
    let told = answer(question(&server.url));
    if let Some(Err(error)) = &told.end {
        assert!(!format!("{error:?}{error}").contains("secret"), "{error}");
    }
    told
}

fn streamed(text: &str) -> Vec<Do> {
    vec![stream_head(), Do::Send(text.as_bytes().to_vec())]
}

#[test]
fn an_answer_streams_with_its_figures_and_the_request_is_as_documented() {
    let stream = format!("{}{}{}", word("A "), word("cat."), ending("stop", 120, 5));
    let server = Loopback::always(streamed(&stream));
    let told = answer(question(&server.url));
    let summary = told.summary();
    assert_eq!((told.text.as_str(), summary.text.as_str()), ("A cat.", "A cat."));
    assert_eq!((summary.reason, summary.pieces), (StopReason::End, 2));
    assert_eq!(
        (summary.prompt_tokens, summary.new_tokens, summary.cached_tokens),
        (Some(120), Some(5), None)
    );
    assert_eq!(summary.model.as_deref(), Some("served"));
    assert!(summary.ttft_secs.unwrap() <= summary.total_secs);
    let seen = server.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].line, "POST /v1/chat/completions");
    assert_eq!(seen[0].header("authorization"), Some(format!("Bearer {SECRET}").as_str()));
    assert_eq!(
        seen[0].json(),
        json!({
            "model": "Qwen3-VL-235B", "messages": [{"role": "user", "content": "Hello"}], "temperature": 0.0,
            "stream": true, "stream_options": {"include_usage": true}, "logprobs": true, "top_logprobs": 5,
        })
    );
}

#[test]
fn a_stream_may_be_cut_anywhere_and_may_be_chunked() {
    let stream = format!(
        ": ping\r\n\r\n{}{}{}",
        word("Grüße 🦀").replace('\n', "\r\n"),
        "data: {\"choices\":\ndata: [{\"delta\":{\"content\":\"!\"}}]}\n\n",
        ending("stop", 1, 2)
    );
    for size in [1, 3, 7, 64] {
        let steps = vec![stream_head(), Do::SendCut(stream.as_bytes().to_vec(), size)];
        assert_eq!(answer_of(steps).summary().text, "Grüße 🦀!", "{size}");
    }
    let mut chunked = Vec::new();
    for piece in stream.as_bytes().chunks(11) {
        chunked.extend(format!("{:x}\r\n", piece.len()).bytes());
        chunked.extend(piece);
        chunked.extend(b"\r\n");
    }
    chunked.extend(b"0\r\n\r\n");
    let head = head("200 OK", "text/event-stream", "Transfer-Encoding: chunked\r\n");
    assert_eq!(answer_of(vec![Do::Send(head), Do::SendCut(chunked, 13)]).summary().text, "Grüße 🦀!");
}

#[test]
fn log_probabilities_and_alternatives_come_with_their_tokens() {
    let token = |text: &str, logprob: f64| json!({"token": text, "logprob": logprob, "top_logprobs": [{"token": text, "logprob": logprob}, {"token": "dog", "logprob": -3.0}]});
    let piece = json!({"choices": [{"delta": {"content": "A cat"}, "logprobs": {"content": [token("A", -0.5), token(" cat", -1.5)]}}]});
    let end = json!({"choices": [{"delta": {}, "finish_reason": "stop"}]});
    let told = answer_of(streamed(&format!("{}{}", event(&piece), event(&end))));
    let texts: Vec<_> = told.tokens.iter().map(|token| (token.text.as_str(), token.logprob)).collect();
    assert_eq!(texts, [("A", Some(-0.5)), (" cat", Some(-1.5))]);
    assert_eq!(told.tokens[1].alternatives, [(" cat".to_owned(), -1.5), ("dog".to_owned(), -3.0)]);
    // Without usage the tokens told of are counted; without those nothing is known.
    assert_eq!(told.summary().new_tokens, Some(2));
    let told = answer_of(streamed(&format!("{}{}", word("A cat"), event(&end))));
    assert_eq!((told.summary().new_tokens, told.summary().tok_s()), (None, None));
    assert_eq!(told.tokens[0].logprob, None);
}

#[test]
fn a_server_that_refuses_log_probabilities_is_asked_once_more_without() {
    let server = Loopback::start(|seen, _| {
        if seen.json().get("logprobs").is_some() {
            let body = r#"{"error":{"message":"Unsupported parameter: logprobs"}}"#;
            return vec![page("400 Bad Request", "application/json", "", body)];
        }
        if seen.json().get("stream_options").is_some() {
            let body = r#"{"detail":[{"loc":["body","stream_options"],"msg":"extra fields not permitted"}]}"#;
            return vec![page("422 Unprocessable Entity", "application/json", "", body)];
        }
        streamed(&format!("{}{}", word("Yes"), ending("stop", 1, 1)))
    });
    assert_eq!(answer(question(&server.url)).summary().text, "Yes");
    let asked: Vec<_> = server.seen().iter().map(Seen::json).collect();
    assert_eq!(asked.len(), 3);
    assert_eq!(asked[2].get("top_logprobs"), None);
    assert_eq!(asked[2]["messages"], asked[0]["messages"]);

    let body = r#"{"error":{"message":"logprobs are never right here"}}"#;
    let stubborn = Loopback::always(vec![page("400 Bad Request", "application/json", "", body)]);
    let error = answer(question(&stubborn.url)).error();
    assert!(error.contains("it refuses the question (400): logprobs are never right here"), "{error}");
    assert_eq!(stubborn.seen().len(), 2);
}

#[test]
fn a_server_that_does_not_stream_is_understood() {
    let body = json!({"model": "served", "choices": [{"message": {"role": "assistant", "content": "A cat."}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 9, "completion_tokens": 3}});
    let told = answer_of(vec![page("200 OK", "application/json", "", &format!("\n {body}"))]);
    assert_eq!((told.text.as_str(), told.summary().new_tokens), ("A cat.", Some(3)));
    let told = answer_of(vec![page("200 OK", "application/json", "", "{\"object\": \"list\"}")]);
    assert!(told.error().contains("no answer"), "{}", told.error());
    let told = answer_of(vec![page("200 OK", "text/html", "", "<html>Welcome</html>")]);
    assert!(told.error().contains("it says nothing"), "{}", told.error());
}

#[test]
fn thoughts_are_told_apart_from_the_answer() {
    let thought = |field: &str| event(&json!({"choices": [{"delta": {field: "Hm. "}}]}));
    let stream = format!(
        "{}{}{}{}",
        thought("reasoning_content"),
        thought("reasoning"),
        word("A cat."),
        ending("stop", 1, 9)
    );
    let told = answer_of(streamed(&stream));
    assert_eq!((told.thinking.as_str(), told.text.as_str()), ("Hm. Hm. ", "A cat."));
    assert_eq!(told.summary().thinking, "Hm. Hm. ");
}

#[test]
fn why_an_answer_ended_is_told() {
    let stop = json!({"choices": [{"delta": {}, "finish_reason": "stop", "stop_reason": "END"}]});
    let end = |reason: &str| json!({"choices": [{"delta": {}, "finish_reason": reason}]});
    let reason = |end: &serde_json::Value, max_tokens| {
        let server = Loopback::always(streamed(&format!("{}{}", word("x"), event(end))));
        let mut question = question(&server.url);
        question.request.max_tokens = max_tokens;
        answer(question).summary().reason
    };
    assert_eq!(reason(&stop, None), StopReason::StopString);
    assert_eq!(reason(&end("length"), Some(1)), StopReason::MaxTokens);
    assert_eq!(reason(&end("length"), None), StopReason::ContextFull);
    let told = answer_of(streamed(&format!("{}{}", word("x"), event(&end("content_filter")))));
    assert!(told.error().contains("content_filter") && told.text == "x", "{}", told.error());
}

#[test]
fn every_refusal_says_what_to_do() {
    let error = r#"{"error":{"message":"because of sk-very-secret-0123"}}"#;
    for (status, more, expected) in [
        ("401 Unauthorized", "", "it refuses the key (401): because of … (check the key"),
        ("403 Forbidden", "", "it refuses the key (403)"),
        ("404 Not Found", "", "it knows no such address or model (404): because of … (check its address"),
        ("400 Bad Request", "", "it refuses the question (400): because of …"),
        ("413 Payload Too Large", "", "too large for it (413)"),
        (
            "429 Too Many Requests",
            "Retry-After: 17\r\n",
            "too much to do (429): because of … (ask again in 17 s)",
        ),
        ("500 Internal Server Error", "", "something is wrong in it (500)"),
        ("503 Service Unavailable", "", "something is wrong in it (503)"),
    ] {
        let told = answer_of(vec![page(status, "application/json", more, error)]);
        let error = told.error();
        assert!(
            error.starts_with("asking the server Cluster: ") && error.contains(expected),
            "{status}: {error}"
        );
    }
    let server = Loopback::always(vec![page("401 Unauthorized", "text/html", "", "<html>no</html>")]);
    let mut question = question(&server.url);
    question.server.has_key = false;
    question.keys = Keys::new(Arc::new(MemoryStore::default()));
    let error = answer(question).error();
    assert!(error.contains("it wants a key (401)") && !error.contains("html"), "{error}");
    assert_eq!(server.seen()[0].header("authorization"), None);
}

#[test]
fn a_server_that_is_not_there_is_told_of() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = answer(question(&format!("http://127.0.0.1:{port}"))).error();
    assert!(error.contains("nothing answers at 127.0.0.1"), "{error}");
    // One without TLS at an address with it.
    let plain = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = plain.local_addr().unwrap().port();
    let serving = std::thread::Builder::new().spawn(move || {
        let mut stream = plain.accept().unwrap().0;
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\nThis is plain.").unwrap();
        stream
    });
    let error = answer(question(&format!("https://127.0.0.1:{port}"))).error();
    assert!(error.contains("no safe connection") && error.contains("begins with http://"), "{error}");
    drop(serving.unwrap().join().unwrap());
}

#[test]
fn a_redirect_carries_neither_key_nor_question_anywhere() {
    for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let thief = Loopback::always(streamed(&ending("stop", 1, 1)));
        let more = format!("Location: {}/v1/chat/completions\r\n", thief.url);
        let server = Loopback::always(vec![page(status, "text/plain", &more, "")]);
        let error = answer(question(&server.url)).error();
        assert!(error.contains("it leads to 127.0.0.1:"), "{error}");
        assert_eq!(thief.seen().len(), 0, "{status}");
        let models =
            list_models(&question(&server.url).server, &question(&server.url).keys, None, Arc::new(|| {}));
        assert!(models.result.recv().unwrap().unwrap_err().to_string().contains("it leads to"));
        assert_eq!(thief.seen().len(), 0, "{status}");
    }
}

#[test]
fn what_came_before_the_connection_was_cut_stays() {
    let chunked = || Do::Send(head("200 OK", "text/event-stream", "Transfer-Encoding: chunked\r\n"));
    let chunk = format!("{:x}\r\n{}\r\n", word("Once upon").len(), word("Once upon"));
    for cut in [vec![Do::Reset], vec![], vec![Do::Send(b"ff\r\ndata".to_vec())]] {
        let told = answer_of([vec![chunked(), Do::Send(chunk.clone().into_bytes())], cut].concat());
        assert_eq!(told.text, "Once upon");
        assert!(told.error().contains("the connection was cut"), "{}", told.error());
    }
    let told = answer_of(streamed(&word("Once upon")));
    assert_eq!(told.text, "Once upon");
    assert!(told.error().contains("cut off in its middle"), "{}", told.error());
    let half = word("Once upon") + "data: {\"choices\":[{\"del";
    assert!(answer_of(streamed(&half)).error().contains("cut off in its middle"));
    let broken = word("Once upon") + &event(&json!({"error": {"message": "CUDA out of memory"}}));
    let told = answer_of(streamed(&broken));
    assert_eq!(told.text, "Once upon");
    assert!(told.error().contains("it reports an error: CUDA out of memory"), "{}", told.error());
    let told = answer_of(streamed("data: {not json}\n\n"));
    assert!(told.error().contains("no JSON"), "{}", told.error());
}

#[test]
fn an_answer_whose_end_was_told_is_whole_whatever_comes_after() {
    let end = |reason: &str| event(&json!({"choices": [{"delta": {}, "finish_reason": reason}]}));
    let whole = |reason: &str| word("A cat.") + &end(reason);
    let chunked = |text: String| {
        let head = head("200 OK", "text/event-stream", "Transfer-Encoding: chunked\r\n");
        vec![Do::Send(head), Do::Send(format!("{:x}\r\n{text}\r\n", text.len()).into_bytes())]
    };
    let error = event(&json!({"error": {"message": "too late"}}));
    for steps in [
        [chunked(whole("stop")), vec![Do::Reset]].concat(),
        chunked(whole("stop")),
        streamed(&format!("{}{error}", whole("stop"))),
    ] {
        let told = answer_of(steps);
        assert_eq!((told.summary().text.as_str(), told.summary().reason), ("A cat.", StopReason::End));
    }
    let told = answer_of([chunked(whole("content_filter")), vec![Do::Reset]].concat());
    assert!(told.error().contains("content_filter"), "{}", told.error());
    // Figures are not waited for as words are, and pings do not make the wait longer.
    let ping = vec![Do::Send(b": ping\n\n".to_vec()), Do::Wait(Duration::from_millis(500))];
    let pings = std::iter::repeat_n(ping, 40).flatten().collect();
    for silence in [vec![Do::Hang], pings] {
        let since = Instant::now();
        let told = answer_of([streamed(&whole("stop")), silence].concat());
        assert_eq!(told.summary().text, "A cat.");
        assert!(since.elapsed() < Duration::from_secs(12), "{:?}", since.elapsed());
    }
    // Some say no more than that nothing more comes.
    for done in ["data: [DONE]\n\n", "data: [DONE]"] {
        let told = answer_of(streamed(&format!("{}{done}", word("A cat."))));
        assert_eq!((told.summary().text.as_str(), told.summary().reason), ("A cat.", StopReason::End));
    }
    assert!(answer_of(streamed("data: [DONE]\n\n")).error().contains("it says nothing"));
}

#[test]
fn a_silent_server_can_be_left_at_once() {
    let begun = vec![stream_head(), Do::Send(word("Once").into_bytes()), Do::Hang];
    for steps in [vec![Do::Hang], vec![stream_head(), Do::Hang], begun] {
        let server = Loopback::always(steps);
        let answer = ask(question(&server.url), Arc::new(|| {}));
        server.wait();
        // It says nothing, or no more: what it has said must arrive.
        let first = answer.events.recv_timeout(Duration::from_millis(300));
        let since = Instant::now();
        answer.cancel.cancel();
        let mut told = listen(&answer);
        if let Ok(AnswerEvent::RemoteToken(token)) = first {
            told.text.insert_str(0, &token.text);
        }
        let took = since.elapsed();
        assert_eq!(told.summary().reason, StopReason::Cancelled);
        assert_eq!(told.summary().text, told.text);
        assert!(took < Duration::from_millis(500), "{took:?}");
    }
}

#[test]
fn waiting_and_taking_have_limits() {
    let server = Loopback::always(vec![Do::Hang]);
    let mut silent = question(&server.url);
    silent.limits.first = Duration::from_secs(1);
    assert!(answer(silent).error().contains("nothing has come from it for 1 s"));
    let server = Loopback::always(vec![stream_head(), Do::Send(word("x").into_bytes()), Do::Hang]);
    let mut stuck = question(&server.url);
    stuck.limits.idle = Duration::from_secs(1);
    let told = answer(stuck);
    assert_eq!((told.text.as_str(), told.error().contains("for 1 s")), ("x", true));

    let server = Loopback::always(vec![stream_head(), Do::Send(vec![b'x'; 6 << 20])]);
    let error = answer(question(&server.url)).error();
    assert!(error.contains("a line of more than 4 MB"), "{error}");
    let server = Loopback::always(vec![stream_head(), Do::Send(word("endless ").repeat(4000).into_bytes())]);
    let mut endless = question(&server.url);
    endless.limits.bytes = 100_000;
    let error = answer(endless).error();
    assert!(error.contains("its answer has no end"), "{error}");
}

#[test]
fn models_are_listed_with_the_key_and_errors_are_told() {
    let body = r#"{"object":"list","data":[{"id":"Qwen3-VL-235B","owned_by":"vllm"},{"id":"small","owned_by":"vllm"}]}"#;
    let server = Loopback::always(vec![page("200 OK", "application/json", "", body)]);
    let ask = question(&format!("{}/v1/", server.url));
    let listed = list_models(&ask.server, &ask.keys, None, Arc::new(|| {})).result.recv().unwrap().unwrap();
    assert_eq!(listed.models, ["Qwen3-VL-235B", "small"]);
    assert_eq!(listed.software.as_deref(), Some("vllm"));
    let typed = Some(Key::new("sk-typed").unwrap());
    let _ = list_models(&ask.server, &ask.keys, typed, Arc::new(|| {})).result.recv().unwrap().unwrap();
    let seen = server.seen();
    assert_eq!(seen[0].line, "GET /v1/models");
    assert_eq!(seen[0].header("authorization"), Some(format!("Bearer {SECRET}").as_str()));
    assert_eq!(seen[1].header("authorization"), Some("Bearer sk-typed"));

    let refusing = Loopback::always(vec![page("401 Unauthorized", "text/plain", "", "wrong sk-typed")]);
    let ask = question(&refusing.url);
    let typed = Some(Key::new("sk-typed").unwrap());
    let error =
        list_models(&ask.server, &ask.keys, typed, Arc::new(|| {})).result.recv().unwrap().unwrap_err();
    assert!(error.to_string().contains("it refuses the key (401): wrong …"), "{error}");
    let other = Loopback::always(vec![page("200 OK", "text/html", "", "<html>")]);
    let ask = question(&other.url);
    let error =
        list_models(&ask.server, &ask.keys, None, Arc::new(|| {})).result.recv().unwrap().unwrap_err();
    assert!(error.to_string().contains("no list of models"), "{error}");
}

#[test]
fn the_command_line_asks_a_server_and_says_what_it_does_not_know() {
    let piece = json!({"choices": [{"delta": {"content": "A cat."}, "logprobs": {"content": [{"token": "A cat.", "logprob": -0.5, "top_logprobs": [{"token": "A cat.", "logprob": -0.5}, {"token": "x", "logprob": -2.0}]}]}}]});
    let server = Loopback::always(streamed(&format!("{}{}", event(&piece), ending("stop", 50, 3))));
    let place = Place::new();
    let picture = place.path("a.png");
    image::RgbImage::new(8, 8).save(&picture).unwrap();
    let ask = |more: &[&str], key: Option<&str>| {
        let picture = picture.to_str().unwrap();
        let arguments =
            ["generate", "--server", &server.url, "--server-model", "big", "--image", picture, "What?"];
        let mut command = place.command(&[&arguments, more].concat());
        // No keyring of whoever runs the tests.
        command.env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere").env_remove("OCELLI_SERVER_KEY");
        if let Some(key) = key {
            command.env("OCELLI_SERVER_KEY", key);
        }
        Run::of(&mut command)
    };
    let run = ask(&["--temperature", "0.5", "--image-tokens", "64"], Some(SECRET));
    assert_eq!((run.status, run.stdout.as_slice()), (Some(0), b"A cat.\n".as_slice()), "{}", run.stderr);
    assert!(run.stderr.contains("not applied by servers: --image-tokens"), "{}", run.stderr);
    assert!(
        run.stderr.contains("50 prompt tokens") && run.stderr.contains("seen from here"),
        "{}",
        run.stderr
    );
    assert!(!run.stderr.contains(SECRET));
    let run = ask(&["--json"], Some(SECRET));
    let said: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(
        (&said["text"], &said["new_tokens"], &said["seen_from_here"]),
        (&json!("A cat."), &json!(3), &json!(true))
    );
    assert_eq!(said["tokens"][0]["logprob"], json!(-0.5));
    assert_eq!(said["tokens"][0]["top"][1], json!(["x", -2.0]));
    assert_eq!(said["reused_tokens"], json!(null));
    let seen = server.seen();
    assert_eq!(seen[0].header("authorization"), Some(format!("Bearer {SECRET}").as_str()));
    let sent = seen[0].json();
    assert_eq!((&sent["temperature"], sent.get("top_p"), &sent["model"]), (&json!(0.5), None, &json!("big")));
    assert_eq!(sent["messages"][0]["content"].as_array().unwrap().len(), 2);

    let refusing = Loopback::always(vec![page("401 Unauthorized", "text/plain", "", "")]);
    let mut command = place.command(&["generate", "--server", &refusing.url, "--server-model", "m", "Hi"]);
    command.env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere").env_remove("OCELLI_SERVER_KEY");
    let run = Run::of(&mut command);
    assert_eq!((run.status, refusing.seen()[0].header("authorization")), (Some(1), None));
    assert!(run.stderr.contains("it wants a key (401)"), "{}", run.stderr);
    let unasked = Loopback::always(streamed(&ending("stop", 1, 1)));
    let flags = ["generate", "Hi", "--server", &unasked.url, "--server-model", "m"];
    let run = Run::of(place.command(&flags).env("OCELLI_SERVER_KEY", "sk-geheim b"));
    assert_eq!(run.status, Some(1), "{}", run.stderr);
    assert!(run.stderr.contains("OCELLI_SERVER_KEY") && !run.stderr.contains("geheim"), "{}", run.stderr);
    let run = Run::of(place.command(&flags[..4]).env("OCELLI_SERVER_KEY", "k"));
    assert!(run.status == Some(1) && run.stderr.contains("--server-model"), "{}", run.stderr);
    assert_eq!(unasked.seen().len(), 0);
}
