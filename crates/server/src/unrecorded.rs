//! Whose the throw-away workspaces are that no table knows.
//!
//! A workspace that makes a layer (a prepared checkout, a setup) has no row. What it fetches, and
//! what it asks of models, is its organization's all the same: its rules, its credentials, its money.
//! Who starts one says so, for as long as it is there.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use boatyard_model::WorkspaceId;
use boatyard_store::Owner;

/// Whose they are. A cheap clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unrecorded(Arc<Mutex<HashMap<WorkspaceId, Owner>>>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct Noted {
    all: Unrecorded,
    workspace: WorkspaceId,
}

impl Unrecorded {
    /// Says whose a workspace is.
    pub(crate) fn note(&self, workspace: WorkspaceId, owner: Owner) -> Noted {
        self.all().insert(workspace, owner);
        Noted { all: self.clone(), workspace }
    }

    /// Whose a workspace is, if somebody said so.
    pub(crate) fn owner(&self, workspace: WorkspaceId) -> Option<Owner> {
        self.all().get(&workspace).copied()
    }

    fn all(&self) -> MutexGuard<'_, HashMap<WorkspaceId, Owner>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        self.all.all().remove(&self.workspace);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_known_as_long_as_it_is_there() {
        let all = Unrecorded::default();
        let workspace = WorkspaceId::new();
        assert_eq!(all.owner(workspace), None);
        let noted = all.note(workspace, Owner::BUILT_IN);
        assert_eq!(all.owner(workspace), Some(Owner::BUILT_IN));
        drop(noted);
        assert_eq!(all.owner(workspace), None);
    }
}
