//! Recorded agents, played to the driver in step with what it says.
//!
//! `streams/*.jsonl` hold `[">" | "<", message]` a line, as recorded with the real agents (long lists
//! cut). What comes out is compared with `golden/*.txt`; `BLESS=1` writes them anew.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    path::{Path, PathBuf},
};

use boatyard_agent::{Command, Driver, Launch, Output, Protocol};
use boatyard_model::EventBody;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream},
    sync::mpsc,
    time::{Duration, timeout},
};

use crate::support::{PATIENCE, Played, launch, next, program, prompt, send};

fn here(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it").join(folder)
}

/// What the client did in a recording.
struct Recording {
    lines: Vec<(bool, Value)>,
    prompts: Vec<String>,
    mode: Option<String>,
    resume: Option<String>,
    /// The options that were chosen, in order.
    options: Vec<String>,
}

fn read(name: &str) -> Recording {
    let text = std::fs::read_to_string(here("streams").join(format!("{name}.jsonl"))).unwrap();
    let lines: Vec<(bool, Value)> = text
        .lines()
        .map(|line| serde_json::from_str::<(String, Value)>(line).unwrap())
        .map(|(side, message)| (side == ">", message))
        .collect();
    let mut lines = lines;
    if lines.iter().any(|(_, message)| message["method"] == "session/load") {
        // The recording client loaded where we would rather resume.
        let hello = &mut lines[1].1["result"]["agentCapabilities"]["sessionCapabilities"];
        hello.as_object_mut().map(|can| can.remove("resume"));
    }
    let ours = || lines.iter().filter(|(ours, _)| *ours).map(|(_, message)| message);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let of = |method: &str| {
        let method = method.to_owned();
        ours().filter(move |m| m["method"] == method.as_str()).map(|m| &m["params"])
    };
    Recording {
        prompts: of("session/prompt").map(|p| text(&p["prompt"][0]["text"])).collect(),
        mode: of("session/set_mode").next().map(|p| text(&p["modeId"])),
        resume: of("session/resume")
            .chain(of("session/load"))
            .next()
            .map(|p| text(&p["sessionId"])),
        options: ours()
            .filter_map(|m| m["result"]["outcome"]["optionId"].as_str().map(str::to_owned))
            .collect(),
        lines,
    }
}

/// What the entry of a recorded agent says of its provider. Copilot and OpenCode take any.
fn provider(name: &str) -> &'static str {
    match name.split('.').next() {
        Some("claude") => "provider = 'anthropic'",
        Some("codex" | "codexzed") => "provider = 'openai'",
        Some("gemini") => "provider = 'gemini'",
        _ => "provider = 'corporate'",
    }
}

/// Plays the agent's side: says what it said, after the client said what it said.
async fn play(stream: DuplexStream, lines: Vec<(bool, Value)>, cancels: mpsc::Sender<()>) {
    let (reader, mut writer) = tokio::io::split(stream);
    let mut client = BufReader::new(reader).lines();
    // The recorded id of each request, and ours.
    let mut ids: HashMap<String, Value> = HashMap::new();
    // A mode that the session has already is not chosen again.
    let mut left_out = None;
    let mut waiting: Option<String> = None;
    for (from_client, mut message) in lines {
        if left_out.is_some()
            && message.get("method").is_none()
            && left_out == message.get("id").cloned()
        {
            left_out = None;
            continue;
        }
        if !from_client {
            if message.get("method").is_none()
                && let Some(id) = ids.get(&message["id"].to_string())
            {
                message["id"] = id.clone();
            }
            let line = format!("{message}\n");
            if writer.write_all(line.as_bytes()).await.is_err() {
                return;
            }
            continue;
        }
        if message["method"] == "session/cancel" {
            cancels.send(()).await.unwrap();
        }
        let line = match waiting.take() {
            Some(line) => Some(line),
            None => timeout(PATIENCE, client.next_line()).await.expect("in time").unwrap(),
        };
        let Some(line) = line else { return };
        let said: Value = serde_json::from_str(&line).unwrap();
        if message["method"] == "session/set_mode" && said["method"] != "session/set_mode" {
            left_out = message.get("id").cloned();
            waiting = Some(line);
            continue;
        }
        assert_eq!(said["method"], message["method"], "{said}");
        if !said["method"].is_null() && !said["id"].is_null() {
            ids.insert(message["id"].to_string(), said["id"].clone());
        } else if said["method"].is_null() {
            assert_eq!(said["id"], message["id"], "{said}");
            assert_eq!(said["result"], message["result"]);
            assert_eq!(said["error"]["code"], message["error"]["code"]);
        }
    }
    // The rest of what the client says, until it closes.
    while let Ok(Some(_)) = client.next_line().await {}
}

