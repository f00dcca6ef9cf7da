//! Frozen parts of file trees: prepared checkouts, results of setup, snapshots.

use boatyard_model::{LayerId, OrganizationId, RepositoryId, Timestamp};

use crate::{
    Error, Owner, Result, Store, Tx,
    conn::{exec, find, read_all, read_one},
    row::{json, record},
    state::words,
};

words! {
    /// What a layer holds.
    LayerKind {
        /// A checkout of a repository at a commit.
        Prepared = "prepared",
        /// What a setup left behind.
        Setup = "setup",
        /// A workspace's files at a moment.
        Snapshot = "snapshot",
    }

    /// Where a layer stands.
    LayerState {
        /// Its files are being made.
        Building = "building",
        /// It may be used.
        Ready = "ready",
        /// Nothing may refer to it any more; its files go.
        Deleted = "deleted",
    }
}

record! {
    /// A layer.
    #[derive(Debug, Clone)]
    pub struct LayerRow [owned] {
        /// Its id.
        pub id: LayerId,
        /// The repository that it is of.
        pub repository: Option<RepositoryId>,
        /// What it holds.
        pub kind: LayerKind,
        /// Where it stands.
        pub state: LayerState,
        /// What it is found by: the tree that it begins at, and a hash of the environment.
        pub cache_key: Option<String>,
        /// The layers below it, the nearest first.
        pub parents: Vec<LayerId>,
        /// What it takes on disk.
        pub bytes: u64,
        /// When it was made.
        pub created: Timestamp,
        /// When it was used last.
        pub last_used: Timestamp,
    }
}

/// A layer that is about to be made.
#[derive(Debug, Clone)]
pub struct NewLayer {
    /// Its id.
    pub id: LayerId,
    /// Whose it is.
    pub owner: Owner,
    /// The repository that it is of.
    pub repository: Option<RepositoryId>,
    /// What it holds.
    pub kind: LayerKind,
    /// What it is to be found by.
    pub cache_key: Option<String>,
    /// The layers below it, the nearest first.
    pub parents: Vec<LayerId>,
}

impl Tx {
    /// Stores a layer that is being made.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn create_layer(&mut self, new: NewLayer) -> Result<()> {
        let parents = json(&new.parents)?;
        let now = self.now();
        exec!(
            self,
            "INSERT INTO layer (id, organization, owner, repository, kind, state, cache_key,
                parents, bytes, created, last_used)
             VALUES ($1, $2, $3, $4, $5, 'building', $6, $7, 0, $8, $8)",
            new.id,
            new.owner.organization,
            new.owner.member,
            new.repository,
            new.kind,
            new.cache_key,
            parents,
            now,
        )?;
        Ok(())
    }

    /// Notes that a layer's files are there. If another one with its key became ready first, that
    /// one is given and this one is deleted.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn layer_ready(&mut self, id: LayerId, bytes: u64) -> Result<LayerId> {
        let other = find!(
            self,
            (String,),
            "SELECT other.id FROM layer JOIN layer AS other
                ON other.organization = layer.organization AND other.cache_key = layer.cache_key
             WHERE layer.id = $1 AND other.state = 'ready' AND other.id <> layer.id",
            id,
        )?;
        if let Some(other) = other.and_then(|(other,)| other.parse().ok()) {
            self.delete_layer(id).await?;
            return Ok(other);
        }
        let touched = exec!(
            self,
            "UPDATE layer SET state = 'ready', bytes = $2, last_used = $3
             WHERE id = $1 AND state = 'building'",
            id,
            bytes,
            self.now(),
        )?;
        if touched == 0 { Err(Error::not_found("layer in the making", id)) } else { Ok(id) }
    }

    /// Notes what a layer takes, where that was not known when it was made.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn set_layer_bytes(&mut self, id: LayerId, bytes: u64) -> Result<()> {
        exec!(self, "UPDATE layer SET bytes = $2 WHERE id = $1", id, bytes)?;
        Ok(())
    }

    /// Notes that layers are used.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn touch_layers(&mut self, layers: &[LayerId]) -> Result<()> {
        let now = self.now();
        for layer in layers {
            exec!(self, "UPDATE layer SET last_used = $2 WHERE id = $1", layer, now)?;
        }
        Ok(())
    }

    /// Marks a layer whose files are to go. It is not found any more.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn delete_layer(&mut self, id: LayerId) -> Result<()> {
        exec!(self, "UPDATE layer SET state = 'deleted' WHERE id = $1", id)?;
        Ok(())
    }

    /// Marks a layer, if nothing that is left refers to it: whether it did.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn delete_layer_if_unused(&mut self, id: LayerId) -> Result<bool> {
        let marked = exec!(
            self,
            format!(
                "UPDATE layer SET state = 'deleted' WHERE id = $1 AND state <> 'deleted'
                 AND {UNUSED}"
            ),
            id,
        )?;
        Ok(marked > 0)
    }

    /// Forgets a layer whose files are gone.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn remove_layer(&mut self, id: LayerId) -> Result<()> {
        exec!(self, "DELETE FROM layer WHERE id = $1 AND state = 'deleted'", id)?;
        Ok(())
    }
}

/// Nothing that is left refers to the layer. An id has a fixed length and no character that JSON
/// escapes, so that a search in the text of a list finds exactly it.
const UNUSED: &str = "NOT EXISTS (SELECT 1 FROM workspace
        WHERE workspace.state <> 'deleted' AND workspace.lowers LIKE '%' || layer.id || '%')
     AND NOT EXISTS (SELECT 1 FROM layer AS upper
        WHERE upper.state <> 'deleted' AND upper.parents LIKE '%' || layer.id || '%')";

impl Store {
    /// One layer.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn layer(&self, id: LayerId) -> Result<LayerRow> {
        let sql = format!("SELECT {} FROM layer WHERE id = $1", LayerRow::COLUMNS);
        read_one!(self, LayerRow, sql, id)?.ok_or_else(|| Error::not_found("layer", id))
    }

    /// The ready layer with this key.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn find_layer(
        &self,
        organization: OrganizationId,
        cache_key: &str,
    ) -> Result<Option<LayerRow>> {
        read_one!(
            self,
            LayerRow,
            format!(
                "SELECT {} FROM layer
                 WHERE organization = $1 AND cache_key = $2 AND state = 'ready'",
                LayerRow::COLUMNS
            ),
            organization,
            cache_key,
        )
    }

    /// Layers in a state: those in the making when a server starts (their maker is gone), those
    /// whose files are to go.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn layers_in(&self, state: LayerState) -> Result<Vec<LayerRow>> {
        let sql = format!("SELECT {} FROM layer WHERE state = $1 ORDER BY id", LayerRow::COLUMNS);
        read_all!(self, LayerRow, sql, state)
    }

    /// Ready layers that were not used since `before` and that nothing left refers to, those that
    /// were longest unused first.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn unused_layers(&self, before: Timestamp, limit: u32) -> Result<Vec<LayerRow>> {
        let sql = format!(
            "SELECT {} FROM layer WHERE state = 'ready' AND last_used < $1 AND {UNUSED}
             ORDER BY last_used LIMIT $2",
            LayerRow::COLUMNS
        );
        read_all!(self, LayerRow, sql, before, limit)
    }
}
