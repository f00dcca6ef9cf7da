//! The demo agent as a real process, through the real driver.

use std::{path::Path, process::Stdio, sync::Arc, sync::atomic::Ordering, time::Duration};

use boatyard_agent::{Ask, Command, Driver, Input, Launch, Output, Resumed};
use boatyard_model::{
    Autonomy, EventBody, PromptId, TurnOutcome,
    event::{PermissionOutcome, PlanStatus, ToolStatus},
};
use bytes::Bytes;

use crate::support::{Local, PATIENCE, demo, follow, next, prompt, run, send};

fn start(folder: &Path) -> (Driver, Arc<Local>) {
    let local = Arc::<Local>::default();
    (Driver::start(demo(folder), local.clone()), local)
}

fn repository() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let git = std::process::Command::new("git")
        .args(["init", "-q"])
        .current_dir(&folder)
        .stdout(Stdio::null())
        .status();
    assert!(git.unwrap().success());
    folder
}

const CANCEL: Command = Command::Cancel { grace: PATIENCE };

#[tokio::test]
async fn by_default_it_makes_the_file_and_says_what_it_is() {
    let folder = repository();
    let (mut driver, _) = start(folder.path());
    let turn = run(&mut driver, 1, "make hello.txt with a greeting in it").await;
    assert_eq!((turn.outcome, turn.error.as_deref()), (TurnOutcome::Completed, None));
    let file = std::fs::read_to_string(folder.path().join("hello.txt")).unwrap();
    assert_eq!(file, "Hello from Boatyard!\n");
    assert!(turn.said().contains("I am Boatyard's built-in demo agent"));
    let kinds = turn.kinds();
    for kind in ["thought.completed", "plan", "tool.completed", "message.completed", "usage"] {
        assert!(kinds.contains(&kind), "{kind} in {kinds:?}");
    }
    let command = turn.events().find_map(|event| match event {
        EventBody::ToolCompleted { tool, exit_code: Some(0), .. } => tool.output.clone(),
        _ => None,
    });
    assert!(command.unwrap().contains("?? hello.txt"));
    let last_plan = turn.events().filter_map(|event| match event {
        EventBody::Plan { entries } => Some(entries),
        _ => None,
    });
    assert!(last_plan.last().unwrap().iter().all(|e| e.status == PlanStatus::Completed));
    let again = run(&mut driver, 2, "make hello.txt with a greeting in it").await;
    assert_eq!(again.outcome, TurnOutcome::Completed);
    let file = std::fs::read_to_string(folder.path().join("hello.txt")).unwrap();
    assert_eq!(file.lines().count(), 2);
}

#[tokio::test]
async fn every_kind_of_event_comes_on_request() {
    let folder = repository();
    let (mut driver, _) = start(folder.path());
    prompt(&driver, 1, "/demo text thought plan edit command permission question image usage")
        .await;
    let mut blobs = 0;
    let turn = follow(&mut driver, 1, |output| match output {
        Output::Event {
            body: EventBody::PermissionRequested { permission, options, .. }, ..
        } => {
            let option = Some(options[0].id.clone());
            Some(Command::AnswerPermission { permission: *permission, option })
        }
        Output::Event { body: EventBody::QuestionAsked { question, options, .. }, .. } => {
            let answer = Some(options[1].clone());
            Some(Command::AnswerQuestion { question: *question, answer })
        }
        Output::Blob(blob) => {
            assert!(blob.bytes.starts_with(b"\x89PNG"));
            blobs += 1;
            None
        }
        _ => None,
    })
    .await;
    assert_eq!(turn.outcome, TurnOutcome::Completed);
    assert!(turn.said().contains("You answered: Coffee."));
    assert_eq!(blobs, 1);
    let note = std::fs::read_to_string(folder.path().join("BOATYARD-DEMO.md")).unwrap();
    assert!(note.contains("Hello again"), "the permission was granted: {note}");
}

