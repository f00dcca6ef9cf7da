//! The data folder: where it is, its format, and the lock that keeps a second server out.
//!
//! | file | holds |
//! |---|---|
//! | `format` | the number of the folder's format; a newer one is refused |
//! | `lock` | held while a server runs, by `flock`; the number of its process inside |
//! | `client.toml` | address and key for clients of the same account, mode 0600 |
//! | `boatyard.db` | the database |
//! | `backups/` | copies of the database from before each migration |
//! | `log/` | the log, a file for each day |
//!
//! The other folders belong to the server and the runtime.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{
        DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
    },
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// The format that this release writes. It grows when an older release could no longer read the
/// folder; migrations of the database have numbers of their own.
pub(crate) const FORMAT: u32 = 1;

/// The folder of root.
const SYSTEM: &str = "/var/lib/boatyard";

/// A data folder.
#[derive(Debug, Clone)]
pub(crate) struct DataFolder(PathBuf);

/// Nobody else runs on the folder while this is held.
#[derive(Debug)]
pub(crate) struct Lock {
    /// Closing it gives the lock back; what is forked holds it as well.
    _file: File,
}

/// What a client of the same account needs to know.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct ClientFile {
    /// The server's address.
    pub(crate) server: String,
    /// The key.
    pub(crate) key: String,
}

/// The folder for somebody who named none.
pub(crate) fn default_folder() -> Result<PathBuf> {
    if is_root() {
        return Ok(PathBuf::from(SYSTEM));
    }
    let absolute =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")));
    match base {
        Some(base) => Ok(base.join("boatyard")),
        None => Err(Failure::usage("neither XDG_DATA_HOME nor HOME is set")
            .next("name a folder with --data")
            .into()),
    }
}

/// Folders in which a server of this machine may have left its address, the likeliest first.
pub(crate) fn likely_folders(named: Option<&Path>) -> Vec<PathBuf> {
    match named {
        Some(path) => vec![path.to_owned()],
        None => {
            let mut folders: Vec<PathBuf> = default_folder().into_iter().collect();
            if !is_root() {
                // Readable by members of its group only if an administrator made it so.
                folders.push(PathBuf::from(SYSTEM));
            }
            folders
        }
    }
}

