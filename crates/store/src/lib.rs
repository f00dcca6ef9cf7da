//! The database: all SQL, the migrations, one [`Store`] handle.
//!
//! - [`store`]: opening, backup, check, closing.
//! - [`writer`]: the one task that writes. [`Store::write`] runs a closure over a [`Tx`] in one
//!   transaction; everything that changes rows is a method of [`Tx`], so that a change and the job
//!   that follows from it are stored together. Reading is a method of [`Store`].
//! - [`events`], [`feed`] and [`follow`]: a session's log, the organization's feed, and how to
//!   follow them live without a gap.
//! - [`jobs`]: durable background work.
//! - [`figures`]: what is counted, and what there is at a moment.
//! - [`asks`] and [`requests`]: requests that wait for a person, and the log of all of them.
//! - [`usage`] and [`budgets`]: what models cost, and what they may.
//! - [`audit`]: who changed what, in the transaction that changed it.
//! - [`tasks`], [`sessions`], [`prompts`], [`decisions`], [`workspaces`], [`repositories`], [`rules`],
//!   [`layers`], [`tools`], [`blobs`], [`connections`], [`keys`], [`idempotency`]: one group of tables each.
//!
//! What holds here:
//!
//! - One SQL text for every database; what differs is in a file of its own under `conn`.
//! - When a write returns, it is on the disk.
//! - Each state is checked twice: by the model's table of transitions, and by the database.
//! - Every row has an [`Owner`], itself or by the session that it belongs to.

mod agent_settings;
pub mod asks;
pub mod audit;
pub mod blobs;
pub mod budgets;
mod bulk;
pub mod codes;
mod conn;
pub mod connections;
pub mod days;
pub mod decisions;
pub mod devices;
mod error;
pub mod events;
pub mod feed;
pub mod figures;
mod filler;
pub mod follow;
pub mod git;
pub mod idempotency;
pub mod identities;
pub mod invitations;
pub mod jobs;
pub mod keys;
pub mod layers;
pub mod members;
pub mod migrations;
pub mod organizations;
mod owner;
mod pages;
pub mod passkeys;
pub mod people;
pub mod prompts;
pub mod quotas;
pub mod repositories;
pub mod requests;
mod row;
pub mod rules;
pub mod sessions;
pub mod shares;
mod state;
pub mod store;
pub mod tasks;
pub mod tools;
pub mod usage;
pub mod wanted;
pub mod workspaces;
pub mod writer;

pub use asks::{AskFilter, AskOutcome, AskRow, Asking, NewAsk};
pub use audit::{AuditChain, AuditCheck, AuditFilter, AuditPage};
pub use blobs::{BlobRow, NewBlob};
pub use budgets::{
    BUDGETS_MAX, BudgetAskRow, BudgetKey, BudgetPeriod, BudgetRow, BudgetScope, BudgetUnit,
    NewBudgetAsk,
};
pub use codes::{Decision, DeviceCodeRow, DeviceCodeState, Issued, NewDeviceCode, Polled};
pub use connections::{ConnectionRow, NewConnection, NewVaultKey, VaultKeyPurpose, VaultKeyRow};
pub use days::{DAY, DayRow, day_of};
pub use decisions::{PermissionRow, PermissionState, QuestionRow, QuestionState, Resolution};
pub use devices::{DEVICES_MAX, DeviceRow, NewDevice};
pub use error::{Error, Result};
pub use events::{Appended, EventFollower, JOB_TURN_COMPLETED, NewEvent, Origin, StoredEvent};
pub use feed::{FeedEntry, FeedFollower};
pub use figures::Figures;
pub use follow::Follower;
pub use git::{GIT_BINDINGS_MAX, GitBindingRow, GitIdentityRow, GitKeyRow};
pub use idempotency::IdempotencyKey;
pub use invitations::{InvitationRow, InvitationState, NewInvitation};
pub use jobs::{
    DEFAULT_QUEUE, Enqueued, JobFilter, JobOutcome, JobRow, Lease, NewJob, Settlement, WasRunning,
};
pub use keys::{KeyCallRow, KeyRow, NewKey, SeenKeyRow};
pub use layers::{LayerKind, LayerRow, LayerState, NewLayer};
pub use members::{MemberRow, Moved, Which};
pub use organizations::{
    ORGANIZATIONS_MAX, OrganizationRow, REPOSITORY_ROLES_MAX, RepositoryRoleRow,
};
pub use owner::{BUILT_IN_MEMBER, BUILT_IN_ORGANIZATION, Owner};
pub use people::{
    Address, BUILT_IN_PERSON, Claim, FIRST_ORGANIZATION, NewPerson, PasswordHash, PersonRefused,
    PersonRow, PersonUpdate, StandingRow,
};
pub use prompts::{Delivery, NewPrompt, PromptRow, Restarted};
pub use quotas::{
    Imposed, QUOTAS_MAX, QuotaKey, QuotaKind, QuotaRow, QuotaScope, QuotaUse, Reached,
};
pub use repositories::{RepositoryKind, RepositoryRow, RepositoryState};
pub use requests::{RequestFilter, RequestGroup, RequestPage, RequestRow, RequestSum};
pub use rules::{NewRule, RulePlace, RuleRow, ScopeRow};
pub use sessions::{NewSession, SessionFilter, SessionRow, SessionUpdate, TurnRow};
pub use shares::{
    NewShare, SHARES_MAX, ShareFilter, ShareRow, Standing, Taken, Taker, ThingId, Viewer,
};
pub use store::{Before, Options, Store};
pub use tasks::{
    AttemptRow, AttemptUpdate, Begin, Created, JOB_ATTEMPT, NewAttempt, NewTask, OrderRow, Phase,
    Reason, TaskDetail, TaskFilter, TaskRow,
};
pub use tools::{Again, AgentEntryRow, NewTool, ToolKind, ToolMade, ToolRow, ToolState, Wished};
pub use usage::{NewModelCall, UsageFilter, UsageGroup, UsageSum};
pub use wanted::WantedRow;
pub use workspaces::{Begins, NewWorkspace, WorkspaceRow, WorkspaceUpdate};
pub use writer::Tx;