#[tokio::test]
async fn a_refused_permission_changes_nothing() {
    let folder = repository();
    let (mut driver, _) = start(folder.path());
    prompt(&driver, 1, "/demo permission").await;
    let turn = follow(&mut driver, 1, |output| match output {
        Output::Event {
            body: EventBody::PermissionRequested { permission, options, .. }, ..
        } => {
            let option = options.iter().find(|o| o.name == "Reject").map(|o| o.id.clone());
            Some(Command::AnswerPermission { permission: *permission, option })
        }
        _ => None,
    })
    .await;
    assert_eq!(turn.outcome, TurnOutcome::Completed);
    assert!(!folder.path().join("BOATYARD-DEMO.md").exists());
    let failed = |event: &EventBody| {
        matches!(event, EventBody::ToolCompleted { status: ToolStatus::Failed, .. })
    };
    assert!(turn.events().any(failed));
}

#[tokio::test]
async fn a_permission_that_nobody_answers_is_a_no() {
    let folder = repository();
    let launch = Launch { ask_timeout: Duration::from_millis(1), ..demo(folder.path()) };
    let mut driver = Driver::start(launch, Arc::<Local>::default());
    let turn = run(&mut driver, 1, "/demo permission question").await;
    assert_eq!(turn.outcome, TurnOutcome::Completed);
    assert!(!folder.path().join("BOATYARD-DEMO.md").exists());
    let closed: Vec<_> = turn
        .outputs
        .iter()
        .filter_map(|output| match output {
            Output::AskClosed { ask, outcome } => Some((*ask, *outcome)),
            _ => None,
        })
        .collect();
    assert!(matches!(
        closed[..],
        [
            (Ask::Permission(_), PermissionOutcome::Expired),
            (Ask::Question(_), PermissionOutcome::Expired)
        ]
    ));
    assert!(turn.said().contains("Nobody answered."));
}

#[tokio::test]
async fn an_autonomy_answers_in_the_place_of_a_person() {
    let asked = async |autonomy: Autonomy, words: &str| {
        let folder = repository();
        let mode = Some("ask".to_owned());
        let launch = Launch { autonomy, mode, ..demo(folder.path()) };
        let mut driver = Driver::start(launch, Arc::<Local>::default());
        prompt(&driver, 1, words).await;
        let turn = follow(&mut driver, 1, |output| match output {
            Output::Event { body: EventBody::PermissionRequested { permission, .. }, .. } => {
                let (permission, option) = (*permission, Some("no".to_owned()));
                Some(Command::AnswerPermission { permission, option })
            }
            _ => None,
        })
        .await;
        assert_eq!(turn.outcome, TurnOutcome::Completed);
        let asked = turn.kinds().contains(&"permission.requested");
        // Whoever is asked here says no.
        assert_ne!(asked, folder.path().join("BOATYARD-DEMO.md").exists());
        asked
    };
    assert!(asked(Autonomy::Ask, "/demo edit").await);
    assert!(asked(Autonomy::AskChanges, "/demo edit").await);
    assert!(!asked(Autonomy::Free, "/demo edit").await);
    assert!(asked(Autonomy::Free, "/demo permission").await, "this one wants a person");
}

