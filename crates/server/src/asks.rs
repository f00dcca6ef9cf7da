//! Requests of workspaces that are held while a person is asked about them.
//!
//! ```text
//!  proxy ─ question ─► waits ─┐   the same question: one ask, one row, one event
//!  proxy ─ question ─► waits ─┼─► watcher ─► store: open ─► allowed | denied   a person
//!  proxy ─ question ─► waits ─┘      │                  ├─► expired            the deadline
//!                                    │                  └─► withdrawn          all went away
//!                                    └─ what came of it ─► everybody who waits
//! ```
//!
//! What is true stands in the store: a person's answer is written there first
//! (`operations::asks`), and [`Asks::answered`] tells those who wait. When the server dies the rows
//! stay open; whoever asks the same again finds them.

mod question;

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    time::Duration,
};

use boatyard_egress::policy::{Answer, Asked, Asker, Question};
use boatyard_model::{AskState, WorkspaceId};
use boatyard_store::{AskOutcome, AskRow, Asking, Error, NewAsk, Store};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::hub::{self, Hub};

/// Asks that may be open in one workspace: what a person can look through.
pub const OPEN_MAX: u64 = 32;
/// The longest path that is shown, in bytes.
const PATH: usize = 512;

/// Asks people. A cheap clone.
#[derive(Clone)]
pub struct Asks(Arc<Shared>);

struct Shared {
    store: Store,
    /// How long a person has.
    time: Duration,
    stopping: CancellationToken,
    open: Mutex<HashMap<Key, Waiting>>,
    /// Knows which program asks, once it is there.
    hub: OnceLock<Weak<hub::Shared>>,
}

/// A workspace, and the words of its question.
type Key = (WorkspaceId, String);

/// Those who wait for one answer.
struct Waiting {
    /// How many; a change wakes the watcher.
    count: watch::Sender<u32>,
    /// What came of it, when it is over.
    ended: watch::Sender<Option<Ended>>,
    /// A person's answer, on its way to the watcher.
    answer: watch::Sender<Option<AskRow>>,
}

/// What came of an ask.
#[derive(Debug, Clone)]
enum Ended {
    Asked(Box<AskRow>),
    Refused(String),
}

impl std::fmt::Debug for Asks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asks").field("open", &self.0.lock().len()).finish_non_exhaustive()
    }
}

