//! That a workspace was quiet: nothing tried to leave, nothing secret came in.

use boatyard_api::request::{RequestEntry, RequestFilter};
use boatyard_model::{EventBody, RequestWay, WorkspaceId};

use crate::{
    house::{DECOY, House, KEY},
    talk::{Talk, sh},
};

/// Counters of a network namespace that only a try to leave it moves, beside connections, which are
/// caught and logged: a destination without a route, or a datagram (a question for a name), wherever
/// it goes.
const COUNTERS: [(&str, &str); 3] =
    [("Ip", "OutNoRoutes"), ("Udp", "OutDatagrams"), ("Icmp", "OutMsgs")];
const COUNTERS_6: [&str; 3] = ["Ip6OutNoRoutes", "Udp6OutDatagrams", "Icmp6OutDestUnreachs"];

/// Nothing but the gateway was connected to.
pub(crate) async fn nothing_left(house: &House, workspace: WorkspaceId) {
    for (name, count) in counters(house, workspace).await {
        assert_eq!(count, 0, "{name}: something tried to leave {workspace}");
    }
    let tries = tries(house, workspace).await;
    assert!(tries.is_empty(), "something tried to leave {workspace}: {tries:?}");
}

/// What the log has of a workspace, beside requests to models.
pub(crate) async fn tries(house: &House, workspace: WorkspaceId) -> Vec<RequestEntry> {
    let filter =
        RequestFilter { workspace: Some(workspace), limit: Some(200), ..RequestFilter::default() };
    let page = house.client().list_requests(&filter).await.unwrap();
    page.items.into_iter().filter(|entry| entry.way != RequestWay::Model).collect()
}

/// The counters, none of which should have moved.
pub(crate) async fn counters(house: &House, workspace: WorkspaceId) -> Vec<(String, u64)> {
    let shown = sh(house, workspace, "cat /proc/net/snmp; echo; cat /proc/net/snmp6", "").await;
    let mut found = Vec::new();
    for (group, name) in COUNTERS {
        let mut rows = shown.lines().filter_map(|line| line.strip_prefix(&format!("{group}: ")));
        let (names, values) = (rows.next().unwrap(), rows.next().unwrap());
        let at = names.split(' ').position(|one| one == name).unwrap();
        found
            .push((format!("{group} {name}"), values.split(' ').nth(at).unwrap().parse().unwrap()));
    }
    // Where the kernel has no second version, nothing can leave by it.
    for name in COUNTERS_6 {
        let row = shown.lines().find_map(|line| line.strip_prefix(name));
        found.extend(row.map(|value| (name.to_owned(), value.trim().parse().unwrap())));
    }
    found
}

/// Neither the key nor anything of the account's own settings is in any file or process.
pub(crate) async fn nothing_came_in(house: &House, workspace: WorkspaceId) {
    let search = "grep -rlaF -f - /home /work /tmp /proc/[0-9]*/environ /proc/[0-9]*/cmdline \
        2>/dev/null || test $? -le 2";
    // What is looked for is not an argument, or it would find itself.
    let found = sh(house, workspace, search, &format!("{KEY}\n{DECOY}\n")).await;
    assert_eq!(found, "", "the key, or settings of the host, are in {workspace}");
    let control = sh(house, workspace, search, "HOME=/home\n").await;
    assert!(control.contains("/environ"), "the search finds nothing at all: {control}");
}

/// The session's log has no attempt to leave.
pub(crate) fn nothing_blocked(talk: &Talk) {
    let blocked = |body: &EventBody| matches!(body, EventBody::EgressBlocked { .. });
    let blocked: Vec<_> = talk.events.iter().filter(|event| blocked(&event.body)).collect();
    assert!(blocked.is_empty(), "{blocked:?}");
}

/// The provider was asked what agents ask, with the key and nothing in its place.
pub(crate) fn provider_saw_the_key(house: &House) {
    let seen = house.provider.seen();
    assert!(!seen.is_empty());
    let header = match house.agent.provider {
        "anthropic" => "x-api-key",
        "gemini" => "x-goog-api-key",
        _ => "authorization",
    };
    for request in seen {
        let path = request.uri.path();
        let known = house.agent.paths.iter().any(|known| path.starts_with(known));
        assert!(known, "{} {path}", request.method);
        let shown = |name: &str| request.headers.get(name).map(|value| value.to_str().unwrap());
        let key = shown(header).map(|value| value.trim_start_matches("Bearer "));
        assert_eq!(key, Some(KEY), "{header} of {path}");
        for (name, value) in &request.headers {
            let value = String::from_utf8_lossy(value.as_bytes());
            assert!(!value.contains("placeholder"), "{name} of {path}");
            assert!(name == header || !value.contains(KEY), "{name} of {path}");
        }
        assert!(!request.uri.to_string().contains(KEY), "{path}");
        assert!(!crate::provider::has(&request.body, DECOY), "{path}");
    }
}
