//! Bytes beside the database: pictures, large outputs. One file each, named by its SHA-256, so
//! that equal bytes are kept once. The row that names them is the store's.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use boatyard_model::BlobId;
use boatyard_store::{NewBlob, Owner, Store};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;

/// The blobs of a data folder. A cheap clone.
#[derive(Clone)]
pub struct Blobs {
    folder: Arc<Path>,
}

/// Why a blob could not be kept or given.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The disk refused.
    #[error("a blob could not be written or read")]
    Disk(#[from] std::io::Error),
    /// The store refused.
    #[error("a blob could not be recorded")]
    Store(#[from] boatyard_store::Error),
}

impl Blobs {
    /// Opens, or makes, the folder.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn open(folder: &Path) -> std::io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        Ok(Self { folder: folder.into() })
    }

    /// Keeps bytes under `id`, durably when this returns.
    ///
    /// # Errors
    /// When disk or store refuse.
    pub async fn keep(
        &self,
        store: &Store,
        owner: Owner,
        id: BlobId,
        mime: String,
        bytes: Bytes,
    ) -> Result<(), BlobError> {
        let sha256 = crate::hex(&Sha256::digest(&bytes));
        let path = self.path(&sha256);
        if !tokio::fs::try_exists(&path).await? {
            // Written beside and renamed: a file under its final name is whole.
            let beside = self.folder.join(format!("{id}.part"));
            if let Some(folder) = path.parent() {
                tokio::fs::create_dir_all(folder).await?;
            }
            let mut file = tokio::fs::File::create(&beside).await?;
            file.write_all(&bytes).await?;
            file.sync_data().await?;
            tokio::fs::rename(&beside, &path).await?;
        }
        let new = NewBlob { id, owner, sha256, bytes: bytes.len() as u64, mime };
        store.write(move |tx| Box::pin(async move { tx.create_blob(new).await })).await?;
        Ok(())
    }

    /// The bytes with this hash.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn read(&self, sha256: &str) -> std::io::Result<Bytes> {
        tokio::fs::read(self.path(sha256)).await.map(Bytes::from)
    }

    /// Removes the file of a hash that no row names.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn remove(&self, sha256: &str) -> std::io::Result<u64> {
        let path = self.path(sha256);
        match tokio::fs::metadata(&path).await {
            Ok(meta) => tokio::fs::remove_file(path).await.map(|()| meta.len()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Two levels, so that no folder gets too many entries.
    fn path(&self, sha256: &str) -> PathBuf {
        let (first, rest) = sha256.split_at(sha256.len().min(2));
        self.folder.join(first).join(rest)
    }
}
