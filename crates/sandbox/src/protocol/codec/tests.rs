//! Requests and answers as properties: there and back, and never a panic.

use proptest::{collection::vec, prelude::*};

use super::*;

fn ids() -> impl Strategy<Value = u128> {
    1..=u128::MAX
}

fn starts() -> impl Strategy<Value = Start> {
    let limits = (any::<u64>(), any::<u32>(), any::<u32>(), any::<u64>(), any::<u64>()).prop_map(
        |(memory_bytes, processes, cpu_millis, tmp_bytes, disk_bytes)| Limits {
            memory_bytes,
            processes,
            cpu_millis,
            tmp_bytes,
            disk_bytes,
        },
    );
    (
        ids(),
        any::<u64>(),
        vec(ids(), 0..=LOWERS_MAX),
        proptest::option::of(ids()),
        limits,
        prop_oneof![Just(Network::None), Just(Network::Egress)],
    )
        .prop_map(|(ws, generation, lowers, mirror, limits, network)| Start {
            ws,
            generation,
            lowers,
            mirror,
            limits,
            network,
        })
}

fn requests() -> impl Strategy<Value = Request> {
    prop_oneof![
        starts().prop_map(Request::Start),
        ids().prop_map(|ws| Request::Create { ws }),
        ids().prop_map(|ws| Request::Kill { ws }),
        ids().prop_map(|ws| Request::Remove { ws }),
        ids().prop_map(|layer| Request::RemoveLayer { layer }),
        ids().prop_map(|ws| Request::Freeze { ws }),
        ids().prop_map(|ws| Request::Thaw { ws }),
        (ids(), ids(), prop_oneof![Just(SnapshotMode::Rename), Just(SnapshotMode::Copy)])
            .prop_map(|(ws, layer, mode)| Request::Snapshot { ws, layer, mode }),
        any::<u128>().prop_map(|after| Request::List { after }),
        any::<u128>().prop_map(|after| Request::ListLayers { after }),
        ids().prop_map(|ws| Request::Usage { ws }),
        ids().prop_map(|layer| Request::LayerUsage { layer }),
        (ids(), ids()).prop_map(|(ws, tool)| Request::KeepTool { ws, tool }),
        any::<u128>().prop_map(|after| Request::ListTools { after }),
        ids().prop_map(|tool| Request::RemoveTool { tool }),
        ids().prop_map(|tool| Request::ToolUsage { tool }),
        ids().prop_map(|ws| Request::OpenSpool { ws }),
        ids().prop_map(|ws| Request::Sync { ws }),
        Just(Request::Probe),
        Just(Request::Shutdown),
    ]
}

fn isolations() -> impl Strategy<Value = Isolation> {
    prop_oneof![
        Just(Isolation::Full),
        Just(Isolation::FullV1),
        Just(Isolation::Rootless),
        Just(Isolation::RootlessSingleId)
    ]
}

fn limits_bys() -> impl Strategy<Value = LimitsBy> {
    prop_oneof![Just(LimitsBy::CgroupV2), Just(LimitsBy::CgroupV1), Just(LimitsBy::Rlimits)]
}

fn failures() -> impl Strategy<Value = Failure> {
    let kinds = prop_oneof![
        Just(FailureKind::Exists),
        Just(FailureKind::Missing),
        Just(FailureKind::Running),
        Just(FailureKind::NotRunning),
        Just(FailureKind::Busy),
        Just(FailureKind::Invalid),
        Just(FailureKind::Deadline),
        Just(FailureKind::System),
    ];
    (kinds, ".{0,80}", any::<i32>(), ".{0,80}").prop_map(|(kind, step, errno, hint)| Failure {
        kind,
        step,
        errno,
        hint,
    })
}

