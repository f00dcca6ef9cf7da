//! A word in the middle of a turn.

use boatyard_model::{EventBody, PromptMode, TurnOutcome};
use serde_json::json;

use super::stops::{HOLD, RELEASE, holds};
use crate::talk::{LIMIT, Scene, Talk};

pub(super) async fn steered_in_mid_turn(scene: Scene) -> Vec<Talk> {
    let (first, steered) = (scene.word("first"), scene.word("steered"));
    let mut talk = scene.order(&format!("{HOLD} [[say:{first}]]"), json!({})).await;
    holds(&mut talk).await;
    talk.prompt(&format!("[[say:{steered}]]"), PromptMode::Steer).await;
    // At the next tool boundary, so not before the command is done.
    talk.sh(RELEASE).await;
    let turn = talk.turn(1).await;
    turn.completed();
    let into = |body: &EventBody| matches!(body, EventBody::TurnSteered { .. });
    assert!(turn.events.iter().any(into), "{turn:?}");
    // The model has it.
    let is = |seen: &boatyard_egress::scripted::Seen| crate::provider::has(&seen.body, &steered);
    scene.house.provider.request("with the new word", LIMIT, is).await;
    assert!(turn.said().contains(&steered), "{turn:?}");
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
