//! A picture with a prompt.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use boatyard_model::{AttemptState, EventBody};
use serde_json::json;

use crate::{
    provider::has,
    talk::{LIMIT, Scene, Talk},
};

const PICTURE: &[u8] = include_bytes!("../picture.png");

pub(super) async fn a_picture_reaches_the_model(scene: Scene) -> Vec<Talk> {
    let word = scene.word("seen");
    let client = scene.house.client();
    let blob = client.create_blob("image/png", PICTURE).await.unwrap().id;
    let prompt = format!("[[say:{word}]]");
    let mut talk = scene.order(&prompt, json!({ "images": [blob] })).await;
    let turn = talk.turn(1).await;
    assert!(turn.completed().said().contains(&word), "{turn:?}");
    // As it was uploaded, byte for byte.
    let encoded = STANDARD.encode(PICTURE);
    let is = |seen: &boatyard_egress::scripted::Seen| {
        has(&seen.body, &word) && has(&seen.body, &encoded)
    };
    scene.house.provider.request("with the picture", LIMIT, is).await;
    let begun = |body: &EventBody| {
        matches!(body, EventBody::TurnStarted { content, .. }
            if format!("{content:?}").contains(&blob.to_string()))
    };
    assert!(talk.events.iter().any(|event| begun(&event.body)), "{:?}", talk.events);
    assert_eq!(talk.settled().await.state, AttemptState::Succeeded);
    vec![talk]
}
