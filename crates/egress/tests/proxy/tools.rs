//! The programs that people use, with what a workspace gives them: the bundle and its variables.
//! One that this machine has not is passed over.

use std::{path::Path, process::Stdio};

use boatyard_egress::open::trust::Trust;
use boatyard_egress::open::{Authority, Opener};
use tokio::process::Command;

use crate::{
    fixture::{Fixture, settings, soon},
    house::{House, Origin, reading},
};

struct Tools {
    fixture: Fixture,
    origin: Origin,
    folder: tempfile::TempDir,
}

impl Tools {
    async fn start() -> Self {
        let house = House::new();
        let origin = house.serve(&["tools.example"], &["h2", "http/1.1"]).await;
        let authority = Authority::in_memory().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let trust = Trust::new(&authority, b"").unwrap();
        std::fs::write(folder.path().join("bundle.pem"), trust.bundle).unwrap();
        std::fs::write(folder.path().join("cacerts.jks"), trust.java).unwrap();
        let opener = Opener::new(authority, house.pem.as_bytes()).unwrap();
        let settings = boatyard_egress::Settings { opener: Some(opener.into()), ..settings() };
        let fixture = Fixture::start(settings, vec![reading("tools.example", origin.port)]);
        fixture.names.set("tools.example", &[&["127.0.0.1"]]);
        Self { fixture, origin, folder }
    }

    fn url(&self, path: &str) -> String {
        format!("https://tools.example:{}{path}", self.origin.port)
    }

    /// Runs a program as in a workspace; none if there is no such program here.
    async fn run(&self, program: &str, arguments: &[&str]) -> Option<(bool, String)> {
        let path = std::env::var("PATH").unwrap();
        let home = self.folder.path();
        let bundle = home.join("bundle.pem");
        let proxy = format!("http://{}", self.fixture.address);
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("PATH", path).env("HOME", home).current_dir(home);
        // Where version managers of this machine keep what their shims start.
        for name in ["PYENV_ROOT", "RUSTUP_HOME", "CARGO_HOME"] {
            let there = std::env::var_os(name).or_else(|| {
                let folder = match name {
                    "PYENV_ROOT" => ".pyenv",
                    "RUSTUP_HOME" => ".rustup",
                    _ => return None,
                };
                Some(Path::new(&std::env::var_os("HOME")?).join(folder).into())
            });
            if let Some(there) = there {
                command.env(name, there);
            }
        }
        command.env("CARGO_HOME", home.join("cargo"));
        for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
            command.env(name, &proxy);
        }
        for name in [
            "SSL_CERT_FILE",
            "CURL_CA_BUNDLE",
            "GIT_SSL_CAINFO",
            "REQUESTS_CA_BUNDLE",
            "PIP_CERT",
            "NODE_EXTRA_CA_CERTS",
            "npm_config_cafile",
            "CARGO_HTTP_CAINFO",
        ] {
            command.env(name, &bundle);
        }
        let store = home.join("cacerts.jks");
        command.env("JAVA_TOOL_OPTIONS", format!("-Djavax.net.ssl.trustStore={}", store.display()));
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = match soon(command.output()).await {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            output => output.unwrap(),
        };
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Some((output.status.success(), text))
    }

    /// Runs a program that must succeed, and must have asked for this path.
    async fn passes(&self, program: &str, arguments: &[&str], path: &str) {
        let Some((succeeded, text)) = self.run(program, arguments).await else { return };
        assert!(succeeded, "{program}: {text}");
        self.asked(program, path, &text);
    }

    fn asked(&self, program: &str, path: &str, text: &str) {
        let seen = self.origin.seen();
        let asked = seen.iter().any(|line| line.split(' ').nth(1) == Some(path));
        assert!(asked, "{program} asked for {seen:?}: {text}");
    }
}

#[tokio::test]
async fn curl_and_wget() {
    let tools = Tools::start().await;
    let url = tools.url("/curl");
    tools.passes("curl", &["-sSf", &url], "/curl").await;
    tools.passes("curl", &["-sSf", "--http1.1", &tools.url("/curl1")], "/curl1").await;
    // GnuTLS reads no variable: there it is the bundle of the distribution.
    let bundle = format!("--ca-certificate={}", tools.folder.path().join("bundle.pem").display());
    tools.passes("wget", &["-q", "-O", "-", &bundle, &tools.url("/wget")], "/wget").await;
    if let Some((succeeded, text)) = tools.run("curl", &["-sS", "-d", "x=1", &url]).await {
        assert!(succeeded && text.contains("rule `reading` allows this host"), "{text}");
    }
}

