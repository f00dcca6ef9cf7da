//! What the demo agent does.

use std::{
    path::{Component, Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::{
    io::AsyncReadExt,
    process::Command,
    time::{Instant, sleep_until},
};

use super::{
    script::{self, Scene},
    stage::{End, Speech, Stage},
};
use crate::capture::{Utf8, preview};

/// Who it is.
const WHO: &str = "I am Boatyard's built-in demo agent. I work without a model or a key, so I do not understand what you write; I make a small real change to show the way from a task to its diff.";
/// The picture that the scene `image` shows.
const SUN: &[u8] = include_bytes!("sun.png");
/// The note that is written where no file is named.
const NOTE: &str = "BOATYARD-DEMO.md";
/// How often `slow` says something.
const TICK: Duration = Duration::from_millis(250);
/// How much of a command's output is shown.
const OUTPUT: usize = 64 << 10;
/// How long the process that `children` leaves behind lives.
const CHILD_SECONDS: &str = "600";

/// Plays the scenes, in order.
pub(super) async fn play(stage: &Stage, scenes: &[Scene], prompt: &str, pictures: &[Value]) -> End {
    for scene in scenes {
        let end = match scene {
            Scene::Default => default(stage, prompt, pictures).await,
            Scene::Text => {
                stage.say(Speech::Message, "Some *text* with `code`,\n\n- a list\n- of two\n\nand a [link](https://example.com).\n").await;
                End::Done
            }
            Scene::Thought => {
                stage
                    .say(
                        Speech::Thought,
                        "I think about this for a moment, though there is nothing to think with.",
                    )
                    .await;
                End::Done
            }
            Scene::Plan => {
                for done in 0..=3 {
                    plan(stage, done).await;
                }
                End::Done
            }
            Scene::Edit => edit(stage, Path::new(NOTE), Ask::IfMode).await,
            Scene::Command => command(stage, "git status --short || ls").await,
            Scene::Permission => edit(stage, Path::new(NOTE), Ask::Always).await,
            Scene::Question => question(stage).await,
            Scene::Image => image(stage, pictures).await,
            Scene::Usage => {
                stage.usage().await;
                End::Done
            }
            Scene::Failure => {
                stage.say(Speech::Message, "I am about to fail.").await;
                End::Failed("The demo agent failed, since it was asked to".into())
            }
            Scene::Crash => {
                stage.say(Speech::Message, "I am about to crash.").await;
                End::Crash
            }
            Scene::Garbage => garbage(stage).await,
            Scene::Slow { seconds } => slow(stage, *seconds).await,
            Scene::Huge { mebibytes } => huge(stage, *mebibytes).await,
            Scene::Tools { count } => tools(stage, *count).await,
            Scene::Children => children(stage).await,
            Scene::Hang => {
                stage.be_deaf();
                stage.say(Speech::Message, "From now on I neither answer nor listen.").await;
                std::future::pending().await
            }
            Scene::Unknown(name) => {
                let text =
                    format!("`{name}` is not one of my scenes. They are: {}.", script::NAMES);
                stage.say(Speech::Message, &text).await;
                End::Done
            }
        };
        if end != End::Done {
            return end;
        }
        listen(stage).await;
    }
    End::Done
}

/// Answers what was said in mid-turn; called between scenes and at tool boundaries.
async fn listen(stage: &Stage) {
    for text in stage.heard() {
        let text =
            format!("You said in between: “{}”. I have taken note.\n", preview(text.trim(), 500));
        stage.say(Speech::Message, &text).await;
    }
}

async fn default(stage: &Stage, prompt: &str, pictures: &[Value]) -> End {
    stage.say(Speech::Thought, "No model here: I look for a file name in the prompt, edit that file, and run a command.").await;
    stage.say(Speech::Message, WHO).await;
    if !pictures.is_empty() {
        let text = format!(
            "\n\nI see {} picture(s) with your message, and can't look at them.",
            pictures.len()
        );
        stage.say(Speech::Message, &text).await;
    }
    plan(stage, 0).await;
    let file = script::file_name(prompt).map_or_else(|| PathBuf::from(NOTE), PathBuf::from);
    let end = edit(stage, &file, Ask::IfMode).await;
    if end != End::Done {
        return end;
    }
    listen(stage).await;
    plan(stage, 1).await;
    let end = command(stage, "git status --short || ls").await;
    if end != End::Done {
        return end;
    }
    listen(stage).await;
    plan(stage, 2).await;
    let turn = stage.turns() + 1;
    let text = format!(
        "I wrote `{}` and looked at the state of the repository. That was turn {turn} of this session. Try `/demo` with one of: {}.",
        file.display(),
        script::NAMES
    );
    stage.say(Speech::Message, &text).await;
    plan(stage, 3).await;
    stage.usage().await;
    End::Done
}

async fn plan(stage: &Stage, done: usize) {
    let steps = ["Edit a file", "Run a command", "Sum up"];
    let entries = steps.iter().enumerate().map(|(n, text)| {
        let status = match n.cmp(&done) {
            std::cmp::Ordering::Less => "completed",
            std::cmp::Ordering::Equal => "in_progress",
            std::cmp::Ordering::Greater => "pending",
        };
        json!({ "content": text, "status": status, "priority": "medium" })
    });
    let entries: Vec<Value> = entries.collect();
    stage.update(json!({ "sessionUpdate": "plan", "entries": entries })).await;
}

/// When permission is asked for.
#[derive(Clone, Copy, PartialEq)]
enum Ask {
    IfMode,
    Always,
}

/// Writes a greeting into a file of the repository, or adds a line to it.
async fn edit(stage: &Stage, file: &Path, ask: Ask) -> End {
    let id = stage.tool_id();
    let path = stage.cwd().join(file);
    let old = std::fs::read_to_string(&path).ok();
    let new = match &old {
        None if file == Path::new(NOTE) => {
            "# A note from Boatyard's demo agent\n\nThis file was written to show the way from a task to its diff.\n".to_owned()
        }
        None => "Hello from Boatyard!\n".to_owned(),
        Some(old) => {
            let end = if old.is_empty() || old.ends_with('\n') { "" } else { "\n" };
            format!("{old}{end}Hello again from Boatyard!\n")
        }
    };
    let diff = json!([{ "type": "diff", "path": path, "oldText": old, "newText": new }]);
    let call = json!({
        "toolCallId": id,
        "title": format!("Write {}", file.display()),
        "kind": "edit",
        "status": "pending",
        "rawInput": { "path": path, "content": new },
        "locations": [{ "path": path }],
        "content": diff,
    });
    start(stage, &call).await;
    if (ask == Ask::Always || stage.must_ask()) && !allowed(stage, &call, ask).await {
        finish(stage, &id, "failed", json!([text_block("You did not allow it.")]), Value::Null)
            .await;
        stage.say(Speech::Message, "You did not allow me to write the file, so I left it.\n").await;
        return End::Done;
    }
    match write(stage.cwd(), file, &new) {
        Ok(()) => {
            finish(stage, &id, "completed", diff, Value::Null).await;
            End::Done
        }
        Err(error) => {
            let text = format!("`{}` could not be written: {error}", file.display());
            finish(stage, &id, "failed", json!([text_block(&text)]), Value::Null).await;
            stage.say(Speech::Message, &text).await;
            End::Done
        }
    }
}

/// Writes a file below a folder, making the folders between.
fn write(root: &Path, file: &Path, text: &str) -> std::io::Result<()> {
    // A name with `..` or from the root is never made here; the check keeps it so.
    if !file.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(std::io::Error::other("not a path below the repository"));
    }
    let path = root.join(file);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, text)
}

