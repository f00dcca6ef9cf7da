//! States, and which may follow which.
//!
//! ```text
//! attempt    queued → preparing → running ⇄ waiting → succeeded | failed | cancelled
//! session    starting → idle ⇄ running ⇄ waiting, any of them → ended
//! prompt     queued → delivered → done,  queued → withdrawn
//! workspace  creating → asleep ⇄ awake,  any → failed | deleted
//! job        queued → running → done | failed | cancelled,  running → queued (retry)
//! ```
//!
//! A terminal state is never left. Each enum is checked in the database as well.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

macro_rules! text_enum {
    ($($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* })*) => {$(
        $(#[$doc])*
        // Not `rename = $text` at each: the schema's derive can't read a macro's fragment. The
        // test below holds both forms together.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum $name {
            $($(#[$vdoc])* $variant,)*
        }

        impl $name {
            /// Every value, in the order of life.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The text used in JSON, in the database and on the page.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = UnknownState;

            fn from_str(text: &str) -> Result<Self, UnknownState> {
                match text {
                    $($text => Ok(Self::$variant),)*
                    _ => Err(UnknownState { kind: stringify!($name), text: text.chars().take(40).collect() }),
                }
            }
        }
    )*};
}

pub(crate) use text_enum;

/// A text that is none of a state's values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a value of {kind}")]
pub struct UnknownState {
    pub(crate) kind: &'static str,
    pub(crate) text: String,
}

text_enum! {
    /// Where one try at a task stands.
    AttemptState {
        /// Waits for a free place.
        Queued = "queued",
        /// Its workspace is being made and set up.
        Preparing = "preparing",
        /// The agent works.
        Running = "running",
        /// A person, a budget or a quota must act before it goes on.
        Waiting = "waiting",
        /// The agent is done; there is a result.
        Succeeded = "succeeded",
        /// It could not be done; the reason is kept.
        Failed = "failed",
        /// Somebody ended it.
        Cancelled = "cancelled",
    }

    /// Where a conversation stands.
    SessionState {
        /// The agent is being started.
        Starting = "starting",
        /// Waits for a prompt.
        Idle = "idle",
        /// A turn is under way.
        Running = "running",
        /// A permission or a question waits for a person.
        Waiting = "waiting",
        /// Over: its workspace is gone.
        Ended = "ended",
    }

    /// How a prompt that arrives during a turn is to be taken.
    PromptMode {
        /// After the running turn.
        Queue = "queue",
        /// Into the running turn, at the next tool boundary.
        Steer = "steer",
        /// The running turn is cancelled first.
        Interrupt = "interrupt",
    }

    /// Where a prompt stands.
    PromptState {
        /// Not yet with the agent; may be edited or withdrawn.
        Queued = "queued",
        /// The agent has it.
        Delivered = "delivered",
        /// The turn that took it is over.
        Done = "done",
        /// Taken back before it was delivered.
        Withdrawn = "withdrawn",
    }

    /// How a turn ended.
    TurnOutcome {
        /// The agent said that it is done.
        Completed = "completed",
        /// Somebody stopped or interrupted it.
        Cancelled = "cancelled",
        /// The agent refused to go on.
        Refused = "refused",
        /// The agent, its provider or its process failed; the event says how.
        Failed = "failed",
        /// The process that ran it died; the next prompt resumes the conversation.
        RunnerLost = "runner_lost",
        /// A limit on time or money was reached.
        LimitReached = "limit_reached",
    }

    /// Who made the place where work happens.
    WorkspaceKind {
        /// Boatyard made it.
        Sandbox = "sandbox",
        /// A machine that joined through a tunnel.
        Local = "local",
    }

    /// Where a workspace stands.
    WorkspaceState {
        /// Its files are being laid out.
        Creating = "creating",
        /// Its first process runs.
        Awake = "awake",
        /// No process; files only.
        Asleep = "asleep",
        /// It could not be made, or its files are lost.
        Failed = "failed",
        /// Gone.
        Deleted = "deleted",
    }

    /// Where a unit of background work stands.
    JobState {
        /// Waits for its time or for a worker.
        Queued = "queued",
        /// A worker holds its lease.
        Running = "running",
        /// Done.
        Done = "done",
        /// Given up; the last error is kept.
        Failed = "failed",
        /// No longer wanted.
        Cancelled = "cancelled",
    }
}

impl AttemptState {
    /// Whether this state is never left.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    /// Whether `next` may follow this state.
    pub const fn may_become(self, next: Self) -> bool {
        use AttemptState::{Cancelled, Failed, Preparing, Queued, Running, Succeeded, Waiting};
        match self {
            Queued => matches!(next, Preparing | Failed | Cancelled),
            // A setup may wait for a person, and a crash may put an attempt back in the queue.
            Preparing => matches!(next, Queued | Running | Waiting | Failed | Cancelled),
            Running => matches!(next, Waiting | Succeeded | Failed | Cancelled),
            Waiting => matches!(next, Preparing | Running | Succeeded | Failed | Cancelled),
            Succeeded | Failed | Cancelled => false,
        }
    }

    /// A task's state, which is that of its attempts taken together: the most alive one if any is
    /// alive, else success if any succeeded, else failure before cancellation.
    pub fn of_task(attempts: impl IntoIterator<Item = Self>) -> Self {
        const RANK: [AttemptState; 7] = [
            AttemptState::Waiting,
            AttemptState::Running,
            AttemptState::Preparing,
            AttemptState::Queued,
            AttemptState::Succeeded,
            AttemptState::Failed,
            AttemptState::Cancelled,
        ];
        let rank = |state: Self| RANK.iter().position(|r| *r == state).unwrap_or(RANK.len());
        attempts.into_iter().min_by_key(|state| rank(*state)).unwrap_or(Self::Queued)
    }
}

impl SessionState {
    /// Whether `next` may follow this state.
    pub const fn may_become(self, next: Self) -> bool {
        use SessionState::{Ended, Idle, Running, Starting, Waiting};
        match self {
            Starting => matches!(next, Idle | Running | Ended),
            Idle => matches!(next, Starting | Running | Ended),
            Running => matches!(next, Idle | Waiting | Ended),
            Waiting => matches!(next, Idle | Running | Ended),
            Ended => false,
        }
    }
}

impl PromptState {
    /// Whether `next` may follow this state.
    pub const fn may_become(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::Queued, Self::Delivered | Self::Withdrawn) | (Self::Delivered, Self::Done)
        )
    }
}

