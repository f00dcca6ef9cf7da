//! Sessions with the real built-in agents, over a real link to a runner in this process.

mod common;

use boatyard_link::message::{
    ExecExit, ExecRequest, FailureCode, Record, RecordKind, Reply, Request,
};
use boatyard_model::{
    EventBody, PromptId, SessionId, TurnOutcome,
    event::{CommitKind, FileChange},
};
use common::{Place, Server, kinds, soon, text};

fn prompt(session: SessionId, turn: u32, words: &str) -> Request {
    Request::Prompt { session, turn, content: text(words) }
}

#[tokio::test]
async fn a_turn_of_the_shell_from_prompt_to_checkpoint() {
    let place = Place::with_repository();
    let runner = place.runner().await;
    let mut server = Server::connect(&runner).await;
    let mut events = server.events(None);
    let session = SessionId::new();
    let open = place.open_shell(session);
    let opened = server.ask(open.clone()).await.unwrap();
    assert!(matches!(opened, Reply::SessionOpen { resumed: false, .. }), "{opened:?}");
    assert_eq!(server.ask(open).await.unwrap(), opened);
    let quiet = place.dir.path().join("home/agent/.quiet/settings");
    assert_eq!(std::fs::read_to_string(quiet).unwrap(), "quiet");

    let script = "echo hello > hello.txt; git add .; git commit -qm 'Say hello'; echo more >> README; echo done";
    let first = prompt(session, 1, script);
    assert_eq!(server.ask(first.clone()).await.unwrap(), Reply::Done);
    let (records, outcome) = events.turn().await;
    assert_eq!(outcome, TurnOutcome::Completed);
    let bodies: Vec<_> = records
        .iter()
        .filter_map(|r| match &r.what {
            RecordKind::Event(body) => Some(body.clone()),
            _ => None,
        })
        .collect();
    let changed: Vec<_> = bodies
        .iter()
        .filter_map(|body| match body {
            EventBody::FileChanged { path, change, added, .. } => {
                Some((path.as_str(), *change, *added))
            }
            _ => None,
        })
        .collect();
    assert_eq!(
        changed,
        [("README", FileChange::Modified, Some(1)), ("hello.txt", FileChange::Added, Some(1))]
    );
    assert!(bodies.iter().any(|body| matches!(
        body,
        EventBody::GitCommit { kind: CommitKind::Agent, subject, .. } if subject == "Say hello"
    )));
    let Some(EventBody::TurnCompleted { checkpoint: Some(checkpoint), .. }) = bodies.last() else {
        panic!("{:?}", bodies.last())
    };
    assert_eq!(place.git(&["rev-parse", "refs/boatyard/turns/1"]), *checkpoint);
    assert!(records.iter().all(|r| r.session == session && r.turn == Some(1)));
    assert!(records.windows(2).all(|pair| pair[1].position.n == pair[0].position.n + 1));

    // Asked again, nothing happens; the next turn is the next thing that is told.
    assert_eq!(server.ask(first).await.unwrap(), Reply::Done);
    server.ask(prompt(session, 2, "exit 1")).await.unwrap();
    let (records, outcome) = events.turn().await;
    assert_eq!(outcome, TurnOutcome::Failed);
    assert!(records.iter().all(|r| r.turn == Some(2)), "{:?}", kinds(&records));
}