async fn allowed(stage: &Stage, call: &Value, ask: Ask) -> bool {
    let options = json!([
        { "optionId": "yes", "name": "Allow", "kind": "allow_once" },
        { "optionId": "always", "name": "Always allow", "kind": "allow_always" },
        { "optionId": "no", "name": "Reject", "kind": "reject_once" },
    ]);
    let mut params = json!({ "toolCall": call, "options": options });
    // The scene is about a person's answer: no autonomy gives it in their place.
    params["_meta"]["boatyard"]["person"] = json!(ask == Ask::Always);
    let answer = stage.ask("session/request_permission", params).await.unwrap_or_default();
    matches!(answer["outcome"]["optionId"].as_str(), Some("yes" | "always"))
}

/// Runs a shell command in the repository, showing its output as it comes.
async fn command(stage: &Stage, line: &str) -> End {
    let id = stage.tool_id();
    let call = json!({
        "toolCallId": id,
        "title": line,
        "kind": "execute",
        "status": "pending",
        "rawInput": { "command": line },
        "content": [],
    });
    start(stage, &call).await;
    if stage.must_ask() && !allowed(stage, &call, Ask::IfMode).await {
        finish(stage, &id, "failed", json!([text_block("You did not allow it.")]), Value::Null)
            .await;
        return End::Done;
    }
    // Both outputs in one pipe, in the order in which they were written.
    let script = format!("exec 2>&1; {line}");
    let child = Command::new("/bin/sh")
        .args(["-c", &script])
        .current_dir(stage.cwd())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            let text = format!("The command could not be started: {error}");
            finish(stage, &id, "failed", json!([text_block(&text)]), Value::Null).await;
            return End::Done;
        }
    };
    let mut output = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        let (mut buffer, mut decoder) = (vec![0; 8 << 10], Utf8::default());
        while let Ok(n @ 1..) = stdout.read(&mut buffer).await {
            let text = decoder.push(&buffer[..n]);
            if output.len() < OUTPUT {
                output.push_str(&text);
                progress(stage, &id, &output).await;
            }
        }
    }
    let code = child.wait().await.ok().and_then(|status| status.code());
    let status = if code == Some(0) { "completed" } else { "failed" };
    let content = json!([text_block(&output)]);
    finish(stage, &id, status, content, json!({ "exit_code": code })).await;
    End::Done
}

