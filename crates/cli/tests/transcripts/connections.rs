//! Credentials that no workspace has: put into what leaves it, for the place that they are bound to.
//!
//! The world outside is a stand-in that the server takes for its own upstream proxy, so that any name
//! exists; it speaks TLS with certificates of an authority that the settings name.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex},
    thread,
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

use crate::yard::{LIMIT, Yard};

/// The credential.
const VALUE: &str = "ghp_the0real1value2that3nobody4has5inside";
/// The one that takes its place.
const NEXT: &str = "ghp_another6real7value8nobody9has0inside";
const HOST: &str = "api.example.com";

/// What the world outside saw: host, head and body of each request.
type Seen = Arc<Mutex<Vec<(String, String)>>>;

struct World {
    yard: Yard,
    workspace: String,
    seen: Seen,
}

/// A stand-in for every host by https, and its authority in PEM form.
fn outside() -> (u16, Seen, String) {
    let authority_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&authority_key).unwrap();
    let issuer = Issuer::new(params, authority_key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec![HOST.to_owned(), "other.example.com".to_owned()]);
    let leaf = leaf.unwrap().signed_by(&key, &issuer).unwrap();
    let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], private)
        .unwrap();
    let (config, seen) = (Arc::new(config), Seen::default());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let shared = Arc::clone(&seen);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (config, seen) = (Arc::clone(&config), Arc::clone(&shared));
            // A client that goes away ends its own connection only.
            thread::spawn(move || answer(stream.unwrap(), config, &seen));
        }
    });
    (port, seen, authority.pem())
}

fn answer(mut stream: TcpStream, config: Arc<ServerConfig>, seen: &Seen) -> Option<()> {
    stream.set_read_timeout(Some(LIMIT)).ok()?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.extend(byte);
    }
    let connect = String::from_utf8(head).ok()?;
    let host = connect.strip_prefix("CONNECT ")?.split(':').next()?.to_owned();
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
    let tls = StreamOwned::new(ServerConnection::new(config).ok()?, stream);
    let mut tls = BufReader::new(tls);
    loop {
        let (mut head, mut length, mut is_chunked) = (String::new(), 0, false);
        while !head.ends_with("\r\n\r\n") {
            let mut line = String::new();
            if tls.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let lower = line.to_ascii_lowercase();
            if let Some(text) = lower.strip_prefix("content-length:") {
                length = text.trim().parse().ok()?;
            }
            is_chunked |= lower.starts_with("transfer-encoding: chunked");
            head.push_str(&line);
        }
        let mut body = vec![0; length];
        tls.read_exact(&mut body).ok()?;
        while is_chunked {
            let mut size = String::new();
            tls.read_line(&mut size).ok()?;
            let size = usize::from_str_radix(size.trim(), 16).ok()?;
            let mut piece = vec![0; size + 2];
            tls.read_exact(&mut piece).ok()?;
            body.extend(&piece[..size]);
            is_chunked = size > 0;
        }
        let all = format!("{head}{}", String::from_utf8_lossy(&body));
        seen.lock().unwrap().push((host.clone(), all.clone()));
        // Repeats what it was sent, as some servers do.
        let answer = format!(
            "HTTP/1.1 200 OK\r\nX-Echo: {}\r\nContent-Length: {}\r\n\r\n{all}",
            head.lines().find(|line| line.contains("uthorization")).unwrap_or("none"),
            all.len()
        );
        tls.get_mut().write_all(answer.as_bytes()).ok()?;
        tls.get_mut().flush().ok()?;
    }
}

impl World {
    fn new() -> Self {
        let (port, seen, authority) = outside();
        let proxy = format!("http://127.0.0.1:{port}");
        let variables = vec![
            ("HTTPS_PROXY".to_owned(), proxy),
            ("NO_PROXY".to_owned(), "127.0.0.1".to_owned()),
        ];
        let mut yard = Yard::without_server().with_variables(variables);
        yard.write("ca.pem", &authority);
        let file = yard.path("ca.pem");
        let settings = format!(
            "[log]\nlevel = \"trace\"\n[egress]\nca_file = {file:?}\npresets = []\n\
             allow = [\"*.example.com\"]\n"
        );
        yard.write("data/boatyard.toml", &settings);
        yard.start_server();
        yard.write("value", &format!("{VALUE}\n"));
        let value = yard.path("value");
        let added = yard.run(&[
            "connection",
            "add",
            "github",
            "--name",
            "api",
            "--host",
            HOST,
            "--path",
            "/v1/*",
            "--place",
            "bearer",
            "--place",
            "basic",
            "--place",
            "query:key",
            "--place",
            "body",
            "--env",
            "API_TOKEN",
            "--value-file",
            value.to_str().unwrap(),
        ]);
        assert!(added.ends_with("[0]\n") && !added.contains(VALUE), "{added}");
        fs::remove_file(value).unwrap();
        let workspace = yard.json(&["workspace", "create"])["id"].as_str().unwrap().to_owned();
        Self { yard, workspace, seen }
    }

