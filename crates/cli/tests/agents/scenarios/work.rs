//! The usual: a file, a command, and a word after it.

use boatyard_api::workspace::ForkRequest;
use boatyard_model::{
    AttemptState, PromptMode,
    event::{FileChange, ToolKind, ToolStatus},
};
use serde_json::json;

use crate::{
    agent::Told,
    quiet,
    talk::{Scene, Talk, sh},
};

/// The processes of the worker, but for this script: their numbers, lowest first.
const PROCESSES: &str = "for p in /proc/[0-9]*; do n=${p#/proc/}; \
    test \"$(stat -c %u $p 2>/dev/null)\" = \"$(id -u)\" || continue; \
    test $n = $$ || test \"$(cut -d' ' -f4 $p/stat 2>/dev/null)\" = $$ || echo $n; \
    done | sort -n";

pub(super) async fn a_file_and_a_command(scene: Scene) -> Vec<Talk> {
    let (house, word) = (&scene.house, scene.word("said"));
    let prompt = format!(
        "[[think:about {word}]] [[write:made.txt|by a script\\n]] [[run:wc -c made.txt; exit 3]] \
         [[say:{word}]]"
    );
    let mut talk = scene.order(&prompt, json!({})).await;
    let turn = talk.turn(1).await;
    turn.completed();
    assert!(turn.messages().last().unwrap().contains(&format!("[scripted] {word}")), "{turn:?}");

    let tools = turn.tools();
    let of = |kind| tools.iter().find(|used| used.tool.kind == Some(kind));
    if house.agent.edits == Told::Yes {
        let wrote = of(ToolKind::Edit).expect("a call that edits");
        assert_eq!(wrote.status, ToolStatus::Completed);
        let named = format!("{:?}{:?}", wrote.tool.locations, wrote.tool.diffs);
        assert!(named.contains("made.txt"), "{wrote:?}");
    }
    let ran = tools.iter().rfind(|used| used.tool.kind == Some(ToolKind::Execute));
    let ran = ran.expect("a call that runs");
    let shown = format!("{:?}{:?}", ran.tool.title, ran.tool.input);
    assert!(shown.contains("wc -c made.txt"), "{ran:?}");
    if house.agent.output == Told::Yes {
        let output = ran.tool.output.as_deref().unwrap_or_default();
        assert!(output.contains("12 made.txt"), "{ran:?}");
        assert_eq!(ran.exit_code, Some(3), "{ran:?}");
    }
    let changed = |body: &boatyard_model::EventBody| {
        matches!(body, boatyard_model::EventBody::FileChanged { path, change, .. }
            if path == "made.txt" && *change == FileChange::Added)
    };
    assert!(turn.events.iter().any(changed), "{turn:?}");

    let task = talk.settled().await;
    assert_eq!(task.state, AttemptState::Succeeded, "{task:?}");
    let result = task.attempts[0].result.as_ref().unwrap();
    let files: Vec<&str> = result.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(files, ["made.txt"]);
    assert_eq!((result.added, result.removed), (1, 0));
    if house.agent.usage == Told::Yes {
        let usage = result.usage;
        assert!(usage.input_tokens > 0 || usage.context_used > 0, "{usage:?}");
    }

    // Once more, in the same process.
    let before = talk.sh(PROCESSES).await;
    let again = scene.word("again");
    talk.prompt(&format!("[[say:{again}]]"), PromptMode::Queue).await;
    let turn = talk.turn(2).await;
    assert!(turn.completed().said().contains(&format!("[scripted] {again}")), "{turn:?}");
    let after = talk.sh(PROCESSES).await;
    let first = before.lines().next().expect("the agent is there");
    assert!(after.lines().any(|one| one == first), "{before} / {after}");

    controls(&scene, &talk).await;
    vec![talk]
}

/// That the search for what must not be there would find it: in a workspace of its own.
async fn controls(scene: &Scene, talk: &Talk) {
    let house = &scene.house;
    // What stands in the key's place is in the agent's variables, or in its settings.
    let search = "grep -rla placeholder /home /proc/[0-9]*/environ 2>/dev/null; true";
    let found = sh(house, talk.workspace, search, "").await;
    assert!(!found.is_empty(), "what stands in the key's place is not found");
    let same = ForkRequest::default();
    let fork = house.client().fork_workspace(talk.workspace, &same, None).await.unwrap().id;
    let leave = "timeout 5 bash -c 'exec 3<>/dev/tcp/192.0.2.1/80; cat <&3' 2>/dev/null; \
        timeout 5 bash -c 'echo a question > /dev/udp/192.0.2.1/53' 2>/dev/null; true";
    sh(house, fork, leave, "").await;
    let moved = quiet::counters(house, fork).await;
    assert!(moved.iter().any(|(_, count)| *count > 0), "a try to leave is not counted: {moved:?}");
    let tries = quiet::tries(house, fork).await;
    assert!(tries.iter().any(|entry| entry.host == "192.0.2.1"), "nor logged: {tries:?}");
    house.client().delete_workspace(fork).await.unwrap();
}
