//! A connection of which it is known where it leads, and not yet what it speaks.
//!
//! ```text
//!  the policy ─┬─ looks into it ─► peek ─┬─ TLS for that name ─► opened: requests
//!              │                         ├─ HTTP ──────────────► requests
//!              │                         └─ else, or silence ──► relayed, if a tunnel is allowed
//!              ├─ allows it ─► dial ─► who speaks first? ─┬─ client, HTTP ─► requests
//!              │                                          └─ else ─────────► relayed
//!              └─ denies it ─► peek ─┬─ TLS ─► opened, and told why
//!                                    ├─ HTTP ─► told why
//!                                    └─ else ─► reset
//! ```
//!
//! The last is for caught connections; a CONNECT is told at once. A caught connection to a bare
//! address that no rule allows may still say a name, in TLS or HTTP: then it is judged by that, and
//! goes where the name leads, whatever address it was.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, atomic::AtomicUsize},
    time::Duration,
};

use http::{Request, Response, uri::Authority};
use hyper::body::Incoming;
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{
    Place,
    answer::{self, Answer, Notice, Wants},
    connection::{self, After, Connection, Front, Origin, lock, until_idle},
    exchange::malformed,
    inside::Inside,
    judge::{Matter, Passes, unreachable},
    peek::{self, Speaks},
    tunnel::{self, First, Tunnel, otherwise},
    upstream::Wire,
};
use crate::{
    capture::Captured,
    log::{Outcome, Pending},
    open,
    policy::Policy,
    relay::{read_more, reset},
    rules::{Host, Reason, Target, Verdict, Wish},
};

/// How long the rest of what may be the first line of a request may take; programs send it in one
/// piece, and whoever waits for an answer to less than a line speaks something else.
const REST_OF_LINE: Duration = Duration::from_millis(100);

/// Where plain HTTP is spoken.
const HTTP_PORT: u16 = 80;

/// Where a connection leads, and how.
pub(super) struct Aim {
    pub(super) target: Target,
    pub(super) manner: Manner,
    /// The program's own end.
    pub(super) peer: Option<SocketAddr>,
    /// Tells of the connection, if no request in it does.
    pub(super) record: Pending,
}

/// How a connection is dealt with.
pub(super) enum Manner {
    /// What is in it is looked at and decides.
    Look,
    /// The client speaks first, most likely HTTP, of which each request is judged, and which an
    /// upstream proxy of the operator's takes as such.
    Plain,
    /// It may pass as it is, by this rule if a person was asked; the other side is there.
    Through(TcpStream, Option<Arc<str>>),
}

/// Whether what is in a connection decides.
fn is_looked_into(place: &Place, policy: &Policy, target: &Target) -> bool {
    place.parts.settings.opener.is_some()
        && policy.opens(target)
        && match policy.check(target, Wish::Tunnel) {
            Verdict::Allowed(_) | Verdict::Learned | Verdict::Ask(_) => true,
            // Some rule looks into it: what came nearest for the connection as such need not be
            // what decides about a request.
            Verdict::Denied(reason) => {
                !matches!(reason, Reason::NoRule | Reason::Forbidden(_) | Reason::Answered(..))
            }
        }
}

/// Whether a caught connection is likely to bring plain requests, some of which may pass.
fn may_be_plain(policy: &Policy, target: &Target) -> bool {
    target.port == HTTP_PORT
        && match policy.check(target, Wish::Tunnel) {
            Verdict::Allowed(_) | Verdict::Learned | Verdict::Ask(_) => true,
            Verdict::Denied(Reason::NoRule | Reason::Forbidden(_) | Reason::Answered(..)) => false,
            Verdict::Denied(_) => policy.opens(target),
        }
}