impl Asker for Asks {
    fn ask(&self, question: Question) -> Asked {
        let asks = self.clone();
        Box::pin(async move { asks.wait(question).await })
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Waiting>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asks {
    /// Nobody is asked yet. A person has `time` for an answer.
    pub fn new(store: Store, time: Duration, stopping: CancellationToken) -> Self {
        let (open, hub) = (Mutex::default(), OnceLock::new());
        Self(Arc::new(Shared { store, time, stopping, open, hub }))
    }

    /// From now on a person is told which program asks, as this hub knows it.
    pub fn know(&self, hub: &Hub) {
        self.0.hub.get_or_init(|| Arc::downgrade(&hub.shared));
    }

    /// How many requests wait for an answer to this.
    pub fn waiting(&self, ask: &AskRow) -> u32 {
        let open = self.0.lock();
        let waiting = open.get(&(ask.workspace, ask.question.clone()));
        waiting.map_or(0, |waiting| *waiting.count.borrow())
    }

    /// A person answered, and it is stored: those who wait are told.
    pub fn answered(&self, ask: AskRow) {
        let open = self.0.lock();
        if let Some(waiting) = open.get(&(ask.workspace, ask.question.clone())) {
            waiting.answer.send_replace(Some(ask));
        }
    }

    async fn wait(&self, question: Question) -> Answer {
        let (mut ended, held) = self.join(&question);
        let ended = match ended.wait_for(Option::is_some).await {
            Ok(ended) => ended.clone(),
            Err(_) => None,
        };
        drop(held);
        match ended {
            Some(Ended::Asked(row)) => self.words(&row),
            Some(Ended::Refused(why)) => Answer::No { state: None, why },
            None => Answer::No { state: None, why: "the server is going down".to_owned() },
        }
    }

    /// What the asking program is told.
    fn words(&self, row: &AskRow) -> Answer {
        let who = row.resolver.as_deref().unwrap_or("somebody");
        let why = match row.state {
            AskState::Allowed => return Answer::Yes,
            AskState::Denied => format!("{who} said no"),
            AskState::Expired => {
                format!("nobody answered within {} s", self.0.time.as_secs())
            }
            AskState::Open | AskState::Withdrawn => "the question was withdrawn".to_owned(),
        };
        Answer::No { state: Some(row.state), why }
    }

    /// Waits with those who have the same question; the first has somebody ask it.
    fn join(&self, question: &Question) -> (watch::Receiver<Option<Ended>>, Held) {
        let new = question::ask(question, self.0.store.now().after(self.0.time));
        let key = (new.workspace, new.question.clone());
        let held = Held { shared: Arc::clone(&self.0), key: key.clone() };
        let mut open = self.0.lock();
        if let Some(waiting) = open.get(&key) {
            waiting.count.send_modify(|count| *count += 1);
            return (waiting.ended.subscribe(), held);
        }
        let (count, counted) = watch::channel(1);
        let (ended, receiver) = watch::channel(None);
        let (answer, answers) = watch::channel(None);
        open.insert(key.clone(), Waiting { count, ended, answer });
        drop(open);
        metrics::gauge!("boatyard_egress_asks_open").increment(1.0);
        let peer = question.peer;
        let watcher = Watcher { shared: Arc::clone(&self.0), key, new, peer, counted, answers };
        tokio::spawn(watcher.run());
        (receiver, held)
    }
}

/// One who waits; gone when it is dropped.
struct Held {
    shared: Arc<Shared>,
    key: Key,
}

impl Drop for Held {
    fn drop(&mut self) {
        let open = self.shared.lock();
        if let Some(waiting) = open.get(&self.key) {
            waiting.count.send_modify(|count| *count = count.saturating_sub(1));
        }
    }
}

/// Asks for those who wait, until there is an answer or nobody waits any more.
struct Watcher {
    shared: Arc<Shared>,
    key: Key,
    new: NewAsk,
    /// The program's end of its connection.
    peer: Option<SocketAddr>,
    counted: watch::Receiver<u32>,
    answers: watch::Receiver<Option<AskRow>>,
}

impl Watcher {
    async fn run(mut self) {
        loop {
            let ended = self.once().await;
            let label = match &ended {
                Ended::Asked(row) => row.state.as_str(),
                Ended::Refused(_) => "refused",
            };
            metrics::counter!("boatyard_egress_asks_total", "outcome" => label).increment(1);
            let withdrawn = matches!(&ended, Ended::Asked(row) if row.state == AskState::Withdrawn);
            let mut open = self.shared.lock();
            // Somebody came just when the last one had gone: it is asked anew for them.
            if withdrawn && *self.counted.borrow_and_update() > 0 {
                self.new.deadline = self.shared.store.now().after(self.shared.time);
                continue;
            }
            if let Some(waiting) = open.remove(&self.key) {
                waiting.ended.send_replace(Some(ended));
            }
            drop(open);
            metrics::gauge!("boatyard_egress_asks_open").decrement(1.0);
            return;
        }
    }

    /// Asks once.
    async fn once(&mut self) -> Ended {
        let new = self.new.clone();
        match self.shared.store.standing_answer(new.workspace, &new.question).await {
            Ok(Some(row)) => return Ended::Asked(Box::new(row)),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(error = %crate::chain(&error), "what a person said before can't be read");
            }
        }
        let new = self.named(new).await;
        let opened = self
            .shared
            .store
            .write(move |tx| Box::pin(async move { tx.open_ask(new, OPEN_MAX).await }))
            .await;
        let row = match opened {
            Ok(Asking::New(row) | Asking::Shared(row)) => row,
            Ok(Asking::Answered(row)) => return Ended::Asked(Box::new(row)),
            Ok(Asking::Full(count)) => {
                return Ended::Refused(format!(
                    "{count} requests of this workspace wait for a person already; answer those \
                     first: `boatyard egress asks --workspace {}`",
                    self.key.0
                ));
            }
            Err(Error::NotFound { .. }) => {
                let why = "there is nobody to ask while a workspace is being made";
                return Ended::Refused(why.to_owned());
            }
            Err(error) => {
                tracing::error!(error = %crate::chain(&error), "a person can't be asked");
                return Ended::Refused("the question can't be stored now".to_owned());
            }
        };
        let left = row.deadline.since(self.shared.store.now());
        let answered = async {
            match self.answers.wait_for(|row| row.is_some()).await {
                Ok(row) => row.clone(),
                Err(_) => None,
            }
        };
        let gone = async {
            // An error would mean that nobody can wait any more, which is the same.
            let _ = self.counted.wait_for(|count| *count == 0).await;
        };
        let state = tokio::select! {
            biased;
            answer = answered => match answer {
                Some(answer) => {
                    if answer.id != row.id {
                        // A person answered the row before just when it was asked anew, and means
                        // those who wait.
                        self.end(row, AskState::Withdrawn).await;
                    }
                    return Ended::Asked(Box::new(answer));
                }
                None => AskState::Withdrawn,
            },
            () = gone => AskState::Withdrawn,
            () = tokio::time::sleep(left) => AskState::Expired,
        };
        self.end(row, state).await
    }

    /// The question, with the program that asks.
    async fn named(&self, new: NewAsk) -> NewAsk {
        let hub = self.shared.hub.get().and_then(Weak::upgrade).map(|shared| Hub { shared });
        let (Some(hub), Some(peer)) = (hub, self.peer) else { return new };
        let program = hub.who_connects(new.workspace, peer, None).await;
        NewAsk { program: program.map(|program| program.name.clone()), ..new }
    }

    /// Ends an ask without a person's word, unless there is one after all.
    async fn end(&self, row: AskRow, state: AskState) -> Ended {
        if self.shared.stopping.is_cancelled() {
            // The row stays open for the next server, and so for a person.
            return Ended::Refused("the server is going down".to_owned());
        }
        let id = row.id;
        let ended = self
            .shared
            .store
            .write(move |tx| {
                let outcome = AskOutcome::unanswered(state);
                Box::pin(async move { tx.resolve_ask(id, outcome).await })
            })
            .await;
        let ended = match ended {
            Err(Error::AlreadyResolved { .. }) => self.shared.store.ask(id).await,
            ended => ended,
        };
        match ended {
            Ok(row) => Ended::Asked(Box::new(row)),
            Err(error) => {
                tracing::error!(ask.id = %id, error = %crate::chain(&error), "what came of an ask was not stored");
                Ended::Refused("what came of it can't be stored now".to_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests;
