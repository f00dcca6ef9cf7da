//! Bodies on their way through: outward a placeholder becomes its value or ends the request, inward
//! a value is painted over.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes, BytesMut};
use http::header::{self, HeaderMap};
use hyper::body::{Body, Frame, SizeHint};
use zeroize::Zeroizing;

use super::{
    BodyError, Keeper, Placeholders, Refusal, Told,
    paint::{self, Painter, Pattern},
    placeholder::{self, Scan},
};

/// Why a request is refused, with what is told of it.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    pub(super) refusal: Refusal,
    pub(super) told: Box<Told>,
}

/// How a value is written within a body of some type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writing {
    /// As it is.
    Plain,
    /// As a part of a JSON text.
    Json,
    /// As in a form or a query.
    Form,
}

impl Writing {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        let kind = kind.to_ascii_lowercase();
        if kind == "application/json" || kind.ends_with("+json") {
            Self::Json
        } else if kind == "application/x-www-form-urlencoded" {
            Self::Form
        } else {
            Self::Plain
        }
    }

    pub(super) fn write(self, value: &str) -> Zeroizing<String> {
        match self {
            Self::Plain => Zeroizing::new(value.to_owned()),
            Self::Form => super::place::in_query(value),
            Self::Json => {
                let quoted = Zeroizing::new(serde_json::Value::from(value).to_string());
                // Without the marks around it: it stands within a text.
                Zeroizing::new(quoted[1..quoted.len() - 1].to_owned())
            }
        }
    }
}

/// One placeholder in a body that comes in pieces, and what takes its place.
pub(super) struct Replace {
    placeholder: Box<[u8]>,
    /// The value, or why there is none.
    with: Result<Zeroizing<String>, Fault>,
    /// The end of what came, as far as it may be the beginning of the placeholder.
    pub(super) held: Vec<u8>,
    /// Is to be told when it was there.
    used: Option<Told>,
    /// Whether it was.
    pub(super) is_used: bool,
}

impl Replace {
    pub(super) fn new(
        placeholder: &[u8],
        with: Result<Zeroizing<String>, Fault>,
        used: Told,
    ) -> Self {
        Self {
            placeholder: placeholder.into(),
            with,
            held: Vec::new(),
            used: Some(used),
            is_used: false,
        }
    }

    /// What can be passed on with this piece.
    pub(super) fn pass(&mut self, piece: Bytes) -> Result<Bytes, Fault> {
        let text: Bytes = if self.held.is_empty() {
            piece
        } else {
            let mut whole = BytesMut::from(&self.held[..]);
            whole.extend_from_slice(&piece);
            self.held.clear();
            whole.freeze()
        };
        let mut out: Option<BytesMut> = None;
        let mut from = 0;
        for at in memchr::memmem::find_iter(&text, &*self.placeholder) {
            let value = self.with.as_ref().map_err(Clone::clone)?;
            self.is_used = true;
            let out = out.get_or_insert_with(BytesMut::new);
            out.extend_from_slice(&text[from..at]);
            out.extend_from_slice(value.as_bytes());
            from = at + self.placeholder.len();
        }
        let rest = text.slice(from..);
        let likely = (1..self.placeholder.len().min(rest.len() + 1))
            .rev()
            .find(|length| rest.ends_with(&self.placeholder[..*length]))
            .unwrap_or(0);
        let (passed, held) = rest.split_at(rest.len() - likely);
        self.held.extend_from_slice(held);
        Ok(match out {
            Some(mut out) => {
                out.extend_from_slice(passed);
                out.freeze()
            }
            None => rest.slice(..passed.len()),
        })
    }

    /// What was held, at the end.
    pub(super) fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.held).into()
    }

    /// Whether lengths stay as they are.
    fn is_even(&self) -> bool {
        self.with.as_ref().is_ok_and(|value| value.len() == self.placeholder.len())
    }
}

/// What is done to a body on its way out.
pub(super) struct Work {
    pub(super) replaces: Vec<Replace>,
    pub(super) scan: Scan,
    pub(super) placeholders: Option<Arc<Placeholders>>,
    /// What it is refused with when a placeholder stands in it that has no business there.
    pub(super) misplaced: Fault,
    /// Is told of what is done.
    pub(super) keeper: Arc<dyn Keeper>,
}

impl Work {
    fn pass(&mut self, mut piece: Bytes) -> Result<Bytes, Fault> {
        for replace in &mut self.replaces {
            piece = replace.pass(piece)?;
            if replace.is_used
                && let Some(used) = replace.used.take()
            {
                self.keeper.tell(used);
            }
        }
        self.look(piece)
    }

    fn look(&mut self, piece: Bytes) -> Result<Bytes, Fault> {
        if self.scan.sees(&piece, self.placeholders.as_deref()) {
            return Err(self.misplaced.clone());
        }
        Ok(piece)
    }

    /// What is still held, at the end.
    fn rest(&mut self) -> Result<Bytes, Fault> {
        let mut out = BytesMut::new();
        for at in 0..self.replaces.len() {
            let mut piece = self.replaces[at].rest();
            for later in at + 1..self.replaces.len() {
                piece = self.replaces[later].pass(piece)?;
            }
            out.extend_from_slice(&piece);
        }
        self.look(out.freeze())
    }

    fn marks(&self, text: &[u8]) -> bool {
        placeholder::first(text, self.placeholders.as_deref()).is_some()
    }
}

/// The body of a request on its way out. It breaks off where a placeholder stands that has no
/// business there, with a [`Refusal`] as its error.
pub(super) struct Outward<B> {
    body: B,
    work: Box<Work>,
    /// What is still to be given: what was read before, or what follows held bytes.
    next: Option<Result<Frame<Bytes>, BodyError>>,
    is_over: bool,
}

