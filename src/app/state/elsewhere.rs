//! Servers elsewhere: which there are, which one answers in a chat, and what it has.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::TryRecvError;

use super::{Obstacle, State, engine_gone};
use crate::app::chat::Chat;
use crate::engine::{Answer, Request, Wake};
use crate::error::{Error, ErrorKind, Result};
use crate::remote::{self, Ask, Choosing, Key, Keys, Limits, Listing, MemoryStore, Server};

/// How a list of models goes.
#[derive(Debug)]
pub enum ModelList {
    /// It has been asked for.
    Asked(Listing),
    /// It has come; it is with the server.
    There,
    /// It has not, and why.
    Failed(Error),
}

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

    /// Takes in the lists that have come.
    pub(super) fn poll(&mut self) {
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
                    came.push((base_url.clone(), listed));
                    *list = ModelList::There;
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
        self.lists.values().any(|list| matches!(list, ModelList::Asked(_)))
    }

    /// Why the server that a chat has chosen cannot answer; `None`: it can be asked.
    pub(super) fn obstacle(&self, chat: &Chat) -> Option<Obstacle> {
        let chosen = chat.settings.answers_from.as_ref()?;
        if self.server(&chosen.base_url).is_none() {
            return Some(Obstacle::UnknownServer);
        }
        chosen.model.trim().is_empty().then_some(Obstacle::NoServerModel)
    }

    /// Asks the server that a chat has chosen; `None`: it has chosen none that there is. The settings say whether the user has
    /// chosen how to sample; otherwise that is left to the server.
    pub(super) fn ask(&self, chat: &Chat, request: Request) -> Option<Answer> {
        let chosen = chat.settings.answers_from.as_ref()?;
        let server = self.server(&chosen.base_url)?.clone();
        let choosing =
            if chat.settings.own_sampling { Choosing::from(&request.sampling) } else { Choosing::default() };
        let (model, keys, limits) = (chosen.model.trim().to_owned(), self.keys.clone(), self.limits);
        Some(remote::ask(Ask { server, model, request, choosing, keys, limits }, Arc::clone(&self.wake)))
    }

    /// Can the chat's server go on with an answer that has begun?
    pub(super) fn check_goes_on(&self, chat: &Chat) -> Result<()> {
        let server = chat.settings.answers_from.as_ref().and_then(|chosen| self.server(&chosen.base_url));
        let Some(server) = server.filter(|server| !server.goes_on()) else { return Ok(()) };
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

    /// Do answers in the conversation on the screen come from this machine?
    #[must_use]
    pub fn answers_here(&self) -> bool {
        self.chat.settings.answers_from.is_none()
    }
}
