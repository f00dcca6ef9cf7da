//! One connection from a workspace: requests one after another, or one tunnel.

use std::{
    convert::Infallible,
    future::Future,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use boatyard_model::AskState;
use http::{Method, Request, Response, StatusCode};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpStream, time::sleep};

use super::{
    Place,
    answer::{self, Answer},
    forward::{self, Upstream},
    tunnel::{self, Tunnel},
};
use crate::{
    dial::DialError,
    log::{Outcome, Pending, Traffic},
    policy::{self, Question},
    rules::{LEARNED, Reason, Target, Verdict, Wish},
};

/// What the requests of one connection share.
pub(super) struct Connection {
    pub(super) place: Place,
    /// A tunnel that was granted and begins when the answer is out.
    tunnel: Mutex<Option<Tunnel>>,
    /// The connection that the last plain request went over, to be used again.
    pub(super) upstream: Mutex<Option<Upstream>>,
    /// The traffic of the request in hand, and how many there were before: what the idle watch
    /// looks at.
    traffic: Mutex<Arc<Traffic>>,
    requests: AtomicU64,
}

/// Serves a connection to its end.
pub(super) async fn run(stream: TcpStream, place: Place) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let settings = &place.parts.settings;
    let mut closing = place.closing.clone();
    let connection = Arc::new(Connection {
        place: place.clone(),
        tunnel: Mutex::default(),
        upstream: Mutex::default(),
        traffic: Mutex::default(),
        requests: AtomicU64::new(0),
    });
    let service = {
        let connection = Arc::clone(&connection);
        service_fn(move |request| {
            let connection = Arc::clone(&connection);
            async move { Ok::<_, Infallible>(connection.answer(request).await) }
        })
    };
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.head_within)
        .max_buf_size(settings.max_head)
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut serving = pin!(serving);
    let closed = async {
        // An error here means that the proxy itself is gone, which is the same.
        let _ = closing.wait_for(|closing| *closing).await;
    };
    let served = tokio::select! {
        served = serving.as_mut() => served,
        () = until_idle(settings.idle_after, || connection.activity()) => return,
        () = closed => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        // Most often the client went away; what it asked for has its own record.
        tracing::debug!(workspace.id = %place.workspace, %error, "connection from a workspace");
    }
    let granted = lock(&connection.tunnel).take();
    if let Some(granted) = granted {
        tunnel::run(granted, &place).await;
    }
}

/// Waits until `activity` gives the same number twice, `idle_after` apart.
pub(super) async fn until_idle(idle_after: std::time::Duration, activity: impl Fn() -> u64) {
    let mut before = activity();
    loop {
        sleep(idle_after).await;
        let now = activity();
        if now == before {
            return;
        }
        before = now;
    }
}

