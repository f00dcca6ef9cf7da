//! What moves a link: reads frames into the state machine and writes what it has to send.
//!
//! One future does both, so a connection needs no splitting and a link no second task. Writes
//! are batched: everything that became ready since the last wake goes out in one call, and no
//! more than [`BATCH`] is taken from the streams at a time, so that a small message that comes
//! late waits behind one batch and what the kernel holds, not behind everything queued. No timer
//! lies in the path of data; the one there is notices silence.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use crate::{
    error::{Error, Violation},
    frame::{Frame, GoAwayCode, MAX_FRAME, decode},
    link::{Keepalive, Options, Shared},
    mux::Outbox,
};

/// How much is taken from the streams before it is on the wire.
const BATCH: usize = 64 * 1024;
/// How much is read at once: a frame of the largest size and a batch behind it.
const READ_BUFFER: usize = 2 * MAX_FRAME;
/// Pieces of memory a write; the kernel takes up to 1,024, a batch rarely has more than this.
const SLICES: usize = 64;
/// How often the driver goes round before it lets other tasks run.
const ROUNDS: usize = 16;
/// How long the other side has to end its half after we have ended ours.
const LINGER: Duration = Duration::from_secs(2);

/// The future that moves a link; see [`crate::Link::start`]. Ends with `Ok` when the link was
/// closed in good order by either side.
#[derive(Debug)]
#[must_use = "a link does nothing until its driver is polled"]
pub struct Driver<T> {
    io: T,
    shared: Arc<Shared>,
    outbox: Outbox,
    /// Whether something was written that is not flushed.
    unflushed: bool,
    input: Input,
    /// When the next thing happens by itself; `None` when nothing does.
    alarm: Option<Pin<Box<Sleep>>>,
    phase: Phase,
    keepalive: Option<Keepalive>,
    welcome_within: Duration,
    heard: bool,
    silent: Duration,
    wakers: Vec<Waker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Before the other side's Welcome.
    Greeting,
    /// Frames go both ways.
    Running,
    /// Everything was sent; the end of the connection is being told.
    Ending,
    /// What the other side still sends is thrown away until it ends as well.
    Lingering,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Driver<T> {
    pub(crate) fn new(io: T, shared: Arc<Shared>, options: &Options) -> Self {
        Self {
            io,
            shared,
            outbox: Outbox::default(),
            unflushed: false,
            input: Input::default(),
            alarm: None,
            phase: Phase::Greeting,
            keepalive: options.keepalive,
            welcome_within: options.welcome_within,
            heard: false,
            silent: Duration::ZERO,
            wakers: Vec::new(),
        }
    }

    /// Sends until there is nothing more or the connection takes no more. Whether it wrote.
    fn send(&mut self, cx: &mut Context<'_>) -> Result<bool, Error> {
        let mut has_written = false;
        loop {
            if self.outbox.is_empty() {
                self.refill()?;
            }
            if self.outbox.is_empty() {
                break;
            }
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = self.outbox.slices(&mut slices);
            match Pin::new(&mut self.io).poll_write_vectored(cx, &slices[..count]) {
                Poll::Ready(Ok(0)) => return Err(Error::Lost),
                Poll::Ready(Ok(written)) => {
                    self.outbox.advance(written);
                    self.unflushed = true;
                    has_written = true;
                }
                Poll::Ready(Err(error)) => return Err(broken(error)),
                Poll::Pending => break,
            }
        }
        if self.unflushed
            && let Poll::Ready(flushed) = Pin::new(&mut self.io).poll_flush(cx)
        {
            flushed.map_err(broken)?;
            self.unflushed = false;
        }
        Ok(has_written)
    }

    /// Takes the next batch from the streams; if they have nothing, whoever has wakes us.
    fn refill(&mut self) -> Result<(), Error> {
        let mut inner = self.shared.lock();
        inner.mux.transmit(&mut self.outbox, BATCH);
        self.shared.collect(&mut inner, &mut self.wakers);
        inner.is_parked = self.outbox.is_empty();
        let is_finished = inner.is_parked && inner.is_finished();
        drop(inner);
        if is_finished {
            self.phase = Phase::Ending;
            self.set_alarm(Some(LINGER));
        }
        self.wake();
        Ok(())
    }

    /// Leaves the waker where streams and handles find it, unless one of them ended the link.
    fn register(&self, cx: &Context<'_>) -> Result<(), Error> {
        let mut inner = self.shared.lock();
        if let Some(error) = &inner.ended {
            return Err(error.clone());
        }
        if !inner.driver.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            inner.driver = Some(cx.waker().clone());
        }
        Ok(())
    }

    /// Reads once and handles every whole frame. Whether anything came.
    fn receive(&mut self, cx: &mut Context<'_>) -> Result<bool, Error> {
        match self.input.fill(&mut self.io, cx) {
            Poll::Pending => return Ok(false),
            Poll::Ready(Err(error)) => return Err(broken(error)),
            Poll::Ready(Ok(0)) => return Err(Error::Lost),
            Poll::Ready(Ok(_)) => self.heard = true,
        }
        let mut inner = self.shared.lock();
        let mut outcome = Ok(());
        while outcome.is_ok() {
            match decode(self.input.unread()) {
                Ok(Some((frame, length))) => {
                    outcome = inner.mux.receive(frame);
                    self.input.consume(length);
                }
                Ok(None) => break,
                Err(illegal) => outcome = Err(Violation::from(illegal).into()),
            }
        }
        let is_welcome = self.phase == Phase::Greeting && inner.mux.peer().is_some();
        self.shared.collect(&mut inner, &mut self.wakers);
        drop(inner);
        self.wake();
        if is_welcome {
            self.phase = Phase::Running;
            self.set_alarm(self.keepalive.map(|keepalive| keepalive.interval));
        }
        outcome.map(|()| true)
    }

