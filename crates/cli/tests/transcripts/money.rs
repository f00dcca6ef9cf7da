//! What models cost, and what happens when it is as much as they may.

use std::time::Instant;

use serde_json::Value;

use crate::{
    models::{Provider, sh, yard},
    yard::{LIMIT, Yard},
};

/// Each answer costs more than a dollar: ten tokens and more, at ten cents.
const PRICES: &str = "prices = [\"m input=100000 output=100000\"]\n";
const QUESTION: &str =
    r#"{"model":"m","messages":[{"role":"user","content":"[[say:Hello, and more words]]"}]}"#;

fn ask() -> String {
    format!(
        "curl -sS -w '\\n%{{http_code}}\\n' -d '{QUESTION}' \
         http://127.0.0.1:7080/openai/v1/chat/completions"
    )
}

fn order(yard: &Yard, script: &str) -> String {
    let args = ["run", script, "--repo", "app", "--agent", "shell", "--detach"];
    let ordered = yard.command(&args).output().unwrap();
    assert!(ordered.status.success(), "{ordered:?}");
    String::from_utf8(ordered.stdout).unwrap().trim().to_owned()
}

/// Waits until somebody is asked, and gives what is asked.
fn asked(yard: &Yard) -> Value {
    let deadline = Instant::now() + LIMIT;
    loop {
        let open = yard.json(&["permission", "list"]);
        if let Some(first) = open["items"].as_array().and_then(|open| open.first()) {
            return first["permission"].clone();
        }
        assert!(Instant::now() < deadline, "nobody is asked");
        std::thread::yield_now();
    }
}

fn id(asked: &Value) -> &str {
    asked["id"].as_str().unwrap()
}

/// Waits for the end of a task; it may wait for a person on the way.
fn end(yard: &Yard, task: &str) -> Value {
    let deadline = Instant::now() + LIMIT;
    loop {
        let shown = yard.json(&["task", "show", task]);
        if shown["ended"].is_string() {
            return shown;
        }
        assert!(Instant::now() < deadline, "{shown:#}");
        std::thread::yield_now();
    }
}

#[test]
fn a_budget_that_is_spent_holds_a_request_until_a_person_says_more() {
    let provider = Provider::start();
    let yard = yard(&provider, PRICES);
    yard.repository("app");
    let budget = yard.json(&["budget", "set", "1"]);
    assert_eq!((&budget["scope"], &budget["period"]), (&"organization".into(), &"month".into()));

    let task = order(&yard, &format!("set -e; {0}; {0} | tail -n 1 | grep -q 200", ask()));
    let question = asked(&yard);
    let title = question["title"].as_str().unwrap();
    assert!(title.contains("organization's budget for this month is $1.00"), "{title}");
    assert_eq!(provider.seen().len(), 1, "the second is held");
    assert_eq!(yard.json(&["task", "show", &task])["state"], "waiting");
    let answered = yard.command(&["permission", "answer", id(&question), "allow"]);
    let answered = { answered }.output().unwrap();
    assert!(answered.status.success(), "{answered:?}");
    let shown = end(&yard, &task);
    assert_eq!(shown["state"], "succeeded", "{shown:#}");
    assert_eq!(provider.seen().len(), 2);

    // Every request is counted, for its task.
    let usage = yard.json(&["usage", "--by", "task"]);
    assert_eq!((&usage["items"][0]["label"], &usage["total"]["calls"]), (&task.into(), &2.into()));
    let cost = usage["total"]["cost_usd"].as_f64().unwrap();
    assert!(cost > 2.0, "{usage:#}");
    let listed = yard.json(&["budget", "list"]);
    assert_eq!(listed["items"][0]["spent_usd"].as_f64(), Some(cost), "{listed:#}");

    // A no ends the turn, and the request never leaves.
    let task = order(&yard, &ask());
    let question = asked(&yard);
    let no = yard.command(&["permission", "answer", id(&question), "stop"]).output().unwrap();
    assert!(no.status.success(), "{no:?}");
    let shown = end(&yard, &task);
    assert_eq!(shown["state"], "cancelled", "{shown:#}");
    assert_eq!(provider.seen().len(), 2);

    // Without the budget nothing is held.
    let removed = yard.command(&["budget", "remove", budget["id"].as_str().unwrap()]);
    assert!({ removed }.output().unwrap().status.success());
    let task = order(&yard, &ask());
    assert_eq!(end(&yard, &task)["state"], "succeeded");
    assert_eq!(provider.seen().len(), 3);
}

#[test]
fn an_attempt_that_nobody_gives_more_to_in_time_ends_with_a_reason() {
    let provider = Provider::start();
    let limits = "[limits]\nanswer_time = \"1 s\"\ntask_cost = 0.5\n";
    let yard = yard(&provider, &format!("{PRICES}\n{limits}"));
    yard.repository("app");
    let task = order(&yard, &format!("{0}; {0}", ask()));
    // What looks for unanswered questions now and then, each time at once.
    let deadline = Instant::now() + LIMIT;
    while yard.json(&["task", "show", &task])["ended"].is_null() {
        assert!(Instant::now() < deadline, "it waits for ever");
        let looked = yard.command(&["job", "run", "expire", "--once"]).output().unwrap();
        assert!(looked.status.success(), "{looked:?}");
    }
    let shown = end(&yard, &task);
    assert_eq!(shown["state"], "failed", "{shown:#}");
    let reason = shown["attempts"][0]["reason"].to_string();
    assert!(reason.contains("nobody allowed more in time"), "{shown:#}");
    assert_eq!(provider.seen().len(), 1);
}

#[test]
fn another_sessions_name_is_not_believed() {
    let provider = Provider::start();
    let yard = yard(&provider, PRICES);
    yard.repository("app");
    let task = order(&yard, &ask());
    assert_eq!(end(&yard, &task)["state"], "succeeded");
    let session = yard.json(&["task", "show", &task])["attempts"][0]["session"].clone();
    let session = session.as_str().unwrap();
    // From another workspace, in that session's name.
    let other = yard.json(&["workspace", "create"])["id"].as_str().unwrap().to_owned();
    let at = format!("http://127.0.0.1:7080/s/{session}/openai/v1/chat/completions");
    sh(&yard, &other, &format!("curl -sSf -d '{QUESTION}' {at}"));
    let of_session = yard.json(&["usage", "--by", "session", "--session", session]);
    assert_eq!(of_session["total"]["calls"], 1, "{of_session:#}");
    assert_eq!(yard.json(&["usage"])["total"]["calls"], 2);
}
