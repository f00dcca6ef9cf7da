//! What the real agents were seen to do each in its own way, played to the driver.

use std::{path::Path, sync::Arc};

use boatyard_agent::{Command, Conversation, Driver, Launch, Output, Protocol, Resumed};
use boatyard_model::{
    Autonomy, EventBody, Timestamp, TurnOutcome, event::PermissionKind, time::Clock,
};
use serde_json::{Value, json};

use crate::{
    played::{Agent, chunk, duplex},
    support::{Played, Turn, follow, launch, program, prompt, send},
};

/// A driver of an entry with these keys, and its agent.
fn start(entry: &str, autonomy: Autonomy) -> (Driver, Agent) {
    let (ours, agent) = duplex();
    let program = program(Protocol::Acp, &["played"], entry);
    let launch = Launch { autonomy, ..launch(program, Path::new("/")) };
    (Driver::start(launch, Played::new(vec![ours])), agent)
}

/// Up to the session, which offers this.
async fn offer(agent: &mut Agent, offers: Value) -> Value {
    let hello = agent.expect("initialize").await;
    agent.answer(&hello, json!({ "protocolVersion": 1 })).await;
    let new = agent.expect("session/new").await;
    let mut session = json!({ "sessionId": "s" });
    session.as_object_mut().unwrap().extend(offers.as_object().unwrap().clone());
    agent.answer(&new, session).await;
    new
}

async fn end(driver: &mut Driver, agent: &mut Agent, request: &Value) -> Turn {
    agent.answer(request, json!({ "stopReason": "end_turn" })).await;
    follow(driver, 1, |_| None).await
}

/// The texts of the notices with this code.
fn notices(turn: &Turn, wanted: &str) -> Vec<String> {
    let texts = turn.events().filter_map(|event| match event {
        EventBody::Notice { code, text, .. } if code == wanted => Some(text.clone()),
        _ => None,
    });
    texts.collect()
}

fn permission(id: u64, session: &str, options: &Value) -> Value {
    let call = json!({ "toolCallId": "t", "title": "T", "kind": "edit" });
    let params = json!({ "sessionId": session, "toolCall": call, "options": options });
    json!({ "jsonrpc": "2.0", "id": id, "method": "session/request_permission", "params": params })
}

async fn reply(agent: &mut Agent) -> Value {
    serde_json::from_str(&agent.lines.next_line().await.unwrap().unwrap()).unwrap()
}

#[tokio::test]
async fn a_permission_of_another_session_is_refused() {
    let (mut driver, mut agent) = start("", Autonomy::Free);
    prompt(&driver, 1, "x").await;
    let request = agent.begin(json!({})).await;
    let options = json!([{ "optionId": "yes", "name": "Yes", "kind": "allow_once" }]);
    agent.say(permission(1, "another", &options)).await;
    assert_eq!(reply(&mut agent).await["error"]["code"], -32602);
    agent.say(permission(2, "s", &options)).await;
    assert_eq!(reply(&mut agent).await["result"]["outcome"]["optionId"], "yes");
    let turn = end(&mut driver, &mut agent, &request).await;
    // Nothing of the other session is shown.
    let started = turn.events().filter(|event| matches!(event, EventBody::ToolStarted { .. }));
    assert_eq!(started.count(), 1);
}

