//! What git said, in words for a person.

use super::{FetchError, RepositorySource};
use crate::mirrors::git::GitError;

/// Says in words for a person what git meant.
pub(super) fn explain(source: &RepositorySource, error: GitError) -> FetchError {
    let GitError::Failed { message, .. } = &error else {
        return FetchError::Git { source_name: source.to_string(), source: error };
    };
    let missing = [
        "not found",
        "Authentication failed",
        "could not read Username",
        "403",
        "Permission denied",
    ];
    if missing.iter().any(|part| message.contains(part)) {
        return FetchError::NotFound(source.to_string());
    }
    if message.contains("does not appear to be a git repository")
        || message.contains("not a git repository")
    {
        return FetchError::NotARepository(source.to_string());
    }
    FetchError::Git { source_name: source.to_string(), source: error }
}
