//! A CONNECT that was granted: bytes both ways, until they end, the rules change or all is quiet.

use std::{pin::pin, sync::Arc};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{Place, connection::until_idle};
use crate::{
    dial::{DialError, Purpose, dial},
    log::{Outcome, Pending},
    relay::{relay, reset, write_all},
    rules::{Target, Verdict, Wish},
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
    let passing = async {
        // What the client sent without waiting for the answer.
        if !parts.read_buf.is_empty() {
            write_all(&tunnel.outside, &parts.read_buf).await?;
            let length = parts.read_buf.len() as u64;
            traffic.sent.fetch_add(length, std::sync::atomic::Ordering::Relaxed);
        }
        relay(&inside, &tunnel.outside, &traffic).await
    };
    let idle_after = place.parts.settings.idle_after;
    let outcome = {
        let mut passing = pin!(passing);
        tokio::select! {
            outcome = passing.as_mut() => match outcome {
                Ok(()) => Outcome::Passed { status: 200 },
                Err(error) => Outcome::Failed { reason: error.to_string() },
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

/// Waits until the newest rules no longer allow the tunnel.
async fn until_withdrawn(place: &Place, target: &Target) {
    let mut rules = place.rules.clone();
    let is_denied = |rules: &Arc<crate::rules::RuleSet>| {
        matches!(rules.check(target, Wish::Tunnel), Verdict::Denied(_))
    };
    if rules.wait_for(is_denied).await.is_err() {
        // Nobody changes them any more.
        std::future::pending::<()>().await;
    }
}
