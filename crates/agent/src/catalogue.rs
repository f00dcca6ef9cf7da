//! The agents as data.
//!
//! [`Catalogue::builtin`] holds the entries of `catalogue.toml` (which documents the format);
//! [`Catalogue::with_settings`] lays the `[agents]` of the settings over them, key by key, so that a
//! custom agent is two lines and a built-in one can be changed in one. [`Entry::program`] makes of
//! an entry what a workspace runs; [`Catalogue::readiness`] says whether that would work, and what
//! mends it where not, before a workspace is made.

mod entry;

use std::collections::BTreeMap;

use boatyard_model::name::AgentName;

pub use boatyard_model::agent::{Capabilities, Steer, UsageScope};
pub(crate) use entry::replace_placeholders;
pub use entry::{
    Entry, HomeFile, Install, Modes, Package, Places, Program, PromptBy, Protocol, Show, TextStyle,
};

use crate::Error;

/// The entries that are part of the program.
const BUILTIN: &str = include_str!("catalogue.toml");

/// The agent that is there when no other is.
const FALLBACK: &str = "demo";

/// All known agents, by name.
#[derive(Debug, Clone, PartialEq)]
pub struct Catalogue {
    entries: BTreeMap<AgentName, Entry>,
}

/// What is known of this machine and installation.
pub trait Facts {
    /// Whether the packages of this entry are installed in its pinned versions.
    fn installed(&self, name: &AgentName, entry: &Entry) -> bool;
    /// Whether workspaces will find this program on their `PATH`.
    fn has_program(&self, program: &str) -> bool;
    /// Whether there is a key for this provider.
    fn has_key(&self, provider: &str) -> bool;
    /// Why there is none, and what mends it.
    fn no_key(&self, provider: &str) -> (String, String) {
        (
            format!("there is no key for {provider}"),
            format!("set [providers.{provider}] key_file in boatyard.toml and start again"),
        )
    }
}

/// Whether an agent can be used now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It can.
    Ready,
    /// It can't.
    NotReady {
        /// What is missing.
        need: Need,
        /// Why.
        reason: String,
        /// What mends it: a command, or a setting.
        mend: String,
    },
}

/// What an agent is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Its installation.
    Install,
    /// A program of this machine.
    Program,
    /// A key for its provider, or the provider.
    Key,
}

impl Readiness {
    /// Whether it can be used.
    pub const fn is_ready(&self) -> bool {
        matches!(self, Self::Ready)
    }
}

impl Catalogue {
    /// The agents that are part of Boatyard.
    pub fn builtin() -> Self {
        Self::read(builtin_tables()).expect("catalogue.toml is checked by a test")
    }

    /// The built-in agents under what `[agents]` of the settings says: a table of tables.
    ///
    /// # Errors
    /// [`Error::Entry`] with the agent's name when a key is unknown or a value makes no sense.
    pub fn with_settings(settings: &toml::Table) -> Result<Self, Error> {
        let mut tables = builtin_tables();
        for (name, value) in settings {
            let toml::Value::Table(over) = value else {
                return Err(Error::Entry {
                    agent: name.clone(),
                    reason: "expected a table, as in [agents.NAME]".into(),
                });
            };
            match tables.get_mut(name) {
                Some(toml::Value::Table(under)) => lay_over(under, over),
                _ => {
                    tables.insert(name.clone(), value.clone());
                }
            }
        }
        Self::read(tables)
    }

    /// Lays one more entry over these, key by key: a new agent, or changes to one of them. Nothing
    /// is changed when it makes no sense.
    ///
    /// # Errors
    /// [`Error::Entry`] as for [`Self::with_settings`].
    pub fn lay(&mut self, name: &str, over: &toml::Table) -> Result<(), Error> {
        let bad = |reason: String| Error::Entry { agent: name.to_owned(), reason };
        let under = name.parse::<AgentName>().ok().and_then(|name| self.entries.get(&name));
        let mut table = match under {
            Some(entry) => toml::Table::try_from(entry).map_err(|error| bad(error.to_string()))?,
            None => toml::Table::new(),
        };
        lay_over(&mut table, over);
        let one = Self::read(toml::Table::from_iter([(name.to_owned(), table.into())]))?;
        self.entries.extend(one.entries);
        Ok(())
    }

