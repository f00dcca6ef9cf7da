//! Policies over a real store.

use boatyard_egress::rules::{Reason, Target, Verdict, Wish};
use boatyard_model::{RuleAction, RuleId, RuleSpec, WorkspaceKind, WorkspaceLimits};
use boatyard_store::{
    BUILT_IN_ORGANIZATION, Begins, NewRule, NewWorkspace, Options, Owner, ScopeRow,
};
use tempfile::TempDir;

use super::*;

struct Yard {
    _folder: TempDir,
    store: Store,
    policies: Policies,
}

async fn yard(settings: Settings) -> Yard {
    let folder = TempDir::new().unwrap();
    let store = Store::open(Options::new(folder.path().join("boatyard.db"))).await.unwrap();
    let policies = Policies::new(store.clone(), &settings).unwrap();
    Yard { _folder: folder, store, policies }
}

impl Yard {
    async fn workspace(&self) -> WorkspaceId {
        let id = WorkspaceId::new();
        let new = NewWorkspace {
            id,
            owner: Owner::BUILT_IN,
            name: None,
            kind: WorkspaceKind::Sandbox,
            runtime: "native".into(),
            isolation: None,
            lowers: Vec::new(),
            repository: None,
            folder: None,
            base_commit: None,
            branch: None,
            limits: WorkspaceLimits::default(),
            task: None,
            forked_from: None,
            begins: Begins::Asleep,
        };
        self.store
            .write(move |tx| Box::pin(async move { tx.create_workspace(new).await }))
            .await
            .unwrap();
        id
    }

    async fn rule(&self, place: RulePlace, line: &str, expires: Option<Timestamp>) -> RuleId {
        let (action, line) = line.split_once(' ').unwrap();
        let action: RuleAction = action.parse().unwrap();
        let spec = boatyard_egress::rules::text::parse(line).unwrap().with_action(action);
        let new = NewRule { expires, ..NewRule::new(Owner::BUILT_IN, place, spec) };
        let id = new.id;
        self.store
            .write(move |tx| Box::pin(async move { tx.create_rule(&new).await }))
            .await
            .unwrap();
        self.policies.changed(BUILT_IN_ORGANIZATION, place).await;
        id
    }
}

fn check(policy: &watch::Receiver<Arc<Policy>>, host: &str, expected: bool) {
    let target = Target { host: host.parse().unwrap(), port: 443 };
    let verdict = policy.borrow().check(&target, Wish::Tunnel);
    let is_open = matches!(verdict, Verdict::Allowed(_) | Verdict::Learned);
    assert_eq!(is_open, expected, "{host}: {verdict:?}");
}

#[tokio::test]
async fn a_change_reaches_those_whom_it_is_for_at_once() {
    let yard = yard(Settings::default()).await;
    let (one, two) = (yard.workspace().await, yard.workspace().await);
    let first = yard.policies.watch(one).await.unwrap();
    let mut second = yard.policies.watch(two).await.unwrap();
    check(&first, "registry.npmjs.org", true);
    check(&first, "a.example", false);
    yard.rule(RulePlace::Workspace(one), "allow a.example", None).await;
    check(&first, "a.example", true);
    check(&second, "a.example", false);
    assert!(!second.has_changed().unwrap());
    let everywhere = yard.rule(RulePlace::Organization, "deny a.example", None).await;
    check(&first, "a.example", false);
    yard.store
        .write(move |tx| Box::pin(async move { tx.delete_rule(everywhere).await }))
        .await
        .unwrap();
    yard.policies.changed(BUILT_IN_ORGANIZATION, RulePlace::Organization).await;
    check(&first, "a.example", true);
    second.mark_unchanged();
    let closed = ScopeRow { mode: None, widen: Some(false) };
    yard.store
        .write(move |tx| {
            Box::pin(async move {
                tx.set_rule_scope(Owner::BUILT_IN, RulePlace::Organization, &closed).await
            })
        })
        .await
        .unwrap();
    yard.policies.changed(BUILT_IN_ORGANIZATION, RulePlace::Organization).await;
    check(&first, "a.example", false);
    assert!(second.has_changed().unwrap());
}

