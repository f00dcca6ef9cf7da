//! Limits hold for a workspace as a whole, and hold nobody else up.

use std::time::Duration;

use boatyard_link::message::ExecExit;
use boatyard_model::WorkspaceId;

use super::{Place, Suite, marked, until};

pub async fn a_fork_bomb_stays_inside(suite: &Suite) {
    if !suite.limits {
        return;
    }
    let mut place = Place::create(suite).await;
    place.limits.processes = 100;
    let inside = place.start().await;
    let mark = WorkspaceId::new().to_string();
    // Each process of the bomb has the mark among its arguments; it never gives up.
    let bomb = format!("bomb() {{ while :; do bomb & done 2>/dev/null; }}; bomb # {mark}");
    let command = ["/bin/bash", "-c", &bomb, &mark];
    let running = inside.start(&command, None).await;
    until("the bomb goes off", || marked(&mark).len() >= 50).await;
    assert!(marked(&mark).len() <= 100);
    // Others are not held up.
    let (other, in_other) = Place::started(suite).await;
    assert_eq!(in_other.sh("echo well").await.ok(), "well\n");
    other.remove().await;

    place.kill().await;
    assert!(marked(&mark).is_empty());
    drop(running);
    let inside = place.start().await;
    assert_eq!(inside.sh("echo well").await.ok(), "well\n");
    place.remove().await;
}

pub async fn a_memory_bomb_is_killed(suite: &Suite) {
    if !suite.limits {
        return;
    }
    let mut place = Place::create(suite).await;
    place.limits.memory_bytes = 128 << 20;
    let inside = place.start().await;
    // `tail` keeps one endless line in memory.
    let bomb = inside.start(&["/usr/bin/tail", "/dev/zero"], Some(Duration::from_secs(60))).await;
    let bomb = tokio::spawn(bomb.output());
    match bomb.await {
        // Its process was chosen alone.
        Ok(output) => assert!(
            matches!(output.exit, ExecExit::Signalled { .. } | ExecExit::Exited { code: 1.. }),
            "{output:?}"
        ),
        // The whole workspace was: its link is gone.
        Err(_) => inside.ended().await,
    }
    place.kill().await;
    let inside = place.start().await;
    assert_eq!(inside.sh("echo well").await.ok(), "well\n");
    // What lies in /tmp is memory and counts as such.
    let filled = inside.sh("head -c 300M /dev/zero > /tmp/big; echo $?; rm -f /tmp/big").await;
    assert_ne!(filled.stdout, "0\n");
    place.remove().await;
}
