//! One stream of a link, as something to read from and write to.
//!
//! A stream is bytes ([`AsyncRead`], [`AsyncWrite`]) or messages
//! ([`SendHalf::send_message`], [`RecvHalf::recv_message`]: a u32 LE length, then JSON); both may
//! be mixed as long as the two sides agree where.
//!
//! Ending: [`SendHalf::finish`] (or `shutdown`) says that everything was sent. A writer that is
//! dropped without it resets the stream, so that the other side can't take a part for the whole;
//! a reader that is dropped throws away what still comes and, once the writer has finished as
//! well, tells the other side to stop.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    error::Error,
    frame::{ResetCode, StreamId},
    link::{Shared, wait},
    mux::Chunk,
};

/// Bytes of a message's length before it.
const LENGTH_LEN: usize = 4;

/// Both halves of a stream.
#[derive(Debug)]
pub struct Stream {
    send: SendHalf,
    recv: RecvHalf,
}

/// The half that is written to.
#[derive(Debug)]
pub struct SendHalf {
    shared: Arc<Shared>,
    id: StreamId,
}

/// The half that is read from.
#[derive(Debug)]
pub struct RecvHalf {
    shared: Arc<Shared>,
    id: StreamId,
    /// Taken from the link and not yet by the reader.
    pending: Bytes,
    /// The beginning of a message whose rest has not come.
    partial: BytesMut,
}

impl Stream {
    pub(crate) fn new(shared: Arc<Shared>, id: StreamId) -> Self {
        let send = SendHalf { shared: Arc::clone(&shared), id };
        let recv = RecvHalf { shared, id, pending: Bytes::new(), partial: BytesMut::new() };
        Self { send, recv }
    }

    /// Its number on this link, for logs.
    pub fn id(&self) -> StreamId {
        self.send.id
    }

    /// The two halves, to be used from different tasks.
    pub fn split(self) -> (SendHalf, RecvHalf) {
        (self.send, self.recv)
    }

    /// The half that is written to.
    pub fn send_half(&mut self) -> &mut SendHalf {
        &mut self.send
    }

    /// The half that is read from.
    pub fn recv_half(&mut self) -> &mut RecvHalf {
        &mut self.recv
    }

    /// See [`SendHalf::send_message`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn send_message<T: Serialize + ?Sized>(&mut self, message: &T) -> Result<(), Error> {
        self.send.send_message(message).await
    }

    /// See [`RecvHalf::recv_message`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn recv_message<T: DeserializeOwned>(
        &mut self,
        cap: usize,
    ) -> Result<Option<T>, Error> {
        self.recv.recv_message(cap).await
    }

    /// See [`SendHalf::finish`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn finish(&mut self) -> Result<(), Error> {
        self.send.finish()
    }

    /// Ends both halves now. What was written and not sent is lost.
    pub fn reset(&mut self, code: ResetCode, text: &str) {
        self.send.reset(code, text);
    }
}

impl SendHalf {
    /// Sends one message as JSON with its length before it. Returns when the link has taken it.
    ///
    /// Not to be dropped half-way: the other side would take what follows for its rest.
    ///
    /// # Errors
    ///
    /// When the stream or link has ended, or the message is not JSON.
    pub async fn send_message<T: Serialize + ?Sized>(&mut self, message: &T) -> Result<(), Error> {
        let mut bytes = vec![0; LENGTH_LEN];
        serde_json::to_writer(&mut bytes, message)
            .map_err(|source| Error::Malformed { what: "message", source: Arc::new(source) })?;
        let length = bytes.len() - LENGTH_LEN;
        let prefix = u32::try_from(length).map_err(|_| Error::TooLong {
            what: "message",
            length,
            limit: u32::MAX as usize,
        })?;
        bytes[..LENGTH_LEN].copy_from_slice(&prefix.to_le_bytes());
        self.send_bytes(bytes.into()).await
    }

    /// Sends bytes without copying them. Returns when the link has taken all.
    ///
    /// # Errors
    ///
    /// When the stream or link has ended.
    pub async fn send_bytes(&mut self, mut bytes: Bytes) -> Result<(), Error> {
        while !bytes.is_empty() {
            wait(&self.shared, self.id, |shared, id, cx| {
                poll_write(shared, id, cx, |inner| inner.mux.write_bytes(id, &mut bytes))
            })
            .await?;
        }
        Ok(())
    }

    /// Says that everything was sent; the other side reads the end after it. Does not wait.
    ///
    /// # Errors
    ///
    /// When the stream or link has ended before.
    pub fn finish(&mut self) -> Result<(), Error> {
        self.shared.act(|inner| match &inner.ended {
            Some(error) => Err(error.clone()),
            None => inner.mux.finish(self.id),
        })
    }

    /// Ends both halves now. What was written and not sent is lost.
    pub fn reset(&mut self, code: ResetCode, text: &str) {
        self.shared.act(|inner| inner.mux.reset(self.id, code, text));
    }
}

impl RecvHalf {
    /// The next bytes as they came, without copying; nothing at the end. May be dropped at any
    /// time.
    ///
    /// # Errors
    ///
    /// When the stream was reset or the link has ended.
    pub async fn recv_bytes(&mut self) -> Result<Option<Bytes>, Error> {
        std::future::poll_fn(|cx| {
            let has_bytes = ready!(self.poll_pending(cx))?;
            Poll::Ready(Ok(has_bytes.then(|| std::mem::take(&mut self.pending))))
        })
        .await
    }

