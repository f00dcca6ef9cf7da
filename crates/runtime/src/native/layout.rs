//! The data folder, as far as this driver is concerned.
//!
//! | folder | owner, mode | holds |
//! |---|---|---|
//! | `D` | server, 0700 | everything; the server's own files beside these |
//! | `D/run` | server, 0711 | the link socket of each workspace that runs |
//! | `D/mirrors` | server, 0755 | bare repositories, shown read-only in workspaces |
//! | `D/bin` | root, 0755 | the runner, to be shown in workspaces |
//! | `D/sandboxes` | root, 0700 | the files of workspaces and layers |
//!
//! `root` is whoever starts Boatyard. When that is the super-user, the server runs as
//! [`SERVER_UID`] and can't touch `D/sandboxes`; as it owns `D`, nothing here is followed through
//! a symbolic link, and what must belong to root is checked.

use std::{
    fs::{File, Permissions},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{MetadataExt as _, PermissionsExt as _, fchown},
    },
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, open, openat, renameat, statat, unlinkat};

use boatyard_sandbox::spawner;

use super::{launch::Trust, runner};
use crate::Error;

/// The user and group that the server runs as when Boatyard is started as root: just below the
/// ranges of the workspaces, far from accounts and from `/etc/subuid`.
pub const SERVER_UID: u32 = 0x3fff_0001;

/// The folder with the link sockets.
pub fn run(data: &Path) -> PathBuf {
    data.join("run")
}

/// The folder with the bare repositories, `<repository id>.git` each.
pub fn mirrors(data: &Path) -> PathBuf {
    data.join("mirrors")
}

/// The folder with the files of workspaces and layers; the spawner's own.
pub fn sandboxes(data: &Path) -> PathBuf {
    data.join("sandboxes")
}

/// The runner's file, to be shown in workspaces.
pub fn runner_file(data: &Path) -> PathBuf {
    data.join("bin").join(runner::file_name())
}

/// Who the server runs as, given who starts it.
pub fn server_uid() -> u32 {
    let starter = rustix::process::geteuid();
    if starter.is_root() { SERVER_UID } else { starter.as_raw() }
}

/// Makes the folders and lays out the runner. May be repeated.
///
/// # Errors
/// [`Error::Step`] when a folder is not what it should be or can't be reached by the server.
pub fn prepare(data: &Path) -> Result<(), Error> {
    let starter = rustix::process::geteuid().as_raw();
    let server = server_uid();
    std::fs::create_dir_all(data).map_err(|source| {
        step("making the data folder", "choose another one with --data", source)
    })?;
    let folder = open(data, FOLDER, Mode::empty())
        .map_err(|source| step("opening the data folder", "choose another one", source.into()))?;
    let folder = File::from(folder);
    own(&folder, &[starter, server], server, 0o700)?;
    if server != starter {
        reachable(data)?;
    }
    own(&make(&folder, "run")?, &[starter, server], server, 0o711)?;
    own(&make(&folder, "mirrors")?, &[starter, server], server, 0o755)?;
    let bin = make(&folder, "bin")?;
    own(&bin, &[starter], starter, 0o755)?;
    own(&make(&folder, "sandboxes")?, &[starter], starter, 0o700)?;
    lay_out_runner(&bin).map_err(|source| {
        step("laying out the runner in the data folder", "is the disk full?", source)
    })
}

/// Folders are opened without following a link.
const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn make(parent: &File, name: &'static str) -> Result<File, Error> {
    let failed = |source: rustix::io::Errno| {
        let hint = format!("`{name}` in the data folder must be a folder");
        step("making the folders of the data folder", &hint, source.into())
    };
    match mkdirat(parent, name, Mode::RWXU) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(failed(error)),
    }
    openat(parent, name, FOLDER, Mode::empty()).map(File::from).map_err(failed)
}

/// Gives a folder to `owner`, if it belongs to one of `known`.
fn own(folder: &File, known: &[u32], owner: u32, mode: u32) -> Result<(), Error> {
    let failed = |source| {
        let hint = "the data folder must belong to whoever starts Boatyard";
        step("taking the data folder", hint, source)
    };
    let meta = folder.metadata().map_err(failed)?;
    if !known.contains(&meta.uid()) {
        return Err(step(
            "taking the data folder",
            &format!(
                "a folder in it belongs to user {}; give it back or choose another",
                meta.uid()
            ),
            io::ErrorKind::PermissionDenied.into(),
        ));
    }
    if meta.uid() != owner {
        fchown(folder, Some(owner), Some(owner)).map_err(failed)?;
    }
    if meta.permissions().mode() & 0o7777 != mode {
        folder.set_permissions(Permissions::from_mode(mode)).map_err(failed)?;
    }
    Ok(())
}

