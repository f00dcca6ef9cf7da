//! Requests signed as AWS has it (Signature Version 4), for Bedrock.

use std::{
    fmt::Write as _,
    time::{SystemTime, UNIX_EPOCH},
};

use boatyard_model::Timestamp;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderName, HeaderValue, header, request};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::{Grant, NoGrant};
use crate::gateway::secret::Secret;

const SERVICE: &str = "bedrock";
const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// What requests are signed with.
pub(super) struct Keys {
    access: String,
    secret: Secret,
    session: Option<Secret>,
    region: String,
    service: &'static str,
}

#[derive(Deserialize)]
struct Document {
    #[serde(alias = "AccessKeyId", alias = "aws_access_key_id")]
    access_key_id: String,
    #[serde(alias = "SecretAccessKey", alias = "aws_secret_access_key")]
    secret_access_key: String,
    #[serde(alias = "SessionToken", alias = "aws_session_token")]
    session_token: Option<String>,
}

/// A grant of the material: a JSON document, or lines as in `~/.aws/credentials`.
pub(super) fn grant(material: &Secret, region: &str) -> Result<Grant, NoGrant> {
    let document = serde_json::from_str(material.expose()).ok().or_else(|| lines(material));
    let wrong = "it holds no access key of AWS: `aws_access_key_id` and `aws_secret_access_key`";
    let Document { access_key_id, secret_access_key, session_token } =
        document.ok_or_else(|| NoGrant(wrong.to_owned()))?;
    let secret = Secret::new(secret_access_key);
    let session = session_token.map(Secret::new);
    let is_plain = access_key_id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !is_plain || !secret.is_key() || !session.as_ref().is_none_or(Secret::is_key) {
        return Err(NoGrant(wrong.to_owned()));
    }
    let region = region.to_owned();
    Ok(Grant::aws(Keys { access: access_key_id, secret, session, region, service: SERVICE }))
}

fn lines(material: &Secret) -> Option<Document> {
    let value = |name: &str| {
        let lines = material.expose().lines().filter_map(|line| line.split_once('='));
        let mut values = lines.filter(|(key, _)| key.trim().eq_ignore_ascii_case(name));
        values.next().map(|(_, value)| value.trim().to_owned())
    };
    Some(Document {
        access_key_id: value("aws_access_key_id")?,
        secret_access_key: value("aws_secret_access_key")?,
        session_token: value("aws_session_token"),
    })
}

impl Keys {
    pub(super) fn session(&self) -> Option<&Secret> {
        self.session.as_ref()
    }

    /// Signs `host`, the type of the body, and AWS's own headers.
    pub(super) fn sign(&self, head: &mut request::Parts, body: &[u8], now: SystemTime) {
        let date = date(now);
        let headers = &mut head.headers;
        headers.remove(header::AUTHORIZATION);
        for (name, value) in
            [(DATE, Some(&*date)), (TOKEN, self.session.as_ref().map(Secret::expose))]
        {
            headers.remove(&name);
            if let Some(mut value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
                value.set_sensitive(name == TOKEN);
                headers.insert(name, value);
            }
        }
        let mut signed: Vec<(String, String)> = headers
            .iter()
            .filter(|(name, _)| {
                **name == header::HOST
                    || **name == header::CONTENT_TYPE
                    || name.as_str().starts_with("x-amz-")
            })
            .map(|(name, value)| {
                let value = String::from_utf8_lossy(value.as_bytes());
                let value: Vec<&str> = value.split_ascii_whitespace().collect();
                (name.as_str().to_owned(), value.join(" "))
            })
            .collect();
        signed.sort();
        let names: Vec<&str> = signed.iter().map(|(name, _)| name.as_str()).collect();
        let names = names.join(";");
        let mut canonical = format!(
            "{}\n{}\n{}\n",
            head.method,
            encoded(head.uri.path(), Slash::Stays),
            query(head.uri.query().unwrap_or_default())
        );
        for (name, value) in &signed {
            // Writing to a string can't fail.
            let _ = writeln!(canonical, "{name}:{value}");
        }
        let _ = write!(canonical, "\n{names}\n{}", hex(&Sha256::digest(body)));
        let day = &date[..8];
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let text =
            format!("{ALGORITHM}\n{date}\n{scope}\n{}", hex(&Sha256::digest(canonical.as_bytes())));
        let mut key = mac(format!("AWS4{}", self.secret.expose()).as_bytes(), day.as_bytes());
        for part in [self.region.as_str(), self.service, "aws4_request"] {
            key = mac(&key, part.as_bytes());
        }
        let signature = hex(&mac(&key, text.as_bytes()));
        let value = format!(
            "{ALGORITHM} Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
            self.access
        );
        if let Ok(mut value) = HeaderValue::try_from(value) {
            value.set_sensitive(true);
            head.headers.insert(header::AUTHORIZATION, value);
        }
    }
}

