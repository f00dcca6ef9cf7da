//! The format of a spool, and its reader for untrusted spools.
//!
//! A spool is the file into which a runner writes every record before it sends it. It outlives the
//! runner; the server drains that of a dead workspace with [`SpoolReader`], as hostile input.
//!
//! ```text
//! 0     header: magic, version, generation, start, released epoch, released n, crc
//! 64    table of the sessions that the runner holds (see [`SessionEntry`])
//! 4096  frames, from `start` on (what lies before was stored by the server and is a hole):
//!       u32 length │ u32 crc32 of what follows │ a record in the form of `record`
//! ```
//!
//! All numbers are little-endian. The first frame that is not whole or not true ends the spool: a
//! write was cut there. Positions rise strictly; an epoch that is not the header's is one that
//! ended before its records were all stored.

use std::{fs::File, io, os::unix::fs::FileExt};

use boatyard_model::{SessionId, Timestamp};
use bytes::Bytes;

use crate::{
    message::{Position, RECORD_MAX, Record},
    record,
};

/// Where frames begin: the header has a page of its own.
pub const FRAMES_START: u64 = 4096;

/// How many bytes of records a spool holds before the runner stops reading its agents.
pub const CAPACITY: u64 = 64 << 20;

/// How many bytes of lengths and sums stand before a record.
pub const FRAME_PREFIX: usize = 8;

/// How many bytes of the header page are used.
pub const HEADER_BYTES: usize = 60;

/// Where the table of sessions begins: it shares the header's page, so that one write is whole.
pub const TABLE_START: u64 = 64;

/// How many sessions one runner holds at most; they fit the rest of the header's page.
pub const SESSIONS_MAX: usize = 120;

/// The most that a reader looks at: a spool that holds more than two capacities is not ours.
const READ_MAX: u64 = 2 * CAPACITY;

const MAGIC: [u8; 8] = *b"BYSPOOL\n";
const VERSION: u32 = 1;

/// Bytes that can be read at any offset: a file, or memory in tests.
pub trait ReadAt {
    /// Reads into `buffer` from `offset` on; less than its length only at the end.
    ///
    /// # Errors
    /// As the operating system says.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl ReadAt for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match FileExt::read_at(self, &mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}

impl ReadAt for [u8] {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(self.len());
        let n = buffer.len().min(self.len() - from);
        buffer[..n].copy_from_slice(&self[from..from + n]);
        Ok(n)
    }
}

impl<T: ReadAt + ?Sized> ReadAt for &T {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        (**self).read_at(buffer, offset)
    }
}

/// The header of a spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolHeader {
    /// The workspace's generation in which the spool was last opened for writing.
    pub generation: u64,
    /// Where the first frame that may still be wanted begins.
    pub start: u64,
    /// The last record that was released; records up to it may be missing. Epoch 0 means none.
    pub released: Position,
}

impl SpoolHeader {
    /// The header of a spool without records.
    pub const fn new(generation: u64) -> Self {
        Self { generation, start: FRAMES_START, released: Position { epoch: 0, n: 0 } }
    }

    /// As it stands at the beginning of the file.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        // 12..24 is kept for later versions.
        out[24..32].copy_from_slice(&self.generation.to_le_bytes());
        out[32..40].copy_from_slice(&self.start.to_le_bytes());
        out[40..48].copy_from_slice(&self.released.epoch.to_le_bytes());
        out[48..56].copy_from_slice(&self.released.n.to_le_bytes());
        let sum = crc32fast::hash(&out[..56]);
        out[56..].copy_from_slice(&sum.to_le_bytes());
        out
    }

    /// What a file's first bytes say; none if they are not a header of this version.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<HEADER_BYTES>()?;
        let at = |i: usize| {
            let mut eight = [0; 8];
            eight.copy_from_slice(&bytes[i..i + 8]);
            u64::from_le_bytes(eight)
        };
        let sum_holds = bytes[56..] == crc32fast::hash(&bytes[..56]).to_le_bytes();
        let known = bytes[..8] == MAGIC && bytes[8..12] == VERSION.to_le_bytes();
        let header = Self {
            generation: at(24),
            start: at(32),
            released: Position { epoch: at(40), n: at(48) },
        };
        (sum_holds && known && header.start >= FRAMES_START).then_some(header)
    }
}

