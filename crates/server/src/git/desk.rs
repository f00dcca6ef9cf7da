//! Whether a workspace may fetch from here or push to there.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use boatyard_egress::{
    git::{
        self as gateway, BranchPattern, Direction, Grant, Later, Refusal, RefusalKind, Remote, Wish,
    },
    policy::{Answer, Asker, Question},
    rules::{LEARNED, Reason, Verdict, Wish as Asked},
};
use boatyard_model::{AskState, WorkspaceId, name::RepositorySource};
use boatyard_store::{Owner, Store};
use bytes::Bytes;
use http::Method;

use super::{Credentials, Signing, place, told};
use crate::{
    policies::Policies,
    rates::{Key as Counted, Limit},
    unrecorded::Unrecorded,
};

/// What allows what is a workspace's own.
const OWN: &str = "the workspace's own repository";
/// How long a person's yes holds for the requests that one fetch or push is made of, from the last
/// of them on.
const ONE_GO: Duration = Duration::from_secs(60);
/// The longest that it holds however many there are: one that never pauses is asked for again.
const ONE_GO_MOST: Duration = Duration::from_secs(600);
/// Answers that are remembered; past it all are forgotten and asked again.
const REMEMBERED: usize = 4096;

/// What the desk is made of.
pub(super) struct Parts {
    pub(super) store: Store,
    pub(super) policies: Policies,
    pub(super) asker: Arc<dyn Asker>,
    pub(super) credentials: Credentials,
    pub(super) signing: Signing,
    pub(super) branches: Vec<BranchPattern>,
    /// Whose those are that no table knows.
    pub(super) unrecorded: Unrecorded,
    /// How often the workspaces of one member may ask.
    pub(super) rate: Arc<Limit>,
}

/// Says what workspaces may do with git. A cheap clone.
#[derive(Clone)]
pub(super) struct Desk(Arc<Shared>);

struct Shared {
    parts: Parts,
    /// Who was let pass by a person.
    let_pass: Mutex<HashMap<Key, Go>>,
    notices: told::Notices,
}

type Key = (WorkspaceId, String, Direction);

/// A fetch or push that a person let pass.
struct Go {
    since: Instant,
    /// When a request was last made on it.
    last: Instant,
}

impl Go {
    /// Whether a request at this moment is still part of it; it goes on from there then.
    fn takes(&mut self, now: Instant) -> bool {
        let is_same =
            now.duration_since(self.last) < ONE_GO && now.duration_since(self.since) < ONE_GO_MOST;
        if is_same {
            self.last = now;
        }
        is_same
    }
}

/// A workspace, as far as git is concerned.
struct Home {
    owner: Owner,
    own: Option<Remote>,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Desk")
    }
}

impl Desk {
    pub(super) fn new(parts: Parts) -> Self {
        let notices = told::Notices::new(parts.store.clone());
        Self(Arc::new(Shared { parts, let_pass: Mutex::default(), notices }))
    }

    async fn home(&self, workspace: WorkspaceId) -> Result<Home, Refusal> {
        let store = &self.0.parts.store;
        let row = match store.workspace(workspace).await {
            Ok(row) => row,
            // One that only makes a layer has no row, and nothing of its own.
            Err(boatyard_store::Error::NotFound { .. }) => {
                let owner = self.0.parts.unrecorded.owner(workspace);
                let owner = owner.ok_or_else(|| {
                    refuse("Boatyard does not know this workspace.", RefusalKind::Forbidden)
                })?;
                return Ok(Home { owner, own: None });
            }
            Err(error) => return Err(failed(error)),
        };
        let own = match row.repository {
            Some(id) => {
                let source = store.repository(id).await.map_err(failed)?.source;
                let source = RepositorySource::parse(&source, "").ok();
                source.as_ref().and_then(place::remote)
            }
            None => None,
        };
        Ok(Home { owner: row.owner, own })
    }

