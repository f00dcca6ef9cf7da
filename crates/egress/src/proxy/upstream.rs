//! Connections to destinations, kept for the next request of the same workspace.
//!
//! ```text
//!  request ─► Pool::connect ─┬─ HTTP/2 connection that is there: shared
//!                            ├─ HTTP/1.1 connection that is idle: taken, and given back when the
//!                            │  answer was read to its end
//!                            └─ dial ─► TLS, verified ─► what the server speaks
//! ```

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::AbortHandle,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::Parts;
use crate::{
    Error,
    broker::{Body, Scheme},
    dial::{DialError, Purpose, Via, dial},
    open::{Alpn, H2},
    rules::{Host, Target},
};

/// How long an idle connection is kept.
const IDLE_FOR: Duration = Duration::from_secs(60);
/// How many idle ones there may be to one destination.
const IDLE_EACH: usize = 8;
/// How many destinations are remembered.
const DESTINATIONS: usize = 128;
/// How long TLS and HTTP may take to begin.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// How long one whose answer has just been read may take to be ready for the next request.
const READY_WITHIN: Duration = Duration::from_millis(50);
/// What of one answer may be under way: what a slow reader leaves standing in memory.
const STREAM_WINDOW: u32 = 1 << 20;
/// The same for all answers of one connection.
const CONNECTION_WINDOW: u32 = 4 << 20;
/// How often a quiet HTTP/2 connection is asked whether it is still there.
const STILL_THERE: Duration = Duration::from_secs(30);

/// How requests go to a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Wire {
    /// As plain text.
    Http,
    /// As plain text, by HTTP/2 from the first byte on.
    Http2,
    /// By TLS.
    Https,
}

impl Wire {
    /// As it is called in a URL.
    pub(super) const fn scheme(self) -> Scheme {
        match self {
            Self::Http | Self::Http2 => Scheme::Http,
            Self::Https => Scheme::Https,
        }
    }
}

/// What the next request is to be like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// One among others.
    Request,
    /// One after which the connection speaks something else.
    Upgrade,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    wire: Wire,
    target: Target,
}

/// A connection to a destination, in use.
pub(super) struct Upstream {
    key: Key,
    pub(super) sender: Sender,
    pub(super) via: Option<Via>,
    /// Whether a request went over it before: then it may have been closed meanwhile.
    pub(super) is_reused: bool,
    driver: Driver,
}

impl Upstream {
    pub(super) fn wire(&self) -> Wire {
        self.key.wire
    }
}

/// What requests are given to.
pub(super) enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

