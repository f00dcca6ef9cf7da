//! What every agent must do, once for all of them.
//!
//! A scenario takes a [`Scene`], orders tasks and asserts what comes of them. They run side by side
//! in one house, since most of their time is waiting; those that kill the server come last.

mod elsewhere;
mod escape;
mod faults;
mod images;
mod kills;
mod permissions;
mod plans;
mod resume;
mod stops;
mod words;
mod work;

use std::{future::Future, pin::Pin, sync::Arc};

use boatyard_api::session::TranscriptQuery;
use tokio::task::JoinSet;

use crate::{
    house::House,
    quiet,
    talk::{Scene, Talk},
};

type Scenario = fn(Scene) -> Pin<Box<dyn Future<Output = Vec<Talk>> + Send>>;

macro_rules! scenarios {
    ($($name:literal => $path:path,)*) => {
        [$(($name, (|scene| Box::pin($path(scene))) as Scenario)),*]
    };
}

/// Side by side; those that wait longest first.
fn together() -> Vec<(&'static str, Scenario)> {
    scenarios! {
        "error-500-for-ever" => faults::errors_for_ever,
        "unauthorized" => faults::unauthorized,
        "rate-limit" => faults::rate_limit,
        "error-500-twice" => faults::errors_twice,
        "silence" => faults::silence,
        "resume" => resume::in_a_new_process,
        "escape" => escape::everything_is_tried,
        "write" => work::a_file_and_a_command,
        "ask" => permissions::one_is_refused_and_one_granted,
        "ask-to-run" => permissions::a_command_is_asked_for,
        "picture" => images::a_picture_reaches_the_model,
        "stop" => stops::in_mid_command,
        "steer" => words::steered_in_mid_turn,
        "queue" => words::queued_in_mid_turn,
        "live" => words::printed_while_it_runs,
        "plan" => plans::a_plan_is_made,
        "delegate" => plans::a_sub_agent_works,
        "interrupt" => words::interrupted_in_mid_turn,
        "cut" => faults::cut,
        "malformed" => faults::malformed,
        "huge" => faults::huge,
    }
    .to_vec()
}

/// Alone: they end the server under everything else.
fn alone() -> Vec<(&'static str, Scenario)> {
    scenarios! {
        "kill" => kills::the_server_in_mid_turn,
    }
    .to_vec()
}

/// The last: the agent has another provider from then on.
fn last() -> Vec<(&'static str, Scenario)> {
    scenarios! {
        "elsewhere" => elsewhere::at_a_provider_of_ones_own,
    }
    .to_vec()
}

/// Runs all of them and fails with those that fail.
pub(crate) async fn run(house: Arc<House>) {
    let only = std::env::var("BOATYARD_SCENES").ok();
    let wanted = |(name, _): &(&'static str, Scenario)| {
        only.as_ref().is_none_or(|only| only.split(',').any(|one| one == *name))
    };
    let mut failed = Vec::new();
    for scenarios in [together(), alone(), last()] {
        let mut running = JoinSet::new();
        for (name, scenario) in scenarios.into_iter().filter(wanted) {
            let scene = Scene { house: Arc::clone(&house), name };
            running.spawn(async move {
                let begun = std::time::Instant::now();
                let outcome = tokio::spawn(checked(scene, scenario)).await;
                (name, outcome, begun.elapsed())
            });
        }
        while let Some(ended) = running.join_next().await {
            let (name, outcome, took) = ended.unwrap();
            let agent = house.agent.name;
            match outcome {
                Ok(()) if only.is_some() => eprintln!("{agent} {name}: {took:.1?}"),
                Ok(()) => {}
                Err(error) => {
                    eprintln!(
                        "=== {agent} {name} failed after {took:.1?}: {}",
                        short(&error.to_string())
                    );
                    report(&house, name).await;
                    failed.push(name);
                }
            }
        }
    }
    if !failed.is_empty() {
        eprintln!("=== the server's log\n{}", house.log());
    }
    assert!(failed.is_empty(), "{}: {failed:?}", house.agent.name);
    quiet::provider_saw_the_key(&house);
}

/// A scenario, and that its workspaces were quiet.
async fn checked(scene: Scene, scenario: Scenario) {
    let house = Arc::clone(&scene.house);
    for talk in scenario(scene).await {
        quiet::nothing_blocked(&talk);
        quiet::nothing_left(&house, talk.workspace).await;
        quiet::nothing_came_in(&house, talk.workspace).await;
        // An agent that waits for more holds half a gigabyte.
        house.client().stop_workspace(talk.workspace).await.unwrap();
    }
}

/// The beginning of a text for people.
fn short(text: &str) -> &str {
    &text[..text.floor_char_boundary(2000)]
}

/// Shows what is known of a scenario that failed.
async fn report(house: &House, name: &'static str) {
    for session in house.of(name) {
        eprintln!("--- {session}");
        let query = TranscriptQuery { after: None, before: None, limit: Some(200) };
        match house.client().read_transcript(session, &query).await {
            Ok(transcript) => {
                for event in transcript.events {
                    let shown = serde_json::to_string(&event).unwrap_or_default();
                    eprintln!("{}", short(&shown));
                }
            }
            Err(error) => eprintln!("no transcript: {error}"),
        }
    }
    eprintln!("--- what the provider was asked\n{}", house.provider.told(name));
}
