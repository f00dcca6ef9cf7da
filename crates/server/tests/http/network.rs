//! The server on a network: https of its own, behind nginx and Caddy as the documents show them,
//! invitations by mail. What needs a program that is not installed says so and is passed over.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use boatyard_server::settings::{Settings, mail::Encryption};
use reqwest::Method;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpSocket},
    process::{Child, Command},
    time::timeout,
};

use crate::machine::Machine;

#[path = "network/acme.rs"]
mod acme;

/// The name of the server in these tests.
const HOST: &str = "boat.example.com";
const LONG: Duration = Duration::from_secs(30);

/// A certificate of its own making for [`HOST`], in a folder.
pub(crate) fn certificate(folder: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed([HOST.to_owned()]).unwrap();
    std::fs::write(folder.join("fullchain.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("privkey.pem"), made.signing_key.serialize_pem()).unwrap();
    made.cert.der().clone()
}

/// Says something over TLS from this address, and reads the answer to its end, or until `enough`.
async fn say(
    to: SocketAddr,
    from: Ipv4Addr,
    trusted: &CertificateDer<'static>,
    words: &str,
    enough: &str,
) -> std::io::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    let stream = socket.connect(to).await?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from(HOST).unwrap();
    let mut stream = connector.connect(name, stream).await?;
    stream.write_all(words.as_bytes()).await?;
    let mut all = Vec::new();
    let read = async {
        let mut piece = [0; 4096];
        loop {
            match stream.read(&mut piece).await {
                Ok(0) | Err(_) => break,
                Ok(n) => all.extend_from_slice(&piece[..n]),
            }
            if !enough.is_empty() && String::from_utf8_lossy(&all).contains(enough) {
                break;
            }
        }
    };
    timeout(LONG, read).await.expect("the answer ends");
    Ok(String::from_utf8_lossy(&all).into_owned())
}

fn ask(method: &str, path: &str, headers: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn https_by_files_takes_a_new_certificate_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let first = certificate(folder.path());
    let mut settings = Settings::default();
    settings.server.url = Some(format!("https://{HOST}"));
    settings.tls.certificate = Some(folder.path().join("fullchain.pem"));
    settings.tls.key = Some(folder.path().join("privkey.pem"));
    let machine = Machine::with(settings, None).await;
    let to = machine.serving.address();
    let health = ask("GET", "/health", "", "");
    let answer = say(to, Ipv4Addr::LOCALHOST, &first, &health, "").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("strict-transport-security"), "{answer}");
    // Streams go over it too.
    let key = format!("Authorization: Bearer {}\r\n", machine.secret);
    let stream = ask("GET", "/api/events", &key, "");
    let answer = say(to, Ipv4Addr::LOCALHOST, &first, &stream, "retry:").await.unwrap();
    assert!(answer.contains("text/event-stream"), "{answer}");
    // Programs of this machine need none of it.
    let near = machine.request(Method::GET, "/api/auth/me").send().await.unwrap();
    assert_eq!(near.status(), 200);
    let second = certificate(folder.path());
    let changed = async {
        let mut again = tokio::time::interval(Duration::from_millis(100));
        loop {
            again.tick().await;
            if say(to, Ipv4Addr::LOCALHOST, &second, &health, "").await.is_ok() {
                break;
            }
        }
    };
    timeout(LONG, changed).await.expect("the new certificate is used");
    assert!(say(to, Ipv4Addr::LOCALHOST, &first, &health, "").await.is_err());
    machine.serving.stop().await;
}

/// A program by its name, if it is installed.
pub(crate) fn program(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path.split(':').chain(["/usr/sbin", "/usr/local/sbin"]);
    let found = folders.map(|folder| Path::new(folder).join(name)).find(|path| path.is_file());
    if found.is_none() {
        eprintln!("passed over: there is no `{name}` here");
    }
    found
}

/// A port that is free at this moment.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until something listens there, as long as the program lives.
async fn listens(port: u16, child: &mut Child) {
    let begun = async {
        let mut again = tokio::time::interval(Duration::from_millis(50));
        loop {
            again.tick().await;
            if let Some(status) = child.try_wait().unwrap() {
                panic!("it ended: {status}");
            }
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                break;
            }
        }
    };
    timeout(LONG, begun).await.expect("it listens");
}