/// What the setup of a repository made in the worker's home is seen in a session's, but for what
/// agents keep their state in; the home is made once and kept.
#[tokio::test]
async fn a_sessions_home_shows_what_the_setup_made_and_is_kept() {
    let place = Place::with_repository();
    let worker = place.dir.path().join("home/agent");
    for (path, content) in [
        (".gitconfig", "[user]\n\tname = Setup\n"),
        (".npmrc", "fund=false\n"),
        (".cargo/config.toml", "[net]\n"),
        (".config/git/ignore", "*.o\n"),
        (".local/bin/tool", "of the setup\n"),
        (".cache/pip/x", "x\n"),
        // What is an agent's own.
        (".claude/settings.json", "{}\n"),
        (".codex/config.toml", "x\n"),
        (".config/opencode/opencode.json", "{}\n"),
        (".local/share/opencode/opencode.db", "x\n"),
        // What the agent's entry lays into each home.
        (".quiet/settings", "of the setup\n"),
    ] {
        let path = worker.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let session = SessionId::new();
    let Request::OpenSession(mut open) = place.open_shell(session) else { unreachable!() };
    open.home = place.path("home/sessions/one");
    let looks = [
        (
            "git config --global user.name; cat ~/.npmrc ~/.cargo/config.toml",
            "Setup\nfund=false\n[net]\n",
        ),
        ("cat ~/.config/git/ignore ~/.local/bin/tool ~/.cache/pip/x", "*.o\nof the setup\nx\n"),
        ("cat ~/.quiet/settings; echo", "quiet\n"),
        ("cd; ls -d .claude .codex .config/opencode .local/share 2>/dev/null", ""),
        // It is the session's: what is made in it is not seen by others.
        ("echo kept > ~/.state; mkdir ~/.claude; ls -A ~/../../agent | grep -c state", "0\n"),
    ];
    let mut stored = None;
    {
        let runner = place.runner().await;
        let mut server = Server::connect(&runner).await;
        let mut events = server.events(None);
        server.ask(Request::OpenSession(open.clone())).await.unwrap();
        for (turn, (script, expected)) in (1..).zip(looks) {
            server.ask(prompt(session, turn, &format!("{script}; true"))).await.unwrap();
            let (records, _) = events.turn().await;
            assert_eq!(output(&records), expected, "{script}");
            stored = records.last().map(|record| record.position);
        }
        server.ask(Request::Quiesce).await.unwrap();
    }
    // The next runner, as after a sleep: nothing is made again, not even what was taken out.
    std::fs::remove_file(place.dir.path().join("home/sessions/one/.npmrc")).unwrap();
    std::fs::write(worker.join(".later"), "later").unwrap();
    let runner = place.runner().await;
    let mut server = Server::connect(&runner).await;
    let mut events = server.events(stored);
    server.ask(Request::OpenSession(open)).await.unwrap();
    let script = "cat ~/.state ~/.cargo/config.toml; ls -d ~/.npmrc ~/.later 2>/dev/null; true";
    server.ask(prompt(session, 6, script)).await.unwrap();
    let (records, _) = events.turn().await;
    assert_eq!(output(&records), "kept\n[net]\n");
}

/// Whatever a worker makes of homes: a session's goes on as it is, and a new one shows what it can.
#[tokio::test]
async fn a_home_that_was_tampered_with_is_no_hindrance() {
    let place = Place::with_repository();
    let session = SessionId::new();
    let Request::OpenSession(mut open) = place.open_shell(session) else { unreachable!() };
    open.home = place.path("home/sessions/one");
    {
        let runner = place.runner().await;
        let mut server = Server::connect(&runner).await;
        server.ask(Request::OpenSession(open.clone())).await.unwrap();
        server.ask(Request::Quiesce).await.unwrap();
    }
    let quiet = place.dir.path().join("home/sessions/one/.quiet");
    let outside = place.dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::remove_dir_all(&quiet).unwrap();
    for made in ["out", "nowhere", "file"] {
        match made {
            "out" => std::os::unix::fs::symlink(&outside, &quiet).unwrap(),
            "nowhere" => std::os::unix::fs::symlink("nowhere", &quiet).unwrap(),
            _ => std::fs::write(&quiet, "mine").unwrap(),
        }
        let runner = place.runner().await;
        let mut server = Server::connect(&runner).await;
        let opened = server.ask(Request::OpenSession(open.clone())).await;
        assert!(matches!(opened, Ok(Reply::SessionOpen { .. })), "{made}: {opened:?}");
        server.ask(Request::Quiesce).await.unwrap();
        std::fs::remove_file(&quiet).unwrap();
    }
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "nothing was laid outside");

    // The worker's home, with what nobody expects in one.
    let worker = place.dir.path().join("home/agent");
    for n in 0..3000 {
        std::fs::write(worker.join(format!("many-{n}")), "").unwrap();
    }
    std::fs::write(worker.join("a\nb"), "").unwrap();
    std::os::unix::fs::symlink("/", worker.join(".config")).unwrap();
    std::fs::write(worker.join(".cache"), "no folder").unwrap();
    let pipe = worker.join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o644),
        0,
    )
    .unwrap();
    let runner = place.runner().await;
    let mut server = Server::connect(&runner).await;
    let Request::OpenSession(mut second) = place.open_shell(SessionId::new()) else {
        unreachable!()
    };
    second.home = place.path("home/sessions/two");
    let opened = server.ask(Request::OpenSession(second)).await;
    assert!(matches!(opened, Ok(Reply::SessionOpen { .. })), "{opened:?}");
    let home = place.dir.path().join("home/sessions/two");
    let links = std::fs::read_dir(&home).unwrap().count();
    assert!((500..=1002).contains(&links), "{links}");
    assert!(!home.join("pipe").exists());
}

