//! The way from a workspace to a model: with the key that no workspace has, through a killed server,
//! and to the scripted provider without one.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use boatyard_egress::scripted::{self, Seen};
use tokio::{net::TcpListener, sync::mpsc};

use crate::yard::{LIMIT, Victim, Yard};

/// The key in a file, for `anthropic`.
const FILE_KEY: &str = "sk-made-up-of-the-file-7f3a91";
/// The key in a variable, for `openai`.
const VARIABLE_KEY: &str = "sk-made-up-of-the-variable-c40d52";
/// What a workspace has instead.
const PLACEHOLDER: &str = "placeholder-b81e";
/// What a request to Anthropic's interface says.
const QUESTION: &str =
    r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"[[say:Hello]]"}]}"#;

/// A provider on loopback that keeps what it was asked.
pub(crate) struct Provider {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    _runtime: tokio::runtime::Runtime,
}

impl Provider {
    pub(crate) fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (record, mut recorded) = mpsc::channel(1024);
        let settings = scripted::Settings { pace: Duration::ZERO, record: Some(record) };
        let provider = scripted::service(settings);
        runtime.spawn(async move { provider.serve(listener, std::future::pending()).await });
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let kept = Arc::clone(&seen);
        runtime.spawn(async move {
            while let Some(request) = recorded.recv().await {
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(request);
            }
        });
        Self { address, seen, _runtime: runtime }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until it was asked so often.
    fn wait_for(&self, count: usize) {
        let deadline = Instant::now() + LIMIT;
        while self.seen().len() < count {
            assert!(Instant::now() < deadline, "{} of {count} requests", self.seen().len());
            std::thread::yield_now();
        }
    }
}

/// A yard whose server has these settings beside the two keys.
pub(crate) fn yard(provider: &Provider, more: &str) -> Yard {
    let yard = Yard::without_server();
    let key = yard.path("anthropic.key");
    fs::write(&key, format!("{FILE_KEY}\n")).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let address = provider.address;
    let settings = format!(
        "[log]\nlevel = \"trace\"\n\n\
         [providers.anthropic]\nbase_url = \"http://{address}\"\nkey_file = \"{}\"\n\n\
         [providers.openai]\nbase_url = \"http://{address}/v1\"\n\n{more}",
        key.display()
    );
    yard.write("boatyard.toml", &settings);
    let config = yard.path("boatyard.toml").to_str().unwrap().to_owned();
    let mut yard = yard.with_variables(vec![
        ("BOATYARD_CONFIG".to_owned(), config),
        ("OPENAI_API_KEY".to_owned(), VARIABLE_KEY.to_owned()),
    ]);
    yard.start_server();
    yard
}

/// What a command in a workspace prints.
pub(crate) fn sh(yard: &Yard, workspace: &str, script: &str) -> String {
    let output =
        yard.command(&["workspace", "exec", workspace, "--", "sh", "-c", script]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Asks the gateway from inside; the body of the answer, and its status in the last line.
fn ask(yard: &Yard, workspace: &str, path: &str, more: &str) -> String {
    let script = format!("curl -sS -w '\\n%{{http_code}}' {more} http://127.0.0.1:7080{path}");
    sh(yard, workspace, &script)
}

fn workspace(yard: &Yard) -> String {
    yard.json(&["workspace", "create"])["id"].as_str().unwrap().to_owned()
}

/// A header of a request.
fn header<'s>(seen: &'s Seen, name: &str) -> Option<&'s str> {
    seen.headers.get(name).map(|value| value.to_str().unwrap())
}

