//! Frames on their way out: encoded, batched, written with as few calls as possible.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, Bytes, BytesMut};

use crate::frame::{Frame, StreamId, put_data_header};

/// A payload up to this size is copied beside its header, so that many small frames are one
/// piece of memory; a larger one is handed to the kernel where it lies.
const COPY_BELOW: usize = 1024;

/// Encoded frames, in order.
#[derive(Debug, Default)]
pub struct Outbox {
    pieces: VecDeque<Bytes>,
    /// Headers and small frames after the last piece.
    open: BytesMut,
    length: usize,
}

impl Outbox {
    /// How many bytes wait.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Appends a frame.
    pub fn frame(&mut self, frame: Frame<'_>) {
        let before = self.open.len();
        frame.encode(&mut self.open);
        self.length += self.open.len() - before;
    }

    /// Appends a Data frame; the bytes, which must be a legal payload, are not copied when they
    /// are many.
    pub fn data(&mut self, id: StreamId, bytes: Bytes) {
        let before = self.open.len();
        put_data_header(&mut self.open, id, bytes.len());
        if bytes.len() < COPY_BELOW {
            self.open.extend_from_slice(&bytes);
            self.length += self.open.len() - before;
        } else {
            self.length += self.open.len() - before + bytes.len();
            self.seal();
            self.pieces.push_back(bytes);
        }
    }

    /// Ends a batch: everything can now be written.
    pub fn seal(&mut self) {
        if !self.open.is_empty() {
            self.pieces.push_back(self.open.split().freeze());
        }
    }

    /// Fills `slices` with what is to be written next and says how many it filled.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(piece);
            count += 1;
        }
        count
    }

    /// Forgets the first `written` bytes.
    pub fn advance(&mut self, mut written: usize) {
        self.length -= written;
        while written > 0 {
            let Some(front) = self.pieces.front_mut() else { return };
            if written < front.len() {
                front.advance(written);
                return;
            }
            written -= front.len();
            self.pieces.pop_front();
        }
    }

    /// Frees what a burst has made it hold.
    pub fn shrink(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }
}
