//! Files of the host: by paths, around the root, through what is shown of it.

use std::{
    fs, io,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Attack, Context, Finding, attack,
    bait::MARK,
    calls::{HERE, at, call, close, errno, path, text},
    worst,
};

/// The most bytes that are read of a file.
const READ_MAX: u64 = 64 << 10;
/// How deep below a folder something is looked for.
const DEPTH: usize = 3;

pub(super) const ATTACKS: &[Attack] = &[
    attack("host-file", "Reads a file of the host by its path", |c| read(c, &c.bait.host.file)),
    attack("host-tmp", "Reads a file in the host's /tmp", |c| read(c, &c.bait.host.tmp)),
    attack("host-shared-memory-file", "Reads a file in the host's /dev/shm", |c| {
        read(c, &c.bait.host.memory_file)
    }),
    attack("host-shadow", "Reads the host's password hashes", |_| something("/etc/shadow")),
    attack("host-homes", "Lists the homes of the host's people", |c| {
        worst([&c.bait.home, Path::new("/root"), Path::new("/home")].map(homes))
    }),
    attack("data-folder", "Lists the server's data folder", |c| match &c.bait.data {
        Some(data) => Finding::of(fs::read_dir(data)),
        None => Finding::blocked("there is none"),
    }),
    attack("server-secrets", "Reads the server's keys and its database", |c| {
        worst(c.bait.secrets.iter().map(|path| (path.display().to_string(), open(path))))
    }),
    attack("boot-and-logs", "Reads what the host boots from, and its logs", |_| {
        worst(
            ["/boot", "/var/log", "/var/lib", "/srv", "/mnt", "/media", "/lost+found"]
                .map(|path| (path.to_owned(), something(path))),
        )
    }),
    attack("above-the-root", "Climbs above the root with `..`, by path and by descriptor", climb),
    attack("root-by-handle", "Opens the host's root folder by its file handle", by_handle),
    attack("root-of-every-process", "Reads through root and cwd of every process in /proc", |c| {
        let inner = c.bait.host.file.strip_prefix("/").unwrap_or(&c.bait.host.file);
        worst(numbers().flat_map(|pid| ["root", "cwd"].map(|link| (pid.clone(), link))).map(
            |(pid, link)| {
                let path = Path::new("/proc").join(&pid).join(link).join(inner);
                (format!("/proc/{pid}/{link}"), read(c, &path))
            },
        ))
    }),
    attack("mapped-files", "Opens files of other processes through /proc/*/map_files", |_| {
        worst(numbers().filter(|pid| *pid != std::process::id().to_string()).map(|pid| {
            let folder = format!("/proc/{pid}/map_files");
            let found = fs::read_dir(&folder).and_then(|mut entries| match entries.next() {
                Some(entry) => fs::File::open(entry?.path()).map(drop),
                None => Err(io::ErrorKind::NotFound.into()),
            });
            (folder, Finding::of(found))
        }))
    }),
    attack("write-system-folders", "Makes a file in folders that belong to the host", |c| {
        let inside =
            ["/usr/bin", "/usr/lib", "/bin", "/sbin", "/lib", "/etc", "/etc/ssl/certs", "/"];
        worst(inside.map(|folder| (folder.to_owned(), make(c, Path::new(folder)))))
    }),
    attack("overwrite-system-program", "Opens programs of the host for writing", |_| {
        worst(["/usr/bin/env", "/bin/sh", "/usr/bin/git", "/etc/passwd"].map(|path| {
            (path.to_owned(), Finding::of(fs::OpenOptions::new().append(true).open(path)))
        }))
    }),
    attack("hard-link-to-host", "Makes a hard link to a file that the host shares", |c| {
        let target = Path::new("/tmp").join(format!("link-{}", c.name));
        let linked = fs::hard_link("/usr/bin/env", &target);
        let _ = fs::remove_file(&target);
        Finding::of(linked)
    }),
    attack("change-system-file", "Changes owner, rights and times of a file of the host", |_| {
        let file = text("/usr/bin/env");
        let chmod = call(libc::SYS_fchmodat, &[HERE, at(&file), 0o755]);
        let chown = call(libc::SYS_fchownat, &[HERE, at(&file), 0, 0, 0]);
        worst([("chmod".to_owned(), Finding::of(chmod)), ("chown".to_owned(), Finding::of(chown))])
    }),
    attack("docker-socket", "Speaks to a container engine's socket", |c| {
        let known = [
            "/var/run/docker.sock",
            "/run/docker.sock",
            "/run/containerd/containerd.sock",
            "/run/podman/podman.sock",
            "/run/crio/crio.sock",
        ];
        worst(known.map(|path| (path.to_owned(), speak(c, Path::new(path)))))
    }),
    attack("system-sockets", "Speaks to the host's D-Bus, systemd, udev and snap sockets", |c| {
        let known = [
            "/run/dbus/system_bus_socket",
            "/run/systemd/private",
            "/run/systemd/journal/socket",
            "/run/udev/control",
            "/run/snapd.socket",
            "/dev/log",
        ];
        worst(known.map(|path| (path.to_owned(), speak(c, Path::new(path)))))
    }),
    attack("host-socket-by-path", "Connects to a unix socket of the host by its path", |c| {
        speak(c, &c.bait.host.socket)
    }),
    attack("any-socket", "Looks for sockets that are no workspace's own, and connects", |c| {
        let mut found = Vec::new();
        for folder in ["/run", "/var", "/opt", "/mirror", "/mnt"] {
            sockets(Path::new(folder), DEPTH, &mut found);
        }
        worst(found.iter().map(|path| (path.display().to_string(), speak(c, path))))
    }),
];