/// What a proxy must do for Boatyard, tried with the real one at this port.
async fn through_a_proxy(
    machine: &Machine,
    secure: u16,
    clear: u16,
    trusted: &CertificateDer<'static>,
) {
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, secure));
    // Not the address that is trusted: that of the caller.
    let caller = Ipv4Addr::new(127, 0, 0, 2);
    let forged = "X-Forwarded-For: 198.51.100.7\r\nForwarded: for=198.51.100.8\r\n";
    let login = json!({ "key": machine.secret }).to_string();
    let words = ask("POST", "/api/auth/login", forged, &login);
    let answer = say(to, caller, trusted, &words, "").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let lower = answer.to_ascii_lowercase();
    assert!(lower.contains("strict-transport-security"), "{answer}");
    let cookie = answer.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("set-cookie").then(|| value.split(';').next())?
    });
    let cookie = format!("Cookie: {}\r\n", cookie.expect("a cookie"));
    let devices = ask("GET", "/api/auth/devices", &cookie, "");
    let answer = say(to, caller, trusted, &devices, "").await.unwrap();
    assert!(answer.contains("127.0.0.2"), "the caller's address is known: {answer}");
    assert!(!answer.contains("198.51.100"), "what it wrote itself does not count: {answer}");
    // A stream is shown while it is open.
    let stream = ask("GET", "/api/events", &cookie, "");
    let answer = say(to, caller, trusted, &stream, "retry:").await.unwrap();
    assert!(answer.contains("text/event-stream"), "{answer}");
    // Who comes in the clear is led to https.
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .tls_certs_only([])
        .build()
        .unwrap();
    let url = format!("http://127.0.0.1:{clear}/tasks?x=1");
    let answer = client.get(url).header("Host", HOST).send().await.unwrap();
    assert_eq!(answer.status(), 308);
    let led = answer.headers()["location"].to_str().unwrap().to_owned();
    assert!(led.starts_with(&format!("https://{HOST}")), "{led}");
    assert!(led.ends_with("/tasks?x=1"), "{led}");
}

async fn behind_a_proxy() -> Machine {
    let mut settings = Settings::default();
    settings.server.url = Some(format!("https://{HOST}"));
    settings.server.trusted_proxies = vec!["127.0.0.1".to_owned()];
    Machine::with(settings, None).await
}

fn example(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples");
    std::fs::read_to_string(folder.join(name)).unwrap()
}

#[tokio::test]
async fn behind_nginx_as_the_documents_show_it() {
    let Some(nginx) = program("nginx") else { return };
    let machine = behind_a_proxy().await;
    let folder = tempfile::tempdir().unwrap();
    let trusted = certificate(folder.path());
    let (secure, clear) = (free_port(), free_port());
    let home = folder.path().display();
    let site = example("nginx.conf")
        .replace("127.0.0.1:7070", &machine.serving.address().to_string())
        .replace("listen 443 ssl", &format!("listen 127.0.0.1:{secure} ssl"))
        .replace("listen 80", &format!("listen 127.0.0.1:{clear}"))
        .replace("/etc/nginx/tls", &home.to_string());
    let config = format!(
        "daemon off;\nmaster_process off;\npid {home}/pid;\nerror_log stderr;\nevents {{}}\n\
         http {{\naccess_log off;\nclient_body_temp_path {home}/body;\nproxy_temp_path {home}/proxy;\n\
         fastcgi_temp_path {home}/f;\nuwsgi_temp_path {home}/u;\nscgi_temp_path {home}/s;\n{site}\n}}\n"
    );
    let file = folder.path().join("nginx.conf");
    std::fs::write(&file, config).unwrap();
    let mut child = Command::new(nginx)
        .args(["-p", &home.to_string(), "-c", &file.to_string_lossy()])
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    listens(secure, &mut child).await;
    through_a_proxy(&machine, secure, clear, &trusted).await;
    machine.serving.stop().await;
}

