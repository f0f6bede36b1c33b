//! Room `remote`: the keys of servers. In the system's keyring, under the service `ocelli` and the server's address; where there
//! is no keyring, in memory for this run of the program. Asking a keyring may wait for the user: never on the window's thread.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::server::Server;
use crate::error::{Error, Result};

/// A key for servers that have none of their own.
pub const KEY_VARIABLE: &str = "OCELLI_SERVER_KEY";
const SERVICE: &str = "ocelli";
const DOING_GET: &str = "getting the server's key from the keyring";
const DOING_SET: &str = "putting the server's key into the keyring";

/// A server's key. Shows itself to nobody: neither in errors nor in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// A key as it was typed or read, without the space around it.
    ///
    /// # Errors
    /// It is empty, or holds what cannot stand in a request's head.
    pub fn new(text: &str) -> Result<Self> {
        let text = text.trim();
        let help = "copy it again from the server's page";
        if text.is_empty() {
            return Err(Error::new("reading the server's key", "it is empty").help(help));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            let why = "it has a letter or a space that no key has";
            return Err(Error::new("reading the server's key", why).help(help));
        }
        Ok(Self(text.to_owned()))
    }

    /// For the request's head alone.
    pub(super) fn secret(&self) -> &str {
        &self.0
    }

    /// A text from elsewhere without the key in it.
    #[must_use]
    pub(super) fn hide_in(&self, text: &str) -> String {
        text.replace(&self.0, "…")
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// Where keys outlive the program.
pub trait KeyStore: Send + Sync {
    /// The key of a server; `None`: there is none.
    ///
    /// # Errors
    /// The store is missing or locked.
    fn get(&self, base_url: &str) -> Result<Option<Key>>;

    /// Keeps a key, or forgets it.
    ///
    /// # Errors
    /// The store is missing or locked.
    fn set(&self, base_url: &str, key: Option<&Key>) -> Result<()>;
}

/// The system's keyring: the Keychain, the Credential Manager, or the Secret Service.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemStore;

impl SystemStore {
    fn entry(doing: &str, base_url: &str) -> Result<keyring::Entry> {
        keyring::Entry::new(SERVICE, base_url).map_err(|e| match keyring::Entry::store_status() {
            Err(why) => trouble(doing, why),
            Ok(()) => trouble(doing, &e),
        })
    }
}

fn trouble(doing: &str, error: &keyring::Error) -> Error {
    use keyring::Error as E;
    let why = match error {
        E::NoDefaultStore | E::PlatformFailure(_) => {
            format!("this system's keyring cannot be reached: {error}")
        }
        E::NoStorageAccess(_) => format!("the keyring is locked: {error}"),
        // What the keyring holds there must not be shown, even if it is no key.
        E::BadEncoding(_) | E::BadDataFormat(..) => "what it holds is no key".to_owned(),
        error => error.to_string(),
    };
    Error::new(doing, why)
        .help("unlock or install a keyring; without one, a key that you type lasts until the program ends")
}

impl KeyStore for SystemStore {
    fn get(&self, base_url: &str) -> Result<Option<Key>> {
        match Self::entry(DOING_GET, base_url)?.get_password() {
            Ok(text) => Key::new(&text).map(Some),
            Err(keyring::Error::NoEntry) => Ok(None),
            Err(error) => Err(trouble(DOING_GET, &error)),
        }
    }

    fn set(&self, base_url: &str, key: Option<&Key>) -> Result<()> {
        let entry = Self::entry(DOING_SET, base_url)?;
        match key.map_or_else(|| entry.delete_credential(), |key| entry.set_password(key.secret())) {
            Ok(()) | Err(keyring::Error::NoEntry) => Ok(()),
            Err(error) => Err(trouble(DOING_SET, &error)),
        }
    }
}

/// A store in memory, for tests and for systems without a keyring.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<HashMap<String, Key>>);

impl KeyStore for MemoryStore {
    fn get(&self, base_url: &str) -> Result<Option<Key>> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).get(base_url).cloned())
    }

    fn set(&self, base_url: &str, key: Option<&Key>) -> Result<()> {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match key {
            Some(key) => keys.insert(base_url.to_owned(), key.clone()),
            None => keys.remove(base_url),
        };
        Ok(())
    }
}

/// Where a key was put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Where {
    /// In the store.
    Kept,
    /// In memory until the program ends, because the store cannot be used.
    ThisRun(Error),
}

/// All keys: those of this run, those of the store, and the one of the environment.
#[derive(Clone)]
pub struct Keys {
    this_run: Arc<MemoryStore>,
    store: Arc<dyn KeyStore>,
    fallback: Option<Key>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys")
    }
}

impl Keys {
    /// Keys in this store, and none in the environment.
    #[must_use]
    pub fn new(store: Arc<dyn KeyStore>) -> Self {
        Self { this_run: Arc::default(), store, fallback: None }
    }

    /// Keys in the system's keyring, and the one of [`KEY_VARIABLE`] for servers without one.
    #[must_use]
    pub fn system() -> Self {
        let fallback = std::env::var(KEY_VARIABLE).ok().and_then(|text| Key::new(&text).ok());
        Self { fallback, ..Self::new(Arc::new(SystemStore)) }
    }

