//! A gateway on loopback, and providers to reach.

use std::{
    fmt::Write as _,
    future::Future,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use boatyard_egress::{
    gateway::{Api, Call, Calls, Credential, Gateway, Provider, Secret, Settings},
    resolve::System,
};
use boatyard_model::WorkspaceId;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

/// Far beyond what anything here takes; a hang becomes a failure.
const DEADLINE: Duration = Duration::from_secs(30);
/// The real key, which only providers may see.
pub(crate) const KEY: &str = "sk-real-0123456789";
/// What [`mirror`] shows in its place: the gateway does not let the key itself back in.
pub(crate) const SEEN: &str = "(the real key)";

pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future).await.expect("in time")
}

pub(crate) fn key() -> Credential {
    Credential::Key(Secret::new(format!("{KEY}\n")))
}

pub(crate) fn provider(name: &str, api: Api, base_url: &str) -> Provider {
    Provider::new(name, api, base_url, key()).unwrap()
}

pub(crate) struct Fixture {
    pub(crate) address: SocketAddr,
    pub(crate) calls: mpsc::Receiver<Call>,
    pub(crate) stop: Option<oneshot::Sender<()>>,
    pub(crate) serving: JoinHandle<Result<(), boatyard_egress::Error>>,
    pub(crate) workspace: WorkspaceId,
}

impl Fixture {
    pub(crate) fn start(settings: Settings, providers: Vec<Provider>) -> Self {
        let (sink, calls) = Calls::new(100);
        let gateway = Gateway::new(providers, settings, Arc::new(System), sink).unwrap();
        assert!(!format!("{gateway:?}").contains(KEY));
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let workspace = WorkspaceId::new();
        let serving = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            gateway.serve(workspace, listener.into(), stopped).await
        });
        Self { address, calls, stop: Some(stop), serving, workspace }
    }

    /// With one provider `anthropic` on this port of loopback.
    pub(crate) fn anthropic(settings: Settings, port: u16) -> Self {
        let base_url = format!("http://127.0.0.1:{port}");
        Self::start(settings, vec![provider("anthropic", Api::Anthropic, &base_url)])
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// A connection on which this was sent.
    pub(crate) async fn send(&self, request: &str) -> TcpStream {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    /// Sends a request that asks for the connection to be closed, and reads the answer.
    pub(crate) async fn ask(&self, line: &str, headers: &str, body: &str) -> Answer {
        let mut request = format!("{line} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n");
        request.push_str(headers);
        if !body.is_empty() {
            write!(request, "Content-Length: {}\r\n", body.len()).unwrap();
        }
        let mut stream = self.send(&format!("{request}\r\n{body}")).await;
        let head = read_head(&mut stream).await;
        let mut body = String::new();
        soon(stream.read_to_string(&mut body)).await.unwrap();
        Answer { head, body }
    }

    pub(crate) async fn call(&mut self) -> Call {
        let call = soon(self.calls.recv()).await.expect("a call");
        assert!(!format!("{call:?}").contains(KEY), "{call:?}");
        call
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.head[9..12].parse().unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).expect(&self.body)
    }
}

/// Reads a head and nothing beyond; in lower case, as header names are of either.
pub(crate) async fn read_head(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon(stream.read_u8()).await.expect("a whole head"));
    }
    String::from_utf8(head).unwrap()
}

/// Reads one chunk of a chunked body; empty at its end.
pub(crate) async fn read_chunk(stream: &mut TcpStream) -> io::Result<String> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.push(soon(stream.read_u8()).await?);
    }
    let length = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
    let mut chunk = vec![0; length + 2];
    soon(stream.read_exact(&mut chunk)).await?;
    chunk.truncate(length);
    Ok(String::from_utf8(chunk).unwrap())
}

pub(crate) async fn write_chunk(stream: &mut TcpStream, text: &str) {
    let chunk = format!("{:x}\r\n{text}\r\n", text.len());
    stream.write_all(chunk.as_bytes()).await.unwrap();
}

/// A listener for a test that plays the provider itself; and its port.
pub(crate) async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

pub(crate) async fn accept(listener: &TcpListener) -> TcpStream {
    soon(listener.accept()).await.unwrap().0
}

/// A provider that answers each request with `headers` and the request's own head and body as it
/// came; its port.
pub(crate) async fn mirror(status: &'static str, headers: &'static str) -> u16 {
    let (listener, port) = listen().await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let head = read_head(&mut stream).await;
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
                stream.read_exact(&mut body).await.unwrap();
                let head = head.replace(KEY, SEEN);
                let body = [head.as_bytes(), &body].concat();
                let head =
                    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
                let answer = [head.as_bytes(), &body].concat();
                stream.write_all(&answer).await.unwrap();
                // The other side closes.
                let _ = stream.read_u8().await;
            });
        }
    });
    port
}
