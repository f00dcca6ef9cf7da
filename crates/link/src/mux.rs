//! Many streams over one connection, as a state machine without sockets, tasks or clocks.
//!
//! Frames that came go in by [`Mux::receive`]; frames to send come out by [`Mux::transmit`];
//! applications act through the methods between. [`Mux::take_events`] says whom to wake.
//!
//! ```text
//!   write ─► send queue ─► round robin ─► transmit ═════ receive ─► inbox ─► read
//!              (bounded)    QUANTUM each    wire          (≤ window)            │
//!                              ▲                                                │
//!                              └──────────────── Credit ◄───────────────────────┘
//! ```
//!
//! Invariants, each held by a property test:
//! - bytes come out of a stream in the order and number in which they went in, then its end;
//! - a stream's inbox never holds more than its window, its send queue never more than
//!   [`Config::send_buffer`] (and one quantum);
//! - a stream without credit or without a reader does not delay any other;
//! - whatever is queued for control is bounded, and reading from the wire never has to stop, so
//!   two sides can't wait for each other.
//!
//! A stream leaves the table when both directions have ended on the wire and both its halves
//! were dropped here. Ids are not used again before all 2³¹ of a side have been; a frame for a
//! stream that has left the table is ignored, one for a stream that never was is a violation.

mod entry;
mod outbox;
mod receive;
mod transmit;

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;

use self::entry::Entry;
pub use self::{entry::Chunk, outbox::Outbox};
use crate::{
    error::Error,
    frame::{GoAwayCode, MAX_HEADER, ResetCode, StreamId, cut},
    handshake::{Peer, Welcome},
};

/// Which side of a link this is. It decides only who has the odd stream ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Made the connection: the server on native and docker, the runner elsewhere.
    Connector,
    /// Took the connection.
    Acceptor,
}

/// Limits of one side.
#[derive(Debug, Clone)]
pub struct Config {
    /// Which side this is.
    pub role: Role,
    /// What we say first. Its window and stream limit are ours to keep.
    pub welcome: Welcome,
    /// How many bytes a stream takes from its writer before they are on the wire.
    pub send_buffer: usize,
    /// How many received and unread bytes all streams together may hold. Beyond it, a stream
    /// that holds more than a quantum itself is reset.
    pub memory: usize,
}

/// What the other side said when it wanted no new streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Farewell {
    /// Why.
    pub code: GoAwayCode,
    /// When to come back; zero for "as you like".
    pub retry_after: Duration,
    /// Why, for people. Comes from the other side: control characters are taken out.
    pub text: Box<str>,
}

/// Something an application waits for has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The handshake is done.
    Welcome,
    /// A stream waits to be accepted.
    Incoming,
    /// A stream has bytes, an end or an error to read.
    Readable(StreamId),
    /// A stream has room, or an error, for its writer.
    Writable(StreamId),
    /// The other side wants no new streams.
    GoAway,
    /// Our Ping came back.
    Pong(u64),
}

/// What waits to be sent besides data. At most one Credit a stream, one Pong, and an Open or
/// Reset for each stream that came or went; [`Mux::receive`] ends a link that makes it longer
/// than [`Mux::control_limit`].
#[derive(Debug)]
enum Control {
    Welcome,
    Open(StreamId, Bytes),
    Credit(StreamId),
    Reset(StreamId, ResetCode, Box<str>),
    Ping(u64),
    Pong,
    GoAway(GoAwayCode, u32, Box<str>),
}

/// Half of the sequence space: an id further ahead than this is behind.
const SEQUENCE: u32 = 1 << 31;

/// The streams of one link. `A` is what the owner keeps with each, its wakers for instance.
#[derive(Debug)]
pub struct Mux<A> {
    config: Config,
    peer: Option<Peer>,
    streams: HashMap<StreamId, Entry<A>>,
    /// How many in the table were opened by us, and by the other side.
    ours: u32,
    theirs: u32,
    /// The sequence number (id without its parity) of the last stream each side opened.
    last_ours: u32,
    last_theirs: u32,
    control: VecDeque<Control>,
    /// Whose turn it is: streams that have something to send and may.
    ready: VecDeque<StreamId>,
    incoming: VecDeque<(StreamId, Bytes)>,
    /// Received and unread bytes of all streams, and headers not yet accepted.
    held: usize,
    /// The number of the Ping to answer, kept out of `control` so that many Pings cost one Pong.
    pong: Option<u64>,
    /// Whether we take no more streams and open none.
    is_closing: bool,
    /// Why the other side takes none.
    farewell: Option<Farewell>,
    events: Vec<Event>,
}

