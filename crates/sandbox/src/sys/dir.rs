//! Files and folders below an open folder. No symbolic link is followed and nothing above the
//! folder is reached, whatever the names are.

use std::{
    ffi::{CStr, CString},
    fs::File,
    io::{self, Read as _},
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd},
};

use super::{check, retry};

/// The most that [`read`] reads: groups' files and records are far smaller.
const READ_MAX: u64 = 1 << 20;

/// One entry of a folder.
#[derive(Debug)]
pub(crate) struct DirEntry {
    pub(crate) name: CString,
    /// `DT_*`.
    pub(crate) kind: u8,
}

impl DirEntry {
    /// The name when this is a folder with an ordinary name.
    pub(crate) fn folder_name(&self) -> Option<&str> {
        if self.kind == libc::DT_DIR { self.name.to_str().ok() } else { None }
    }
}

/// Opens `path` below `dir` as `flags` say.
pub(crate) fn open_file(dir: BorrowedFd<'_>, path: &CStr, flags: i32) -> io::Result<OwnedFd> {
    open(dir, path, flags, 0)
}

/// Opens or makes the file `path` below `dir`.
pub(crate) fn create_file(
    dir: BorrowedFd<'_>,
    path: &CStr,
    flags: i32,
    mode: u32,
) -> io::Result<OwnedFd> {
    open(dir, path, flags | libc::O_CREAT, mode)
}

/// Opens the folder `path` below `dir`.
pub(crate) fn open_dir(dir: BorrowedFd<'_>, path: &CStr) -> io::Result<OwnedFd> {
    open(dir, path, libc::O_RDONLY | libc::O_DIRECTORY, 0)
}

fn open(dir: BorrowedFd<'_>, path: &CStr, flags: i32, mode: u32) -> io::Result<OwnedFd> {
    // SAFETY: all-zero is a valid open_how.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = u64::from((flags | libc::O_CLOEXEC | libc::O_NOFOLLOW).cast_unsigned());
    how.mode = u64::from(mode);
    how.resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS;
    let fd = retry(|| {
        // SAFETY: an open folder, a C string and a valid structure of the size given.
        check(unsafe {
            libc::syscall(
                libc::SYS_openat2,
                dir.as_raw_fd(),
                path.as_ptr(),
                &raw const how,
                size_of::<libc::open_how>(),
            )
        })
    })?;
    // SAFETY: just opened, ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Opens the folder at an absolute path that the caller trusts.
pub(crate) fn open_absolute(path: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: a C string; the result is a new descriptor.
    unsafe {
        let fd =
            check(libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Makes the folder `name`, as far as the mask lets `mode` through.
pub(crate) fn make(dir: BorrowedFd<'_>, name: &CStr, mode: u32) -> io::Result<()> {
    // SAFETY: an open folder and a C string.
    check(unsafe { libc::mkdirat(dir.as_raw_fd(), name.as_ptr(), mode) })?;
    Ok(())
}

/// Makes the folder `name` unless it exists, and opens it.
pub(crate) fn ensure(dir: BorrowedFd<'_>, name: &CStr, mode: u32) -> io::Result<OwnedFd> {
    match make(dir, name, mode) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => open_dir(dir, name),
    }
}

/// Whether there is an entry `name`, of whatever kind.
pub(crate) fn exists(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<bool> {
    match stat(dir, name) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// What `name` is, itself and not what it points to. An empty name means `dir`.
pub(crate) fn stat(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<libc::stat> {
    // SAFETY: all-zero is a valid stat; the call fills it.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        check(libc::fstatat(
            dir.as_raw_fd(),
            name.as_ptr(),
            &raw mut stat,
            libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH,
        ))?;
        Ok(stat)
    }
}

/// Moves an entry; never over an existing one.
pub(crate) fn rename(
    from: BorrowedFd<'_>,
    name: &CStr,
    to: BorrowedFd<'_>,
    new_name: &CStr,
) -> io::Result<()> {
    // SAFETY: open folders and C strings.
    check(unsafe {
        libc::renameat2(
            from.as_raw_fd(),
            name.as_ptr(),
            to.as_raw_fd(),
            new_name.as_ptr(),
            libc::RENAME_NOREPLACE,
        )
    })?;
    Ok(())
}

/// Deletes the entry `name`, which is not a folder.
pub(crate) fn unlink(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    // SAFETY: an open folder and a C string.
    check(unsafe { libc::unlinkat(dir.as_raw_fd(), name.as_ptr(), 0) })?;
    Ok(())
}

/// Deletes the empty folder `name`.
pub(crate) fn remove_empty(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    // SAFETY: an open folder and a C string.
    check(unsafe { libc::unlinkat(dir.as_raw_fd(), name.as_ptr(), libc::AT_REMOVEDIR) })?;
    Ok(())
}

/// Gives the open file or folder an owner.
pub(crate) fn own(fd: BorrowedFd<'_>, uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: an open descriptor and integers.
    check(unsafe { libc::fchown(fd.as_raw_fd(), uid, gid) })?;
    Ok(())
}

/// The text in the file `name`.
pub(crate) fn read(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<String> {
    let file = File::from(open_file(dir, name, libc::O_RDONLY)?);
    let mut text = String::new();
    file.take(READ_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// Writes `bytes` to the existing file `name` in one call, as groups' files want it.
pub(crate) fn write(dir: BorrowedFd<'_>, name: &CStr, bytes: &[u8]) -> io::Result<()> {
    let file = open_file(dir, name, libc::O_WRONLY)?;
    let written = retry(|| {
        // SAFETY: the buffer is as long as said.
        check(unsafe { libc::write(file.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) })
    })?;
    if usize::try_from(written) == Ok(bytes.len()) {
        Ok(())
    } else {
        Err(io::ErrorKind::WriteZero.into())
    }
}

/// The entries of `dir`, without `.` and `..`.
pub(crate) fn list(dir: BorrowedFd<'_>) -> io::Result<Vec<DirEntry>> {
    Entries::open(dir)?.collect()
}

/// The entries of a folder one after another, without `.` and `..`.
#[derive(Debug)]
pub(crate) struct Entries {
    stream: std::ptr::NonNull<libc::DIR>,
}

impl Entries {
    /// Reads `dir` from its beginning, through a descriptor of its own.
    pub(crate) fn open(dir: BorrowedFd<'_>) -> io::Result<Self> {
        let own = open(dir, c".", libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
        // SAFETY: the stream takes the descriptor over.
        let stream = unsafe { libc::fdopendir(own.into_raw_fd()) };
        std::ptr::NonNull::new(stream)
            .map(|stream| Self { stream })
            .ok_or_else(io::Error::last_os_error)
    }
}

impl Iterator for Entries {
    type Item = io::Result<DirEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            // SAFETY: the stream is open and ours; an entry is valid until the next call, and
            // its name is a C string. errno tells the end from an error.
            let (name, kind) = unsafe {
                *libc::__errno_location() = 0;
                let entry = libc::readdir64(self.stream.as_ptr());
                if entry.is_null() {
                    let error = io::Error::last_os_error();
                    return (error.raw_os_error() != Some(0)).then_some(Err(error));
                }
                (CStr::from_ptr((*entry).d_name.as_ptr()).to_owned(), (*entry).d_type)
            };
            if name.as_c_str() != c"." && name.as_c_str() != c".." {
                return Some(Ok(DirEntry { name, kind }));
            }
        }
    }
}

impl Drop for Entries {
    fn drop(&mut self) {
        // SAFETY: the stream is open and ours; closing it closes its descriptor.
        unsafe { libc::closedir(self.stream.as_ptr()) };
    }
}
