//! Tasks: orders, their attempts, and what came of them.

use boatyard_model::{
    AgentSettings, AttemptId, AttemptState, Autonomy, BlobId, MemberId, RepositoryId, SessionId,
    TaskId, TaskLimits, Timestamp, Visibility, WorkspaceId, WorkspaceLimits,
    event::{DiffFile, Usage},
    name::{AgentName, EnvironmentName},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{Cursor, Revision, page::page};

/// The longest prompt, in bytes. What is longer belongs into a file or an attachment.
pub const PROMPT_MAX: usize = 1 << 20;

/// The most pictures with one prompt.
pub const IMAGES_MAX: usize = 16;

/// The most attempts at one task.
pub const ATTEMPTS_MAX: u32 = 8;

/// Which of what an organization has queued goes first. Within one, what was ordered first does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// After everything else.
    Low,
    /// As it came.
    #[default]
    Normal,
    /// Before everything else.
    High,
}

/// An order: this prompt, on this repository, with this agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTask {
    /// What is to be done, in Markdown; 1 byte to 1 MiB.
    pub prompt: String,
    /// `owner/repo`, an `https://` or `ssh://` address, an absolute path on the server's machine
    /// (below a configured root), or the id of a repository that is known.
    pub repository: String,
    /// The agent; the server's default if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub agent: Option<AgentName>,
    /// Several agents, each with its own attempts, instead of `agent` and `model`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agents: Vec<AgentChoice>,
    /// Where work begins; the head of the default branch if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Revision>,
    /// The model; the agent's own choice if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The environment, by the name that the repository describes it under in
    /// `.boatyard/environments/NAME.toml`; `default`, which is `.boatyard/environment.toml`, if
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub environment: Option<EnvironmentName>,
    /// How much the agent may do without asking a person; as the settings say if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autonomy: Option<Autonomy>,
    /// What is set for the agents in this task alone, over what the repository and the organization
    /// set. `model` and `autonomy` above go before those in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<AgentSettings>,
    /// Pictures that were uploaded as blobs, at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<BlobId>,
    /// How many attempts to make at it, each on its own; 1 if absent. With several `agents`, so many
    /// with each; at most 8 in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// Which of what the organization has queued goes first; `normal` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// A line for lists; the prompt's first line if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What each attempt may use; the server's settings where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<TaskLimitsWanted>,
    /// What each workspace may use; the server's settings where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace_limits: Option<WorkspaceLimitsWanted>,
    /// Whether the result goes to the repository's origin.
    #[serde(default)]
    pub push: Push,
    /// What its workspaces may reach beside what they may all: presets, or rules in a line as
    /// `GET api.example.com/v1/*`. No other workspace may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<String>,
    /// Who may see it beside its owner, with its workspaces and sessions; as the organization says
    /// if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visibility: Option<Visibility>,
}

/// What to change about a task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskChange {
    /// Who may see it, with its workspaces and sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visibility: Option<Visibility>,
}

/// An agent, and the model that it is to use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentChoice {
    /// Its name.
    #[schema(value_type = String)]
    pub agent: AgentName,
    /// The model; as the settings say, else the agent's own choice, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

/// Whether a result is pushed to the origin when an attempt is done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Push {
    /// Where the origin lets us write.
    #[default]
    Auto,
    /// Only when somebody asks for it.
    Never,
}

/// Limits that differ from the server's settings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TaskLimitsWanted {
    /// From the first prompt to the end, in seconds, without the time that it waits for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<u32>,
    /// Setup, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setup_time: Option<u32>,
    /// Money in US dollars as the agent reports it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
}

impl TaskLimitsWanted {
    /// These limits, with the others from `settings`.
    pub fn over(self, settings: TaskLimits) -> TaskLimits {
        TaskLimits {
            time: self.time.unwrap_or(settings.time),
            setup_time: self.setup_time.unwrap_or(settings.setup_time),
            cost_usd: self.cost_usd.or(settings.cost_usd),
        }
    }
}

/// Limits that differ from the server's settings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WorkspaceLimitsWanted {
    /// Memory in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Processes and threads at one time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<u32>,
    /// Disk that the workspace's own changes may take, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
    /// Processor time in thousandths of one core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<u32>,
}

impl WorkspaceLimitsWanted {
    /// These limits, with the others from `settings`.
    pub fn over(self, settings: WorkspaceLimits) -> WorkspaceLimits {
        WorkspaceLimits {
            memory_bytes: self.memory_bytes.unwrap_or(settings.memory_bytes),
            processes: self.processes.unwrap_or(settings.processes),
            disk_bytes: self.disk_bytes.unwrap_or(settings.disk_bytes),
            cpu_millis: self.cpu_millis.unwrap_or(settings.cpu_millis),
        }
    }
}

