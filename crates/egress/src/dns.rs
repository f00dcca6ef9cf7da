//! Names inside a workspace: each has an address of its own, and nothing is asked outside.
//!
//! ```text
//! program ─ A api.example.com? ─► 198.18.0.7 ─ connect 198.18.0.7:443 ─► caught: api.example.com
//! ```
//!
//! An address is a promise to connect, and no more: only when a program does is the name judged
//! by the rules, and only when they allow it is it resolved, by the server. So a name can't carry
//! anything out, and a connection of any protocol comes with the name that its program used.
//!
//! A workspace has its own addresses ([`Names`]). They last as long as its processes: the table is
//! kept in a memory file inside, for the next server, so that a program which has remembered an
//! address does not notice a restart.

mod answer;
mod datagrams;
mod kept;
mod pool;
mod stream;

use std::{
    fs::File,
    net::Ipv4Addr,
    os::fd::OwnedFd,
    sync::{Mutex, PoisonError},
};

use rustix::fs::FileType;

pub(crate) use self::{datagrams::Datagrams, stream::serve as serve_stream};
use self::{kept::Kept, pool::Pool};
use crate::{Error, rules::Host};

/// How many names of a workspace have addresses at one time.
const CAPACITY: usize = 4096;

/// A workspace's names.
#[derive(Debug)]
pub struct Names {
    pool: Mutex<Pool>,
    kept: Option<Kept>,
}

impl Names {
    /// Those that are kept in a memory file of the workspace, and those that will be.
    ///
    /// # Errors
    ///
    /// [`Error::NotNames`] when the descriptor is no such file; [`Error::Listener`] when it can't
    /// be read.
    pub fn open(file: OwnedFd) -> Result<Self, Error> {
        let stat = rustix::fs::fstat(&file).map_err(|error| Error::Listener(error.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Error::NotNames);
        }
        let kept = Kept::new(File::from(file));
        let pool = kept.restore(CAPACITY).map_err(Error::Listener)?;
        Ok(Self { pool: Mutex::new(pool), kept: Some(kept) })
    }

    /// None yet, and none for the next server.
    #[cfg(test)]
    pub(crate) fn forgetful() -> Self {
        Self { pool: Mutex::new(Pool::new(CAPACITY)), kept: None }
    }

    /// The address of a name, which is as [`is_name`] has it.
    pub(crate) fn address(&self, name: &str) -> Ipv4Addr {
        // Held over the write, so that the file and the table tell the same.
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        let (address, given) = pool.address(name);
        if let (Some(kept), Some(given)) = (&self.kept, given)
            && let Err(error) = kept.keep(name, &given)
        {
            tracing::warn!(%error, "an address inside a workspace will not outlive this server");
        }
        address
    }

    /// The name behind an address.
    pub(crate) fn name(&self, address: Ipv4Addr) -> Option<Box<str>> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner).name(address)
    }
}

/// Whether this is a name in its one spelling: the one that rules know it by.
fn is_name(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && matches!(text.parse(), Ok(Host::Name(name)) if *name == *text)
}