#[tokio::test]
async fn options_of_an_unknown_kind_are_for_a_person_alone() {
    let (mut driver, mut agent) = start("", Autonomy::Free);
    prompt(&driver, 1, "x").await;
    let request = agent.begin(json!({})).await;
    let strange = json!([
        { "optionId": "all", "name": "Everything in this folder", "kind": "allow_folder" },
        { "optionId": "plan", "name": "Make a plan first" },
        { "optionId": "stop", "name": "Stop", "kind": "reject_and_stop" },
        { "name": "Without an id", "kind": "allow_once" },
    ]);
    // Free as it is, what it would allow is not known.
    let played = tokio::spawn(async move {
        agent.say(permission(1, "s", &strange)).await;
        assert_eq!(reply(&mut agent).await["result"]["outcome"]["optionId"], "plan");
        // Where one of a known kind is there, that one is taken.
        let mut both = strange;
        both.as_array_mut().unwrap().push(json!({ "optionId": "once", "kind": "allow_once" }));
        agent.say(permission(2, "s", &both)).await;
        assert_eq!(reply(&mut agent).await["result"]["outcome"]["optionId"], "once");
        agent.answer(&request, json!({ "stopReason": "end_turn" })).await;
        agent
    });
    let mut shown = Vec::new();
    follow(&mut driver, 1, |output| match output {
        Output::Event {
            body: EventBody::PermissionRequested { permission, options, .. }, ..
        } => {
            shown.extend(options.iter().map(|option| (option.id.clone(), option.kind)));
            let option = Some("plan".to_owned());
            Some(Command::AnswerPermission { permission: *permission, option })
        }
        _ => None,
    })
    .await;
    let kinds = [
        ("all", PermissionKind::AllowAlways),
        ("plan", PermissionKind::AllowAlways),
        ("stop", PermissionKind::RejectOnce),
    ];
    assert_eq!(shown, kinds.map(|(id, kind)| (id.to_owned(), kind)));
    drop(played.await.unwrap());
}

#[tokio::test]
async fn the_entrys_session_meta_is_sent_and_what_it_asks_for_is_told_once() {
    let entry = r#"session_meta = { claudeCode = { emitRawSDKMessages = [{ type = "system", subtype = "api_retry" }] } }"#;
    let (mut driver, mut agent) = start(entry, Autonomy::Free);
    prompt(&driver, 1, "x").await;
    let new = offer(&mut agent, json!({})).await;
    let wanted = json!([{ "type": "system", "subtype": "api_retry" }]);
    assert_eq!(new["params"]["_meta"]["claudeCode"]["emitRawSDKMessages"], wanted);
    let request = agent.expect("session/prompt").await;
    for attempt in [1, 2] {
        for session in ["another", "s"] {
            let message = json!({ "type": "system", "subtype": "api_retry", "attempt": attempt,
                "max_retries": 3, "error_status": 429, "error": "rate_limit" });
            let params = json!({ "sessionId": session, "message": message });
            agent.say(json!({ "method": "_claude/sdkMessage", "params": params })).await;
        }
        // The same in the other way.
        let title = format!("Retrying Claude, attempt {attempt} of 3.");
        let failure = json!({ "severity": "warning", "title": title });
        let meta = json!({ "jetbrains": { "air": { "sessionFailure": failure } } });
        agent.update(json!({ "sessionUpdate": "session_info_update", "_meta": meta })).await;
    }
    let turn = end(&mut driver, &mut agent, &request).await;
    assert_eq!(
        notices(&turn, "retry"),
        [
            "The provider answered 429 (rate_limit); attempt 1 of 3.",
            "The provider answered 429 (rate_limit); attempt 2 of 3.",
        ]
    );
    assert_eq!(turn.outcome, TurnOutcome::Completed);
}

#[tokio::test]
async fn a_mode_that_is_not_offered_is_told_with_those_that_are() {
    let (mut driver, mut agent) = start("", Autonomy::Free);
    prompt(&driver, 1, "x").await;
    let modes = json!([{ "id": "plan", "name": "Plan" }, { "id": "default", "name": "Default" }]);
    let models = json!({ "availableModels": [{ "modelId": "big", "name": "Big" }] });
    let modes = json!({ "currentModeId": "default", "availableModes": modes });
    offer(&mut agent, json!({ "modes": modes, "models": models })).await;
    let request = agent.expect("session/prompt").await;
    // The agent is not asked for a mode that it does not have; for a model it is.
    send(&driver, Command::SetMode("yolo".into())).await;
    send(&driver, Command::SetModel("small".into())).await;
    let choice = agent.expect("session/set_model").await;
    let error = json!({ "code": -32602, "message": "unknown model" });
    agent.say(json!({ "jsonrpc": "2.0", "id": choice["id"], "error": error })).await;
    let turn = end(&mut driver, &mut agent, &request).await;
    assert_eq!(
        notices(&turn, "setting_refused"),
        [
            "The agent does not offer the mode `yolo`. It offers `plan`, `default`. It stays in `default`.",
            "The agent did not take the model `small`: unknown model. It offers `big`.",
        ]
    );
}

