//! The environments that a repository describes.

use boatyard_api::{
    Problem,
    repository::{Environment, EnvironmentList},
};
use boatyard_model::{RepositoryId, Wish};

use super::store_problem;
use crate::{
    access::things,
    app::App,
    auth::Caller,
    jobs::{prepare, shown::title},
};

/// The environments at the head of a repository's default branch, each with the mistake in it, if
/// there is one. Only a repository that was never fetched is fetched for this.
///
/// # Errors
/// When there is no such repository, or it can't be read.
pub async fn list_environments(
    app: &App,
    caller: &Caller,
    repository: RepositoryId,
) -> Result<EnvironmentList, Problem> {
    let row = app.store.repository(repository).await;
    let row = row.map_err(|error| store_problem(error).at("query.repository"))?;
    let may = things::repository(app, caller, &row, Wish::Look).await;
    may.map_err(|problem| problem.at("query.repository"))?;
    let base = match row.fetched {
        Some(_) => app.mirrors.base(row.id, None).await.map_err(|error| crate::chain(&error)),
        None => prepare::base(app, &row, None).await.map_err(|reason| reason.text),
    };
    let base = base.map_err(Problem::repository_unusable)?;
    let Some(commit) = base.commit else {
        return Ok(EnvironmentList { commit: None, items: Vec::new() });
    };
    let names = app.mirrors.environments(row.id, &commit).await.map_err(Problem::internal)?;
    let mut items = Vec::new();
    for name in names {
        let mut item = Environment {
            name: name.to_string(),
            path: name.path(),
            setup: Vec::new(),
            check: None,
            variables: Vec::new(),
            mcp_servers: Vec::new(),
            problem: None,
        };
        match app.mirrors.environment(row.id, &commit, &name).await {
            Ok(found) => {
                item.setup = found.setup.iter().map(|command| title(command)).collect();
                item.check = found.check.map(|check| title(&check.command));
                item.variables = found.variables.into_keys().collect();
                item.mcp_servers = found.mcp_servers.into_keys().collect();
            }
            Err(error) => item.problem = Some(crate::chain(&error)),
        }
        items.push(item);
    }
    Ok(EnvironmentList { commit: Some(commit.to_string()), items })
}