#[test]
fn a_model_is_asked_with_the_key_that_no_workspace_has() {
    let provider = Provider::start();
    let yard = yard(&provider, "");
    let id = workspace(&yard);
    let post = format!("-H 'x-api-key: {PLACEHOLDER}' -d '{QUESTION}'");
    let answer = ask(&yard, &id, "/anthropic/v1/messages?beta=true", &post);
    assert!(answer.contains("[scripted]") && answer.ends_with("\n200"), "{answer}");
    let post = format!("-H 'authorization: Bearer {PLACEHOLDER}' -d '{QUESTION}'");
    let answer = ask(&yard, &id, "/openai/v1/chat/completions", &post);
    assert!(answer.contains("[scripted]") && answer.ends_with("\n200"), "{answer}");

    let seen = provider.seen();
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert_eq!(seen[0].uri, "/v1/messages?beta=true");
    assert_eq!(header(&seen[0], "x-api-key"), Some(FILE_KEY));
    assert_eq!(seen[1].uri, "/v1/chat/completions");
    assert_eq!(header(&seen[1], "authorization"), Some(&*format!("Bearer {VARIABLE_KEY}")));
    for request in &seen {
        assert!(!format!("{:?}", request.headers).contains(PLACEHOLDER), "{request:?}");
    }

    // Nowhere inside: no file that the worker can read, no process as the host sees it.
    let found = sh(
        &yard,
        &id,
        "env; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null; \
         grep -rsh '[s]k-made-up-of-the' /work /home /tmp /run /etc /var /dev/shm 2>/dev/null; true",
    );
    check_clean("inside the workspace", found.as_bytes());
    // Nor in any process of this server's, the variable's own place in memory included.
    let looked_at = check_processes(&yard);
    assert!(looked_at >= 4, "supervisor, server, spawner and a first process: {looked_at}");
    // Nor in anything that was kept, the log at its most talkative among it.
    let files = check_files(&yard.path("data"), &[&yard.path("anthropic.key")]);
    assert!(files > 10, "{files}");
    for command in [
        &["--json", "agent", "list"][..],
        &["--json", "workspace", "show", &id],
        &["up", "--print-config"],
        &["--json", "up", "--print-config"],
    ] {
        let output = yard.command(command).output().unwrap();
        assert!(output.status.success(), "{command:?}: {output:?}");
        check_clean(&format!("{command:?}"), &[output.stdout, output.stderr].concat());
    }

    // It was counted.
    let client = fs::read_to_string(yard.path("data/client.toml")).unwrap();
    let client: toml::Table = client.parse().unwrap();
    let figures = figures(client["server"].as_str().unwrap(), client["key"].as_str().unwrap());
    for expected in [
        "boatyard_model_requests_total{provider=\"anthropic\",status=\"2xx\",end=\"complete\"} 1",
        "boatyard_model_bytes_total{provider=\"openai\",direction=\"sent\"}",
        "boatyard_model_request_seconds",
    ] {
        assert!(figures.contains(expected), "{expected} is not in\n{figures}");
    }
}

/// What the server tells Prometheus.
fn figures(server: &str, key: &str) -> String {
    let address = server.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "GET /metrics HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {key}\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn check_clean(what: &str, bytes: &[u8]) {
    for key in [FILE_KEY, VARIABLE_KEY] {
        let found = bytes.windows(key.len()).any(|window| window == key.as_bytes());
        assert!(!found, "{what} has the key {key}: {}", String::from_utf8_lossy(bytes));
    }
}

/// Looks at the environment and the arguments of each process of the yard: how many.
fn check_processes(yard: &Yard) -> usize {
    let data = yard.path("data");
    let data = data.to_str().unwrap();
    let mut looked_at = 0;
    for entry in fs::read_dir("/proc").unwrap().map(Result::unwrap) {
        let name = entry.file_name();
        if !name.as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        let read = |file: &str| fs::read(entry.path().join(file)).unwrap_or_default();
        let environment = read("environ");
        let ours = [&environment, &read("cmdline"), &read("mountinfo")];
        let is_ours = ours
            .iter()
            .any(|text| text.windows(data.len()).any(|window| window == data.as_bytes()))
            || is_child_of_ours(entry.path().as_path(), data);
        if is_ours {
            check_clean(
                &format!("process {}", name.to_string_lossy()),
                &ours.map(|t| &t[..]).concat(),
            );
            looked_at += 1;
        }
    }
    looked_at
}

/// Whether the parent was started for this folder: the spawner has an environment of its own.
fn is_child_of_ours(process: &Path, data: &str) -> bool {
    let status = fs::read_to_string(process.join("status")).unwrap_or_default();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).map(str::trim);
    let environment = parent.and_then(|parent| fs::read(format!("/proc/{parent}/environ")).ok());
    environment.is_some_and(|text| text.windows(data.len()).any(|window| window == data.as_bytes()))
}