#[tokio::test]
async fn git() {
    let tools = Tools::start().await;
    let Some((succeeded, text)) = tools.run("git", &["ls-remote", &tools.url("/repo.git")]).await
    else {
        return;
    };
    assert!(succeeded && text.contains("refs/heads/main"), "{text}");
    tools.asked("git", "/repo.git/info/refs", &text);
}

#[tokio::test]
async fn python_with_its_own_library_with_requests_and_pip() {
    let tools = Tools::start().await;
    let script =
        format!("import urllib.request as r; print(r.urlopen('{}').status)", tools.url("/urllib"));
    tools.passes("python3", &["-c", &script], "/urllib").await;
    let has_requests = tools.run("python3", &["-c", "import requests"]).await;
    if matches!(has_requests, Some((true, _))) {
        let script = format!(
            "import requests; requests.get('{}').raise_for_status()",
            tools.url("/requests")
        );
        tools.passes("python3", &["-c", &script], "/requests").await;
    }
    let index = tools.url("/simple");
    let arguments = ["-m", "pip", "download", "--no-deps", "--retries", "0", "-i", &index, "thing"];
    let has_pip = tools.run("python3", &["-m", "pip", "--version"]).await;
    if matches!(has_pip, Some((true, _)))
        && let Some((_, text)) = tools.run("python3", &arguments).await
    {
        assert!(text.contains("No matching distribution"), "{text}");
        tools.asked("pip", "/simple/thing/", &text);
    }
}

#[tokio::test]
async fn node_and_npm() {
    let tools = Tools::start().await;
    // Older ones read no proxy variable, so the tunnel is made by hand; the trust is Node's.
    let address = tools.fixture.address;
    let script = format!(
        "require('http').request({{ host: '{}', port: {}, method: 'CONNECT', \
           path: 'tools.example:{port}' }}).on('connect', (_, socket) => \
         require('https').get({{ socket, agent: false, host: 'tools.example', \
           port: {port}, path: '/node' }}, answer => {{ \
             answer.resume(); answer.on('end', () => process.exit(answer.statusCode - 200)) }}) \
         ).end()",
        address.ip(),
        address.port(),
        port = tools.origin.port,
    );
    tools.passes("node", &["-e", &script], "/node").await;
    let registry = format!("--registry={}", tools.url("/"));
    tools
        .passes("npm", &["ping", "--no-update-notifier", "--fetch-retries=0", &registry], "/-/ping")
        .await;
}

#[tokio::test]
async fn cargo() {
    let tools = Tools::start().await;
    let folder = tools.folder.path();
    std::fs::create_dir_all(folder.join("src")).unwrap();
    std::fs::write(folder.join("src/lib.rs"), "").unwrap();
    std::fs::create_dir_all(folder.join(".cargo")).unwrap();
    let index = format!("[registries.house]\nindex = \"sparse+{}\"\n", tools.url("/index/"));
    std::fs::write(folder.join(".cargo/config.toml"), index).unwrap();
    let manifest = "[package]\nname = \"a\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\
                    [dependencies]\nthing = { version = \"1\", registry = \"house\" }\n";
    std::fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    let Some((_, text)) = tools.run("cargo", &["fetch"]).await else { return };
    assert!(text.contains("no matching package"), "{text}");
    tools.asked("cargo", "/index/config.json", &text);
}

#[tokio::test]
async fn java() {
    let tools = Tools::start().await;
    let script = format!(
        "import java.net.*; class Get {{ public static void main(String[] a) throws Exception {{ \
           var c = (HttpURLConnection) new URL(\"{}\").openConnection(); \
           if (c.getResponseCode() != 200) throw new Exception(\"\" + c.getResponseCode()); }} }}",
        tools.url("/java")
    );
    std::fs::write(tools.folder.path().join("Get.java"), script).unwrap();
    let address = tools.fixture.address;
    let host = format!("-Dhttps.proxyHost={}", address.ip());
    let port = format!("-Dhttps.proxyPort={}", address.port());
    tools.passes("java", &[&host, &port, "Get.java"], "/java").await;
}

#[tokio::test]
async fn openssl() {
    let tools = Tools::start().await;
    let proxy = tools.fixture.address.to_string();
    let target = format!("tools.example:{}", tools.origin.port);
    let arguments = [
        "s_client",
        "-proxy",
        &proxy,
        "-connect",
        &target,
        "-servername",
        "tools.example",
        "-verify_return_error",
        "-verify_hostname",
        "tools.example",
        "-brief",
    ];
    let Some((succeeded, text)) = tools.run("openssl", &arguments).await else { return };
    assert!(succeeded && text.contains("Verification: OK"), "{text}");
}
