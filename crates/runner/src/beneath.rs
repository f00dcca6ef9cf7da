//! Files below a folder, whatever links lie on the way.
//!
//! The worker owns everything below `/work` and may change it at any moment, and `serve` has more
//! rights than the worker. So every path is resolved by the kernel in one call
//! (`openat2`, `RESOLVE_BENEATH`), which refuses whatever would leave the folder, and everything
//! after it happens on the descriptor that it gave.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid},
    io::Errno,
};

use crate::ids::Owner;

/// The longest path that the kernel takes.
const PATH_MAX: usize = 4096;

/// How often a resolution that a rename disturbed is tried again (the kernel asks for it).
const TRIES: usize = 16;

/// Why something below the folder can't be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is nothing of that name.
    #[error("`{0}` does not exist")]
    NotFound(String),
    /// It leads out of the folder.
    #[error("`{0}` leads out of the workspace's files")]
    Outside(String),
    /// It is not a name that a file can have.
    #[error("`{0}` is not a usable path")]
    Path(String),
    /// It is something else than what is wanted.
    #[error("`{path}` is not {wanted}")]
    Kind {
        /// Which.
        path: String,
        /// `a regular file` or `a folder`.
        wanted: &'static str,
    },
    /// It is larger than wanted.
    #[error("`{path}` has {bytes} bytes, more than {max}")]
    TooLarge {
        /// Which.
        path: String,
        /// How large it is.
        bytes: u64,
        /// How large it may be.
        max: u64,
    },
    /// The operating system refused.
    #[error("`{path}` can't be {action}")]
    Io {
        /// Which.
        path: String,
        /// What was tried.
        action: &'static str,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

/// A folder below which files are read and written.
#[derive(Debug)]
pub struct Folder {
    dir: OwnedFd,
    owner: Option<Owner>,
}

/// What an entry of a folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A pipe, a socket, a device.
    Other,
}

/// An entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name; what is not UTF-8 is replaced.
    pub name: String,
    /// What it is.
    pub kind: EntryKind,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Whether a written file may be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Executable {
    /// By everybody.
    Yes,
    /// By nobody.
    No,
}

/// A file that is being written beside its place. Dropped before [`NewFile::commit`], it is
/// removed.
#[derive(Debug)]
pub struct NewFile {
    parent: OwnedFd,
    file: File,
    temporary: String,
    name: String,
    path: String,
    bytes: u64,
    max: u64,
    placed: Placed,
}

#[derive(Debug, PartialEq)]
enum Placed {
    Yes,
    No,
}

