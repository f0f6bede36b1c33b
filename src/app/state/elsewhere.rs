//! Servers elsewhere: which there are, which one answers in a chat, and what it has.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SendError, Sender, TryRecvError, channel};

use super::{Obstacle, State, engine_gone};
use crate::app::chat::Chat;
use crate::engine::{Answer, ModelInfo, Request, Wake};
use crate::error::{Error, ErrorKind, Result};
use crate::remote::{
    self, Ask, Choosing, Key, Keys, Limits, Listed, Listing, MemoryStore, Server, ServerModel, Where,
};

/// How a list of models goes.
#[derive(Debug)]
pub enum ModelList {
    /// It has been asked for.
    Asked(Listing),
    /// It has come.
    There(Listed),
    /// It has not, and why.
    Failed(Error),
}

type KeyringJob = Box<dyn FnOnce() + Send>;

/// Servers that can answer instead of the model of this machine.
pub struct Elsewhere {
    /// The servers, in the order they were added.
    pub servers: Vec<Server>,
    /// What opens them.
    pub keys: Keys,
    /// How long to wait for them.
    pub limits: Limits,
    /// Their lists of models, by address, in this run of the program.
    pub lists: HashMap<String, ModelList>,
    /// Keys that are held for this run only, by address, and why.
    pub key_trouble: HashMap<String, Error>,
    keeping: Vec<(String, Receiver<Where>)>,
    /// What the keyring is to do, one after the other: what was wished last is what stays.
    keyring: Option<Sender<KeyringJob>>,
    pub(in crate::app) wake: Wake,
}

impl std::fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Elsewhere").field("servers", &self.servers).finish_non_exhaustive()
    }
}

impl Default for Elsewhere {
    /// No servers, and no keyring.
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            keys: Keys::new(Arc::new(MemoryStore::default())),
            limits: Limits::default(),
            lists: HashMap::new(),
            key_trouble: HashMap::new(),
            keeping: Vec::new(),
            keyring: None,
            wake: Arc::new(|| {}),
        }
    }
}

impl Elsewhere {
    /// The server at this address.
    #[must_use]
    pub fn server(&self, base_url: &str) -> Option<&Server> {
        self.servers.iter().find(|server| server.base_url == base_url)
    }

    /// Asks a server for its models; with `typed`, a key that is not kept yet.
    pub fn list_models(&mut self, server: &Server, typed: Option<Key>) {
        let listing = remote::list_models(server, &self.keys, typed, Arc::clone(&self.wake));
        if let Some(ModelList::Asked(before)) =
            self.lists.insert(server.base_url.clone(), ModelList::Asked(listing))
        {
            before.cancel.cancel();
        }
    }

    /// Is a key of this server on its way into the keyring?
    #[must_use]
    pub fn is_keeping(&self, base_url: &str) -> bool {
        self.keeping.iter().any(|(address, _)| address == base_url)
    }

    /// Keeps a key away from the window's thread: a keyring may ask the user. Until then it is held in memory.
    fn keep_key(&mut self, base_url: &str, key: Key) {
        self.keys.hold(base_url, &key);
        self.key_trouble.remove(base_url);
        let (sender, receiver) = channel();
        let (keys, address, wake) = (self.keys.clone(), base_url.to_owned(), Arc::clone(&self.wake));
        let run = move || {
            let _ = sender.send(keys.store(&address, &key));
            wake();
        };
        match self.on_keyring(Box::new(run)) {
            Ok(()) => self.keeping.push((base_url.to_owned(), receiver)),
            Err(error) => {
                let error = Error::new("putting the server's key into the keyring", error);
                self.key_trouble.insert(base_url.to_owned(), error);
            }
        }
    }

    /// Has the keyring's thread do something when it has done what it was told before.
    fn on_keyring(&mut self, mut job: KeyringJob) -> std::io::Result<()> {
        if let Some(queue) = &self.keyring {
            match queue.send(job) {
                Ok(()) => return Ok(()),
                // The thread is gone: a new one does it.
                Err(SendError(back)) => job = back,
            }
        }
        let (queue, jobs) = channel::<KeyringJob>();
        let run = move || jobs.into_iter().for_each(|job| job());
        std::thread::Builder::new().name("keyring".into()).spawn(run)?;
        let _ = queue.send(job);
        self.keyring = Some(queue);
        Ok(())
    }

