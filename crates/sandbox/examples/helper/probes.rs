//! Ways out, tried one after another: a line `name: allowed` or `name: blocked (reason)` each.

use std::{
    ffi::CString,
    fs,
    io::{self, Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::MetadataExt,
    time::Duration,
};

/// Tries everything.
pub(crate) fn main() {
    mounts();
    namespaces();
    kernel();
    sockets();
    processes();
    files();
    ids();
    network();
    descriptors();
}

fn say(name: &str, result: io::Result<()>) {
    match result {
        Ok(()) => println!("{name}: allowed"),
        Err(error) => println!("{name}: blocked ({})", errno(&error)),
    }
}

fn errno(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM) => "EPERM".into(),
        Some(libc::EACCES) => "EACCES".into(),
        Some(libc::ENOENT) => "ENOENT".into(),
        Some(libc::ENOSYS) => "ENOSYS".into(),
        Some(libc::EROFS) => "EROFS".into(),
        Some(libc::ENETUNREACH) => "ENETUNREACH".into(),
        Some(libc::ECONNREFUSED) => "ECONNREFUSED".into(),
        Some(libc::EAFNOSUPPORT) => "EAFNOSUPPORT".into(),
        Some(libc::ESRCH) => "ESRCH".into(),
        Some(libc::EINVAL) => "EINVAL".into(),
        other => format!("{other:?}"),
    }
}

fn check(result: i64) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A system call with integer arguments; pointers that are passed are null or valid.
fn call(number: libc::c_long, arguments: [usize; 5]) -> io::Result<()> {
    let [a, b, c, d, e] = arguments;
    // SAFETY: a refused call touches nothing; an allowed one gets null or valid pointers.
    check(unsafe { libc::syscall(number, a, b, c, d, e) })
}

fn mounts() {
    let tmpfs = CString::new("tmpfs").unwrap();
    let target = CString::new("/tmp").unwrap();
    say(
        "mount tmpfs",
        call(
            libc::SYS_mount,
            [tmpfs.as_ptr() as usize, target.as_ptr() as usize, tmpfs.as_ptr() as usize, 0, 0],
        ),
    );
    say("umount /tmp", call(libc::SYS_umount2, [target.as_ptr() as usize, 0, 0, 0, 0]));
    say("fsopen", call(libc::SYS_fsopen, [tmpfs.as_ptr() as usize, 0, 0, 0, 0]));
    let at = libc::AT_FDCWD as isize as usize;
    say("open_tree clone", call(libc::SYS_open_tree, [at, target.as_ptr() as usize, 1, 0, 0]));
    say("mount_setattr", call(libc::SYS_mount_setattr, [at, target.as_ptr() as usize, 0, 0, 0]));
    say(
        "pivot_root",
        call(libc::SYS_pivot_root, [target.as_ptr() as usize, target.as_ptr() as usize, 0, 0, 0]),
    );
    say("chroot", call(libc::SYS_chroot, [target.as_ptr() as usize, 0, 0, 0, 0]));
    let device = CString::new("/tmp/device").unwrap();
    say(
        "mknod block device",
        call(
            libc::SYS_mknod,
            [
                device.as_ptr() as usize,
                (libc::S_IFBLK | 0o666) as usize,
                libc::makedev(254, 0) as usize,
                0,
                0,
            ],
        ),
    );
}

fn namespaces() {
    for (name, flag) in [
        ("user", libc::CLONE_NEWUSER),
        ("mount", libc::CLONE_NEWNS),
        ("net", libc::CLONE_NEWNET),
        ("pid", libc::CLONE_NEWPID),
    ] {
        say(&format!("unshare {name}"), call(libc::SYS_unshare, [flag as usize, 0, 0, 0, 0]));
    }
    let flags = (libc::CLONE_NEWUSER | libc::SIGCHLD) as usize;
    // SAFETY: without a stack this is a fork; one thread.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    if pid == 0 {
        // SAFETY: always sound.
        unsafe { libc::_exit(0) };
    }
    say("clone new user namespace", check(pid));
    let mut arguments = [0u64; 11];
    arguments[0] = libc::CLONE_NEWUSER as u64;
    arguments[4] = libc::SIGCHLD as u64;
    // SAFETY: a valid clone_args; without a stack this is a fork.
    let pid =
        unsafe { libc::syscall(libc::SYS_clone3, arguments.as_ptr(), size_of_val(&arguments)) };
    if pid == 0 {
        // SAFETY: always sound.
        unsafe { libc::_exit(0) };
    }
    say("clone3", check(pid));
    let own = fs::File::open("/proc/self/ns/net").expect("own namespace");
    say(
        "setns",
        call(libc::SYS_setns, [std::os::fd::AsRawFd::as_raw_fd(&own) as usize, 0, 0, 0, 0]),
    );
}

