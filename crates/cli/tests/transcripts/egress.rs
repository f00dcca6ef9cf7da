//! Rules of egress: by the command line, and in workspaces that run.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    thread,
    time::Duration,
};

use crate::yard::{FILTERS, LIMIT, Yard};

/// Compares what commands do with their recorded transcript.
macro_rules! check {
    ($name:literal, $($transcript:expr),+ $(,)?) => {
        insta::with_settings!({ filters => FILTERS.to_vec() }, {
            insta::assert_snapshot!($name, [$($transcript),+].join("\n"))
        })
    };
}

#[test]
fn rules_are_made_shown_tried_and_removed() {
    let yard = Yard::with_server();
    let made = yard.json(&["workspace", "create", "--egress", "github-fetch,api.example.com"]);
    let id = made["id"].as_str().unwrap();
    let egress = |more: &[&str]| {
        let mut args = vec!["egress"];
        args.extend(more);
        yard.run(&args)
    };
    check!(
        "egress_rules",
        egress(&["rules"]),
        egress(&["rules", "--workspace", id]),
        egress(&["allow", "GET,POST https://api.example.org/v1/*", "--workspace", id]),
        egress(&[
            "allow",
            "example.net",
            "--method",
            "get",
            "--path",
            "/docs/*",
            "--note",
            "manuals"
        ]),
        egress(&["ask", "*.example.org", "--for", "2h"]),
        egress(&["deny", "git-push github.com"]),
        egress(&["allow", "git-push github.com/ours/*", "--workspace", id]),
        egress(&["test", "https://rubygems.org/gems"]),
        egress(&["test", "POST", "https://api.example.org/v1/x", "--workspace", id]),
        egress(&["test", "DELETE https://api.example.org/v1/x", "--workspace", id]),
        egress(&["test", "github.com:22", "--workspace", id]),
        egress(&[
            "test",
            "POST",
            "https://github.com/ours/a.git/git-receive-pack",
            "--workspace",
            id
        ]),
        egress(&["test", "http://169.254.169.254/latest", "--workspace", id]),
        egress(&["mode", "--widen", "no"]),
        egress(&["mode", "learn", "--workspace", id]),
        egress(&["mode", "--widen", "inherit"]),
        egress(&["mode", "learn", "--workspace", id]),
        egress(&["proposal", "--workspace", id]),
        egress(&["mode", "inherit", "--workspace", id]),
        egress(&["presets", "github"]),
        egress(&["rules", "--workspace", id]),
    );
    let rules = yard.json(&["egress", "rules"]);
    let own: Vec<&str> =
        rules["rules"].as_array().unwrap().iter().filter_map(|rule| rule["id"].as_str()).collect();
    assert_eq!(own.len(), 3, "{rules:#}");
    let mut remove = vec!["remove"];
    remove.extend(&own);
    check!("egress_removed", egress(&remove), egress(&["rules"]), egress(&remove[..2]));
}

#[test]
fn rules_that_make_no_sense_are_refused_with_their_place() {
    let mut yard = Yard::with_server();
    let egress = |more: &[&str]| {
        let mut args = vec!["egress"];
        args.extend(more);
        yard.run(&args)
    };
    check!(
        "egress_bad_rules",
        egress(&["allow", "exa$mple.com"]),
        egress(&["allow", "GET example.com/a/../b"]),
        egress(&["allow", "ftp://example.com"]),
        egress(&["allow", "example.com:0"]),
        egress(&["allow", "nmp:443", "--path", "a"]),
        egress(&["allow", "*"]),
        egress(&["allow", "10.0.0.0/8"]),
        egress(&["presets", "nmp"]),
        egress(&["remove", "egr_01JD5X8Z4J6Q0V9W3T7R2K1M5N"]),
        egress(&["rules", "--workspace", "ws_01JD5X8Z4J6Q0V9W3T7R2K1M5N"]),
        yard.run(&["workspace", "create", "--egress", "GET nowhere/?a"]),
    );
    // One that is broken in the settings keeps the server from starting: nothing opens by that.
    yard.stop_server();
    yard.write("data/boatyard.toml", "[egress]\nallow = [\"ok.example\", \"a b c\"]\n");
    check!("egress_broken_settings", yard.run(&["up", "--listen", "127.0.0.1:0"]));
}

/// Where workspaces want to go: answers each connection when it is told to, and not before.
struct Origin {
    port: u16,
    arrived: mpsc::Receiver<TcpStream>,
}

impl Origin {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tell, arrived) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut head = [0; 1024];
                let n = stream.read(&mut head).unwrap_or(0);
                let is_slow = String::from_utf8_lossy(&head[..n]).contains("/slow");
                let answer = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello";
                stream.write_all(answer.as_bytes()).unwrap();
                if is_slow {
                    tell.send(stream).unwrap();
                } else {
                    stream.write_all(b" you!").unwrap();
                }
            }
        });
        Self { port, arrived }
    }
}

