//! One request of a workspace's git, from its head to the last byte of its answer.

use std::{
    future::poll_fn,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use boatyard_model::{RequestWay, WorkspaceId};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, timeout},
};
use url::Url;

use super::{
    Credential, GitGateway, Grant, NAME, Parts, Refusal, Wish,
    address::{self, Asked, Direction, Part, Remote, Unknown},
    body::{Inward, Outward, Unpacked},
    fault::Fault,
    push::{self, Command, Push, Wrong},
    report, sign,
};
use crate::{
    gateway::body::{Answer, chain},
    https::{Connected, HttpsError},
    log::{Outcome, Pending, Traffic},
};

/// What of git's own headers goes on: how it speaks, and what it can read.
const OUTWARD: [HeaderName; 5] = [
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::ACCEPT_LANGUAGE,
    header::USER_AGENT,
    PROTOCOL,
];
/// The version of git's protocol.
const PROTOCOL: HeaderName = HeaderName::from_static("git-protocol");
/// What of an answer's headers goes to git.
const INWARD: [HeaderName; 3] =
    [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::CACHE_CONTROL];
/// How often within the time of silence it is looked whether there is silence.
const LOOKS: u32 = 8;

/// Who asks.
pub(crate) struct Caller {
    pub(crate) workspace: WorkspaceId,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) permits: Arc<Semaphore>,
    /// Where what passes is counted.
    pub(crate) traffic: Arc<Traffic>,
}

/// A fetch or push on its way.
struct Call<'a> {
    parts: &'a Parts,
    wish: Wish,
    part: Part,
}

impl GitGateway {
    /// Passes a request on, or says why not. `path` is what follows the gateway's name.
    pub(crate) async fn answer(
        &self,
        caller: Caller,
        path: &str,
        request: Request<Incoming>,
    ) -> Response<Answer> {
        let parts = &*self.0;
        let mut record =
            Pending::new(caller.workspace, request.method().as_str(), Arc::clone(&parts.log)).by(
                caller.peer.and_then(|peer| parts.log.begun(caller.workspace, peer, None)).as_ref(),
            );
        record.set(|record| record.way = RequestWay::Git);
        record.traffic = Arc::clone(&caller.traffic);
        let asked = address::parse(request.method(), request.uri(), path);
        let (remote, direction, part) = match asked {
            Ok(Asked::Git(remote, direction, part)) => (remote, direction, part),
            Ok(Asked::Key) => {
                record.forget();
                return told(parts.desk.signing_key(caller.workspace).await);
            }
            Ok(Asked::Sign) => {
                record.forget();
                return self.sign(caller, request.into_body()).await;
            }
            Ok(Asked::Lfs(remote)) => {
                note(&mut record, &remote, "/info/lfs");
                return refused(&Fault::Lfs, None, None, record);
            }
            Err(unknown) => {
                let fault = match unknown {
                    Unknown::Address => Fault::Address,
                    Unknown::Service => Fault::Service,
                };
                return refused(&fault, None, None, record);
            }
        };
        let end = match part {
            Part::Refs => format!("/info/refs?service={}", direction.service()),
            Part::Exchange => format!("/{}", direction.service()),
        };
        note(&mut record, &remote, &end);
        let at = Some((direction, part));
        let Ok(permit) = caller.permits.try_acquire_owned() else {
            let limit = parts.settings.max_requests;
            return refused(&Fault::TooMany { limit }, at, None, record);
        };
        let Caller { workspace, peer, .. } = caller;
        let wish = Wish { workspace, remote, direction, peer };
        let call = Call { parts, wish, part };
        call.run(request, record, permit).await
    }

    async fn sign(&self, caller: Caller, body: Incoming) -> Response<Answer> {
        let read = whole(body, sign::MAX_OBJECT);
        let object = match timeout(self.0.settings.commands_within, read).await {
            Ok(Ok(object)) => object,
            Ok(Err(why)) => return report::text(StatusCode::BAD_REQUEST, &why),
            Err(_) => {
                let within = self.0.settings.commands_within;
                return Fault::Slow { within }.answer(None);
            }
        };
        told(self.0.desk.sign(caller.workspace, object).await)
    }
}

