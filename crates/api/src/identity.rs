//! Who calls, how people sign in, and the accounts they have.

use std::fmt;

use boatyard_model::{DeviceId, MemberId, OrganizationId, PersonId, Role, Scopes, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// What every API key begins with.
pub const KEY_PREFIX: &str = "by_";

/// The header with which the page proves that a change comes from itself.
pub const CSRF_HEADER: &str = "x-boatyard-csrf";

/// The header that chooses, for one request, another organization of the person who asks.
pub const ORGANIZATION_HEADER: &str = "x-boatyard-organization";

/// The fewest characters of a password.
pub const PASSWORD_MIN: usize = 10;

/// The most bytes of a password.
pub const PASSWORD_MAX: usize = 512;

/// The most characters of a person's name.
pub const NAME_MAX: usize = 100;

/// For whom a server is, and whether somebody has set it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServerState {
    /// For the one who started it: the printed link signs in.
    Single,
    /// For several, and nobody has set it up yet: the printed link does.
    Setup,
    /// For several.
    People,
}

/// Who may make an account without having been invited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SignUp {
    /// Nobody.
    #[default]
    Closed,
    /// Who has an address of an allowed domain.
    Domains,
    /// Everybody.
    Open,
}

impl SignUp {
    /// The text used in JSON and in the settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Domains => "domains",
            Self::Open => "open",
        }
    }

    /// What a text means, if anything.
    pub fn from_text(text: &str) -> Option<Self> {
        [Self::Closed, Self::Domains, Self::Open].into_iter().find(|one| one.as_str() == text)
    }
}

/// How one may sign in here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ways {
    /// For whom the server is, and whether somebody has set it up.
    pub state: ServerState,
    /// Whether an address and a password sign in.
    pub password: bool,
    /// Whether passkeys sign in.
    pub passkeys: bool,
    /// Who else signs people in.
    pub providers: Vec<ProviderWay>,
    /// Who may make an account without having been invited.
    pub sign_up: SignUp,
}

/// Somebody else who signs people in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProviderWay {
    /// As `/api/auth/start/{provider}` takes it.
    pub name: String,
    /// As shown to people.
    pub label: String,
    /// `oidc`, `github` or `google`.
    pub kind: String,
}

/// Signs the page in: with an address and a password, or with a key. The answer sets the cookie.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// An API key, or the one-time code of a printed link.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key: Option<String>,
    /// The address of an account.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub email: Option<String>,
    /// Its password.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub password: Option<String>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login {{ email: {:?}, .. }}", self.email)
    }
}

/// A link that signs a browser in once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LoginLink {
    /// Open it in a browser; it works once.
    pub url: String,
    /// Until when.
    pub expires: Timestamp,
}

impl fmt::Debug for LoginLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LoginLink {{ url: <hidden>, expires: {} }}", self.expires)
    }
}

/// Sets a server up: who does becomes its first owner and operator.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    /// The code of the printed link.
    pub code: String,
    /// As shown to people.
    pub name: String,
    /// The account's address.
    pub email: String,
    /// At least 10 characters; needed where passwords sign in.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub password: Option<String>,
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Setup {{ email: {:?}, .. }}", self.email)
    }
}

/// Makes an account.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAccount {
    /// As shown to people.
    pub name: String,
    /// The account's address.
    pub email: String,
    /// At least 10 characters.
    pub password: String,
    /// The code of an invitation.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub invitation: Option<String>,
}

impl fmt::Debug for NewAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NewAccount {{ email: {:?}, .. }}", self.email)
    }
}

/// Sets one's password; all other browsers are signed out.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordChange {
    /// The one before, where there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub current: Option<String>,
    /// At least 10 characters.
    pub password: String,
}

impl fmt::Debug for PasswordChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordChange { .. }")
    }
}

/// Changes one's own account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IdentityChange {
    /// As shown to people.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
}

/// Has this browser look at another organization.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OrganizationChoice {
    /// Which.
    pub organization: OrganizationId,
}

/// Who the server takes the caller for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Identity {
    /// The person; absent for a key of the organization's own.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub person: Option<PersonId>,
    /// The person's name, as shown to people.
    pub name: String,
    /// The account's address; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub email: Option<String>,
    /// Whether the person may run the server itself.
    #[serde(default)]
    pub operator: bool,
    /// The organization.
    pub organization: OrganizationId,
    /// Its name.
    #[serde(default)]
    pub organization_name: String,
    /// The person in this organization.
    pub member: MemberId,
    /// What the person may do in it.
    #[serde(default = "viewer")]
    pub role: Role,
    /// What the key may be used for; absent for a browser that may do all.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub scopes: Option<Scopes>,
    /// All organizations of the person.
    #[serde(default)]
    pub organizations: Vec<Membership>,
    /// What the page must send as `X-Boatyard-CSRF` with every request that changes something;
    /// absent for callers with a key.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub csrf: Option<String>,
}

/// What an older server does not tell.
const fn viewer() -> Role {
    Role::Viewer
}

/// A person in an organization.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Membership {
    /// The organization.
    pub id: OrganizationId,
    /// Its name.
    pub name: String,
    /// What the person may do in it.
    pub role: Role,
    /// The person in it.
    pub member: MemberId,
}

/// A browser in which a person is signed in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Device {
    /// Its id.
    pub id: DeviceId,
    /// Whether it is the one that asks.
    pub current: bool,
    /// What the person proved itself with: `password`, `link`, `key`, `passkey`, or a provider's
    /// name.
    pub way: String,
    /// Where it was seen last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub address: Option<String>,
    /// What it calls itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub program: Option<String>,
    /// When it was signed in.
    pub created: Timestamp,
    /// When it was seen last, to a minute.
    pub last_seen: Timestamp,
    /// Until when it is signed in, if it isn't seen again.
    pub expires: Timestamp,
}

/// The browsers in which a person is signed in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Devices {
    /// They, the one seen last first.
    pub items: Vec<Device>,
}

/// Which browsers to sign out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct DeviceChoice {
    /// All but the one that asks.
    #[serde(default)]
    pub others: bool,
}

/// An account on this server, for those who run it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Person {
    /// Its id.
    pub id: PersonId,
    /// As shown to people.
    pub name: String,
    /// Its address; absent for the one that nobody has claimed yet.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub email: Option<String>,
    /// Whether the address is known to be the person's.
    pub verified: bool,
    /// Whether there is a password.
    pub password: bool,
    /// Whether the person may run the server itself.
    pub operator: bool,
    /// Whether the person can't sign in.
    pub disabled: bool,
    /// When it was made.
    pub created: Timestamp,
    /// When the person was here last, roughly.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_seen: Option<Timestamp>,
}

crate::page::page! {
    /// Accounts, the oldest first.
    PersonPage of Person;
}

/// Which accounts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct PersonFilter {
    /// How many, 50 if nothing is said, at most 200.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Where the page before ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<crate::Cursor>,
}

/// Changes an account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PersonChange {
    /// As shown to people.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// Whether the person may run the server itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub operator: Option<bool>,
    /// Whether the person can't sign in; open work goes on.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub disabled: Option<bool>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_shown() {
        let secret = || "correct horse battery".to_owned();
        let shown = [
            format!("{:?}", Login { password: Some(secret()), ..Login::default() }),
            format!("{:?}", Login { key: Some(secret()), ..Login::default() }),
            format!("{:?}", PasswordChange { current: Some(secret()), password: secret() }),
        ];
        for text in shown {
            assert!(!text.contains("horse"), "{text}");
        }
    }
}
