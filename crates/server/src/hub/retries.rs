//! Answers of providers after which agents try again, told in the sessions that wait for them; and
//! what the gateway did of its own: that it asked another provider, that a credential is refused.
//!
//! Some agents try again in silence, for minutes. Those that tell of it by themselves are given a
//! second to do so; then nothing is added.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use boatyard_egress::gateway::{Call, End};
use boatyard_model::{Event, EventBody, SessionId, SessionState, event::NoticeLevel};
use boatyard_store::{NewEvent, SessionRow};
use serde_json::json;
use tokio::sync::Semaphore;

use super::{Hub, HubError};

/// How long an agent has to tell of it by itself.
const WAIT: Duration = Duration::from_secs(1);
/// How long a session is not told again.
const QUIET: Duration = Duration::from_secs(5);
/// Answers that are waited with at a time; past it they are not told.
const WAITING: usize = 64;
/// Sessions that are remembered; past it all are forgotten and may be told again.
const REMEMBERED: usize = 4096;
/// Events that are looked at for the agent's own word.
const EVENTS: u32 = 200;

/// The agent's own word for it, and ours.
const OWN: &str = "retry";
const CODE: &str = "provider_retry";
/// That another provider was asked, and that a credential is refused.
const FALLBACK: &str = "provider_fallback";
const REFUSED: &str = "provider_refused";

/// Tells of such answers.
pub(super) struct Retries {
    hub: Hub,
    told: Arc<Mutex<HashMap<SessionId, Instant>>>,
    room: Arc<Semaphore>,
}

impl Retries {
    pub(super) fn new(hub: Hub) -> Self {
        Self { hub, told: Arc::default(), room: Arc::new(Semaphore::new(WAITING)) }
    }

    /// A request has had its answer.
    pub(super) fn saw(&self, call: &Call) {
        if let Some((code, text)) = own_doing(call) {
            self.tell_at_once(call, code, text);
            return;
        }
        let Some(text) = words(call) else { return };
        let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else { return };
        let (hub, told, call) = (self.hub.clone(), Arc::clone(&self.told), call.clone());
        tokio::spawn(async move {
            match tell(&hub, &told, &call, text).await {
                // An installation has no row.
                Ok(()) | Err(HubError::Store(boatyard_store::Error::NotFound { .. })) => {}
                Err(error) => {
                    tracing::warn!(error = %crate::chain(&error), "a provider's answer was not told");
                }
            }
            drop(room);
        });
    }
}

impl Retries {
    /// Tells the session that asked, or those of its workspace that work.
    fn tell_at_once(&self, call: &Call, code: &'static str, text: String) {
        let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else { return };
        let (hub, told, call) = (self.hub.clone(), Arc::clone(&self.told), call.clone());
        tokio::spawn(async move {
            match tell_own(&hub, &told, &call, code, text).await {
                Ok(()) | Err(HubError::Store(boatyard_store::Error::NotFound { .. })) => {}
                Err(error) => {
                    tracing::warn!(error = %crate::chain(&error), "what the gateway did was not told");
                }
            }
            drop(room);
        });
    }
}

async fn tell_own(
    hub: &Hub,
    told: &Mutex<HashMap<SessionId, Instant>>,
    call: &Call,
    code: &str,
    text: String,
) -> Result<(), HubError> {
    let workspace = hub.shared.store.workspace(call.workspace).await?;
    let mut sessions = hub.sessions_in(&workspace).await?;
    if sessions.iter().any(|session| Some(session.id) == call.session) {
        sessions.retain(|session| Some(session.id) == call.session);
    } else {
        sessions.retain(|session| session.state == SessionState::Running);
    }
    for session in sessions {
        if is_due(told, session.id) {
            let data = json!({
                "provider": call.provider,
                "model": call.model,
                "status": call.status,
                "instead_of": call.instead_of.as_ref().map(|one| &one.provider),
            });
            let text = text.clone();
            hub.notice(&session, NoticeLevel::Warning, code, text, Some(data)).await?;
        }
    }
    Ok(())
}

/// What is said of what the gateway did by itself.
fn own_doing(call: &Call) -> Option<(&'static str, String)> {
    if call.is_unauthorized {
        let End::Refused(reason) = &call.end else { return None };
        return Some((REFUSED, reason.clone()));
    }
    let first = call.instead_of.as_ref()?;
    let model = call.model.as_deref().map(|model| format!(" ({model})")).unwrap_or_default();
    let text = format!(
        "{} could not be asked: {}. {}{model} was asked in its place.",
        first.provider, first.why, call.provider
    );
    Some((FALLBACK, text))
}

