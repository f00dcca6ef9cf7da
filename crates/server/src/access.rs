//! Who may do what, in one place for every way in.
//!
//! ```text
//! a request ─► the table: its operation's entry ─► role, scope, operator?   (the gate)
//!           ─► the operation: whose is it, who may look, act, manage?       (access of things)
//! ```
//!
//! The [table] has one entry for each route. The gate looks it up by method and matched path before
//! anything of the request is read, and refuses a route without an entry. The same table is what
//! the documents show and what the tests try, role by role and scope by scope.

use boatyard_api::{Problem, ProblemKind};
use boatyard_model::{Role, Scope};
use http::Method;

use crate::auth::{Caller, Via};

#[cfg(test)]
mod document;
pub mod leases;
pub mod presence;
pub mod table;
pub mod things;

pub use things::{check, role, sees_all, viewer};

/// What an operation asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing: anybody may.
    Open,
    /// To be known, whatever the key is for: who one is, and what becomes of one's own key.
    Oneself,
    /// To be known; it is about oneself, or about things that are judged one by one.
    Known,
    /// At least this role in the organization.
    Role(Role),
    /// To be one of those who run the server.
    Operator,
}

/// How the audit log learns of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audit {
    /// It changes nothing.
    None,
    /// In the same transaction as its first change; beside it where it writes nothing.
    Change,
    /// At the same time as its work, which is no change of the database: a command, a file.
    Beside,
}

/// What is known of one route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its method.
    pub method: &'static Method,
    /// Its path, with names in braces.
    pub path: &'static str,
    /// Its operation's name.
    pub operation: &'static str,
    /// What it asks of the caller.
    pub need: Need,
    /// What a key must be for.
    pub scope: Scope,
    /// How it is audited.
    pub audit: Audit,
}

/// The entry of a route, by the path that it was matched by.
pub fn entry(method: &Method, path: &str) -> Option<&'static Entry> {
    // What answers GET answers HEAD.
    let method = if method == Method::HEAD { &Method::GET } else { method };
    table::find(method, path)
}

/// Whether a matched path is one of the [table], with this method or another.
pub fn is_listed(path: &str) -> bool {
    table::has(path)
}

/// What those may ask for who have nothing but the link of a share; each judges what it is about.
const FOR_GUESTS: &[&str] = &[
    "find_identity",
    "find_session",
    "follow_session",
    "find_presence",
    "list_prompts",
    "find_prompt",
    "read_transcript",
    "read_blob",
    "find_task",
    "list_attempts",
    "find_task_result",
    "read_attempt_diff",
    "read_attempt_patch",
    "find_workspace",
    "list_files",
    "read_file",
    "read_workspace_diff",
    "read_workspace_log",
    "sign_out",
];

impl Entry {
    /// Whether those may ask for it who have nothing but the link of a share.
    pub fn is_for_guests(&self) -> bool {
        self.need == Need::Open || FOR_GUESTS.contains(&self.operation)
    }

    /// Refuses a caller who may not.
    ///
    /// # Errors
    /// When the role, the key's scopes or the person do not suffice.
    pub fn check(&self, caller: &Caller) -> Result<(), Problem> {
        let refused = |detail: String| Problem::new(ProblemKind::NotAllowed, detail);
        if self.need == Need::Open {
            return Ok(());
        }
        if matches!(caller.via, Via::Guest(_)) && !self.is_for_guests() {
            return Err(Problem::unauthenticated("the link that you have is for looking only")
                .with_next("Sign in to do more."));
        }
        if self.need != Need::Oneself && !caller.scopes.has(self.scope) {
            let detail = format!("this key is not for `{}`", self.scope);
            return Err(refused(detail).with_next("Use a key with that scope."));
        }
        match self.need {
            Need::Open | Need::Oneself | Need::Known => Ok(()),
            Need::Role(role) if caller.role.includes(role) => Ok(()),
            Need::Role(role) => {
                let detail = format!("this needs the role `{role}`; yours is `{}`", caller.role);
                Err(refused(detail).with_next("Ask an admin of the organization."))
            }
            Need::Operator if caller.operator => Ok(()),
            Need::Operator => Err(refused("this is for those who run the server".to_owned())
                .with_next("Ask one of its operators.")),
        }
    }
}
