//! Servers for several people: how they are set up, and which don't start.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::yard::Yard;

const PASSWORD: &str = "quiet harbour lights";

/// A server of several people, over the folder's data.
struct Team(Child);

impl Team {
    /// Starts it: it, and what it says when it is up.
    fn start(yard: &Yard, variables: &[(&str, &str)]) -> (Self, Value) {
        let mut up = yard.command(&["--json", "up", "--listen", "127.0.0.1:0"]);
        up.envs(variables.iter().copied()).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = up.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said = serde_json::from_str(&line);
        (Self(child), said.unwrap_or_else(|error| panic!("it did not come up: {error}: {line}")))
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        let pid = self.0.id().to_string();
        let told = Command::new("kill").args(["-s", "TERM", &pid]).status();
        let ended = self.0.wait();
        if !std::thread::panicking() {
            assert!(told.unwrap().success() && ended.unwrap().success());
        }
    }
}

fn team_yard() -> Yard {
    let yard = Yard::without_server();
    yard.write("data/boatyard.toml", "[sign_in]\nsign_up = \"closed\"\n");
    yard
}

#[test]
fn a_link_sets_the_server_up_and_so_does_the_environment() {
    let yard = team_yard();
    let (team, said) = Team::start(&yard, &[]);
    assert_eq!(said["state"], "setup");
    let url = said["url"].as_str().unwrap();
    assert!(url.contains("/setup?code=setup_"), "{url}");
    let people = yard.json(&["person", "list"]);
    assert_eq!((people.as_array().unwrap().len(), &people[0]["email"]), (1, &Value::Null));
    drop(team);

    let admin =
        [("BOATYARD_ADMIN_EMAIL", "Ada@example.com"), ("BOATYARD_ADMIN_PASSWORD", PASSWORD)];
    let (team, said) = Team::start(&yard, &admin);
    assert_eq!(said["state"], "people");
    assert!(!said["url"].as_str().unwrap().contains("code"), "{said}");
    let people = yard.json(&["person", "list"]);
    assert_eq!(people[0]["email"], "ada@example.com");
    assert_eq!((&people[0]["operator"], &people[0]["password"]), (&true.into(), &true.into()));
    let link = yard.json(&["person", "link", "ada@example.com"]);
    assert!(link["url"].as_str().unwrap().contains("/?code=once_"), "{link}");
    let refused = yard.command(&["person", "disable", "ada"]).output().unwrap();
    let words = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && words.contains("without an owner"), "{words}");
    drop(team);

    // What it says later changes nothing: the account is hers by now.
    let other =
        [("BOATYARD_ADMIN_EMAIL", "eve@example.com"), ("BOATYARD_ADMIN_PASSWORD", PASSWORD)];
    let (_team, _) = Team::start(&yard, &other);
    let people = yard.json(&["person", "list"]);
    assert_eq!(
        (people.as_array().unwrap().len(), &people[0]["email"]),
        (1, &"ada@example.com".into())
    );
}

#[test]
fn what_anybody_could_enter_or_nobody_does_not_start() {
    let closed = "[sign_in]\npassword = false\npasskeys = false\n";
    let zeros = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    for (settings, listen, variables, expected) in [
        (closed, "0.0.0.0:0", &[][..], "no way of signing in is switched on"),
        (
            "",
            "127.0.0.1:0",
            &[("BOATYARD_ADMIN_EMAIL", "ada@example.com")],
            "BOATYARD_ADMIN_PASSWORD is not",
        ),
        (
            "",
            "127.0.0.1:0",
            &[("BOATYARD_ADMIN_EMAIL", "ada@example.com"), ("BOATYARD_ADMIN_PASSWORD", "changeme")],
            "BOATYARD_ADMIN_PASSWORD: the password has 8 characters",
        ),
        (
            "",
            "127.0.0.1:0",
            &[
                ("BOATYARD_ADMIN_EMAIL", "ada@example.com"),
                ("BOATYARD_ADMIN_PASSWORD", "Password1234"),
            ],
            "everybody would try first",
        ),
        ("", "127.0.0.1:0", &[("BOATYARD_VAULT_KEY", zeros)], "anybody could guess it"),
        (
            "[sign_in]\nsign_up = \"all\"\n",
            "127.0.0.1:0",
            &[],
            "\"closed\", \"domains\" or \"open\"",
        ),
        (
            "[sign_in]\nsign_up_role = \"owner\"\n",
            "127.0.0.1:0",
            &[],
            "an owner is made by an owner",
        ),
        ("[sign_in]\nallowed_domains = [\"@a b\"]\n", "127.0.0.1:0", &[], "expected domains"),
        ("[server]\ncors_origins = [\"*\"]\n", "127.0.0.1:0", &[], "is no origin"),
    ] {
        let yard = Yard::without_server();
        yard.write("data/boatyard.toml", settings);
        let mut up = yard.command(&["up", "--listen", listen]);
        let up = up.envs(variables.iter().copied()).stdin(Stdio::null()).output().unwrap();
        let words = String::from_utf8(up.stderr).unwrap();
        let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            !up.status.success() && words.contains(expected),
            "{settings}{variables:?}: {words}"
        );
        for secret in ["changeme", "Password1234", zeros] {
            assert!(!words.contains(secret), "{words}");
        }
    }
}