impl Call<'_> {
    async fn run(
        &self,
        request: Request<Incoming>,
        mut record: Pending,
        permit: OwnedSemaphorePermit,
    ) -> Response<Answer> {
        let at = Some((self.wish.direction, self.part));
        let grant = match self.parts.desk.admit(self.wish.clone()).await {
            Ok(grant) => grant,
            Err(Refusal { text, rule, kind, asked }) => {
                record.set(|record| record.asked = asked);
                return refused(&Fault::Refused { text, kind }, at, rule, record);
            }
        };
        let rule = Arc::clone(&grant.rule);
        record.set(|record| {
            record.rule = Some(Arc::clone(&rule));
            record.asked = grant.asked;
            let credential = grant.credential.as_ref();
            record.credential = credential.map(|credential| Arc::clone(&credential.name));
        });
        let passed = match (self.wish.direction, self.part) {
            (_, Part::Refs) => self.refs(&request, grant, &record).await,
            (Direction::Fetch, Part::Exchange) => self.fetch(request, grant, &record).await,
            (Direction::Push, Part::Exchange) => self.push(request, grant, &mut record).await,
        };
        match passed {
            Ok(Passed::Through(connection, response)) => {
                let idle_after = self.parts.settings.idle_after;
                let status = response.status().as_u16();
                response.map(|body| {
                    Inward::new(body, record, status, idle_after, permit, connection).boxed_unsync()
                })
            }
            Ok(Passed::Own(response)) => response,
            Err(fault) => refused(&fault, at, Some(rule), record),
        }
    }

    /// What is there; asked once more when a credential has gone stale.
    async fn refs(
        &self,
        request: &Request<Incoming>,
        grant: Grant,
        record: &Pending,
    ) -> Result<Passed, Fault> {
        let passed = self.ask_refs(request.headers(), &grant, record).await;
        let Err(Fault::NotTaken { .. }) = &passed else { return passed };
        let desk = &self.parts.desk;
        let Some(fresh) = desk.not_taken(self.wish.clone(), grant).await else { return passed };
        let again = self.ask_refs(request.headers(), &fresh, record).await;
        if matches!(again, Err(Fault::NotTaken { .. })) {
            desk.not_taken(self.wish.clone(), fresh).await;
        }
        again
    }

    async fn ask_refs(
        &self,
        headers: &HeaderMap,
        grant: &Grant,
        record: &Pending,
    ) -> Result<Passed, Fault> {
        let body = Outward::new(None, None, Arc::clone(&record.traffic));
        self.send(headers, grant, body, None, record).await
    }

    async fn fetch(
        &self,
        request: Request<Incoming>,
        grant: Grant,
        record: &Pending,
    ) -> Result<Passed, Fault> {
        let limit = self.parts.settings.max_fetch;
        let (head, body) = request.into_parts();
        let too_large = Arc::new(AtomicBool::new(false));
        // It is not looked at, so that it may stay packed.
        let rest = Unpacked::new(body, false, limit, Arc::clone(&too_large));
        let body = Outward::new(None, Some(rest), Arc::clone(&record.traffic));
        let packed = head.headers.get(header::CONTENT_ENCODING).cloned();
        let sent = self.send(&head.headers, &grant, body, packed, record).await;
        self.exchanged(sent, grant, &too_large, limit).await
    }

    async fn push(
        &self,
        request: Request<Incoming>,
        grant: Grant,
        record: &mut Pending,
    ) -> Result<Passed, Fault> {
        let settings = &self.parts.settings;
        let (head, body) = request.into_parts();
        let is_packed = match head.headers.get(header::CONTENT_ENCODING).map(|v| v.as_bytes()) {
            None | Some(b"identity") => false,
            Some(b"gzip" | b"x-gzip") => true,
            Some(_) => {
                return Err(Fault::Push { why: "it is packed in a way other than gzip".into() });
            }
        };
        let too_large = Arc::new(AtomicBool::new(false));
        let mut rest = Unpacked::new(body, is_packed, settings.max_push, Arc::clone(&too_large));
        let within = settings.commands_within;
        let push = match timeout(within, commands(&mut rest)).await {
            Ok(Ok(push)) => push,
            Ok(Err(fault)) => {
                // Git reads no answer before it has sent all.
                drain(rest, &record.traffic, settings.idle_after).await?;
                return Err(fault);
            }
            Err(_) => return Err(Fault::Slow { within }),
        };
        if let Some(refusal) = self.judged(&push, &grant) {
            let Refused { commands, told } = refusal;
            record.set(|record| record.outcome = Outcome::Denied { reason: told.clone() });
            // Git reads no answer before it has sent all.
            drain(rest, &record.traffic, settings.idle_after).await?;
            let answer = report::rejected(push.abilities, &commands, &told);
            let answer = answer.unwrap_or_else(|| report::text(StatusCode::FORBIDDEN, &told));
            return Ok(Passed::Own(answer));
        }
        let body = Outward::new(Some(push.read), Some(rest), Arc::clone(&record.traffic));
        let sent = self.send(&head.headers, &grant, body, None, record).await;
        self.exchanged(sent, grant, &too_large, settings.max_push).await
    }

    /// Why a push is refused; none if it may pass.
    fn judged(&self, push: &Push, grant: &Grant) -> Option<Refused> {
        let whole = |why: &str, mend: &str| {
            let commands = push.commands.iter().map(|command| (command.clone(), why.to_owned()));
            Some(Refused { commands: commands.collect(), told: format!("{why}{mend}") })
        };
        if push.too_many {
            let most = push::MAX_COMMANDS;
            let why = format!("Boatyard passes on no more than {most} references at once");
            return whole(&why, ". Push fewer branches at a time.");
        }
        if push.abilities.options {
            return whole(
                "Boatyard passes on no push options",
                ": with them, hosts merge, publish or start things. Push without `-o` and without \
                 `push.pushOption`.",
            );
        }
        let judge = |command: &Command| push::judge(command, &grant.branches);
        let first = push.commands.iter().find_map(judge)?;
        let may: Vec<String> = grant.branches.iter().map(|branch| format!("`{branch}`")).collect();
        let may = may.join(", ");
        let why = |wrong| match wrong {
            Wrong::Deletes => "Boatyard passes on no deletions".to_owned(),
            Wrong::NoBranch => "Boatyard passes on branches only".to_owned(),
            Wrong::Branch => format!("Boatyard lets this workspace push to {may} only"),
        };
        let mend = match first {
            Wrong::Deletes => "Delete it where the repository lives.".to_owned(),
            Wrong::NoBranch | Wrong::Branch => {
                "Push to a branch of your own: `git push origin HEAD:boatyard/NAME`.".to_owned()
            }
        };
        let commands = push.commands.iter().map(|command| {
            let reason = judge(command).map(why);
            let together = || "not pushed, since another part of this push was refused".to_owned();
            (command.clone(), reason.unwrap_or_else(together))
        });
        Some(Refused { commands: commands.collect(), told: format!("{}. {mend}", why(first)) })
    }

    /// Sends a request on and gives the answer, when its head is there and is one of git's.
    async fn send(
        &self,
        headers: &HeaderMap,
        grant: &Grant,
        body: Outward,
        packed: Option<HeaderValue>,
        record: &Pending,
    ) -> Result<Passed, Fault> {
        let Wish { remote, direction, .. } = &self.wish;
        let repository = || remote.to_string();
        let unreachable =
            |error: HttpsError| Fault::Unreachable { repository: repository(), why: chain(&error) };
        let mut connected: Connected<Outward> =
            self.parts.https.connect(&remote.target, &grant.guard).await.map_err(unreachable)?;
        let request = self.outward(headers, grant, body, packed)?;
        let idle_after = self.parts.settings.idle_after;
        let response = tokio::select! {
            response = connected.sender.send_request(request) => response,
            () = until_quiet(idle_after, &record.traffic) => {
                return Err(Fault::TimedOut { repository: repository(), after: idle_after });
            }
        };
        let response = response
            .map_err(|error| Fault::Broken { repository: repository(), why: chain(&error) })?;
        let (mut head, body) = response.into_parts();
        let status = head.status;
        if status.is_redirection() {
            let location = head.headers.get(header::LOCATION).and_then(|v| v.to_str().ok());
            return self.redirect(location.unwrap_or_default());
        }
        if status != StatusCode::OK {
            return Err(self.status(status.as_u16(), grant.credential.as_ref()));
        }
        let expected = match self.part {
            Part::Refs => format!("application/x-{}-advertisement", direction.service()),
            Part::Exchange => report::result(*direction),
        };
        let kind = head.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
        if kind != Some(expected.as_bytes()) {
            return Err(Fault::NoGit { repository: repository() });
        }
        if grant.credential.is_some() {
            self.parts.desk.taken(&self.wish);
        }
        let all = std::mem::take(&mut head.headers);
        for name in INWARD {
            if let Some(value) = all.get(&name) {
                head.headers.insert(name, value.clone());
            }
        }
        head.extensions.clear();
        Ok(Passed::Through(Box::new(connected), Response::from_parts(head, body)))
    }

    /// The request as the other side is to see it.
    fn outward(
        &self,
        headers: &HeaderMap,
        grant: &Grant,
        body: Outward,
        packed: Option<HeaderValue>,
    ) -> Result<Request<Outward>, Fault> {
        let Wish { remote, direction, .. } = &self.wish;
        let service = direction.service();
        let (method, path) = match self.part {
            Part::Refs => (Method::GET, format!("{}/info/refs?service={service}", remote.path)),
            Part::Exchange => (Method::POST, format!("{}/{service}", remote.path)),
        };
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|_| Fault::Address)?;
        let all = request.headers_mut();
        for name in OUTWARD {
            if let Some(value) = headers.get(&name) {
                all.insert(name, value.clone());
            }
        }
        if self.part == Part::Exchange {
            let kind = format!("application/x-{service}-request");
            all.insert(header::CONTENT_TYPE, kind.parse().map_err(|_| Fault::Address)?);
        }
        if let Some(packed) = packed {
            all.insert(header::CONTENT_ENCODING, packed);
        }
        let host = HeaderValue::try_from(remote.authority()).map_err(|_| Fault::Address)?;
        all.insert(header::HOST, host);
        if let Some(credential) = &grant.credential {
            all.insert(header::AUTHORIZATION, credential.header.clone());
        }
        Ok(request)
    }

    /// What a status means that is no success.
    fn status(&self, status: u16, credential: Option<&Credential>) -> Fault {
        let remote = &self.wish.remote;
        let repository = remote.to_string();
        match (status, credential) {
            (401 | 403, Some(Credential { name, mend, .. })) => Fault::NotTaken {
                host: remote.authority(),
                repository,
                name: name.to_string(),
                mend: mend.to_string(),
                status,
            },
            (404, Some(credential)) => {
                Fault::NotFound { repository, name: credential.name.to_string() }
            }
            (401 | 403 | 404, None) => Fault::NoCredential { repository },
            _ => Fault::Status { repository, status },
        }
    }

    /// A redirect: to elsewhere on the same host it becomes one that leads through the gateway.
    fn redirect(&self, location: &str) -> Result<Passed, Fault> {
        let remote = &self.wish.remote;
        let elsewhere = |to: &str| Fault::Redirect {
            repository: remote.to_string(),
            to: to.chars().take(200).collect(),
        };
        let here = format!("https://{}{}/info/refs", remote.authority(), remote.path);
        let to = Url::parse(&here).and_then(|here| here.join(location));
        let Ok(to) = to else { return Err(elsewhere("an address that is none")) };
        let plain = format!("{}://{}{}", to.scheme(), to.authority(), to.path());
        let plain = plain.strip_suffix("/info/refs").unwrap_or(&plain);
        let service = self.wish.direction.service();
        let path = to.path().strip_suffix("/info/refs");
        let same_place = to.scheme() == "https"
            && to.username().is_empty()
            && to.host_str().and_then(|host| host.parse().ok()).as_ref()
                == Some(&remote.target.host)
            && to.port().unwrap_or(443) == remote.target.port;
        let (Some(path), Part::Refs, true) = (path, self.part, same_place) else {
            return Err(elsewhere(plain));
        };
        if path == remote.path {
            return Err(elsewhere(plain));
        }
        let location = format!("/{NAME}/{}{path}/info/refs?service={service}", remote.authority());
        let mut response = report::text(StatusCode::FOUND, "It is elsewhere on the same host.");
        let location = HeaderValue::try_from(location).map_err(|_| elsewhere(plain))?;
        response.headers_mut().insert(header::LOCATION, location);
        Ok(Passed::Own(response))
    }

    /// What came of an exchange, which can't be done again: its body has gone.
    async fn exchanged(
        &self,
        sent: Result<Passed, Fault>,
        grant: Grant,
        too_large: &AtomicBool,
        limit: u64,
    ) -> Result<Passed, Fault> {
        match sent {
            Err(_) if too_large.load(Ordering::Relaxed) => Err(Fault::TooLarge { limit }),
            Err(fault @ Fault::NotTaken { .. }) => {
                // The next try has a fresh one, if there can be one.
                self.parts.desk.not_taken(self.wish.clone(), grant).await;
                Err(fault)
            }
            sent => sent,
        }
    }
}

