//! Environments: what a repository wants done before the first turn.
//!
//! The one that is used where nobody names one is described in `.boatyard/environment.toml`, which a
//! repository need not have; any other in `.boatyard/environments/NAME.toml`:
//!
//! ```toml
//! setup = [["npm", "ci"], "make deps"]   # an argument vector, or a line for `sh -c`
//! [env]
//! NODE_ENV = "development"
//! [egress]                               # proposed, not in force
//! presets = ["npm"]
//! allow = ["GET api.example.com/v1/*"]
//! ```
//!
//! It is read from the mirror at the base commit, so that the setup's layer can be found before a
//! workspace exists. Its content is the repository's: bounded, parsed, and run inside only.

use std::{collections::BTreeMap, time::Duration};

use boatyard_model::{
    AgentSettings, RepositoryId, RuleSpec,
    agent::McpServer,
    name::{CommitId, EnvironmentName},
};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::{jobs::check, settings::Span};

use super::{
    Mirrors,
    git::{Git, GitError},
};

/// The largest file that describes one.
const MAX_BYTES: u64 = 64 << 10;
/// The longest list of those that a repository has, in bytes.
const LIST_MAX: u64 = 64 << 10;
/// The longest that a check may take.
const CHECK_MAX: Duration = Duration::from_secs(4 * 3600);
/// How many of them an error names.
const NAMED: usize = 20;

/// A repository's environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// Commands of the setup, as argument vectors, in order.
    pub setup: Vec<Vec<String>>,
    /// Variables for the setup and for everything that runs in the workspace.
    pub variables: BTreeMap<String, String>,
    /// What checks an attempt's work.
    pub check: Option<Check>,
    /// The MCP servers that agents get, by name.
    pub mcp_servers: BTreeMap<String, McpServer>,
    /// What the repository would like to reach. It is shown as a proposal and never in force by
    /// itself: what an agent may change must not open a way out.
    pub egress: Vec<RuleSpec>,
    /// Names this content: the SHA-256 of the file.
    pub hash: String,
    /// The file, in the repository.
    pub path: String,
}

/// A command that says whether the work is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// The argument vector.
    pub command: Vec<String>,
    /// How long it may take.
    pub time: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    setup: Vec<Line>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    check: Option<Line>,
    check_time: Option<String>,
    #[serde(default)]
    mcp: BTreeMap<String, McpServer>,
    #[serde(default)]
    egress: EgressWish,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct EgressWish {
    presets: Vec<String>,
    allow: Vec<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Shell(String),
    Vector(Vec<String>),
}

impl Line {
    /// As an argument vector; none if it is empty.
    fn vector(self) -> Option<Vec<String>> {
        let vector = match self {
            Self::Shell(line) if line.trim().is_empty() => Vec::new(),
            Self::Shell(line) => vec!["/bin/sh".to_owned(), "-c".to_owned(), line],
            Self::Vector(vector) => vector,
        };
        Some(vector).filter(|vector| vector.first().is_some_and(|program| !program.is_empty()))
    }
}

impl Mirrors {
    /// The environment of this name at `commit`; the empty one for the default one if it has no file.
    ///
    /// # Errors
    /// When there is none of this name, or its file has a mistake.
    pub async fn environment(
        &self,
        repository: RepositoryId,
        commit: &CommitId,
        name: &EnvironmentName,
    ) -> Result<Environment, EnvironmentError> {
        let mirror = self.path(repository);
        let path = name.path();
        let blob = format!("{commit}:{path}");
        let git = |args: [&str; 2]| Git::new(&mirror, "cat-file").args(args);
        let size: u64 = match git(["-s", &blob]).text().await {
            Ok(size) => {
                size.parse().map_err(|_| EnvironmentError::NoSize { path: path.clone() })?
            }
            // It is not there: for the default one the usual case.
            Err(GitError::Failed { .. }) if name.is_default() => return Ok(Environment::default()),
            Err(GitError::Failed { .. }) => {
                let there = self.environments(repository, commit).await?;
                return Err(EnvironmentError::Unknown { name: name.clone(), there });
            }
            Err(source) => return Err(EnvironmentError::Git { path, source }),
        };
        if size > MAX_BYTES {
            return Err(EnvironmentError::TooLarge { path });
        }
        match git(["blob", &blob]).output(MAX_BYTES).await {
            Ok(bytes) => Environment::parse(&path, &bytes).map_err(EnvironmentError::Invalid),
            // A folder of that name.
            Err(source) => Err(EnvironmentError::Git { path, source }),
        }
    }

    /// The environments that a repository has at `commit`, the default one first.
    ///
    /// # Errors
    /// When they can't be listed.
    pub async fn environments(
        &self,
        repository: RepositoryId,
        commit: &CommitId,
    ) -> Result<Vec<EnvironmentName>, EnvironmentError> {
        let folder = format!("{commit}:{}", EnvironmentName::FOLDER);
        let list = Git::new(&self.path(repository), "ls-tree")
            .args(["--name-only", "-z", &folder])
            .output(LIST_MAX)
            .await;
        let list = match list {
            Ok(list) => list,
            // There is no such folder.
            Err(GitError::Failed { .. }) => Vec::new(),
            Err(source) => {
                let path = EnvironmentName::FOLDER.to_owned();
                return Err(EnvironmentError::Git { path, source });
            }
        };
        let names = list.split(|byte| *byte == 0).filter_map(|file| {
            let name: EnvironmentName =
                std::str::from_utf8(file).ok()?.strip_suffix(".toml")?.parse().ok()?;
            Some(name).filter(|name| !name.is_default())
        });
        Ok(std::iter::once(EnvironmentName::default()).chain(names).collect())
    }
}