    /// What a command in the workspace prints.
    fn sh(&self, script: &str) -> String {
        let args = ["workspace", "exec", &self.workspace, "--", "sh", "-c", script];
        let output = self.yard.command(&args).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The last request that came through, and that there were so many.
    fn last(&self, count: usize) -> String {
        let seen = self.seen.lock().unwrap();
        assert_eq!(seen.len(), count, "{seen:?}");
        seen.last().unwrap().1.clone()
    }
}

const PYTHON: &str = r#"
import os, urllib.request
token = os.environ['API_TOKEN']
url = 'https://api.example.com/v1/python?key=' + token
print(urllib.request.urlopen(url).read().decode())
"#;

const NODE: &str = r#"
const body = JSON.stringify({ token: process.env.API_TOKEN });
fetch("https://api.example.com/v1/node", { method: "POST", body,
  headers: { "content-type": "application/json" } })
  .then((answer) => answer.text()).then((text) => console.log(text));
"#;

#[test]
fn a_credential_goes_where_it_is_bound_and_is_nowhere_inside() {
    let world = World::new();
    let placeholder = world.sh("printf %s \"$API_TOKEN\"");
    assert!(placeholder.starts_with("ghp_byph0") && placeholder.len() == 40, "{placeholder}");

    let bearer = "-H \"Authorization: Bearer $API_TOKEN\"";
    let said = world.sh(&format!("curl -sSi {bearer} https://{HOST}/v1/curl"));
    assert!(said.contains("200 OK") && said.contains("GET /v1/curl"), "{said}");
    assert!(said.contains(&"*".repeat(VALUE.len() - 4)), "painted over: {said}");
    check_clean("the answer", said.as_bytes());
    let sent = world.last(1);
    assert!(sent.contains(&format!("Bearer {VALUE}")) && !sent.contains("byph"), "{sent}");

    check_clean(
        "basic",
        world.sh(&format!("curl -sS -u me:$API_TOKEN https://{HOST}/v1/x")).as_bytes(),
    );
    let basic =
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("me:{VALUE}"));
    assert!(world.last(2).contains(&basic));

    check_clean(
        "python",
        world.sh(&format!("python3 -c \"{}\"", PYTHON.replace('"', "\\\""))).as_bytes(),
    );
    assert!(world.last(3).contains(&format!("GET /v1/python?key={VALUE}")));
    let mut count = 3;
    if world.sh("command -v node || true").trim() != "" {
        let quoted = NODE.replace('\'', "'\\''");
        check_clean("node", world.sh(&format!("node -e '{quoted}'")).as_bytes());
        count += 1;
        let sent = world.last(count);
        assert!(sent.contains(&format!("{{\"token\":\"{VALUE}\"}}")), "{sent}");
        let length = format!("content-length: {}", "{\"token\":\"\"}".len() + VALUE.len());
        assert!(sent.to_ascii_lowercase().contains(&length), "{sent}");
    }

    // Anywhere else it stays inside, and that is told.
    let status = "-o /dev/null -w '%{http_code}'";
    for (request, says) in [
        (format!("{bearer} https://{HOST}/other"), "method and path"),
        (format!("-H \"X-Token: $API_TOKEN\" https://{HOST}/v1/x"), "its headers"),
        (format!("https://{HOST}/v1/$API_TOKEN"), "its path"),
        (format!("https://{HOST}/v1/?q=$API_TOKEN"), "its query"),
        (format!("{bearer} http://other.example.com/"), "not bound to other.example.com:80"),
        (format!("-d \"x=$API_TOKEN\" https://{HOST}/other"), "its body"),
    ] {
        assert_eq!(world.sh(&format!("curl -sS {status} {request}")), "403", "{request}");
        let said = world.sh(&format!("curl -sS {request}"));
        assert!(said.contains(says), "{request}: {said}");
    }
    world.last(count);

