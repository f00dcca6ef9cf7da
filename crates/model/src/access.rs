//! Who may do what: roles of people, scopes of keys, who sees a session or workspace.
//!
//! ```text
//! a request ─► the operation: role and scope, by the server's one table of operations
//!           ─► the thing it is about: whose it is, who may look at it, who may act in it
//! ```
//!
//! Plain values; what they mean for each operation is in the server (`access`).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::state::{UnknownState, text_enum};

text_enum! {
    /// What a member may do in an organization, or in one repository of it; each includes the one
    /// before.
    Role {
        /// Looks at everything that is not private, and changes nothing.
        Viewer = "viewer",
        /// Gives orders and works with agents.
        Member = "member",
        /// Decides on people, rules, credentials and limits, and sees what is private.
        Admin = "admin",
        /// Decides on the organization itself.
        Owner = "owner",
    }

    /// Who of its organization may see a task, session or workspace beside its owner, the admins,
    /// and those with whom it is shared.
    Visibility {
        /// Nobody.
        Private = "private",
        /// Everybody may look.
        Visible = "visible",
        /// Everybody may look, and members may act in it.
        Open = "open",
    }

    /// What somebody may do in one repository and with what is worked on in it. It only ever
    /// narrows the role in the organization; admins and owners are not narrowed.
    RepositoryRole {
        /// Nothing: for whom this holds, the repository does not exist.
        None = "none",
        /// Looks.
        Viewer = "viewer",
        /// As in the organization.
        Member = "member",
    }

    /// What somebody wants with a thing.
    Wish {
        /// To see it.
        Look = "look",
        /// To work in it: prompts, answers, commands, files, keystrokes.
        Act = "act",
        /// To decide about it: who sees it, its name, its end.
        Manage = "manage",
    }

    /// What a key is, and whom it speaks for.
    KeyKind {
        /// Made by the server for its own account on the machine; may do everything.
        Local = "local",
        /// Given to the server by whoever set it up; may do everything.
        Bootstrap = "bootstrap",
        /// Made by a person, for itself.
        Personal = "personal",
        /// The organization's own, with a role of its own.
        Service = "service",
        /// Given to a program that a person let in by its code.
        Login = "login",
    }

    /// One thing that a key may be used for. A browser in which somebody is signed in may do all.
    Scope {
        /// Read tasks, sessions and their events.
        TasksRead = "tasks_read",
        /// Make tasks and sessions, prompt, stop.
        TasksWrite = "tasks_write",
        /// Answer permissions, questions and requests that wait for a person.
        Approve = "approve",
        /// Read workspaces, their files and diffs.
        WorkspacesRead = "workspaces_read",
        /// Make workspaces, run commands in them, write their files, delete them.
        WorkspacesWrite = "workspaces_write",
        /// Read repositories and environments.
        RepositoriesRead = "repositories_read",
        /// Add, send and remove repositories; their credentials and signing keys.
        RepositoriesWrite = "repositories_write",
        /// Read rules of egress and the log of requests.
        EgressRead = "egress_read",
        /// Change rules of egress.
        EgressWrite = "egress_write",
        /// Read which connections there are, never their values.
        ConnectionsRead = "connections_read",
        /// Make, change and remove connections.
        ConnectionsWrite = "connections_write",
        /// Read agents and their settings.
        AgentsRead = "agents_read",
        /// Install and set up agents.
        AgentsWrite = "agents_write",
        /// Read who is in an organization.
        MembersRead = "members_read",
        /// Invite, change and remove members; the organization itself.
        MembersWrite = "members_write",
        /// Read which keys there are.
        KeysRead = "keys_read",
        /// Make and revoke keys.
        KeysWrite = "keys_write",
        /// Read what was used and what may be.
        UsageRead = "usage_read",
        /// Set budgets and quotas.
        UsageWrite = "usage_write",
        /// Read the audit log.
        AuditRead = "audit_read",
        /// Read jobs, figures and settings of the server.
        ServerRead = "server_read",
        /// Run jobs, collect garbage, change how people sign in.
        ServerWrite = "server_write",
        /// Change one's own account: password, devices, passkeys.
        Account = "account",
    }
}

impl KeyKind {
    /// Whether it speaks for the server's own account, whoever its member is.
    pub const fn is_server_s(self) -> bool {
        matches!(self, Self::Local | Self::Bootstrap)
    }
}

impl Role {
    const fn rank(self) -> u8 {
        match self {
            Self::Viewer => 0,
            Self::Member => 1,
            Self::Admin => 2,
            Self::Owner => 3,
        }
    }

    /// Whether it includes another.
    pub const fn includes(self, other: Self) -> bool {
        self.rank() >= other.rank()
    }
}

impl RepositoryRole {
    /// What is left of a role in the organization; nothing where the repository does not exist.
    pub const fn narrow(self, role: Role) -> Option<Role> {
        match (role, self) {
            (Role::Admin | Role::Owner, _) | (_, Self::Member) => Some(role),
            (_, Self::Viewer) => Some(Role::Viewer),
            (_, Self::None) => None,
        }
    }
}

impl PartialOrd for Role {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Role {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank().cmp(&other.rank())
    }
}