    /// Forgets the key of a server.
    pub fn forget_key(&mut self, base_url: &str) {
        self.key_trouble.remove(base_url);
        let is_keeping = self.is_keeping(base_url);
        self.keeping.retain(|(address, _)| address != base_url);
        self.keys.drop_held(base_url);
        let server = self.servers.iter_mut().find(|server| server.base_url == base_url);
        let has_key = server.is_some_and(|server| std::mem::take(&mut server.has_key));
        // One that is on its way into the keyring will be there when the thread comes to this.
        if !has_key && !is_keeping {
            return;
        }
        let (keys, address) = (self.keys.clone(), base_url.to_owned());
        let run = move || {
            if let Err(error) = keys.erase(&address) {
                tracing::warn!("{error}");
            }
        };
        if let Err(error) = self.on_keyring(Box::new(run)) {
            tracing::warn!("forgetting a key: {error}");
        }
    }

    /// Forgets a server and its key.
    pub fn remove(&mut self, base_url: &str) {
        self.forget_key(base_url);
        self.lists.remove(base_url);
        self.servers.retain(|server| server.base_url != base_url);
    }

    /// Takes in the lists that have come.
    pub(super) fn poll(&mut self) {
        let mut kept = Vec::new();
        self.keeping.retain(|(base_url, receiver)| match receiver.try_recv() {
            Err(TryRecvError::Empty) => true,
            Ok(place) => {
                kept.push((base_url.clone(), place));
                false
            }
            Err(TryRecvError::Disconnected) => false,
        });
        for (base_url, place) in kept {
            match place {
                Where::Kept => {
                    self.key_trouble.remove(&base_url);
                    if let Some(server) = self.servers.iter_mut().find(|server| server.base_url == base_url) {
                        server.has_key = true;
                    }
                }
                // One that was kept before is there still, to be forgotten when the user wishes it.
                Where::ThisRun(error) => {
                    self.key_trouble.insert(base_url, error);
                }
            }
        }
        let mut came = Vec::new();
        for (base_url, list) in &mut self.lists {
            let ModelList::Asked(listing) = list else { continue };
            let result = match listing.result.try_recv() {
                Ok(result) => result,
                Err(TryRecvError::Empty) => continue,
                Err(TryRecvError::Disconnected) => Err(engine_gone("listing the server's models")),
            };
            match result {
                Ok(listed) => {
                    came.push((base_url.clone(), listed.clone()));
                    *list = ModelList::There(listed);
                }
                Err(error) => *list = ModelList::Failed(error),
            }
        }
        for (base_url, listed) in came {
            if let Some(server) = self.servers.iter_mut().find(|server| server.base_url == base_url) {
                (server.models, server.software) = (listed.models, listed.software);
            }
        }
        self.lists.retain(
            |_, list| !matches!(list, ModelList::Failed(error) if error.get_kind() == ErrorKind::Cancelled),
        );
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.keeping.is_empty() || self.lists.values().any(|list| matches!(list, ModelList::Asked(_)))
    }

    /// Why the server that a chat has chosen cannot answer; `None`: it can be asked.
    pub(super) fn obstacle(&self, chat: &Chat) -> Option<Obstacle> {
        let chosen = chat.settings.answers_from.as_ref()?;
        if self.server(&chosen.base_url).is_none() {
            return Some(Obstacle::UnknownServer);
        }
        chosen.model.trim().is_empty().then_some(Obstacle::NoServerModel)
    }

    /// Asks the server that was chosen; `None`: it is not there any more. Unless the user has chosen how to sample, that is left
    /// to the server.
    pub(super) fn ask(&self, chosen: &ServerModel, own_sampling: bool, request: Request) -> Option<Answer> {
        let server = self.server(&chosen.base_url)?.clone();
        let choosing = if own_sampling { Choosing::from(&request.sampling) } else { Choosing::default() };
        let (model, keys, limits) = (chosen.model.trim().to_owned(), self.keys.clone(), self.limits);
        Some(remote::ask(Ask { server, model, request, choosing, keys, limits }, Arc::clone(&self.wake)))
    }

