//! The server's own requests by HTTPS: to services that give out tokens, and to git servers.
//!
//! They go out as all of the server's traffic does ([`crate::dial`]): to addresses that were
//! judged, through the operator's proxy where there is one. Nothing follows a redirect.

use std::{fmt, io, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    body::{Body, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    net::TcpStream,
    sync::OnceCell,
    task::JoinHandle,
    time::{timeout, timeout_at},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    Error,
    dial::{DialError, Outgoing, Purpose, dial},
    gateway::{body::chain, upstream},
    resolve::{Guard, Resolver},
    rules::{Host, Target},
};

/// How long making a connection may take, TLS included.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// The most bytes of an answer's head.
const MAX_HEAD: usize = 64 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpsError {
    /// There is no connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The other side is not who it should be, or speaks no TLS.
    #[error("no TLS with {target}")]
    Tls {
        /// The destination.
        target: String,
        /// What was wrong.
        #[source]
        source: io::Error,
    },
    /// It did not answer as HTTP has it, or broke off.
    #[error("{target} gave no whole answer")]
    Broken {
        /// The destination.
        target: String,
        /// What was wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It took too long.
    #[error("{target} gave no answer within {} s", .within.as_secs())]
    TimedOut {
        /// The destination.
        target: String,
        /// How long it had.
        within: Duration,
    },
    /// The address is none that is asked by HTTPS.
    #[error("the address is no https:// one")]
    Address,
    /// The authorities can't be used.
    #[error("{0}")]
    Authorities(String),
}

/// How requests go out by HTTPS. Cheap to clone.
#[derive(Clone)]
pub struct Https(Arc<Parts>);

struct Parts {
    outgoing: Outgoing,
    resolver: Arc<dyn Resolver>,
    authorities: RootCertStore,
    /// Made when it is first needed.
    tls: OnceCell<Arc<ClientConfig>>,
}

impl fmt::Debug for Https {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Https")
    }
}

/// A connection. It ends with this.
pub(crate) struct Connected<B> {
    pub(crate) sender: http1::SendRequest<B>,
    driver: JoinHandle<()>,
}

impl<B> Drop for Connected<B> {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Https {
    /// One that goes out by `outgoing`, and trusts the system's authorities and these, in PEM form.
    ///
    /// # Errors
    /// When `authorities` are none.
    pub fn new(
        outgoing: Outgoing,
        authorities: &[u8],
        resolver: Arc<dyn Resolver>,
    ) -> Result<Self, Error> {
        let authorities = upstream::authorities(authorities)?;
        Ok(Self(Arc::new(Parts { outgoing, resolver, authorities, tls: OnceCell::new() })))
    }

    async fn tls(&self) -> Result<&Arc<ClientConfig>, HttpsError> {
        let make = async {
            let roots = self.0.authorities.clone();
            let made = tokio::task::spawn_blocking(move || upstream::tls(roots)).await;
            let made = made.map_err(|error| HttpsError::Authorities(error.to_string()))?;
            made.map_err(|error| HttpsError::Authorities(chain(&error)))
        };
        self.0.tls.get_or_try_init(|| make).await
    }

    async fn stream(
        &self,
        target: &Target,
        guard: &Guard,
    ) -> Result<TlsStream<TcpStream>, HttpsError> {
        let parts = &self.0;
        let dialled =
            dial(target, Purpose::Tunnel, &parts.outgoing, guard, &*parts.resolver).await?;
        let failed = |source| HttpsError::Tls { target: target.to_string(), source };
        let server = match &target.host {
            Host::Address(address) => ServerName::from(*address),
            Host::Name(host) => ServerName::try_from(host.to_string())
                .map_err(|error| failed(io::Error::other(error)))?,
        };
        let config = Arc::clone(self.tls().await?);
        TlsConnector::from(config).connect(server, dialled.stream).await.map_err(failed)
    }

    /// Connects to `target`, to one of the addresses that `guard` lets pass.
    pub(crate) async fn connect<B>(
        &self,
        target: &Target,
        guard: &Guard,
    ) -> Result<Connected<B>, HttpsError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let late = |_| HttpsError::TimedOut { target: target.to_string(), within: CONNECT_WITHIN };
        let stream = timeout(CONNECT_WITHIN, self.stream(target, guard)).await.map_err(late)??;
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(4 * MAX_HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|source| broken(target, source))?;
        // How it ends shows in the request or its body.
        let driver = tokio::spawn(async move {
            let _ = driver.await;
        });
        Ok(Connected { sender, driver })
    }

    /// Asks once, with a whole body, and gives the whole answer, of at most `most` bytes.
    ///
    /// # Errors
    /// Why there is no answer. Any status is one.
    pub async fn ask(
        &self,
        request: Request<Bytes>,
        guard: &Guard,
        most: usize,
        within: Duration,
    ) -> Result<Response<Bytes>, HttpsError> {
        let deadline = tokio::time::Instant::now() + within;
        let (mut head, body) = request.into_parts();
        let target = target_of(&head.uri).ok_or(HttpsError::Address)?;
        let authority = match target.port {
            443 => target.host.to_string(),
            _ => target.to_string(),
        };
        let authority = HeaderValue::try_from(authority).map_err(|_| HttpsError::Address)?;
        head.headers.insert(header::HOST, authority);
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        head.uri = path.parse().map_err(|_| HttpsError::Address)?;
        let request = Request::from_parts(head, Full::new(body));
        let asked = async {
            let mut connected = self.connect::<Full<Bytes>>(&target, guard).await?;
            let sent = connected.sender.send_request(request).await;
            let (head, body) = sent.map_err(|source| broken(&target, source))?.into_parts();
            Ok(Response::from_parts(head, whole(body, most, &target).await?))
        };
        let late = |_| HttpsError::TimedOut { target: target.to_string(), within };
        timeout_at(deadline, asked).await.map_err(late)?
    }
}

/// Where an `https://` address leads.
fn target_of(uri: &Uri) -> Option<Target> {
    let host = uri.host()?.parse().ok()?;
    (uri.scheme_str() == Some("https"))
        .then(|| Target { host, port: uri.port_u16().unwrap_or(443) })
}

async fn whole(body: Incoming, most: usize, target: &Target) -> Result<Bytes, HttpsError> {
    let mut body = Limited::new(body, most);
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|source| broken(target, source))?;
        if let Ok(data) = frame.into_data() {
            all.extend_from_slice(&data);
        }
    }
    Ok(all.freeze())
}

fn broken(
    target: &Target,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> HttpsError {
    HttpsError::Broken { target: target.to_string(), source: source.into() }
}
