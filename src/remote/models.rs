//! Room `remote`: the models of a server.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use serde_json::Value;

use super::http::{Call, ERROR_BYTES, GLANCE, Outgoing, Piece, refusal};
use super::keys::{Key, Keys};
use super::reply::refusal_words;
use super::server::Server;
use crate::bounded;
use crate::engine::{Cancel, Events, Wake};
use crate::error::{Error, Result};

const DOING: &str = "listing the server's models";
/// A list of models is no answer of a model: it comes soon.
const PATIENCE: Duration = Duration::from_secs(30);
const MOST_BYTES: usize = 8 << 20;
const MOST_MODELS: usize = 2000;
/// Values in the list, with whatever a server says of each.
const MOST_VALUES: usize = 500_000;

/// What a server has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// The names of its models, in order.
    pub models: Vec<String>,
    /// What it runs on, where it says so (`owned_by`).
    pub software: Option<String>,
}

/// A list under way.
#[derive(Debug)]
pub struct Listing {
    /// Comes once.
    pub result: Receiver<Result<Listed>>,
    /// Stops it.
    pub cancel: Cancel,
}

/// Asks a server for its models, on a thread of its own. `typed`: a key that is not kept yet.
#[must_use]
pub fn list_models(server: &Server, keys: &Keys, typed: Option<Key>, wake: Wake) -> Listing {
    let (events, result) = Events::channel(wake);
    let cancel = Cancel::default();
    let (server, keys, own, failed) = (server.clone(), keys.clone(), cancel.clone(), events.clone());
    let run = move || events.send(list(&server, &keys, typed, PATIENCE, &own));
    if let Err(error) = std::thread::Builder::new().name("models of a server".into()).spawn(run) {
        failed.send(Err(Error::new(DOING, error)));
    }
    Listing { result, cancel }
}

fn list(
    server: &Server,
    keys: &Keys,
    typed: Option<Key>,
    patience: Duration,
    cancel: &Cancel,
) -> Result<Listed> {
    // The keyring may wait for the user: it is asked on the network's thread, and the server's time begins after that.
    let (send_key, receive_key) = std::sync::mpsc::channel();
    let (url, own, keys) = (server.endpoint("models"), server.clone(), keys.clone());
    let call = Call::start(server, DOING, move || {
        let key = match typed {
            Some(key) => Some(key),
            None => keys.get(&own)?,
        };
        let _ = send_key.send(key.clone());
        Ok(Outgoing { url, key, body: None })
    })?;
    let silent = || Error::new(DOING, "it says nothing").at(&server.name).help("check its address");
    let key = loop {
        match receive_key.recv_timeout(GLANCE) {
            Ok(key) => break key,
            Err(RecvTimeoutError::Timeout) if cancel.is_cancelled() => return Err(Error::cancelled(DOING)),
            Err(RecvTimeoutError::Timeout) => {}
            // The keyring has refused: the call says so.
            Err(RecvTimeoutError::Disconnected) => break None,
        }
    };
    let Some(Piece::Head(head)) = call.next(cancel, patience)? else { return Err(silent()) };
    if !(200..300).contains(&head.status) {
        let page = call.rest(ERROR_BYTES, cancel, patience).unwrap_or_default();
        let said = refusal_words(&page, key.as_ref());
        return Err(refusal(DOING, &server.name, &head, &said, key.is_some()));
    }
    let page = call.rest(MOST_BYTES, cancel, patience)?;
    read(&page).ok_or_else(|| {
        Error::new(DOING, "what it sends is no list of models")
            .at(&server.name)
            .help("this may be no server of this kind: check its address, or type the model's name")
    })
}

/// Reads a list of models.
pub(super) fn read(page: &[u8]) -> Option<Listed> {
    let json = bounded::json(page, MOST_VALUES).ok()?;
    let list = json.get("data").or_else(|| json.get("models")).unwrap_or(&json).as_array()?;
    let name = |model: &Value| {
        let name = ["id", "name", "model"].iter().find_map(|field| model.get(*field)?.as_str());
        name.or(model.as_str()).filter(|name| !name.trim().is_empty() && name.len() < 512).map(str::to_owned)
    };
    let mut models: Vec<String> = list.iter().filter_map(name).take(MOST_MODELS).collect();
    models.dedup();
    let owner = list.iter().find_map(|model| model.get("owned_by")?.as_str());
    Some(Listed { models, software: owner.filter(|owner| owner.len() < 64).map(str::to_lowercase) })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::sync::Arc;

    use super::*;
    use crate::error::ErrorKind;
    use crate::remote::KeyStore;

    #[test]
    fn lists_of_all_kinds_of_servers_are_read() {
        let vllm = br#"{"object":"list","data":[{"id":"Qwen/Qwen3-VL-235B-A22B-Instruct","object":"model","owned_by":"vllm"},{"id":"b"}]}"#;
        let listed = read(vllm).unwrap();
        assert_eq!(listed.models, ["Qwen/Qwen3-VL-235B-A22B-Instruct", "b"]);
        assert_eq!(listed.software.as_deref(), Some("vllm"));
        assert_eq!(read(br#"{"models":[{"name":"a"}]}"#).unwrap().models, ["a"]);
        assert_eq!(read(br#"["a",{"id":""},7]"#).unwrap().models, ["a"]);
        for none in [b"".as_slice(), b"<html>", br#"{"data":7}"#, b"7"] {
            assert_eq!(read(none), None);
        }
    }

    /// A keyring that asks the user first.
    struct Slow(Duration);

    impl KeyStore for Slow {
        fn get(&self, _: &str) -> Result<Option<Key>> {
            let (_sender, nothing) = std::sync::mpsc::channel::<()>();
            let _ = nothing.recv_timeout(self.0);
            Key::new("sk-1").map(Some)
        }

        fn set(&self, _: &str, _: Option<&Key>) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_servers_time_begins_when_the_keyring_has_given_the_key() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = std::thread::Builder::new().spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let _ = stream.read(&mut [0; 4096]).unwrap();
            let page = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n[\"a\"]";
            stream.write_all(page).unwrap();
        });
        let server = Server { has_key: true, ..Server::new("Cluster", &url).unwrap() };
        let keys = |wait| Keys::new(Arc::new(Slow(Duration::from_millis(wait))));
        let cancel = Cancel::default();
        let listed = list(&server, &keys(1600), None, Duration::from_secs(1), &cancel).unwrap();
        assert_eq!(listed.models, ["a"]);
        serving.unwrap().join().unwrap();
        cancel.cancel();
        let error = list(&server, &keys(60_000), None, Duration::from_secs(1), &cancel).unwrap_err();
        assert_eq!(error.get_kind(), ErrorKind::Cancelled, "the user need not wait for the keyring");
    }
}
