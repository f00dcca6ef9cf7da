//! `boatyard restore`: bring back what `backup` saved.
//!
//! Everything is checked before anything is touched: the formats, and every file's sum. What is in
//! the data folder now is moved aside, not removed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::backup::{self, Manifest};
use crate::{
    args::Global,
    data::{self, DataFolder},
    failure::{Exit, Failure},
    output::Output,
    sources,
    text::count,
};

/// Parts of a data folder that a backup brings.
const BROUGHT: [&str; 6] =
    ["boatyard.db", "boatyard.db-wal", "boatyard.db-shm", "blobs", "mirrors", "results"];

/// Brings back what `backup` saved. No server may run on the data folder.
///
/// What is there now is moved to a folder beside it and can be removed later.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder or file that `backup` made
    source: PathBuf,
}

pub(crate) async fn run(args: Args, global: &Global, output: &Output) -> Result<Exit> {
    if !args.source.exists() {
        return Err(Failure::not_found(format!("{} is not there", args.source.display())).into());
    }
    let (_, path) = sources::resolve(None, global.data.as_deref(), Vec::new())?;
    let folder = DataFolder::open(&path)?;
    let _lock = folder.lock()?;
    let is_archive = backup::archive(&args.source);
    let work = if is_archive { backup::beside(&args.source)? } else { args.source.clone() };
    let result = (|| {
        if is_archive {
            backup::unpack(&args.source, &work)?;
        }
        restore(&work, &folder)
    })();
    if is_archive {
        // Only what was unpacked here.
        let _ = fs::remove_dir_all(&work);
    }
    let (manifest, aside) = result?;
    if output.is_json() {
        output.json(&serde_json::json!({
            "restored": manifest.files.len(), "created": manifest.created, "aside": aside,
        }))?;
    } else {
        output.line(format!(
            "Restored {} of {} ({})",
            count(manifest.files.len() as u64, "file"),
            manifest.created,
            folder.path().display()
        ))?;
        if let Some(aside) = aside {
            output.note(format!("What was there before is in {}.", aside.display()));
        }
        output.note(
            "Files of workspaces are not part of a backup: tasks can be read, results applied.",
        );
        if !folder.path().join(backup::MASTER_KEY).exists() {
            output.note(format!(
                "The master key of stored credentials is not part of it: if Boatyard made it, put \
                 {} back into {} before the next start.",
                backup::MASTER_KEY,
                folder.path().display()
            ));
        }
    }
    Ok(Exit::Done)
}

fn restore(source: &Path, folder: &DataFolder) -> Result<(Manifest, Option<PathBuf>)> {
    let manifest = check(source)?;
    let mut brought = BROUGHT.to_vec();
    // One that is there stays where the backup has none: it may open what the backup holds.
    brought.extend(manifest.files.contains_key(backup::MASTER_KEY).then_some(backup::MASTER_KEY));
    let aside = move_aside(folder.path(), &brought)?;
    backup::copy_folder(&source.join("data"), folder.path(), &|_| false)?;
    give(folder.path())?;
    Ok((manifest, aside))
}

/// Whether a backup is one, whole, and not newer than this release.
fn check(source: &Path) -> Result<Manifest> {
    let path = source.join("manifest.json");
    let text = fs::read(&path).map_err(|error| {
        Failure::usage(format!("{} is no backup of Boatyard", source.display()))
            .next("name what `boatyard backup` made")
            .because(error)
    })?;
    let manifest: Manifest =
        serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))?;
    if manifest.format > backup::FORMAT || manifest.data_format > data::FORMAT {
        return Err(Failure::new(format!(
            "the backup is of Boatyard {}, which is newer than this release",
            manifest.version
        ))
        .next("restore it with that release or a newer one")
        .into());
    }
    let found = backup::list(&source.join("data"))?;
    let damaged = manifest.files.iter().find(|(name, entry)| found.get(*name) != Some(entry));
    if let Some((name, _)) = damaged {
        let what = if found.contains_key(name) { "differs" } else { "is missing" };
        return Err(Failure::new(format!("the backup is damaged: {name} {what}"))
            .next("use another backup; nothing was changed")
            .into());
    }
    if let Some(name) = found.keys().find(|name| !manifest.files.contains_key(*name)) {
        return Err(Failure::new(format!("the backup holds {name}, which it does not list"))
            .next("use another backup; nothing was changed")
            .into());
    }
    Ok(manifest)
}

