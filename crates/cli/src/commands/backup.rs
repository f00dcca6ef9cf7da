//! `boatyard backup`: everything that is remembered, in one folder or file.
//!
//! ```text
//! manifest.json   format, version, and every file with its size and SHA-256
//! data/           boatyard.db (one moment of it), blobs/, mirrors/, the small files beside them
//! ```
//!
//! A server may run meanwhile: the database is copied as it is at one moment, and first, so that
//! what it names is there when the files are copied. Of a mirror, references go before objects for
//! the same reason. The files of workspaces are not part of it: results are in the mirrors.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result};
use boatyard_store::{Options, Store};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    args::Global,
    data::{self, DataFolder},
    failure::{Exit, Failure},
    output::Output,
    sources,
    text::{bytes, count},
};

/// The format of a backup.
pub(crate) const FORMAT: u32 = 1;
/// What is not copied: it belongs to a running server, is a copy itself, or is of one machine only.
const LEFT_OUT: [&str; 11] = [
    "lock",
    "client.toml",
    "format",
    "log",
    "backups",
    "run",
    "bin",
    "sandboxes",
    "incoming",
    "authorities.pem",
    "boatyard.db",
];
/// The master key of the vault: whoever has a backup with it has every credential.
pub(crate) const MASTER_KEY: &str = "vault.key";
/// Bytes that are read at a time.
const CHUNK: usize = 1 << 20;

/// Saves database, blobs, mirrors and keys, while a server runs or not.
///
/// The files of workspaces are not part of it; results of tasks are, in the mirrors. Stored
/// credentials are in it sealed; the master key that opens them is not, unless --with-master-key says
/// so. Keep it as safe as the data folder all the same: keys of the API are in it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A folder that is not there yet, or a file that ends with .tar, .tar.gz or .tar.zst
    target: PathBuf,
    /// Save vault.key of the data folder, too: whoever has the backup then has every credential
    #[arg(long)]
    with_master_key: bool,
}

/// What a backup says of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// The format of the backup.
    pub(crate) format: u32,
    /// The format of the data folder.
    pub(crate) data_format: u32,
    /// The release that made it.
    pub(crate) version: String,
    /// When, in UTC.
    pub(crate) created: String,
    /// Every file below `data/`.
    pub(crate) files: BTreeMap<String, Entry>,
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Its size.
    pub(crate) bytes: u64,
    /// The SHA-256 of its content, in hexadecimal digits.
    pub(crate) sha256: String,
}

pub(crate) async fn run(args: Args, global: &Global, output: &Output) -> Result<Exit> {
    let (_, path) = sources::resolve(None, global.data.as_deref(), Vec::new())?;
    let folder = DataFolder::at(path);
    if folder.format()?.is_none() || !folder.database().exists() {
        return Err(Failure::not_found(format!(
            "there is no data of Boatyard in {}",
            folder.path().display()
        ))
        .next("name the data folder with --data")
        .into());
    }
    if args.target.exists() {
        return Err(Failure::usage(format!("{} is there already", args.target.display()))
            .next("choose a name that is not taken")
            .into());
    }
    let is_archive = archive(&args.target);
    let work = match is_archive {
        true => beside(&args.target)?,
        false => args.target.clone(),
    };
    let with_key = args.with_master_key;
    let left_out = move |name: &str| {
        LEFT_OUT.contains(&name)
            || is_database_file(name)
            || name.starts_with(MASTER_KEY) && (name != MASTER_KEY || !with_key)
    };
    let has_key = folder.path().join(MASTER_KEY).exists();
    let result = save(&folder, &work, &left_out).await.and_then(|manifest| {
        if is_archive {
            pack(&work, &args.target)?;
        }
        Ok(manifest)
    });
    if is_archive || result.is_err() {
        // Half a backup helps nobody.
        let _ = fs::remove_dir_all(&work);
    }
    let manifest = result?;
    let sum: u64 = manifest.files.values().map(|entry| entry.bytes).sum();
    if output.is_json() {
        output.json(&serde_json::json!({
            "backup": args.target, "files": manifest.files.len(), "bytes": sum,
            "master_key": manifest.files.contains_key(MASTER_KEY),
        }))?;
    } else {
        output.line(format!(
            "Saved {} ({}) to {}",
            count(manifest.files.len() as u64, "file"),
            bytes(sum),
            args.target.display()
        ))?;
        output.note("It holds keys: keep it as safe as the data folder.");
        match (has_key, with_key) {
            (true, true) => output.note(
                "The vault's master key is in it: whoever has it has every stored credential.",
            ),
            (true, false) => output.note(format!(
                "The vault's master key is not in it: without {} the stored credentials can't be \
                 opened. Keep that file apart, or save it too with --with-master-key.",
                folder.path().join(MASTER_KEY).display()
            )),
            (false, _) => {}
        }
    }
    Ok(Exit::Done)
}