/// Why there is no environment.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// The repository has none of this name.
    #[error("the repository has no environment `{name}` ({} is not there); it has {}", name.path(), named(there))]
    Unknown {
        /// The name that was asked for.
        name: EnvironmentName,
        /// Those that there are.
        there: Vec<EnvironmentName>,
    },
    /// Its file has a mistake; the sentence names it.
    #[error("{0}")]
    Invalid(String),
    /// Its file is too large.
    #[error("{path} is larger than {MAX_BYTES} bytes")]
    TooLarge {
        /// The file.
        path: String,
    },
    /// Git did not say how large its file is.
    #[error("git gave no size of {path}")]
    NoSize {
        /// The file.
        path: String,
    },
    /// It could not be read.
    #[error("{path} can't be read")]
    Git {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: GitError,
    },
}

fn named(names: &[EnvironmentName]) -> String {
    let shown: Vec<&str> = names.iter().take(NAMED).map(EnvironmentName::as_str).collect();
    match names.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

impl Environment {
    /// Parses the file at `path` of a repository.
    ///
    /// # Errors
    /// A sentence that names the mistake and its line.
    fn parse(path: &str, bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| format!("{path} is not UTF-8 text"))?;
        let file: File = toml::from_str(text)
            .map_err(|error| format!("{path}: {}", error.to_string().trim_end()))?;
        let mut setup = Vec::new();
        for line in file.setup {
            let empty = || format!("{path}: `setup` has an empty command");
            setup.push(line.vector().ok_or_else(empty)?);
        }
        let time = match &file.check_time {
            None => check::TIME,
            Some(_) if file.check.is_none() => {
                return Err(format!("{path}: `check_time` is there without a `check`"));
            }
            Some(text) => match Span::parse(text).map(|span| span.duration()) {
                Some(time) if !time.is_zero() && time <= CHECK_MAX => time,
                _ => {
                    return Err(format!(
                        "{path}: `check_time` must be a span of time such as \"90s\" or \"10min\", \
                         at most 4h"
                    ));
                }
            },
        };
        let check = match file.check {
            None => None,
            Some(line) => {
                let empty = || format!("{path}: `check` is an empty command");
                Some(Check { command: line.vector().ok_or_else(empty)?, time })
            }
        };
        let mcp = AgentSettings { mcp_servers: file.mcp, ..AgentSettings::default() };
        mcp.check().map_err(|error| {
            let field = error.field.replacen("mcp_servers", "mcp", 1);
            format!("{path}: `{field}` {}", error.reason)
        })?;
        for name in file.env.keys() {
            let valid = !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
                && !name.starts_with(|c: char| c.is_ascii_digit());
            if !valid {
                return Err(format!("{path}: `{name}` is not a variable's name"));
            }
        }
        let egress = crate::operations::egress::asked(&file.egress.presets, &file.egress.allow)
            .map_err(|why| format!("{path}: {why}"))?;
        let hash = crate::hex(&Sha256::digest(bytes));
        Ok(Self {
            setup,
            variables: file.env,
            check,
            mcp_servers: mcp.mcp_servers,
            egress,
            hash,
            path: path.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_vectors_become_vectors() {
        let environment = Environment::parse(
            "environment.toml",
            b"setup = ['make x', ['npm', 'ci']]\n[env]\nA = '1'",
        )
        .unwrap();
        assert_eq!(environment.setup[0], ["/bin/sh", "-c", "make x"]);
        assert_eq!(environment.setup[1], ["npm", "ci"]);
        assert_eq!(environment.variables["A"], "1");
    }

    #[test]
    fn a_check_has_a_time_and_agents_get_servers() {
        let file = "check = 'make test'\ncheck_time = '90s'\n[mcp.docs]\ncommand = ['docs', '-v']";
        let environment = Environment::parse("environment.toml", file.as_bytes()).unwrap();
        let check = environment.check.unwrap();
        assert_eq!(check.command, ["/bin/sh", "-c", "make test"]);
        assert_eq!(check.time, Duration::from_secs(90));
        assert_eq!(environment.mcp_servers["docs"].command, ["docs", "-v"]);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            ("setup = 3", "environment.toml"),
            ("setpu = []", "setpu"),
            ("setup = [[]]", "empty command"),
            ("[env]\n'A B' = 'x'", "not a variable"),
            ("check = ''", "`check` is an empty"),
            ("check_time = '5min'", "without a `check`"),
            ("check = 'x'\ncheck_time = 'soon'", "span of time"),
            ("[mcp.docs]", "`mcp.docs` needs"),
            ("[mcp.docs]\nurl = 'ftp://x'", "`mcp.docs.url`"),
            ("[egress]\npresets = ['nmp']", "there is no preset `nmp`"),
            ("[egress]\nallow = ['a b c']", "at character 5: `c` is one word too many"),
            ("[egress]\ndeny = ['a']", "deny"),
        ] {
            let error = Environment::parse("environment.toml", text.as_bytes()).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
