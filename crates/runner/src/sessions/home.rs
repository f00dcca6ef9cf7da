//! The home of a session.
//!
//! Each session has its own, so that what one agent keeps there is not in the way of another. What
//! the setup made in the worker's home is seen in it through links, but for what agents keep their
//! state in. Links are made once, when the home is; then it is the agent's.

use boatyard_link::message::{Failure, FailureCode, OpenSession};

use super::Context;
use crate::beneath::{self, EntryKind, Executable};

/// The largest file that is laid into a home.
const FILE_MAX: u64 = 1 << 20;

/// The most links in a home.
const LINKS_MAX: usize = 1000;

/// What in the worker's home is an agent's own and not for another. What a setup puts into one of
/// these folders is found in it nevertheless, one level down.
const STATE: [&str; 10] = [
    ".claude",
    ".claude.json",
    ".codex",
    ".copilot",
    ".cursor",
    ".gemini",
    ".qwen",
    ".config",
    ".local",
    ".cache",
];

/// Folders that programs share with agents: what is in them is linked, but for the agents' parts.
const SHARED: [&str; 3] = [".config", ".local", ".cache"];

/// Below a shared folder, what is an agent's own.
const STATE_BELOW: [&str; 12] = [
    "opencode",
    "claude",
    "codex",
    "copilot",
    "github-copilot",
    "gemini",
    "qwen",
    "cursor",
    "cursor-agent",
    "aider",
    "share",
    "state",
];

/// Makes the home folder and the quiet settings in it, where they are not there yet.
///
/// # Errors
/// When the home is not below the folder of homes, or can't be made.
pub(super) fn lay(context: &Context, open: &OpenSession) -> Result<(), Failure> {
    let homes = context.layout.homes();
    let below = |path: &str| {
        let rest = path.strip_prefix(homes)?.strip_prefix('/')?;
        Some(rest.to_owned())
    };
    let Some(home) = below(&open.home) else {
        let message = format!("`{}` is not below {homes}", open.home);
        return Err(Failure { code: FailureCode::Workspace, message });
    };
    let new = !context.homes.exists(&home)?;
    context.homes.make_folder(&home)?;
    for (path, text) in &open.agent.files {
        let path = format!("{home}/{path}");
        let write = || -> Result<(), beneath::Error> {
            if context.homes.exists(&path)? {
                return Ok(());
            }
            let mut file = context.homes.write(&path, Executable::No, FILE_MAX)?;
            file.write(text.as_bytes())?;
            file.commit().map(|_| ())
        };
        match write() {
            Ok(()) => {}
            // What works in the home made links or files of its folders. It is theirs: a session
            // goes on in it as it is.
            Err(
                beneath::Error::Outside(_)
                | beneath::Error::NotFound(_)
                | beneath::Error::Kind { .. },
            ) if !new => {}
            Err(error) => return Err(error.into()),
        }
    }
    // After the files, so that none of them is written through a link.
    if let Some(worker) = below(&context.layout.home).filter(|worker| new && *worker != home) {
        link(context, &worker, &home)?;
    }
    Ok(())
}

/// Shows what is in the worker's home in another.
fn link(context: &Context, worker: &str, home: &str) -> Result<(), Failure> {
    let target = &context.layout.home;
    for name in names(context, worker)?.into_iter().filter(|name| !STATE.contains(&&**name)) {
        context.homes.link(&format!("{home}/{name}"), &format!("{target}/{name}"))?;
    }
    for shared in SHARED {
        let inner = match names(context, &format!("{worker}/{shared}")) {
            Ok(inner) => inner,
            // It is not there, is no folder, or is a link to elsewhere.
            Err(
                beneath::Error::NotFound(_)
                | beneath::Error::Kind { .. }
                | beneath::Error::Outside(_),
            ) => continue,
            Err(error) => return Err(error.into()),
        };
        let inner: Vec<_> =
            inner.into_iter().filter(|name| !STATE_BELOW.contains(&&**name)).collect();
        if !inner.is_empty() {
            context.homes.make_folder(&format!("{home}/{shared}"))?;
        }
        for name in inner {
            let path = format!("{home}/{shared}/{name}");
            context.homes.link(&path, &format!("{target}/{shared}/{name}"))?;
        }
    }
    Ok(())
}

fn names(context: &Context, folder: &str) -> Result<Vec<String>, beneath::Error> {
    let (entries, _) = context.homes.list(folder, LINKS_MAX)?;
    let usable = |kind| matches!(kind, EntryKind::File | EntryKind::Folder | EntryKind::Link);
    // A name that is no text was replaced and leads nowhere.
    let entries = entries.into_iter().filter(|entry| usable(entry.kind));
    Ok(entries.map(|entry| entry.name).filter(|name| !name.contains('\u{fffd}')).collect())
}
