//! Agents that are installed from a package source: a small one of ours, from a registry on
//! loopback, with the real npm in a real sandbox. Needs npm and a Node on this machine.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    process::Command,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};

use serde_json::{Value, json};

use crate::yard::{LIMIT, Victim, Yard};

/// An agent that answers each prompt with a word, and remembers whether its installation was
/// confined.
const AGENT: &str = r#"
const fs = require('fs'), path = require('path');
const version = JSON.parse(fs.readFileSync(path.join(__dirname, 'package.json'))).version;
if (process.argv.includes('--version')) {
  const confined = fs.existsSync(path.join(__dirname, 'confined')) ? ' confined' : '';
  console.log(`tiny ${version}${confined}`);
  process.exit(0);
}
const send = message => process.stdout.write(JSON.stringify({ jsonrpc: '2.0', ...message }) + '\n');
require('readline').createInterface({ input: process.stdin }).on('line', line => {
  const { id, method, params } = JSON.parse(line);
  const answers = {
    'initialize': { protocolVersion: 1, agentInfo: { name: 'tiny', version },
      agentCapabilities: { promptCapabilities: { image: true } } },
    'session/new': { sessionId: 'one', modes: { currentModeId: 'calm',
      availableModes: [{ id: 'calm', name: 'Calm' }, { id: 'wild', name: 'Wild' }] } },
  };
  if (method === 'session/prompt') {
    send({ method: 'session/update', params: { sessionId: params.sessionId,
      update: { sessionUpdate: 'agent_message_chunk', content: { type: 'text', text: `from ${version}` } } } });
    send({ id, result: { stopReason: 'end_turn' } });
  } else if (id !== undefined) {
    send(answers[method] ? { id, result: answers[method] } : { id, error: { code: -32601, message: 'no' } });
  }
});
"#;

/// Tries to get at what is the host's, and fails the installation where it could.
const POSTINSTALL: &str = r#"
const fs = require('fs'), net = require('net'), path = require('path');
const { files, ports } = JSON.parse(fs.readFileSync(path.join(__dirname, 'host.json')));
const got = files.filter(file => { try { fs.readFileSync(file); return true; } catch { return false; } });
const reach = ([host, port]) => new Promise(done => {
  const socket = net.connect({ host, port, timeout: 2000 }, () => done(`${host}:${port}`));
  socket.on('error', () => done(null));
  socket.on('timeout', () => done(null));
});
const asked = [host => `CONNECT ${host} HTTP/1.1\r\nHost: ${host}\r\n\r\n`];
const byProxy = ([host, port]) => new Promise(done => {
  const socket = net.connect(3128, '127.0.0.1', () => socket.write(asked[0](`${host}:${port}`)));
  socket.on('data', data => done(/^HTTP\/1.1 200/.test(String(data)) ? `proxy to ${host}:${port}` : null));
  socket.on('error', () => done(null));
});
(async () => {
  for (const port of ports) got.push(await reach(port), await byProxy(port));
  const escaped = got.filter(Boolean);
  if (escaped.length) { console.error('ESCAPED', escaped.join(' ')); process.exit(1); }
  fs.writeFileSync(path.join(__dirname, 'confined'), '');
  // Sockets that were refused may be open still.
  process.exit(0);
})();
"#;

/// Fills the disk, in folders that are nested so deeply that nobody adds them up; and says things
/// without an end.
const FILLER: &str = r#"
const fs = require('fs');
for (let level = 0; level < 300; level++) { fs.mkdirSync('d'); process.chdir('d'); }
const block = Buffer.alloc(4 << 20, 1);
let blocks = 0;
setInterval(() => {
  console.log('x'.repeat(100000));
  if (blocks < 100) fs.writeFileSync(`${blocks++}`, block);
}, 50);
"#;

/// A registry of packages on loopback.
struct Registry {
    port: u16,
    /// Requests for archives.
    fetched: Arc<AtomicUsize>,
    /// While it is closed, archives of version 3 are not given out.
    gate: Arc<(Mutex<bool>, Condvar)>,
    /// Tells each request for an archive of version 3.
    asked: mpsc::Receiver<()>,
    /// Somebody who must not be reached.
    other: TcpListener,
}

