//! One stream: what waits to be sent, what came and was not read, and how far each direction is.
//!
//! ```text
//! sending:    Open ──finish──► Finishing ──Fin sent──► Finished
//! receiving:  Open ──Fin came──► Ended
//! either way: ──Reset sent or came──► `over` (both directions)
//! ```

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::{
    error::{Error, Violation},
    frame::{QUANTUM, ResetCode, StreamId},
};

/// The most credit that a stream can hold; no receiver has reason to grant more.
const MAX_CREDIT: u32 = 1 << 30;

/// Received frames below this size share memory.
const GATHER_BELOW: usize = 1024;

/// What [`super::Mux::read`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chunk {
    /// Bytes, at least one.
    Bytes(Bytes),
    /// Nothing yet.
    Nothing,
    /// Everything was read and nothing more comes.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    Open,
    Finishing,
    Finished,
}

/// Why a stream ended before both directions were complete.
#[derive(Debug, Clone)]
enum Over {
    Here,
    There { code: ResetCode, text: Box<str> },
}

/// A stream's state. Between messages its queues hold no memory.
#[derive(Debug)]
pub(super) struct Entry<A> {
    /// Bytes to send: whole pieces, then the one that small writes are gathered in.
    queue: VecDeque<Bytes>,
    tail: BytesMut,
    queued: usize,
    credit: u32,
    sending: Sending,
    /// The writer found the queue full and waits for [`super::Event::Writable`].
    writer_waits: bool,

    /// Bytes to read: whole pieces, then the one that small frames are gathered in, so that a
    /// frame of one byte does not cost a hundred.
    inbox: VecDeque<Bytes>,
    gathered: BytesMut,
    unread: usize,
    /// What the other side may still send.
    granted: u32,
    /// What was read and not yet granted again.
    consumed: u32,
    has_ended: bool,
    over: Option<Over>,

    pub(super) credit_queued: bool,
    pub(super) in_round: bool,
    pub(super) writer_alive: bool,
    reader_alive: bool,
    pub(super) attachment: A,
}

impl<A: Default> Entry<A> {
    pub(super) fn new(credit: u32, window: u32) -> Self {
        Self {
            queue: VecDeque::new(),
            tail: BytesMut::new(),
            queued: 0,
            credit: credit.min(MAX_CREDIT),
            sending: Sending::Open,
            writer_waits: false,
            inbox: VecDeque::new(),
            gathered: BytesMut::new(),
            unread: 0,
            granted: window,
            consumed: 0,
            has_ended: false,
            over: None,
            credit_queued: false,
            in_round: false,
            writer_alive: true,
            reader_alive: true,
            attachment: A::default(),
        }
    }
}

