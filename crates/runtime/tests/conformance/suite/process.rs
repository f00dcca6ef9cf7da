//! Processes: started once, ended all.

use std::time::Duration;

use boatyard_model::WorkspaceId;
use boatyard_runtime::{Error, Frozen};

use super::{Place, Suite, assert_error, marked, until};

pub async fn a_start_is_idempotent(suite: &Suite) {
    let (mut place, inside) = Place::started(suite).await;
    let (_running, line) = inside.start_until_line("echo $$; sleep 1000").await;
    assert!(!line.is_empty());
    suite.runtime.start(place.id, &place.spec()).await.unwrap();
    assert_eq!(inside.sh(&format!("kill -0 {line}; echo $?")).await.ok(), "0\n");
    place.generation += 1;
    assert_error!(suite.runtime.start(place.id, &place.spec()).await, Error::Running(_));
    place.generation -= 1;
    place.remove().await;
}

/// Every way to get away that a process has.
pub async fn nothing_outlives_a_kill(suite: &Suite) {
    let (place, inside) = Place::started(suite).await;
    let mark = WorkspaceId::new().to_string();
    let script = format!(
        "sleeper() {{ exec -a sleeper bash -c 'trap \"\" TERM HUP INT; while :; do sleep 100; done' {mark}; }}
         sleeper & setsid bash -c \"$(declare -f sleeper); sleeper\" &
         ( ( sleeper & ) & ) ; nohup bash -c \"$(declare -f sleeper); sleeper\" >/dev/null 2>&1 &
         echo up; wait"
    );
    let (_running, line) = inside.start_until_line(&script).await;
    assert_eq!(line, "up");
    until("the sleepers are seen", || marked(&mark).len() >= 4).await;
    let took = place.kill().await;
    assert!(marked(&mark).is_empty(), "{took:?}");
    inside.ended().await;
    place.remove().await;
}

pub async fn a_lost_link_is_made_again(suite: &Suite) {
    let (place, inside) = Place::started(suite).await;
    inside.sh("echo kept > /tmp/file").await.ok();
    drop(inside);
    // Private, and alive as long as the workspace.
    let one = place.connect().await;
    assert_eq!(one.sh("cat /tmp/file").await.ok(), "kept\n");
    // A server that comes takes the place of the one before, which may be a ghost.
    let two = place.connect().await;
    assert_eq!(two.sh("cat /tmp/file").await.ok(), "kept\n");
    one.ended().await;
    place.remove().await;
}

pub async fn a_frozen_workspace_stands_still(suite: &Suite) {
    let (place, inside) = Place::started(suite).await;
    let (mut running, _) = inside.start_until_line("while :; do echo tick; sleep 0.01; done").await;
    suite.runtime.set_frozen(place.id, Frozen::Yes).await.unwrap();
    // What was on its way may still come; then there is silence.
    while running.speaks_within(Duration::from_millis(300)).await {}
    suite.runtime.set_frozen(place.id, Frozen::No).await.unwrap();
    assert!(running.speaks_within(super::PATIENCE).await);
    // A frozen one can be killed.
    suite.runtime.set_frozen(place.id, Frozen::Yes).await.unwrap();
    place.remove().await;
}
