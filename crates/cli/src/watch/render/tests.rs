//! Recorded events, and how they look in 80 columns.

use boatyard_api::model::{
    PermissionId, PromptId, PromptMode, SessionId, SessionState,
    event::{PermissionOption, ToolCall, ToolDiff, ToolKind, ToolStatus},
};

use super::*;

const PLAIN: Look = Look { color: false, terminal: true, width: 80 };

fn events(bodies: Vec<(i64, EventBody)>) -> Vec<Event> {
    let session = SessionId::new();
    let event = |(i, (time, body))| Event {
        session,
        seq: i as u64 + 1,
        time: Timestamp(time),
        turn: Some(1),
        body,
    };
    bodies.into_iter().enumerate().map(event).collect()
}

fn delta(text: &str) -> EventBody {
    EventBody::MessageDelta { message: "m1".into(), text: text.into() }
}

fn tool(id: &str, kind: ToolKind, title: &str, output: Option<&str>) -> ToolCall {
    ToolCall {
        tool: id.into(),
        kind: Some(kind),
        title: Some(title.into()),
        output: output.map(str::to_owned),
        ..ToolCall::default()
    }
}

fn done(tool: ToolCall, status: ToolStatus, exit_code: Option<i32>) -> EventBody {
    EventBody::ToolCompleted { tool, status, exit_code, output_blob: None }
}

fn story() -> Vec<(i64, EventBody)> {
    let prompt = Content::Text { text: "Fix the failing test and say what was wrong".into() };
    let test = || tool("t2", ToolKind::Execute, "`cargo test`", None);
    let edit = ToolCall {
        diffs: vec![ToolDiff {
            path: "src/lib.rs".into(),
            old: Some("a\nb\nc\n".into()),
            new: "a\nB\nB2\nc\n".into(),
        }],
        ..tool("t3", ToolKind::Edit, "Edit src/lib.rs", None)
    };
    let permission = PermissionId::from_u128(1);
    vec![
        (
            0,
            EventBody::TurnStarted {
                prompt: PromptId::from_u128(1),
                content: vec![prompt],
                mode: PromptMode::Queue,
                author: None,
            },
        ),
        (10, EventBody::SessionState { state: SessionState::Running, reason: None }),
        (20, EventBody::ThoughtDelta { thought: "h1".into(), text: "The test is in ".into() }),
        (
            30,
            EventBody::ThoughtCompleted {
                thought: "h1".into(),
                text: "The test is in src/lib.rs.".into(),
            },
        ),
        (40, delta("I will run the tests first, then look at the one that fails and at the ")),
        (50, delta("code that it is about.\n\n- one\n- two\n")),
        (
            60,
            EventBody::MessageCompleted {
                message: "m1".into(),
                text:
                    "I will run the tests first, then look at the one that fails and at the code \
                       that it is about.\n\n- one\n- two\n"
                        .into(),
                blob: None,
            },
        ),
        (100, EventBody::ToolStarted { tool: tool("t1", ToolKind::Read, "Read src/lib.rs", None) }),
        (
            112,
            done(tool("t1", ToolKind::Read, "Read src/lib.rs", None), ToolStatus::Completed, None),
        ),
        (200, EventBody::ToolStarted { tool: test() }),
        (
            900,
            EventBody::ToolUpdated {
                tool: ToolCall {
                    tool: "t2".into(),
                    output: Some((1..=10).map(|i| format!("test {i} … ok\n")).collect()),
                    ..ToolCall::default()
                },
            },
        ),
        (
            1000,
            EventBody::ToolUpdated {
                tool: ToolCall {
                    tool: "t2".into(),
                    output: Some("\x1b[31mtest 11 … FAILED\x1b[0m\n".into()),
                    ..ToolCall::default()
                },
            },
        ),
        (3_400, done(test(), ToolStatus::Failed, Some(101))),
        (3_500, EventBody::ToolStarted { tool: edit.clone() }),
        (
            3_600,
            EventBody::PermissionRequested {
                permission,
                tool: Some("t3".into()),
                title: "Edit src/lib.rs".into(),
                options: vec![PermissionOption {
                    id: "y".into(),
                    name: "Yes".into(),
                    kind: boatyard_api::model::event::PermissionKind::AllowOnce,
                }],
                deadline: Timestamp(9_999),
            },
        ),
        (
            4_000,
            EventBody::PermissionResolved {
                permission,
                outcome: PermissionOutcome::Allowed,
                option: Some("y".into()),
                by: None,
            },
        ),
        (4_100, done(edit, ToolStatus::Completed, None)),
        (
            4_200,
            EventBody::EgressBlocked {
                host: "evil.example".into(),
                port: 443,
                rule: "not allowed".into(),
            },
        ),
        (
            4_300,
            EventBody::MessageCompleted {
                message: "m2".into(),
                text: "## Done\n\nThe test was **right**:\n```rust\nlet b = 2;\n```\n".into(),
                blob: None,
            },
        ),
        (
            5_000,
            EventBody::TurnCompleted {
                outcome: TurnOutcome::Completed,
                error: None,
                checkpoint: None,
                millis: 5_000,
            },
        ),
    ]
}

fn rendered(look: Look, detail: Detail, bodies: Vec<(i64, EventBody)>) -> String {
    let mut renderer = Renderer::new(look, detail);
    for event in events(bodies) {
        renderer.event(&event);
    }
    renderer.finish();
    renderer.take().join("\n")
}

#[test]
fn a_turn_reads_well_in_80_columns() {
    let text = rendered(PLAIN, Detail::Normal, story());
    assert_eq!(text, A_TURN);
    assert!(text.lines().all(|line| console::measure_text_width(line) <= 80));
    assert!(!text.contains('\x1b'));
}