/// What the application does.
impl<A> Entry<A> {
    fn check_writable(&self) -> Result<(), Error> {
        match (&self.over, self.sending) {
            (Some(Over::There { code, text }), _) => {
                Err(Error::Reset { code: *code, text: text.clone() })
            }
            (Some(Over::Here), _) | (None, Sending::Finishing | Sending::Finished) => {
                Err(Error::Ended)
            }
            (None, Sending::Open) => Ok(()),
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8], limit: usize) -> Result<usize, Error> {
        self.check_writable()?;
        let taken = bytes.len().min(limit.saturating_sub(self.queued));
        self.writer_waits = taken == 0 && !bytes.is_empty();
        let mut rest = &bytes[..taken];
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(QUANTUM - self.tail.len()));
            self.tail.extend_from_slice(piece);
            rest = after;
            if self.tail.len() == QUANTUM {
                self.queue.push_back(std::mem::take(&mut self.tail).freeze());
            }
        }
        self.queued += taken;
        Ok(taken)
    }

    pub(super) fn write_bytes(&mut self, bytes: &mut Bytes, limit: usize) -> Result<usize, Error> {
        self.check_writable()?;
        let taken = bytes.len().min(limit.saturating_sub(self.queued));
        self.writer_waits = taken == 0 && !bytes.is_empty();
        if taken > 0 {
            if !self.tail.is_empty() {
                self.queue.push_back(std::mem::take(&mut self.tail).freeze());
            }
            self.queue.push_back(bytes.split_to(taken));
            self.queued += taken;
        }
        Ok(taken)
    }

    pub(super) fn finish(&mut self) -> Result<(), Error> {
        match (&self.over, self.sending) {
            (None, Sending::Open) => self.sending = Sending::Finishing,
            (None, _) => {}
            (Some(_), Sending::Finished) => {}
            (Some(_), _) => return self.check_writable(),
        }
        Ok(())
    }

    pub(super) fn read(&mut self, max: usize) -> Result<Chunk, Error> {
        if self.inbox.is_empty() {
            self.push_gathered();
        }
        if let Some(front) = self.inbox.front_mut() {
            let bytes = if front.len() > max { front.split_to(max) } else { std::mem::take(front) };
            if front.is_empty() {
                self.inbox.pop_front();
                if self.inbox.is_empty() {
                    self.inbox = VecDeque::new();
                }
            }
            self.unread -= bytes.len();
            self.consumed += bytes.len() as u32;
            return Ok(Chunk::Bytes(bytes));
        }
        match &self.over {
            // The end came before the reset: what was received is complete.
            _ if self.has_ended => Ok(Chunk::End),
            None => Ok(Chunk::Nothing),
            Some(Over::Here) => Err(Error::Ended),
            Some(Over::There { code, text }) => {
                Err(Error::Reset { code: *code, text: text.clone() })
            }
        }
    }

    /// Throws away what is unread, and says how much that was.
    pub(super) fn drop_reader(&mut self) -> usize {
        self.reader_alive = false;
        self.consumed += self.unread as u32;
        self.clear_inbox()
    }

    /// Ends both directions from this side. What came can still be read.
    pub(super) fn end_here(&mut self) {
        self.over = Some(Over::Here);
        self.clear_queue();
    }

    /// Throws away what came, because the reader asked for the end; says how much that was.
    pub(super) fn discard(&mut self) -> usize {
        self.has_ended = false;
        self.clear_inbox()
    }

    fn clear_inbox(&mut self) -> usize {
        self.inbox = VecDeque::new();
        self.gathered = BytesMut::new();
        std::mem::take(&mut self.unread)
    }

    fn push_gathered(&mut self) {
        if !self.gathered.is_empty() {
            self.inbox.push_back(std::mem::take(&mut self.gathered).freeze());
        }
    }

    fn clear_queue(&mut self) {
        self.queue = VecDeque::new();
        self.tail = BytesMut::new();
        self.queued = 0;
        self.writer_waits = false;
    }
}

/// What the other side does.
impl<A> Entry<A> {
    /// Takes data that came, and says how much of it is now unread.
    pub(super) fn receive(&mut self, id: StreamId, bytes: &[u8]) -> Result<usize, Violation> {
        if matches!(self.over, Some(Over::There { .. })) || self.has_ended {
            return Err(Violation::AfterFin(id));
        }
        if self.over.is_some() {
            // On its way before our reset arrived.
            return Ok(0);
        }
        let length = bytes.len() as u32;
        self.granted = self.granted.checked_sub(length).ok_or(Violation::Window(id))?;
        if !self.reader_alive {
            self.consumed += length;
            return Ok(0);
        }
        if bytes.len() < GATHER_BELOW {
            self.gathered.extend_from_slice(bytes);
            if self.gathered.len() >= 4 * GATHER_BELOW {
                self.push_gathered();
            }
        } else {
            self.push_gathered();
            self.inbox.push_back(Bytes::copy_from_slice(bytes));
        }
        self.unread += bytes.len();
        Ok(bytes.len())
    }

    pub(super) fn receive_fin(&mut self) -> Result<(), ()> {
        match self.over {
            Some(Over::Here) => Ok(()),
            None if !self.has_ended => {
                self.has_ended = true;
                Ok(())
            }
            _ => Err(()),
        }
    }