/// What a key may be used for. Written as its scopes, or `all`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scopes(u32);

impl Scopes {
    /// Everything, also what comes with later releases.
    pub const ALL: Self = Self(u32::MAX);
    /// Nothing.
    pub const NONE: Self = Self(0);

    /// What stands for [`Scopes::ALL`] in a text.
    const ALL_TEXT: &'static str = "all";

    /// With one more.
    #[must_use]
    pub const fn with(self, scope: Scope) -> Self {
        Self(self.0 | 1 << scope as u32)
    }

    /// Whether one is among them.
    pub const fn has(self, scope: Scope) -> bool {
        self.0 & 1 << scope as u32 != 0
    }

    /// Whether all of another's are among them.
    pub const fn cover(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Those that are also among another's.
    #[must_use]
    pub const fn shared_with(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each, in the order of [`Scope::ALL`].
    pub fn each(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.iter().copied().filter(move |scope| self.has(*scope))
    }
}

impl From<Scope> for Scopes {
    fn from(scope: Scope) -> Self {
        Self::NONE.with(scope)
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        scopes.into_iter().fold(Self::NONE, Self::with)
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ALL {
            return f.write_str(Self::ALL_TEXT);
        }
        for (place, scope) in self.each().enumerate() {
            if place > 0 {
                f.write_str(" ")?;
            }
            f.write_str(scope.as_str())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scopes({self})")
    }
}

impl FromStr for Scopes {
    type Err = UnknownState;

    /// Scopes apart by spaces or commas, as [`fmt::Display`] and RFC 6749 (section 3.3) write them.
    fn from_str(text: &str) -> Result<Self, UnknownState> {
        if text.trim() == Self::ALL_TEXT {
            return Ok(Self::ALL);
        }
        let words = text.split([' ', ',']).filter(|word| !word.is_empty());
        words.map(str::parse::<Scope>).collect()
    }
}

impl Serialize for Scopes {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if *self == Self::ALL {
            return [Self::ALL_TEXT].serialize(s);
        }
        s.collect_seq(self.each())
    }
}

impl<'de> Deserialize<'de> for Scopes {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let words = Vec::<std::borrow::Cow<'de, str>>::deserialize(d)?;
        let mut all = Self::NONE;
        for word in words {
            let parsed: Self = word.parse().map_err(serde::de::Error::custom)?;
            all = Self(all.0 | parsed.0);
        }
        Ok(all)
    }
}

impl utoipa::PartialSchema for Scopes {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        use utoipa::openapi::{ArrayBuilder, ObjectBuilder, schema::Type};
        let words = [Self::ALL_TEXT].into_iter().chain(Scope::ALL.iter().map(|s| s.as_str()));
        let item = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words));
        ArrayBuilder::new()
            .items(item)
            .description(Some("What a key may be used for; `all` is everything."))
            .into()
    }
}

impl utoipa::ToSchema for Scopes {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_includes_those_before_it() {
        for (place, role) in Role::ALL.iter().enumerate() {
            for (other_place, other) in Role::ALL.iter().enumerate() {
                assert_eq!(role.includes(*other), place >= other_place, "{role} {other}");
            }
        }
    }

    #[test]
    fn a_role_in_a_repository_only_narrows() {
        let left = |role, by: RepositoryRole| by.narrow(role);
        for role in [Role::Admin, Role::Owner] {
            assert_eq!(left(role, RepositoryRole::None), Some(role), "{role} is not narrowed");
        }
        assert_eq!(left(Role::Member, RepositoryRole::None), None);
        assert_eq!(left(Role::Member, RepositoryRole::Viewer), Some(Role::Viewer));
        assert_eq!(left(Role::Member, RepositoryRole::Member), Some(Role::Member));
        assert_eq!(left(Role::Viewer, RepositoryRole::Member), Some(Role::Viewer), "nor widened");
    }

    #[test]
    fn scopes_are_a_set_with_one_text() {
        let two: Scopes = [Scope::TasksRead, Scope::Approve].into_iter().collect();
        assert_eq!(two.to_string(), "tasks_read approve");
        assert_eq!("approve,tasks_read".parse(), Ok(two));
        assert!(two.has(Scope::Approve) && !two.has(Scope::TasksWrite));
        assert!(Scopes::ALL.cover(two) && two.cover(two) && !two.cover(Scopes::ALL));
        assert_eq!(two.shared_with(Scope::Approve.into()), Scope::Approve.into());
        assert_eq!(Scopes::ALL.shared_with(two), two);
        assert_eq!("all".parse(), Ok(Scopes::ALL));
        assert_eq!("".parse(), Ok(Scopes::NONE));
        assert!("tasks_read loud".parse::<Scopes>().is_err());
        let json = serde_json::to_string(&two).unwrap();
        assert_eq!(json, r#"["tasks_read","approve"]"#);
        assert_eq!(serde_json::from_str::<Scopes>(&json).unwrap(), two);
        assert_eq!(serde_json::to_string(&Scopes::ALL).unwrap(), r#"["all"]"#);
        assert!(Scope::ALL.len() < 32, "a set has 32 places");
    }
}