#[test]
fn colour_adds_nothing_but_colour() {
    let colored = rendered(Look { color: true, ..PLAIN }, Detail::Normal, story());
    let plain = rendered(PLAIN, Detail::Normal, story());
    assert!(colored.contains('\x1b'));
    assert_eq!(console::strip_ansi_codes(&colored), plain);
}

#[test]
fn everything_shows_the_whole_output() {
    let text = rendered(PLAIN, Detail::Everything, story());
    assert!(text.contains("│ test 1 … ok"), "{text}");
}

#[test]
fn a_stream_that_lost_its_pieces_shows_the_whole_once() {
    // After a resume the pieces are gone and only the whole comes.
    let whole: Vec<_> =
        story().into_iter().filter(|(_, body)| !body.kind().ends_with("delta")).collect();
    assert_eq!(rendered(PLAIN, Detail::Normal, whole), rendered(PLAIN, Detail::Normal, story()));
}

#[test]
fn a_message_that_something_else_interrupts_is_shown_once() {
    let message = |text: &str| EventBody::MessageCompleted {
        message: "m1".into(),
        text: text.into(),
        blob: None,
    };
    let entry = PlanEntry { text: "step".into(), status: PlanStatus::Pending };
    let bodies = vec![
        (0, delta("Hello ")),
        (1, delta("there.\n")),
        (2, EventBody::Plan { entries: vec![entry] }),
        (3, message("Hello there.\nBye.")),
    ];
    let expected = "  Hello there.\n\n  ○ step\n\n  Bye.";
    assert_eq!(rendered(PLAIN, Detail::Normal, bodies), expected);
}

#[test]
fn what_is_under_way_is_drawn_over() {
    let mut renderer = Renderer::new(PLAIN, Detail::Normal);
    for event in events(story().into_iter().take(10).collect()) {
        renderer.event(&event);
    }
    assert_eq!(renderer.live(Timestamp(12_200)), ["  ⠙ $ cargo test  12.0 s"]);
    let mut renderer = Renderer::new(PLAIN, Detail::Normal);
    for event in events(story().into_iter().take(5).collect()) {
        renderer.event(&event);
    }
    let live = renderer.live(Timestamp(2_000));
    assert_eq!(
        live[0],
        "  I will run the tests first, then look at the one that fails and at the "
    );
}

#[test]
fn hostile_text_can_t_act_on_the_terminal() {
    let nasty = "\x1b[2J\x1b]52;c;cm0gLXJm\x07 \u{202e}x";
    let call = tool("t", ToolKind::Execute, nasty, Some(nasty));
    let bodies = vec![
        (0, delta(nasty)),
        (1, EventBody::ToolStarted { tool: call.clone() }),
        (2, done(call, ToolStatus::Failed, Some(1))),
        (
            3,
            EventBody::Notice {
                level: NoticeLevel::Error,
                code: nasty.into(),
                text: nasty.into(),
                data: None,
            },
        ),
        (4, EventBody::EgressBlocked { host: nasty.into(), port: 1, rule: nasty.into() }),
        (
            5,
            EventBody::GitCommit {
                commit: nasty.into(),
                kind: CommitKind::Agent,
                subject: nasty.into(),
            },
        ),
    ];
    let text = rendered(PLAIN, Detail::Everything, bodies);
    assert!(
        !text.contains('\x1b') && !text.contains('\x07') && !text.contains('\u{202e}'),
        "{text:?}"
    );
}

const A_TURN: &str = "\
> Fix the failing test and say what was wrong

  The test is in src/lib.rs.

  I will run the tests first, then look at the one that fails and at the code
  that it is about.

  - one
  - two

  ✓ Read src/lib.rs  12 ms
  ✗ $ cargo test  exit 101  3.2 s
    │ … 3 lines before
    │ test 4 … ok
    │ test 5 … ok
    │ test 6 … ok
    │ test 7 … ok
    │ test 8 … ok
    │ test 9 … ok
    │ test 10 … ok
    │ test 11 … FAILED

  ? It asks to be allowed: Edit src/lib.rs
  ✓ allowed: Edit src/lib.rs

  ✓ Edit src/lib.rs  +2 -1  600 ms

  ! blocked: evil.example:443 (not allowed)

  ## Done

  The test was **right**:
  ```rust
  let b = 2;
  ```";

#[test]
fn a_sub_agents_steps_stand_below_its_name() {
    let task = || tool("a", ToolKind::Think, "Look at the tests", None);
    let below = |id: &str, parent: &str, title: &str| ToolCall {
        parent: Some(parent.into()),
        ..tool(id, ToolKind::Execute, title, None)
    };
    let started = |tool| EventBody::ToolStarted { tool };
    let mut renderer = Renderer::new(PLAIN, Detail::Normal);
    for event in events(vec![
        (0, started(task())),
        (1, started(below("b", "a", "ls tests"))),
        (2, started(below("c", "b", "wc -l"))),
        (5, done(below("c", "b", "wc -l"), ToolStatus::Completed, Some(0))),
        (6, done(below("b", "a", "ls tests"), ToolStatus::Completed, Some(0))),
        (7, started(below("d", "gone", "true"))),
        (8, done(below("d", "gone", "true"), ToolStatus::Completed, Some(0))),
        (9, done(task(), ToolStatus::Completed, None)),
    ]) {
        renderer.event(&event);
    }
    let told = renderer.take();
    assert_eq!(
        told,
        [
            "  ▸ Look at the tests",
            "    ▸ $ ls tests",
            "      ✓ $ wc -l  3 ms",
            "    ✓ $ ls tests  5 ms",
            "  ✓ $ true  1 ms",
            "  ✓ Look at the tests  9 ms",
        ]
    );
}