/// What the spool remembers of a session, so that the next runner knows what the last one did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionEntry {
    /// Which.
    pub session: SessionId,
    /// The last turn that was begun.
    pub last_turn: u32,
    /// Since when that turn is under way; none if it is over.
    pub began: Option<Timestamp>,
}

/// Bytes of one entry: `u128 session, u32 last turn, u32 whether under way, i64 since when`.
const ENTRY_BYTES: usize = 32;

/// The table as it stands at [`TABLE_START`]: `u32 count, u32 crc32 of the entries, entries`. What
/// is beyond [`SESSIONS_MAX`] is left out.
pub fn encode_table(entries: &[SessionEntry]) -> Vec<u8> {
    let entries = &entries[..entries.len().min(SESSIONS_MAX)];
    let mut out = vec![0; 8];
    for entry in entries {
        out.extend_from_slice(&entry.session.to_u128().to_le_bytes());
        out.extend_from_slice(&entry.last_turn.to_le_bytes());
        out.extend_from_slice(&u32::from(entry.began.is_some()).to_le_bytes());
        out.extend_from_slice(&entry.began.unwrap_or_default().0.to_le_bytes());
    }
    let count = u32::try_from(entries.len()).unwrap_or(0);
    let sum = crc32fast::hash(&out[8..]);
    out[..4].copy_from_slice(&count.to_le_bytes());
    out[4..8].copy_from_slice(&sum.to_le_bytes());
    out
}

/// The entries of a table; none if it is not whole and true.
pub fn decode_table(bytes: &[u8]) -> Vec<SessionEntry> {
    fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
        let mut out = [0; N];
        out.copy_from_slice(&bytes[at..at + N]);
        out
    }
    let Some((head, rest)) = bytes.split_first_chunk::<8>() else { return Vec::new() };
    let count = u32::from_le_bytes(part(head, 0)) as usize;
    let Some(entries) = rest.get(..count.min(SESSIONS_MAX) * ENTRY_BYTES) else {
        return Vec::new();
    };
    if count > SESSIONS_MAX || crc32fast::hash(entries).to_le_bytes() != head[4..] {
        return Vec::new();
    }
    entries
        .chunks_exact(ENTRY_BYTES)
        .map(|entry| SessionEntry {
            session: SessionId::from_u128(u128::from_le_bytes(part(entry, 0))),
            last_turn: u32::from_le_bytes(part(entry, 16)),
            began: (u32::from_le_bytes(part(entry, 20)) != 0)
                .then(|| Timestamp(i64::from_le_bytes(part(entry, 24)))),
        })
        .collect()
}

/// A record's form with its frame around it, ready to be written.
pub fn frame(form: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(FRAME_PREFIX + form.len());
    let length = u32::try_from(form.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(form).to_le_bytes());
    out.extend_from_slice(form);
    out
}

/// Walks over the frames of a spool.
#[derive(Debug)]
pub struct Frames<R> {
    source: R,
    offset: u64,
    end: u64,
    buffer: Vec<u8>,
    filled: usize,
    taken: usize,
}

/// One frame that is whole and true.
#[derive(Debug)]
pub struct Frame<'a> {
    /// Where it begins.
    pub offset: u64,
    /// Where the next one begins.
    pub next: u64,
    /// The record in the form of [`record`].
    pub form: &'a [u8],
}

/// How many bytes are read from the file at once: many small records, and a large one in few steps.
const READ_AHEAD: usize = 256 << 10;

impl<R: ReadAt> Frames<R> {
    /// From `start` to at most `end`.
    pub fn new(source: R, start: u64, end: u64) -> Self {
        Self { source, offset: start, end, buffer: Vec::new(), filled: 0, taken: 0 }
    }