/// What the commands of a turn printed.
fn output(records: &[Record]) -> String {
    let outputs = records.iter().filter_map(|record| match &record.what {
        RecordKind::Event(EventBody::ToolCompleted { tool, .. }) => tool.output.clone(),
        _ => None,
    });
    outputs.collect()
}

#[tokio::test]
async fn events_wait_for_the_next_link_and_go_on_after_what_is_stored() {
    let place = Place::with_repository();
    let runner = place.runner().await;
    let mut server = Server::connect(&runner).await;
    let session = SessionId::new();
    server.ask(place.open_shell(session)).await.unwrap();
    let mut events = server.events(None);
    server.ask(prompt(session, 1, "echo one")).await.unwrap();
    let (first, _) = events.turn().await;
    let stored = first[0].position;
    events.ack(stored).await;
    server.link.abort();

    let mut server = Server::connect(&runner).await;
    let mut events = server.events(Some(stored));
    let (again, outcome) = events.turn().await;
    assert_eq!((&again[..], outcome), (&first[1..], TurnOutcome::Completed));
    server.ask(prompt(session, 2, "echo two")).await.unwrap();
    let (second, _) = events.turn().await;
    assert_eq!(second[0].position.n, first.last().unwrap().position.n + 1);
}

#[tokio::test]
async fn stop_ends_every_process_and_the_next_prompt_goes_on() {
    let place = Place::with_repository();
    let runner = place.runner().await;
    let mut server = Server::connect(&runner).await;
    let session = SessionId::new();
    server.ask(place.open_shell(session)).await.unwrap();
    let mut events = server.events(None);
    let script = "trap '' TERM INT; sleep 1000 & echo $! $$; sleep 1000";
    server.ask(prompt(session, 1, script)).await.unwrap();
    let output = events
        .until(|body| match body {
            EventBody::ToolUpdated { tool } => tool.output.clone(),
            _ => None,
        })
        .await;
    let outcome = TurnOutcome::LimitReached;
    let stopped = server.ask(Request::Stop { session, outcome }).await.unwrap();
    assert!(matches!(stopped, Reply::Stopped { .. }), "{stopped:?}");
    let leader = output.split_whitespace().last().unwrap();
    assert!(!std::path::Path::new(&format!("/proc/{leader}")).exists());
    let (_, ended) = events.turn().await;
    assert_eq!(ended, TurnOutcome::LimitReached);

    server.ask(prompt(session, 2, "echo again")).await.unwrap();
    let (_, ended) = events.turn().await;
    assert_eq!(ended, TurnOutcome::Completed);
    let nothing = server.ask(Request::Stop { session: SessionId::new(), outcome }).await;
    assert_eq!(nothing.unwrap(), Reply::Stopped { millis: 0 });
}

#[tokio::test]
async fn the_demo_agent_over_its_protocol() {
    let place = Place::with_repository();
    let runner = place.runner().await;
    let mut server = Server::connect(&runner).await;
    let session = SessionId::new();
    let mut events = server.events(None);
    let opened = server.ask(place.open_demo(session)).await.unwrap();
    let Reply::SessionOpen { agent_session: Some(agent_session), offers, .. } = opened else {
        panic!("{opened:?}")
    };
    assert!(offers.images && offers.resume, "{offers:?}");
    let (record, _) = events.next().await;
    assert_eq!(record.what, RecordKind::AgentSession(agent_session));

    server.ask(prompt(session, 1, "/demo text thought plan edit image usage")).await.unwrap();
    let (records, outcome) = events.turn().await;
    assert_eq!(outcome, TurnOutcome::Completed);
    let kinds = kinds(&records);
    for kind in ["message.completed", "thought.completed", "plan", "tool.completed", "blob"] {
        assert!(kinds.contains(&kind), "{kind} in {kinds:?}");
    }
    assert!(kinds.contains(&"file.changed"), "{kinds:?}");

    server.ask(prompt(session, 2, "/demo permission")).await.unwrap();
    let (permission, option) = events
        .until(|body| match body {
            EventBody::PermissionRequested { permission, options, .. } => {
                Some((*permission, options[0].id.clone()))
            }
            _ => None,
        })
        .await;
    let answer = Request::AnswerPermission { session, permission, option: Some(option) };
    server.ask(answer).await.unwrap();
    assert_eq!(events.turn().await.1, TurnOutcome::Completed);

    server.ask(prompt(session, 3, "/demo crash")).await.unwrap();
    assert_eq!(events.turn().await.1, TurnOutcome::Failed);
    server.ask(prompt(session, 4, "/demo text")).await.unwrap();
    assert_eq!(events.turn().await.1, TurnOutcome::Completed);
    server.ask(Request::CloseSession { session }).await.unwrap();
    let failure = server.ask(prompt(session, 5, "hello")).await.unwrap_err();
    assert_eq!(failure.code, FailureCode::NotFound);
}

