//! What people set for an agent: for the organization, or for one repository.

use boatyard_model::{AgentSettings, OrganizationId, RepositoryId};

use crate::{
    Owner, Result, Store, Tx,
    conn::{exec, read_one},
    row::{json, record},
};

record! {
    /// Settings of an agent.
    #[derive(Debug, Clone)]
    struct Kept {
        settings: AgentSettings,
    }
}

/// For what an agent's settings hold. In the database the organization's have an empty repository:
/// no part of a primary key may be null.
fn scope(repository: Option<RepositoryId>) -> String {
    repository.map(|id| id.to_string()).unwrap_or_default()
}

impl Tx {
    /// Keeps what is set for an agent: the whole of it. Empty settings are forgotten.
    ///
    /// # Errors
    /// When they can't be stored.
    pub async fn set_agent_settings(
        &mut self,
        owner: Owner,
        repository: Option<RepositoryId>,
        agent: &str,
        settings: &AgentSettings,
    ) -> Result<()> {
        if settings.is_empty() {
            exec!(
                self,
                "DELETE FROM agent_setting
                 WHERE organization = $1 AND repository = $2 AND agent = $3",
                owner.organization,
                scope(repository),
                agent,
            )?;
            return Ok(());
        }
        let settings = json(settings)?;
        exec!(
            self,
            "INSERT INTO agent_setting (organization, owner, repository, agent, settings, changed)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (organization, repository, agent)
             DO UPDATE SET owner = $2, settings = $5, changed = $6",
            owner.organization,
            owner.member,
            scope(repository),
            agent,
            settings,
            self.now(),
        )?;
        Ok(())
    }
}

impl Store {
    /// What is set for an agent in the organization (no repository) or in a repository; none where
    /// nothing is.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn agent_settings(
        &self,
        organization: OrganizationId,
        repository: Option<RepositoryId>,
        agent: &str,
    ) -> Result<Option<AgentSettings>> {
        let kept = read_one!(
            self,
            Kept,
            format!(
                "SELECT {} FROM agent_setting
                 WHERE organization = $1 AND repository = $2 AND agent = $3",
                Kept::COLUMNS
            ),
            organization,
            scope(repository),
            agent,
        )?;
        Ok(kept.map(|kept| kept.settings))
    }
}
