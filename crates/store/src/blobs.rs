//! Bytes that are kept beside the database: who has them, and who holds on to them.

use boatyard_model::{BlobId, Timestamp};

use crate::{
    Error, Owner, Result, Store, Tx,
    conn::{exec, list, read_one},
    row::record,
};

record! {
    /// What is known of a blob. Its bytes are in a file that its hash names.
    #[derive(Debug, Clone)]
    pub struct BlobRow [owned] {
        /// Its id.
        pub id: BlobId,
        /// The SHA-256 of the bytes, in small hexadecimal digits.
        pub sha256: String,
        /// How many bytes.
        pub bytes: u64,
        /// What they are.
        pub mime: String,
        /// When they came.
        pub created: Timestamp,
    }
}

/// A blob whose bytes are on disk.
#[derive(Debug, Clone)]
pub struct NewBlob {
    /// Its id; one that is taken already keeps what it had.
    pub id: BlobId,
    /// Whose it is.
    pub owner: Owner,
    /// The SHA-256 of the bytes, in small hexadecimal digits.
    pub sha256: String,
    /// How many bytes.
    pub bytes: u64,
    /// What they are.
    pub mime: String,
}

impl Tx {
    /// Stores a blob's row.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn create_blob(&mut self, new: NewBlob) -> Result<BlobId> {
        let id = new.id;
        exec!(
            self,
            "INSERT INTO blob (id, organization, owner, sha256, bytes, mime, created)
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
            id,
            new.owner.organization,
            new.owner.member,
            new.sha256,
            new.bytes,
            new.mime,
            self.now(),
        )?;
        self.note("blob", id);
        Ok(id)
    }

    /// Makes `holder` (the id of a task or a session) hold on to blobs. One that isn't there is
    /// passed over.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn hold_blobs(&mut self, holder: &str, blobs: &[BlobId]) -> Result<()> {
        for blob in blobs {
            exec!(
                self,
                "INSERT INTO blob_use (blob, holder) SELECT id, $2 FROM blob WHERE id = $1
                 ON CONFLICT DO NOTHING",
                blob,
                holder,
            )?;
        }
        Ok(())
    }

    /// Removes the rows of blobs that came before `before` and that nobody holds on to, at most
    /// `limit`; gives the hashes of which no row is left, so that their files can go.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn remove_unused_blobs(
        &mut self,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<String>> {
        let removed = list!(
            self,
            (String,),
            "DELETE FROM blob WHERE id IN (
                SELECT id FROM blob WHERE created < $1
                AND NOT EXISTS (SELECT 1 FROM blob_use WHERE blob_use.blob = blob.id)
                ORDER BY id LIMIT $2)
             RETURNING sha256",
            before,
            limit,
        )?;
        let mut hashes: Vec<String> = removed.into_iter().map(|(hash,)| hash).collect();
        hashes.sort_unstable();
        hashes.dedup();
        let mut gone = Vec::with_capacity(hashes.len());
        for hash in hashes {
            let left = crate::conn::find!(
                self,
                (i64,),
                "SELECT 1 FROM blob WHERE sha256 = $1 LIMIT 1",
                hash,
            )?;
            if left.is_none() {
                gone.push(hash);
            }
        }
        Ok(gone)
    }
}

impl Store {
    /// One blob.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn blob(&self, id: BlobId) -> Result<BlobRow> {
        read_one!(
            self,
            BlobRow,
            format!("SELECT {} FROM blob WHERE id = $1", BlobRow::COLUMNS),
            id
        )?
        .ok_or_else(|| Error::not_found("blob", id))
    }

    /// Whether a file with this hash belongs to any blob.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn is_blob_known(&self, sha256: &str) -> Result<bool> {
        let row = read_one!(self, (i64,), "SELECT 1 FROM blob WHERE sha256 = $1 LIMIT 1", sha256)?;
        Ok(row.is_some())
    }
}
