//! The `exec` stream: a command in the workspace, as the worker.
//!
//! ```text
//! server ──► stdin pieces ────────────► command
//!        ◄── stdout, stderr pieces ◄─── (as they come, no faster than the server reads)
//!        ◄── exit, end of the stream
//! ```
//!
//! The command is over when its own process has ended and what it had written by then is sent;
//! what it left running in the background stays, in the command's group, until the workspace
//! sleeps. A reset, the end of the link and the deadline kill the whole group.

use std::{io, sync::Arc, time::Duration};

use boatyard_agent::process::Stdin;
use boatyard_link::{
    Error as LinkError, RecvHalf, ResetCode, SendHalf, Stream,
    message::{EXEC_PIECE_MAX, ExecChannel, ExecExit, ExecRequest},
};
use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe,
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    environment, failure,
    layout::Layout,
    process::{Exit, Group, Groups, Running, Spec, Starter},
};

/// Bytes before a piece: its channel and its length.
const PREFIX: usize = 5;

/// How much is read from a command at once: half of what a pipe holds, so that it can go on writing.
const READ: usize = EXEC_PIECE_MAX / 2;

/// How long a killed command may take to be dead.
const DEATH: Duration = Duration::from_secs(5);

/// The longest that a command may run when no deadline was given.
const DEADLINE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Serves one stream. The command's group is in `groups` while something of it may run.
///
/// # Errors
/// When the stream or link ends before the command.
pub async fn serve(
    stream: Stream,
    layout: &Layout,
    starter: &Starter,
    groups: &Groups,
    request: ExecRequest,
) -> Result<(), LinkError> {
    let limit = request.deadline_millis.map_or(DEADLINE_MAX, Duration::from_millis);
    let deadline = Instant::now() + limit.min(DEADLINE_MAX);
    let (mut send, recv) = stream.split();
    let (group, running) = match start(layout, starter, request) {
        Ok(started) => started,
        Err(error) => {
            let message = failure::chain(&error);
            return finish(&mut send, &ExecExit::NotStarted { message }).await;
        }
    };
    groups.add(group.clone());
    let outcome = attend(&mut send, recv, &group, running, deadline).await;
    match outcome {
        Ok(exit) => finish(&mut send, &exit).await,
        Err(error) => {
            if let Err(stays) = group.end(DEATH).await {
                send.reset(ResetCode::FAILED, &stays.to_string());
            }
            Err(error)
        }
    }
}

