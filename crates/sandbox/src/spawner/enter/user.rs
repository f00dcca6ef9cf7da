//! A spawner without root's rights: it enters a user namespace in which it is root, and from
//! there on does what root's does.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    Error, Result,
    error::Step as _,
    spawn::pipe,
    spawner::state::Level,
    sys::{
        check,
        process::{Fork, Status, Wait, exit, fork, reap},
    },
};

/// How many ids beside the user's own are mapped.
const SUBORDINATE: u64 = 65535;

/// Subordinate ids of the user and the programs that may map them.
struct Range {
    first_uid: u64,
    first_gid: u64,
    newuidmap: PathBuf,
    newgidmap: PathBuf,
}

/// Enters the namespace; `single` forbids the use of subordinate ids.
pub(super) fn enter(single: bool) -> Result<Level> {
    // SAFETY: always sound.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    let range = if single { None } else { range(uid)? };
    let flags = libc::CLONE_NEWUSER | libc::CLONE_NEWNS;
    let Some(range) = range else {
        // SAFETY: integers only; this process has one thread.
        check(unsafe { libc::unshare(flags) }).step("user namespace")?;
        write("/proc/self/uid_map", &format!("0 {uid} 1"))?;
        write("/proc/self/setgroups", "deny")?;
        write("/proc/self/gid_map", &format!("0 {gid} 1"))?;
        return Ok(Level::UserSingle);
    };
    // The mapping programs must run outside of the namespace, so a child waits there.
    let (reader, writer) = pipe().step("make a pipe")?;
    let parent = std::process::id();
    // SAFETY: this process has one thread.
    let child = match unsafe { fork(0, None) }.step("fork")? {
        Fork::Child => {
            drop(writer);
            let code = i32::from(map(reader, parent, uid, gid, &range).is_err());
            exit(code)
        }
        Fork::Parent(child) => child,
    };
    drop(reader);
    // SAFETY: integers only; this process has one thread.
    check(unsafe { libc::unshare(flags) }).step("user namespace")?;
    fs::File::from(writer).write_all(b"m").step("map ids")?;
    match reap(child.pidfd.as_fd(), Wait::Block).step("map ids")? {
        Some(Status::Exited(0)) => {}
        _ => {
            return Err(Error::system("newuidmap", io::Error::from_raw_os_error(libc::EPERM)));
        }
    }
    // SAFETY: integers only: the ids that were just mapped.
    unsafe {
        check(libc::setresgid(0, 0, 0)).step("setresgid")?;
        check(libc::setresuid(0, 0, 0)).step("setresuid")?;
    }
    Ok(Level::UserRange)
}

/// In the child outside: waits for the namespace and maps it.
fn map(reader: OwnedFd, pid: u32, uid: u32, gid: u32, range: &Range) -> io::Result<()> {
    let mut byte = [0];
    fs::File::from(reader).read_exact(&mut byte)?;
    for (program, own, first) in
        [(&range.newuidmap, uid, range.first_uid), (&range.newgidmap, gid, range.first_gid)]
    {
        let own = own.to_string();
        let status = Command::new(program)
            .arg(pid.to_string())
            .args(["0", own.as_str(), "1"])
            .args(["1", &first.to_string(), &SUBORDINATE.to_string()])
            .status()?;
        if !status.success() {
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
    }
    Ok(())
}

/// The user's subordinate ids, if there are enough, and the programs to map them.
fn range(uid: u32) -> Result<Option<Range>> {
    let program = |name: &str| {
        ["/usr/bin", "/bin", "/usr/local/bin"]
            .iter()
            .map(|folder| Path::new(folder).join(name))
            .find(|path| path.exists())
    };
    let (Some(newuidmap), Some(newgidmap)) = (program("newuidmap"), program("newgidmap")) else {
        return Ok(None);
    };
    let name = user_name(uid)?;
    let first = |path: &str| -> Option<u64> {
        let text = fs::read_to_string(path).ok()?;
        text.lines().find_map(|line| {
            let mut fields = line.trim().split(':');
            let who = fields.next()?;
            let mine = name.as_deref() == Some(who) || who == uid.to_string();
            let first = fields.next()?.parse().ok()?;
            let count: u64 = fields.next()?.parse().ok()?;
            (mine && count >= SUBORDINATE).then_some(first)
        })
    };
    let (Some(first_uid), Some(first_gid)) = (first("/etc/subuid"), first("/etc/subgid")) else {
        return Ok(None);
    };
    Ok(Some(Range { first_uid, first_gid, newuidmap, newgidmap }))
}

fn user_name(uid: u32) -> Result<Option<String>> {
    let text = fs::read_to_string("/etc/passwd").step("read /etc/passwd")?;
    Ok(text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid.to_string()).then(|| name.to_owned())
    }))
}

fn write(path: &str, content: &str) -> Result<()> {
    fs::write(path, content).step(&format!("write {path}"))
}
