//! Pages of lists as JSON, encoded once for all who ask while nothing changed.
//!
//! The store gives the very same page as long as no row of its table changed; what was made of it
//! is kept with it. To encode a page costs more than all the rest of its request.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use boatyard_api::Problem;
use boatyard_store::{SessionRow, TaskRow};
use bytes::Bytes;
use serde::Serialize;

/// Pages that are kept of each list; a new one displaces the oldest.
const PAGES: usize = 64;

/// What is kept, of every list.
#[derive(Default)]
pub struct Lists {
    /// Pages of tasks.
    pub tasks: Encoded<TaskRow>,
    /// Pages of sessions.
    pub sessions: Encoded<SessionRow>,
}

/// Pages of rows `R`.
pub struct Encoded<R> {
    /// Holding on to a page keeps its address from becoming another's.
    kept: Mutex<VecDeque<(Arc<Vec<R>>, Bytes)>>,
}

impl<R> Default for Encoded<R> {
    fn default() -> Self {
        Self { kept: Mutex::default() }
    }
}

impl<R> Encoded<R> {
    /// What was made of this page.
    pub fn find(&self, page: &Arc<Vec<R>>) -> Option<Bytes> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, bytes) = kept.iter().rev().find(|(of, _)| Arc::ptr_eq(of, page))?;
        Some(bytes.clone())
    }

    /// Encodes what was made of this page, and keeps it. It must follow from the page alone, or
    /// from what can't change without the page.
    ///
    /// # Errors
    /// When it can't be written as JSON.
    pub fn keep(&self, page: Arc<Vec<R>>, made: &impl Serialize) -> Result<Bytes, Problem> {
        let bytes = Bytes::from(serde_json::to_vec(made).map_err(Problem::internal)?);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= PAGES {
            kept.pop_front();
        }
        kept.push_back((page, bytes.clone()));
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_known_by_its_address_and_displaced_in_time() {
        let pages = Encoded::default();
        let page = Arc::new(vec![1]);
        assert!(pages.find(&page).is_none());
        assert_eq!(pages.keep(Arc::clone(&page), &*page).unwrap(), "[1]");
        assert_eq!(pages.find(&page).unwrap(), "[1]");
        assert!(pages.find(&Arc::new(vec![1])).is_none(), "its twin is another");
        for n in 0..PAGES {
            pages.keep(Arc::new(vec![n]), &n).unwrap();
        }
        assert!(pages.find(&page).is_none());
    }
}