/// Whether a path means one file rather than a folder.
pub(crate) fn archive(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    [".tar", ".tar.gz", ".tgz", ".tar.zst"].iter().any(|end| name.ends_with(end))
}

/// A folder beside an archive, on the same disk, that is only ours.
pub(crate) fn beside(archive: &Path) -> Result<PathBuf> {
    let parent = archive.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = tempfile::Builder::new()
        .prefix(".boatyard-backup-")
        .tempdir_in(parent)
        .with_context(|| format!("nothing can be written to {}", parent.display()))?;
    Ok(folder.keep())
}

async fn save(
    folder: &DataFolder,
    target: &Path,
    left_out: &dyn Fn(&str) -> bool,
) -> Result<Manifest> {
    let data = target.join("data");
    make_private(target)?;
    make_private(&data)?;
    copy_database(&folder.database(), &data.join("boatyard.db")).await?;
    copy_folder(folder.path(), &data, left_out)?;
    let manifest = Manifest {
        format: FORMAT,
        data_format: data::FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        created: jiff::Timestamp::now().to_string(),
        files: list(&data)?,
    };
    let text = serde_json::to_vec_pretty(&manifest)?;
    data::write_whole(&target.join("manifest.json"), &text, 0o600)
        .with_context(|| format!("{} can't be written", target.display()))?;
    Ok(manifest)
}

fn make_private(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("{} can't be made", path.display()))
        }
        _ => Ok(()),
    }
}

fn is_database_file(name: &str) -> bool {
    name.starts_with("boatyard.db-")
}

/// One moment of the database, whether a server writes to it or not.
pub(crate) async fn copy_database(from: &Path, to: &Path) -> Result<()> {
    let copied = Arc::new(Mutex::new(false));
    let mut options = Options::new(from);
    let (target, done) = (to.to_owned(), Arc::clone(&copied));
    // An older database is copied as it is; opening it must not change it.
    options.before_migration = Some(Box::new(move |before| {
        Box::pin(async move {
            before.backup_to(&target).await?;
            *done.lock().unwrap_or_else(PoisonError::into_inner) = true;
            Err("it is copied, and stays as it is".into())
        })
    }));
    match Store::open(options).await {
        Ok(store) => {
            store.backup_to(to).await.context("the database can't be copied")?;
            store.close().await.context("the database can't be closed")
        }
        Err(_) if *copied.lock().unwrap_or_else(PoisonError::into_inner) => Ok(()),
        Err(error) => Err(error).context("the database can't be opened"),
    }
}

/// Copies plain files and folders. Links are left out: nothing of ours is one.
pub(crate) fn copy_folder(from: &Path, to: &Path, left_out: &dyn Fn(&str) -> bool) -> Result<()> {
    let unreadable = || format!("{} can't be read", from.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(from).with_context(unreadable)? {
        let entry = entry.with_context(unreadable)?;
        if let Ok(name) = entry.file_name().into_string() {
            names.push(name);
        }
    }
    // References before the objects that they name: an object that comes later is not missed.
    names.sort_by_key(|name| (name == "objects", name.clone()));
    for name in names.iter().filter(|name| !left_out(name)) {
        let (source, target) = (from.join(name), to.join(name));
        let kind = match fs::symlink_metadata(&source) {
            Ok(meta) => meta.file_type(),
            // It went meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                return Err(error).with_context(|| format!("{} can't be read", source.display()));
            }
        };
        if kind.is_dir() {
            make_private(&target)?;
            copy_folder(&source, &target, &|_| false)?;
            // Workspaces read mirrors as another user.
            copy_mode(&source, &target)?;
        } else if kind.is_file() {
            match fs::copy(&source, &target) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("{} can't be copied", source.display()));
                }
            }
        }
    }
    Ok(())
}