/// The server drops its rights and must still reach the folder by its path.
fn reachable(data: &Path) -> Result<(), Error> {
    const ANYBODY: u32 = 0o001;
    const OWNER: u32 = 0o100;
    let data = data
        .canonicalize()
        .map_err(|source| step("finding the data folder", "is it there?", source))?;
    for above in data.ancestors().skip(1) {
        let meta = above
            .metadata()
            .map_err(|source| step("looking above the data folder", "is it there?", source))?;
        let who = if meta.uid() == SERVER_UID { OWNER } else { ANYBODY };
        if meta.permissions().mode() & who == 0 {
            return Err(step(
                "reaching the data folder as the unprivileged server",
                &format!(
                    "{} is closed to others; choose a folder such as /var/lib/boatyard with --data",
                    above.display()
                ),
                io::ErrorKind::PermissionDenied.into(),
            ));
        }
    }
    Ok(())
}

/// Writes the runner beside its place, then moves it there, and removes those of other releases:
/// workspaces that run keep theirs open.
fn lay_out_runner(bin: &File) -> io::Result<()> {
    let name = runner::file_name();
    let wanted = u64::try_from(runner::PROGRAM.len()).unwrap_or(u64::MAX);
    let there = statat(bin, &name, AtFlags::SYMLINK_NOFOLLOW);
    if there.is_ok_and(|stat| u64::try_from(stat.st_size) == Ok(wanted)) {
        return Ok(());
    }
    // Two may start at the same time; each writes a file of its own.
    let fresh = format!(".{name}.{}", std::process::id());
    let file = openat(
        bin,
        &fresh,
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::RWXU,
    )?;
    write(file, runner::PROGRAM, 0o555)?;
    renameat(bin, &fresh, bin, &name)?;
    for entry in rustix::fs::Dir::read_from(bin.as_fd())? {
        let entry = entry?;
        let other = entry.file_name().to_bytes();
        if other.starts_with(b"runner-") && other != name.as_bytes() {
            unlinkat(bin, entry.file_name(), AtFlags::empty())?;
        }
    }
    Ok(())
}

/// Writes what workspaces trust to where only whoever starts Boatyard can change it, so that the
/// spawner may show it.
///
/// # Errors
/// [`Error::Step`] when it can't be written.
pub(super) fn lay_out_trust(data: &Path, trust: &Trust) -> Result<spawner::Trust, Error> {
    let folder = data.join("bin");
    let lay_out = |name: &str, content: &[u8]| {
        let path = folder.join(name);
        // The same at most starts; workspaces that run keep what they have.
        if std::fs::read(&path).is_ok_and(|there| there == content) {
            return Ok(path);
        }
        let failed = |source| {
            step("laying out certificates in the data folder", "is the disk full?", source)
        };
        let bin = open(&folder, FOLDER, Mode::empty()).map_err(|error| failed(error.into()))?;
        let fresh = format!(".{name}.{}", std::process::id());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW;
        let written = openat(&bin, &fresh, flags | OFlags::CLOEXEC, Mode::RWXU)
            .map_err(io::Error::from)
            .and_then(|file| write(file, content, 0o444))
            .and_then(|()| Ok(renameat(&bin, &fresh, &bin, name)?));
        written.map(|()| path).map_err(failed)
    };
    Ok(spawner::Trust {
        bundle: lay_out("ca-bundle.pem", &trust.bundle)?,
        java: lay_out("cacerts.jks", &trust.java)?,
    })
}

fn write(file: OwnedFd, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file = File::from(file);
    io::Write::write_all(&mut file, content)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    // Before the rename, lest a crash leave a hole under the right name.
    file.sync_all()
}

fn step(step: &str, hint: &str, source: io::Error) -> Error {
    if matches!(source.raw_os_error(), Some(28 | 122)) {
        return Error::DiskFull;
    }
    Error::Step { step: step.to_owned(), hint: hint.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn folders_are_made_once_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        for _ in 0..2 {
            prepare(&data).unwrap();
        }
        let mode = |path: PathBuf| path.metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(data.clone()), 0o700);
        assert_eq!(mode(run(&data)), 0o711);
        assert_eq!(mode(sandboxes(&data)), 0o700);
        assert_eq!(mode(runner_file(&data)), 0o555);
        assert_eq!(std::fs::read(runner_file(&data)).unwrap(), runner::PROGRAM);
        assert_eq!(run(&data).metadata().unwrap().uid(), server_uid());
    }

    #[test]
    fn a_link_in_place_of_a_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let data = folder.path().join("data");
        std::fs::create_dir(&data).unwrap();
        std::fs::create_dir(folder.path().join("elsewhere")).unwrap();
        symlink(folder.path().join("elsewhere"), data.join("sandboxes")).unwrap();
        assert!(matches!(prepare(&data), Err(Error::Step { .. })));
    }

    #[test]
    fn the_runner_of_another_release_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let data = folder.path().join("data");
        prepare(&data).unwrap();
        std::fs::remove_file(runner_file(&data)).unwrap();
        std::fs::write(data.join("bin/runner-old"), "old").unwrap();
        prepare(&data).unwrap();
        assert!(runner_file(&data).exists() && !data.join("bin/runner-old").exists());
    }
}
