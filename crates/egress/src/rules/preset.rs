//! Rules that come as a group: package registries, code hosts, providers of models.

use std::{collections::BTreeMap, sync::LazyLock};

use serde::Deserialize;

use super::{Rule, Target, text};
use crate::Error;

/// How deep presets may name others.
const DEPTH: usize = 3;

/// A named group of destinations.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// What it is, for people.
    pub title: String,
    /// What one should know before taking it.
    #[serde(default)]
    pub about: Option<String>,
    /// Its rules, each in a line.
    #[serde(default)]
    pub rules: Vec<String>,
    /// Other presets that it stands for.
    #[serde(default)]
    pub presets: Vec<String>,
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
        let mut rules = Vec::new();
        collect(name, DEPTH, &mut rules)?;
        Ok(rules)
    }

    /// Whether some preset looks into requests to a host.
    pub fn looks_into(target: &Target) -> bool {
        static LOOK: LazyLock<Vec<Rule>> = LazyLock::new(|| {
            let all = PRESETS.keys().filter_map(|name| Preset::rules(name).ok());
            all.flatten().filter(Rule::is_about_requests).collect()
        });
        LOOK.iter().any(|rule| rule.is_about_host(target))
    }

    /// Its rules in lines, with those of the presets that it stands for.
    pub fn lines(&self) -> Vec<&str> {
        let own = self.rules.iter().map(String::as_str);
        let others = self.presets.iter().filter_map(|name| PRESETS.get(name));
        own.chain(others.flat_map(Self::lines)).collect()
    }
}

fn collect(name: &str, depth: usize, rules: &mut Vec<Rule>) -> Result<(), Error> {
    let preset = PRESETS.get(name).ok_or_else(|| Error::UnknownPreset {
        name: name.chars().filter(|c| !c.is_control()).take(60).collect(),
    })?;
    let broken = |what: String| Error::BrokenPreset { name: name.to_owned(), what };
    for line in &preset.rules {
        let spec = text::parse_rule(line).map_err(|fault| broken(fault.to_string()))?;
        let made = text::compile(&format!("preset {name}"), &spec);
        rules.extend(made.map_err(|fault| broken(fault.to_string()))?);
    }
    for other in &preset.presets {
        if depth == 0 {
            return Err(broken("it names itself".to_owned()));
        }
        collect(other, depth - 1, rules)?;
    }
    Ok(())
}