#[tokio::test]
async fn a_message_is_steered_into_the_turn_once() {
    let place = Place::with_repository();
    let runner = place.runner().await;
    let mut server = Server::connect(&runner).await;
    let session = SessionId::new();
    let mut events = server.events(None);
    server.ask(place.open_demo(session)).await.unwrap();
    server.ask(prompt(session, 1, "/demo slow 1 tools 2")).await.unwrap();
    let id = PromptId::new();
    let steer = Request::Steer { session, turn: 1, prompt: id, content: text("/demo text") };
    let delivered = server.ask(steer.clone()).await.unwrap();
    assert!(matches!(delivered, Reply::Steered { .. }), "{delivered:?}");
    assert_eq!(server.ask(steer).await.unwrap(), delivered);
    let mut steered = 0;
    let (records, outcome) = events.turn().await;
    assert_eq!(outcome, TurnOutcome::Completed);
    for record in records {
        if let RecordKind::Event(EventBody::TurnSteered { prompt, content, .. }) = record.what {
            assert_eq!((prompt, content), (id, text("/demo text")));
            steered += 1;
        }
    }
    assert_eq!(steered, 1);
    let late = Request::Steer { session, turn: 1, prompt: PromptId::new(), content: text("x") };
    assert_eq!(server.ask(late).await.unwrap_err().code, FailureCode::Conflict);
}

#[tokio::test]
async fn a_cancel_right_behind_the_prompt_is_not_lost() {
    let place = Place::with_repository();
    let runner = place.runner().await;
    let mut server = Server::connect(&runner).await;
    let session = SessionId::new();
    let mut events = server.events(None);
    server.ask(place.open_shell(session)).await.unwrap();
    server.send(prompt(session, 1, "sleep 1000")).await;
    server.send(Request::Cancel { session }).await;
    assert_eq!(events.turn().await.1, TurnOutcome::Cancelled);
}

#[tokio::test]
async fn an_agent_that_cant_start_is_a_failure() {
    let place = Place::with_repository();
    let runner = place.runner().await;
    let mut server = Server::connect(&runner).await;
    let session = SessionId::new();
    let open = place.open(session, boatyard_link::message::AgentProtocol::Acp, &["no-such-agent"]);
    let failure = server.ask(open).await.unwrap_err();
    assert_eq!(failure.code, FailureCode::Agent);
    assert!(failure.message.contains("no-such-agent"), "{failure}");
    // The session can be opened anew.
    assert!(server.ask(place.open_shell(session)).await.is_ok());
}

#[tokio::test]
async fn a_turn_whose_runner_died_is_closed_by_the_next_one() {
    let place = Place::with_repository();
    let session = SessionId::new();
    let marker = place.path("work/pid");
    {
        // A runtime of its own, so that everything of this runner ends with it.
        let place = &place;
        let marker = &marker;
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let runner = place.runner().await;
                    let mut server = Server::connect(&runner).await;
                    let mut events = server.events(None);
                    server.ask(place.open_shell(session)).await.unwrap();
                    let script = format!("echo $$ > {marker}; echo begun; exec sleep 1000");
                    server.ask(prompt(session, 1, &script)).await.unwrap();
                    let begun = |body: &EventBody| (body.kind() == "tool.updated").then_some(());
                    events.until(begun).await;
                });
            });
        });
    }
    let runner = place.runner().await;
    let mut server = Server::connect(&runner).await;
    let mut events = server.events(None);
    let (records, outcome) = events.turn().await;
    assert_eq!(outcome, TurnOutcome::RunnerLost);
    assert!(records.windows(2).all(|pair| pair[1].position.n == pair[0].position.n + 1));
    // The lost turn has been seen and is not begun again, before and after the session is opened.
    assert_eq!(server.ask(prompt(session, 1, "echo twice")).await.unwrap(), Reply::Done);
    server.ask(place.open_shell(session)).await.unwrap();
    assert_eq!(server.ask(prompt(session, 1, "echo twice")).await.unwrap(), Reply::Done);
    server.ask(prompt(session, 2, "echo on")).await.unwrap();
    let (records, outcome) = events.turn().await;
    assert_eq!(outcome, TurnOutcome::Completed);
    assert!(records.iter().all(|r| r.turn == Some(2)), "{:?}", kinds(&records));
    drop((server, runner));

    let runner = place.runner().await;
    let server = Server::connect(&runner).await;
    let mut events = server.events(None);
    assert_eq!(events.turn().await.1, TurnOutcome::RunnerLost);
    assert_eq!(events.turn().await.1, TurnOutcome::Completed);
}

