//! What a person must know of the machine, beside what the spawner found by trying.
//!
//! Nothing here changes anything or decides anything: the isolation is chosen from what worked,
//! and these checks explain why something did not, or will not at a thousand workspaces. Each is a
//! file of the kernel or one short run of a program.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use crate::capabilities::{Check, Outcome};

/// The oldest kernel with idmapped overlays, which give each workspace ids of its own.
const KERNEL_FULL: (u32, u32) = (5, 19);
/// The oldest kernel on which sandboxes work at all: overlays by ordinary users and `cgroup.kill`.
const KERNEL_OLDEST: (u32, u32) = (5, 14);
/// Ten thousand quiet workspaces have a process each; the kernel's default is 32,768 for all.
const PIDS_WANTED: u64 = 262_144;
/// A watcher per folder of a large repository, for a handful of agents' tools.
const WATCHES_WANTED: u64 = 65_536;
/// One development server with hot reload takes one or two instances, and all workspaces of one
/// user share the count.
const INSTANCES_WANTED: u64 = 512;
/// The oldest git that speaks all that is asked of it (`init --ref-format`, safe defaults for
/// `protocol.file`).
const GIT_OLDEST: (u32, u32) = (2, 39);
/// What a first workspace with a repository and its tools takes with some room.
const DISK_WANTED: u64 = 5 << 30;
/// A program that does not tell its version in this time hangs.
const VERSION_DEADLINE: Duration = Duration::from_secs(5);

/// Everything that is worth telling of this machine, most important first. `data` is the data
/// folder. May block for some milliseconds.
pub(crate) fn checks(data: &Path) -> Vec<Check> {
    let mut checks = vec![kernel(), user_namespaces()];
    checks.extend(apparmor());
    checks.push(git());
    checks.extend(disk(data));
    checks.push(at_least(
        "process ids",
        "/proc/sys/kernel/pid_max",
        PIDS_WANTED,
        "many workspaces at once need more: sysctl kernel.pid_max=4194304",
    ));
    checks.push(at_least(
        "file watches",
        "/proc/sys/fs/inotify/max_user_watches",
        WATCHES_WANTED,
        "tools that watch files may fail: sysctl fs.inotify.max_user_watches=524288",
    ));
    checks.push(at_least(
        "file watchers",
        "/proc/sys/fs/inotify/max_user_instances",
        INSTANCES_WANTED,
        "tools that watch files may fail: sysctl fs.inotify.max_user_instances=1024",
    ));
    checks
}

pub(super) fn check(name: &str, outcome: Outcome, detail: impl Into<String>, hint: &str) -> Check {
    let hint = if outcome == Outcome::Works { String::new() } else { hint.to_owned() };
    Check { name: name.to_owned(), outcome, detail: detail.into(), hint }
}

fn kernel() -> Check {
    let text = first_line("/proc/sys/kernel/osrelease").unwrap_or_default();
    let (outcome, hint) = match version_in(&text) {
        Some(version) if version >= KERNEL_FULL => (Outcome::Works, ""),
        Some(version) if version >= KERNEL_OLDEST => (
            Outcome::Missing,
            "Linux 5.19 or newer gives every workspace user ids of its own; older ones run with less",
        ),
        _ => (Outcome::Blocks, "sandboxes need Linux 5.14 or newer; 5.19 or newer is better"),
    };
    check("kernel", outcome, text, hint)
}

fn user_namespaces() -> Check {
    const NAME: &str = "user namespaces";
    // Debian's own switch; absent elsewhere.
    if first_line("/proc/sys/kernel/unprivileged_userns_clone").as_deref() == Some("0") {
        return check(
            NAME,
            Outcome::Missing,
            "closed to ordinary users (kernel.unprivileged_userns_clone=0)",
            "sysctl kernel.unprivileged_userns_clone=1, or start Boatyard as root",
        );
    }
    match first_line("/proc/sys/user/max_user_namespaces") {
        Some(max) if max == "0" => check(
            NAME,
            Outcome::Blocks,
            "none allowed (user.max_user_namespaces=0)",
            "sysctl user.max_user_namespaces=65536",
        ),
        Some(max) => check(NAME, Outcome::Works, format!("up to {max}"), ""),
        None => check(
            NAME,
            Outcome::Blocks,
            "this kernel has none",
            "sandboxes need a kernel with CONFIG_USER_NS",
        ),
    }
}

/// Ubuntu 23.10 and later take all rights from a user namespace of a program that has no profile.
fn apparmor() -> Option<Check> {
    let restricted = first_line("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")?;
    if restricted != "1" {
        return Some(check("AppArmor", Outcome::Works, "does not restrict user namespaces", ""));
    }
    let program = std::env::current_exe().unwrap_or_else(|_| "/usr/bin/boatyard".into());
    let confined = first_line("/proc/self/attr/current").unwrap_or_default();
    if confined.starts_with("boatyard") {
        return Some(check("AppArmor", Outcome::Works, format!("profile {confined}"), ""));
    }
    Some(check(
        "AppArmor",
        Outcome::Missing,
        "takes all rights from the user namespaces of ordinary users' programs",
        &format!(
            "start Boatyard as root, or install this profile as /etc/apparmor.d/boatyard and run \
             `apparmor_parser -r /etc/apparmor.d/boatyard`:\n{}",
            profile(&program)
        ),
    ))
}

/// The profile that lets the program at this path make user namespaces, and nothing else.
fn profile(program: &Path) -> String {
    format!(
        "abi <abi/4.0>,\n\
         include <tunables/global>\n\
         profile boatyard \"{}\" flags=(unconfined) {{\n  userns,\n}}",
        program.display()
    )
}