async fn tell(
    hub: &Hub,
    told: &Mutex<HashMap<SessionId, Instant>>,
    call: &Call,
    text: String,
) -> Result<(), HubError> {
    let store = &hub.shared.store;
    let workspace = store.workspace(call.workspace).await?;
    let mut waiting = hub.sessions_in(&workspace).await?;
    waiting.retain(|session| session.state == SessionState::Running);
    tokio::time::sleep(WAIT).await;
    for before in waiting {
        let now = store.session(before.id).await?;
        let same = now.state == SessionState::Running && now.turn == before.turn;
        if !same || own_word(hub, &before).await? || !is_due(told, before.id) {
            continue;
        }
        let body = EventBody::Notice {
            level: NoticeLevel::Warning,
            code: CODE.to_owned(),
            text: text.clone(),
            data: Some(json!({ "provider": call.provider, "status": call.status })),
        };
        store.append(vec![NewEvent::own(now.id, store.now(), now.turn, body)]).await?;
    }
    Ok(())
}

/// Whether the agent has told of it since.
async fn own_word(hub: &Hub, before: &SessionRow) -> Result<bool, HubError> {
    let since = hub.shared.store.read_events(before.id, before.last_seq, EVENTS).await?;
    let is_own =
        |event: &Event| matches!(&event.body, EventBody::Notice { code, .. } if code == OWN);
    // One of a later version is none that is looked for.
    let events = since.iter().filter_map(|stored| stored.event().ok());
    Ok(events.into_iter().any(|event| is_own(&event)))
}

fn is_due(told: &Mutex<HashMap<SessionId, Instant>>, session: SessionId) -> bool {
    let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
    if told.get(&session).is_some_and(|when| when.elapsed() < QUIET) {
        return false;
    }
    if told.len() >= REMEMBERED {
        told.clear();
    }
    told.insert(session, Instant::now());
    true
}

/// What is said of an answer after which agents try again; nothing of any other.
fn words(call: &Call) -> Option<String> {
    // The next provider's answer is the one that counts.
    if call.next.is_some() {
        return None;
    }
    let status = call.status.filter(|status| *status == 429 || (500..600).contains(status))?;
    let provider = &call.provider;
    Some(match &call.end {
        End::Refused(reason) => format!("A request to {provider} was not passed on: {reason}"),
        End::Cancelled => return None,
        End::Complete | End::Broken(_) if status == 429 => format!(
            "{provider} answered that it gets too many requests (429). Agents try again by themselves."
        ),
        End::Complete | End::Broken(_) => {
            format!(
                "{provider} answered with an error of its own ({status}). Agents try again by themselves."
            )
        }
    })
}

#[cfg(test)]
mod tests {
    use boatyard_model::{Timestamp, WorkspaceId};

    use super::*;

    #[test]
    fn what_is_tried_again_is_told() {
        let told = |status: u16, end: End| {
            words(&Call {
                time: Timestamp(0),
                workspace: WorkspaceId::new(),
                session: None,
                provider: "openai".to_owned(),
                method: "POST".to_owned(),
                path: "/v1/responses".to_owned(),
                status: Some(status),
                end,
                sent: 0,
                received: 0,
                duration: Duration::ZERO,
                held: Duration::ZERO,
                model: None,
                usage: None,
                micros: None,
                paid_by: None,
                is_unauthorized: false,
                instead_of: None,
                next: None,
            })
        };
        for status in [200, 400, 401, 404, 499, 600] {
            assert_eq!(told(status, End::Complete), None, "{status}");
        }
        assert_eq!(told(503, End::Cancelled), None);
        let many =
            "openai answered that it gets too many requests (429). Agents try again by themselves.";
        assert_eq!(told(429, End::Complete).as_deref(), Some(many));
        assert!(told(529, End::Complete).unwrap().contains("error of its own (529)"));
        let refused = told(502, End::Refused("no way there".to_owned()));
        assert_eq!(refused.as_deref(), Some("A request to openai was not passed on: no way there"));
    }

    #[test]
    fn a_session_is_told_once_in_a_while() {
        let (told, session) = (Mutex::default(), SessionId::new());
        assert!(is_due(&told, session));
        assert!(!is_due(&told, session));
        assert!(is_due(&told, SessionId::new()));
    }
}
