//! A disk that fills: what is said, what ends, and that work goes on when there is room again.

use std::{
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use crate::yard::{LIMIT, Yard};

/// How large the disk is, in MiB: a server and a few workspaces, and little more.
const DISK: u32 = 256;

/// A small file system in memory, gone with the test.
struct Disk(std::path::PathBuf);

impl Disk {
    /// None where it can't be mounted.
    fn at(path: &Path) -> Option<Self> {
        fs::create_dir_all(path).unwrap();
        let size = format!("size={DISK}m,mode=700");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "boatyard-test"])
            .arg(path)
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(path.to_owned())),
            _ => None,
        }
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let mut filler = fs::File::create(self.0.join("filler")).unwrap();
        let error = std::io::copy(&mut std::io::repeat(b'x'), &mut filler).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{error}");
    }

    /// Keeps some room that [`Self::make_room`] gives back.
    fn reserve(&self, mib: usize) {
        fs::write(self.0.join("filler"), vec![b'x'; mib << 20]).unwrap();
    }

    fn is_full(&self) -> bool {
        let output = Command::new("stat").args(["-f", "-c", "%a"]).arg(&self.0).output().unwrap();
        output.stdout == b"0\n"
    }

    fn make_room(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: what is left of a workspace may still be on it.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_told_and_outlived() {
    let mut yard = Yard::without_server();
    let Some(disk) = Disk::at(&yard.path("data")) else {
        eprintln!("skipped: only root can mount a small disk to fill");
        return;
    };
    yard.start_server();
    yard.repository("app");
    let run =
        |yard: &Yard| yard.run(&["run", "echo x > x.txt", "--repo", "app", "--agent", "shell"]);
    assert!(run(&yard).ends_with("[0]\n"));
    let before = yard.json(&["task", "show", "@last"]);

    disk.fill();
    let refused = run(&yard);
    assert!(refused.contains("disk"), "{refused}");
    assert!(refused.contains("full"), "{refused}");
    assert!(refused.contains("boatyard gc"), "the next step: {refused}");
    assert!(refused.ends_with("[1]\n"), "{refused}");
    // It still answers.
    assert_eq!(yard.json(&["task", "show", before["id"].as_str().unwrap()]), before);

    disk.make_room();
    let again = run(&yard);
    assert!(again.ends_with("[0]\n"), "{again}");
    let tasks = yard.json(&["task", "list"]);
    for task in tasks["items"].as_array().unwrap() {
        let state = task["state"].as_str().unwrap();
        assert!(["succeeded", "failed"].contains(&state), "{task:#}");
    }
    // The folder can go only when nothing is mounted on it.
    yard.end();
    drop(disk);
}

#[test]
fn a_workspace_that_fills_the_disk_ends_when_there_is_room() {
    let mut yard = Yard::without_server();
    let Some(disk) = Disk::at(&yard.path("data")) else {
        eprintln!("skipped: only root can mount a small disk to fill");
        return;
    };
    yard.start_server();
    disk.reserve(32);
    yard.repository("app");
    let greedy = "echo kept > kept.txt; head -c 1G /dev/zero > /home/agent/big; echo $? > code.txt";
    let task = yard.json(&["run", greedy, "--repo", "app", "--agent", "shell", "--detach"]);
    let id = task["id"].as_str().unwrap();
    let deadline = Instant::now() + LIMIT;
    while !disk.is_full() {
        assert!(Instant::now() < deadline, "the disk does not fill");
        thread::sleep(Duration::from_millis(5));
    }
    disk.make_room();
    yard.run(&["attach", id]);
    let task = yard.json(&["task", "show", id]);
    let state = task["state"].as_str().unwrap();
    assert!(["succeeded", "failed"].contains(&state), "{task:#}");
    // What it had done by then is there.
    let workspace = task["attempts"][0]["workspace"].as_str().unwrap();
    let kept = yard.command(&["shell", workspace, "--", "cat kept.txt"]).output().unwrap();
    assert_eq!(kept.stdout, b"kept\n");
    assert!(yard.command(&["-q", "workspace", "delete", workspace]).status().unwrap().success());
    let again = yard.run(&["run", "ls", "--repo", "app", "--agent", "shell"]);
    assert!(again.ends_with("[0]\n"), "{again}");
    yard.end();
    drop(disk);
}