/// Answers a CONNECT.
pub(super) async fn connect(
    connection: &Connection,
    request: Request<Incoming>,
    mut record: Pending,
) -> Response<Answer> {
    let wants = Wants::of(request.headers());
    let target = request.uri().authority().and_then(|authority| {
        let host = authority.host().parse().ok()?;
        let port = authority.port_u16().filter(|port| *port != 0)?;
        Some(Target { host, port })
    });
    let Some(target) = target else {
        let why = "CONNECT takes a host and a port, as `host:443`".to_owned();
        return malformed(&mut record, why).answer(wants);
    };
    let place = &connection.place;
    let policy = Arc::clone(&place.policy.borrow());
    let manner = if is_looked_into(place, &policy, &target) {
        named(&mut record, &target);
        Ok(Manner::Look)
    } else {
        let matter = Matter {
            place,
            target: &target,
            wish: Wish::Tunnel,
            request: None,
            granted: None,
            stream: &connection.stream,
            peer: connection.peer,
            held: &connection.held,
        };
        through(matter, &mut record).await
    };
    match manner {
        Ok(manner) => {
            let upgrade = hyper::upgrade::on(request);
            let aim = Aim { target, manner, peer: connection.peer, record };
            *lock(&connection.after) = Some(After::Tunnel(Tunnel { upgrade, aim }));
            answer::tunnel()
        }
        Err(notice) => notice.answer(wants),
    }
}

/// The rule about which a person has said yes.
fn asked(passes: Passes) -> Option<Arc<str>> {
    match passes {
        Passes::Asked(rule) => Some(rule),
        Passes::Rule(_) | Passes::Learned => None,
    }
}

/// Judges a connection as such, and connects to where it leads.
async fn through(matter: Matter<'_>, record: &mut Pending) -> Result<Manner, Notice> {
    let granted = asked(matter.judge(record).await?);
    match tunnel::open(matter.place, matter.target).await {
        Ok(outside) => Ok(Manner::Through(outside, granted)),
        Err(error) => Err(unreachable(&error, record)),
    }
}

/// Serves a connection that was caught.
pub(super) async fn captured(captured: Captured, place: Place) {
    let Captured { stream, mut target, named: is_named, peer } = captured;
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let inside = Arc::new(stream);
    let log = Arc::clone(&place.parts.log);
    let who = log.begun(place.workspace, peer, inside.local_addr().ok());
    let mut record = Pending::new(place.workspace, "CONNECT", log).by(who.as_ref());
    let mut early = Vec::new();
    let policy = || Arc::clone(&place.policy.borrow());
    let is_allowed = |verdict| matches!(verdict, Verdict::Allowed(_));
    if !is_named && !is_allowed(policy().check(&target, Wish::Tunnel)) {
        let within = place.parts.settings.silent_for;
        match name_said(&inside, &mut early, within).await {
            Ok(Some(host)) => target.host = host,
            Ok(None) => {}
            Err(error) => {
                named(&mut record, &target);
                return failed(&mut record, &error);
            }
        }
    }
    named(&mut record, &target);
    let manner = if is_looked_into(&place, &policy(), &target) {
        Ok(Manner::Look)
    } else {
        let matter = Matter {
            place: &place,
            target: &target,
            wish: Wish::Tunnel,
            request: None,
            granted: None,
            stream: &inside,
            peer: Some(peer),
            held: &AtomicUsize::new(0),
        };
        if may_be_plain(&policy(), &target) {
            Ok(Manner::Plain)
        } else {
            through(matter, &mut record).await
        }
    };
    match manner {
        Ok(manner) => {
            let aim = Aim { target, manner, peer: Some(peer), record };
            run(inside, early, aim, &place).await;
        }
        Err(notice) => {
            // It is told now: what follows only explains it.
            drop(record);
            explain(inside, early, &target, notice, &place).await;
        }
    }
}

/// The name that a client says in TLS or HTTP.
async fn name_said(
    inside: &TcpStream,
    early: &mut Vec<u8>,
    within: Duration,
) -> io::Result<Option<Host>> {
    let name = match peek::read(inside, early, within).await? {
        Speaks::Tls(name) => name,
        Speaks::Http1 => {
            let host = peek::read_host(inside, early, within).await?;
            let authority = host.and_then(|host| host.parse::<Authority>().ok());
            authority.map(|authority| authority.host().to_owned())
        }
        Speaks::Http2 | Speaks::Other | Speaks::Malformed | Speaks::Nothing => None,
    };
    let host = name.and_then(|name| name.parse().ok());
    Ok(host.filter(|host| matches!(host, Host::Name(_))))
}

/// Deals with a connection whose client may speak now.
pub(super) async fn run(inside: Arc<TcpStream>, early: Vec<u8>, aim: Aim, place: &Place) {
    let Aim { target, manner, peer, record } = aim;
    let known = Known { inside, early, target, peer, record, place };
    match manner {
        Manner::Look => known.look().await,
        Manner::Plain => known.plain().await,
        Manner::Through(outside, granted) => known.through(outside, granted).await,
    }
}

