//! What this machine can do, and failures that say how to mend them.

use std::{fmt, io};

/// How strongly a sandbox is fenced; the ladder of the design. The strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// A user-id range for each workspace, limits by cgroup version 2.
    Full,
    /// The same with limits by cgroup version 1.
    FullV1,
    /// Started by an ordinary user with a delegated id range.
    Rootless,
    /// Started by an ordinary user with only its own id: inside, the worker and the runner are
    /// the same user, so the worker could end the runner.
    RootlessSingleId,
}

impl Isolation {
    /// The name in the API and in settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::FullV1 => "full-v1",
            Self::Rootless => "rootless",
            Self::RootlessSingleId => "rootless-1uid",
        }
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What enforces the limits on memory, processes and processor time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitsBy {
    /// Controllers of cgroup version 2.
    CgroupV2,
    /// Controllers of cgroup version 1.
    CgroupV1,
    /// Only per-process resource limits, and a count of processes per user id.
    Rlimits,
}

impl LimitsBy {
    /// The name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CgroupV2 => "cgroup-v2",
            Self::CgroupV1 => "cgroup-v1",
            Self::Rlimits => "rlimits",
        }
    }
}

impl fmt::Display for LimitsBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How much of what programs send without a proxy is caught.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capture {
    /// Every TCP connection to anywhere but the sandbox itself.
    AllPorts,
    /// Those to [`crate::CAPTURED_PORTS`]; others are refused at once.
    UsualPorts,
}

/// Why the spawner did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What sort of failure.
    pub kind: FailureKind,
    /// The step that failed, as `overlay mount`.
    pub step: String,
    /// The operating system's error number, 0 where there is none.
    pub errno: i32,
    /// How to mend it, empty where nothing is known.
    pub hint: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, self.kind.as_str())?;
        if self.errno != 0 {
            write!(f, ": {}", io::Error::from_raw_os_error(self.errno))?;
        }
        if !self.hint.is_empty() {
            write!(f, " ({})", self.hint)?;
        }
        Ok(())
    }
}

/// Sorts of failures, for code to act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// What should be made exists already.
    Exists,
    /// The workspace, layer or mirror is not on disk.
    Missing,
    /// The workspace runs, and must not.
    Running,
    /// The workspace does not run, and must.
    NotRunning,
    /// Too much is in flight; ask again.
    Busy,
    /// The request makes no sense.
    Invalid,
    /// It took too long and was given up.
    Deadline,
    /// The operating system said no.
    System,
}

impl FailureKind {
    /// In words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exists => "exists already",
            Self::Missing => "does not exist",
            Self::Running => "is running",
            Self::NotRunning => "is not running",
            Self::Busy => "too much is in flight",
            Self::Invalid => "is not valid",
            Self::Deadline => "took too long",
            Self::System => "failed",
        }
    }
}

/// What a throw-away sandbox showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The level that sandboxes get here; none when none can be made (the checks say why).
    pub isolation: Option<Isolation>,
    /// What enforces the limits.
    pub limits: LimitsBy,
    /// One line each.
    pub checks: Vec<Check>,
}

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What, as `user namespace` or `landlock`.
    pub name: String,
    /// How it went.
    pub outcome: Outcome,
    /// What was found, or what failed and how to mend it.
    pub detail: String,
}

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It works.
    Works,
    /// It does not, and sandboxes are weaker for it.
    Weaker,
    /// It does not, and no sandbox can be made.
    Fails,
}
