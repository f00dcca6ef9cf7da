//! A process that writes is killed; what it was told is stored is there.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use boatyard_model::EventBody;
use boatyard_store::{Appended, Origin};

use crate::{ManualClock, event, notice, open, world};

const CHILD: &str = "BOATYARD_STORE_TEST_CHILD";

/// Not a test by itself: the process that [`what_was_acknowledged_survives_a_kill`] kills. It
/// stores events from where the log ends, and says each number that it was given.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_until_it_is_killed() {
    let Ok(order) = std::env::var(CHILD) else { return };
    let (path, session) = order.split_once(' ').unwrap();
    let session = session.parse().unwrap();
    let store = open(Path::new(path), &Arc::new(ManualClock::default())).await;
    let first = store.last_origin(session).await.unwrap().n + 1;
    for n in (first..).step_by(3) {
        let events = (n..n + 3)
            .map(|n| {
                let mut event = event(session, n, notice(&n.to_string()));
                event.origin = Some(Origin { epoch: 1, n });
                event
            })
            .collect();
        let outcomes = store.append(events).await.unwrap();
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Appended::Stored(_))));
        let mut out = std::io::stdout().lock();
        writeln!(out, "\nstored {}", n + 2).unwrap();
        out.flush().unwrap();
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let mut world = world().await;
    let session = world.session().await;
    let mut told = 0_u64;
    for round in 1..=6_usize {
        world.store.clone().close().await.unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed::writes_until_it_is_killed", "--nocapture"])
            .env(CHILD, format!("{} {session}", world.path.display()))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let stored = lines.map_while(Result::ok).filter_map(|line| {
            line.strip_prefix("stored ").and_then(|n| n.trim().parse::<u64>().ok())
        });
        // At another moment each time, in the middle of whatever it does.
        for n in stored.take(round * 7) {
            told = n;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        world = world.reopened().await;
        let events = world.store.read_events(session, 1, 100_000).await.unwrap();
        let texts = events.iter().map(|event| match event.event().unwrap().body {
            EventBody::Notice { text, .. } => text.parse::<u64>().unwrap(),
            other => panic!("{other:?}"),
        });
        let numbers: Vec<u64> = texts.collect();
        let distinct: BTreeSet<u64> = numbers.iter().copied().collect();
        assert_eq!(distinct.len(), numbers.len(), "none twice");
        assert!(numbers.iter().copied().eq(1..=numbers.len() as u64), "in order, without a gap");
        assert!(numbers.len() as u64 >= told, "told {told}, found {}", numbers.len());
        assert!(numbers.len().is_multiple_of(3), "a call is stored wholly or not at all");
        world.store.check().await.unwrap();
    }
    assert!(told > 0);
}