/// A connection, and all that is known of it.
struct Known<'a> {
    inside: Arc<TcpStream>,
    early: Vec<u8>,
    target: Target,
    peer: Option<SocketAddr>,
    record: Pending,
    place: &'a Place,
}

impl Known<'_> {
    /// What is in it decides.
    async fn look(mut self) {
        let settings = &self.place.parts.settings;
        let policy = Arc::clone(&self.place.policy.borrow());
        let within = match policy.check(&self.target, Wish::Tunnel) {
            // Silence would change nothing: a client may connect before it needs to.
            Verdict::Denied(_) => settings.head_within,
            _ => settings.silent_for,
        };
        let speaks = match peek::read(&self.inside, &mut self.early, within).await {
            Ok(speaks) => speaks,
            Err(error) => return failed(&mut self.record, &error),
        };
        match speaks {
            Speaks::Tls(name) => match name.and_then(|name| otherwise(&name, &self.target.host)) {
                Some(reason) => self.cut(reason),
                None => self.terminate().await,
            },
            Speaks::Http1 => self.requests(Wire::Http, None, None).await,
            Speaks::Http2 => self.requests(Wire::Http2, None, None).await,
            Speaks::Malformed => self.cut(tunnel::UNJUDGED.to_owned()),
            Speaks::Other | Speaks::Nothing => self.judged(First::NothingJudged).await,
        }
    }

    /// What it speaks says how it is judged.
    async fn plain(mut self) {
        let within = self.place.parts.settings.silent_for;
        match peek::read(&self.inside, &mut self.early, within).await {
            Ok(Speaks::Http1) => return self.requests(Wire::Http, None, None).await,
            Ok(Speaks::Http2) => return self.requests(Wire::Http2, None, None).await,
            Ok(_) => {}
            Err(error) => return failed(&mut self.record, &error),
        }
        self.judged(First::Anything).await;
    }

    /// It is none of what is looked into: judged as a connection.
    async fn judged(mut self, first: First) {
        let matter = Matter {
            place: self.place,
            target: &self.target,
            wish: Wish::Tunnel,
            request: None,
            granted: None,
            stream: &self.inside,
            peer: self.peer,
            held: &AtomicUsize::new(0),
        };
        match through(matter, &mut self.record).await {
            Ok(Manner::Through(outside, _)) => self.relay(outside, first).await,
            Ok(Manner::Look | Manner::Plain) | Err(_) => reset(&self.inside),
        }
    }

    /// It may pass as it is; but plain HTTP is looked at, for what must not be in it.
    async fn through(mut self, outside: TcpStream, granted: Option<Arc<str>>) {
        let first = {
            let first = who_is_first(&self.inside, &mut self.early, &outside);
            tokio::select! {
                first = first => first,
                () = until_idle(self.place.parts.settings.idle_after, || 0) => Ok(Speaks::Nothing),
                () = tunnel::until_withdrawn(self.place, &self.target, Wish::Tunnel) => {
                    return self.cut(tunnel::WITHDRAWN.to_owned());
                }
            }
        };
        match first {
            Err(error) => failed(&mut self.record, &error),
            Ok(Speaks::Http1) => self.requests(Wire::Http, Some(outside), granted).await,
            Ok(Speaks::Http2) => self.requests(Wire::Http2, Some(outside), granted).await,
            Ok(_) => self.relay(outside, First::Anything).await,
        }
    }

    async fn relay(self, outside: TcpStream, first: First) {
        let Self { inside, early, target, record, place, .. } = self;
        let bytes = tunnel::Bytes { inside, early, outside, target, first, record };
        tunnel::relay(bytes, place).await;
    }

    /// Each request has its own record.
    async fn requests(mut self, wire: Wire, outside: Option<TcpStream>, granted: Option<Arc<str>>) {
        self.record.forget();
        let io = Inside::new(Arc::clone(&self.inside), self.early);
        let origin = Origin { target: self.target, wire, granted, outside: Mutex::new(outside) };
        let front = Front::Origin(origin);
        let connection = Connection::new(self.place.clone(), front, self.inside, self.peer);
        let speaks = match wire {
            Wire::Http2 => connection::Speaks::Http2,
            Wire::Http | Wire::Https => connection::Speaks::Http1,
        };
        Box::pin(connection::serve(io, speaks, connection)).await;
    }

    /// Opens TLS.
    async fn terminate(mut self) {
        let outside = Mutex::default();
        let target = self.target.clone();
        let origin = Origin { target, wire: Wire::Https, granted: None, outside };
        match opened(&self.inside, self.early, &self.target.host, self.place).await {
            Ok((tls, speaks)) => {
                self.record.forget();
                let front = Front::Origin(origin);
                let connection = Connection::new(self.place.clone(), front, self.inside, self.peer);
                Box::pin(connection::serve(tls, speaks, connection)).await;
            }
            Err(reason) => {
                self.record.set(|record| record.outcome = Outcome::Failed { reason });
                reset(&self.inside);
            }
        }
    }

    fn cut(mut self, reason: String) {
        self.record.set(|record| record.outcome = Outcome::Denied { reason });
        reset(&self.inside);
    }
}

