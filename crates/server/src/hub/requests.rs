//! Files, git and pictures: one stream each.

use std::time::Duration;

use boatyard_link::{
    RecvHalf, Stream,
    message::{Done, FileReply, FileRequest, GitReply, GitRequest, Header, MESSAGE_MAX},
};
use boatyard_model::BlobId;
use bytes::Bytes;
use tokio::io::AsyncReadExt as _;

use super::{Attached, HubError};

/// How long a file may take.
const FILE: Duration = Duration::from_secs(120);
/// How long a git operation may take: a checkout of a large repository, a large pack.
const GIT: Duration = Duration::from_secs(900);

impl Attached {
    /// Reads a file of at most `max` bytes.
    ///
    /// # Errors
    /// The runner's own, or that it didn't keep its word.
    pub async fn read_file(&self, path: String, max: u64) -> Result<Bytes, HubError> {
        let mut stream = self.open(&Header::File(FileRequest::Read { path, max }))?;
        stream.finish()?;
        within(FILE, async {
            let bytes = match reply::<FileReply>(&mut stream).await? {
                FileReply::Found { bytes } if bytes <= max => bytes,
                FileReply::Failed(failure) => return Err(failure.into()),
                _ => return Err(HubError::Protocol("a request for a file")),
            };
            let mut content = Vec::new();
            (&mut stream).take(bytes).read_to_end(&mut content).await.map_err(gone)?;
            Ok(content.into())
        })
        .await
    }

    /// Writes a file.
    ///
    /// # Errors
    /// The runner's own.
    pub async fn write_file(
        &self,
        path: String,
        executable: bool,
        content: Bytes,
    ) -> Result<u64, HubError> {
        let mut stream = self.open(&Header::File(FileRequest::Write { path, executable }))?;
        within(FILE, async {
            stream.send_half().send_bytes(content).await?;
            stream.finish()?;
            match reply::<FileReply>(&mut stream).await? {
                FileReply::Found { bytes } => Ok(bytes),
                FileReply::Failed(failure) => Err(failure.into()),
                FileReply::Listing { .. } => Err(HubError::Protocol("a file to write")),
            }
        })
        .await
    }

    /// Lists a folder.
    ///
    /// # Errors
    /// The runner's own.
    pub async fn list_folder(
        &self,
        path: String,
    ) -> Result<(Vec<boatyard_link::message::FileEntry>, bool), HubError> {
        let mut stream = self.open(&Header::File(FileRequest::List { path }))?;
        stream.finish()?;
        within(FILE, async {
            match reply::<FileReply>(&mut stream).await? {
                FileReply::Listing { entries, cut } => Ok((entries, cut)),
                FileReply::Failed(failure) => Err(failure.into()),
                FileReply::Found { .. } => Err(HubError::Protocol("a folder to list")),
            }
        })
        .await
    }

    /// Hands over a picture that a prompt will name.
    ///
    /// # Errors
    /// When the runner refuses it.
    pub async fn send_blob(
        &self,
        blob: BlobId,
        mime: String,
        content: Bytes,
    ) -> Result<(), HubError> {
        let mut stream = self.open(&Header::Blob { blob, mime, bytes: content.len() as u64 })?;
        within(FILE, async {
            stream.send_half().send_bytes(content).await?;
            stream.finish()?;
            reply::<Done>(&mut stream).await.map(drop)
        })
        .await
    }

    /// A git operation: its answer, and the bytes that follow it.
    ///
    /// # Errors
    /// The runner's own.
    pub async fn git(&self, request: GitRequest) -> Result<(GitReply, RecvHalf), HubError> {
        let mut stream = self.open(&Header::Git(request))?;
        stream.finish()?;
        within(GIT, async {
            match reply::<GitReply>(&mut stream).await? {
                GitReply::Failed(failure) => Err(failure.into()),
                reply => Ok((reply, stream.split().1)),
            }
        })
        .await
    }

    /// A git operation and at most `max` bytes that follow its answer.
    ///
    /// # Errors
    /// As [`Self::git`].
    pub async fn git_bytes(
        &self,
        request: GitRequest,
        max: u64,
    ) -> Result<(GitReply, Vec<u8>), HubError> {
        let (reply, receive) = self.git(request).await?;
        let mut bytes = Vec::new();
        within(GIT, async {
            receive.take(max).read_to_end(&mut bytes).await.map_err(gone)?;
            Ok(())
        })
        .await?;
        Ok((reply, bytes))
    }
}

async fn reply<T: serde::de::DeserializeOwned>(stream: &mut Stream) -> Result<T, HubError> {
    let reply = stream.recv_message(MESSAGE_MAX).await?;
    reply.ok_or(HubError::Protocol("a request"))
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, HubError>>,
) -> Result<T, HubError> {
    tokio::time::timeout(limit, work).await.unwrap_or(Err(HubError::Timeout(limit.as_secs())))
}

fn gone(_: std::io::Error) -> HubError {
    HubError::Link(boatyard_link::Error::Closed)
}
