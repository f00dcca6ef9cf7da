//! What goes on after the request that it began with: streams, and the rights that they live by.
//!
//! ```text
//! request ─► lease (who, by which operation, about what) ─► stream
//!              │
//!              └─ rights were taken away · its end has come · from time to time
//!                    └─► may it still? ─ no ─► over, with a reason: the stream says it and ends
//! ```
//!
//! Streams of the same caller about the same thing share one lease, so that a thousand of them are
//! looked after like one. A new lease is judged once more right away: the right may have been taken
//! away while its request was under way.
//!
//! Who follows a session is present in it; [`presence`](super::presence) tells the others.

use std::{
    collections::HashMap,
    future::Future,
    io,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use boatyard_api::Problem;
use boatyard_model::{OrganizationId, SessionId, Timestamp, Wish};
use boatyard_store::ThingId;
use futures_util::StreamExt as _;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{Entry, presence::Presences, sees_all, things};
use crate::{
    app::App,
    auth::{Auth, Caller, Known, Via},
    gate::Gate,
    stream::ByteStream,
};

/// How often leases are judged although nobody said that a right was taken away: it may have ended
/// by itself, or by another program's hand.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// The shortest time between two rounds: many changes in a row are looked after together.
const ROUND: Duration = Duration::from_millis(50);

/// What a stream is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum About {
    /// The organization's feed or log.
    Organization(OrganizationId),
    /// A task, workspace or session, with what is wanted of it.
    Thing(ThingId, Want),
}

/// What a stream wants of a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Want {
    /// To see it.
    Look,
    /// To work in it.
    Act,
}

impl From<Want> for Wish {
    fn from(want: Want) -> Self {
        match want {
            Want::Look => Self::Look,
            Want::Act => Self::Act,
        }
    }
}

/// Why a stream is over before its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Over {
    /// The right to it is gone, for this reason.
    Closed(String),
    /// It is to be asked for anew: what it shows has changed.
    Again,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Name {
    via: Via,
    organization: OrganizationId,
    about: About,
    operation: &'static str,
}

/// The right of a caller to a stream. Whoever holds it keeps it looked after.
pub struct Lease {
    name: Name,
    caller: Caller,
    entry: &'static Entry,
    /// When it is to be judged again at the latest, as a timestamp's number: a browser that is used
    /// goes on being signed in.
    until: AtomicI64,
    over: OnceLock<Over>,
    ended: CancellationToken,
    leases: Weak<Leases>,
}

impl Lease {
    /// Why it is over, if it is.
    pub fn over(&self) -> Option<&Over> {
        self.over.get()
    }

    /// Waits until it is over.
    pub async fn ended(&self) -> Over {
        self.ended.cancelled().await;
        self.over.get().cloned().unwrap_or(Over::Again)
    }

    /// Whose it is.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Does work as long as the right to it lasts.
    ///
    /// # Errors
    /// The work's own, or that the right is gone.
    pub async fn during<T>(
        &self,
        work: impl Future<Output = Result<T, Problem>>,
    ) -> Result<T, Problem> {
        tokio::select! {
            biased;
            result = work => result,
            over = self.ended() => Err(Problem::not_allowed(match over {
                Over::Closed(reason) => reason,
                Over::Again => "the right to this has changed meanwhile".to_owned(),
            })),
        }
    }

    /// Bytes, as long as the right to them lasts; they break off where it ends.
    pub fn bounds(self: Arc<Self>, stream: ByteStream) -> ByteStream {
        Box::pin(futures_util::stream::unfold(Some((stream, self)), |state| async move {
            let (mut stream, lease) = state?;
            let next = tokio::select! {
                biased;
                over = lease.ended() => {
                    let reason = match over {
                        Over::Closed(reason) => reason,
                        Over::Again => "the right to this has changed meanwhile".to_owned(),
                    };
                    let cut = io::Error::new(io::ErrorKind::PermissionDenied, reason);
                    return Some((Err(cut), None));
                }
                next = stream.next() => next?,
            };
            Some((next, Some((stream, lease))))
        }))
    }

    fn end(&self, over: Over) {
        if self.over.set(over).is_ok() {
            self.ended.cancel();
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(leases) = self.leases.upgrade() else { return };
        leases.forget(self);
    }
}

/// All leases of the server.
pub struct Leases {
    open: Mutex<HashMap<Name, Weak<Lease>>>,
    /// Who is present where.
    pub presences: Presences,
    /// There is a new one, or one that ends sooner than the others.
    news: Notify,
    /// Rises when some were ended.
    ended: watch::Sender<u64>,
}

impl Default for Leases {
    fn default() -> Self {
        Self {
            open: Mutex::default(),
            presences: Presences::default(),
            news: Notify::new(),
            ended: watch::Sender::new(0),
        }
    }
}

impl Leases {
    /// A lease for a caller who may do this now.
    pub fn take(
        self: &Arc<Self>,
        known: &Known,
        entry: &'static Entry,
        about: About,
    ) -> Arc<Lease> {
        let caller = known.caller.clone();
        let name = Name {
            via: caller.via,
            organization: caller.owner.organization,
            about,
            operation: entry.operation,
        };
        let there = self.open().get(&name).and_then(Weak::upgrade);
        // Rights that changed make another one; the other is on its way out.
        let is_same = |lease: &Arc<Lease>| lease.caller.role == caller.role;
        if let Some(lease) = there.filter(|lease| is_same(lease) && lease.over().is_none()) {
            return lease;
        }
        let lease = Arc::new(Lease {
            name,
            caller,
            entry,
            until: AtomicI64::new(moment(known.until)),
            over: OnceLock::new(),
            ended: CancellationToken::new(),
            leases: Arc::downgrade(self),
        });
        self.open().insert(name, Arc::downgrade(&lease));
        self.news.notify_one();
        if let Some(session) = lease.session() {
            self.presences.came(session, lease.caller());
        }
        lease
    }