    /// Where the next frame begins; after [`Self::next_frame`] gave none, the end of what is true.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next frame; none at the end, and at the first one that was cut or changed.
    ///
    /// # Errors
    /// When the source can't be read.
    pub fn next_frame(&mut self) -> io::Result<Option<Frame<'_>>> {
        if !self.fill(FRAME_PREFIX)? {
            return Ok(None);
        }
        let prefix = &self.buffer[self.taken..];
        let length = u32::from_le_bytes([prefix[0], prefix[1], prefix[2], prefix[3]]) as usize;
        let sum = [prefix[4], prefix[5], prefix[6], prefix[7]];
        let sized = (record::PREFIX..=RECORD_MAX).contains(&length);
        if !sized || !self.fill(FRAME_PREFIX + length)? {
            return Ok(None);
        }
        let from = self.taken + FRAME_PREFIX;
        let form = &self.buffer[from..from + length];
        if crc32fast::hash(form).to_le_bytes() != sum {
            return Ok(None);
        }
        let offset = self.offset;
        self.taken = from + length;
        self.offset += (FRAME_PREFIX + length) as u64;
        Ok(Some(Frame { offset, next: self.offset, form }))
    }

    /// Makes `wanted` bytes from the current offset on available; false if there are fewer.
    fn fill(&mut self, wanted: usize) -> io::Result<bool> {
        if self.filled - self.taken >= wanted {
            return Ok(true);
        }
        self.buffer.copy_within(self.taken..self.filled, 0);
        self.filled -= self.taken;
        self.taken = 0;
        let room = self.end.saturating_sub(self.offset);
        let size = usize::try_from(room).unwrap_or(usize::MAX).min(wanted.max(READ_AHEAD));
        if size < wanted {
            return Ok(false);
        }
        if self.buffer.len() < size {
            self.buffer.resize(size, 0);
        }
        let at = self.offset + self.filled as u64;
        self.filled += self.source.read_at(&mut self.buffer[self.filled..size], at)?;
        Ok(self.filled >= wanted)
    }
}

/// Reads the spool of a runner that is gone. Whatever the file holds, it ends, stays within
/// bounds and gives positions that rise.
#[derive(Debug)]
pub struct SpoolReader<R> {
    header: SpoolHeader,
    frames: Frames<R>,
    last: Option<Position>,
    left_out: u64,
}

impl<R: ReadAt> SpoolReader<R> {
    /// Begins after `after`, the last record that the server has stored. None if the file is empty
    /// or no spool of ours: then there is nothing to drain.
    ///
    /// # Errors
    /// When the source can't be read.
    pub fn open(source: R, after: Option<Position>) -> io::Result<Option<Self>> {
        let mut head = [0; HEADER_BYTES];
        let n = source.read_at(&mut head, 0)?;
        let Some(header) = SpoolHeader::decode(&head[..n]) else { return Ok(None) };
        let end = header.start.saturating_add(READ_MAX);
        let frames = Frames::new(source, header.start, end);
        Ok(Some(Self { header, frames, last: after, left_out: 0 }))
    }

    /// What the file says of itself.
    pub fn header(&self) -> SpoolHeader {
        self.header
    }

