//! Where in a request a credential stands.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderName, HeaderValue, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use zeroize::{Zeroize as _, Zeroizing};

use crate::Error;

/// Where in a request a credential's value goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A header, with the value between these two texts.
    Header {
        /// Its name.
        name: HeaderName,
        /// What stands before the value; capitals don't count.
        before: Box<str>,
        /// What stands behind it.
        behind: Box<str>,
    },
    /// `Authorization: Basic`, as the password or as the name.
    Basic {
        /// The name that goes with it where a request brings none.
        user: Option<Box<str>>,
    },
    /// A parameter of the query.
    Query {
        /// Its name.
        name: Box<str>,
    },
    /// The body, wherever it stands there.
    Body,
}

/// What stays as it is in a value of a query (RFC 3986's unreserved characters).
const IN_QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

impl Place {
    /// `Authorization: Bearer`.
    pub fn bearer() -> Self {
        Self::Header { name: header::AUTHORIZATION, before: "Bearer ".into(), behind: "".into() }
    }

    /// A header as a client may send it, with the value in its placeholder's stead; none when the
    /// placeholder does not stand there as this place wants it.
    pub(super) fn in_header(
        &self,
        name: &HeaderName,
        sent: &HeaderValue,
        placeholder: &str,
        value: &str,
    ) -> Option<Swapped> {
        match self {
            Self::Header { name: ours, before, behind } => {
                let text = sent.to_str().ok()?.trim();
                let (start, rest) = text.split_at_checked(before.len())?;
                let is_it = ours == name
                    && start.eq_ignore_ascii_case(before)
                    && rest.strip_suffix(&**behind) == Some(placeholder);
                is_it.then(|| header(&format!("{start}{value}{behind}")))?
            }
            Self::Basic { .. } if *name == header::AUTHORIZATION => {
                let (user, password) = basic(sent)?;
                match (*user == placeholder, *password == placeholder) {
                    (true, _) => {
                        with_basic(value, if *password == *user { value } else { &password })
                    }
                    (_, true) => with_basic(&user, value),
                    _ => None,
                }
            }
            Self::Basic { .. } | Self::Query { .. } | Self::Body => None,
        }
    }

    /// The header that a request without one gets.
    pub(super) fn own_header(&self, value: &str) -> Option<(HeaderName, Swapped)> {
        match self {
            Self::Header { name, before, behind } => {
                Some((name.clone(), header(&format!("{before}{value}{behind}"))?))
            }
            Self::Basic { user } => {
                let swapped = with_basic(user.as_deref().unwrap_or_default(), value)?;
                Some((header::AUTHORIZATION, swapped))
            }
            Self::Query { .. } | Self::Body => None,
        }
    }

    /// A query with the value in its placeholder's stead.
    pub(super) fn in_query(&self, query: &str, placeholder: &str, value: &str) -> Option<String> {
        let Self::Query { name } = self else { return None };
        let mut is_swapped = false;
        let pairs: Vec<String> = query
            .split('&')
            .map(|pair| {
                let (key, sent) = pair.split_once('=').unwrap_or((pair, ""));
                let is_it = percent_decode_str(key).decode_utf8().is_ok_and(|key| *key == **name)
                    && percent_decode_str(sent).decode_utf8().is_ok_and(|sent| sent == placeholder);
                if is_it {
                    is_swapped = true;
                    format!("{key}={}", utf8_percent_encode(value, IN_QUERY))
                } else {
                    pair.to_owned()
                }
            })
            .collect();
        is_swapped.then(|| pairs.join("&"))
    }
}

impl crate::gateway::Secret {
    /// The header by which a request of the server's own carries it in a place; none where it is not
    /// a header that carries it there.
    pub fn in_header(&self, place: &Place) -> Option<(HeaderName, HeaderValue)> {
        place.own_header(self.expose()).map(|(name, swapped)| (name, swapped.header))
    }
}

/// A header with a value in it, and how the value looks there.
pub(super) struct Swapped {
    pub(super) header: HeaderValue,
    /// As an answer might repeat it, if it stands there in another form than its own.
    pub(super) form: Option<Zeroizing<String>>,
}

/// A header that is not shown when it is printed, nor kept in the tables of HTTP/2.
fn header(text: &str) -> Option<Swapped> {
    let mut header = HeaderValue::from_str(text).ok()?;
    header.set_sensitive(true);
    Some(Swapped { header, form: None })
}

/// Name and password of a header that has them.
pub(super) fn basic(sent: &HeaderValue) -> Option<(Zeroizing<String>, Zeroizing<String>)> {
    let text = sent.to_str().ok()?.trim();
    let (scheme, encoded) = text.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let mut decoded = STANDARD.decode(encoded.trim()).ok()?;
    let split = std::str::from_utf8(&decoded).ok().map(|text| {
        let (user, password) = text.split_once(':').unwrap_or((text, ""));
        (Zeroizing::new(user.to_owned()), Zeroizing::new(password.to_owned()))
    });
    decoded.zeroize();
    split
}

fn with_basic(user: &str, password: &str) -> Option<Swapped> {
    let both = Zeroizing::new(format!("{user}:{password}"));
    let encoded = Zeroizing::new(STANDARD.encode(both.as_bytes()));
    let swapped = header(&format!("Basic {}", *encoded))?;
    Some(Swapped { form: Some(encoded), ..swapped })
}

