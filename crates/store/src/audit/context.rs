//! What is known of a request that changes something, and how it travels with the request.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use boatyard_model::{AuditOutcome, MemberId, OrganizationId, PersonId};
use tokio::sync::Notify;

use super::{Claim, Unsealed, locked};
use crate::{Result, Store};

/// What the log says of a request whose answer nobody waited for.
const GONE: &str = "whoever asked went away before the answer; it may have been done, or a part";

/// The longest text of an entry that a client chooses, in bytes.
const TEXT_MAX: usize = 500;

/// Notes that one request may leave.
const NOTES_MAX: usize = 24;

/// Who does something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Actor {
    /// The organization whose chain it is written into; none for the server's own.
    pub organization: Option<OrganizationId>,
    /// As which member of it.
    pub member: Option<MemberId>,
    /// The person.
    pub person: Option<PersonId>,
    /// As shown to people.
    pub name: String,
    /// How it was proved: `key key_…`, `device dev_…`, `server`; empty for somebody unknown.
    pub via: String,
    /// Where the request came from.
    pub address: Option<String>,
}

impl Actor {
    /// The server itself, in a chain of its own or of an organization.
    pub fn server(organization: Option<OrganizationId>) -> Self {
        let (name, via) = ("Boatyard".to_owned(), "server".to_owned());
        Self { organization, name, via, ..Self::default() }
    }
}

/// What is known of a request that changes something. Shared by all that is done for it.
#[derive(Debug)]
pub struct Context {
    operation: &'static str,
    subjects: BTreeMap<String, String>,
    request: Option<String>,
    open: Mutex<Open>,
    begun: Notify,
    taken: Arc<AtomicBool>,
}

/// What may become known on the way.
#[derive(Debug)]
struct Open {
    actor: Actor,
    notes: BTreeMap<String, String>,
    /// Tasks that go on for it whether or not anybody waits.
    held: u32,
    /// Nobody waits for its answer any more.
    left: bool,
}

impl Context {
    /// For a request of this operation by `actor`, about what its address names.
    pub fn new(
        operation: &'static str,
        actor: Actor,
        subjects: BTreeMap<String, String>,
        request: Option<String>,
    ) -> Arc<Self> {
        let bounded = |(key, text): (String, String)| (key, cut(text));
        let actor = Actor { name: cut(actor.name), ..actor };
        Arc::new(Self {
            operation,
            subjects: subjects.into_iter().map(bounded).collect(),
            request,
            open: Mutex::new(Open { actor, notes: BTreeMap::new(), held: 0, left: false }),
            begun: Notify::new(),
            taken: Arc::default(),
        })
    }

    /// Whether the entry is there, or about to be.
    pub fn is_recorded(&self) -> bool {
        self.taken.load(Ordering::Acquire)
    }

    /// Whether anybody is known to be behind it.
    pub fn has_actor(&self) -> bool {
        !locked(&self.open).actor.via.is_empty()
    }

    /// Whether anything was noted.
    pub fn has_notes(&self) -> bool {
        !locked(&self.open).notes.is_empty()
    }

    /// Waits until the work of the request [begins].
    pub async fn begun(&self) {
        self.begun.notified().await;
    }

    /// Whoever asked is gone. Whether nothing goes on for the request any more.
    fn leave(&self) -> bool {
        let mut open = locked(&self.open);
        open.left = true;
        open.held == 0
    }

    /// A task of its own goes on for the request from here on.
    fn hold(&self) {
        locked(&self.open).held += 1;
    }

    /// It ended. Whether it was the last, and whoever asked is gone.
    fn release(&self) -> bool {
        let mut open = locked(&self.open);
        open.held -= 1;
        open.held == 0 && open.left
    }

    pub(super) fn name_actor(&self, actor: Actor) {
        let mut open = locked(&self.open);
        let address = open.actor.address.take().or(actor.address);
        open.actor = Actor { address, name: cut(actor.name), ..actor };
    }

    pub(super) fn note(&self, key: &'static str, value: String) {
        let mut open = locked(&self.open);
        if open.notes.len() < NOTES_MAX || open.notes.contains_key(key) {
            open.notes.insert(key.to_owned(), cut(value));
        }
    }

    pub(crate) fn claim(&self) -> Option<Claim> {
        Claim::take(&self.taken)
    }

