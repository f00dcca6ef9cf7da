//! Asks the policy, and where that says so a person; and says why not.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use boatyard_model::AskState;
use http::{StatusCode, request};
use tokio::{net::TcpStream, sync::watch};

use super::{Place, answer::Notice, inside};
use crate::{
    broker::{Call, Leave, Scheme},
    dial::DialError,
    log::{Outcome, Pending},
    policy::{self, Policy, Question},
    resolve::Unreachable,
    rules::{LEARNED, Reason, Target, Verdict, Wish},
};

/// Why something passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Passes {
    Rule(Arc<str>),
    /// By that rule, after a person was asked.
    Asked(Arc<str>),
    Learned,
}

impl Passes {
    pub(super) fn leave(&self) -> Leave<'_> {
        match self {
            Self::Rule(rule) | Self::Asked(rule) => Leave::Rule(rule),
            Self::Learned => Leave::Learned,
        }
    }
}

/// What is judged.
pub(super) struct Matter<'a> {
    pub(super) place: &'a Place,
    pub(super) target: &'a Target,
    pub(super) wish: Wish<'a>,
    /// How it would go, and with what head, where that is known.
    pub(super) request: Option<(Scheme, &'a request::Parts)>,
    /// A rule about which a person has said yes for the whole connection.
    pub(super) granted: Option<&'a Arc<str>>,
    /// The program's connection, watched while a person is asked.
    pub(super) stream: &'a TcpStream,
    pub(super) peer: Option<SocketAddr>,
    /// How many wait for a person.
    pub(super) held: &'a AtomicUsize,
}

impl Matter<'_> {
    /// Why it passes, or what to say instead. Both are in the record then.
    pub(super) async fn judge(&self, record: &mut Pending) -> Result<Passes, Notice> {
        record.set(|record| {
            record.host = self.target.host.to_string();
            record.port = self.target.port;
        });
        let mut policy = self.place.policy.clone();
        let now = Arc::clone(&policy.borrow_and_update());
        let passes = match now.check(self.target, self.wish) {
            Verdict::Ask(rule) if self.granted == Some(&rule) => Ok(Passes::Rule(rule)),
            Verdict::Ask(rule) => self.ask(rule, &now, &mut policy, record).await,
            verdict => decided(verdict),
        };
        match passes {
            Ok(passes) => {
                record.set(|record| {
                    record.rule = Some(match &passes {
                        Passes::Rule(rule) | Passes::Asked(rule) => Arc::clone(rule),
                        Passes::Learned => Arc::from(LEARNED),
                    });
                });
                Ok(passes)
            }
            Err(reason) => Err(denied(self.place, self.target, &reason, record)),
        }
    }

    /// Holds it until a person answers, the policy no longer says to ask, or nobody waits for it
    /// any more.
    async fn ask(
        &self,
        rule: Arc<str>,
        now: &Policy,
        policy: &mut watch::Receiver<Arc<Policy>>,
        record: &mut Pending,
    ) -> Result<Passes, Reason> {
        let settings = &self.place.parts.settings;
        let credential = self.request.and_then(|(scheme, head)| {
            let leave = Leave::Rule(&rule);
            let (workspace, target) = (self.place.workspace, self.target);
            settings.broker.credential(Call { workspace, target, scheme, policy: now, leave }, head)
        });
        let (method, path) = match self.wish {
            Wish::Tunnel => (None, None),
            Wish::Request { method, path, .. } => (Some(method.clone()), Some(path.to_owned())),
        };
        let question = Question {
            workspace: self.place.workspace,
            target: self.target.clone(),
            method,
            path,
            rule: Arc::clone(&rule),
            credential,
            peer: self.peer,
        };
        // What ends this wait without an answer is that the client went away.
        record.set(|record| {
            record.rule = Some(Arc::clone(&rule));
            record.asked = Some(AskState::Withdrawn);
            record.outcome = Outcome::Failed { reason: GONE.into() };
        });
        let _held = Held::new(self.held);
        let mut asked = settings.asker.ask(question);
        let changed = async {
            let asks = |policy: &Arc<Policy>| {
                matches!(policy.check(self.target, self.wish), Verdict::Ask(_))
            };
            let newest = policy.wait_for(|policy| !asks(policy)).await.map(|now| Arc::clone(&now));
            match newest {
                Ok(newest) => newest.check(self.target, self.wish),
                // Nobody changes it any more.
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            answer = &mut asked => match answer {
                policy::Answer::Yes => {
                    record.set(|record| record.asked = Some(AskState::Allowed));
                    Ok(Passes::Asked(rule))
                }
                policy::Answer::No { state, why } => {
                    record.set(|record| record.asked = state);
                    Err(Reason::Answered(rule, why))
                }
            },
            verdict = changed => {
                record.set(|record| record.asked = None);
                decided(verdict)
            }
            watched = inside::gone(self.stream) => {
                if let Err(error) = watched {
                    tracing::warn!(%error, "a held request can't be watched");
                }
                Err(Reason::Answered(rule, GONE.into()))
            }
        }
    }
}