    /// How many whole frames were left out because their content made no sense or their position
    /// did not rise beyond what was read before.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// The next record with its bytes; none at the end.
    ///
    /// # Errors
    /// When the source can't be read.
    pub fn next_record(&mut self) -> io::Result<Option<(Record, Bytes)>> {
        while let Some(frame) = self.frames.next_frame()? {
            match record::decode(frame.form) {
                Ok((record, bytes)) if self.last.is_none_or(|last| record.position > last) => {
                    self.last = Some(record.position);
                    return Ok(Some((record, Bytes::copy_from_slice(bytes))));
                }
                Ok(_) | Err(_) => self.left_out += 1,
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use boatyard_model::{EventBody, SessionId, Timestamp};
    use proptest::prelude::*;

    use super::*;
    use crate::message::RecordKind;

    fn record(epoch: u64, n: u64, text: &str) -> Record {
        Record {
            position: Position { epoch, n },
            session: SessionId::from_u128(7),
            time: Timestamp(5),
            turn: Some(1),
            what: RecordKind::Event(EventBody::MessageDelta {
                message: "m".into(),
                text: text.into(),
            }),
        }
    }

    fn spool(records: &[Record]) -> (Vec<u8>, Vec<usize>) {
        let mut file = SpoolHeader::new(3).encode().to_vec();
        file.resize(usize::try_from(FRAMES_START).unwrap(), 0);
        let mut ends = Vec::new();
        for r in records {
            file.extend(frame(&record::encode(r, &[]).unwrap()));
            ends.push(file.len());
        }
        (file, ends)
    }

    fn read(file: &[u8], after: Option<Position>) -> Vec<Record> {
        let Some(mut reader) = SpoolReader::open(file, after).unwrap() else { return Vec::new() };
        let mut out = Vec::new();
        while let Some((r, _)) = reader.next_record().unwrap() {
            out.push(r);
        }
        out
    }

    fn some_records() -> impl Strategy<Value = Vec<Record>> {
        proptest::collection::vec("[a-z]{0,80}", 0..20).prop_map(|texts| {
            texts.iter().enumerate().map(|(i, t)| record(3, i as u64 + 1, t)).collect()
        })
    }

    #[test]
    fn an_empty_or_foreign_file_holds_nothing() {
        assert!(SpoolReader::open(&b""[..], None).unwrap().is_none());
        assert!(SpoolReader::open(&[7_u8; 5000][..], None).unwrap().is_none());
    }

    #[test]
    fn reading_goes_on_after_what_is_stored() {
        let records = [record(2, 9, "a"), record(3, 1, "b"), record(3, 2, "c")];
        let (file, _) = spool(&records);
        assert_eq!(read(&file, None), records);
        assert_eq!(read(&file, Some(Position { epoch: 2, n: 9 })), records[1..]);
        assert_eq!(read(&file, Some(Position { epoch: 3, n: 2 })), []);
    }

    #[test]
    fn a_position_that_falls_back_is_left_out() {
        let (file, _) = spool(&[record(3, 1, "a"), record(3, 1, "again"), record(3, 2, "b")]);
        let mut reader = SpoolReader::open(&file[..], None).unwrap().unwrap();
        let mut n = 0;
        while reader.next_record().unwrap().is_some() {
            n += 1;
        }
        assert_eq!((n, reader.left_out()), (2, 1));
    }

    #[test]
    fn the_table_fits_its_page_and_survives_a_round_trip() {
        let entries: Vec<_> = (0..SESSIONS_MAX as u32)
            .map(|i| SessionEntry {
                session: SessionId::new(),
                last_turn: i,
                began: (i % 2 == 0).then_some(Timestamp(i64::from(i))),
            })
            .collect();
        let mut page = vec![0; TABLE_START as usize];
        page.extend(encode_table(&entries));
        assert!(page.len() as u64 <= FRAMES_START);
        page.resize(FRAMES_START as usize, 0);
        assert_eq!(decode_table(&page[TABLE_START as usize..]), entries);
        page[100] ^= 1;
        assert_eq!(decode_table(&page[TABLE_START as usize..]), []);
        assert_eq!(decode_table(&[0xff; 8]), []);
    }

    #[test]
    fn a_start_far_away_ends_at_once() {
        let header = SpoolHeader { start: u64::MAX - 3, ..SpoolHeader::new(1) };
        assert_eq!(read(&header.encode(), None), []);
    }

    proptest! {
        #[test]
        fn a_torn_write_loses_only_what_was_torn(records in some_records(), cut in 0.0..1.0_f64) {
            let (file, ends) = spool(&records);
            let frames = file.len() - 4096;
            let at = 4096 + (frames as f64 * cut) as usize;
            let whole = ends.iter().filter(|end| **end <= at).count();
            prop_assert_eq!(read(&file[..at], None), &records[..whole]);
        }

        #[test]
        fn a_flipped_bit_loses_only_what_follows(
            records in some_records(), place in any::<proptest::sample::Index>(), bit in 0..8_u8,
        ) {
            let (mut file, ends) = spool(&records);
            prop_assume!(file.len() > 4096);
            let at = 4096 + place.index(file.len() - 4096);
            file[at] ^= 1 << bit;
            let whole = ends.iter().filter(|end| **end <= at).count();
            prop_assert_eq!(read(&file, None), &records[..whole]);
        }

        #[test]
        fn a_flipped_bit_in_the_header_is_seen(place in 0..HEADER_BYTES, bit in 0..8_u8) {
            let (mut file, _) = spool(&[record(3, 1, "a")]);
            file[place] ^= 1 << bit;
            prop_assert!(SpoolReader::open(&file[..], None).unwrap().is_none());
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut file = SpoolHeader::new(1).encode().to_vec();
            file.resize(4096, 0);
            file.extend(bytes);
            read(&file, None);
        }
    }
}
