//! The command line as transcripts: what is typed, what comes on each stream, and the code.
//!
//! The program is the real one; where a server is needed, a real one runs in a process of its own
//! over a temporary folder. What differs from run to run (ids, times, ports, folders) is replaced
//! before it is compared. `INSTA_UPDATE=always` records anew.

mod asks;
mod audit;
mod captured;
mod connections;
mod disk;
mod egress;
mod git;
mod install;
mod keys;
mod killed;
mod limits;
mod models;
mod money;
mod opened;
mod operation;
mod orders;
mod organizations;
mod people;
mod quotas;
mod race;
mod served;
mod workspaces;
#[path = "../shared/yard.rs"]
mod yard;

use yard::Yard;

/// Compares what commands do with their recorded transcript.
macro_rules! check {
    ($name:literal, $($transcript:expr),+ $(,)?) => {
        insta::assert_snapshot!($name, [$($transcript),+].join("\n"))
    };
}

#[test]
fn help_and_version() {
    let yard = Yard::without_server();
    check!("help", yard.run(&["--help"]), yard.run(&["version"]), yard.run(&["version", "--json"]));
    check!("help_run", yard.run(&["run", "--help"]));
}

#[test]
fn completions_are_there_for_every_shell() {
    let yard = Yard::without_server();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = yard.command(&["completion", shell]).output().unwrap();
        assert!(ran.status.success());
        let script = String::from_utf8(ran.stdout).unwrap();
        for word in ["workspace", "attempts", "include-dirty"] {
            assert!(script.contains(word), "{word} is missing for {shell}");
        }
    }
}

#[test]
fn without_a_server_every_command_says_what_to_do() {
    let yard = Yard::without_server();
    check!(
        "no_server",
        yard.run(&["task", "list"]),
        yard.run(&["run", "do it", "--repo", "."]),
        yard.run(&["task", "list", "--server", "http://127.0.0.1:9"]),
        yard.run(&["task", "list", "--server", "http://127.0.0.1:9", "--api-key", "by_x"]),
        yard.run(&["task", "list", "--server", "nonsense", "--api-key", "by_x"]),
    );
}

#[test]
fn a_command_line_at_fault_ends_with_2() {
    let yard = Yard::without_server();
    check!(
        "usage",
        yard.run(&["tusk", "list"]),
        yard.run(&["run"]),
        yard.run(&["run", "x", "--time-limit", "soon"]),
        yard.run(&["prompt", "@last", "x", "--mode", "shout"]),
        yard.run(&["-q", "-v", "version"]),
    );
}

#[test]
fn settings_are_shown_with_their_sources_and_refused_with_their_place() {
    let yard = Yard::without_server();
    yard.write(
        "boatyard.toml",
        "default_agent = \"demo\"\n[repositories.tokens]\n\"github.com\" = \"ghp_secret\"\n",
    );
    yard.write("wrong.toml", "[limits]\nmemroy = \"1 GiB\"\n");
    yard.write("value.toml", "[limits]\nmemory = \"lots\"\n");
    yard.write("syntax.toml", "[limits\n");
    let config = |name: &str| yard.path(name).to_str().unwrap().to_owned();
    let up = |name: &str, more: &[&str]| {
        let file = config(name);
        let mut args = vec!["up", "--print-config", "--config", &file];
        args.extend(more);
        yard.run_with(&args, &[("BOATYARD_LIMITS_PROCESSES", "99"), ("BOATYARD_LOG_LEVLE", "info")])
    };
    check!(
        "settings",
        up("boatyard.toml", &["--listen", "localhost:8080"]),
        up("wrong.toml", &[]),
        up("value.toml", &[]),
        up("syntax.toml", &[]),
        up("missing.toml", &[]),
        up("boatyard.toml", &["--listen", "here"]),
    );
}

#[test]
fn a_folder_that_is_not_ours_is_refused() {
    let yard = Yard::without_server();
    yard.write("thesis/chapter.tex", "");
    yard.write("newer/format", "9\n");
    let thesis = yard.path("thesis").to_str().unwrap().to_owned();
    let newer = yard.path("newer").to_str().unwrap().to_owned();
    check!(
        "data_folder",
        yard.run(&["up", "--data", &thesis]),
        yard.run(&["up", "--data", &newer]),
        yard.run(&["backup", "somewhere", "--data", &thesis]),
        yard.run(&["restore", "nowhere"]),
    );
}

#[test]
fn the_service_is_printed_before_it_is_installed() {
    let yard = Yard::without_server();
    // The rest depends on the machine's systemd.
    let text = yard.run(&["service", "install", "--print"]);
    assert!(text.contains("\nExecStart=[BOATYARD] up --data [YARD]/data\n"), "{text}");
    assert!(text.contains("\nType=notify\n"), "{text}");
    assert!(text.ends_with("[0]\n"), "{text}");
}
