//! The spool as the runner writes it.
//!
//! Every record is in the spool before it is sent, and stays there until the server has stored it.
//! The file (format: `boatyard_link::spool`) is held by descriptor only and bounded: while it is
//! full, [`Spool::append`] waits, the sessions take nothing from their drivers, and the drivers
//! read nothing from the agents.
//!
//! ```text
//! 0    4096        start                         end
//! │page│  released, │  not yet acknowledged:     │
//! │    │  a hole    │  kept, sent on each link   │ ◄ append
//! ```
//!
//! Invariants: positions rise by one within a generation, over all restarts of `serve`; a record
//! is never overwritten before it is released; when all is released the file shrinks to its page
//! (a new *era*: offsets begin anew).

use std::{
    collections::VecDeque,
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use boatyard_link::{
    message::{Position, Record, RecordKind},
    record::{self, RecordError},
    spool::{
        self, FRAMES_START, Frames, HEADER_BYTES, SessionEntry, SpoolHeader, TABLE_START,
        decode_table, encode_table,
    },
};
use boatyard_model::{EventBody, SessionId, Timestamp};
use rustix::fs::FallocateFlags;
use tokio::sync::watch;

/// One remembered offset for so many bytes of frames: a reader finds its place within a few
/// hundred records, and a full spool needs a thousand marks.
const MARK_EVERY: u64 = 64 << 10;

/// Released bytes are given back to the disk in steps of this size, not at each acknowledgement.
const PUNCH_EVERY: u64 = 4 << 20;

/// An empty spool smaller than this is left as it is: shrinking costs two system calls.
const SHRINK_ABOVE: u64 = 1 << 20;

/// How long a record waits before it tries a full disk again.
const DISK_FULL_RETRY: Duration = Duration::from_secs(1);

/// What is to be recorded; the spool gives it its position.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// Whose it is.
    pub session: SessionId,
    /// When it happened.
    pub time: Timestamp,
    /// In which turn.
    pub turn: Option<u32>,
    /// What it is.
    pub what: RecordKind,
}

