//! The `git` stream: one operation on a repository, asked for by the server.

use std::time::Duration;

use boatyard_link::{
    Error as LinkError, ResetCode, Stream,
    message::{Failure, GitReply, GitRequest},
};
use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout_at},
};

use super::{Base, Git, Repository, Result};
use crate::process::{Exit, Running};

/// The largest pack that is sent.
const PACK_MAX: u64 = 4 << 30;

/// How long a pack may take, with its reader's pauses.
const PACK_DEADLINE: Duration = Duration::from_secs(600);

/// How much of a pack is read at once.
const PIECE: usize = 128 << 10;

/// What an operation gives back.
enum Answer {
    Reply(GitReply),
    Patch(GitReply, Vec<u8>),
    Pack(Running, Vec<u8>),
}

/// Serves one stream.
///
/// # Errors
/// When the stream or link ends before the operation.
pub async fn serve(
    mut stream: Stream,
    git: &Git,
    request: GitRequest,
) -> std::result::Result<(), LinkError> {
    let repository = match git.repository(folder(&request)).await {
        Ok(repository) => repository,
        Err(error) => return answer(stream, &GitReply::Failed(error.into())).await,
    };
    // Whoever asked may go away; dropping the operation then ends it.
    let done = tokio::select! {
        done = operate(&repository, request) => done,
        error = gone(&mut stream) => return Err(error),
    };
    match done {
        Ok(Answer::Reply(reply)) => answer(stream, &reply).await,
        Ok(Answer::Patch(reply, patch)) => {
            stream.send_message(&reply).await?;
            stream.send_half().send_bytes(Bytes::from(patch)).await?;
            stream.finish()
        }
        Ok(Answer::Pack(running, revisions)) => send_pack(stream, running, revisions).await,
        Err(error) => answer(stream, &GitReply::Failed(Failure::from(error))).await,
    }
}

fn folder(request: &GitRequest) -> &str {
    match request {
        GitRequest::Checkout { folder, .. }
        | GitRequest::Branch { folder, .. }
        | GitRequest::Finish { folder, .. }
        | GitRequest::Diff { folder, .. }
        | GitRequest::Recover { folder, .. }
        | GitRequest::Pack { folder, .. } => folder,
    }
}

async fn operate(repository: &Repository<'_>, request: GitRequest) -> Result<Answer> {
    match request {
        GitRequest::Checkout { commit, origin, .. } => {
            repository.checkout(&commit, &origin).await?;
            Ok(Answer::Reply(GitReply::Done))
        }
        GitRequest::Branch { branch, commit, author, .. } => {
            repository.begin_branch(&branch, &commit, &author).await?;
            Ok(Answer::Reply(GitReply::Done))
        }
        GitRequest::Finish { branch, base, message, author, .. } => {
            let done = repository.finish(&branch, &base, &message, &author).await?;
            let head = done.head.map(|head| head.to_string()).unwrap_or_default();
            let (commits, files, unsigned) = (done.commits, done.files, done.unsigned);
            Ok(Answer::Reply(GitReply::Finished { head, commits, files, unsigned }))
        }
        GitRequest::Diff { base, head, context, max, .. } => {
            let from = repository.base(&Base::parse(&base)?).await?;
            let to = match head {
                Some(head) => repository.base(&Base::parse(&head)?).await?,
                None => repository.now().await?.tree,
            };
            let difference = repository.difference(&from, &to).await?;
            let (patch, patch_cut) = repository.patch(&from, &to, context, max).await?;
            let cut = difference.cut || patch_cut;
            Ok(Answer::Patch(GitReply::Diff { files: difference.files, cut }, patch))
        }
        GitRequest::Recover { branch, base, start, .. } => {
            let recovered = repository.recover(branch.as_deref(), &base, start).await?;
            let kept = recovered.kept.map(|commit| commit.to_string());
            Ok(Answer::Reply(GitReply::Recovered { turn: recovered.turn, kept }))
        }
        GitRequest::Pack { want, have, .. } => {
            let (running, revisions) = repository.pack(&want, &have).await?;
            Ok(Answer::Pack(running, revisions))
        }
    }
}

async fn send_pack(
    mut stream: Stream,
    mut running: Running,
    revisions: Vec<u8>,
) -> std::result::Result<(), LinkError> {
    stream.send_message(&GitReply::Done).await?;
    let deadline = Instant::now() + PACK_DEADLINE;
    let (mut send, _recv) = stream.split();
    let stdin = running.stdin.take();
    let feed = async {
        if let Some(mut stdin) = stdin {
            // If it ends without reading all, its exit tells.
            let _ = stdin.write_all(&revisions).await;
        }
    };
    let mut sent = 0;
    let copy = async {
        loop {
            let mut piece = BytesMut::with_capacity(PIECE);
            match running.stdout.read_buf(&mut piece).await {
                Ok(0) => return Ok::<_, LinkError>(running.exit.wait().await == Exit::Code(0)),
                Ok(n) => sent += n as u64,
                Err(_) => return Ok(false),
            }
            if sent > PACK_MAX {
                return Ok(false);
            }
            send.send_bytes(piece.freeze()).await?;
        }
    };
    let mut complaint = Vec::new();
    let (outcome, (), _) = {
        let all = async { tokio::join!(copy, feed, running.stderr.read_to_end(&mut complaint)) };
        match timeout_at(deadline, all).await {
            Ok(done) => done,
            Err(_) => (Ok(false), (), Ok(0)),
        }
    };
    if outcome? {
        return send.finish();
    }
    let complaint = String::from_utf8_lossy(&complaint);
    let complaint: String = complaint.chars().take(500).collect();
    send.reset(ResetCode::FAILED, &format!("the pack could not be made: {complaint}"));
    Ok(())
}

/// Resolves when the other side has reset the stream or the link is gone.
async fn gone(stream: &mut Stream) -> LinkError {
    loop {
        match stream.recv_half().recv_bytes().await {
            // Nothing is expected from there; its end is no wish to stop.
            Ok(Some(_)) => {}
            Ok(None) => std::future::pending().await,
            Err(error) => return error,
        }
    }
}

async fn answer(mut stream: Stream, reply: &GitReply) -> std::result::Result<(), LinkError> {
    stream.send_message(reply).await?;
    stream.finish()
}
