//! Connections: credentials for outside services, which workspaces use without having them.

use std::fmt;

use boatyard_model::{ConnectionId, PortRange, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zeroize::Zeroizing;

/// The value of a credential on its way to the server. It can't be printed, and its memory is
/// overwritten when it goes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String)]
pub struct SecretText(String);

impl SecretText {
    /// Takes a value.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The value, for whoever seals it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The value, overwritten when it goes.
    pub fn into_inner(mut self) -> Zeroizing<String> {
        Zeroizing::new(std::mem::take(&mut self.0))
    }
}

impl Drop for SecretText {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText")
    }
}

/// Where a credential goes, and what workspaces see of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConnectionBinding {
    /// The hosts that it is for: `api.example.com`, `*.example.com`, or an address.
    pub hosts: Vec<String>,
    /// The ports there; 443 if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<u16>)]
    pub ports: Vec<PortRange>,
    /// The methods; all if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// The paths, which may end in `*`; all if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// Where in a request: `bearer`, `header:NAME`, `header:NAME=token {}`, `basic`, `basic:USER`,
    /// `query:NAME`, `body`.
    pub places: Vec<String>,
    /// The variables by which workspaces see its placeholder.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub variables: Vec<String>,
    /// Whether a request that brings neither placeholder nor credential gets it as well.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub always: bool,
    /// Whether it may go by plain HTTP, which everybody on the way reads.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub plain_http: bool,
}

/// Whose a connection is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionScope {
    /// The organization's: for the workspaces of all its people.
    #[default]
    Organization,
    /// One person's: for that person's own workspaces, before the organization's. Nobody else sees
    /// it.
    Person,
}

/// Whether a connection works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionState {
    /// It does.
    Active,
    /// Its time is over.
    Expired,
    /// Its value can't be opened: the master key is missing, or another one.
    Locked,
}

impl ConnectionState {
    /// The text used in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Locked => "locked",
        }
    }
}

/// A connection. Its value is not in it, and nowhere else to be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Connection {
    /// Its id.
    pub id: ConnectionId,
    /// What people call it.
    pub name: String,
    /// `github`, `gitlab`, `npm`, `pypi`, `cargo`, `docker`, `openai`, `model`, `git`,
    /// `generic`.
    pub kind: String,
    /// Whose it is.
    #[serde(default)]
    pub scope: ConnectionScope,
    /// The provider of models that it takes the place of the organization's key for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub provider: Option<String>,
    /// Where it goes.
    pub binding: ConnectionBinding,
    /// Whether it works.
    pub state: ConnectionState,
    /// When it was made.
    pub created: Timestamp,
    /// When its value was given last.
    pub rotated: Timestamp,
    /// When it ceases to work by itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires: Option<Timestamp>,
    /// When it was used last, to the minute.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_used: Option<Timestamp>,
    /// When its service said last that it does not know the value.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_refused: Option<Timestamp>,
    /// What keeps it from being used, or is odd: a sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub warnings: Vec<String>,
}

/// The connections that there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConnectionList {
    /// By name.
    pub items: Vec<Connection>,
}

/// A connection to be made. What a kind knows need not be said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewConnection {
    /// What people are to call it; the kind if absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// The kind; `generic` knows nothing by itself.
    pub kind: String,
    /// Whose it is to be.
    #[serde(default)]
    pub scope: ConnectionScope,
    /// For a person's own of the kind `model`: the provider that the person pays by it, `anthropic`
    /// or another name of `[providers.NAME]`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub provider: Option<String>,
    /// The credential.
    pub value: SecretText,
    /// What differs from the kind's own; a list that is not empty takes the place of the kind's.
    #[serde(default)]
    pub binding: ConnectionBinding,
    /// The user name that goes with a password.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub user: Option<String>,
    /// When it ceases to work by itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires: Option<Timestamp>,
}

/// Another value for a connection. Placeholders stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateConnection {
    /// The credential.
    pub value: SecretText,
    /// When it ceases to work by itself; never if absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires: Option<Timestamp>,
}

/// What a look at a connection found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConnectionCheck {
    /// Whether its value can be opened, its time is not over, and its service knows it, as far as
    /// that could be asked.
    pub good: bool,
    /// What was found, a sentence each.
    pub findings: Vec<String>,
}

/// Which keys to change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rekey {
    /// The key that seals values: a new one is made, and every value sealed anew.
    pub data: bool,
    /// The master key: to a new one where Boatyard made it, else to the first one in its source.
    pub master: bool,
    /// Begin anew because the master key is lost: every stored value is lost with it.
    pub forget: bool,
}

/// What a change of keys did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rekeyed {
    /// Values that were sealed anew.
    pub sealed: u64,
    /// Keys that another master key wraps now.
    pub rewrapped: u64,
    /// The master key in use, as it is called in messages, if that was changed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub master: Option<String>,
}
