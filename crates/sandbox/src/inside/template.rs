//! The root file system that all sandboxes share: an allow-list of the host's system folders,
//! read-only, with an `/etc` of our own.
//!
//! The spawner builds it once, in a mount namespace of its own: a small memory file system with
//! one recursive read-only bind for each folder (an overlay's lower layer would hide what is
//! mounted below), then itself made read-only. A sandbox's mount namespace is a copy of the
//! spawner's, so each sandbox has it already; the kernel locks the copies against being
//! unmounted or made writable from inside.
//!
//! Nothing of a home, of `/run` or `/var`, no socket and nothing of the data folder is shown.

use std::{
    ffi::{CString, OsStr},
    fs, io,
    os::{
        fd::AsFd,
        unix::{
            ffi::OsStrExt,
            fs::{PermissionsExt, symlink},
        },
    },
    path::{Component, Path, PathBuf},
};

use crate::{
    CA_BUNDLE, Error, HOSTNAME, JAVA_TRUST, Result, WORKER_GID, WORKER_HOME, WORKER_UID,
    error::Step as _,
    spawner::Trust,
    sys::{
        dir,
        mount::{self, Depth, NODEV, NOEXEC, NOSUID, RDONLY},
    },
};

/// Where the runner's program is shown inside.
const RUNNER: &str = "opt/boatyard/boatyard-runner";
/// Folders at the top of the host that are shown; where they are links into `/usr`, so here.
const TOP: [&str; 7] = ["usr", "bin", "sbin", "lib", "lib64", "lib32", "libx32"];
/// Folders of `/etc` that programs in `/usr` need; without secrets that others may read.
const ETC_FOLDERS: [&str; 8] = [
    "alternatives",
    "ssl/certs",
    "ca-certificates",
    "pki/tls/certs",
    "pki/ca-trust",
    "ld.so.conf.d",
    "fonts",
    "terminfo",
];
/// Files of `/etc` that are copied; larger ones than [`COPIED_MAX`] are not.
const ETC_FILES: [&str; 11] = [
    "ssl/openssl.cnf",
    "ca-certificates.conf",
    "ld.so.cache",
    "ld.so.conf",
    "localtime",
    "timezone",
    "os-release",
    "services",
    "protocols",
    "mime.types",
    "debian_version",
];
/// The largest copied file in bytes.
const COPIED_MAX: u64 = 2 << 20;
/// Folders that must exist to be mounted on, or that programs expect to find.
const FOLDERS: [&str; 16] = [
    "proc",
    "dev",
    "tmp",
    "run",
    "work",
    "home/agent",
    "home/sessions",
    "mirror",
    "mnt",
    "root",
    "etc",
    "opt/boatyard/tools",
    "var/lib",
    "var/cache",
    "var/log",
    "srv",
];
/// Git's configuration. Repositories elsewhere are reached through the server's gateway, which
/// has the credentials, whatever way their addresses are written (what serves inside is reached
/// as ever); signatures are made by a key that the server has.
const GIT_CONFIG: &str = "\
[safe]
	directory = *