/// Reads a file that holds the token.
pub(super) fn read(c: &Context<'_>, file: &Path) -> Finding {
    let mut bytes = Vec::new();
    match fs::File::open(file).and_then(|file| file.take(READ_MAX).read_to_end(&mut bytes)) {
        Ok(_) => holds(c, &bytes),
        Err(error) => Finding::blocked(errno(&error)),
    }
}

/// Whether what was got is what must not be had.
pub(super) fn holds(c: &Context<'_>, bytes: &[u8]) -> Finding {
    let text = String::from_utf8_lossy(bytes);
    let neighbours = c.bait.neighbour.as_ref().map_or("", |neighbour| &neighbour.token);
    let tokens = [c.bait.token.as_str(), neighbours];
    if tokens.iter().any(|token| !token.is_empty() && text.contains(token)) {
        Finding::escaped("the token was there")
    } else {
        Finding::contained(format!("{} bytes of something else", bytes.len()))
    }
}

/// Opens a file that there must not be.
pub(super) fn open(path: &Path) -> Finding {
    Finding::of(fs::File::open(path))
}

/// Whether a file or folder that must be empty here has something in it.
pub(super) fn something(path: &str) -> Finding {
    let found = match fs::metadata(path) {
        Err(error) => Err(error),
        Ok(meta) if meta.is_dir() => fs::read_dir(path).map(|mut entries| entries.next().is_some()),
        Ok(_) => {
            let mut byte = [0];
            fs::File::open(path).and_then(|mut file| file.read(&mut byte)).map(|length| length > 0)
        }
    };
    match found {
        Ok(true) => Finding::escaped("there is something"),
        Ok(false) => Finding::blocked("empty"),
        Err(error) => Finding::blocked(errno(&error)),
    }
}

