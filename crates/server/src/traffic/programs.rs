//! Which program a connection is of, found out beside it: nothing waits for this.
//!
//! A workspace is asked for some connections a second, and one at a time. A program that makes a
//! thousand in a row is known by the first of them; the rest cost nothing.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use boatyard_egress::log::{Named, Who};
use boatyard_model::WorkspaceId;

use crate::hub::{self, Hub};

/// How often a workspace is asked at most, in the mean: each time costs it about a millisecond.
const EVERY: Duration = Duration::from_millis(50);
/// How many times it may be asked in a row.
const BURST: u32 = 20;
/// Workspaces that are remembered; past it all are forgotten, and may be asked again.
const REMEMBERED: usize = 4096;

/// Finds out whose connections are.
#[derive(Debug)]
pub(super) struct Programs {
    hub: Weak<hub::Shared>,
    budgets: Mutex<HashMap<WorkspaceId, Budget>>,
}

/// When a workspace may be asked again.
#[derive(Debug, Clone, Copy)]
struct Budget {
    at: Instant,
    left: u32,
}

impl Budget {
    /// Takes one, if there is one.
    fn take(&mut self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.at);
        let gained = u32::try_from(since.as_millis() / EVERY.as_millis()).unwrap_or(BURST);
        if gained > 0 {
            self.left = self.left.saturating_add(gained).min(BURST);
            self.at = now;
        }
        let is_left = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_left
    }
}

impl Programs {
    pub(super) fn new(hub: &Hub) -> Self {
        Self { hub: Arc::downgrade(&hub.shared), budgets: Mutex::default() }
    }

    /// What will be known of the connection whose own end this is.
    pub(super) fn look(
        &self,
        workspace: WorkspaceId,
        own: SocketAddr,
        to: Option<SocketAddr>,
    ) -> Option<Who> {
        if !self.may_ask(workspace) {
            return None;
        }
        let hub = Hub { shared: self.hub.upgrade()? };
        let who = Who::default();
        let found = who.clone();
        tokio::spawn(async move {
            if let Some(program) = hub.who_connects(workspace, own, to).await {
                let session = program.session;
                found.is(Named { program: Arc::from(program.name.as_str()), session });
            }
        });
        Some(who)
    }

    fn may_ask(&self, workspace: WorkspaceId) -> bool {
        let now = Instant::now();
        let mut budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        if budgets.len() >= REMEMBERED && !budgets.contains_key(&workspace) {
            budgets.clear();
        }
        let budget = budgets.entry(workspace).or_insert(Budget { at: now, left: BURST });
        budget.take(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_known_by_its_first() {
        let begin = Instant::now();
        let mut budget = Budget { at: begin, left: BURST };
        let asked = (0..1000).filter(|_| budget.take(begin)).count();
        assert_eq!(asked, BURST as usize);
        assert!(budget.take(begin + EVERY));
        assert!(!budget.take(begin + EVERY));
        let later = begin + Duration::from_secs(60);
        assert_eq!((0..1000).filter(|_| budget.take(later)).count(), BURST as usize);
    }
}
