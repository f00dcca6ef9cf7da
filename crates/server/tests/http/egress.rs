//! Rules of egress over HTTP: made, judged, changed, proposed, refused.

use boatyard_api::{
    ProblemKind,
    client::EgressPlace,
    egress::{EgressScope, EgressTest, EgressVerdict, NewEgressRule},
};
use boatyard_model::{
    EgressMode, RequestVerdict, RequestWay, RuleAction, RuleId, WorkspaceId, WorkspaceKind,
    WorkspaceLimits,
    time::{Clock as _, SystemClock},
};
use boatyard_store::{Owner, RequestRow, workspaces};

use crate::machine::Machine;

async fn workspace(machine: &Machine) -> WorkspaceId {
    let id = WorkspaceId::new();
    let new = workspaces::NewWorkspace {
        id,
        owner: Owner::BUILT_IN,
        name: None,
        kind: WorkspaceKind::Sandbox,
        runtime: "bare".to_owned(),
        isolation: None,
        lowers: Vec::new(),
        repository: None,
        folder: None,
        base_commit: None,
        branch: None,
        limits: WorkspaceLimits::default(),
        task: None,
        forked_from: None,
        begins: boatyard_store::Begins::Asleep,
    };
    let made = machine.store.write(|tx| Box::pin(async move { tx.create_workspace(new).await }));
    made.await.unwrap();
    id
}

/// Something that was recorded.
fn request(workspace: WorkspaceId) -> RequestRow {
    RequestRow {
        owner: Owner::BUILT_IN,
        number: 0,
        time: SystemClock.now(),
        workspace,
        session: None,
        task: None,
        way: RequestWay::Proxy,
        program: None,
        method: "GET".to_owned(),
        host: String::new(),
        port: 443,
        path: None,
        verdict: RequestVerdict::Learned,
        rule: None,
        reason: None,
        credential: None,
        status: None,
        sent: 0,
        received: 0,
        micros: 0,
    }
}

fn line(action: RuleAction, rule: &str) -> NewEgressRule {
    NewEgressRule { action, rule: Some(rule.to_owned()), ..NewEgressRule::default() }
}

/// What would become of a request, with the rule that says so.
async fn judged(machine: &Machine, place: EgressPlace, request: &str) -> String {
    let (method, url) = match request.split_once(' ') {
        Some((method, url)) => (Some(method.to_owned()), url),
        None => (None, request),
    };
    let test = EgressTest { method, url: url.to_owned() };
    let outcome = machine.client.test_egress(place, &test).await.unwrap();
    let verdict = match outcome.verdict {
        EgressVerdict::Allowed => "allowed",
        EgressVerdict::Ask => "ask",
        EgressVerdict::Denied => "denied",
        EgressVerdict::Learned => "learned",
    };
    match outcome.rule {
        Some(rule) => format!("{verdict} by {}: {} {}", rule.scope, rule.action, rule.text),
        None => verdict.to_owned(),
    }
}

#[tokio::test]
async fn rules_of_three_scopes_come_together() {
    let machine = Machine::start().await;
    let client = &machine.client;
    let place = EgressPlace::Workspace(workspace(&machine).await);
    let everywhere = EgressPlace::Organization;
    let npm = "https://rubygems.org/gems";
    assert_eq!(judged(&machine, place, npm).await, "allowed by organization: allow packages");
    assert_eq!(judged(&machine, place, "https://api.example/v1/a").await, "denied");
    let made = client
        .create_egress_rule(place, &line(RuleAction::Allow, "GET https://api.example/v1/*"))
        .await
        .unwrap();
    assert_eq!(made.warnings, Vec::<String>::new());
    let allowed = "allowed by workspace: allow GET https://api.example/v1/*";
    assert_eq!(judged(&machine, place, "https://api.example/v1/a").await, allowed);
    let near = "denied by workspace: allow GET https://api.example/v1/*";
    assert_eq!(judged(&machine, place, "POST https://api.example/v1/a").await, near);
    assert_eq!(judged(&machine, place, "api.example:443").await, near);
    assert_eq!(judged(&machine, everywhere, "https://api.example/v1/a").await, "denied");
    // A denial above decides, and says so where the rule below is listed.
    let deny = client
        .create_egress_rule(everywhere, &line(RuleAction::Deny, "api.example"))
        .await
        .unwrap();
    let denied = "denied by organization: deny api.example";
    assert_eq!(judged(&machine, place, "https://api.example/v1/a").await, denied);
    let egress = client.find_egress(place).await.unwrap();
    let listed = egress.rules.iter().find(|rule| rule.id == made.id).unwrap();
    let warning =
        format!("it never counts: rule `{}` of the organization forbids all of it", deny.name);
    assert_eq!(listed.warnings, [warning]);
    assert_eq!(egress.rules[0].name, "preset packages");
    // Changed, then removed.
    let id = deny.id.unwrap();
    let ask = NewEgressRule {
        action: RuleAction::Ask,
        host: Some("api.example".to_owned()),
        ..NewEgressRule::default()
    };
    client.change_egress_rule(id, &ask).await.unwrap();
    assert_eq!(
        judged(&machine, everywhere, "https://api.example/").await,
        "ask by organization: ask api.example"
    );
    assert_eq!(judged(&machine, place, "https://api.example/v1/a").await, allowed);
    let closed = EgressScope { mode: None, widen: Some(false) };
    assert!(!client.set_egress(everywhere, &closed).await.unwrap().widen);
    let asked = "ask by organization: ask api.example";
    assert_eq!(judged(&machine, place, "https://api.example/v1/a").await, asked);
    client.delete_egress_rule(id).await.unwrap();
    assert_eq!(judged(&machine, place, "https://api.example/v1/a").await, near);
    let gone = client.find_egress_rule(id).await.unwrap_err();
    assert!(gone.problem().is_some_and(|problem| problem.is(ProblemKind::NotFound)));
}

