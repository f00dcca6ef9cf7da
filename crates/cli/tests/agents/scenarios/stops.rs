//! A stop in the middle of a command.

use boatyard_model::{EventBody, PromptMode, TurnOutcome, event::ToolStatus};
use serde_json::json;

use crate::talk::{LIMIT, Scene, Talk};

/// A command that says that it has begun and then waits for a word in a pipe.
pub(super) const HOLD: &str = "[[run:mkfifo /tmp/hold && touch /tmp/begun && cat /tmp/hold]]";

const BEGUN: &str =
    "i=0; until test -e /tmp/begun; do sleep 0.05; i=$((i+1)); test $i -lt 1000 || exit 1; done";

/// Lets it go on.
pub(super) const RELEASE: &str = "echo released > /tmp/hold; rm /tmp/begun /tmp/hold";

/// Waits until that command runs.
pub(super) async fn holds(talk: &mut Talk) {
    let begins = |body: &EventBody| matches!(body, EventBody::ToolStarted { .. });
    talk.until("command", LIMIT, begins).await;
    talk.sh(BEGUN).await;
}

/// Every process of the worker's but those of this script.
const OTHERS: &str = "for p in /proc/[0-9]*; do \
    test \"$(stat -c %u $p 2>/dev/null)\" = \"$(id -u)\" || continue; \
    test ${p#/proc/} = $$ && continue; \
    test \"$(cut -d' ' -f4 $p/stat 2>/dev/null)\" = $$ && continue; \
    tr '\\0' ' ' < $p/cmdline 2>/dev/null && echo; done; true";

pub(super) async fn in_mid_command(scene: Scene) -> Vec<Talk> {
    let word = scene.word("never");
    let mut talk = scene.order(&format!("{HOLD} [[say:{word}]]"), json!({})).await;
    holds(&mut talk).await;
    let ran = talk.sh(OTHERS).await;
    assert!(ran.contains("/tmp/hold"), "the search does not find the command: {ran}");
    let stopped = scene.house.client().stop_session(talk.session).await.unwrap();
    assert!(stopped.ran);
    let left = talk.sh(OTHERS).await;
    let left: Vec<&str> = left.lines().filter(|line| !line.trim().is_empty()).collect();
    assert!(left.is_empty(), "{left:?}");
    let turn = talk.turn(1).await;
    assert_eq!(turn.outcome, TurnOutcome::Cancelled, "{turn:?}");
    assert!(!turn.said().contains(&word), "{turn:?}");
    // What had begun has an end, if not a good one.
    for body in &turn.events {
        if let EventBody::ToolStarted { tool } = body {
            let tools = turn.tools();
            let used = tools.iter().find(|used| used.tool.tool == tool.tool);
            assert!(used.is_some_and(|used| used.status != ToolStatus::Completed), "{turn:?}");
        }
    }
    // The agent is gone; a new one takes the conversation up.
    let again = scene.word("again");
    talk.prompt(&format!("[[say:{again}]]"), PromptMode::Queue).await;
    let turn = talk.turn(2).await;
    assert!(turn.completed().said().contains(&again), "{turn:?}");
    vec![talk]
}
