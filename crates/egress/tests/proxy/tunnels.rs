//! CONNECT.

use std::{
    process::Stdio,
    sync::{Arc, atomic::Ordering},
};

use boatyard_egress::{Outcome, RuleSet, Settings};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::Command,
};

use crate::{
    fixture::{Fixture, echo, origin, read_head, rule, settings, soon},
    house::{Client, House, Origin, begin, empty, opening, reading},
};

#[tokio::test]
async fn nothing_passes_by_default_and_the_answer_says_so() {
    let mut fixture = Fixture::start(settings(), Vec::new());
    let answer = fixture.ask("CONNECT origin.example:443 HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{answer}");
    assert!(answer.contains("proxy-status: boatyard; error=http_request_denied; details="));
    assert!(answer.contains("text/plain"));
    let how = format!(
        "reach origin.example:443: no rule allows this host.\n\
         To allow it: boatyard egress allow origin.example --workspace {}\n",
        fixture.workspace
    );
    assert!(answer.contains(&how), "{answer}");
    let record = fixture.record().await;
    assert_eq!((record.method.as_str(), record.host.as_str()), ("CONNECT", "origin.example"));
    assert_eq!((record.port, record.workspace), (443, fixture.workspace));
    let reason = "no rule allows this host".to_owned();
    assert_eq!(record.outcome, Outcome::Denied { reason });
    assert!(fixture.names.asked.lock().unwrap().is_empty(), "a denied name is not even resolved");
}

#[tokio::test]
async fn a_tunnel_passes_bytes_and_half_closes() {
    let port = echo().await;
    let mut fixture = Fixture::start(settings(), vec![rule("echo", "origin.example", port)]);
    let mut stream = fixture.tunnel(&format!("Origin.Example.:{port}")).await;
    stream.write_all(b"hello").await.unwrap();
    let mut back = [0; 5];
    soon(stream.read_exact(&mut back)).await.unwrap();
    stream.write_all(b" and goodbye").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = String::new();
    soon(stream.read_to_string(&mut rest)).await.unwrap();
    assert_eq!((&back, rest.as_str()), (b"hello", " and goodbye"));
    let record = fixture.record().await;
    assert_eq!(record.outcome, Outcome::Passed { status: 200 });
    assert_eq!((record.sent, record.received), (17, 17));
    assert_eq!((record.rule.as_deref(), record.path), (Some("echo"), None));
}

