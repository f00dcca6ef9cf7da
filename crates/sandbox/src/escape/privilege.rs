//! Rights: another id, capabilities, programs that give either.

use std::{
    fs,
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::PathBuf,
    process::{Command, Stdio},
};

use super::{
    Attack, Finding, attack,
    calls::{HERE, at, call, errno, forked, text},
    worst,
};

/// How many programs with another's rights are started.
const PROGRAMS: usize = 12;

pub(super) const ATTACKS: &[Attack] = &[
    attack("become-root", "Becomes user 0", |_| become_user(0)),
    attack("become-others", "Becomes other users and groups", |_| {
        worst([1, 2, 999, 1001, 65_534].map(|id| (format!("user {id}"), become_user(id))))
    }),
    attack("root-group", "Joins the groups of root and of disks", |_| {
        let groups = [0u32, 6];
        // In a child: it changes the process where it works.
        in_child(|| call(libc::SYS_setgroups, &[groups.len(), groups.as_ptr() as usize]).map(drop))
    }),
    attack("take-capabilities", "Gives itself capabilities", |_| {
        worst([
            ("all".to_owned(), in_child(|| capabilities(u64::MAX))),
            ("administration".to_owned(), in_child(|| capabilities(1 << 21))),
            ("raw network".to_owned(), in_child(|| capabilities(1 << 13))),
        ])
    }),
    attack("has-capabilities", "Looks for capabilities that it was left with", |_| {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let left: Vec<&str> = status
            .lines()
            .filter(|line| line.starts_with("Cap") && !line.ends_with("\t0000000000000000"))
            .collect();
        match left.first() {
            Some(first) => Finding::escaped(first.replace('\t', " ")),
            None => Finding::blocked("none in any set"),
        }
    }),
    attack("ambient-capabilities", "Raises capabilities for programs that it starts", |_| {
        let raise = libc::PR_CAP_AMBIENT_RAISE as usize;
        in_child(|| {
            let option = libc::PR_CAP_AMBIENT as usize;
            call(libc::SYS_prctl, &[option, raise, 21, 0, 0]).map(drop)
        })
    }),
    attack("undo-no-new-rights", "Takes back that programs give no rights", |_| {
        let none = call(libc::SYS_prctl, &[libc::PR_GET_NO_NEW_PRIVS as usize, 0, 0, 0, 0]);
        if none.is_ok_and(|set| set == 0) {
            return Finding::escaped("it is not set");
        }
        let option = libc::PR_SET_NO_NEW_PRIVS as usize;
        Finding::of(call(libc::SYS_prctl, &[option, 0, 0, 0, 0]))
    }),
    attack("set-user-id-programs", "Starts programs that make one root, as su and sudo", |_| {
        set_id()
    }),
    attack("own-set-user-id-program", "Gives a program of its own to root, set-user-id", |_| {
        let path = PathBuf::from(format!("/tmp/boatyard-suid-{}", std::process::id()));
        let made = fs::copy("/bin/true", &path)
            .and_then(|_| fs::set_permissions(&path, fs::Permissions::from_mode(0o4755)))
            .and_then(|()| std::os::unix::fs::chown(&path, Some(0), Some(0)));
        let finding = match made {
            Err(error) => Finding::blocked(errno(&error)),
            Ok(()) => match fs::metadata(&path) {
                // Where there is one id only, it is the owner's anyway, and gives nothing.
                Ok(meta) if meta.mode() & 0o4000 != 0 => gained(&path),
                _ => Finding::contained("the bit was taken away"),
            },
        };
        let _ = fs::remove_file(&path);
        finding
    }),
    attack("file-capabilities", "Gives a program of its own capabilities", |_| {
        let path = format!("/tmp/boatyard-caps-{}", std::process::id());
        if let Err(error) = fs::copy("/bin/true", &path) {
            return Finding::skipped(errno(&error));
        }
        let (file, name) = (text(&path), text("security.capability"));
        // Version 2 and effective; all that is permitted.
        let value = [0x0200_0001u32, u32::MAX, 0, u32::MAX, 0];
        let arguments = [at(&file), at(&name), value.as_ptr() as usize, size_of_val(&value), 0];
        let set = call(libc::SYS_setxattr, &arguments);
        let _ = fs::remove_file(&path);
        Finding::of(set)
    }),
    attack("trusted-attributes", "Writes the attributes that overlays are made by", |_| {
        let path = format!("/tmp/boatyard-trusted-{}", std::process::id());
        if let Err(error) = fs::write(&path, "x") {
            return Finding::skipped(errno(&error));
        }
        let file = text(&path);
        let found = worst(
            ["trusted.overlay.opaque", "trusted.overlay.redirect", "security.evm"].map(|name| {
                let attribute = text(name);
                let arguments = [at(&file), at(&attribute), at(&attribute), 1, 0];
                (name.to_owned(), Finding::of(call(libc::SYS_setxattr, &arguments)))
            }),
        );
        let _ = fs::remove_file(&path);
        found
    }),
    attack("give-files-away", "Gives files of its own to root and to others", |_| {
        let path = format!("/tmp/boatyard-given-{}", std::process::id());
        if let Err(error) = fs::write(&path, "x") {
            return Finding::skipped(errno(&error));
        }
        let file = text(&path);
        let found = worst([0usize, 1, 65_534].map(|id| {
            let finding = match call(libc::SYS_fchownat, &[HERE, at(&file), id, id, 0]) {
                // It was its own before, where there is one id only.
                Ok(_) if own_id() as usize == id => Finding::blocked("it is its own id"),
                done => Finding::of(done),
            };
            (format!("to {id}"), finding)
        }));
        let _ = fs::remove_file(&path);
        found
    }),
];