#[tokio::test]
async fn one_organizations_rules_are_not_anothers() {
    let yard = yard(Settings::default()).await;
    yard.rule(RulePlace::Organization, "allow a.example", None).await;
    let own = yard.policies.watch(yard.workspace().await).await.unwrap();
    check(&own, "a.example", true);
    // One that makes a layer has no row: who starts it says whose it is, and everybody who asks
    // after it is told the same.
    let builder = |organization| {
        let (member, workspace) = (Owner::BUILT_IN.member, WorkspaceId::new());
        Whose { organization, member, repository: None, workspace }
    };
    let (theirs, ours) = (builder(OrganizationId::new()), builder(BUILT_IN_ORGANIZATION));
    let strange = yard.policies.watch_for(theirs).await.unwrap();
    check(&strange, "a.example", false);
    let known = yard.policies.watch_for(ours).await.unwrap();
    check(&known, "a.example", true);
    check(&yard.policies.watch(ours.workspace).await.unwrap(), "a.example", true);
    check(&yard.policies.watch(theirs.workspace).await.unwrap(), "a.example", false);
    // One of which nobody knows anything has what the settings allow everybody.
    let nobodys = yard.policies.watch(WorkspaceId::new()).await.unwrap();
    check(&nobodys, "a.example", false);
    check(&nobodys, "registry.npmjs.org", true);
}

#[tokio::test]
async fn a_rule_ends_by_itself() {
    let yard = yard(Settings::default()).await;
    let workspace = yard.workspace().await;
    let mut policy = yard.policies.watch(workspace).await.unwrap();
    let stopping = CancellationToken::new();
    let running = tokio::spawn(yard.policies.clone().run(stopping.clone()));
    let soon = yard.store.now().after(Duration::from_millis(300));
    yard.rule(RulePlace::Workspace(workspace), "allow a.example", Some(soon)).await;
    check(&policy, "a.example", true);
    policy.mark_unchanged();
    tokio::time::timeout(Duration::from_secs(10), policy.changed()).await.unwrap().unwrap();
    check(&policy, "a.example", false);
    assert!(yard.store.now() >= soon);
    stopping.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn what_a_newer_release_wrote_opens_nothing() {
    let made = |json: &str| {
        Made::of(&boatyard_store::RuleRow {
            owner: Owner::BUILT_IN,
            id: RuleId::new(),
            scope: boatyard_model::RuleScope::Organization,
            place: String::new(),
            rule: json.to_owned(),
            expires: None,
            created: Timestamp(0),
        })
    };
    let denies = |json: &str, host: &str| {
        let made = made(json);
        assert!(made.odd.is_some(), "{json}");
        let mut rules = made.rules;
        let all = RuleSpec::host("*");
        rules.extend(boatyard_egress::Rule::from_spec("all", &all).unwrap());
        let target = Target { host: host.parse().unwrap(), port: 443 };
        let verdict = RuleSet::new(rules).check(&target, Wish::Tunnel);
        matches!(verdict, Verdict::Denied(Reason::Forbidden(_)))
    };
    let hours = r#"{"action":"allow","host":"a.example","hours":"9-17"}"#;
    assert!(denies(hours, "a.example") && !denies(hours, "b.example"));
    assert!(denies(r#"{"action":"warn","host":"a.example"}"#, "a.example"));
    assert!(denies(r#"{"action":"deny","country":"XX"}"#, "b.example"));
    assert!(denies("nonsense", "b.example"));
    assert!(!denies(r#"{"action":"allow","country":"XX"}"#, "b.example"));
    assert!(!denies(r#"{"preset":"from-the-future"}"#, "b.example"));
    assert!(made(r#"{"host":"a.example"}"#).odd.is_none());
}

#[test]
fn settings_that_make_no_sense_are_named() {
    let check = |change: &dyn Fn(&mut Settings), expected: &str| {
        let mut settings = Settings::default();
        change(&mut settings);
        let error = Base::new(&settings).expect_err(expected);
        assert_eq!(format!("{error:#}"), expected);
    };
    check(
        &|settings| settings.egress.allow = vec!["exa mple.com".into()],
        "[egress] allow in boatyard.toml is wrong at \"exa mple.com\": at character 1: `exa` is not a \
         method that a request comes with (as GET or POST, in capitals); name methods as GET or \
         GET,POST, or git-fetch or git-push",
    );
    check(
        &|settings| settings.egress.presets = vec!["nmp".into()],
        "[egress] presets in boatyard.toml is wrong at \"nmp\": there is no preset `nmp`; see \
         `boatyard egress presets` for those there are",
    );
    check(
        &|settings| settings.egress.mode = "lern".into(),
        "[egress] mode in boatyard.toml is wrong: `lern` is none of enforce, learn",
    );
}
