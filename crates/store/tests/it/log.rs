//! A session's log: numbers, repetition, replacement, following.

use std::collections::BTreeMap;

use boatyard_model::{EventBody, SessionId};
use boatyard_store::{Appended, NewEvent, Origin};
use proptest::prelude::*;
use tokio::time::timeout;

use crate::{LONG, delta, event, notice, world};

#[tokio::test]
async fn repetition_is_seen_and_numbers_rise() {
    let world = world().await;
    let session = world.session().await;
    let store = &world.store;
    // The first number told that the session starts.
    let outcome = store
        .append(vec![event(session, 1, notice("a")), event(session, 2, notice("b"))])
        .await
        .unwrap();
    assert_eq!(outcome, [Appended::Stored(2), Appended::Stored(3)]);
    let outcome = store
        .append(vec![
            event(session, 2, notice("b")),
            event(session, 3, notice("c")),
            event(SessionId::new(), 4, notice("?")),
        ])
        .await
        .unwrap();
    assert_eq!(outcome, [Appended::Repeated, Appended::Stored(4), Appended::NoSession]);
    assert_eq!(store.last_origin(session).await.unwrap(), Origin { epoch: 1, n: 3 });
    let world = world.reopened().await;
    let again = world.store.append(vec![event(session, 3, notice("c"))]).await.unwrap();
    assert_eq!(again, [Appended::Repeated]);
    let mut restarted = event(session, 1, notice("d"));
    restarted.origin = Some(Origin { epoch: 2, n: 1 });
    assert_eq!(world.store.append(vec![restarted]).await.unwrap(), [Appended::Stored(5)]);
}

#[tokio::test]
async fn a_whole_message_replaces_its_deltas() {
    let world = world().await;
    let session = world.session().await;
    let store = &world.store;
    let whole = |message: &str, text: &str| EventBody::MessageCompleted {
        message: message.into(),
        text: text.into(),
        blob: None,
    };
    let append = |events: Vec<NewEvent>| store.append(events);
    append(vec![
        event(session, 1, delta("m1", "Hel")),
        event(session, 2, delta("m2", "other")),
        event(session, 3, delta("m1", "lo")),
    ])
    .await
    .unwrap();
    append(vec![event(session, 4, whole("m1", "Hello"))]).await.unwrap();
    let kinds: Vec<_> = store
        .read_events(session, 1, 100)
        .await
        .unwrap()
        .iter()
        .map(|event| (event.seq, event.kind.to_string()))
        .collect();
    assert_eq!(kinds, [(3, "message.delta".into()), (5, "message.completed".into())]);
    // In one batch, and by a writer that did not see the deltas come.
    let world = world.reopened().await;
    world.store.append(vec![event(session, 5, whole("m2", "other"))]).await.unwrap();
    let left = world.store.read_events(session, 1, 100).await.unwrap();
    assert_eq!(left.iter().map(|event| event.seq).collect::<Vec<_>>(), [5, 6]);
    let event = left[1].event().unwrap();
    assert_eq!((event.session, event.seq, event.turn), (session, 6, Some(1)));
    assert_eq!(event.body, whole("m2", "other"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_see_everything_once_fast_or_slow() {
    let world = world().await;
    let session = world.session().await;
    let store = world.store.clone();
    const WRITERS: usize = 8;
    const EACH: usize = 150;
    let total = 1 + (WRITERS * EACH) as u64;
    let mut readers = Vec::new();
    for pause in [0, 0, 3] {
        let mut follower = store.follow_session(session, 0);
        readers.push(tokio::spawn(async move {
            let mut seen = Vec::new();
            while seen.last() != Some(&total) {
                for _ in 0..pause * 20 {
                    tokio::task::yield_now().await;
                }
                let entries = timeout(LONG, follower.next()).await.unwrap().unwrap();
                seen.extend(entries.iter().map(|entry| entry.seq));
            }
            seen
        }));
    }
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let store = store.clone();
        writers.push(tokio::spawn(async move {
            for n in 0..EACH {
                let own =
                    NewEvent::own(session, store.now(), None, notice(&format!("{writer} {n}")));
                store.append(vec![own]).await.unwrap();
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    for reader in readers {
        assert_eq!(reader.await.unwrap(), (1..=total).collect::<Vec<_>>());
    }
    // One that comes late, too.
    let mut late = store.follow_session(session, total - 3);
    assert_eq!(late.next().await.unwrap().len(), 3);
    assert!(late.try_next().await.unwrap().is_empty());
}

#[derive(Debug, Clone)]
enum Step {
    /// The runner of a session sends its next events, beginning so many before what it has sent
    /// already.
    Send { session: usize, again: u64, fresh: u64 },
    /// The server dies and returns.
    Restart,
    /// The workspace is started again: a new epoch.
    Epoch { session: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..3_usize, 0..5_u64, 0..6_u64)
            .prop_map(|(session, again, fresh)| Step::Send { session, again, fresh }),
        1 => Just(Step::Restart),
        1 => (0..3_usize).prop_map(|session| Step::Epoch { session }),
    ];
    proptest::collection::vec(step, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_or_doubled_and_order_is_kept(steps in steps()) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let mut world = world().await;
            let mut sessions = Vec::new();
            for _ in 0..3 {
                sessions.push((world.session().await, 1_u64, 0_u64));
            }
            let mut expected: BTreeMap<SessionId, Vec<String>> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Restart => world = world.reopened().await,
                    Step::Epoch { session } => {
                        sessions[session].1 += 1;
                        sessions[session].2 = 0;
                    }
                    Step::Send { session, again, fresh } => {
                        let (id, epoch, sent) = &mut sessions[session];
                        let from = sent.saturating_sub(again) + 1;
                        let to = *sent + fresh;
                        let events = (from..=to)
                            .map(|n| {
                                let mut event = event(*id, n, notice(&format!("{epoch}.{n}")));
                                event.origin = Some(Origin { epoch: *epoch, n });
                                event
                            })
                            .collect();
                        let outcomes = world.store.append(events).await.unwrap();
                        for (n, outcome) in (from..=to).zip(outcomes) {
                            assert_eq!(matches!(outcome, Appended::Stored(_)), n > *sent);
                        }
                        let told = expected.entry(*id).or_default();
                        told.extend((*sent + 1..=to).map(|n| format!("{epoch}.{n}")));
                        *sent = to;
                    }
                }
            }
            for (id, told) in expected {
                let events = world.store.read_events(id, 1, 1000).await.unwrap();
                let texts: Vec<String> = events
                    .iter()
                    .map(|event| match event.event().unwrap().body {
                        EventBody::Notice { text, .. } => text,
                        other => panic!("{other:?}"),
                    })
                    .collect();
                assert_eq!(texts, told);
                assert!(events.windows(2).all(|pair| pair[0].seq < pair[1].seq));
            }
        });
    }
}
