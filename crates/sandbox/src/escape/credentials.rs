//! Credentials: what a workspace has in their place, sent to where it does not belong.
//!
//! The host binds a credential, whose value is the token, to [`BOUND`] of the house. The house says
//! something to every request that reaches it: one with a placeholder in it, that is no answer to
//! give away a value, but was let through to where it must not go.

use std::io::Write as _;

use super::{Attack, Context, Finding, attack, http, worst};

/// Where the credential goes, and nowhere else: paths of the house.
pub const BOUND: &str = "/open/bound";
/// Where the house takes bodies.
const BODIES: &str = "/open/post";
/// What the house says first in each answer.
const HOUSE: &str = "house:";
/// What it says to a request with the credential's value.
const WITH_KEY: &str = "house: with the key";

pub(super) const ATTACKS: &[Attack] = &[
    attack("credential-where-bound", "Has its credential said back by where it goes", |c| {
        let Some(own) = own(c) else { return none() };
        let authorization = format!("Authorization: Bearer {own}\r\n");
        let first = http::ask(c.bait.proxy, &get(c, BOUND, &authorization));
        // Else nothing below means anything.
        match &first {
            Ok(bytes) if String::from_utf8_lossy(bytes).contains(WITH_KEY) => {}
            _ if c.bait.outside => {}
            Ok(bytes) => {
                let text = String::from_utf8_lossy(bytes);
                let said = text.lines().next().unwrap_or("nothing");
                return Finding::skipped(format!("it is not added where it should be: {said}"));
            }
            Err(error) => return Finding::skipped(error),
        }
        worst(["echo", "echo?in=header", "echo?in=chunks"].map(|path| {
            let request = get(c, &format!("{BOUND}/{path}"), &authorization);
            (path.to_owned(), http::judge_by_token(c, &http::ask(c.bait.proxy, &request)))
        }))
    }),
    attack("placeholder-to-other-paths", "Sends a placeholder to a path it is not for", |c| {
        let Some(own) = own(c) else { return none() };
        let authorization = format!("Authorization: Bearer {own}\r\n");
        let paths =
            ["/open", "/open/other", "/open/bound/../other", "/open/boundary-not", "/closed"];
        worst(paths.map(|path| (path.to_owned(), sent(c, &get(c, path, &authorization)))))
    }),
    attack("placeholder-in-headers", "Sends a placeholder in headers it is not for", |c| {
        let Some(own) = own(c) else { return none() };
        let basic = format!("Basic {}", base64(format!("x-access-token:{own}").as_bytes()));
        let lines = [
            format!("X-Api-Key: {own}"),
            format!("Cookie: session={own}"),
            format!("Referer: http://example.com/{own}"),
            format!("User-Agent: curl {own}"),
            format!("Authorization: {basic}"),
            format!("Authorization: Bearer x\r\nX-Second: {own}"),
        ];
        worst(lines.map(|line| {
            let name = line.split(':').next().unwrap_or_default().to_owned();
            (name, sent(c, &get(c, "/open/other", &format!("{line}\r\n"))))
        }))
    }),
    attack("placeholder-in-address", "Sends a placeholder in path and query", |c| {
        let Some(own) = own(c) else { return none() };
        let paths = [
            format!("/open/{own}"),
            format!("/open?key={own}"),
            format!("{BOUND}/{own}"),
            format!("{BOUND}?key={own}"),
        ];
        worst(paths.map(|path| (path.clone(), sent(c, &get(c, &path, "")))))
    }),
    attack("placeholder-in-body", "Sends a placeholder in a body, whole and in pieces", |c| {
        let Some(own) = own(c) else { return none() };
        let json = format!("{{\"note\": \"{own}\"}}");
        let (start, end) = json.split_at(json.len() / 2);
        let pieces =
            format!("{:x}\r\n{start}\r\n{:x}\r\n{end}\r\n0\r\n\r\n", start.len(), end.len());
        let house = house(c);
        let head = format!(
            "POST http://{house}{BODIES} HTTP/1.1\r\nHost: {house}\r\nConnection: close\r\nContent-Type: application/json\r\n"
        );
        worst(
            [
                ("whole", format!("{head}Content-Length: {}\r\n\r\n{json}", json.len())),
                ("in pieces", format!("{head}Transfer-Encoding: chunked\r\n\r\n{pieces}")),
            ]
            .map(|(name, bytes)| (name.to_owned(), sent(c, bytes.as_bytes()))),
        )
    }),
    attack("placeholder-by-tunnel", "Sends a placeholder through a tunnel", |c| {
        let Some(own) = own(c) else { return none() };
        let house = house(c);
        let line = format!("GET /open/other HTTP/1.1\r\nHost: {house}\r\nConnection: close\r\n");
        let request = format!("{line}X-Key: {own}\r\n\r\n");
        let answer = (|| {
            let mut stream = http::connect(c.bait.proxy)?;
            let connect = format!("CONNECT {house} HTTP/1.1\r\nHost: {house}\r\n\r\n");
            stream.write_all(connect.as_bytes())?;
            let head = http::read(&mut stream, |bytes| bytes.ends_with(b"\r\n\r\n"))?;
            if http::status(&head) == Some(200) {
                stream.write_all(request.as_bytes())?;
                return http::read(&mut stream, |_| false);
            }
            Ok(head)
        })();
        judge(c, &answer)
    }),
    attack("placeholder-of-others", "Uses the placeholder of another workspace", |c| {
        let Some(other) = c.bait.neighbours_placeholder.as_deref() else { return none() };
        worst([BOUND, "/open/other"].map(|path| {
            let authorization = format!("Authorization: Bearer {other}\r\n");
            (path.to_owned(), sent(c, &get(c, path, &authorization)))
        }))
    }),
];

fn own<'a>(c: &'a Context<'_>) -> Option<&'a str> {
    c.bait.placeholder.as_deref()
}

fn none() -> Finding {
    Finding::blocked("there is no credential")
}

fn house(c: &Context<'_>) -> String {
    c.bait.house.map_or_else(|| "127.0.0.1:9".to_owned(), |house| house.to_string())
}

fn get(c: &Context<'_>, path: &str, headers: &str) -> Vec<u8> {
    let house = house(c);
    format!(
        "GET http://{house}{path} HTTP/1.1\r\nHost: {house}\r\n{headers}Connection: close\r\n\r\n"
    )
    .into_bytes()
}

fn sent(c: &Context<'_>, request: &[u8]) -> Finding {
    judge(c, &http::ask(c.bait.proxy, request))
}

/// Whatever the house says, it was asked.
fn judge(c: &Context<'_>, answer: &std::io::Result<Vec<u8>>) -> Finding {
    match answer {
        Ok(bytes) if String::from_utf8_lossy(bytes).contains(HOUSE) => {
            Finding::escaped("it was let through")
        }
        answer => http::judge_by_token(c, answer),
    }
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for piece in bytes.chunks(3) {
        let bits =
            (0..3).fold(0, |bits, at| bits << 8 | usize::from(piece.get(at).copied().unwrap_or(0)));
        for at in 0..4 {
            let letter = LETTERS[bits >> (18 - 6 * at) & 63];
            text.push(if at <= piece.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn base64_is_everybodys() {
        let known =
            [("", ""), ("M", "TQ=="), ("Ma", "TWE="), ("Man", "TWFu"), ("user:pä", "dXNlcjpww6Q=")];
        for (text, coded) in known {
            assert_eq!(super::base64(text.as_bytes()), coded);
        }
    }
}
