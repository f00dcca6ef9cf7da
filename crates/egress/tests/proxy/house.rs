//! Origins that speak TLS, with an authority of their own that the proxy is told to trust, and
//! clients that trust the proxy's.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use boatyard_egress::{
    Rule, Settings,
    open::{Authority, Opener},
};
use boatyard_model::RuleSpec;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Body, Frame, Incoming},
    client::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};

use crate::fixture::{Fixture, settings, soon};

pub(crate) type Sent = UnsyncBoxBody<Bytes, Infallible>;

/// An authority for origins.
pub(crate) struct House {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

/// An origin on loopback.
pub(crate) struct Origin {
    pub(crate) port: u16,
    /// How many connections it was asked for.
    pub(crate) connections: Arc<AtomicUsize>,
    /// The line of each request, with its version.
    pub(crate) seen: Arc<Mutex<Vec<String>>>,
    /// How many bytes it has made for `/endless`.
    pub(crate) made: Arc<AtomicUsize>,
}

impl House {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        // No two have the same name, as none in the world have.
        let name = format!("House {}", boatyard_model::WorkspaceId::new());
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Serves `names` in these protocols.
    pub(crate) async fn serve(&self, names: &[&str], protocols: &[&str]) -> Origin {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Origin::start(Some(TlsAcceptor::from(Arc::new(config)))).await
    }
}

impl Origin {
    /// One without TLS.
    pub(crate) async fn plain() -> Self {
        Self::start(None).await
    }

    async fn start(acceptor: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let origin =
            Self { port, connections: Arc::default(), seen: Arc::default(), made: Arc::default() };
        let (connections, seen, made) =
            (Arc::clone(&origin.connections), Arc::clone(&origin.seen), Arc::clone(&origin.made));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::Relaxed);
                let (acceptor, seen, made) = (acceptor.clone(), seen.clone(), made.clone());
                let service =
                    service_fn(move |request| answer(request, seen.clone(), made.clone()));
                tokio::spawn(async move {
                    let Some(acceptor) = acceptor else {
                        let serving = hyper::server::conn::http1::Builder::new()
                            .serve_connection(TokioIo::new(stream), service);
                        let _ = serving.with_upgrades().await;
                        return;
                    };
                    // A client that does not trust us ends here.
                    let Ok(tls) = acceptor.accept(stream).await else { return };
                    let is_h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
                    let io = TokioIo::new(tls);
                    if is_h2 {
                        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                            .serve_connection(io, service)
                            .await;
                    } else {
                        let serving = hyper::server::conn::http1::Builder::new()
                            .serve_connection(io, service);
                        let _ = serving.with_upgrades().await;
                    }
                });
            }
        });
        origin
    }

    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

fn text(text: impl Into<Bytes>) -> Sent {
    Full::new(text.into()).boxed_unsync()
}

/// Bytes without end.
struct Endless(Arc<AtomicUsize>);

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        static PIECE: [u8; 64 * 1024] = [7; 64 * 1024];
        self.0.fetch_add(PIECE.len(), Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&PIECE)))))
    }
}

async fn answer(
    mut request: Request<Incoming>,
    seen: Arc<Mutex<Vec<String>>>,
    made: Arc<AtomicUsize>,
) -> Result<Response<Sent>, Infallible> {
    let line = format!("{} {} {:?}", request.method(), request.uri().path(), request.version());
    seen.lock().unwrap().push(line);
    let mut response = Response::new(text(""));
    match request.uri().path() {
        "/redirect" => {
            *response.status_mut() = StatusCode::FOUND;
            let elsewhere = HeaderValue::from_static("https://elsewhere.example/");
            response.headers_mut().insert(header::LOCATION, elsewhere);
        }
        "/trailers" => {
            let sum = request.into_body().collect().await.unwrap();
            let back = sum.trailers().cloned().unwrap_or_default();
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            if let Some(value) = back.get("x-sum") {
                trailers.insert("x-sum", value.clone());
            }
            let frames = [Ok(Frame::data(sum.to_bytes())), Ok(Frame::trailers(trailers))];
            let stream = futures_util::stream::iter(frames);
            *response.body_mut() = StreamBody::new(stream).boxed_unsync();
            let named = HeaderValue::from_static("grpc-status, x-sum");
            response.headers_mut().insert(header::TRAILER, named);
        }
        "/echo" => {
            let body = request.into_body().map_err(|_| unreachable!("cut")).boxed_unsync();
            *response.body_mut() = body;
        }
        "/count" => {
            let mut count = 0;
            let mut body = request.into_body();
            while let Some(Ok(frame)) = body.frame().await {
                count += frame.data_ref().map_or(0, Bytes::len);
            }
            *response.body_mut() = text(count.to_string());
        }
        "/endless" => *response.body_mut() = Endless(made).boxed_unsync(),
        "/socket" => {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut io = TokioIo::new(upgrade.await.unwrap());
                let mut buffer = [0; 1024];
                while let Ok(count @ 1..) = io.read(&mut buffer).await {
                    io.write_all(&buffer[..count]).await.unwrap();
                }
            });
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            let headers = response.headers_mut();
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        }
        "/repo.git/info/refs" => {
            let refs = format!("{}\trefs/heads/main\n", "1".repeat(40));
            *response.body_mut() = text(refs);
        }
        "/missing" | "/simple/thing/" | "/index/th/in/thing" => {
            *response.status_mut() = StatusCode::NOT_FOUND;
        }
        "/-/ping" => *response.body_mut() = text("{}"),
        "/index/config.json" => {
            *response.body_mut() = text(r#"{"dl": "https://tools.example/dl"}"#);
        }
        _ => {
            let mut told = String::new();
            for (name, value) in request.headers() {
                told.push_str(&format!("{name}: {}\n", value.to_str().unwrap_or("?")));
            }
            let body = request.into_body().collect().await.map(|body| body.to_bytes());
            told.push_str(&String::from_utf8_lossy(&body.unwrap_or_default()));
            *response.body_mut() = text(told);
            let alternative = HeaderValue::from_static("h3=\":443\"");
            response.headers_mut().insert(header::ALT_SVC, alternative);
        }
    }
    Ok(response)
}

