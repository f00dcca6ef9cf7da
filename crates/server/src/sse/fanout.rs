//! The task that writes a log's new entries to everybody who is in step with it.
//!
//! It exists while somebody watches. It reads the log once, encodes each batch once, and offers
//! the bytes to each socket without waiting; who can't take all of them leaves it (`catch_up`).

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use boatyard_store::follow::Follower;
use bytes::Bytes;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval_at},
};

use super::{
    Context, Following, KEEP_ALIVE, Log, aside,
    catch_up::{self, Rest, Watcher},
    frame::{self, Then},
};

/// Watchers that may wait to be taken in; who comes when it is full waits to wait.
const JOINING: usize = 256;

/// Sockets that are written before others get a turn on this thread: each takes about 5 µs.
const BEFORE_YIELD: usize = 128;

/// The fan-outs of the logs that are watched.
pub(super) struct Fanouts<T: Log> {
    joining: Mutex<HashMap<T::Key, mpsc::Sender<Watcher>>>,
}

impl<T: Log> Default for Fanouts<T> {
    fn default() -> Self {
        Self { joining: Mutex::new(HashMap::new()) }
    }
}

impl<T: Log> Fanouts<T>
where
    T::Key: std::hash::Hash + Eq + 'static,
{
    /// Takes a watcher in that has caught up.
    pub(super) async fn join(
        self: Arc<Self>,
        context: Context<T>,
        key: T::Key,
        mut watcher: Watcher,
    ) {
        // A fan-out may end between being found and being sent to; then there is a new one.
        loop {
            let sender = self.sender(&context, key, watcher.after);
            match sender.send(watcher).await {
                Ok(()) => return,
                Err(mpsc::error::SendError(back)) => watcher = back,
            }
        }
    }

    fn sender(
        self: &Arc<Self>,
        context: &Context<T>,
        key: T::Key,
        after: u64,
    ) -> mpsc::Sender<Watcher> {
        let mut joining = self.joining.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = joining.get(&key).filter(|sender| !sender.is_closed()) {
            return sender.clone();
        }
        let (sender, receiver) = mpsc::channel(JOINING);
        joining.insert(key, sender.clone());
        let fanout = Fanout {
            follower: T::follow(&context.store, key, after),
            context: context.clone(),
            key,
            watchers: Vec::new(),
            joining: receiver,
        };
        tokio::spawn(fanout.run());
        sender
    }
}

struct Fanout<T: Log> {
    context: Context<T>,
    key: T::Key,
    follower: Follower<T>,
    watchers: Vec<Watcher>,
    joining: mpsc::Receiver<Watcher>,
}