    async fn judge(&self, wish: Wish) -> Result<Grant, Refusal> {
        let parts = &self.0.parts;
        let home = self.home(wish.workspace).await?;
        parts.rate.wait(Counted::Member(home.owner.member)).await;
        let remote = &wish.remote;
        let is_own = home.own.as_ref().is_some_and(|own| own.is(remote));
        if wish.direction == Direction::Push && !is_own {
            let text = match &home.own {
                Some(own) => format!(
                    "This workspace pushes to its own repository only, which is {own}, and not to \
                     {remote}. Start a task on that repository to push there."
                ),
                None => format!(
                    "This workspace has no repository of its own that it could push to, and {remote} \
                     is another's. Start a task on that repository to push there."
                ),
            };
            return Err(refuse(text, RefusalKind::Forbidden));
        }
        let (rule, asked) = self.rule(&wish, is_own).await?;
        let learns = &*rule == LEARNED;
        let credential = match learns && !is_own {
            true => None,
            false => {
                let found =
                    parts.credentials.find(home.owner, remote, is_own, wish.direction).await;
                found.map_err(|error| {
                    let text = error.to_string();
                    self.0.notices.tell(wish.workspace, remote, text.clone());
                    refuse(text, RefusalKind::Failed)
                })?
            }
        };
        Ok(Grant {
            rule,
            credential,
            guard: parts.credentials.guard(remote, is_own),
            branches: parts.branches.clone(),
            asked,
        })
    }

    /// The rule that allows it, and what came of asking where it says to ask.
    async fn rule(
        &self,
        wish: &Wish,
        is_own: bool,
    ) -> Result<(Arc<str>, Option<AskState>), Refusal> {
        let Wish { workspace, remote, direction, peer } = wish;
        let policy = self.0.parts.policies.watch(*workspace).await.map_err(failed)?;
        let policy = Arc::clone(&policy.borrow());
        let service = match direction {
            Direction::Fetch => "git-upload-pack",
            Direction::Push => "git-receive-pack",
        };
        // The request that matters of those that a fetch or push is made of.
        let path = format!("{}/{service}", remote.path);
        let asked = Asked::Request { method: &Method::POST, path: &path, query: None };
        let (doing, purpose) = match direction {
            Direction::Fetch => ("Fetching from", "git-fetch"),
            Direction::Push => ("Pushing to", "git-push"),
        };
        match policy.check(&remote.target, asked) {
            Verdict::Allowed(rule) => Ok((rule, None)),
            Verdict::Learned => Ok((LEARNED.into(), None)),
            Verdict::Ask(rule) => {
                let key = (*workspace, place::Place::of(remote).to_string(), *direction);
                if self.was_let_pass(&key) {
                    return Ok((rule, Some(AskState::Allowed)));
                }
                let question = Question {
                    workspace: *workspace,
                    target: remote.target.clone(),
                    method: Some(Method::POST),
                    path: Some(path),
                    rule: Arc::clone(&rule),
                    credential: None,
                    peer: *peer,
                };
                match self.0.parts.asker.ask(question).await {
                    Answer::Yes => {
                        self.let_pass(key);
                        Ok((rule, Some(AskState::Allowed)))
                    }
                    Answer::No { state, why } => Err(Refusal {
                        text: format!(
                            "{doing} {remote} has to be asked for, says rule `{rule}`, and {why}."
                        ),
                        rule: Some(rule),
                        kind: RefusalKind::Forbidden,
                        asked: state,
                    }),
                }
            }
            Verdict::Denied(reason) if is_own && !matches!(reason, Reason::Forbidden(_)) => {
                Ok((OWN.into(), None))
            }
            Verdict::Denied(reason) => {
                let host = &remote.target.host;
                let mend = match &reason {
                    Reason::Forbidden(_) => "Who may change that rule can take it out.".to_owned(),
                    _ => format!(
                        "To allow it: `boatyard egress allow {host} --purpose {purpose} --workspace \
                         {workspace}`."
                    ),
                };
                Err(Refusal {
                    text: format!("{doing} {remote} is not allowed: {reason}. {mend}"),
                    rule: reason.rule().cloned(),
                    kind: RefusalKind::Forbidden,
                    asked: None,
                })
            }
        }
    }

