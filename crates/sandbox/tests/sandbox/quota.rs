//! The limits on disk and on files where the file system keeps it: a small ext4 of our own with project quotas.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use boatyard_sandbox::protocol::{Outcome, Reply, Request, SnapshotMode, files_within};

use crate::harness::{Host, Who, is_root, new_id};

/// The limit of the workspaces here.
const LIMIT: u64 = 8 << 20;

/// A file system that is gone with the test.
struct Volume(PathBuf);

impl Volume {
    /// One at `at`, which stays as it was for its owner and mode; why not, where it can't be.
    fn mount(image: &Path, at: &Path) -> Result<Self, String> {
        let run = |program: &str, args: &[&str]| -> Result<(), String> {
            let output = Command::new(program).args(args).output();
            let output = output.map_err(|error| format!("{program}: {error}"))?;
            match output.status.success() {
                true => Ok(()),
                false => {
                    let said = String::from_utf8_lossy(&output.stderr);
                    Err(format!("{program}: {}", said.lines().next().unwrap_or_default()))
                }
            }
        };
        std::fs::File::create(image)
            .and_then(|file| file.set_len(128 << 20))
            .map_err(|error| error.to_string())?;
        let (image, place) = (image.to_string_lossy(), at.to_string_lossy());
        run("mkfs.ext4", &["-q", "-O", "quota,project", &image])?;
        let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(at).unwrap());
        run("mount", &["-o", "loop,prjquota", &image, &place])?;
        let volume = Self(at.to_owned());
        std::os::unix::fs::chown(at, Some(owner), Some(owner)).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(at, mode).unwrap();
        Ok(volume)
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_limit_is_kept_by_the_file_system() {
    if !is_root() {
        eprintln!("skipped: only root can mount a file system with quotas");
        return;
    }
    let mut volume = Err("not tried".to_owned());
    let mut host = Host::with(Who::Root, |config, folder| {
        volume = Volume::mount(&folder.join("volume"), &config.data);
    });
    if let Err(why) = &volume {
        eprintln!("skipped: no file system with project quotas can be mounted here: {why}");
        return;
    }
    let Reply::Probed(report) = host.call(&Request::Probe) else { panic!("no report") };
    let quota = report.checks.iter().find(|check| check.name == "disk quota").unwrap();
    assert_eq!(quota.outcome, Outcome::Works, "{quota:?}");

    let ws = host.create();
    host.start_with(ws, 1, |start| start.limits.disk_bytes = LIMIT);
    let fill =
        "head -c 6000000 /dev/zero > /work/a; head -c 6000000 /dev/zero > /work/b || echo full";
    assert_eq!(host.sh(ws, fill).trim(), "full");
    let usage = |host: &mut Host, request: &Request| match host.call(request) {
        Reply::Usage { bytes, .. } => bytes,
        other => panic!("{other:?}"),
    };
    let taken = usage(&mut host, &Request::Usage { ws });
    assert!((LIMIT / 2..=LIMIT).contains(&taken), "{taken}");

    // Empty files take no space, and are counted all the same.
    let most = files_within(LIMIT);
    let many = format!(
        "rm /work/b; mkdir /work/many; cd /work/many; seq {} | xargs touch 2>/dev/null; ls | wc -l",
        most * 2
    );
    let made: u64 = host.sh(ws, &many).trim().parse().unwrap();
    assert!((most / 2..most).contains(&made), "{made} of {most}");
    let again = "rm -r /work/many; head -c 1000000 /dev/zero > /work/b && echo room";
    assert_eq!(host.sh(ws, again).trim(), "room");

    // A layer has its own count; above it, there is room again.
    host.kill(ws);
    let layer = new_id();
    let freeze = Request::Snapshot { ws, layer, mode: SnapshotMode::Rename };
    assert_eq!(host.call(&freeze), Reply::Done);
    assert!(usage(&mut host, &Request::LayerUsage { layer }) >= LIMIT / 2);
    assert!(usage(&mut host, &Request::Usage { ws }) < LIMIT / 4);
    host.start_with(ws, 2, |start| {
        start.limits.disk_bytes = LIMIT;
        start.lowers = vec![layer];
    });
    assert_eq!(
        host.sh(ws, "rm /work/b; head -c 6000000 /dev/zero > /work/c && echo fits").trim(),
        "fits"
    );
    assert_eq!(host.sh(ws, fill).trim(), "full");
    host.kill(ws);
    drop(host);
    drop(volume);
}
