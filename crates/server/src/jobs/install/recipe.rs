//! What an installation is made of: packages of one source, pinned, and how they are put together.
//!
//! The text of a [`Recipe`] is what tells whether two installations are the same. A recipe is also
//! all that its job needs to know, so that a job that is begun again does the same.

use boatyard_agent::catalogue::{Entry, Install};
use serde::{Deserialize, Serialize};

/// The Node that Boatyard brings where an agent asks for a major version, the newest first.
const NODES: &[(&str, &str)] = &[("22", "22.23.3")];
/// The longest name and version of a package.
const PACKAGE_MAX: usize = 300;
/// The most packages of one agent.
const PACKAGES_MAX: usize = 20;

/// Where packages come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// npm.
    Npm,
    /// PyPI.
    Pypi,
}

/// What an installation is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    /// Where the packages come from.
    pub source: Source,
    /// `name@version` each; the first is the agent.
    pub packages: Vec<String>,
    /// Optional dependencies are left out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub omit_optional: bool,
    /// The version of Node, for an agent that runs on one that Boatyard brings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

impl Recipe {
    /// What an entry pins, with other versions of its packages, or further packages.
    ///
    /// # Errors
    /// The package that is not pinned or has no name that a package may have.
    pub fn of(entry: &Entry, over: &[String]) -> Result<Option<Self>, String> {
        let (source, package) = match &entry.install {
            Install::Npm(package) => (Source::Npm, package),
            Install::Pypi(package) => (Source::Pypi, package),
            Install::BuiltIn | Install::Host { .. } => return Ok(None),
        };
        let mut recipe = Self {
            source,
            packages: package.specs(),
            omit_optional: package.omit_optional,
            node: node_of(entry),
        };
        for wanted in over {
            let (name, _) = parse_package(wanted)?;
            let same = |known: &&mut String| {
                known.rsplit_once('@').is_some_and(|(known, _)| known == name)
            };
            match recipe.packages.iter_mut().find(same) {
                Some(known) => wanted.clone_into(known),
                None => recipe.packages.push(wanted.clone()),
            }
        }
        for package in &recipe.packages {
            parse_package(package)?;
        }
        if recipe.packages.len() > PACKAGES_MAX {
            return Err(format!("more than {PACKAGES_MAX} packages"));
        }
        Ok(Some(recipe))
    }

    /// A Node of this version.
    pub fn node(version: &str) -> Self {
        Self {
            source: Source::Npm,
            packages: vec![format!("node@{version}")],
            omit_optional: false,
            node: None,
        }
    }

    /// What tells it from others, and what it is read from again.
    pub fn text(&self) -> String {
        serde_json::to_string(self).expect("a struct of texts")
    }

    /// The recipe with this text.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// Whether it installs the same packages, perhaps with another Node.
    pub fn is_same_packages(&self, other: &Self) -> bool {
        self.source == other.source && self.packages == other.packages
    }

    /// The first package: its name and its version.
    pub fn first(&self) -> (&str, &str) {
        self.packages.first().and_then(|first| split(first)).unwrap_or_default()
    }
}

/// The version of Node that Boatyard brings for an agent: the one that the entry asks for, or the
/// newest where its command names `{node}` and nothing more.
pub fn node_of(entry: &Entry) -> Option<String> {
    let (Install::Npm(package) | Install::Pypi(package)) = &entry.install else { return None };
    match &package.node {
        Some(wanted) => Some(node_version(wanted)),
        None => {
            let mut texts = entry.command.iter().chain(entry.env.values());
            texts.any(|text| text.contains("{node}")).then(|| NODES[0].1.to_owned())
        }
    }
}

/// The version that is brought for what an entry asks for: a major version, or a full one.
fn node_version(wanted: &str) -> String {
    let known = NODES.iter().find(|(major, _)| *major == wanted);
    known.map_or(wanted, |(_, version)| version).to_owned()
}

