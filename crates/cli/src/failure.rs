//! How a command ends: the exit codes, and errors as sentences with the next step.
//!
//! | code | means |
//! |---|---|
//! | 0 | done |
//! | 1 | failed |
//! | 2 | the command line, or the request, is at fault |
//! | 3 | what was named doesn't exist |
//! | 4 | not allowed |
//! | 5 | a person must act first |
//! | 130 | interrupted |

use std::{fmt, process::ExitCode};

use boatyard_api::ProblemKind;

use crate::output::Output;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Exit {
    /// It did what was asked.
    Done,
    /// It didn't.
    Failed,
    /// The command line is at fault.
    Usage,
    /// What was named doesn't exist.
    NotFound,
    /// Not allowed.
    NotAllowed,
    /// A permission or a question waits for a person.
    Waiting,
    /// Ctrl-C.
    Interrupted,
    /// The code of a command that was run in a workspace.
    Other(u8),
    /// The code of the server's process.
    Process(ExitCode),
}

impl Exit {
    fn code(self) -> ExitCode {
        let code = match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::NotAllowed => 4,
            Self::Waiting => 5,
            Self::Interrupted => 130,
            Self::Other(code) => code,
            Self::Process(code) => return code,
        };
        ExitCode::from(code)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code()
    }
}

/// An error that knows its code and what to do next.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
    next: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Failure {
    /// It failed; `message` says what, without a full stop.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { exit: Exit::Failed, message: message.into(), next: None, source: None }
    }

    /// The command line is at fault.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, ..Self::new(message) }
    }

    /// What was named doesn't exist.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self { exit: Exit::NotFound, ..Self::new(message) }
    }

    /// Not allowed.
    pub(crate) fn not_allowed(message: impl Into<String>) -> Self {
        Self { exit: Exit::NotAllowed, ..Self::new(message) }
    }

    /// The same, with what to do about it.
    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// The same, with what lies behind it.
    pub(crate) fn because(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// What an error means for the caller: the code, and the next step where one is known.
fn read(error: &anyhow::Error) -> (Exit, Option<String>) {
    for cause in error.chain() {
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            return (failure.exit, failure.next.clone());
        }
        if let Some(boatyard_api::Error::Problem(problem)) = cause.downcast_ref() {
            let exit = match problem.status {
                400 | 413 | 415 | 422 => Exit::Usage,
                401 | 403 => Exit::NotAllowed,
                404 => Exit::NotFound,
                _ => Exit::Failed,
            };
            let advice = problem.known_kind().and_then(|kind| match kind {
                // The message names the part that is at fault.
                ProblemKind::Invalid => None,
                ProblemKind::Unauthenticated => Some(
                    "sign in with `boatyard login`, or set BOATYARD_API_KEY; on the server's machine \
                     the key is in client.toml of the data folder"
                        .to_owned(),
                ),
                kind => Some(kind.advice().to_owned()),
            });
            let next = match problem.status {
                // How a program signs in is another thing than how a browser does.
                401 => advice.or(problem.next.clone()),
                _ => problem.next.clone().or(advice),
            };
            let next = match (&problem.request_id, problem.is(ProblemKind::Internal)) {
                (Some(id), true) => Some(format!("look in the server's log for request {id}")),
                _ => next,
            };
            return (exit, next);
        }
        if let Some(boatyard_runtime::Error::Step { hint, .. }) = cause.downcast_ref() {
            return (Exit::Failed, Some(hint.clone()));
        }
    }
    (Exit::Failed, None)
}

/// Tells an error and says with which code to end.
pub(crate) fn report(error: &anyhow::Error, output: &Output) -> Exit {
    // Whoever reads our output has gone away: there is nobody to tell and nothing wrong.
    let broken_pipe = |cause: &(dyn std::error::Error + 'static)| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(broken_pipe) {
        return Exit::Done;
    }
    let (exit, next) = read(error);
    output.error(error, next.as_deref());
    exit
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;
    use boatyard_api::Problem;

    use super::*;

    fn check(error: impl Into<anyhow::Error>, expected: Exit) {
        assert_eq!(read(&error.into().context("while doing something")).0, expected);
    }

    #[test]
    fn the_code_tells_what_kind_of_failure_it_is() {
        check(std::io::Error::other("x"), Exit::Failed);
        check(Failure::usage("x"), Exit::Usage);
        check(boatyard_api::Error::Problem(Problem::not_found("task", "tsk_x")), Exit::NotFound);
        check(boatyard_api::Error::Problem(Problem::not_allowed("no")), Exit::NotAllowed);
        check(boatyard_api::Error::Problem(Problem::unauthenticated("no")), Exit::NotAllowed);
        check(boatyard_api::Error::Problem(Problem::invalid("prompt", "empty")), Exit::Usage);
        check(boatyard_api::Error::Problem(Problem::conflict("no")), Exit::Failed);
        assert_eq!(Exit::Waiting.code(), ExitCode::from(5));
        assert_eq!(Exit::Interrupted.code(), ExitCode::from(130));
    }

    #[test]
    fn the_next_step_is_found_below_context() {
        let result: Result<(), _> = Err(Failure::new("broken").next("mend it"));
        let error = result.context("outer").unwrap_err();
        assert_eq!(read(&error).1.as_deref(), Some("mend it"));
    }
}
