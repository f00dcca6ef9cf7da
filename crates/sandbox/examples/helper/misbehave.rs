//! What a hostile worker does.

use std::time::Duration;

/// Forks as fast as it can, each child likewise; prints how many it got before it was refused,
/// and stays.
pub(crate) fn fork_bomb() {
    let mut made = 0;
    loop {
        // SAFETY: one thread; the child only loops in here.
        let pid = unsafe { libc::fork() };
        match pid {
            0 => made = -1_000_000,
            pid if pid > 0 => made += 1,
            _ => {
                if made >= 0 {
                    println!("stopped after {made}");
                    // SAFETY: the output is all that matters to whoever reads it.
                    unsafe {
                        libc::close(1);
                        libc::close(2);
                    }
                }
                loop {
                    // SAFETY: one thread.
                    if unsafe { libc::fork() } < 0 {
                        std::thread::yield_now();
                    }
                }
            }
        }
    }
}

/// Takes 16 MiB after 16 MiB until something stops it.
pub(crate) fn memory_bomb() {
    let mut taken = Vec::new();
    for round in 0.. {
        let mut block = vec![0u8; 16 << 20];
        for page in block.chunks_mut(4096) {
            page[0] = 1;
        }
        taken.push(block);
        println!("{}", (round + 1) * 16);
    }
}

/// Forks twice, with a session of its own each time and no environment, and stays; the first
/// prints the id of the last.
pub(crate) fn hide() {
    let (reader, writer) = std::io::pipe().expect("pipe");
    // SAFETY: one thread.
    unsafe {
        if libc::fork() == 0 {
            libc::setsid();
            if libc::fork() == 0 {
                libc::setsid();
                libc::signal(libc::SIGTERM, libc::SIG_IGN);
                libc::signal(libc::SIGHUP, libc::SIG_IGN);
                let id = std::process::id().to_le_bytes();
                libc::write(std::os::fd::AsRawFd::as_raw_fd(&writer), id.as_ptr().cast(), 4);
                for fd in 0..64 {
                    libc::close(fd);
                }
                loop {
                    std::thread::sleep(Duration::from_secs(3600));
                }
            }
            libc::_exit(0);
        }
    }
    drop(writer);
    let mut id = [0; 4];
    std::io::Read::read_exact(&mut { reader }, &mut id).expect("the id");
    println!("{}", u32::from_le_bytes(id));
}
