//! Mirrors: one bare repository per source, that the server keeps fresh and workspaces share.
//!
//! The server runs the git program on repositories of its own making only: mirrors here, and the
//! repositories that hold results ([`results`]). A workspace's `.git` is never opened outside of
//! the workspace.
//!
//! - [`authorities`]: whom fetches over https trust.
//! - [`git`]: how the git program is run: argument vectors, an empty environment, deadlines.
//! - [`fetch`]: bringing a mirror up to date from https, ssh, a path below a configured root, or a
//!   bundle that a client sent.
//! - `references`: what a mirror has.
//! - [`results`]: taking a branch out of a workspace, showing it, handing it on.
//! - [`environment`]: the environments that a repository describes, at a commit.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use boatyard_model::RepositoryId;

pub mod authorities;
pub mod environment;
pub mod fetch;
pub mod git;
mod references;
pub mod results;

pub use git::GitError;

/// The mirrors of a data folder. A cheap clone.
#[derive(Clone)]
pub struct Mirrors {
    shared: Arc<Shared>,
}

struct Shared {
    /// `D/mirrors`: `<repository id>.git`, each a bare repository.
    mirrors: PathBuf,
    /// `D/results`: `<attempt id>.git`, each with the mirror's objects as alternates.
    results: PathBuf,
    /// `D/incoming`: bundles and packs while they are checked.
    incoming: PathBuf,
    /// One fetch of a repository at a time; the second waits and finds it fresh. An entry lives as
    /// long as somebody holds or waits for it.
    locks: Mutex<HashMap<RepositoryId, std::sync::Weak<tokio::sync::Mutex<()>>>>,
}

impl Mirrors {
    /// Opens, or lays out, the folders below `data`. What a crash left in `incoming` is removed.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn open(data: &Path) -> std::io::Result<Self> {
        let folder = |name: &str| -> std::io::Result<PathBuf> {
            let path = data.join(name);
            std::fs::create_dir_all(&path)?;
            Ok(path)
        };
        let incoming = folder("incoming")?;
        for entry in std::fs::read_dir(&incoming)? {
            let path = entry?.path();
            if path.is_dir() {
                std::fs::remove_dir_all(path)?;
            } else {
                std::fs::remove_file(path)?;
            }
        }
        let shared = Shared {
            mirrors: folder("mirrors")?,
            results: folder("results")?,
            incoming,
            locks: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Where a repository's mirror is.
    pub fn path(&self, repository: RepositoryId) -> PathBuf {
        self.shared.mirrors.join(format!("{repository}.git"))
    }

    /// What a mirror takes on disk, in bytes.
    pub async fn bytes(&self, repository: RepositoryId) -> u64 {
        let path = self.path(repository);
        // It fails only if the walk panics; a figure for people is not worth an error.
        tokio::task::spawn_blocking(move || results::folder_bytes(&path)).await.unwrap_or(0)
    }

    /// Removes a mirror. The caller knows that no workspace borrows from it.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn remove(&self, repository: RepositoryId) -> std::io::Result<()> {
        let _held = self.lock(repository).await;
        match tokio::fs::remove_dir_all(self.path(repository)).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// A path below `incoming` that nothing else uses.
    fn incoming(&self, name: impl std::fmt::Display) -> PathBuf {
        self.shared.incoming.join(format!("{name}-{}", boatyard_model::BlobId::new()))
    }

    async fn lock(&self, repository: RepositoryId) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.shared.locks.lock().expect("no code panics while it holds this");
            locks.retain(|_, lock| lock.strong_count() > 0);
            match locks.get(&repository).and_then(std::sync::Weak::upgrade) {
                Some(lock) => lock,
                None => {
                    let lock = Arc::new(tokio::sync::Mutex::new(()));
                    locks.insert(repository, Arc::downgrade(&lock));
                    lock
                }
            }
        };
        lock.lock_owned().await
    }
}