impl WorkspaceState {
    /// Whether `next` may follow this state.
    pub const fn may_become(self, next: Self) -> bool {
        use WorkspaceState::{Asleep, Awake, Creating, Deleted, Failed};
        match self {
            Creating => matches!(next, Awake | Asleep | Failed | Deleted),
            Awake => matches!(next, Asleep | Failed | Deleted),
            Asleep => matches!(next, Awake | Failed | Deleted),
            Failed => matches!(next, Deleted),
            Deleted => false,
        }
    }
}

impl JobState {
    /// Whether this state is never left.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }

    /// Whether `next` may follow this state.
    pub const fn may_become(self, next: Self) -> bool {
        match self {
            Self::Queued => matches!(next, Self::Running | Self::Cancelled),
            Self::Running => !matches!(next, Self::Running),
            Self::Done | Self::Failed | Self::Cancelled => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_text_is_the_one_in_json_and_in_the_schema() {
        fn check<T: ToSchema + Serialize + std::fmt::Display>(all: &[T]) {
            let schema = serde_json::to_value(T::schema()).unwrap();
            let texts: Vec<String> = all.iter().map(ToString::to_string).collect();
            assert_eq!(serde_json::to_value(all).unwrap(), serde_json::json!(texts));
            assert_eq!(schema["enum"], serde_json::json!(texts));
        }
        check(AttemptState::ALL);
        check(SessionState::ALL);
        check(PromptMode::ALL);
        check(PromptState::ALL);
        check(TurnOutcome::ALL);
        check(WorkspaceKind::ALL);
        check(WorkspaceState::ALL);
        check(JobState::ALL);
    }

    fn attempt_state() -> impl Strategy<Value = AttemptState> {
        proptest::sample::select(AttemptState::ALL)
    }

    proptest! {
        #[test]
        fn a_terminal_state_is_never_left(from in attempt_state(), to in attempt_state()) {
            prop_assert!(!(from.is_terminal() && from.may_become(to)));
        }

        #[test]
        fn every_walk_ends_or_can_still_end(walk in proptest::collection::vec(attempt_state(), 0..40)) {
            let mut state = AttemptState::Queued;
            for next in walk {
                if state.may_become(next) {
                    state = next;
                }
            }
            let can_end = AttemptState::ALL.iter().any(|s| s.is_terminal() && state.may_become(*s));
            prop_assert!(state.is_terminal() || can_end);
        }

        #[test]
        fn a_task_is_over_only_when_all_its_attempts_are(
            states in proptest::collection::vec(attempt_state(), 1..6)
        ) {
            let all_over = states.iter().all(|s| s.is_terminal());
            prop_assert_eq!(AttemptState::of_task(states.clone()).is_terminal(), all_over);
            let any_success = states.contains(&AttemptState::Succeeded);
            if all_over {
                prop_assert_eq!(AttemptState::of_task(states) == AttemptState::Succeeded, any_success);
            }
        }

        #[test]
        fn text_form_survives_a_round_trip(state in attempt_state()) {
            prop_assert_eq!(state.as_str().parse::<AttemptState>(), Ok(state));
            prop_assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
    }
}
