//! What the demo agent remembers of its sessions: a small JSON file each.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::capture::preview;

/// How many turns are remembered.
const TURNS: usize = 100;
/// How much of a prompt or an answer is.
const TEXT: usize = 4 << 10;

/// One session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Session {
    pub(super) cwd: PathBuf,
    pub(super) mode: String,
    pub(super) model: String,
    pub(super) turns: Vec<Turn>,
}

/// One turn of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Turn {
    pub(super) prompt: String,
    pub(super) answer: String,
}

impl Session {
    pub(super) fn new(cwd: PathBuf) -> Self {
        Self { cwd, mode: "free".into(), model: "demo-small".into(), turns: Vec::new() }
    }

    pub(super) fn remember(&mut self, prompt: &str, answer: &str) {
        if self.turns.len() == TURNS {
            self.turns.remove(0);
        }
        self.turns.push(Turn { prompt: preview(prompt, TEXT), answer: preview(answer, TEXT) });
    }
}

/// A new session's id.
pub(super) fn new_id() -> String {
    format!("demo-{:032x}", boatyard_model::BlobId::new().to_u128())
}

/// The folder with the files.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    folder: PathBuf,
}

impl Memory {
    pub(super) fn below(home: &Path) -> Self {
        Self { folder: home.join(".boatyard-demo") }
    }

    /// The session of this id; none if there is none, or its file is broken.
    pub(super) fn read(&self, id: &str) -> Option<Session> {
        serde_json::from_slice(&fs::read(self.file(id)?).ok()?).ok()
    }

    pub(super) fn write(&self, id: &str, session: &Session) -> io::Result<()> {
        let file = self.file(id).ok_or_else(|| io::Error::other("not a session's id"))?;
        fs::create_dir_all(&self.folder)?;
        // Whole or not at all: the agent may be killed at any moment.
        let part = file.with_extension("part");
        fs::write(&part, serde_json::to_vec(session)?)?;
        fs::rename(part, file)
    }

    fn file(&self, id: &str) -> Option<PathBuf> {
        let ok = id
            .strip_prefix("demo-")
            .is_some_and(|rest| rest.len() == 32 && rest.bytes().all(|b| b.is_ascii_hexdigit()));
        ok.then(|| self.folder.join(format!("{id}.json")))
    }
}
