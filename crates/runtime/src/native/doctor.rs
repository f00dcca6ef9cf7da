//! What this machine can do, found out by doing it, without a server.

use std::{
    error::Error as _,
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    NativeRuntime, Source, host,
    launch::{Launched, SpawnerSettings},
    layout,
};
use crate::{
    Capabilities, Error,
    capabilities::{Check, Outcome},
};

/// A spawner that was told to end does so at once.
const END_DEADLINE: Duration = Duration::from_secs(10);

/// What was found.
#[derive(Debug)]
pub struct Diagnosis {
    /// What sandboxes would get here; nothing when none can be made, which a check explains.
    pub isolation: Option<crate::Isolation>,
    /// What each check found, the most important first.
    pub checks: Vec<Check>,
}

/// Starts a spawner of its own over a temporary folder beside the data folder, on the same file
/// system, has it make a throw-away sandbox, and removes everything again. A server that runs is
/// not disturbed.
pub async fn examine(settings: &SpawnerSettings) -> Diagnosis {
    match attempt(settings).await {
        Ok(Capabilities { isolation, checks }) => Diagnosis { isolation: Some(isolation), checks },
        Err(error) => {
            let mut checks = vec![refusal(&error)];
            checks.extend(host::checks(existing(&settings.data)));
            Diagnosis { isolation: None, checks }
        }
    }
}

async fn attempt(settings: &SpawnerSettings) -> Result<Capabilities, Error> {
    let folder = Temporary::beside(&settings.data)?;
    let settings = SpawnerSettings { data: folder.0.join("data"), ..settings.clone() };
    layout::prepare(&settings.data)?;
    let Launched { mut child, socket } = settings.launch()?;
    let found = async {
        let (runtime, trial) = NativeRuntime::begin(Source::single(socket), &settings.data)?;
        let capabilities = trial.look().await?;
        runtime.shut_down_spawner().await?;
        Ok(capabilities)
    };
    let found = found.await;
    // Without its socket it ends by itself, whatever happened before.
    let end = tokio::task::spawn_blocking(move || child.wait());
    match tokio::time::timeout(END_DEADLINE, end).await {
        Ok(_) => found,
        Err(_) => found.and(Err(Error::Timeout("the end of a spawner"))),
    }
}

/// A failure to make a sandbox as a check.
fn refusal(error: &Error) -> Check {
    let mut detail = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        detail.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    let hint = match error {
        Error::Step { hint, .. } => hint.as_str(),
        _ => "the checks below may say more",
    };
    host::check("sandbox", Outcome::Blocks, detail, hint)
}

/// The data folder, or what is there of its path.
fn existing(data: &Path) -> &Path {
    data.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/"))
}

/// A folder that is removed in the end.
struct Temporary(PathBuf);

impl Temporary {
    fn beside(data: &Path) -> Result<Self, Error> {
        let failed = |source: io::Error| Error::Step {
            step: "making a folder beside the data folder".to_owned(),
            hint: "choose another data folder with --data".to_owned(),
            source,
        };
        let place = data.parent().map_or(data, existing);
        let folder = place.join(format!(".boatyard-doctor-{}", std::process::id()));
        fs::create_dir(&folder).map_err(failed)?;
        let this = Self(folder);
        // The server's user must be able to pass, as it must the folders above the data folder.
        fs::set_permissions(&this.0, Permissions::from_mode(0o711)).map_err(failed)?;
        Ok(this)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(folder = %self.0.display(), %error, "a temporary folder is left");
        }
    }
}
