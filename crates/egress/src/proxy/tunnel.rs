//! A connection that is not opened: bytes both ways, until they end, the rules change or all is
//! quiet.
//!
//! If the client speaks TLS, the name that it asks for must be the one that the tunnel is for.
//! Nothing waits for the client to speak: what the server says first passes meanwhile.

use std::{
    io,
    pin::pin,
    sync::{Arc, atomic::Ordering},
};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{
    Place,
    aim::{self, Aim},
    connection::until_idle,
    inside::Inside,
};
use crate::{
    dial::{DialError, Purpose, dial},
    log::{Outcome, Pending, Traffic},
    policy::Policy,
    relay::{pump, read_more, reset, write_all},
    rules::{Host, Target, Verdict, Wish},
    tls::{self, Opening},
};

/// A CONNECT that was granted.
pub(super) struct Tunnel {
    /// Gives the client's connection once the answer is out.
    pub(super) upgrade: OnUpgrade,
    pub(super) aim: Aim,
}

/// Bytes that pass unopened.
pub(super) struct Bytes {
    pub(super) inside: Arc<TcpStream>,
    /// What the client has said already.
    pub(super) early: Vec<u8>,
    pub(super) outside: TcpStream,
    pub(super) target: Target,
    pub(super) first: First,
    pub(super) record: Pending,
}

/// What the client may begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum First {
    /// Anything; but TLS must ask for the right name.
    Anything,
    /// Nothing that would have been looked into, had it come in time.
    NothingJudged,
}

/// Connects to where a connection leads.
pub(super) async fn open(place: &Place, target: &Target) -> Result<TcpStream, DialError> {
    let parts = &place.parts;
    let outgoing = &parts.settings.outgoing;
    let guard = &parts.settings.guard;
    let dialled = dial(target, Purpose::Tunnel, outgoing, guard, &*parts.resolver).await?;
    Ok(dialled.stream)
}

/// Begins when the answer to CONNECT is out.
pub(super) async fn begin(tunnel: Tunnel, place: &Place) {
    let Tunnel { upgrade, mut aim } = tunnel;
    let fail = |record: &mut Pending, reason: &str| {
        record.set(|record| record.outcome = Outcome::Failed { reason: reason.to_owned() });
    };
    let Ok(upgraded) = upgrade.await else {
        return fail(&mut aim.record, "the client went away");
    };
    let Ok(parts) = upgraded.downcast::<TokioIo<Inside>>() else {
        return fail(&mut aim.record, "the connection is of another kind than was served");
    };
    let inside = parts.io.into_inner();
    let mut early = parts.read_buf.to_vec();
    early.extend_from_slice(&inside.early);
    aim::run(inside.stream, early, aim, place).await;
}

/// Passes bytes until they end.
pub(super) async fn relay(bytes: Bytes, place: &Place) {
    let Bytes { inside, early, outside, target, first, mut record } = bytes;
    let traffic = Arc::clone(&record.traffic);
    let idle_after = place.parts.settings.idle_after;
    let outcome = {
        let mut passing = pin!(pass(&inside, &outside, early, (&target, first), &traffic));
        tokio::select! {
            outcome = passing.as_mut() => match outcome {
                Ok(()) => Outcome::Passed { status: 200 },
                Err(Cut::Broken(error)) => Outcome::Failed { reason: error.to_string() },
                Err(Cut::Denied(reason)) => Outcome::Denied { reason },
            },
            () = until_idle(idle_after, || traffic.total()) => {
                Outcome::Failed { reason: "no byte passed for too long".into() }
            }
            () = until_withdrawn(place, &target, Wish::Tunnel) => {
                Outcome::Denied { reason: WITHDRAWN.into() }
            }
        }
    };
    if !matches!(outcome, Outcome::Passed { .. }) {
        reset(&inside);
        reset(&outside);
    }
    record.set(|record| record.outcome = outcome);
}

/// Why something was ended that was allowed when it began.
pub(super) const WITHDRAWN: &str = "the rule that allowed it was withdrawn";

/// Why a tunnel did not end by itself.
enum Cut {
    Broken(io::Error),
    Denied(String),
}

impl From<io::Error> for Cut {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

/// Passes bytes both ways until both sides have ended. `early` is what the client sent without
/// waiting for the answer.
async fn pass(
    inside: &TcpStream,
    outside: &TcpStream,
    early: Vec<u8>,
    (target, first): (&Target, First),
    traffic: &Traffic,
) -> Result<(), Cut> {
    let out = async {
        let opening = read_opening(inside, early, &target.host, first).await?;
        write_all(outside, &opening).await?;
        traffic.sent.fetch_add(opening.len() as u64, Ordering::Relaxed);
        drop(opening);
        pump(inside, outside, &traffic.sent).await.map_err(Cut::from)
    };
    let back = async { pump(outside, inside, &traffic.received).await.map_err(Cut::from) };
    tokio::try_join!(out, back).map(|_| ())
}

/// Reads as much as it takes to see that the client may go on.
async fn read_opening(
    inside: &TcpStream,
    mut bytes: Vec<u8>,
    host: &Host,
    first: First,
) -> Result<Vec<u8>, Cut> {
    loop {
        let opening = tls::opening(&bytes);
        let is_late = first == First::NothingJudged
            && (matches!(opening, Opening::Tls(_)) || super::peek::is_http(&bytes));
        if is_late {
            return Err(Cut::Denied("it began too late to be judged".into()));
        }
        match opening {
            Opening::Other if first == First::NothingJudged && super::peek::is_open(&bytes) => {}
            Opening::Other | Opening::Tls(None) => return Ok(bytes),
            Opening::Tls(Some(name)) => {
                return match otherwise(&name, host) {
                    None => Ok(bytes),
                    Some(reason) => Err(Cut::Denied(reason)),
                };
            }
            Opening::Malformed => return Err(Cut::Denied(UNJUDGED.into())),
            Opening::Incomplete => {}
        }
        if !read_more(inside, &mut bytes).await? {
            return Ok(bytes);
        }
    }
}

/// Said of TLS that no ordinary client speaks.
pub(super) const UNJUDGED: &str = "its TLS begins in a way that can't be judged";

/// What is wrong with a name that TLS asks for.
pub(super) fn otherwise(name: &str, host: &Host) -> Option<String> {
    if name.parse::<Host>().is_ok_and(|name| name == *host) {
        return None;
    }
    // Comes from the client: shown as plain text of a sane length.
    let name: String = name.chars().filter(char::is_ascii_graphic).take(100).collect();
    Some(format!("its TLS asks for `{name}` and not for `{host}`"))
}

/// Waits until the newest rules no longer allow something.
pub(super) async fn until_withdrawn(place: &Place, target: &Target, wish: Wish<'_>) {
    let mut policy = place.policy.clone();
    let is_denied = |policy: &Arc<Policy>| matches!(policy.check(target, wish), Verdict::Denied(_));
    if policy.wait_for(is_denied).await.is_err() {
        // Nobody changes them any more.
        std::future::pending::<()>().await;
    }
}