/// Waits for whoever speaks first; what the client has said is in `early`.
async fn who_is_first(
    inside: &TcpStream,
    early: &mut Vec<u8>,
    outside: &TcpStream,
) -> io::Result<Speaks> {
    loop {
        if let Some(speaks) = peek::look(early) {
            return Ok(speaks);
        }
        let is_word = !early.is_empty() && peek::is_open(early);
        tokio::select! {
            more = read_more(inside, early) => {
                if !more? {
                    return Ok(Speaks::Nothing);
                }
            }
            ready = outside.readable() => return ready.map(|()| Speaks::Nothing),
            () = sleep(REST_OF_LINE), if is_word => return Ok(Speaks::Other),
        }
    }
}

type Opened = tokio_rustls::server::TlsStream<Inside>;

/// Speaks TLS as this host.
async fn opened(
    inside: &Arc<TcpStream>,
    early: Vec<u8>,
    host: &Host,
    place: &Place,
) -> Result<(Opened, connection::Speaks), String> {
    let settings = &place.parts.settings;
    let opener = settings.opener.as_ref().ok_or("Boatyard has no authority to open TLS with")?;
    let config = opener.server(host).map_err(|error| error.to_string())?;
    let io = Inside::new(Arc::clone(inside), early);
    let accepting = TlsAcceptor::from(config).accept(io);
    match timeout(settings.head_within, accepting).await {
        Ok(Ok(tls)) => {
            let is_h2 = open::is_h2(tls.get_ref().1);
            let speaks = if is_h2 { connection::Speaks::Http2 } else { connection::Speaks::Http1 };
            Ok((tls, speaks))
        }
        Ok(Err(error)) => Err(format!(
            "TLS with the program failed, which perhaps does not trust what this workspace \
             trusts: {error}"
        )),
        Err(_) => Err("the program did not go on with TLS in time".to_owned()),
    }
}

/// Tells a caught connection why it is refused, in what it speaks.
async fn explain(
    inside: Arc<TcpStream>,
    mut early: Vec<u8>,
    target: &Target,
    notice: Notice,
    place: &Place,
) {
    let within = place.parts.settings.silent_for;
    // An error means that nobody listens.
    let speaks = peek::read(&inside, &mut early, within).await.unwrap_or(Speaks::Nothing);
    let connection =
        Connection::new(place.clone(), Front::Refused(notice), Arc::clone(&inside), None);
    match speaks {
        Speaks::Tls(_) if place.parts.settings.opener.is_some() => {
            match opened(&inside, early, &target.host, place).await {
                Ok((tls, speaks)) => connection::serve(tls, speaks, connection).await,
                Err(_) => reset(&inside),
            }
        }
        Speaks::Http1 | Speaks::Http2 => {
            let speaks = match speaks {
                Speaks::Http2 => connection::Speaks::Http2,
                _ => connection::Speaks::Http1,
            };
            connection::serve(Inside::new(inside, early), speaks, connection).await;
        }
        Speaks::Tls(_) | Speaks::Other | Speaks::Malformed | Speaks::Nothing => reset(&inside),
    }
}

fn named(record: &mut Pending, target: &Target) {
    record.set(|record| {
        record.host = target.host.to_string();
        record.port = target.port;
    });
}

fn failed(record: &mut Pending, error: &io::Error) {
    let reason = error.to_string();
    record.set(|record| record.outcome = Outcome::Failed { reason });
}
