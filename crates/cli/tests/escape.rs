//! `boatyard doctor --escape` as people run it: as root, and as an ordinary user.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::fs::chown,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

/// The ordinary user of these tests.
const USER: u32 = 4242;

/// As whom it is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Root,
    User,
}

fn is_root() -> bool {
    // The owner of our own process, without unsafe code.
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

fn doctor(who: Who, home: &Path, args: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_boatyard");
    let mut command = match who {
        Who::User if is_root() => {
            chown(home, Some(USER), Some(USER)).unwrap();
            let user = USER.to_string();
            let mut command = Command::new("setpriv");
            let to = ["--reuid", &user, "--regid", &user, "--clear-groups", "--inh-caps=-all"];
            command.args(to).arg(program);
            command
        }
        _ => Command::new(program),
    };
    command
        .args(["doctor", "--escape"])
        .args(args)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home)
        .env("BOATYARD_DATA", home.join("data"))
        .env("COLUMNS", "200")
        .current_dir(home)
        .output()
        .unwrap()
}

fn nothing_escapes(who: Who) {
    let home = tempfile::tempdir().unwrap();
    let output = doctor(who, home.path(), &["--json"]);
    let said = String::from_utf8_lossy(&output.stderr);
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{who:?}: {error}: {said}"));
    let attacks = report["attacks"].as_array().unwrap();
    let text = |attack: &Value, key: &str| attack[key].as_str().unwrap().to_owned();
    let mut outcomes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut names = BTreeSet::new();
    for attack in attacks {
        let name = text(attack, "name");
        let line = format!("{name}: {}", text(attack, "detail"));
        outcomes.entry(text(attack, "outcome")).or_default().push(line);
        assert!(names.insert(name), "{attack}");
    }
    for wrong in ["escaped", "skipped"] {
        assert_eq!(outcomes.get(wrong), None, "{who:?}");
    }
    assert!(output.status.success(), "{who:?}: {said}");
    assert!(names.len() >= 120, "{}", names.len());
    let known = ["blocked", "contained", "unlimited"];
    assert!(outcomes.keys().all(|outcome| known.contains(&outcome.as_str())), "{outcomes:?}");
    // Bombs alone are left out, and only where nothing would stop them.
    let bombs = outcomes.get("unlimited").into_iter().flatten();
    assert!(bombs.clone().all(|line| line.contains("bomb")), "{outcomes:?}");
    if who == Who::User && is_root() {
        assert!(bombs.count() > 0, "nobody gives this user a control group: {outcomes:?}");
        assert_eq!(report["isolation"], "rootless-1uid");
    }
}

#[test]
fn nothing_escapes_from_workspaces_of_root() {
    if is_root() {
        nothing_escapes(Who::Root);
    }
}

#[test]
fn nothing_escapes_from_workspaces_of_an_ordinary_user() {
    nothing_escapes(Who::User);
}
