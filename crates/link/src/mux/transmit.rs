//! What goes onto the wire next: control first, then each stream in turn, one quantum at a time.

use super::{Control, Event, Mux, Outbox};
use crate::frame::{Frame, QUANTUM, ResetCode, StreamId};

impl<A: Default> Mux<A> {
    /// Appends frames to `out` until it holds `budget` bytes or there is nothing more to send.
    ///
    /// Before the other side's Welcome came, only ours is sent. An Open always precedes its
    /// stream's data, because control is drained first.
    pub fn transmit(&mut self, out: &mut Outbox, budget: usize) {
        while out.len() < budget {
            match self.control.front() {
                Some(Control::Welcome | Control::GoAway(..)) => {}
                _ if self.peer.is_none() => break,
                Some(_) => {}
                None => match self.ready.pop_front() {
                    Some(id) => {
                        self.take_turn(id, out);
                        continue;
                    }
                    None => break,
                },
            }
            if let Some(control) = self.control.pop_front() {
                self.transmit_control(control, out);
            }
        }
        out.seal();
    }

    /// Whether everything that was queued has gone out.
    pub fn is_drained(&self) -> bool {
        self.control.is_empty() && self.ready.is_empty()
    }

    fn transmit_control(&mut self, control: Control, out: &mut Outbox) {
        match control {
            Control::Welcome => match serde_json::to_vec(&self.config.welcome) {
                Ok(json) => out.frame(Frame::Welcome(&json)),
                Err(error) => unreachable!("numbers and a text are always JSON: {error}"),
            },
            Control::Open(id, header) => out.frame(Frame::Open { id, header: &header }),
            Control::Credit(id) => {
                if let Some(entry) = self.streams.get_mut(&id)
                    && let Some(bytes) = entry.take_credit()
                {
                    out.frame(Frame::Credit { id, bytes });
                }
            }
            Control::Reset(id, code, text) => out.frame(Frame::Reset { id, code, text: &text }),
            Control::Ping(number) => out.frame(Frame::Ping(number)),
            Control::Pong => {
                if let Some(number) = self.pong.take() {
                    out.frame(Frame::Pong(number));
                }
            }
            Control::GoAway(code, retry_after_ms, text) => {
                out.frame(Frame::GoAway { code, retry_after_ms, text: &text });
            }
        }
    }

    fn take_turn(&mut self, id: StreamId, out: &mut Outbox) {
        let limit = self.config.send_buffer;
        let Some(entry) = self.streams.get_mut(&id) else { return };
        entry.in_round = false;
        let mut turn = QUANTUM;
        while turn > 0
            && let Some(bytes) = entry.next(turn)
        {
            turn -= bytes.len();
            out.data(id, bytes);
        }
        if entry.take_writable(limit) {
            self.events.push(Event::Writable(id));
        }
        if entry.take_fin() {
            out.frame(Frame::Fin { id });
            if entry.is_abandoned() {
                self.reset(id, ResetCode::CANCELLED, "");
            } else {
                self.forget_if_done(id);
            }
        } else {
            self.schedule(id);
        }
    }
}
