//! `/proc` and `/sys`: settings of the kernel, what it tells, and its switches.

use std::{fs, io::Read as _, os::unix::fs::MetadataExt as _};

use super::{
    Attack, Finding, attack,
    calls::{HERE, at, call, close, errno, text},
    files::something,
    worst,
};

pub(super) const ATTACKS: &[Attack] = &[
    attack("core-pattern", "Has the host's kernel run a program when something crashes", |_| {
        writable("/proc/sys/kernel/core_pattern")
    }),
    attack("module-program", "Changes the programs that the kernel starts by itself", |_| {
        all_writable(&[
            "/proc/sys/kernel/modprobe",
            "/proc/sys/kernel/hotplug",
            "/sys/kernel/uevent_helper",
        ])
    }),
    attack("binary-formats", "Registers an interpreter for programs of all the host", |_| {
        worst(
            ["/proc/sys/fs/binfmt_misc/register", "/proc/sys/fs/binfmt_misc/status"]
                .map(|path| (path.to_owned(), writable(path))),
        )
    }),
    attack("kernel-settings", "Changes settings of the kernel in /proc/sys", |_| {
        all_writable(&[
            "/proc/sys/kernel/randomize_va_space",
            "/proc/sys/kernel/threads-max",
            "/proc/sys/kernel/panic",
            "/proc/sys/kernel/dmesg_restrict",
            "/proc/sys/vm/drop_caches",
            "/proc/sys/vm/overcommit_memory",
            "/proc/sys/fs/file-max",
            "/proc/sys/fs/protected_symlinks",
            "/proc/sys/user/max_user_namespaces",
        ])
    }),
    attack("magic-keys", "Presses the kernel's emergency keys", |_| {
        all_writable(&["/proc/sysrq-trigger", "/proc/sys/kernel/sysrq"])
    }),
    attack("kernel-memory", "Reads the kernel's memory as a file", |_| {
        worst(["/proc/kcore", "/proc/vmcore"].map(|path| (path.to_owned(), something(path))))
    }),
    attack("kernel-log", "Reads the kernel's log", |_| {
        let device = fs::OpenOptions::new().read(true).open("/dev/kmsg");
        let mut room = [0u8; 256];
        let call = call(libc::SYS_syslog, &[3, room.as_mut_ptr() as usize, room.len()]);
        worst([
            ("/dev/kmsg".to_owned(), Finding::of(device)),
            ("/proc/kmsg".to_owned(), Finding::of(fs::File::open("/proc/kmsg"))),
            ("syslog".to_owned(), Finding::guarded(call)),
        ])
    }),
    attack("kernel-addresses", "Learns where the kernel's functions are", |_| addresses()),
    attack("kernel-configuration", "Reads how the host's kernel was built", |_| {
        something("/proc/config.gz")
    }),
    attack("keys-of-others", "Lists the keys of everybody on the host", |_| {
        something("/proc/keys")
    }),
    attack("timers-of-others", "Lists timers and scheduling of everybody on the host", |_| {
        worst(
            ["/proc/timer_list", "/proc/sched_debug", "/proc/latency_stats"]
                .map(|path| (path.to_owned(), something(path))),
        )
    }),
    attack("page-counts", "Reads the state of every page of the host's memory", |_| {
        worst(
            ["/proc/kpagecount", "/proc/kpageflags", "/proc/kpagecgroup"]
                .map(|path| (path.to_owned(), something(path))),
        )
    }),
    attack("physical-addresses", "Learns physical addresses of its own memory", |_| physical()),
    attack("out-of-memory-score", "Makes itself the last that the kernel ends for memory", |_| {
        Finding::of(fs::write("/proc/self/oom_score_adj", "-1000"))
    }),
    attack("own-id-map", "Changes which ids of the host it has", |_| {
        worst(["uid_map", "gid_map", "setgroups"].map(|file| {
            let text = if file == "setgroups" { "allow" } else { "0 0 1" };
            (file.to_owned(), Finding::of(fs::write(format!("/proc/self/{file}"), text)))
        }))
    }),
    attack("next-process-number", "Chooses the number of the host's next process", |c| {
        // What it is already: nothing changes where that is allowed.
        let path = "/proc/sys/kernel/ns_last_pid";
        let written = fs::read(path).and_then(|number| fs::write(path, number));
        let own = fs::read_link("/proc/self/ns/pid").ok();
        let host = c.bait.namespaces.get("pid").map(std::path::PathBuf::from);
        match written {
            Ok(()) if own != host => Finding::contained("of its own numbers"),
            written => Finding::of(written),
        }
    }),
    attack(
        "interrupts-and-buses",
        "Changes interrupts, memory types and buses of the machine",
        |_| {
            let interrupts = fs::read_dir("/proc/irq").into_iter().flatten().flatten();
            let of_each = interrupts.map(|entry| entry.path().join("smp_affinity"));
            worst(
                [
                    "/proc/mtrr",
                    "/proc/scsi/scsi",
                    "/proc/acpi/wakeup",
                    "/proc/irq/default_smp_affinity",
                ]
                .map(str::to_owned)
                .into_iter()
                .chain(of_each.map(|path| path.display().to_string()))
                .map(|path| {
                    let finding = writable(&path);
                    (path, finding)
                }),
            )
        },
    ),
    attack("sysfs", "Looks into /sys", |_| something("/sys")),
    attack(
        "control-group-release",
        "Has the host run a program when a control group is empty",
        |_| {
            worst(
                [
                    "/sys/fs/cgroup",
                    "/sys/fs/cgroup/memory",
                    "/sys/fs/cgroup/rdma",
                    "/sys/fs/cgroup/unified",
                ]
                .map(|folder| {
                    let path = format!("{folder}/release_agent");
                    let finding = writable(&path);
                    (path, finding)
                }),
            )
        },
    ),
    attack("limits-of-its-group", "Raises its own limits in the control groups", |_| {
        let known = [
            "memory.max",
            "pids.max",
            "cgroup.procs",
            "cpu.max",
            "memory/memory.limit_in_bytes",
            "pids/pids.max",
        ];
        worst(known.map(|file| {
            let path = format!("/sys/fs/cgroup/{file}");
            let finding = writable(&path);
            (path, finding)
        }))
    }),
    attack("firmware", "Reads firmware, tables and variables of the machine", |_| {
        worst(
            ["/sys/firmware", "/proc/device-tree", "/sys/class/dmi/id/product_uuid"]
                .map(|path| (path.to_owned(), something(path))),
        )
    }),
];