/// The name under which a package is installed, and its version: `name@1.2.3`, or
/// `name@npm:other@1.2.3`, which is another package under this name.
pub(super) fn split(text: &str) -> Option<(&str, &str)> {
    let (name, version) = text.rsplit_once('@')?;
    Some((name.split_once("@npm:").map_or(name, |(name, _)| name), version))
}

/// Name and version of a pinned package. What stands here becomes an argument of npm or pip: it is
/// of a small alphabet and begins with none of theirs for options, files or addresses.
fn parse_package(text: &str) -> Result<(&str, &str), String> {
    let wrong = |why: &str| {
        format!("`{}` {why}; expected name@1.2.3", text.chars().take(80).collect::<String>())
    };
    let (name, version) = text.rsplit_once('@').ok_or_else(|| wrong("names no version"))?;
    let (name, original) = name.split_once("@npm:").unwrap_or((name, name));
    if text.len() > PACKAGE_MAX || !is_name(name) || !is_name(original) {
        return Err(wrong("is no package's name"));
    }
    if !version.starts_with(|c: char| c.is_ascii_digit()) || !is_plain(version, b".-+_") {
        return Err(wrong("is not pinned to a version"));
    }
    Ok((name, version))
}

/// Whether it is `name` or `@scope/name`.
fn is_name(text: &str) -> bool {
    let bare = match text.strip_prefix('@') {
        None => text,
        Some(scoped) => match scoped.split_once('/') {
            Some((scope, bare)) if !scope.is_empty() && is_plain(scope, b"-_.") => bare,
            _ => return false,
        },
    };
    let begins = bare.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    begins && is_plain(bare, b"-_.")
}

fn is_plain(text: &str, more: &[u8]) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
}

#[cfg(test)]
mod tests {
    use boatyard_agent::Catalogue;

    use super::*;

    fn entry(text: &str) -> Entry {
        let table = format!("[it]\nprotocol = \"acp\"\n{text}");
        let catalogue = Catalogue::with_settings(&table.parse().unwrap()).unwrap();
        catalogue.get(&"it".parse().unwrap()).unwrap().clone()
    }

    #[test]
    fn another_version_replaces_the_pinned_one() {
        let entry = entry(
            "command = [\"{node}\"]\n[it.install]\nfrom = \"npm\"\nbin = \"x\"\n\
             packages = [\"@a/it@1.0.0\", \"more@2.0.0\"]",
        );
        let recipe = Recipe::of(&entry, &["@a/it@1.1.0".into()]).unwrap().unwrap();
        assert_eq!(recipe.packages, ["@a/it@1.1.0", "more@2.0.0"]);
        assert_eq!(recipe.first(), ("@a/it", "1.1.0"));
        assert_eq!(recipe.node.as_deref(), Some(NODES[0].1), "its command names {{node}}");
        assert_eq!(Recipe::parse(&recipe.text()).unwrap(), recipe);
    }

    #[test]
    fn every_built_in_agent_is_pinned() {
        for (name, entry) in Catalogue::builtin().iter() {
            let recipe = Recipe::of(entry, &[]);
            assert!(recipe.is_ok(), "{name}: {recipe:?}");
        }
    }

    #[test]
    fn what_is_no_pinned_package_is_refused() {
        for good in ["it@1", "@a/b.c@1.2.3-rc.1+x", "_x@0.1", "@a/b@npm:@a/c@1.0-x"] {
            parse_package(good).unwrap();
        }
        for bad in [
            "it",
            "it@latest",
            "it@^1.0",
            "it@",
            "-g@1",
            "--prefix=/@1.0",
            "../x@1",
            "file:x@1",
            "@a@1",
            "@/x@1",
            "it@1 --global",
            "git+ssh://x@1",
            "a/b@1",
            "a@npm:../x@1",
        ] {
            let error = parse_package(bad).unwrap_err();
            assert!(error.contains("expected name@1.2.3"), "{bad}: {error}");
        }
    }
}
