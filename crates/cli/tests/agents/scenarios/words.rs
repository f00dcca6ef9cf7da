//! A word in the middle of a turn.

use boatyard_model::{EventBody, PromptMode, TurnOutcome, event::ToolCall};
use serde_json::json;

use super::{
    faults,
    stops::{HOLD, RELEASE, holds},
};
use crate::{
    agent::{Steer, Told},
    talk::{LIMIT, Scene, Talk},
};

pub(super) async fn steered_in_mid_turn(scene: Scene) -> Vec<Talk> {
    let (first, steered) = (scene.word("first"), scene.word("steered"));
    // The answer after the command takes seconds: the message comes into it.
    let prompt = format!("[[pace:100]] {HOLD} [[say:{first} {}]]", faults::words(60));
    let mut talk = scene.order(&prompt, json!({})).await;
    holds(&mut talk).await;
    talk.prompt(&format!("[[say:{steered}]]"), PromptMode::Steer).await;
    // At the next tool boundary, so not before the command is done.
    talk.sh(RELEASE).await;
    let turn = talk.turn(1).await;
    turn.completed();
    let into = turn.events.iter().filter_map(|body| match body {
        EventBody::TurnSteered { restarted, .. } => Some(*restarted),
        _ => None,
    });
    let restarts = scene.house.agent.steer == Steer::Restart;
    assert_eq!(into.collect::<Vec<_>>(), [restarts], "{turn:?}");
    // The model has it.
    let is = |seen: &boatyard_egress::scripted::Seen| crate::provider::has(&seen.body, &steered);
    scene.house.provider.request("with the new word", LIMIT, is).await;
    assert!(turn.said().contains(&steered), "{turn:?}");
    vec![talk]
}

pub(super) async fn queued_in_mid_turn(scene: Scene) -> Vec<Talk> {
    let (first, second) = (scene.word("first"), scene.word("second"));
    let mut talk = scene.order(&format!("{HOLD} [[say:{first}]]"), json!({})).await;
    holds(&mut talk).await;
    talk.prompt(&format!("[[say:{second}]]"), PromptMode::Queue).await;
    talk.sh(RELEASE).await;
    let turn = talk.turn(1).await;
    let said = turn.completed().said();
    assert!(said.contains(&first) && !said.contains(&second), "{turn:?}");
    let turn = talk.turn(2).await;
    assert!(turn.completed().said().contains(&second), "{turn:?}");
    vec![talk]
}

pub(super) async fn printed_while_it_runs(scene: Scene) -> Vec<Talk> {
    let printed = scene.word("printed");
    // What is printed in a command's first moments, Codex does not tell.
    let command = format!(
        "mkfifo /tmp/hold && touch /tmp/begun && sleep 2 && echo {printed} && cat /tmp/hold"
    );
    let mut talk = scene.order(&format!("[[run:{command}]] [[say:over]]"), json!({})).await;
    holds(&mut talk).await;
    if scene.house.agent.live == Told::Yes {
        let has = |tool: &ToolCall| tool.output.as_ref().is_some_and(|all| all.contains(&printed));
        let prints =
            |body: &EventBody| matches!(body, EventBody::ToolUpdated { tool } if has(tool));
        talk.until("output of a command that runs", LIMIT, prints).await;
    }
    talk.sh(RELEASE).await;
    let turn = talk.turn(1).await;
    let tools = turn.completed().tools();
    if scene.house.agent.output == Told::Yes {
        let output = tools.last().unwrap().tool.output.as_deref().unwrap_or_default();
        assert_eq!(output.matches(&printed).count(), 1, "{turn:?}");
        assert!(output.contains("released"), "{turn:?}");
    }
    vec![talk]
}

pub(super) async fn interrupted_in_mid_turn(scene: Scene) -> Vec<Talk> {
    let (first, second) = (scene.word("first"), scene.word("second"));
    let mut talk = scene.order(&format!("{HOLD} [[say:{first}]]"), json!({})).await;
    holds(&mut talk).await;
    talk.prompt(&format!("[[say:{second}]]"), PromptMode::Interrupt).await;
    let turn = talk.turn(1).await;
    assert_eq!(turn.outcome, TurnOutcome::Cancelled, "{turn:?}");
    assert!(!turn.said().contains(&first), "{turn:?}");
    let turn = talk.turn(2).await;
    assert!(turn.completed().said().contains(&second), "{turn:?}");
    vec![talk]
}