/// Looks at each file below a folder, but those: how many.
fn check_files(folder: &Path, but: &[&Path]) -> usize {
    let mut looked_at = 0;
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            looked_at += check_files(&path, but);
        } else if kind.is_file() && !but.contains(&&*path) {
            // One may go while we look.
            check_clean(&path.display().to_string(), &fs::read(&path).unwrap_or_default());
            looked_at += 1;
        }
    }
    looked_at
}

#[test]
fn answers_come_piece_by_piece_and_faults_in_the_providers_own_shape() {
    let provider = Provider::start();
    let yard = yard(&provider, "");
    let id = workspace(&yard);
    // An answer that never ends: what came of it is here all the same.
    let question = r#"{"model":"m","max_tokens":9,"stream":true,
        "messages":[{"role":"user","content":"[[fault:silent]]"}]}"#;
    let script = format!(
        "mkfifo /tmp/pieces; curl -sSN -d '{question}' \
         http://127.0.0.1:7080/anthropic/v1/messages > /tmp/pieces & \
         head -n 2 < /tmp/pieces; kill $!"
    );
    let begun = sh(&yard, &id, &script);
    assert!(begun.starts_with("event: message_start\ndata: {"), "{begun}");

    let upgrade = "-H 'connection: Upgrade' -H 'upgrade: websocket' \
                   -H 'sec-websocket-version: 13' -H 'sec-websocket-key: x'";
    let check = |path: &str, more: &str, at: &str, kind: &str, status: &str, says: &str| {
        let answer = ask(&yard, &id, path, more);
        let (body, found) = answer.rsplit_once('\n').unwrap();
        assert_eq!(found, status, "{path}: {answer}");
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body.pointer(at).and_then(|kind| kind.as_str()), Some(kind), "{body}");
        let message = body["error"]["message"].as_str().unwrap();
        assert!(message.contains(says), "{message}");
    };
    check("/openai/v1/responses", upgrade, "/error/code", "websocket_not_supported", "426", "POST");
    let gemini = "/gemini/v1beta/models/m:generateContent";
    check(gemini, "-d '{}'", "/error/status", "UNAUTHENTICATED", "401", "set GEMINI_API_KEY");
    check("/nowhere/v1/x", "", "/error/type", "not_found_error", "404", "[providers.NAME]");
    assert_eq!(provider.seen().len(), 1, "none of these left");

    // The scripted provider needs no key.
    let question = r#"{"contents":[{"role":"user","parts":[{"text":"[[say:Hello]]"}]}]}"#;
    let demo = "/demo-gemini/v1beta/models/m:generateContent";
    let answer = ask(&yard, &id, demo, &format!("-d '{question}'"));
    assert!(answer.contains("[scripted]") && answer.ends_with("\n200"), "{answer}");
}

#[test]
fn a_killed_server_is_waited_for() {
    let provider = Provider::start();
    let mut yard = yard(&provider, "");
    yard.repository("app");
    // One request after another, each of which must be answered. One that was under way when the
    // server was killed is asked again, as agents do.
    let script = format!(
        "while [ ! -e /work/app/enough ]; do curl -sSf --retry 2 --retry-all-errors \
         --retry-delay 1 -o /tmp/answer -d '{QUESTION}' \
         http://127.0.0.1:7080/anthropic/v1/messages || exit 1; done; rm /work/app/enough"
    );
    let ordered = yard.command(&["run", &script, "--repo", "app", "--agent", "shell", "--detach"]);
    let ordered = { ordered }.output().unwrap();
    assert!(ordered.status.success(), "{ordered:?}");
    let task = String::from_utf8(ordered.stdout).unwrap().trim().to_owned();
    provider.wait_for(3);
    yard.kill(Victim::Server);
    let before = provider.seen().len();
    yard.start_server();
    provider.wait_for(before + 3);
    let workspace = yard.json(&["task", "show", &task])["attempts"][0]["workspace"].clone();
    sh(&yard, workspace.as_str().unwrap(), "touch /work/app/enough");
    let ended = yard.command(&["attach", &task]).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    let task = yard.json(&["task", "show", &task]);
    assert_eq!(task["state"], "succeeded", "{task:#}\n{said}");
}

