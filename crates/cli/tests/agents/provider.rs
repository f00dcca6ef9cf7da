//! The provider that the agents of a house meet, and what it was asked.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use boatyard_egress::scripted::{self, Seen, Settings};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    time::timeout,
};

/// What no request can have more of unread.
const UNREAD: usize = 1024;

/// A scripted provider on a port of loopback.
pub(crate) struct Provider {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Arc<Seen>>>>,
    count: watch::Receiver<usize>,
}

impl Provider {
    /// Starts it; it ends with the test.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (record, mut recorded) = mpsc::channel(UNREAD);
        let provider = scripted::service(Settings { pace: Duration::ZERO, record: Some(record) });
        tokio::spawn(async move { provider.serve(listener, std::future::pending()).await });
        let seen: Arc<Mutex<Vec<Arc<Seen>>>> = Arc::default();
        let (tell, count) = watch::channel(0);
        let kept = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Some(request) = recorded.recv().await {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.push(Arc::new(request));
                tell.send_replace(kept.len());
            }
        });
        Self { address, seen, count }
    }

    /// Where it is.
    pub(crate) fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All that it was asked so far.
    pub(crate) fn seen(&self) -> Vec<Arc<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The requests whose bodies have this text.
    pub(crate) fn about(&self, text: &str) -> Vec<Arc<Seen>> {
        self.seen().into_iter().filter(|seen| has(&seen.body, text)).collect()
    }

    /// Waits for a request that is so.
    pub(crate) async fn request(
        &self,
        what: &str,
        limit: Duration,
        is: impl Fn(&Seen) -> bool,
    ) -> Arc<Seen> {
        let mut count = self.count.clone();
        let wait = async {
            loop {
                count.borrow_and_update();
                if let Some(found) = self.seen().into_iter().find(|seen| is(seen)) {
                    return found;
                }
                count.changed().await.unwrap();
            }
        };
        timeout(limit, wait).await.unwrap_or_else(|_| panic!("no request {what}"))
    }

    /// What it was asked with this text in it, for people.
    pub(crate) fn told(&self, text: &str) -> String {
        let mut told = String::new();
        for seen in self.about(text) {
            let body = String::from_utf8_lossy(&seen.body);
            let last = body.rfind(text).unwrap_or_default();
            let from = body.floor_char_boundary(last.saturating_sub(SHOWN));
            let to = body.floor_char_boundary(last + SHOWN);
            let _ = writeln!(told, "{} {} … {} …", seen.method, seen.uri, &body[from..to]);
        }
        told
    }
}

/// How much of a request is shown on either side of what it is about, in bytes.
const SHOWN: usize = 600;

/// Whether bytes have this text in them.
pub(crate) fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}
