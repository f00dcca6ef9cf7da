//! Providers of models as the operator describes them.

use http::{HeaderName, HeaderValue, header};
use url::Url;

use super::{echo, secret::Secret};
use crate::{Error, rules::Target, scripted::Scripted};

/// The longest name of a provider, in bytes.
const MAX_NAME: usize = 40;

/// Whose protocol a provider speaks: it says where the key goes and what errors look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// Anthropic's Messages; the key goes as `x-api-key`.
    Anthropic,
    /// OpenAI's Responses and Chat Completions, and the many that speak them; the key goes as
    /// `authorization: Bearer`.
    OpenAi,
    /// Google's Gemini; the key goes as `x-goog-api-key`.
    Gemini,
}

impl Api {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Anthropic, Self::OpenAi, Self::Gemini];

    /// Its name in settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::OpenAi => "openai",
            Self::Gemini => "gemini",
        }
    }

    /// The one of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|api| api.as_str() == name)
    }
}

/// A provider that needs no setting but a key.
#[derive(Debug, Clone, Copy)]
pub struct Builtin {
    /// Its name, which is that of its protocol.
    pub api: Api,
    /// Where it is.
    pub base_url: &'static str,
    /// The variable in which people have its key.
    pub variable: &'static str,
}

impl Builtin {
    /// All of them.
    pub const ALL: [Self; 3] = [
        Self {
            api: Api::Anthropic,
            base_url: "https://api.anthropic.com",
            variable: "ANTHROPIC_API_KEY",
        },
        Self {
            api: Api::OpenAi,
            base_url: "https://api.openai.com/v1",
            variable: "OPENAI_API_KEY",
        },
        Self {
            api: Api::Gemini,
            base_url: "https://generativelanguage.googleapis.com",
            variable: "GEMINI_API_KEY",
        },
    ];

    /// The one of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|builtin| builtin.api.as_str() == name)
    }
}

/// What a provider is asked with.
#[derive(Debug)]
pub enum Credential {
    /// This key.
    Key(Secret),
    /// A key that nobody has set so far. Requests are answered with how to set it.
    Missing,
    /// Nothing: a server of the operator's own that asks for none.
    NotNeeded,
}

/// A provider of models.
#[derive(Debug)]
pub struct Provider {
    name: String,
    api: Api,
    base_url: Url,
    target: Target,
    credential: Credential,
    /// For finding the key in what comes back.
    echo: Box<[usize]>,
    /// Where it is not reached over a network.
    scripted: Option<Scripted>,
}

impl Provider {
    /// A provider that is reached at `/<name>/` and found at `base_url`, whose path comes before
    /// that of each request.
    ///
    /// # Errors
    ///
    /// When the name is not lower case letters, digits, `-` and `_`; the address is no plain
    /// `http://` or `https://` one, or holds a user name, query or fragment; or the key is one that
    /// no header can carry.
    pub fn new(
        name: &str,
        api: Api,
        base_url: &str,
        credential: Credential,
    ) -> Result<Self, Error> {
        let wrong = |what| Error::Provider { name: name.chars().take(MAX_NAME).collect(), what };
        let is_name = (1..=MAX_NAME).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
        if !is_name {
            return Err(wrong("has a name of other than a-z, 0-9, `-` and `_`"));
        }
        let base_url = Url::parse(base_url).map_err(|_| wrong("has a base_url that is no URL"))?;
        if !matches!(base_url.scheme(), "http" | "https") {
            return Err(wrong("has a base_url that is neither http:// nor https://"));
        }
        if !base_url.username().is_empty() || base_url.password().is_some() {
            return Err(wrong("has a user name in its base_url; the key goes into key_file"));
        }
        if base_url.query().is_some() || base_url.fragment().is_some() {
            return Err(wrong("has a query or fragment in its base_url"));
        }
        let target = base_url
            .host_str()
            .and_then(|host| host.parse().ok())
            .zip(base_url.port_or_known_default())
            .map(|(host, port)| Target { host, port })
            .ok_or_else(|| wrong("has a base_url without a host"))?;
        if let Credential::Key(key) = &credential
            && !key.is_key()
        {
            return Err(wrong("has a key that is empty or holds a character that no key has"));
        }
        let echo = match &credential {
            Credential::Key(key) => echo::table(key.expose()),
            Credential::Missing | Credential::NotNeeded => Box::default(),
        };
        let (name, scripted) = (name.to_owned(), None);
        Ok(Self { name, api, base_url, target, credential, echo, scripted })
    }

    /// The scripted provider in this process, reached at `/<name>/` as if it spoke `api` only.
    ///
    /// # Errors
    ///
    /// When the name is none.
    pub fn scripted(name: &str, api: Api, scripted: Scripted) -> Result<Self, Error> {
        // Nothing is dialled; requests have to name a host all the same.
        let provider = Self::new(name, api, "http://scripted.invalid", Credential::NotNeeded)?;
        Ok(Self { scripted: Some(scripted), ..provider })
    }