/// A lock that is never held across anything that can panic.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connection {
    fn activity(&self) -> u64 {
        let passed = lock(&self.traffic).total();
        passed.wrapping_add(self.requests.load(Ordering::Relaxed) << 40)
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Answer> {
        let parts = &self.place.parts;
        let log = Arc::clone(&parts.log);
        let record = Pending::new(self.place.workspace, request.method().as_str(), log);
        *lock(&self.traffic) = Arc::clone(&record.traffic);
        self.requests.fetch_add(1, Ordering::Relaxed);
        if request.method() == Method::CONNECT {
            self.connect(request, record).await
        } else {
            forward::answer(self, request, record).await
        }
    }

    async fn connect(&self, request: Request<Incoming>, mut record: Pending) -> Response<Answer> {
        let target = request.uri().authority().and_then(|authority| {
            let host = authority.host().parse().ok()?;
            let port = authority.port_u16().filter(|port| *port != 0)?;
            Some(Target { host, port })
        });
        let Some(target) = target else {
            return malformed(&mut record, "CONNECT takes a host and a port, as `host:443`");
        };
        if let Some(denied) = self.judge(&target, Wish::Tunnel, &mut record).await {
            return denied;
        }
        match tunnel::open(&self.place, &target).await {
            Ok(outside) => {
                let upgrade = hyper::upgrade::on(request);
                *lock(&self.tunnel) = Some(Tunnel { upgrade, outside, target, record });
                answer::tunnel()
            }
            Err(error) => self.failed(&error, record),
        }
    }

    /// Asks the rules; where they say no, the answer to give.
    pub(super) async fn judge(
        &self,
        target: &Target,
        wish: Wish<'_>,
        record: &mut Pending,
    ) -> Option<Response<Answer>> {
        record.set(|record| {
            record.host = target.host.to_string();
            record.port = target.port;
        });
        let verdict = self.place.policy.borrow().check(target, wish);
        match verdict {
            Verdict::Allowed(rule) => {
                record.set(|record| record.rule = Some(rule));
                None
            }
            Verdict::Learned => {
                record.set(|record| record.rule = Some(Arc::from(LEARNED)));
                None
            }
            Verdict::Ask(rule) => {
                let (method, path) = match wish {
                    Wish::Tunnel => (None, None),
                    Wish::Request { method, path, .. } => {
                        (Some(method.clone()), Some(path.to_owned()))
                    }
                };
                let question = Question {
                    workspace: self.place.workspace,
                    target: target.clone(),
                    method,
                    path,
                    rule: Arc::clone(&rule),
                    credential: None,
                    peer: None,
                };
                // What ends this wait without an answer is that the client went away.
                record.set(|record| {
                    record.rule = Some(Arc::clone(&rule));
                    record.asked = Some(AskState::Withdrawn);
                });
                match self.place.parts.settings.asker.ask(question).await {
                    policy::Answer::Yes => {
                        record.set(|record| record.asked = Some(AskState::Allowed));
                        None
                    }
                    policy::Answer::No { state, why } => {
                        record.set(|record| record.asked = Some(state));
                        Some(self.denied(target, &Reason::Answered(rule, why), record))
                    }
                }
            }
            Verdict::Denied(reason) => Some(self.denied(target, &reason, record)),
        }
    }

    fn denied(&self, target: &Target, reason: &Reason, record: &mut Pending) -> Response<Answer> {
        record.set(|record| {
            record.rule = reason.rule().cloned();
            record.outcome = Outcome::Denied { reason: reason.to_string() };
        });
        let ask = &self.place.parts.settings.how_to_ask;
        let why = format!("Boatyard does not let this workspace reach {target}: {reason}.\n{ask}");
        let rule = reason.rule().map_or("", |rule| rule);
        answer::error(StatusCode::FORBIDDEN, "http_request_denied", rule, &why)
    }

    /// Makes the answer for a destination that can't be reached.
    pub(super) fn failed(&self, error: &DialError, mut record: Pending) -> Response<Answer> {
        use crate::resolve::Unreachable;
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
        let mut rule = None;
        record.set(|record| {
            let reason = error.to_string();
            record.outcome = if status == StatusCode::FORBIDDEN {
                Outcome::Denied { reason }
            } else {
                Outcome::Failed { reason }
            };
            rule.clone_from(&record.rule);
        });
        let mut why = format!("Boatyard could not connect: {error}");
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            why.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        if status == StatusCode::FORBIDDEN {
            why.push_str(".\nThe operator of Boatyard can allow it in the server's settings.");
        }
        answer::error(status, kind, rule.as_deref().unwrap_or(""), &why)
    }
}

/// Makes the answer for a request that is none.
pub(super) fn malformed(record: &mut Pending, why: &str) -> Response<Answer> {
    record.set(|record| record.outcome = Outcome::Failed { reason: why.to_owned() });
    answer::error(StatusCode::BAD_REQUEST, "http_request_error", "", why)
}

#[expect(dead_code, reason = "checked by the compiler only: connections are spawned")]
fn is_send(stream: TcpStream, place: Place) -> impl Future<Output = ()> + Send {
    run(stream, place)
}