#[tokio::test]
async fn what_the_agent_changes_by_itself_is_told() {
    let (mut driver, mut agent) = start("", Autonomy::Free);
    prompt(&driver, 1, "x").await;
    let modes = json!([{ "id": "plan", "name": "Plan" }, { "id": "edit", "name": "Accept Edits" }]);
    let modes = json!({ "currentModeId": "plan", "availableModes": modes });
    let model = json!({ "id": "m", "category": "model", "currentValue": "big",
        "options": [{ "value": "big", "name": "Big" }, { "value": "small", "name": "Small" }] });
    offer(&mut agent, json!({ "modes": modes, "configOptions": [model] })).await;
    let request = agent.expect("session/prompt").await;
    let mode = |id: &str| json!({ "sessionUpdate": "current_mode_update", "currentModeId": id });
    let model = |id: &str| {
        let model = json!({ "id": "m", "category": "model", "currentValue": id });
        json!({ "sessionUpdate": "config_option_update", "configOptions": [model, {}] })
    };
    // Ours is no news, nor is what is so already.
    send(&driver, Command::SetMode("edit".into())).await;
    agent.expect("session/set_mode").await;
    for update in [mode("edit"), mode("plan"), mode("plan"), model("big"), model("small")] {
        agent.update(update).await;
    }
    // What has no place in the vocabulary changes nothing.
    for kind in ["available_commands_update", "subagent_update", "invented_update"] {
        agent
            .update(json!({ "sessionUpdate": kind, "availableCommands": [{ "name": "x" }] }))
            .await;
    }
    agent.update(json!({ "sessionUpdate": "session_info_update", "title": "A title" })).await;
    let turn = end(&mut driver, &mut agent, &request).await;
    assert_eq!(notices(&turn, "mode"), ["The agent changed its mode to `Plan`."]);
    assert_eq!(notices(&turn, "model"), ["The agent changed its model to `Small`."]);
    assert!(turn.outputs.contains(&Output::Title("A title".into())));
    assert_eq!(turn.events().count(), 2, "{turn:?}");
}

#[tokio::test]
async fn a_missing_key_is_told_with_what_mends_it() {
    let (mut driver, mut agent) = start("provider = 'anthropic'", Autonomy::Free);
    prompt(&driver, 1, "x").await;
    let hello = agent.expect("initialize").await;
    agent.answer(&hello, json!({ "protocolVersion": 1 })).await;
    let new = agent.expect("session/new").await;
    let error = json!({ "code": -32000, "message": "Authentication required" });
    agent.say(json!({ "jsonrpc": "2.0", "id": new["id"], "error": error })).await;
    let turn = follow(&mut driver, 1, |_| None).await;
    let error = turn.error.unwrap();
    assert_eq!(turn.outcome, TurnOutcome::Failed);
    for part in ["Agent `mine`", "[providers.anthropic] key_file", "ANTHROPIC_API_KEY"] {
        assert!(error.contains(part), "{error}");
    }
}

/// A clock that stands.
struct Stands(i64);

impl Clock for Stands {
    fn now(&self) -> Timestamp {
        Timestamp(self.0)
    }
}

