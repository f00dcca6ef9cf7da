//! Connections to providers.

use std::{net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{client::conn::http1, server::conn::http1 as server};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use url::Url;

use super::{Parts, body::chain, fault::Fault, provider::Provider, request::Outward};
use crate::{
    Error,
    dial::{DialError, Outgoing, Purpose, Via, dial},
    rules::{Host, Target},
    scripted::Scripted,
};

/// The most bytes of an answer's head, and of what is read ahead of its client.
const MAX_HEAD: usize = 256 * 1024;

/// What is on its way to or from a provider in this process.
const PIPE: usize = 64 * 1024;

/// A connection to a provider. It ends with this.
pub(super) struct Upstream {
    pub(super) provider: Arc<Provider>,
    pub(super) sender: http1::SendRequest<Outward>,
    /// When requests on it go to a proxy of the operator's.
    pub(super) via: Option<Via>,
    driver: JoinHandle<()>,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Whom to trust beside the system's authorities, from PEM form.
pub(crate) fn authorities(pem: &[u8]) -> Result<RootCertStore, Error> {
    let wrong = |what| Error::Authorities { what };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| wrong("are not in PEM form"))?;
        roots.add(certificate).map_err(|_| wrong("hold a certificate of no authority"))?;
    }
    Ok(roots)
}

