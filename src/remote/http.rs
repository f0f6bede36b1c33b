//! Room `remote`: the network, and nothing else: one request on a thread of its own, read in pieces by somebody who can stop
//! waiting at any moment. Redirects are not followed, so that a key never reaches a host the user did not name.

use std::io::Read;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use ureq::http::Response;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body, Proxy};

use super::keys::Key;
use super::server::{Server, host_of, is_here};
use crate::engine::Cancel;
use crate::error::{Error, Result};

/// A wish to stop is looked for this often.
pub(super) const GLANCE: Duration = Duration::from_millis(40);
/// Finding the server and connecting to it may take so long, each.
const CONNECT: Duration = Duration::from_secs(20);
/// Bytes read at once.
const PIECE: usize = 16 << 10;
/// Pieces that may wait to be looked at.
const WAITING: usize = 64;
/// Bytes of an error's page that are looked at.
pub(super) const ERROR_BYTES: usize = 64 << 10;

/// What to send.
pub(super) struct Outgoing {
    pub url: String,
    pub key: Option<Key>,
    /// JSON to post; `None`: get.
    pub body: Option<Vec<u8>>,
}

/// What comes back, in pieces.
#[derive(Debug)]
pub(super) enum Piece {
    Head(Head),
    Bytes(Vec<u8>),
}

/// The beginning of what comes back.
#[derive(Clone, Debug, Default)]
pub(super) struct Head {
    pub status: u16,
    /// Seconds to wait, where the server says so.
    pub retry_after: Option<String>,
    /// Where the server would send the request instead.
    pub location: Option<String>,
}

/// A request under way. Dropping it closes the connection.
pub(super) struct Call {
    pieces: Receiver<Result<Piece>>,
    agent: Agent,
    doing: &'static str,
}

impl Drop for Call {
    fn drop(&mut self) {
        // Its thread ends by itself: what it waits for fails now.
        self.agent.clone().shutdown();
    }
}

impl Call {
    /// Begins a request. `make` runs on its thread: it may ask a keyring and encode pictures.
    pub fn start(
        server: &Server,
        doing: &'static str,
        make: impl FnOnce() -> Result<Outgoing> + Send + 'static,
    ) -> Result<Self> {
        let agent = agent(server);
        let (sender, pieces) = sync_channel(WAITING);
        let (own, name) = (agent.clone(), server.name.clone());
        let run = move || {
            if let Err(error) = make().and_then(|out| send(&own, &out, doing, &name, &sender)) {
                let _ = sender.send(Err(error));
            }
        };
        std::thread::Builder::new().name("server".into()).spawn(run).map_err(|e| Error::new(doing, e))?;
        Ok(Self { pieces, agent, doing })
    }