#[tokio::test(start_paused = true)]
async fn gemini_takes_up_a_conversation_only_after_its_first_minute() {
    let (first, mut agent) = duplex();
    let (second, mut again) = duplex();
    let program = program(Protocol::Acp, &["played"], "");
    // Five seconds before a minute is over.
    let clock = Arc::new(Stands(60_000 * 7 - 5000));
    let launch = Launch { clock, ..launch(program, Path::new("/")) };
    let mut driver = Driver::start(launch, Played::new(vec![first, second]));
    prompt(&driver, 1, "x").await;
    let request = agent.begin(json!({ "loadSession": true })).await;
    end(&mut driver, &mut agent, &request).await;
    drop(agent);
    prompt(&driver, 2, "y").await;
    let hello = again.expect("initialize").await;
    let can = json!({ "loadSession": true });
    let info = json!({ "name": "gemini-cli", "version": "0.61.0" });
    let hello_answer = json!({ "protocolVersion": 1, "agentInfo": info, "agentCapabilities": can });
    let before = tokio::time::Instant::now();
    again.answer(&hello, hello_answer).await;
    let load = again.expect("session/load").await;
    // The time is the test's: it goes on only when everybody waits.
    assert!(before.elapsed().as_secs() == 5, "{:?}", before.elapsed());
    again.answer(&load, json!({})).await;
    // It tells again what was said after its answer, and goes on in the turn.
    let call = |id: &str| json!({ "sessionUpdate": "tool_call", "toolCallId": id, "title": id, "kind": "edit" });
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    again.update(chunk("said before")).await;
    again.update(call("old")).await;
    let request = again.expect("session/prompt").await;
    again.update(call("old")).await;
    again
        .update(json!({ "sessionUpdate": "user_message_chunk",
        "content": { "type": "text", "text": "x" } }))
        .await;
    again.update(call("new")).await;
    again.update(chunk("said now")).await;
    again.answer(&request, json!({ "stopReason": "end_turn" })).await;
    let turn = follow(&mut driver, 2, |_| None).await;
    assert_eq!(notices(&turn, "resume_waits").len(), 1);
    assert_eq!(turn.said(), "said now");
    let started: Vec<_> = turn
        .events()
        .filter_map(|event| match event {
            EventBody::ToolStarted { tool } => Some(tool.tool.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(started, ["new"]);
    assert!(turn.outputs.iter().any(native));
}

fn native(output: &Output) -> bool {
    matches!(output, Output::Session(session) if session.resumed == Resumed::Native)
}

/// As after a workspace's sleep: the driver is new and is told when the conversation was begun.
#[tokio::test(start_paused = true)]
async fn gemini_takes_up_a_conversation_of_an_earlier_driver_after_its_first_minute() {
    const MINUTE: i64 = 60_000;
    // When it was begun, and how many seconds are waited at the fortieth of the seventh minute.
    let cases = [(Some(7 * MINUTE + 1), 20), (Some(6 * MINUTE + 59_999), 0), (None, 0)];
    for (begun, waited) in cases {
        let (ours, mut agent) = duplex();
        let clock = Arc::new(Stands(7 * MINUTE + 40_000));
        let begun = begun.map(Timestamp);
        let resume = Some(Conversation { id: "earlier".to_owned(), begun });
        let program = program(Protocol::Acp, &["played"], "");
        let launch = Launch { clock, resume, ..launch(program, Path::new("/")) };
        let mut driver = Driver::start(launch, Played::new(vec![ours]));
        prompt(&driver, 1, "x").await;
        let hello = agent.expect("initialize").await;
        let info = json!({ "name": "gemini-cli", "version": "0.61.0" });
        let can = json!({ "loadSession": true });
        let before = tokio::time::Instant::now();
        let answer = json!({ "protocolVersion": 1, "agentInfo": info, "agentCapabilities": can });
        agent.answer(&hello, answer).await;
        let load = agent.expect("session/load").await;
        assert_eq!(load["params"]["sessionId"], "earlier");
        assert_eq!(before.elapsed().as_secs(), waited, "{begun:?}");
        agent.answer(&load, json!({})).await;
        let request = agent.expect("session/prompt").await;
        let turn = end(&mut driver, &mut agent, &request).await;
        assert_eq!(notices(&turn, "resume_waits").len(), usize::from(waited > 0), "{begun:?}");
        assert!(turn.outputs.iter().any(native));
    }
}

#[tokio::test]
async fn what_copilot_says_again_takes_the_place_of_what_was_cut() {
    let (mut driver, mut agent) = start("", Autonomy::Free);
    prompt(&driver, 1, "x").await;
    let request = agent.begin(json!({})).await;
    for text in ["half of", "Info: Response was interrupted. Retrying...", "half of it"] {
        agent.update(chunk(text)).await;
    }
    let turn = end(&mut driver, &mut agent, &request).await;
    // The one that was cut is completed as nothing.
    assert_eq!(turn.said(), "|half of it");
    assert_eq!(notices(&turn, "retry").len(), 1);
}

/// A driver whose agent gets these instructions and MCP servers, and its agent.
fn start_with(change: impl FnOnce(&mut Launch)) -> (Driver, Agent) {
    let (ours, agent) = duplex();
    let mut launch = launch(program(Protocol::Acp, &["played"], ""), Path::new("/"));
    change(&mut launch);
    (Driver::start(launch, Played::new(vec![ours])), agent)
}

#[tokio::test]
async fn instructions_and_what_was_forgotten_come_before_the_first_prompt_alone() {
    let (mut driver, mut agent) = start_with(|launch| {
        launch.instructions = Some("Be brief and kind.".into());
        launch.resume = Some("gone".to_owned().into());
        launch.seed = Some("[tool] make test\n3 failures".into());
    });
    prompt(&driver, 1, "Mend it").await;
    let first = agent.begin(json!({})).await;
    let texts: Vec<&str> = first["params"]["prompt"]
        .as_array()
        .unwrap()
        .iter()
        .map(|b| b["text"].as_str().unwrap())
        .collect();
    assert_eq!((texts.len(), texts[0], texts[2]), (3, "Be brief and kind.", "Mend it"));
    assert!(texts[1].contains("[tool] make test\n3 failures"));
    // An agent that makes its title of what it was told first shows none of it.
    for title in ["Be brief and kind. This conv…", "Mending"] {
        let update = json!({ "sessionUpdate": "session_info_update", "title": title });
        agent.update(update).await;
    }
    let turn = end(&mut driver, &mut agent, &first).await;
    let titles: Vec<_> = turn
        .outputs
        .iter()
        .filter_map(|output| match output {
            Output::Title(title) => Some(title.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(titles, ["Mending"]);
    prompt(&driver, 2, "And now").await;
    let second = agent.expect("session/prompt").await;
    assert_eq!(second["params"]["prompt"], json!([{ "type": "text", "text": "And now" }]));
}

#[tokio::test]
async fn mcp_servers_come_with_the_session_and_those_not_taken_are_told() {
    let (mut driver, mut agent) = start_with(|launch| {
        launch.mcp_servers = serde_json::from_value(json!({
            "files": { "command": ["serve-files", "--all"] },
            "old": { "url": "http://127.0.0.1/x", "transport": "sse" },
        }))
        .unwrap();
    });
    let new = offer(&mut agent, json!({})).await;
    assert_eq!(
        new["params"]["mcpServers"],
        json!([{ "name": "files", "command": "serve-files", "args": ["--all"], "env": [] }])
    );
    let mut told = false;
    loop {
        match crate::support::next(&mut driver).await.unwrap() {
            Output::Event { body: EventBody::Notice { code, text, .. }, .. } => {
                told |= code == "mcp_left_out" && text.contains("`old` (sse)");
            }
            Output::Session(_) => break,
            _ => {}
        }
    }
    assert!(told);
}

#[tokio::test]
async fn a_message_is_injected_between_tools_where_the_agent_takes_it_so() {
    for outcome in ["injected", "promptRequired"] {
        let (mut driver, mut agent) = start("", Autonomy::Free);
        prompt(&driver, 1, "x").await;
        let hello = agent.expect("initialize").await;
        let meta = json!({ "steering": { "supported": true } });
        agent.answer(&hello, json!({ "protocolVersion": 1, "_meta": meta })).await;
        let new = agent.expect("session/new").await;
        agent.answer(&new, json!({ "sessionId": "s" })).await;
        let first = agent.expect("session/prompt").await;
        let tool = |status: &str| {
            json!({
                "sessionUpdate": "tool_call_update", "toolCallId": "t", "title": "T", "status": status
            })
        };
        agent.update(tool("in_progress")).await;
        let id = boatyard_model::PromptId::new();
        let content = vec![boatyard_agent::Input::Text("more".into())];
        send(&driver, Command::Steer { prompt: id, content }).await;
        // While the tool runs it waits.
        agent.update(chunk("still")).await;
        agent.update(tool("completed")).await;
        let steering = agent.expect("_session/steering").await;
        assert_eq!(steering["params"]["prompt"][0]["text"], "more");
        agent.answer(&steering, json!({ "outcome": outcome })).await;
        let last = if outcome == "injected" {
            first
        } else {
            // It was over for the agent: it gets the message as a prompt, in the same turn.
            agent.answer(&first, json!({ "stopReason": "end_turn" })).await;
            agent.expect("session/prompt").await
        };
        let turn = end(&mut driver, &mut agent, &last).await;
        let steered = turn.outputs.iter().find_map(|output| match output {
            Output::Steered { prompt, restarted } => Some((*prompt, *restarted)),
            _ => None,
        });
        assert_eq!(steered, Some((id, false)), "{outcome}");
        assert_eq!(turn.outcome, TurnOutcome::Completed);
    }
}

#[tokio::test]
async fn a_choice_in_mid_session_is_confirmed_or_refused() {
    let (mut driver, mut agent) = start("", Autonomy::Free);
    let option = |current: &str| {
        json!([{
            "id": "model", "category": "model", "currentValue": current,
            "options": [{ "value": "a", "name": "A" }, { "value": "b", "name": "B" }],
        }])
    };
    // The older way to offer them goes after the newer.
    let models =
        json!({ "availableModels": [{ "modelId": "a[low]" }], "currentModelId": "a[low]" });
    offer(&mut agent, json!({ "configOptions": option("a"), "models": models })).await;
    while !matches!(crate::support::next(&mut driver).await.unwrap(), Output::Session(_)) {}
    for (wanted, taken) in [("b", true), ("c", false)] {
        send(&driver, Command::SetModel(wanted.into())).await;
        let request = agent.expect("session/set_config_option").await;
        let error = json!({ "jsonrpc": "2.0", "id": request["id"], "error": { "code": -32602, "message": "no" } });
        match taken {
            true => agent.answer(&request, json!({ "configOptions": option(wanted) })).await,
            false => agent.say(error).await,
        }
        let mut notice = String::new();
        let offers = loop {
            match crate::support::next(&mut driver).await.unwrap() {
                Output::Event { body: EventBody::Notice { code, .. }, .. } => notice = code,
                Output::Offers(offers) => break offers,
                _ => {}
            }
        };
        assert_eq!(notice, if taken { "model" } else { "setting_refused" });
        assert_eq!(offers.model.as_deref(), Some("b"));
    }
}

#[tokio::test]
async fn a_call_of_a_sub_agent_names_the_call_that_it_belongs_to() {
    let (mut driver, mut agent) = start("", Autonomy::Free);
    prompt(&driver, 1, "x").await;
    let request = agent.begin(json!({})).await;
    let meta = json!({ "claudeCode": { "parentToolUseId": "task" } });
    agent.update(json!({
        "sessionUpdate": "tool_call", "toolCallId": "inner", "title": "T", "status": "pending", "_meta": meta
    })).await;
    let turn = end(&mut driver, &mut agent, &request).await;
    let parents = turn.events().filter_map(|event| match event {
        EventBody::ToolStarted { tool } => Some(tool.parent.as_deref()),
        _ => None,
    });
    assert_eq!(parents.collect::<Vec<_>>(), [Some("task")]);
}

#[tokio::test]
async fn what_claude_says_anew_under_the_same_id_takes_the_place_of_the_first() {
    let (mut driver, mut agent) = start("", Autonomy::Free);
    prompt(&driver, 1, "x").await;
    let request = agent.begin(json!({})).await;
    let part = |text: &str| {
        let mut update = chunk(text);
        update["messageId"] = json!("a");
        update
    };
    agent.update(part("Hello, w")).await;
    let message =
        json!({ "type": "system", "subtype": "api_retry", "attempt": 1, "max_retries": 4 });
    let params = json!({ "sessionId": "s", "message": message });
    agent.say(json!({ "jsonrpc": "2.0", "method": "_claude/sdkMessage", "params": params })).await;
    agent.update(part("Hello, world")).await;
    let turn = end(&mut driver, &mut agent, &request).await;
    assert_eq!(turn.said(), "|Hello, world");
}