fn own_id() -> u32 {
    // SAFETY: always sound.
    unsafe { libc::getuid() }
}

/// In a child: it changes the process where it works.
fn in_child(attempt: impl FnOnce() -> io::Result<()>) -> Finding {
    let code = forked(|| match attempt() {
        Ok(()) => 0,
        Err(error) => error.raw_os_error().unwrap_or(255),
    });
    match code {
        Ok(0) => Finding::escaped("it worked"),
        Ok(number) if number > 0 => Finding::blocked(errno(&io::Error::from_raw_os_error(number))),
        Ok(signal) => Finding::blocked(format!("signal {}", -signal)),
        Err(error) => Finding::skipped(format!("no child could be made: {}", errno(&error))),
    }
}

fn become_user(id: u32) -> Finding {
    if own_id() == id {
        // The only id that there is. The host's own files tell whose it is outside.
        return match fs::metadata("/usr") {
            Ok(meta) if meta.uid() == id => Finding::escaped("it is user 0 of the host"),
            _ => Finding::contained("it is the only id here, and not the host's"),
        };
    }
    let id = id as usize;
    let user = in_child(|| call(libc::SYS_setresuid, &[id, id, id]).map(drop));
    let group = in_child(|| call(libc::SYS_setresgid, &[id, id, id]).map(drop));
    worst([("user".to_owned(), user), ("group".to_owned(), group)])
}

fn capabilities(set: u64) -> io::Result<()> {
    let header = [0x2008_0522u32, 0];
    let (low, high) = (set as u32, (set >> 32) as u32);
    let data = [low, low, low, high, high, high];
    call(libc::SYS_capset, &[header.as_ptr() as usize, data.as_ptr() as usize]).map(drop)
}

/// Starts programs of another's rights and looks who they are.
fn set_id() -> Finding {
    let mut programs = Vec::new();
    for folder in ["/usr/bin", "/usr/sbin", "/usr/lib/openssh", "/usr/lib/dbus-1.0", "/bin"] {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let is_set_id = entry.metadata().is_ok_and(|meta| {
                meta.is_file() && meta.mode() & 0o6000 != 0 && meta.uid() != own_id()
            });
            if is_set_id && programs.len() < PROGRAMS {
                programs.push(entry.path());
            }
        }
    }
    worst(programs.iter().map(|path| (path.display().to_string(), gained(path))))
}

/// Whether a program has other ids or any capability once it runs.
fn gained(path: &std::path::Path) -> Finding {
    let started = Command::new(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .env_clear()
        .spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) => return Finding::blocked(errno(&error)),
    };
    // Its program runs now, or it has ended and is not reaped: its ids are told all the same.
    let mut status = String::new();
    let told = fs::File::open(format!("/proc/{}/status", child.id()))
        .and_then(|mut file| file.read_to_string(&mut status));
    let _ = child.kill();
    let _ = child.wait();
    if told.is_err() {
        return Finding::skipped("it could not be seen");
    }
    let own = fs::read_to_string("/proc/self/status").unwrap_or_default();
    for field in ["Uid:", "Gid:", "CapEff:"] {
        let of = |text: &str| text.lines().find(|line| line.starts_with(field)).map(str::to_owned);
        if of(&status) != of(&own) {
            let seen = of(&status).unwrap_or_default().replace('\t', " ");
            return Finding::escaped(seen);
        }
    }
    Finding::blocked("it runs with the same ids")
}