impl<A: Default> Mux<A> {
    /// A link's state before anything was sent or received.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            peer: None,
            streams: HashMap::new(),
            ours: 0,
            theirs: 0,
            last_ours: 0,
            last_theirs: 0,
            control: VecDeque::from([Control::Welcome]),
            ready: VecDeque::new(),
            incoming: VecDeque::new(),
            held: 0,
            pong: None,
            is_closing: false,
            farewell: None,
            events: Vec::new(),
        }
    }

    /// What happened since this was last called, oldest first.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Gives back the memory of [`Self::take_events`], to be used again.
    pub fn give_back(&mut self, mut events: Vec<Event>) {
        if self.events.is_empty() {
            events.clear();
            self.events = events;
        }
    }

    /// Whether [`Self::go_away`] was called.
    pub fn is_closing(&self) -> bool {
        self.is_closing
    }

    /// What the other side said when it wanted no new streams.
    pub fn farewell(&self) -> Option<&Farewell> {
        self.farewell.as_ref()
    }

    /// What the end of the connection by `error` means.
    ///
    /// # Errors
    ///
    /// Unless a side said that it goes and nothing was cut off.
    pub fn explain(&self, error: Error) -> Result<(), Error> {
        match &self.farewell {
            Some(Farewell { code: GoAwayCode::VERSION | GoAwayCode::VIOLATION, text, .. }) => {
                Err(Error::GoingAway { reason: text.clone() })
            }
            None if !self.is_closing => Err(error),
            _ if self.streams.is_empty() => Ok(()),
            _ => Err(error),
        }
    }

    /// The other side, once it has said Welcome.
    pub fn peer(&self) -> Option<&Peer> {
        self.peer.as_ref()
    }

    /// How many streams are in the table.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Received and unread bytes of all streams.
    pub fn held(&self) -> usize {
        self.held
    }

    /// What the owner keeps with a stream; nothing once it has left the table.
    pub fn attachment(&mut self, id: StreamId) -> Option<&mut A> {
        self.streams.get_mut(&id).map(|entry| &mut entry.attachment)
    }

    /// What the owner keeps with each stream in the table.
    pub fn attachments(&mut self) -> impl Iterator<Item = &mut A> {
        self.streams.values_mut().map(|entry| &mut entry.attachment)
    }

    /// Opens a stream. It may be written to at once; bytes wait for the handshake if they must.
    ///
    /// # Errors
    ///
    /// When the header is too long, too many streams are open, or the other side goes away.
    pub fn open(&mut self, header: Bytes) -> Result<StreamId, Error> {
        if header.len() > MAX_HEADER {
            let length = header.len();
            return Err(Error::TooLong { what: "stream header", length, limit: MAX_HEADER });
        }
        if let Some(farewell) = &self.farewell {
            return Err(Error::GoingAway { reason: farewell.text.clone() });
        }
        if self.is_closing {
            return Err(Error::Closed);
        }
        let limit = match &self.peer {
            Some(peer) => peer.max_streams.min(self.config.welcome.max_streams),
            None => self.config.welcome.max_streams,
        };
        if self.ours >= limit || self.control.len() >= self.control_limit() {
            return Err(Error::TooManyStreams { limit });
        }
        let id = self.next_id();
        let credit = self.peer.as_ref().map_or(0, |peer| peer.window);
        self.streams.insert(id, Entry::new(credit, self.config.welcome.window));
        self.ours += 1;
        self.control.push_back(Control::Open(id, header));
        Ok(id)
    }

    /// The next stream that the other side opened, and its header.
    pub fn accept(&mut self) -> Option<(StreamId, Bytes)> {
        let (id, header) = self.incoming.pop_front()?;
        self.held -= header.len();
        Some((id, header))
    }

    /// Whether a stream waits to be accepted.
    pub fn has_incoming(&self) -> bool {
        !self.incoming.is_empty()
    }

    /// Puts bytes into a stream's send queue and says how many; when zero, [`Event::Writable`]
    /// follows.
    ///
    /// # Errors
    ///
    /// When the stream has ended for writing.
    pub fn write(&mut self, id: StreamId, bytes: &[u8]) -> Result<usize, Error> {
        let limit = self.config.send_buffer;
        let entry = self.streams.get_mut(&id).ok_or(Error::Ended)?;
        let taken = entry.write(bytes, limit)?;
        self.schedule(id);
        Ok(taken)
    }

    /// As [`Self::write`], without copying: takes from the front of `bytes`.
    ///
    /// # Errors
    ///
    /// When the stream has ended for writing.
    pub fn write_bytes(&mut self, id: StreamId, bytes: &mut Bytes) -> Result<usize, Error> {
        let limit = self.config.send_buffer;
        let entry = self.streams.get_mut(&id).ok_or(Error::Ended)?;
        let taken = entry.write_bytes(bytes, limit)?;
        self.schedule(id);
        Ok(taken)
    }

    /// Ends the stream for writing, after what is queued.
    ///
    /// # Errors
    ///
    /// When it was reset.
    pub fn finish(&mut self, id: StreamId) -> Result<(), Error> {
        self.streams.get_mut(&id).ok_or(Error::Ended)?.finish()?;
        self.schedule(id);
        Ok(())
    }

    /// Takes at most `max` bytes that came, or the end; when there is neither,
    /// [`Event::Readable`] follows.
    ///
    /// # Errors
    ///
    /// When the stream was reset and everything before that was read.
    pub fn read(&mut self, id: StreamId, max: usize) -> Result<Chunk, Error> {
        let entry = self.streams.get_mut(&id).ok_or(Error::Ended)?;
        let chunk = entry.read(max)?;
        if let Chunk::Bytes(bytes) = &chunk {
            self.held -= bytes.len();
            if entry.owes_credit(self.config.welcome.window) {
                entry.credit_queued = true;
                self.control.push_back(Control::Credit(id));
            }
        }
        Ok(chunk)
    }

    /// Ends both directions of a stream now; what was queued is not sent, what came is not read.
    pub fn reset(&mut self, id: StreamId, code: ResetCode, text: &str) {
        let Some(entry) = self.streams.get_mut(&id) else { return };
        if !entry.is_over_on_the_wire() {
            self.held -= entry.discard();
            self.cut(id, code, text);
        }
    }

    /// The writer of a stream is gone. If it did not [`Self::finish`], the other side must not
    /// take what came for the whole: the stream is reset. What the other side has sent before it
    /// learns of that can still be read.
    pub fn drop_writer(&mut self, id: StreamId) {
        let Some(entry) = self.streams.get_mut(&id) else { return };
        entry.writer_alive = false;
        if entry.is_open_for_writing() {
            self.cut(id, ResetCode::CANCELLED, "");
        } else {
            self.cancel_rest(id);
        }
    }

    /// The reader of a stream is gone. What still comes is thrown away; once our own half is
    /// complete, the stream is reset.
    pub fn drop_reader(&mut self, id: StreamId) {
        let Some(entry) = self.streams.get_mut(&id) else { return };
        self.held -= entry.drop_reader();
        if entry.owes_credit(self.config.welcome.window) {
            entry.credit_queued = true;
            self.control.push_back(Control::Credit(id));
        }
        self.cancel_rest(id);
    }

    /// Tells the other side to open no more streams. Those that are open go on; those that were
    /// not accepted yet, or come all the same, are refused.
    pub fn go_away(&mut self, code: GoAwayCode, retry_after_ms: u32, text: &str) {
        if self.is_closing {
            return;
        }
        self.is_closing = true;
        self.control.push_back(Control::GoAway(code, retry_after_ms, cut(text).into()));
        while let Some((id, _)) = self.accept() {
            self.reset(id, ResetCode::REFUSED, "the link is closing");
            self.drop_reader(id);
            self.drop_writer(id);
        }
    }

    /// Asks the other side for a Pong.
    pub fn ping(&mut self, number: u64) {
        self.control.push_back(Control::Ping(number));
    }

    /// Far more than a link in good order needs: an answer for every stream of both sides.
    fn control_limit(&self) -> usize {
        2 * self.config.welcome.max_streams as usize + 64
    }

    /// After one half was dropped and the other is complete: nobody here wants the rest.
    fn cancel_rest(&mut self, id: StreamId) {
        let Some(entry) = self.streams.get_mut(&id) else { return };
        if entry.is_abandoned() {
            self.reset(id, ResetCode::CANCELLED, "");
        } else {
            self.forget_if_done(id);
        }
    }

    /// Ends a stream that still crosses the wire, from this side.
    fn cut(&mut self, id: StreamId, code: ResetCode, text: &str) {
        let Some(entry) = self.streams.get_mut(&id) else { return };
        entry.end_here();
        self.control.push_back(Control::Reset(id, code, cut(text).into()));
        self.events.extend([Event::Readable(id), Event::Writable(id)]);
        self.forget_if_done(id);
    }

    fn forget_if_done(&mut self, id: StreamId) {
        let is_done = self.streams.get(&id).is_some_and(Entry::is_done);
        if !is_done {
            return;
        }
        if let Some(entry) = self.streams.remove(&id) {
            self.held -= entry.unread();
            if self.is_ours(id) {
                self.ours -= 1;
            } else {
                self.theirs -= 1;
            }
        }
    }

    /// Puts a stream into the round if it has something to send and may, and is not in it.
    fn schedule(&mut self, id: StreamId) {
        if let Some(entry) = self.streams.get_mut(&id)
            && !entry.in_round
            && entry.can_send()
        {
            entry.in_round = true;
            self.ready.push_back(id);
        }
    }

    fn is_ours(&self, id: StreamId) -> bool {
        let is_odd = id.get() % 2 == 1;
        is_odd == (self.config.role == Role::Connector)
    }

    /// The number of a stream among those of its side, from 1.
    fn sequence(&self, id: StreamId) -> u32 {
        id.get().div_ceil(2) % SEQUENCE
    }

    /// The next id of ours that is not in use.
    fn next_id(&mut self) -> StreamId {
        loop {
            self.last_ours = (self.last_ours + 1) % SEQUENCE;
            let number = match self.config.role {
                Role::Connector => self.last_ours.wrapping_mul(2).wrapping_sub(1),
                Role::Acceptor => self.last_ours.wrapping_mul(2),
            };
            // Zero only where the sequence wraps; the table holds far fewer than all.
            if let Some(id) = StreamId::new(number)
                && !self.streams.contains_key(&id)
            {
                return id;
            }
        }
    }
}

#[cfg(test)]
mod tests;
