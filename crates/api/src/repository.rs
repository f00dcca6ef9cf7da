//! Repositories: what Boatyard keeps a mirror of.

use boatyard_model::{RepositoryId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{Cursor, page::page};

/// The largest bundle that is taken by default, in bytes.
pub const BUNDLE_MAX: u64 = 4 << 30;

/// A repository to register.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRepository {
    /// `owner/repo`, an `https://` or `ssh://` address, an absolute path on the server's machine
    /// (below a configured root), or `sent:NAME` for one that the client sends as bundles.
    /// Registered already, it is given back as it is.
    pub source: String,
}

/// A repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Repository {
    /// Its id.
    pub id: RepositoryId,
    /// Its address, as people write it.
    pub source: String,
    /// How its objects come here.
    pub kind: RepositoryKind,
    /// Its folder below `/work`.
    pub folder: String,
    /// The branch where work begins by default; absent until it is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub default_branch: Option<String>,
    /// What the mirror has, by name; empty in lists.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub refs: Vec<Ref>,
    /// When the mirror was last brought up to date.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fetched: Option<Timestamp>,
    /// When it was registered.
    pub created: Timestamp,
}

/// How a repository's objects come to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RepositoryKind {
    /// Fetched over https.
    Https,
    /// Fetched over ssh.
    Ssh,
    /// Read from the server's disk.
    Path,
    /// Sent by a client as bundles.
    Sent,
}

/// The environments that a repository describes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnvironmentList {
    /// The commit at which they were read; absent in an empty repository.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub commit: Option<String>,
    /// The default one first.
    pub items: Vec<Environment>,
}

/// An environment of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Environment {
    /// What `environment` of a task takes.
    pub name: String,
    /// Its file in the repository.
    pub path: String,
    /// The commands of its setup, as people read them.
    pub setup: Vec<String>,
    /// The command that checks an attempt's work.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub check: Option<String>,
    /// The names of its variables.
    pub variables: Vec<String>,
    /// The names of the MCP servers that it gives agents.
    pub mcp_servers: Vec<String>,
    /// The mistake in its file, if there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub problem: Option<String>,
}

/// Which environments to list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EnvironmentFilter {
    /// Those of this repository.
    pub repository: RepositoryId,
}

/// A reference of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ref {
    /// In full: `refs/heads/main`.
    pub name: String,
    /// The commit that it points at.
    pub commit: String,
}

page! {
    /// A page of repositories.
    RepositoryPage of Repository;
}

/// Which repositories to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RepositoryFilter {
    /// At most so many, 1 to 200; 50 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Where to go on: the `next_cursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Cursor>,
}