/// Why something could not be written to the spool.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The record itself can't be written.
    #[error("the record can't be kept")]
    Record(#[source] RecordError),
    /// The file failed.
    #[error("the spool can't be {action}")]
    Io {
        /// `read` or `written`.
        action: &'static str,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
}

/// The spool of this workspace.
#[derive(Debug)]
pub struct Spool {
    inner: Mutex<Inner>,
    /// Records are appended in the order in which they were asked for.
    queue: tokio::sync::Mutex<()>,
    /// How far it reaches.
    last: watch::Sender<Position>,
    /// Changes when records are released.
    released: watch::Sender<Position>,
}

/// A reader's place.
#[derive(Debug)]
pub struct Cursor {
    era: u64,
    offset: u64,
    /// Records up to here are not wanted.
    after: Option<Position>,
}

#[derive(Debug)]
struct Inner {
    file: File,
    capacity: u64,
    last: Position,
    /// Where the first record begins that may not be released.
    start: u64,
    /// Where the next record will begin.
    end: u64,
    /// Everything before is a hole.
    punched: u64,
    era: u64,
    released: Position,
    /// Where some of the records begin, the oldest first.
    marks: VecDeque<(Position, u64)>,
    header: SpoolHeader,
}

impl Spool {
    /// Takes over the spool of this workspace: cuts off a record that was not written whole and
    /// goes on counting. Gives the sessions that the last runner of this generation left, with
    /// only those turns under way whose end is not in the spool.
    ///
    /// # Errors
    /// When the file can't be read or written.
    pub fn open(
        file: File,
        generation: u64,
        capacity: u64,
    ) -> Result<(Self, Vec<SessionEntry>), Error> {
        let (inner, sessions) =
            Inner::open(file, generation, capacity).map_err(|source| wrote(source, "read"))?;
        let spool = Self {
            last: watch::Sender::new(inner.last),
            released: watch::Sender::new(inner.released),
            inner: Mutex::new(inner),
            queue: tokio::sync::Mutex::new(()),
        };
        Ok((spool, sessions))
    }

    /// Writes a record with the bytes that belong to it. Waits while the spool, or the disk that
    /// it is on, is full.
    ///
    /// # Errors
    /// When the record is too large, or the file fails.
    pub async fn append(&self, draft: &Draft, bytes: &[u8]) -> Result<Position, Error> {
        let _turn = self.queue.lock().await;
        let mut released = self.released.subscribe();
        let position = self.lock().next();
        let record = Record {
            position,
            session: draft.session,
            time: draft.time,
            turn: draft.turn,
            what: draft.what.clone(),
        };
        let frame = spool::frame(&record::encode(&record, bytes).map_err(Error::Record)?);
        loop {
            released.mark_unchanged();
            let outcome = self.lock().write(position, &frame);
            match outcome {
                Ok(Written::Yes) => {
                    self.last.send_replace(position);
                    return Ok(position);
                }
                // The sender lives as long as `self`, so waiting can't fail.
                Ok(Written::Full) => _ = released.changed().await,
                Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                    _ = tokio::time::timeout(DISK_FULL_RETRY, released.changed()).await;
                }
                Err(source) => return Err(wrote(source, "written")),
            }
        }
    }

    /// Forgets everything up to `position`: the server has stored it.
    ///
    /// # Errors
    /// When the file fails.
    pub fn release(&self, position: Position) -> Result<(), Error> {
        let outcome = self.lock().release(position);
        self.released.send_modify(|released| *released = position.max(*released));
        outcome.map_err(|source| wrote(source, "written"))
    }

    /// A place after `after`, or at the oldest record. A spool that was lost takes up the count of
    /// what the server has: a position is never given twice.
    pub fn cursor(&self, after: Option<Position>) -> Cursor {
        let mut inner = self.lock();
        if let Some(after) = after {
            inner.see(after);
        }
        let offset = after.map_or(inner.start, |after| inner.mark(after));
        Cursor { era: inner.era, offset, after }
    }

    /// Reads on from `cursor`: whole records in the form that crosses the link, about `max` bytes
    /// or one record, appended to `out`. Nothing if there is nothing new.
    ///
    /// # Errors
    /// When the file fails.
    pub fn read(&self, cursor: &mut Cursor, max: usize, out: &mut Vec<u8>) -> Result<(), Error> {
        self.lock().read(cursor, max, out).map_err(|source| wrote(source, "read"))
    }

    /// Tells how far the spool reaches, and when that changes.
    pub fn last(&self) -> watch::Receiver<Position> {
        self.last.subscribe()
    }

    /// Bytes that wait for the server.
    pub fn pending(&self) -> u64 {
        let inner = self.lock();
        inner.end - inner.start
    }

    /// Remembers the sessions for the next runner.
    ///
    /// # Errors
    /// When the file fails.
    pub fn keep_sessions(&self, sessions: &[SessionEntry]) -> Result<(), Error> {
        self.lock()
            .file
            .write_all_at(&encode_table(sessions), TABLE_START)
            .map_err(|source| wrote(source, "written"))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing below panics half-way through a change.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Written {
    Yes,
    Full,
}

impl Inner {
    fn open(file: File, generation: u64, capacity: u64) -> io::Result<(Self, Vec<SessionEntry>)> {
        let mut page = vec![0; usize::try_from(FRAMES_START).unwrap_or(4096)];
        let filled = spool::ReadAt::read_at(&file, &mut page, 0)?;
        let found = SpoolHeader::decode(&page[..filled]);
        let table_at = usize::try_from(TABLE_START).unwrap_or(HEADER_BYTES);
        // The turns of an earlier generation are the server's to close: it drained their spool.
        let sessions = match found {
            Some(header) if header.generation == generation => decode_table(&page[table_at..]),
            _ => Vec::new(),
        };
        let mut header = found.unwrap_or(SpoolHeader::new(generation));
        header.generation = generation;
        if header.start > file.metadata()?.len() {
            header.start = FRAMES_START;
        }
        let mut inner = Self {
            capacity,
            last: Position { epoch: generation, n: 0 },
            start: header.start,
            end: header.start,
            punched: header.start,
            era: 0,
            released: header.released,
            marks: VecDeque::new(),
            header,
            file,
        };
        inner.see(header.released);
        let sessions = inner.recover(sessions)?;
        inner.file.set_len(inner.end)?;
        inner.file.write_all_at(&inner.header.encode(), 0)?;
        inner.file.write_all_at(&encode_table(&sessions), TABLE_START)?;
        Ok((inner, sessions))
    }

    /// Walks over what is there: finds the end, the last position and the places.
    fn recover(&mut self, mut sessions: Vec<SessionEntry>) -> io::Result<Vec<SessionEntry>> {
        // A hostile file could be endless; ours never holds more than its capacity and a record.
        let limit = self.start.saturating_add(2 * self.capacity.max(spool::CAPACITY));
        let file = self.file.try_clone()?;
        let mut frames = Frames::new(file, self.start, limit);
        while let Some(frame) = frames.next_frame()? {
            let Ok(position) = record::position(frame.form) else { break };
            self.end = frame.next;
            self.see(position);
            self.mark_if_due(position, frame.offset);
            if sessions.iter().any(|s| s.began.is_some()) {
                close_turn(&mut sessions, frame.form);
            }
        }
        Ok(sessions)
    }

    fn see(&mut self, position: Position) {
        if position.epoch == self.last.epoch {
            self.last = self.last.max(position);
        }
    }

    fn next(&self) -> Position {
        Position { epoch: self.last.epoch, n: self.last.n + 1 }
    }

    fn write(&mut self, position: Position, frame: &[u8]) -> io::Result<Written> {
        let length = frame.len() as u64;
        let used = self.end - self.start;
        // A record larger than a (test's small) spool may have it alone.
        if used > 0 && used + length > self.capacity {
            return Ok(Written::Full);
        }
        if let Err(error) = self.file.write_all_at(frame, self.end) {
            // What was written of it must not be taken for a record later.
            self.file.set_len(self.end)?;
            return Err(error);
        }
        self.mark_if_due(position, self.end);
        self.end += length;
        self.last = position;
        Ok(Written::Yes)
    }

    fn mark_if_due(&mut self, position: Position, offset: u64) {
        if self.marks.back().is_none_or(|(_, at)| offset - at >= MARK_EVERY) {
            self.marks.push_back((position, offset));
        }
    }

    /// The latest known place that has nothing wanted before it.
    fn mark(&self, after: Position) -> u64 {
        let later = self.marks.partition_point(|(position, _)| *position <= after);
        later.checked_sub(1).map_or(self.start, |i| self.marks[i].1)
    }

    fn release(&mut self, position: Position) -> io::Result<()> {
        let position = position.min(self.last);
        if position <= self.released {
            return Ok(());
        }
        self.released = position;
        if position == self.last {
            self.start = self.end;
            self.marks.clear();
        } else {
            self.start = self.mark(position);
            while self.marks.front().is_some_and(|(_, at)| *at < self.start) {
                self.marks.pop_front();
            }
        }
        if self.start == self.end && self.end - FRAMES_START > SHRINK_ABOVE {
            self.shrink()
        } else if self.start - self.punched >= PUNCH_EVERY {
            self.punch()
        } else {
            Ok(())
        }
    }

    /// Empties the file. The header goes first: what a crash leaves behind it was released.
    fn shrink(&mut self) -> io::Result<()> {
        self.start = FRAMES_START;
        self.end = FRAMES_START;
        self.punched = FRAMES_START;
        self.era += 1;
        self.write_header()?;
        self.file.set_len(FRAMES_START)
    }

    fn punch(&mut self) -> io::Result<()> {
        self.write_header()?;
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.file, flags, self.punched, self.start - self.punched) {
            // A file system without holes keeps the bytes until the spool is empty.
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
        self.punched = self.start;
        Ok(())
    }

    fn write_header(&mut self) -> io::Result<()> {
        self.header.start = self.start;
        self.header.released = self.released;
        self.file.write_all_at(&self.header.encode(), 0)
    }

    fn read(&self, cursor: &mut Cursor, max: usize, out: &mut Vec<u8>) -> io::Result<()> {
        if cursor.era != self.era {
            // Everything that was there then is released; all that is here now is new.
            *cursor = Cursor { era: self.era, offset: FRAMES_START, after: None };
        }
        let from = cursor.offset.max(self.start);
        let mut frames = Frames::new(&self.file, from, self.end);
        let before = out.len();
        while out.len() - before < max
            && let Some(frame) = frames.next_frame()?
        {
            cursor.offset = frame.next;
            if let Some(after) = cursor.after {
                if record::position(frame.form).is_ok_and(|position| position <= after) {
                    continue;
                }
                cursor.after = None;
            }
            // The last one may be large; better a batch too small than one too large.
            if out.len() > before && out.len() - before + frame.form.len() > max {
                cursor.offset = frame.offset;
                break;
            }
            out.extend_from_slice(frame.form);
        }
        Ok(())
    }
}

/// Marks a session's turn as over if this record says so.
fn close_turn(sessions: &mut [SessionEntry], form: &[u8]) {
    let Ok((record, _)) = record::decode(form) else { return };
    if let RecordKind::Event(EventBody::TurnCompleted { .. }) = record.what {
        for entry in sessions {
            if entry.session == record.session && Some(entry.last_turn) == record.turn {
                entry.began = None;
            }
        }
    }
}

fn wrote(source: io::Error, action: &'static str) -> Error {
    Error::Io { action, source }
}

#[cfg(test)]
#[path = "spool/tests.rs"]
mod tests;
