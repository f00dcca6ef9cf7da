//! The endpoints of organizations, members and invitations.

use boatyard_model::{InvitationId, MemberId, OrganizationId, RepositoryId};
use reqwest::Method;

use super::{Client, Result};
use crate::organization::{
    Invitation, InvitationCode, InvitationFilter, InvitationPage, InvitationPreview, Invited,
    Joined, Member, MemberFilter, MemberPage, MemberRemoval, MemberUpdate, NewInvitation,
    NewOrganization, Organization, OrganizationFilter, OrganizationList, OrganizationTransfer,
    OrganizationUpdate, RepositoryAccess, Transferred, WorkTransfer,
};

#[expect(clippy::missing_errors_doc, reason = "all fail as the other endpoints do")]
impl Client {
    /// The caller's organizations, or all.
    pub async fn list_organizations(
        &self,
        filter: &OrganizationFilter,
    ) -> Result<OrganizationList> {
        self.json(self.call(Method::GET, "api/organizations").query(filter)).await
    }

    /// Makes an organization.
    pub async fn create_organization(&self, new: &NewOrganization) -> Result<Organization> {
        self.json(self.call(Method::POST, "api/organizations").json(new)).await
    }

    /// An organization.
    pub async fn find_organization(&self, id: OrganizationId) -> Result<Organization> {
        self.json(self.call(Method::GET, format!("api/organizations/{id}"))).await
    }

    /// Changes an organization.
    pub async fn update_organization(
        &self,
        id: OrganizationId,
        update: &OrganizationUpdate,
    ) -> Result<Organization> {
        let call = self.call(Method::PATCH, format!("api/organizations/{id}"));
        self.json(call.json(update)).await
    }

    /// Deletes an organization in which nothing is left.
    pub async fn delete_organization(&self, id: OrganizationId) -> Result<()> {
        self.empty(self.call(Method::DELETE, format!("api/organizations/{id}"))).await
    }

    /// Leaves an organization.
    pub async fn leave_organization(&self, id: OrganizationId) -> Result<()> {
        self.empty(self.call(Method::POST, format!("api/organizations/{id}/leave"))).await
    }

    /// Gives an organization to another owner.
    pub async fn transfer_organization(
        &self,
        id: OrganizationId,
        transfer: &OrganizationTransfer,
    ) -> Result<Member> {
        let call = self.call(Method::POST, format!("api/organizations/{id}/transfer"));
        self.json(call.json(transfer)).await
    }

    /// Members.
    pub async fn list_members(&self, filter: &MemberFilter) -> Result<MemberPage> {
        self.json(self.call(Method::GET, "api/members").query(filter)).await
    }

    /// A member.
    pub async fn find_member(&self, id: MemberId) -> Result<Member> {
        self.json(self.call(Method::GET, format!("api/members/{id}"))).await
    }

    /// Gives a member another role.
    pub async fn update_member(&self, id: MemberId, update: &MemberUpdate) -> Result<Member> {
        self.json(self.call(Method::PATCH, format!("api/members/{id}")).json(update)).await
    }

    /// Removes a member.
    pub async fn remove_member(
        &self,
        id: MemberId,
        removal: &MemberRemoval,
    ) -> Result<Transferred> {
        self.json(self.call(Method::DELETE, format!("api/members/{id}")).query(removal)).await
    }

    /// Gives a member's work to another.
    pub async fn transfer_work(
        &self,
        id: MemberId,
        transfer: &WorkTransfer,
    ) -> Result<Transferred> {
        let call = self.call(Method::POST, format!("api/members/{id}/transfer"));
        self.json(call.json(transfer)).await
    }

    /// Invitations.
    pub async fn list_invitations(&self, filter: &InvitationFilter) -> Result<InvitationPage> {
        self.json(self.call(Method::GET, "api/invitations").query(filter)).await
    }

    /// Gives an invitation.
    pub async fn create_invitation(&self, new: &NewInvitation) -> Result<Invited> {
        self.json(self.call(Method::POST, "api/invitations").json(new)).await
    }

    /// An invitation.
    pub async fn find_invitation(&self, id: InvitationId) -> Result<Invitation> {
        self.json(self.call(Method::GET, format!("api/invitations/{id}"))).await
    }

    /// Withdraws an invitation.
    pub async fn withdraw_invitation(&self, id: InvitationId) -> Result<()> {
        self.empty(self.call(Method::DELETE, format!("api/invitations/{id}"))).await
    }

    /// Uses an invitation.
    pub async fn accept_invitation(&self, code: &InvitationCode) -> Result<Joined> {
        self.json(self.call(Method::POST, "api/invitations/accept").json(code)).await
    }

    /// What an invitation is to.
    pub async fn preview_invitation(&self, code: &InvitationCode) -> Result<InvitationPreview> {
        self.json(self.call(Method::GET, "api/auth/invitation").query(code)).await
    }

    /// Who may do what in a repository.
    pub async fn repository_access(&self, id: RepositoryId) -> Result<RepositoryAccess> {
        self.json(self.call(Method::GET, format!("api/repositories/{id}/access"))).await
    }

    /// Says who may do what in a repository.
    pub async fn set_repository_access(
        &self,
        id: RepositoryId,
        access: &RepositoryAccess,
    ) -> Result<RepositoryAccess> {
        let call = self.call(Method::PUT, format!("api/repositories/{id}/access"));
        self.json(call.json(access)).await
    }
}
