//! `.boatyard/environment.toml`: what a repository wants done before the first turn.
//!
//! ```toml
//! setup = [["npm", "ci"], "make deps"]   # an argument vector, or a line for `sh -c`
//! [env]
//! NODE_ENV = "development"
//! ```
//!
//! It is read from the mirror at the base commit, so that the setup's layer can be found before a
//! workspace exists. Its content is the repository's: bounded, parsed, and run inside only.

use std::collections::BTreeMap;

use serde::Deserialize;
use sha2::{Digest, Sha256};

/// Where it lies in a repository.
pub const PATH: &str = ".boatyard/environment.toml";
/// The largest one.
pub const MAX_BYTES: u64 = 64 << 10;

/// A repository's environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// Commands of the setup, as argument vectors, in order.
    pub setup: Vec<Vec<String>>,
    /// Variables for the setup and for everything that runs in the workspace.
    pub variables: BTreeMap<String, String>,
    /// Names this content: the SHA-256 of the file.
    pub hash: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    setup: Vec<Line>,
    #[serde(default)]
    env: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Shell(String),
    Vector(Vec<String>),
}

impl Environment {
    /// Parses the file.
    ///
    /// # Errors
    /// A sentence that names the mistake and its line.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| format!("{PATH} is not UTF-8 text"))?;
        let file: File = toml::from_str(text).map_err(|e| format!("{PATH}: {e}"))?;
        let mut setup = Vec::new();
        for line in file.setup {
            let vector = match line {
                Line::Shell(line) => vec!["/bin/sh".to_owned(), "-c".to_owned(), line],
                Line::Vector(vector) => vector,
            };
            if vector.first().is_none_or(String::is_empty) {
                return Err(format!("{PATH}: `setup` has an empty command"));
            }
            setup.push(vector);
        }
        for name in file.env.keys() {
            let valid = !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
                && !name.starts_with(|c: char| c.is_ascii_digit());
            if !valid {
                return Err(format!("{PATH}: `{name}` is not a variable's name"));
            }
        }
        let hash = crate::hex(&Sha256::digest(bytes));
        Ok(Self { setup, variables: file.env, hash })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_vectors_become_vectors() {
        let environment =
            Environment::parse(b"setup = ['make x', ['npm', 'ci']]\n[env]\nA = '1'").unwrap();
        assert_eq!(environment.setup[0], ["/bin/sh", "-c", "make x"]);
        assert_eq!(environment.setup[1], ["npm", "ci"]);
        assert_eq!(environment.variables["A"], "1");
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            ("setup = 3", "environment.toml"),
            ("setpu = []", "setpu"),
            ("setup = [[]]", "empty command"),
            ("[env]\n'A B' = 'x'", "not a variable"),
        ] {
            let error = Environment::parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