#[tokio::test]
async fn bytes_that_come_with_the_connect_are_passed() {
    let port = echo().await;
    let fixture = Fixture::start(settings(), vec![rule("echo", "*", port)]);
    let mut stream = fixture.connect().await;
    let early = format!("CONNECT origin.example:{port} HTTP/1.1\r\nHost: x\r\n\r\nearly");
    stream.write_all(early.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200"));
    let mut rest = String::new();
    soon(stream.read_to_string(&mut rest)).await.unwrap();
    assert_eq!(rest, "early");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn much_passes_whole_in_both_directions() {
    let port = echo().await;
    let mut fixture = Fixture::start(settings(), vec![rule("echo", "*", port)]);
    let stream = fixture.tunnel(&format!("origin.example:{port}")).await;
    let (mut read, mut write) = stream.into_split();
    let total = 64 << 20;
    let byte = |i: usize| ((i / 7) ^ (i >> 13)) as u8;
    let writer = tokio::spawn(async move {
        let mut at = 0;
        while at < total {
            let piece: Vec<u8> = (at..(at + 100_000).min(total)).map(byte).collect();
            write.write_all(&piece).await.unwrap();
            at += piece.len();
        }
        write.shutdown().await.unwrap();
    });
    let mut at = 0;
    let mut buffer = vec![0; 200_000];
    loop {
        let count = soon(read.read(&mut buffer)).await.unwrap();
        if count == 0 {
            break;
        }
        assert!(buffer[..count].iter().enumerate().all(|(i, b)| *b == byte(at + i)), "at {at}");
        at += count;
    }
    assert_eq!(at, total);
    soon(writer).await.unwrap();
    let record = fixture.record().await;
    assert_eq!((record.sent, record.received), (total as u64, total as u64));
}

#[tokio::test]
async fn a_cut_origin_is_no_clean_end() {
    let port = origin(|mut stream| async move {
        stream.write_all(b"part").await.unwrap();
        let mut one = [0];
        stream.read_exact(&mut one).await.unwrap();
        socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    })
    .await;
    let mut fixture = Fixture::start(settings(), vec![rule("cut", "*", port)]);
    let mut stream = fixture.tunnel(&format!("origin.example:{port}")).await;
    let mut part = [0; 4];
    soon(stream.read_exact(&mut part)).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    let error = soon(stream.read_u8()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(matches!(fixture.record().await.outcome, Outcome::Failed { .. }));
}

#[tokio::test]
async fn withdrawn_rules_end_tunnels_and_new_ones_apply_at_once() {
    let port = echo().await;
    let mut fixture = Fixture::start(settings(), vec![rule("echo", "*", port)]);
    let target = format!("origin.example:{port}");
    let mut stream = fixture.tunnel(&target).await;
    stream.write_all(b"x").await.unwrap();
    soon(stream.read_u8()).await.unwrap();
    // Other rules that still allow it do not end it.
    let rules = RuleSet::new(vec![rule("other", "origin.example", port)]);
    fixture.policy.send(Arc::new(rules.into())).unwrap();
    stream.write_all(b"y").await.unwrap();
    assert_eq!(soon(stream.read_u8()).await.unwrap(), b'y');
    fixture.policy.send(Arc::default()).unwrap();
    assert!(soon(stream.read_u8()).await.is_err());
    let reason = "the rule that allowed it was withdrawn".to_owned();
    assert_eq!(fixture.record().await.outcome, Outcome::Denied { reason });
    let answer = fixture.ask(&format!("CONNECT {target} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
}

#[tokio::test]
async fn addresses_that_are_not_public_are_refused_whatever_the_rules_say() {
    let port = echo().await;
    let all = ["*", "127.0.0.0/8", "10.0.0.0/8", "169.254.0.0/16", "::/0"];
    let rules = all.iter().map(|host| rule("all", host, port)).collect();
    let fixture = Fixture::start(Settings::default(), rules);
    fixture.names.set("private.example", &[&["10.0.0.1"]]);
    fixture.names.set("mixed.example", &[&["169.254.169.254", "::ffff:127.0.0.1", "127.0.0.1"]]);
    for host in [
        "origin.example",
        "private.example",
        "mixed.example",
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.1",
        "[::ffff:127.0.0.1]",
        "[::1]",
        "169.254.169.254",
    ] {
        let request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: x\r\n\r\n");
        let answer = fixture.ask(&request).await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{host}: {answer}");
        assert!(answer.contains("error=destination_ip_prohibited"), "{host}: {answer}");
    }
}

#[tokio::test]
async fn a_name_is_resolved_once_and_only_judged_addresses_are_dialled() {
    let port = echo().await;
    let fixture = Fixture::start(settings(), vec![rule("echo", "*", port)]);
    // Asked a second time, it would lead elsewhere; and its first address is forbidden.
    let answers: [&[&str]; 2] = [&["10.255.255.1", "127.0.0.1"], &["169.254.169.254"]];
    fixture.names.set("rebinding.example", &answers);
    let mut stream = fixture.tunnel(&format!("rebinding.example:{port}")).await;
    stream.write_all(b"x").await.unwrap();
    assert_eq!(soon(stream.read_u8()).await.unwrap(), b'x');
    assert_eq!(fixture.names.asked.lock().unwrap().as_slice(), ["rebinding.example"]);
    let again = format!("CONNECT rebinding.example:{port} HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(fixture.ask(&again).await.contains("is a cloud's metadata service"));
}

#[tokio::test]
async fn a_name_that_moves_is_judged_by_where_each_connection_goes() {
    let house = House::new();
    let tls = house.serve(&["rebinding.example"], &["http/1.1"]).await;
    let plain = Origin::plain().await;
    let (settings, trusted) = opening(&house);
    let rules =
        vec![reading("rebinding.example", tls.port), rule("web", "rebinding.example", plain.port)];
    let fixture = Fixture::start(settings, rules);
    let moves = || {
        fixture.names.asked.lock().unwrap().clear();
        fixture.names.set("rebinding.example", &[&["127.0.0.1"], &["169.254.169.254"]]);
    };
    let asked = || fixture.names.asked.lock().unwrap().len();
    // By the proxy: what is dialled is what was judged, and the next connection is judged anew.
    let page = format!(
        "GET http://rebinding.example:{}/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        plain.port
    );
    moves();
    assert!(fixture.ask(&page).await.starts_with("HTTP/1.1 200"));
    assert_eq!(asked(), 1);
    let tunnel = format!("CONNECT rebinding.example:{} HTTP/1.1\r\nHost: x\r\n\r\n", plain.port);
    assert!(fixture.ask(&tunnel).await.contains("is a cloud's metadata service"));
    // In TLS that is opened: the next request goes over the connection that was judged.
    moves();
    let target = format!("rebinding.example:{}", tls.port);
    for _ in 0..2 {
        let stream = fixture.tunnel(&target).await;
        let stream = begin(stream, "rebinding.example", &trusted, &[]).await.unwrap();
        let request = http::Request::get("/").header(http::header::HOST, &target);
        let mut client = Client::over(stream).await;
        let response = client.send(tls.port, request.body(empty()).unwrap()).await;
        assert_eq!(response.status(), 200);
    }
    assert_eq!((asked(), tls.connections.load(Ordering::Relaxed)), (1, 1));
}

#[tokio::test]
async fn what_can_not_be_reached_is_told_apart() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    let mut fixture = Fixture::start(settings(), vec![rule("all", "*", port)]);
    let ask = |host: &str| format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: x\r\n\r\n");
    let answer = fixture.ask(&ask("origin.example")).await;
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    assert!(answer.contains("error=connection_refused"), "{answer}");
    assert!(matches!(fixture.record().await.outcome, Outcome::Failed { .. }));
    let answer = fixture.ask(&ask("nowhere.example")).await;
    assert!(answer.contains("error=dns_error"), "{answer}");
    for bad in
        ["CONNECT origin.example HTTP/1.1", "CONNECT :443 HTTP/1.1", "CONNECT a_b%:1 HTTP/1.1"]
    {
        let answer = fixture.ask(&format!("{bad}\r\nHost: x\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{bad}: {answer}");
    }
}

/// A real client and real TLS, as a package manager would: the proxy sees none of it.
#[tokio::test]
async fn curl_reaches_a_tls_server_through_the_proxy() {
    if !["curl", "openssl"].iter().all(|program| {
        let found = std::process::Command::new(program).arg("version").output();
        found.is_ok()
    }) {
        eprintln!("curl or openssl is not installed: nothing to test with");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let made = Command::new("openssl")
        .current_dir(&folder)
        .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes".split(' '))
        .args("-keyout key.pem -out cert.pem -days 2 -subj /CN=origin.example".split(' '))
        .args(["-addext", "subjectAltName=DNS:origin.example"])
        .output()
        .await
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let mut server = Command::new("openssl")
        .current_dir(&folder)
        .args("s_server -accept 127.0.0.1:0 -key key.pem -cert cert.pem -www".split(' '))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .stdin(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let port: u16 = loop {
        let line = soon(lines.next_line()).await.unwrap().expect("it says where it listens");
        if let Some(address) = line.strip_prefix("ACCEPT ") {
            break address.rsplit(':').next().unwrap().parse().unwrap();
        }
    };
    let mut fixture = Fixture::start(settings(), vec![rule("tls", "origin.example", port)]);
    let proxy = fixture.address;
    let curl = |host: &str| {
        let mut command = Command::new("curl");
        command
            .current_dir(&folder)
            .env_clear()
            .args(["-sS", "--max-time", "20", "--cacert", "cert.pem", "--proxy"])
            .arg(format!("http://{proxy}"))
            .arg(format!("https://{host}:{port}/"));
        command
    };
    let fetched = soon(curl("origin.example").output()).await.unwrap();
    assert!(fetched.status.success(), "{fetched:?}");
    assert!(String::from_utf8_lossy(&fetched.stdout).contains("s_server"), "{fetched:?}");
    // The tunnel is for the allowed name; what is asked for inside it is not.
    let mut fronted = curl("other.example");
    fronted.args(["--connect-to", &format!("other.example:{port}:origin.example:{port}")]);
    let refused = soon(fronted.output()).await.unwrap();
    assert!(!refused.status.success(), "{refused:?}");
    let reasons: Vec<_> = [fixture.record().await, fixture.record().await]
        .into_iter()
        .map(|record| record.outcome)
        .collect();
    let reason = "its TLS asks for `other.example` and not for `origin.example`".to_owned();
    assert_eq!(reasons, [Outcome::Passed { status: 200 }, Outcome::Denied { reason }]);
    let denied = soon(curl("other.example").output()).await.unwrap();
    let said = String::from_utf8_lossy(&denied.stderr);
    assert!(!denied.status.success() && said.contains("403"), "{said}");
}
