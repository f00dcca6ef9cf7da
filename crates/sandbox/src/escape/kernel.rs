//! The kernel's parts with a history of holes, and calls that change the machine.
//!
//! Arguments are such that nothing happens where a call is allowed.

use super::{
    Attack, Finding, attack,
    calls::{HERE, MINUS_ONE, at, call, call_fd, errno, forked, text},
    worst,
};

pub(super) const ATTACKS: &[Attack] = &[
    attack("session-keyring", "Looks into the kernel's keyrings", |_| {
        // KEYCTL_GET_KEYRING_ID of the session, the user, the user's session.
        worst([-3isize, -4, -5].map(|id| {
            (
                format!("keyring {id}"),
                Finding::guarded(call(libc::SYS_keyctl, &[0, id as usize, 0])),
            )
        }))
    }),
    attack("add-key", "Puts a key into the user's keyring", |_| {
        let (kind, name) = (text("user"), text("boatyard-bait"));
        let arguments = [at(&kind), at(&name), at(&name), 4, -4isize as usize];
        let done = call(libc::SYS_add_key, &arguments);
        if let Ok(key) = done {
            // KEYCTL_INVALIDATE.
            let _ = call(libc::SYS_keyctl, &[21, key.cast_unsigned() as usize]);
        }
        Finding::guarded(done)
    }),
    attack("request-key", "Has the host's kernel start a program that makes a key", |_| {
        let (kind, name) = (text("user"), text("boatyard-bait"));
        Finding::guarded(call(libc::SYS_request_key, &[at(&kind), at(&name), 0, -4isize as usize]))
    }),
    attack("bpf-map", "Makes a map for programs in the kernel", |_| {
        let array = [2u32, 4, 8, 1];
        Finding::guarded(call_fd(libc::SYS_bpf, &[0, array.as_ptr() as usize, size_of_val(&array)]))
    }),
    attack("bpf-program", "Loads a program into the kernel", |_| {
        // r0 = 0; exit.
        let program = [0x0000_0000_0000_00b7u64, 0x95];
        let licence = text("GPL");
        let load = [1u64 | 2 << 32, program.as_ptr() as u64, at(&licence) as u64, 0, 0, 0];
        Finding::guarded(call_fd(libc::SYS_bpf, &[5, load.as_ptr() as usize, size_of_val(&load)]))
    }),
    attack("performance-counters", "Watches the kernel by performance counters", |_| {
        let mut event = [0u64; 16];
        // Software, 128 bytes, the processor's clock.
        event[0] = 1 | 128 << 32;
        let arguments = [event.as_ptr() as usize, 0, MINUS_ONE, MINUS_ONE, 0];
        Finding::guarded(call_fd(libc::SYS_perf_event_open, &arguments))
    }),
    attack("io-uring", "Does input and output by queues shared with the kernel", |_| {
        let parameters = [0u64; 15];
        Finding::guarded(call_fd(libc::SYS_io_uring_setup, &[1, parameters.as_ptr() as usize]))
    }),
    attack(
        "fault-handling",
        "Handles page faults itself, which stops the kernel where it likes",
        |_| {
            worst([0, 1].map(|flags| {
                (
                    format!("flags {flags}"),
                    Finding::guarded(call_fd(libc::SYS_userfaultfd, &[flags])),
                )
            }))
        },
    ),
    attack("file-watching", "Watches and holds every file access on the host", |_| {
        Finding::guarded(call_fd(libc::SYS_fanotify_init, &[4, 0]))
    }),
    attack("another-kernel", "Loads another kernel", |_| {
        // Flags that there are not: refused after the question who asks.
        let load = call(libc::SYS_kexec_load, &[0, 0, 0, 0x7fff]);
        let file = call(libc::SYS_kexec_file_load, &[MINUS_ONE, MINUS_ONE, 0, 0, 0x7fff]);
        worst([
            ("kexec_load".to_owned(), Finding::guarded(load)),
            ("kexec_file_load".to_owned(), Finding::guarded(file)),
        ])
    }),
    attack("load-module", "Loads a module into the kernel", |_| {
        let (nothing, options) = ([0u8; 16], text(""));
        let load = call(libc::SYS_init_module, &[nothing.as_ptr() as usize, 16, at(&options)]);
        let file = call(libc::SYS_finit_module, &[MINUS_ONE, at(&options), 0]);
        worst([
            ("init_module".to_owned(), Finding::guarded(load)),
            ("finit_module".to_owned(), Finding::guarded(file)),
        ])
    }),
    attack("unload-module", "Takes a module out of the kernel", |_| {
        let name = text("boatyard_no_such_module");
        Finding::guarded(call(libc::SYS_delete_module, &[at(&name), libc::O_NONBLOCK as usize]))
    }),
    attack("reboot", "Stops the machine", |_| {
        // Wrong magic numbers: nothing happens to who may.
        Finding::guarded(call(libc::SYS_reboot, &[1, 1, 1, 0]))
    }),
    attack("swap", "Changes where the machine swaps to", |_| {
        let nowhere = text("/proc/nowhere");
        let on = call(libc::SYS_swapon, &[at(&nowhere), 0]);
        let off = call(libc::SYS_swapoff, &[at(&nowhere)]);
        worst([
            ("swapon".to_owned(), Finding::guarded(on)),
            ("swapoff".to_owned(), Finding::guarded(off)),
        ])
    }),
    attack(
        "process-accounting",
        "Has the kernel write a line for every process of the host",
        |_| {
            let nowhere = text("/proc/nowhere");
            Finding::guarded(call(libc::SYS_acct, &[at(&nowhere)]))
        },
    ),
    attack("quotas", "Changes what others may store", |_| {
        let device = text("/dev/vda");
        // A command that there is not.
        worst([
            (
                "quotactl".to_owned(),
                Finding::guarded(call(libc::SYS_quotactl, &[0, at(&device), 0, 0])),
            ),
            (
                "quotactl_fd".to_owned(),
                Finding::guarded(call(libc::SYS_quotactl_fd, &[0, 0, 0, 0])),
            ),
        ])
    }),
    attack("set-clock", "Sets the machine's clock", |_| {
        // A time that can't be.
        let never = [-1i64, -1];
        let set = call(libc::SYS_clock_settime, &[0, never.as_ptr() as usize]);
        let day = call(libc::SYS_settimeofday, &[never.as_ptr() as usize, 0]);
        worst([
            ("clock_settime".to_owned(), Finding::guarded(set)),
            ("settimeofday".to_owned(), Finding::guarded(day)),
        ])
    }),
    attack("slow-clock", "Makes the machine's clock slower", |_| {
        // SAFETY: a structure of integers.
        let mut change: libc::timex = unsafe { std::mem::zeroed() };
        // A tick that is out of range.
        (change.modes, change.tick) = (libc::ADJ_TICK, 1);
        let pointer = (&raw mut change) as usize;
        let adjust = call(libc::SYS_adjtimex, &[pointer]);
        let clock = call(libc::SYS_clock_adjtime, &[0, pointer]);
        worst([
            ("adjtimex".to_owned(), Finding::guarded(adjust)),
            ("clock_adjtime".to_owned(), Finding::guarded(clock)),
        ])
    }),
    attack("host-name", "Changes the host's name", |_| {
        // Longer than a name may be.
        let name = [b'x'; 100];
        let host = call(libc::SYS_sethostname, &[name.as_ptr() as usize, name.len()]);
        let domain = call(libc::SYS_setdomainname, &[name.as_ptr() as usize, name.len()]);
        worst([
            ("sethostname".to_owned(), Finding::guarded(host)),
            ("setdomainname".to_owned(), Finding::guarded(domain)),
        ])
    }),
    attack("processor-ports", "Speaks to the machine's ports", |_| ports()),
    attack("memory-of-nodes", "Moves others' memory between the machine's nodes", |_| {
        let moved = call(libc::SYS_migrate_pages, &[1, 0, 0, 0]);
        let pages = call(libc::SYS_move_pages, &[1, 0, 0, 0, 0, 0]);
        worst([
            ("migrate_pages".to_owned(), Finding::guarded(moved)),
            ("move_pages".to_owned(), Finding::guarded(pages)),
        ])
    }),
    attack("file-handles", "Asks for a file's handle, which opens it around the root", |_| {
        let mut handle = [0u32; 34];
        handle[0] = 128;
        let (place, mut mount) = (text("/usr"), 0i32);
        let room = (&raw mut mount) as usize;
        let arguments = [HERE, at(&place), handle.as_mut_ptr() as usize, room, 0];
        Finding::guarded(call(libc::SYS_name_to_handle_at, &arguments))
    }),
    attack("old-calls", "Uses calls that nobody needs any more", |_| old()),
    attack("new-calls", "Uses calls that are newer than the filter", |_| {
        worst((470..=600).map(|number| {
            let done = call(number, &[]);
            let finding = match done {
                Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
                    Finding::blocked("ENOSYS")
                }
                done => Finding::guarded(done),
            };
            (format!("call {number}"), finding)
        }))
    }),
    attack(
        "32-bit-entry",
        "Enters the kernel by the 32-bit way, where numbers mean other calls",
        |_| entry(),
    ),
    attack("x32-calls", "Uses the calls of a third kind of programs", |_| {
        Finding::guarded(call(0x4000_0000 + libc::SYS_getpid, &[]))
    }),
    attack("other-personality", "Becomes a program of another kind of system", |_| {
        // PER_LINUX32 and UNAME26.
        worst([0x8usize, 0x2_0000].map(|kind| {
            let done = call(libc::SYS_personality, &[kind]);
            if let Ok(before) = done {
                let _ = call(libc::SYS_personality, &[before.cast_unsigned() as usize]);
            }
            (format!("{kind:#x}"), Finding::guarded(done))
        }))
    }),
];

