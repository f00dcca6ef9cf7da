//! Providers of models as the operator describes them.

use std::sync::Arc;

use percent_encoding::percent_decode_str;
use url::Url;

use super::{
    Parts,
    credential::{Grant, Managed},
    fault::Fault,
    prices::Prices,
    secret::Secret,
    usage::Dialect,
};
use crate::{Error, rules::Target, scripted::Scripted};

/// The longest name of a provider, in bytes.
const MAX_NAME: usize = 40;
/// The longest name of a model, in bytes.
const MAX_MODEL: usize = 200;

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
    /// Amazon's Bedrock, whose models speak their own protocols or Converse; requests are signed.
    Bedrock,
    /// Google's Vertex, where Gemini, Claude and others are, each in its own protocol.
    Vertex,
}

impl Api {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Anthropic, Self::OpenAi, Self::Gemini, Self::Bedrock, Self::Vertex];
    /// Those that the scripted provider speaks.
    pub const SCRIPTED: [Self; 3] = [Self::Anthropic, Self::OpenAi, Self::Gemini];

    /// Its name in settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::OpenAi => "openai",
            Self::Gemini => "gemini",
            Self::Bedrock => "bedrock",
            Self::Vertex => "vertex",
        }
    }

    /// The one of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|api| api.as_str() == name)
    }

    /// How answers to requests of this path tell what they used.
    pub(super) fn dialect(self, path: &str) -> Option<Dialect> {
        Some(match self {
            Self::Anthropic => Dialect::Anthropic,
            Self::OpenAi => Dialect::OpenAi,
            Self::Gemini if path.contains("/openai/") => Dialect::OpenAi,
            Self::Gemini => Dialect::Gemini,
            Self::Bedrock if path.contains("/converse") => Dialect::Converse,
            Self::Bedrock if path.contains("/openai/") => Dialect::OpenAi,
            Self::Bedrock => Dialect::Anthropic,
            Self::Vertex if path.contains("/publishers/google/") => Dialect::Gemini,
            Self::Vertex if path.contains("/openapi/") => Dialect::OpenAi,
            Self::Vertex => Dialect::Anthropic,
        })
    }

    /// The model that a path names: `…/models/<model>:method`, `/model/<model>/invoke`.
    pub(super) fn model_in(self, path: &str) -> Option<String> {
        let begin = match self {
            Self::Gemini | Self::Vertex => "/models/",
            Self::Bedrock => "/model/",
            Self::Anthropic | Self::OpenAi => return None,
        };
        let (_, rest) = path.split_once(begin)?;
        let part = rest.split('/').next().unwrap_or(rest);
        let part: String = percent_decode_str(part).decode_utf8().ok()?.into_owned();
        let model = match self {
            Self::Bedrock => &*part,
            _ => part.rsplit_once(':').map_or(&*part, |(model, _)| model),
        };
        let is_name = !model.is_empty() && model.len() <= MAX_MODEL;
        (is_name && !model.chars().any(char::is_control)).then(|| model.to_owned())
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
    /// What is read when it is needed, and kept fresh.
    Managed(Box<Managed>),
}

/// Who is asked where a provider has too much to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fallback {
    /// The provider's name.
    pub provider: String,
    /// The model to ask it for; none: the same.
    pub model: Option<String>,
}

impl Fallback {
    /// From `provider` or `provider:model`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (provider, model) = match text.split_once(':') {
            Some((provider, model)) => (provider, Some(model)),
            None => (text, None),
        };
        let is_model = |model: &str| {
            !model.is_empty()
                && model.len() <= MAX_MODEL
                && !model.contains(|c: char| c.is_control() || matches!(c, '"' | '\\' | '/'))
        };
        if provider.is_empty() || !model.is_none_or(is_model) {
            return Err(format!("`{text}` is not `PROVIDER` or `PROVIDER:MODEL`"));
        }
        Ok(Self { provider: provider.to_owned(), model: model.map(str::to_owned) })
    }
}

/// A provider of models.
#[derive(Debug)]
pub struct Provider {
    name: String,
    api: Api,
    base_url: Url,
    target: Target,
    credential: Kept,
    prices: Prices,
    fallback: Vec<Fallback>,
    /// Where it is not reached over a network.
    scripted: Option<Scripted>,
}

