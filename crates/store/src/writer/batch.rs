//! The writer's loop: gather, run, commit, answer.

use std::{
    panic::AssertUnwindSafe,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use tokio::sync::{mpsc, oneshot};

use super::{CLOSURE_LIMIT, Effects, Op, Published, Tx, Work, WriterParts, claims::Claims};
use crate::{
    Error, Result,
    conn::{Conn, direct::Connection, exec, sqlite},
    events::StoredEvent,
    figures::Tally,
    jobs::{JobOutcome, Settlement},
    store::Shared,
};

/// Operations that one transaction takes at most.
const BATCH_OPS: usize = 1024;
/// Rows (events, jobs) that one transaction takes at most: about 4 MiB of events, 10 ms.
const BATCH_ROWS: usize = 4096;

/// How long those of the last transaction are waited for: a part of what a commit takes.
const CROWD: Duration = Duration::from_micros(100);

/// Gives a caller its answer once it is known whether the transaction was committed.
pub(crate) type Answer = Box<dyn FnOnce(Result<()>) + Send>;

/// The task that owns the connection that writes.
pub(crate) struct Writer {
    path: PathBuf,
    ops: mpsc::Receiver<Op>,
    shared: Arc<Shared>,
    tx: Tx,
    claims: Claims,
    /// The connection can't be trusted after a failed rollback.
    broken: bool,
    /// Claims that nobody took, to be given back.
    backlog: Vec<Op>,
}

impl Writer {
    pub(crate) fn new(parts: WriterParts, conn: Conn) -> Self {
        let WriterParts { path, ops, shared, clock } = parts;
        let tx = Tx::new(conn, clock);
        Self {
            path,
            ops,
            shared,
            tx,
            claims: Claims::default(),
            broken: false,
            backlog: Vec::new(),
        }
    }

    /// Runs until every handle of the store is gone.
    pub(crate) async fn run(mut self) {
        let mut batch = Vec::new();
        let mut crowd = 0;
        loop {
            self.await_crowd(crowd);
            let ready = match self.backlog.pop() {
                Some(op) => Ok(op),
                None => self.ops.try_recv(),
            };
            match ready {
                Ok(op) => batch.push(op),
                Err(mpsc::error::TryRecvError::Disconnected) => break,
                Err(mpsc::error::TryRecvError::Empty) => {
                    let wake = self.claims.sleep(&self.tx);
                    tokio::select! {
                        op = self.ops.recv() => match op {
                            Some(op) => batch.push(op),
                            None => break,
                        },
                        () = wake => batch.push(Op::Poke),
                    }
                }
            }
            let mut rows: usize = batch.iter().map(weight).sum();
            while batch.len() < BATCH_OPS && rows < BATCH_ROWS {
                let Ok(op) = self.ops.try_recv() else { break };
                rows += weight(&op);
                batch.push(op);
            }
            crowd = batch.len();
            self.commit(std::mem::take(&mut batch)).await;
        }
        self.claims.give_up();
        let Conn::Sqlite(conn) = self.tx.conn;
        if let Err(error) = conn.close() {
            tracing::warn!(error = &error as &dyn std::error::Error, "closing the database");
        }
        self.shared.closed.notify_one();
    }

    /// Those who were just answered come at once with their next: waits a moment for as many, so
    /// that they share a commit. Not for one that is alone.
    fn await_crowd(&self, crowd: usize) {
        if crowd < 2 {
            return;
        }
        let until = Instant::now() + CROWD;
        while self.ops.len() < crowd && Instant::now() < until {
            std::thread::yield_now();
        }
    }

    async fn commit(&mut self, batch: Vec<Op>) {
        // A look at the clock writes nothing, unless it gives somebody a job.
        let idle = batch.iter().all(|op| matches!(op, Op::Poke));
        let closures = batch.iter().any(|op| matches!(op, Op::Run(_)));
        let mut answers = Vec::with_capacity(batch.len());
        let result = self.transaction(batch, &mut answers).await;
        match &result {
            Ok(()) => {
                // Only closures and what tells the feed change a task; an event changes its
                // session, too.
                let told = closures || !self.tx.effects.feed.is_empty();
                if told {
                    self.shared.task_pages.changed();
                }
                if told || !self.tx.effects.events.is_empty() {
                    self.shared.session_pages.changed();
                }
                if self.tx.effects.keys {
                    let before = self.shared.revocations.fetch_add(1, Ordering::AcqRel);
                    self.shared.rights.send_replace(before + 1);
                }
                self.tell();
                self.publish();
                if !idle {
                    self.shared.dirty.notify_one();
                }
            }
            Err(_) => {
                self.tx.effects = Effects::default();
                self.tx.heads.clear();
                self.claims.rolled_back();
                if self.rollback().await.is_err() {
                    self.broken = true;
                }
            }
        }
        // Workers first: what they were given is to begin now.
        let orphans = self.claims.answer(&result);
        for answer in answers {
            answer(result.clone());
        }
        if !orphans.is_empty() {
            let at = self.tx.now();
            let jobs = orphans
                .iter()
                .map(|job| Settlement { lease: job.lease(), outcome: JobOutcome::Release { at } })
                .collect();
            let (reply, _) = oneshot::channel();
            self.backlog.push(Op::Settle { jobs, reply });
        }
    }

    /// Everything of `batch` in one transaction. Leaves an answer for each operation.
    async fn transaction(&mut self, batch: Vec<Op>, answers: &mut Vec<Answer>) -> Result<()> {
        let mut checkpoints = Vec::new();
        let begun = self.begin().await;
        let shared_with_others = batch.len() > 1;
        let mut result = begun;
        let mut ops = batch.into_iter().peekable();
        while let Some(op) = ops.next() {
            match op {
                Op::Run(work) => {
                    if result.is_ok() {
                        result = self.run_one(work, shared_with_others, answers).await;
                    } else {
                        answers.push(Box::new(move |committed| work.settle(committed)));
                    }
                }
                Op::Append { events, mut follow_up, reply } => {
                    let mut group = vec![(events, reply)];
                    while let Some(Op::Append { .. }) = ops.peek() {
                        if let Some(Op::Append { events, follow_up: more, reply }) = ops.next() {
                            group.push((events, reply));
                            follow_up.extend(more);
                        }
                    }
                    if result.is_ok() {
                        result = self.tx.append_group(group, follow_up, answers).await;
                    } else {
                        for (.., reply) in group {
                            answers.push(refusal(reply));
                        }
                    }
                }
                Op::Enqueue { jobs, reply } => {
                    let mut group = vec![(jobs, reply)];
                    while let Some(Op::Enqueue { .. }) = ops.peek() {
                        if let Some(Op::Enqueue { jobs, reply }) = ops.next() {
                            group.push((jobs, reply));
                        }
                    }
                    if result.is_ok() {
                        result = self.tx.enqueue_group(group, answers).await;
                    } else {
                        for (.., reply) in group {
                            answers.push(refusal(reply));
                        }
                    }
                }
                Op::Settle { jobs, reply } => {
                    let mut group = vec![(jobs, reply)];
                    while let Some(Op::Settle { .. }) = ops.peek() {
                        if let Some(Op::Settle { jobs, reply }) = ops.next() {
                            group.push((jobs, reply));
                        }
                    }
                    if result.is_ok() {
                        result = self.tx.settle_group(group, answers).await;
                    } else {
                        for (.., reply) in group {
                            answers.push(refusal(reply));
                        }
                    }
                }
                Op::Claim(request) => self.claims.add(request),
                Op::Checkpoint { reply } => checkpoints.push(reply),
                Op::Poke => self.claims.poke(),
                Op::Close => self.ops.close(),
            }
        }
        if result.is_ok() {
            result = self.claims.serve(&mut self.tx).await;
        }
        if result.is_ok() {
            result = exec!(self.tx, "COMMIT").map(drop);
        }
        for reply in checkpoints {
            // Outside the transaction, so that nothing is held meanwhile.
            let done = match result {
                Ok(()) => exec!(self.tx, "PRAGMA wal_checkpoint(PASSIVE)").map(drop),
                Err(_) => Ok(()),
            };
            let _ = reply.send(done);
        }
        result
    }

    async fn begin(&mut self) -> Result<()> {
        if self.broken {
            self.tx.conn = Conn::Sqlite(Connection::open(&self.path)?);
            self.broken = false;
        }
        exec!(self.tx, sqlite::BEGIN).map(drop)
    }

    async fn rollback(&mut self) -> Result<()> {
        let Conn::Sqlite(conn) = &self.tx.conn;
        // The database itself may have rolled back, as it does when the disk is full.
        if conn.in_transaction() { exec!(self.tx, "ROLLBACK").map(drop) } else { Ok(()) }
    }

    /// Runs a closure. Its own failure is its own answer; what is returned is the failure of the
    /// whole transaction.
    async fn run_one(
        &mut self,
        mut work: Box<dyn Work>,
        shared_with_others: bool,
        answers: &mut Vec<Answer>,
    ) -> Result<()> {
        // An operation before this one may have ended half way.
        self.tx.audited = None;
        let effects = self.tx.effects.mark();
        if shared_with_others && let Err(error) = exec!(self.tx, "SAVEPOINT closure") {
            answers.push(Box::new(move |committed| work.settle(committed)));
            return Err(error);
        }
        let run = AssertUnwindSafe(work.run(&mut self.tx)).catch_unwind();
        let outcome = match tokio::time::timeout(CLOSURE_LIMIT, run).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Error::Panicked),
            Err(_) => Err(Error::Overdue { seconds: CLOSURE_LIMIT.as_secs() }),
        };
        let undone = match &outcome {
            Ok(()) if shared_with_others => exec!(self.tx, "RELEASE closure").map(drop),
            Ok(()) => Ok(()),
            Err(_) => {
                self.tx.effects.back_to(effects);
                self.tx.heads.clear();
                if shared_with_others {
                    exec!(self.tx, "ROLLBACK TO closure").map(drop)
                } else {
                    exec!(self.tx, "ROLLBACK").and(exec!(self.tx, sqlite::BEGIN)).map(drop)
                }
            }
        };
        answers.push(Box::new(move |committed| work.settle(outcome.and(committed))));
        undone
    }

    /// Counts what was committed.
    fn tell(&mut self) {
        let now = self.tx.now();
        let effects = &mut self.tx.effects;
        effects.tally.events = effects.events.len() as u64;
        let oldest = effects.events.iter().map(|published| published.event.time).min();
        effects.tally.tell(oldest.map(|oldest| now.since(oldest)));
    }

    /// Shows followers what was committed.
    fn publish(&mut self) {
        let effects = std::mem::take(&mut self.tx.effects);
        for (organization, entry) in effects.feed {
            if let Some(channel) = self.shared.feeds.get(organization) {
                channel.publish(entry.seq.saturating_sub(1), [entry]);
            }
        }
        let mut events = effects.events.into_iter().peekable();
        while let Some(first) = events.next() {
            let session = first.session;
            let Some(channel) = self.shared.sessions.get(session) else { continue };
            let before = first.before;
            let mut entries = vec![stored(first)];
            while events.peek().is_some_and(|next| next.session == session) {
                entries.extend(events.next().map(stored));
            }
            channel.publish(before, entries);
        }
        self.tx.heads.trim();
    }
}