async fn question(stage: &Stage) -> End {
    if !stage.questions {
        stage
            .say(Speech::Message, "I would ask you something, but your client takes no questions.")
            .await;
        return End::Done;
    }
    let params = json!({ "question": "Tea or coffee?", "options": ["Tea", "Coffee"] });
    let answer = stage.ask("_boatyard/question", params).await.unwrap_or_default();
    let text = match answer["answer"].as_str() {
        Some(answer) => format!("You answered: {}.\n", preview(answer, 1000)),
        None => "Nobody answered.\n".to_owned(),
    };
    stage.say(Speech::Message, &text).await;
    End::Done
}

async fn image(stage: &Stage, pictures: &[Value]) -> End {
    use base64::Engine as _;
    let id = stage.tool_id();
    let call = json!({
        "toolCallId": id, "title": "Draw a picture", "kind": "other", "status": "in_progress",
    });
    start(stage, &call).await;
    let data = base64::engine::general_purpose::STANDARD.encode(SUN);
    let sun = json!({ "type": "image", "mimeType": "image/png", "data": data });
    // What was sent is shown again, to see that it came through.
    let all = [&sun].into_iter().chain(pictures).take(8);
    let content: Vec<Value> =
        all.map(|picture| json!({ "type": "content", "content": picture })).collect();
    finish(stage, &id, "completed", json!(content), Value::Null).await;
    End::Done
}

