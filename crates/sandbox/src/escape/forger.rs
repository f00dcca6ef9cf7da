//! An agent that speaks for others: it says things in other sessions' names, in the forms that the
//! runner and the server use among themselves, and asks the runner to read files for it.
//!
//! It speaks the Agent Client Protocol as far as that takes: a line of JSON for each message.

use std::{
    io::{self, BufRead as _, Write as _},
    process::ExitCode,
};

use serde_json::{Value, json};

/// What it says in the name of others.
pub const FORGED: &str = "forged-by-an-attack";
/// Where the numbers of its own requests begin.
const OWN: u64 = 9000;
/// What it asks the runner to read.
const WANTED: [&str; 4] = ["/proc/1/environ", "/proc/self/environ", "/etc/shadow", "/proc/1/maps"];

/// Its whole life; the argument is the session in whose name it speaks.
pub fn forger() -> ExitCode {
    let victim = std::env::args().nth(2).unwrap_or_default();
    let mut answers = Vec::new();
    let mut prompt = None;
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
        let id = message["id"].clone();
        let told = match message["method"].as_str() {
            Some("initialize") => answer(
                &id,
                &json!({
                    "protocolVersion": 1, "agentCapabilities": {}, "authMethods": []
                }),
            ),
            Some("session/new") => answer(&id, &json!({ "sessionId": "forger" })),
            Some("session/prompt") => {
                prompt = Some(id);
                forge(&victim)
            }
            Some(_) if !id.is_null() => answer(&id, &json!({})),
            Some(_) => Ok(()),
            // An answer to a request of its own.
            None => {
                answers.push(message);
                Ok(())
            }
        };
        let told = told.and_then(|()| match &prompt {
            Some(id) if answers.len() > WANTED.len() => {
                let id = id.clone();
                prompt = None;
                say("forger", &format!("answers: {}", Value::from(std::mem::take(&mut answers))))?;
                answer(&id, &json!({ "stopReason": "end_turn" }))
            }
            _ => Ok(()),
        });
        if told.is_err() {
            break;
        }
    }
    ExitCode::SUCCESS
}

fn forge(victim: &str) -> io::Result<()> {
    for session in [victim, "", "*", "1", "forger\u{0}"] {
        say(session, FORGED)?;
    }
    let event = json!({ "kind": "agent.message", "text": FORGED });
    for method in ["_boatyard/event", "boatyard/event", "events", "session/event", "append"] {
        let params = json!({ "session": victim, "epoch": 1, "n": 1, "seq": 1, "body": event });
        send(&json!({ "jsonrpc": "2.0", "method": method, "params": params }))?;
    }
    // As records and frames look elsewhere.
    let record =
        json!({ "epoch": 1, "n": 1, "session": victim, "time": 0, "turn": 1, "body": event });
    send(&record)?;
    let text = record.to_string();
    let mut frame = vec![1, 0, 0, 0, 0, text.len() as u8, 0, 0];
    frame.extend(text.bytes());
    frame.push(b'\n');
    io::stdout().write_all(&frame)?;
    let mut number = OWN;
    for path in WANTED {
        let params = json!({ "sessionId": "forger", "path": path });
        send(
            &json!({ "jsonrpc": "2.0", "id": number, "method": "fs/read_text_file", "params": params }),
        )?;
        number += 1;
    }
    let params = json!({ "sessionId": "forger", "command": "/usr/bin/id" });
    send(&json!({ "jsonrpc": "2.0", "id": number, "method": "terminal/create", "params": params }))
}

fn say(session: &str, text: &str) -> io::Result<()> {
    let content = json!({ "type": "text", "text": text });
    let update = json!({ "sessionUpdate": "agent_message_chunk", "content": content });
    let params = json!({ "sessionId": session, "update": update });
    send(&json!({ "jsonrpc": "2.0", "method": "session/update", "params": params }))
}

fn answer(id: &Value, result: &Value) -> io::Result<()> {
    send(&json!({ "jsonrpc": "2.0", "id": id, "result": result }))
}

fn send(message: &Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{message}")?;
    out.flush()
}