fn stored(published: Published) -> StoredEvent {
    let Published { session, seq, event, .. } = published;
    StoredEvent::new(session, seq, event.time, event.turn, event.kind, &event.body)
}

fn refusal<T: Send + 'static>(reply: super::Reply<T>) -> Answer {
    Box::new(move |committed| {
        let _ = reply.send(committed.and(Err(Error::Closed)));
    })
}

/// How many rows an operation writes, roughly.
fn weight(op: &Op) -> usize {
    match op {
        Op::Append { events, .. } => events.len(),
        Op::Enqueue { jobs, .. } => jobs.len(),
        Op::Settle { jobs, .. } => jobs.len(),
        Op::Run(_) | Op::Claim(_) => 4,
        Op::Checkpoint { .. } | Op::Poke | Op::Close => 0,
    }
}

/// How far the effects had come.
struct Mark {
    feed: usize,
    events: usize,
    queues: usize,
    keys: bool,
    tally: Tally,
}

impl Effects {
    fn mark(&self) -> Mark {
        Mark {
            feed: self.feed.len(),
            events: self.events.len(),
            queues: self.queues.len(),
            keys: self.keys,
            tally: self.tally,
        }
    }

    fn back_to(&mut self, mark: Mark) {
        self.feed.truncate(mark.feed);
        self.events.truncate(mark.events);
        self.queues.truncate(mark.queues);
        (self.keys, self.tally) = (mark.keys, mark.tally);
    }
}