async fn garbage(stage: &Stage) -> End {
    stage.say(Speech::Message, "Now some lines that are no messages. ").await;
    for line in [
        &b"npm WARN deprecated this is not JSON\n"[..],
        b"\x00\xff\xfe\x1b[31mbinary\x1b[0m\n",
        b"{\"jsonrpc\": \"2.0\", \"method\": \"session/upd\n",
        b"\n",
        b"[1, 2, 3]\n",
        b"{\"jsonrpc\":\"2.0\",\"method\":\"no/such/thing\",\"params\":{}}\n",
        b"{\"jsonrpc\":\"2.0\",\"id\":424242,\"result\":null}\n",
    ] {
        stage.send(Bytes::from_static(line)).await;
    }
    stage.update(json!({ "sessionUpdate": "no_such_update", "x": 1 })).await;
    stage.update(json!({ "sessionUpdate": "agent_message_chunk", "content": 7 })).await;
    stage.update(json!({ "sessionUpdate": "tool_call", "toolCallId": null })).await;
    stage.say(Speech::Message, "That was it.\n").await;
    End::Done
}

async fn slow(stage: &Stage, seconds: u64) -> End {
    let id = stage.tool_id();
    let call = json!({
        "toolCallId": id,
        "title": format!("Wait {seconds} s"),
        "kind": "execute",
        "status": "in_progress",
        "rawInput": { "seconds": seconds },
    });
    start(stage, &call).await;
    let begin = Instant::now();
    let mut output = String::new();
    for tick in 1..=u32::try_from(seconds * 4).unwrap_or(u32::MAX) {
        sleep_until(begin + TICK * tick).await;
        if tick % 4 == 0 {
            output.push_str(&format!("{} s\n", tick / 4));
            // The end of a long output is enough for the one who watches.
            if output.len() < OUTPUT {
                progress(stage, &id, &output).await;
            }
        }
    }
    finish(stage, &id, "completed", json!([text_block(&output)]), json!({ "exit_code": 0 })).await;
    End::Done
}

async fn huge(stage: &Stage, mebibytes: u64) -> End {
    let line = "All work and no play makes a dull agent; nothing here is new. \n";
    let size = usize::try_from(mebibytes).unwrap_or(0) << 20;
    let text = line.repeat(size / line.len() + 1);
    let text = &text[..size];
    let id = stage.tool_id();
    let call = json!({
        "toolCallId": id,
        "title": format!("Print {mebibytes} MiB"),
        "kind": "execute",
        "status": "in_progress",
    });
    start(stage, &call).await;
    finish(stage, &id, "completed", json!([text_block(text)]), json!({ "exit_code": 0 })).await;
    let content = json!({ "type": "text", "text": text });
    stage.update(json!({ "sessionUpdate": "agent_message_chunk", "content": content })).await;
    End::Done
}

async fn tools(stage: &Stage, count: u64) -> End {
    for n in 1..=count {
        let id = stage.tool_id();
        let call = json!({
            "toolCallId": id,
            "title": format!("Look at thing {n}"),
            "kind": "read",
            "status": "in_progress",
        });
        start(stage, &call).await;
        let content = json!([text_block(&format!("Thing {n} is as it should be.\n"))]);
        finish(stage, &id, "completed", content, Value::Null).await;
        listen(stage).await;
    }
    End::Done
}

/// Leaves a process behind, in a session and process group of its own.
async fn children(stage: &Stage) -> End {
    let script = format!(
        "setsid sleep {CHILD_SECONDS} </dev/null >/dev/null 2>&1 & echo \"left a process behind: $!\""
    );
    command(stage, &script).await
}

async fn start(stage: &Stage, call: &Value) {
    let mut update = call.clone();
    update["sessionUpdate"] = json!("tool_call");
    stage.update(update).await;
}

async fn progress(stage: &Stage, id: &str, output: &str) {
    stage
        .update(json!({
            "sessionUpdate": "tool_call_update",
            "toolCallId": id,
            "status": "in_progress",
            "content": [text_block(output)],
        }))
        .await;
}

async fn finish(stage: &Stage, id: &str, status: &str, content: Value, raw: Value) {
    let mut update = json!({
        "sessionUpdate": "tool_call_update",
        "toolCallId": id,
        "status": status,
        "content": content,
    });
    if !raw.is_null() {
        update["rawOutput"] = raw;
    }
    stage.update(update).await;
}

fn text_block(text: &str) -> Value {
    json!({ "type": "content", "content": { "type": "text", "text": text } })
}