fn replies() -> impl Strategy<Value = Reply> {
    let checks = (
        prop_oneof![Just(Outcome::Works), Just(Outcome::Weaker), Just(Outcome::Fails)],
        ".{0,40}",
        ".{0,80}",
    )
        .prop_map(|(outcome, name, detail)| Check { name, outcome, detail });
    let entries = (any::<u128>(), any::<u64>(), any::<u32>())
        .prop_map(|(ws, generation, pid)| Entry { ws, generation, pid });
    prop_oneof![
        (isolations(), limits_bys(), any::<u32>()).prop_map(|(isolation, limits, running)| {
            Reply::Ready(Ready { isolation, limits, running })
        }),
        Just(Reply::Done),
        any::<(u32, u64, bool, u32, u32)>().prop_map(
            |(pid, generation, unclean, clone_us, total_us)| {
                Reply::Started(Started { pid, generation, unclean, clone_us, total_us })
            }
        ),
        (vec(entries, 0..=PAGE), any::<bool>())
            .prop_map(|(entries, more)| Reply::Workspaces { entries, more }),
        (vec(any::<u128>(), 0..=PAGE), any::<bool>())
            .prop_map(|(ids, more)| Reply::Ids { ids, more }),
        any::<(u64, u64)>().prop_map(|(bytes, inodes)| Reply::Usage { bytes, inodes }),
        Just(Reply::Spool),
        (proptest::option::of(isolations()), limits_bys(), vec(checks, 0..CHECKS_MAX)).prop_map(
            |(isolation, limits, checks)| Reply::Probed(Report { isolation, limits, checks })
        ),
        failures().prop_map(Reply::Failed),
        any::<(u128, u64)>().prop_map(|(ws, generation)| Reply::Exited { ws, generation }),
    ]
}

proptest! {
    #[test]
    fn requests_come_back_as_they_went(id: u64, request in requests()) {
        let bytes = encode_request(id, &request).unwrap();
        prop_assert!(bytes.len() <= REQUEST_MAX);
        prop_assert_eq!(decode_request(&bytes).unwrap(), (id, request));
    }

    #[test]
    fn replies_come_back_as_they_went(id: u64, reply in replies()) {
        let bytes = encode_reply(id, &reply);
        prop_assert!(bytes.len() <= REPLY_MAX);
        prop_assert_eq!(decode_reply(&bytes).unwrap(), (id, reply));
    }

    /// Whatever comes is refused or means exactly one thing: no two texts of one request.
    #[test]
    fn any_bytes_are_refused_or_canonical(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok((id, request)) = decode_request(&bytes) {
            prop_assert_eq!(encode_request(id, &request).unwrap(), bytes.clone());
        }
        if let Ok((id, reply)) = decode_reply(&bytes) {
            prop_assert_eq!(encode_reply(id, &reply), bytes);
        }
    }

    /// A true request with one byte changed, cut or added.
    #[test]
    fn damaged_requests_are_refused_or_canonical(
        request in requests(),
        at: prop::sample::Index,
        value: u8,
        cut: prop::sample::Index,
    ) {
        let whole = encode_request(7, &request).unwrap();
        prop_assert!(decode_request(&whole[..cut.index(whole.len())]).is_err());
        let mut longer = whole.clone();
        longer.push(value);
        prop_assert!(decode_request(&longer).is_err());
        let mut damaged = whole;
        let at = at.index(damaged.len());
        damaged[at] = value;
        if let Ok((id, request)) = decode_request(&damaged) {
            prop_assert_eq!(encode_request(id, &request).unwrap(), damaged);
        }
    }
}

#[test]
fn what_is_too_long_is_cut_or_refused() {
    let hint = "ä".repeat(2000);
    let failure = Failure { kind: FailureKind::System, step: hint.clone(), errno: -1, hint };
    let bytes = encode_reply(1, &Reply::Failed(failure));
    let Ok((1, Reply::Failed(failure))) = decode_reply(&bytes) else { panic!("not a failure") };
    assert_eq!((failure.step.len(), failure.errno), (TEXT_MAX, -1));
    let mut start = match decode_request(&encode_request(1, &Request::Probe).unwrap()) {
        Ok((1, Request::Probe)) => crate::protocol::Start {
            ws: 1,
            generation: 1,
            lowers: vec![1; LOWERS_MAX + 1],
            mirror: None,
            limits: Limits {
                memory_bytes: 1,
                processes: 1,
                cpu_millis: 1,
                tmp_bytes: 1,
                disk_bytes: 1,
            },
            network: Network::None,
        },
        other => panic!("{other:?}"),
    };
    assert!(encode_request(1, &Request::Start(start.clone())).is_err());
    start.lowers.pop();
    assert!(encode_request(1, &Request::Start(start)).is_ok());
    assert!(decode_request(&[0; REQUEST_MAX + 1]).is_err());
    assert!(decode_reply(&[0; REPLY_MAX + 1]).is_err());
}
