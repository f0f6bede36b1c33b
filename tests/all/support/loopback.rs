//! A server on this machine that does as it is told, for tests of what the program makes of servers. Only the standard library.

#![expect(clippy::unwrap_used, reason = "a test's helpers say: this must be so")]
#![expect(
    clippy::disallowed_methods,
    reason = "a slow server is what is tested, and its threads end with the test"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

/// A request that has come.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// `POST /v1/chat/completions`
    pub line: String,
    /// Names in lower case.
    pub head: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// What to do with a request, step by step; then the connection is closed.
#[derive(Clone, Debug)]
pub enum Do {
    Send(Vec<u8>),
    /// One write for each so many bytes.
    SendCut(Vec<u8>, usize),
    Wait(Duration),
    /// Says nothing more until the test is over.
    Hang,
    /// Closes rudely: the other side reads of a reset, not of an end.
    Reset,
}

type Script = dyn Fn(&Seen, usize) -> Vec<Do> + Send + Sync;

/// A server; it ends with the test.
pub struct Loopback {
    /// `http://127.0.0.1:PORT`
    pub url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    over: Arc<AtomicBool>,
    came: Receiver<()>,
}

impl Loopback {
    /// A server that does with each request what `script` says of it and its number.
    pub fn start(script: impl Fn(&Seen, usize) -> Vec<Do> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (seen, over) = (Arc::<Mutex<Vec<Seen>>>::default(), Arc::new(AtomicBool::new(false)));
        let (own_seen, own_over, script): (_, _, Arc<Script>) =
            (seen.clone(), over.clone(), Arc::new(script));
        let (come, came) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if own_over.load(Ordering::Relaxed) {
                    return;
                }
                let (seen, over, script, come) =
                    (own_seen.clone(), own_over.clone(), script.clone(), come.clone());
                std::thread::spawn(move || serve(stream.unwrap(), &seen, &over, &*script, &come));
            }
        });
        Self { url, seen, over, came }
    }

    /// A server that does the same with each request.
    pub fn always(steps: Vec<Do>) -> Self {
        Self::start(move |_, _| steps.clone())
    }

    /// Waits until the next request is there.
    pub fn wait(&self) {
        self.came.recv_timeout(Duration::from_secs(20)).unwrap();
    }

    /// The question that came last: a list of models that was asked for before it may come after it.
    pub fn last_question(&self) -> Seen {
        self.seen().into_iter().rfind(|seen| seen.line.starts_with("POST")).unwrap()
    }

    /// What has come.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // So that it looks.
        let _ = TcpStream::connect(self.url.trim_start_matches("http://"));
    }
}

fn serve(stream: TcpStream, seen: &Mutex<Vec<Seen>>, over: &AtomicBool, script: &Script, come: &Sender<()>) {
    let mut reader = BufReader::with_capacity(1, stream.try_clone().unwrap());
    let mut request = Seen::default();
    let mut line = String::new();
    if reader.read_line(&mut line).unwrap_or(0) == 0 {
        return;
    }
    request.line = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    loop {
        line.clear();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        request.head.push((name.to_lowercase(), value.to_owned()));
    }
    let length: usize = request.header("content-length").map_or(0, |n| n.parse().unwrap());
    // What is closed with a byte unread is closed by a reset: the last one waits.
    request.body = vec![0; length.saturating_sub(1)];
    reader.read_exact(&mut request.body).unwrap();
    let (steps, mut last) = {
        let mut seen = seen.lock().unwrap();
        // A JSON object ends as all do.
        let mut whole = request.clone();
        whole.body.extend(std::iter::repeat_n(b'}', usize::from(length > 0)));
        seen.push(whole.clone());
        (script(&whole, seen.len() - 1), [0; 1])
    };
    if length > 0 && !steps.iter().any(|step| matches!(step, Do::Reset)) {
        reader.read_exact(&mut last).unwrap();
    }
    let _ = come.send(());
    let mut stream = stream;
    stream.set_nodelay(true).unwrap();
    for step in steps {
        let sent = match step {
            Do::Send(bytes) => stream.write_all(&bytes),
            Do::SendCut(bytes, size) => bytes.chunks(size).try_for_each(|piece| {
                std::thread::sleep(Duration::from_micros(200));
                stream.write_all(piece)
            }),
            Do::Wait(time) => {
                std::thread::sleep(time);
                Ok(())
            }
            Do::Hang => {
                while !over.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(20));
                }
                return;
            }
            Do::Reset => {
                // What was sent must arrive first.
                std::thread::sleep(Duration::from_millis(150));
                return;
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

/// The beginning of a response.
pub fn head(status: &str, kind: &str, more: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nConnection: close\r\n{more}\r\n").into_bytes()
}

/// A whole response.
pub fn page(status: &str, kind: &str, more: &str, body: &str) -> Do {
    let more = format!("{more}Content-Length: {}\r\n", body.len());
    Do::Send([head(status, kind, &more), body.as_bytes().to_vec()].concat())
}

/// The beginning of a stream that ends when the connection does.
pub fn stream_head() -> Do {
    Do::Send(head("200 OK", "text/event-stream", ""))
}

/// An event with a word of an answer.
pub fn word(text: &str) -> String {
    event(&json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]}))
}

/// An event.
pub fn event(data: &Value) -> String {
    format!("data: {data}\n\n")
}

/// How a stream ends: why, the tokens, and that it has.
pub fn ending(reason: &str, prompt: usize, new: usize) -> String {
    let finish = json!({"model": "served", "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]});
    let usage = json!({"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": new}});
    format!("{}{}data: [DONE]\n\n", event(&finish), event(&usage))
}
