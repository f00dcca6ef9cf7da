//! Mounts: new ones, those of the sandbox taken away or made writable, another root.

use std::{fs, os::unix::fs::DirBuilderExt as _};

use super::{
    Attack, Context, Finding, attack,
    calls::{HERE, at, call, call_fd, close, text},
    inside_only, worst,
};

/// `OPEN_TREE_CLONE`.
const CLONE_TREE: usize = 1;
/// `open_tree_attr`, which the libc crate does not know yet.
const SYS_OPEN_TREE_ATTR: libc::c_long = 467;
/// `MOVE_MOUNT_F_EMPTY_PATH`.
const EMPTY_PATH: usize = 4;

pub(super) const ATTACKS: &[Attack] = &[
    attack("mount-memory", "Mounts a file system in memory", |c| mount(c, "tmpfs", "tmpfs", 0)),
    attack("mount-proc", "Mounts /proc anew, without what covers it", |c| {
        mount(c, "proc", "proc", 0)
    }),
    attack("mount-sys", "Mounts /sys", |c| mount(c, "sysfs", "sysfs", 0)),
    attack("mount-control-groups", "Mounts the control groups", |c| {
        worst(["cgroup2", "cgroup"].map(|kind| (kind.to_owned(), mount(c, kind, kind, 0))))
    }),
    attack("mount-disk", "Mounts a disk of the host", |c| {
        worst(
            ["ext4", "xfs", "btrfs", "vfat"]
                .map(|kind| (kind.to_owned(), mount(c, "/dev/vda", kind, libc::MS_RDONLY))),
        )
    }),
    attack("mount-overlay", "Mounts an overlay over folders of the host", |c| {
        let options = text("lowerdir=/usr:/etc");
        with_folder(c, |place| {
            let (kind, place) = (text("overlay"), text(place));
            Finding::guarded(undo(
                &place,
                call(libc::SYS_mount, &[at(&kind), at(&place), at(&kind), 0, at(&options)]),
            ))
        })
    }),
    attack("bind-root", "Shows a folder at another place, writable", |c| {
        mount(c, "/usr", "none", libc::MS_BIND)
    }),
    attack("remount-writable", "Makes read-only mounts writable", |_| {
        worst(["/", "/usr", "/opt/boatyard/tools", "/mirror"].map(|place| {
            let name = text(place);
            let flags = (libc::MS_REMOUNT | libc::MS_BIND) as usize;
            // Outside, with the same as it has, this would change nothing.
            let keep = if place == "/" { libc::MS_RELATIME as usize } else { 0 };
            let done = call(libc::SYS_mount, &[0, at(&name), 0, flags | keep, 0]);
            let finding = match done {
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                    Finding::blocked("there is no such place")
                }
                done => Finding::guarded(done),
            };
            (place.to_owned(), finding)
        }))
    }),
    attack("unmount", "Takes away what covers files and folders", |_| {
        // Nothing is mounted there: who may unmount is told so, and nothing happens outside.
        let covered = ["/proc/kcore", "/proc/keys", "/proc/sysrq-trigger", "/usr/share/doc"];
        worst(covered.map(|place| {
            let name = text(place);
            let done = call(libc::SYS_umount2, &[at(&name), libc::MNT_DETACH as usize]);
            (place.to_owned(), Finding::guarded(done))
        }))
    }),
    inside_only("unmount-own-folders", "Takes away /tmp, /work and the root", |_| {
        worst(["/tmp", "/work", "/dev", "/proc", "/"].map(|place| {
            let name = text(place);
            let done = call(libc::SYS_umount2, &[at(&name), libc::MNT_DETACH as usize]);
            (place.to_owned(), Finding::guarded(done))
        }))
    }),
    attack("new-mount-calls", "Makes a mount by fsopen, fsconfig, fsmount and move_mount", |c| {
        let kind = text("tmpfs");
        let opened = call(libc::SYS_fsopen, &[at(&kind), 0]);
        let Ok(context) = opened else { return Finding::guarded(opened) };
        let context_fd = context.cast_unsigned() as usize;
        // FSCONFIG_CMD_CREATE.
        let made = call(libc::SYS_fsconfig, &[context_fd, 6, 0, 0, 0])
            .and_then(|_| call(libc::SYS_fsmount, &[context_fd, 0, 0]));
        close(context);
        let Ok(tree) = made else { return Finding::guarded(made) };
        let empty = text("");
        let moved = with_folder(c, |place| {
            let place = text(place);
            let arguments =
                [tree.cast_unsigned() as usize, at(&empty), HERE, at(&place), EMPTY_PATH];
            Finding::guarded(undo(&place, call(libc::SYS_move_mount, &arguments)))
        });
        close(tree);
        moved
    }),
    attack("pick-file-system", "Changes a mounted file system by fspick", |_| {
        let place = text("/");
        Finding::guarded(call_fd(libc::SYS_fspick, &[HERE, at(&place), 0]))
    }),
    attack("clone-mounts", "Copies a tree of mounts by open_tree", |_| {
        worst([libc::SYS_open_tree, SYS_OPEN_TREE_ATTR].map(|number| {
            let place = text("/usr");
            let done = call_fd(number, &[HERE, at(&place), CLONE_TREE, 0, 0]);
            (format!("call {number}"), Finding::guarded(done))
        }))
    }),
    attack("move-mount", "Moves a mount to another place", |c| {
        with_folder(c, |place| {
            let (from, to) = (text("/proc"), text(place));
            Finding::guarded(undo(
                &to,
                call(libc::SYS_move_mount, &[HERE, at(&from), HERE, at(&to), 0]),
            ))
        })
    }),
    attack("mount-attributes", "Changes what a mount may do by mount_setattr", |_| {
        let place = text("/usr");
        // Nothing to set and nothing to clear: who may not is told so first.
        let nothing = [0u64; 4];
        let arguments = [HERE, at(&place), 0, nothing.as_ptr() as usize, size_of_val(&nothing)];
        let done = call(libc::SYS_mount_setattr, &arguments);
        Finding::guarded(done)
    }),
    attack("pivot-root", "Takes another root by pivot_root", |_| {
        // The same folder twice that is no mount: it changes nothing where it is allowed.
        let place = text("/usr/share");
        Finding::guarded(call(libc::SYS_pivot_root, &[at(&place), at(&place)]))
    }),
    attack("change-root", "Takes another root by chroot, which one can climb out of", |_| {
        let place = text("/tmp");
        Finding::guarded(call(libc::SYS_chroot, &[at(&place)]))
    }),
];

fn with_folder(c: &Context<'_>, attempt: impl FnOnce(&str) -> Finding) -> Finding {
    let place = format!("/tmp/boatyard-{}-{}", c.name, std::process::id());
    if let Err(error) = fs::DirBuilder::new().mode(0o700).create(&place) {
        return Finding::skipped(format!("no folder to mount on: {error}"));
    }
    let finding = attempt(&place);
    let _ = fs::remove_dir(&place);
    finding
}

fn mount(c: &Context<'_>, source: &str, kind: &str, flags: libc::c_ulong) -> Finding {
    with_folder(c, |place| {
        let (source, place, kind) = (text(source), text(place), text(kind));
        Finding::guarded(undo(
            &place,
            call(libc::SYS_mount, &[at(&source), at(&place), at(&kind), flags as usize, 0]),
        ))
    })
}

/// Takes a mount away again where one was made.
fn undo(place: &std::ffi::CString, made: std::io::Result<i64>) -> std::io::Result<i64> {
    if made.is_ok() {
        let _ = call(libc::SYS_umount2, &[at(place), libc::MNT_DETACH as usize]);
    }
    made
}