/// Whether this process is the super-user's.
pub(crate) fn is_root() -> bool {
    // The owner of our own entry in /proc is our effective user.
    fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

impl DataFolder {
    /// The folder at `path`, without looking at it.
    pub(crate) const fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Makes the folder if it is not there, and checks that it is one of ours that this release
    /// can read.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let path = std::path::absolute(path)
            .with_context(|| format!("the path {} can't be read", path.display()))?;
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)
                .with_context(|| format!("the folder {} can't be made", parent.display()))?;
        }
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                let message = format!("the data folder {} can't be made", path.display());
                let next = "choose a folder that you may write to with --data";
                return Err(Failure::new(message).next(next).because(error).into());
            }
        }
        let folder = Self(path);
        folder.check_format()?;
        folder.close_to_others()?;
        Ok(folder)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The database.
    pub(crate) fn database(&self) -> PathBuf {
        self.0.join("boatyard.db")
    }

    /// Where copies of the database go.
    pub(crate) fn backups(&self) -> PathBuf {
        self.0.join("backups")
    }

    /// Where log files go.
    pub(crate) fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    fn close_to_others(&self) -> Result<()> {
        let describe = || format!("the data folder {} can't be closed to others", self.0.display());
        let meta = fs::metadata(&self.0).with_context(describe)?;
        if meta.permissions().mode() & 0o077 != 0 {
            fs::set_permissions(&self.0, Permissions::from_mode(0o700)).with_context(describe)?;
        }
        Ok(())
    }

    /// The format of what is there; none in an empty folder.
    pub(crate) fn format(&self) -> Result<Option<u32>> {
        let path = self.0.join("format");
        match fs::read_to_string(&path) {
            Ok(text) => match text.trim().parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(Failure::new(format!("{} holds no number", path.display()))
                    .next("restore the folder from a backup, or choose another with --data")
                    .into()),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                let message = format!("{} can't be read", path.display());
                let next =
                    "run Boatyard as the user that owns the folder, or choose another with --data";
                Err(Failure::new(message).next(next).because(error).into())
            }
        }
    }

    fn check_format(&self) -> Result<()> {
        match self.format()? {
            Some(format) if format > FORMAT => Err(Failure::new(format!(
                "the data folder {} has format {format}, and this release of Boatyard reads up to {FORMAT}",
                self.0.display()
            ))
            .next("use the newer release, or restore a backup from before with `boatyard restore`")
            .into()),
            Some(FORMAT) => Ok(()),
            // There is no older format yet: whatever stands there, we didn't write it.
            Some(format) => {
                Err(Failure::new(format!("the data folder has the unknown format {format}")).into())
            }
            None => self.begin(),
        }
    }

    /// Marks an empty folder as ours.
    fn begin(&self) -> Result<()> {
        let unreadable = || format!("the data folder {} can't be read", self.0.display());
        let strange = fs::read_dir(&self.0).with_context(unreadable)?.find_map(|entry| {
            let name = entry.ok()?.file_name();
            // A settings file may be laid there before the first start; the lock may be ours.
            (!["boatyard.toml", "lock", "lost+found"].iter().any(|ours| name == *ours))
                .then_some(name)
        });
        if let Some(name) = strange {
            return Err(Failure::new(format!(
                "{} is no data folder of Boatyard: it holds {}",
                self.0.display(),
                name.to_string_lossy()
            ))
            .next("choose an empty or a new folder with --data")
            .into());
        }
        write_whole(&self.0.join("format"), format!("{FORMAT}\n").as_bytes(), 0o644)
            .with_context(|| format!("nothing can be written to {}", self.0.display()))
    }

    /// Keeps other servers out.
    pub(crate) fn lock(&self) -> Result<Lock> {
        let path = self.0.join("lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .open(&path)
            .with_context(|| format!("{} can't be opened", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(self.held().into()),
            Err(TryLockError::Error(error)) => {
                let message = format!("{} can't be locked", path.display());
                let next =
                    "the data folder must be on a local disk: some network disks know no locks";
                return Err(Failure::new(message).next(next).because(error).into());
            }
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write(&mut file).with_context(|| format!("{} can't be written", path.display()))?;
        Ok(Lock { _file: file })
    }

    /// The number of the server's process, if one runs on the folder.
    pub(crate) fn server(&self) -> Option<u32> {
        let mut file = File::open(self.0.join("lock")).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                file.read_to_string(&mut text).ok()?;
                Some(text.trim().parse().unwrap_or(0))
            }
            _ => None,
        }
    }

    fn held(&self) -> Failure {
        let who = match self.server() {
            Some(0) | None => "another server".to_owned(),
            Some(pid) => format!("process {pid}"),
        };
        let message = format!("Boatyard runs already on {} ({who})", self.0.display());
        let next = match self.server() {
            Some(pid) if pid > 0 => {
                format!(
                    "use it as it is, stop it with `kill {pid}`, or choose another folder with --data"
                )
            }
            _ => "use it as it is, or choose another folder with --data".to_owned(),
        };
        Failure::new(message).next(next)
    }

    /// What clients need to know, if a server left it.
    pub(crate) fn client(&self) -> Result<Option<ClientFile>> {
        let path = self.0.join("client.toml");
        match fs::read_to_string(&path) {
            Ok(text) => {
                let parsed = toml::from_str(&text)
                    .with_context(|| format!("{} is damaged", path.display()))?;
                Ok(Some(parsed))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // Another account's folder is none of ours.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
            Err(error) => Err(error).with_context(|| format!("{} can't be read", path.display())),
        }
    }

    /// Leaves what clients need to know.
    pub(crate) fn write_client(&self, client: &ClientFile) -> Result<()> {
        let text = format!(
            "# For clients on this machine and account; kept by the server.\n{}",
            toml::to_string(client)?
        );
        let path = self.0.join("client.toml");
        // Mostly it is there as it should be, and a disk that is slow is not waited for.
        let closed =
            fs::metadata(&path).is_ok_and(|meta| meta.permissions().mode() & 0o777 == 0o600);
        if closed && fs::read(&path).is_ok_and(|there| there == text.as_bytes()) {
            return Ok(());
        }
        write_whole(&path, text.as_bytes(), 0o600)
            .with_context(|| format!("{} can't be written", path.display()))
    }
}

/// Writes a file beside its place and moves it there, so that nobody sees half of it.
pub(crate) fn write_whole(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let beside = path.with_extension(format!("new-{}", std::process::id()));
    let result = (|| {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&beside)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    })();
    if result.is_err() {
        // Only the leftover; what failed is told by the error.
        let _ = fs::remove_file(&beside);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        (dir, path)
    }

    #[test]
    fn a_new_folder_is_closed_to_others_and_has_a_format() {
        let (_dir, path) = folder();
        let folder = DataFolder::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        assert_eq!(folder.format().unwrap(), Some(FORMAT));
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        DataFolder::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_newer_format_and_a_foreign_folder_are_refused() {
        let (_dir, path) = folder();
        DataFolder::open(&path).unwrap();
        fs::write(path.join("format"), "2\n").unwrap();
        let error = DataFolder::open(&path).unwrap_err().to_string();
        assert!(error.contains("has format 2"), "{error}");
        fs::write(path.join("format"), "x").unwrap();
        assert!(DataFolder::open(&path).is_err());

        let (_dir, path) = folder();
        fs::create_dir(&path).unwrap();
        fs::write(path.join("boatyard.toml"), "").unwrap();
        DataFolder::open(&path).unwrap();
        let (_dir, path) = folder();
        fs::create_dir(&path).unwrap();
        fs::write(path.join("thesis.tex"), "").unwrap();
        let error = DataFolder::open(&path).unwrap_err().to_string();
        assert!(error.contains("it holds thesis.tex"), "{error}");
        assert!(!path.join("format").exists());
    }

    #[test]
    fn a_second_server_is_refused_by_the_number_of_the_first() {
        let (_dir, path) = folder();
        let folder = DataFolder::open(&path).unwrap();
        assert_eq!(folder.server(), None);
        let lock = folder.lock().unwrap();
        let pid = std::process::id();
        assert_eq!(folder.server(), Some(pid));
        let error = folder.lock().unwrap_err().to_string();
        assert!(error.contains(&format!("process {pid}")), "{error}");
        drop(lock);
        assert_eq!(folder.server(), None);
        folder.lock().unwrap();
    }

    #[test]
    fn the_client_s_file_is_for_its_owner_only() {
        let (_dir, path) = folder();
        let folder = DataFolder::open(&path).unwrap();
        assert!(folder.client().unwrap().is_none());
        let client = ClientFile { server: "http://127.0.0.1:1".into(), key: "by_x".into() };
        folder.write_client(&client).unwrap();
        assert_eq!(fs::metadata(path.join("client.toml")).unwrap().mode() & 0o777, 0o600);
        assert_eq!(folder.client().unwrap().unwrap().key, "by_x");
    }
}
