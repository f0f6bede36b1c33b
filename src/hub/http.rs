//! Room `hub`: requests, and what can go wrong with them in words that a person can act on.

use std::io;
use std::time::Duration;

use ureq::http::Response;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::settings::HubSettings;
use crate::error::Error;

/// Until a connection stands.
const CONNECT: Duration = Duration::from_secs(20);
/// A connection that is silent for so long is given up.
const SILENCE: Duration = Duration::from_secs(30);

const MOST_REDIRECTS: usize = 10;

/// Where a redirection from `address` leads; never from an encrypted connection to one in the open.
fn resolve(address: &str, location: &str) -> Option<String> {
    let (scheme, rest) = address.split_once("://")?;
    let host = rest.split('/').next()?;
    let next = if let Some(path) = location.strip_prefix("//") {
        format!("{scheme}://{path}")
    } else if location.starts_with('/') {
        format!("{scheme}://{host}{location}")
    } else {
        location.to_owned()
    };
    let is_open = next.starts_with("http://");
    (next.starts_with("https://") || is_open && scheme == "http").then_some(next)
}

/// What a failed request is good for.
#[derive(Debug)]
pub(super) enum Failure {
    /// Trying again may help, at the earliest after this time.
    Passing(Error, Option<Duration>),
    /// It will not.
    Final(Error),
}

impl Failure {
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::Passing(error, _) | Self::Final(error) => error,
        }
    }
}

/// Asks the hub; follows it to where it keeps its files, but takes the token to no other host.
#[derive(Clone, Debug)]
pub(super) struct Client {
    agent: Agent,
    settings: HubSettings,
}

impl Client {
    pub(super) fn new(settings: &HubSettings) -> Self {
        let config = Agent::config_builder()
            .user_agent(concat!("ocelli/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            // Followed here: the token must not go to another port either.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .accept_encoding("identity")
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .input_buffer_size(256 << 10)
            .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build());
        Self { agent: config.build().new_agent(), settings: settings.clone() }
    }

    /// Ends what is under way, and refuses what comes after.
    pub(super) fn shut_down(&self) {
        self.agent.clone().shutdown();
    }

    /// Asks for `path` on the hub, perhaps for the bytes from `first` to `last` only. `doing` and `what` are for errors.
    pub(super) fn get(
        &self,
        path: &str,
        range: Option<(u64, u64)>,
        doing: &str,
        what: &str,
    ) -> Result<Response<Body>, Failure> {
        let mut address = format!("{}{path}", self.settings.endpoint);
        for _ in 0..MOST_REDIRECTS {
            let mut request = self.agent.get(&address);
            if let Some(token) = self.settings.token.as_ref().filter(|_| self.is_hub(&address)) {
                request = request.header("authorization", format!("Bearer {}", token.secret()));
            }
            if let Some((first, last)) = range {
                request = request.header("range", format!("bytes={first}-{last}"));
            }
            let response = match request.call() {
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response) => response,
                Err(error) => return Err(self.failed(error, doing, what)),
            };
            let location = response.headers().get("location").and_then(|value| value.to_str().ok());
            match location.filter(|_| response.status().is_redirection()).map(|to| resolve(&address, to)) {
                Some(Some(next)) => address = next,
                Some(None) => {
                    let error = Error::new(
                        doing,
                        "the hub sends us to an address that is none, or to one without encryption",
                    );
                    return Err(Failure::Final(error.at(what)));
                }
                None => return Err(self.refused(&response, doing, what)),
            }
        }
        Err(Failure::Final(Error::new(doing, "the hub sends us in circles").at(what)))
    }

