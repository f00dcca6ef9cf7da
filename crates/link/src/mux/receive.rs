//! What a frame that came does to the streams, and what it must not do.

use std::time::Duration;

use bytes::Bytes;

use super::{Control, Event, Farewell, Mux, SEQUENCE, entry::Entry};
use crate::{
    error::{Error, Violation},
    frame::{Frame, QUANTUM, ResetCode, StreamId},
    handshake,
};

impl<A: Default> Mux<A> {
    /// Takes one frame that came.
    ///
    /// # Errors
    ///
    /// When the other side broke the protocol or speaks no common version; the link is then
    /// over.
    pub fn receive(&mut self, frame: Frame<'_>) -> Result<(), Error> {
        if let Frame::Welcome(json) = frame {
            return self.receive_welcome(json);
        }
        if let Frame::GoAway { code, retry_after_ms, text } = frame {
            // Even before Welcome: it says why there will be none.
            self.farewell.get_or_insert_with(|| Farewell {
                code,
                retry_after: Duration::from_millis(retry_after_ms.into()),
                text: text.replace(char::is_control, " ").into(),
            });
            self.events.push(Event::GoAway);
            return Ok(());
        }
        let window = match &self.peer {
            Some(peer) => peer.window,
            None => return Err(Violation::Welcome.into()),
        };
        match frame {
            Frame::Open { id, header } => self.receive_open(id, header, window)?,
            Frame::Data { id, bytes } => self.receive_data(id, bytes)?,
            Frame::Credit { id, bytes } => {
                if let Some(entry) = self.known(id)? {
                    entry.add_credit(bytes).map_err(|()| Violation::Credit(id))?;
                    self.schedule(id);
                }
            }
            Frame::Fin { id } => {
                if let Some(entry) = self.known(id)? {
                    entry.receive_fin().map_err(|()| Violation::AfterFin(id))?;
                    self.events.push(Event::Readable(id));
                    self.forget_if_done(id);
                }
            }
            Frame::Reset { id, code, text } => {
                if let Some(entry) = self.known(id)? {
                    let is_complete = entry.receive_reset(code, text);
                    if !is_complete {
                        self.withdraw(id);
                    }
                    self.events.extend([Event::Readable(id), Event::Writable(id)]);
                    self.forget_if_done(id);
                }
            }
            Frame::Ping(number) => {
                if self.pong.replace(number).is_none() {
                    self.control.push_back(Control::Pong);
                }
            }
            Frame::Pong(number) => self.events.push(Event::Pong(number)),
            Frame::Welcome(_) | Frame::GoAway { .. } => {}
        }
        if self.control.len() > 2 * self.control_limit() {
            return Err(Violation::Flood.into());
        }
        Ok(())
    }

    fn receive_welcome(&mut self, json: &[u8]) -> Result<(), Error> {
        if self.peer.is_some() {
            return Err(Violation::Welcome.into());
        }
        let peer = handshake::agree(&self.config.welcome, json)?;
        // Streams that were opened before the other side's window was known.
        let ids: Vec<StreamId> = self.streams.keys().copied().collect();
        for id in ids {
            if let Some(entry) = self.streams.get_mut(&id) {
                entry.set_credit(peer.window);
            }
            self.schedule(id);
        }
        self.peer = Some(peer);
        self.events.push(Event::Welcome);
        Ok(())
    }

    fn receive_open(&mut self, id: StreamId, header: &[u8], window: u32) -> Result<(), Violation> {
        let sequence = self.sequence(id);
        let ahead = sequence.wrapping_sub(self.last_theirs) % SEQUENCE;
        let is_next = (1..SEQUENCE / 2).contains(&ahead);
        if self.is_ours(id) || !is_next || self.streams.contains_key(&id) {
            return Err(Violation::StreamId(id));
        }
        self.last_theirs = sequence;
        // Streams that have ended but are still held by a reader here count as well: the other
        // side can't know of them, so this is a refusal and no violation.
        if self.theirs >= self.config.welcome.max_streams {
            self.control.push_back(Control::Reset(id, ResetCode::REFUSED, "too many".into()));
            return Ok(());
        }
        if self.is_closing {
            let text = "the link is closing".into();
            self.control.push_back(Control::Reset(id, ResetCode::REFUSED, text));
            return Ok(());
        }
        if self.held + header.len() > self.config.memory {
            let text = "too much unread data".into();
            self.control.push_back(Control::Reset(id, ResetCode::OVERLOADED, text));
            return Ok(());
        }
        self.held += header.len();
        self.theirs += 1;
        self.streams.insert(id, Entry::new(window, self.config.welcome.window));
        self.incoming.push_back((id, Bytes::copy_from_slice(header)));
        self.events.push(Event::Incoming);
        Ok(())
    }

    fn receive_data(&mut self, id: StreamId, bytes: &[u8]) -> Result<(), Violation> {
        let (limit, window) = (self.config.memory, self.config.welcome.window);
        let is_crowded = self.held + bytes.len() > limit;
        let Some(entry) = self.known(id)? else { return Ok(()) };
        let taken = entry.receive(id, bytes)?;
        let is_hoarding = is_crowded && entry.unread() > QUANTUM;
        if entry.owes_credit(window) {
            // Nobody reads it any more: what was thrown away is granted again at once.
            entry.credit_queued = true;
            self.control.push_back(Control::Credit(id));
        }
        self.held += taken;
        if is_hoarding {
            self.reset(id, ResetCode::OVERLOADED, "too much unread data");
        } else if taken > 0 {
            self.events.push(Event::Readable(id));
        }
        Ok(())
    }

    /// The stream, or nothing if it has left the table.
    fn known(&mut self, id: StreamId) -> Result<Option<&mut Entry<A>>, Violation> {
        let last = if self.is_ours(id) { self.last_ours } else { self.last_theirs };
        let behind = last.wrapping_sub(self.sequence(id)) % SEQUENCE;
        let was_opened = last != 0 && behind < SEQUENCE / 2;
        match self.streams.get_mut(&id) {
            None if !was_opened => Err(Violation::UnknownStream(id)),
            entry => Ok(entry),
        }
    }

    /// The other side reset a stream before it had said everything: if nobody has accepted it yet,
    /// nobody has to.
    fn withdraw(&mut self, id: StreamId) {
        if let Some(place) = self.incoming.iter().rposition(|(waiting, _)| *waiting == id) {
            if let Some((_, header)) = self.incoming.remove(place) {
                self.held -= header.len();
            }
            self.drop_reader(id);
            self.drop_writer(id);
        }
    }
}
