//! Ids: a ULID with a prefix that names the kind, as `ws_01J…`.
//!
//! One type per kind, so that a session's id can't be passed where a task's is wanted.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Why a text is not an id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {article} id (expected `{prefix}_` and 26 characters)")]
pub struct IdError {
    text: String,
    article: &'static str,
    prefix: &'static str,
}

/// The longest piece of a wrong id that an error repeats.
const SHOWN: usize = 40;

macro_rules! id {
    ($($(#[$doc:meta])* $name:ident, $prefix:literal, $article:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u128);

        impl $name {
            /// What the text form begins with, before the underscore.
            pub const PREFIX: &'static str = $prefix;

            /// A new id: the time in milliseconds and 80 random bits from the operating system's
            /// generator.
            pub fn new() -> Self {
                Self(ulid::Ulid::generate().0)
            }

            /// The id with this value, as [`Self::to_u128`] gave it.
            pub const fn from_u128(value: u128) -> Self {
                Self(value)
            }

            /// The 128 bits behind the text form, for fixed-size messages.
            pub const fn to_u128(self) -> u128 {
                self.0
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}_{}", $prefix, ulid::Ulid(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                text.strip_prefix(concat!($prefix, "_"))
                    .filter(|rest| rest.len() == 26)
                    .and_then(|rest| ulid::Ulid::from_string(rest).ok())
                    .map(|ulid| Self(ulid.0))
                    // One spelling only, so that an id in a URL and one in a row compare equal.
                    .filter(|id| id.to_string() == text)
                    .ok_or_else(|| IdError {
                        text: text.chars().take(SHOWN).collect(),
                        article: $article,
                        prefix: $prefix,
                    })
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .examples([serde_json::json!(concat!($prefix, "_01JD5X8Z4J6Q0V9W3T7R2K1M5N"))])
                    .into()
            }
        }

        impl utoipa::ToSchema for $name {}
    )*};
}

id! {
    /// A place where work happens.
    WorkspaceId, "ws", "a workspace";
    /// One conversation with an agent in a workspace.
    SessionId, "ses", "a session";
    /// An order: a prompt, a repository, an agent.
    TaskId, "tsk", "a task";
    /// One try at a task.
    AttemptId, "att", "an attempt";
    /// What somebody said to a session.
    PromptId, "prm", "a prompt";
    /// A permission that an agent asked for.
    PermissionId, "per", "a permission";
    /// A question that an agent asked.
    QuestionId, "qst", "a question";
    /// A repository that Boatyard keeps a mirror of.
    RepositoryId, "rep", "a repository";
    /// Bytes kept beside the database: an image, a large output.
    BlobId, "blb", "a blob";
    /// A frozen part of a workspace's file tree.
    LayerId, "lay", "a layer";
    /// An agent's program, or what one needs, as it was installed.
    ToolId, "tol", "an installed tool";
    /// A unit of durable background work.
    JobId, "job", "a job";
    /// A team.
    OrganizationId, "org", "an organization";
    /// A person in an organization.
    MemberId, "mem", "a member";
    /// An API key.
    KeyId, "key", "a key";
    /// A rule of egress.
    RuleId, "egr", "a rule";
    /// A request that waits for a person's word.
    AskId, "ask", "an ask";
    /// A credential for an outside service.
    ConnectionId, "con", "a connection";
    /// A limit on what models may cost.
    BudgetId, "bud", "a budget";
    /// A person's account on a server, in whichever organizations.
    PersonId, "psn", "a person";
    /// A browser in which a person is signed in.
    DeviceId, "dev", "a device";
    /// An invitation into an organization.
    InvitationId, "inv", "an invitation";
    /// A link by which a session or workspace is shared.
    ShareId, "shr", "a share";
    /// A limit on what an organization or a person may use.
    QuotaId, "quo", "a quota";
    /// A person's account at a provider of sign-in.
    IdentityId, "idt", "an account";
    /// A passkey of a person.
    PasskeyId, "pky", "a passkey";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_survives_a_round_trip() {
        let id = WorkspaceId::new();
        assert_eq!(id.to_string().parse::<WorkspaceId>().unwrap(), id);
        assert_eq!(WorkspaceId::from_u128(id.to_u128()), id);
    }

    #[test]
    fn another_kind_or_spelling_is_refused() {
        let id = SessionId::new().to_string();
        assert!(id.parse::<WorkspaceId>().is_err());
        assert!(id.to_lowercase().parse::<SessionId>().is_err());
        assert!("ws_".parse::<WorkspaceId>().is_err());
        // The largest ULID begins with 7; a larger one would wrap.
        assert!("ws_8ZZZZZZZZZZZZZZZZZZZZZZZZZ".parse::<WorkspaceId>().is_err());
    }
}
