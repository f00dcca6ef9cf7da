//! The endpoints of agents' settings.

use boatyard_model::{AgentSettings, RepositoryId, name::AgentName};
use reqwest::Method;

use super::{Client, Result};

fn settings_path(repository: Option<RepositoryId>, agent: &AgentName) -> String {
    match repository {
        Some(id) => format!("api/repositories/{id}/agents/{agent}/settings"),
        None => format!("api/agents/{agent}/settings"),
    }
}

#[expect(clippy::missing_errors_doc, reason = "all fail as the other endpoints do")]
impl Client {
    /// What is set for an agent, in a repository or in the organization.
    pub async fn find_agent_settings(
        &self,
        repository: Option<RepositoryId>,
        agent: &AgentName,
    ) -> Result<AgentSettings> {
        self.json(self.call(Method::GET, settings_path(repository, agent))).await
    }

    /// Sets it: the whole of it.
    pub async fn set_agent_settings(
        &self,
        repository: Option<RepositoryId>,
        agent: &AgentName,
        settings: &AgentSettings,
    ) -> Result<AgentSettings> {
        self.json(self.call(Method::PUT, settings_path(repository, agent)).json(settings)).await
    }

    /// Forgets it.
    pub async fn clear_agent_settings(
        &self,
        repository: Option<RepositoryId>,
        agent: &AgentName,
    ) -> Result<()> {
        self.empty(self.call(Method::DELETE, settings_path(repository, agent))).await
    }
}