    pub(crate) fn unsealed(&self, outcome: AuditOutcome, reason: Option<String>) -> Unsealed {
        let open = locked(&self.open);
        Unsealed {
            actor: open.actor.clone(),
            operation: self.operation.to_owned(),
            outcome,
            reason: reason.map(cut),
            subjects: self.subjects.clone(),
            details: open.notes.clone(),
            request: self.request.clone(),
        }
    }
}

/// A text that is not longer than an entry takes, cut between two characters.
fn cut(mut text: String) -> String {
    if text.len() > TEXT_MAX {
        let end = (0..=TEXT_MAX).rev().find(|place| text.is_char_boundary(*place));
        text.truncate(end.unwrap_or(0));
        text.push('…');
    }
    text
}

tokio::task_local! {
    static CURRENT: Arc<Context>;
}

/// Does the work of a request: what it writes is audited under `context`.
pub async fn within<F: Future>(context: Arc<Context>, work: F) -> F::Output {
    CURRENT.scope(context, work).await
}

pub(crate) fn current() -> Option<Arc<Context>> {
    CURRENT.try_with(Arc::clone).ok()
}

/// Adds to the entry of the request that this is done for, before its first write. Never a secret.
/// Does nothing outside of one.
pub fn note(key: &'static str, value: impl ToString) {
    // Outside of a request there is nobody to write about.
    let _ = CURRENT.try_with(|context| context.note(key, value.to_string()));
}

/// Says who it is, once a request that began without anybody has proved it: a sign-in. The address
/// stays as it was.
pub fn name_actor(actor: Actor) {
    let _ = CURRENT.try_with(|context| context.name_actor(actor));
}

/// Does what the server does by itself at its start: what it writes is audited as its own, in this
/// organization's chain.
pub async fn by_server<F: Future>(
    operation: &'static str,
    organization: OrganizationId,
    work: F,
) -> F::Output {
    let actor = Actor::server(Some(organization));
    within(Context::new(operation, actor, BTreeMap::new(), None), work).await
}

/// Says that a request that is allowed begins work that is not in the database: its entry may be
/// written meanwhile.
pub fn begins() {
    // Outside of a request there is nobody to write about.
    let _ = CURRENT.try_with(|context| context.begun.notify_one());
}

/// Says whose chain the entry belongs to, where that is not the organization that the caller speaks
/// for.
pub fn concerns(organization: Option<OrganizationId>) {
    let _ = CURRENT.try_with(|context| locked(&context.open).actor.organization = organization);
}

impl Store {
    /// Work of the request that is under way here, for a task of its own that goes on to its end
    /// when nobody waits for the request any more: what it writes is audited as the request's.
    pub fn audited<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        let store = self.clone();
        let context = current().inspect(|context| context.hold());
        async move {
            let Some(context) = context else { return work.await };
            let output = within(Arc::clone(&context), work).await;
            if context.release()
                && let Err(error) = store.append_left(&context).await
            {
                tracing::error!(%error, "what nobody waited for is not in the audit log");
            }
            output
        }
    }

    /// Appends the entry of a request whose answer nobody waits for any more, unless one is there:
    /// behind every write that it had asked for, and behind what still [goes on](Self::audited) for
    /// it. So nobody changes anything unseen by hanging up.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn audit_left(&self, context: &Arc<Context>) -> Result<()> {
        if context.leave() { self.append_left(context).await } else { Ok(()) }
    }

    async fn append_left(&self, context: &Arc<Context>) -> Result<()> {
        let context = Arc::clone(context);
        // What the request asked the writer for before is done by then, and has the entry.
        self.write_aside(move |tx| {
            Box::pin(async move {
                let Some(claim) = context.claim() else { return Ok(()) };
                let reason = Some(GONE.to_owned());
                tx.append_audit(context.unsealed(AuditOutcome::Failed, reason))?;
                claim.keep();
                Ok(())
            })
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(cut("short".to_owned()), "short");
        let long = cut("ä".repeat(TEXT_MAX));
        assert!(long.len() <= TEXT_MAX + '…'.len_utf8() && long.ends_with("ä…"));
    }

    #[tokio::test]
    async fn a_claim_that_was_not_kept_is_given_back() {
        let context = Context::new("x", Actor::default(), BTreeMap::new(), None);
        drop(context.claim().unwrap());
        let claim = context.claim().unwrap();
        assert!(context.claim().is_none() && context.is_recorded());
        claim.keep();
        assert!(context.claim().is_none());
        note("nobody", "listens");
        within(Arc::clone(&context), async { note("role", "admin") }).await;
        assert_eq!(context.unsealed(AuditOutcome::Allowed, None).details["role"], "admin");
    }
}