/// What came of a request.
enum Passed {
    /// The other side's answer, with the connection that it comes over.
    Through(Box<dyn Send>, Response<Incoming>),
    /// An answer of our own.
    Own(Response<Answer>),
}

/// A push that is not passed on.
struct Refused {
    commands: Vec<(Command, String)>,
    told: String,
}

/// Reads the commands of a push.
async fn commands(body: &mut Unpacked) -> Result<Push, Fault> {
    let mut reader = push::Reader::default();
    loop {
        let piece = poll_fn(|cx| body.poll_piece(cx)).await;
        let piece = match piece {
            Some(Ok(piece)) => piece,
            Some(Err(error)) => return Err(Fault::Push { why: error.to_string() }),
            None => return Err(Fault::Push { why: "it ended before its commands did".into() }),
        };
        match reader.take(&piece).map_err(|why| Fault::Push { why: why.to_string() })? {
            Ok(push) => return Ok(push),
            Err(more) => reader = more,
        }
    }
}

/// Reads a body to its end and drops it.
async fn drain(mut body: Unpacked, traffic: &Traffic, idle_after: Duration) -> Result<(), Fault> {
    loop {
        match timeout(idle_after, poll_fn(|cx| body.poll_piece(cx))).await {
            Ok(Some(Ok(piece))) => {
                traffic.sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
            }
            // Git is gone, or sends more than anybody takes: it gets its answer where it is.
            Ok(Some(Err(_)) | None) => return Ok(()),
            Err(_) => return Err(Fault::Slow { within: idle_after }),
        }
    }
}

