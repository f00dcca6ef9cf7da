//! The environment that a workspace was made with.

use boatyard_model::name::EnvironmentName;
use boatyard_store::WorkspaceRow;

use super::prepare;
use crate::{app::App, mirrors::environment::Environment};

/// How far back copies of copies are followed.
const FORKS: usize = 100;

/// The environment that a workspace was made with: that of its task, or of the task of the workspace
/// that it is a copy of. It is read at the commit that the work began at: what an agent does to the
/// file changes nothing for itself.
///
/// # Errors
/// When the store can't be read.
pub async fn of(app: &App, workspace: &WorkspaceRow) -> boatyard_store::Result<Environment> {
    let (Some(repository), Some(commit)) = (workspace.repository, &workspace.base_commit) else {
        return Ok(Environment::default());
    };
    let Ok(commit) = commit.parse() else { return Ok(Environment::default()) };
    let mut task = workspace.task;
    let mut origin = workspace.forked_from;
    for _ in 0..FORKS {
        let (None, Some(from)) = (task, origin) else { break };
        let from = match app.store.workspace(from).await {
            Ok(from) => from,
            // It was removed since.
            Err(boatyard_store::Error::NotFound { .. }) => break,
            Err(error) => return Err(error),
        };
        (task, origin) = (from.task, from.forked_from);
    }
    let name = match task {
        Some(task) => prepare::environment_name(&app.store.task(task).await?.order),
        None => EnvironmentName::default(),
    };
    match app.mirrors.environment(repository, &commit, &name).await {
        Ok(environment) => Ok(environment),
        // A task would not have come so far; another workspace goes without.
        Err(error) => {
            tracing::debug!(error = %crate::chain(&error), "an environment is not valid");
            Ok(Environment::default())
        }
    }
}
