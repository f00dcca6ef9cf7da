//! A workspace that takes more disk than it may: told, stopped, and its work kept.

use serde_json::Value;

use crate::yard::Yard;

/// Keeps a file that belongs to the work, and fills the disk beside it.
const FILL: &str = "echo kept > kept.txt; \
    for i in 1 2 3 4 5 6 7 8 9 10 11 12; do head -c 16000000 /dev/zero > ~/$i; sleep 1; done";

#[test]
fn a_workspace_above_its_limit_on_disk_is_stopped_and_its_work_is_kept() {
    let mut yard = Yard::without_server();
    yard.write("data/boatyard.toml", "[limits]\ndisk = \"48 MiB\"\n");
    yard.start_server();
    yard.repository("app");
    let said = yard.run(&["run", FILL, "--repo", "app", "--agent", "shell"]);
    assert!(said.contains("more than the 48 MiB that they may"), "{said}");
    assert!(said.ends_with("[1]\n"), "{said}");

    let task = yard.json(&["task", "show", "@last"]);
    assert_eq!(task["state"], "failed", "{task:#}");
    let attempt = &task["attempts"][0];
    let why = attempt["reason"]["text"].as_str().unwrap();
    assert!(why.contains("48 MiB") && why.contains("boatyard workspace exec"), "{why}");
    assert!(why.contains("The work so far is kept."), "{why}");
    let files: Vec<&str> = attempt["result"]["files"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|file| file["path"].as_str())
        .collect();
    assert_eq!(files, ["kept.txt"]);

    // It is awake, or wakes, to be cleared up, and works again after it.
    let workspace = attempt["workspace"].as_str().unwrap();
    let taken = |yard: &Yard| -> u64 {
        let shown: Value = yard.json(&["workspace", "show", workspace]);
        shown["disk_bytes"].as_u64().unwrap()
    };
    assert!(taken(&yard) > 48 << 20);
    let cleared = yard.run(&[
        "workspace",
        "exec",
        workspace,
        "--",
        "sh",
        "-c",
        "rm /home/sessions/*/[0-9]*; ls /home/sessions/*",
    ]);
    assert!(cleared.ends_with("[0]\n"), "{cleared}");
    let session = attempt["session"].as_str().unwrap();
    let again = yard.run(&["prompt", session, "echo more >> kept.txt"]);
    assert!(again.ends_with("[0]\n"), "{again}");

    // Its size is noted when it stops.
    yard.run(&["workspace", "stop", workspace]);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while taken(&yard) > 48 << 20 {
        assert!(std::time::Instant::now() < deadline, "its size was not noted");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}