/// Waits until nothing has passed for `idle_after`, and at most an eighth more.
async fn until_quiet(idle_after: Duration, traffic: &Traffic) {
    let mut before = traffic.total();
    let mut since = Instant::now();
    loop {
        sleep(idle_after / LOOKS).await;
        let now = traffic.total();
        if now != before {
            before = now;
            since = Instant::now();
        } else if since.elapsed() >= idle_after {
            return;
        }
    }
}

async fn whole(mut body: Incoming, most: usize) -> Result<Bytes, String> {
    let too_large = || format!("What is to be signed is larger than {most} bytes.");
    if body.size_hint().lower() > most as u64 {
        return Err(too_large());
    }
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| format!("The request broke off: {error}."))?;
        let Ok(data) = frame.into_data() else { continue };
        if all.len() + data.len() > most {
            return Err(too_large());
        }
        all.extend_from_slice(&data);
    }
    Ok(all.freeze())
}

/// A word of the desk's, or why there is none.
fn told(word: Result<String, Refusal>) -> Response<Answer> {
    match word {
        Ok(word) => report::with(StatusCode::OK, "text/plain; charset=utf-8", word.into()),
        Err(Refusal { text, kind, .. }) => Fault::Refused { text, kind }.answer(None),
    }
}

fn note(record: &mut Pending, remote: &Remote, end: &str) {
    record.set(|record| {
        record.host = remote.target.host.to_string();
        record.port = remote.target.port;
        let end = end.split('?').next().unwrap_or(end);
        record.path = Some(format!("{}{end}", remote.path));
    });
}

fn refused(
    fault: &Fault,
    at: Option<(Direction, Part)>,
    rule: Option<Arc<str>>,
    mut record: Pending,
) -> Response<Answer> {
    let reason = fault.to_string();
    record.set(|record| {
        record.rule = rule.or(record.rule.take());
        record.outcome = match fault.is_denial() {
            true => Outcome::Denied { reason },
            false => Outcome::Failed { reason },
        };
    });
    fault.answer(at)
}