fn kernel() {
    let mut room = [0u64; 32];
    let pointer = room.as_mut_ptr() as usize;
    say("io_uring_setup", call(libc::SYS_io_uring_setup, [8, pointer, 0, 0, 0]));
    say("bpf", call(libc::SYS_bpf, [0, pointer, 120, 0, 0]));
    say(
        "perf_event_open",
        call(libc::SYS_perf_event_open, [pointer, 0, usize::MAX, usize::MAX, 0]),
    );
    say("userfaultfd", call(libc::SYS_userfaultfd, [1, 0, 0, 0, 0]));
    say("keyctl", call(libc::SYS_keyctl, [0, -3_isize as usize, 0, 0, 0]));
    let text = CString::new("user").unwrap();
    say(
        "add_key",
        call(
            libc::SYS_add_key,
            [text.as_ptr() as usize, text.as_ptr() as usize, pointer, 4, -3_isize as usize],
        ),
    );
    say(
        "open_by_handle_at",
        call(libc::SYS_open_by_handle_at, [libc::AT_FDCWD as isize as usize, pointer, 0, 0, 0]),
    );
    say("init_module", call(libc::SYS_init_module, [pointer, 0, text.as_ptr() as usize, 0, 0]));
    say("kexec_load", call(libc::SYS_kexec_load, [0, 0, 0, 0, 0]));
    say("reboot", call(libc::SYS_reboot, [0, 0, 0, 0, 0]));
    say("syslog", call(libc::SYS_syslog, [3, pointer, 100, 0, 0]));
    say("clock_settime", call(libc::SYS_clock_settime, [0, pointer, 0, 0, 0]));
    say("quotactl", call(libc::SYS_quotactl, [0, 0, 0, 0, 0]));
    say("unknown system call", call(999, [0; 5]));
    #[cfg(target_arch = "x86_64")]
    {
        say("iopl", call(libc::SYS_iopl, [3, 0, 0, 0, 0]));
        say("x32 getpid", call(0x4000_0000 + libc::SYS_getpid, [0; 5]));
    }
    say("personality 32-bit", call(libc::SYS_personality, [8, 0, 0, 0, 0]));
    say(
        "no randomization",
        call(libc::SYS_personality, [libc::ADDR_NO_RANDOMIZE as usize, 0, 0, 0, 0]),
    );
    // SAFETY: a byte to take.
    say("TIOCSTI", check(i64::from(unsafe { libc::ioctl(0, libc::TIOCSTI, b"x".as_ptr()) })));
}

fn sockets() {
    for (name, family, kind, protocol) in [
        ("AF_UNIX", libc::AF_UNIX, libc::SOCK_STREAM, 0),
        ("AF_INET", libc::AF_INET, libc::SOCK_STREAM, 0),
        ("AF_INET6", libc::AF_INET6, libc::SOCK_STREAM, 0),
        ("AF_NETLINK route", libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE),
        ("AF_NETLINK netfilter", libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_NETFILTER),
        ("AF_VSOCK", libc::AF_VSOCK, libc::SOCK_STREAM, 0),
        ("AF_PACKET", libc::AF_PACKET, libc::SOCK_RAW, 0),
        ("AF_ALG", libc::AF_ALG, libc::SOCK_SEQPACKET, 0),
        ("AF_BLUETOOTH", libc::AF_BLUETOOTH, libc::SOCK_RAW, 0),
        ("raw ICMP", libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP),
    ] {
        // SAFETY: integers only.
        let fd = unsafe { libc::socket(family, kind, protocol) };
        say(&format!("socket {name}"), check(i64::from(fd)));
        if fd >= 0 {
            // SAFETY: just opened.
            unsafe { libc::close(fd) };
        }
    }
}

fn processes() {
    say("read /proc/1/mem", fs::File::open("/proc/1/mem").map(drop));
    say("read /proc/1/environ", fs::read("/proc/1/environ").map(drop));
    say("list /proc/1/fd", fs::read_dir("/proc/1/fd").map(drop));
    say("open the link socket of 1", fs::read_link("/proc/1/fd/3").map(drop));
    say("open the spool", fs::File::open("/proc/1/fd/4").map(drop));
    say(
        "open the runner for writing",
        fs::OpenOptions::new().write(true).open("/proc/1/fd/7").map(drop),
    );
    say("follow /proc/1/root", fs::read_dir("/proc/1/root/").map(drop));
    // SAFETY: integers only.
    say("trace 1", check(unsafe { libc::ptrace(libc::PTRACE_SEIZE, 1, 0, 0) }));
    // SAFETY: as above.
    say("signal 1", check(i64::from(unsafe { libc::kill(1, libc::SIGKILL) })));
    // SAFETY: as above.
    let parent = unsafe { libc::getppid() };
    // SAFETY: as above.
    say("trace serve", check(unsafe { libc::ptrace(libc::PTRACE_SEIZE, parent, 0, 0) }));
    say("read serve's memory", fs::File::open(format!("/proc/{parent}/mem")).map(drop));
    say("list serve's descriptors", fs::read_dir(format!("/proc/{parent}/fd")).map(drop));
    let open = fs::File::open(format!("/proc/{parent}/fd/4")).map(drop);
    say("open serve's spool", open);
    // SAFETY: one thread; the child stops at once and is killed.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::pause();
            libc::_exit(0);
        }
        say("trace own child", check(libc::ptrace(libc::PTRACE_SEIZE, child, 0, 0)));
        libc::kill(child, libc::SIGKILL);
        libc::waitpid(child, std::ptr::null_mut(), 0);
    }
}