    /// The next message, as JSON; nothing at the end. May be dropped at any time and called
    /// again.
    ///
    /// # Errors
    ///
    /// When the stream was reset or ended within a message, the link has ended, or the message is
    /// longer than `cap` bytes or not a `T`.
    pub async fn recv_message<T: DeserializeOwned>(
        &mut self,
        cap: usize,
    ) -> Result<Option<T>, Error> {
        let Some(bytes) = self.recv_raw_message(cap).await? else { return Ok(None) };
        let message = serde_json::from_slice(&bytes)
            .map_err(|source| Error::Malformed { what: "message", source: Arc::new(source) })?;
        Ok(Some(message))
    }

    /// As [`Self::recv_message`], not parsed.
    ///
    /// # Errors
    ///
    /// As there, but for the parsing.
    pub async fn recv_raw_message(&mut self, cap: usize) -> Result<Option<Bytes>, Error> {
        std::future::poll_fn(|cx| self.poll_message(cx, cap)).await
    }

    /// Makes sure that `pending` holds something; whether it does, or this is the end.
    fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Error>> {
        if self.pending.has_remaining() {
            return Poll::Ready(Ok(true));
        }
        let id = self.id;
        let chunk = self.shared.act(|inner| match inner.mux.read(id, usize::MAX) {
            Ok(Chunk::Nothing) => {
                if let Some(error) = &inner.ended {
                    return Err(error.clone());
                }
                if let Some(waiting) = inner.mux.attachment(id) {
                    waiting.reader = Some(cx.waker().clone());
                }
                Ok(Chunk::Nothing)
            }
            other => other,
        })?;
        match chunk {
            Chunk::Bytes(bytes) => {
                self.pending = bytes;
                Poll::Ready(Ok(true))
            }
            Chunk::End => Poll::Ready(Ok(false)),
            Chunk::Nothing => Poll::Pending,
        }
    }

    fn poll_message(
        &mut self,
        cx: &mut Context<'_>,
        cap: usize,
    ) -> Poll<Result<Option<Bytes>, Error>> {
        loop {
            let wanted = match self.partial.first_chunk::<LENGTH_LEN>() {
                None => LENGTH_LEN,
                Some(prefix) => {
                    let length = u32::from_le_bytes(*prefix) as usize;
                    if length > cap {
                        return Poll::Ready(Err(Error::TooLong {
                            what: "message",
                            length,
                            limit: cap,
                        }));
                    }
                    if self.partial.len() == LENGTH_LEN + length {
                        let mut message = std::mem::take(&mut self.partial).freeze();
                        message.advance(LENGTH_LEN);
                        return Poll::Ready(Ok(Some(message)));
                    }
                    LENGTH_LEN + length
                }
            };
            if !ready!(self.poll_pending(cx))? {
                let is_whole = self.partial.is_empty();
                return Poll::Ready(if is_whole { Ok(None) } else { Err(Error::Truncated) });
            }
            // Usually the whole message came at once: then nothing is copied.
            if self.partial.is_empty()
                && let Some(prefix) = self.pending.first_chunk::<LENGTH_LEN>()
            {
                let length = u32::from_le_bytes(*prefix) as usize;
                if length <= cap && self.pending.len() - LENGTH_LEN >= length {
                    self.pending.advance(LENGTH_LEN);
                    return Poll::Ready(Ok(Some(self.pending.split_to(length))));
                }
            }
            // Grows with what really came, never by the length that was claimed.
            let missing = wanted - self.partial.len();
            let piece = self.pending.split_to(missing.min(self.pending.len()));
            self.partial.extend_from_slice(&piece);
        }
    }
}

fn poll_write(
    shared: &Shared,
    id: StreamId,
    cx: &mut Context<'_>,
    write: impl FnOnce(&mut crate::link::Inner) -> Result<usize, Error>,
) -> Poll<Result<usize, Error>> {
    shared.act(|inner| {
        if let Some(error) = &inner.ended {
            return Poll::Ready(Err(error.clone()));
        }
        match write(inner) {
            Ok(0) => {
                if let Some(waiting) = inner.mux.attachment(id) {
                    waiting.writer = Some(cx.waker().clone());
                }
                Poll::Pending
            }
            outcome => Poll::Ready(outcome),
        }
    })
}

impl AsyncWrite for SendHalf {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let id = self.id;
        poll_write(&self.shared, id, cx, |inner| inner.mux.write(id, bytes))
            .map_err(io::Error::from)
    }

    /// Nothing to do: what the link has taken is sent without being asked.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.finish().map_err(io::Error::from))
    }
}

impl AsyncRead for RecvHalf {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() > 0 && ready!(self.poll_pending(cx)).map_err(io::Error::from)? {
            let length = self.pending.len().min(buffer.remaining());
            buffer.put_slice(&self.pending.split_to(length));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.send).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.send).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.send).poll_shutdown(cx)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.recv).poll_read(cx, buffer)
    }
}

impl Drop for SendHalf {
    fn drop(&mut self) {
        self.shared.act(|inner| inner.mux.drop_writer(self.id));
    }
}

impl Drop for RecvHalf {
    fn drop(&mut self) {
        self.shared.act(|inner| inner.mux.drop_reader(self.id));
    }
}