/// `20261121T101112Z`
fn date(now: SystemTime) -> String {
    let millis = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let text = Timestamp(i64::try_from(millis).unwrap_or_default()).to_string();
    let text: String = text.split('.').next().unwrap_or_default().replace(['-', ':'], "");
    text + "Z"
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    match Hmac::<Sha256>::new_from_slice(key) {
        Ok(mac) => mac.chain_update(text).finalize().into_bytes().to_vec(),
        Err(_) => unreachable!("a key of any length is one"),
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Slash {
    Stays,
    IsEncoded,
}

/// As AWS encodes: all but what is unreserved. A path as it goes out is encoded once more.
fn encoded(text: &str, slash: Slash) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            b'/' if slash == Slash::Stays => out.push('/'),
            byte => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

fn query(query: &str) -> String {
    let decoded = |text: &str| {
        let bytes: Vec<u8> = percent_encoding::percent_decode_str(text).collect();
        encoded(&String::from_utf8_lossy(&bytes), Slash::IsEncoded)
    };
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decoded(name), decoded(value)))
        .collect();
    pairs.sort();
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn keys(session: Option<&str>) -> Keys {
        Keys {
            access: "AKIDEXAMPLE".to_owned(),
            secret: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned()),
            session: session.map(|text| Secret::new(text.to_owned())),
            region: "us-east-1".to_owned(),
            service: SERVICE,
        }
    }

    fn signed(keys: &Keys, path: &str, body: &[u8]) -> String {
        let request = http::Request::post(path)
            .header("host", "bedrock-runtime.us-east-1.amazonaws.com")
            .header("content-type", "application/json")
            .header("authorization", "Bearer placeholder");
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        // 2015-08-30T12:36:00Z
        keys.sign(&mut head, body, UNIX_EPOCH + Duration::from_secs(1_440_938_160));
        assert_eq!(head.headers[&DATE], "20150830T123600Z");
        head.headers[header::AUTHORIZATION].to_str().unwrap().to_owned()
    }

    #[test]
    fn a_signature_is_the_one_that_aws_makes() {
        let path = "/model/anthropic.claude-3-haiku-20240307-v1%3A0/invoke";
        let value = signed(&keys(None), path, b"{}");
        let begin = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/bedrock/aws4_request, SignedHeaders=content-type;host;x-amz-date, Signature=";
        assert!(value.starts_with(begin), "{value}");
        let with_token = signed(&keys(Some("token")), path, b"{}");
        assert!(with_token.contains("x-amz-date;x-amz-security-token"), "{with_token}");
        assert_ne!(signed(&keys(None), path, b"{ }"), value);
        assert_ne!(signed(&keys(None), "/model/other/invoke", b"{}"), value);
    }

    /// Vectors that AWS publishes (its Signature Version 4 test suite).
    #[test]
    fn requests_of_awss_own_test_suite_are_signed_as_there() {
        let keys = Keys { service: "service", ..keys(None) };
        let check = |method: &str, path: &str, form: Option<&str>, expected: &str| {
            let mut request = http::Request::builder()
                .method(method)
                .uri(path)
                .header("host", "example.amazonaws.com");
            if form.is_some() {
                request = request.header("content-type", "application/x-www-form-urlencoded");
            }
            let (mut head, ()) = request.body(()).unwrap().into_parts();
            let body = form.unwrap_or_default().as_bytes();
            keys.sign(&mut head, body, UNIX_EPOCH + Duration::from_secs(1_440_938_160));
            let value = head.headers[header::AUTHORIZATION].to_str().unwrap();
            let (_, signature) = value.split_once("Signature=").unwrap();
            assert_eq!(signature, expected, "{method} {path}");
        };
        // get-vanilla, post-vanilla, get-vanilla-query-order-key-case, post-x-www-form-urlencoded.
        let plain = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
        check("GET", "/", None, plain);
        let post = "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b";
        check("POST", "/", None, post);
        let query = "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500";
        check("GET", "/?Param2=value2&Param1=value1", None, query);
        let form = "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a";
        check("POST", "/", Some("Param1=value1"), form);
    }

    /// The steps by the example that AWS publishes of deriving a key.
    #[test]
    fn a_key_is_derived_as_aws_shows_it() {
        let mut key = mac(b"AWS4wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", b"20150830");
        for part in ["us-east-1", "iam", "aws4_request"] {
            key = mac(&key, part.as_bytes());
        }
        assert_eq!(hex(&key), "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9");
    }

    #[test]
    fn paths_are_encoded_twice_and_queries_sorted() {
        assert_eq!(encoded("/model/a%3Ab", Slash::Stays), "/model/a%253Ab");
        assert_eq!(query("b=2&a=%2F&a=1&c"), "a=%2F&a=1&b=2&c=");
        assert_eq!(query(""), "");
    }

    #[test]
    fn material_is_a_document_or_lines() {
        let read = |text: &str| grant(&Secret::new(text.to_owned()), "us-east-1");
        assert!(read(r#"{"access_key_id":"AK","secret_access_key":"s"}"#).is_ok());
        assert!(read("[default]\naws_access_key_id = AK\naws_secret_access_key=s\n").is_ok());
        assert!(read("[default]\naws_access_key_id = AK\n").is_err());
        assert!(read("hidden").is_err_and(|error| !error.0.contains("hidden")));
    }
}
