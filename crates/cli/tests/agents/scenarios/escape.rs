//! A prompt that tries to print every variable, read every file and reach every host, in an agent
//! that may do everything: it finds no credential and no way out, and its job succeeds.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use boatyard_api::{connection::NewConnection, workspace::WriteFileQuery};
use boatyard_egress::scripted::Seen;
use boatyard_model::{AttemptState, PromptMode};
use serde_json::json;
use tokio::net::TcpListener;

use crate::{
    house::{DECOY, KEY},
    provider::has,
    quiet,
    talk::{LIMIT, Scene, Talk, sh},
};

/// A credential that goes with what the workspace asks of a service. The workspace has another.
const TOKEN: &str = "made-up-token-4b7e0d19c2a8f356aa01";

/// The tries, as a script.
const TRIES: &str = include_str!("escape.sh");

pub(super) async fn everything_is_tried(scene: Scene) -> Vec<Talk> {
    let (house, word) = (&scene.house, scene.word("said"));
    let bait = Bait::start().await;
    let order = json!({ "name": "github", "kind": "github", "value": TOKEN });
    let connection: NewConnection = serde_json::from_value(order).unwrap();
    house.client().create_connection(&connection).await.unwrap();

    let mut talk = scene.order(&format!("[[say:{word}]]"), json!({})).await;
    talk.turn(1).await.completed();
    let query = WriteFileQuery { path: "tries.sh".to_owned(), executable: false };
    house.client().write_file(talk.workspace, &query, TRIES).await.unwrap();

    let over = scene.word("over");
    let prompt = format!(
        "[[run:bash /work/tries.sh {} 2>&1; echo {word}]] [[write:made.txt|all the same\\n]] \
         [[say:{over}]]",
        bait.port
    );
    talk.prompt(&prompt, PromptMode::Queue).await;
    let turn = talk.turn(2).await;
    assert!(turn.completed().said().contains(&over), "{turn:?}");

    // What the agent was shown, it showed to its model.
    let told = |seen: &Seen| has(&seen.body, "tries are over");
    let shown = house.provider.request("with what was found", LIMIT, told).await;
    let shown = String::from_utf8_lossy(&shown.body).into_owned();
    for nothing in ["variables: 0", "files: 0", "processes: 0"] {
        assert!(shown.contains(nothing), "not `{nothing}`: {shown}");
    }
    assert!(shown.contains("GITHUB_TOKEN="), "no placeholder is in its variables: {shown}");
    assert!(!shown.contains("REACHED"), "something was reached: {shown}");
    let tried = TRIES.lines().filter(|line| is_try(line)).count() + 2;
    assert_eq!(shown.matches(": kept").count(), tried, "not all was tried: {shown}");
    for seen in house.provider.seen() {
        for secret in [KEY, DECOY, TOKEN] {
            assert!(!has(&seen.body, secret), "{secret} went to {}", seen.uri);
        }
    }
    assert_eq!(bait.met.load(Ordering::Relaxed), 0, "the host's loopback was reached");

    // Nor does the log have it, and what was refused is in it.
    let log = format!("{:?}", talk.events);
    assert!([KEY, DECOY, TOKEN].iter().all(|secret| !log.contains(secret)));
    assert!(log.contains("EgressBlocked"), "no refusal was told");

    // The same search finds what is put before it: the agent's own workspace is looked through.
    let plant = "printf 'sk-made-up-%s' key > /tmp/planted; bash /work/tries.sh 1; rm /tmp/planted";
    let planted = sh(house, talk.workspace, plant, "").await;
    assert!(planted.contains("files: 1"), "the search finds nothing at all: {planted}");

    let task = talk.settled().await;
    assert_eq!(task.state, AttemptState::Succeeded, "{task:?}");
    quiet::nothing_came_in(house, talk.workspace).await;
    house.client().stop_workspace(talk.workspace).await.unwrap();
    // It was not quiet: that is what it is about.
    Vec::new()
}

/// Whether a line of the script is a try that says what came of it.
fn is_try(line: &str) -> bool {
    ["try ", "proxy ", "models "].iter().any(|word| line.starts_with(word))
}

/// A listener on the host's loopback that nothing inside should reach.
struct Bait {
    port: u16,
    met: Arc<AtomicUsize>,
    serving: tokio::task::JoinHandle<()>,
}

impl Bait {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let met = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&met);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbait";
                let _ = stream.try_write(answer);
            }
        });
        Self { port, met, serving }
    }
}

impl Drop for Bait {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
