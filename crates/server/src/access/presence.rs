//! Who is present in a session: who follows it, and who writes a prompt.
//!
//! Nothing of it is stored. Those who follow a session are told by an event `presence` in its
//! stream, without an id: it can't be asked for again, and the next one says everything anew. One
//! who is alone is told nothing.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use boatyard_api::share::{Presence, Present};
use boatyard_model::{MemberId, SessionId};
use bytes::Bytes;
use tokio::{
    sync::{Notify, broadcast},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::auth::{Caller, Via};

/// How long somebody counts as writing after having said so.
const TYPES_FOR: Duration = Duration::from_secs(10);

/// People who are named; of more there is the number.
const NAMED: usize = 50;

/// The shortest time between two tellings about the same moment.
const TOLD_EVERY: Duration = Duration::from_millis(100);

/// Tellings that a slow listener may be behind; it gets the newest.
const BEHIND: usize = 4;

/// Who somebody is to the others: the same in each browser and program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Who {
    Member(MemberId),
    Guest,
}

impl Who {
    fn of(caller: &Caller) -> Self {
        match caller.via {
            Via::Guest(_) => Self::Guest,
            _ => Self::Member(caller.owner.member),
        }
    }
}

#[derive(Debug)]
struct Here {
    name: Arc<str>,
    /// Leases.
    streams: usize,
    types_until: Option<Instant>,
}

struct Room {
    people: BTreeMap<Who, Here>,
    told: broadcast::Sender<Bytes>,
    /// What is true was not told yet.
    is_news: bool,
    /// Somebody was told that others are there.
    was_shared: bool,
}

impl Default for Room {
    fn default() -> Self {
        let told = broadcast::Sender::new(BEHIND);
        Self { people: BTreeMap::new(), told, is_news: false, was_shared: false }
    }
}

impl Room {
    fn presence(&self, now: Instant) -> Presence {
        let mut people: Vec<Present> = self
            .people
            .iter()
            .map(|(who, here)| Present {
                member: match who {
                    Who::Member(id) => Some(*id),
                    Who::Guest => None,
                },
                name: here.name.to_string(),
                typing: here.types_until.is_some_and(|until| until > now),
            })
            .collect();
        people.sort_by(|a, b| a.name.cmp(&b.name));
        let more = people.len().saturating_sub(NAMED);
        people.truncate(NAMED);
        Presence { people, more }
    }

    fn is_empty(&self) -> bool {
        self.people.is_empty() && self.told.receiver_count() == 0
    }
}

/// Who is present where.
#[derive(Default)]
pub struct Presences {
    rooms: Mutex<HashMap<SessionId, Room>>,
    news: Notify,
}

impl Presences {
    fn rooms(&self) -> MutexGuard<'_, HashMap<SessionId, Room>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody follows a session from now on.
    pub(super) fn came(&self, session: SessionId, caller: &Caller) {
        let mut rooms = self.rooms();
        let room = rooms.entry(session).or_default();
        let here = room.people.entry(Who::of(caller)).or_insert_with(|| Here {
            name: Arc::clone(&caller.name),
            streams: 0,
            types_until: None,
        });
        here.streams += 1;
        room.is_news = true;
        drop(rooms);
        self.news.notify_one();
    }

    /// Somebody does so no more.
    pub(super) fn went(&self, session: SessionId, caller: &Caller) {
        let mut rooms = self.rooms();
        let Some(room) = rooms.get_mut(&session) else { return };
        let who = Who::of(caller);
        if let Some(here) = room.people.get_mut(&who) {
            here.streams = here.streams.saturating_sub(1);
            if here.streams == 0 {
                room.people.remove(&who);
                room.is_news = true;
            }
        }
        if room.is_empty() {
            rooms.remove(&session);
        }
        drop(rooms);
        self.news.notify_one();
    }

    /// Somebody who follows a session writes, or ceased to; who follows it not is not there.
    pub fn types(&self, session: SessionId, caller: &Caller, typing: bool) -> Presence {
        let now = Instant::now();
        let mut rooms = self.rooms();
        let Some(room) = rooms.get_mut(&session) else { return Presence::default() };
        if let Some(here) = room.people.get_mut(&Who::of(caller)) {
            let was = here.types_until.is_some_and(|until| until > now);
            here.types_until = typing.then(|| now + TYPES_FOR);
            room.is_news |= was != typing;
        }
        let presence = room.presence(now);
        drop(rooms);
        self.news.notify_one();
        presence
    }

