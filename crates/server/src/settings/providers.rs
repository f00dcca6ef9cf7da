//! `[providers.NAME]`: where models come from, and where their keys are.
//!
//! No key stands in the settings: they name files. What becomes of it is in [`crate::providers`].

use std::{borrow::Cow, collections::BTreeMap, path::PathBuf};

use boatyard_egress::gateway::{
    Api, Auth, Builtin, Credential, Fallback, Prices, Provider as Described,
};
use toml::Value;

use super::value::{Kind, Setting};

/// What the names of providers begin with that are scripts of Boatyard's own.
pub const DEMO: &str = "demo-";

super::table::section! {
    /// A provider of models. `anthropic`, `openai` and `gemini` are there without being named, with
    /// the keys in ANTHROPIC_API_KEY, OPENAI_API_KEY and GEMINI_API_KEY of the server's environment,
    /// if they are set. NAME is what an agent's `provider` says: small letters, digits, `-` and `_`.
    /// docs/providers.md tells more.
    Provider = "providers.NAME" {
        /// The file that holds the key and nothing else. It is read once, when the server starts,
        /// and goes before the variable. No workspace sees the key.
        key_file: Option<PathBuf> = None, example "\"/etc/boatyard/openai.key\"";
        /// Where it is, if not where the three are by themselves: `http://` or `https://`, as its
        /// clients are told it. An address inside of private networks is allowed by being written
        /// here. Needs no key if none is given.
        base_url: Option<String> = None, example "\"http://127.0.0.1:11434/v1\"";
        /// How it is spoken to: `anthropic`, `openai` (which many others speak), `gemini`, `bedrock`
        /// or `vertex`. Known for the first three; any other needs it.
        api: Option<Api> = None, example "\"openai\"";
        /// The models that it has, for agents that must be told (OpenCode): chosen as
        /// `compatible/<model>`.
        models: Vec<String> = Vec::new(), example "[\"qwen3-coder\"]";
        /// The connection that holds the credential, by its name or id: see `boatyard connection`.
        /// It goes before a file, and may be rotated while the server runs.
        connection: Option<String> = None, example "\"claude-team\"";
        /// What the credential is: `key`; `bearer`, a token that goes as one; `claude` or `chatgpt`,
        /// a subscription's; `aws`, an access key for Bedrock; `google`, the key of a service account
        /// for Vertex.
        auth: Option<String> = None, example "\"claude\"";
        /// Where in a cloud it is: needed for Bedrock, and for Vertex without a `base_url`.
        region: Option<String> = None, example "\"us-east-1\"";
        /// Who is asked where it answers 429 or 5xx, or can't be reached: `PROVIDER` or
        /// `PROVIDER:MODEL`, in this order. Nobody, if not said.
        fallback: Vec<String> = Vec::new(), example "[\"openai:gpt-5-mini\"]";
        /// What its models cost, in US dollars for a million tokens: goes before what Boatyard knows.
        /// A name may end with `*`.
        prices: Vec<String> = Vec::new(),
            example "[\"qwen3-* input=0.4 output=1.6 cache_read=0.04\"]";
        /// Where its tokens are renewed, if not where they are by themselves.
        token_url: Option<String> = None, example "\"https://auth.example.com/oauth/token\"";
    }
}

/// The protocols, for people.
const API: &str = "\"anthropic\", \"openai\", \"gemini\", \"bedrock\" or \"vertex\"";

impl Setting for Api {
    const KIND: Kind = Kind::Text;

    fn read(value: &Value) -> Result<Self, String> {
        value
            .as_str()
            .and_then(Self::from_name)
            .ok_or_else(|| format!("expected {API}, got {value}"))
    }

    fn show(&self) -> Option<Value> {
        Some(Value::String(self.as_str().to_owned()))
    }
}

