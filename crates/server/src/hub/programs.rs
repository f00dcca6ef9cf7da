//! Which program inside a workspace has a connection: for the log, and for people who are asked.
//!
//! A workspace says so itself, so it is a label and decides nothing. It is asked over a link that
//! stands anyway, once at a time for each workspace, and not for long: who can't be found in time
//! is not known. One answer holds for the few seconds in which a connection brings its requests.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use boatyard_link::message::{Program, Reply, Request};
use boatyard_model::WorkspaceId;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

use super::Hub;

/// How long a workspace is waited for.
const WITHIN: Duration = Duration::from_millis(250);
/// How long an answer holds. A port is not used again so soon.
const HOLDS: Duration = Duration::from_secs(5);
/// How many answers are kept.
const KEPT: usize = 2048;
/// How many workspaces are asked at one time; each is asked once.
const ASKED: usize = 256;
/// The longest name that is told, in characters.
const NAME_MAX: usize = 64;

/// When something was found out, and what: who it was, or that nobody can be named.
type Found = (Instant, Option<Arc<Program>>);

/// What was found out.
#[derive(Debug, Default)]
pub(super) struct Programs {
    found: Mutex<HashMap<(WorkspaceId, u16), Found>>,
    /// Who is being asked.
    asked: Mutex<HashMap<WorkspaceId, Arc<Semaphore>>>,
}

impl Programs {
    /// What is known of a connection; the inner `None` is known as well.
    fn known(&self, key: (WorkspaceId, u16), now: Instant) -> Option<Option<Arc<Program>>> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, program) = found.get(&key)?;
        (now.duration_since(*at) < HOLDS).then(|| program.clone())
    }

    fn keep(&self, key: (WorkspaceId, u16), program: Option<Arc<Program>>, now: Instant) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.len() >= KEPT {
            found.retain(|_, (at, _)| now.duration_since(*at) < HOLDS);
        }
        if found.len() < KEPT {
            found.insert(key, (now, program));
        }
    }

    /// The turn of a workspace; none when too many are asked.
    fn turn(&self, workspace: WorkspaceId) -> Option<Arc<Semaphore>> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.len() >= ASKED {
            // One reference is the map's own.
            asked.retain(|_, turn| Arc::strong_count(turn) > 1);
        }
        if asked.len() >= ASKED && !asked.contains_key(&workspace) {
            return None;
        }
        Some(Arc::clone(asked.entry(workspace).or_insert_with(|| Arc::new(Semaphore::new(1)))))
    }
}

impl Hub {
    /// The program whose end of a connection this is inside a workspace, as it calls itself; none
    /// when it is gone, or was not found in time. `to` is where it wanted to go, if that was caught.
    /// Never wakes anything.
    pub async fn who_connects(
        &self,
        workspace: WorkspaceId,
        own: SocketAddr,
        to: Option<SocketAddr>,
    ) -> Option<Arc<Program>> {
        let programs = &self.shared.programs;
        let key = (workspace, own.port());
        if let Some(known) = programs.known(key, Instant::now()) {
            return known;
        }
        let place = {
            let places = self.shared.places.lock().unwrap_or_else(PoisonError::into_inner);
            places.get(&workspace).cloned()?
        };
        let attached = place.attached()?;
        let turn = programs.turn(workspace)?;
        let asked = async {
            let _turn = turn.acquire().await.ok()?;
            // Whoever had the turn before may have asked the same.
            if let Some(known) = programs.known(key, Instant::now()) {
                return known;
            }
            match attached.ask(Request::WhoConnects { own, to }).await {
                Ok(Reply::Program { found }) => {
                    let found = found.map(tidy).map(Arc::new);
                    programs.keep(key, found.clone(), Instant::now());
                    found
                }
                // An earlier runner does not understand; a link that ended tells nothing.
                Ok(_) | Err(_) => None,
            }
        };
        timeout(WITHIN, asked).await.ok().flatten()
    }
}

/// A name of a sane length, of letters that do no harm wherever it is shown.
fn tidy(program: Program) -> Program {
    let is_plain = |c: &char| c.is_ascii_graphic();
    Program { name: program.name.chars().filter(is_plain).take(NAME_MAX).collect(), ..program }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(name: &str) -> Program {
        Program { name: name.to_owned(), pid: 7, session: None }
    }

    #[test]
    fn an_answer_holds_for_a_while_and_there_are_never_too_many() {
        let programs = Programs::default();
        let (workspace, now) = (WorkspaceId::new(), Instant::now());
        programs.keep((workspace, 1), Some(Arc::new(program("curl"))), now);
        programs.keep((workspace, 2), None, now);
        assert_eq!(programs.known((workspace, 1), now).unwrap().unwrap().name, "curl");
        assert_eq!(programs.known((workspace, 2), now), Some(None));
        assert_eq!(programs.known((workspace, 3), now), None);
        for port in 0..4000 {
            programs.keep((workspace, port), None, now);
        }
        assert_eq!(programs.found.lock().unwrap().len(), KEPT);
        let later = now + HOLDS;
        assert_eq!(programs.known((workspace, 1), later), None);
        programs.keep((workspace, 9), None, later);
        assert_eq!(programs.found.lock().unwrap().len(), 1);
    }

    #[test]
    fn workspaces_that_are_asked_are_bounded() {
        let programs = Programs::default();
        let turns: Vec<_> = (0..ASKED).filter_map(|_| programs.turn(WorkspaceId::new())).collect();
        assert_eq!(turns.len(), ASKED);
        assert!(programs.turn(WorkspaceId::new()).is_none());
        drop(turns);
        assert!(programs.turn(WorkspaceId::new()).is_some());
    }

    #[test]
    fn a_name_is_plain_and_short() {
        let told = tidy(program(&format!("a\u{1b}[31m\n{}", "x".repeat(200))));
        assert!(told.name.starts_with("a[31mxxx") && told.name.len() == NAME_MAX);
    }
}
