//! Paths, and which of them a server may read as another.

use std::{borrow::Cow, str::FromStr};

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

use super::Reading;
use crate::Error;

/// A path, or with `*` at the end everything that begins so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathPattern(Box<str>);

impl PathPattern {
    /// Whether the path is meant. A path that a server might read as another is meant by no pattern
    /// but `/*` in the narrow reading, and by every one in the wide.
    pub(super) fn matches(&self, path: &str, reading: Reading) -> bool {
        if self.prefix() == Some("/") {
            return true;
        }
        match reading {
            Reading::Narrow => !is_ambiguous(path) && self.fits(path),
            Reading::Wide => is_ambiguous(path) || self.plain().fits(&plain(path)),
        }
    }

    fn fits(&self, path: &str) -> bool {
        match self.prefix() {
            Some(prefix) => path.starts_with(prefix),
            None => path == &*self.0,
        }
    }

    /// The same, in the spelling of [`plain`].
    fn plain(&self) -> Self {
        let text = match self.prefix() {
            Some(prefix) => format!("{}*", decoded(prefix)),
            None => plain(&self.0).into_owned(),
        };
        Self(text.into())
    }

    /// What everything meant begins with; none for one path.
    pub(super) fn prefix(&self) -> Option<&str> {
        self.0.strip_suffix('*')
    }

    /// Whether everything that the other means is meant by this.
    pub(super) fn covers(&self, other: &Self) -> bool {
        match (self.prefix(), other.prefix()) {
            (Some(ours), Some(theirs)) => theirs.starts_with(ours),
            (Some(ours), None) => other.0.starts_with(ours),
            (None, Some(_)) => false,
            (None, None) => self.0 == other.0,
        }
    }

    /// How much of a path it says.
    pub(super) fn weight(&self) -> usize {
        match self.prefix() {
            Some(prefix) => prefix.len(),
            None => usize::MAX,
        }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A path as a careless server may compare it: decoded, in small letters, without a slash at its end.
pub(super) fn plain(path: &str) -> Cow<'_, str> {
    match decoded(path).trim_end_matches('/') {
        "" => Cow::Borrowed("/"),
        trimmed => Cow::Owned(trimmed.to_owned()),
    }
}

fn decoded(path: &str) -> String {
    percent_decode_str(path).decode_utf8_lossy().to_lowercase()
}

/// Whether decoding or tidying would change which place a path means.
pub(super) fn is_ambiguous(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    ["//", "/./", "/../", "\\", "%2e", "%2f", "%5c", "%25", "%00", ";"]
        .iter()
        .any(|piece| lower.contains(piece))
        || lower.ends_with("/..")
        || lower.ends_with("/.")
}

impl FromStr for PathPattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let before_star = text.strip_suffix('*').unwrap_or(text);
        let is_path = before_star.starts_with('/')
            && !before_star.contains('*')
            && !before_star.contains(['?', '#'])
            && !before_star.contains(|c: char| c.is_whitespace() || c.is_control())
            && !is_ambiguous(before_star);
        if is_path {
            Ok(Self(text.into()))
        } else {
            Err(Error::Path { text: text.chars().take(200).collect() })
        }
    }
}

impl TryFrom<String> for PathPattern {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<PathPattern> for String {
    fn from(pattern: PathPattern) -> Self {
        pattern.0.into()
    }
}