fn git() -> Check {
    const HINT: &str =
        "install git 2.39 or newer: repositories are fetched and checked out with it";
    match program_version("git") {
        Ok(text) => {
            let outcome = match version_in(&text) {
                Some(version) if version >= GIT_OLDEST => Outcome::Works,
                _ => Outcome::Missing,
            };
            check("git", outcome, text, HINT)
        }
        Err(problem) => check("git", Outcome::Missing, problem, HINT),
    }
}

/// The first line that `program --version` prints.
fn program_version(program: &str) -> Result<String, String> {
    let mut child = Command::new(program)
        .arg("--version")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("{program} can't be started: {error}"))?;
    let stdout = child.stdout.take();
    let (done, result) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        let read = stdout.map(|stdout| {
            std::io::Read::read_to_string(&mut std::io::Read::take(stdout, 4096), &mut text)
        });
        // The receiver may have given up.
        let _ = done.send(read.transpose().map(|_| text));
    });
    let read = result.recv_timeout(VERSION_DEADLINE);
    if read.is_err() {
        // Ends the reader too: its pipe closes.
        let _ = child.kill();
    }
    let status = child.wait();
    if reader.join().is_err() {
        return Err(format!("{program} could not be read"));
    }
    let text = match read {
        Ok(Ok(text)) => text,
        Ok(Err(error)) => return Err(format!("{program} could not be read: {error}")),
        Err(_) => return Err(format!("{program} does not answer")),
    };
    match status {
        Ok(status) if status.success() => Ok(text.lines().next().unwrap_or_default().to_owned()),
        Ok(status) => Err(format!("{program} fails: {status}")),
        Err(error) => Err(format!("{program} could not be waited for: {error}")),
    }
}

fn disk(data: &Path) -> Vec<Check> {
    let mut checks = Vec::new();
    if let Some((kind, options)) = mount_of(data) {
        let (outcome, hint) = match kind.as_str() {
            "overlay" => (
                Outcome::Blocks,
                "the data folder lies on an overlay, as in a container, and overlays don't stack: \
                 give it a volume of its own",
            ),
            "nfs" | "nfs4" | "cifs" | "9p" | "fuse" | "vfat" | "exfat" => (
                Outcome::Blocks,
                "the data folder needs a local Linux file system: ext4, XFS or btrfs",
            ),
            _ if options.split(',').any(|option| option == "noexec") => (
                Outcome::Missing,
                "agents are started from the data folder's file system: mount it without noexec, \
                 or choose another folder with --data",
            ),
            _ => (Outcome::Works, ""),
        };
        checks.push(check("file system", outcome, format!("{kind} ({options})"), hint));
    }
    if let Ok(stat) = rustix::fs::statvfs(data) {
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        let outcome = if free >= DISK_WANTED { Outcome::Works } else { Outcome::Missing };
        checks.push(check(
            "disk space",
            outcome,
            format!(
                "{:.1} GiB and {} inodes free",
                free as f64 / f64::from(1 << 30),
                stat.f_favail
            ),
            "less than 5 GiB are free where the data folder is",
        ));
    }
    checks
}

/// Kind and options of the mount that a path lies on.
fn mount_of(path: &Path) -> Option<(String, String)> {
    let path = path.canonicalize().ok()?;
    let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
    table
        .lines()
        .filter_map(parse_mount)
        .filter(|(place, ..)| path.starts_with(place))
        // Later mounts on the same place lie above earlier ones.
        .max_by_key(|(place, ..)| Path::new(place).components().count())
        .map(|(_, kind, options)| (kind, options))
}

/// Place, kind and options from a line of `mountinfo`.
fn parse_mount(line: &str) -> Option<(String, String, String)> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(4);
    let place = left.next()?.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\");
    let options = left.next()?.to_owned();
    let kind = right.split(' ').next()?.to_owned();
    Some((place, kind, options))
}

fn at_least(name: &str, file: &str, wanted: u64, hint: &str) -> Check {
    match first_line(file).and_then(|text| text.parse::<u64>().ok()) {
        Some(value) if value >= wanted => check(name, Outcome::Works, value.to_string(), ""),
        Some(value) => check(name, Outcome::Missing, value.to_string(), hint),
        None => check(name, Outcome::Missing, format!("{file} can't be read"), hint),
    }
}

/// The first two numbers of the first word that begins with a digit.
fn version_in(text: &str) -> Option<(u32, u32)> {
    let word =
        text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let mut numbers = word.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn first_line(file: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    Some(text.lines().next()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        assert_eq!(version_in("git version 2.47.3"), Some((2, 47)));
        assert_eq!(version_in("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(version_in("git version 2.39.5 (Apple Git-154)"), Some((2, 39)));
        assert_eq!(version_in("none"), None);
    }

    #[test]
    fn a_mount_line_is_parsed() {
        let line =
            "36 35 98:0 /mnt1 /mnt\\040two rw,noatime master:1 - ext3 /dev/root rw,errors=continue";
        assert_eq!(
            parse_mount(line),
            Some(("/mnt two".into(), "ext3".into(), "rw,noatime".into()))
        );
        assert_eq!(parse_mount("nonsense"), None);
    }

    #[test]
    fn every_check_that_finds_something_missing_says_how_to_mend_it() {
        for check in checks(&std::env::temp_dir()) {
            assert_eq!(check.hint.is_empty(), check.outcome == Outcome::Works, "{check:?}");
            assert!(!check.detail.is_empty(), "{check:?}");
        }
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error_in_words() {
        let error = program_version("boatyard-no-such-program").unwrap_err();
        assert!(error.starts_with("boatyard-no-such-program can't be started"), "{error}");
    }
}