impl Provider {
    /// How the provider of this name is spoken to, and where it is.
    ///
    /// # Errors
    /// What is missing, or can't be.
    pub(crate) fn place<'s>(&'s self, name: &str) -> Result<(Api, Cow<'s, str>), String> {
        let builtin = Builtin::from_name(name);
        if name.starts_with(DEMO) {
            return Err(format!("names that begin with `{DEMO}` are Boatyard's own"));
        }
        let api = match (self.api, builtin) {
            (Some(api), Some(builtin)) if api != builtin.api => {
                let known = builtin.api.as_str();
                return Err(format!("`{name}` speaks \"{known}\"; give this one another name"));
            }
            (Some(api), _) => api,
            (None, Some(builtin)) => builtin.api,
            (None, None) => {
                return Err(format!("it needs `api`: {API}"));
            }
        };
        let known = || self.in_cloud(api).map(Cow::Owned);
        let base_url = match (self.base_url.as_deref(), builtin) {
            (Some(base_url), _) => Cow::Borrowed(base_url),
            (None, Some(_)) if self.is_chatgpt() => Cow::Borrowed(CHATGPT),
            (None, Some(builtin)) => Cow::Borrowed(builtin.base_url),
            (None, None) => known().ok_or("it needs `base_url`, where it is")?,
        };
        Described::new(name, api, &base_url, Credential::NotNeeded)
            .map_err(|error| error.to_string())?;
        self.check(name)?;
        Ok((api, base_url))
    }

    fn is_chatgpt(&self) -> bool {
        self.auth.as_deref() == Some("chatgpt")
    }

    /// Where a cloud's own provider is, by the region.
    fn in_cloud(&self, api: Api) -> Option<String> {
        let region = self.region.as_deref()?;
        match (api, region) {
            (Api::Bedrock, region) => {
                Some(format!("https://bedrock-runtime.{region}.amazonaws.com"))
            }
            (Api::Vertex, "global") => Some("https://aiplatform.googleapis.com".to_owned()),
            (Api::Vertex, region) => Some(format!("https://{region}-aiplatform.googleapis.com")),
            _ => None,
        }
    }

    /// What can be seen to be wrong without the others.
    fn check(&self, name: &str) -> Result<(), String> {
        self.auth()?;
        self.prices()?;
        let is_region = |region: &str| {
            region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        if self.region.as_deref().is_some_and(|region| region.is_empty() || !is_region(region)) {
            return Err("`region` is none, as \"us-east-1\"".to_owned());
        }
        for fallback in self.fallbacks()? {
            if fallback.provider == name && fallback.model.is_none() {
                return Err(format!("its fallback `{name}` is itself; say another model"));
            }
        }
        Ok(())
    }

    /// What its credential is.
    ///
    /// # Errors
    /// When there is no such.
    pub(crate) fn auth(&self) -> Result<Auth, String> {
        match (&self.auth, self.api) {
            (Some(auth), _) => Auth::from_name(auth, self.region.as_deref()),
            (None, Some(Api::Bedrock)) => Auth::from_name("aws", self.region.as_deref()),
            (None, Some(Api::Vertex)) => Ok(Auth::Google),
            (None, _) => Ok(Auth::Key),
        }
    }

    /// What its models cost. Nobody pays for each token of a subscription.
    ///
    /// # Errors
    /// The first line that makes no sense.
    pub(crate) fn prices(&self) -> Result<Prices, String> {
        let prices = Prices::new(self.prices.iter().map(String::as_str))?;
        let is_flat = matches!(self.auth.as_deref(), Some("claude" | "chatgpt"));
        Ok(if is_flat && self.prices.is_empty() { Prices::free() } else { prices })
    }

    /// Who is asked in its place.
    ///
    /// # Errors
    /// The first that makes no sense.
    pub(crate) fn fallbacks(&self) -> Result<Vec<Fallback>, String> {
        self.fallback.iter().map(|text| Fallback::parse(text)).collect()
    }
}

/// Where ChatGPT's subscriptions are asked.
const CHATGPT: &str = "https://chatgpt.com/backend-api/codex";

/// Looks whether each fallback is a provider that speaks the same language.
///
/// # Errors
/// The provider with the first that is not, and why.
pub(super) fn check_fallbacks(
    providers: &BTreeMap<String, Provider>,
) -> Result<(), (String, String)> {
    let api_of = |name: &str| {
        let builtin = Builtin::from_name(name).map(|builtin| builtin.api);
        providers.get(name).map_or(builtin, |provider| provider.api.or(builtin))
    };
    for (name, provider) in providers {
        let wrong = |reason: String| (name.clone(), reason);
        for fallback in provider.fallbacks().map_err(wrong)? {
            let other = &fallback.provider;
            match (api_of(name), api_of(other)) {
                (_, None) => return Err(wrong(format!("its fallback `{other}` is no provider"))),
                (own, theirs) if own != theirs => {
                    let theirs = theirs.map_or("", Api::as_str);
                    return Err(wrong(format!(
                        "its fallback `{other}` speaks \"{theirs}\", which is another language"
                    )));
                }
                _ => {}
            }
        }
    }
    Ok(())
}
