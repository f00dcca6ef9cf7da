//! The system-call filter that everything inside runs under.
//!
//! One program, so that the kernel translates it once (that is most of its cost): another
//! architecture's calls kill, what this kernel's successors may add does not exist (`ENOSYS`),
//! `clone3` does not exist (its flags are behind a pointer; libraries fall back to `clone`), and
//! what a sandbox has no use for is refused (`EPERM`). Namespaces, the outside's view of the
//! machine, and the parts of the kernel with a history of holes are in that list. `ptrace` is
//! allowed: it reaches only what the worker owns, and debuggers need it.

use std::io;

use crate::sys::check;

/// A filter ready to be installed.
pub(crate) type Program = Vec<libc::sock_filter>;

/// The greatest system call that was known when the list below was written (`file_setattr`, Linux
/// 6.17); later ones are refused until somebody has looked at them.
const LAST_KNOWN: u32 = 469;
/// Bit that marks calls of the x32 ABI.
const X32: u32 = 0x4000_0000;
/// `open_tree_attr`, which the libc crate does not know yet.
const SYS_OPEN_TREE_ATTR: libc::c_long = 467;

/// `clone` flags that make namespaces.
const NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32;

/// Refused with `EPERM`.
const DENIED: &[libc::c_long] = &[
    // Mounts and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_open_tree,
    SYS_OPEN_TREE_ATTR,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    // Parts of the kernel that nothing here needs and that holes were found in.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
    libc::SYS_vhangup,
    libc::SYS_lookup_dcookie,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    // Files by handle reach around the root.
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    // The machine itself.
    libc::SYS_reboot,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_nfsservctl,
    // Placement of memory on nodes.
    libc::SYS_mbind,
    libc::SYS_set_mempolicy,
    libc::SYS_set_mempolicy_home_node,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    // Ports and tables of the processor.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_uselib,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ustat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_sysfs,
    #[cfg(target_arch = "x86_64")]
    libc::SYS__sysctl,
];

/// Address families that may be used, beside netlink.
const FAMILIES: [i32; 3] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];
/// Execution domains that may be chosen: the default, without randomization (debuggers), and the
/// question which one it is.
const PERSONALITIES: [u32; 3] = [0, libc::ADDR_NO_RANDOMIZE as u32, u32::MAX];
/// Terminal requests that put words into somebody else's mouth.
const TERMINAL_INJECTION: [u32; 2] = [libc::TIOCSTI as u32, libc::TIOCLINUX as u32];

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const GREATER: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
const GREATER_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;

/// Offsets in the kernel's `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;

/// Offset of the lower half of an argument (both architectures are little-endian).
const fn argument(index: u32) -> u32 {
    16 + 8 * index
}

/// Builds the filter.
pub(crate) fn program() -> Program {
    let mut program = vec![
        statement(LOAD, ARCH),
        jump(EQUAL, ARCHITECTURE, 1, 0),
        statement(RETURN, libc::SECCOMP_RET_KILL_PROCESS),
        statement(LOAD, NUMBER),
    ];
    if cfg!(target_arch = "x86_64") {
        program.push(jump(GREATER_EQUAL, X32, 0, 1));
        program.push(refuse(libc::ENOSYS));
    }
    program.push(jump(GREATER, LAST_KNOWN, 0, 1));
    program.push(refuse(libc::ENOSYS));
    when(&mut program, libc::SYS_clone3, &[refuse(libc::ENOSYS)]);
    when(
        &mut program,
        libc::SYS_clone,
        &[
            statement(LOAD, argument(0)),
            jump(ANY_BIT, NAMESPACES, 0, 1),
            refuse(libc::EPERM),
            allow(),
        ],
    );
    when(
        &mut program,
        libc::SYS_ioctl,
        &one_of(1, &TERMINAL_INJECTION, refuse(libc::EPERM), allow()),
    );
    when(
        &mut program,
        libc::SYS_personality,
        &one_of(0, &PERSONALITIES, allow(), refuse(libc::EPERM)),
    );
    when(&mut program, libc::SYS_socket, &socket());
    let count = DENIED.len();
    for (index, number) in DENIED.iter().enumerate() {
        // Over the remaining comparisons and the `allow` behind them.
        let to_refusal = u8::try_from(count - index).expect("the list is short");
        program.push(jump(EQUAL, *number as u32, to_refusal, 0));
    }
    program.push(allow());
    program.push(refuse(libc::EPERM));
    program
}

/// Installs the filter for this process and all that it will start; needs `no_new_privs`.
pub(crate) fn install(program: &Program) -> io::Result<()> {
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(io::Error::other)?,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: `filter` describes `program`, which the kernel copies and does not change.
    check(unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const filter)
    })?;
    Ok(())
}

/// `socket`: the families above, and netlink for routes only (what lists network interfaces).
fn socket() -> Program {
    let mut block = vec![statement(LOAD, argument(0))];
    for family in FAMILIES {
        block.extend([jump(EQUAL, family as u32, 0, 1), allow()]);
    }
    block.extend([
        jump(EQUAL, libc::AF_NETLINK as u32, 1, 0),
        refuse(libc::EAFNOSUPPORT),
        statement(LOAD, argument(2)),
        jump(EQUAL, libc::NETLINK_ROUTE as u32, 0, 1),
        allow(),
        refuse(libc::EPERM),
    ]);
    block
}

/// Decides by whether the argument is one of `values`.
fn one_of(
    index: u32,
    values: &[u32],
    if_so: libc::sock_filter,
    if_not: libc::sock_filter,
) -> Program {
    let mut block = vec![statement(LOAD, argument(index))];
    for value in values {
        block.extend([jump(EQUAL, *value, 0, 1), if_so]);
    }
    block.push(if_not);
    block
}

/// Runs `block`, which ends in a decision, for the call `number`.
fn when(program: &mut Program, number: libc::c_long, block: &[libc::sock_filter]) {
    let over = u8::try_from(block.len()).expect("blocks are short");
    program.push(jump(EQUAL, number as u32, 0, over));
    program.extend_from_slice(block);
}

const fn statement(code: u16, value: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt: 0, jf: 0, k: value }
}

const fn jump(code: u16, value: u32, if_true: u8, if_false: u8) -> libc::sock_filter {
    libc::sock_filter { code, jt: if_true, jf: if_false, k: value }
}

const fn allow() -> libc::sock_filter {
    statement(RETURN, libc::SECCOMP_RET_ALLOW)
}

const fn refuse(errno: i32) -> libc::sock_filter {
    statement(RETURN, libc::SECCOMP_RET_ERRNO | errno.cast_unsigned())
}