fn files() {
    for path in [
        "/root/.bashrc",
        "/etc/shadow",
        "/var/run/docker.sock",
        "/run/systemd",
        "/sys/kernel",
        "/proc/kcore",
        "/proc/config.gz",
        "/dev/kvm",
        "/dev/mem",
        "/dev/vda",
        "/dev/fuse",
        "/dev/net/tun",
        "/boot",
        "/lost+found",
    ] {
        let empty = || fs::read(path).map(|content| content.is_empty());
        let result = match fs::metadata(path) {
            Err(error) => Err(error),
            Ok(meta) if meta.is_dir() => fs::read_dir(path).map(drop),
            Ok(_) => match empty() {
                Ok(true) => Err(io::Error::from_raw_os_error(libc::ENOENT)),
                Ok(false) => Ok(()),
                Err(error) => Err(error),
            },
        };
        say(&format!("read {path}"), result);
    }
    for path in ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/sys/vm/drop_caches"]
    {
        let open = fs::OpenOptions::new().write(true).open(path);
        // The mask is a device that swallows everything.
        let masked = open
            .as_ref()
            .is_ok_and(|file| file.metadata().is_ok_and(|meta| meta.rdev() == libc::makedev(1, 3)));
        let result =
            if masked { Err(io::Error::from_raw_os_error(libc::ENOENT)) } else { open.map(drop) };
        say(&format!("write {path}"), result);
    }
    for path in [
        "/usr/bin/x",
        "/etc/x",
        "/x",
        "/dev/x",
        "/mirror/x",
        "/opt/boatyard/x",
        "/opt/boatyard/tools/x",
        "/home/sessions/x",
        "/home/x",
        "/mnt/x",
    ] {
        say(&format!("make {path}"), fs::write(path, "x"));
    }
    for path in ["/work/x", "/home/agent/x", "/tmp/x", "/dev/shm/x"] {
        say(&format!("make {path}"), fs::write(path, "x"));
        let _ = fs::remove_file(path);
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let writable = mounts
        .lines()
        .filter(|line| line.split(' ').nth(5).is_some_and(|flags| flags.starts_with("rw")))
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|path| !path.starts_with("/proc") && !path.starts_with("/dev/"))
        .collect::<Vec<_>>();
    println!("writable mounts: {}", writable.join(" "));
}

fn ids() {
    say("setuid 0", call(libc::SYS_setuid, [0, 0, 0, 0, 0]));
    say("setgid 0", call(libc::SYS_setgid, [0, 0, 0, 0, 0]));
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    for field in ["CapPrm", "CapEff", "CapBnd", "CapAmb", "CapInh", "NoNewPrivs", "Seccomp"] {
        let line = status.lines().find(|line| line.starts_with(&format!("{field}:"))).unwrap_or("");
        println!("{}", line.replace('\t', " "));
    }
}

fn network() {
    for address in ["169.254.169.254:80", "10.0.0.1:80", "1.1.1.1:53"] {
        // What is caught is connected, with nobody behind it but who asks the rules.
        match TcpStream::connect(address).and_then(|stream| heard(&stream)) {
            Ok(false) => println!("connect {address}: caught"),
            result => say(&format!("connect {address}"), result.map(drop)),
        }
    }
    say("connect 127.0.0.1:22", TcpStream::connect("127.0.0.1:22").map(drop));
    for address in ["127.0.0.1:3128", "127.0.0.1:7080"] {
        say(&format!("connect {address}"), TcpStream::connect(address).map(drop));
    }
}

/// Whether somebody answers.
fn heard(mut stream: &TcpStream) -> io::Result<bool> {
    stream.set_read_timeout(Some(Duration::from_millis(100)))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    match stream.read(&mut [0]) {
        Ok(length) => Ok(length > 0),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

fn descriptors() {
    let own: Vec<String> = fs::read_dir("/proc/self/fd")
        .expect("own descriptors")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.parse::<i32>().is_ok_and(|fd| fd > 2))
        .filter_map(|name| {
            let target = fs::read_link(format!("/proc/self/fd/{name}")).ok()?;
            (!target.starts_with("/proc")).then(|| target.display().to_string())
        })
        .collect();
    println!("descriptors beyond the three: {own:?}");
}
