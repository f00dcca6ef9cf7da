//! How the server itself reaches the outside.
//!
//! Directly, to exactly the addresses that were judged; or through the proxy that the operator's
//! network demands (`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`). Such a proxy resolves the name
//! itself, so there the judgement covers what this host's resolver says, and where that says
//! nothing, the operator's proxy is the one that decides. With `offline` everything fails at once.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    Error,
    cidr::Cidr,
    resolve::{Guard, Resolver, Unreachable},
    rules::{Host, Target},
};

/// How long a connection may take to be made, with everything that belongs to it.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// The longest answer to our own CONNECT that is read.
const MAX_ANSWER: usize = 8 * 1024;

/// Where our own outgoing traffic goes.
#[derive(Debug, Clone, Default)]
pub struct Outgoing {
    /// Nothing leaves at all.
    pub offline: bool,
    /// For tunnels.
    https_proxy: Option<UpstreamProxy>,
    /// For plain requests.
    http_proxy: Option<UpstreamProxy>,
    no_proxy: NoProxy,
}

impl Outgoing {
    /// What the environment says, by `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` in either case;
    /// lower case goes first, as with curl. `variable` reads one.
    ///
    /// # Errors
    ///
    /// When a proxy is named that can't be used.
    pub fn from_env(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let read = |lower: &str, upper: &str| {
            variable(lower).or_else(|| variable(upper)).filter(|value| !value.is_empty())
        };
        Self::new(
            read("https_proxy", "HTTPS_PROXY").as_deref(),
            read("http_proxy", "HTTP_PROXY").as_deref(),
            read("no_proxy", "NO_PROXY").as_deref().unwrap_or_default(),
        )
    }

    /// These proxies, and the hosts that are reached without them.
    ///
    /// # Errors
    ///
    /// When a proxy is not an `http://` URL.
    pub fn new(
        https_proxy: Option<&str>,
        http_proxy: Option<&str>,
        no_proxy: &str,
    ) -> Result<Self, Error> {
        let parse = |url: Option<&str>, variable| {
            url.map(|url| UpstreamProxy::parse(url).ok_or(Error::UpstreamProxy { variable }))
                .transpose()
        };
        Ok(Self {
            offline: false,
            https_proxy: parse(https_proxy, "HTTPS_PROXY")?,
            http_proxy: parse(http_proxy, "HTTP_PROXY")?,
            no_proxy: NoProxy::parse(no_proxy),
        })
    }

    /// With nothing leaving.
    pub fn offline() -> Self {
        Self { offline: true, ..Self::default() }
    }

    fn proxy(&self, target: &Target, purpose: Purpose) -> Option<&UpstreamProxy> {
        let proxy = match purpose {
            Purpose::Tunnel => self.https_proxy.as_ref(),
            Purpose::Requests => self.http_proxy.as_ref(),
        };
        proxy.filter(|_| !self.no_proxy.contains(target))
    }
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Bytes that are not ours to read.
    Tunnel,
    /// Plain HTTP requests.
    Requests,
}

/// A connection to the outside.
#[derive(Debug)]
pub struct Dialled {
    /// The connection.
    pub stream: TcpStream,
    /// When requests on it go to a proxy: they name their destination in full, with this
    /// `Proxy-Authorization`, if any.
    pub(crate) via: Option<Via>,
}

/// How requests are sent through an upstream proxy.
#[derive(Clone)]
pub(crate) struct Via {
    pub(crate) authorization: Option<http::HeaderValue>,
}

impl fmt::Debug for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Via")
    }
}

/// Why a connection could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// `offline` is set.
    #[error("Boatyard is offline by its settings")]
    Offline,
    /// There is no address to dial.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// No address took the connection.
    #[error("`{target}` does not take connections")]
    Connect {
        /// The destination.
        target: String,
        /// What the last try said.
        #[source]
        source: io::Error,
    },
    /// It took too long.
    #[error("`{target}` did not take the connection within {} s", CONNECT_WITHIN.as_secs())]
    TimedOut {
        /// The destination.
        target: String,
    },
    /// The upstream proxy refused.
    #[error("the upstream proxy answered {status} for `{target}`")]
    Refused {
        /// The destination.
        target: String,
        /// Its status.
        status: u16,
    },
}

