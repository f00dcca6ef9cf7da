//! Requests that wait for a person, and the log of what left, with a real server and workspaces.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::yard::{LIMIT, Victim, Yard};

/// A web server of this test's, which the rules ask about. Its port.
fn web() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read(&mut byte) {
                        Ok(1) => head.push(byte[0]),
                        _ => return,
                    }
                }
                let path = String::from_utf8_lossy(&head);
                let path = path.split(' ').nth(1).unwrap_or_default().to_owned();
                let body = format!("you are at {path}\n");
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                // Who asked may be gone.
                let _ = stream.write_all((head + &body).as_bytes());
            });
        }
    });
    port
}

/// A server that asks about that web server, with further settings of egress.
fn yard(port: u16, more: &str) -> Yard {
    let mut yard = Yard::without_server();
    yard.write(
        "data/boatyard.toml",
        &format!(
            "[egress]\nask = [\"127.0.0.1:{port}\"]\nallow_private = [\"127.0.0.0/8\"]\n{more}\n"
        ),
    );
    yard.start_server();
    yard.repository("app");
    yard
}

/// What asks for a path there by the proxy.
fn get(port: u16, path: &str) -> String {
    format!(
        "curl -sS --max-time 60 --noproxy '' -x http://127.0.0.1:3128 http://127.0.0.1:{port}{path}"
    )
}

