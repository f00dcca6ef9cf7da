//! One request on its way: sent, sent again where that helps, and its answer passed back.
//!
//! ```text
//!  grant ─► send ─► 401: another grant, once ─► answer
//!    ▲               429, 5xx, no connection: the next fallback ─┐
//!    └───────────────────────────────────────────────────────────┘
//! ```
//!
//! Nothing of an answer has been passed on when a request is sent again, and a request is sent again
//! only if all of it was kept.

use std::sync::{Arc, atomic::Ordering};

use boatyard_model::SessionId;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header, request};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    body::{Answer, Inward, chain},
    call::Pending,
    connection::{Connection, Held, lock, refuse, until_quiet},
    credential::{Grant, NoGrant},
    echo::Echo,
    fault::Fault,
    payer::{Own, Stopped},
    provider::{Api, Fallback, Provider},
    request::{Keep, Outward, Source},
    rewrite,
    upstream::{self, Upstream},
    usage::{Meter, top_level},
};

/// Anthropic's word for having too much to do.
const OVERLOADED: u16 = 529;

/// A request that was admitted.
pub(super) struct Work {
    connection: Arc<Connection>,
    provider: Arc<Provider>,
    session: Option<SessionId>,
    head: request::Parts,
    body: Arc<Source>,
    call: Pending,
    permit: OwnedSemaphorePermit,
}

/// An answer, and what it was asked with.
struct Answered {
    response: Response<Incoming>,
    upstream: Upstream,
    grant: Arc<Grant>,
}

impl Work {
    pub(super) fn new(
        connection: Arc<Connection>,
        (provider, session): (Arc<Provider>, Option<SessionId>),
        request: Request<Incoming>,
        mut call: Pending,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let (head, body) = request.into_parts();
        let own = call.is_paid_by_a_person();
        let again = own || provider.may_ask_again() || !provider.fallback().is_empty();
        let keep = if again { Keep::Pieces } else { Keep::Nothing };
        let limit = connection.place.parts.settings.max_body;
        let body = Arc::new(Source::new(body, keep, limit, Arc::clone(&call.traffic)));
        let (_, rest) = rewrite::split(head.uri.path());
        call.asks_for(provider.api().model_in(rest).as_deref());
        Self { connection, provider, session, head, body, call, permit }
    }

    pub(super) fn api(&self) -> Api {
        self.provider.api()
    }

    /// Whether the client asked for a stream. Reads the request to its end.
    pub(super) async fn wants_stream(&self) -> bool {
        // What is read of one that does not fit would be lost.
        if !self.body.fits() {
            return false;
        }
        self.body.keep();
        match self.body.whole().await {
            Ok(body) => top_level(&body).stream,
            Err(_) => false,
        }
    }

    /// Goes on after it was held back.
    pub(super) async fn go(mut self, outcome: Result<(), Stopped>, held: Held) -> Response<Answer> {
        self.call.held(held.time());
        drop(held);
        match outcome {
            Ok(()) => self.run().await,
            Err(Stopped(why)) => {
                let api = self.api();
                refuse(self.call, &Fault::Stopped(why), api)
            }
        }
    }

    /// Passes it on, or says why not.
    pub(super) async fn run(mut self) -> Response<Answer> {
        let answered = self.pass().await;
        if let Some(model) = self.body.model.get() {
            self.call.asks_for(Some(model));
        }
        let api = self.api();
        let host = self.head.headers.get(header::HOST).cloned();
        let answered = answered.and_then(|answered| {
            let Answered { response, upstream, grant } = answered;
            let (mut head, body) = response.into_parts();
            if head.status == StatusCode::SWITCHING_PROTOCOLS {
                let why = "it switched protocols, which it was not asked to".to_owned();
                return Err(Fault::Broken { provider: self.provider.name().to_owned(), why });
            }
            rewrite::incoming(&mut head, &self.provider, &grant, host.as_ref())?;
            *lock(&self.connection.upstream) = Some(upstream);
            Ok((Response::from_parts(head, body), grant))
        });
        match answered {
            Ok((response, grant)) => {
                self.call.answered(response.status().as_u16());
                let (_, rest) = rewrite::split(self.head.uri.path());
                let meter = Meter::new(api.dialect(rest), response.headers());
                let idle_after = self.connection.place.parts.settings.idle_after;
                let Self { call, permit, .. } = self;
                let echo = Echo::new(grant);
                response.map(|body| {
                    Inward::new(body, echo, meter, call, idle_after, permit).boxed_unsync()
                })
            }
            Err(fault) => {
                if let Fault::Revoked { .. } | Fault::NoGrant { .. } = fault {
                    self.call.unauthorized();
                }
                refuse(self.call, &fault, api)
            }
        }
    }