/// Settings of a proxy that opens TLS and trusts the house; and its own authority's certificate.
pub(crate) fn opening(house: &House) -> (Settings, CertificateDer<'static>) {
    let authority = Authority::in_memory().unwrap();
    let certificate = authority.certificate().clone();
    let opener = Opener::new(authority, house.pem.as_bytes()).unwrap();
    let silent_for = Duration::from_millis(300);
    (Settings { opener: Some(Arc::new(opener)), silent_for, ..settings() }, certificate)
}

/// A rule from its text, as a user writes it.
pub(crate) fn spec(name: &str, spec: serde_json::Value) -> Rule {
    let spec: RuleSpec = serde_json::from_value(spec).unwrap();
    Rule::from_spec(name, &spec).unwrap().remove(0)
}

/// A rule that lets GET through and nothing else.
pub(crate) fn reading(host: &str, port: u16) -> Rule {
    spec("reading", serde_json::json!({ "host": host, "ports": [port], "methods": ["GET"] }))
}

/// Begins TLS as a program does, asking for `name` (none for an address).
pub(crate) async fn begin(
    stream: TcpStream,
    name: &str,
    trusted: &CertificateDer<'static>,
    protocols: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    soon(TlsConnector::from(Arc::new(config)).connect(name, stream)).await
}

/// A client of either version.
pub(crate) enum Client {
    Http1(http1::SendRequest<Sent>),
    Http2(http2::SendRequest<Sent>),
}

impl Client {
    /// One that went through the proxy's CONNECT to `origin.example:port`.
    pub(crate) async fn through(
        fixture: &Fixture,
        port: u16,
        trusted: &CertificateDer<'static>,
        protocol: &str,
    ) -> Self {
        let stream = fixture.tunnel(&format!("origin.example:{port}")).await;
        Self::over(begin(stream, "origin.example", trusted, &[protocol]).await.unwrap()).await
    }

    pub(crate) async fn over(tls: TlsStream<TcpStream>) -> Self {
        let is_h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
        let io = TokioIo::new(tls);
        if is_h2 {
            let (sender, driver) =
                http2::Builder::new(TokioExecutor::new()).handshake(io).await.unwrap();
            tokio::spawn(driver);
            Self::Http2(sender)
        } else {
            let (sender, driver) = http1::handshake(io).await.unwrap();
            tokio::spawn(driver.with_upgrades());
            Self::Http1(sender)
        }
    }

    /// Sends a request for `https://origin.example:port` unless it says otherwise.
    pub(crate) async fn send(&mut self, port: u16, request: Request<Sent>) -> Response<Incoming> {
        let (mut head, body) = request.into_parts();
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let host = head
            .headers
            .remove(header::HOST)
            .unwrap_or_else(|| format!("origin.example:{port}").parse().unwrap());
        match self {
            Self::Http1(sender) => {
                head.headers.insert(header::HOST, host);
                soon(sender.ready()).await.unwrap();
                soon(sender.send_request(Request::from_parts(head, body))).await.unwrap()
            }
            Self::Http2(sender) => {
                let host = host.to_str().unwrap();
                head.uri = format!("https://{host}{path}").parse().unwrap();
                soon(sender.send_request(Request::from_parts(head, body))).await.unwrap()
            }
        }
    }

    /// The status and text of an answer.
    pub(crate) async fn ask(
        &mut self,
        port: u16,
        method: &str,
        path: &str,
        body: &str,
    ) -> (u16, String) {
        let request = Request::builder().method(method).uri(path);
        read(self.send(port, request.body(text(body.to_owned())).unwrap()).await).await
    }
}

pub(crate) fn empty() -> Sent {
    text("")
}

pub(crate) async fn read(response: Response<Incoming>) -> (u16, String) {
    let status = response.status().as_u16();
    let body = soon(response.into_body().collect()).await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}