/// A folder of homes: the workspace's own ones don't count.
fn homes(path: &Path) -> (String, Finding) {
    let name = path.display().to_string();
    let own =
        |entry: &fs::DirEntry| entry.file_name() == "agent" || entry.file_name() == "sessions";
    let is_own = path.starts_with("/home/agent") || path.starts_with("/home/sessions");
    let finding = match fs::read_dir(path) {
        Ok(_) if is_own => Finding::blocked("the workspace's own"),
        Ok(entries) => match entries.flatten().find(|entry| !own(entry)) {
            Some(entry) => Finding::escaped(format!("there is {}", entry.file_name().display())),
            None => Finding::blocked("empty"),
        },
        Err(error) => Finding::blocked(errno(&error)),
    };
    (name, finding)
}

/// Makes a file where none may be made.
pub(super) fn make(c: &Context<'_>, folder: &Path) -> Finding {
    let path = folder.join(format!(".boatyard-{}", c.name));
    let made = fs::OpenOptions::new().write(true).create_new(true).open(&path);
    if made.is_ok() {
        let _ = fs::remove_file(&path);
    }
    Finding::of(made)
}

/// Connects to a unix socket and takes an answer.
pub(super) fn speak(c: &Context<'_>, path: &Path) -> Finding {
    let answer = UnixStream::connect(path).and_then(|mut stream| {
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(format!("GET /_ping?{MARK}{} HTTP/1.0\r\n\r\n", c.name).as_bytes())?;
        let mut bytes = [0; 256];
        // Even one that says nothing was reached.
        Ok(stream.read(&mut bytes).unwrap_or(0))
    });
    Finding::of(answer)
}

fn climb(c: &Context<'_>) -> Finding {
    let inner = c.bait.host.file.strip_prefix("/").unwrap_or(&c.bait.host.file);
    let by_path = Path::new("/work").join("../".repeat(40)).join(inner);
    let upwards = text(&format!("{}{}", "../".repeat(40), inner.display()));
    let mut found = vec![("by path".to_owned(), read(c, &by_path))];
    for start in ["/", "/proc", "/work", "/mirror", "/home/agent"] {
        let folder = text(start);
        let flags = (libc::O_PATH | libc::O_DIRECTORY) as usize;
        let Ok(folder) = call(libc::SYS_openat, &[HERE, at(&folder), flags]) else { continue };
        let opened = call(libc::SYS_openat, &[folder.cast_unsigned() as usize, at(&upwards), 0]);
        close(folder);
        let finding = match opened {
            Ok(fd) => {
                close(fd);
                Finding::escaped("it was opened")
            }
            Err(error) => Finding::blocked(errno(&error)),
        };
        found.push((format!("from {start}"), finding));
    }
    worst(found)
}

/// The root of an ext4 or XFS file system has a number that is known: 2, or 128.
fn by_handle(_: &Context<'_>) -> Finding {
    #[repr(C)]
    struct Handle {
        bytes: u32,
        kind: i32,
        inode: u32,
        generation: u32,
    }
    let folders = ["/", "/usr", "/work", "/tmp", "/opt/boatyard/tools"].map(PathBuf::from);
    worst(folders.iter().flat_map(|folder| [2, 128].map(|inode| (folder, inode))).map(
        |(folder, inode)| {
            let handle = Handle { bytes: 8, kind: 1, inode, generation: 0 };
            let name = format!("inode {inode} below {}", folder.display());
            let mount = path(folder);
            let Ok(mount) = call(libc::SYS_openat, &[HERE, at(&mount), 0]) else {
                return (name, Finding::blocked("there is no such folder"));
            };
            let arguments = [mount.cast_unsigned() as usize, (&raw const handle) as usize, 0];
            let opened = call(libc::SYS_open_by_handle_at, &arguments);
            close(mount);
            if let Ok(fd) = opened {
                close(fd);
            }
            (name, Finding::guarded(opened))
        },
    ))
}

/// The processes that are seen.
pub(super) fn numbers() -> impl Iterator<Item = String> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
}

fn sockets(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    use std::os::unix::fs::FileTypeExt as _;
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_socket() => found.push(entry.path()),
            Ok(kind) if kind.is_dir() && depth > 0 => sockets(&entry.path(), depth - 1, found),
            _ => {}
        }
    }
}
