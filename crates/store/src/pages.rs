//! Pages of lists, remembered while nothing in them can have changed.
//!
//! Many look at the same first page again and again. A page is kept with the number of the last
//! commit that could have changed a row of its table; any such commit makes it worthless. The number is read
//! before the page and raised after a commit but before its callers are answered, so who wrote
//! sees what he wrote.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use boatyard_model::OrganizationId;

/// Pages that are remembered; when there are more, all are forgotten.
const PAGES: usize = 64;

/// Which page: whose, of which rows, how many.
pub(crate) type Wanted<F> = (OrganizationId, F, u32);

type Kept<F, R> = HashMap<Wanted<F>, (u64, Arc<Vec<R>>)>;

/// The pages of one list: rows `R`, chosen by a filter `F`.
pub(crate) struct Pages<F, R> {
    changes: AtomicU64,
    kept: Mutex<Kept<F, R>>,
}

impl<F, R> Default for Pages<F, R> {
    fn default() -> Self {
        Self { changes: AtomicU64::new(0), kept: Mutex::default() }
    }
}

impl<F: Hash + Eq, R> Pages<F, R> {
    /// A commit may have changed rows.
    pub(crate) fn changed(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// The page, the very same as long as nothing changed: as it is remembered or as `read` reads it.
    pub(crate) async fn get<E>(
        &self,
        wanted: Wanted<F>,
        read: impl Future<Output = Result<Vec<R>, E>>,
    ) -> Result<Arc<Vec<R>>, E> {
        let mark = self.changes.load(Ordering::Acquire);
        if let Some(page) = self.find(&wanted, mark) {
            return Ok(page);
        }
        let page = Arc::new(read.await?);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= PAGES {
            kept.clear();
        }
        kept.insert(wanted, (mark, Arc::clone(&page)));
        Ok(page)
    }

    fn find(&self, wanted: &Wanted<F>, mark: u64) -> Option<Arc<Vec<R>>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (read_at, page) = kept.get(wanted)?;
        (*read_at == mark).then(|| Arc::clone(page))
    }
}
