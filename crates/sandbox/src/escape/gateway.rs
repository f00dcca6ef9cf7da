//! The gateway to models: its key, other destinations, other providers.
//!
//! Where the host has laid out a house, a provider leads to it whose key is the token: an answer
//! with the token shows the key, or what is closed.

use super::{Attack, Context, Finding, attack, http, worst};

pub(super) const ATTACKS: &[Attack] = &[
    attack("key-in-answer", "Has the provider say the key that the gateway added", |c| {
        worst(
            ["/echo", "/v1/echo", "/echo?in=header", "/echo?in=chunks"].map(|path| {
                (path.to_owned(), request(c, "POST", &format!("/anthropic{path}"), ""))
            }),
        )
    }),
    attack("key-by-trace", "Has the request sent back as it arrived", |c| {
        worst(["TRACE", "TRACK", "DEBUG"].map(|method| {
            (method.to_owned(), request(c, method, "/anthropic/echo", "Max-Forwards: 0\r\n"))
        }))
    }),
    attack("key-by-redirect", "Has the provider send the gateway elsewhere, with the key", |c| {
        request(c, "GET", &format!("/anthropic/redirect{}", http::path(c)), "")
    }),
    attack("credentials-by-gateway", "Asks a provider for new credentials", |c| {
        let paths = [
            "/anthropic/v1/oauth/token",
            "/anthropic/api/oauth/claude_cli/create_api_key",
            "/anthropic/v1/organizations/api_keys",
        ];
        worst(paths.map(|path| (path.to_owned(), request(c, "POST", path, ""))))
    }),
    attack(
        "key-of-other-providers",
        "Asks for every provider that there may be, also by other spellings",
        |c| {
            let names = [
                "openai",
                "google",
                "bedrock",
                "vertex",
                "ANTHROPIC",
                "%61nthropic",
                "anthropic%00",
                "",
                ".",
                "..",
                "git",
                "api",
            ];
            worst(
                names
                    .map(|name| (name.to_owned(), request(c, "GET", &format!("/{name}/echo"), ""))),
            )
        },
    ),
    attack("gateway-tunnel", "Asks the gateway for a tunnel to the host", |c| {
        worst(c.bait.host.tcp.iter().map(|address| {
            let head = format!("CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n\r\n");
            (address.to_string(), sent(c, head.as_bytes()))
        }))
    }),
    attack("gateway-full-address", "Asks the gateway for a page of the host", |c| {
        worst(c.bait.host.tcp.iter().flat_map(|address| {
            let path = http::path(c);
            [
                format!("GET http://{address}{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"),
                format!("GET //{address}{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"),
                format!("GET /anthropic@{address}{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"),
            ]
            .map(|head| (address.to_string(), sent(c, head.as_bytes())))
        }))
    }),
    attack("gateway-other-host", "Has the gateway dial what a header names", |c| {
        let bait = c.bait.host.tcp.first().map_or_else(String::new, ToString::to_string);
        let headers = format!(
            "X-Forwarded-Host: {bait}\r\nForwarded: host={bait}\r\nX-Upstream: http://{bait}\r\nX-Base-Url: http://{bait}\r\n"
        );
        request(c, "GET", &format!("/anthropic{}", http::path(c)), &headers)
    }),
    attack("gateway-climb", "Climbs out of the provider's path", |c| {
        let spellings = [
            "/anthropic/../closed",
            "/anthropic/%2e%2e/closed",
            "/anthropic/..%2f..%2fclosed",
            "/anthropic//closed",
            "/anthropic/..;/closed",
            "/anthropic/\\..\\closed",
            "/anthropic/%252e%252e/closed",
        ];
        worst(spellings.map(|path| {
            (path.to_owned(), request(c, "GET", &format!("{path}{}", http::path(c)), ""))
        }))
    }),
    attack("gateway-smuggle", "Hides a request behind another", |c| {
        let hidden = format!("GET /closed{} HTTP/1.1\r\nHost: x\r\n\r\n", http::path(c));
        let start = "POST /anthropic/open HTTP/1.1\r\nHost: x\r\n";
        worst([
            ("two lengths", format!("{start}Content-Length: 0\r\nContent-Length: {}\r\n\r\n{hidden}", hidden.len())),
            ("both", format!("{start}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}")),
            ("a header with a break", format!("{start}X: a\r\n\r\n{hidden}")),
        ].map(|(name, bytes)| (name.to_owned(), sent(c, bytes.as_bytes()))))
    }),
    attack("gateway-upgrade", "Has a request become a connection of its own", |c| {
        request(
            c,
            "GET",
            "/anthropic/echo",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        )
    }),
    attack(
        "session-in-path",
        "Says that it is another session, and climbs from there to keys and signatures",
        |c| {
            let other = "/s/ses_01JD5X8Z4J6Q0V9W3T7R2K1M5N";
            let paths = [
                "/anthropic/echo",
                "/anthropic/../closed",
                "/../anthropic/echo",
                "/s/ses_01JD5X8Z4J6Q0V9W3T7R2K1M5P/anthropic/echo",
                "/git/-/key",
                "/git/-/sign",
                "/../git/-/key",
                "/%67it/-/key",
            ];
            worst(paths.map(|path| {
                let path = format!("{other}{path}");
                let bytes = format!(
                    "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                );
                let answer = http::ask(c.bait.gateway, bytes.as_bytes());
                let finding = match &answer {
                    Ok(bytes) if String::from_utf8_lossy(bytes).contains("ssh-ed25519 ") => {
                        Finding::escaped("a key is said")
                    }
                    answer => http::judge_by_token(c, answer),
                };
                (path, finding)
            }))
        },
    ),
    attack("servers-interface", "Asks for the server's own interface at the gateway", |c| {
        worst(["/api/workspaces", "/api/connections", "/health", "/metrics", "/api/login"].map(
            |path| {
                let bytes =
                    format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
                let answer = http::ask(c.bait.gateway, bytes.as_bytes());
                let finding = match &answer {
                    Ok(bytes) if http::status(bytes) == Some(200) => {
                        Finding::escaped("it is answered")
                    }
                    answer => http::judge_by_token(c, answer),
                };
                (path.to_owned(), finding)
            },
        ))
    }),
    attack(
        "git-of-others",
        "Asks the git gateway for repositories that are not the workspace's",
        |c| {
            let paths = [
                "/git/github.com/torvalds/linux.git/info/refs?service=git-receive-pack",
                "/git/127.0.0.1/x.git/info/refs?service=git-upload-pack",
                "/git/github.com/../../etc/passwd",
                "/git/file:%2f%2f%2fetc/passwd.git/info/refs?service=git-upload-pack",
            ];
            worst(paths.map(|path| {
                let bytes =
                    format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
                let answer = http::ask(c.bait.gateway, bytes.as_bytes());
                let finding = match &answer {
                    Ok(bytes) if http::status(bytes) == Some(200) => {
                        Finding::escaped("it is answered")
                    }
                    answer => http::judge_by_token(c, answer),
                };
                (path.to_owned(), finding)
            }))
        },
    ),
    attack(
        "git-push-elsewhere",
        "Pushes to others' repositories and to references of others",
        |c| {
            let paths = [
                "/git/github.com/torvalds/linux.git/git-receive-pack",
                "/git/127.0.0.1/x.git/git-receive-pack",
                "/git/github.com/a/b.git/../../c/d.git/git-receive-pack",
            ];
            let names = ["refs/heads/main", "refs/tags/v1", "refs/heads/boatyard/../main"];
            worst(paths.into_iter().flat_map(|path| {
            names.map(|name| {
                let zero = "0".repeat(40);
                let line = format!("{zero} {} {name}\0report-status\n", "1".repeat(40));
                let body = format!("{:04x}{line}0000", line.len() + 4);
                let bytes = format!(
                    "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-git-receive-pack-request\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                );
                let answer = http::ask(c.bait.gateway, bytes.as_bytes());
                (format!("{path} {name}"), said_by_us(c, &answer))
            })
        }))
        },
    ),
    attack("git-sign-anything", "Has the server's key sign what is no commit of its own", |c| {
        let tree = "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n";
        let mallory = "Mallory <m@example.com> 1700000000 +0000";
        worst([
            ("text", "I owe you a boat\n".to_owned()),
            ("nothing", String::new()),
            ("an SSH request", "\0\0\0 session ssh-userauth publickey root".to_owned()),
            ("a commit by another", format!("{tree}author {mallory}\ncommitter {mallory}\n\nx\n")),
        ].map(|(name, body)| {
            let bytes = format!(
                "POST /git/-/sign HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            let answer = http::ask(c.bait.gateway, bytes.as_bytes());
            let finding = match &answer {
                Ok(bytes) if String::from_utf8_lossy(bytes).contains("SSH SIGNATURE") => {
                    Finding::escaped("it is signed")
                }
                answer => http::judge_by_token(c, answer),
            };
            (name.to_owned(), finding)
        }))
    }),
];

/// A push that is taken is an escape; a refusal may come in git's own words.
fn said_by_us(c: &Context<'_>, answer: &std::io::Result<Vec<u8>>) -> Finding {
    match answer {
        Ok(bytes) if String::from_utf8_lossy(bytes).contains("unpack ok") => {
            Finding::escaped("it is taken")
        }
        answer => http::judge_by_token(c, answer),
    }
}

fn request(c: &Context<'_>, method: &str, path: &str, headers: &str) -> Finding {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}Content-Length: 0\r\nConnection: close\r\n\r\n"
    );
    sent(c, head.as_bytes())
}

/// What a provider says is no escape; the token is.
fn sent(c: &Context<'_>, bytes: &[u8]) -> Finding {
    http::judge_by_token(c, &http::ask(c.bait.gateway, bytes))
}