    fn was_let_pass(&self, key: &Key) -> bool {
        let mut all = self.0.let_pass.lock().unwrap_or_else(PoisonError::into_inner);
        all.get_mut(key).is_some_and(|go| go.takes(Instant::now()))
    }

    fn let_pass(&self, key: Key) {
        let mut all = self.0.let_pass.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= REMEMBERED {
            all.clear();
        }
        let now = Instant::now();
        all.insert(key, Go { since: now, last: now });
    }

    async fn again(&self, wish: Wish, grant: Grant) -> Option<Grant> {
        let credentials = &self.0.parts.credentials;
        let before = grant.credential.as_ref()?;
        let home = self.home(wish.workspace).await.ok()?;
        let is_own = home.own.as_ref().is_some_and(|own| own.is(&wish.remote));
        credentials.forget(home.owner, &wish.remote, is_own).await;
        let fresh =
            credentials.find(home.owner, &wish.remote, is_own, wish.direction).await.ok().flatten();
        match fresh {
            Some(fresh) if fresh.header != before.header => {
                Some(Grant { credential: Some(fresh), ..grant })
            }
            _ => {
                credentials.not_taken(home.owner, &wish.remote, is_own).await;
                self.0.notices.not_taken(wish.workspace, &wish.remote, before);
                None
            }
        }
    }

    async fn signing_key(&self, workspace: WorkspaceId) -> Result<String, Refusal> {
        let home = self.home(workspace).await?;
        let key = self.0.parts.signing.for_workspace(home.owner).await;
        key.map(|key| key.public()).map_err(|error| refuse(error.to_string(), error.kind()))
    }

    async fn sign(&self, workspace: WorkspaceId, object: Bytes) -> Result<String, Refusal> {
        let home = self.home(workspace).await?;
        let signed = self.0.parts.signing.sign(home.owner, &object).await;
        signed.map_err(|error| refuse(error.to_string(), error.kind()))
    }
}

impl gateway::Desk for Desk {
    fn admit(&self, wish: Wish) -> Later<Result<Grant, Refusal>> {
        let desk = self.clone();
        Box::pin(async move { desk.judge(wish).await })
    }

    fn not_taken(&self, wish: Wish, grant: Grant) -> Later<Option<Grant>> {
        let desk = self.clone();
        Box::pin(async move { desk.again(wish, grant).await })
    }

    fn taken(&self, wish: &Wish) {
        self.0.parts.credentials.taken(&wish.remote);
    }

    fn signing_key(&self, workspace: WorkspaceId) -> Later<Result<String, Refusal>> {
        let desk = self.clone();
        Box::pin(async move { desk.signing_key(workspace).await })
    }

    fn sign(&self, workspace: WorkspaceId, object: Bytes) -> Later<Result<String, Refusal>> {
        let desk = self.clone();
        Box::pin(async move { desk.sign(workspace, object).await })
    }
}

fn failed(error: boatyard_store::Error) -> Refusal {
    tracing::warn!(error = %crate::chain(&error), "what a workspace may do with git is not known");
    refuse("Boatyard can't look up this workspace for now. Try again.", RefusalKind::Failed)
}

fn refuse(text: impl Into<String>, kind: RefusalKind) -> Refusal {
    Refusal { text: text.into(), rule: None, kind, asked: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_yes_is_for_one_go_and_not_for_who_never_pauses() {
        let since = Instant::now();
        let mut go = Go { since, last: since };
        let at = |seconds| since + Duration::from_secs(seconds);
        assert!(go.takes(at(59)) && go.takes(at(118)));
        assert!(!go.takes(at(178)), "a minute of silence ends it");
        let mut go = Go { since, last: since };
        let mut seconds = 0;
        while go.takes(at(seconds)) {
            seconds += 30;
        }
        assert_eq!(seconds, 600);
    }
}
