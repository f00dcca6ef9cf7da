//! The text driver with real processes.

use std::{path::Path, sync::Arc, time::Duration};

use boatyard_agent::{Catalogue, Command, Driver, Input, Output, Protocol, catalogue::Places};
use boatyard_model::{
    EventBody, PromptId, TurnOutcome,
    event::{ToolCall, ToolKind, ToolStatus},
};
use bytes::Bytes;

use crate::support::{Local, PATIENCE, Turn, follow, launch, next, program, prompt, run, send};

fn shell(folder: &Path) -> Driver {
    let name = "shell".parse().unwrap();
    let catalogue = Catalogue::builtin();
    let entry = catalogue.get(&name).unwrap();
    let program = entry.program(&name, &Places::default(), None).unwrap();
    Driver::start(launch(program, folder), Arc::<Local>::default())
}

fn custom(folder: &Path, argv: &[&str], more: &str) -> Driver {
    let program = program(Protocol::Text, argv, more);
    Driver::start(launch(program, folder), Arc::<Local>::default())
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// The one tool call of a shell turn, as completed.
fn command(turn: &Turn) -> (&ToolCall, ToolStatus, Option<i32>) {
    let all: Vec<_> = turn
        .events()
        .filter_map(|event| match event {
            EventBody::ToolCompleted { tool, status, exit_code, .. } => {
                Some((tool, *status, *exit_code))
            }
            _ => None,
        })
        .collect();
    assert_eq!(all.len(), 1);
    all[0]
}

fn blob(turn: &Turn) -> Option<&Bytes> {
    turn.outputs.iter().find_map(|output| match output {
        Output::Blob(blob) => Some(&blob.bytes),
        _ => None,
    })
}

#[tokio::test]
async fn a_prompt_is_run_as_a_script() {
    let folder = folder();
    let mut driver = shell(folder.path());
    let turn = run(&mut driver, 1, "echo one\necho two >&2\nprintf %s \"$PWD\" > here").await;
    assert_eq!((turn.outcome, turn.error.as_deref()), (TurnOutcome::Completed, None));
    let (tool, status, code) = command(&turn);
    let mut lines: Vec<_> = tool.output.as_deref().unwrap().lines().collect();
    lines.sort_unstable();
    assert_eq!((lines, status, code), (vec!["one", "two"], ToolStatus::Completed, Some(0)));
    let started = turn.events().find_map(|event| match event {
        EventBody::ToolStarted { tool } => Some(tool),
        _ => None,
    });
    let started = started.unwrap();
    assert_eq!(started.kind, Some(ToolKind::Execute));
    assert_eq!(started.title.as_deref(), Some("echo one"));
    let here = std::fs::read_to_string(folder.path().join("here")).unwrap();
    assert_eq!(Path::new(&here).canonicalize().unwrap(), folder.path().canonicalize().unwrap());
}

#[tokio::test]
async fn the_exit_code_decides_and_the_last_words_explain() {
    let folder = folder();
    let mut driver = shell(folder.path());
    let turn = run(&mut driver, 1, "echo the disk is sad >&2; exit 3").await;
    assert_eq!(turn.outcome, TurnOutcome::Failed);
    let error = turn.error.clone().unwrap();
    assert!(error.contains("exit code 3") && error.contains("the disk is sad"), "{error}");
    assert_eq!((command(&turn).1, command(&turn).2), (ToolStatus::Failed, Some(3)));
    let turn = run(&mut driver, 2, "kill -9 $$").await;
    assert!(turn.error.clone().unwrap().contains("signal 9"));
    assert_eq!(command(&turn).2, Some(137));
    let turn = run(&mut driver, 3, "if then fi (").await;
    assert_eq!(turn.outcome, TurnOutcome::Failed);
    assert!(turn.error.unwrap().contains("yntax error"));
}

#[tokio::test]
async fn standard_input_is_closed() {
    let folder = folder();
    let mut driver = shell(folder.path());
    let turn = run(&mut driver, 1, "cat; echo read it all").await;
    assert_eq!(command(&turn).0.output.as_deref(), Some("read it all\n"));
}

#[tokio::test]
async fn output_is_shown_while_the_command_runs() {
    let folder = folder();
    let mut driver = shell(folder.path());
    // The command goes on only when its first line was seen.
    prompt(&driver, 1, "echo first; until [ -e go ]; do sleep 0.01; done; echo second").await;
    let go = folder.path().join("go");
    let turn = follow(&mut driver, 1, |output| {
        if let Output::Event { body: EventBody::ToolUpdated { tool }, .. } = output
            && tool.output.as_deref() == Some("first\n")
        {
            std::fs::write(&go, "").unwrap();
        }
        None
    })
    .await;
    assert_eq!(command(&turn).0.output.as_deref(), Some("first\nsecond\n"));
}

#[tokio::test]
async fn twenty_megabytes_in_one_line_leave_a_preview_and_a_blob() {
    let folder = folder();
    let mut driver = shell(folder.path());
    let turn = run(&mut driver, 1, "head -c 20971520 /dev/zero | tr '\\0' x; echo; echo end").await;
    assert_eq!(turn.outcome, TurnOutcome::Completed);
    let preview = command(&turn).0.output.as_deref().unwrap();
    assert!(preview.len() < 70 << 10 && preview.ends_with("end\n"));
    assert!(preview.contains("bytes left out"));
    let whole = blob(&turn).unwrap();
    assert!(whole.len() > 16 << 20 && whole.len() < 17 << 20 && whole.ends_with(b"end\n"));
    let live: usize = turn
        .events()
        .filter_map(|event| match event {
            EventBody::ToolUpdated { tool } => tool.output.as_ref().map(String::len),
            _ => None,
        })
        .sum();
    assert!(live < 1 << 20, "{live} bytes were shown live");
}

#[tokio::test]
async fn garbage_bytes_become_text() {
    let folder = folder();
    let mut driver = shell(folder.path());
    let turn =
        run(&mut driver, 1, "head -c 100000 /dev/urandom; printf '\\377\\376\\n\\000z'").await;
    assert_eq!(turn.outcome, TurnOutcome::Completed);
    assert!(command(&turn).0.output.as_deref().unwrap().ends_with('z'));
}

#[tokio::test]
async fn children_that_are_left_behind_do_not_hold_up_the_turn() {
    let folder = folder();
    let mut driver = shell(folder.path());
    let turn = run(&mut driver, 1, "sleep 600 & echo $! > child; echo done").await;
    assert_eq!(turn.outcome, TurnOutcome::Completed);
    assert_eq!(turn.notices(), ["children_left"]);
    let child = std::fs::read_to_string(folder.path().join("child")).unwrap();
    // It is left alone until the session is stopped.
    assert!(std::process::Command::new("/bin/kill").arg(child.trim()).status().unwrap().success());
}

#[tokio::test]
async fn a_command_that_never_ends_is_stopped() {
    let folder = folder();
    let mut driver = shell(folder.path());
    prompt(&driver, 1, "yes and no").await;
    let mut seen = 0;
    let turn = follow(&mut driver, 1, |_| {
        seen += 1;
        (seen == 10).then_some(Command::Cancel { grace: PATIENCE })
    })
    .await;
    assert_eq!((turn.outcome, turn.error.as_deref()), (TurnOutcome::Cancelled, None));
    assert_eq!(command(&turn).1, ToolStatus::Cancelled);
    assert_eq!(run(&mut driver, 2, "true").await.outcome, TurnOutcome::Completed);
}

#[tokio::test]
async fn a_command_that_ignores_the_signal_is_killed() {
    let folder = folder();
    let mut driver = shell(folder.path());
    prompt(&driver, 1, "trap '' TERM; echo ready; sleep 600").await;
    let turn = follow(&mut driver, 1, |output| match output {
        Output::Event { body: EventBody::ToolUpdated { .. }, .. } => {
            Some(Command::Cancel { grace: Duration::from_millis(50) })
        }
        _ => None,
    })
    .await;
    assert_eq!(turn.outcome, TurnOutcome::Cancelled);
}

#[tokio::test]
async fn prompts_that_come_in_mid_turn_wait() {
    let folder = folder();
    let mut driver = shell(folder.path());
    for turn in 1..=3 {
        prompt(&driver, turn, &format!("echo {turn} >> order")).await;
    }
    let steered = PromptId::new();
    send(&driver, Command::Steer { prompt: steered, content: Vec::new() }).await;
    let mut refused = false;
    for turn in 1..=3 {
        let done = follow(&mut driver, turn, |output| {
            refused |= *output == (Output::SteerRefused { prompt: steered });
            None
        });
        assert_eq!(done.await.outcome, TurnOutcome::Completed);
    }
    assert!(refused);
    assert_eq!(std::fs::read_to_string(folder.path().join("order")).unwrap(), "1\n2\n3\n");
}

#[tokio::test]
async fn an_agent_that_prints_speaks() {
    let folder = folder();
    let folder = folder.path();
    for (argv, more) in [
        (&["/bin/echo", "you", "said"][..], ""),
        (&["/bin/echo", "you said {prompt}"][..], ""),
        (&["/bin/sh", "-c", "printf 'you said '; cat"][..], "text = { prompt = 'stdin' }"),
    ] {
        let mut driver = custom(folder, argv, more);
        let turn = run(&mut driver, 1, "héllo {home} $HOME `x`").await;
        assert_eq!(turn.outcome, TurnOutcome::Completed, "{argv:?}");
        assert_eq!(turn.said().trim_end(), "you said héllo {home} $HOME `x`", "{argv:?}");
    }
}

#[tokio::test]
async fn colours_are_left_out_of_what_an_agent_says() {
    let folder = folder();
    let argv = ["/bin/sh", "-c", "printf '\\033[1mbold\\033[0m\\r\\n'; echo warned >&2"];
    let mut driver = custom(folder.path(), &argv, "");
    let turn = run(&mut driver, 1, "x").await;
    assert_eq!(turn.said(), "bold\n");
}

#[tokio::test]
async fn an_input_that_is_not_read_to_its_end_is_no_failure() {
    let folder = folder();
    let more = "text = { prompt = 'stdin' }";
    let mut driver = custom(folder.path(), &["/bin/sh", "-c", "echo enough"], more);
    let turn = run(&mut driver, 1, &"long ".repeat(1 << 20)).await;
    assert_eq!((turn.outcome, turn.said().as_str()), (TurnOutcome::Completed, "enough\n"));
}

#[tokio::test]
async fn what_can_not_be_run_is_told_with_the_next_step() {
    let folder = folder();
    let mut driver = custom(folder.path(), &["/no/such/program"], "");
    let turn = run(&mut driver, 1, "x").await;
    assert_eq!(turn.outcome, TurnOutcome::Failed);
    let error = turn.error.unwrap();
    assert!(error.contains("/no/such/program") && error.contains("[agents.mine]"), "{error}");

    let mut driver = shell(folder.path());
    let turn = run(&mut driver, 1, &"#".repeat(200_000)).await;
    assert!(turn.error.unwrap().contains("an argument of a command holds 131071 at most"));
    let turn = run(&mut driver, 2, "echo a\0b").await;
    assert!(turn.error.unwrap().contains("zero byte"));
    let picture = Input::Image { mime: "image/png".into(), bytes: Bytes::new() };
    let content = vec![Input::Text("true".into()), picture];
    send(&driver, Command::Prompt { turn: 3, content }).await;
    let turn = follow(&mut driver, 3, |_| None).await;
    assert_eq!((turn.outcome, turn.notices()), (TurnOutcome::Completed, vec!["image_left_out"]));
}

#[tokio::test]
async fn closing_ends_the_command_and_the_driver() {
    let folder = folder();
    let mut driver = shell(folder.path());
    prompt(&driver, 1, "echo ready; sleep 600").await;
    let turn = follow(&mut driver, 1, |output| match output {
        Output::Event { body: EventBody::ToolUpdated { .. }, .. } => {
            Some(Command::Close { grace: PATIENCE })
        }
        _ => None,
    })
    .await;
    assert_eq!(turn.outcome, TurnOutcome::Cancelled);
    assert_eq!(next(&mut driver).await, None);
}

#[tokio::test]
async fn dropping_the_driver_kills_the_command() {
    let folder = folder();
    let fifo = folder.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let driver = shell(folder.path());
    prompt(&driver, 1, "exec sleep 600 > fifo").await;
    // Opens when the command has, ends when it has ended.
    let ended = tokio::task::spawn_blocking(move || {
        let mut file = std::fs::File::open(fifo).unwrap();
        drop(driver);
        std::io::Read::read_to_end(&mut file, &mut Vec::new()).unwrap()
    });
    assert_eq!(tokio::time::timeout(PATIENCE, ended).await.unwrap().unwrap(), 0);
}