#[tokio::test]
async fn a_cancel_ends_the_turn_and_the_next_prompt_works_in_the_same_process() {
    let folder = repository();
    let (mut driver, local) = start(folder.path());
    prompt(&driver, 1, "/demo slow 600").await;
    let turn = follow(&mut driver, 1, |output| match output {
        Output::Event { body: EventBody::ToolStarted { .. }, .. } => Some(CANCEL),
        _ => None,
    })
    .await;
    assert_eq!((turn.outcome, turn.error), (TurnOutcome::Cancelled, None));
    let turn = run(&mut driver, 2, "/demo text").await;
    assert_eq!(turn.outcome, TurnOutcome::Completed);
    assert_eq!(local.spawned.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_cancel_withdraws_a_permission() {
    let folder = repository();
    let (mut driver, _) = start(folder.path());
    prompt(&driver, 1, "/demo permission").await;
    let turn = follow(&mut driver, 1, |output| match output {
        Output::Event { body: EventBody::PermissionRequested { .. }, .. } => Some(CANCEL),
        _ => None,
    })
    .await;
    assert_eq!(turn.outcome, TurnOutcome::Cancelled);
    let cancelled = |output: &Output| {
        matches!(output, Output::AskClosed { outcome: PermissionOutcome::Cancelled, .. })
    };
    assert!(turn.outputs.iter().any(cancelled));
}

#[tokio::test]
async fn an_agent_that_is_deaf_is_killed_and_resumed() {
    let folder = repository();
    let (mut driver, local) = start(folder.path());
    run(&mut driver, 1, "remember me").await;
    prompt(&driver, 2, "/demo hang").await;
    let turn = follow(&mut driver, 2, |output| match output {
        Output::Event { body: EventBody::MessageDelta { .. }, .. } => {
            Some(Command::Cancel { grace: Duration::from_millis(50) })
        }
        _ => None,
    })
    .await;
    assert_eq!(turn.outcome, TurnOutcome::Cancelled);
    let turn = run(&mut driver, 3, "go on").await;
    assert_eq!(turn.outcome, TurnOutcome::Completed);
    assert!(turn.outputs.iter().any(
        |output| matches!(output, Output::Session(session) if session.resumed == Resumed::Native)
    ));
    // The turn that was killed was not written down.
    assert!(turn.said().contains("That was turn 2 of this session"), "{}", turn.said());
    assert_eq!(local.spawned.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_crash_fails_the_turn_with_the_last_words_and_the_next_prompt_resumes() {
    let folder = repository();
    let (mut driver, _) = start(folder.path());
    let turn = run(&mut driver, 1, "/demo crash").await;
    assert_eq!(turn.outcome, TurnOutcome::Failed);
    let error = turn.error.unwrap();
    assert!(error.contains("exit code 70") && error.contains("panicked at"), "{error}");
    assert!(error.contains("Prompt again"), "{error}");
    let turn = run(&mut driver, 2, "/demo text").await;
    assert_eq!(turn.outcome, TurnOutcome::Completed);
}

#[tokio::test]
async fn a_failure_is_told_as_the_agent_tells_it() {
    let folder = repository();
    let (mut driver, _) = start(folder.path());
    let turn = run(&mut driver, 1, "/demo failure").await;
    assert_eq!(turn.outcome, TurnOutcome::Failed);
    let error = turn.error.unwrap();
    assert_eq!(
        error,
        "The demo agent failed, since it was asked to. Prompt again to let it go on."
    );
    assert_eq!(run(&mut driver, 2, "/demo text").await.outcome, TurnOutcome::Completed);
}

#[tokio::test]
async fn garbage_is_counted_and_ignored() {
    let folder = repository();
    let (mut driver, _) = start(folder.path());
    let turn = run(&mut driver, 1, "/demo garbage edit").await;
    assert_eq!(turn.outcome, TurnOutcome::Completed);
    assert_eq!(turn.notices(), ["agent_garbage"]);
    assert!(turn.said().contains("That was it."));
}

#[tokio::test]
async fn twenty_megabytes_in_a_line_come_through_bounded() {
    let folder = repository();
    let (mut driver, _) = start(folder.path());
    let turn = run(&mut driver, 1, "/demo huge 20").await;
    assert_eq!(turn.outcome, TurnOutcome::Completed);
    let blobs: Vec<usize> = turn
        .outputs
        .iter()
        .filter_map(|output| match output {
            Output::Blob(blob) => Some(blob.bytes.len()),
            _ => None,
        })
        .collect();
    assert_eq!(blobs.len(), 2, "of the tool's output and of the message");
    assert!(blobs.iter().all(|len| (16 << 20..17 << 20).contains(len)), "{blobs:?}");
    assert_eq!(run(&mut driver, 2, "/demo text").await.outcome, TurnOutcome::Completed);
}

#[tokio::test]
async fn a_line_beyond_the_limit_ends_the_turn_with_the_reason() {
    let folder = repository();
    let (mut driver, _) = start(folder.path());
    let turn = run(&mut driver, 1, "/demo huge 33").await;
    assert_eq!(turn.outcome, TurnOutcome::Failed);
    assert!(turn.error.unwrap().contains("a line of more than 32 MB"));
    assert_eq!(run(&mut driver, 2, "/demo text").await.outcome, TurnOutcome::Completed);
}

#[tokio::test]
async fn many_tools_are_all_completed() {
    let folder = repository();
    let (mut driver, _) = start(folder.path());
    let turn = run(&mut driver, 1, "/demo tools 500").await;
    let completed = |event: &&EventBody| matches!(event, EventBody::ToolCompleted { .. });
    assert_eq!(turn.events().filter(completed).count(), 500);
}

#[tokio::test]
async fn a_steered_message_is_taken_in_mid_turn() {
    let folder = repository();
    let (mut driver, _) = start(folder.path());
    prompt(&driver, 1, "/demo slow 1 text").await;
    let steered = PromptId::new();
    let turn = follow(&mut driver, 1, |output| match output {
        Output::Event { body: EventBody::ToolStarted { .. }, .. } => {
            let content = vec![Input::Text("use tabs".into())];
            Some(Command::Steer { prompt: steered, content })
        }
        _ => None,
    })
    .await;
    assert_eq!(turn.outcome, TurnOutcome::Completed);
    assert!(turn.outputs.contains(&Output::Steered { prompt: steered, restarted: false }));
    assert!(turn.said().contains("You said in between: “use tabs”"));
}

#[tokio::test]
async fn an_agent_that_takes_no_second_prompt_is_stopped_at_the_tool_boundary() {
    let folder = repository();
    let mut launch = demo(folder.path());
    launch.program.capabilities.steer = boatyard_agent::catalogue::Steer::Restart;
    let mut driver = Driver::start(launch, Arc::<Local>::default());
    prompt(&driver, 1, "/demo slow 2 slow 600").await;
    let steered = PromptId::new();
    let turn = follow(&mut driver, 1, |output| match output {
        Output::Event { body: EventBody::ToolUpdated { .. }, .. } => {
            let content = vec![Input::Text("/demo text".into())];
            Some(Command::Steer { prompt: steered, content })
        }
        _ => None,
    })
    .await;
    assert_eq!(turn.outcome, TurnOutcome::Completed);
    assert!(turn.outputs.contains(&Output::Steered { prompt: steered, restarted: true }));
    let statuses: Vec<ToolStatus> = turn
        .events()
        .filter_map(|event| match event {
            EventBody::ToolCompleted { status, .. } => Some(*status),
            _ => None,
        })
        .collect();
    // The one that ran was let finish; at most the next was cut off.
    assert_eq!(statuses[0], ToolStatus::Completed);
}

#[tokio::test]
async fn a_message_for_no_turn_is_given_back() {
    let folder = repository();
    let (mut driver, _) = start(folder.path());
    let steered = PromptId::new();
    send(&driver, Command::Steer { prompt: steered, content: Vec::new() }).await;
    loop {
        if next(&mut driver).await.unwrap() == (Output::SteerRefused { prompt: steered }) {
            break;
        }
    }
}

#[tokio::test]
async fn a_conversation_goes_on_in_a_new_process() {
    let folder = repository();
    let mut resume = None;
    for turn in 1..=3 {
        let launch = Launch { resume: resume.clone(), ..demo(folder.path()) };
        let mut driver = Driver::start(launch, Arc::<Local>::default());
        let done = run(&mut driver, turn, "go on").await;
        assert!(done.said().contains(&format!("That was turn {turn} of this session")));
        for output in done.outputs {
            if let Output::Session(session) = output {
                let wanted = if turn == 1 { Resumed::Fresh } else { Resumed::Native };
                assert_eq!(session.resumed, wanted);
                resume = session.id.map(Into::into);
            }
        }
        send(&driver, Command::Close { grace: PATIENCE }).await;
        while next(&mut driver).await.is_some() {}
    }
}

#[tokio::test]
async fn a_conversation_that_is_lost_is_seeded_and_said_so() {
    let folder = repository();
    let launch = Launch {
        resume: Some("demo-00000000000000000000000000000000".to_owned().into()),
        seed: Some("You: hello\nAgent: hello yourself".into()),
        ..demo(folder.path())
    };
    let mut driver = Driver::start(launch, Arc::<Local>::default());
    let turn = run(&mut driver, 4, "/demo text").await;
    assert_eq!(turn.outcome, TurnOutcome::Completed);
    let all = turn.outputs.iter().any(
        |output| matches!(output, Output::Session(session) if session.resumed == Resumed::Lost),
    );
    assert!(all, "{:?}", turn.outputs);
    // The agent keeps what it was told.
    let kept = std::fs::read_dir(folder.path().join(".boatyard-demo")).unwrap();
    let kept = kept.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
    assert!(kept.collect::<String>().contains("hello yourself"));
}

#[tokio::test]
async fn pictures_reach_the_agent() {
    let folder = repository();
    let (mut driver, _) = start(folder.path());
    let picture = Bytes::from_static(b"\x89PNG not really");
    let content = vec![
        Input::Text("/demo image".into()),
        Input::Image { mime: "image/png".into(), bytes: picture.clone() },
    ];
    send(&driver, Command::Prompt { turn: 1, content }).await;
    let turn = follow(&mut driver, 1, |_| None).await;
    let echoed = |output: &Output| matches!(output, Output::Blob(blob) if blob.bytes == picture);
    assert!(turn.outputs.iter().any(echoed));
}

#[tokio::test]
async fn modes_and_models_are_chosen_and_refused() {
    let folder = repository();
    let launch = Launch { model: Some("demo-large".into()), ..demo(folder.path()) };
    let mut driver = Driver::start(launch, Arc::<Local>::default());
    let session = loop {
        if let Output::Session(session) = next(&mut driver).await.unwrap() {
            break session;
        }
    };
    assert_eq!(session.offers.model.as_deref(), Some("demo-large"));
    assert_eq!(session.offers.mode.as_deref(), Some("free"));
    assert!(
        session.offers.images
            && session.offers.modes.len() == 2
            && session.offers.models.len() == 2
    );
    send(&driver, Command::SetMode("wild".into())).await;
    loop {
        if let Output::Event { body: EventBody::Notice { code, .. }, .. } =
            next(&mut driver).await.unwrap()
        {
            assert_eq!(code, "setting_refused");
            break;
        }
    }
    send(&driver, Command::SetMode("ask".into())).await;
    prompt(&driver, 1, "/demo edit").await;
    let turn = follow(&mut driver, 1, |output| match output {
        Output::Event { body: EventBody::PermissionRequested { .. }, .. } => Some(CANCEL),
        _ => None,
    })
    .await;
    assert_eq!(turn.outcome, TurnOutcome::Cancelled);
}

/// The official crate's client understands every message of the demo agent.
#[tokio::test]
async fn the_demo_agent_speaks_the_protocol() {
    use agent_client_protocol::{ByteStreams, Client};
    use agent_client_protocol::{
        schema::ProtocolVersion,
        v1::schema::{
            ContentBlock, InitializeRequest, NewSessionRequest, PromptRequest, SessionNotification,
        },
    };
    use tokio_util::compat::{TokioAsyncReadCompatExt, TokioAsyncWriteCompatExt};

    let folder = repository();
    let mut agent = tokio::process::Command::new(env!("CARGO_BIN_EXE_boatyard-demo-agent"))
        .env("HOME", folder.path())
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let streams = ByteStreams::new(
        agent.stdin.take().unwrap().compat_write(),
        agent.stdout.take().unwrap().compat(),
    );
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen_too = seen.clone();
    let cwd = folder.path().to_owned();
    let result = Client
        .v1()
        .on_receive_notification(
            async move |notification: SessionNotification, _| {
                let update = serde_json::to_value(&notification.update).unwrap();
                let kind = update["sessionUpdate"].as_str().unwrap_or_default().to_owned();
                seen_too.lock().unwrap().push(kind);
                Ok(())
            },
            agent_client_protocol::on_receive_notification!(),
        )
        .connect_with(streams, async move |agent| {
            agent.send_request(InitializeRequest::new(ProtocolVersion::V1)).block_task().await?;
            let session = agent.send_request(NewSessionRequest::new(cwd)).block_task().await?;
            let prompt =
                vec![ContentBlock::from("/demo text thought plan edit command image usage")];
            let prompt = PromptRequest::new(session.session_id, prompt);
            agent.send_request(prompt).block_task().await
        })
        .await
        .unwrap();
    assert_eq!(serde_json::to_value(result.stop_reason).unwrap(), "end_turn");
    let seen = seen.lock().unwrap();
    for kind in [
        "agent_message_chunk",
        "agent_thought_chunk",
        "plan",
        "tool_call",
        "tool_call_update",
        "usage_update",
        "session_info_update",
    ] {
        assert!(seen.iter().any(|s| s == kind), "{kind} in {seen:?}");
    }
}
