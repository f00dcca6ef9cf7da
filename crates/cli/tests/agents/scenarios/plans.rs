//! What an agent plans, and what it has another of its own do.

use boatyard_model::{EventBody, event::PlanEntry};
use serde_json::json;

use crate::{
    agent::{PLAN, Told},
    talk::{Scene, Talk},
};

pub(super) async fn a_plan_is_made(scene: Scene) -> Vec<Talk> {
    let Some(plan) = scene.house.agent.plan else { return Vec::new() };
    let mut talk = scene.order(&format!("{plan} [[say:planned]]"), json!({})).await;
    let turn = talk.turn(1).await;
    turn.completed();
    let plans: Vec<&Vec<PlanEntry>> = turn
        .events
        .iter()
        .filter_map(|body| match body {
            EventBody::Plan { entries } => Some(entries),
            _ => None,
        })
        .collect();
    let last = plans.last().expect("a plan");
    let last: Vec<_> = last.iter().map(|entry| (entry.text.as_str(), entry.status)).collect();
    assert_eq!(last, PLAN, "{turn:?}");
    // None is told twice, and it is no tool call beside.
    assert!(plans.windows(2).all(|two| two[0] != two[1]), "{plans:?}");
    assert!(turn.tools().is_empty(), "{turn:?}");
    vec![talk]
}

pub(super) async fn a_sub_agent_works(scene: Scene) -> Vec<Talk> {
    let Some(delegate) = scene.house.agent.delegate else { return Vec::new() };
    let (errand, back) = (scene.word("errand"), scene.word("back"));
    let told = format!("((run:echo {errand} > errand.txt && cat errand.txt)) ((say:{back}))");
    let call = delegate.call.replace("ERRAND", &told);
    let mut talk = scene.order(&format!("{call} [[say:It said: {{result}}]]"), json!({})).await;
    let turn = talk.turn(1).await;
    // It did it, and the agent heard of that.
    assert!(turn.completed().said().contains(&back), "{turn:?}");
    assert_eq!(talk.sh("cat errand.txt").await, format!("{errand}\n"));
    let tools = turn.tools();
    let began = &tools.iter().find(|used| used.tool.parent.is_none()).expect("a call").tool.tool;
    let below = tools.iter().find(|used| used.tool.parent.is_some());
    match delegate.told {
        Told::No => assert!(below.is_none(), "{turn:?}"),
        Told::Yes => {
            let below = below.expect("what the sub-agent did");
            assert_eq!(below.tool.parent.as_ref(), Some(began), "{turn:?}");
            let output = below.tool.output.as_deref().unwrap_or_default();
            assert!(output.contains(&errand), "{turn:?}");
        }
    }
    vec![talk]
}
