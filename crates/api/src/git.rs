//! What repositories are reached with, and what commits are signed with.

use boatyard_model::{ConnectionId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// A connection to be bound to repositories.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewGitConnection {
    /// A repository (`owner/repo`, `https://host/owner/repo`), or all below a place (`host/owner/*`,
    /// `host/*`). Of several that fit, the nearest counts.
    pub place: String,
    /// The connection's id or name.
    pub connection: String,
    /// Whether workspaces of other repositories fetch with it too, where their rules allow that.
    #[serde(default)]
    pub shared: bool,
}

/// In whose name somebody's workspaces commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewGitIdentity {
    /// The name.
    pub name: String,
    /// The address.
    pub email: String,
}

/// In whose name the caller's workspaces commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GitIdentity {
    /// The name.
    pub name: String,
    /// The address.
    pub email: String,
    /// Whether it is the caller's own, and not what the server has for everybody.
    pub own: bool,
}

/// That a connection goes with repositories.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GitConnection {
    /// Where: `host/owner/repo`, or with `/*` at its end all below it.
    pub place: String,
    /// Which.
    pub connection: ConnectionId,
    /// What people call it; absent when it was removed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// Whether workspaces of other repositories fetch with it too, where their rules allow that.
    pub shared: bool,
    /// Whether it is the caller's own, and goes with the caller's workspaces alone.
    #[serde(default)]
    pub own: bool,
    /// When it was bound.
    pub created: Timestamp,
    /// Why it was not taken when it was last used; absent while it works.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub problem: Option<String>,
    /// Since when it is not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub problem_since: Option<Timestamp>,
}

/// The connections of repositories.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GitConnectionList {
    /// By place.
    pub items: Vec<GitConnection>,
}

/// Which one to take away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct GitPlace {
    /// The place that it was bound to.
    pub place: String,
    /// Whether the caller's own is meant, and not the organization's.
    #[serde(default)]
    pub own: bool,
}

/// What commits and tags of workspaces are signed with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GitKey {
    /// The public key as ssh writes it, to be added at GitHub as a signing key.
    pub public_key: String,
    /// The line of an `allowed_signers` file, with which git verifies by itself.
    pub allowed_signer: String,
    /// Whether commits are signed: `sign` in `[git]` of the settings.
    pub signs: bool,
}
