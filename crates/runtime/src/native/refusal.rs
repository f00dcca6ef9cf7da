//! What the spawner's refusals mean to whoever asked.

use std::io;

use boatyard_model::WorkspaceId;
use boatyard_sandbox::protocol::{Failure, FailureKind, Reply, Request};

use super::client::CallError;
use crate::Error;

/// Whether this refusal of a repeated request means that the first one was carried out.
pub(super) const fn is_done_already(request: &Request, kind: FailureKind) -> bool {
    match request {
        Request::Create { .. } | Request::Snapshot { .. } | Request::KeepTool { .. } => {
            matches!(kind, FailureKind::Exists)
        }
        Request::Remove { .. } => matches!(kind, FailureKind::Missing),
        _ => false,
    }
}

pub(super) fn about(workspace: WorkspaceId, error: CallError) -> Error {
    match error {
        CallError::Refused(failure) => refused(workspace, failure),
        error => call_error(error),
    }
}

pub(super) fn call_error(error: CallError) -> Error {
    match error {
        CallError::Refused(failure) => step(failure),
        CallError::Gone => Error::SpawnerGone,
        CallError::Late => Error::Timeout("the spawner"),
        CallError::Io(source) => Error::Io { action: "talk to the spawner", source },
    }
}

/// What a refusal says of a workspace.
pub(super) fn refused(workspace: WorkspaceId, failure: Failure) -> Error {
    /// What the spawner calls it when it is there or not; layers and mirrors have other names.
    const WORKSPACE: &str = "workspace";
    match failure.kind {
        FailureKind::Exists if failure.step == WORKSPACE => Error::Exists(workspace),
        FailureKind::Missing if failure.step == WORKSPACE => Error::NotFound(workspace),
        FailureKind::Running => Error::Running(workspace),
        FailureKind::NotRunning => Error::NotRunning(workspace),
        _ => step(failure),
    }
}

/// A refusal as a step that a person may be able to mend.
pub(super) fn step(failure: Failure) -> Error {
    /// Out of space, and out of quota.
    const FULL: [i32; 2] = [28, 122];
    // Out of namespaces is the same number.
    let is_of_disk = failure.step != "clone" && !failure.step.contains("namespace");
    if is_of_disk && FULL.contains(&failure.errno) {
        return Error::DiskFull;
    }
    let source = match failure.errno {
        0 => io::Error::other(failure.kind.as_str()),
        errno => io::Error::from_raw_os_error(errno),
    };
    let hint = match (failure.kind, failure.hint.is_empty()) {
        (_, false) => failure.hint,
        (FailureKind::Busy, true) => "try again in a moment".to_owned(),
        (FailureKind::Missing | FailureKind::Exists, true) => {
            format!("it {}", failure.kind.as_str())
        }
        (_, true) => "`boatyard doctor` may tell more".to_owned(),
    };
    Error::Step { step: failure.step, hint, source }
}

/// An error of the sandbox crate on the way to a spawner.
pub(super) fn system(error: boatyard_sandbox::Error) -> Error {
    match error {
        boatyard_sandbox::Error::System { step: what, source } => {
            Error::Step { step: what, hint: "`boatyard doctor` may tell more".to_owned(), source }
        }
        boatyard_sandbox::Error::Refused(failure) => step(failure),
        error => Error::Io { action: "start the spawner", source: io::Error::other(error) },
    }
}

pub(super) fn unexpected(reply: &Reply) -> Error {
    tracing::error!(?reply, "the spawner answered something else than was asked");
    let source = io::Error::new(io::ErrorKind::InvalidData, "an answer to another question");
    Error::Io { action: "talk to the spawner", source }
}
