//! What an order may say beyond its prompt: an environment, an autonomy; and agents of one's own.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use serde_json::Value;

use crate::yard::{FILTERS, Yard};

/// Compares what commands do with their recorded transcript.
macro_rules! check {
    ($name:literal, $($transcript:expr),+ $(,)?) => {
        insta::with_settings!({ filters => FILTERS.to_vec() }, {
            insta::assert_snapshot!($name, [$($transcript),+].join("\n"))
        })
    };
}

#[test]
fn an_environment_is_chosen_by_its_name() {
    let yard = Yard::with_server();
    yard.repository("app");
    yard.write("app/.boatyard/environment.toml", "[env]\nWHERE = 'default'\n");
    yard.write(
        "app/.boatyard/environments/ci.toml",
        "setup = ['echo set up > /home/agent/done']\n[env]\nWHERE = 'ci'\n",
    );
    yard.write("app/.boatyard/environments/broken.toml", "setpu = []\n");
    yard.git("app", &["add", "-A"]);
    yard.git("app", &["commit", "-q", "-m", "Environments"]);
    let look = "{ echo $WHERE; cat ~/done || echo no setup; } > seen.txt";
    let run = |more: &[&str]| {
        let mut args = vec!["run", look, "--repo", "app", "--agent", "shell"];
        args.extend(more);
        yard.run(&args)
    };
    check!(
        "environments",
        run(&[]),
        yard.run(&["diff", "@last"]),
        run(&["--env", "ci"]),
        yard.run(&["diff", "@last"]),
        run(&["--env", "default"]),
        run(&["--env", "gpu"]),
        run(&["--env", "broken"]),
        yard.run(&["prompt", "@last", "go on"]),
        run(&["--env", "../ci"]),
    );
    let task = yard.json(&["task", "show", "@last"]);
    assert_eq!(task["environment"], "broken");
    assert_eq!(task["attempts"][0]["reason"]["code"], "environment_invalid");
}

#[test]
fn an_autonomy_decides_what_a_person_is_asked() {
    let yard = Yard::with_server();
    yard.repository("app");
    let run = |how: &str, agent: &str| {
        yard.run(&["run", "make x.txt", "--repo", "app", "--agent", agent, "--autonomy", how])
    };
    check!("autonomy", run("ask", "demo"), run("free", "demo"), run("ask_changes", "shell"));
}

/// Speaks ACP by rote: asks for a permission, withdraws it, and goes on.
const FICKLE: &str = r#"
while read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
  answer() { printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$1"; }
  case "$line" in
    *'"initialize"'*) answer '{"protocolVersion":1}' ;;
    *'"session/new"'*) answer '{"sessionId":"s"}' ;;
    *'"session/prompt"'*)
      prompt=$id
      echo '{"jsonrpc":"2.0","id":"p","method":"session/request_permission","params":{"sessionId":"s","toolCall":{"toolCallId":"t","title":"Touch it","kind":"edit"},"options":[{"optionId":"y","name":"Yes","kind":"allow_once"}]}}'
      echo '{"jsonrpc":"2.0","method":"$/cancel_request","params":{"requestId":"p"}}'
      ;;
    *'"id":"p"'*)
      echo '{"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"s","update":{"sessionUpdate":"agent_message_chunk","content":{"type":"text","text":"I go on."}}}}'
      id=$prompt
      answer '{"stopReason":"end_turn"}'
      ;;
  esac
done
"#;

#[test]
fn what_an_agent_withdraws_waits_for_nobody() {
    let mut yard = Yard::without_server();
    let script = toml::Value::from(FICKLE);
    yard.write(
        "data/boatyard.toml",
        &format!(
            "[agents.fickle]\nprotocol = 'acp'\ncommand = ['/bin/sh', '-c', {script}]\nautonomy = 'ask'\n"
        ),
    );
    yard.start_server();
    yard.repository("app");
    // Done, or gone as soon as a person is wanted.
    yard.run(&["run", "x", "--repo", "app", "--agent", "fickle"]);
    let told = until_the_turn_s_end(&yard);
    let asked = told.iter().position(|event| event == "permission.requested").unwrap();
    assert_eq!(
        told[asked..asked + 4],
        [
            "permission.requested",
            "session.state waiting",
            "permission.resolved cancelled",
            "session.state running",
        ],
        "{told:#?}"
    );
    assert!(told[asked + 4..].contains(&"message.completed I go on.".to_owned()), "{told:#?}");
    assert_eq!(told.last().unwrap(), "turn.completed completed", "{told:#?}");
}

/// What the newest task's session tells until its turn is over: the kind of each event, and its word.
fn until_the_turn_s_end(yard: &Yard) -> Vec<String> {
    let mut logs = yard
        .command(&["--json", "logs", "@last", "--follow"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = Vec::new();
    for line in BufReader::new(logs.stdout.take().unwrap()).lines() {
        let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let words = [&event["state"], &event["outcome"], &event["text"]];
        let word = words.iter().find_map(|word| word.as_str()).unwrap_or_default();
        let kind = event["type"].as_str().unwrap();
        told.push(format!("{kind} {word}").trim_end().to_owned());
        if kind == "turn.completed" {
            break;
        }
    }
    logs.kill().unwrap();
    logs.wait().unwrap();
    told
}