fn start(
    layout: &Layout,
    starter: &Starter,
    request: ExecRequest,
) -> io::Result<(Arc<Group>, Running)> {
    let cwd = request.cwd.unwrap_or_else(|| layout.work.clone());
    if !layout.allows_cwd(&cwd) {
        let text = format!("`{cwd}` is not below {} or /home", layout.work);
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let group = starter.group("exec")?;
    let running = group.start(Spec {
        argv: request.command,
        env: environment::worker(layout, &layout.home, &request.environment),
        cwd: cwd.into(),
        stdin: if request.stdin { Stdin::Pipe } else { Stdin::Null },
    })?;
    Ok((group, running))
}

/// Carries bytes both ways until the command is over.
async fn attend(
    send: &mut SendHalf,
    recv: RecvHalf,
    group: &Group,
    running: Running,
    deadline: Instant,
) -> Result<ExecExit, LinkError> {
    let Running { stdin, stdout, stderr, mut exit, .. } = running;
    let (tell_ended, ended) = watch::channel(());
    let mut tell_ended = Some(tell_ended);
    let output = carry_output(send, stdout, stderr, ended);
    let input = carry_input(recv, stdin);
    tokio::pin!(output, input);
    let mut status = None;
    let mut in_time = true;
    loop {
        tokio::select! {
            // The output ends only after the process has.
            sent = &mut output => {
                sent?;
                let status = match status {
                    Some(status) => status,
                    None => exit.wait().await,
                };
                return Ok(match (status, in_time) {
                    (_, false) => ExecExit::TimedOut,
                    (Exit::Code(code), _) => ExecExit::Exited { code },
                    (Exit::Signal(signal), _) => ExecExit::Signalled { signal },
                });
            }
            // It never ends well, it only fails: then nobody waits for the command any more.
            error = &mut input => return Err(error),
            ended = exit.wait(), if status.is_none() => {
                status = Some(ended);
                tell_ended = None;
            }
            () = sleep_until(deadline), if in_time && status.is_none() => {
                in_time = false;
                // If it can't be killed, its exit is not seen and the caller's own deadline acts.
                let _ = group.kill();
            }
        }
        // What was written is in the pipes; a reader that stalls must not hold a dead command.
        if tell_ended.is_none() && status.is_some() && !in_time {
            return match timeout(DEATH, &mut output).await {
                Ok(sent) => sent.map(|()| ExecExit::TimedOut),
                Err(_) => Err(LinkError::Ended),
            };
        }
    }
}

/// Sends what the command writes, until it has ended and its pipes are empty.
async fn carry_output(
    send: &mut SendHalf,
    mut stdout: pipe::Receiver,
    mut stderr: pipe::Receiver,
    mut ended: watch::Receiver<()>,
) -> Result<(), LinkError> {
    use ExecChannel::{Stderr, Stdout};
    let (mut out, mut err) = (vec![0; READ], vec![0; READ]);
    let (mut out_open, mut err_open) = (true, true);
    loop {
        // A pipe that fails has nothing more to give, as one at its end.
        tokio::select! {
            n = stdout.read(&mut out), if out_open => {
                let n = n.unwrap_or(0);
                out_open = n > 0;
                send.send_bytes(framed(Stdout, &out[..n])).await?;
            }
            n = stderr.read(&mut err), if err_open => {
                let n = n.unwrap_or(0);
                err_open = n > 0;
                send.send_bytes(framed(Stderr, &err[..n])).await?;
            }
            // Its other end is dropped when the process has ended.
            _ = ended.changed() => break,
        }
    }
    // What the process wrote is in the pipes; what its children will write is not waited for.
    for (channel, pipe) in [(Stdout, stdout), (Stderr, stderr)] {
        // Past tokio: its `try_read` reads only what it has been told of, which may be less than
        // what is there, and then the end of the output would be lost.
        while let Ok(n @ 1..) = rustix::io::read(&pipe, &mut *out) {
            send.send_bytes(framed(channel, &out[..n])).await?;
        }
    }
    Ok(())
}

/// A piece with its prefix. It is copied, so that a small one does not hold a large buffer while
/// it waits to be sent.
fn framed(channel: ExecChannel, bytes: &[u8]) -> Bytes {
    if bytes.is_empty() {
        return Bytes::new();
    }
    let length = u32::try_from(bytes.len()).unwrap_or(0);
    let mut piece = Vec::with_capacity(PREFIX + bytes.len());
    piece.push(channel as u8);
    piece.extend_from_slice(&length.to_le_bytes());
    piece.extend_from_slice(bytes);
    piece.into()
}

/// Hands on what the server sends, and gives the error that ends the stream.
async fn carry_input(mut recv: RecvHalf, mut stdin: Option<pipe::Sender>) -> LinkError {
    let mut buffer = BytesMut::new();
    loop {
        while let Some((channel, piece)) = take_piece(&mut buffer) {
            let Some(piece) = piece else { return LinkError::Truncated };
            let ends = channel == ExecChannel::Stdin as u8 && piece.is_empty();
            if let Some(pipe) = &mut stdin
                && channel == ExecChannel::Stdin as u8
                && (ends || pipe.write_all(&piece).await.is_err())
            {
                // It wants no more; what still comes is thrown away.
                stdin = None;
            }
        }
        match recv.recv_bytes().await {
            Ok(Some(bytes)) => buffer.extend_from_slice(&bytes),
            Ok(None) => {
                drop(stdin.take());
                std::future::pending::<()>().await;
            }
            Err(error) => return error,
        }
    }
}

/// The first whole piece in the buffer; a piece that is too long is no piece.
fn take_piece(buffer: &mut BytesMut) -> Option<(u8, Option<BytesMut>)> {
    let [channel, a, b, c, d] = *buffer.first_chunk::<PREFIX>()?;
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    if length > EXEC_PIECE_MAX {
        return Some((channel, None));
    }
    if buffer.len() < PREFIX + length {
        return None;
    }
    let mut piece = buffer.split_to(PREFIX + length);
    Some((channel, Some(piece.split_off(PREFIX))))
}

async fn finish(send: &mut SendHalf, exit: &ExecExit) -> Result<(), LinkError> {
    let json = serde_json::to_vec(exit).map_err(|source| LinkError::Malformed {
        what: "exit of a command",
        source: Arc::new(source),
    })?;
    send.send_bytes(framed(ExecChannel::Exit, &json)).await?;
    send.finish()
}
