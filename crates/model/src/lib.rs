//! Ids, names, states and their transitions.
//!
//! Plain values that every other crate speaks: no I/O, no async, no clock. What a client sees
//! (`boatyard-api`), what is stored (`boatyard-store`) and what crosses the link
//! (`boatyard-link`) are made of these.
//!
//! - [`access`]: roles, what keys may do, who sees what.
//! - [`audit`]: entries of the audit log, and the chain that holds them together.
//! - [`id`]: one newtype per kind of thing, a ULID with a prefix.
//! - [`time`]: instants as milliseconds, RFC 3339 at the edge.
//! - [`state`]: the state of an attempt, a session, a turn, a prompt, a workspace, a job, each
//!   with its legal transitions beside it.
//! - [`event`]: the one vocabulary of what happens in a session.
//! - [`agent`]: how much an agent may do unasked, what is known of it beforehand, what is set for
//!   it and what it was found to offer.
//! - [`diff`]: what git prints of a difference, read.
//! - [`name`]: parsed names: repositories, branches, commits, agents, environments.
//! - [`limits`]: what a workspace or a task may use.
//! - [`rule`]: rules of egress as people write them.
//! - [`request`]: what became of a request that left a workspace, and what a person says to it.

pub mod access;
pub mod agent;
pub mod audit;
pub mod diff;
pub mod event;
pub mod id;
pub mod limits;
pub mod name;
pub mod request;
pub mod rule;
pub mod state;
pub mod time;

pub use access::{KeyKind, RepositoryRole, Role, Scope, Scopes, Visibility, Wish};
pub use agent::{AgentOffers, AgentSettings, Autonomy};
pub use audit::{AuditEntry, AuditOutcome};
pub use event::{Content, Event, EventBody};
pub use id::{
    AskId, AttemptId, BlobId, BudgetId, ConnectionId, DeviceId, IdentityId, InvitationId, JobId,
    KeyId, LayerId, MemberId, OrganizationId, PasskeyId, PermissionId, PersonId, PromptId,
    QuestionId, QuotaId, RepositoryId, RuleId, SessionId, ShareId, TaskId, ToolId, WorkspaceId,
};
pub use limits::{TaskLimits, WorkspaceLimits};
pub use request::{AskAnswer, AskState, RequestVerdict, RequestWay};
pub use rule::{EgressMode, PortRange, RuleAction, RulePurpose, RuleScope, RuleSpec};
pub use state::{
    AttemptState, JobState, PromptMode, PromptState, SessionState, TurnOutcome, WorkspaceKind,
    WorkspaceState,
};
pub use time::Timestamp;
