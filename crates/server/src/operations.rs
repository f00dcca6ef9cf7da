//! What can be done, one function each, for every way in: HTTP now, chats and workflows later.
//!
//! An operation takes the application and the caller, checks that the caller may, and changes
//! state in one transaction together with the job that follows from it. What is not the caller's
//! does not exist.

use boatyard_api::Problem;
use boatyard_store::{IdempotencyKey, Owner};
use sha2::{Digest as _, Sha256};

use crate::{auth::Caller, hub::HubError};

pub mod agents;
pub mod asks;
pub mod audit;
pub mod blobs;
pub mod connections;
pub mod decisions;
pub mod device_codes;
pub mod egress;
pub mod environments;
pub mod git;
pub mod jobs;
pub mod keys;
pub mod maintenance;
pub mod organizations;
pub mod people;
pub mod prompts;
pub mod quotas;
pub mod repositories;
pub mod requests;
pub mod sessions;
pub mod shares;
pub mod sign_in;
pub mod tasks;
pub mod usage;
pub mod workspaces;

/// What the store says, as a problem for the caller.
pub(crate) fn store_problem(error: boatyard_store::Error) -> Problem {
    use boatyard_store::Error as E;
    match &error {
        E::NotFound { kind, id } => Problem::not_found(kind, id),
        E::IllegalState { .. } | E::AlreadyResolved { .. } | E::Refused { .. } => {
            Problem::conflict(error.to_string())
        }
        E::NoSuchOption { .. } => Problem::invalid("option", &error),
        E::Conflict { .. } => Problem::idempotency_conflict(),
        E::Quota { reason } => {
            Problem::new(boatyard_api::ProblemKind::QuotaReached, reason.text.clone())
        }
        _ if error.is_full() => Problem::disk_full(),
        E::Closed => Problem::unavailable("the server is going down"),
        _ => Problem::internal(error),
    }
}

/// What the hub says, as a problem for the caller.
pub(crate) fn hub_problem(error: HubError) -> Problem {
    use boatyard_link::message::FailureCode as F;
    match error {
        HubError::Store(error) => store_problem(error),
        HubError::Runner(failure) => match failure.code {
            F::NotFound => Problem::not_found("file", failure.message),
            F::Conflict | F::Stopped => Problem::conflict(failure.message),
            F::Workspace => Problem::workspace_failed(failure.message),
            F::Agent => Problem::agent_unusable(failure.message),
            F::Timeout => Problem::timeout(failure.message),
            F::Unsupported | F::Internal => Problem::workspace_failed(failure.message),
        },
        HubError::Runtime(boatyard_runtime::Error::DiskFull) => Problem::disk_full(),
        HubError::Timeout(seconds) => {
            Problem::timeout(format!("the workspace did not answer within {seconds} s"))
        }
        HubError::State(text) => Problem::conflict(text),
        error => Problem::workspace_failed(crate::chain(&error)),
    }
}

/// Refuses what is another organization's, as if it did not exist.
pub(crate) fn own(
    caller: &Caller,
    owner: Owner,
    kind: &str,
    id: impl std::fmt::Display,
) -> Result<(), Problem> {
    if caller.owner.organization == owner.organization {
        Ok(())
    } else {
        Err(Problem::not_found(kind, id))
    }
}

/// A client's key for a request, with what tells the same request from another one.
pub(crate) fn idempotency(
    caller: &Caller,
    route: &str,
    key: Option<boatyard_api::IdempotencyKey>,
    request: &impl serde::Serialize,
) -> Result<Option<IdempotencyKey>, Problem> {
    let Some(key) = key else { return Ok(None) };
    let bytes = serde_json::to_vec(request).map_err(Problem::internal)?;
    Ok(Some(IdempotencyKey {
        // Another's key of the same name is another key: nobody gets, or is kept from, what is made.
        route: format!("{route} {}", caller.owner.member),
        key: key.as_str().to_owned(),
        request_hash: crate::hex(&Sha256::digest(&bytes)),
    }))
}