/// Ends the connection with the last who uses it.
#[derive(Clone)]
struct Driver(#[expect(dead_code, reason = "held for its end")] Arc<Abort>);

struct Abort(AbortHandle);

impl Drop for Abort {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The connections of one workspace.
#[derive(Default)]
pub(super) struct Pool {
    slots: Mutex<HashMap<Key, Slot>>,
}

#[derive(Default)]
struct Slot {
    shared: Option<(http2::SendRequest<Body>, Driver)>,
    idle: Vec<(Upstream, Instant)>,
    /// Held while the first connection is made, since those that wait may be able to share it.
    connecting: Arc<tokio::sync::Mutex<()>>,
    /// Whether the destination speaks HTTP/1.1, so that there is nothing to share.
    is_http1: bool,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("the certificate of {target} can't be trusted")]
    Certificate {
        target: String,
        #[source]
        source: io::Error,
    },
    #[error("no TLS with {target}")]
    Tls {
        target: String,
        #[source]
        source: io::Error,
    },
    #[error("{target} does not speak HTTP")]
    Http {
        target: String,
        #[source]
        source: hyper::Error,
    },
    #[error("{target} did not speak within {} s", HANDSHAKE_WITHIN.as_secs())]
    Late { target: String },
    #[error(transparent)]
    Ours(#[from] Error),
}

impl Pool {
    /// A connection for a request.
    pub(super) async fn connect(
        &self,
        parts: &Parts,
        target: &Target,
        wire: Wire,
        wanted: Wanted,
    ) -> Result<Upstream, ConnectError> {
        let key = Key { wire, target: target.clone() };
        if wanted == Wanted::Upgrade {
            return open(parts, key, Alpn::Http1, None).await;
        }
        if let Some(kept) = self.take(&key).await {
            return Ok(kept);
        }
        let connecting = {
            let mut slots = self.slots();
            let slot = slots.entry(key.clone()).or_default();
            (wire != Wire::Http && !slot.is_http1).then(|| Arc::clone(&slot.connecting))
        };
        let Some(connecting) = connecting else { return self.open(parts, key, None).await };
        let first = connecting.lock().await;
        // Somebody before us may have made one that is shared, or have found that none can be.
        if let Some(kept) = self.take(&key).await {
            return Ok(kept);
        }
        let held = match self.slots().get(&key) {
            Some(slot) if slot.is_http1 => None,
            _ => Some(first),
        };
        let opened = self.open(parts, key, None).await;
        drop(held);
        opened
    }

    /// A new connection, whatever there is.
    pub(super) async fn connect_anew(
        &self,
        parts: &Parts,
        target: &Target,
        wire: Wire,
    ) -> Result<Upstream, ConnectError> {
        self.open(parts, Key { wire, target: target.clone() }, None).await
    }

    /// Takes a connection that was made already.
    pub(super) async fn adopt(
        &self,
        parts: &Parts,
        target: &Target,
        wire: Wire,
        stream: TcpStream,
    ) -> Result<Upstream, ConnectError> {
        self.open(parts, Key { wire, target: target.clone() }, Some(stream)).await
    }

    async fn open(
        &self,
        parts: &Parts,
        key: Key,
        stream: Option<TcpStream>,
    ) -> Result<Upstream, ConnectError> {
        let upstream = open(parts, key.clone(), Alpn::Best, stream).await?;
        let mut slots = self.slots();
        tidy(&mut slots);
        let slot = slots.entry(key).or_default();
        match &upstream.sender {
            Sender::Http1(_) => slot.is_http1 = true,
            Sender::Http2(sender) => {
                slot.shared = Some((sender.clone(), upstream.driver.clone()));
            }
        }
        Ok(upstream)
    }

    /// One that is there.
    async fn take(&self, key: &Key) -> Option<Upstream> {
        loop {
            let mut kept = {
                let mut slots = self.slots();
                let slot = slots.get_mut(key)?;
                if let Some((sender, driver)) = &slot.shared {
                    if !sender.is_closed() {
                        return Some(Upstream {
                            key: key.clone(),
                            sender: Sender::Http2(sender.clone()),
                            via: None,
                            is_reused: true,
                            driver: driver.clone(),
                        });
                    }
                    slot.shared = None;
                }
                let (kept, since) = slot.idle.pop()?;
                if since.elapsed() > IDLE_FOR {
                    // The others are older.
                    slot.idle.clear();
                    return None;
                }
                kept
            };
            let Sender::Http1(sender) = &mut kept.sender else { continue };
            if matches!(timeout(READY_WITHIN, sender.ready()).await, Ok(Ok(()))) {
                kept.is_reused = true;
                return Some(kept);
            }
        }
    }

    /// Gives back a connection whose answer was read to its end.
    pub(super) fn give_back(&self, upstream: Upstream) {
        let Sender::Http1(sender) = &upstream.sender else { return };
        if sender.is_closed() {
            return;
        }
        let mut slots = self.slots();
        let slot = slots.entry(upstream.key.clone()).or_default();
        if slot.idle.len() < IDLE_EACH {
            slot.idle.push((upstream, Instant::now()));
        }
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<Key, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes what is over, and if there are too many destinations, all that nobody uses.
fn tidy(slots: &mut HashMap<Key, Slot>) {
    let too_many = slots.len() >= DESTINATIONS;
    slots.retain(|_, slot| {
        slot.idle.retain(|(_, since)| since.elapsed() <= IDLE_FOR);
        if slot.shared.as_ref().is_some_and(|(sender, _)| sender.is_closed()) {
            slot.shared = None;
        }
        let in_use = Arc::strong_count(&slot.connecting) > 1;
        in_use || !too_many && (slot.shared.is_some() || !slot.idle.is_empty())
    });
}

async fn open(
    parts: &Parts,
    key: Key,
    alpn: Alpn,
    stream: Option<TcpStream>,
) -> Result<Upstream, ConnectError> {
    let settings = &parts.settings;
    let (stream, via) = match stream {
        Some(stream) => (stream, None),
        None => {
            let purpose = match key.wire {
                Wire::Http => Purpose::Requests,
                Wire::Http2 | Wire::Https => Purpose::Tunnel,
            };
            let (outgoing, guard) = (&settings.outgoing, &settings.guard);
            let dialled = dial(&key.target, purpose, outgoing, guard, &*parts.resolver).await?;
            (dialled.stream, dialled.via)
        }
    };
    let target = key.target.to_string();
    let late = |_| ConnectError::Late { target };
    timeout(HANDSHAKE_WITHIN, begin(parts, key, alpn, stream, via)).await.map_err(late)?
}

async fn begin(
    parts: &Parts,
    key: Key,
    alpn: Alpn,
    stream: TcpStream,
    via: Option<Via>,
) -> Result<Upstream, ConnectError> {
    let max_head = parts.settings.max_head;
    let (sender, driver) = match key.wire {
        Wire::Http => http1(stream, max_head).await,
        Wire::Http2 => http2(stream, max_head).await,
        Wire::Https => {
            let stream = tls(parts, &key.target, alpn, stream).await?;
            if stream.get_ref().1.alpn_protocol() == Some(H2) {
                http2(stream, max_head).await
            } else {
                http1(stream, max_head).await
            }
        }
    }
    .map_err(|source| ConnectError::Http { target: key.target.to_string(), source })?;
    Ok(Upstream { key, sender, via, is_reused: false, driver })
}

async fn tls(
    parts: &Parts,
    target: &Target,
    alpn: Alpn,
    stream: TcpStream,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, ConnectError> {
    let opener = parts.settings.opener.as_ref();
    let opener = opener.ok_or(Error::Authority { what: "is not there" })?;
    let config = opener.client(alpn).await?;
    let server = match &target.host {
        Host::Address(address) => ServerName::from(*address),
        Host::Name(name) => ServerName::try_from(name.to_string())
            .map_err(|_| Error::Host { text: name.to_string() })?,
    };
    TlsConnector::from(config).connect(server, stream).await.map_err(|source| {
        let is_about_certificate = source
            .get_ref()
            .and_then(|error| error.downcast_ref::<rustls::Error>())
            .is_some_and(|error| matches!(error, rustls::Error::InvalidCertificate(_)));
        let target = target.to_string();
        if is_about_certificate {
            ConnectError::Certificate { target, source }
        } else {
            ConnectError::Tls { target, source }
        }
    })
}

async fn http1<S>(stream: S, max_head: usize) -> hyper::Result<(Sender, Driver)>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, driver) =
        http1::Builder::new().max_buf_size(max_head).handshake(TokioIo::new(stream)).await?;
    // How it ends shows in the request or its body.
    let driver = tokio::spawn(async move {
        let _ = driver.with_upgrades().await;
    });
    Ok((Sender::Http1(sender), Driver(Arc::new(Abort(driver.abort_handle())))))
}

async fn http2<S>(stream: S, max_head: usize) -> hyper::Result<(Sender, Driver)>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, driver) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(max_head).unwrap_or(u32::MAX))
        .keep_alive_interval(STILL_THERE)
        .handshake(TokioIo::new(stream))
        .await?;
    let driver = tokio::spawn(async move {
        let _ = driver.await;
    });
    Ok((Sender::Http2(sender), Driver(Arc::new(Abort(driver.abort_handle())))))
}