    // Another value, and the same placeholder.
    world.yard.write("next", NEXT);
    let next = world.yard.path("next");
    let rotate = ["connection", "rotate", "api", "--value-file", next.to_str().unwrap()];
    assert!(world.yard.run(&rotate).ends_with("[0]\n"));
    fs::remove_file(next).unwrap();
    assert_eq!(world.sh("printf %s \"$API_TOKEN\""), placeholder);
    world.sh(&format!("curl -sSf {bearer} https://{HOST}/v1/next"));
    assert!(world.last(count + 1).contains(&format!("Bearer {NEXT}")));
    // Sealed by another key, with another master key.
    assert!(world.yard.run(&["connection", "rekey", "--values", "--master"]).ends_with("[0]\n"));
    world.sh(&format!("curl -sSf {bearer} https://{HOST}/v1/next"));
    assert!(world.last(count + 2).contains(&format!("Bearer {NEXT}")));
    let shown = world.yard.json(&["connection", "show", "api"]);
    assert!(shown["last_used"].is_string() && shown["state"] == "active", "{shown:#}");

    // Nowhere inside: no variable, no process, no file.
    let found = world.sh(
        "env; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null; \
         grep -rsh '[r]eal[17]value' /work /home /tmp /run /etc /var /dev/shm /opt 2>/dev/null; true",
    );
    check_clean("inside the workspace", found.as_bytes());
    // Nor in anything that is kept: the database, the log at its most talkative, a backup.
    let backup = world.yard.path("backup");
    let saved = world.yard.run(&["backup", backup.to_str().unwrap()]);
    assert!(saved.contains("master key is not in it"), "{saved}");
    assert!(!backup.join("data/vault.key").exists());
    let files = check_files(&world.yard.path("data")) + check_files(&backup);
    assert!(files > 10, "{files}");
    for command in [
        &["--json", "connection", "list"][..],
        &["--json", "connection", "show", "api"],
        &["--json", "egress", "log"],
        &["up", "--print-config"],
    ] {
        let output = world.yard.command(command).output().unwrap();
        check_clean(&format!("{command:?}"), &[output.stdout, output.stderr].concat());
    }
}

#[test]
fn a_question_says_which_credential_would_go_along() {
    let world = World::new();
    let yard = &world.yard;
    let other = "other.example.com";
    for host in [HOST, other] {
        let rule = format!("GET https://{host}/v1/asked*");
        let made = yard.json(&["egress", "ask", &rule, "--workspace", &world.workspace]);
        assert!(made["id"].is_string(), "{made:#}");
    }
    let begun = |host: &str, more: &str| {
        let script = format!("curl -sS --max-time 25 {more} https://{host}/v1/asked");
        let args = ["workspace", "exec", &world.workspace, "--", "sh", "-c", &script];
        yard.command(&args).stdout(Stdio::piped()).spawn().unwrap()
    };
    let answer = |ask: &serde_json::Value, word: &str| {
        let said = yard.run(&["egress", "answer", ask["id"].as_str().unwrap(), word]);
        assert!(said.ends_with("[0]\n"), "{said}");
    };
    let program = begun(HOST, "-H \"Authorization: Bearer $API_TOKEN\"");
    let ask = super::asks::waiting(yard);
    assert_eq!((&ask["credential"], &ask["path"]), (&"api".into(), &"/v1/asked".into()), "{ask:#}");
    let shown = yard.run(&["egress", "asks"]);
    assert!(shown.contains("/v1/asked with api"), "{shown}");
    check_clean("the question", shown.as_bytes());
    assert!(world.seen.lock().unwrap().is_empty(), "it waits");
    answer(&ask, "once");
    assert!(program.wait_with_output().unwrap().status.success());
    assert!(world.last(1).contains(&format!("Bearer {VALUE}")));
    // It is bound to that host alone.
    let program = begun(other, "");
    let ask = super::asks::waiting(yard);
    assert!(ask["host"] == other && ask.get("credential").is_none(), "{ask:#}");
    answer(&ask, "no");
    let said = program.wait_with_output().unwrap().stdout;
    assert!(String::from_utf8_lossy(&said).contains("does not let this workspace"), "{said:?}");
    world.last(1);
}