    /// Asks the provider, and where it has too much to do those that stand for it.
    async fn pass(&mut self) -> Result<Answered, Fault> {
        let first = Arc::clone(&self.provider);
        let mut tried = self.ask(&first, None).await;
        for Fallback { provider, model } in first.fallback() {
            let Some(why) = overload(&tried) else { break };
            let next = self.connection.place.parts.providers.get(provider).map(Arc::clone);
            let Some(next) = next.filter(|_| self.body.is_kept()) else { continue };
            if !next.is_ready() && self.own(&next).await.is_none() {
                continue;
            }
            if let Some(model) = self.body.model.get() {
                self.call.asks_for(Some(model));
            }
            let status = tried.as_ref().ok().map(|answered| answered.response.status().as_u16());
            // The connection has an answer on it that nobody reads.
            drop(tried);
            self.call.goes_on_with(&next, model.as_deref(), status, why);
            tried = self.ask(&next, model.as_deref()).await;
            self.provider = next;
        }
        tried
    }

    /// Asks one provider, with another credential if the first is refused.
    async fn ask(
        &mut self,
        provider: &Arc<Provider>,
        model: Option<&str>,
    ) -> Result<Answered, Fault> {
        let connection = Arc::clone(&self.connection);
        let parts = &connection.place.parts;
        let own = self.own(provider).await;
        self.call.paid_by(own.as_ref().map(|own| &own.name));
        let no_grant = |why: NoGrant, own: &Own| Fault::NoGrant {
            provider: provider.name().to_owned(),
            why: why.0,
            remedy: own.credential.remedy(),
        };
        let grant = match &own {
            Some(own) => own.credential.grant(parts).await.map_err(|why| no_grant(why, own))?,
            None => provider.grant(parts).await?,
        };
        let answered = self.send_with(provider, model, grant).await?;
        if !is_refused(provider.api(), &answered) {
            return Ok(answered);
        }
        let refused = answered.response.status().as_u16();
        let another = match &own {
            Some(own) => {
                let another = own.credential.another(&answered.grant, parts).await;
                another.map_err(|why| no_grant(why, own))?
            }
            None => provider.another(&answered.grant, parts).await?,
        };
        let revoked = |status| Fault::Revoked {
            provider: provider.name().to_owned(),
            status,
            remedy: own.as_ref().map_or_else(|| provider.remedy(), |own| own.credential.remedy()),
        };
        let another = another.filter(|_| self.body.is_kept()).ok_or_else(|| revoked(refused))?;
        drop(answered);
        let answered = self.send_with(provider, model, another).await?;
        match is_refused(provider.api(), &answered) {
            true => Err(revoked(answered.response.status().as_u16())),
            false => Ok(answered),
        }
    }

    /// The credential of the person whose session asks, if there is one for this provider.
    async fn own(&self, provider: &Provider) -> Option<Own> {
        let place = &self.connection.place;
        let lender = &place.parts.settings.lender;
        lender.lend(place.workspace, self.session, provider.name()).await
    }

    /// Sends it once, and waits for the head of the answer.
    async fn send_with(
        &mut self,
        provider: &Arc<Provider>,
        model: Option<&str>,
        grant: Arc<Grant>,
    ) -> Result<Answered, Fault> {
        self.call.sent(&self.body.model);
        let settings = &self.connection.place.parts.settings;
        let name = || provider.name().to_owned();
        let traffic = Arc::clone(&self.call.traffic);
        let answered = tokio::select! {
            answered = self.send(provider, model, &grant) => answered,
            () = until_quiet(settings.idle_after, || traffic.total()) => {
                Err(Fault::TimedOut { provider: name(), after: settings.idle_after })
            }
        };
        if self.body.too_large.load(Ordering::Relaxed) && answered.is_err() {
            return Err(Fault::TooLarge { limit: settings.max_body });
        }
        let (upstream, response) = answered?;
        Ok(Answered { response, upstream, grant })
    }

