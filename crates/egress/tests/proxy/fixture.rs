//! A proxy on loopback, names that lead where a test wants, and origins to reach.

use std::{
    collections::HashMap,
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use boatyard_egress::{
    Guard, Policy, Proxy, Record, Resolver, Rule, RuleSet, Settings, log::Channel, rules::Ports,
};
use boatyard_model::WorkspaceId;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

/// Far beyond what anything here takes; a hang becomes a failure.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future).await.expect("in time")
}

/// Gives the addresses it was told, and counts how often it was asked.
#[derive(Default)]
pub(crate) struct Names {
    answers: Mutex<HashMap<String, Vec<Vec<IpAddr>>>>,
    pub(crate) asked: Mutex<Vec<String>>,
}

impl Names {
    /// Each time the name is asked for, the next of `answers`; the last one stays.
    pub(crate) fn set(&self, name: &str, answers: &[&[&str]]) {
        let answers = answers
            .iter()
            .map(|list| list.iter().map(|address| address.parse().unwrap()).collect())
            .collect();
        self.answers.lock().unwrap().insert(name.to_owned(), answers);
    }
}

impl Resolver for Names {
    fn resolve<'a>(
        &'a self,
        name: &'a str,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send + 'a>> {
        self.asked.lock().unwrap().push(name.to_owned());
        let mut answers = self.answers.lock().unwrap();
        let answer = match answers.get_mut(name) {
            None => Err(io::Error::new(io::ErrorKind::NotFound, "no such name")),
            Some(list) if list.len() > 1 => Ok(list.remove(0)),
            Some(list) => Ok(list[0].clone()),
        };
        Box::pin(async move { answer })
    }
}

pub(crate) struct Fixture {
    pub(crate) address: SocketAddr,
    pub(crate) proxy: Proxy,
    pub(crate) names: Arc<Names>,
    pub(crate) policy: watch::Sender<Arc<Policy>>,
    pub(crate) records: mpsc::Receiver<Record>,
    pub(crate) stop: Option<oneshot::Sender<()>>,
    pub(crate) serving: JoinHandle<Result<(), boatyard_egress::Error>>,
    pub(crate) workspace: WorkspaceId,
}

/// Settings that let loopback pass, because the origins live there.
pub(crate) fn settings() -> Settings {
    let guard = Guard::new(vec!["127.0.0.0/8".parse().unwrap()]);
    Settings { guard, ..Settings::default() }
}

/// A rule for this host on this port.
pub(crate) fn rule(name: &str, host: &str, port: u16) -> Rule {
    Rule::new(name, host.parse().unwrap(), Ports::from(&[port][..]))
}

impl Fixture {
    pub(crate) fn start(settings: Settings, rules: Vec<Rule>) -> Self {
        let names = Arc::new(Names::default());
        names.set("origin.example", &[&["127.0.0.1"]]);
        let (sink, records) = Channel::new(1000);
        let proxy = Proxy::new(settings, Arc::clone(&names) as Arc<dyn Resolver>, sink);
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (policy, watched) = watch::channel(Arc::new(Policy::from(RuleSet::new(rules))));
        let (stop, stopped) = oneshot::channel::<()>();
        let workspace = WorkspaceId::new();
        let serving = tokio::spawn({
            let proxy = proxy.clone();
            async move {
                let stopped = async {
                    let _ = stopped.await;
                };
                proxy.serve(workspace, listener.into(), watched, stopped).await
            }
        });
        let stop = Some(stop);
        Self { address, proxy, names, policy, records, stop, serving, workspace }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    pub(crate) async fn record(&mut self) -> Record {
        soon(self.records.recv()).await.expect("a record")
    }

    /// Sends `request`, as the last one of its connection, and reads until the proxy closes.
    pub(crate) async fn ask(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        let last = request.replacen("\r\n", "\r\nConnection: close\r\n", 1);
        stream.write_all(last.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        soon(stream.read_to_end(&mut answer)).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    /// A tunnel to `target`.
    pub(crate) async fn tunnel(&self, target: &str) -> TcpStream {
        let mut stream = self.connect().await;
        let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let head = read_head(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        stream
    }
}

/// Reads an answer's head and nothing beyond.
pub(crate) async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon(stream.read_u8()).await.expect("a whole head"));
    }
    String::from_utf8(head).unwrap()
}

/// Accepts connections and gives each to `serve`; its port.
pub(crate) async fn origin<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> u16
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    port
}

/// An origin that sends back what it gets, and ends when the other side does.
pub(crate) async fn echo() -> u16 {
    origin(|mut stream| async move {
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
        let _ = write.shutdown().await;
    })
    .await
}