/// Connects to `target` for `purpose`.
///
/// # Errors
///
/// Why there is no connection.
pub async fn dial(
    target: &Target,
    purpose: Purpose,
    outgoing: &Outgoing,
    guard: &Guard,
    resolver: &dyn Resolver,
) -> Result<Dialled, DialError> {
    if outgoing.offline {
        return Err(DialError::Offline);
    }
    let addresses = guard.addresses(&target.host, resolver).await;
    let Some(proxy) = outgoing.proxy(target, purpose) else {
        let stream = connect(target, addresses?).await?;
        return Ok(Dialled { stream, via: None });
    };
    match addresses {
        // Behind such a proxy, names often resolve there and not here.
        Ok(_) | Err(Unreachable::NotFound { .. }) => {}
        Err(forbidden) => return Err(forbidden.into()),
    }
    let late = |_| DialError::TimedOut { target: target.to_string() };
    timeout(CONNECT_WITHIN, proxy.connect(target, purpose, resolver)).await.map_err(late)?
}

async fn connect(target: &Target, addresses: Vec<IpAddr>) -> Result<TcpStream, DialError> {
    let deadline = Instant::now() + CONNECT_WITHIN;
    let mut last = io::Error::from(io::ErrorKind::TimedOut);
    for (tried, address) in addresses.iter().enumerate() {
        // Each gets its share of what is left, so that a dead first one does not take it all.
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - tried).unwrap_or(1);
        let address = SocketAddr::new(*address, target.port);
        match timeout_at(Instant::now() + share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return prepared(stream, target),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    if last.kind() == io::ErrorKind::TimedOut {
        return Err(DialError::TimedOut { target: target.to_string() });
    }
    Err(DialError::Connect { target: target.to_string(), source: last })
}

fn prepared(stream: TcpStream, target: &Target) -> Result<TcpStream, DialError> {
    let failed = |source| DialError::Connect { target: target.to_string(), source };
    stream.set_nodelay(true).map_err(failed)?;
    Ok(stream)
}

/// A proxy that our own traffic has to go through. Its address is trusted; its password is never
/// shown.
#[derive(Clone)]
struct UpstreamProxy {
    host: Host,
    port: u16,
    authorization: Option<http::HeaderValue>,
}

impl fmt::Debug for UpstreamProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UpstreamProxy({}:{})", self.host, self.port)
    }
}

impl UpstreamProxy {
    fn parse(url: &str) -> Option<Self> {
        let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let url = url::Url::parse(&url).ok().filter(|url| url.scheme() == "http")?;
        let host = url.host_str()?.parse().ok()?;
        let authorization = if url.username().is_empty() {
            None
        } else {
            let decode = |text| percent_encoding::percent_decode_str(text).collect::<Vec<u8>>();
            let mut pair = decode(url.username());
            pair.push(b':');
            pair.extend(decode(url.password().unwrap_or_default()));
            let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pair);
            let mut value = http::HeaderValue::try_from(format!("Basic {encoded}")).ok()?;
            value.set_sensitive(true);
            Some(value)
        };
        Some(Self { host, port: url.port_or_known_default()?, authorization })
    }

    async fn connect(
        &self,
        target: &Target,
        purpose: Purpose,
        resolver: &dyn Resolver,
    ) -> Result<Dialled, DialError> {
        let failed = |source| DialError::Connect { target: target.to_string(), source };
        let addresses = match &self.host {
            Host::Address(address) => vec![*address],
            Host::Name(name) => resolver.resolve(name).await.map_err(failed)?,
        };
        let here = Target { host: self.host.clone(), port: self.port };
        let mut stream = connect(&here, addresses).await?;
        if purpose == Purpose::Requests {
            let via = Via { authorization: self.authorization.clone() };
            return Ok(Dialled { stream, via: Some(via) });
        }
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes();
        if let Some(authorization) = &self.authorization {
            request.extend(b"Proxy-Authorization: ");
            request.extend(authorization.as_bytes());
            request.extend(b"\r\n");
        }
        request.extend(b"\r\n");
        stream.write_all(&request).await.map_err(failed)?;
        match read_status(&mut stream).await.map_err(failed)? {
            200..=299 => Ok(Dialled { stream, via: None }),
            status => Err(DialError::Refused { target: target.to_string(), status }),
        }
    }
}

