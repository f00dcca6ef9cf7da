//! Trees on a real file system: what is made, copied and removed.

use std::{
    ffi::CString,
    fs,
    os::{
        fd::AsFd,
        unix::{ffi::OsStrExt, fs::MetadataExt},
    },
    path::Path,
};

use super::*;

fn open(path: &Path) -> OwnedFd {
    dir::open_absolute(&CString::new(path.as_os_str().as_bytes()).unwrap()).unwrap()
}

/// A chain of folders deeper than any path may be long.
fn deep(top: &Path, depth: usize) {
    let mut folder = open(top);
    for _ in 0..depth {
        dir::make(folder.as_fd(), c"some-folder", 0o700).unwrap();
        folder = dir::open_dir(folder.as_fd(), c"some-folder").unwrap();
    }
}

#[test]
fn removes_any_depth_and_follows_no_link() {
    let temp = tempfile::tempdir().unwrap();
    let outside = temp.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("kept"), "x").unwrap();
    let top = temp.path().join("top");
    fs::create_dir_all(top.join("a/b/c")).unwrap();
    fs::write(top.join("a/b/file"), "x").unwrap();
    std::os::unix::fs::symlink(&outside, top.join("a/link")).unwrap();
    std::os::unix::fs::symlink(&outside, top.join("link")).unwrap();
    deep(&top, 3000);
    remove_inside(open(&top).as_fd()).unwrap();
    assert_eq!(fs::read_dir(&top).unwrap().count(), 0);
    assert!(outside.join("kept").exists());
}

#[test]
fn measures_links_once_and_refuses_the_bottomless() {
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir(temp.path().join("folder")).unwrap();
    fs::write(temp.path().join("folder/one"), vec![7; 10_000]).unwrap();
    fs::hard_link(temp.path().join("folder/one"), temp.path().join("two")).unwrap();
    let usage = measure(open(temp.path()).as_fd()).unwrap();
    assert_eq!(usage.inodes, 2);
    assert!(usage.bytes >= 10_000 && usage.bytes < 40_000, "{usage:?}");
    deep(temp.path(), DEPTH_MAX + 2);
    assert!(measure(open(temp.path()).as_fd()).is_err());
    remove_inside(open(temp.path()).as_fd()).unwrap();
}

#[test]
fn copies_everything_an_overlay_needs() {
    let temp = tempfile::tempdir().unwrap();
    let (from, to) = (temp.path().join("from"), temp.path().join("to"));
    fs::create_dir_all(from.join("folder")).unwrap();
    fs::create_dir(&to).unwrap();
    fs::write(from.join("folder/file"), "content").unwrap();
    fs::hard_link(from.join("folder/file"), from.join("again")).unwrap();
    std::os::unix::fs::symlink("nowhere", from.join("link")).unwrap();
    let sparse = fs::File::create(from.join("sparse")).unwrap();
    sparse.set_len(50 << 20).unwrap();
    let source = open(&from);
    // SAFETY: C strings and integers; a whiteout, as the overlay makes them.
    let whiteouts = unsafe {
        libc::mknodat(std::os::fd::AsRawFd::as_raw_fd(&source), c"gone".as_ptr(), libc::S_IFCHR, 0)
            == 0
    };
    // SAFETY: C strings and a value of one byte.
    let attributes = unsafe {
        let folder = CString::new(from.join("folder").as_os_str().as_bytes()).unwrap();
        libc::setxattr(folder.as_ptr(), c"user.overlay.opaque".as_ptr(), c"y".as_ptr().cast(), 1, 0)
            == 0
    };
    assert!(attributes, "this file system has no user attributes");

    copy(source.as_fd(), open(&to).as_fd()).unwrap();

    assert_eq!(fs::read_to_string(to.join("folder/file")).unwrap(), "content");
    let (first, second) =
        (fs::metadata(to.join("folder/file")).unwrap(), fs::metadata(to.join("again")).unwrap());
    assert_eq!(first.ino(), second.ino());
    assert_eq!(first.mtime(), fs::metadata(from.join("again")).unwrap().mtime());
    assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("nowhere"));
    let sparse = fs::metadata(to.join("sparse")).unwrap();
    assert_eq!((sparse.len(), sparse.blocks()), (50 << 20, 0));
    if whiteouts {
        let whiteout = fs::symlink_metadata(to.join("gone")).unwrap();
        assert_eq!((whiteout.mode() & libc::S_IFMT, whiteout.rdev()), (libc::S_IFCHR, 0));
    }
    let mut value = [0u8; 4];
    // SAFETY: C strings and a buffer as long as said.
    let length = unsafe {
        let folder = CString::new(to.join("folder").as_os_str().as_bytes()).unwrap();
        libc::getxattr(
            folder.as_ptr(),
            c"user.overlay.opaque".as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    assert_eq!((length, value[0]), (1, b'y'));
}