#[tokio::test]
async fn behind_caddy_as_the_documents_show_it() {
    let Some(caddy) = program("caddy") else { return };
    let machine = behind_a_proxy().await;
    let folder = tempfile::tempdir().unwrap();
    let trusted = certificate(folder.path());
    let (secure, clear) = (free_port(), free_port());
    let home = folder.path().display();
    // A certificate of ours in the place of one that it would get by itself.
    let tls = format!("\ttls {home}/fullchain.pem {home}/privkey.pem\n}}\n");
    let site =
        example("Caddyfile").replace("127.0.0.1:7070", &machine.serving.address().to_string());
    let site = format!("{}{tls}", site.trim_end().strip_suffix('}').unwrap());
    let options = format!("{{\n\thttps_port {secure}\n\thttp_port {clear}\n\tadmin off\n}}\n");
    let file = folder.path().join("Caddyfile");
    std::fs::write(&file, format!("{options}{site}")).unwrap();
    let mut child = Command::new(caddy)
        .args(["run", "--adapter", "caddyfile", "--config", &file.to_string_lossy()])
        .env("HOME", folder.path())
        .env("XDG_DATA_HOME", folder.path())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    listens(secure, &mut child).await;
    through_a_proxy(&machine, secure, clear, &trusted).await;
    machine.serving.stop().await;
}

/// A mail server on loopback that takes one message, or refuses whom it is for.
async fn mail_server(refuses: &'static str) -> (SocketAddr, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heard = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        let (mut heard, mut is_data) = (String::new(), false);
        write.write_all(b"220 mail\r\n").await.unwrap();
        while let Ok(Some(line)) = lines.next_line().await {
            let answer = match (is_data, line.get(..4).unwrap_or(&line)) {
                (true, ".") => {
                    is_data = false;
                    "250 taken\r\n"
                }
                (true, _) => "",
                (false, "RCPT") if !refuses.is_empty() => refuses,
                (false, "DATA") => {
                    is_data = true;
                    "354 go on\r\n"
                }
                (false, _) => "250 good\r\n",
            };
            heard.push_str(&line);
            heard.push('\n');
            if write.write_all(answer.as_bytes()).await.is_err() {
                break;
            }
        }
        heard
    });
    (address, heard)
}

async fn invited_by_mail(address: SocketAddr) -> (Machine, Value) {
    let mut settings = Settings::default();
    settings.mail.host = Some(address.ip().to_string());
    settings.mail.port = Some(u32::from(address.port()));
    settings.mail.encryption = Encryption::None;
    settings.mail.from = Some("boatyard@example.com".to_owned());
    let machine = Machine::with(settings, None).await;
    let body = json!({ "role": "member", "email": "ann@example.com" });
    let answer = machine.request(Method::POST, "/api/invitations").json(&body).send().await;
    let answer = answer.unwrap();
    assert_eq!(answer.status(), 201);
    let invited = answer.json().await.unwrap();
    (machine, invited)
}

#[tokio::test]
async fn an_invitation_goes_out_by_mail_and_its_link_to_nobody_else() {
    let (address, heard) = mail_server("").await;
    let (machine, invited) = invited_by_mail(address).await;
    assert!(invited["url"].is_null() && invited["code"].is_null(), "{invited}");
    assert!(invited["invitation"]["mailed"].is_string(), "{invited}");
    machine.serving.stop().await;
    let heard = timeout(LONG, heard).await.unwrap().unwrap();
    assert!(heard.contains("RCPT TO:<ann@example.com>"), "{heard}");
    assert!(heard.contains("/invite?code"), "{heard}");
}

#[tokio::test]
async fn an_invitation_that_the_mail_server_refuses_is_a_link_with_the_reason() {
    let (address, heard) = mail_server("550 nobody of that name\r\n").await;
    let (machine, invited) = invited_by_mail(address).await;
    let why = invited["mail_failed"].as_str().unwrap();
    assert!(why.contains("nobody of that name"), "{why}");
    assert!(invited["url"].as_str().is_some_and(|url| url.contains("/invite?code=")));
    machine.serving.stop().await;
    heard.abort();
}

/// Where something of ours listens.
pub(crate) const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
