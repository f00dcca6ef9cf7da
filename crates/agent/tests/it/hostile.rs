//! ACP agents that do what they should not.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use agent_client_protocol::v1::schema as acp;
use boatyard_agent::{Ask, Command, Driver, Input, Launch, Output, Protocol};
use boatyard_model::{Autonomy, EventBody, PromptId, TurnOutcome, event::PermissionOutcome};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, time::timeout};

use crate::{
    played::{Agent, chunk, duplex},
    support::{Local, PATIENCE, Played, follow, launch, next, program, prompt, run, send},
};

fn script(folder: &Path, script: &str) -> Driver {
    let program = program(Protocol::Acp, &["/bin/sh", "-c", script], "");
    Driver::start(launch(program, folder), Arc::<Local>::default())
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let folder = folder();
    let program = program(Protocol::Acp, &["/no/such/agent"], "");
    let mut driver = Driver::start(launch(program, folder.path()), Arc::<Local>::default());
    let turn = run(&mut driver, 1, "x").await;
    assert_eq!(turn.outcome, TurnOutcome::Failed);
    let error = turn.error.unwrap();
    assert!(error.contains("Agent `mine`") && error.contains("`/no/such/agent`"), "{error}");
    assert!(error.contains("[agents.mine]"), "{error}");
    // Every later prompt is told as well.
    assert_eq!(run(&mut driver, 2, "x").await.outcome, TurnOutcome::Failed);
}

#[tokio::test]
async fn an_agent_that_exits_at_start_is_quoted() {
    let folder = folder();
    let mut driver = script(folder.path(), "echo 'no API key is set' >&2; exit 41");
    let turn = run(&mut driver, 1, "x").await;
    let error = turn.error.unwrap();
    assert!(error.contains("exit code 41") && error.contains("no API key is set"), "{error}");
}

#[tokio::test]
async fn children_of_a_dead_agent_do_not_keep_it_alive() {
    let folder = folder();
    let mut driver = script(folder.path(), "sleep 600 & echo bye >&2; exit 5");
    let turn = run(&mut driver, 1, "x").await;
    let error = turn.error.unwrap();
    assert!(error.contains("exit code 5") && error.contains("bye"), "{error}");
}

#[tokio::test]
async fn an_agent_that_prints_for_ever_is_given_up() {
    let folder = folder();
    let mut driver = script(folder.path(), "yes");
    let turn = run(&mut driver, 1, "x").await;
    assert_eq!(turn.outcome, TurnOutcome::Failed);
    assert!(turn.error.as_deref().unwrap().contains("no messages"));
    assert!(turn.notices().contains(&"agent_garbage"));
}

