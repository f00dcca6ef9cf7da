//! From an error to a failure that says how to mend it.

use std::{fs, path::Path};

use crate::{
    Error,
    protocol::{Failure, FailureKind},
};

/// The failure that tells the server about `error`.
pub(super) fn failure(error: &Error) -> Failure {
    let errno = error.errno().unwrap_or(0);
    match error {
        Error::Refused(failure) => failure.clone(),
        Error::System { step, .. } => Failure {
            kind: FailureKind::System,
            step: step.clone(),
            errno,
            hint: hint(step, errno),
        },
        Error::Deadline { step, .. } => plain(FailureKind::Deadline, step),
        Error::Invalid { what } => plain(FailureKind::Invalid, what),
        Error::Malformed { reason } => plain(FailureKind::Invalid, reason),
        Error::SpawnerGone => plain(FailureKind::System, "spawner"),
    }
}

/// A failure that needs no explanation.
pub(super) fn plain(kind: FailureKind, step: &str) -> Failure {
    Failure { kind, step: step.to_owned(), errno: 0, hint: String::new() }
}

/// A refusal that needs no explanation, as an error.
pub(super) fn refuse(kind: FailureKind, step: &str) -> Error {
    Error::Refused(plain(kind, step))
}

/// What to do about `errno` at `step`.
fn hint(step: &str, errno: i32) -> String {
    match (step, errno) {
        (_, libc::ENOSPC) if step.contains("namespace") || step == "clone" => {
            "raise the sysctls user.max_user_namespaces, user.max_net_namespaces and \
             user.max_mnt_namespaces"
                .into()
        }
        ("user namespace" | "clone", libc::EPERM | libc::EACCES) => user_namespaces(),
        (_, libc::ENOSYS) => format!(
            "this kernel lacks a call that `{step}` needs; Linux 5.19 is the oldest that will do"
        ),
        ("id-mapped mount", _) => {
            "the data folder's file system can't show ids through a map: ext4, xfs and btrfs can, \
             from Linux 5.19 on; or run Boatyard as an ordinary user"
                .into()
        }
        ("overlay mount", libc::EINVAL) => {
            "the data folder must not lie on an overlay itself (in a container, put it on a volume)"
                .into()
        }
        ("overlay mount", libc::ENODEV) => "load the kernel module: modprobe overlay".into(),
        ("overlay mount", libc::ENOENT) => {
            "a layer or the workspace's own folder is missing".into()
        }
        ("proc mount", libc::EPERM) => {
            "parts of /proc are masked here, as in a container without privileges: use the docker \
             runtime, or run the container with an unmasked /proc"
                .into()
        }
        (
            "write /proc/self/uid_map" | "private mounts" | "root tmpfs" | "loopback" | "setgroups",
            libc::EPERM | libc::EACCES,
        ) => restricted_namespaces(),
        ("newuidmap", _) => {
            "newuidmap refused the ranges in /etc/subuid and /etc/subgid; mend those or set ids = \
             \"single\""
                .into()
        }
        (_, libc::EACCES | libc::EPERM) if step.starts_with("cgroup") => {
            "the control group is not ours: start Boatyard as a service with Delegate=yes, or as \
             root"
                .into()
        }
        (_, libc::EMFILE | libc::ENFILE) => "raise the limit on open files (ulimit -n)".into(),
        (_, libc::EAGAIN) if step.starts_with("lock") => {
            "another Boatyard, or the rest of one that was killed, still uses this data folder: end \
             it, or choose another folder with --data"
                .into()
        }
        (_, libc::EAGAIN) => "raise kernel.pid_max and the limit on processes".into(),
        (_, libc::ENOSPC | libc::EDQUOT) => {
            "the disk is full: boatyard gc frees what nothing needs".into()
        }
        (_, libc::ENOMEM) => "there is not enough memory for another sandbox".into(),
        _ => String::new(),
    }
}

fn user_namespaces() -> String {
    if number("/proc/sys/kernel/unprivileged_userns_clone") == Some(0) {
        return "sysctl kernel.unprivileged_userns_clone=1".into();
    }
    if number("/proc/sys/user/max_user_namespaces") == Some(0) {
        return "sysctl user.max_user_namespaces=65536".into();
    }
    restricted_namespaces()
}

fn restricted_namespaces() -> String {
    if number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1) {
        return "AppArmor restricts user namespaces: install the profile with `boatyard service \
                install`, run Boatyard as root, or sysctl \
                kernel.apparmor_restrict_unprivileged_userns=0"
            .into();
    }
    if Path::new("/.dockerenv").exists() || Path::new("/run/.containerenv").exists() {
        return "a container without privileges can't make namespaces: use the docker runtime, or \
                give the container more rights (--privileged)"
            .into();
    }
    "this machine does not let an ordinary user make namespaces: run Boatyard as root".into()
}

fn number(path: &str) -> Option<i64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
