//! A conversation that goes on in a new process.

use boatyard_model::{Event, EventBody, PromptMode};
use serde_json::json;

use crate::{
    agent::Resume,
    provider::has,
    quiet,
    talk::{LIMIT, Scene, Talk},
};

pub(super) async fn in_a_new_process(scene: Scene) -> Vec<Talk> {
    let (house, first, second) = (&scene.house, scene.word("first"), scene.word("second"));
    let mut talk = scene.order(&format!("Say: [[say:{first}]]"), json!({})).await;
    assert!(talk.turn(1).await.completed().said().contains(&first));
    talk.settled().await;
    // With its sleep the counters of its network end.
    quiet::nothing_left(house, talk.workspace).await;
    house.client().stop_workspace(talk.workspace).await.unwrap();
    talk.prompt(&format!("And: [[say:{second}]]"), PromptMode::Queue).await;
    let turn = talk.turn(2).await;
    assert!(turn.completed().said().contains(&second), "{turn:?}");
    // What was said before is not said again.
    let answered = format!("[scripted] {first}");
    let is = |seen: &boatyard_egress::scripted::Seen| {
        has(&seen.body, &second) && has(&seen.body, &answered)
    };
    house.provider.request("with the conversation before", LIMIT, is).await;
    // Taken up natively; or told anew, and the user told of that: between two turns.
    let is_lost = |event: &&Event| matches!(&event.body, EventBody::Notice { code, .. } if code == "resume_lost");
    let lost: Vec<&Event> = talk.events.iter().filter(is_lost).collect();
    match house.agent.resume {
        Resume::Native => {
            assert!(lost.is_empty(), "{lost:?}");
            assert!(!turn.said().contains(&first), "{turn:?}");
        }
        Resume::Either => assert_eq!(lost.len() == 1, turn.said().contains(&first), "{turn:?}"),
    }
    vec![talk]
}
