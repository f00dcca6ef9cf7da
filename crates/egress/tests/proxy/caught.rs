//! Connections of programs that know of no proxy.

use std::{
    net::Ipv4Addr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use boatyard_egress::{
    Outcome, Policy, Proxy, Record, Resolver, Rule, RuleSet, Settings, capture::Captured,
    log::Channel, rules::Target,
};
use boatyard_model::WorkspaceId;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{mpsc, watch},
};

use crate::{
    fixture::{Names, origin, rule, soon},
    house::{Client, House, Origin, begin, opening, reading},
};

/// A proxy that takes every connection for one to `target`.
struct Caught {
    address: std::net::SocketAddr,
    records: mpsc::Receiver<Record>,
    _policy: watch::Sender<Arc<Policy>>,
}

impl Caught {
    fn start(settings: Settings, rules: Vec<Rule>, target: &str, named: bool) -> Self {
        let names = Arc::new(Names::default());
        names.set("origin.example", &[&["127.0.0.1"]]);
        let (sink, records) = Channel::new(1000);
        let proxy = Proxy::new(settings, names as Arc<dyn Resolver>, sink);
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (policy, watched) = watch::channel(Arc::new(Policy::from(RuleSet::new(rules))));
        let (host, port) = target.rsplit_once(':').unwrap();
        let target = Target { host: host.parse().unwrap(), port: port.parse().unwrap() };
        tokio::spawn(async move {
            let take = |stream: TcpStream| {
                let peer = stream.peer_addr().ok()?;
                Some(Captured { stream, target: target.clone(), named, peer })
            };
            let (workspace, never) = (WorkspaceId::new(), std::future::pending());
            proxy.serve_captured(workspace, listener.into(), take, watched, never).await
        });
        Self { address, records, _policy: policy }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn record(&mut self) -> Record {
        soon(self.records.recv()).await.expect("a record")
    }
}

async fn ask(stream: &mut TcpStream, host: &str) -> String {
    let request = format!("GET /x HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

#[tokio::test]
async fn tls_is_opened_where_a_rule_looks_into_it_and_passed_where_none_does() {
    let house = House::new();
    let port = house.serve(&["origin.example"], &["h2"]).await.port;
    let (settings, trusted) = opening(&house);
    let target = format!("origin.example:{port}");
    let rules = vec![reading("origin.example", port)];
    let mut caught = Caught::start(settings.clone(), rules, &target, true);
    let tls = begin(caught.connect().await, "origin.example", &trusted, &["h2"]).await.unwrap();
    let mut client = Client::over(tls).await;
    assert_eq!(client.ask(port, "GET", "/", "").await.0, 200);
    assert_eq!(caught.record().await.method, "GET");
    assert_eq!(client.ask(port, "PUT", "/", "").await.0, 403);

    let rules = vec![rule("whole", "origin.example", port)];
    let mut caught = Caught::start(settings, rules, &target, true);
    let ours = begin(caught.connect().await, "origin.example", &trusted, &["h2"]).await;
    assert!(ours.unwrap_err().to_string().contains("UnknownIssuer"), "it is not opened");
    assert_eq!(caught.record().await.method, "CONNECT");
}

#[tokio::test]
async fn a_refusal_is_told_in_what_the_program_speaks() {
    let house = House::new();
    let (settings, trusted) = opening(&house);
    let mut caught = Caught::start(settings.clone(), Vec::new(), "secret.example:443", true);
    for protocol in ["h2", "http/1.1"] {
        let stream = caught.connect().await;
        let tls = begin(stream, "secret.example", &trusted, &[protocol]).await.unwrap();
        let (status, text) = Client::over(tls).await.ask(443, "GET", "/", "").await;
        assert_eq!(status, 403);
        assert!(text.contains("reach secret.example:443: no rule allows this host"), "{text}");
        assert!(text.contains("boatyard egress allow secret.example --workspace"), "{text}");
        let record = caught.record().await;
        assert!(matches!(record.outcome, Outcome::Denied { .. }), "{record:?}");
    }
    let answer = ask(&mut caught.connect().await, "secret.example").await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    // What speaks neither is cut, and so is who waits for the server to speak.
    for word in ["SSH-2.0-x\r\n", ""] {
        let mut stream = caught.connect().await;
        stream.write_all(word.as_bytes()).await.unwrap();
        assert!(soon(stream.read_u8()).await.is_err());
    }
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard() {
    let port = origin(|mut stream| async move {
        stream.write_all(b"220 ready\r\n").await.unwrap();
        let mut line = [0; 6];
        stream.read_exact(&mut line).await.unwrap();
        stream.write_all(b"221 bye\r\n").await.unwrap();
    })
    .await;
    let house = House::new();
    let (settings, _) = opening(&house);
    let target = format!("origin.example:{port}");
    // With a rule for the whole host, and with one that looks into requests beside it.
    let whole = || rule("whole", "origin.example", port);
    for rules in [vec![whole()], vec![whole(), reading("origin.example", port)]] {
        let mut caught = Caught::start(settings.clone(), rules, &target, true);
        let mut stream = caught.connect().await;
        let mut greeting = [0; 11];
        soon(stream.read_exact(&mut greeting)).await.unwrap();
        stream.write_all(b"QUIT\r\n").await.unwrap();
        let mut rest = String::new();
        soon(stream.read_to_string(&mut rest)).await.unwrap();
        assert_eq!(rest, "221 bye\r\n");
        drop(stream);
        assert_eq!(caught.record().await.outcome, Outcome::Passed { status: 200 });
    }
    // Only the latter: a tunnel is not allowed.
    let rules = vec![reading("origin.example", port)];
    let settings = Settings { head_within: Duration::from_millis(300), ..settings };
    let caught = Caught::start(settings, rules, &target, true);
    assert!(soon(caught.connect().await.read_u8()).await.is_err());
}

#[tokio::test]
async fn plain_requests_are_judged_one_by_one_and_must_name_their_host() {
    let house = House::new();
    let (settings, _) = opening(&house);
    let port = Origin::plain().await.port;
    let target = format!("origin.example:{port}");
    for rules in
        [vec![rule("whole", "origin.example", port)], vec![reading("origin.example", port)]]
    {
        let mut caught = Caught::start(settings.clone(), rules, &target, true);
        let answer = ask(&mut caught.connect().await, &target).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let record = caught.record().await;
        assert_eq!((&*record.method, record.path.as_deref()), ("GET", Some("/x")));
        let answer = ask(&mut caught.connect().await, "other.example").await;
        assert!(answer.starts_with("HTTP/1.1 421"), "{answer}");
    }
}

#[tokio::test]
async fn a_bare_address_is_judged_by_itself_or_by_the_name_that_is_said() {
    let house = House::new();
    let tls = house.serve(&["origin.example"], &["http/1.1"]).await;
    let plain = Origin::plain().await;
    let (settings, trusted) = opening(&house);
    // An address that is nobody's: the name decides where it goes.
    let rules =
        vec![reading("origin.example", tls.port), rule("plain", "origin.example", plain.port)];
    let bare = format!("203.0.113.9:{}", tls.port);
    let caught = Caught::start(settings.clone(), rules.clone(), &bare, false);
    let stream = begin(caught.connect().await, "origin.example", &trusted, &[]).await.unwrap();
    assert_eq!(Client::over(stream).await.ask(tls.port, "GET", "/", "").await.0, 200);
    let bare = format!("203.0.113.9:{}", plain.port);
    let mut caught = Caught::start(settings.clone(), rules, &bare, false);
    let host = format!("origin.example:{}", plain.port);
    assert!(ask(&mut caught.connect().await, &host).await.starts_with("HTTP/1.1 200"));
    assert_eq!(caught.record().await.host, "origin.example");
    let answer = ask(&mut caught.connect().await, "other.example").await;
    assert!(answer.contains("reach other.example:"), "{answer}");
    let mut request = caught.connect().await;
    request.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    soon(request.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.contains("reach 203.0.113.9:"), "{answer}");

    // An address where somebody is: it is not reached by the name, only the name's own is.
    let elsewhere = Origin::plain().await;
    let rules = vec![rule("nobody", "nobody.example", elsewhere.port)];
    let bare = format!("127.0.0.1:{}", elsewhere.port);
    let mut caught = Caught::start(settings.clone(), rules, &bare, false);
    begin(caught.connect().await, "nobody.example", &trusted, &[]).await.unwrap();
    assert!(matches!(caught.record().await.outcome, Outcome::Failed { .. }));
    let host = format!("nobody.example:{}", elsewhere.port);
    assert!(ask(&mut caught.connect().await, &host).await.starts_with("HTTP/1.1 502"));
    assert_eq!(elsewhere.connections.load(Ordering::Relaxed), 0);

    let rules = vec![rule("address", "127.0.0.1", plain.port)];
    let caught = Caught::start(settings, rules, &format!("127.0.0.1:{}", plain.port), false);
    let host = format!("127.0.0.1:{}", plain.port);
    assert!(ask(&mut caught.connect().await, &host).await.starts_with("HTTP/1.1 200"));
    let answer = ask(&mut caught.connect().await, "origin.example").await;
    assert!(answer.starts_with("HTTP/1.1 421"), "{answer}");
}