impl<T: Log> Fanout<T>
where
    T::Key: std::hash::Hash + Eq + 'static,
{
    async fn run(mut self) {
        let mut alive = interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE);
        alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let leases = Arc::clone(&self.context.leases);
        let mut ended = leases.ended();
        let mut asides = T::asides(&leases, self.key);
        loop {
            let before = self.follower.after();
            tokio::select! {
                biased;
                () = self.context.stopping.cancelled() => {
                    let joining = self.leave();
                    self.watchers.extend(joining);
                    self.offer(&frame::last_words(frame::GOODBYE), before, Then::Ends).await;
                    return;
                }
                entries = self.follower.next() => match entries {
                    Ok(entries) => {
                        if self.publish(before, &entries).await == Then::Ends {
                            self.send_back();
                            return;
                        }
                        alive.reset();
                    }
                    Err(error) => {
                        tracing::error!(%error, "a log can't be read for its watchers");
                        self.send_back();
                        self.offer(&frame::last_words(frame::FAILED), before, Then::Ends).await;
                        return;
                    }
                },
                watcher = self.joining.recv() => match watcher {
                    Some(watcher) => self.admit(watcher).await,
                    None => return,
                },
                // It lives as long as the leases do.
                _ = ended.changed() => self.part().await,
                bytes = aside(&mut asides) => {
                    let bytes = frame::chunked(&bytes).freeze();
                    self.offer(&bytes, before, Then::GoesOn).await;
                }
                _ = alive.tick() => {
                    let bytes = frame::chunked(frame::ALIVE.as_bytes()).freeze();
                    self.offer(&bytes, before, Then::GoesOn).await;
                    if self.watchers.is_empty() && self.retire() {
                        return;
                    }
                }
            }
        }
    }

    /// Parts with those whose right is gone.
    async fn part(&mut self) {
        let is_over = |watcher: &mut Watcher| watcher.lease.over().is_some();
        let parting: Vec<Watcher> = self.watchers.extract_if(.., is_over).collect();
        for (done, watcher) in parting.into_iter().enumerate() {
            if done % BEFORE_YIELD == BEFORE_YIELD - 1 {
                tokio::task::yield_now().await;
            }
            self.say_why(watcher);
        }
    }

    /// Tells a watcher why its right is gone.
    fn say_why(&self, watcher: Watcher) {
        let Some(over) = watcher.lease.over() else { return };
        let words = frame::last_words(&frame::over(over));
        let (result, after) = (watcher.socket.offer(&words), watcher.after);
        self.let_go(watcher, result, &words, after, Then::Ends);
    }

    /// Ends this fan-out if nobody is about to join.
    fn retire(&mut self) -> bool {
        let fanouts = Arc::clone(&self.context.fanouts);
        let mut joining = fanouts.joining.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.joining.is_empty() {
            return false;
        }
        // Closed under the lock: who finds it closed makes a new one.
        self.joining.close();
        joining.remove(&self.key);
        true
    }

    /// Ends this fan-out; gives those who were about to join.
    fn leave(&mut self) -> Vec<Watcher> {
        let fanouts = Arc::clone(&self.context.fanouts);
        let mut map = fanouts.joining.lock().unwrap_or_else(PoisonError::into_inner);
        self.joining.close();
        map.remove(&self.key);
        drop(map);
        std::iter::from_fn(|| self.joining.try_recv().ok()).collect()
    }

    /// Ends this fan-out; those who were about to join see by themselves why.
    fn send_back(&mut self) {
        for watcher in self.leave() {
            self.catch_up(watcher, None);
        }
    }

    fn catch_up(&self, watcher: Watcher, rest: Option<Rest>) {
        tokio::spawn(catch_up::run(self.context.clone(), self.key, watcher, Following::Live, rest));
    }

    /// Sends new entries to everybody.
    async fn publish(&mut self, before: u64, entries: &[T]) -> Then {
        let Some(last) = entries.last() else { return Then::GoesOn };
        let then = if last.ends() { Then::Ends } else { Then::GoesOn };
        let bytes = frame::chunk(entries, then);
        // Those who joined ahead of the log's reader get what they lack only.
        let ahead = self.watchers.extract_if(.., |watcher| watcher.after > before);
        let mut ahead: Vec<Watcher> = ahead.collect();
        self.offer(&bytes, last.seq(), then).await;
        for watcher in ahead.drain(..) {
            let first = entries.partition_point(|entry| entry.seq() <= watcher.after);
            let lacking = &entries[first..];
            if lacking.is_empty() {
                self.watchers.push(watcher);
            } else {
                let bytes = frame::chunk(lacking, then);
                self.offer_one(watcher, &bytes, last.seq(), then);
            }
        }
        then
    }

    /// Offers the bytes to everybody; `after` is everybody's place then.
    async fn offer(&mut self, bytes: &Bytes, after: u64, then: Then) {
        let mut at = 0;
        let mut done = 0;
        while at < self.watchers.len() {
            done += 1;
            if done % BEFORE_YIELD == 0 {
                tokio::task::yield_now().await;
            }
            let watcher = &mut self.watchers[at];
            match watcher.socket.offer(bytes) {
                Ok(n) if n == bytes.len() && then == Then::GoesOn => {
                    watcher.after = watcher.after.max(after);
                    at += 1;
                }
                result => {
                    let watcher = self.watchers.swap_remove(at);
                    self.let_go(watcher, result, bytes, after, then);
                }
            }
        }
    }

    fn offer_one(&mut self, mut watcher: Watcher, bytes: &Bytes, after: u64, then: Then) {
        match watcher.socket.offer(bytes) {
            Ok(n) if n == bytes.len() && then == Then::GoesOn => {
                watcher.after = after;
                self.watchers.push(watcher);
            }
            result => self.let_go(watcher, result, bytes, after, then),
        }
    }

    /// Parts with a watcher that has everything, could not take everything, or is gone.
    fn let_go(
        &self,
        mut watcher: Watcher,
        result: io::Result<usize>,
        bytes: &Bytes,
        after: u64,
        then: Then,
    ) {
        let written = match result {
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(_) => return,
        };
        if written == bytes.len() {
            watcher.socket.finish();
            return;
        }
        watcher.after = watcher.after.max(after);
        self.catch_up(watcher, Some(Rest { bytes: bytes.slice(written..), then }));
    }

    /// Takes a watcher in, with what was published since it caught up.
    async fn admit(&mut self, watcher: Watcher) {
        if watcher.lease.over().is_some() {
            self.say_why(watcher);
            return;
        }
        T::joined(&self.context.leases, self.key);
        let now = self.follower.after();
        if watcher.after >= now {
            self.watchers.push(watcher);
            return;
        }
        let mut follower = T::follow(&self.context.store, self.key, watcher.after);
        // If that fails, its own task tries again, and says so.
        let mut lacking = follower.try_next().await.unwrap_or_default();
        let complete = lacking.last().is_some_and(|last| last.seq() >= now);
        if !complete {
            // Too much for here: its own task goes on with it.
            self.catch_up(watcher, None);
            return;
        }
        lacking.truncate(lacking.partition_point(|entry| entry.seq() <= now));
        if lacking.is_empty() {
            self.watchers.push(watcher);
        } else {
            self.offer_one(watcher, &frame::chunk(&lacking, Then::GoesOn), now, Then::GoesOn);
        }
    }
}
