//! The database is opened here, so that a copy of it is made before anything in it changes.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use boatyard_server::settings::Settings;
use boatyard_store::{Error, Options, Store};

use crate::{data::DataFolder, failure::Failure};

/// Copies from before migrations that are kept.
const KEPT: usize = 5;
/// What their names begin with.
const PREFIX: &str = "boatyard-schema-";

/// Opens the database; a migration has a copy of what was there before it in `backups/`.
pub(super) async fn open(folder: &DataFolder, settings: &Settings) -> Result<Store> {
    let path = path(folder, settings);
    let mut options = Options::new(&path);
    let backups = folder.backups();
    options.before_migration = Some(Box::new(move |before| {
        Box::pin(async move {
            std::fs::create_dir_all(&backups)?;
            let now = jiff::Timestamp::now().as_second();
            let copy = backups.join(format!("{PREFIX}{:04}-{now}.db", before.pending.found));
            before.backup_to(&copy).await?;
            tracing::info!(copy = %copy.display(), "the database was copied before its migration");
            forget_old(&backups)?;
            Ok(())
        })
    }));
    Store::open(options).await.map_err(|error| match error {
        Error::Newer { .. } => Failure::new(
            "the database was written by a newer release of Boatyard",
        )
        .next("use that release, or go back: a copy from before is in backups/ of the data folder")
        .because(error)
        .into(),
        error => anyhow::Error::new(error)
            .context(format!("the database {} can't be opened", path.display())),
    })
}

fn path(folder: &DataFolder, settings: &Settings) -> PathBuf {
    let named = settings.server.database.as_deref().and_then(|url| url.strip_prefix("sqlite:"));
    match named {
        // `sqlite:///path`, and `sqlite:path` as people write it.
        Some(path) => {
            let path = path.strip_prefix("//").unwrap_or(path);
            folder.path().join(path)
        }
        None => folder.database(),
    }
}

/// Removes all but the newest copies.
fn forget_old(backups: &Path) -> Result<()> {
    let mut copies: Vec<PathBuf> = std::fs::read_dir(backups)
        .with_context(|| format!("{} can't be read", backups.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(PREFIX)))
        .collect();
    // Their names hold the time, in as many digits each.
    copies.sort_by_key(|path| {
        path.file_stem().and_then(|n| n.to_str()?.rsplit('-').next()?.parse::<u64>().ok())
    });
    let surplus = copies.len().saturating_sub(KEPT);
    for path in &copies[..surplus] {
        std::fs::remove_file(path)
            .with_context(|| format!("{} can't be removed", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_is_where_the_settings_say() {
        let folder = DataFolder::at("/d".into());
        let check = |url: Option<&str>, expected: &str| {
            let mut settings = Settings::default();
            settings.server.database = url.map(str::to_owned);
            assert_eq!(path(&folder, &settings), Path::new(expected));
        };
        check(None, "/d/boatyard.db");
        check(Some("sqlite:///srv/x.db"), "/srv/x.db");
        check(Some("sqlite:x.db"), "/d/x.db");
    }

    #[test]
    fn only_the_newest_copies_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..7 {
            std::fs::write(dir.path().join(format!("{PREFIX}0001-{}.db", 1000 + n)), "").unwrap();
        }
        std::fs::write(dir.path().join("mine.db"), "").unwrap();
        forget_old(dir.path()).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), KEPT + 1);
        assert!(!dir.path().join(format!("{PREFIX}0001-1000.db")).exists());
        assert!(dir.path().join("mine.db").exists());
    }
}