    /// Its name, the first part of each path.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its protocol.
    pub fn api(&self) -> Api {
        self.api
    }

    /// Whether a request could be made: it has a key, or needs none.
    pub fn is_ready(&self) -> bool {
        !matches!(self.credential, Credential::Missing)
    }

    /// What a person does to give it a key.
    pub fn remedy(&self) -> String {
        remedy(&self.name)
    }

    /// The key and [`echo::table`] of it, where it is one to look for in answers.
    pub(super) fn key(&self) -> Option<(&[u8], &[usize])> {
        let Credential::Key(key) = &self.credential else { return None };
        (!self.echo.is_empty()).then(|| (key.expose().as_bytes(), &*self.echo))
    }

    pub(super) fn in_process(&self) -> Option<&Scripted> {
        self.scripted.as_ref()
    }

    pub(super) fn is_tls(&self) -> bool {
        self.base_url.scheme() == "https"
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    pub(super) fn base_url(&self) -> &Url {
        &self.base_url
    }

    /// The path of the base address, without a slash at its end.
    pub(super) fn base_path(&self) -> &str {
        self.base_url.path().trim_end_matches('/')
    }

    /// What of a request's path comes below the base address.
    ///
    /// Clients of OpenAI's protocol are told a base address that ends with its version, which
    /// makes `/v1` part of what operators write (`http://localhost:11434/v1`) as well as of what
    /// agents ask for (`/<name>/v1/chat/completions`): it stands there once. Where the base address
    /// is a host alone, it is the agent's.
    pub(super) fn below<'p>(&self, path: &'p str) -> &'p str {
        if self.api != Api::OpenAi || self.base_path().is_empty() {
            return path;
        }
        match path.strip_prefix("/v1") {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => rest,
            _ => path,
        }
    }

    /// `host` or `host:port`, as a `Host` header has it.
    pub(super) fn authority(&self) -> String {
        match self.base_url.port() {
            Some(_) => self.target.to_string(),
            None => self.target.host.to_string(),
        }
    }

    /// The header that carries the key; none where none is needed or there.
    pub(super) fn authorization(&self) -> Option<(HeaderName, HeaderValue)> {
        let Credential::Key(key) = &self.credential else { return None };
        let key = key.expose();
        let (name, value) = match self.api {
            Api::Anthropic => (HeaderName::from_static("x-api-key"), HeaderValue::try_from(key)),
            Api::OpenAi => (header::AUTHORIZATION, HeaderValue::try_from(format!("Bearer {key}"))),
            Api::Gemini => (HeaderName::from_static("x-goog-api-key"), HeaderValue::try_from(key)),
        };
        // A key was seen to fit when the provider was made.
        let mut value = value.ok()?;
        value.set_sensitive(true);
        Some((name, value))
    }
}

/// What a person does to give a provider of this name a key.
fn remedy(name: &str) -> String {
    let variable = Builtin::from_name(name).map(|builtin| builtin.variable);
    let variable = variable
        .map(|variable| format!("set {variable} in the server's environment, or "))
        .unwrap_or_default();
    format!(
        "{variable}name a file that holds it as `key_file` in [providers.{name}] of \
         boatyard.toml, and start the server again"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_be_used_is_refused_and_no_key_is_repeated() {
        let check = |name: &str, url: &str, key: &str, expected: Option<&str>| {
            let key = Credential::Key(Secret::new(key.to_owned()));
            match (Provider::new(name, Api::OpenAi, url, key), expected) {
                (Ok(provider), None) => {
                    assert!(!format!("{provider:?}").contains("hidden"));
                }
                (Err(error), Some(expected)) => {
                    let shown = format!("{error} {error:?}");
                    assert!(shown.contains(expected), "{shown}");
                    assert!(!shown.contains("hidden"), "{shown}");
                }
                (other, _) => panic!("{name} {url}: {other:?}"),
            }
        };
        check("openai", "https://api.openai.com", "sk-hidden\n", None);
        check("my_own-2", "http://127.0.0.1:11434/base/", "hidden", None);
        check("", "https://x.example", "hidden", Some("a name of other"));
        check("a/b", "https://x.example", "hidden", Some("a name of other"));
        check("a", "x.example", "hidden", Some("no URL"));
        check("a", "ftp://x.example", "hidden", Some("neither"));
        check("a", "https://me:hidden@x.example", "hidden", Some("user name"));
        check("a", "https://x.example/?key=hidden", "hidden", Some("query"));
        check("a", "https://x.example", "hid\nhidden", Some("character"));
        check("a", "https://x.example", " ", Some("empty"));
    }
}
