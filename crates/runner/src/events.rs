//! The `events` stream: the spool from a place on, live, released as the server stores it.

use std::sync::Arc;

use boatyard_link::{
    Error as LinkError, ResetCode, Stream,
    message::{Ack, Position},
};
use bytes::Bytes;

use crate::spool::{self, Spool};

/// How much of the spool is read at once: enough to be quick after a pause of the server.
const BATCH: usize = 256 << 10;

/// The longest acknowledgement, in bytes.
const ACK_MAX: usize = 4 << 10;

/// Why the stream ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stream or its link.
    #[error("the events stream ended")]
    Link(#[from] LinkError),
    /// The spool.
    #[error("the spool failed")]
    Spool(#[from] spool::Error),
}

/// Sends what is in the spool after `after` and what comes, until the link ends.
///
/// # Errors
/// When the stream ends otherwise than by the server's wish.
pub async fn serve(
    stream: Stream,
    spool: Arc<Spool>,
    after: Option<Position>,
) -> Result<(), Error> {
    let (mut send, mut recv) = stream.split();
    let mut last = spool.last();
    let mut cursor = spool.cursor(after);
    if let Some(after) = after {
        spool.release(after)?;
    }
    let sending = async {
        loop {
            last.mark_unchanged();
            let mut batch = Vec::new();
            spool.read(&mut cursor, BATCH, &mut batch)?;
            if !batch.is_empty() {
                send.send_bytes(Bytes::from(batch)).await?;
            } else if last.changed().await.is_err() {
                return Ok::<_, Error>(());
            }
        }
    };
    let releasing = async {
        while let Some(ack) = recv.recv_message::<Ack>(ACK_MAX).await? {
            spool.release(ack.position)?;
        }
        Ok::<_, Error>(())
    };
    let outcome = tokio::select! {
        outcome = sending => outcome,
        outcome = releasing => outcome,
    };
    match &outcome {
        Ok(()) => send.finish()?,
        Err(error) => send.reset(ResetCode::FAILED, &error.to_string()),
    }
    outcome
}