/// Opens a file for writing. What covers a file here swallows everything: that is a refusal.
fn writable(path: &str) -> Finding {
    let name = text(path);
    let flags = (libc::O_WRONLY | libc::O_CLOEXEC) as usize;
    match call(libc::SYS_openat, &[HERE, at(&name), flags]) {
        Ok(fd) => {
            let meta = fs::metadata(format!("/proc/self/fd/{fd}"));
            close(fd);
            if meta.is_ok_and(|meta| meta.rdev() == libc::makedev(1, 3)) {
                Finding::blocked("it is covered")
            } else {
                Finding::escaped("it is open for writing")
            }
        }
        Err(error) => Finding::blocked(errno(&error)),
    }
}

fn all_writable(paths: &[&str]) -> Finding {
    worst(paths.iter().map(|path| ((*path).to_owned(), writable(path))))
}

fn addresses() -> Finding {
    let mut head = vec![0; 4096];
    match fs::File::open("/proc/kallsyms").and_then(|mut file| file.read(&mut head)) {
        Err(error) => Finding::blocked(errno(&error)),
        Ok(length) => {
            let text = String::from_utf8_lossy(&head[..length]);
            let shown = text.lines().filter_map(|line| line.split(' ').next());
            if shown.into_iter().any(|address| address.bytes().any(|byte| byte != b'0')) {
                Finding::escaped("addresses are shown")
            } else {
                Finding::blocked("all addresses are 0")
            }
        }
    }
}

/// The lower 55 bits of an entry are the number of the page, for who may know.
fn physical() -> Finding {
    use std::os::unix::fs::FileExt as _;
    let here = Box::new([1u8; 4096]);
    let mut entry = [0; 8];
    let offset = (here.as_ptr().addr() / 4096 * 8) as u64;
    let read = fs::File::open("/proc/self/pagemap")
        .and_then(|file| file.read_exact_at(&mut entry, offset));
    match read {
        Err(error) => Finding::blocked(errno(&error)),
        Ok(()) if u64::from_le_bytes(entry) & ((1 << 55) - 1) == 0 => {
            Finding::blocked("the numbers are hidden")
        }
        Ok(()) => Finding::escaped("the numbers are shown"),
    }
}