    /// The next piece; `None`: that was all.
    ///
    /// # Errors
    /// The network's; the user has stopped it; nothing has come for as long as `patience`.
    pub fn next(&self, cancel: &Cancel, patience: Duration) -> Result<Option<Piece>> {
        let since = Instant::now();
        loop {
            if cancel.is_cancelled() {
                return Err(Error::cancelled(self.doing));
            }
            match self.pieces.recv_timeout(GLANCE) {
                Ok(piece) => return piece.map(Some),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) if since.elapsed() >= patience => {
                    let why = format!("nothing has come from it for {} s", patience.as_secs());
                    return Err(Error::new(self.doing, why).help("look after the server, then ask again"));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// All that comes, up to so many bytes.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub fn rest(&self, most: usize, cancel: &Cancel, patience: Duration) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        while let Some(piece) = self.next(cancel, patience)? {
            if let Piece::Bytes(bytes) = piece {
                all.extend_from_slice(&bytes);
                if all.len() >= most {
                    all.truncate(most);
                    break;
                }
            }
        }
        Ok(all)
    }
}

fn agent(server: &Server) -> Agent {
    let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
    // A proxy cannot find what runs on this machine.
    let proxy = if is_here(&server.base_url) { None } else { Proxy::try_from_env() };
    let config = Agent::config_builder()
        .tls_config(tls)
        .proxy(proxy)
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("ocelli/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(CONNECT))
        .timeout_connect(Some(CONNECT))
        .build();
    Agent::new_with_config(config)
}

fn send(
    agent: &Agent,
    out: &Outgoing,
    doing: &str,
    name: &str,
    sender: &SyncSender<Result<Piece>>,
) -> Result<()> {
    let key = out.key.as_ref().map(|key| format!("Bearer {}", key.secret()));
    let answered = match &out.body {
        Some(body) => {
            let request = agent.post(&out.url).header("Content-Type", "application/json");
            let request = request.header("Accept", "text/event-stream, application/json");
            match key {
                Some(key) => request.header("Authorization", key),
                None => request,
            }
            .send(body.as_slice())
        }
        None => match key {
            Some(key) => agent.get(&out.url).header("Authorization", key),
            None => agent.get(&out.url),
        }
        .call(),
    };
    let response = answered.map_err(|e| trouble(&e, doing, name, &out.url))?;
    let head = head(&response);
    if sender.send(Ok(Piece::Head(head))).is_err() {
        return Ok(());
    }
    let mut reader = response.into_body().into_reader();
    let mut bytes = vec![0; PIECE];
    loop {
        let n = match reader.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(trouble(&ureq::Error::from(e), doing, name, &out.url)),
        };
        if sender.send(Ok(Piece::Bytes(bytes.get(..n).unwrap_or_default().to_vec()))).is_err() {
            return Ok(());
        }
    }
}

fn head(response: &Response<Body>) -> Head {
    let text =
        |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    Head {
        status: response.status().as_u16(),
        retry_after: text("retry-after").filter(|text| text.len() < 40),
        location: text("location"),
    }
}

/// What went wrong on the way, in plain words.
fn trouble(error: &ureq::Error, doing: &str, name: &str, url: &str) -> Error {
    use std::io::ErrorKind as Kind;
    use ureq::Error as E;
    let host = host_of(url);
    let (why, help) = match error {
        E::HostNotFound => (format!("no host called {host} is found"), "check its address, and your network"),
        E::Timeout(_) => (format!("{host} does not answer"), "check its address, and that the server runs"),
        E::ConnectionFailed => {
            (format!("{host} cannot be reached"), "check its address, and that the server runs")
        }
        E::ConnectProxyFailed(why) => {
            (format!("the proxy does not lead there: {why}"), "check HTTPS_PROXY and NO_PROXY")
        }
        E::InvalidProxyUrl => ("the proxy's address is wrong".to_owned(), "check HTTPS_PROXY and NO_PROXY"),
        E::Tls(_) | E::Rustls(_) => (format!("there is no safe connection to {host}: {error}"), TLS_HELP),
        E::Io(e) => match e.kind() {
            Kind::ConnectionRefused => {
                (format!("nothing answers at {host}"), "check its address, and that the server runs")
            }
            Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::NetworkDown => {
                (format!("{host} cannot be reached"), "check your network")
            }
            Kind::InvalidData => (format!("there is no safe connection to {host}: {e}"), TLS_HELP),
            Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe | Kind::UnexpectedEof => {
                ("the connection was cut".to_owned(), "look after the server, then ask again")
            }
            _ => {
                (format!("the connection to {host} has failed: {e}"), "look after the server, then ask again")
            }
        },
        error => (format!("{host} does not speak as a server should: {error}"), "check its address"),
    };
    Error::new(doing, why).at(name).help(help)
}

const TLS_HELP: &str = "the server needs a certificate that this system trusts; of a server without TLS the address begins with http://";

/// What a server's refusal means.
pub(super) fn refusal(doing: &str, name: &str, head: &Head, said: &str, has_key: bool) -> Error {
    let status = head.status;
    let says = |why: &str| {
        if said.is_empty() { format!("{why} ({status})") } else { format!("{why} ({status}): {said}") }
    };
    let (why, help) = match status {
        300..=399 => {
            let to = head.location.as_deref().map_or("elsewhere", host_of);
            let why = format!("it leads to {to} ({status}), and nothing is sent to another address unasked");
            (why, "if you trust that one, put its address in the place of this one".to_owned())
        }
        401 | 403 if has_key => (says("it refuses the key"), "check the key, and what it may do".to_owned()),
        401 | 403 => {
            (says("it wants a key"), "give its key among the servers, or in OCELLI_SERVER_KEY".to_owned())
        }
        404 | 405 => {
            (says("it knows no such address or model"), "check its address, and list its models".to_owned())
        }
        413 => (says("the question is too large for it"), "send fewer or smaller pictures".to_owned()),
        429 => (
            says("it has too much to do"),
            match &head.retry_after {
                Some(after) if after.bytes().all(|byte| byte.is_ascii_digit()) => {
                    format!("ask again in {after} s")
                }
                Some(after) => format!("ask again after {after}"),
                None => "ask again later".to_owned(),
            },
        ),
        400..=499 => {
            (says("it refuses the question"), "change what it does not like, then ask again".to_owned())
        }
        500..=599 => (says("something is wrong in it"), "look after the server, then ask again".to_owned()),
        _ => (says("it answers strangely"), "check its address".to_owned()),
    };
    let error = Error::new(doing, why).at(name).help(help);
    // Some servers repeat the question in what they say.
    if said.is_empty() { error } else { error.quoting() }
}
