//! Organizations, members, invitations, and roles in single repositories.

use std::fmt;

use boatyard_model::{
    InvitationId, MemberId, OrganizationId, PersonId, RepositoryRole, Role, Timestamp, Visibility,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{Cursor, page::page};

/// The longest name of an organization, in bytes.
pub const NAME_MAX: usize = 80;

/// What the code of an invitation begins with.
pub const INVITATION_PREFIX: &str = "join_";

/// How long an invitation is good when nobody says, in seconds: a week.
pub const INVITATION_TIME: u64 = 7 * 24 * 3600;

/// The longest that one may be good, in seconds: 90 days.
pub const INVITATION_TIME_MAX: u64 = 90 * 24 * 3600;

/// How often one may be used at most.
pub const INVITATION_USES_MAX: u32 = 1000;

/// An organization.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Organization {
    /// Its id.
    pub id: OrganizationId,
    /// What people call it.
    pub name: String,
    /// What tasks, sessions and workspaces in it are for others when nobody says.
    pub visibility: Visibility,
    /// How many people are in it.
    pub members: u64,
    /// The caller's own role there; absent for who runs the server and is not in it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub role: Option<Role>,
    /// The member that the caller is there.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub member: Option<MemberId>,
    /// When it was made.
    pub created: Timestamp,
}

/// Organizations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrganizationList {
    /// By name; with all of a server's, by age.
    pub items: Vec<Organization>,
}

/// Which organizations are listed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OrganizationFilter {
    /// All of the server's, for who runs it, and not the caller's own only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub all: Option<bool>,
}

/// An organization to be made. Who makes it is its first owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewOrganization {
    /// What people are to call it; no other of the server has the name.
    pub name: String,
}

/// A change of an organization; what is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OrganizationUpdate {
    /// What people are to call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What tasks, sessions and workspaces in it are for others when nobody says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visibility: Option<Visibility>,
}

/// Who is to own an organization. Who owned it and gives it away is an admin then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OrganizationTransfer {
    /// The member.
    pub member: MemberId,
}

/// A person in an organization.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Member {
    /// The member's id: the owner of what it makes.
    pub id: MemberId,
    /// The person; absent for what stands behind a key of the organization's own.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub person: Option<PersonId>,
    /// As shown to people.
    pub name: String,
    /// The person's mail address.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub email: Option<String>,
    /// What it may do.
    pub role: Role,
    /// Whether it is the caller.
    pub you: bool,
    /// Since when it is one.
    pub created: Timestamp,
    /// Since when it is none any more: what it made is still its own.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub removed: Option<Timestamp>,
    /// Whether the person's account is disabled.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub disabled: bool,
    /// When the person was here last, roughly.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_seen: Option<Timestamp>,
}

page! {
    /// Some invitations, the newest first.
    InvitationPage of Invitation;
}

/// Some members.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MemberPage {
    /// The one who joined first before the others.
    pub items: Vec<Member>,
    /// Where the next page begins; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next_cursor: Option<Cursor>,
}

/// Which members are listed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct MemberFilter {
    /// Those who were removed, too.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub removed: Option<bool>,
    /// Items in a page, at most 200.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit: Option<u32>,
    /// Where the page begins.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[param(value_type = Option<String>)]
    pub cursor: Option<Cursor>,
}

/// A change of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MemberUpdate {
    /// What it may do from now on.
    pub role: Role,
}

/// What becomes of a member's work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct MemberRemoval {
    /// Who gets the tasks, sessions and workspaces of the one who goes; they stay its own if absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[param(value_type = Option<String>)]
    pub heir: Option<MemberId>,
}

/// To whom a member's work goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkTransfer {
    /// The member who gets it.
    pub to: MemberId,
}

/// What was given from one member to another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Transferred {
    /// Tasks.
    pub tasks: u64,
    /// Sessions.
    pub sessions: u64,
    /// Workspaces.
    pub workspaces: u64,
}

/// Where an invitation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum InvitationState {
    /// It can be used.
    Open,
    /// It was used as often as it may be.
    Spent,
    /// Its time is over.
    Expired,
    /// It was withdrawn.
    Withdrawn,
}

impl InvitationState {
    /// The text used in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Spent => "spent",
            Self::Expired => "expired",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// An invitation. Its code is not in it, and nowhere else to be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Invitation {
    /// Its id.
    pub id: InvitationId,
    /// What who comes by it may do.
    pub role: Role,
    /// The only mail address that it is for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub email: Option<String>,
    /// Where it stands.
    pub state: InvitationState,
    /// How often it may be used.
    pub uses: u32,
    /// How often it was.
    pub used: u32,
    /// Who gave it.
    pub by: MemberId,
    /// When it was given.
    pub created: Timestamp,
    /// Until when it is good.
    pub expires: Timestamp,
    /// When it was withdrawn.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub withdrawn: Option<Timestamp>,
    /// When it was sent by mail.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mailed: Option<Timestamp>,
}

/// Which invitations are listed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct InvitationFilter {
    /// Items in a page, at most 200.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit: Option<u32>,
    /// Where the page begins.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[param(value_type = Option<String>)]
    pub cursor: Option<Cursor>,
}

/// An invitation to be given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewInvitation {
    /// What who comes by it may do; not more than the caller.
    pub role: Role,
    /// The only mail address that it is for: a person with another one can't use it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub email: Option<String>,
    /// How often it may be used, up to 1000; once if absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uses: Option<u32>,
    /// For how long it is good, in seconds, up to 90 days; a week if absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires_in: Option<u64>,
    /// Whether to send it to `email` by mail; if absent, where the server can send mail.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mail: Option<bool>,
}

/// An invitation that was just given. Its link is shown this once, and not at all where it went out by
/// mail: who has it then has the mailbox.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Invited {
    /// The invitation.
    pub invitation: Invitation,
    /// What is opened in a browser to use it; absent where it was sent by mail.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub url: Option<String>,
    /// The code in it, for `POST /api/invitations/accept` and the command line; absent with it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub code: Option<String>,
    /// Why it was not sent by mail, where it was to be.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mail_failed: Option<String>,
}

impl fmt::Debug for Invited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invited").field("invitation", &self.invitation).finish_non_exhaustive()
    }
}

/// The code of an invitation.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct InvitationCode {
    /// It, as in the link.
    pub code: String,
}

impl fmt::Debug for InvitationCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InvitationCode { code: <hidden> }")
    }
}

/// What who has an invitation may know of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InvitationPreview {
    /// The organization.
    pub organization: OrganizationId,
    /// What people call it.
    pub organization_name: String,
    /// What who comes by it may do.
    pub role: Role,
    /// The only mail address that it is for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub email: Option<String>,
    /// Who gave it, as shown to people.
    pub invited_by: String,
    /// Until when it is good.
    pub expires: Timestamp,
}

/// What somebody is after an invitation was used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Joined {
    /// The organization.
    pub organization: OrganizationId,
    /// What people call it.
    pub organization_name: String,
    /// The member that the caller is there.
    pub member: MemberId,
    /// What it may do.
    pub role: Role,
}

/// Who may do what in one repository, where that is less than in the organization.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RepositoryAccess {
    /// What everybody may do who is not named; as in the organization if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub everybody: Option<RepositoryRole>,
    /// Those who are named. Admins and owners may do all the same whatever stands here.
    pub members: Vec<RepositoryMember>,
}

/// What one member may do in a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RepositoryMember {
    /// Who.
    pub member: MemberId,
    /// What.
    pub role: RepositoryRole,
    /// The member's name; not read, and given in answers.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
}