    /// Who is there.
    pub fn of(&self, session: SessionId) -> Presence {
        let now = Instant::now();
        self.rooms().get(&session).map(|room| room.presence(now)).unwrap_or_default()
    }

    /// What is told in a session from now on.
    pub fn listen(&self, session: SessionId) -> broadcast::Receiver<Bytes> {
        self.rooms().entry(session).or_default().told.subscribe()
    }

    /// Somebody listens who was not told yet.
    pub fn tell_again(&self, session: SessionId) {
        let mut rooms = self.rooms();
        let Some(room) = rooms.get_mut(&session).filter(|room| room.people.len() > 1) else {
            return;
        };
        room.is_news = true;
        drop(rooms);
        self.news.notify_one();
    }

    /// Tells what has changed, until the server stops.
    pub async fn run(&self, stopping: CancellationToken) {
        loop {
            let next = self.tell();
            let wait = async {
                match next {
                    Some(next) => tokio::time::sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stopping.cancelled() => return,
                () = self.news.notified() => {}
                () = wait => {}
            }
            tokio::select! {
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(TOLD_EVERY) => {}
            }
        }
    }

    /// Tells each session what is news in it; when the next one ceases to write.
    fn tell(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut next: Option<Instant> = None;
        self.rooms().retain(|_, room| {
            for here in room.people.values_mut() {
                match here.types_until {
                    Some(until) if until <= now => {
                        here.types_until = None;
                        room.is_news = true;
                    }
                    Some(until) => next = Some(next.map_or(until, |next| next.min(until))),
                    None => {}
                }
            }
            if std::mem::take(&mut room.is_news) {
                let is_shared = room.people.len() > 1;
                if is_shared || room.was_shared {
                    // Written by us: it can be. Who listens no more need not be told.
                    let json = serde_json::to_string(&room.presence(now)).unwrap_or_default();
                    let frame = format!("event: presence\ndata: {json}\n\n");
                    let _ = room.told.send(frame.into());
                }
                room.was_shared = is_shared;
            }
            !room.is_empty()
        });
        next
    }
}

#[cfg(test)]
mod tests {
    use boatyard_model::OrganizationId;
    use boatyard_store::Owner;

    use super::*;

    fn somebody(n: u128, name: &str) -> Caller {
        let owner =
            Owner { organization: OrganizationId::from_u128(1), member: MemberId::from_u128(n) };
        Caller { owner, name: name.into(), ..Caller::server() }
    }

    fn said(told: &mut broadcast::Receiver<Bytes>) -> Option<String> {
        told.try_recv().ok().map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[test]
    fn others_are_told_who_is_there_and_who_writes() {
        let presences = Presences::default();
        let (ana, ben) = (somebody(1, "Ana"), somebody(2, "Ben"));
        let session = SessionId::new();
        let mut told = presences.listen(session);
        presences.came(session, &ana);
        presences.came(session, &ana);
        assert_eq!(presences.tell(), None);
        assert_eq!(said(&mut told), None, "who is alone is told nothing");
        presences.came(session, &ben);
        presences.tell();
        let first = said(&mut told).unwrap();
        assert!(first.contains("Ana") && first.contains("Ben"), "{first}");
        assert!(!first.contains(r#""typing":true"#), "{first}");
        presences.types(session, &ben, true);
        assert!(presences.tell().is_some(), "it ends by itself");
        assert!(said(&mut told).unwrap().contains(r#""typing":true"#));
        presences.types(session, &ben, true);
        presences.tell();
        assert_eq!(said(&mut told), None, "the same is no news");
        presences.rooms().get_mut(&session).unwrap().people.values_mut().for_each(|here| {
            here.types_until = here.types_until.map(|_| Instant::now());
        });
        assert_eq!(presences.tell(), None);
        assert!(!said(&mut told).unwrap().contains(r#""typing":true"#));
        presences.went(session, &ana);
        assert_eq!(presences.of(session).people.len(), 2, "one stream of two");
        presences.went(session, &ana);
        presences.tell();
        assert!(!said(&mut told).unwrap().contains("Ana"));
        presences.went(session, &ben);
        drop(told);
        assert_eq!(presences.of(session), Presence::default());
        presences.tell();
        assert!(presences.rooms().is_empty(), "nothing is kept");
    }
}