/// Moves what a backup brings out of the way.
fn move_aside(folder: &Path, brought: &[&str]) -> Result<Option<PathBuf>> {
    let there: Vec<&&str> = brought.iter().filter(|name| folder.join(name).exists()).collect();
    if there.is_empty() {
        return Ok(None);
    }
    let stamp = jiff::Timestamp::now().as_second();
    let aside = folder.join("backups").join(format!("before-restore-{stamp}"));
    fs::create_dir_all(&aside).with_context(|| format!("{} can't be made", aside.display()))?;
    for name in there {
        fs::rename(folder.join(name), aside.join(name))
            .with_context(|| format!("{name} can't be moved aside"))?;
    }
    Ok(Some(aside))
}

/// Gives what was restored to the user that the server becomes, when root restores for it.
fn give(data: &Path) -> Result<()> {
    if !data::is_root() {
        return Ok(());
    }
    let server = boatyard_runtime::native::layout::server_uid();
    // These belong to root, and are not part of a backup.
    give_below(data, server, &["sandboxes", "bin"])
}

fn give_below(folder: &Path, owner: u32, left_out: &[&str]) -> Result<()> {
    let unreadable = || format!("{} can't be read", folder.display());
    for entry in fs::read_dir(folder).with_context(unreadable)? {
        let entry = entry.with_context(unreadable)?;
        let path = entry.path();
        if left_out.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        std::os::unix::fs::lchown(&path, Some(owner), Some(owner))
            .with_context(|| format!("{} can't be given to its owner", path.display()))?;
        if entry.file_type().with_context(unreadable)?.is_dir() {
            give_below(&path, owner, &[])?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("data/blobs")).unwrap();
        fs::write(dir.path().join("data/boatyard.db"), "database").unwrap();
        fs::write(dir.path().join("data/blobs/x"), "blob").unwrap();
        let manifest = Manifest {
            format: backup::FORMAT,
            data_format: data::FORMAT,
            version: "0.1.0".into(),
            created: "2026-11-21T00:00:00Z".into(),
            files: backup::list(&dir.path().join("data")).unwrap(),
        };
        let text = serde_json::to_vec(&manifest).unwrap();
        fs::write(dir.path().join("manifest.json"), text).unwrap();
        dir
    }

    fn folder() -> (tempfile::TempDir, DataFolder) {
        let dir = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(&dir.path().join("data")).unwrap();
        (dir, folder)
    }

    #[test]
    fn what_was_saved_comes_back_and_what_was_there_is_kept() {
        let (saved, (_dir, folder)) = (saved(), folder());
        fs::write(folder.database(), "other").unwrap();
        let (manifest, aside) = restore(saved.path(), &folder).unwrap();
        assert_eq!(manifest.files.len(), 2);
        assert_eq!(fs::read_to_string(folder.database()).unwrap(), "database");
        assert_eq!(fs::read_to_string(folder.path().join("blobs/x")).unwrap(), "blob");
        let aside = aside.unwrap().join("boatyard.db");
        assert_eq!(fs::read_to_string(aside).unwrap(), "other");
    }

    #[test]
    fn a_damaged_or_newer_backup_changes_nothing() {
        let check = |damage: &dyn Fn(&Path), expected: &str| {
            let (saved, (_dir, folder)) = (saved(), folder());
            fs::write(folder.database(), "other").unwrap();
            damage(saved.path());
            let error = restore(saved.path(), &folder).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert_eq!(fs::read_to_string(folder.database()).unwrap(), "other");
        };
        check(&|path| fs::write(path.join("data/blobs/x"), "blub").unwrap(), "blobs/x differs");
        check(&|path| fs::remove_file(path.join("data/blobs/x")).unwrap(), "is missing");
        check(&|path| fs::write(path.join("data/more"), "").unwrap(), "does not list");
        check(&|path| fs::remove_file(path.join("manifest.json")).unwrap(), "no backup");
        check(
            &|path| {
                let text = fs::read_to_string(path.join("manifest.json")).unwrap();
                let newer = text.replace("\"data_format\":1", "\"data_format\":9");
                fs::write(path.join("manifest.json"), newer).unwrap();
            },
            "newer than this release",
        );
    }
}
