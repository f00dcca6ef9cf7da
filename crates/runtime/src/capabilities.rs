//! What a runtime can do on this machine.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How strongly a sandbox is shut off, the strongest first (reference: the ladder of levels).
///
/// Chosen once by trying, shown with each workspace, never lowered in silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// Everything: a user-id range of its own, control groups 2.
    Full,
    /// The same with control groups 1: starting takes longer at times.
    FullV1,
    /// By an ordinary user with a delegated id range and control group.
    Rootless,
    /// By an ordinary user with one id: agents could end the runner; limits may be missing.
    #[serde(rename = "rootless-1uid")]
    RootlessOneId,
}

impl Isolation {
    /// The text used in JSON and on the page.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::FullV1 => "full-v1",
            Self::Rootless => "rootless",
            Self::RootlessOneId => "rootless-1uid",
        }
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a runtime can do on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// The isolation that every workspace gets.
    pub isolation: Isolation,
    /// What each check found, in the order in which they were made.
    pub checks: Vec<Check>,
}

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What, in a few words: `user namespace`, `memory limit`, …
    pub name: String,
    /// How it went.
    pub outcome: Outcome,
    /// What was found: a version, an error of the kernel.
    pub detail: String,
    /// How to mend it; empty when there is nothing to mend.
    pub hint: String,
}

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It works.
    Works,
    /// It is missing, and Boatyard runs without it.
    Missing,
    /// It is missing, and Boatyard can't make sandboxes without it.
    Blocks,
}