    /// Asks the server at an address, known or not.
    ///
    /// # Errors
    /// That is no address.
    pub fn ask_at(
        &self,
        base_url: &str,
        model: &str,
        request: Request,
        choosing: Choosing,
    ) -> Result<Answer> {
        let new = Server::new("", base_url)?;
        let server = self.server(&new.base_url).cloned().unwrap_or(new);
        let (model, keys, limits) = (model.to_owned(), self.keys.clone(), self.limits);
        Ok(remote::ask(Ask { server, model, request, choosing, keys, limits }, Arc::clone(&self.wake)))
    }

    /// Can the chosen server go on with an answer that has begun?
    pub(super) fn check_goes_on(&self, chosen: &ServerModel) -> Result<()> {
        let Some(server) = self.server(&chosen.base_url).filter(|server| !server.goes_on()) else {
            return Ok(());
        };
        let (why, help) = match &server.software {
            None => (
                "it is not known whether this server can go on with an answer that has begun".to_owned(),
                "list its models, which tells what it runs on, or ask for another answer",
            ),
            Some(software) => (
                format!("a server of {software} is not known to go on with an answer that has begun"),
                "ask for another answer",
            ),
        };
        Err(Error::new("going on with the answer", why).at(&server.name).help(help))
    }
}

impl State {
    /// The server and the model's name that answer in the conversation on the screen; `None`: this machine, or a server that is
    /// not there any more.
    #[must_use]
    pub fn answering_server(&self) -> Option<(&Server, &str)> {
        let chosen = self.chat.settings.answers_from.as_ref()?;
        Some((self.elsewhere.server(&chosen.base_url)?, chosen.model.trim()))
    }

    /// Keeps a server, in place of the one that had the address `before`, and its key where one was typed. Chats in memory that
    /// had chosen it follow it to another address; its key does not.
    pub fn save_server(&mut self, before: Option<&str>, server: Server, key: Option<Key>) {
        let base_url = server.base_url.clone();
        if let Some(before) = before.filter(|before| *before != base_url) {
            let chats = std::iter::once(&mut self.chat).chain(self.others.values_mut());
            let chosen =
                chats.map(|chat| &mut chat.settings).chain(std::iter::once(&mut self.usual_settings));
            for chosen in chosen.filter_map(|settings| settings.answers_from.as_mut()) {
                if chosen.base_url == before {
                    chosen.base_url.clone_from(&base_url);
                }
            }
            self.elsewhere.forget_key(before);
        }
        let known = before.unwrap_or(&base_url);
        match self.elsewhere.servers.iter_mut().find(|known_server| known_server.base_url == known) {
            Some(place) => *place = server,
            None => self.elsewhere.servers.push(server),
        }
        if let Some(ModelList::There(listed)) = self.elsewhere.lists.get(&base_url)
            && let Some(server) = self.elsewhere.servers.iter_mut().find(|server| server.base_url == base_url)
        {
            (server.models, server.software) = (listed.models.clone(), listed.software.clone());
        }
        if let Some(key) = key {
            self.elsewhere.keep_key(&base_url, key);
        }
    }

    /// The loaded model, where it is the one that answers in the conversation on the screen.
    #[must_use]
    pub fn local_model(&self) -> Option<&ModelInfo> {
        self.model_info().filter(|_| self.answers_here())
    }