/// The outputs of the driver for a recording, a line each.
async fn replay(name: &str) -> String {
    let recording = read(name);
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let (cancel, mut cancels) = mpsc::channel(4);
    let player = tokio::spawn(play(theirs, recording.lines, cancel));
    let launch = Launch {
        mode: recording.mode,
        resume: recording.resume.map(Into::into),
        ..launch(program(Protocol::Acp, &["recorded"], provider(name)), Path::new("/workspace"))
    };
    let mut driver = Driver::start(launch, Played::new(vec![ours]));
    let mut options = recording.options.into_iter();
    let mut names = Names::default();
    let mut golden = String::new();
    for (n, text) in recording.prompts.iter().enumerate() {
        let turn = u32::try_from(n).unwrap() + 1;
        writeln!(golden, "> prompt {turn}: {text}").unwrap();
        prompt(&driver, turn, text).await;
        loop {
            let output = tokio::select! {
                output = next(&mut driver) => output.expect("the driver goes on"),
                Some(()) = cancels.recv() => {
                    send(&driver, Command::Cancel { grace: PATIENCE }).await;
                    continue;
                }
            };
            // When a title comes after the turn's end, where it is seen is a matter of time.
            if !matches!(output, Output::Title(_)) {
                writeln!(golden, "{}", names.line(&output)).unwrap();
            }
            if let Output::Event {
                body: EventBody::PermissionRequested { permission, .. }, ..
            } = &output
            {
                let option = options.next().expect("an answer was recorded");
                writeln!(golden, "> answer: {option}").unwrap();
                let option = Some(option);
                send(&driver, Command::AnswerPermission { permission: *permission, option }).await;
            }
            if let Output::TurnEnded { .. } = output {
                break;
            }
        }
    }
    send(&driver, Command::Close { grace: Duration::ZERO }).await;
    while next(&mut driver).await.is_some() {}
    timeout(PATIENCE, player).await.expect("played to its end").unwrap();
    golden
}

/// Gives what is made anew each time a name of its own.
#[derive(Default)]
struct Names {
    known: HashMap<String, String>,
}

impl Names {
    fn line(&mut self, output: &Output) -> String {
        match output {
            Output::Event { turn, body } => {
                let mut json = serde_json::to_value(body).unwrap();
                let kind = body.kind();
                json.as_object_mut().unwrap().remove("type");
                self.rename(&mut json);
                let json = sorted(json);
                let turn = turn.map_or("-".into(), |turn| turn.to_string());
                format!("{turn} {kind} {json}")
            }
            Output::Session(session) => format!(
                "session {:?} resumed {:?} mode {:?} model {:?} images {}",
                session.offers.version,
                session.resumed,
                session.offers.mode,
                session.offers.model,
                session.offers.images
            ),
            other => format!("{other:?}"),
        }
    }

    fn rename(&mut self, json: &mut Value) {
        match json {
            Value::String(text) => {
                let made = ["per_", "qst_", "blb_"].iter().any(|p| text.starts_with(p));
                if made && text.len() == 30 {
                    let n = self.known.len() + 1;
                    let name = self.known.entry(text.clone()).or_insert(format!("ID{n}"));
                    text.clone_from(name);
                }
            }
            Value::Array(all) => all.iter_mut().for_each(|v| self.rename(v)),
            Value::Object(all) => {
                for (key, value) in all {
                    if key == "deadline" {
                        *value = json!("DEADLINE");
                    } else {
                        self.rename(value);
                    }
                }
            }
            _ => {}
        }
    }
}

/// With the keys in order, whatever the map behind them.
fn sorted(json: Value) -> Value {
    match json {
        Value::Array(all) => all.into_iter().map(sorted).collect(),
        Value::Object(all) => {
            let all: BTreeMap<String, Value> =
                all.into_iter().map(|(k, v)| (k, sorted(v))).collect();
            all.into_iter().collect()
        }
        other => other,
    }
}

#[tokio::test]
async fn recorded_agents_become_one_vocabulary() {
    let mut names: Vec<String> = std::fs::read_dir(here("streams"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    assert!(names.len() > 30);
    let mut differ = Vec::new();
    for name in names {
        let got = timeout(PATIENCE, replay(&name)).await.unwrap_or_else(|_| panic!("{name} hangs"));
        let file = here("golden").join(format!("{name}.txt"));
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&file, &got).unwrap();
        } else if std::fs::read_to_string(&file).unwrap_or_default() != got {
            println!("--- {name}\n{got}");
            differ.push(name);
        }
    }
    assert!(differ.is_empty(), "differ from their golden files: {differ:?} (BLESS=1 writes them)");
}