/// Reads the head of an answer, and not a byte beyond it, which would be the tunnel's.
async fn read_status(stream: &mut TcpStream) -> io::Result<u16> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == MAX_ANSWER {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the proxy's answer is too long",
            ));
        }
        // One byte at a time, because it is at most once a connection.
        head.push(stream.read_u8().await?);
    }
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "the proxy's answer is no HTTP");
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = std::str::from_utf8(line).map_err(|_| malformed())?;
    match line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)) {
        Some(status) => status.parse().map_err(|_| malformed()),
        None => Err(malformed()),
    }
}

/// Hosts that are reached without the upstream proxy.
#[derive(Debug, Clone, Default)]
struct NoProxy {
    everything: bool,
    /// Names, each with those below it.
    names: Vec<String>,
    ranges: Vec<Cidr>,
}

impl NoProxy {
    fn parse(text: &str) -> Self {
        let mut parsed = Self::default();
        for entry in text.split([',', ' ']).map(str::trim).filter(|entry| !entry.is_empty()) {
            let bare = entry.trim_start_matches("*.").trim_start_matches('.');
            if entry == "*" {
                parsed.everything = true;
            } else if let Ok(range) = entry.trim_matches(['[', ']']).parse() {
                parsed.ranges.push(range);
            } else {
                // A port, if there is one, is not told apart.
                let name = bare.split(':').next().unwrap_or(bare);
                parsed.names.push(name.to_ascii_lowercase());
            }
        }
        parsed
    }

    fn contains(&self, target: &Target) -> bool {
        self.everything
            || match &target.host {
                Host::Address(address) => self.ranges.iter().any(|range| range.contains(*address)),
                Host::Name(name) => self.names.iter().any(|entry| {
                    name.strip_suffix(entry.as_str())
                        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
                }),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_lists_names_below_and_ranges() {
        let list = NoProxy::parse("localhost, .corp.example,*.lab.example 10.0.0.0/8 [::1]");
        let check = |host: &str, expected| {
            let target = Target { host: host.parse().unwrap(), port: 1 };
            assert_eq!(list.contains(&target), expected, "{host}");
        };
        check("localhost", true);
        check("a.corp.example", true);
        check("corp.example", true);
        check("notcorp.example", false);
        check("x.lab.example", true);
        check("10.9.9.9", true);
        check("[::1]", true);
        check("11.0.0.1", false);
    }

    #[test]
    fn proxies_come_from_the_environment_and_hide_their_password() {
        let environment = |name: &str| match name {
            "https_proxy" => Some("http://me:s%40cret@proxy.example:3128".to_owned()),
            "HTTP_PROXY" => Some("proxy.example:8080".to_owned()),
            "NO_PROXY" => Some("*".to_owned()),
            _ => None,
        };
        let outgoing = Outgoing::from_env(environment).unwrap();
        let shown = format!("{outgoing:?}");
        assert!(shown.contains("proxy.example:3128") && shown.contains("proxy.example:8080"));
        assert!(!shown.contains("cret") && !shown.contains("Basic"));
        assert!(outgoing.no_proxy.everything);
        let refused = Outgoing::new(Some("socks5://user:word@x"), None, "").unwrap_err();
        assert!(!refused.to_string().contains("word"));
    }
}