    /// The key for a server; `None`: it is asked without one. May wait for the user.
    ///
    /// # Errors
    /// One is kept, and the keyring does not give it.
    pub fn get(&self, server: &Server) -> Result<Option<Key>> {
        if let Some(key) = self.this_run.get(&server.base_url)? {
            return Ok(Some(key));
        }
        if server.has_key
            && let Some(key) = self.store.get(&server.base_url).map_err(|e| e.at(&server.name))?
        {
            return Ok(Some(key));
        }
        // Nobody named a server for it: it must not be read on the way to one.
        Ok(self.fallback.clone().filter(|_| !server.is_readable_on_the_way()))
    }

    /// Holds a key for an address until it is kept or the program ends; waits for nobody.
    pub fn hold(&self, base_url: &str, key: &Key) {
        let _ = self.this_run.set(base_url, Some(key));
    }

    /// Keeps a key for an address in the store, or, where that cannot be, for this run. May wait for the user.
    #[must_use]
    pub fn keep(&self, base_url: &str, key: &Key) -> Where {
        self.hold(base_url, key);
        self.store(base_url, key)
    }

    /// As [`Self::keep`], of a key that is held already: what is held stays as it is. May wait for the user.
    #[must_use]
    pub fn store(&self, base_url: &str, key: &Key) -> Where {
        match self.store.set(base_url, Some(key)) {
            Ok(()) => Where::Kept,
            Err(error) => Where::ThisRun(error),
        }
    }

    /// Holds the key of an address no longer; one that is kept stays.
    pub fn drop_held(&self, base_url: &str) {
        let _ = self.this_run.set(base_url, None);
    }

    /// Forgets the key of an address everywhere. May wait for the user.
    ///
    /// # Errors
    /// The store keeps it.
    pub fn forget(&self, server: &Server) -> Result<()> {
        self.drop_held(&server.base_url);
        if server.has_key { self.erase(&server.base_url) } else { Ok(()) }
    }

    /// Takes the key of an address out of the store; one that is held stays. May wait for the user.
    ///
    /// # Errors
    /// The store keeps it.
    pub fn erase(&self, base_url: &str) -> Result<()> {
        self.store.set(base_url, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Locked;

    impl KeyStore for Locked {
        fn get(&self, _: &str) -> Result<Option<Key>> {
            Err(Error::new(DOING_GET, "locked"))
        }

        fn set(&self, _: &str, _: Option<&Key>) -> Result<()> {
            Err(Error::new(DOING_SET, "locked"))
        }
    }

    fn server(has_key: bool) -> Server {
        Server { has_key, ..Server::new("Cluster", "https://gpu.example").unwrap() }
    }

    #[test]
    fn a_key_shows_itself_to_nobody_and_is_hidden_in_what_servers_say() {
        let key = Key::new(" sk-geheim \n").unwrap();
        assert_eq!(format!("{key:?}"), "Key(…)");
        assert_eq!(key.hide_in("wrong key sk-geheim!"), "wrong key …!");
        let error = Key::new("sk-geheim\nX: y").unwrap_err().to_string();
        assert!(!error.contains("geheim"), "{error}");
        assert!(Key::new("  ").is_err());
    }

    #[test]
    fn a_kept_key_is_found_again_and_forgotten_when_asked() {
        let store = Arc::new(MemoryStore::default());
        let key = Key::new("sk-1").unwrap();
        let keys = Keys::new(store.clone());
        assert_eq!(keys.get(&server(true)).unwrap(), None);
        assert_eq!(keys.keep(&server(true).base_url, &key), Where::Kept);
        assert_eq!(keys.get(&server(true)).unwrap(), Some(key.clone()));
        let next_run = Keys::new(store.clone());
        assert_eq!(next_run.get(&server(false)).unwrap(), None, "no keyring is asked where no key was kept");
        assert_eq!(next_run.get(&server(true)).unwrap(), Some(key));
        keys.forget(&server(true)).unwrap();
        assert_eq!(
            (keys.get(&server(true)).unwrap(), store.get(&server(true).base_url).unwrap()),
            (None, None)
        );
    }

    #[test]
    fn without_a_keyring_a_key_lasts_for_this_run() {
        let keys = Keys::new(Arc::new(Locked));
        let key = Key::new("sk-1").unwrap();
        assert!(keys.get(&server(true)).unwrap_err().to_string().contains("locked"));
        assert_eq!(keys.get(&server(false)).unwrap(), None);
        assert!(matches!(keys.keep(&server(true).base_url, &key), Where::ThisRun(_)));
        assert_eq!(keys.get(&server(true)).unwrap(), Some(key.clone()));
    }

    #[test]
    fn the_key_of_the_environment_goes_to_servers_without_one_of_their_own_and_to_nobody_on_the_way() {
        let key = Key::new("sk-any").unwrap();
        let keys = Keys { fallback: Some(key.clone()), ..Keys::new(Arc::new(Locked)) };
        let error = keys.get(&server(true)).unwrap_err().to_string();
        assert!(error.contains("locked"), "its own key is there and is not given: {error}");
        assert_eq!(keys.get(&server(false)).unwrap(), Some(key.clone()));
        let here = Server::new("", "http://127.0.0.1:8000").unwrap();
        assert_eq!(keys.get(&here).unwrap(), Some(key.clone()));
        let plain = Server::new("", "http://gpu.example:8000").unwrap();
        assert_eq!(keys.get(&plain).unwrap(), None);
        let keys = Keys { fallback: Some(key.clone()), ..Keys::new(Arc::new(MemoryStore::default())) };
        assert_eq!(keys.get(&server(true)).unwrap(), Some(key), "what was kept is gone");
    }
}
