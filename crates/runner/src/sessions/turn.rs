//! The beginning and the end of a turn, as the files show it.
//!
//! At its beginning the files and the checked out commit are noted; at its end they are compared
//! with what is there, a checkpoint is kept, and `turn.completed` is written after all else.

use std::time::Duration;

use boatyard_link::message::RecordKind;
use boatyard_model::{
    EventBody, TurnOutcome,
    event::{CommitKind, NoticeLevel},
    name::CommitId,
};
use tokio::time::timeout;

use super::session::{Session, Turn};
use crate::{failure, git};

/// How long the look at the files may hold up a prompt.
const LOOK: Duration = Duration::from_secs(20);

/// How long the checkpoint may hold up the end of a turn.
const CHECKPOINT: Duration = Duration::from_secs(120);

/// How many changed files are told one by one.
const FILES_MAX: usize = 1000;

/// What was there when a turn began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Before {
    head: Option<CommitId>,
    tree: CommitId,
}

impl Session {
    /// Notes the files before a turn; none where there is no repository.
    pub(super) async fn look_before(&self, turn: u32) -> Option<Before> {
        let folder = self.checkpoint.as_deref()?;
        let look = async {
            let repository = self.context.git.repository(folder).await?;
            let (head, now) = tokio::try_join!(repository.head(), repository.now())?;
            Ok::<_, git::Error>(Before { head, tree: now.tree })
        };
        match timeout(LOOK, look).await {
            Ok(Ok(before)) => Some(before),
            Ok(Err(error)) => {
                self.warn(turn, "look_failed", &failure::chain(&error)).await;
                None
            }
            Err(_) => {
                self.warn(turn, "look_failed", "git took too long to look at the files").await;
                None
            }
        }
    }

    /// Ends a turn that was begun: checkpoint, changes, and the last word. A turn that is over
    /// already is left so.
    pub(super) async fn conclude(&self, number: u32, outcome: TurnOutcome, error: Option<String>) {
        let (before, clock, outcome, error) = {
            let mut state = self.state();
            let running = |turn: &&mut Turn| turn.number == number && !turn.concluding;
            let Some(turn) = state.turn.as_mut().filter(running) else { return };
            turn.concluding = true;
            // What somebody ordered is how it is told, however the agent took it.
            let (outcome, error) = match turn.outcome {
                Some(ordered) => (ordered, None),
                None => (outcome, error),
            };
            (turn.before.take(), turn.clock, outcome, error)
        };
        let checkpoint = self.look_after(number, before).await;
        let body = EventBody::TurnCompleted {
            outcome,
            error,
            checkpoint: checkpoint.map(|commit| commit.to_string()),
            millis: u64::try_from(clock.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        self.context.event(self.id, Some(number), body).await;
        // From the record on, the next runner would know too: nothing may come between.
        self.state().turn = None;
        self.table.keep(&self.context);
    }

    async fn look_after(&self, turn: u32, before: Option<Before>) -> Option<CommitId> {
        let folder = self.checkpoint.as_deref()?;
        let look = async {
            let repository = self.context.git.repository(folder).await?;
            let now = repository.now().await?;
            let commit = repository.keep_checkpoint(turn, &now.tree);
            let Some(before) = &before else {
                return Ok((commit.await?, now.left_out, Vec::new(), Vec::new()));
            };
            let (commit, difference, made) = tokio::try_join!(
                commit,
                repository.difference(&before.tree, &now.tree),
                repository.made_since(before.head.as_ref()),
            )?;
            let files = difference.files;
            Ok::<_, git::Error>((commit, now.left_out, files, made))
        };
        let (commit, left_out, files, made) = match timeout(CHECKPOINT, look).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                self.warn(turn, "checkpoint_failed", &failure::chain(&error)).await;
                return None;
            }
            Err(_) => {
                self.warn(turn, "checkpoint_failed", "git took too long").await;
                return None;
            }
        };
        if let Some(text) = left_out {
            self.warn(turn, "checkpoint_partial", &text).await;
        }
        let more = files.len().saturating_sub(FILES_MAX);
        for file in files.into_iter().take(FILES_MAX) {
            let (path, change) = (file.path, file.change);
            let (added, removed) = (file.added, file.removed);
            self.tell(turn, EventBody::FileChanged { path, change, added, removed }).await;
        }
        if more > 0 {
            let text = format!("{more} more files changed than are listed here.");
            self.warn(turn, "many_files", &text).await;
        }
        for git::checkpoint::Made { commit, subject } in made {
            let commit = commit.to_string();
            let kind = CommitKind::Agent;
            self.tell(turn, EventBody::GitCommit { commit, kind, subject }).await;
        }
        Some(commit)
    }

    async fn tell(&self, turn: u32, mut body: EventBody) {
        // No message among these, so nothing is cut off that a blob would have to keep.
        crate::bounds::event(&mut body);
        self.context.record(self.id, Some(turn), RecordKind::Event(body), &[]).await;
    }

    async fn warn(&self, turn: u32, code: &str, text: &str) {
        let (level, code, text) = (NoticeLevel::Warning, code.to_owned(), text.to_owned());
        self.tell(turn, EventBody::Notice { level, code, text, data: None }).await;
    }
}