    /// Sends it over the last connection or a new one.
    async fn send(
        &self,
        provider: &Arc<Provider>,
        model: Option<&str>,
        grant: &Grant,
    ) -> Result<(Upstream, Response<Incoming>), Fault> {
        let parts = &self.connection.place.parts;
        let name = || provider.name().to_owned();
        let broken = |error: &hyper::Error| Fault::Broken { provider: name(), why: chain(error) };
        let mut head = self.head.clone();
        let whole = match model.is_some() || grant.signs() {
            true => {
                self.body.keep();
                let body = self.body.whole().await;
                let body = body.map_err(|why| Fault::Broken { provider: name(), why })?;
                Some(with_model(&mut head, body, provider.api(), model))
            }
            false => None,
        };
        let (mut upstream, is_kept) = match self.connection.kept(provider).await {
            Some(upstream) => (upstream, true),
            None => (upstream::connect(parts, provider).await?, false),
        };
        let mut head = rewrite::outgoing(head, provider, grant, upstream.via.as_ref())?;
        let body = match whole {
            Some(body) => {
                is_whole(&mut head.headers, body.len());
                grant.sign(&mut head, &body);
                Outward::Whole((!body.is_empty()).then_some(body))
            }
            None => Outward::passing(Arc::clone(&self.body)),
        };
        let request = Request::from_parts(head, body);
        let mut error = match upstream.sender.try_send_request(request).await {
            Ok(response) => return Ok((upstream, response)),
            Err(error) => error,
        };
        // A kept connection may have ended just now, before anything of the request was sent.
        let Some(request) = error.take_message().filter(|_| is_kept) else {
            return Err(broken(error.error()));
        };
        upstream = upstream::connect(parts, provider).await?;
        let response = upstream.sender.send_request(request).await;
        response.map(|response| (upstream, response)).map_err(|error| broken(&error))
    }
}

/// Why somebody else is to be asked; none if this is an answer.
fn overload(tried: &Result<Answered, Fault>) -> Option<String> {
    match tried {
        Ok(answered) => {
            let status = answered.response.status();
            let is_overload = status == StatusCode::TOO_MANY_REQUESTS
                || status.as_u16() == OVERLOADED
                || status.is_server_error();
            is_overload.then(|| format!("it answered {}", status.as_u16()))
        }
        Err(fault @ (Fault::Unreachable { .. } | Fault::NotConnected { .. })) => {
            Some(fault.to_string())
        }
        Err(_) => None,
    }
}

/// Whether the provider refused what it was asked with, and not what it was asked for.
fn is_refused(api: Api, answered: &Answered) -> bool {
    let response = &answered.response;
    match response.status() {
        _ if !answered.grant.is_something() => false,
        StatusCode::UNAUTHORIZED => true,
        // AWS says so by the name of its error.
        StatusCode::FORBIDDEN if api == Api::Bedrock => {
            let kind = response.headers().get("x-amzn-errortype");
            let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
            ["ExpiredToken", "UnrecognizedClient", "InvalidSignature", "InvalidClientTokenId"]
                .iter()
                .any(|name| kind.contains(name))
        }
        _ => false,
    }
}

/// The request for another model: its name stands in the body, or in the path.
fn with_model(head: &mut request::Parts, body: Bytes, api: Api, model: Option<&str>) -> Bytes {
    let Some(model) = model else { return body };
    if let Some(asked) = api.model_in(head.uri.path()) {
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        if let Ok(uri) = path.replacen(&asked, model, 1).parse() {
            head.uri = uri;
        }
        return body;
    }
    let Some(at) = top_level(&body).model_at.filter(|at| at.end <= body.len()) else { return body };
    let mut changed = BytesMut::with_capacity(body.len() + model.len());
    changed.extend_from_slice(&body[..at.start]);
    changed.extend_from_slice(model.as_bytes());
    changed.extend_from_slice(&body[at.end..]);
    changed.freeze()
}

/// What the head of a request says of a body that is sent whole.
fn is_whole(headers: &mut HeaderMap, length: usize) {
    headers.remove(header::TRANSFER_ENCODING);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
}
