//! A hub on loopback, written for the tests: it serves one repository, remembers what it was asked, and misbehaves when told to.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha256};

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What goes wrong with one request for a file.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// This status, with these headers.
    Status(u16, &'static [(&'static str, &'static str)]),
    /// The connection is closed after so many bytes of the body.
    CutAfter(u64),
    /// The body has so many bytes fewer than its length says, and the connection stays open a while.
    Stall(u64, Duration),
    /// The length says more than there is.
    LyingLength(u64),
    /// Part of another place of the file.
    WrongPart,
    /// A byte is another one.
    WrongByte,
    /// No answer at all.
    Hangup,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Asked {
    pub path: String,
    pub has_token: bool,
}

#[derive(Debug, Default)]
pub struct State {
    pub files: BTreeMap<String, Vec<u8>>,
    /// Replaces what the listing says.
    pub listing: Option<Value>,
    /// The status of the listing, and its `x-error-code`.
    pub refuse: Option<(u16, &'static str)>,
    pub faults: VecDeque<Fault>,
    pub asked: Vec<Asked>,
    /// Sends whole files, whatever it is asked for.
    pub no_ranges: bool,
    /// Every byte is wrong.
    pub always_wrong: bool,
    /// Files are elsewhere: that port.
    pub elsewhere: Option<u16>,
}

/// Stops with the test.
pub struct Hub {
    pub port: u16,
    pub state: Arc<Mutex<State>>,
    /// Bytes of files sent.
    pub sent: Arc<AtomicU64>,
    /// Bytes a second for each connection; 0: as fast as it goes.
    pub speed: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Hub {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let hub = Self {
            port: listener.local_addr().unwrap().port(),
            state: Arc::default(),
            sent: Arc::default(),
            speed: Arc::default(),
            stop: Arc::default(),
        };
        let (state, sent, speed, stop) =
            (hub.state.clone(), hub.sent.clone(), hub.speed.clone(), hub.stop.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let (state, sent, speed) = (state.clone(), sent.clone(), speed.clone());
                let Ok(stream) = stream else { continue };
                thread::spawn(move || Connection { stream, state, sent, speed }.serve());
            }
        });
        hub
    }

    /// A hub with a small model of these sizes of weights, in MiB.
    pub fn with_model(weights_mib: &[usize]) -> Self {
        let hub = Self::start();
        let mut state = hub.state.lock().unwrap();
        state.files.insert("config.json".into(), br#"{"model_type": "qwen3_vl"}"#.to_vec());
        state.files.insert("tokenizer.json".into(), b"{}".to_vec());
        state.files.insert("README.md".into(), b"not needed".to_vec());
        for (index, mib) in weights_mib.iter().enumerate() {
            let name = format!("model-{:05}-of-{:05}.safetensors", index + 1, weights_mib.len());
            state.files.insert(name, random_bytes((mib << 20) + 1234 * (index + 1), index as u64));
        }
        drop(state);
        hub
    }

    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn fault(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state.lock().unwrap().faults.extend(faults);
    }

    pub fn total_bytes(&self) -> u64 {
        let state = self.state.lock().unwrap();
        state.files.iter().filter(|(name, _)| *name != "README.md").map(|(_, bytes)| bytes.len() as u64).sum()
    }

    pub fn sent_bytes(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.state.lock().unwrap().asked.clone()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// Bytes without a pattern, the same each time.
pub fn random_bytes(count: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn git_sha1(bytes: &[u8]) -> String {
    let mut sum = Sha1::new();
    sum.update(format!("blob {}\0", bytes.len()));
    sum.update(bytes);
    sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Connection {
    stream: TcpStream,
    state: Arc<Mutex<State>>,
    sent: Arc<AtomicU64>,
    speed: Arc<AtomicU64>,
}

impl Connection {
    fn serve(mut self) {
        let mut reader = BufReader::new(self.stream.try_clone().unwrap());
        loop {
            let mut head = Vec::new();
            loop {
                let mut line = String::new();
                match reader.read_line(&mut line) {
                    Ok(count) if count > 0 => {}
                    _ => return,
                }
                if line.trim().is_empty() {
                    break;
                }
                head.push(line.trim().to_owned());
            }
            let path = head[0].split(' ').nth(1).unwrap_or("").to_owned();
            let header = |name: &str| {
                head.iter()
                    .skip(1)
                    .filter_map(|line| line.split_once(':'))
                    .find_map(|(key, value)| key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned()))
            };
            let range = header("range").and_then(|text| {
                let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
                Some((first.parse().ok()?, last.parse().ok()?))
            });
            let has_token = header("authorization").is_some();
            self.state.lock().unwrap().asked.push(Asked { path: path.clone(), has_token });
            if self.answer(&path, range).is_none() {
                return;
            }
        }
    }

    /// `None`: the connection ends.
    fn answer(&mut self, path: &str, range: Option<(u64, u64)>) -> Option<()> {
        if path.starts_with("/api/models/") {
            let state = self.state.lock().unwrap();
            if let Some((status, code)) = state.refuse {
                drop(state);
                return self.send_head(status, &[("x-error-code", code), ("content-length", "0")]);
            }
            let siblings: Vec<Value> = state
                .files
                .iter()
                .map(|(name, bytes)| {
                    if name.ends_with("json") || name.ends_with("md") {
                        json!({"rfilename": name, "size": bytes.len(), "blobId": git_sha1(bytes)})
                    } else {
                        let lfs = json!({"sha256": sha256(bytes), "size": bytes.len(), "pointerSize": 130});
                        json!({"rfilename": name, "size": bytes.len(), "blobId": "f".repeat(40), "lfs": lfs})
                    }
                })
                .collect();
            let listing =
                state.listing.clone().unwrap_or_else(|| json!({"sha": COMMIT, "siblings": siblings}));
            drop(state);
            let text = listing.to_string();
            self.send_head(
                200,
                &[("content-length", &text.len().to_string()), ("content-type", "application/json")],
            )?;
            return self.stream.write_all(text.as_bytes()).ok();
        }
        let mut state = self.state.lock().unwrap();
        if let Some(port) = state.elsewhere {
            drop(state);
            let location = format!("http://127.0.0.1:{port}{path}");
            return self.send_head(302, &[("location", &location), ("content-length", "0")]);
        }
        let name = path.rsplit(&format!("{COMMIT}/")).next().unwrap_or("").to_owned();
        let fault = state.faults.pop_front();
        let (no_ranges, always_wrong) = (state.no_ranges, state.always_wrong);
        let Some(mut bytes) = state.files.get(&name).cloned() else {
            drop(state);
            return self.send_head(404, &[("x-error-code", "EntryNotFound"), ("content-length", "0")]);
        };
        drop(state);
        let total = bytes.len();
        let (mut status, mut first) = (200, 0);
        if let Some((from, last)) = range.filter(|_| !no_ranges) {
            status = 206;
            first = usize::try_from(from).unwrap();
            bytes = bytes
                .get(first..(usize::try_from(last).unwrap() + 1).min(total))
                .unwrap_or_default()
                .to_vec();
        }
        let mut length = bytes.len() as u64;
        let mut cut = u64::MAX;
        let mut stall = Duration::ZERO;
        match fault {
            Some(Fault::Status(status, headers)) => {
                let mut headers = headers.to_vec();
                headers.push(("content-length", "0"));
                return self.send_head(status, &headers);
            }
            Some(Fault::Hangup) => return None,
            Some(Fault::CutAfter(bytes)) => cut = bytes,
            Some(Fault::Stall(bytes, time)) => (cut, stall) = (bytes, time),
            Some(Fault::LyingLength(more)) => length += more,
            Some(Fault::WrongPart) => first += 1,
            Some(Fault::WrongByte) => bytes[0] ^= 1,
            None => {}
        }
        if always_wrong {
            bytes[0] ^= 1;
        }
        let content_range = format!("bytes {first}-{}/{total}", first + bytes.len() - 1);
        let mut headers = vec![("content-length", length.to_string())];
        if status == 206 {
            headers.push(("content-range", content_range));
        }
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.send_head(status, &headers)?;
        self.send_body(&bytes, cut)?;
        if cut < bytes.len() as u64 {
            thread::sleep(stall);
            return None;
        }
        (length == bytes.len() as u64).then_some(())
    }

    fn send_body(&mut self, bytes: &[u8], cut: u64) -> Option<()> {
        let cut = usize::try_from(cut).unwrap_or(usize::MAX).min(bytes.len());
        for chunk in bytes[..cut].chunks(64 << 10) {
            self.stream.write_all(chunk).ok()?;
            self.sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            let speed = self.speed.load(Ordering::Relaxed);
            if let Some(wait) =
                (speed > 0).then(|| Duration::from_secs_f64(chunk.len() as f64 / speed as f64))
            {
                thread::sleep(wait);
            }
        }
        Some(())
    }

    fn send_head(&mut self, status: u16, headers: &[(&str, &str)]) -> Option<()> {
        let mut head = format!("HTTP/1.1 {status} Some words\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        self.stream.write_all(head.as_bytes()).ok()
    }
}