#[test]
fn a_change_holds_at_once_in_a_workspace_that_runs() {
    let mut yard = Yard::without_server();
    yard.write("data/boatyard.toml", "[egress]\nallow_private = [\"127.0.0.1\"]\n");
    yard.start_server();
    let origin = Origin::start();
    let id = yard.json(&["workspace", "create"])["id"].as_str().unwrap().to_owned();
    let place = format!("127.0.0.1:{}", origin.port);
    let curl = |more: &str| {
        let script = format!("curl -sS -x http://127.0.0.1:3128 --noproxy '' {more}");
        yard.command(&["workspace", "exec", &id, "--", "sh", "-c", &script])
    };
    let get = |path: &str| {
        let output = curl(&format!("http://{place}/{path}")).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let refused = get("a");
    assert!(refused.contains("no rule allows this host"), "{refused}");
    assert!(refused.contains(&format!("--workspace {id}")), "{refused}");
    let make = |action: &str, rule: &str| {
        let made = yard.json(&["egress", action, rule, "--workspace", &id]);
        made["id"].as_str().unwrap().to_owned()
    };
    let remove = |rule: &str| assert!(yard.run(&["egress", "remove", rule]).ends_with("[0]\n"));
    let allowed = make("allow", &place);
    assert_eq!(get("a"), "hello you!");
    let denied = make("deny", &format!("GET {place}/a*"));
    let told = get("a");
    assert!(told.contains(&format!("rule `{denied}` forbids it")), "{told}");
    assert_eq!(get("b"), "hello you!");
    remove(&denied);
    assert_eq!(get("a"), "hello you!");
    // A connection through which nothing is seen ends with the rule that let it begin.
    let tunnel = curl(&format!("-p http://{place}/slow")).spawn().unwrap();
    let mut outside = origin.arrived.recv_timeout(LIMIT).unwrap();
    remove(&allowed);
    outside.set_read_timeout(Some(LIMIT)).unwrap();
    let ended = outside.read(&mut [0; 16]);
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    assert!(!matches!(&ended, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock));
    let mut tunnel = tunnel;
    assert!(!tunnel.wait().unwrap().success());
    assert!(get("b").contains("no rule allows this host"));
    // One that ends by itself.
    let short = yard.json(&["egress", "allow", &place, "--workspace", &id, "--for", "2s"]);
    assert!(short["expires"].is_string(), "{short:#}");
    assert_eq!(get("a"), "hello you!");
    let deadline = std::time::Instant::now() + LIMIT;
    while get("a") == "hello you!" {
        assert!(std::time::Instant::now() < deadline, "the rule did not end");
        thread::sleep(Duration::from_millis(200));
    }
    // What another workspace may is its own.
    make("allow", &place);
    let fork = yard.json(&["workspace", "fork", &id])["id"].as_str().unwrap().to_owned();
    let of_fork = yard.json(&["egress", "rules", "--workspace", &fork]);
    assert!(of_fork.to_string().contains(&place), "{of_fork:#}");
    let other = yard.json(&["workspace", "create"])["id"].as_str().unwrap().to_owned();
    let of_other = yard.json(&["egress", "rules", "--workspace", &other]);
    assert!(!of_other.to_string().contains(&place), "{of_other:#}");
}

/// A server whose workspaces may reach this machine where a rule says so, and an origin on it.
fn with_origin() -> (Yard, String) {
    let mut yard = Yard::without_server();
    yard.write("data/boatyard.toml", "[egress]\nallow_private = [\"127.0.0.1\"]\n");
    yard.start_server();
    let place = format!("127.0.0.1:{}", Origin::start().port);
    (yard, place)
}

/// What asks for a page by the proxy.
fn get(url: &str) -> String {
    format!("curl -sS --max-time 20 -x http://127.0.0.1:3128 --noproxy '' http://{url}")
}

/// The answer to that in a workspace.
fn page(yard: &Yard, workspace: &str, url: &str) -> String {
    let script = get(url);
    let args = ["workspace", "exec", workspace, "--", "sh", "-c", &script];
    String::from_utf8(yard.command(&args).output().unwrap().stdout).unwrap()
}

fn rules_of(yard: &Yard, workspace: &str) -> Vec<String> {
    let rules = yard.json(&["egress", "rules", "--workspace", workspace]);
    let own = rules["rules"].as_array().unwrap().iter();
    own.filter(|rule| rule["scope"] == "workspace")
        .map(|rule| rule["text"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_task_may_have_rules_of_its_own() {
    let (yard, place) = with_origin();
    yard.repository("app");
    let order = |more: &[&str]| {
        let script = get(&format!("{place}/a"));
        let args = ["run", &script, "--repo", "app", "--agent", "shell"];
        let ran = yard.run(&[&args[..], more].concat());
        assert!(ran.ends_with("[0]\n"), "{ran}");
        let task = yard.json(&["task", "show", "@last"]);
        let attempts = task["attempts"].as_array().unwrap().iter();
        let workspaces: Vec<String> =
            attempts.map(|one| one["workspace"].as_str().unwrap().to_owned()).collect();
        (yard.run(&["logs", "-v", "@last"]), workspaces)
    };
    let (logs, workspaces) =
        order(&["--egress", "npm,pypi", "--egress", &format!("GET {place}"), "--attempts", "2"]);
    assert!(logs.contains("hello you!"), "{logs}");
    assert_eq!(workspaces.len(), 2);
    for workspace in workspaces {
        let plain = format!("GET {place}");
        assert_eq!(rules_of(&yard, &workspace), ["npm", "pypi", &*plain]);
    }
    // They are not the repository's.
    let (logs, workspaces) = order(&[]);
    assert!(logs.contains("no rule allows this host"), "{logs}");
    assert_eq!(rules_of(&yard, &workspaces[0]), Vec::<String>::new());
    let args = ["run", "true", "--repo", "app", "--agent", "shell", "--egress", "exa$mple.com"];
    let refused = yard.run(&args);
    assert!(refused.ends_with("[2]\n") && refused.contains("exa$mple.com"), "{refused}");
}

#[test]
fn what_was_learned_is_proposed_and_applied() {
    let (yard, place) = with_origin();
    let id = yard.json(&["workspace", "create"])["id"].as_str().unwrap().to_owned();
    let mode = |mode: &str| {
        let set = yard.run(&["egress", "mode", mode, "--workspace", &id]);
        assert!(set.ends_with("[0]\n"), "{set}");
    };
    mode("learn");
    for path in ["a", "a", "b"] {
        assert_eq!(page(&yard, &id, &format!("{place}/{path}")), "hello you!");
    }
    mode("inherit");
    assert!(page(&yard, &id, &format!("{place}/a")).contains("no rule allows this host"));
    let proposal = ["egress", "proposal", "--workspace", &id];
    let proposed = yard.json(&proposal);
    assert_eq!(proposed["requests"], 3, "{proposed:#}");
    let texts: Vec<&str> = proposed["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["text"].as_str().unwrap())
        .collect();
    assert_eq!(rules_of(&yard, &id), Vec::<String>::new(), "proposed, not made");
    let applied = yard.json(&[&proposal[..], &["--apply"]].concat());
    assert_eq!(applied["items"].as_array().unwrap().len(), texts.len(), "{applied:#}");
    assert_eq!(rules_of(&yard, &id), texts);
    for (path, passes) in [("a", true), ("b", true), ("c", false)] {
        let said = page(&yard, &id, &format!("{place}/{path}"));
        assert_eq!(said == "hello you!", passes, "{path}: {said}");
    }
    let post = page(&yard, &id, &format!("{place}/a -d x"));
    assert!(post.contains("for other"), "{post}");
    // All of it is covered now.
    let again = yard.run(&[&proposal[..], &["--apply"]].concat());
    assert!(again.contains("There is nothing to propose."), "{again}");
}

#[test]
fn rules_of_a_repository_hold_in_its_workspaces_alone() {
    let (yard, place) = with_origin();
    for name in ["app", "other"] {
        yard.repository(name);
    }
    let create = |repository: &str| {
        let ran = yard.run(&["run", "true", "--repo", repository, "--agent", "shell"]);
        assert!(ran.ends_with("[0]\n"), "{ran}");
        let task = yard.json(&["task", "show", "@last"]);
        task["attempts"][0]["workspace"].as_str().unwrap().to_owned()
    };
    let (first, other) = (create("app"), create("other"));
    let make = |action: &str, rule: &str, whose: &[&str]| {
        let made = yard.json(&[&["egress", action, rule][..], whose].concat());
        made["id"].as_str().unwrap_or_else(|| panic!("{made:#}")).to_owned()
    };
    let url = format!("{place}/a");
    let allowed = make("allow", &place, &["--repo", "app"]);
    // At once in one that runs, and in one that is made later.
    let second = create("app");
    for workspace in [&first, &second] {
        assert_eq!(page(&yard, workspace, &url), "hello you!");
    }
    assert!(page(&yard, &other, &url).contains("no rule allows this host"));
    // What it forbids, none of its workspaces can allow.
    let denied = make("deny", &format!("GET {place}/a"), &["--repo", "app"]);
    make("allow", &format!("GET {place}/a"), &["--workspace", &first]);
    let told = page(&yard, &first, &url);
    assert!(told.contains(&format!("rule `{denied}`")), "{told}");
    assert_eq!(page(&yard, &first, &format!("{place}/b")), "hello you!");
    for rule in [&denied, &allowed] {
        assert!(yard.run(&["egress", "remove", rule]).ends_with("[0]\n"));
    }
    assert_eq!(page(&yard, &first, &url), "hello you!", "by its own rule");
    assert!(page(&yard, &second, &url).contains("no rule allows this host"));
}
