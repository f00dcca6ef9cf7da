//! What a restart makes of a layer whose making was cut off.

use boatyard_model::WorkspaceLimits;
use boatyard_store::{LayerState, NewWorkspace, Options, Owner};

use super::*;

struct Case {
    store: Store,
    workspace: WorkspaceId,
    below: LayerId,
    layer: LayerId,
    _data: tempfile::TempDir,
}

impl Case {
    /// A workspace on one layer, with another one on record as being made of its files.
    async fn of(kind: SnapshotKind) -> Self {
        let data = tempfile::tempdir().unwrap();
        let store = Store::open(Options::new(data.path().join("boatyard.db"))).await.unwrap();
        let (workspace, below, layer) = (WorkspaceId::new(), LayerId::new(), LayerId::new());
        let new = |id, parents, cache_key| NewLayer {
            id,
            owner: Owner::BUILT_IN,
            repository: None,
            kind: LayerKind::Snapshot,
            cache_key,
            parents,
        };
        let moved = kind == SnapshotKind::Moved;
        let (under, key) = (new(below, Vec::new(), None), moved.then(|| format!("{workspace}@3")));
        let over = new(layer, vec![below], key);
        let row = NewWorkspace {
            id: workspace,
            owner: Owner::BUILT_IN,
            name: None,
            kind: WorkspaceKind::Sandbox,
            runtime: "native".to_owned(),
            isolation: None,
            lowers: if moved { vec![layer, below] } else { vec![below] },
            repository: None,
            folder: None,
            base_commit: None,
            branch: None,
            limits: WorkspaceLimits::default(),
            task: None,
            forked_from: None,
            begins: Begins::Asleep,
        };
        let stored = store.write(move |tx| {
            Box::pin(async move {
                tx.create_layer(under).await?;
                tx.layer_ready(below, 0).await?;
                tx.create_layer(over).await?;
                tx.create_workspace(row).await
            })
        });
        stored.await.unwrap();
        Self { store, workspace, below, layer, _data: data }
    }

    /// The workspace's layers and the new layer's state after a restart.
    async fn settled(&self, has_files: bool) -> (Vec<LayerId>, LayerState) {
        let layer = self.store.layer(self.layer).await.unwrap();
        settle_snapshot(&self.store, layer, has_files).await.unwrap();
        let lowers = self.store.workspace(self.workspace).await.unwrap().lowers;
        (lowers, self.store.layer(self.layer).await.unwrap().state)
    }
}

#[tokio::test]
async fn files_that_were_moved_belong_to_the_workspace() {
    let case = Case::of(SnapshotKind::Moved).await;
    let expected = (vec![case.layer, case.below], LayerState::Ready);
    assert_eq!(case.settled(true).await, expected);
}

#[tokio::test]
async fn files_that_were_not_moved_are_still_the_workspaces_own() {
    let case = Case::of(SnapshotKind::Moved).await;
    assert_eq!(case.settled(false).await, (vec![case.below], LayerState::Deleted));
}

#[tokio::test]
async fn half_a_copy_is_thrown_away() {
    let case = Case::of(SnapshotKind::Copied).await;
    assert_eq!(case.settled(true).await, (vec![case.below], LayerState::Deleted));
}
