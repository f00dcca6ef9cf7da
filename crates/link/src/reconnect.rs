//! The loop that comes back: one life after another, with growing pauses between failures.
//!
//! ```text
//!  ┌─► life ──Lived──► pause (first) ─┐
//!  │     │────Failed──► pause (grows) ─┤
//!  │     └────Stop───► done            │
//!  └───────────────────────────────────┘   a pause ends early by `wake`
//! ```
//!
//! What a life is (dial, shake hands, serve until it ends) is the caller's.

use std::{
    future::Future,
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use tokio::sync::Notify;

/// How pauses grow.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// The pause after the first failure.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
}

impl Default for Backoff {
    /// From 100 ms (a restart of the server is over in less) doubling to 30 s.
    fn default() -> Self {
        Self { first: Duration::from_millis(100), longest: Duration::from_secs(30) }
    }
}

impl Backoff {
    /// The pause after `failures` failures in a row (at least one), where `dice` in 0 to 1 spreads
    /// it over the upper half, so that many who lost the same server do not return as one.
    pub fn pause(&self, failures: u32, dice: f64) -> Duration {
        let doubled = self.first.saturating_mul(1 << failures.saturating_sub(1).min(20));
        doubled.min(self.longest).mul_f64(0.5 + dice.clamp(0.0, 1.0) / 2.0)
    }
}

/// How one life ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It was up and then ended: the next try is soon.
    Lived,
    /// It never came up: pauses grow.
    Failed,
    /// The other side said when to come back.
    Later(Duration),
    /// No more lives.
    Stop,
}

/// Lives again and again until one says [`Life::Stop`]. Drop the future to end it at once.
///
/// `wake` ends a pause early (the network came back, somebody waits). Each life is told how many
/// failures in a row came before it.
pub async fn run<F>(backoff: Backoff, wake: &Notify, mut life: impl FnMut(u32) -> F)
where
    F: Future<Output = Life>,
{
    let mut failures = 0;
    loop {
        let pause = match life(failures).await {
            Life::Stop => return,
            Life::Lived => {
                failures = 0;
                backoff.pause(1, dice())
            }
            Life::Failed => {
                failures = failures.saturating_add(1);
                backoff.pause(failures, dice())
            }
            Life::Later(pause) => {
                failures = 0;
                pause.min(backoff.longest)
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = wake.notified() => {}
        }
    }
}

/// A number from 0 to 1 that differs between processes and calls; spreading needs no more.
fn dice() -> f64 {
    let bits = RandomState::new().hash_one(0_u8) >> 11;
    bits as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use tokio::time::Instant;

    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_are_spread() {
        let backoff = Backoff::default();
        assert_eq!(backoff.pause(1, 1.0), Duration::from_millis(100));
        assert_eq!(backoff.pause(1, 0.0), Duration::from_millis(50));
        assert_eq!(backoff.pause(4, 1.0), Duration::from_millis(800));
        assert_eq!(backoff.pause(u32::MAX, 1.0), Duration::from_secs(30));
        for _ in 0..1000 {
            assert!((0.0..=1.0).contains(&dice()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn failures_grow_the_pause_and_a_life_resets_it() {
        let backoff = Backoff::default();
        let starts = Rc::new(RefCell::new(Vec::new()));
        let wake = Notify::new();
        let lives = [Life::Failed, Life::Failed, Life::Failed, Life::Lived, Life::Failed];
        let times = Rc::clone(&starts);
        run(backoff, &wake, |failures| {
            let mut times = times.borrow_mut();
            let life = lives.get(times.len()).copied().unwrap_or(Life::Stop);
            times.push((failures, Instant::now()));
            std::future::ready(life)
        })
        .await;
        let starts = starts.borrow();
        let failures: Vec<u32> = starts.iter().map(|(failures, _)| *failures).collect();
        assert_eq!(failures, [0, 1, 2, 3, 0, 1]);
        let pause = |n: usize| starts[n + 1].1 - starts[n].1;
        assert!(pause(2) >= Duration::from_millis(200));
        assert!(pause(3) <= Duration::from_millis(101));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wake_ends_the_pause() {
        let backoff =
            Backoff { first: Duration::from_secs(3600), longest: Duration::from_secs(3600) };
        let wake = Notify::new();
        wake.notify_one();
        let begin = Instant::now();
        let mut lives = [Life::Failed, Life::Stop].into_iter();
        run(backoff, &wake, |_| std::future::ready(lives.next().unwrap_or(Life::Stop))).await;
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }
}
