//! Terminals: words in somebody else's mouth.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::fd::{AsRawFd as _, OwnedFd},
    path::PathBuf,
};

use super::{
    Attack, Context, Finding, attack,
    bait::{self, MARK, Shared},
    calls::{errno, forked},
    inside_only, worst,
};
use crate::sys::check;

/// Line disciplines that drive modems, Bluetooth and the like; each is a part of the kernel that is
/// loaded when it is first asked for. 0 is the usual one, and 27 the one that does nothing.
const DISCIPLINES: std::ops::RangeInclusive<i32> = 1..=30;

pub(super) const ATTACKS: &[Attack] = &[
    attack(
        "type-into-terminal",
        "Types into its controlling terminal for whoever reads it",
        |_| controlled(|inner| request(inner, libc::TIOCSTI, c"x".as_ptr().addr())),
    ),
    attack("type-with-other-number", "The same by a number whose upper half is ignored", |_| {
        controlled(|inner| request(inner, libc::TIOCSTI | 1 << 32, c"x".as_ptr().addr()))
    }),
    attack("console-selection", "Pastes into a console", |_| {
        controlled(|inner| {
            let paste = 3u8;
            request(inner, libc::TIOCLINUX, (&raw const paste).addr())
        })
    }),
    attack("line-discipline", "Has the kernel load a driver for its terminal's line", |_| {
        match bait::terminal() {
            Err(error) => Finding::blocked(errno(&error)),
            Ok((_outer, inner, _)) => {
                worst(DISCIPLINES.filter(|number| *number != 27).map(|number| {
                    let set = request(&inner, libc::TIOCSETD, (&raw const number).addr());
                    (format!("discipline {number}"), Finding::of(set))
                }))
            }
        }
    }),
    attack(
        "steal-console",
        "Takes what the kernel prints on the console",
        |_| match bait::terminal() {
            Err(error) => Finding::blocked(errno(&error)),
            Ok((_outer, inner, _)) => Finding::of(request(&inner, libc::TIOCCONS, 0)),
        },
    ),
    attack("hang-up", "Hangs up the terminal of whoever started it", |_| {
        // In a child that leads a session without a terminal: nothing happens where it is allowed.
        let code = forked(|| {
            // SAFETY: always sound.
            unsafe { libc::setsid() };
            match super::calls::call(libc::SYS_vhangup, &[]) {
                Ok(_) => 0,
                Err(error) => error.raw_os_error().unwrap_or(255),
            }
        });
        match code {
            Ok(0) => Finding::escaped("it worked"),
            Ok(number) => Finding::blocked(errno(&io::Error::from_raw_os_error(number))),
            Err(error) => Finding::skipped(errno(&error)),
        }
    }),
    attack("terminal-of-host", "Writes to a terminal of the host", |c| write(c, &c.bait.host)),
    // Elsewhere it would disturb whoever sits there.
    inside_only("terminals-of-all", "Writes to every terminal that is seen", |c| {
        let entries = fs::read_dir("/dev/pts").into_iter().flatten().flatten();
        let numbered = entries.map(|entry| entry.path()).filter(|path| {
            path.file_name().is_some_and(|name| {
                name.to_string_lossy().bytes().all(|byte| byte.is_ascii_digit())
            })
        });
        worst(
            numbered
                .chain([PathBuf::from("/dev/console")])
                .map(|path| (path.display().to_string(), Finding::of(say(c, &path)))),
        )
    }),
    attack("starters-terminal", "Reaches the terminal of whoever started it", |_| {
        Finding::of(OpenOptions::new().read(true).write(true).open("/dev/tty"))
    }),
];

/// Writes to a terminal that somebody else has.
pub(super) fn write(c: &Context<'_>, shared: &Shared) -> Finding {
    match &shared.terminal {
        None => Finding::skipped("there was no terminal to lay out"),
        Some(path) => Finding::of(say(c, path)),
    }
}

fn say(c: &Context<'_>, path: &std::path::Path) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let flags = libc::O_NOCTTY | libc::O_NONBLOCK;
    let mut file = OpenOptions::new().write(true).custom_flags(flags).open(path)?;
    // At once: whoever reads does so once.
    file.write_all(format!("{MARK}{} \n", c.name).as_bytes())
}

fn request(terminal: &OwnedFd, number: u64, argument: usize) -> io::Result<()> {
    // SAFETY: the argument is an integer or points to what the request reads; the raw call, since
    // the number may be longer than libc's.
    let done = unsafe { libc::syscall(libc::SYS_ioctl, terminal.as_raw_fd(), number, argument) };
    check(done).map(drop)
}

/// With a terminal of one's own that controls a session of one's own.
fn controlled(attempt: impl FnOnce(&OwnedFd) -> io::Result<()>) -> Finding {
    let (outer, inner, _) = match bait::terminal() {
        Ok(terminal) => terminal,
        Err(error) => return Finding::blocked(errno(&error)),
    };
    let code = forked(|| {
        // SAFETY: integers only.
        let taken = unsafe {
            libc::setsid();
            check(libc::ioctl(inner.as_raw_fd(), libc::TIOCSCTTY, 0))
        };
        match taken.and_then(|_| attempt(&inner)) {
            Ok(()) => 0,
            Err(error) => error.raw_os_error().unwrap_or(255),
        }
    });
    drop(File::from(outer));
    match code {
        Ok(0) => Finding::escaped("it worked"),
        Ok(number) if number > 0 => Finding::blocked(errno(&io::Error::from_raw_os_error(number))),
        Ok(signal) => Finding::blocked(format!("signal {}", -signal)),
        Err(error) => Finding::skipped(errno(&error)),
    }
}
