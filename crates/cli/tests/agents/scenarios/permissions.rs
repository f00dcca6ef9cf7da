//! An agent that asks for everything.

use boatyard_api::session::{Decision, PermissionAnswer};
use boatyard_model::{
    AttemptState, EventBody, PermissionId, PromptMode, SessionState, TurnOutcome,
    event::PermissionOutcome,
};
use serde_json::json;

use crate::{
    agent::Refused,
    talk::{LIMIT, Scene, Talk},
};

pub(super) async fn one_is_refused_and_one_granted(scene: Scene) -> Vec<Talk> {
    let word = scene.word("end");
    let (refused, granted) = ("[[write:refused.txt|1\\n]]", "[[write:granted.txt|2\\n]]");
    let both = format!("{refused} {granted} [[say:{word} {{result}}]]");
    let mut talk = scene.order(&both, json!({ "autonomy": "ask" })).await;
    let asked = asked(&mut talk).await;
    let session = talk.session().await;
    assert_eq!(session.state, SessionState::Waiting);
    assert_eq!(session.permissions.iter().map(|one| one.id).collect::<Vec<_>>(), [asked]);
    answer(&scene, &talk, asked, Decision::Deny).await;
    resolved(&mut talk, asked, PermissionOutcome::Denied).await;
    let (number, state) = match scene.house.agent.refused {
        Refused::GoesOn => (1, AttemptState::Succeeded),
        Refused::Ends => {
            // The task is over with its first turn, as that ended; the conversation is not.
            let state = match talk.turn(1).await.outcome {
                TurnOutcome::Cancelled => AttemptState::Cancelled,
                _ => AttemptState::Succeeded,
            };
            let rest = format!("{granted} [[say:{word} {{result}}]]");
            talk.prompt(&rest, PromptMode::Queue).await;
            (2, state)
        }
    };
    let asked = self::asked(&mut talk).await;
    assert_eq!(talk.sh("ls refused.txt granted.txt 2>/dev/null || true").await, "");
    answer(&scene, &talk, asked, Decision::Allow).await;
    resolved(&mut talk, asked, PermissionOutcome::Allowed).await;
    let turn = talk.turn(number).await;
    assert!(turn.completed().said().contains(&word), "{turn:?}");
    assert_eq!(talk.sh("ls refused.txt granted.txt 2>/dev/null; true").await, "granted.txt\n");
    assert_eq!(talk.settled().await.state, state);
    vec![talk]
}

pub(super) async fn a_command_is_asked_for(scene: Scene) -> Vec<Talk> {
    let run = scene.house.agent.asks_to_run;
    let mut talk = scene.order(&format!("{run} [[say:over]]"), json!({ "autonomy": "ask" })).await;
    let asked = asked(&mut talk).await;
    assert_eq!(talk.sh("ls asked.txt 2>/dev/null; true").await, "");
    answer(&scene, &talk, asked, Decision::Allow).await;
    resolved(&mut talk, asked, PermissionOutcome::Allowed).await;
    talk.turn(1).await.completed();
    assert_eq!(talk.sh("ls asked.txt").await, "asked.txt\n");
    vec![talk]
}

async fn asked(talk: &mut Talk) -> PermissionId {
    let asks = |body: &EventBody| matches!(body, EventBody::PermissionRequested { .. });
    match talk.until("question for a permission", LIMIT, asks).await {
        EventBody::PermissionRequested { permission, .. } => permission,
        other => unreachable!("{other:?}"),
    }
}

async fn answer(scene: &Scene, talk: &Talk, asked: PermissionId, decision: Decision) {
    let answer = PermissionAnswer { option: None, decision: Some(decision) };
    scene.house.client().answer_permission(talk.session, asked, &answer).await.unwrap();
}

async fn resolved(talk: &mut Talk, asked: PermissionId, wanted: PermissionOutcome) {
    let is = |body: &EventBody| {
        matches!(body, EventBody::PermissionResolved { permission, outcome, .. }
            if *permission == asked && *outcome == wanted)
    };
    talk.until("answer to it", LIMIT, is).await;
}
