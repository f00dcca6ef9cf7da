//! Devices: those that a sandbox has not, made or found.

use std::{fs, os::unix::fs::FileTypeExt as _};

use super::{
    Attack, Finding, attack,
    calls::{HERE, at, call, close, errno, text},
    worst,
};

/// Devices that are harmless: everybody has them, and nothing is behind them.
const HARMLESS: [&str; 7] = ["null", "zero", "full", "random", "urandom", "tty", "ptmx"];

pub(super) const ATTACKS: &[Attack] = &[
    attack("make-disk", "Makes a device node of the host's disk", |_| {
        worst(
            [(254, 0), (259, 0), (8, 0), (7, 0)].map(|(major, minor)| {
                (format!("{major}:{minor}"), node(libc::S_IFBLK, major, minor))
            }),
        )
    }),
    attack("make-memory-device", "Makes a device node of the machine's memory and ports", |_| {
        worst([1, 4].map(|minor| (format!("1:{minor}"), node(libc::S_IFCHR, 1, minor))))
    }),
    attack("make-kernel-log-device", "Makes a device node of the kernel's log", |_| {
        node(libc::S_IFCHR, 1, 11)
    }),
    attack("make-tunnel-device", "Makes a device node for network tunnels", |_| {
        node(libc::S_IFCHR, 10, 200)
    }),
    attack("disks", "Opens a disk of the host", |_| {
        let names = fs::read_dir("/dev").into_iter().flatten().flatten();
        let disks =
            names.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_block_device()));
        worst(disks.map(|entry| {
            (entry.path().display().to_string(), Finding::of(fs::File::open(entry.path())))
        }))
    }),
    attack("machine-memory", "Opens the machine's memory and ports", |_| {
        opened(&["/dev/mem", "/dev/kmem", "/dev/port"])
    }),
    attack("virtual-machines", "Opens the kernel's virtual machines", |_| {
        opened(&["/dev/kvm", "/dev/vhost-net", "/dev/vhost-vsock", "/dev/vfio/vfio", "/dev/vsock"])
    }),
    attack("file-systems-of-its-own", "Opens the device for file systems of its own", |_| {
        opened(&["/dev/fuse", "/dev/cuse"])
    }),
    attack("tunnels", "Opens the device for network tunnels", |_| {
        opened(&["/dev/net/tun", "/dev/ppp"])
    }),
    attack("loop-devices", "Opens the devices that make disks of files", |_| {
        opened(&["/dev/loop-control", "/dev/loop0", "/dev/mapper/control", "/dev/btrfs-control"])
    }),
    attack("screens-and-input", "Opens the host's screens, graphics, sound and input", |_| {
        opened(&[
            "/dev/console",
            "/dev/tty0",
            "/dev/tty1",
            "/dev/fb0",
            "/dev/dri",
            "/dev/input",
            "/dev/uinput",
            "/dev/snd",
        ])
    }),
    attack("other-devices", "Looks for devices beside those that every sandbox has", |_| {
        let entries = fs::read_dir("/dev").into_iter().flatten().flatten();
        let others: Vec<String> = entries
            .filter(|entry| {
                entry.file_type().is_ok_and(|kind| kind.is_char_device() || kind.is_block_device())
            })
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| !HARMLESS.contains(&name.as_str()))
            .collect();
        match others.first() {
            Some(first) => Finding::escaped(format!("{} others, as {first}", others.len())),
            None => Finding::blocked("none but the harmless ones"),
        }
    }),
];

/// Makes a node and opens it.
fn node(kind: libc::mode_t, major: u32, minor: u32) -> Finding {
    worst(["/tmp", "/work", "/dev/shm"].map(|folder| {
        let path = format!("{folder}/boatyard-node-{major}-{minor}");
        let name = text(&path);
        let number = libc::makedev(major, minor) as usize;
        let made = call(libc::SYS_mknodat, &[HERE, at(&name), (kind | 0o600) as usize, number]);
        let finding = match made {
            Err(error) => Finding::blocked(errno(&error)),
            Ok(_) => match call(libc::SYS_openat, &[HERE, at(&name), libc::O_RDONLY as usize]) {
                Ok(fd) => {
                    close(fd);
                    Finding::escaped("it was made and opened")
                }
                // The node alone is an entry in a folder.
                Err(error) => Finding::contained(format!("it was made; open: {}", errno(&error))),
            },
        };
        let _ = fs::remove_file(&path);
        (folder.to_owned(), finding)
    }))
}

fn opened(paths: &[&str]) -> Finding {
    worst(paths.iter().map(|path| {
        let finding = match fs::metadata(path) {
            Ok(meta) if meta.is_dir() => super::files::something(path),
            _ => Finding::of(fs::File::open(path)),
        };
        ((*path).to_owned(), finding)
    }))
}
