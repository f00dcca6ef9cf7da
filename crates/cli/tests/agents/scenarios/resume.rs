//! A conversation that goes on in a new process.

use boatyard_api::{session::NewPrompt, workspace::ForkRequest};
use boatyard_model::{Event, EventBody, PromptMode};
use serde_json::json;

use crate::{
    provider::has,
    quiet,
    talk::{LIMIT, Scene, Talk, sh},
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
    // By its own memory: it is not told what was said.
    let is_lost = |event: &&Event| matches!(&event.body, EventBody::Notice { code, .. } if code == "resume_lost");
    let lost: Vec<&Event> = talk.events.iter().filter(is_lost).collect();
    assert!(lost.is_empty(), "{lost:?}");
    assert!(!turn.said().contains(&first), "{turn:?}");
    in_a_fork(&scene, &talk, &first).await;
    vec![talk]
}

/// A fork has the homes as it has all files; who begins a conversation there begins it anew.
async fn in_a_fork(scene: &Scene, talk: &Talk, before: &str) {
    let (house, word) = (&scene.house, scene.word("forked"));
    let client = house.client();
    let same = ForkRequest::default();
    let fork = client.fork_workspace(talk.workspace, &same, None).await.unwrap().id;
    let new = json!({ "workspace": fork, "agent": house.agent.name });
    let new = serde_json::from_value(new).unwrap();
    let session = client.create_session(&new, None).await.unwrap().id;
    let text = format!("[[say:{word}]]");
    let prompt = NewPrompt { text, images: Vec::new(), mode: PromptMode::Queue };
    client.create_prompt(session, &prompt, None).await.unwrap();
    let is = |seen: &boatyard_egress::scripted::Seen| has(&seen.body, &word);
    let asked = house.provider.request("from the fork", LIMIT, is).await;
    assert!(!has(&asked.body, before), "the fork's conversation has the other's words");
    let mut homes = [talk.session, session].map(|session| session.to_string());
    homes.sort_unstable();
    assert_eq!(sh(house, fork, "ls /home/sessions", "").await, homes.join("\n") + "\n");
    client.delete_workspace(fork).await.unwrap();
}
