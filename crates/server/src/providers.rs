//! The providers of models, with their keys.
//!
//! ```text
//! [providers.NAME] key_file ──┐
//!                             ├─► Providers ─► the gateway of the hub, which alone has the keys
//! ANTHROPIC_API_KEY, … ───────┘
//! ```
//!
//! Keys are read once, at the start, by a process that is still allowed to read their files, and
//! variables are taken out of the environment before anything else is started. A key is a
//! [`Secret`]: it can't be printed.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
};

pub use boatyard_egress::gateway::Builtin;
use boatyard_egress::gateway::{
    Api, Auth, Credential, FileSource, KeyFileError, Managed, Provider, Readers, Secret, Source,
};

use crate::{
    connections::{Connections, Lent},
    settings::{self, Settings, providers::DEMO},
};

/// Where a workspace finds the gateway.
pub const GATEWAY: &str = "http://127.0.0.1:7080";
/// The model that stands for the scripted provider, which needs no key.
pub const DEMO_MODEL: &str = "demo";

/// Keys that stood in variables, by the variable.
#[derive(Debug, Default)]
pub struct Variables(BTreeMap<&'static str, Secret>);

impl Variables {
    /// Takes the variable of each provider that has one. An empty one counts as not set.
    ///
    /// # Errors
    /// Those of `take`.
    pub fn take<E>(mut take: impl FnMut(&str) -> Result<Option<OsString>, E>) -> Result<Self, E> {
        let mut taken = BTreeMap::new();
        for builtin in Builtin::ALL {
            let Some(value) = take(builtin.variable)? else { continue };
            // What is no text is no key either; that is said when it would be used.
            let secret = Secret::new(value.into_string().unwrap_or_else(|_| "\u{fffd}".to_owned()));
            if !secret.is_empty() {
                taken.insert(builtin.variable, secret);
            }
        }
        Ok(Self(taken))
    }

    /// The variables that were set.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.keys().copied()
    }
}

