//! Requests: what opening TLS costs.

use std::{
    convert::Infallible,
    error::Error,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use boatyard_egress::{
    Guard, Policy, Proxy, Rule, RuleSet, Settings,
    log::Channel,
    open::{Authority, Opener},
    resolve::System,
    rules::{MethodName, Ports},
};
use boatyard_model::WorkspaceId;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full, combinators::UnsyncBoxBody};
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    client::conn::http1::SendRequest,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const HOST: &str = "127.0.0.1";
const LARGE: usize = 1 << 30;
const SMALL: usize = 5_000;
const CONNECTIONS: usize = 1_000;

type Answer = UnsyncBoxBody<Bytes, Infallible>;
type Outcome<T> = Result<T, Box<dyn Error>>;

pub(crate) async fn measure() -> Outcome<()> {
    let house = House::new()?;
    let plain = origin(None).await?;
    let encrypted = origin(Some(house.acceptor()?)).await?;
    let authority = Authority::in_memory()?;
    let ours = authority.certificate().clone();
    let opener = Opener::new(authority, house.pem.as_bytes())?;
    let guard = Guard::new(vec!["127.0.0.0/8".parse()?]);
    let settings = Settings { guard, opener: Some(Arc::new(opener)), ..Settings::default() };
    let (sink, _records) = Channel::new(1);
    let proxy = Proxy::new(settings, Arc::new(System), sink);
    let ports = Ports::from(&[plain, encrypted][..]);
    let mut rule = Rule::new("reading", "127.0.0.0/8".parse()?, ports);
    rule.methods = vec![MethodName(http::Method::GET)];
    let rules = RuleSet::new(vec![rule]);
    let (_policy, watched) = watch::channel(Arc::new(Policy::from(rules)));
    let listener = std::net::TcpListener::bind((HOST, 0))?;
    let way = listener.local_addr()?.port();
    tokio::spawn(async move {
        proxy.serve(WorkspaceId::new(), listener.into(), watched, std::future::pending()).await
    });
    let trusts_house =
        connector(rustls::pki_types::CertificateDer::from_pem_slice(house.pem.as_bytes())?)?;
    let trusts_us = connector(ours)?;

    let direct = async || Ok(sender(TcpStream::connect((HOST, plain)).await?).await?);
    let through = async || Ok(sender(TcpStream::connect((HOST, way)).await?).await?);
    let tls = async || {
        let stream = TcpStream::connect((HOST, encrypted)).await?;
        Ok(sender(trusts_house.connect(name()?, stream).await?).await?)
    };
    let opened = async || {
        let stream = tunnel(way, encrypted).await?;
        Ok(sender(trusts_us.connect(name()?, stream).await?).await?)
    };
    let full = format!("http://{HOST}:{plain}");
    report("plain, direct", plain, "", direct).await?;
    report("plain, proxy", plain, &full, through).await?;
    report("TLS, direct", encrypted, "", tls).await?;
    report("TLS, opened", encrypted, "", opened).await
}

async fn report(
    what: &str,
    port: u16,
    base: &str,
    connect: impl AsyncFn() -> Outcome<SendRequest<Empty<Bytes>>>,
) -> Outcome<()> {
    let mut times = Vec::new();
    for _ in 0..CONNECTIONS {
        let begin = Instant::now();
        let mut sender = connect().await?;
        get(&mut sender, port, &format!("{base}/small")).await?;
        times.push(begin.elapsed());
    }
    crate::print(&format!("connect and request, {what}"), times);
    let mut sender = connect().await?;
    let mut times = Vec::new();
    for _ in 0..SMALL {
        let begin = Instant::now();
        get(&mut sender, port, &format!("{base}/small")).await?;
        times.push(begin.elapsed());
    }
    crate::print(&format!("request, {what}"), times);
    let begin = Instant::now();
    let read = get(&mut sender, port, &format!("{base}/large")).await?;
    assert_eq!(read, LARGE);
    let rate = LARGE as f64 / 1e9 / begin.elapsed().as_secs_f64();
    println!("download, {what}: {rate:.2} GB/s");
    Ok(())
}

async fn get(sender: &mut SendRequest<Empty<Bytes>>, port: u16, uri: &str) -> Outcome<usize> {
    sender.ready().await?;
    let request = Request::get(uri).header("host", format!("{HOST}:{port}"));
    let response = sender.send_request(request.body(Empty::new())?).await?;
    assert_eq!(response.status(), 200, "{uri}");
    let mut body = response.into_body();
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        read += frame?.data_ref().map_or(0, Bytes::len);
    }
    Ok(read)
}

async fn sender<S>(stream: S) -> hyper::Result<SendRequest<Empty<Bytes>>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(driver);
    Ok(sender)
}

async fn tunnel(way: u16, port: u16) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect((HOST, way)).await?;
    stream.set_nodelay(true)?;
    let request = format!("CONNECT {HOST}:{port} HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(stream)
}

fn name() -> Outcome<ServerName<'static>> {
    Ok(ServerName::try_from(HOST)?)
}

fn connector(trusted: rustls::pki_types::CertificateDer<'static>) -> Outcome<TlsConnector> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted)?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// An authority for the origin.
struct House {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl House {
    fn new() -> Outcome<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    fn acceptor(&self) -> Outcome<TlsAcceptor> {
        let key = KeyPair::generate()?;
        let leaf = CertificateParams::new([HOST.to_owned()])?.signed_by(&key, &self.issuer)?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(
                vec![leaf.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der())?,
            )?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

async fn origin(acceptor: Option<TlsAcceptor>) -> std::io::Result<u16> {
    let listener = TcpListener::bind((HOST, 0)).await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                stream.set_nodelay(true)?;
                match acceptor {
                    Some(acceptor) => serve(acceptor.accept(stream).await?).await,
                    None => serve(stream).await,
                }
                Ok::<_, std::io::Error>(())
            });
        }
    });
    Ok(port)
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
    let service = service_fn(async |request: Request<Incoming>| {
        let body = match request.uri().path() {
            "/large" => Large(LARGE).boxed_unsync(),
            _ => Full::new(Bytes::from_static(b"small")).boxed_unsync(),
        };
        Ok::<Response<Answer>, Infallible>(Response::new(body))
    });
    let serving = hyper::server::conn::http1::Builder::new();
    // Whoever measures goes away when it is done.
    let _ = serving.serve_connection(TokioIo::new(stream), service).await;
}

/// So many bytes.
struct Large(usize);

impl Body for Large {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        static PIECE: [u8; 1 << 17] = [7; 1 << 17];
        if self.0 == 0 {
            return Poll::Ready(None);
        }
        let size = self.0.min(PIECE.len());
        self.0 -= size;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&PIECE[..size])))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0 as u64)
    }
}
