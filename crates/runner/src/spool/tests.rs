//! The spool as its reader finds it, whatever was written.

use boatyard_link::{record::take, spool::SpoolReader};
use bytes::BytesMut;
use proptest::prelude::*;

use super::*;

const GENERATION: u64 = 5;

fn session() -> SessionId {
    SessionId::from_u128(1)
}

fn said(text: &str) -> Draft {
    let body = EventBody::MessageDelta { message: "m".into(), text: text.into() };
    draft(RecordKind::Event(body))
}

fn draft(what: RecordKind) -> Draft {
    Draft { session: session(), time: Timestamp(1), turn: Some(1), what }
}

fn open(file: &File, capacity: u64) -> Spool {
    Spool::open(file.try_clone().unwrap(), GENERATION, capacity).unwrap().0
}

fn at(n: u64) -> Position {
    Position { epoch: GENERATION, n }
}

fn read_all(spool: &Spool, cursor: &mut Cursor, max: usize) -> Vec<u64> {
    let mut seen = Vec::new();
    loop {
        let mut out = Vec::new();
        spool.read(cursor, max, &mut out).unwrap();
        if out.is_empty() {
            return seen;
        }
        let mut buffer = BytesMut::from(&out[..]);
        while let Some((record, _)) = take(&mut buffer).unwrap() {
            seen.push(record.position.n);
        }
        assert!(buffer.is_empty(), "whole records only");
    }
}

#[tokio::test]
async fn records_are_read_after_any_position_and_survive_a_restart() {
    let file = tempfile::tempfile().unwrap();
    let spool = open(&file, 1 << 20);
    for n in 1..=500 {
        let text = "x".repeat(n);
        assert_eq!(spool.append(&said(&text), &[]).await.unwrap(), at(n as u64));
    }
    let expected: Vec<u64> = (301..=500).collect();
    assert_eq!(read_all(&spool, &mut spool.cursor(Some(at(300))), 4000), expected);
    spool.release(at(300)).unwrap();
    drop(spool);

    let again = open(&file, 1 << 20);
    assert_eq!(again.append(&said("next"), &[]).await.unwrap(), at(501));
    let all = read_all(&again, &mut again.cursor(None), 100);
    assert_eq!(*all.last().unwrap(), 501);
    assert!(all[0] <= 301, "nothing beyond the released is missing");
    assert_eq!(read_all(&again, &mut again.cursor(Some(at(500))), 100), [501]);
}

#[tokio::test]
async fn a_torn_tail_is_cut_and_the_count_goes_on() {
    let file = tempfile::tempfile().unwrap();
    let spool = open(&file, 1 << 20);
    for _ in 0..3 {
        spool.append(&said("whole"), &[]).await.unwrap();
    }
    let length = file.metadata().unwrap().len();
    spool.append(&said("torn"), &[]).await.unwrap();
    drop(spool);
    file.set_len(length + 20).unwrap();

    let again = open(&file, 1 << 20);
    assert_eq!(again.append(&said("again"), &[]).await.unwrap(), at(4));
    assert_eq!(read_all(&again, &mut again.cursor(None), 1 << 20), [1, 2, 3, 4]);
}

#[tokio::test]
async fn a_full_spool_holds_back_until_it_is_released() {
    let file = tempfile::tempfile().unwrap();
    let spool = std::sync::Arc::new(open(&file, 10_000));
    let text = "y".repeat(3000);
    for _ in 0..3 {
        spool.append(&said(&text), &[]).await.unwrap();
    }
    let waiting = {
        let spool = spool.clone();
        let text = text.clone();
        tokio::spawn(async move { spool.append(&said(&text), &[]).await })
    };
    // The task runs up to its wait before this one is polled again.
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    assert!(spool.pending() <= 10_000);
    spool.release(at(3)).unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), at(4));
    assert_eq!(read_all(&spool, &mut spool.cursor(Some(at(3))), 1 << 20), [4]);
}