[url \"http://127.0.0.1:7080/git/\"]
	insteadOf = https://
	insteadOf = ssh://
	insteadOf = git@
[url \"https://localhost\"]
	insteadOf = https://localhost
[url \"https://127.0.0.1\"]
	insteadOf = https://127.0.0.1
[gpg]
	format = ssh
[gpg \"ssh\"]
	program = /opt/boatyard/boatyard-runner
	defaultKeyCommand = /opt/boatyard/boatyard-runner git-key
";
/// Where distributions have the certificates of authorities: Debian, Fedora, SUSE, Alpine.
const BUNDLES: [&str; 6] = [
    "etc/ssl/certs/ca-certificates.crt",
    "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "etc/pki/tls/certs/ca-bundle.crt",
    "etc/pki/tls/cert.pem",
    "etc/ssl/ca-bundle.pem",
    "etc/ssl/cert.pem",
];
/// Where they have them for Java.
const JAVA_STORES: [&str; 2] =
    ["etc/ssl/certs/java/cacerts", "etc/pki/ca-trust/extracted/java/cacerts"];
/// The devices of a sandbox.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// What a template is made from.
#[derive(Debug)]
pub(crate) struct Sources<'a> {
    /// Host paths of `[tools]`, shown at the same place.
    pub(crate) tools: &'a [PathBuf],
    /// What is trusted.
    pub(crate) trust: Option<&'a Trust>,
    /// The runner's program on the host.
    pub(crate) runner: Option<&'a Path>,
    /// The data folder, of which nothing may be shown but the runner.
    pub(crate) data: &'a Path,
    /// Which id the worker has.
    pub(crate) worker_is: WorkerIs,
}

/// Which id the worker has inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WorkerIs {
    /// 1000.
    Itself,
    /// 0, the only one.
    Root,
}

/// Builds the template over the empty folder `base`.
pub(crate) fn build(base: &Path, sources: &Sources<'_>) -> Result<()> {
    let target = c_path(base.as_os_str())?;
    mount::mount(c"tmpfs", &target, libc::MS_NOSUID | libc::MS_NODEV, c"mode=755,size=16m")
        .step("root tmpfs")?;
    for folder in FOLDERS {
        make_folders(&base.join(folder))?;
    }
    for name in TOP {
        show_top(base, name)?;
    }
    etc(base, sources.worker_is)?;
    if let Some(trust) = sources.trust {
        show_trust(base, trust)?;
    }
    devices(base)?;
    symlink("../tmp", base.join("var/tmp")).step("link /var/tmp")?;
    symlink("../run", base.join("var/run")).step("link /var/run")?;
    for tool in sources.tools {
        check_tool(tool, sources.data)?;
        show(base, tool, tool.strip_prefix("/").unwrap_or(tool), RDONLY | NOSUID | NODEV)
            .map_err(|error| Error::invalid(format!("[tools] {}: {error}", tool.display())))?;
    }
    if let Some(runner) = sources.runner {
        show(base, runner, Path::new(RUNNER), RDONLY | NOSUID | NODEV)?;
    }
    let root = dir::open_absolute(&target).step("root read-only")?;
    mount::restrict(root.as_fd(), RDONLY, Depth::One).step("root read-only")
}

fn show_top(base: &Path, name: &str) -> Result<()> {
    let host = Path::new("/").join(name);
    let Ok(meta) = fs::symlink_metadata(&host) else { return Ok(()) };
    if meta.is_symlink() {
        let target = fs::read_link(&host).step("read link")?;
        return symlink(target, base.join(name)).step("make link");
    }
    show(base, &host, Path::new(name), RDONLY | NOSUID | NODEV)
}

fn etc(base: &Path, worker: WorkerIs) -> Result<()> {
    let etc = base.join("etc");
    for folder in ETC_FOLDERS.into_iter().map(PathBuf::from).chain(java_settings()) {
        let host = Path::new("/etc").join(&folder);
        if fs::symlink_metadata(&host).is_ok_and(|meta| meta.is_dir()) {
            show(base, &host, &Path::new("etc").join(&folder), RDONLY | NOSUID | NODEV | NOEXEC)?;
        }
    }
    for file in ETC_FILES {
        let host = Path::new("/etc").join(file);
        let Ok(meta) = fs::metadata(&host) else { continue };
        let for_everybody = meta.permissions().mode() & 0o004 != 0;
        if meta.is_file() && for_everybody && meta.len() <= COPIED_MAX {
            let content = fs::read(&host).step("read /etc")?;
            make_folders(etc.join(file).parent().unwrap_or(&etc))?;
            write(&etc.join(file), &content)?;
        }
    }
    for (name, content) in synthesized(worker) {
        write(&etc.join(name), content.as_bytes())?;
    }
    symlink("/proc/mounts", etc.join("mtab")).step("link mtab")
}

/// The folders of `/etc` without which no Java of Debian starts, one for each version.
fn java_settings() -> impl Iterator<Item = PathBuf> {
    // Without any, or where they can't be read, there is no Java of this kind.
    let all = fs::read_dir("/etc").into_iter().flatten().flatten();
    all.map(|entry| PathBuf::from(entry.file_name())).filter(|name| {
        let name = name.to_string_lossy();
        name.starts_with("java-") && name.ends_with("-openjdk")
    })
}

/// Shows the certificates of all authorities where programs look for them.
fn show_trust(base: &Path, trust: &Trust) -> Result<()> {
    const PLAIN: u64 = RDONLY | NOSUID | NODEV | NOEXEC;
    for (source, own, places) in
        [(&trust.bundle, CA_BUNDLE, &BUNDLES[..]), (&trust.java, JAVA_TRUST, &JAVA_STORES[..])]
    {
        show(base, source, Path::new(own.trim_start_matches('/')), PLAIN)?;
        for place in places {
            let there = base.join(place);
            match fs::symlink_metadata(&there) {
                Ok(meta) if meta.is_file() => show(base, source, Path::new(place), PLAIN)?,
                // A link leads to another of these, or nowhere.
                Ok(_) => {}
                Err(_) => {
                    // In a folder of the host's that does not have it, nobody looks for it.
                    let folder = there.parent().unwrap_or(base);
                    let _ = make_folders(folder).is_ok_and(|()| symlink(own, &there).is_ok());
                }
            }
        }
    }
    Ok(())
}

/// The files of `/etc` that say who and where one is.
fn synthesized(worker: WorkerIs) -> [(&'static str, String); 10] {
    let shell = if Path::new("/bin/bash").exists() { "/bin/bash" } else { "/bin/sh" };
    let people = match worker {
        WorkerIs::Itself => format!(
            "root:x:0:0:root:/root:/bin/sh\n\
             agent:x:{WORKER_UID}:{WORKER_GID}:agent:{WORKER_HOME}:{shell}\n"
        ),
        WorkerIs::Root => format!("agent:x:0:0:agent:{WORKER_HOME}:{shell}\n"),
    };
    let groups = match worker {
        WorkerIs::Itself => format!("root:x:0:\nagent:x:{WORKER_GID}:\n"),
        WorkerIs::Root => "agent:x:0:\n".to_owned(),
    };
    [
        ("passwd", format!("{people}nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n")),
        ("group", format!("{groups}tty:x:5:\nnogroup:x:65534:\n")),
        ("hostname", format!("{HOSTNAME}\n")),
        (
            "hosts",
            format!("127.0.0.1 localhost {HOSTNAME}\n::1 localhost ip6-localhost ip6-loopback\n"),
        ),
        // The server answers there at once, each name with an address of this workspace's own;
        // while it is away, questions wait, and are asked again for as long as a restart takes.
        ("resolv.conf", "nameserver 127.0.0.1\noptions timeout:3 attempts:5\n".to_owned()),
        (
            "nsswitch.conf",
            "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\n\
             protocols: files\nservices: files\n"
                .to_owned(),
        ),
        ("gitconfig", GIT_CONFIG.to_owned()),
        ("shells", "/bin/sh\n/bin/bash\n".to_owned()),
        ("host.conf", "multi on\n".to_owned()),
        ("environment", String::new()),
    ]
}

fn devices(base: &Path) -> Result<()> {
    let dev = base.join("dev");
    for name in DEVICES {
        show(base, &Path::new("/dev").join(name), &Path::new("dev").join(name), NOSUID | NOEXEC)?;
    }
    for folder in ["pts", "shm"] {
        make_folders(&dev.join(folder))?;
    }
    for (target, name) in [
        ("pts/ptmx", "ptmx"),
        ("/proc/self/fd", "fd"),
        ("/proc/self/fd/0", "stdin"),
        ("/proc/self/fd/1", "stdout"),
        ("/proc/self/fd/2", "stderr"),
    ] {
        symlink(target, dev.join(name)).step("link in /dev")?;
    }
    Ok(())
}

/// Shows the host's `source`, a file or a folder with all that is mounted in it, at `place`.
fn show(base: &Path, source: &Path, place: &Path, attributes: u64) -> Result<()> {
    let step = format!("show {}", source.display());
    let meta = fs::metadata(source).step(&step)?;
    let target = base.join(place);
    if meta.is_dir() {
        make_folders(&target)?;
    } else {
        make_folders(target.parent().unwrap_or(base))?;
        if !target.exists() {
            write(&target, b"")?;
        }
    }
    let source = c_path(source.as_os_str())?;
    let tree = mount::copy_absolute(&source, Depth::All).step(&step)?;
    mount::make_private(tree.as_fd()).step(&step)?;
    mount::restrict(tree.as_fd(), attributes, Depth::All).step(&step)?;
    mount::attach_here(tree.as_fd(), &c_path(target.as_os_str())?).step(&step)
}

/// A tool's path must be plain and must not open a way to what the sandbox hides.
fn check_tool(tool: &Path, data: &Path) -> Result<()> {
    let plain = tool.is_absolute()
        && tool.components().count() > 1
        && tool.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    let hidden = [
        "/proc",
        "/sys",
        "/dev",
        "/run",
        "/tmp",
        "/work",
        "/home/agent",
        "/home/sessions",
        "/mirror",
        "/etc",
        "/var",
        "/opt/boatyard",
    ];
    let forbidden = hidden.iter().any(|path| tool.starts_with(path))
        || tool.starts_with(data)
        || data.starts_with(tool);
    if !plain || forbidden {
        return Err(Error::invalid(format!(
            "[tools] {} can't be shown in workspaces",
            tool.display()
        )));
    }
    Ok(())
}

fn make_folders(path: &Path) -> Result<()> {
    fs::create_dir_all(path).step(&format!("mkdir {}", path.display()))?;
    // The mask of the process does not matter for what everybody inside must be able to enter.
    match fs::set_permissions(path, fs::Permissions::from_mode(0o755)) {
        // Below a read-only bind: it is as the host has it.
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => Ok(()),
        result => result.step("mkdir"),
    }
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    fs::write(path, content).step(&format!("write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).step("write")
}

fn c_path(path: &OsStr) -> Result<CString> {
    CString::new(path.as_bytes()).map_err(|_| Error::invalid("zero byte in a path"))
}
