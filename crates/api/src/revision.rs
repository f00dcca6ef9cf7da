//! A branch or a commit, as a person names it.

use std::{fmt, str::FromStr};

use boatyard_model::name::{Branch, CommitId, NameError};
use serde::{Deserialize, Serialize};

/// Where work begins: a branch, or a commit in full.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Revision {
    /// The head of a branch.
    Branch(Branch),
    /// Exactly this commit.
    Commit(CommitId),
}

impl FromStr for Revision {
    type Err = NameError;

    /// 40 or 64 hexadecimal digits are a commit, anything else is a branch.
    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.parse::<CommitId>() {
            Ok(commit) => Ok(Self::Commit(commit)),
            Err(_) => text.parse().map(Self::Branch),
        }
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Branch(branch) => branch.fmt(f),
            Self::Commit(commit) => commit.fmt(f),
        }
    }
}

impl Serialize for Revision {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Revision {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

impl utoipa::PartialSchema for Revision {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .description(Some("A branch, or a commit in full (40 or 64 hexadecimal digits)."))
            .examples([serde_json::json!("main")])
            .into()
    }
}

impl utoipa::ToSchema for Revision {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_in_full_are_a_commit() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        assert!(matches!(commit.parse(), Ok(Revision::Commit(_))));
        assert!(matches!("main".parse(), Ok(Revision::Branch(_))));
        assert!(matches!("0123456".parse(), Ok(Revision::Branch(_))));
        assert!("-x".parse::<Revision>().is_err());
    }
}
