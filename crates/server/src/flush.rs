//! Logs that are written behind their callers' backs, and the wish to have them written now.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

/// How long the last rows may take: the server ends, or somebody looks.
const LAST: Duration = Duration::from_secs(2);

/// Asks a log's writer to write what waits. A cheap clone.
#[derive(Debug, Clone)]
pub(crate) struct Flush(mpsc::Sender<oneshot::Sender<()>>);

/// The writer's end: it answers each when what was told before is written.
pub(crate) type Flushes = mpsc::Receiver<oneshot::Sender<()>>;

impl Flush {
    /// Both ends.
    pub(crate) fn new() -> (Self, Flushes) {
        let (flushes, asked) = mpsc::channel(1);
        (Self(flushes), asked)
    }

    /// Has the writer write what waits; `what` names it where that takes longer than [`LAST`].
    pub(crate) async fn flush(&self, what: &str) {
        let (done, answer) = oneshot::channel();
        let flushed = async {
            if self.0.send(done).await.is_ok() {
                // The writer may have ended before, with nothing left to write.
                let _ = answer.await;
            }
        };
        if tokio::time::timeout(LAST, flushed).await.is_err() {
            tracing::warn!("the last {what} were not written to the log");
        }
    }
}
