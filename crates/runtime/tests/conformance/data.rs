//! A data folder of a test, of which nothing is left in the end, however the test went.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Child,
    time::Duration,
};

use boatyard_runtime::native::{
    launch::{Launched, SpawnerSettings},
    layout,
};
use boatyard_sandbox::{
    client::Client,
    protocol::{Reply, Request},
    spawner::Config,
};

/// Longer than anything takes here.
const LIMIT: Duration = Duration::from_secs(30);

/// A data folder.
pub struct Data {
    pub settings: SpawnerSettings,
    _folder: tempfile::TempDir,
}

impl Data {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("boatyard-").tempdir().unwrap();
        // The server's user must be able to pass.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self { settings: SpawnerSettings::new(folder.path().join("data")), _folder: folder }
    }

    pub fn path(&self) -> &Path {
        &self.settings.data
    }

    /// Ends and removes all workspaces.
    fn clear(&self) -> Result<(), Box<dyn std::error::Error>> {
        layout::prepare(self.path())?;
        let Launched { child, socket } = self.settings.launch()?;
        let _end = Spawner(child);
        let mut client = Client::new(socket);
        let mut after = 0;
        loop {
            let (reply, _) = client.call(&Request::List { after }, LIMIT)?;
            let Reply::Workspaces { entries, more } = reply else { return Ok(()) };
            for entry in &entries {
                client.call(&Request::Kill { ws: entry.ws }, LIMIT)?;
            }
            match entries.last() {
                Some(last) if more => after = last.ws,
                _ => return Ok(()),
            }
        }
    }

    /// The control groups of this installation, which outlive its spawners.
    fn groups(&self) -> Vec<PathBuf> {
        let name = format!("boatyard-{}", Config::new(self.path(), 0, 0).instance());
        let mut found = Vec::new();
        let mut folders = vec![(PathBuf::from("/sys/fs/cgroup"), 0)];
        while let Some((folder, depth)) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.file_name().to_string_lossy() == name {
                    found.push(entry.path());
                } else if depth < 4 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    folders.push((entry.path(), depth + 1));
                }
            }
        }
        found
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        let cleared = self.clear();
        for group in self.groups() {
            remove_groups(&group);
        }
        if let Err(error) = cleared
            && !std::thread::panicking()
        {
            panic!("the test's workspaces can't be removed: {error}");
        }
    }
}

/// Removes a group and those below it; a group goes when its last process has.
fn remove_groups(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&entry.path());
        }
    }
    // One that stays is seen by whoever looks at the machine; no test depends on it.
    let _ = fs::remove_dir(group);
}

/// A spawner that ends with this.
pub struct Spawner(pub Child);

impl Drop for Spawner {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