#[tokio::test]
async fn what_was_learned_is_proposed() {
    let machine = Machine::start().await;
    let client = &machine.client;
    let id = workspace(&machine).await;
    let place = EgressPlace::Workspace(id);
    let learn = EgressScope { mode: Some(EgressMode::Learn), widen: None };
    assert_eq!(client.set_egress(place, &learn).await.unwrap().mode, EgressMode::Learn);
    assert_eq!(judged(&machine, place, "https://any.example/").await, "learned");
    // Where a preset would look at requests, so does learning.
    let test = EgressTest { method: None, url: "https://github.com/a/b".to_owned() };
    assert!(client.test_egress(place, &test).await.unwrap().opened);
    let row = |method: &str, host: &str, path: Option<&str>, verdict| RequestRow {
        method: method.to_owned(),
        host: host.to_owned(),
        path: path.map(str::to_owned),
        verdict,
        ..request(id)
    };
    let rows = vec![
        row("CONNECT", "conda.anaconda.org", None, RequestVerdict::Learned),
        row("POST", "github.com", Some("/o/r.git/git-upload-pack"), RequestVerdict::Learned),
        row("GET", "api.example", Some("/v1/a"), RequestVerdict::Learned),
        row("GET", "api.example", Some("/v1/a"), RequestVerdict::Learned),
        row("CONNECT", "refused.example", None, RequestVerdict::Denied),
        row("CONNECT", "registry.npmjs.org", None, RequestVerdict::Allowed),
    ];
    let logged = machine.store.write(|tx| Box::pin(async move { tx.log_requests(rows).await }));
    logged.await.unwrap();
    let told = |refused| async move {
        let proposal = client.propose_egress(place, refused).await.unwrap();
        let line =
            |item: boatyard_api::egress::ProposedRule| format!("{} {}", item.requests, item.text);
        let mut lines: Vec<String> = proposal.items.into_iter().map(line).collect();
        lines.sort();
        lines
    };
    assert_eq!(told(None).await, ["1 conda", "1 github-fetch", "2 GET https://api.example/v1/a"]);
    assert!(told(Some(true)).await.contains(&"1 https://refused.example".to_owned()));
    let everywhere = client.propose_egress(EgressPlace::Organization, None).await.unwrap();
    assert_eq!(everywhere.items.len(), 3);
    for item in client.propose_egress(place, None).await.unwrap().items {
        client.create_egress_rule(place, &item.rule.into()).await.unwrap();
    }
    assert!(told(None).await.is_empty());
    // Nothing learns below a scope that is closed.
    let closed = EgressScope { mode: None, widen: Some(false) };
    client.set_egress(EgressPlace::Organization, &closed).await.unwrap();
    assert_eq!(client.find_egress(place).await.unwrap().mode, EgressMode::Enforce);
    let refused = client.set_egress(place, &learn).await.unwrap_err();
    assert_eq!(refused.problem().unwrap().field.as_deref(), Some("mode"));
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_its_place() {
    let machine = Machine::start().await;
    let client = &machine.client;
    let check = async |new: NewEgressRule, field: &str, detail: &str| {
        let error = client.create_egress_rule(EgressPlace::Organization, &new).await.unwrap_err();
        let problem = error.problem().unwrap();
        assert_eq!(problem.field.as_deref(), Some(field), "{problem:?}");
        assert_eq!(problem.detail, detail);
        assert!(problem.status == 400);
    };
    let rule = |text: &str| line(RuleAction::Allow, text);
    check(rule("exa mple.com/x"), "rule", "at character 1: `exa` is not a method that a request comes with (as GET or POST, in capitals)").await;
    check(rule("example.com/a?b"), "rule", "at character 14: a rule can't be about a query").await;
    check(
        rule("example.com:99999"),
        "rule",
        "at character 13: `99999` is no port (1 to 65535), and no range as 8000-8100",
    )
    .await;
    let both = NewEgressRule { host: Some("a".to_owned()), ..rule("b") };
    check(both, "rule", "a rule comes in a line or in parts").await;
    check(NewEgressRule::default(), "host", "a rule needs a host or a preset").await;
    let ended = NewEgressRule { expires_in: Some(0), ..rule("a.example") };
    check(ended, "expires_in", "the rule would have ended already").await;
    let preset = NewEgressRule { preset: Some("nmp".to_owned()), ..NewEgressRule::default() };
    check(preset, "preset", "there is no preset `nmp`").await;
    let error = client.delete_egress_rule(RuleId::new()).await.unwrap_err();
    assert!(error.problem().is_some_and(|problem| problem.is(ProblemKind::NotFound)));
    let nowhere = EgressPlace::Workspace(WorkspaceId::new());
    let error = client.find_egress(nowhere).await.unwrap_err();
    assert!(error.problem().is_some_and(|problem| problem.is(ProblemKind::NotFound)));
    let test = EgressTest { method: None, url: "nonsense".to_owned() };
    let error = client.test_egress(EgressPlace::Organization, &test).await.unwrap_err();
    assert_eq!(error.problem().unwrap().field.as_deref(), Some("url"));
}