/// Why a key can't be taken. What was found in its place is not repeated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file gives no key.
    #[error("[providers.{name}] key_file: {}", .path.display())]
    File {
        /// Whose.
        name: String,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: KeyFileError,
    },
    /// A variable holds none.
    #[error("{0} holds more than one line, or a character that no key has")]
    Variable(&'static str),
    /// A provider that can't be. The settings were seen to be valid, so this is not expected.
    #[error(transparent)]
    Provider(#[from] boatyard_egress::Error),
}

/// The providers that there are.
#[derive(Debug)]
pub struct Providers {
    list: Vec<Provider>,
    /// Those whose credentials are connections, which are not open yet when files are read.
    lent: Vec<ByConnection>,
    /// What is odd but harmless, a sentence each.
    pub warnings: Vec<String>,
}

/// A provider that is asked with what a connection holds.
#[derive(Debug)]
struct ByConnection {
    name: String,
    api: Api,
    base_url: String,
    connection: String,
    described: settings::Provider,
}

/// A provider as the settings have it, beside its credential.
fn finished(
    name: &str,
    api: Api,
    base_url: &str,
    credential: Credential,
    described: Option<&settings::Provider>,
) -> Result<Provider, boatyard_egress::Error> {
    let provider = Provider::new(name, api, base_url, credential)?;
    // The settings were seen to be valid.
    let prices = described.and_then(|one| one.prices().ok()).unwrap_or_default();
    let fallback = described.and_then(|one| one.fallbacks().ok()).unwrap_or_default();
    Ok(provider.priced(prices).falling_back(fallback))
}

/// A credential that comes from `source`, used as the settings say.
fn managed(described: &settings::Provider, source: Arc<dyn Source>) -> Credential {
    let auth = described.auth().unwrap_or(Auth::Key);
    let managed = Managed::new(auth, source).renewed_at(described.token_url.clone());
    Credential::Managed(Box::new(managed))
}

impl Default for Providers {
    /// Those that are built in, without a key.
    fn default() -> Self {
        Self::read(&Settings::default(), Variables::default()).unwrap_or_else(|error| {
            unreachable!("a provider that is built in is none: {error}");
        })
    }
}

impl Providers {
    /// Those of the settings and those that are built in, with the keys of their files, or of
    /// `variables`.
    ///
    /// # Errors
    /// When a key that should be there is none.
    pub fn read(settings: &Settings, mut variables: Variables) -> Result<Self, Error> {
        let (mut list, mut lent) = (Vec::new(), Vec::new());
        let mut warnings = Vec::new();
        for name in names(settings) {
            let described = settings.providers.get(name);
            let builtin = Builtin::from_name(name);
            let place = described.and_then(|described| described.place(name).ok());
            let known = builtin.map(|builtin| (builtin.api, builtin.base_url.into()));
            let Some((api, base_url)) = place.or(known) else {
                continue;
            };
            let named = described.and_then(|one| Some((one, one.connection.as_deref()?)));
            if let Some((described, connection)) = named {
                lent.push(ByConnection {
                    name: name.to_owned(),
                    api,
                    base_url: base_url.into_owned(),
                    connection: connection.to_owned(),
                    described: described.clone(),
                });
                continue;
            }
            let file = described.and_then(|one| Some((one, one.key_file.as_deref()?)));
            if let Some((described, path)) = file {
                let auth = described.auth().unwrap_or(Auth::Key);
                let read = read_file(name, path, &auth, &mut warnings)?;
                let source = Arc::new(FileSource::new(path, &auth, read));
                let credential = managed(described, source);
                list.push(finished(name, api, &base_url, credential, Some(described))?);
                continue;
            }
            let variable = builtin.map(|builtin| builtin.variable);
            let key = variable.and_then(|variable| variables.0.remove(variable));
            let is_elsewhere = described.is_some_and(|described| described.base_url.is_some());
            let credential = match (key, variable) {
                (Some(key), Some(variable)) if !key.is_key() => {
                    // A file's was looked at when it was read.
                    return Err(Error::Variable(variable));
                }
                (Some(key), _) => Credential::Key(key),
                (None, _) if is_elsewhere => Credential::NotNeeded,
                (None, _) => Credential::Missing,
            };
            list.push(finished(name, api, &base_url, credential, described)?);
        }
        Ok(Self { list, lent, warnings })
    }

    /// All of them, with what these connections hold, and beside them the scripted ones, one for
    /// each protocol.
    ///
    /// # Errors
    /// None is expected: the names are good.
    pub(crate) fn with_demo(
        self,
        connections: Option<&Connections>,
    ) -> Result<Vec<Provider>, boatyard_egress::Error> {
        use boatyard_egress::scripted;
        let mut list = self.list;
        for ByConnection { name, api, base_url, connection, described } in self.lent {
            let credential = match connections {
                Some(connections) => {
                    managed(&described, Arc::new(Lent::new(connections.clone(), &connection)))
                }
                None => Credential::Missing,
            };
            list.push(finished(&name, api, &base_url, credential, Some(&described))?);
        }
        let demo = scripted::service(scripted::Settings::default());
        for api in Api::SCRIPTED {
            list.push(Provider::scripted(&demo_of(api), api, demo.clone())?);
        }
        Ok(list)
    }
}

/// The scripted provider that speaks a protocol.
pub(crate) fn demo_of(api: Api) -> String {
    format!("{DEMO}{}", api.as_str())
}

/// The providers that are built in, and those of the settings.
pub(crate) fn names(settings: &Settings) -> impl Iterator<Item = &str> {
    let others = settings.providers.keys().map(String::as_str);
    let builtin = Builtin::ALL.iter().map(|builtin| builtin.api.as_str());
    builtin.chain(others.filter(|name| Builtin::from_name(name).is_none()))
}

fn read_file(
    name: &str,
    path: &Path,
    auth: &Auth,
    warnings: &mut Vec<String>,
) -> Result<Secret, Error> {
    let read = match auth.is_document() {
        true => Secret::document_from_file(path),
        false => Secret::from_file(path),
    };
    let (key, readers) = read.map_err(|source| Error::File {
        name: name.to_owned(),
        path: path.to_owned(),
        source,
    })?;
    if readers == Readers::Everybody {
        let path = path.display();
        warnings.push(format!(
            "every account of this machine can read {path}, the key of `{name}`; close it by \
             `chmod 600 {path}`"
        ));
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Sources;

    fn read(file: &str, variables: &[(&str, &str)]) -> Result<Providers, String> {
        let sources =
            Sources { file: Some(("boatyard.toml".into(), file.to_owned())), ..Sources::default() };
        let settings = sources.resolve().map_err(|error| error.to_string())?.settings;
        let variables = Variables::take(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            Ok::<_, std::convert::Infallible>(found.map(|(_, value)| OsString::from(value)))
        });
        let Ok(variables) = variables;
        Providers::read(&settings, variables).map_err(|error| crate::chain(&error))
    }

    /// The providers that are ready, or the error.
    fn check(file: &str, variables: &[(&str, &str)], expected: &str) {
        let got = match read(file, variables) {
            Ok(providers) => {
                assert!(!format!("{providers:?}").contains("hidden"));
                let ready = providers.list.iter().filter(|provider| provider.is_ready());
                ready.map(Provider::name).collect::<Vec<_>>().join(" ")
            }
            Err(error) => error,
        };
        assert!(!got.contains("hidden"), "{got}");
        assert_eq!(got, expected, "{file}");
    }

    #[test]
    fn a_provider_is_ready_with_a_key_or_where_none_is_needed() {
        check("", &[], "");
        check("", &[("OPENAI_API_KEY", "sk-hidden\n"), ("GEMINI_API_KEY", "")], "openai");
        check(
            "",
            &[("ANTHROPIC_API_KEY", "sk hidden")],
            "ANTHROPIC_API_KEY holds more than one line, or a character that no key has",
        );
        let local = "base_url = \"http://127.0.0.1:11434/v1\"";
        check(&format!("[providers.local]\napi = \"openai\"\n{local}"), &[], "local");
        check(&format!("[providers.openai]\n{local}"), &[], "openai");
        check(
            &format!("[providers.local]\n{local}"),
            &[],
            "boatyard.toml:2: `providers.local`: it needs `api`: \"anthropic\", \"openai\", \"gemini\", \"bedrock\" or \"vertex\"",
        );
        check(
            "[providers.local]\napi = \"openai\"",
            &[],
            "boatyard.toml:2: `providers.local`: it needs `base_url`, where it is",
        );
        check(
            "[providers.openai]\napi = \"gemini\"",
            &[],
            "boatyard.toml:2: `providers.openai`: `openai` speaks \"openai\"; give this one another name",
        );
        check(
            "[providers.demo-x]\napi = \"gemini\"",
            &[],
            "boatyard.toml:2: `providers.demo-x`: names that begin with `demo-` are Boatyard's own",
        );
        check(
            "[providers.openai]\nbase_url = \"localhost\"",
            &[],
            "boatyard.toml:2: `providers.openai`: the model provider `openai` has a base_url that is no URL",
        );
        check(
            "[providers.openai]\nkey = \"sk-hidden\"",
            &[],
            "boatyard.toml:2: `key` in [providers.openai] is not a setting; did you mean `key_file`?",
        );
        check(
            "[providers.openai]\nkey_file = \"/nowhere/key\"",
            &[("OPENAI_API_KEY", "sk-hidden")],
            "[providers.openai] key_file: /nowhere/key: it can't be read: No such file or directory (os error 2)",
        );
    }

    #[test]
    fn a_file_goes_before_the_variable_and_is_told_of_when_it_is_open() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        std::fs::write(&file, "sk-hidden\n").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        let text = format!("[providers.openai]\nkey_file = \"{}\"", file.display());
        // The variable would be refused.
        let providers = read(&text, &[("OPENAI_API_KEY", "sk hidden")]).unwrap();
        assert_eq!(providers.list.iter().filter(|provider| provider.is_ready()).count(), 1);
        assert_eq!(providers.warnings.len(), 1);
        assert!(providers.warnings[0].contains("`chmod 600 "), "{:?}", providers.warnings);
    }
}
