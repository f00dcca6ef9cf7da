//! Shares of tasks, workspaces and sessions by a link, and who is present in a session.

use std::fmt;

use boatyard_model::{MemberId, Role, ShareId, Timestamp, Visibility};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{Cursor, page::page};

/// How long a share works where nobody says, in seconds: a week.
pub const EXPIRES_DEFAULT: u64 = 7 * 24 * 3600;

/// The longest time for which a share works, in seconds: a year.
pub const EXPIRES_MAX: u64 = 365 * 24 * 3600;

/// What the code of a share begins with.
pub const CODE_PREFIX: &str = "share_";

/// A share to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewShare {
    /// What: the id of a task (with its workspaces and sessions), a workspace (with its sessions)
    /// or a session.
    pub subject: String,
    /// As what: a `viewer` looks; a `member` acts, and must be a member of the organization.
    #[serde(default = "viewer")]
    pub role: Role,
    /// Whether people without an account may look. Goes with the role `viewer` only.
    #[serde(default)]
    pub guests: bool,
    /// After how many seconds it ends; a week if absent, a year at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<u64>,
    /// How many may take it; as many as want if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 10000)]
    pub uses: Option<u64>,
}

const fn viewer() -> Role {
    Role::Viewer
}

/// Where a share stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ShareState {
    /// It can be taken, and what it gave holds.
    Open,
    /// As many as may have taken it; what it gave holds.
    Spent,
    /// Its time is over, and so is what it gave.
    Ended,
    /// It was taken back, and so is what it gave.
    Revoked,
}

impl ShareState {
    /// As in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Spent => "spent",
            Self::Ended => "ended",
            Self::Revoked => "revoked",
        }
    }
}

/// A share.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Share {
    /// Its id.
    pub id: ShareId,
    /// The task, workspace or session.
    pub subject: String,
    /// As what.
    pub role: Role,
    /// Whether people without an account may look.
    pub guests: bool,
    /// Where it stands.
    pub state: ShareState,
    /// How many may take it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uses: Option<u64>,
    /// How many took it.
    pub used: u64,
    /// Who shared.
    pub owner: MemberId,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
    /// When it was taken back.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub revoked: Option<Timestamp>,
    /// The link. It is told once, when the share is made.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub url: Option<String>,
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Share")
            .field("id", &self.id)
            .field("subject", &self.subject)
            .field("role", &self.role)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

page! {
    /// A page of shares.
    SharePage of Share;
}

/// Which shares to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ShareFilter {
    /// Only those of this task, workspace or session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// At most so many, 1 to 200; 50 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Where to go on: the `next_cursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Cursor>,
}

/// Takes what a link gives.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TakeShare {
    /// The link's `code`.
    pub code: String,
}

impl fmt::Debug for TakeShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TakeShare { code: <hidden> }")
    }
}

/// What a link gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TakenShare {
    /// The share.
    pub share: ShareId,
    /// The task, workspace or session.
    pub subject: String,
    /// As what.
    pub role: Role,
    /// Until when.
    pub expires: Timestamp,
    /// Whether it was given to this browser, and not to somebody who is signed in.
    pub guest: bool,
}

/// What of the organization is for whom, where nobody says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Sharing {
    /// Who may see what is made from now on, beside its owner.
    pub visibility: Visibility,
}

/// What somebody does in a session at this moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PresenceUpdate {
    /// Writes a prompt. It counts for ten seconds: say it again while it goes on.
    pub typing: bool,
}

/// Who is present in a session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Presence {
    /// They, by name; at most 50.
    pub people: Vec<Present>,
    /// How many more there are.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub more: usize,
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

/// Somebody who is present in a session: it is followed there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Present {
    /// The member; none for a guest.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub member: Option<MemberId>,
    /// As shown to people.
    pub name: String,
    /// Whether a prompt is being written.
    pub typing: bool,
}
