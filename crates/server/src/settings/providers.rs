//! `[providers.NAME]`: where models come from, and where their keys are.
//!
//! No key stands in the settings: they name files. What becomes of it is in [`crate::providers`].

use std::path::PathBuf;

use boatyard_egress::gateway::{Api, Builtin, Credential, Provider as Described};
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
        /// How it is spoken to: `anthropic`, `openai` (which many others speak) or `gemini`. Known
        /// for the three; any other needs it.
        api: Option<Api> = None, example "\"openai\"";
        /// The models that it has, for agents that must be told (OpenCode): chosen as
        /// `compatible/<model>`.
        models: Vec<String> = Vec::new(), example "[\"qwen3-coder\"]";
    }
}

impl Setting for Api {
    const KIND: Kind = Kind::Text;

    fn read(value: &Value) -> Result<Self, String> {
        value
            .as_str()
            .and_then(Self::from_name)
            .ok_or_else(|| format!("expected \"anthropic\", \"openai\" or \"gemini\", got {value}"))
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
    pub(crate) fn place<'s>(&'s self, name: &str) -> Result<(Api, &'s str), String> {
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
                return Err("it needs `api`: \"anthropic\", \"openai\" or \"gemini\"".to_owned());
            }
        };
        let base_url = self.base_url.as_deref().or(builtin.map(|builtin| builtin.base_url));
        let base_url = base_url.ok_or("it needs `base_url`, where it is")?;
        Described::new(name, api, base_url, Credential::NotNeeded)
            .map_err(|error| error.to_string())?;
        Ok((api, base_url))
    }
}
