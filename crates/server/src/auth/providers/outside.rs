//! How providers are asked: by HTTPS, without following redirects, to addresses that may be.
//!
//! A provider's own host was named by those who run the server, so that it may be inside of their
//! network. A host that the provider names (its document says where its keys are) is judged as any
//! other: the world, and what `[egress] allow_private` lets pass.

use std::{sync::Arc, time::Duration};

use boatyard_egress::{Cidr, Guard, Outgoing, https::Https, resolve::System};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Request, Response, header};
use tokio::sync::OnceCell;

use super::fault::Unasked;
use crate::settings;

/// How long a provider may take for one answer.
const WITHIN: Duration = Duration::from_secs(10);
/// The most of an answer that is read, in bytes: a set of keys has some KiB.
const MOST: usize = 1 << 20;
/// Who asks.
const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("boatyard/", env!("CARGO_PKG_VERSION")));

/// The way out, made when it is first needed.
pub(crate) struct Outside {
    settings: settings::Egress,
    made: OnceCell<Made>,
}

struct Made {
    https: Https,
    anywhere: Guard,
    others: Guard,
}

impl Outside {
    pub(crate) fn new(settings: settings::Egress) -> Self {
        Self { settings, made: OnceCell::new() }
    }

    async fn made(&self) -> Result<&Made, Unasked> {
        let make = async {
            let made = make(&self.settings);
            made.map_err(|error| Unasked::Setup(format!("{error:#}")))
        };
        self.made.get_or_try_init(|| make).await
    }

    /// Asks, for the provider that is at `issuer`.
    ///
    /// # Errors
    /// When there is no answer. Any status is one.
    pub(crate) async fn ask(
        &self,
        issuer: &str,
        request: Request<Vec<u8>>,
    ) -> Result<Response<Vec<u8>>, Unasked> {
        let made = self.made().await?;
        let host = |text: &str| text.parse::<http::Uri>().ok()?.host().map(str::to_owned);
        let own = host(issuer);
        let is_own = own.is_some() && own.as_deref() == request.uri().host();
        let guard = if is_own { &made.anywhere } else { &made.others };
        let mut request = request.map(Bytes::from);
        request.headers_mut().entry(header::USER_AGENT).or_insert(AGENT);
        let answer = made.https.ask(request, guard, MOST, WITHIN).await?;
        Ok(answer.map(|bytes| bytes.to_vec()))
    }
}

/// An answer that is on its way.
type Answering = BoxFuture<'static, Result<Response<Vec<u8>>, Unasked>>;

/// The same for the libraries that speak the protocols. It owns what it needs, so that what they make
/// of it may go from thread to thread.
pub(super) fn asking(
    outside: &Arc<Outside>,
    issuer: &str,
) -> impl Fn(Request<Vec<u8>>) -> Answering + use<> {
    let (outside, issuer) = (Arc::clone(outside), Arc::<str>::from(issuer));
    move |request| {
        let (outside, issuer) = (Arc::clone(&outside), Arc::clone(&issuer));
        Box::pin(async move { outside.ask(&issuer, request).await })
    }
}

fn make(settings: &settings::Egress) -> anyhow::Result<Made> {
    use anyhow::Context as _;
    let outgoing = match settings.offline {
        true => Outgoing::offline(),
        false => Outgoing::from_env(|name| std::env::var(name).ok())?,
    };
    let authorities = match &settings.ca_file {
        Some(file) => std::fs::read(file)
            .with_context(|| format!("[egress] ca_file: {} can't be read", file.display()))?,
        None => Vec::new(),
    };
    let ranges = settings.allow_private.iter().map(|text| text.parse::<Cidr>());
    let ranges: Result<Vec<_>, _> = ranges.collect();
    Ok(Made {
        https: Https::new(outgoing, &authorities, Arc::new(System))?,
        anywhere: Guard::new(vec!["0.0.0.0/0".parse()?, "::/0".parse()?]),
        others: Guard::new(ranges.context("[egress] allow_private")?),
    })
}