/// The answer of a command, when it is what is waited for.
fn when(yard: &Yard, args: &[&str], is_it: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + LIMIT;
    loop {
        let value = yard.json(args);
        if is_it(&value) {
            return value;
        }
        assert!(Instant::now() < deadline, "boatyard {args:?} stays at {value:#}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The one request that waits.
pub(super) fn waiting(yard: &Yard) -> Value {
    let asks = when(yard, &["egress", "asks"], |asks| {
        asks["items"].as_array().is_some_and(|asks| asks.len() == 1)
    });
    asks["items"][0].clone()
}

fn id(value: &Value) -> &str {
    value["id"].as_str().unwrap()
}

#[test]
fn a_request_waits_for_a_person_and_each_answer_does_what_it_says() {
    let port = web();
    let yard = yard(port, "");
    let steps = ["/once", "/once", "/minutes", "/minutes", "/never", "/never", "/no"];
    let script: Vec<String> =
        steps.iter().map(|path| format!("{} | head -1", get(port, path))).collect();
    let script = script.join("; ");
    let task = yard.json(&["run", &script, "--repo", "app", "--agent", "shell", "--detach"]);
    let task = id(&task).to_owned();

    let first = waiting(&yard);
    assert_eq!(first["method"], "GET");
    assert_eq!(first["path"], "/once");
    assert_eq!(first["port"], port);
    assert_eq!(first["program"], "curl", "{first:#}");
    assert_eq!(first["task"], task.as_str());
    assert_eq!(first["waiting"], 1);
    // It shows as a permission would.
    when(&yard, &["task", "show", &task], |task| task["state"] == "waiting");
    let listed = yard.run(&["egress", "asks"]);
    assert!(listed.contains("GET 127.0.0.1:[PORT]/once") || listed.contains("/once"), "{listed}");
    assert!(listed.contains("boatyard egress answer ask_"), "{listed}");

    let answer = |ask: &Value, word: &str| yard.json(&["egress", "answer", id(ask), word]);
    let said = answer(&first, "once");
    assert_eq!((&said["state"], &said["answer"]), (&"allowed".into(), &"once".into()));
    assert!(said.get("made").is_none(), "{said:#}");
    // The same answer again changes nothing; another one comes too late.
    assert_eq!(answer(&first, "once")["answer"], "once");
    let late = yard.run(&["egress", "answer", id(&first), "never"]);
    assert!(late.contains("has answered it already: once"), "{late}");

    // Once is once.
    let second = waiting(&yard);
    assert_eq!(second["path"], "/once");
    assert_ne!(second["id"], first["id"]);
    answer(&second, "once");

    let third = waiting(&yard);
    assert_eq!(third["path"], "/minutes");
    let said = answer(&third, "ten-minutes");
    assert!(said["made"].as_str().unwrap().starts_with("egr_"), "{said:#}");

    // The second one to the same place passed by that.
    let fifth = waiting(&yard);
    assert_eq!(fifth["path"], "/never", "{fifth:#}");
    answer(&fifth, "never");
    // Nor is it asked again after a no for ever.
    let last = waiting(&yard);
    assert_eq!(last["path"], "/no", "{last:#}");
    let said = yard.run(&["egress", "answer", id(&last), "no"]);
    assert!(said.contains("Refused, this time"), "{said}");

    let task = when(&yard, &["task", "show", &task], |task| {
        ["succeeded", "failed"].contains(&task["state"].as_str().unwrap_or_default())
    });
    assert_eq!(task["state"], "succeeded", "{task:#}");
    let logs = yard.run(&["logs", "-v", id(&task)]);
    for words in [
        "asks to reach GET 127.0.0.1:",
        "by curl",
        "Allowed, this time (",
        "Allowed for ten minutes (",
        "Refused in this workspace from now on (",
        "Refused, this time (",
        "you are at /minutes",
    ] {
        assert!(logs.contains(words), "{words} is not in {logs}");
    }
    assert_eq!(logs.matches("you are at /once").count(), 2, "{logs}");
    assert_eq!(logs.matches("you are at /minutes").count(), 2, "{logs}");
    assert!(!logs.contains("you are at /n"), "{logs}");

    log_of(&yard, &task, port);
}

/// What the log has of the story above.
fn log_of(yard: &Yard, task: &Value, port: u16) {
    let workspace = task["attempts"][0]["workspace"].as_str().unwrap();
    let log = when(yard, &["egress", "log", "--workspace", workspace], |log| {
        log["items"].as_array().is_some_and(|items| items.len() == 7)
    });
    let verdicts: Vec<(&str, &str)> = log["items"]
        .as_array()
        .unwrap()
        .iter()
        .rev()
        .map(|item| (item["path"].as_str().unwrap(), item["verdict"].as_str().unwrap()))
        .collect();
    // The second to each place that was answered for longer had nobody asked.
    let (minutes, never) = (verdicts[3].1, verdicts[5].1);
    assert!(["allowed", "asked_allowed"].contains(&minutes), "{verdicts:?}");
    assert!(["denied", "asked_denied"].contains(&never), "{verdicts:?}");
    assert_eq!(
        verdicts,
        [
            ("/once", "asked_allowed"),
            ("/once", "asked_allowed"),
            ("/minutes", "asked_allowed"),
            ("/minutes", minutes),
            ("/never", "asked_denied"),
            ("/never", never),
            ("/no", "asked_denied"),
        ]
    );
    let first = &log["items"][6];
    assert_eq!(first["host"], "127.0.0.1");
    assert_eq!(first["port"], port);
    assert_eq!(first["status"], 200);
    assert_eq!(first["program"], "curl", "{first:#}");
    assert_eq!(first["task"], task["id"]);
    assert_eq!(first["session"], task["attempts"][0]["session"]);
    assert_eq!(first["received"], "you are at /once\n".len());
    assert!(first["micros"].as_u64().unwrap() > 0);

    let denied =
        yard.json(&["egress", "log", "--workspace", workspace, "--verdict", "asked_denied"]);
    assert!(denied["items"].as_array().unwrap().len() >= 2, "{denied:#}");
    let shown = yard.run(&["egress", "log", "--host", "127.0.0.1"]);
    assert!(shown.contains("asked_allowed"), "{shown}");
    assert!(shown.contains("/minutes"), "{shown}");

    yard.run(&["egress", "export", "--workspace", workspace, "--file", "log.ndjson"]);
    let lines = std::fs::read_to_string(yard.path("log.ndjson")).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let items: Vec<Value> = log["items"].as_array().unwrap().iter().rev().cloned().collect();
    assert_eq!(lines, items);
    let csv = yard.run(&["egress", "export", "--format", "csv", "--workspace", workspace]);
    assert!(csv.contains("\nnumber,time,workspace,session,task,way,program,method,host,"), "{csv}");
    assert_eq!(csv.matches(",127.0.0.1,").count(), 7, "{csv}");

    let sums = yard.json(&["egress", "summary", "--by", "host", "--workspace", workspace]);
    let sum = &sums["totals"][0];
    assert_eq!((&sum["key"], &sum["count"]), (&"127.0.0.1".into(), &7.into()), "{sums:#}");
    assert_eq!(sum["refused"], 3, "{sums:#}");
    let steps = sums["steps"].as_array().unwrap();
    let counted: u64 = steps.iter().map(|step| step["count"].as_u64().unwrap()).sum();
    assert_eq!(counted, 7);
    assert_eq!(sums["dropped"], 0);
}

#[test]
fn where_nobody_can_answer_the_command_says_how_and_no_answer_is_a_no() {
    let port = web();
    let yard = yard(port, "ask_time = \"2s\"");
    let ran = yard.run(&["run", &get(port, "/x"), "--repo", "app", "--agent", "shell"]);
    assert!(ran.contains("It waits for a person. Answer with:"), "{ran}");
    assert!(
        ran.contains("boatyard egress answer [ask] once") || ran.contains("egress answer ask_")
    );
    assert!(ran.ends_with("[5]\n"), "{ran}");
    let task = when(&yard, &["task", "show", "@last"], |task| task["state"] == "succeeded");
    let logs = yard.run(&["logs", "-v", id(&task)]);
    assert!(logs.contains("Nobody answered in time: it was refused."), "{logs}");
    let log = when(&yard, &["egress", "log"], |log| !log["items"][0].is_null());
    assert_eq!(log["items"][0]["verdict"], "asked_expired", "{log:#}");
    let reason = log["items"][0]["reason"].as_str().unwrap();
    assert!(reason.ends_with("says to ask, and nobody answered within 2 s"), "{reason}");
}

#[test]
fn a_program_that_goes_away_withdraws_its_question() {
    let port = web();
    let yard = yard(port, "");
    // It goes when it is told to.
    let script =
        format!("mkfifo /tmp/go; {} & cat /tmp/go; kill -9 $!; echo gone", get(port, "/x"));
    yard.json(&["run", &script, "--repo", "app", "--agent", "shell", "--detach"]);
    let ask = waiting(&yard);
    let workspace = ask["workspace"].as_str().unwrap();
    let tell =
        ["workspace", "exec", workspace, "--", "timeout", "20", "sh", "-c", "echo > /tmp/go"];
    assert!(yard.command(&tell).status().unwrap().success());
    let ended =
        when(&yard, &["egress", "asks", "--all"], |asks| asks["items"][0]["state"] != "open");
    assert_eq!(ended["items"][0]["state"], "withdrawn");
    let late = yard.run(&["egress", "answer", id(&ask), "once"]);
    assert!(late.contains("what asked is gone"), "{late}");
    when(&yard, &["task", "show", "@last"], |task| task["state"] == "succeeded");
    let log = when(&yard, &["egress", "log"], |log| !log["items"][0].is_null());
    assert_eq!(log["items"][0]["verdict"], "asked_withdrawn", "{log:#}");
}

#[test]
fn a_question_outlives_the_server_that_asked_it() {
    let port = web();
    let mut yard = yard(port, "");
    let get = get(port, "/x");
    let script = format!("until {get} -f -o got; do sleep 0.2; done; cat got");
    yard.json(&["run", &script, "--repo", "app", "--agent", "shell", "--detach"]);
    let ask = waiting(&yard);
    yard.kill(Victim::Server);
    yard.start_server();
    let same = when(&yard, &["egress", "asks"], |asks| asks["items"][0]["waiting"] == 1);
    assert_eq!(same["items"][0]["id"], ask["id"]);
    yard.json(&["egress", "answer", id(&ask), "workspace"]);
    let task = when(&yard, &["task", "show", "@last"], |task| task["state"] == "succeeded");
    let logs = yard.run(&["logs", "-v", id(&task)]);
    assert!(logs.contains("you are at /x"), "{logs}");
    assert!(logs.contains("Allowed in this workspace from now on ("), "{logs}");
}

#[test]
fn an_answer_for_a_repository_holds_in_its_other_workspaces_alone() {
    let port = web();
    let yard = yard(port, "");
    yard.repository("other");
    let order = |repository: &str, more: &[&str]| {
        let get = format!("{} -f", get(port, "/x/1"));
        let args = ["run", &get, "--repo", repository, "--agent", "shell"];
        yard.run(&[&args[..], more].concat())
    };
    order("app", &["--detach"]);
    let said = yard.json(&["egress", "answer", id(&waiting(&yard)), "repository"]);
    let made = said["made"].as_str().unwrap();
    assert_eq!(said["answer"], "repository");
    when(&yard, &["task", "show", "@last"], |task| task["state"] == "succeeded");
    // The rule is the repository's, and of no other.
    let rules = |repository: &str| {
        let rules = yard.json(&["egress", "rules", "--repo", repository]);
        let rules = rules["rules"].as_array().unwrap().clone();
        rules.into_iter().filter(|rule| rule["scope"] == "repository").collect::<Vec<Value>>()
    };
    let own = rules("app");
    assert_eq!((own.len(), own[0]["id"].as_str()), (1, Some(made)), "{own:#?}");
    assert_eq!(rules("other"), Vec::<Value>::new());
    // Nobody is asked in its next workspace, and somebody in another's.
    let ran = order("app", &[]);
    assert!(ran.ends_with("[0]\n") && !ran.contains("waits for a person"), "{ran}");
    order("other", &["--detach"]);
    let asked = waiting(&yard);
    assert_eq!(asked["path"], "/x/1");
    assert_ne!(asked["repository"], said["repository"]);
    yard.json(&["egress", "answer", id(&asked), "no"]);
    // Without a repository there is none to answer for.
    let bare = yard.json(&["workspace", "create"])["id"].as_str().unwrap().to_owned();
    let get = get(port, "/y");
    let mut program = yard.command(&["workspace", "exec", &bare, "--", "sh", "-c", &get]);
    let mut program = program.stdout(std::process::Stdio::null()).spawn().unwrap();
    let asked = waiting(&yard);
    let said = yard.run(&["egress", "answer", id(&asked), "repository"]);
    assert!(!said.ends_with("[0]\n") && said.contains("repository"), "{said}");
    yard.json(&["egress", "answer", id(&asked), "once"]);
    assert!(program.wait().unwrap().success());
}

#[test]
fn what_makes_no_sense_is_refused_with_a_sentence() {
    let yard = Yard::with_server();
    let nobody = "ask_01JD5X8Z4J6Q0V9W3T7R2K1M5N";
    let check = |args: &[&str], words: &str, code: i32| {
        let ran = yard.run(args);
        assert!(ran.contains(words) && ran.ends_with(&format!("[{code}]\n")), "{words}: {ran}");
    };
    check(&["egress", "answer", nobody, "once"], "there is no ask", 3);
    check(&["egress", "answer", nobody, "maybe"], "ten_minutes", 2);
    check(&["egress", "answer", "per_1", "once"], "is not an ask id", 2);
    check(&["egress", "log", "--host", "a*b"], "`*.example.com`", 2);
    check(&["egress", "log", "--verdict", "fine"], "is not a value of", 2);
    check(&["egress", "log", "--since", "soon"], "90s, 15m, 2h or 7d", 2);
    check(&["egress", "asks"], "No request waits for a person.", 0);
    check(&["egress", "log"], "There are no such requests.", 0);
}