/// What nobody reads, but the record.
const GONE: &str = "the program went away before there was an answer";

fn decided(verdict: Verdict) -> Result<Passes, Reason> {
    match verdict {
        Verdict::Allowed(rule) => Ok(Passes::Rule(rule)),
        Verdict::Learned => Ok(Passes::Learned),
        Verdict::Ask(rule) => Err(Reason::Answered(rule, "nobody was asked".to_owned())),
        Verdict::Denied(reason) => Err(reason),
    }
}

/// Counts one that waits.
struct Held<'a>(&'a AtomicUsize);

impl<'a> Held<'a> {
    fn new(held: &'a AtomicUsize) -> Self {
        held.fetch_add(1, Ordering::Relaxed);
        Self(held)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Says by which rule something is refused, and how to have it allowed.
pub(super) fn denied(
    place: &Place,
    target: &Target,
    reason: &Reason,
    record: &mut Pending,
) -> Notice {
    record.set(|record| {
        record.rule = reason.rule().cloned();
        record.outcome = Outcome::Denied { reason: reason.to_string() };
    });
    let why = format!("Boatyard does not let this workspace reach {target}: {reason}");
    let mut notice = Notice::new(StatusCode::FORBIDDEN, "http_request_denied", why);
    notice.rule = reason.rule().cloned();
    // As `[egress] allow` has it: the usual ports need not be said.
    let host = match target.port {
        80 | 443 => target.host.to_string(),
        _ => target.to_string(),
    };
    let workspace = place.workspace;
    notice.mend = match reason {
        // What is allowed beside it changes nothing.
        Reason::Forbidden(rule) | Reason::Above(rule) => vec![format!(
            "Only another rule in its place lets it pass: boatyard egress rules --workspace \
             {workspace} shows `{rule}`"
        )],
        _ => vec![
            format!("To allow it: boatyard egress allow {host} --workspace {workspace}"),
            place.parts.settings.how_to_ask.clone(),
        ],
    };
    notice
}

/// Says why a destination can't be reached.
pub(super) fn unreachable(error: &DialError, record: &mut Pending) -> Notice {
    let (status, kind) = match error {
        DialError::Unreachable(Unreachable::Forbidden { .. }) => {
            (StatusCode::FORBIDDEN, "destination_ip_prohibited")
        }
        DialError::Offline => (StatusCode::FORBIDDEN, "http_request_denied"),
        DialError::Unreachable(Unreachable::NotFound { .. }) => {
            (StatusCode::BAD_GATEWAY, "dns_error")
        }
        DialError::Connect { .. } => (StatusCode::BAD_GATEWAY, "connection_refused"),
        DialError::Refused { .. } => (StatusCode::BAD_GATEWAY, "destination_unavailable"),
        DialError::TimedOut { .. } => (StatusCode::GATEWAY_TIMEOUT, "connection_timeout"),
    };
    let why = format!("Boatyard could not connect: {}", chain(error));
    let mut notice = Notice::new(status, kind, why);
    record.set(|record| {
        let reason = error.to_string();
        record.outcome = if status == StatusCode::FORBIDDEN {
            Outcome::Denied { reason }
        } else {
            Outcome::Failed { reason }
        };
        notice.rule.clone_from(&record.rule);
    });
    if status == StatusCode::FORBIDDEN {
        notice.mend =
            vec!["The operator of Boatyard can allow it in the server's settings.".to_owned()];
    }
    notice
}

/// An error with its causes.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some repeat their cause.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