#[cfg(target_arch = "x86_64")]
fn ports() -> Finding {
    worst([
        ("iopl".to_owned(), Finding::guarded(call(libc::SYS_iopl, &[4]))),
        ("ioperm".to_owned(), Finding::guarded(call(libc::SYS_ioperm, &[0x80, 0, 1]))),
    ])
}

#[cfg(not(target_arch = "x86_64"))]
fn ports() -> Finding {
    Finding::blocked("this processor has none")
}

#[cfg(target_arch = "x86_64")]
fn old() -> Finding {
    let nowhere = text("/proc/nowhere");
    let calls = [
        ("uselib", libc::SYS_uselib, at(&nowhere)),
        ("ustat", libc::SYS_ustat, 0),
        ("sysfs", libc::SYS_sysfs, 3),
        ("_sysctl", libc::SYS__sysctl, 0),
        ("nfsservctl", libc::SYS_nfsservctl, 0),
        ("lookup_dcookie", libc::SYS_lookup_dcookie, 0),
    ];
    worst(calls.map(|(name, number, argument)| {
        (name.to_owned(), Finding::guarded(call(number, &[argument, 0, 0])))
    }))
}

#[cfg(not(target_arch = "x86_64"))]
fn old() -> Finding {
    Finding::guarded(call(libc::SYS_lookup_dcookie, &[0, 0, 0]))
}

/// Call 20 there is `getpid`.
#[cfg(target_arch = "x86_64")]
fn entry() -> Finding {
    let code = forked(|| {
        let mut result: i32 = 20;
        // SAFETY: `getpid` touches nothing but the registers named.
        unsafe {
            std::arch::asm!(
                "int 0x80", inout("eax") result, out("r8") _, out("r9") _, out("r10") _, out("r11") _
            );
        }
        i32::from(result > 0)
    });
    match code {
        Ok(1) => Finding::escaped("it worked"),
        Ok(0) => Finding::blocked("it was refused"),
        Ok(signal) if signal == -libc::SIGSYS => Finding::blocked("SIGSYS"),
        // A kernel without this entry.
        Ok(signal) if signal == -libc::SIGSEGV => Finding::blocked("there is no such entry"),
        Ok(other) => Finding::skipped(format!("it ended with {other}")),
        Err(error) => Finding::skipped(errno(&error)),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn entry() -> Finding {
    // There is a way to 32-bit programs, but none within one of 64 bits.
    match forked(|| 0) {
        Ok(_) => Finding::blocked("this processor has none"),
        Err(error) => Finding::skipped(errno(&error)),
    }
}
