//! API keys and what was called with them.

use std::fmt;

use boatyard_model::{KeyId, KeyKind, MemberId, Role, Scopes, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{Cursor, page::page};

/// An API key. Its secret is not in it, and nowhere else to be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiKey {
    /// Its id.
    pub id: KeyId,
    /// Whom it speaks for.
    pub kind: KeyKind,
    /// What it is for.
    pub name: String,
    /// The first characters of the secret, to recognize it by.
    pub prefix: String,
    /// What it may be used for; never more than its member may do.
    pub scopes: Scopes,
    /// The member that it speaks for; a service key has one of its own.
    pub member: MemberId,
    /// The member's name, as shown to people.
    pub member_name: String,
    /// What the member may do; none if it is not in the organization any more.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub role: Option<Role>,
    /// When it was made.
    pub created: Timestamp,
    /// When it was used last, to the minute.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_used: Option<Timestamp>,
    /// From where it was used last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_address: Option<String>,
    /// When it ceases to work by itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires: Option<Timestamp>,
    /// When it ceased to work.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub revoked: Option<Timestamp>,
    /// Whether it is the one that this was asked with.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub current: bool,
}

/// The keys that there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiKeyList {
    /// Those that work first, the newest first.
    pub items: Vec<ApiKey>,
}

/// Whose keys are meant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeysOf {
    /// The caller's own.
    #[default]
    Own,
    /// Everybody's in the organization, and its service keys; for admins.
    Organization,
}

/// Which keys to list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct ApiKeyFilter {
    /// Whose.
    #[param(inline)]
    pub of: KeysOf,
    /// Also those that ceased to work.
    pub all: bool,
}

/// A key to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewApiKey {
    /// What it is for.
    pub name: String,
    /// What it may be used for; all that the caller's own way in may be used for, if absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub scopes: Option<Scopes>,
    /// When it ceases to work by itself; never if absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires: Option<Timestamp>,
    /// Makes it a service key, of the organization and not of a person, with this role. For admins.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub service: Option<Role>,
}

/// A key that was just made. The secret is shown here, and never again.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MadeApiKey {
    /// The key.
    pub key: ApiKey,
    /// What to send as `Authorization: Bearer …`.
    pub secret: String,
}

impl fmt::Debug for MadeApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MadeApiKey").field("key", &self.key).finish_non_exhaustive()
    }
}

/// Calls with one key that were alike: of one method and path, from one address, with one outcome,
/// and within a few seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyCall {
    /// Their place in the log: rising.
    pub number: u64,
    /// When the first of them ended.
    pub time: Timestamp,
    /// Their method.
    pub method: String,
    /// Their path, without the query; with names in braces where there were too many to tell apart.
    pub path: String,
    /// The status of the answers.
    pub status: u16,
    /// Where they came from.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub address: Option<String>,
    /// How many they are.
    pub calls: u64,
    /// How long the longest took until its answer began, in microseconds.
    pub micros: u64,
}

page! {
    /// A page of calls.
    KeyCallPage of KeyCall;
}

/// Which calls to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct KeyCallFilter {
    /// Only those that were refused or failed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub failed: bool,
    /// How many, 50 if absent, 200 at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Where the page begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Cursor>,
}