/// A credential as a provider has it.
#[derive(Debug)]
enum Kept {
    Fixed(Arc<Grant>),
    Missing,
    Managed(Box<Managed>),
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
        let credential = match credential {
            Credential::Key(key) => Kept::Fixed(Arc::new(Grant::key(key))),
            Credential::NotNeeded => Kept::Fixed(Arc::new(Grant::nothing())),
            Credential::Missing => Kept::Missing,
            Credential::Managed(managed) => Kept::Managed(managed),
        };
        let (name, scripted) = (name.to_owned(), None);
        let (prices, fallback) = (Prices::default(), Vec::new());
        Ok(Self { name, api, base_url, target, credential, prices, fallback, scripted })
    }

    /// The scripted provider in this process, reached at `/<name>/` as if it spoke `api` only.
    ///
    /// # Errors
    ///
    /// When the name is none.
    pub fn scripted(name: &str, api: Api, scripted: Scripted) -> Result<Self, Error> {
        // Nothing is dialled; requests have to name a host all the same.
        let provider = Self::new(name, api, "http://scripted.invalid", Credential::NotNeeded)?;
        Ok(Self { scripted: Some(scripted), prices: Prices::free(), ..provider })
    }

    /// The same with other prices than those that Boatyard knows.
    #[must_use]
    pub fn priced(self, prices: Prices) -> Self {
        Self { prices, ..self }
    }

    /// The same with others that are asked, in this order, where it has too much to do.
    #[must_use]
    pub fn falling_back(self, fallback: Vec<Fallback>) -> Self {
        Self { fallback, ..self }
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
        match &self.credential {
            Kept::Fixed(_) => true,
            Kept::Missing => false,
            Kept::Managed(managed) => managed.is_there(),
        }
    }

    /// The host and port that it is reached at; none for the scripted one.
    pub fn destination(&self) -> Option<(String, u16)> {
        let is_outside = self.scripted.is_none();
        is_outside.then(|| (self.target.host.to_string(), self.target.port))
    }

    /// Whether a key is added to what goes there.
    pub fn is_keyed(&self) -> bool {
        match &self.credential {
            Kept::Fixed(grant) => grant.is_something(),
            Kept::Missing => false,
            Kept::Managed(_) => true,
        }
    }

    /// What a person does to give it a key, or another.
    pub fn remedy(&self) -> String {
        match &self.credential {
            Kept::Managed(managed) => managed.remedy(),
            Kept::Fixed(_) | Kept::Missing => remedy(&self.name),
        }
    }

    pub(super) fn prices(&self) -> &Prices {
        &self.prices
    }

    pub(super) fn fallback(&self) -> &[Fallback] {
        &self.fallback
    }

    /// Whether nobody pays for it.
    pub(super) fn is_free(&self) -> bool {
        self.scripted.is_some()
    }

    /// Whether a request may have to be sent to it again, with another credential.
    pub(super) fn may_ask_again(&self) -> bool {
        matches!(self.credential, Kept::Managed(_))
    }

    /// What the next request goes with.
    pub(super) async fn grant(&self, parts: &Parts) -> Result<Arc<Grant>, Fault> {
        match &self.credential {
            Kept::Fixed(grant) => Ok(Arc::clone(grant)),
            Kept::Missing => {
                Err(Fault::NoKey { provider: self.name.clone(), remedy: self.remedy() })
            }
            Kept::Managed(managed) => managed.grant(parts).await.map_err(|why| Fault::NoGrant {
                provider: self.name.clone(),
                why: why.0,
                remedy: self.remedy(),
            }),
        }
    }

    /// Another than this one, which it refused; none if there is no other.
    pub(super) async fn another(
        &self,
        refused: &Arc<Grant>,
        parts: &Parts,
    ) -> Result<Option<Arc<Grant>>, Fault> {
        match &self.credential {
            Kept::Fixed(_) | Kept::Missing => Ok(None),
            Kept::Managed(managed) => managed.another(refused, parts).await.map_err(|why| {
                Fault::NoGrant { provider: self.name.clone(), why: why.0, remedy: self.remedy() }
            }),
        }
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
