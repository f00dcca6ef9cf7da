//! Jobs: durable background work.

use boatyard_model::{JobId, JobState, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{Cursor, page::page};

/// A maintenance job to run now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewJob {
    /// Which: `idle-reaper`, `daily-usage`, `gc`, …
    pub name: String,
}

/// A unit of durable background work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// What it does.
    pub name: String,
    /// What it is about: the id of a task, a workspace, …
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub subject: Option<String>,
    /// Where it stands.
    pub state: JobState,
    /// How often it was begun.
    pub tries: u32,
    /// How often it may be begun.
    pub max_tries: u32,
    /// When it may be begun, or was.
    pub due: Timestamp,
    /// Why the last try failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
    /// When it was ordered.
    pub created: Timestamp,
    /// When it was over.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ended: Option<Timestamp>,
}

page! {
    /// A page of jobs.
    JobPage of Job;
}

/// Which jobs to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct JobFilter {
    /// Only those in this state (`status` is taken as well).
    #[serde(alias = "status", skip_serializing_if = "Option::is_none")]
    #[param(inline)]
    pub state: Option<JobState>,
    /// Only those that do this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// At most so many, 1 to 200; 50 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Where to go on: the `next_cursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Cursor>,
}
