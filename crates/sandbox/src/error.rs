//! The crate's error: each names the step that failed, so that a person can mend it.

use std::io;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call failed.
    #[error("{step} failed")]
    System {
        /// What was being done, as `overlay mount` or `cgroup memory.max`.
        step: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A message on the spawner's socket is not a well-formed one.
    #[error("malformed message: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The spawner refused or failed; its own words.
    #[error("{}", .0)]
    Refused(crate::protocol::Failure),
    /// The spawner has gone.
    #[error("the spawner has ended")]
    SpawnerGone,
    /// A deadline passed.
    #[error("{step} took longer than {limit_ms} ms")]
    Deadline {
        /// What was waited for.
        step: String,
        /// The deadline in milliseconds.
        limit_ms: u64,
    },
    /// An argument or a setting can't be used.
    #[error("{what}")]
    Invalid {
        /// Which and why.
        what: String,
    },
}

impl Error {
    /// The last error of the operating system, at `step`.
    pub(crate) fn last(step: impl Into<String>) -> Self {
        Self::system(step, io::Error::last_os_error())
    }

    /// `source` at `step`.
    pub(crate) fn system(step: impl Into<String>, source: io::Error) -> Self {
        Self::System { step: step.into(), source }
    }

    /// An unusable argument or setting.
    pub(crate) fn invalid(what: impl Into<String>) -> Self {
        Self::Invalid { what: what.into() }
    }

    /// The error number of the operating system, where one is behind this.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::System { source, .. } => source.raw_os_error(),
            Self::Refused(failure) => Some(failure.errno).filter(|errno| *errno != 0),
            _ => None,
        }
    }
}

/// Names the step of a failed operation.
pub(crate) trait Step<T> {
    /// The value, or the error with the step's name.
    fn step(self, step: &str) -> Result<T>;
}

impl<T> Step<T> for io::Result<T> {
    fn step(self, step: &str) -> Result<T> {
        self.map_err(|source| Error::system(step, source))
    }
}