impl<B> Outward<B> {
    pub(super) fn new(body: B, work: Work) -> Self {
        Self { body, work: Box::new(work), next: None, is_over: false }
    }

    /// Whether lengths stay as they are.
    pub(super) fn is_even(&self) -> bool {
        self.work.replaces.iter().all(Replace::is_even)
    }
}

impl<B> Outward<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BodyError>,
{
    /// Reads the body up to this size: its length on the way out if that is all of it.
    pub(super) async fn read(&mut self, most: usize) -> Result<Option<usize>, Fault> {
        let mut read = BytesMut::new();
        while read.len() <= most {
            match poll_fn(|cx| Pin::new(&mut self.body).poll_frame(cx)).await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => read.extend_from_slice(&data),
                    // Trailers, of which nobody sends any with a body as small as this.
                    Err(_) => self.is_over = true,
                },
                Some(Err(error)) => {
                    self.next = Some(Err(error.into()));
                    self.is_over = true;
                    return Ok(None);
                }
                None => self.is_over = true,
            }
            if self.is_over {
                let mut all = BytesMut::from(&self.work.pass(read.freeze())?[..]);
                all.extend_from_slice(&self.work.rest()?);
                let length = all.len();
                self.next = (length > 0).then(|| Ok(Frame::data(all.freeze())));
                return Ok(Some(length));
            }
        }
        let begin = self.work.pass(read.freeze())?;
        self.next = (!begin.is_empty()).then(|| Ok(Frame::data(begin)));
        Ok(None)
    }
}

impl<B> Body for Outward<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BodyError>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Some(next) = this.next.take() {
            return Poll::Ready(Some(next));
        }
        while !this.is_over {
            let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
            let work = &mut this.work;
            let (passed, next) = match frame {
                Some(Err(error)) => {
                    this.is_over = true;
                    return Poll::Ready(Some(Err(error.into())));
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => (work.pass(data), None),
                    // Trailers: nobody has a use for a credential there.
                    Err(mut trailers) => {
                        this.is_over = true;
                        let marked = trailers.trailers_mut().is_some_and(|map| {
                            map.values().any(|value| work.marks(value.as_bytes()))
                        });
                        let passed = if marked { Err(work.misplaced.clone()) } else { work.rest() };
                        (passed, Some(trailers))
                    }
                },
                None => {
                    this.is_over = true;
                    (work.rest(), None)
                }
            };
            match passed {
                Err(fault) => {
                    this.is_over = true;
                    work.keeper.tell(*fault.told);
                    let refusal: Refusal = fault.refusal;
                    return Poll::Ready(Some(Err(refusal.into())));
                }
                Ok(bytes) if bytes.has_remaining() => {
                    this.next = next.map(Ok);
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                Ok(_) => {
                    if let Some(next) = next {
                        return Poll::Ready(Some(Ok(next)));
                    }
                }
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        let is_held = || self.work.replaces.iter().any(|replace| !replace.held.is_empty());
        self.next.is_none() && (self.is_over || self.body.is_end_stream() && !is_held())
    }

    fn size_hint(&self) -> SizeHint {
        let read = match &self.next {
            Some(Ok(frame)) => frame.data_ref().map_or(0, |data| data.len() as u64),
            _ => 0,
        };
        if self.is_over {
            return SizeHint::with_exact(read);
        }
        if !self.is_even() {
            return SizeHint::default();
        }
        let held: usize = self.work.replaces.iter().map(|replace| replace.held.len()).sum();
        match self.body.size_hint().exact() {
            Some(left) => SizeHint::with_exact(read + held as u64 + left),
            None => SizeHint::default(),
        }
    }
}

/// The body of an answer on its way in, in which values are painted over.
pub(super) struct Inward<B> {
    body: B,
    painters: Vec<Painter>,
    patterns: Vec<Arc<Pattern>>,
    next: Option<Frame<Bytes>>,
    is_over: bool,
}

impl<B> Inward<B> {
    pub(super) fn new(body: B, patterns: Vec<Arc<Pattern>>) -> Self {
        let painters = patterns.iter().map(|pattern| Painter::new(Arc::clone(pattern))).collect();
        Self { body, painters, patterns, next: None, is_over: false }
    }

    fn rest(&mut self) -> Bytes {
        let mut out = BytesMut::new();
        for at in 0..self.painters.len() {
            let mut piece = self.painters[at].rest();
            for painter in &mut self.painters[at + 1..] {
                piece = painter.pass(piece);
            }
            out.extend_from_slice(&piece);
        }
        out.freeze()
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Inward<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        if let Some(frame) = this.next.take() {
            return Poll::Ready(Some(Ok(frame)));
        }
        while !this.is_over {
            let (bytes, next) = match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Err(error)) => {
                    this.is_over = true;
                    return Poll::Ready(Some(Err(error)));
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(mut data) => {
                        for painter in &mut this.painters {
                            data = painter.pass(data);
                        }
                        (data, None)
                    }
                    Err(mut trailers) => {
                        this.is_over = true;
                        if let Some(map) = trailers.trailers_mut() {
                            paint::headers(map, &this.patterns);
                        }
                        (this.rest(), Some(trailers))
                    }
                },
                None => {
                    this.is_over = true;
                    (this.rest(), None)
                }
            };
            if bytes.has_remaining() {
                this.next = next;
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            if let Some(next) = next {
                return Poll::Ready(Some(Ok(next)));
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.next.is_none() && self.is_over
    }

    fn size_hint(&self) -> SizeHint {
        // As many bytes as it has come out.
        self.body.size_hint()
    }
}