/// A task, with its attempts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// A line for lists.
    pub title: String,
    /// Its attempts' states taken together.
    pub state: AttemptState,
    /// What is to be done.
    pub prompt: String,
    /// Pictures with it.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub images: Vec<BlobId>,
    /// The repository.
    pub repository: TaskRepository,
    /// The agent; `claude, codex` where there are several.
    pub agent: String,
    /// The model that was asked for, where all attempts have the same.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub model: Option<String>,
    /// The branch or commit that was asked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub base: Option<String>,
    /// The environment that was asked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub environment: Option<String>,
    /// How much the agent may do unasked, if it was chosen for this task.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub autonomy: Option<Autonomy>,
    /// What was set for the agents in this task alone.
    #[serde(skip_serializing_if = "AgentSettings::is_empty", default)]
    pub settings: AgentSettings,
    /// What each attempt may use.
    pub limits: TaskLimits,
    /// Whether the result goes to the origin.
    pub push: Push,
    /// What its workspaces may reach beside what they may all.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub egress: Vec<String>,
    /// The attempts, by number.
    pub attempts: Vec<Attempt>,
    /// The number of the best attempt so far: the first that succeeded and passed the check, else
    /// the first that succeeded, else the newest that has a result, else the newest.
    pub best: u32,
    /// Who gave the order.
    pub owner: MemberId,
    /// Who may see it beside its owner.
    #[serde(default = "crate::session::visible")]
    pub visibility: Visibility,
    /// When it was given.
    pub created: Timestamp,
    /// When the first attempt began.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub started: Option<Timestamp>,
    /// When the last attempt was over.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ended: Option<Timestamp>,
}

/// The repository that a task works on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaskRepository {
    /// Its id.
    pub id: RepositoryId,
    /// Its address, as people write it.
    pub source: String,
    /// Its folder below `/work`.
    pub folder: String,
}

/// A task in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskSummary {
    /// Its id.
    pub id: TaskId,
    /// A line.
    pub title: String,
    /// Its attempts' states taken together.
    pub state: AttemptState,
    /// The repository's address.
    pub repository: String,
    /// The agent; `claude, codex` where there are several.
    pub agent: String,
    /// How many attempts it has.
    pub attempts: u32,
    /// The newest attempt's session.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session: Option<SessionId>,
    /// When the order was given.
    pub created: Timestamp,
    /// When the first attempt began.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub started: Option<Timestamp>,
    /// When the last attempt was over.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ended: Option<Timestamp>,
    /// Who may see it beside its owner.
    #[serde(default = "crate::session::visible")]
    pub visibility: Visibility,
}

page! {
    /// A page of tasks.
    TaskPage of TaskSummary;
}

/// Which tasks to list.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TaskFilter {
    /// Only those in this state (`status` is taken as well).
    #[serde(alias = "status", skip_serializing_if = "Option::is_none")]
    #[param(inline)]
    pub state: Option<AttemptState>,
    /// Only those of this repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<RepositoryId>,
    /// At most so many, 1 to 200; 50 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Where to go on: the `next_cursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Cursor>,
}

/// One try at a task: a session in a workspace of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Attempt {
    /// Its id.
    pub id: AttemptId,
    /// Its number, from 1.
    pub n: u32,
    /// Where it stands.
    pub state: AttemptState,
    /// Why it failed or waits, and what to do next.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<Reason>,
    /// The agent that it is made with.
    pub agent: String,
    /// The model that was asked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub model: Option<String>,
    /// What was done to prepare and end it, with times.
    pub phases: Vec<Phase>,
    /// Where it works.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub workspace: Option<WorkspaceId>,
    /// Its conversation.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session: Option<SessionId>,
    /// The branch that its work is on: `boatyard/<task>-<n>`.
    pub branch: String,
    /// The commit that the branch began at.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub base_commit: Option<String>,
    /// What it handed back; changes when a later prompt changes the work.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub result: Option<TaskResult>,
    /// When it was ordered.
    pub created: Timestamp,
    /// When its preparation began.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub started: Option<Timestamp>,
    /// When it was over.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ended: Option<Timestamp>,
}

/// Why something is as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reason {
    /// Stable, for programs: `setup_failed`, `agent_failed`, `limit_time`, `permission`, …
    pub code: String,
    /// For people, with the next step.
    pub text: String,
}

/// A step of an attempt's preparation or end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Phase {
    /// `repository`, `workspace`, `setup`, `agent`, `result`, `check`, `push`.
    pub name: String,
    /// When it began.
    pub started: Timestamp,
    /// How long it took, in milliseconds; absent while it runs.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub millis: Option<u64>,
    /// What was found: `prepared checkout`, `from the cache`, …
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub detail: Option<String>,
}

