//! Questions, and what comes of them, over a real store.

use boatyard_egress::rules::Target;
use boatyard_model::{AskAnswer, WorkspaceKind, WorkspaceLimits, WorkspaceState};
use boatyard_store::{AskFilter, BUILT_IN_ORGANIZATION, NewWorkspace, Options, Owner};

use super::*;

/// Longer than anything takes; a test that waits for it has failed.
const LONG: Duration = Duration::from_secs(20);

struct World {
    store: Store,
    asks: Asks,
    workspace: WorkspaceId,
    stopping: CancellationToken,
    _folder: tempfile::TempDir,
}

async fn world(time: Duration) -> World {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(Options::new(folder.path().join("db"))).await.unwrap();
    let workspace = WorkspaceId::new();
    let new = NewWorkspace {
        id: workspace,
        owner: Owner::BUILT_IN,
        name: None,
        kind: WorkspaceKind::Sandbox,
        runtime: "native".into(),
        isolation: None,
        lowers: vec![],
        repository: None,
        folder: None,
        base_commit: None,
        branch: None,
        limits: WorkspaceLimits::default(),
        task: None,
        forked_from: None,
        begins: boatyard_store::Begins::Later,
    };
    let made = store.write(move |tx| {
        Box::pin(async move {
            tx.create_workspace(new).await?;
            tx.set_workspace_state(workspace, WorkspaceState::Awake, None).await
        })
    });
    made.await.unwrap();
    let stopping = CancellationToken::new();
    let asks = Asks::new(store.clone(), time, stopping.clone());
    World { store, asks, workspace, stopping, _folder: folder }
}

impl World {
    fn question(&self, path: &str) -> Question {
        Question {
            workspace: self.workspace,
            target: Target { host: "api.example".parse().unwrap(), port: 443 },
            method: Some(http::Method::GET),
            path: Some(path.to_owned()),
            rule: Arc::from("ask first"),
            credential: None,
            peer: None,
        }
    }

    fn ask(&self, path: &str) -> tokio::task::JoinHandle<Answer> {
        tokio::spawn(self.asks.ask(self.question(path)))
    }