fn copy_mode(from: &Path, to: &Path) -> Result<()> {
    let copied = fs::metadata(from).and_then(|meta| fs::set_permissions(to, meta.permissions()));
    copied.with_context(|| format!("{} can't be closed to others as it was", to.display()))
}

/// Every file below a folder.
pub(crate) fn list(root: &Path) -> Result<BTreeMap<String, Entry>> {
    fn walk(root: &Path, at: &Path, files: &mut BTreeMap<String, Entry>) -> Result<()> {
        let unreadable = || format!("{} can't be read", at.display());
        for entry in fs::read_dir(at).with_context(unreadable)? {
            let entry = entry.with_context(unreadable)?;
            let path = entry.path();
            let kind = entry.file_type().with_context(unreadable)?;
            if kind.is_dir() {
                walk(root, &path, files)?;
            } else if kind.is_file() {
                let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
                files.insert(name, entry_of(&path)?);
            }
        }
        Ok(())
    }
    let mut files = BTreeMap::new();
    walk(root, root, &mut files)?;
    Ok(files)
}

fn entry_of(path: &Path) -> Result<Entry> {
    let unreadable = || format!("{} can't be read", path.display());
    let mut file = fs::File::open(path).with_context(unreadable)?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; CHUNK];
    let mut bytes = 0;
    loop {
        let n = file.read(&mut piece).with_context(unreadable)?;
        if n == 0 {
            break;
        }
        hash.update(&piece[..n]);
        bytes += n as u64;
    }
    let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Entry { bytes, sha256 })
}

fn pack(folder: &Path, target: &Path) -> Result<()> {
    // The name's end tells tar how to compress.
    tar(&["--create", "--auto-compress", "--file"], target, folder)
}

/// Takes an archive apart into a folder.
pub(crate) fn unpack(archive: &Path, folder: &Path) -> Result<()> {
    tar(&["--extract", "--no-same-owner", "--file"], archive, folder)
}

fn tar(args: &[&str], archive: &Path, folder: &Path) -> Result<()> {
    let archive = std::path::absolute(archive)?;
    let output = Command::new("tar")
        .args(args)
        .arg(&archive)
        .arg("--directory")
        .arg(folder)
        .arg(if args[0] == "--create" { "." } else { "--keep-old-files" })
        .output()
        .map_err(|error| {
            Failure::new("tar can't be started")
                .next("name a folder instead of a file")
                .because(error)
        })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Failure::new(format!("tar failed on {}: {said}", archive.display())).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_listed_with_its_sum() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("blobs")).unwrap();
        fs::write(dir.path().join("blobs/x"), "hello\n").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
        let files = list(dir.path()).unwrap();
        assert_eq!(files.len(), 1, "{files:?}");
        let sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03".to_owned();
        assert_eq!(files["blobs/x"], Entry { bytes: 6, sha256 });
    }

    #[test]
    fn what_belongs_to_a_running_server_is_left_out() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for name in ["lock", "boatyard.db", "boatyard.db-wal", "secret"] {
            fs::write(from.path().join(name), "x").unwrap();
        }
        fs::create_dir_all(from.path().join("mirrors/rep_1.git/objects")).unwrap();
        fs::write(from.path().join("mirrors/rep_1.git/objects/lock"), "x").unwrap();
        let left_out = |name: &str| LEFT_OUT.contains(&name) || is_database_file(name);
        copy_folder(from.path(), to.path(), &left_out).unwrap();
        let names: Vec<String> = list(to.path()).unwrap().into_keys().collect();
        assert_eq!(names, ["mirrors/rep_1.git/objects/lock", "secret"]);
    }
}
