//! A real agent against the scripted provider: Gemini's program, fetched from npm.
//!
//! Not part of the usual run, since it fetches a hundred megabytes:
//! `cargo nextest run -p boatyard-egress --test scripted --run-ignored only`.

use std::{path::Path, process::Stdio, time::Duration};

use boatyard_egress::scripted::{self, Settings};
use tokio::{net::TcpListener, process::Command, sync::mpsc, time::timeout};

const AGENT: &str = "@google/gemini-cli@0.61.0";

/// What makes it quiet and has it take a key from the environment.
const QUIET: &str = r#"{"security": {"auth": {"selectedType": "gemini-api-key"}},
    "privacy": {"usageStatisticsEnabled": false}, "telemetry": {"enabled": false},
    "general": {"enableAutoUpdate": false, "enableAutoUpdateNotification": false}}"#;

#[tokio::test]
#[ignore = "fetches a hundred megabytes from npm"]
async fn a_real_agent_writes_a_file_and_runs_a_command() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path();
    if !install(place).await {
        eprintln!("skipped: npm is not on this machine");
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let (record, mut seen) = mpsc::channel(64);
    let settings = Settings { pace: Duration::ZERO, record: Some(record) };
    let provider = scripted::service(settings);
    let serving =
        tokio::spawn(async move { provider.serve(listener, std::future::pending()).await });

    let (home, repository) = (place.join("home"), place.join("repository"));
    std::fs::create_dir_all(home.join(".gemini")).unwrap();
    std::fs::write(home.join(".gemini/settings.json"), QUIET).unwrap();
    std::fs::create_dir(&repository).unwrap();
    let agent = Command::new(place.join("node_modules/.bin/gemini"))
        .args(["-m", "gemini-2.5-pro", "-o", "stream-json", "--approval-mode", "yolo"])
        .args(["-p", "[[write:made.txt|by a script\\n]] [[run:wc -c made.txt]]"])
        .current_dir(&repository)
        .env("HOME", &home)
        .env("GEMINI_API_KEY", "placeholder")
        .env("GOOGLE_GEMINI_BASE_URL", base)
        .env("GEMINI_CLI_TRUST_WORKSPACE", "true")
        .env("GEMINI_CLI_NO_RELAUNCH", "true")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(Duration::from_secs(120), agent).await.unwrap().unwrap();
    serving.abort();

    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(std::fs::read_to_string(repository.join("made.txt")).unwrap(), "by a script\n");
    assert!(said.contains("12 made.txt") && said.contains("[scripted]"), "{said}");
    let request = seen.recv().await.unwrap();
    assert_eq!(request.headers["x-goog-api-key"], "placeholder");
    assert_eq!(request.uri.path(), "/v1beta/models/gemini-2.5-pro:streamGenerateContent");
}

/// Installs the agent there; says whether there is an npm to do so.
async fn install(place: &Path) -> bool {
    let npm = Command::new("npm")
        .args(["install", "--no-audit", "--no-fund", "--prefix"])
        .arg(place)
        .arg(AGENT)
        .kill_on_drop(true)
        .output();
    let outcome = match timeout(Duration::from_secs(300), npm).await.unwrap() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return false,
        outcome => outcome.unwrap(),
    };
    assert!(outcome.status.success(), "{}", String::from_utf8_lossy(&outcome.stderr));
    true
}
