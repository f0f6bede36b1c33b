//! Room `remote`: where a server is. Plain data; no key is ever in it.

use serde::{Deserialize, Serialize};
use ureq::http::Uri;

use crate::error::{Error, Result};

/// A server that answers instead of the engine of this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Server {
    /// What the user calls it.
    pub name: String,
    /// Where its interface begins, as [`address`] writes it: `https://host:port/v1`.
    pub base_url: String,
    /// A key for it is kept; where nobody has kept one, no keyring is asked.
    pub has_key: bool,
    /// Its models, as it listed them last.
    pub models: Vec<String>,
    /// What it runs on, as it said when it listed its models (`vllm`, `llamacpp`, …).
    pub software: Option<String>,
}

/// A server's model: where the answers of a chat come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerModel {
    /// The server's address.
    pub base_url: String,
    /// The model's name, as the server knows it.
    pub model: String,
}

impl Server {
    /// A server at an address, which is brought into its usual form.
    ///
    /// # Errors
    /// That is no address of a server.
    pub fn new(name: &str, base_url: &str) -> Result<Self> {
        let base_url = address(base_url)?;
        let name = name.trim();
        let name = if name.is_empty() { host_of(&base_url).to_owned() } else { name.to_owned() };
        Ok(Self { name, base_url, ..Self::default() })
    }

    /// The address of a part of its interface: `models`, `chat/completions`.
    #[must_use]
    pub fn endpoint(&self, part: &str) -> String {
        format!("{}/{part}", self.base_url.trim_end_matches('/'))
    }

    /// Is it known to go on with an answer that has begun? Others would begin a new one.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        self.software.as_deref().is_some_and(|software| ["vllm", "sglang", "llamacpp"].contains(&software))
    }

    /// Anyone on the way can read what is sent: no TLS, and not this machine.
    #[must_use]
    pub fn is_readable_on_the_way(&self) -> bool {
        self.base_url.starts_with("http://") && !is_here(&self.base_url)
    }
}

/// The host of an address, with its port.
#[must_use]
pub(super) fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

/// Is the address on this machine?
#[must_use]
pub(super) fn is_here(url: &str) -> bool {
    let host = host_of(url);
    let host = match host.strip_prefix('[').and_then(|v6| v6.split_once(']')) {
        Some((v6, _)) => v6,
        None => host.split(':').next().unwrap_or(host),
    };
    let address = host.parse::<std::net::IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// A server's address in its usual form, from what a person types: with or without `http://`, `/v1`, slashes at the end, or the
/// whole path of an endpoint.
///
/// # Errors
/// That is no address of a server, or it holds a name and password.
pub fn address(typed: &str) -> Result<String> {
    const DOING: &str = "reading the server's address";
    let bad = |why: &str| {
        // What stands before an @ may be a password.
        let shown = if typed.contains('@') { "…" } else { typed.trim() };
        Err(Error::new(DOING, why).at(shown).help("write it like https://server.example:8000/v1"))
    };
    let text = typed.trim();
    if text.is_empty() {
        return bad("it is empty");
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return bad("it has a space in it");
    }
    let text = match text.split_once("://") {
        Some((scheme, rest)) => format!("{}://{rest}", scheme.to_ascii_lowercase()),
        None if is_here(text) => format!("http://{text}"),
        None => format!("https://{text}"),
    };
    if text.contains(['?', '#']) {
        return bad("it goes on after a ? or #");
    }
    let Ok(uri) = text.parse::<Uri>() else { return bad("it is no address") };
    let (Some(scheme @ ("http" | "https")), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return bad("it is neither http nor https");
    };
    if authority.as_str().contains('@') {
        return bad("it has a name or password in it, and the key is kept elsewhere");
    }
    if authority.host().is_empty() {
        return bad("it names no host");
    }
    if authority.as_str().rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'))
        && authority.port_u16().is_none()
    {
        return bad("its port is no number up to 65535");
    }
    let mut path = uri.path().trim_end_matches('/');
    for endpoint in ["/chat/completions", "/completions", "/models"] {
        path = path.strip_suffix(endpoint).unwrap_or(path).trim_end_matches('/');
    }
    let is_version = |part: &str| {
        let mut letters = part.chars();
        letters.next() == Some('v') && letters.next().is_some_and(|c| c.is_ascii_digit())
    };
    let version = if path.split('/').any(is_version) { "" } else { "/v1" };
    Ok(format!("{scheme}://{}{path}{version}", authority.as_str().to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for (typed, meant) in [
            ("http://gpu.example:8000", "http://gpu.example:8000/v1"),
            (" https://GPU.example/v1/ ", "https://gpu.example/v1"),
            ("HTTPS://gpu.example//", "https://gpu.example/v1"),
            ("gpu.example", "https://gpu.example/v1"),
            ("localhost:1234", "http://localhost:1234/v1"),
            ("127.0.0.1:8080/v1", "http://127.0.0.1:8080/v1"),
            ("[::1]:8080", "http://[::1]:8080/v1"),
            ("http://[2001:db8::1]", "http://[2001:db8::1]/v1"),
            ("https://gpu.example/v1/chat/completions", "https://gpu.example/v1"),
            ("https://gpu.example/v1/models/", "https://gpu.example/v1"),
            ("https://gpu.example/api", "https://gpu.example/api/v1"),
            ("https://gpu.example/v1beta/openai", "https://gpu.example/v1beta/openai"),
        ] {
            assert_eq!(address(typed).unwrap(), meant, "{typed}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_and_a_password_in_it_is_not_repeated() {
        for typed in
            ["", "  ", "ftp://x", "http://", "http://a b", "https://x/v1?key=1", "http://x:99999", "::"]
        {
            assert!(address(typed).is_err(), "{typed}");
        }
        let error = address("https://me:secret@gpu.example").unwrap_err().to_string();
        assert!(error.contains("password") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn a_server_is_named_by_its_host_where_nobody_names_it() {
        assert_eq!(Server::new(" ", "gpu.example:8000").unwrap().name, "gpu.example:8000");
        let server = Server::new("Cluster", "http://gpu.example:8000/").unwrap();
        assert_eq!(server.endpoint("models"), "http://gpu.example:8000/v1/models");
        assert!(server.is_readable_on_the_way());
        for safe in ["http://127.0.0.1:1", "http://localhost", "http://[::1]:8", "https://gpu.example"] {
            assert!(!Server::new("", safe).unwrap().is_readable_on_the_way(), "{safe}");
        }
    }
}
