//! One thing that is counted, key by key.
//!
//! For each key one moment is kept: when all that it asked for so far would have been asked for
//! evenly. A key may be ahead of the clock by a minute at most; each request moves its moment on by
//! a minute's share. A key whose moment is past is as good as one that never asked, and forgotten
//! when room is needed.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::Key;

/// In how much time the number of a limit may be asked for.
const PERIOD: Duration = Duration::from_secs(60);

/// Keys that are kept; each takes about 60 bytes.
const KEYS_MAX: usize = 16_384;

/// How much more than one key all those may ask for together for whom there is no room.
const REST: u32 = 64;

/// How often it is looked for keys to forget, at most, while there is no room.
const LOOK: Duration = Duration::from_secs(1);

/// How long until it may be asked for again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait(pub Duration);

/// How often something may be asked for within a minute, by each key.
#[derive(Debug)]
pub struct Limit {
    /// A minute's share; none if there is no limit.
    share: Option<Duration>,
    keys_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    moments: HashMap<Key, Instant>,
    looked: Option<Instant>,
}

impl Limit {
    /// This often within a minute; 0 is as often as one likes.
    pub fn new(per_minute: u32) -> Self {
        let share = (per_minute > 0).then(|| PERIOD / per_minute);
        Self { share, keys_max: KEYS_MAX, state: Mutex::default() }
    }

    /// Counts one, unless that is too much.
    ///
    /// # Errors
    /// How long to wait, if so. It is not counted then.
    pub fn take(&self, key: Key) -> Result<(), Wait> {
        self.take_at(key, Instant::now())
    }

    fn take_at(&self, key: Key, now: Instant) -> Result<(), Wait> {
        let Some(share) = self.share else { return Ok(()) };
        let mut state = self.state();
        let (key, share) = match state.has_room(key, self.keys_max, now) {
            true => (key, share),
            false => (Key::Rest, share / REST),
        };
        let moment = state.moments.get(&key).copied().unwrap_or(now).max(now);
        let next = moment + share;
        // A minute's share that does not divide the minute leaves less than a nanosecond for each.
        let ahead = next.duration_since(now);
        match ahead.checked_sub(PERIOD).filter(|over| !over.is_zero()) {
            None => {
                state.moments.insert(key, next);
                Ok(())
            }
            Some(over) => Err(Wait(over)),
        }
    }

    /// Counts one, as soon as that is not too much.
    pub async fn wait(&self, key: Key) {
        while let Err(Wait(wait)) = self.take(key) {
            tokio::time::sleep(wait).await;
        }
    }

    /// One that was counted does not count.
    pub fn give_back(&self, key: Key) {
        let Some(share) = self.share else { return };
        if let Some(moment) = self.state().moments.get_mut(&key) {
            *moment = moment.checked_sub(share).unwrap_or(*moment);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether a key has a place, or can get one.
    fn has_room(&mut self, key: Key, most: usize, now: Instant) -> bool {
        // One place is left for the rest.
        if self.moments.len() + 1 < most || self.moments.contains_key(&key) {
            return true;
        }
        if self.looked.is_none_or(|looked| now.duration_since(looked) >= LOOK) {
            self.looked = Some(now);
            self.moments.retain(|_, moment| *moment > now);
        }
        self.moments.len() + 1 < most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> Key {
        Key::Address(std::net::IpAddr::V4(n.into()))
    }

    #[test]
    fn a_minutes_worth_may_come_at_once_and_then_evenly() {
        let limit = Limit::new(7);
        let begin = Instant::now();
        for _ in 0..7 {
            limit.take_at(key(1), begin).unwrap();
        }
        let Wait(wait) = limit.take_at(key(1), begin).unwrap_err();
        assert!(wait <= PERIOD / 7 && wait > PERIOD / 8, "{wait:?}");
        assert!(limit.take_at(key(1), begin + wait / 2).is_err(), "not before");
        limit.take_at(key(1), begin + wait).unwrap();
        assert!(limit.take_at(key(1), begin + wait).is_err());
        limit.take_at(key(2), begin).unwrap();
        // After a minute of rest, all again and no more.
        let later = begin + wait + PERIOD;
        for _ in 0..7 {
            limit.take_at(key(1), later).unwrap();
        }
        assert!(limit.take_at(key(1), later).is_err());
    }

    #[test]
    fn nothing_is_no_limit() {
        let limit = Limit::new(0);
        for _ in 0..100_000 {
            limit.take(key(1)).unwrap();
        }
        assert!(limit.state().moments.is_empty());
    }

    #[test]
    fn there_are_never_too_many_keys() {
        let mut limit = Limit::new(10);
        limit.keys_max = 100;
        let begin = Instant::now();
        let taken = (0..10_000).filter(|n| limit.take_at(key(*n), begin).is_ok()).count();
        // 99 have a place; the rest share one.
        assert_eq!(taken, 99 + 10 * REST as usize);
        assert_eq!(limit.state().moments.len(), 100);
        limit.take_at(key(5), begin).unwrap();
        // Whose time is past goes when room is needed.
        limit.take_at(key(20_000), begin + PERIOD).unwrap();
        assert!(limit.state().moments.len() <= 2);
    }

    #[test]
    fn what_is_given_back_may_be_taken_again() {
        let limit = Limit::new(1);
        let now = Instant::now();
        limit.take_at(key(1), now).unwrap();
        assert!(limit.take_at(key(1), now).is_err());
        limit.give_back(key(1));
        limit.take_at(key(1), now).unwrap();
        limit.give_back(key(2));
    }
}
