//! Rules that come as a group: the package registries.

use std::{collections::BTreeMap, sync::LazyLock};

use serde::Deserialize;

use super::{HostPattern, Ports, Rule};
use crate::Error;

/// A named group of destinations.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// What it is, for people.
    pub title: String,
    hosts: Vec<String>,
    ports: Vec<u16>,
}

static PRESETS: LazyLock<BTreeMap<String, Preset>> = LazyLock::new(|| {
    match toml::from_str(include_str!("presets.toml")) {
        Ok(presets) => presets,
        // A test reads every one of them.
        Err(error) => unreachable!("the presets are part of this program: {error}"),
    }
});

impl Preset {
    /// All there are, by name.
    pub fn all() -> &'static BTreeMap<String, Self> {
        &PRESETS
    }

    /// The rules of the preset with this name, each named `preset npm` and the like.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownPreset`].
    pub fn rules(name: &str) -> Result<Vec<Rule>, Error> {
        let preset =
            PRESETS.get(name).ok_or_else(|| Error::UnknownPreset { name: name.to_owned() })?;
        preset
            .hosts
            .iter()
            .map(|host| {
                let host: HostPattern = host.parse()?;
                Ok(Rule::new(format!("preset {name}"), host, Ports::from(&preset.ports[..])))
            })
            .collect()
    }

    /// The host patterns of this preset.
    pub fn hosts(&self) -> &[String] {
        &self.hosts
    }
}
