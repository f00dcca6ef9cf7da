//! The `file` stream: one operation on a file below `/work`.

use std::{io::Read, sync::Arc};

use boatyard_link::{
    Error as LinkError, ResetCode, Stream,
    message::{Failure, FailureCode, FileEntry, FileReply, FileRequest},
};
use bytes::Bytes;
use tokio::task::spawn_blocking;

use crate::{
    beneath::{self, Entry, EntryKind, Executable, Folder},
    failure,
};

/// How many entries of a folder are told.
const ENTRIES_MAX: usize = 10_000;

/// The largest file that is written.
const WRITE_MAX: u64 = 256 << 20;

/// How much is read from disk at once.
const PIECE: usize = 256 << 10;

/// Serves one stream. The disk is touched on blocking threads only: it may be slow.
///
/// # Errors
/// When the stream or link ends before the operation.
pub async fn serve(
    stream: Stream,
    work: Arc<Folder>,
    request: FileRequest,
) -> Result<(), LinkError> {
    match request {
        FileRequest::Read { path, max } => read(stream, work, path, max).await,
        FileRequest::Write { path, executable } => {
            let executable = if executable { Executable::Yes } else { Executable::No };
            write(stream, work, path, executable).await
        }
        FileRequest::List { path } => {
            let listed = blocking(move || work.list(&path, ENTRIES_MAX)).await;
            let reply = match listed {
                Ok((entries, cut)) => {
                    FileReply::Listing { entries: entries.into_iter().map(entry).collect(), cut }
                }
                Err(error) => FileReply::Failed(error),
            };
            answer(stream, &reply).await
        }
    }
}

async fn read(
    mut stream: Stream,
    work: Arc<Folder>,
    path: String,
    max: u64,
) -> Result<(), LinkError> {
    let (mut file, bytes) = match blocking(move || work.read(&path, max)).await {
        Ok(found) => found,
        Err(failure) => return answer(stream, &FileReply::Failed(failure)).await,
    };
    stream.send_message(&FileReply::Found { bytes }).await?;
    let mut left = bytes;
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        let piece = spawn_blocking(move || {
            let mut buffer = vec![0; wanted];
            let n = file.read(&mut buffer)?;
            buffer.truncate(n);
            Ok::<_, std::io::Error>((file, buffer))
        });
        match piece.await {
            // It became shorter meanwhile: the reader counts what it was promised.
            Ok(Ok((_, buffer))) if buffer.is_empty() => {
                stream.reset(ResetCode::FAILED, "the file became shorter while it was read");
                return Ok(());
            }
            Ok(Ok((back, buffer))) => {
                file = back;
                left -= buffer.len() as u64;
                stream.send_half().send_bytes(Bytes::from(buffer)).await?;
            }
            Ok(Err(error)) => {
                stream.reset(ResetCode::FAILED, &error.to_string());
                return Ok(());
            }
            Err(error) => {
                stream.reset(ResetCode::FAILED, &error.to_string());
                return Ok(());
            }
        }
    }
    stream.finish()
}

async fn write(
    mut stream: Stream,
    work: Arc<Folder>,
    path: String,
    executable: Executable,
) -> Result<(), LinkError> {
    let mut new = match blocking(move || work.write(&path, executable, WRITE_MAX)).await {
        Ok(new) => new,
        Err(failure) => return answer(stream, &FileReply::Failed(failure)).await,
    };
    // An error of the link drops `new`, which removes what was written beside.
    while let Some(bytes) = stream.recv_half().recv_bytes().await? {
        let written = blocking(move || new.write(&bytes).map(|()| new)).await;
        match written {
            Ok(back) => new = back,
            Err(failure) => return answer(stream, &FileReply::Failed(failure)).await,
        }
    }
    let reply = match blocking(move || new.commit()).await {
        Ok(bytes) => FileReply::Found { bytes },
        Err(failure) => FileReply::Failed(failure),
    };
    answer(stream, &reply).await
}

async fn answer(mut stream: Stream, reply: &FileReply) -> Result<(), LinkError> {
    stream.send_message(reply).await?;
    stream.finish()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, beneath::Error> + Send + 'static,
) -> Result<T, Failure> {
    match spawn_blocking(work).await {
        Ok(outcome) => outcome.map_err(Failure::from),
        Err(error) => Err(Failure { code: FailureCode::Internal, message: failure::chain(&error) }),
    }
}

fn entry(entry: Entry) -> FileEntry {
    let kind = match entry.kind {
        EntryKind::File => "file",
        EntryKind::Folder => "folder",
        EntryKind::Link => "link",
        EntryKind::Other => "other",
    };
    FileEntry { name: entry.name, kind: kind.to_owned(), bytes: entry.bytes }
}

impl From<beneath::Error> for Failure {
    fn from(error: beneath::Error) -> Self {
        let code = match &error {
            beneath::Error::NotFound(_) => FailureCode::NotFound,
            beneath::Error::Outside(_)
            | beneath::Error::Path(_)
            | beneath::Error::Kind { .. }
            | beneath::Error::TooLarge { .. } => FailureCode::Workspace,
            // The request was in order.
            beneath::Error::Io { .. } => FailureCode::Internal,
        };
        Self { code, message: failure::chain(&error) }
    }
}