impl Folder {
    /// The folder at `path`. What is made in it belongs to `owner`, or to this process.
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn open(path: &Path, owner: Option<Owner>) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self { dir, owner })
    }

    /// Opens a regular file of at most `max` bytes, with its size.
    ///
    /// # Errors
    /// When it does not exist, leads outside, is no regular file, or is larger.
    pub fn read(&self, path: &str, max: u64) -> Result<(File, u64), Error> {
        // Without waiting: opening a pipe to which nobody writes would block for ever.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = self.resolve(path, flags)?;
        let stat = rustix::fs::fstat(&fd).map_err(|e| io_error(path, "read", e))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Error::Kind { path: shown(path), wanted: "a regular file" });
        }
        let bytes = size(&stat);
        if bytes > max {
            return Err(Error::TooLarge { path: shown(path), bytes, max });
        }
        Ok((File::from(fd), bytes))
    }

    /// The entries of a folder, by name, at most `max`, and whether there are more.
    ///
    /// # Errors
    /// When it does not exist, leads outside or is no folder.
    pub fn list(&self, path: &str, max: usize) -> Result<(Vec<Entry>, bool), Error> {
        let path = if path.is_empty() { "." } else { path };
        let dir = self.resolve(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK)?;
        let failed = |e| io_error(path, "listed", e);
        let mut entries = Vec::new();
        for entry in Dir::read_from(&dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if entries.len() == max {
                entries.sort_by(|a: &Entry, b| a.name.cmp(&b.name));
                return Ok((entries, true));
            }
            let stat = match rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                // Removed meanwhile.
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(failed(error)),
            };
            let kind = match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => EntryKind::File,
                FileType::Directory => EntryKind::Folder,
                FileType::Symlink => EntryKind::Link,
                _ => EntryKind::Other,
            };
            let name = name.to_string_lossy().into_owned();
            entries.push(Entry { name, kind, bytes: size(&stat) });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok((entries, false))
    }

    /// Begins to write a file of at most `max` bytes; missing folders are made.
    ///
    /// # Errors
    /// When its place leads outside, or the operating system refuses.
    pub fn write(&self, path: &str, executable: Executable, max: u64) -> Result<NewFile, Error> {
        let (folder, name) = path.rsplit_once('/').unwrap_or((".", path));
        let plain = |part: &str| !matches!(part, "" | "." | "..");
        if !plain(name) || (folder != "." && !folder.split('/').all(plain)) {
            return Err(Error::Path(shown(path)));
        }
        let parent = self.make_folder(folder)?;
        let random = boatyard_model::BlobId::new();
        let temporary = format!(".boatyard-{random}");
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = if executable == Executable::Yes { 0o755 } else { 0o644 };
        let failed = |e| io_error(path, "written", e);
        let fd = rustix::fs::openat(&parent, &*temporary, flags, Mode::from_raw_mode(mode))
            .map_err(failed)?;
        let new = NewFile {
            parent,
            file: File::from(fd),
            temporary,
            name: name.to_owned(),
            path: shown(path),
            bytes: 0,
            max,
            placed: Placed::No,
        };
        self.give(&new.file).map_err(failed)?;
        Ok(new)
    }

    /// The folder at `path`, made where it is missing.
    ///
    /// # Errors
    /// When it leads outside, a part of it is no folder, or the operating system refuses.
    pub fn make_folder(&self, path: &str) -> Result<OwnedFd, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        match self.resolve(path, flags) {
            Err(Error::NotFound(_)) => {}
            found => return found,
        }
        let (above, name) = path.rsplit_once('/').unwrap_or((".", path));
        let parent = self.make_folder(above)?;
        let failed = |e| io_error(path, "made", e);
        match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
            Ok(()) => {
                let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let new =
                    rustix::fs::openat(&parent, name, flags, Mode::empty()).map_err(failed)?;
                self.give(&new).map_err(failed)?;
                Ok(new)
            }
            Err(Errno::EXIST) => self.resolve(path, flags),
            Err(error) => Err(failed(error)),
        }
    }

    /// Makes a symbolic link at `path` that says `target`, where nothing of that name is. It is not
    /// followed here: where it leads only those find who use it.
    ///
    /// # Errors
    /// When its place leads outside, or the operating system refuses.
    pub fn link(&self, path: &str, target: &str) -> Result<(), Error> {
        let (folder, name) = path.rsplit_once('/').unwrap_or((".", path));
        if matches!(name, "" | "." | "..") || name.contains('\0') || target.contains('\0') {
            return Err(Error::Path(shown(path)));
        }
        let parent = self.resolve(folder, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let failed = |e| io_error(path, "made", e);
        match rustix::fs::symlinkat(target, &parent, name) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Ok(()),
            Err(error) => return Err(failed(error)),
        }
        let Some(owner) = self.owner else { return Ok(()) };
        let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(&parent, name, Some(uid), Some(gid), flags).map_err(failed)
    }

    /// Whether something of this name exists.
    ///
    /// # Errors
    /// When it leads outside.
    pub fn exists(&self, path: &str) -> Result<bool, Error> {
        match self.resolve(path, OFlags::PATH) {
            Ok(_) => Ok(true),
            Err(Error::NotFound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes a file (not a folder), if there is one.
    ///
    /// # Errors
    /// When it leads outside, or the operating system refuses.
    pub fn remove(&self, path: &str) -> Result<(), Error> {
        let (folder, name) = path.rsplit_once('/').unwrap_or((".", path));
        let parent = match self.resolve(folder, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(parent) => parent,
            Err(Error::NotFound(_) | Error::Kind { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        match rustix::fs::unlinkat(&parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(io_error(path, "removed", error)),
        }
    }

    fn give(&self, file: impl AsFd) -> Result<(), Errno> {
        let Some(owner) = self.owner else { return Ok(()) };
        let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
        rustix::fs::fchown(file, Some(uid), Some(gid))
    }

    fn resolve(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Error> {
        if path.is_empty() || path.len() >= PATH_MAX || path.contains('\0') {
            return Err(Error::Path(shown(path)));
        }
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC;
        for _ in 0..TRIES {
            match rustix::fs::openat2(&self.dir, path, flags, Mode::empty(), how) {
                Ok(fd) => return Ok(fd),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(Errno::XDEV | Errno::LOOP) => return Err(Error::Outside(shown(path))),
                Err(Errno::NOENT) => return Err(Error::NotFound(shown(path))),
                Err(Errno::NOTDIR) => {
                    return Err(Error::Kind { path: shown(path), wanted: "a folder" });
                }
                // A socket can't be opened.
                Err(Errno::NXIO) => {
                    return Err(Error::Kind { path: shown(path), wanted: "a regular file" });
                }
                Err(error) => return Err(io_error(path, "opened", error)),
            }
        }
        Err(io_error(path, "opened", Errno::AGAIN))
    }
}

impl NewFile {
    /// Adds bytes at its end.
    ///
    /// # Errors
    /// When it would become too large, or the disk refuses.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let total = self.bytes + bytes.len() as u64;
        if total > self.max {
            return Err(Error::TooLarge { path: self.path.clone(), bytes: total, max: self.max });
        }
        self.file.write_all(bytes).map_err(|source| Error::Io {
            path: self.path.clone(),
            action: "written",
            source,
        })?;
        self.bytes = total;
        Ok(())
    }

    /// Puts it in its place, instead of what is there. Gives its size.
    ///
    /// # Errors
    /// When a folder is in its place, or the operating system refuses.
    pub fn commit(mut self) -> Result<u64, Error> {
        rustix::fs::renameat(&self.parent, &*self.temporary, &self.parent, &*self.name).map_err(
            |error| match error {
                Errno::ISDIR => Error::Kind { path: self.path.clone(), wanted: "a regular file" },
                error => io_error(&self.path, "written", error),
            },
        )?;
        self.placed = Placed::Yes;
        Ok(self.bytes)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if self.placed == Placed::No {
            // If it can't be removed, its name tells what it is.
            let _ = rustix::fs::unlinkat(&self.parent, &*self.temporary, AtFlags::empty());
        }
    }
}

fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

fn io_error(path: &str, action: &'static str, source: Errno) -> Error {
    Error::Io { path: shown(path), action, source: source.into() }
}

fn shown(path: &str) -> String {
    path.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use std::{io::Read, os::unix::fs::symlink};

    use super::*;

    fn folder() -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("work/a")).unwrap();
        std::fs::write(dir.path().join("secret"), "secret").unwrap();
        std::fs::write(dir.path().join("work/a/file"), "inside").unwrap();
        let folder = Folder::open(&dir.path().join("work"), None).unwrap();
        (dir, folder)
    }

    fn text(folder: &Folder, path: &str) -> Result<String, Error> {
        let (mut file, _) = folder.read(path, 1000)?;
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        Ok(text)
    }

    #[test]
    fn what_is_inside_is_read_also_through_links() {
        let (dir, folder) = folder();
        symlink("a/file", dir.path().join("work/link")).unwrap();
        assert_eq!(text(&folder, "a/file").unwrap(), "inside");
        assert_eq!(text(&folder, "link").unwrap(), "inside");
        assert_eq!(text(&folder, "a/../a/file").unwrap(), "inside");
    }

    #[test]
    fn a_link_is_made_where_nothing_is_and_not_followed() {
        let (dir, folder) = folder();
        folder.link("a/link", "/etc/passwd").unwrap();
        folder.link("a/link", "elsewhere").unwrap();
        folder.link("a/file", "elsewhere").unwrap();
        let work = dir.path().join("work");
        assert_eq!(std::fs::read_link(work.join("a/link")).unwrap(), Path::new("/etc/passwd"));
        assert_eq!(text(&folder, "a/file").unwrap(), "inside");
        symlink("..", work.join("parent")).unwrap();
        for path in ["../x", "parent/x", "a/.."] {
            assert!(folder.link(path, "x").is_err(), "{path}");
        }
    }

    #[test]
    fn nothing_outside_is_reached() {
        let (dir, folder) = folder();
        let work = dir.path().join("work");
        symlink("../secret", work.join("up")).unwrap();
        symlink(dir.path().join("secret"), work.join("absolute")).unwrap();
        symlink("..", work.join("parent")).unwrap();
        symlink("/proc/self/root", work.join("magic")).unwrap();
        for path in ["../secret", "/etc/passwd", "up", "absolute", "parent/secret", "magic/etc"] {
            assert!(matches!(text(&folder, path), Err(Error::Outside(_))), "{path}");
            let written = folder.write(path, Executable::No, 10).and_then(NewFile::commit);
            match path {
                // Writing replaces a link instead of following it.
                "up" | "absolute" => assert!(written.is_ok()),
                _ => assert!(written.is_err(), "{path}"),
            }
        }
        assert_eq!(std::fs::read_to_string(dir.path().join("secret")).unwrap(), "secret");
    }

    #[test]
    fn only_regular_files_of_bounded_size_are_read() {
        let (dir, folder) = folder();
        let pipe = dir.path().join("work/pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o644), 0)
            .unwrap();
        assert!(matches!(folder.read("pipe", 10), Err(Error::Kind { .. })));
        assert!(matches!(folder.read("a", 10), Err(Error::Kind { .. })));
        assert!(matches!(folder.read("a/file", 3), Err(Error::TooLarge { bytes: 6, .. })));
        assert!(matches!(folder.read("none", 3), Err(Error::NotFound(_))));
        assert!(matches!(folder.read("a\0b", 3), Err(Error::Path(_))));
        assert!(matches!(folder.read("", 3), Err(Error::Path(_))));
    }

    #[test]
    fn a_file_is_written_whole_or_not_at_all() {
        let (dir, folder) = folder();
        let mut new = folder.write("new/deep/file", Executable::Yes, 5).unwrap();
        new.write(b"12345").unwrap();
        assert!(matches!(new.write(b"6"), Err(Error::TooLarge { .. })));
        drop(new);
        let deep = dir.path().join("work/new/deep");
        assert_eq!(std::fs::read_dir(&deep).unwrap().count(), 0);

        let mut new = folder.write("new/deep/file", Executable::Yes, 5).unwrap();
        new.write(b"12345").unwrap();
        assert_eq!(new.commit().unwrap(), 5);
        assert_eq!(text(&folder, "new/deep/file").unwrap(), "12345");
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(deep.join("file")).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111);
        assert!(folder.write("a", Executable::No, 5).unwrap().commit().is_err());
        assert!(folder.write("a/file/below", Executable::No, 5).is_err());
    }

    #[test]
    fn a_listing_is_sorted_and_cut() {
        let (dir, folder) = folder();
        symlink("x", dir.path().join("work/b")).unwrap();
        std::fs::write(dir.path().join("work/c"), "123").unwrap();
        let (entries, cut) = folder.list("", 10).unwrap();
        let seen: Vec<_> = entries.iter().map(|e| (e.name.as_str(), e.kind)).collect();
        assert_eq!(
            seen,
            [("a", EntryKind::Folder), ("b", EntryKind::Link), ("c", EntryKind::File)]
        );
        assert_eq!((entries[2].bytes, cut), (3, false));
        assert!(folder.list("", 2).unwrap().1);
        assert!(matches!(folder.list("c", 2), Err(Error::Kind { .. })));
    }
}