/// What is trusted: the system's authorities, which are read for it, and `roots`.
pub(crate) fn tls(mut roots: RootCertStore) -> Result<Arc<ClientConfig>, Error> {
    let wrong = |what| Error::Authorities { what };
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::warn!(%error, "some of the system's certificates can't be read");
    }
    roots.add_parsable_certificates(system.certs);
    if roots.is_empty() {
        return Err(wrong("are none: the system has no certificates (package ca-certificates)"));
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|_| wrong("go with no version of TLS"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The configuration of TLS, which is made once.
async fn tls_of(parts: &Parts) -> Result<&Arc<ClientConfig>, String> {
    let make = async {
        let roots = parts.authorities.clone();
        // Some hundred files at worst, and their signatures' numbers.
        let made = tokio::task::spawn_blocking(move || tls(roots)).await;
        made.map_err(|error| error.to_string())?.map_err(|error| chain(&error))
    };
    parts.tls.get_or_try_init(|| make).await
}

/// Connects to a provider, within the deadline that the settings have for it.
pub(super) async fn connect(parts: &Parts, provider: &Arc<Provider>) -> Result<Upstream, Fault> {
    let within = parts.settings.connect_within;
    let late = || Fault::NotConnected { provider: provider.name().to_owned(), within };
    timeout(within, open(parts, provider)).await.unwrap_or_else(|_| Err(late()))
}

async fn open(parts: &Parts, provider: &Arc<Provider>) -> Result<Upstream, Fault> {
    let name = || provider.name().to_owned();
    let unreachable = |why| Fault::Unreachable { provider: name(), why };
    if let Some(scripted) = provider.in_process() {
        return in_process(provider, scripted.clone())
            .await
            .map_err(|error| unreachable(chain(&error)));
    }
    let (stream, via) = match stream(parts, provider.target(), provider.is_tls()).await {
        Ok(opened) => opened,
        Err(Closed::Offline) => return Err(Fault::Offline { provider: name() }),
        Err(Closed::Unreachable(why)) => return Err(unreachable(why)),
    };
    let (sender, driver) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| unreachable(chain(&error)))?;
    // How it ends shows in the request or its body.
    let driver = tokio::spawn(async move {
        let _ = driver.await;
    });
    Ok(Upstream { provider: Arc::clone(provider), sender, via, driver })
}

/// Why there is no connection.
enum Closed {
    Offline,
    Unreachable(String),
}

/// A connection, with TLS where that is wanted.
async fn stream(
    parts: &Parts,
    target: &Target,
    is_tls: bool,
) -> Result<(Box<dyn Stream>, Option<Via>), Closed> {
    // What is on this host is not outside: no proxy leads to it, and being offline is no matter.
    let direct = Outgoing::default();
    let outgoing = if is_here(&target.host) { &direct } else { &parts.settings.outgoing };
    let purpose = if is_tls { Purpose::Tunnel } else { Purpose::Requests };
    let dialled = dial(target, purpose, outgoing, &parts.guard, &*parts.resolver).await;
    let dialled = dialled.map_err(|error| match error {
        DialError::Offline => Closed::Offline,
        error => Closed::Unreachable(chain(&error)),
    })?;
    if !is_tls {
        return Ok((Box::new(dialled.stream), dialled.via));
    }
    let config = tls_of(parts).await.map_err(Closed::Unreachable)?;
    let server = match &target.host {
        Host::Address(address) => ServerName::from(*address),
        Host::Name(host) => ServerName::try_from(host.to_string())
            .map_err(|error| Closed::Unreachable(error.to_string()))?,
    };
    let connecting = TlsConnector::from(Arc::clone(config)).connect(server, dialled.stream);
    let why = |error: std::io::Error| format!("no TLS with {target}: {}", chain(&error));
    let stream = connecting.await.map_err(|error| Closed::Unreachable(why(error)))?;
    Ok((Box::new(stream), dialled.via))
}

/// How long a service that gives out tokens may take, and how much it may say.
const ASK_WITHIN: Duration = Duration::from_secs(20);
const MAX_ANSWER: usize = 256 * 1024;

/// Asks a service that gives out tokens: its status, and what it said if that is JSON.
pub(super) async fn ask(
    parts: &Parts,
    url: &Url,
    kind: &'static str,
    body: Bytes,
) -> Result<(u16, serde_json::Value), String> {
    let asked = async {
        let host = url.host_str().and_then(|host| host.parse().ok());
        let target =
            host.zip(url.port_or_known_default()).map(|(host, port)| Target { host, port });
        let target = target.ok_or_else(|| "its token_url has no host".to_owned())?;
        let at = |why: String| format!("{target} can't be reached: {why}");
        let opened = stream(parts, &target, url.scheme() == "https").await;
        let (stream, via) = opened.map_err(|closed| match closed {
            Closed::Offline => "Boatyard is offline by its settings".to_owned(),
            Closed::Unreachable(why) => at(why),
        })?;
        let (mut sender, driver) = http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| at(chain(&error)))?;
        let driver = AbortOnDrop(tokio::spawn(async move {
            // How it ends shows in the answer.
            let _ = driver.await;
        }));
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let authority = format!("{}{port}", target.host);
        let path = match &via {
            Some(_) => url.as_str(),
            None => url.path(),
        };
        let mut request = Request::post(path)
            .header(header::HOST, authority)
            .header(header::CONTENT_TYPE, HeaderValue::from_static(kind))
            .header(header::ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(authorization) = via.and_then(|via| via.authorization) {
            request = request.header(header::PROXY_AUTHORIZATION, authorization);
        }
        let request = request.body(Full::new(body)).map_err(|error| at(error.to_string()))?;
        let answer = sender.send_request(request).await.map_err(|error| at(chain(&error)))?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| at(chain(&*error)))?.to_bytes();
        drop(driver);
        Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
    };
    let late = |_| format!("no answer of {url} within {} s", ASK_WITHIN.as_secs());
    timeout(ASK_WITHIN, asked).await.map_err(late)?
}

/// A task that ends with its owner.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A connection within this process, so that all else is as with any provider.
async fn in_process(provider: &Arc<Provider>, scripted: Scripted) -> hyper::Result<Upstream> {
    let (near, far) = tokio::io::duplex(PIPE);
    let serving = server::Builder::new().serve_connection(TokioIo::new(far), scripted);
    let (sender, driver) = http1::Builder::new().handshake(TokioIo::new(near)).await?;
    // How either ends shows in the request or its body.
    let driver = tokio::spawn(async move {
        let _ = tokio::join!(driver, serving);
    });
    Ok(Upstream { provider: Arc::clone(provider), sender, via: None, driver })
}

/// Whether this is the host that the server runs on.
fn is_here(host: &Host) -> bool {
    match host {
        Host::Name(name) => &**name == "localhost",
        Host::Address(IpAddr::V4(address)) => address.is_loopback(),
        Host::Address(IpAddr::V6(address)) => address.is_loopback(),
    }
}