#[tokio::test]
async fn an_empty_spool_shrinks_and_readers_go_on() {
    let file = tempfile::tempfile().unwrap();
    let spool = open(&file, 16 << 20);
    let mut cursor = spool.cursor(None);
    let blob =
        draft(RecordKind::Blob { blob: boatyard_model::BlobId::new(), mime: "image/png".into() });
    let bytes = vec![7; 1 << 20];
    spool.append(&blob, &bytes).await.unwrap();
    spool.append(&blob, &bytes).await.unwrap();
    assert_eq!(read_all(&spool, &mut cursor, 1000), [1, 2]);
    spool.release(at(2)).unwrap();
    assert_eq!(file.metadata().unwrap().len(), FRAMES_START);
    spool.append(&said("new era"), &[]).await.unwrap();
    assert_eq!(read_all(&spool, &mut cursor, 1000), [3]);
    drop(spool);
    let again = open(&file, 16 << 20);
    assert_eq!(again.append(&said("x"), &[]).await.unwrap(), at(4));
}

#[tokio::test]
async fn the_released_part_becomes_a_hole() {
    use std::os::unix::fs::MetadataExt;
    let file = tempfile::tempfile().unwrap();
    let spool = open(&file, 64 << 20);
    let text = "z".repeat(100_000);
    for _ in 0..100 {
        spool.append(&said(&text), &[]).await.unwrap();
    }
    let before = file.metadata().unwrap().blocks();
    spool.release(at(90)).unwrap();
    let after = file.metadata().unwrap().blocks();
    assert!(after * 4 < before, "{before} blocks became {after}");
    drop(spool);
    let again = open(&file, 64 << 20);
    let all = read_all(&again, &mut again.cursor(Some(at(90))), 1 << 20);
    assert_eq!(all, (91..=100).collect::<Vec<_>>());
    let mut server = SpoolReader::open(&file, Some(at(95))).unwrap().unwrap();
    assert_eq!(server.next_record().unwrap().unwrap().0.position, at(96));
}

#[tokio::test]
async fn open_turns_are_found_again_unless_their_end_is_there() {
    let file = tempfile::tempfile().unwrap();
    let (lost, ended) = (SessionId::new(), session());
    let entry = |session| SessionEntry { session, last_turn: 2, began: Some(Timestamp(9)) };
    let spool = open(&file, 1 << 20);
    spool.keep_sessions(&[entry(lost), entry(ended)]).unwrap();
    let end = EventBody::TurnCompleted {
        outcome: boatyard_model::TurnOutcome::Completed,
        error: None,
        checkpoint: None,
        millis: 3,
    };
    let end = Draft { turn: Some(2), ..draft(RecordKind::Event(end)) };
    spool.append(&end, &[]).await.unwrap();
    drop(spool);
    let (_, sessions) = Spool::open(file.try_clone().unwrap(), GENERATION, 1 << 20).unwrap();
    assert_eq!(sessions, [entry(lost), SessionEntry { began: None, ..entry(ended) }]);
    let (spool, sessions) = Spool::open(file, GENERATION + 1, 1 << 20).unwrap();
    assert_eq!(sessions, [], "another generation's turns are the server's");
    assert_eq!(
        spool.append(&said("x"), &[]).await.unwrap(),
        Position { epoch: GENERATION + 1, n: 1 }
    );
}

#[derive(Debug, Clone)]
enum Step {
    Append(usize),
    Release(usize),
    Read,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_usize..60_000).prop_map(Step::Append),
        2 => (0_usize..6).prop_map(Step::Release),
        2 => Just(Step::Read),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Whatever happens in which order, a reader that goes on after what it has sees each record
    /// once, in order.
    #[test]
    fn nothing_is_lost_or_doubled(steps in proptest::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let file = tempfile::tempfile().unwrap();
        let mut spool = open(&file, 64 << 20);
        let mut cursor = spool.cursor(None);
        let (mut written, mut seen, mut released) = (0, 0, 0);
        for step in steps {
            match step {
                Step::Append(size) => {
                    written += 1;
                    let text = "a".repeat(size);
                    let position = runtime.block_on(spool.append(&said(&text), &[])).unwrap();
                    prop_assert_eq!(position, at(written));
                }
                Step::Release(back) => {
                    released = released.max(seen.max(back as u64) - back as u64);
                    spool.release(at(released)).unwrap();
                }
                Step::Read => {
                    for n in read_all(&spool, &mut cursor, 50_000) {
                        seen += 1;
                        prop_assert_eq!(n, seen);
                    }
                    prop_assert_eq!(seen, written);
                }
                Step::Restart => {
                    drop(spool);
                    spool = open(&file, 64 << 20);
                    cursor = spool.cursor((seen > 0).then(|| at(seen)));
                }
            }
        }
    }
}