    /// Never to be held while a lease is dropped: that wants it, too.
    fn open(&self) -> MutexGuard<'_, HashMap<Name, Weak<Lease>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, lease: &Lease) {
        let mut open = self.open();
        if open.get(&lease.name).is_some_and(|other| other.strong_count() == 0) {
            open.remove(&lease.name);
        }
        drop(open);
        if let Some(session) = lease.session() {
            self.presences.went(session, lease.caller());
        }
    }

    /// Tells whenever some were ended.
    pub fn ended(&self) -> watch::Receiver<u64> {
        self.ended.subscribe()
    }

    fn all(&self) -> Vec<Arc<Lease>> {
        let mut all: Vec<Arc<Lease>> = self.open().values().filter_map(Weak::upgrade).collect();
        all.retain(|lease| lease.over().is_none());
        all
    }

    /// Looks after all of them, until the server stops.
    pub async fn run(self: Arc<Self>, app: App, gate: Arc<Gate>) {
        let auth = &gate.auth;
        let mut rights = app.store.rights();
        loop {
            let leases = self.all();
            let mut some_ended = false;
            for lease in &leases {
                some_ended |= judge(&app, auth, lease).await;
            }
            if some_ended {
                self.ended.send_modify(|round| *round += 1);
            }
            let until = leases.iter().map(|lease| lease.until.load(Ordering::Relaxed)).min();
            let there_are_some = !leases.is_empty();
            drop(leases);
            let left = Timestamp(until.unwrap_or(i64::MAX)).since(app.store.now());
            let left = left.saturating_add(Duration::from_millis(1)).clamp(ROUND, LOOK_AGAIN);
            tokio::select! {
                () = app.stopping.cancelled() => return,
                changed = rights.changed() => if changed.is_err() { return },
                () = self.news.notified() => {}
                () = tokio::time::sleep(left), if there_are_some => {}
            }
            // What else happens in this moment is looked after in the same round.
            tokio::select! {
                () = app.stopping.cancelled() => return,
                () = tokio::time::sleep(ROUND) => {}
            }
            rights.mark_unchanged();
        }
    }
}

impl Lease {
    fn session(&self) -> Option<SessionId> {
        match self.name.about {
            About::Thing(ThingId::Session(id), _) if self.entry.operation == "follow_session" => {
                Some(id)
            }
            _ => None,
        }
    }
}

/// A moment as a number; none is never.
fn moment(at: Option<Timestamp>) -> i64 {
    at.map_or(i64::MAX, |at| at.0)
}

/// Ends a lease whose right is gone; whether it was.
async fn judge(app: &App, auth: &Auth, lease: &Lease) -> bool {
    let over = match still(app, auth, lease).await {
        Ok(None) => return false,
        Ok(Some(over)) => over,
        Err(problem) if problem.status < 500 => Over::Closed(problem.detail.clone()),
        Err(problem) => {
            // Nothing is known: the next round looks again.
            tracing::error!(detail = %problem.detail, "a stream's right can't be looked after");
            return false;
        }
    };
    lease.end(over);
    true
}

async fn still(app: &App, auth: &Auth, lease: &Lease) -> Result<Option<Over>, Problem> {
    let known = match auth.again(&lease.caller).await? {
        Ok(known) => known,
        Err(refusal) => return Ok(Some(Over::Closed(refusal.problem().detail.clone()))),
    };
    let now = &known.caller;
    lease.until.store(moment(known.until), Ordering::Relaxed);
    lease.entry.check(now)?;
    match lease.name.about {
        // It shows everything, which is too much now; or less than it should.
        About::Organization(_) if sees_all(now) != sees_all(&lease.caller) => Ok(Some(Over::Again)),
        About::Organization(_) => Ok(None),
        About::Thing(id, want) => {
            let thing = things::thing(app, id).await?;
            let gone = |problem: Problem| match problem.status {
                404 => Problem::not_allowed("it is no longer shared with you, or was removed"),
                _ => problem,
            };
            things::check(app, now, thing, want.into()).await.map_err(gone)?;
            Ok(None)
        }
    }
}