    /// Takes a reset, and says whether everything had come before it.
    pub(super) fn receive_reset(&mut self, code: ResetCode, text: &str) -> bool {
        if self.over.is_none() {
            self.over =
                Some(Over::There { code, text: text.replace(char::is_control, " ").into() });
            self.clear_queue();
        }
        self.has_ended
    }

    pub(super) fn add_credit(&mut self, bytes: u32) -> Result<(), ()> {
        let credit = self.credit.checked_add(bytes).filter(|credit| *credit <= MAX_CREDIT);
        self.credit = credit.ok_or(())?;
        Ok(())
    }

    pub(super) fn set_credit(&mut self, window: u32) {
        self.credit = window.min(MAX_CREDIT);
    }
}

/// What the scheduler asks and takes.
impl<A> Entry<A> {
    /// The next bytes to send: at most `max`, and no more than credit allows.
    pub(super) fn next(&mut self, max: usize) -> Option<Bytes> {
        if self.queue.is_empty() && !self.tail.is_empty() {
            self.queue.push_back(std::mem::take(&mut self.tail).freeze());
        }
        let max = max.min(self.credit as usize);
        let front = self.queue.front_mut()?;
        if max == 0 {
            return None;
        }
        let bytes = if front.len() > max { front.split_to(max) } else { std::mem::take(front) };
        if front.is_empty() {
            self.queue.pop_front();
            if self.queue.is_empty() {
                self.queue = VecDeque::new();
            }
        }
        self.queued -= bytes.len();
        self.credit -= bytes.len() as u32;
        Some(bytes)
    }

    /// Whether it is time for Fin; if so, it counts as sent.
    pub(super) fn take_fin(&mut self) -> bool {
        let is_due = self.over.is_none() && self.sending == Sending::Finishing && self.queued == 0;
        if is_due {
            self.sending = Sending::Finished;
        }
        is_due
    }

    /// Whether a writer that found the queue full should be woken: half of it is free again.
    pub(super) fn take_writable(&mut self, limit: usize) -> bool {
        let is_due = self.writer_waits && self.queued <= limit / 2;
        if is_due {
            self.writer_waits = false;
        }
        is_due
    }

    /// What was read and not yet granted again, now granted.
    pub(super) fn take_credit(&mut self) -> Option<u32> {
        self.credit_queued = false;
        if self.over.is_some() || self.has_ended || self.consumed == 0 {
            return None;
        }
        self.granted += self.consumed;
        Some(std::mem::take(&mut self.consumed))
    }

    /// Whether so much was read that granting it is worth a frame: a quarter of the window.
    pub(super) fn owes_credit(&self, window: u32) -> bool {
        !self.credit_queued && self.consumed >= window / 4 && self.over.is_none() && !self.has_ended
    }

    pub(super) fn can_send(&self) -> bool {
        let has_data = self.queued > 0 && self.credit > 0;
        let has_fin = self.queued == 0 && self.sending == Sending::Finishing;
        self.over.is_none() && (has_data || has_fin)
    }

    pub(super) fn unread(&self) -> usize {
        self.unread
    }

    pub(super) fn is_open_for_writing(&self) -> bool {
        self.over.is_none() && self.sending == Sending::Open
    }

    /// Nothing more crosses the wire for it.
    pub(super) fn is_over_on_the_wire(&self) -> bool {
        self.over.is_some() || (self.has_ended && self.sending == Sending::Finished)
    }

    /// Our half is complete, and nobody reads the other side's, which goes on.
    pub(super) fn is_abandoned(&self) -> bool {
        self.over.is_none()
            && self.sending == Sending::Finished
            && !self.has_ended
            && !self.reader_alive
            && !self.writer_alive
    }

    /// Nothing on the wire and nobody here knows it any more.
    pub(super) fn is_done(&self) -> bool {
        self.is_over_on_the_wire() && !self.writer_alive && !self.reader_alive
    }
}