/// A value as it stands in a query.
pub(super) fn in_query(value: &str) -> Zeroizing<String> {
    Zeroizing::new(utf8_percent_encode(value, IN_QUERY).to_string())
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header { name, before, behind }
                if *name == header::AUTHORIZATION
                    && &**before == "Bearer "
                    && behind.is_empty() =>
            {
                f.write_str("bearer")
            }
            Self::Header { name, before, behind } => {
                write!(f, "header:{name}={before}{{}}{behind}")
            }
            Self::Basic { user: None } => f.write_str("basic"),
            Self::Basic { user: Some(user) } => write!(f, "basic:{user}"),
            Self::Query { name } => write!(f, "query:{name}"),
            Self::Body => f.write_str("body"),
        }
    }
}

/// `bearer`, `header:NAME`, `header:NAME=before {} behind`, `basic`, `basic:USER`, `query:NAME`,
/// `body`.
impl FromStr for Place {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |why: &str| Error::Place { text: text.to_owned(), why: why.to_owned() };
        let (kind, rest) = match text.split_once(':') {
            Some((kind, rest)) => (kind, Some(rest)),
            None => (text, None),
        };
        match (kind, rest) {
            ("bearer", None) => Ok(Self::bearer()),
            ("body", None) => Ok(Self::Body),
            ("basic", None) => Ok(Self::Basic { user: None }),
            ("basic", Some(user)) => {
                let is_name =
                    !user.is_empty() && !user.contains(|c: char| c == ':' || c.is_control());
                if is_name {
                    Ok(Self::Basic { user: Some(user.into()) })
                } else {
                    Err(wrong("a user name has no colon and is not empty"))
                }
            }
            ("query", Some(name)) if !name.is_empty() => Ok(Self::Query { name: name.into() }),
            ("header", Some(rest)) => {
                let (name, format) = rest.split_once('=').unwrap_or((rest, "{}"));
                let name: HeaderName =
                    name.trim().parse().map_err(|_| wrong("that is no name of a header"))?;
                if NEVER.contains(&name) {
                    return Err(wrong("that header is the proxy's own"));
                }
                let (before, behind) = format
                    .split_once("{}")
                    .filter(|(_, behind)| !behind.contains("{}"))
                    .ok_or_else(|| wrong("the format has `{}` once, where the value goes"))?;
                if HeaderValue::from_str(format).is_err() {
                    return Err(wrong("a header can't hold that format"));
                }
                Ok(Self::Header { name, before: before.into(), behind: behind.into() })
            }
            _ => Err(wrong(
                "it is one of bearer, header:NAME, `header:NAME=token {}`, basic, basic:USER, \
                 query:NAME, body",
            )),
        }
    }
}

/// Headers that say how a request travels.
const NEVER: [HeaderName; 8] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    header::PROXY_AUTHORIZATION,
];

#[cfg(test)]
mod tests {
    use super::*;

    const PLACEHOLDER: &str = "byph_aaaa";

    fn swap(place: &str, name: &str, sent: &str) -> Option<String> {
        let place: Place = place.parse().unwrap();
        let name: HeaderName = name.parse().unwrap();
        let swapped = place.in_header(&name, &sent.parse().unwrap(), PLACEHOLDER, "real value")?;
        assert!(swapped.header.is_sensitive());
        Some(swapped.header.to_str().unwrap().to_owned())
    }

    #[track_caller]
    fn check(place: &str, name: &str, sent: &str, expected: Option<&str>) {
        assert_eq!(swap(place, name, sent).as_deref(), expected, "{place} {name}: {sent}");
    }

    #[test]
    fn a_header_is_swapped_where_it_is_as_the_place_wants_it() {
        check("bearer", "authorization", "bearer byph_aaaa", Some("bearer real value"));
        check("bearer", "authorization", "Bearer byph_aaaax", None);
        check("bearer", "authorization", "token byph_aaaa", None);
        check("bearer", "x-token", "Bearer byph_aaaa", None);
        check("header:private-token", "private-token", "byph_aaaa", Some("real value"));
        check("header:cookie=a={}; b=1", "cookie", "a=byph_aaaa; b=1", Some("a=real value; b=1"));
        check("header:cookie=a={}; b=1", "cookie", "a=byph_aaaa", None);
        check("header:x=ä{}", "x", "byph_aaaa", None);
    }

    #[test]
    fn a_basic_header_is_swapped_inside_of_its_encoding() {
        let sent = |text: &str| format!("Basic {}", STANDARD.encode(text));
        let check = |text: &str, expected: Option<&str>| {
            let expected = expected.map(sent);
            check("basic", "authorization", &sent(text), expected.as_deref());
        };
        check("me:byph_aaaa", Some("me:real value"));
        check("byph_aaaa:", Some("real value:"));
        check("byph_aaaa:x-oauth-basic", Some("real value:x-oauth-basic"));
        check("me:xbyph_aaaa", None);
        check("me:other", None);
        assert_eq!(swap("basic", "authorization", "Basic ???"), None);
    }

    #[test]
    fn a_parameter_is_swapped_and_the_others_stay() {
        let place: Place = "query:key".parse().unwrap();
        let swapped = place.in_query("a=1&key=byph_aaaa&b=%20", PLACEHOLDER, "r&v");
        assert_eq!(swapped.as_deref(), Some("a=1&key=r%26v&b=%20"));
        assert_eq!(place.in_query("other=byph_aaaa", PLACEHOLDER, "r"), None);
        assert_eq!(place.in_query("key=xbyph_aaaa", PLACEHOLDER, "r"), None);
    }

    #[test]
    fn places_are_read_and_shown_alike() {
        for text in [
            "bearer",
            "basic",
            "basic:me",
            "query:key",
            "body",
            "header:x-token=token {}",
            "header:x={}",
        ] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "header",
            "header:",
            "header:a b",
            "header:host",
            "header:x=y",
            "header:x={}{}",
            "basic:",
            "query:",
            "bearer:x",
            "cookie",
        ] {
            let error = text.parse::<Place>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{text}`")), "{error}");
        }
    }
}