    /// Scheme, host and port are the hub's own.
    fn is_hub(&self, address: &str) -> bool {
        address
            .strip_prefix(self.settings.endpoint.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
    }

    /// What the hub's answer means.
    fn refused(&self, response: &Response<Body>, doing: &str, what: &str) -> Failure {
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let status = response.status();
        let code = header("x-error-code").unwrap_or("");
        let said = header("x-error-message")
            .map(|words| format!("; it says: {}", words.chars().take(300).collect::<String>()))
            .unwrap_or_default();
        let error =
            |cause: &str| Error::new(doing, format!("{cause} (HTTP {}{said})", status.as_u16())).at(what);
        let host = &self.settings.endpoint;
        let with_token = self.settings.token.is_some();
        match (status.as_u16(), code) {
            (_, "GatedRepo") | (403, _) if code != "RepoNotFound" => Failure::Final(if with_token {
                error("the hub does not let this account have it")
                    .help(format!("ask for access on the model's page at {host}, then try again"))
            } else {
                error("the hub gives it only to those who have asked for access").help(format!(
                    "ask for access on the model's page at {host}, make a token in your settings there, and set HF_TOKEN to it"
                ))
            }),
            (_, "RevisionNotFound") => Failure::Final(
                error("the repository has no such revision").help("leave the revision out for the newest"),
            ),
            (_, "EntryNotFound") => Failure::Final(error("the repository has no such file any more")),
            (401, _) => Failure::Final(if with_token {
                error("there is no such repository, or the token may not see it")
                    .help("check the name, and the token in HF_TOKEN or from `hf auth login`")
            } else {
                error("there is no such repository, or it is not public")
                    .help("check the name; for a private or gated one set HF_TOKEN to a token of yours")
            }),
            (404, _) => Failure::Final(
                error("the hub has no such thing")
                    .help(format!("check the name and the address of the hub, {host}")),
            ),
            (407, _) => Failure::Final(
                error("the proxy wants a name and a password")
                    .help("put them into HTTPS_PROXY: http://name:password@proxy:port"),
            ),
            (416, _) => Failure::Final(error("the hub's file is shorter than it said")),
            (429, _) => {
                let wait =
                    header("retry-after").and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
                Failure::Passing(
                    error("the hub asks for patience: too many requests").help("wait a while, then go on"),
                    wait,
                )
            }
            (408 | 425 | 500.., _) => Failure::Passing(
                error("the hub is in trouble").help("try again later; what has come is kept"),
                None,
            ),
            _ => Failure::Final(error("the hub refuses")),
        }
    }

    /// What it means that there is no answer.
    fn failed(&self, failure: ureq::Error, doing: &str, what: &str) -> Failure {
        let proxy = self.agent.config().proxy().map(|proxy| format!("{}:{}", proxy.host(), proxy.port()));
        let way = proxy.map_or_else(String::new, |proxy| format!(" through the proxy {proxy}"));
        let host = &self.settings.endpoint;
        let error = |cause: String| Error::new(doing, cause).at(what);
        let offline = "check the network connection; what has come is kept, and HF_ENDPOINT and HTTPS_PROXY are honoured";
        match failure {
            ureq::Error::HostNotFound => {
                Failure::Passing(error(format!("there is no way to {host}{way}: its name is unknown here")).help(offline), None)
            }
            ureq::Error::Io(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
                Failure::Passing(error(format!("{host} does not answer{way}: {e}")).help(offline), None)
            }
            ureq::Error::Timeout(_) => Failure::Passing(
                error(format!("{host} has been silent for too long{way}")).help(offline),
                None,
            ),
            ureq::Error::Io(e) => Failure::Passing(error(format!("the connection to {host}{way} broke: {e}")).help(offline), None),
            ureq::Error::ConnectionFailed | ureq::Error::ConnectProxyFailed(_) => {
                Failure::Passing(error(format!("no connection to {host}{way}: {failure}")).help(offline), None)
            }
            ureq::Error::Rustls(_) | ureq::Error::Tls(_) => Failure::Final(
                error(format!("{host} cannot be trusted{way}: {failure}"))
                    .help("check this machine's clock and its certificates; a company's proxy may need its own certificate installed"),
            ),
            ureq::Error::InvalidProxyUrl => {
                Failure::Final(error("the proxy's address cannot be read".to_owned()).help("check HTTPS_PROXY"))
            }
            other => Failure::Passing(error(format!("the answer of {host}{way} makes no sense: {other}")), None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirections_are_followed_but_never_out_of_encryption() {
        let to = |location| resolve("https://hub.example/a/b", location);
        assert_eq!(to("/c?d").as_deref(), Some("https://hub.example/c?d"));
        assert_eq!(to("//cdn.example/c").as_deref(), Some("https://cdn.example/c"));
        assert_eq!(to("https://cdn.example/c").as_deref(), Some("https://cdn.example/c"));
        assert_eq!(to("http://cdn.example/c"), None);
        assert_eq!(to("file:///etc/passwd"), None);
    }

    #[test]
    fn the_token_is_for_the_hub_alone() {
        let get = |name: &str| (name == "HF_ENDPOINT").then(|| "https://hub.example".to_owned());
        let client = Client::new(&HubSettings::from_variables(&get).expect("settings"));
        assert!(client.is_hub("https://hub.example/a") && client.is_hub("https://hub.example"));
        for other in ["https://hub.example.evil/a", "https://hub.example:8443/a", "http://hub.example/a"] {
            assert!(!client.is_hub(other), "{other}");
        }
    }
}
