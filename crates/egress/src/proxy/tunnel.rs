//! A CONNECT that was granted: bytes both ways, until they end, the rules change or all is quiet.
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

use super::{Place, connection::until_idle};
use crate::{
    dial::{DialError, Purpose, dial},
    log::{Outcome, Pending, Traffic},
    policy::Policy,
    relay::{pump, read_more, reset, write_all},
    rules::{Host, Target, Verdict, Wish},
    tls::{self, Opening},
};

/// What a tunnel needs to begin.
pub(super) struct Tunnel {
    /// Gives the client's connection once the answer is out.
    pub(super) upgrade: OnUpgrade,
    pub(super) outside: TcpStream,
    pub(super) target: Target,
    pub(super) record: Pending,
}

/// Connects to where the tunnel leads.
pub(super) async fn open(place: &Place, target: &Target) -> Result<TcpStream, DialError> {
    let parts = &place.parts;
    let outgoing = &parts.settings.outgoing;
    let guard = &parts.settings.guard;
    let dialled = dial(target, Purpose::Tunnel, outgoing, guard, &*parts.resolver).await?;
    Ok(dialled.stream)
}

/// Passes bytes until the tunnel ends.
pub(super) async fn run(mut tunnel: Tunnel, place: &Place) {
    let fail = |record: &mut Pending, reason: &str| {
        record.set(|record| record.outcome = Outcome::Failed { reason: reason.to_owned() });
    };
    let Ok(upgraded) = tunnel.upgrade.await else {
        return fail(&mut tunnel.record, "the client went away");
    };
    let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else {
        return fail(&mut tunnel.record, "the connection is of another kind than was served");
    };
    let inside = parts.io.into_inner();
    let traffic = Arc::clone(&tunnel.record.traffic);
    let idle_after = place.parts.settings.idle_after;
    let outcome = {
        let early = Vec::from(parts.read_buf);
        let mut passing = pin!(pass(&inside, &tunnel.outside, early, &tunnel.target, &traffic));
        tokio::select! {
            outcome = passing.as_mut() => match outcome {
                Ok(()) => Outcome::Passed { status: 200 },
                Err(Cut::Broken(error)) => Outcome::Failed { reason: error.to_string() },
                Err(Cut::Denied(reason)) => Outcome::Denied { reason },
            },
            () = until_idle(idle_after, || traffic.total()) => {
                Outcome::Failed { reason: "no byte passed for too long".into() }
            }
            () = until_withdrawn(place, &tunnel.target) => {
                Outcome::Denied { reason: "the rule that allowed it was withdrawn".into() }
            }
        }
    };
    if !matches!(outcome, Outcome::Passed { .. }) {
        reset(&inside);
        reset(&tunnel.outside);
    }
    tunnel.record.set(|record| record.outcome = outcome);
}

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
    target: &Target,
    traffic: &Traffic,
) -> Result<(), Cut> {
    let out = async {
        let opening = read_opening(inside, early, &target.host).await?;
        write_all(outside, &opening).await?;
        traffic.sent.fetch_add(opening.len() as u64, Ordering::Relaxed);
        drop(opening);
        pump(inside, outside, &traffic.sent).await.map_err(Cut::from)
    };
    let back = async { pump(outside, inside, &traffic.received).await.map_err(Cut::from) };
    tokio::try_join!(out, back).map(|_| ())
}

/// Reads as much as it takes to see that the client may go on.
async fn read_opening(inside: &TcpStream, mut bytes: Vec<u8>, host: &Host) -> Result<Vec<u8>, Cut> {
    loop {
        match tls::opening(&bytes) {
            Opening::Other | Opening::Tls(None) => return Ok(bytes),
            Opening::Tls(Some(name)) if name.parse::<Host>().is_ok_and(|name| name == *host) => {
                return Ok(bytes);
            }
            Opening::Tls(Some(name)) => {
                // Comes from the client: shown as plain text of a sane length.
                let name: String =
                    name.chars().filter(|c| c.is_ascii_graphic()).take(100).collect();
                return Err(Cut::Denied(format!("its TLS asks for `{name}` and not for `{host}`")));
            }
            Opening::Malformed => {
                return Err(Cut::Denied("its TLS begins in a way that can't be judged".into()));
            }
            Opening::Incomplete => {}
        }
        if !read_more(inside, &mut bytes).await? {
            return Ok(bytes);
        }
    }
}

/// Waits until the newest rules no longer allow the tunnel.
async fn until_withdrawn(place: &Place, target: &Target) {
    let mut policy = place.policy.clone();
    let is_denied =
        |policy: &Arc<Policy>| matches!(policy.check(target, Wish::Tunnel), Verdict::Denied(_));
    if policy.wait_for(is_denied).await.is_err() {
        // Nobody changes them any more.
        std::future::pending::<()>().await;
    }
}
