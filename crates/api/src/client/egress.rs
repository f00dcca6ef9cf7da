//! The endpoints of egress: rules, scopes, presets, proposals.

use boatyard_model::{RepositoryId, RuleId, WorkspaceId};
use reqwest::Method;

use super::{Client, Result};
use crate::egress::{
    Egress, EgressOutcome, EgressPresetList, EgressProposal, EgressQuery, EgressRule, EgressScope,
    EgressTest, NewEgressRule, ProposalQuery,
};

/// For what scope something is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EgressPlace {
    /// The organization.
    Organization,
    /// A repository.
    Repository(RepositoryId),
    /// A workspace.
    Workspace(WorkspaceId),
}

impl EgressPlace {
    fn path(self, rest: &str) -> String {
        match self {
            Self::Workspace(id) => format!("api/workspaces/{id}/egress{rest}"),
            Self::Organization | Self::Repository(_) => format!("api/egress{rest}"),
        }
    }

    const fn repository(self) -> Option<RepositoryId> {
        match self {
            Self::Repository(id) => Some(id),
            Self::Organization | Self::Workspace(_) => None,
        }
    }

    const fn query(self) -> EgressQuery {
        EgressQuery { repository: self.repository() }
    }
}

#[expect(clippy::missing_errors_doc, reason = "all fail as the other endpoints do")]
impl Client {
    /// What may leave, with the rules that hold there.
    pub async fn find_egress(&self, place: EgressPlace) -> Result<Egress> {
        self.json(self.call(Method::GET, place.path("")).query(&place.query())).await
    }

    /// Sets what holds beside the rules: the whole of it.
    pub async fn set_egress(&self, place: EgressPlace, set: &EgressScope) -> Result<Egress> {
        self.json(self.call(Method::PUT, place.path("")).query(&place.query()).json(set)).await
    }

    /// Makes a rule.
    pub async fn create_egress_rule(
        &self,
        place: EgressPlace,
        new: &NewEgressRule,
    ) -> Result<EgressRule> {
        let request = self.call(Method::POST, place.path("/rules")).query(&place.query());
        self.json(request.json(new)).await
    }

    /// A rule.
    pub async fn find_egress_rule(&self, id: RuleId) -> Result<EgressRule> {
        self.json(self.call(Method::GET, format!("api/egress/rules/{id}"))).await
    }

    /// Puts another rule in its place.
    pub async fn change_egress_rule(&self, id: RuleId, new: &NewEgressRule) -> Result<EgressRule> {
        self.json(self.call(Method::PUT, format!("api/egress/rules/{id}")).json(new)).await
    }

    /// Removes a rule.
    pub async fn delete_egress_rule(&self, id: RuleId) -> Result<()> {
        self.empty(self.call(Method::DELETE, format!("api/egress/rules/{id}"))).await
    }

    /// The presets.
    pub async fn list_egress_presets(&self) -> Result<EgressPresetList> {
        self.json(self.call(Method::GET, "api/egress/presets")).await
    }

    /// What would become of a request.
    pub async fn test_egress(
        &self,
        place: EgressPlace,
        test: &EgressTest,
    ) -> Result<EgressOutcome> {
        let request = self.call(Method::POST, place.path("/test")).query(&place.query());
        self.json(request.json(test)).await
    }

    /// The smallest set of rules for what was recorded.
    pub async fn propose_egress(
        &self,
        place: EgressPlace,
        refused: Option<bool>,
    ) -> Result<EgressProposal> {
        let query = ProposalQuery { repository: place.repository(), refused };
        self.json(self.call(Method::GET, place.path("/proposal")).query(&query)).await
    }
}