    /// The asks in this state, when there are so many.
    async fn when(&self, state: AskState, count: usize) -> Vec<AskRow> {
        let wanted = async {
            loop {
                let filter = AskFilter { state: Some(state), ..AskFilter::default() };
                let rows = self.store.list_asks(BUILT_IN_ORGANIZATION, filter, 100).await.unwrap();
                if rows.len() == count {
                    return rows;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LONG, wanted).await.expect("it does not come to that")
    }

    /// So many wait for it.
    async fn waits(&self, ask: &AskRow, count: u32) {
        let wanted = async {
            while self.asks.waiting(ask) != count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LONG, wanted).await.expect("not so many wait");
    }

    async fn say(&self, ask: &AskRow, answer: AskAnswer) {
        let (id, outcome) = (ask.id, AskOutcome::answered(answer, "Owner".into()));
        let said = self
            .store
            .write(move |tx| Box::pin(async move { tx.resolve_ask(id, outcome).await }))
            .await
            .unwrap();
        self.asks.answered(said);
    }
}

#[tokio::test]
async fn many_who_ask_the_same_share_one_answer() {
    let world = world(LONG).await;
    let same: Vec<_> = (0..20).map(|n| world.ask(&format!("/repos/{n}/issues"))).collect();
    let other = world.ask("/admin");
    let open = world.when(AskState::Open, 2).await;
    let [admin, repos] = match &open[..] {
        [a, b] if a.path.as_deref() == Some("/admin") => [a, b],
        [a, b] => [b, a],
        _ => panic!("{open:?}"),
    };
    assert_eq!(repos.shape.as_deref(), Some("/repos/*"));
    world.waits(repos, 20).await;
    world.say(repos, AskAnswer::Once).await;
    for one in same {
        assert_eq!(one.await.unwrap(), Answer::Yes);
    }
    world.say(admin, AskAnswer::No).await;
    let no = Answer::No { state: Some(AskState::Denied), why: "Owner said no".to_owned() };
    assert_eq!(other.await.unwrap(), no);
}

#[tokio::test]
async fn no_answer_in_time_is_a_no() {
    let world = world(Duration::from_millis(50)).await;
    let answer = world.ask("/x").await.unwrap();
    assert!(matches!(answer, Answer::No { state: Some(AskState::Expired), .. }), "{answer:?}");
    world.when(AskState::Expired, 1).await;
}

#[tokio::test]
async fn what_nobody_waits_for_any_more_is_withdrawn_and_may_be_asked_again() {
    let world = world(LONG).await;
    let (one, two) = (world.ask("/x"), world.ask("/x"));
    let open = world.when(AskState::Open, 1).await;
    world.waits(&open[0], 2).await;
    one.abort();
    world.waits(&open[0], 1).await;
    world.when(AskState::Open, 1).await;
    two.abort();
    world.when(AskState::Withdrawn, 1).await;
    let again = world.ask("/x");
    let open = world.when(AskState::Open, 1).await;
    world.say(&open[0], AskAnswer::Once).await;
    assert_eq!(again.await.unwrap(), Answer::Yes);
}

#[tokio::test]
async fn who_comes_as_the_last_one_goes_is_never_forgotten() {
    let world = world(LONG).await;
    for _ in 0..50 {
        let first = world.ask("/x");
        world.when(AskState::Open, 1).await;
        first.abort();
        let second = world.ask("/x");
        // Whichever of the two rows it is by now: an answer reaches who waits.
        let answer = async {
            loop {
                let filter = AskFilter { state: Some(AskState::Open), ..AskFilter::default() };
                let open = world.store.list_asks(BUILT_IN_ORGANIZATION, filter, 10).await.unwrap();
                if let Some(row) = open.first() {
                    let (id, outcome) =
                        (row.id, AskOutcome::answered(AskAnswer::No, "Owner".into()));
                    let said = world
                        .store
                        .write(move |tx| Box::pin(async move { tx.resolve_ask(id, outcome).await }))
                        .await;
                    if let Ok(said) = said {
                        world.asks.answered(said);
                    }
                }
                if second.is_finished() {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LONG, answer).await.expect("it waits for ever");
        assert!(matches!(second.await.unwrap(), Answer::No { .. }));
        world.when(AskState::Open, 0).await;
    }
}

#[tokio::test]
async fn a_workspace_may_ask_so_much_and_no_more() {
    let world = world(LONG).await;
    let held: Vec<_> = (0..OPEN_MAX).map(|n| world.ask(&format!("/a{n}"))).collect();
    world.when(AskState::Open, held.len()).await;
    let Answer::No { state: None, why } = world.ask("/one-more").await.unwrap() else {
        panic!("it was asked")
    };
    assert!(why.contains("boatyard egress asks --workspace ws_"), "{why}");
    // One that is open already is shared all the same.
    let same = world.ask("/a0");
    let open = world.when(AskState::Open, held.len()).await;
    let first = open.iter().find(|row| row.path.as_deref() == Some("/a0")).unwrap();
    world.waits(first, 2).await;
    world.say(first, AskAnswer::Once).await;
    assert_eq!(same.await.unwrap(), Answer::Yes);
}

#[tokio::test]
async fn a_server_that_ends_leaves_its_questions_open_for_the_next() {
    let world = world(LONG).await;
    let asked = world.ask("/x");
    let open = world.when(AskState::Open, 1).await;
    world.waits(&open[0], 1).await;
    world.stopping.cancel();
    asked.abort();
    world.waits(&open[0], 0).await;
    let next = Asks::new(world.store.clone(), LONG, CancellationToken::new());
    let again = tokio::spawn(next.ask(world.question("/x")));
    let wanted = async {
        while next.waiting(&open[0]) != 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, wanted).await.unwrap();
    let (id, outcome) = (open[0].id, AskOutcome::answered(AskAnswer::Once, "Owner".into()));
    let said = world
        .store
        .write(move |tx| Box::pin(async move { tx.resolve_ask(id, outcome).await }))
        .await
        .unwrap();
    next.answered(said);
    assert_eq!(again.await.unwrap(), Answer::Yes);
}

#[tokio::test]
async fn a_workspace_without_a_row_has_nobody_to_ask() {
    let world = world(LONG).await;
    let question = Question { workspace: WorkspaceId::new(), ..world.question("/x") };
    let answer = world.asks.ask(question).await;
    assert!(matches!(answer, Answer::No { state: None, .. }), "{answer:?}");
}
