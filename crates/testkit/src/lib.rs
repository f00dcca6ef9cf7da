//! For tests only: what several crates' tests need.
//!
//! - [`ManualClock`]: a clock that a test moves.
//! - [`github`]: GitHub, as far as git and its tokens go.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use boatyard_model::{Timestamp, time::Clock};

pub mod github;

/// A clock that stands still until a test moves it.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that stands at this time.
    pub const fn at(time: Timestamp) -> Self {
        Self(AtomicI64::new(time.0))
    }

    /// Moves it on by so many milliseconds.
    pub fn advance(&self, millis: i64) {
        self.0.fetch_add(millis, Ordering::SeqCst);
    }

    /// Moves it on.
    pub fn forward(&self, by: Duration) {
        self.advance(i64::try_from(by.as_millis()).unwrap_or(i64::MAX));
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}