#[tokio::test]
async fn a_full_spool_holds_the_agent_and_stop_still_works() {
    let place = Place::with_repository();
    let runner = place.runner_with(200_000).await;
    let mut server = Server::connect(&runner).await;
    let session = SessionId::new();
    server.ask(place.open_demo(session)).await.unwrap();
    server.ask(prompt(session, 1, "/demo huge 8")).await.unwrap();
    // Nobody reads the events; the agent must come to a halt and be stoppable all the same.
    let outcome = TurnOutcome::Cancelled;
    let stopped = soon(server.ask(Request::Stop { session, outcome })).await.unwrap();
    assert!(matches!(stopped, Reply::Stopped { .. }));
    let mut events = server.events(None);
    loop {
        let (record, _) = events.next().await;
        events.ack(record.position).await;
        if let RecordKind::Event(EventBody::TurnCompleted { outcome, .. }) = record.what {
            assert_eq!(outcome, TurnOutcome::Cancelled);
            break;
        }
    }
}

#[tokio::test]
async fn quiesce_ends_sessions_and_what_commands_left() {
    let place = Place::with_repository();
    let runner = place.runner().await;
    let mut server = Server::connect(&runner).await;
    let session = SessionId::new();
    let mut events = server.events(None);
    server.ask(place.open_shell(session)).await.unwrap();
    server.ask(prompt(session, 1, "echo begun; exec sleep 1000")).await.unwrap();
    events.until(|body| (body.kind() == "tool.updated").then_some(())).await;
    let command = ["/bin/sh", "-c", "echo begun; exec sleep 1000"].map(str::to_owned).into();
    let mut exec = server.exec(ExecRequest { command, ..ExecRequest::default() }).await;
    assert_eq!(exec.piece().await, (1, b"begun\n".to_vec()));
    assert!(runner.is_busy());
    assert_eq!(server.ask(Request::Quiesce).await.unwrap(), Reply::Done);
    assert_eq!(events.turn().await.1, TurnOutcome::Cancelled);
    assert_eq!(exec.ended().await.exit, ExecExit::Signalled { signal: 15 });
    let Reply::Status(status) = server.ask(Request::Status).await.unwrap() else { panic!() };
    assert_eq!(status.sessions.len(), 0);
    soon(async {
        while runner.is_busy() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_lost_turn_is_closed_even_when_the_spool_was_full() {
    let place = Place::with_repository();
    let session = SessionId::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let runner = place.runner_with(100_000).await;
                let mut server = Server::connect(&runner).await;
                server.ask(place.open_demo(session)).await.unwrap();
                server.ask(prompt(session, 1, "/demo huge 8")).await.unwrap();
                let mut events = server.events(None);
                // Some is written, nothing acknowledged.
                for _ in 0..2 {
                    events.next().await;
                }
            });
        });
    });
    let runner = place.runner_with(1).await;
    let mut server = Server::connect(&runner).await;
    let mut events = server.events(None);
    loop {
        let (record, _) = events.next().await;
        events.ack(record.position).await;
        if let RecordKind::Event(EventBody::TurnCompleted { outcome, .. }) = record.what {
            assert_eq!(outcome, TurnOutcome::RunnerLost);
            break;
        }
    }
    assert!(server.ask(place.open_shell(session)).await.is_ok());
}

#[tokio::test]
async fn a_turn_that_only_the_server_knows_of_is_begun() {
    let place = Place::with_repository();
    let runner = place.runner().await;
    let mut server = Server::connect(&runner).await;
    let session = SessionId::new();
    let Request::OpenSession(mut open) = place.open_shell(session) else { unreachable!() };
    // The server had stored the turn's beginning and died before it sent the prompt.
    open.last_turn = 7;
    server.ask(Request::OpenSession(open)).await.unwrap();
    let mut events = server.events(None);
    server.ask(prompt(session, 7, "echo seven")).await.unwrap();
    assert_eq!(events.turn().await.1, TurnOutcome::Completed);
}