impl Registry {
    fn open(yard: &Yard) -> Self {
        let listener = TcpListener::bind("127.0.0.2:0").unwrap();
        let other = TcpListener::bind("127.0.0.2:0").unwrap();
        other.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        yard.write("secret", "of the host");
        let secret = yard.path("secret");
        let host = json!({
            "files": ["/etc/shadow", secret, "/root/.npmrc", yard.path("data/client.toml")],
            "ports": [["127.0.0.2", other.local_addr().unwrap().port()]],
        });
        let mut archives = BTreeMap::new();
        for version in ["1.0.0", "2.0.0", "3.0.0", "4.0.0", "5.0.0"] {
            let scripts = match version {
                "4.0.0" => json!({ "postinstall": "echo it went wrong >&2; exit 7" }),
                "5.0.0" => json!({ "postinstall": "node filler.js" }),
                _ => json!({ "postinstall": "node postinstall.js" }),
            };
            let manifest = json!({ "name": "tiny-agent", "version": version, "scripts": scripts,
                "bin": { "tiny-agent": "agent.js" } });
            let folder = format!("tiny-{version}/package");
            yard.write(&format!("{folder}/package.json"), &manifest.to_string());
            yard.write(&format!("{folder}/agent.js"), AGENT);
            yard.write(&format!("{folder}/postinstall.js"), POSTINSTALL);
            yard.write(&format!("{folder}/filler.js"), FILLER);
            yard.write(&format!("{folder}/host.json"), &host.to_string());
            let packed = Command::new("tar")
                .args(["-cz", "-C"])
                .arg(yard.path(&format!("tiny-{version}")))
                .arg("package")
                .output()
                .unwrap();
            archives.insert(format!("/tiny-agent/-/{version}.tgz"), packed.stdout);
        }
        let fetched = Arc::new(AtomicUsize::new(0));
        let gate = Arc::new((Mutex::new(true), Condvar::new()));
        let (tell, asked) = mpsc::channel();
        let (count, held) = (Arc::clone(&fetched), Arc::clone(&gate));
        std::thread::spawn(move || {
            let archives = Arc::new(archives);
            for stream in listener.incoming().map_while(Result::ok) {
                let (archives, count, held) =
                    (Arc::clone(&archives), Arc::clone(&count), Arc::clone(&held));
                let tell = tell.clone();
                std::thread::spawn(move || serve(&stream, port, &archives, &count, &held, &tell));
            }
        });
        Self { port, fetched, gate, asked, other }
    }

    fn set_open(&self, open: bool) {
        *self.gate.0.lock().unwrap() = open;
        self.gate.1.notify_all();
    }

    /// Nobody came where nobody may come.
    fn assert_alone(&self) {
        let came = self.other.accept();
        assert!(came.is_err(), "an installation reached {came:?}");
    }
}

fn serve(
    stream: &TcpStream,
    port: u16,
    archives: &BTreeMap<String, Vec<u8>>,
    fetched: &AtomicUsize,
    gate: &(Mutex<bool>, Condvar),
    asked: &mpsc::Sender<()>,
) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    while lines.next().is_some_and(|line| !line.is_empty()) {}
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let (status, mime, body) = if let Some(archive) = archives.get(&path) {
        fetched.fetch_add(1, Ordering::SeqCst);
        if path.contains("3.0.0") {
            // A test that is over has no more interest.
            let _ = asked.send(());
            let open = gate.0.lock().unwrap();
            drop(gate.1.wait_timeout_while(open, LIMIT, |open| !*open).unwrap());
        }
        (200, "application/octet-stream", archive.clone())
    } else if path.split(['?', '/']).nth(1) == Some("tiny-agent") {
        let versions: BTreeMap<&str, Value> = ["1.0.0", "2.0.0", "3.0.0", "4.0.0", "5.0.0"]
            .into_iter()
            .map(|version| {
                let archive = format!("http://127.0.0.2:{port}/tiny-agent/-/{version}.tgz");
                let about = json!({ "name": "tiny-agent", "version": version,
                    "hasInstallScript": true, "bin": { "tiny-agent": "agent.js" },
                    "dist": { "tarball": archive } });
                (version, about)
            })
            .collect();
        let body = json!({ "name": "tiny-agent", "dist-tags": { "latest": "1.0.0" },
            "versions": versions });
        (200, "application/json", body.to_string().into_bytes())
    } else {
        (404, "application/json", b"{\"error\":\"not found\"}".to_vec())
    };
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: {mime}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let mut stream = stream;
    // npm may have been killed.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
}

