//! Pages of the list of tasks, remembered while nothing in them can have changed.
//!
//! Many look at the same first page again and again. A page is kept with the number of the last
//! commit that could have changed a task; any such commit makes it worthless. The number is read
//! before the page and raised after a commit but before its callers are answered, so who wrote
//! sees what he wrote.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use boatyard_model::OrganizationId;

use super::{TaskFilter, TaskRow};

/// Pages that are remembered; when there are more, all are forgotten.
const PAGES: usize = 64;

type Page = (u64, Arc<Vec<TaskRow>>);

#[derive(Default)]
pub(crate) struct TaskPages {
    changes: AtomicU64,
    pages: Mutex<HashMap<(OrganizationId, TaskFilter, u32), Page>>,
}

impl TaskPages {
    /// A commit may have changed tasks.
    pub(crate) fn changed(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// What a page that is read from now on is to be remembered with.
    pub(super) fn mark(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    pub(super) fn get(
        &self,
        organization: OrganizationId,
        filter: TaskFilter,
        limit: u32,
    ) -> Option<Arc<Vec<TaskRow>>> {
        let pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        let (mark, page) = pages.get(&(organization, filter, limit))?;
        (*mark == self.mark()).then(|| Arc::clone(page))
    }

    pub(super) fn keep(
        &self,
        (organization, filter, limit): (OrganizationId, TaskFilter, u32),
        mark: u64,
        page: &Arc<Vec<TaskRow>>,
    ) {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        if pages.len() >= PAGES {
            pages.clear();
        }
        pages.insert((organization, filter, limit), (mark, Arc::clone(page)));
    }
}
