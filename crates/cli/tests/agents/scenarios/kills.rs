//! `kill -9` of the server in the middle of turns.

use std::collections::HashSet;

use boatyard_model::{AttemptState, Event, EventBody};
use serde_json::json;

use super::{
    faults::{ended, words},
    stops::{HOLD, RELEASE, holds},
};
use crate::talk::{LIMIT, Scene, Talk};

pub(super) async fn the_server_in_mid_turn(scene: Scene) -> Vec<Talk> {
    let word = scene.word("after");
    let prompt = format!("[[write:kept.txt|kept\\n]] {HOLD} [[say:{word} {{result}}]]");
    let mut runs = scene.order(&prompt, json!({})).await;
    // One is in the middle of an answer.
    let last = scene.word("last");
    let text = format!("{} {last}", words(1000));
    let long = format!("[[pace:10]] [[say:{text}]]");
    let mut says = scene.order(&long, json!({})).await;
    holds(&mut runs).await;
    let begins = |body: &EventBody| matches!(body, EventBody::MessageDelta { .. });
    says.until("word of an answer", LIMIT, begins).await;
    scene.house.kill_server().await;
    runs.follow_again();
    says.follow_again();
    runs.sh(RELEASE).await;

    let turn = runs.turn(1).await;
    assert!(turn.completed().said().contains(&word), "{turn:?}");
    let task = runs.settled().await;
    assert_eq!(task.state, AttemptState::Succeeded, "{task:?}");
    let result = task.attempts[0].result.as_ref().unwrap();
    let files: Vec<&str> = result.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(files, ["kept.txt"]);
    once(&runs.events);

    // The answer was cut for the agent as well: it asks again.
    let met = scene.house.agent.meets("cut*1");
    ended(&mut says, met, &text).await;
    once(&says.events);
    vec![runs, says]
}

/// Nothing has two numbers, nothing is there twice.
fn once(events: &[Event]) {
    let numbers: Vec<u64> = events.iter().map(|event| event.seq).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    let mut seen = HashSet::new();
    for event in events {
        let about = match &event.body {
            body @ (EventBody::MessageCompleted { .. }
            | EventBody::ThoughtCompleted { .. }
            | EventBody::ToolStarted { .. }
            | EventBody::ToolCompleted { .. }) => body.item().unwrap_or_default().to_owned(),
            EventBody::TurnStarted { .. } | EventBody::TurnCompleted { .. } => {
                format!("turn {:?}", event.turn)
            }
            _ => continue,
        };
        assert!(seen.insert((event.body.kind(), about)), "twice: {event:?}");
    }
}
