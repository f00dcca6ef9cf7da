//! Capabilities: what the first process and `serve` keep, and nothing for the worker.

use std::io;

use crate::sys::{check, process::prctl};

/// What the first process and `serve` keep inside their user namespace: to give files to the
/// worker, to read what the worker hid from itself, to become the worker, to end its processes,
/// and to take capabilities away from it.
pub(crate) const KEPT: u64 = bit(CHOWN)
    | bit(DAC_OVERRIDE)
    | bit(FOWNER)
    | bit(KILL)
    | bit(SETGID)
    | bit(SETUID)
    | bit(SETPCAP);
/// None at all.
pub(crate) const NONE: u64 = 0;

const CHOWN: u32 = 0;
const DAC_OVERRIDE: u32 = 1;
const FOWNER: u32 = 3;
const KILL: u32 = 5;
const SETGID: u32 = 6;
const SETUID: u32 = 7;
const SETPCAP: u32 = 8;
/// `CAP_SYS_ADMIN`.
pub(crate) const SYS_ADMIN: u32 = 21;
/// The greatest number that kernels may come to use; asking beyond the last gives EINVAL.
const LAST: u32 = 63;

/// `_LINUX_CAPABILITY_VERSION_3`.
const VERSION: u32 = 0x2008_0522;

/// The kernel's `struct __user_cap_header_struct`.
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

/// The kernel's `struct __user_cap_data_struct`; two of them hold 64 bits.
#[repr(C)]
#[derive(Default, Clone, Copy)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const fn bit(capability: u32) -> u64 {
    1 << capability
}

/// Makes `set` the permitted and effective capabilities; nothing is inheritable or ambient.
pub(crate) fn set(set: u64) -> io::Result<()> {
    let half = |shift: u32| {
        let bits = (set >> shift) as u32;
        Data { effective: bits, permitted: bits, inheritable: 0 }
    };
    let header = Header { version: VERSION, pid: 0 };
    let data = [half(0), half(32)];
    // SAFETY: both structures are as the kernel wants them; the raw call acts on this thread.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) })?;
    Ok(())
}

/// The effective capabilities of this thread.
pub(crate) fn effective() -> io::Result<u64> {
    let header = Header { version: VERSION, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: as above; the kernel fills `data`.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr()) })?;
    Ok(u64::from(data[0].effective) | u64::from(data[1].effective) << 32)
}

/// Whether this thread has `capability`.
pub(crate) fn has(capability: u32) -> io::Result<bool> {
    Ok(effective()? & bit(capability) != 0)
}

/// Takes everything but `kept` out of the bounding set: no program brings it back.
pub(crate) fn bound(kept: u64) -> io::Result<()> {
    for capability in 0..=LAST {
        if kept & bit(capability) != 0 {
            continue;
        }
        match prctl(libc::PR_CAPBSET_READ, u64::from(capability), 0) {
            Ok(1) => {
                prctl(libc::PR_CAPBSET_DROP, u64::from(capability), 0)?;
            }
            Ok(_) => {}
            // Beyond the last that this kernel knows.
            Err(_) => break,
        }
    }
    Ok(())
}

/// Before becoming the worker: no program that it runs can gain a capability or another id.
///
/// Allocates nothing.
pub(crate) fn close_the_way_up() -> io::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)?;
    if has(SETPCAP)? {
        // Only what the first process left in the set can still be there.
        bound(NONE)?;
        // User id 0 means nothing special for the worker, which has that id where no other is
        // mapped: the setting and its lock.
        prctl(libc::PR_SET_SECUREBITS, 0b11, 0)?;
    }
    Ok(())
}
