//! The table in a memory file that the workspace's first process holds: the next server finds
//! there what this one gave, so that a program which remembers an address still reaches the name
//! behind it.
//!
//! ```text
//! 0    "BYN1", the offset that was given last (u32)
//! 256  for each place of the table 256 bytes: its offset (u32, 0: empty), the length of the name
//!      (u8), the name
//! ```
//!
//! Each place is written at once and crosses no page, so a server that is killed leaves none half
//! written. All the same, what is read back is checked like anything else that comes out of a
//! workspace.

use std::{fs::File, io, os::unix::fs::FileExt as _};

use super::pool::{Given, Pool};

const MAGIC: &[u8; 4] = b"BYN1";
/// Of the head and of each place.
const PLACE: usize = 256;
/// The longest name that fits; a longer one (two more bytes are possible) is not remembered.
const NAME_MAX: usize = PLACE - 5;

/// The file.
#[derive(Debug)]
pub(super) struct Kept(File);

impl Kept {
    pub(super) fn new(file: File) -> Self {
        Self(file)
    }

    /// What an earlier server has kept.
    ///
    /// # Errors
    /// The file can't be read.
    pub(super) fn restore(&self, capacity: usize) -> io::Result<Pool> {
        let mut pool = Pool::new(capacity);
        let most = (capacity + 1) * PLACE;
        let size = usize::try_from(self.0.metadata()?.len()).unwrap_or(usize::MAX).min(most);
        let mut bytes = vec![0; size];
        let mut filled = 0;
        while filled < size {
            match self.0.read_at(&mut bytes[filled..], filled as u64)? {
                0 => break,
                length => filled += length,
            }
        }
        let Some((head, places)) = bytes[..filled].split_at_checked(PLACE) else { return Ok(pool) };
        if &head[..4] != MAGIC {
            return Ok(pool);
        }
        for place in places.chunks_exact(PLACE) {
            let name = place.get(5..5 + usize::from(place[4])).unwrap_or_default();
            if let Some(name) = std::str::from_utf8(name).ok().filter(|name| super::is_name(name)) {
                pool.restore(name, number(place));
            }
        }
        pool.go_on_after(number(&head[4..]));
        Ok(pool)
    }

    /// Keeps what was given.
    ///
    /// # Errors
    /// The file can't be written: the machine has no memory left.
    pub(super) fn keep(&self, name: &str, given: &Given) -> io::Result<()> {
        let mut place = [0; PLACE];
        if let Ok(length) = u8::try_from(name.len())
            && name.len() <= NAME_MAX
        {
            place[..4].copy_from_slice(&given.offset.to_le_bytes());
            place[4] = length;
            place[5..5 + name.len()].copy_from_slice(name.as_bytes());
        }
        self.0.write_all_at(&place, ((given.slot + 1) * PLACE) as u64)?;
        let mut head = [0; PLACE];
        head[..4].copy_from_slice(MAGIC);
        head[4..8].copy_from_slice(&given.offset.to_le_bytes());
        self.0.write_all_at(&head, 0)
    }
}

fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file() -> (Kept, File) {
        let file = tempfile::tempfile().unwrap();
        (Kept::new(file.try_clone().unwrap()), file)
    }

    fn give(pool: &mut Pool, kept: &Kept, name: &str) -> std::net::Ipv4Addr {
        let (address, given) = pool.address(name);
        if let Some(given) = given {
            kept.keep(name, &given).unwrap();
        }
        address
    }

    #[test]
    fn the_next_server_knows_what_this_one_gave() {
        let (kept, _file) = file();
        let mut pool = kept.restore(4).unwrap();
        let names: Vec<String> = (0..6).map(|n| format!("n{n}.example")).collect();
        let given: Vec<_> = names.iter().map(|name| give(&mut pool, &kept, name)).collect();
        let mut next = kept.restore(4).unwrap();
        for (name, address) in names.iter().zip(&given).skip(2) {
            assert_eq!(next.name(*address).as_deref(), Some(&**name));
        }
        // The first two had to go, and their addresses are given to nobody yet.
        assert_eq!(next.name(given[0]), None);
        assert_eq!(give(&mut next, &kept, "new.example"), std::net::Ipv4Addr::new(198, 18, 0, 7));
    }

    #[test]
    fn the_longest_name_is_served_though_not_remembered() {
        let (kept, _file) = file();
        let mut pool = kept.restore(4).unwrap();
        let label = "a".repeat(62);
        let long = [&*label, &label, &label, &label].join(".");
        let fits = [&*label, &label, &label, &label[..60]].join(".");
        assert_eq!((long.len(), fits.len()), (251, 249));
        let longest = format!("{long}aa");
        let addresses = [&long, &fits, &longest].map(|name| give(&mut pool, &kept, name));
        assert_eq!(pool.name(addresses[2]).as_deref(), Some(&*longest));
        let mut next = kept.restore(4).unwrap();
        assert_eq!(next.name(addresses[0]).as_deref(), Some(&*long));
        assert_eq!(next.name(addresses[1]).as_deref(), Some(&*fits));
        assert_eq!(next.name(addresses[2]), None);
    }

    proptest! {
        #[test]
        fn whatever_is_in_the_file_is_taken_or_left(bytes in prop::collection::vec(any::<u8>(), 0..2048), magic: bool) {
            let (kept, file) = file();
            let mut bytes = bytes;
            if magic && bytes.len() >= 4 {
                bytes[..4].copy_from_slice(MAGIC);
            }
            file.write_all_at(&bytes, 0).unwrap();
            let mut pool = kept.restore(3).unwrap();
            prop_assert!(pool.len() <= 3);
            let (address, _) = pool.address("new.example");
            let known = pool.name(address);
            prop_assert_eq!(known.as_deref(), Some("new.example"));
        }
    }
}
