//! A request as its provider is to see it, and an answer as the workspace is to see it.

use boatyard_model::SessionId;
use http::{
    HeaderMap, HeaderName, HeaderValue, Uri, Version, header, request, response, uri::PathAndQuery,
};
use percent_encoding::{percent_decode, percent_decode_str};
use url::Url;

use super::{credential::Grant, echo, fault::Fault, provider::Provider};
use crate::{dial::Via, proxy::strip};

/// What a caller might prove itself with. All of it is for whoever it thinks it talks to.
const CREDENTIALS: [HeaderName; 8] = [
    header::AUTHORIZATION,
    header::COOKIE,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("x-goog-api-key"),
    // Azure's, and what OpenAI's own library sends there.
    HeaderName::from_static("api-key"),
    // AWS's, and whose subscription of ChatGPT it is.
    HeaderName::from_static("x-amz-security-token"),
    HeaderName::from_static("x-amz-date"),
    HeaderName::from_static("chatgpt-account-id"),
];
/// Parameters of the query that are a credential: Google's key and token.
const CREDENTIAL_PARAMETERS: [&[u8]; 2] = [b"key", b"access_token"];

/// How often servers one behind the other may decode a path.
const DECODINGS: usize = 3;
/// Parts of paths below which there are keys: short-lived ones for browsers (OpenAI's realtime and
/// ChatKit, Gemini's `auth_tokens`), those of an organization (OpenAI, Anthropic), those that a
/// server for several providers keeps (OpenRouter, LiteLLM).
const KEY_PLACES: [&str; 11] = [
    "admin_api_keys",
    "api_keys",
    "auth_tokens",
    "chatkit",
    "client_secrets",
    "key",
    "keys",
    "oauth",
    "organization",
    "organizations",
    "service_accounts",
];

/// What the path of a request begins with that says for which session it is made.
pub(super) const SESSION: &str = "s";

/// Takes the session out of a path, `/s/<session>/<provider>/rest`.
pub(super) fn session(uri: &Uri) -> Option<(SessionId, Uri)> {
    let (first, rest) = split(uri.path());
    if first != SESSION {
        return None;
    }
    let (session, rest) = split(rest);
    let session = session.parse().ok()?;
    let mut path = if rest.is_empty() { "/".to_owned() } else { rest.to_owned() };
    if let Some(query) = uri.query() {
        path.push('?');
        path.push_str(query);
    }
    Some((session, path.parse::<PathAndQuery>().ok()?.into()))
}

/// The provider's name and the rest of the path, which begins with a slash or is empty.
pub(super) fn split(path: &str) -> (&str, &str) {
    let path = path.strip_prefix('/').unwrap_or(path);
    path.split_at(path.find('/').unwrap_or(path.len()))
}