    /// Do answers in the conversation on the screen come from this machine?
    #[must_use]
    pub fn answers_here(&self) -> bool {
        self.chat.settings.answers_from.is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::Sender;
    use std::time::Duration;

    use super::*;
    use crate::remote::KeyStore;

    /// A keyring that waits for the user before it keeps a key, and tells what it has done.
    struct Slow {
        kept: MemoryStore,
        allowed: Mutex<Receiver<Result<()>>>,
        done: Sender<Option<Key>>,
    }

    impl KeyStore for Slow {
        fn get(&self, base_url: &str) -> Result<Option<Key>> {
            self.kept.get(base_url)
        }

        fn set(&self, base_url: &str, key: Option<&Key>) -> Result<()> {
            if key.is_some() {
                self.allowed.lock().unwrap().recv_timeout(Duration::from_secs(20)).unwrap()?;
            }
            self.kept.set(base_url, key)?;
            let _ = self.done.send(key.cloned());
            Ok(())
        }
    }

    struct Place {
        elsewhere: Elsewhere,
        store: Arc<Slow>,
        allow: Sender<Result<()>>,
        done: Receiver<Option<Key>>,
        url: String,
    }

    fn place() -> Place {
        let ((allow, allowed), (done, was_done)) = (channel(), channel());
        let store = Arc::new(Slow { kept: MemoryStore::default(), allowed: Mutex::new(allowed), done });
        let server = Server::new("Cluster", "https://gpu.example").unwrap();
        let url = server.base_url.clone();
        let keys = Keys::new(Arc::clone(&store) as Arc<dyn KeyStore>);
        let elsewhere = Elsewhere { servers: vec![server], keys, ..Elsewhere::default() };
        Place { elsewhere, store, allow, done: was_done, url }
    }

    impl Place {
        fn next(&self) -> Option<Key> {
            self.done.recv_timeout(Duration::from_secs(20)).unwrap()
        }

        fn poll_all(&mut self) {
            let (_sender, pause) = channel::<()>();
            while self.elsewhere.is_keeping(&self.url) {
                let _ = pause.recv_timeout(Duration::from_millis(20));
                self.elsewhere.poll();
            }
        }
    }

    fn key(text: &str) -> Key {
        Key::new(text).unwrap()
    }

    #[test]
    fn what_is_done_with_a_key_last_is_what_stays_however_slow_the_keyring() {
        let mut place = place();
        let url = place.url.clone();
        place.elsewhere.keep_key(&url, key("sk-1"));
        place.elsewhere.forget_key(&url);
        assert_eq!(place.elsewhere.keys.get(&place.elsewhere.servers[0]).unwrap(), None);
        place.allow.send(Ok(())).unwrap();
        assert_eq!((place.next(), place.next()), (Some(key("sk-1")), None));
        assert_eq!(place.store.get(&url).unwrap(), None);
        assert_eq!(
            place.elsewhere.keys.get(&place.elsewhere.servers[0]).unwrap(),
            None,
            "nor is it held again"
        );

        place.elsewhere.keep_key(&url, key("sk-2"));
        place.elsewhere.forget_key(&url);
        place.elsewhere.keep_key(&url, key("sk-3"));
        for _ in 0..2 {
            place.allow.send(Ok(())).unwrap();
        }
        place.poll_all();
        assert_eq!((place.next(), place.next(), place.next()), (Some(key("sk-2")), None, Some(key("sk-3"))));
        assert_eq!(place.store.get(&url).unwrap(), Some(key("sk-3")));
        assert!(place.elsewhere.servers[0].has_key);
    }

    #[test]
    fn a_kept_key_whose_successor_cannot_be_kept_can_still_be_forgotten() {
        let mut place = place();
        let url = place.url.clone();
        place.allow.send(Ok(())).unwrap();
        place.elsewhere.keep_key(&url, key("sk-1"));
        place.poll_all();
        place.allow.send(Err(Error::new("keeping", "locked"))).unwrap();
        place.elsewhere.keep_key(&url, key("sk-2"));
        place.poll_all();
        assert!(place.elsewhere.key_trouble.contains_key(&url) && place.elsewhere.servers[0].has_key);
        assert_eq!(place.elsewhere.keys.get(&place.elsewhere.servers[0]).unwrap(), Some(key("sk-2")));
        place.elsewhere.forget_key(&url);
        assert_eq!((place.next(), place.next()), (Some(key("sk-1")), None));
        assert_eq!(place.store.get(&url).unwrap(), None);
    }
}