#[tokio::test]
async fn an_agent_that_says_nothing_can_be_cancelled_and_closed() {
    let folder = folder();
    let mut driver = script(folder.path(), "exec sleep 600");
    prompt(&driver, 1, "x").await;
    send(&driver, Command::Cancel { grace: Duration::ZERO }).await;
    let turn = follow(&mut driver, 1, |_| None).await;
    assert_eq!(turn.outcome, TurnOutcome::Cancelled);
    send(&driver, Command::Close { grace: Duration::ZERO }).await;
    assert_eq!(next(&mut driver).await, None);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_never_answers_is_given_up() {
    let (mut driver, mut agent) = Agent::start();
    prompt(&driver, 1, "x").await;
    agent.expect("initialize").await;
    // Longer than the tests' patience: the time is not the machine's.
    let turn = loop {
        match driver.outputs.recv().await.unwrap() {
            Output::TurnEnded { error, .. } => break error.unwrap(),
            _ => continue,
        }
    };
    assert!(turn.contains("did not answer `initialize` within 90 s"), "{turn}");
}

#[tokio::test]
async fn another_version_of_the_protocol_is_refused() {
    let (mut driver, mut agent) = Agent::start();
    prompt(&driver, 1, "x").await;
    let hello = agent.expect("initialize").await;
    agent.answer(&hello, json!({ "protocolVersion": 7 })).await;
    let turn = follow(&mut driver, 1, |_| None).await;
    assert!(turn.error.unwrap().contains("version 7"));
}

#[tokio::test(start_paused = true)]
async fn while_nobody_takes_the_outputs_the_agent_is_not_read() {
    let (mut driver, mut agent) = Agent::start();
    prompt(&driver, 1, "x").await;
    let request = agent.begin(json!({})).await;
    let written = Arc::new(AtomicUsize::new(0));
    let count = written.clone();
    const CHUNKS: usize = 5000;
    let flood = tokio::spawn(async move {
        for n in 0..CHUNKS {
            let mut update = chunk(&"x".repeat(1000));
            // Each is a message of its own, so that none is joined with another.
            update["messageId"] = json!(n.to_string());
            agent.update(update).await;
            count.fetch_add(1, Ordering::Relaxed);
        }
        agent.answer(&request, json!({ "stopReason": "end_turn" })).await;
        agent
    });
    // The clock moves only when nobody can do anything: then all queues are full.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let held = written.load(Ordering::Relaxed);
    assert!((50..300).contains(&held), "{held} of {CHUNKS} were taken");
    // A cancel is served all the same; then the rest comes, when somebody listens.
    let turn = follow(&mut driver, 1, |_| None).await;
    assert_eq!(turn.outcome, TurnOutcome::Completed);
    let whole = |event: &&EventBody| matches!(event, EventBody::MessageCompleted { .. });
    assert_eq!(turn.events().filter(whole).count(), CHUNKS);
    drop(flood.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_cancel_is_served_while_nobody_takes_the_outputs() {
    let (mut driver, mut agent) = Agent::start();
    prompt(&driver, 1, "x").await;
    let request = agent.begin(json!({})).await;
    for n in 0..60 {
        let mut update = chunk("x");
        update["messageId"] = json!(n.to_string());
        agent.update(update).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    send(&driver, Command::Cancel { grace: Duration::from_secs(5) }).await;
    agent.expect("session/cancel").await;
    agent.answer(&request, json!({ "stopReason": "cancelled" })).await;
    let turn = follow(&mut driver, 1, |_| None).await;
    assert_eq!(turn.outcome, TurnOutcome::Cancelled);
}

#[tokio::test]
async fn an_agent_that_asks_without_reading_is_given_up() {
    let (mut driver, mut agent) = Agent::start();
    prompt(&driver, 1, "x").await;
    let _request = agent.begin(json!({})).await;
    let asking = tokio::spawn(async move {
        for id in 0..20_000 {
            let line =
                format!("{{\"id\":{id},\"method\":\"fs/read_text_file\",\"params\":{{}}}}\n");
            if agent.writer.write_all(line.as_bytes()).await.is_err() {
                break;
            }
        }
        agent
    });
    let turn = follow(&mut driver, 1, |_| None).await;
    assert_eq!(turn.outcome, TurnOutcome::Failed);
    assert!(turn.error.unwrap().contains("does not read"));
    drop(asking.await.unwrap());
}

#[tokio::test]
async fn what_is_not_offered_is_refused_and_other_sessions_are_not_ours() {
    let (mut driver, mut agent) = Agent::start();
    prompt(&driver, 1, "x").await;
    let request = agent.begin(json!({})).await;
    for (id, method) in [
        (json!(0), "fs/write_text_file"),
        (json!("a"), "terminal/create"),
        (json!(2.5), "craft/drainMidTurnQueue"),
    ] {
        agent.say(json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": {} })).await;
        let line = agent.lines.next_line().await.unwrap().unwrap();
        let refusal: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&refusal["id"], &refusal["error"]["code"]), (&id, &json!(-32601)));
    }
    let params = json!({ "sessionId": "another", "update": chunk("not for us") });
    agent.say(json!({ "method": "session/update", "params": params })).await;
    agent.update(chunk("for us")).await;
    agent.answer(&request, json!({ "stopReason": "end_turn" })).await;
    let turn = follow(&mut driver, 1, |_| None).await;
    assert_eq!((turn.said().as_str(), turn.outcome), ("for us", TurnOutcome::Completed));
}

#[tokio::test]
async fn a_text_that_is_said_anew_after_a_retry_takes_the_place_of_the_first() {
    let (mut driver, mut agent) = Agent::start();
    prompt(&driver, 1, "x").await;
    let request = agent.begin(json!({})).await;
    let part = |id: &str, text: &str| {
        let mut update = chunk(text);
        update["messageId"] = json!(id);
        update
    };
    agent.update(part("a", "Hello, w")).await;
    let error = json!({ "message": "Reconnecting... 1/5", "willRetry": true });
    let meta = json!({ "codex": { "error": error } });
    agent.update(json!({ "sessionUpdate": "session_info_update", "_meta": meta })).await;
    agent.update(part("b", "Hello, world")).await;
    agent.answer(&request, json!({ "stopReason": "end_turn" })).await;
    let turn = follow(&mut driver, 1, |_| None).await;
    assert_eq!(turn.said(), "|Hello, world");
    assert_eq!(turn.notices(), ["retry"]);
}

#[tokio::test]
async fn the_end_of_a_turn_is_not_success() {
    for (result, outcome, part) in [
        (json!({ "stopReason": "end_turn" }), TurnOutcome::Completed, ""),
        (json!({ "stopReason": "refusal" }), TurnOutcome::Refused, "refused"),
        (json!({ "stopReason": "max_tokens" }), TurnOutcome::LimitReached, "limit"),
        (json!({}), TurnOutcome::Completed, ""),
        (
            json!({ "stopReason": "end_turn", "_meta": { "jetbrains": { "air": { "sessionFailure":
                { "severity": "error", "title": "Quota is used up" } } } } }),
            TurnOutcome::Failed,
            "Quota is used up",
        ),
    ] {
        let (mut driver, mut agent) = Agent::start();
        prompt(&driver, 1, "x").await;
        let request = agent.begin(json!({})).await;
        agent.answer(&request, result).await;
        let turn = follow(&mut driver, 1, |_| None).await;
        assert_eq!(turn.outcome, outcome);
        assert!(turn.error.unwrap_or_default().contains(part));
    }
}

#[tokio::test]
async fn a_lost_agent_fails_the_turn() {
    let (mut driver, mut agent) = Agent::start();
    prompt(&driver, 1, "x").await;
    agent.begin(json!({})).await;
    agent.update(json!({ "sessionUpdate": "tool_call", "toolCallId": "t", "title": "T" })).await;
    drop(agent);
    let turn = follow(&mut driver, 1, |_| None).await;
    assert_eq!(turn.outcome, TurnOutcome::Failed);
    assert!(turn.error.unwrap().contains("closed its output"));
}

#[tokio::test]
async fn an_agent_may_withdraw_what_it_asked() {
    let (mut driver, mut agent) = Agent::start();
    prompt(&driver, 1, "x").await;
    let turn = agent.begin(json!({})).await;
    let options = json!([{ "optionId": "yes", "name": "Yes", "kind": "allow_once" }]);
    let call = json!({ "toolCallId": "t", "title": "T", "kind": "edit" });
    let params = json!({ "sessionId": "s", "toolCall": call, "options": options });
    let ask = |id: &str| json!({ "jsonrpc": "2.0", "id": id, "method": "session/request_permission", "params": params });
    let withdraw = |id: &str| json!({ "jsonrpc": "2.0", "method": "$/cancel_request", "params": { "requestId": id } });
    agent.say(ask("a")).await;
    agent.say(ask("b")).await;
    // Another's id, and the same twice, do nothing.
    for id in ["c", "a", "a"] {
        agent.say(withdraw(id)).await;
    }
    let line = timeout(PATIENCE, agent.lines.next_line()).await.unwrap().unwrap().unwrap();
    let told: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&told["id"], &told["error"]["code"]), (&json!("a"), &json!(-32800)));
    agent.answer(&turn, json!({ "stopReason": "end_turn" })).await;
    let turn = follow(&mut driver, 1, |_| None).await;
    let asked: Vec<_> = turn
        .events()
        .filter_map(|event| match event {
            EventBody::PermissionRequested { permission, .. } => Some(*permission),
            _ => None,
        })
        .collect();
    let closed: Vec<_> = turn
        .outputs
        .iter()
        .filter_map(|output| match output {
            Output::AskClosed { ask: Ask::Permission(id), outcome } => Some((*id, *outcome)),
            _ => None,
        })
        .collect();
    // The other one ends with its turn.
    assert_eq!(
        closed,
        asked.into_iter().map(|id| (id, PermissionOutcome::Cancelled)).collect::<Vec<_>>()
    );
    assert_eq!(closed.len(), 2);
}

#[tokio::test]
async fn a_look_is_allowed_unasked_where_changes_are_not() {
    let (ours, mut agent) = duplex();
    let program = program(Protocol::Acp, &["played"], "");
    let launch = Launch { autonomy: Autonomy::AskChanges, ..launch(program, Path::new("/")) };
    let mut driver = Driver::start(launch, Played::new(vec![ours]));
    prompt(&driver, 1, "x").await;
    let turn = agent.begin(json!({})).await;
    let options = json!([
        { "optionId": "for ever", "name": "Always", "kind": "allow_always" },
        { "optionId": "once", "name": "Yes", "kind": "allow_once" },
        { "optionId": "no", "name": "No", "kind": "reject_once" },
    ]);
    // The kind may have been told earlier, or never.
    let known =
        json!({ "sessionUpdate": "tool_call", "toolCallId": "k", "title": "K", "kind": "read" });
    agent.update(known).await;
    for (id, call) in [
        (1, json!({ "toolCallId": "k" })),
        (2, json!({ "toolCallId": "s", "kind": "search" })),
        (3, json!({ "toolCallId": "e", "kind": "edit" })),
        (4, json!({ "toolCallId": "u" })),
    ] {
        let params = json!({ "sessionId": "s", "toolCall": call, "options": options });
        let ask = json!({ "id": id, "method": "session/request_permission", "params": params });
        agent.say(ask).await;
    }
    let mut answers = Vec::new();
    for _ in 0..2 {
        let line = timeout(PATIENCE, agent.lines.next_line()).await.unwrap().unwrap().unwrap();
        let told: Value = serde_json::from_str(&line).unwrap();
        answers.push((told["id"].clone(), told["result"]["outcome"]["optionId"].clone()));
    }
    assert_eq!(answers, [(json!(1), json!("once")), (json!(2), json!("once"))]);
    agent.answer(&turn, json!({ "stopReason": "end_turn" })).await;
    let turn = follow(&mut driver, 1, |_| None).await;
    let tools = turn.events().filter_map(|event| match event {
        EventBody::PermissionRequested { tool, .. } => tool.clone(),
        _ => None,
    });
    assert_eq!(tools.collect::<Vec<_>>(), ["e", "u"]);
}

#[tokio::test]
async fn hints_of_the_catalogue_go_before_what_an_agent_claims() {
    let (ours, mut agent) = duplex();
    let hints = "capabilities = { images = false, resume = false }";
    let program = program(Protocol::Acp, &["played"], hints);
    let resume = Some("earlier".to_owned().into());
    let launch = Launch { resume, ..launch(program, Path::new("/")) };
    let mut driver = Driver::start(launch, Played::new(vec![ours]));
    let image = Input::Image { mime: "image/png".into(), bytes: bytes::Bytes::from_static(b"x") };
    let content = vec![Input::Text("x".into()), image];
    send(&driver, Command::Prompt { turn: 1, content }).await;
    let can = json!({ "loadSession": true, "promptCapabilities": { "image": true } });
    let request = agent.begin(can).await;
    assert_eq!(request["params"]["prompt"].as_array().unwrap().len(), 1, "{request}");
    agent.answer(&request, json!({ "stopReason": "end_turn" })).await;
    let turn = follow(&mut driver, 1, |_| None).await;
    assert_eq!(turn.notices(), ["resume_lost", "image_left_out"]);
}

/// An agent that goes on when it is told to stop for a message; what comes of it with this many more
/// processes to be had.
async fn deaf_to_steering(more: usize) -> (Vec<Output>, TurnOutcome) {
    let (first, mut agent) = duplex();
    let (streams, agents): (Vec<_>, Vec<_>) = (0..more).map(|_| duplex()).unzip();
    let streams = [first].into_iter().chain(streams).collect();
    let program = program(Protocol::Acp, &["played"], "");
    let launch = launch(program, Path::new("/"));
    let mut driver = Driver::start(launch, Played::new(streams));
    prompt(&driver, 1, "x").await;
    agent.begin(json!({})).await;
    let content = vec![Input::Text("y".into())];
    send(&driver, Command::Steer { prompt: PromptId::from_u128(7), content }).await;
    agent.expect("session/cancel").await;
    let played = agents.into_iter().map(|mut agent| async move {
        let request = agent.begin(json!({})).await;
        agent.answer(&request, json!({ "stopReason": "end_turn" })).await;
        agent
    });
    let played = played.map(tokio::spawn).collect::<Vec<_>>();
    let turn = follow(&mut driver, 1, |_| None).await;
    for agent in played {
        drop(agent.await.unwrap());
    }
    (turn.outputs, turn.outcome)
}

#[tokio::test(start_paused = true)]
async fn a_steered_message_reaches_an_agent_that_does_not_stop_in_a_new_process() {
    let (outputs, outcome) = deaf_to_steering(1).await;
    assert_eq!(outcome, TurnOutcome::Completed);
    let prompt = PromptId::from_u128(7);
    assert!(outputs.contains(&Output::Steered { prompt, restarted: true }));
}

#[tokio::test(start_paused = true)]
async fn a_steered_message_that_can_not_be_delivered_is_given_back() {
    let (outputs, outcome) = deaf_to_steering(0).await;
    assert_eq!(outcome, TurnOutcome::Failed);
    assert!(outputs.contains(&Output::SteerRefused { prompt: PromptId::from_u128(7) }));
}

#[tokio::test]
async fn dropping_the_driver_kills_the_agent() {
    let folder = folder();
    let fifo = folder.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let driver = script(folder.path(), "exec 3> fifo; exec sleep 600");
    // Opens when the agent has, ends when it has ended.
    let ended = tokio::task::spawn_blocking(move || {
        let mut file = std::fs::File::open(fifo).unwrap();
        drop(driver);
        std::io::Read::read_to_end(&mut file, &mut Vec::new()).unwrap()
    });
    assert_eq!(timeout(PATIENCE, ended).await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn closing_lets_the_agent_end_by_itself() {
    let folder = folder();
    let last = "cat > /dev/null; echo done > ended; sleep 0.2; echo really >> ended";
    let mut driver = script(folder.path(), last);
    send(&driver, Command::Close { grace: PATIENCE }).await;
    assert_eq!(next(&mut driver).await, None);
    let ended = std::fs::read_to_string(folder.path().join("ended")).unwrap();
    assert_eq!(ended, "done\nreally\n");
}

#[tokio::test]
async fn an_agent_that_forgets_is_told_what_was_said() {
    let (first, mut agent) = duplex();
    let (second, mut again) = duplex();
    let program = program(Protocol::Acp, &["played"], "");
    let spawner = Played::new(vec![first, second]);
    let mut driver = Driver::start(launch(program, Path::new("/")), spawner);
    prompt(&driver, 1, "my name is Ada").await;
    let request = agent.begin(json!({})).await;
    agent.update(chunk("Hello, Ada")).await;
    agent.answer(&request, json!({ "stopReason": "end_turn" })).await;
    follow(&mut driver, 1, |_| None).await;
    drop(agent);
    prompt(&driver, 2, "what is my name?").await;
    let request = again.begin(json!({})).await;
    let blocks = &request["params"]["prompt"];
    let seed = blocks[0]["text"].as_str().unwrap();
    assert!(seed.contains("my name is Ada") && seed.contains("Hello, Ada"), "{seed}");
    assert_eq!(blocks[1]["text"], "what is my name?");
    again.answer(&request, json!({ "stopReason": "end_turn" })).await;
    let turn = follow(&mut driver, 2, |_| None).await;
    assert!(turn.notices().contains(&"resume_lost"), "{:?}", turn.notices());
}

/// The official crate's types take every message of the driver.
#[tokio::test]
async fn the_driver_speaks_the_protocol() {
    fn check<T: serde::de::DeserializeOwned + serde::Serialize>(message: &Value) {
        let parsed: T = serde_json::from_value(message["params"].clone()).unwrap();
        let again = serde_json::to_value(parsed).unwrap();
        for (key, value) in message["params"].as_object().unwrap() {
            // Lists that are empty and fields that are the default may be left out.
            if let Some(kept) = again.get(key) {
                assert!(kept.is_object() || kept == value, "{key}: {kept} is not {value}");
            }
        }
    }
    let (mut driver, mut agent) = Agent::start();
    let picture = Input::Image { mime: "image/png".into(), bytes: "png".into() };
    let content = vec![Input::Text("x".into()), picture];
    send(&driver, Command::Prompt { turn: 1, content }).await;
    let hello = agent.expect("initialize").await;
    check::<acp::InitializeRequest>(&hello);
    let can = json!({ "promptCapabilities": { "image": true } });
    agent.answer(&hello, json!({ "protocolVersion": 1, "agentCapabilities": can })).await;
    let new = agent.expect("session/new").await;
    check::<acp::NewSessionRequest>(&new);
    let modes = json!([{ "id": "a", "name": "A" }, { "id": "b", "name": "B" }]);
    let modes = json!({ "currentModeId": "a", "availableModes": modes });
    let option = json!({ "id": "m", "category": "model", "currentValue": "x", "options": [] });
    let session = json!({ "sessionId": "s", "modes": modes, "configOptions": [option] });
    agent.answer(&new, session).await;
    let request = agent.expect("session/prompt").await;
    check::<acp::PromptRequest>(&request);
    assert_eq!(request["params"]["prompt"][1]["type"], "image");
    send(&driver, Command::SetMode("b".into())).await;
    check::<acp::SetSessionModeRequest>(&agent.expect("session/set_mode").await);
    send(&driver, Command::SetModel("y".into())).await;
    let choice = agent.expect("session/set_config_option").await;
    check::<acp::SetSessionConfigOptionRequest>(&choice);
    let call = json!({ "toolCallId": "t", "title": "T" });
    let options = json!([{ "optionId": "o", "name": "O", "kind": "allow_once" }]);
    let params = json!({ "sessionId": "s", "toolCall": call, "options": options });
    agent.say(json!({ "id": 9, "method": "session/request_permission", "params": params })).await;
    let (permission, option) = loop {
        if let Output::Event {
            body: EventBody::PermissionRequested { permission, options, .. },
            ..
        } = next(&mut driver).await.unwrap()
        {
            break (permission, Some(options[0].id.clone()));
        }
    };
    // One that it does not offer is no answer.
    let wrong = Command::AnswerPermission { permission, option: Some("no such".into()) };
    send(&driver, wrong).await;
    send(&driver, Command::AnswerPermission { permission, option }).await;
    let line = agent.lines.next_line().await.unwrap().unwrap();
    let answer: Value = serde_json::from_str(&line).unwrap();
    let answer: acp::RequestPermissionResponse =
        serde_json::from_value(answer["result"].clone()).unwrap();
    let selected = serde_json::to_value(answer.outcome).unwrap();
    assert_eq!(selected, json!({ "outcome": "selected", "optionId": "o" }));
    send(&driver, Command::Cancel { grace: PATIENCE }).await;
    check::<acp::CancelNotification>(&agent.expect("session/cancel").await);
    agent.answer(&request, json!({ "stopReason": "cancelled" })).await;
    while !matches!(next(&mut driver).await, Some(Output::TurnEnded { .. })) {}
}
