//! Pictures that the server has sent for a prompt to come.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use boatyard_link::{Error as LinkError, ResetCode, Stream, message::Done};
use boatyard_model::BlobId;
use bytes::{Bytes, BytesMut};

/// The largest picture.
const BLOB_MAX: u64 = 16 << 20;

/// How much is kept for prompts to come; the oldest goes first.
const KEPT_MAX: usize = 64 << 20;

/// The pictures, by the name that the prompt will call them.
#[derive(Debug, Default)]
pub struct Blobs(Mutex<VecDeque<(BlobId, Bytes)>>);

impl Blobs {
    /// The bytes of this name.
    pub fn get(&self, blob: BlobId) -> Option<Bytes> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|(id, _)| *id == blob).map(|(_, bytes)| bytes.clone())
    }

    /// Keeps bytes under a name.
    pub fn keep(&self, blob: BlobId, bytes: Bytes) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(id, _)| *id != blob);
        kept.push_back((blob, bytes));
        while kept.len() > 1 && kept.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() > KEPT_MAX
        {
            kept.pop_front();
        }
    }

    /// Forgets all of them: the link that sent them is gone.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Serves one `blob` stream.
    ///
    /// # Errors
    /// When the stream or link ends before it was sent whole.
    pub async fn receive(
        &self,
        mut stream: Stream,
        blob: BlobId,
        bytes: u64,
    ) -> Result<(), LinkError> {
        if bytes > BLOB_MAX {
            stream.reset(ResetCode::TOO_LARGE, "a picture has at most 16 MiB");
            return Ok(());
        }
        let mut whole = BytesMut::new();
        while let Some(piece) = stream.recv_half().recv_bytes().await? {
            if (whole.len() + piece.len()) as u64 > bytes {
                stream.reset(ResetCode::MALFORMED, "more bytes than were announced");
                return Ok(());
            }
            whole.extend_from_slice(&piece);
        }
        if whole.len() as u64 != bytes {
            stream.reset(ResetCode::MALFORMED, "fewer bytes than were announced");
            return Ok(());
        }
        self.keep(blob, whole.freeze());
        stream.send_message(&Done {}).await?;
        stream.finish()
    }
}