const ADD: [&str; 13] = [
    "agent",
    "add",
    "tiny",
    "--npm",
    "tiny-agent@1.0.0",
    "--command",
    "node {package}/node_modules/tiny-agent/agent.js",
    "--title",
    "Tiny",
    "--bin",
    "node_modules/tiny-agent/agent.js",
    "--check=--version",
    "--prints=tiny 1.0.0 confined",
];

/// A server whose rules let nothing out, and whose npm is ours.
fn yard() -> (Yard, Registry) {
    let mut yard = Yard::without_server();
    let registry = Registry::open(&yard);
    let settings = format!(
        "[egress]\npresets = []\nnpm_registry = \"http://127.0.0.2:{}/\"\n\
         allow_private = [\"127.0.0.0/8\"]\n[limits]\ndisk = \"128MiB\"\n",
        registry.port
    );
    yard.write("data/boatyard.toml", &settings);
    yard.start_server();
    let added = yard.run(&ADD);
    assert!(added.contains("Added tiny."), "{added}");
    (yard, registry)
}

fn versions(yard: &Yard) -> Vec<(String, String)> {
    let agent = yard.json(&["agent", "show", "tiny"]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let tools = agent["installed"].as_array().cloned().unwrap_or_default();
    tools.iter().map(|tool| (text(&tool["version"]), text(&tool["state"]))).collect()
}

fn folders(yard: &Yard) -> usize {
    std::fs::read_dir(yard.path("data/sandboxes/tools")).unwrap().count()
}

#[test]
fn an_agent_is_installed_confined_tried_used_and_removed() {
    let (yard, registry) = yard();
    yard.repository("app");
    let run = ["run", "hello", "--repo", "app", "--agent", "tiny"];
    let before = yard.run(&run);
    assert!(before.contains("boatyard agent install tiny"), "{before}");

    let installed = yard.run(&["agent", "install", "tiny"]);
    assert!(installed.ends_with("[0]\n"), "{installed}");
    assert!(installed.contains("tiny 1.0.0 is installed ("), "{installed}");
    assert!(installed.contains("2 modes · takes pictures"), "{installed}");
    let shown = yard.run(&["agent", "show", "tiny"]);
    assert!(shown.contains("wild  Wild"), "{shown}");
    registry.assert_alone();
    let again = yard.run(&["agent", "install", "tiny"]);
    assert!(again.contains("tiny 1.0.0 is installed already."), "{again}");
    assert_eq!(registry.fetched.load(Ordering::SeqCst), 1, "asked twice, installed once");
    let checked = yard.run(&["agent", "check", "tiny"]);
    assert!(checked.contains("tiny works.") && checked.contains("* calm  Calm"), "{checked}");

    // Two versions side by side; the pinned one is used.
    let second = yard.run(&["agent", "install", "tiny", "--package", "tiny-agent@2.0.0"]);
    assert!(second.contains("tiny 2.0.0 is installed ("), "{second}");
    assert_eq!(
        versions(&yard),
        [("2.0.0".into(), "ready".into()), ("1.0.0".into(), "ready".into())]
    );
    let ran = yard.run(&run);
    assert!(ran.contains("from 1.0.0"), "{ran}");

    // What a session uses stays; the rest goes.
    let refused = yard.run(&["agent", "remove", "tiny", "--version", "1.0.0"]);
    assert!(refused.contains("used by a session that has not ended"), "{refused}");
    let gone = yard.run(&["agent", "remove", "tiny", "--version", "2.0.0"]);
    assert!(gone.contains("Removed tiny 2.0.0."), "{gone}");
    assert_eq!(folders(&yard), 1);

    // A script that fails is told with what it said.
    let failed = yard.run(&["agent", "install", "tiny", "--package", "tiny-agent@4.0.0"]);
    assert!(failed.ends_with("[1]\n"), "{failed}");
    assert!(failed.contains("npm install") && failed.contains("it went wrong"), "{failed}");
    let unknown = yard.run(&["agent", "install", "tiny", "--package", "tiny-agent@9.9.9"]);
    assert!(unknown.contains("tiny 9.9.9 was not installed"), "{unknown}");
    let unpinned = yard.run(&["agent", "install", "tiny", "--package", "tiny-agent@latest"]);
    assert!(unpinned.contains("is not pinned to a version"), "{unpinned}");
    assert!(unpinned.ends_with("[2]\n"), "{unpinned}");
    assert_eq!(folders(&yard), 1, "nothing is left of what failed");
}

#[test]
fn a_server_that_is_killed_in_mid_installation_begins_it_anew() {
    let (mut yard, registry) = yard();
    registry.set_open(false);
    let detached =
        yard.run(&["agent", "install", "tiny", "--package", "tiny-agent@3.0.0", "--detach"]);
    assert!(detached.contains("tiny 3.0.0 is being installed."), "{detached}");
    registry.asked.recv_timeout(LIMIT).unwrap();
    yard.kill(Victim::Server);
    registry.set_open(true);
    yard.start_server();
    let installed = yard.run(&["agent", "install", "tiny", "--package", "tiny-agent@3.0.0"]);
    assert!(installed.ends_with("[0]\n"), "{installed}");
    assert_eq!(versions(&yard), [("3.0.0".into(), "ready".into())]);
    assert_eq!(folders(&yard), 1, "no half of one is left");
    let builders = std::fs::read_dir(yard.path("data/sandboxes/ws")).unwrap().count();
    assert_eq!(builders, 0, "its throw-away workspaces are gone");
}

#[test]
fn an_installation_that_fills_the_disk_is_ended() {
    let (yard, _registry) = yard();
    let failed = yard.run(&["agent", "install", "tiny", "--package", "tiny-agent@5.0.0"]);
    assert!(failed.ends_with("[1]\n"), "{failed}");
    // Where the file system keeps the limit, it is the script that fails.
    let is_kept = failed.contains("EDQUOT") || failed.contains("ENOSPC");
    assert!(is_kept || failed.contains("`[limits] disk`"), "{failed}");
    assert_eq!(folders(&yard), 0);
    let builders = std::fs::read_dir(yard.path("data/sandboxes/ws")).unwrap().count();
    assert_eq!(builders, 0, "its throw-away workspace is gone");
}

#[test]
fn an_entry_that_makes_no_sense_is_refused_with_its_key() {
    let yard = Yard::with_server();
    yard.write("wrong.toml", "[agents.mine]\nprotocol = \"acp\"\ncomand = [\"x\"]\n");
    yard.write(
        "open.toml",
        "protocol = \"acp\"\ncommand = [\"x\"]\n\
        install = { from = \"npm\", packages = [\"x@latest\"], bin = \"x\" }\n",
    );
    let wrong = yard.run(&["agent", "add", "--file", "wrong.toml"]);
    assert!(wrong.contains("comand") && wrong.ends_with("[2]\n"), "{wrong}");
    let open = yard.run(&["agent", "add", "--file", "open.toml", "mine"]);
    assert!(open.contains("must be pinned"), "{open}");
    let host = yard.run(&["agent", "add", "mine", "--from-host", "no-such-program"]);
    assert!(host.contains("[tools]") && host.ends_with("[0]\n"), "{host}");
    let needless = yard.run(&["agent", "install", "demo"]);
    assert!(needless.contains("needs no installation"), "{needless}");
    let removed = yard.run(&["agent", "remove", "mine"]);
    assert!(removed.ends_with("[0]\n"), "{removed}");
    assert!(yard.run(&["agent", "show", "mine"]).ends_with("[3]\n"));
}