#[test]
fn a_server_that_is_stopped_lets_answers_end() {
    let provider = Provider::start();
    let mut yard = yard(&provider, "");
    yard.repository("app");
    // It takes a second or so to be told.
    let question = QUESTION
        .replace("[[say:", "[[pace:100]][[say:")
        .replace("\"max_tokens\"", "\"stream\":true,\"max_tokens\"");
    let script = format!(
        "curl -sSNf -d '{question}' http://127.0.0.1:7080/anthropic/v1/messages > answer && \
         grep message_stop answer"
    );
    let ordered = yard.command(&["run", &script, "--repo", "app", "--agent", "shell", "--detach"]);
    let ordered = { ordered }.output().unwrap();
    assert!(ordered.status.success(), "{ordered:?}");
    let task = String::from_utf8(ordered.stdout).unwrap().trim().to_owned();
    provider.wait_for(1);
    yard.stop_server();
    yard.start_server();
    let ended = yard.command(&["attach", &task]).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    let task = yard.json(&["task", "show", &task]);
    assert_eq!(task["state"], "succeeded", "{task:#}\n{said}");
    assert_eq!(provider.seen().len(), 1, "asked once");
}

/// Agents that are a single request, each to its provider.
fn askers() -> String {
    let asker = |name: &str, provider: &str| {
        format!(
            "[agents.{name}]\nprotocol = \"text\"\nprovider = \"{provider}\"\nmodel = \"large\"\n\
             demo_model = \"small\"\ncommand = [\"curl\", \"-sS\", \"{{provider}}/v1/messages\", \
             \"-d\", '''{{\"model\":\"{{model}}\",\"max_tokens\":9,\
             \"messages\":[{{\"role\":\"user\",\"content\":\"{{prompt}}\"}}]}}''']\n\n"
        )
    };
    asker("keyed", "anthropic") + &asker("keyless", "gemini") + &asker("lost", "nowhere")
}

#[test]
fn an_agent_is_led_to_its_provider_or_to_the_scripted_one() {
    let provider = Provider::start();
    let yard = yard(&provider, &askers());
    yard.repository("app");
    let run = |agent: &str, more: &[&str]| {
        let mut args = vec!["run", "[[say:Hello]]", "--repo", "app", "--agent", agent];
        args.extend(more);
        yard.run(&args)
    };
    insta::assert_snapshot!(
        "models",
        [
            run("keyless", &[]),
            run("lost", &[]),
            run("lost", &["--model", "demo"]),
            run("shell", &["--model", "demo"]),
        ]
        .join("\n")
    );
    let answered = run("keyed", &[]);
    assert!(answered.contains("[scripted]") && answered.ends_with("[0]\n"), "{answered}");
    let seen = provider.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(header(&seen[0], "x-api-key"), Some(FILE_KEY));
    assert!(
        seen[0].body.windows(15).any(|part| part == br#""model":"large""#),
        "{:?}",
        seen[0].body
    );
    let scripted = run("keyless", &["--model", "demo"]);
    assert!(scripted.contains("[scripted]") && scripted.ends_with("[0]\n"), "{scripted}");
    assert!(scripted.contains("small"), "by the name that stands for it: {scripted}");
    assert_eq!(provider.seen().len(), 1, "that one was asked here");
}

#[test]
fn keys_that_are_none_are_refused_and_never_repeated() {
    let yard = Yard::without_server();
    let config = yard.path("boatyard.toml").to_str().unwrap().to_owned();
    let up = |file: &str, key: &str| {
        yard.write("boatyard.toml", file);
        let said = yard.run_with(&["up", "--config", &config], &[("GEMINI_API_KEY", key)]);
        // The transcript shows its own variables.
        said.split_once('$').unwrap().1.to_owned()
    };
    let file =
        |name: &str| format!("[providers.openai]\nkey_file = \"{}\"\n", yard.path(name).display());
    yard.write("empty.key", "\n");
    yard.write("two.key", "sk-hidden\nsk-hidden\n");
    insta::assert_snapshot!(
        "keys",
        [
            up(&file("missing.key"), ""),
            up(&file("empty.key"), ""),
            up(&file("two.key"), ""),
            up("", "sk hidden"),
            up("[providers.mine]\nbase_url = \"http://127.0.0.1:8000\"\n", ""),
            up("[providers.mine]\nkey = \"sk-hidden\"\n", ""),
        ]
        .join("\n")
    );
}
