//! Room `hub`: where the hub is, where its cache is and who asks, by the conventions of the Hugging Face tools.

use std::fmt;
use std::path::PathBuf;

use crate::bounded;
use crate::error::{Error, Result};

/// The hub that everybody means.
pub const PUBLIC_HUB: &str = "https://huggingface.co";
/// Bytes of a file with a token, at most.
const MOST_TOKEN_BYTES: u64 = 4 << 10;

/// A token that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// For the header of a request, nowhere else.
    pub(super) fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// How the hub is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubSettings {
    /// `HF_ENDPOINT`: the hub's address, without a slash at its end.
    pub endpoint: String,
    /// `HF_HUB_CACHE`, `HF_HOME/hub`, or `~/.cache/huggingface/hub`.
    pub cache: PathBuf,
    /// `HF_TOKEN`, or the file that `hf auth login` writes.
    pub token: Option<Token>,
    /// `HF_HUB_OFFLINE`: only what is there already.
    pub offline: bool,
}

impl HubSettings {
    /// From the environment of this process.
    ///
    /// # Errors
    /// The cache has no place: no variable is set and this account has no home folder.
    pub fn from_environment() -> Result<Self> {
        Self::from_variables(&|name| std::env::var_os(name).map(|v| v.to_string_lossy().into_owned()))
    }

    /// From variables that `get` knows.
    ///
    /// # Errors
    /// As [`HubSettings::from_environment`]; `HF_ENDPOINT` is no address.
    pub fn from_variables(get: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let get = |name: &str| get(name).filter(|value| !value.trim().is_empty());
        let home = get("HOME")
            .map(PathBuf::from)
            .or_else(|| directories::BaseDirs::new().map(|dirs| dirs.home_dir().to_owned()));
        let path = |value: String| expand_home(&value, home.as_ref());
        let hub_home = get("HF_HOME")
            .map(&path)
            .or_else(|| get("XDG_CACHE_HOME").map(|cache| path(cache).join("huggingface")))
            .or_else(|| home.as_ref().map(|home| home.join(".cache").join("huggingface")));
        let cache = get("HF_HUB_CACHE")
            .or_else(|| get("HUGGINGFACE_HUB_CACHE"))
            .map(&path)
            .or_else(|| hub_home.as_ref().map(|home| home.join("hub")))
            .ok_or_else(|| {
                Error::new("looking for the hub's cache", "this account has no home folder")
                    .help("set HF_HUB_CACHE to a folder")
            })?;
        let token_file =
            get("HF_TOKEN_PATH").map(&path).or_else(|| hub_home.as_ref().map(|home| home.join("token")));
        let token = get("HF_TOKEN")
            .or_else(|| get("HUGGING_FACE_HUB_TOKEN"))
            .or_else(|| {
                let implicit = !is_true(get("HF_HUB_DISABLE_IMPLICIT_TOKEN"));
                token_file
                    .filter(|_| implicit)
                    .and_then(|file| bounded::file(&file, MOST_TOKEN_BYTES).and_then(bounded::text).ok())
            })
            .map(|token| token.chars().filter(|c| !c.is_whitespace()).collect::<String>())
            .filter(|token| !token.is_empty() && token.chars().all(|c| c.is_ascii_graphic()));
        let endpoint = get("HF_ENDPOINT").unwrap_or_else(|| PUBLIC_HUB.to_owned());
        let endpoint = endpoint.trim().trim_end_matches('/').to_owned();
        if !(endpoint.starts_with("https://") || endpoint.starts_with("http://")) {
            return Err(Error::new("reading HF_ENDPOINT", "that is no address")
                .at(&endpoint)
                .help(format!("an address looks like {PUBLIC_HUB}")));
        }
        Ok(Self {
            endpoint,
            cache,
            token: token.map(Token),
            offline: is_true(get("HF_HUB_OFFLINE")) || is_true(get("TRANSFORMERS_OFFLINE")),
        })
    }
}

/// What the hub's own tools take for yes.
fn is_true(value: Option<String>) -> bool {
    value.is_some_and(|value| ["1", "ON", "YES", "TRUE"].contains(&value.to_uppercase().as_str()))
}

fn expand_home(path: &str, home: Option<&PathBuf>) -> PathBuf {
    match (path.strip_prefix("~"), home) {
        (Some(rest), Some(home)) if rest.is_empty() || rest.starts_with(['/', '\\']) => {
            home.join(rest.trim_start_matches(['/', '\\']))
        }
        _ => PathBuf::from(path),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn settings(variables: &[(&str, &str)]) -> HubSettings {
        HubSettings::from_variables(&|name| {
            let all = variables.iter().chain(&[("HOME", "/users/me")]);
            all.clone().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
        })
        .expect("settings")
    }

    #[test]
    fn the_variables_of_the_hubs_tools_say_where_everything_is() {
        let usual = settings(&[]);
        assert_eq!(usual.endpoint, "https://huggingface.co");
        assert_eq!(usual.cache, Path::new("/users/me/.cache/huggingface/hub"));
        assert!(usual.token.is_none() && !usual.offline);
        let cache = |variables: &[(&str, &str)]| settings(variables).cache;
        assert_eq!(cache(&[("XDG_CACHE_HOME", "/x")]), Path::new("/x/huggingface/hub"));
        assert_eq!(cache(&[("XDG_CACHE_HOME", "/x"), ("HF_HOME", "~/hf")]), Path::new("/users/me/hf/hub"));
        assert_eq!(cache(&[("HF_HOME", "/h"), ("HUGGINGFACE_HUB_CACHE", "/old")]), Path::new("/old"));
        assert_eq!(cache(&[("HF_HUB_CACHE", "/new"), ("HUGGINGFACE_HUB_CACHE", "/old")]), Path::new("/new"));
        assert_eq!(
            settings(&[("HF_ENDPOINT", "https://mirror.example/ ")]).endpoint,
            "https://mirror.example"
        );
        for yes in ["1", "on", "True", "YES"] {
            assert!(settings(&[("HF_HUB_OFFLINE", yes)]).offline);
        }
        assert!(!settings(&[("HF_HUB_OFFLINE", "0")]).offline);
        assert!(HubSettings::from_variables(&|n| (n == "HF_ENDPOINT").then(|| "ftp:/x".into())).is_err());
    }

    #[test]
    fn the_token_comes_from_the_variable_or_the_file_and_is_never_printed() {
        let folder = tempfile::tempdir().expect("temporary folder");
        std::fs::write(folder.path().join("token"), "hf_file\n").expect("writable");
        let home = folder.path().to_str().expect("UTF-8");
        let of_file = settings(&[("HF_HOME", home)]);
        assert_eq!(of_file.token.as_ref().map(Token::secret), Some("hf_file"));
        let of_variable = settings(&[("HF_HOME", home), ("HF_TOKEN", "hf_variable")]);
        assert_eq!(of_variable.token.as_ref().map(Token::secret), Some("hf_variable"));
        assert!(settings(&[("HF_HOME", home), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]).token.is_none());
        assert!(!format!("{of_file:?}").contains("hf_file"));
    }
}
