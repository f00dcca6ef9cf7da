//! Bad days of the provider.

use boatyard_model::{AttemptState, EventBody, TurnOutcome};
use serde_json::json;

use crate::{
    agent::Met,
    talk::{PATIENCE, Scene, Talk},
};

/// How long the silence is: as long as models are silent at times.
const SILENCE: &str = "pause60";

pub(super) async fn rate_limit(scene: Scene) -> Vec<Talk> {
    meet(scene, "429*2").await
}

pub(super) async fn errors_twice(scene: Scene) -> Vec<Talk> {
    meet(scene, "500*2").await
}

pub(super) async fn errors_for_ever(scene: Scene) -> Vec<Talk> {
    meet(scene, "500").await
}

pub(super) async fn unauthorized(scene: Scene) -> Vec<Talk> {
    meet(scene, "401").await
}

pub(super) async fn cut(scene: Scene) -> Vec<Talk> {
    meet(scene, "cut*1").await
}

pub(super) async fn silence(scene: Scene) -> Vec<Talk> {
    meet(scene, SILENCE).await
}

pub(super) async fn malformed(scene: Scene) -> Vec<Talk> {
    meet(scene, "malformed*1").await
}

async fn meet(scene: Scene, fault: &str) -> Vec<Talk> {
    let word = scene.word("whole");
    let text = format!("{word}, and more of it: {} the end.", words(40));
    // Slowly, so that what comes before a fault in mid-stream has arrived.
    let prompt = format!("[[fault:{fault}]] [[pace:50]] [[say:{text}]]");
    let mut talk = scene.order(&prompt, json!({})).await;
    let met = scene.house.agent.meets(fault);
    let turn = ended(&mut talk, met, &text).await;
    if scene.house.agent.retries.contains(&fault) {
        assert_eq!(turn.notices("retry").len(), 2, "{turn:?}");
    } else if ["429*2", "500*2"].contains(&fault) {
        // What the agent does in silence, the server tells.
        assert!(!turn.notices("provider_retry").is_empty(), "{turn:?}");
    }
    vec![talk]
}

/// So many words, none of them twice: some agents end a turn that repeats itself.
pub(super) fn words(count: u32) -> String {
    let word = |n: u32| format!("{:x} ", (n + 1).wrapping_mul(0x9E37_79B1));
    (0..count).map(word).collect()
}

/// The turn is over as it should be, and so is the task.
pub(super) async fn ended(talk: &mut Talk, met: Met, text: &str) -> crate::talk::Turn {
    let turn = talk.turn_within(1, PATIENCE).await;
    let task = talk.settled().await;
    match met {
        Met::Answered | Met::Repeated => {
            turn.completed();
            // Whole and once, whatever came of it before.
            let said = turn.said();
            assert_eq!(said.matches(text).count(), 1, "{turn:?}");
            let begun = said.matches("[scripted]").count();
            assert!(begun == 1 || met == Met::Repeated && begun == 2, "{turn:?}");
            assert_eq!(task.state, AttemptState::Succeeded, "{task:?}");
            assert!(task.attempts[0].reason.is_none(), "{task:?}");
        }
        Met::Continued => {
            assert!(turn.completed().said().starts_with("[scripted] "), "{turn:?}");
            assert_eq!(task.state, AttemptState::Succeeded, "{task:?}");
        }
        Met::Failed(words) => {
            assert_eq!(turn.outcome, TurnOutcome::Failed, "{turn:?}");
            assert_eq!(task.state, AttemptState::Failed, "{task:?}");
            let reason = task.attempts[0].reason.as_ref().unwrap();
            for word in words {
                assert!(reason.text.contains(word), "`{word}` is not in: {reason:?}");
                assert!(turn.error.as_ref().is_some_and(|error| error.contains(word)), "{turn:?}");
            }
        }
    }
    turn
}

/// Five megabytes: the transcript has the beginning, a blob has all of it.
pub(super) async fn huge(scene: Scene) -> Vec<Talk> {
    let mut talk = scene.order("[[script:huge]]", json!({})).await;
    let turn = talk.turn_within(1, PATIENCE).await;
    turn.completed();
    let whole = turn.events.iter().find_map(|body| match body {
        EventBody::MessageCompleted { text, blob: Some(blob), .. } => Some((text, *blob)),
        _ => None,
    });
    let (text, blob) = whole.expect("a message with a blob");
    assert!(text.len() <= 256 << 10, "{}", text.len());
    let bytes = scene.house.client().read_blob(blob).await.unwrap().bytes;
    let all = String::from_utf8(bytes.to_vec()).unwrap();
    let line = "This is one line of a long answer that no model wrote, with its number: ";
    let count = 5_000_000 / line.len();
    let expected: String = (1..=count).map(|number| format!("{line}{number}\n")).collect();
    assert_eq!(all.trim_end().len(), "[scripted] ".len() + expected.trim_end().len());
    assert!(all.trim_end() == format!("[scripted] {expected}").trim_end(), "not as it was sent");
    let beginning = &text[..text.floor_char_boundary(100 << 10)];
    assert!(all.starts_with(beginning), "the beginning is another");
    assert_eq!(talk.settled().await.state, AttemptState::Succeeded);
    vec![talk]
}