    /// What the alarm is for.
    fn ring(&mut self) -> Result<(), Error> {
        match (self.phase, self.keepalive) {
            (Phase::Greeting, _) => return Err(Error::NoWelcome { waited: self.welcome_within }),
            (Phase::Ending | Phase::Lingering, _) => return Err(Error::Lost),
            (Phase::Running, None) => self.set_alarm(None),
            (Phase::Running, Some(Keepalive { interval, dead_after })) => {
                if std::mem::take(&mut self.heard) {
                    self.silent = Duration::ZERO;
                } else {
                    self.silent += interval;
                    if self.silent >= dead_after {
                        return Err(Error::Silent { silent: self.silent });
                    }
                    self.shared.lock().mux.ping(0);
                }
                self.set_alarm(Some(interval));
            }
        }
        Ok(())
    }

    fn set_alarm(&mut self, after: Option<Duration>) {
        self.alarm = after.map(|after| Box::pin(sleep_until(Instant::now() + after)));
    }

    fn wake(&mut self) {
        for waker in self.wakers.drain(..) {
            waker.wake();
        }
    }

    /// Frames both ways until the link has ended.
    fn run(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.register(cx)?;
        if self.phase == Phase::Greeting && self.alarm.is_none() {
            self.set_alarm(Some(self.welcome_within));
        }
        for _ in 0..ROUNDS {
            let mut is_busy = false;
            while let Some(alarm) = &mut self.alarm
                && alarm.as_mut().poll(cx).is_ready()
            {
                self.ring()?;
            }
            if matches!(self.phase, Phase::Greeting | Phase::Running) {
                match self.send(cx) {
                    Ok(has_written) => is_busy |= has_written,
                    Err(error) => {
                        // It may have said why before it went.
                        while let Ok(true) = self.receive(cx) {}
                        return Poll::Ready(Err(error));
                    }
                }
            }
            if self.phase == Phase::Ending {
                ready!(Pin::new(&mut self.io).poll_flush(cx)).map_err(broken)?;
                ready!(Pin::new(&mut self.io).poll_shutdown(cx)).map_err(broken)?;
                self.phase = Phase::Lingering;
                is_busy = true;
            }
            if self.phase == Phase::Lingering {
                match ready!(self.input.discard(&mut self.io, cx)) {
                    Ok(0) | Err(_) => return Poll::Ready(Ok(())),
                    Ok(_) => is_busy = true,
                }
            } else {
                is_busy |= self.receive(cx)?;
            }
            if !is_busy {
                self.outbox.shrink();
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Tells the other side, if the connection takes it, why it will hear no more.
    fn say_why(&mut self, error: &Error, cx: &mut Context<'_>) {
        let code = match error {
            Error::Version { .. } => GoAwayCode::VERSION,
            Error::Violation(_) => GoAwayCode::VIOLATION,
            Error::Closed => GoAwayCode::CLOSING,
            _ => return,
        };
        let text = error.to_string();
        self.outbox.frame(Frame::GoAway { code, retry_after_ms: 0, text: &text });
        self.outbox.seal();
        let mut slices = [IoSlice::new(&[]); SLICES];
        let count = self.outbox.slices(&mut slices);
        // One try: it is a courtesy, and there is nobody left to tell if it fails.
        let _ = Pin::new(&mut self.io).poll_write_vectored(cx, &slices[..count]);
        let _ = Pin::new(&mut self.io).poll_shutdown(cx);
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Future for Driver<T> {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let outcome = ready!(this.run(cx));
        let outcome = match outcome {
            Err(error @ (Error::Lost | Error::Io(_))) => this.shared.lock().mux.explain(error),
            outcome => outcome,
        };
        match &outcome {
            Ok(()) => this.shared.end(Error::Closed),
            Err(error) => {
                this.say_why(error, cx);
                this.shared.end(error.clone());
            }
        }
        Poll::Ready(match outcome {
            Err(Error::Closed) => Ok(()),
            outcome => outcome,
        })
    }
}

impl<T> Drop for Driver<T> {
    fn drop(&mut self) {
        self.shared.end(Error::Closed);
    }
}

fn broken(error: io::Error) -> Error {
    Error::Io(Arc::new(error))
}

/// Bytes that came and are not handled: at most one frame that is not whole between reads.
#[derive(Debug, Default)]
struct Input {
    /// Empty until the first read; then [`READ_BUFFER`] long. Pages that no read has touched
    /// cost nothing.
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Input {
    fn unread(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    fn consume(&mut self, length: usize) {
        self.start += length;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    fn fill<T: AsyncRead + Unpin>(
        &mut self,
        io: &mut T,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.buffer.is_empty() {
            self.buffer = vec![0; READ_BUFFER].into();
        }
        if self.start > 0 && self.buffer.len() - self.start < MAX_FRAME {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let mut buffer = ReadBuf::new(&mut self.buffer[self.end..]);
        ready!(Pin::new(io).poll_read(cx, &mut buffer))?;
        let length = buffer.filled().len();
        self.end += length;
        Poll::Ready(Ok(length))
    }

    fn discard<T: AsyncRead + Unpin>(
        &mut self,
        io: &mut T,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        (self.start, self.end) = (0, 0);
        self.fill(io, cx)
    }
}