    fn read(tables: toml::Table) -> Result<Self, Error> {
        let mut entries = BTreeMap::new();
        for (name, value) in tables {
            let bad = |reason: String| Error::Entry { agent: name.clone(), reason };
            let parsed: AgentName =
                name.parse().map_err(|e: boatyard_model::name::NameError| bad(e.to_string()))?;
            let mut entry: Entry =
                value.try_into().map_err(|e: toml::de::Error| bad(e.message().to_owned()))?;
            entry.check().map_err(bad)?;
            if entry.title.is_empty() {
                entry.title = name.clone();
            }
            entries.insert(parsed, entry);
        }
        Ok(Self { entries })
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&AgentName, &Entry)> {
        self.entries.iter()
    }

    /// The entry of this name.
    ///
    /// # Errors
    /// [`Error::Unknown`] with the names that exist.
    pub fn get(&self, name: &AgentName) -> Result<&Entry, Error> {
        self.entries.get(name).ok_or_else(|| Error::Unknown {
            name: name.to_string(),
            known: self.entries.keys().map(AgentName::as_str).collect::<Vec<_>>().join(", "),
        })
    }

    /// Whether this agent can be used.
    ///
    /// # Errors
    /// [`Error::Unknown`] with the names that exist.
    pub fn readiness(&self, name: &AgentName, facts: &dyn Facts) -> Result<Readiness, Error> {
        let entry = self.get(name)?;
        let missing = match &entry.install {
            Install::BuiltIn => None,
            Install::Host { program } => (!facts.has_program(program)).then(|| {
                (
                    Need::Program,
                    format!("`{program}` is not on the PATH of workspaces"),
                    format!(
                        "install `{program}` below /usr on this machine, or name its folder under [tools] in boatyard.toml"
                    ),
                )
            }),
            Install::Npm(_) | Install::Pypi(_) => (!facts.installed(name, entry)).then(|| {
                (
                    Need::Install,
                    "it is not installed".to_owned(),
                    format!("run `boatyard agent install {name}`"),
                )
            }),
        };
        let missing = missing.or_else(|| {
            let provider = entry.provider.as_deref()?;
            (!facts.has_key(provider)).then(|| {
                let (reason, mend) = facts.no_key(provider);
                (Need::Key, reason, mend)
            })
        });
        Ok(match missing {
            None => Readiness::Ready,
            Some((need, reason, mend)) => Readiness::NotReady { need, reason, mend },
        })
    }

    /// The agent that is used where nobody named one: the first by rank that is ready, else `demo`.
    pub fn default_agent(&self, facts: &dyn Facts) -> AgentName {
        self.entries
            .iter()
            .filter_map(|(name, entry)| entry.rank.map(|rank| (rank, name)))
            .filter(|(_, name)| self.readiness(name, facts).is_ok_and(|r| r.is_ready()))
            .min()
            .map_or_else(fallback, |(_, name)| name.clone())
    }
}

/// The name of the built-in agent that always works.
pub fn fallback() -> AgentName {
    FALLBACK.parse().expect("a constant that a test parses")
}

fn builtin_tables() -> toml::Table {
    let mut file: toml::Table = BUILTIN.parse().expect("catalogue.toml is checked by a test");
    match file.remove("agents") {
        Some(toml::Value::Table(agents)) => agents,
        _ => toml::Table::new(),
    }
}

/// Puts every key of `over` into `under`; tables are merged, anything else is replaced.
fn lay_over(under: &mut toml::Table, over: &toml::Table) {
    for (key, value) in over {
        match (under.get_mut(key), value) {
            // Another source of installation has other keys: the old ones would be refused.
            (Some(toml::Value::Table(below)), toml::Value::Table(above))
                if above.get("from").is_none() =>
            {
                lay_over(below, above);
            }
            _ => {
                under.insert(key.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests;
