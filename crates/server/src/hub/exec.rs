//! Commands in a workspace.

use std::time::{Duration, Instant};

use boatyard_link::{
    RecvHalf, ResetCode, SendHalf, Stream,
    message::{EXEC_PIECE_MAX, ExecChannel, ExecExit, ExecRequest, Header},
};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::{Attached, HubError};

/// How much longer than its own deadline a command is waited for.
const GRACE: Duration = Duration::from_secs(10);

/// A command that runs.
pub struct Exec {
    receive: RecvHalf,
    send: SendHalf,
    buffer: BytesMut,
    started: Instant,
    deadline: Option<Duration>,
}

/// A piece of what a command does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// It wrote this.
    Stdout(Bytes),
    /// It wrote this as an error.
    Stderr(Bytes),
    /// It is over.
    Exit(ExecExit, Duration),
}

/// What a command did, its output bounded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub exit: ExecExit,
    /// What it wrote.
    pub stdout: Vec<u8>,
    /// What it wrote as errors.
    pub stderr: Vec<u8>,
    /// Whether some of it was left out.
    pub cut: bool,
    /// How long it took.
    pub took: Duration,
}

impl Attached {
    /// Starts a command, with all of its input.
    ///
    /// # Errors
    /// When the link has ended.
    pub async fn exec(
        &self,
        mut request: ExecRequest,
        stdin: Option<Bytes>,
    ) -> Result<Exec, HubError> {
        request.stdin = stdin.is_some();
        let deadline = request.deadline_millis.map(Duration::from_millis);
        let stream: Stream = self.open(&Header::Exec(request))?;
        let (mut send, receive) = stream.split();
        if let Some(mut input) = stdin {
            while !input.is_empty() {
                let piece = input.split_to(input.len().min(EXEC_PIECE_MAX));
                send.send_bytes(frame(ExecChannel::Stdin, &piece)).await?;
            }
            send.send_bytes(frame(ExecChannel::Stdin, &[])).await?;
        }
        Ok(Exec { receive, send, buffer: BytesMut::new(), started: Instant::now(), deadline })
    }
}

impl Exec {
    /// The next piece; the exit is the last one.
    ///
    /// # Errors
    /// When the link ended, or the runner did not keep to the protocol.
    pub async fn next(&mut self) -> Result<Piece, HubError> {
        loop {
            if let Some(piece) = self.parse()? {
                return Ok(piece);
            }
            match self.receive.recv_bytes().await? {
                Some(bytes) => self.buffer.extend_from_slice(&bytes),
                None => return Err(HubError::Protocol("a command")),
            }
        }
    }

    fn parse(&mut self) -> Result<Option<Piece>, HubError> {
        let Some(head) = self.buffer.first_chunk::<5>() else { return Ok(None) };
        let channel = head[0];
        let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if length > EXEC_PIECE_MAX {
            return Err(HubError::Protocol("a command"));
        }
        if self.buffer.len() < 5 + length {
            return Ok(None);
        }
        self.buffer.advance(5);
        let bytes = self.buffer.split_to(length).freeze();
        if channel == ExecChannel::Stdout as u8 {
            Ok(Some(Piece::Stdout(bytes)))
        } else if channel == ExecChannel::Stderr as u8 {
            Ok(Some(Piece::Stderr(bytes)))
        } else if channel == ExecChannel::Exit as u8 {
            let exit =
                serde_json::from_slice(&bytes).map_err(|_| HubError::Protocol("a command"))?;
            Ok(Some(Piece::Exit(exit, self.started.elapsed())))
        } else {
            Err(HubError::Protocol("a command"))
        }
    }

    /// Waits for its end and keeps up to `max` bytes of each output. It is killed when its deadline
    /// passes, here as well as inside.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub async fn output(mut self, max: usize) -> Result<Output, HubError> {
        let (mut stdout, mut stderr, mut cut) = (Vec::new(), Vec::new(), false);
        let mut keep = |kept: &mut Vec<u8>, bytes: &Bytes| {
            let room = max.saturating_sub(kept.len()).min(bytes.len());
            kept.extend_from_slice(&bytes[..room]);
            cut |= room < bytes.len();
        };
        let limit = self.deadline.map(|deadline| deadline + GRACE);
        let run = async {
            loop {
                match self.next().await? {
                    Piece::Stdout(bytes) => keep(&mut stdout, &bytes),
                    Piece::Stderr(bytes) => keep(&mut stderr, &bytes),
                    Piece::Exit(exit, took) => return Ok::<_, HubError>((exit, took)),
                }
            }
        };
        let ended = match limit {
            Some(limit) => tokio::time::timeout(limit, run).await,
            None => Ok(run.await),
        };
        match ended {
            Ok(ended) => {
                let (exit, took) = ended?;
                Ok(Output { exit, stdout, stderr, cut, took })
            }
            Err(_) => {
                self.kill();
                Err(HubError::Timeout(limit.unwrap_or_default().as_secs()))
            }
        }
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.send.reset(ResetCode::CANCELLED, "nobody waits for it");
    }
}

fn frame(channel: ExecChannel, bytes: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(5 + bytes.len());
    frame.put_u8(channel as u8);
    // At most EXEC_PIECE_MAX.
    frame.put_u32_le(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    frame.put_slice(bytes);
    frame.freeze()
}