/// The head of a request, rewritten for `provider`: with its key, without the caller's.
pub(super) fn outgoing(
    mut head: request::Parts,
    provider: &Provider,
    grant: &Grant,
    via: Option<&Via>,
) -> Result<request::Parts, Fault> {
    head.uri = uri(&head.uri, provider, via.is_some())?;
    strip(&mut head.headers);
    for name in &CREDENTIALS {
        head.headers.remove(name);
    }
    if grant.echo().is_some() {
        // A key that comes back is not found in what is packed.
        head.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    // It is answered here, by reading the body.
    head.headers.remove(header::EXPECT);
    let host = HeaderValue::try_from(provider.authority())
        .map_err(|_| Fault::Malformed("its provider has no host"))?;
    head.headers.insert(header::HOST, host);
    grant.put(&mut head.headers, provider.api());
    if let Some(authorization) = via.and_then(|via| via.authorization.clone()) {
        head.headers.insert(header::PROXY_AUTHORIZATION, authorization);
    }
    head.version = Version::HTTP_11;
    head.extensions.clear();
    Ok(head)
}

/// The base address and the rest of the path, with the query but for credentials in it.
fn uri(asked: &Uri, provider: &Provider, in_full: bool) -> Result<Uri, Fault> {
    let (_, rest) = split(asked.path());
    if leads_up(rest) {
        return Err(Fault::Malformed("its path leads upwards (`..`)"));
    }
    let mut path = format!("{}{}", provider.base_path(), provider.below(rest));
    if path.is_empty() {
        path.push('/');
    }
    if let Some(query) = asked.query().and_then(without_credentials) {
        path.push('?');
        path.push_str(&query);
    }
    let malformed = || Fault::Malformed("its path is none");
    if in_full {
        format!("http://{}{path}", provider.authority()).parse().map_err(|_| malformed())
    } else {
        path.parse::<PathAndQuery>().map(Uri::from).map_err(|_| malformed())
    }
}

/// Whether a path has a part that a server could take for a step up, out of the base address: one
/// that decodes what another before it has decoded, or that takes what follows a `;` for a
/// parameter.
fn leads_up(path: &str) -> bool {
    parts(path).any(|part| matches!(&*part, "." | ".."))
}

/// The parts of a path as a server could read them, in lower case; no empty ones.
fn parts(path: &str) -> impl Iterator<Item = String> {
    let mut decoded = path.as_bytes().to_vec();
    for _ in 0..DECODINGS {
        decoded = percent_decode(&decoded).collect();
    }
    let text = String::from_utf8_lossy(&decoded).to_ascii_lowercase();
    let parts = text.split(['/', '\\']).map(|part| part.split(';').next().unwrap_or_default());
    let parts: Vec<String> = parts.filter(|part| !part.is_empty()).map(str::to_owned).collect();
    parts.into_iter()
}

/// Whether a path leads to where a provider, or a server that stands for several, makes, lists or
/// shows keys: a workspace could have one made and carry it out. `path` begins with the provider's
/// name.
pub(super) fn gives_credentials(path: &str) -> bool {
    let (_, rest) = split(path);
    let parts: Vec<String> = parts(rest).collect();
    parts.iter().any(|part| KEY_PLACES.contains(&&**part))
        || parts.windows(2).any(|two| {
            two[0] == "realtime" && matches!(&*two[1], "sessions" | "transcription_sessions")
        })
}

/// The query without what is a credential; none if nothing is left of it. The rest stays as it
/// was written.
fn without_credentials(query: &str) -> Option<String> {
    let is_credential = |pair: &str| {
        let name: Vec<u8> =
            percent_decode_str(pair.split('=').next().unwrap_or_default()).collect();
        CREDENTIAL_PARAMETERS.iter().any(|one| name.eq_ignore_ascii_case(one))
    };
    let mut was_credential = false;
    let kept: Vec<&str> = query
        .split('&')
        .filter(|pair| {
            let is_credential = is_credential(pair);
            was_credential |= is_credential;
            !is_credential
        })
        .collect();
    (!was_credential || !kept.is_empty()).then(|| kept.join("&"))
}

/// Headers of Gemini's answers that say where a file is to be sent.
const UPLOADS: [HeaderName; 2] = [
    HeaderName::from_static("x-goog-upload-url"),
    HeaderName::from_static("x-goog-upload-control-url"),
];

/// Rewrites the head of an answer to a request that was sent to `host`, by its header of that
/// name. Nothing in it may lead the client past the gateway.
///
/// # Errors
///
/// When it has the client send a file somewhere else, which would go nowhere.
pub(super) fn incoming(
    head: &mut response::Parts,
    provider: &Provider,
    grant: &Grant,
    host: Option<&HeaderValue>,
) -> Result<(), Fault> {
    strip(&mut head.headers);
    redirect(&mut head.headers, provider);
    for name in &UPLOADS {
        let Some(address) = head.headers.remove(name) else { continue };
        let broken = || Fault::Broken {
            provider: provider.name().to_owned(),
            why: "it wants a file to be sent to another host than its own".to_owned(),
        };
        let path = address.to_str().ok().and_then(|address| within(address, provider));
        // Such an address is one in full; the client has just used the host in it.
        let host = host.and_then(|host| host.to_str().ok());
        let here = host.zip(path).map(|(host, path)| format!("http://{host}{path}"));
        let here = here.and_then(|here| HeaderValue::try_from(here).ok()).ok_or_else(broken)?;
        head.headers.insert(name, here);
    }
    echo::headers(&mut head.headers, grant);
    // A session at the provider is a credential as well; and other ways to it are not ways here.
    head.headers.remove(header::SET_COOKIE);
    head.headers.remove(header::ALT_SVC);
    head.version = Version::HTTP_11;
    head.extensions.clear();
    Ok(())
}

/// A `Location` at the same provider leads there through the gateway; any other is taken out.
fn redirect(headers: &mut HeaderMap, provider: &Provider) {
    let Some(location) = headers.remove(header::LOCATION) else { return };
    let here = location.to_str().ok().and_then(|location| within(location, provider));
    if let Some(here) = here.and_then(|here| HeaderValue::try_from(here).ok()) {
        headers.insert(header::LOCATION, here);
    }
}

/// The path on the gateway that `location` corresponds to.
fn within(location: &str, provider: &Provider) -> Option<String> {
    let base = provider.base_url();
    let url = match Url::parse(location) {
        Ok(url) => url,
        Err(_) if location.starts_with('/') => base.join(location).ok()?,
        Err(_) => return None,
    };
    if url.origin() != base.origin() {
        return None;
    }
    let rest = url.path().strip_prefix(provider.base_path())?;
    if !rest.is_empty() && !rest.starts_with('/') {
        return None;
    }
    let query = url.query().and_then(without_credentials);
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    Some(format!("/{}{rest}{query}", provider.name()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::{Api, Credential};

    fn provider(base_url: &str) -> Provider {
        Provider::new("one", Api::Gemini, base_url, Credential::NotNeeded).unwrap()
    }

    #[test]
    fn a_session_is_taken_out_of_a_path() {
        let check = |asked: &str, expected: Option<&str>| {
            let found = session(&asked.parse().unwrap());
            let found = found.map(|(id, uri)| format!("{id} {uri}"));
            assert_eq!(found.as_deref(), expected, "{asked}");
        };
        let id = "ses_00000000000000000000000001";
        let expected = format!("{id} /one/v1/x?a=b");
        check(&format!("/s/{id}/one/v1/x?a=b"), Some(&expected));
        check(&format!("/s/{id}"), Some(&format!("{id} /")));
        check("/one/v1", None);
        check("/s/none/one", None);
        check("/s", None);
    }

    #[test]
    fn paths_go_below_the_base_as_they_are() {
        let check = |base: &str, asked: &str, expected: Option<&str>| {
            let uri = uri(&asked.parse().unwrap(), &provider(base), false).ok();
            assert_eq!(uri.map(|uri| uri.to_string()).as_deref(), expected, "{base} {asked}");
        };
        check("https://x.example", "/one/v1/messages?beta=true", Some("/v1/messages?beta=true"));
        check("https://x.example/", "/one/v1//a%2Fb:c", Some("/v1//a%2Fb:c"));
        check("https://x.example/base/", "/one/v1", Some("/base/v1"));
        check("https://x.example", "/one", Some("/"));
        check("https://x.example", "/one?a=b", Some("/?a=b"));
        check("https://x.example", "/one/v1?", Some("/v1?"));
        check("https://x.example", "/one/v1?key=secret", Some("/v1"));
        check("https://x.example", "/one/v1?alt=sse&key=secret", Some("/v1?alt=sse"));
        check("https://x.example", "/one/v1?%6bEy=secret&alt=sse&a", Some("/v1?alt=sse&a"));
        check("https://x.example", "/one/v1?access_token=s&monkey=1", Some("/v1?monkey=1"));
        check("https://x.example", "http://elsewhere.example/one/v1", Some("/v1"));
        check("https://x.example/v1", "/one/v1/x", Some("/v1/v1/x"));
        check("https://x.example/base", "/one/../other", None);
        check("https://x.example/base", "/one/%2e%2E/other", None);
        check("https://x.example/base", "/one/a%2f..%2fother", None);
        check("https://x.example/base", "/one/%252e%252e/other", None);
        check("https://x.example/base", "/one/..;/other", None);
        check("https://x.example/base", "/one/..%3Bx/other", None);
        check("https://x.example/base", "/one/..%5cother", None);
        check("https://x.example/base", "/one//evil.example/x", Some("/base//evil.example/x"));
    }

    #[test]
    fn keys_are_not_to_be_had() {
        for path in [
            "/openai/v1/realtime/client_secrets",
            "/openai/v1/realtime/sessions",
            "/openai/v1/Realtime//%73essions/",
            "/openai/v1/organization/admin_api_keys",
            "/openai/v1/organi%257Aation/projects/p/service_accounts",
            "/openai/v1/chatkit/sessions",
            "/gemini/v1alpha/auth_tokens",
            "/anthropic/v1/organizations/api_keys",
            "/router/api/v1/keys",
            "/router/key/generate",
        ] {
            assert!(gives_credentials(path), "{path}");
        }
        for path in [
            "/openai/v1/responses",
            "/openai/v1/realtime/calls",
            "/keys/v1/chat/completions",
            "/anthropic/v1/messages/count_tokens",
            "/gemini/v1beta/models/gemini-3-pro:countTokens",
        ] {
            assert!(!gives_credentials(path), "{path}");
        }
    }

    #[test]
    fn the_version_of_openais_protocol_stands_in_a_path_once() {
        let check = |base: &str, asked: &str, expected: &str| {
            let provider = Provider::new("one", Api::OpenAi, base, Credential::NotNeeded).unwrap();
            let uri = uri(&asked.parse().unwrap(), &provider, false).unwrap();
            assert_eq!(uri.to_string(), expected, "{base} {asked}");
        };
        check("https://x.example/v1", "/one/v1/responses?a", "/v1/responses?a");
        check("https://x.example/v1/", "/one/responses", "/v1/responses");
        check("https://x.example", "/one/v1/responses", "/v1/responses");
        check("https://x.example/api/v1", "/one/v1/chat/completions", "/api/v1/chat/completions");
        check("https://x.example/v1beta/openai", "/one/v1/models", "/v1beta/openai/models");
        check("https://x.example/v1", "/one/v1", "/v1");
        check("https://x.example/v1", "/one/v10/x", "/v1/v10/x");
    }

    #[test]
    fn files_are_sent_through_the_gateway_or_not_at_all() {
        let check = |address: &'static str, expected: Option<&str>| {
            let (mut head, ()) = http::Response::new(()).into_parts();
            head.headers.insert(&UPLOADS[0], HeaderValue::from_static(address));
            let host = HeaderValue::from_static("127.0.0.1:7080");
            let done =
                incoming(&mut head, &provider("https://x.example"), &Grant::nothing(), Some(&host));
            assert_eq!(done.is_ok(), expected.is_some(), "{address}");
            if let Some(expected) = expected {
                assert_eq!(head.headers[&UPLOADS[0]], expected);
            }
        };
        check(
            "https://x.example/upload/v1beta/files?upload_id=a&key=secret",
            Some("http://127.0.0.1:7080/one/upload/v1beta/files?upload_id=a"),
        );
        check("https://elsewhere.example/upload", None);
    }

    #[test]
    fn locations_lead_through_the_gateway_or_nowhere() {
        let check = |location: &str, expected: Option<&str>| {
            let provider = provider("https://x.example/base");
            assert_eq!(within(location, &provider).as_deref(), expected, "{location}");
        };
        check("https://x.example/base/v2?a=b", Some("/one/v2?a=b"));
        check("/base/v2", Some("/one/v2"));
        check("/elsewhere", None);
        check("https://x.example/based/v2", None);
        check("http://x.example/base/v2", None);
        check("https://evil.example/base/v2", None);
        check("//evil.example/base/v2", None);
        check("v2", None);
    }
}