/// What an attempt hands back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskResult {
    /// The task.
    pub task: TaskId,
    /// The attempt's number.
    pub attempt: u32,
    /// The attempt's state.
    pub state: AttemptState,
    /// The branch that the work is on.
    pub branch: String,
    /// The commit that it began at.
    pub base: String,
    /// The commit at its end; equal to `base` when nothing changed.
    pub head: String,
    /// Commits on the branch since `base`.
    pub commits: u32,
    /// Lines added.
    pub added: u64,
    /// Lines removed.
    pub removed: u64,
    /// What differs, file by file, at most 10,000.
    pub files: Vec<DiffFile>,
    /// The agent's last message.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub summary: Option<String>,
    /// What the session used.
    pub usage: Usage,
    /// What the check that the repository's environment names said of it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub check: Option<CheckResult>,
    /// Whether and where it was pushed.
    pub pushed: PushState,
    /// When it was taken.
    pub created: Timestamp,
}

/// What a check said of an attempt's work. It does not change the attempt's state: it tells which
/// of several attempts is the best.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckResult {
    /// The command, as people read it.
    pub command: String,
    /// How it went.
    pub state: CheckState,
    /// What it ended with, if it ended by itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exit_code: Option<i32>,
    /// How long it took, in milliseconds.
    pub millis: u64,
    /// The end of its output, at most 8 KiB; or why it was not started.
    pub output: String,
}

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckState {
    /// It ended with 0.
    Passed,
    /// It ended with another code, or by a signal.
    Failed,
    /// It took longer than it may.
    TimedOut,
    /// There is no such program.
    NotStarted,
}

impl CheckState {
    /// As people read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::TimedOut => "timed out",
            Self::NotStarted => "not started",
        }
    }
}

/// The best of several attempts: the first that succeeded and passed the check, else the first that
/// succeeded, else the newest that has a result, else the newest.
pub fn best(attempts: &[Attempt]) -> Option<&Attempt> {
    let passed = |attempt: &&Attempt| {
        let check = attempt.result.as_ref().and_then(|result| result.check.as_ref());
        check.is_some_and(|check| check.state == CheckState::Passed)
    };
    let mut succeeded = attempts.iter().filter(|one| one.state == AttemptState::Succeeded);
    succeeded
        .clone()
        .find(passed)
        .or_else(|| succeeded.next())
        .or_else(|| attempts.iter().rfind(|attempt| attempt.result.is_some()))
        .or(attempts.last())
}

/// Whether and where a result was pushed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum PushState {
    /// Nobody asked for it, or there is nothing to push.
    NotPushed,
    /// The origin has it.
    Pushed {
        /// The origin's address.
        remote: String,
        /// The branch there.
        branch: String,
        /// When.
        time: Timestamp,
    },
    /// The origin refused it or could not be reached.
    Refused {
        /// What it said, and what to do next.
        reason: String,
    },
}

/// The attempts at a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AttemptList {
    /// By number.
    pub items: Vec<Attempt>,
    /// The number of the best attempt so far.
    pub best: u32,
}

/// Which attempt is meant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AttemptChoice {
    /// Its number; the best one if absent: the first that succeeded and passed the check, else the
    /// first that succeeded, else the newest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
}

/// Which difference is meant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AttemptDiffQuery {
    /// The attempt's number; the best one if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Lines of context, at most 1000; 3 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<u32>,
}

/// A difference between two states of a repository.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Diff {
    /// From this commit.
    pub base: String,
    /// To this commit; absent for the files as they are now.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub head: Option<String>,
    /// File by file, at most 10,000.
    pub files: Vec<DiffFile>,
    /// The unified patch, with what is not UTF-8 replaced.
    pub patch: String,
    /// Whether there are more files, or the patch was cut.
    pub cut: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_order_is_enough_and_a_wrong_field_is_named() {
        let task: NewTask = serde_json::from_str(r#"{"prompt":"p","repository":"a/b"}"#).unwrap();
        assert_eq!((task.attempts, task.push), (None, Push::Auto));
        let wrong = r#"{"prompt":"p","repository":"a/b","promt":1}"#;
        let error = serde_json::from_str::<NewTask>(wrong).unwrap_err();
        assert!(error.to_string().contains("promt"));
        let bad_base = r#"{"prompt":"p","repository":"a/b","base":"a..b"}"#;
        assert!(serde_json::from_str::<NewTask>(bad_base).is_err());
    }

    #[test]
    fn wanted_limits_lie_over_the_settings() {
        let settings = TaskLimits { time: 10, setup_time: 20, cost_usd: Some(1.0) };
        let wanted = TaskLimitsWanted { time: Some(5), ..TaskLimitsWanted::default() };
        let got = wanted.over(settings);
        assert_eq!((got.time, got.setup_time, got.cost_usd), (5, 20, Some(1.0)));
    }
}
