//! The server itself: health, and the removal of what nothing refers to.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How the server is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// How it is.
    pub status: HealthStatus,
    /// What is told only to those who may know.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub details: Option<HealthDetails>,
}

/// How the server is, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// It works.
    Ok,
    /// It works, but not everything does.
    Degraded,
    /// It is going down: no new work is taken.
    Stopping,
}

/// How the server is, in full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HealthDetails {
    /// Boatyard's version.
    pub version: String,
    /// Seconds since its start.
    pub uptime: u64,
    /// The database.
    pub database: DatabaseHealth,
    /// What makes workspaces.
    pub runtimes: Vec<RuntimeHealth>,
}

/// How the database is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DatabaseHealth {
    /// `sqlite` or `postgresql`.
    pub kind: String,
    /// Whether it answers.
    pub ok: bool,
    /// The newest migration that was applied.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub schema: Option<i64>,
}

/// How a runtime is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RuntimeHealth {
    /// `native`, `docker` or `kubernetes`.
    pub name: String,
    /// Whether it can make workspaces.
    pub ready: bool,
    /// The isolation that a workspace gets.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub isolation: Option<String>,
    /// What each check found, in the order in which they were made.
    pub checks: Vec<RuntimeCheck>,
}

/// One thing that was tried on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RuntimeCheck {
    /// What, in a few words.
    pub name: String,
    /// `works`, `missing` (and Boatyard runs without it) or `blocks`.
    pub outcome: String,
    /// What was found.
    pub detail: String,
    /// How to mend it; empty when there is nothing to mend.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub hint: String,
}

/// How to remove what nothing refers to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GarbageRequest {
    /// Only tell what would be removed.
    pub dry_run: bool,
}

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GarbageReport {
    /// Whether it was only looked at.
    pub dry_run: bool,
    /// Workspaces.
    pub workspaces: u64,
    /// Layers of file trees.
    pub layers: u64,
    /// Mirrors of repositories.
    pub mirrors: u64,
    /// Blobs.
    pub blobs: u64,
    /// Bytes that became free, as far as known.
    pub bytes: u64,
}