#[test]
fn a_credential_that_is_removed_in_mid_task_is_refused_and_told() {
    let world = World::new();
    world.yard.repository("app");
    let script = format!(
        "curl -sS -H \"Authorization: Bearer $API_TOKEN\" https://{HOST}/v1/one > one; \
         touch begun; while [ ! -e removed ]; do sleep 0.05; done; \
         curl -sS -H \"Authorization: Bearer $API_TOKEN\" https://{HOST}/v1/two > two; cat two"
    );
    let ordered =
        world.yard.command(&["run", &script, "--repo", "app", "--agent", "shell", "--detach"]);
    let ordered = { ordered }.output().unwrap();
    assert!(ordered.status.success(), "{ordered:?}");
    let task = String::from_utf8(ordered.stdout).unwrap().trim().to_owned();
    let deadline = std::time::Instant::now() + LIMIT;
    let workspace = loop {
        assert!(std::time::Instant::now() < deadline);
        let shown = world.yard.json(&["task", "show", &task]);
        if let Some(id) = shown["attempts"][0]["workspace"].as_str()
            && !world.seen.lock().unwrap().is_empty()
        {
            break id.to_owned();
        }
    };
    assert!(world.yard.run(&["connection", "remove", "api"]).ends_with("[0]\n"));
    let touch = ["workspace", "exec", &workspace, "--", "touch", "removed"];
    assert!(world.yard.command(&touch).status().unwrap().success());
    let attached = world.yard.command(&["attach", &task]).output().unwrap();
    assert!(attached.status.success(), "{attached:?}");
    let logs = world.yard.run(&["logs", &task]);
    assert!(logs.contains("the connection `api` was removed at"), "{logs}");
    assert!(logs.contains("credential refused: api to api.example.com:443"), "{logs}");
    assert_eq!(world.seen.lock().unwrap().len(), 1);
    check_clean("the log of the session", logs.as_bytes());
    let gone = world.yard.run(&["connection", "show", "api"]);
    assert!(gone.contains("there is no connection `api`") && gone.ends_with("[3]\n"), "{gone}");
}

#[test]
fn what_is_wrong_with_a_credential_is_said_without_repeating_it() {
    let mut yard = Yard::without_server();
    yard.start_server();
    yard.write("value", VALUE);
    let file = yard.path("value").to_str().unwrap().to_owned();
    let check = |more: &[&str], says: &str, code: &str| {
        let args = [&["connection", "add"][..], more].concat();
        let said = yard.run(&args);
        assert!(said.contains(says) && said.ends_with(&format!("[{code}]\n")), "{args:?}: {said}");
        let said = said.split_once('\n').unwrap().1;
        assert!(!said.contains("hidden") && !said.contains(VALUE), "{said}");
    };
    let value = ["--value-file", &*file];
    check(&["github", "hidden-value"], "not taken from the command line", "2");
    check(&["github"], "there is no value", "2");
    check(&[&["gihub"][..], &value].concat(), "It is one of github", "2");
    check(&[&["generic", "--place", "bearer"][..], &value].concat(), "bound to no host", "2");
    check(&[&["generic", "--host", "a.example"][..], &value].concat(), "no place", "2");
    check(
        &[&["generic", "--place", "bearer", "--host", "*"][..], &value].concat(),
        "never bound",
        "2",
    );
    check(&[&["github", "--expires", "soon"][..], &value].concat(), "`soon` is no time", "2");
    check(&[&["github"][..], &value].concat(), "Added github", "0");
    check(&[&["github"][..], &value].concat(), "there is a connection `github` already", "1");
    check(
        &[&["github", "--name", "more"][..], &value].concat(),
        "the variable GITHUB_TOKEN is the connection `github`'s",
        "1",
    );

    // Without its master key the server goes on, and says what is missing.
    yard.stop_server();
    let key = yard.path("data/vault.key");
    fs::rename(&key, yard.path("away.key")).unwrap();
    yard.start_server();
    assert_eq!(yard.json(&["connection", "show", "github"])["state"], "locked");
    let check = yard.run(&["connection", "check", "github"]);
    assert!(check.contains("vault of this Boatyard is locked"), "{check}");
    yard.stop_server();
    fs::rename(yard.path("away.key"), &key).unwrap();
    yard.start_server();
    assert_eq!(yard.json(&["connection", "show", "github"])["state"], "active");
}

fn check_clean(what: &str, bytes: &[u8]) {
    for value in [VALUE, NEXT] {
        let found = bytes.windows(value.len()).any(|window| window == value.as_bytes());
        assert!(!found, "{what} has the value: {}", String::from_utf8_lossy(bytes));
    }
}

/// Looks at each file below a folder: how many.
fn check_files(folder: &Path) -> usize {
    let mut looked_at = 0;
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            looked_at += check_files(&path);
        } else if kind.is_file() {
            // One may go while we look.
            check_clean(&path.display().to_string(), &fs::read(&path).unwrap_or_default());
            looked_at += 1;
        }
    }
    looked_at
}
