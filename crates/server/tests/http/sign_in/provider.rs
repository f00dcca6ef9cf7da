//! A real provider beside the test: `oidc-provider` for Node.js, by HTTPS.
//!
//! Its packages are installed once, below the target folder, as `package-lock.json` has them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command as Blocking, Stdio},
};

use reqwest::{StatusCode, header};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

/// Where the provider's program is in the sources.
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/provider");

/// The secret of its clients.
pub(super) const SECRET: &str = "a made-up secret of the provider's client";

/// A provider that runs.
pub(super) struct Provider {
    /// Where it is.
    pub(super) issuer: String,
    /// The folder with the certificate that is to be trusted, as `cert.pem`.
    folder: tempfile::TempDir,
    client: reqwest::Client,
    _child: Child,
}

/// Installs the provider's packages, unless they are there.
fn installed() -> PathBuf {
    let place = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("provider");
    fs::create_dir_all(&place).unwrap();
    // Tests are processes of their own: one of them installs.
    let lock = fs::File::create(place.join(".lock")).unwrap();
    lock.lock().unwrap();
    let wanted = fs::read(Path::new(SOURCE).join("package-lock.json")).unwrap();
    let stamp = place.join(".stamp");
    if fs::read(&stamp).is_ok_and(|there| there == wanted) {
        return place;
    }
    for name in ["package.json", "package-lock.json"] {
        fs::copy(Path::new(SOURCE).join(name), place.join(name)).unwrap();
    }
    let npm = Blocking::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
        .current_dir(&place)
        .output()
        .expect("Node.js and npm are needed for tests of signing in");
    assert!(npm.status.success(), "npm: {}", String::from_utf8_lossy(&npm.stderr));
    fs::write(stamp, wanted).unwrap();
    place
}

impl Provider {
    /// Starts one that leads people back to these addresses.
    pub(super) async fn start(oidc: &str, github: &str) -> Self {
        let place = tokio::task::spawn_blocking(installed).await.unwrap();
        // Modules look for packages beside themselves.
        let program = tempfile::Builder::new().suffix(".mjs").tempfile_in(place).unwrap();
        fs::copy(Path::new(SOURCE).join("provider.mjs"), program.path()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(folder.path().join("cert.pem"), made.cert.pem()).unwrap();
        fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        let mut child = Command::new("node")
            .arg(program.path())
            .arg(folder.path())
            .args([oidc, github])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("Node.js is needed for tests of signing in");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // What it warns of comes before.
        let issuer = loop {
            let line = lines.next_line().await.unwrap().expect("the provider did not start");
            let said = serde_json::from_str::<Value>(&line);
            if let Some(issuer) =
                said.ok().and_then(|said| Some(said["issuer"].as_str()?.to_owned()))
            {
                break issuer;
            }
        };
        drop(program);
        // It goes on to warn of being a provider of a test.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        // Which cryptography TLS uses here is said once in a process; who comes second agrees.
        let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
        let trusted = reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).unwrap();
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .tls_certs_only([trusted])
            .build()
            .unwrap();
        Self { issuer, folder, client, _child: child }
    }

    /// The certificate that is to be trusted.
    pub(super) fn certificate(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    async fn control(&self, wanted: Value) {
        let request = self.client.post(format!("{}/control", self.issuer)).json(&wanted);
        assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
    }

    /// There is this account from now on.
    pub(super) async fn account(&self, name: &str, claims: Value) {
        self.control(json!({ "accounts": { name: claims } })).await;
    }

    /// It answers in another way from now on.
    pub(super) async fn behave(&self, mode: &str) {
        self.control(json!({ "mode": mode })).await;
    }

    /// Goes where Boatyard sends a browser, as this person: where the provider sends it back to.
    pub(super) async fn visit(&self, url: &str, name: &str) -> String {
        let mut url = format!("{url}&login_hint={name}");
        let mut jar = Vec::<(String, String)>::new();
        for _ in 0..10 {
            if !url.starts_with(&self.issuer) {
                return url;
            }
            let cookies = jar.iter().map(|(name, value)| format!("{name}={value}"));
            let cookies = cookies.collect::<Vec<_>>().join("; ");
            let request = self.client.get(&url).header(header::COOKIE, cookies);
            let answer = request.send().await.unwrap();
            for set in answer.headers().get_all(header::SET_COOKIE) {
                let (name, value) =
                    set.to_str().unwrap().split(';').next().unwrap().split_once('=').unwrap();
                jar.retain(|(known, _)| known != name);
                if !value.is_empty() {
                    jar.push((name.to_owned(), value.to_owned()));
                }
            }
            let to = answer.headers().get(header::LOCATION).cloned();
            let Some(to) = to else { panic!("{url}: {}", answer.text().await.unwrap()) };
            let to = to.to_str().unwrap();
            let is_path = to.starts_with('/');
            url = if is_path { format!("{}{to}", self.issuer) } else { to.to_owned() };
        }
        panic!("it leads in a circle: {url}");
    }
}
