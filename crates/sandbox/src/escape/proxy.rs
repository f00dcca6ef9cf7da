//! The proxy: getting it to dial what it must not, or to take one request for another.

use std::{io::Write as _, net::SocketAddr};

use super::{Attack, Context, Finding, attack, http, worst};

pub(super) const ATTACKS: &[Attack] = &[
    attack("tunnel-to-host", "Asks for a tunnel to a port of the host", |c| {
        worst(
            c.bait
                .host
                .tcp
                .iter()
                .map(|address| (address.to_string(), tunnel(c, &address.to_string()))),
        )
    }),
    attack("tunnel-to-names-of-host", "The same by names that lead to the host", |c| {
        let names = [
            "localhost",
            "LOCALHOST",
            "localhost.",
            "ip6-localhost",
            "localtest.me",
            "127.0.0.1.nip.io",
        ];
        worst(names.map(|name| (name.to_owned(), tunnel(c, &format!("{name}:{}", port(c))))))
    }),
    attack(
        "allowed-name-of-host",
        "Asks for a name that the rules allow and that leads to the host",
        |c| {
            let (target, path) = (format!("localhost:{}", port(c)), http::path(c));
            let head = format!(
                "GET http://{target}{path} HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n"
            );
            worst([
                ("a tunnel".to_owned(), tunnel(c, &target)),
                ("a page".to_owned(), sent(c, head.as_bytes())),
            ])
        },
    ),
    attack("tunnel-to-spellings", "The same by numbers in other spellings", |c| {
        let spellings = [
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "127.1",
            "127.0.0.1.",
            "0",
            "0.0.0.0",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[64:ff9b::7f00:1]",
            "[2002:7f00:1::]",
            "%31%32%37.0.0.1",
            "①②⑦.0.0.1",
        ];
        worst(spellings.map(|host| (host.to_owned(), tunnel(c, &format!("{host}:{}", port(c))))))
    }),
    attack("tunnel-to-server", "Asks for a tunnel to Boatyard's own server", |c| {
        match c.bait.server {
            Some(address) => tunnel(c, &address.to_string()),
            None => Finding::blocked("there is none"),
        }
    }),
    attack("tunnel-to-metadata", "Asks for a tunnel to metadata services", |c| {
        let targets = [
            "169.254.169.254:80",
            "metadata.google.internal:80",
            "[fd00:ec2::254]:80",
            "168.63.129.16:80",
            "100.100.100.200:80",
            "[::ffff:169.254.169.254]:80",
        ];
        worst(targets.map(|target| (target.to_owned(), tunnel(c, target))))
    }),
    attack("tunnel-to-private-network", "Asks for a tunnel into private networks", |c| {
        let targets = [
            "10.0.0.1:443",
            "172.17.0.1:443",
            "192.168.1.1:443",
            "[fe80::1]:443",
            "100.64.0.1:443",
        ];
        worst(targets.map(|target| (target.to_owned(), tunnel(c, target))))
    }),
    attack("tunnel-to-unlisted-host", "Asks for a tunnel to hosts that no rule names", |c| {
        let targets =
            ["example.com:443", "pastebin.com:443", "transfer.sh:443", "xn--pypi-xyz.org:443"];
        worst(targets.map(|target| (target.to_owned(), tunnel(c, target))))
    }),
    attack("tunnel-with-user", "Puts an allowed host before the real one", |c| {
        let bait = bait(c);
        let targets = [
            format!("pypi.org:443@{bait}"),
            format!("pypi.org@{bait}"),
            format!("pypi.org#@{bait}"),
            format!("{bait}#pypi.org:443"),
            format!("{bait}/pypi.org:443"),
            format!("{bait}?pypi.org:443"),
        ];
        worst(targets.map(|target| (target.clone(), tunnel(c, &target))))
    }),
    attack("tunnel-to-suffix", "Asks for hosts that end or begin like an allowed one", |c| {
        let targets = [
            "evilpypi.org:443",
            "pypi.org.evil.example:443",
            "pypi.org%00.evil.example:443",
            "pypi.org\t.evil.example:443",
        ];
        worst(targets.map(|target| (target.to_owned(), tunnel(c, target))))
    }),
    attack("tunnel-to-other-ports", "Asks for other ports of allowed hosts", |c| {
        let targets =
            ["pypi.org:22", "pypi.org:25", "pypi.org:0", "pypi.org:99999", "pypi.org:443:22"];
        worst(targets.map(|target| (target.to_owned(), tunnel(c, target))))
    }),
    attack(
        "other-name-in-tunnel",
        "Opens a tunnel to an allowed host and asks TLS for another",
        |c| in_tunnel(c, &hello(Some("evil.example.com"))),
    ),
    attack(
        "no-name-in-tunnel",
        "Opens a tunnel and breaks TLS off in the middle of its greeting",
        |c| {
            let mut broken = hello(Some("evil.example.com"));
            // A length that says more than there is, and one that says less.
            broken[3] = 0xff;
            in_tunnel(c, &broken)
        },
    ),
    attack(
        "full-address-to-host",
        "Asks the proxy for a page of the host by its full address",
        |c| {
            worst(c.bait.host.tcp.iter().map(|address| {
            let path = http::path(c);
            let head = format!("GET http://{address}{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
            (address.to_string(), sent(c, head.as_bytes()))
        }))
        },
    ),
    attack("host-header", "Asks for an allowed host and names another in the Host header", |c| {
        let (house, bait, path) = (house(c), bait(c), http::path(c));
        worst([
            ("Host", format!("GET http://{house}/open{path} HTTP/1.1\r\nHost: {bait}\r\n\r\n")),
            ("two of them", format!("GET http://{house}/open{path} HTTP/1.1\r\nHost: {house}\r\nHost: {bait}\r\n\r\n")),
            ("only Host", format!("GET {path} HTTP/1.1\r\nHost: {bait}\r\nConnection: close\r\n\r\n")),
            ("X-Forwarded-Host", format!("GET http://{house}/open{path} HTTP/1.1\r\nHost: {house}\r\nX-Forwarded-Host: {bait}\r\nX-Original-URL: /closed{path}\r\nForwarded: host={bait}\r\nConnection: close\r\n\r\n")),
        ].map(|(name, head)| (name.to_owned(), sent(c, head.as_bytes()))))
    }),
    attack("closed-path", "Asks an allowed host for a path that no rule allows", |c| {
        let (house, path) = (house(c), http::path(c));
        let head = format!(
            "GET http://{house}/closed{path} HTTP/1.1\r\nHost: {house}\r\nConnection: close\r\n\r\n"
        );
        sent(c, head.as_bytes())
    }),
    attack(
        "closed-path-by-spelling",
        "Writes a path so that the host reads another than the rule",
        |c| {
            let (house, path) = (house(c), http::path(c));
            let spellings = [
                "/open/../closed",
                "/open/%2e%2e/closed",
                "/open/..%2fclosed",
                "/open//../closed",
                "/open/..;/closed",
                "/open\\..\\closed",
                "/open/.%2e/closed",
                "/%63losed",
                "//closed",
                "/open/%252e%252e/closed",
                "/open/./../closed",
            ];
            worst(spellings.map(|spelling| {
            let head = format!("GET http://{house}{spelling}{path} HTTP/1.1\r\nHost: {house}\r\nConnection: close\r\n\r\n");
            (spelling.to_owned(), sent(c, head.as_bytes()))
        }))
        },
    ),
    attack("closed-method", "Uses a method that no rule allows, also by a header", |c| {
        let (house, path) = (house(c), http::path(c));
        worst(["PUT", "POST", "DELETE", "PATCH", "get", "G E T", "PURGE"].map(|method| {
            let head = format!("{method} http://{house}/closed{path} HTTP/1.1\r\nHost: {house}\r\nContent-Length: 0\r\nX-HTTP-Method-Override: GET\r\nConnection: close\r\n\r\n");
            (method.to_owned(), sent(c, head.as_bytes()))
        }))
    }),
    attack(
        "smuggle-by-lengths",
        "Hides a request in the body of another, by lengths that differ",
        |c| {
            let (house, hidden) = (house(c), hidden(c));
            let length = hidden.len();
            let start = format!("POST http://{house}/open HTTP/1.1\r\nHost: {house}\r\n");
            worst(
                [
                    (
                        "two lengths",
                        format!(
                            "{start}Content-Length: 0\r\nContent-Length: {length}\r\n\r\n{hidden}"
                        ),
                    ),
                    ("one with a plus", format!("{start}Content-Length: +0\r\n\r\n{hidden}")),
                    ("a list", format!("{start}Content-Length: 0, {length}\r\n\r\n{hidden}")),
                    ("a negative one", format!("{start}Content-Length: -1\r\n\r\n{hidden}")),
                    ("none", format!("{start}Content-Length:\r\n\r\n{hidden}")),
                ]
                .map(|(name, bytes)| (name.to_owned(), sent(c, bytes.as_bytes()))),
            )
        },
    ),
    attack("smuggle-by-chunks", "Hides a request in the body of another, by chunks", |c| {
        let (house, hidden) = (house(c), hidden(c));
        let start = format!("POST http://{house}/open HTTP/1.1\r\nHost: {house}\r\n");
        worst([
            ("both", format!("{start}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}")),
            ("unknown coding", format!("{start}Transfer-Encoding: xchunked\r\nContent-Length: 0\r\n\r\n{hidden}")),
            ("with a tab", format!("{start}Transfer-Encoding:\tchunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n{hidden}")),
            ("a space before the colon", format!("{start}Transfer-Encoding : chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n{hidden}")),
            ("a long size", format!("{start}Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff0\r\n\r\n{hidden}")),
        ].map(|(name, bytes)| (name.to_owned(), sent(c, bytes.as_bytes()))))
    }),
    attack("inject-headers", "Puts line breaks into what becomes a request line or header", |c| {
        let (house, hidden) = (house(c), hidden(c));
        worst([
            ("in the path", format!("GET http://{house}/open HTTP/1.1\r\nHost: {house}\r\n\r\n{hidden} HTTP/1.1\r\n\r\n")),
            ("bare line feeds", format!("GET http://{house}/open HTTP/1.1\nHost: {house}\n\n{hidden}")),
            ("folded", format!("GET http://{house}/open HTTP/1.1\r\nHost: {house}\r\nX: a\r\n {hidden}")),
            ("carriage returns", format!("GET http://{house}/open HTTP/1.1\r\nHost: {house}\r\nX: a\r{hidden}")),
            ("zero bytes", format!("GET http://{house}/open\0/closed HTTP/1.1\r\nHost: {house}\r\n\r\n")),
        ].map(|(name, bytes)| (name.to_owned(), sent(c, bytes.as_bytes()))))
    }),
    attack("second-request", "Sends an allowed request and a forbidden one behind it", |c| {
        let house = house(c);
        let bytes =
            format!("GET http://{house}/open HTTP/1.1\r\nHost: {house}\r\n\r\n{}", hidden(c));
        sent(c, bytes.as_bytes())
    }),
    attack("upgrade", "Has a request become another protocol, whose bytes nobody judges", |c| {
        let (house, path) = (house(c), http::path(c));
        worst(["websocket", "h2c", "TLS/1.0"].map(|protocol| {
            let head = format!("GET http://{house}/closed{path} HTTP/1.1\r\nHost: {house}\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: {protocol}\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
            (protocol.to_owned(), sent(c, head.as_bytes()))
        }))
    }),
    attack("redirect", "Has an allowed host send the proxy to a forbidden one", |c| {
        let house = house(c);
        let head = format!(
            "GET http://{house}/open/redirect{} HTTP/1.1\r\nHost: {house}\r\nConnection: close\r\n\r\n",
            http::path(c)
        );
        sent(c, head.as_bytes())
    }),
    attack("other-schemes", "Asks the proxy for files and by other protocols", |c| {
        let bait = bait(c);
        let file = c.bait.host.file.display();
        let targets = [
            format!("file://{file}"),
            format!("file:///{file}"),
            format!("gopher://{bait}/_GET%20/"),
            format!("ftp://{bait}/"),
            format!("unix:{}", c.bait.host.socket.display()),
            format!("http+unix://{}", c.bait.host.socket.display()),
            format!("dict://{bait}/"),
        ];
        worst(targets.map(|target| {
            let head =
                format!("GET {target} HTTP/1.1\r\nHost: {bait}\r\nConnection: close\r\n\r\n");
            (target, sent(c, head.as_bytes()))
        }))
    }),
    attack("proxy-of-others", "Says that it is another workspace, or the machine itself", |c| {
        let bait = bait(c);
        let path = http::path(c);
        let head = format!(
            "GET http://{bait}{path} HTTP/1.1\r\nHost: {bait}\r\nX-Forwarded-For: 127.0.0.1\r\nX-Real-IP: 127.0.0.1\r\nX-Boatyard-Workspace: ws_00000000000000000000000000\r\nProxy-Authorization: Basic cm9vdDpyb290\r\nConnection: close\r\n\r\n"
        );
        sent(c, head.as_bytes())
    }),
    attack("no-http-to-proxy", "Speaks SOCKS, HTTP/2 and TLS to the proxy", |c| {
        let Some(SocketAddr::V4(bait)) = c.bait.host.tcp.first().copied() else {
            return Finding::skipped("nothing is laid out");
        };
        let port = bait.port().to_be_bytes();
        let socks4 = [&[4u8, 1][..], &port[..], &bait.ip().octets()[..], &[0]].concat();
        let socks5 = [&[5u8, 1, 0, 5, 1, 0, 1][..], &bait.ip().octets()[..], &port[..]].concat();
        let http2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
        worst(
            [
                ("SOCKS 4", socks4),
                ("SOCKS 5", socks5),
                ("HTTP/2", http2),
                ("TLS", hello(Some("localhost"))),
            ]
            .map(|(name, mut bytes)| {
                bytes.extend(http::get(c, &bait.to_string()));
                (name.to_owned(), sent(c, &bytes))
            }),
        )
    }),
];

/// A port of the host.
fn bait(c: &Context<'_>) -> String {
    c.bait.host.tcp.first().map_or_else(|| "127.0.0.1:9".to_owned(), ToString::to_string)
}

fn port(c: &Context<'_>) -> u16 {
    c.bait.host.tcp.first().map_or(9, SocketAddr::port)
}

/// A host that is let through in part; where there is none, one that is not.
fn house(c: &Context<'_>) -> String {
    c.bait.house.map_or_else(|| bait(c), |house| house.to_string())
}

/// A request for what is closed.
fn hidden(c: &Context<'_>) -> String {
    let house = house(c);
    format!(
        "GET http://{house}/closed{} HTTP/1.1\r\nHost: {house}\r\nConnection: close\r\n\r\n",
        http::path(c)
    )
}

/// Sends bytes to the proxy. What the house answers to what is allowed is no escape: the token is.
fn sent(c: &Context<'_>, bytes: &[u8]) -> Finding {
    http::judge_by_token(c, &http::ask(c.bait.proxy, bytes))
}

/// Asks for a tunnel that there must not be, and says something in it.
pub(super) fn tunnel(c: &Context<'_>, target: &str) -> Finding {
    let answer = (|| {
        let mut stream = http::connect(c.bait.proxy)?;
        stream
            .write_all(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes())?;
        let head = http::read(&mut stream, |bytes| bytes.windows(4).any(|w| w == b"\r\n\r\n"))?;
        if http::status(&head) == Some(200) {
            stream.write_all(&http::get(c, target))?;
            // Whatever comes: it is open.
            let _ = http::read(&mut stream, |_| false);
        }
        Ok(head)
    })();
    match &answer {
        Ok(head) if http::status(head) == Some(200) => Finding::escaped("the tunnel was opened"),
        answer => http::judge_by_token(c, answer),
    }
}

/// Opens a tunnel to the host that is allowed and sends bytes that must not pass.
fn in_tunnel(c: &Context<'_>, bytes: &[u8]) -> Finding {
    if c.bait.house.is_none() {
        return Finding::blocked("no host is allowed");
    }
    let house = house(c);
    let answer = (|| {
        let mut stream = http::connect(c.bait.proxy)?;
        stream
            .write_all(format!("CONNECT {house} HTTP/1.1\r\nHost: {house}\r\n\r\n").as_bytes())?;
        let head = http::read(&mut stream, |bytes| bytes.windows(4).any(|w| w == b"\r\n\r\n"))?;
        if http::status(&head) != Some(200) {
            return Ok(head);
        }
        stream.write_all(bytes)?;
        http::read(&mut stream, |_| false)
    })();
    match &answer {
        // The house answers HTTP to whatever it gets.
        Ok(bytes) if String::from_utf8_lossy(bytes).contains("house:") => {
            Finding::escaped("it passed")
        }
        answer => http::judge_by_token(c, answer),
    }
}

/// The first message of TLS, asking for `name`.
pub(super) fn hello(name: Option<&str>) -> Vec<u8> {
    let mut extensions = Vec::new();
    if let Some(name) = name {
        let length = name.len() as u16;
        extensions.extend([0, 0]);
        extensions.extend((length + 5).to_be_bytes());
        extensions.extend((length + 3).to_be_bytes());
        extensions.push(0);
        extensions.extend(length.to_be_bytes());
        extensions.extend(name.as_bytes());
    }
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    // No session, one cipher, no compression.
    body.extend([0, 0, 2, 0x13, 1, 1, 0]);
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    let length = body.len();
    let mut message = vec![1, 0, (length >> 8) as u8, length as u8];
    message.extend(body);
    let mut record = vec![22, 3, 1];
    record.extend((message.len() as u16).to_be_bytes());
    record.extend(message);
    record
}
