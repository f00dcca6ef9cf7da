//! Requests through the broker, with a keeper that has one credential.

use std::sync::Mutex;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Body as _, Frame};
use proptest::prelude::*;
use zeroize::Zeroizing;

use super::{body::Replace, exchange::WHOLE, *};
use crate::{
    gateway::Secret,
    policy::Binding,
    rules::{Rule, RuleSet},
};

const VALUE: &str = "ghp_the+real/one&only\"1";

#[derive(Debug)]
struct House {
    placeholders: Arc<Placeholders>,
    withheld: Option<&'static str>,
    told: Mutex<Vec<What>>,
}

impl Keeper for House {
    fn placeholders(&self) -> Option<Arc<Placeholders>> {
        Some(Arc::clone(&self.placeholders))
    }

    fn open(&self, _: WorkspaceId, _: ConnectionId) -> Opening {
        let opened = match self.withheld {
            None => Ok(Arc::new(Secret::new(VALUE.to_owned()))),
            Some(why) => Err(Withheld { why: why.to_owned(), mend: "Wait.".to_owned() }),
        };
        Box::pin(std::future::ready(opened))
    }

    fn tell(&self, told: Told) {
        let text = format!("{told:?}");
        assert!(!text.contains(VALUE), "{text}");
        self.told.lock().unwrap().push(told.what);
    }
}

/// A workspace with one credential.
struct Stage {
    house: Arc<House>,
    workspace: WorkspaceId,
    placeholder: Arc<str>,
    policy: Policy,
}

fn stage(places: &[&str], withheld: Option<&'static str>) -> Stage {
    let placeholders = Arc::new(Placeholders::new(Zeroizing::new([9; 32])));
    let (workspace, connection) = (WorkspaceId::new(), ConnectionId::new());
    let shape = Shape { prefix: "ghp_", length: 40 };
    let placeholder: Arc<str> = placeholders.make(workspace, connection, shape).into();
    let mut rule = Rule::new("c", "api.example.com".parse().unwrap(), [443].as_slice().into());
    rule.methods =
        vec!["GET".to_owned().try_into().unwrap(), "POST".to_owned().try_into().unwrap()];
    rule.paths = vec!["/v1/*".parse().unwrap()];
    let binding = Binding {
        connection,
        name: "github".into(),
        goes: vec![rule],
        places: places.iter().map(|place| place.parse().unwrap()).collect(),
        placeholder: Arc::clone(&placeholder),
        is_always: false,
        may_be_plain: false,
    };
    let policy = Policy::new(RuleSet::default(), vec![Arc::new(binding)]);
    let house = House { placeholders, withheld, told: Mutex::default() };
    Stage { house: Arc::new(house), workspace, placeholder, policy }
}

/// What came out: the request, and what its answer goes through.
type Sent = (Request<Bytes>, Echo);

fn boxed(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never| match never {}).boxed_unsync()
}

impl Stage {
    async fn send_as(
        &self,
        leave: Leave<'_>,
        host: &str,
        request: Request<Body>,
    ) -> Result<Sent, Refusal> {
        let broker = Exchange::new(Arc::clone(&self.house) as Arc<dyn Keeper>);
        let target = Target { host: host.parse().unwrap(), port: 443 };
        let (workspace, policy, scheme) = (self.workspace, &self.policy, Scheme::Https);
        let call = Call { workspace, policy, target: &target, scheme, leave };
        let (mut head, body) = request.into_parts();
        let prepared = broker.prepare(call, &mut head, body).await?;
        broker.answered(call, &prepared.used, StatusCode::OK);
        let hint = prepared.body.size_hint().exact();
        match prepared.body.collect().await {
            Ok(body) => {
                let bytes = body.to_bytes();
                assert!(hint.is_none_or(|hint| hint == bytes.len() as u64), "{hint:?}");
                Ok((Request::from_parts(head, bytes), prepared.echo))
            }
            Err(error) => Err(*error.downcast::<Refusal>().unwrap()),
        }
    }

    async fn send_body(&self, host: &str, body: Body) -> Result<Sent, Refusal> {
        let request = Request::post("https://x/v1/x").body(body).unwrap();
        self.send_as(Leave::Rule(&"r".into()), host, request).await
    }

    async fn send(&self, host: &str, request: http::request::Builder) -> Result<Sent, Refusal> {
        self.send_as(Leave::Rule(&"r".into()), host, request.body(boxed("")).unwrap()).await
    }

    fn told(&self) -> Vec<What> {
        std::mem::take(&mut *self.house.told.lock().unwrap())
    }
}

fn get(path: &str) -> http::request::Builder {
    Request::get(format!("https://x{path}"))
}

#[tokio::test]
async fn a_placeholder_becomes_its_value_where_it_is_bound_and_the_answer_is_painted_over() {
    let stage = stage(&["bearer", "basic", "query:key"], None);
    let bearer = format!("Bearer {}", stage.placeholder);
    let (sent, echo) = stage
        .send("api.example.com", get("/v1/x?a=1").header("authorization", &bearer))
        .await
        .unwrap();
    assert_eq!(sent.headers()["authorization"], format!("Bearer {VALUE}"));
    assert!(!format!("{:?}", sent.headers()).contains(VALUE));
    assert_eq!(sent.headers()["accept-encoding"], "identity");
    assert_eq!(stage.told(), [What::Used]);
    let answer = Response::builder().header("x-echo", VALUE).body(()).unwrap();
    let (mut head, ()) = answer.into_parts();
    echo.head(&mut head);
    assert!(head.headers.is_empty());
    let body = echo.body(boxed(format!("you sent {VALUE}.")), None);
    let seen = body.collect().await.unwrap().to_bytes();
    assert_eq!(seen, format!("you sent {}.", "*".repeat(VALUE.len())));

    // In a basic header, which an answer may repeat as it was.
    let basic = format!("Basic {}", STANDARD.encode(format!("me:{}", stage.placeholder)));
    let (sent, echo) =
        stage.send("api.example.com", get("/v1/x").header("authorization", basic)).await.unwrap();
    let expected = STANDARD.encode(format!("me:{VALUE}"));
    assert_eq!(sent.headers()["authorization"], format!("Basic {expected}"));
    let seen = echo.body(boxed(expected.clone()), None).collect().await.unwrap().to_bytes();
    assert_eq!(seen, "*".repeat(expected.len()));

    let path = format!("/v1/x?key={}&b=2", stage.placeholder);
    let (sent, _) = stage.send("api.example.com", get(&path)).await.unwrap();
    assert_eq!(sent.uri(), "https://x/v1/x?key=ghp_the%2Breal%2Fone%26only%221&b=2");
}

#[tokio::test]
async fn an_answer_that_is_packed_all_the_same_is_unpacked_or_refused() {
    use std::io::Write as _;
    let stage = stage(&["bearer"], None);
    let bearer = format!("Bearer {}", stage.placeholder);
    for (encoding, can_be_unpacked) in [("gzip", true), ("br", false), ("utf-8", false)] {
        let (_, echo) = stage
            .send("api.example.com", get("/v1/x").header("authorization", &bearer))
            .await
            .unwrap();
        let answer = Response::builder().header("content-encoding", encoding);
        let (mut head, ()) = answer.header("content-length", "99").body(()).unwrap().into_parts();
        let packing = echo.packing(&mut head);
        if encoding == "br" {
            assert_eq!(packing, Err("br".to_owned()));
            continue;
        }
        assert_eq!(head.headers.is_empty(), can_be_unpacked);
        let text = format!("you sent {VALUE}.");
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text.as_bytes()).unwrap();
        let sent = if can_be_unpacked { gzip.finish().unwrap() } else { text.into_bytes() };
        let body = Full::new(Bytes::from(sent)).map_err(|never| match never {}).boxed_unsync();
        let body = echo.body(body, packing.unwrap());
        let seen = body.collect().await.unwrap().to_bytes();
        assert_eq!(seen, format!("you sent {}.", "*".repeat(VALUE.len())));
    }
}

#[tokio::test]
async fn a_placeholder_anywhere_else_is_refused_and_told() {
    let stage = stage(&["bearer"], None);
    let placeholder = &*stage.placeholder;
    let bearer = format!("Bearer {placeholder}");
    let refused = async |host: &str, request: http::request::Builder, says: &str| {
        let refusal = stage.send(host, request).await.unwrap_err();
        assert!(refusal.to_string().contains(says), "{refusal}");
        assert_eq!(stage.told(), [What::Misplaced(refusal.to_string())]);
        refusal
    };
    let with = |request: http::request::Builder| request.header("authorization", &bearer);
    let refusal =
        refused("evil.example", with(get("/v1/x")), "not bound to evil.example:443").await;
    assert!(refusal.mend.contains("show github"), "{refusal:?}");
    refused("api.example.com", with(get("/other")), "that method and path").await;
    refused("api.example.com", with(Request::delete("https://x/v1/x")), "that method and path")
        .await;
    refused("api.example.com", get("/v1/x").header("x-other", &bearer), "its headers").await;
    refused("api.example.com", get(&format!("/v1/{placeholder}")), "its path").await;
    refused("api.example.com", get(&format!("/v1/?k={placeholder}")), "its query").await;
    let basic = format!("Basic {}", STANDARD.encode(format!("me:{placeholder}")));
    refused("api.example.com", get("/v1/").header("authorization", basic), "its headers").await;
    // Another workspace's.
    let shape = Shape::default();
    let foreign = stage.house.placeholders.make(WorkspaceId::new(), ConnectionId::new(), shape);
    refused(
        "api.example.com",
        get("/v1/").header("x", foreign),
        "a credential stands in its headers",
    )
    .await;
    // In learn mode none is added.
    let request = with(get("/v1/x")).body(boxed("")).unwrap();
    let refusal = stage.send_as(Leave::Learned, "api.example.com", request).await.unwrap_err();
    assert!(refusal.to_string().contains("the workspace learns"), "{refusal}");
    stage.told();
    // In a body, whose place it is not.
    let body = boxed(format!("x={placeholder}"));
    let refusal = stage.send_body("api.example.com", body).await.unwrap_err();
    assert!(refusal.to_string().contains("its body"), "{refusal}");
    assert_eq!(stage.told(), [What::Misplaced(refusal.to_string())]);
    // What has none is left alone.
    let (sent, echo) = stage
        .send("evil.example", get("/x?byph_=1").header("accept-encoding", "gzip"))
        .await
        .unwrap();
    assert!(echo.is_empty() && sent.headers()["accept-encoding"] == "gzip");
    assert_eq!(stage.told(), []);
}

#[tokio::test]
async fn a_withheld_value_is_refused_with_its_reason() {
    let stage = stage(&["bearer", "body"], Some("it expired yesterday"));
    let bearer = format!("Bearer {}", stage.placeholder);
    let request = get("/v1/x").header("authorization", bearer);
    let refusal = stage.send("api.example.com", request).await.unwrap_err();
    assert_eq!(refusal.to_string(), "it expired yesterday");
    let body = boxed(stage.placeholder.to_string());
    let refusal = stage.send_body("api.example.com", body).await.unwrap_err();
    assert_eq!(refusal.to_string(), "it expired yesterday");
    assert_eq!(stage.told(), [(); 2].map(|()| What::Withheld("it expired yesterday".to_owned())));
    // Without it, the request is as good as any.
    stage.send("api.example.com", get("/v1/x")).await.unwrap();
}

#[tokio::test]
async fn a_request_that_brings_none_gets_it_where_that_is_wanted() {
    let mut stage = stage(&["basic:__token__"], None);
    let always = Binding { is_always: true, ..(*stage.policy.bindings()[0]).clone() };
    stage.policy = Policy::new(RuleSet::default(), vec![Arc::new(always)]);
    let (sent, _) = stage.send("api.example.com", get("/v1/x")).await.unwrap();
    let expected = format!("Basic {}", STANDARD.encode(format!("__token__:{VALUE}")));
    assert_eq!(sent.headers()["authorization"], expected);
    // Its own stays, and other hosts get none.
    let own = get("/v1/x").header("authorization", "Bearer own");
    let (sent, _) = stage.send("api.example.com", own).await.unwrap();
    assert_eq!(sent.headers()["authorization"], "Bearer own");
    let (sent, _) = stage.send("other.example", get("/v1/x")).await.unwrap();
    assert!(sent.headers().get("authorization").is_none());
}

fn in_pieces(text: &[u8], cuts: &[usize]) -> Body {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
    cuts.extend([0, text.len()]);
    cuts.sort_unstable();
    let pieces: Vec<_> = cuts
        .windows(2)
        .map(|cut| Ok(Frame::data(Bytes::copy_from_slice(&text[cut[0]..cut[1]]))))
        .collect();
    StreamBody::new(futures_util::stream::iter(pieces)).boxed_unsync()
}

/// A body that is larger than what is read whole, with the placeholder at its end.
#[tokio::test]
async fn a_large_body_goes_without_a_length_and_a_small_one_with_the_right_one() {
    let stage = stage(&["body"], None);
    for (size, kind, expected) in [
        (10, "application/json", VALUE.replace('"', "\\\"")),
        (WHOLE + 70_000, "text/plain", VALUE.to_owned()),
        (5, "application/x-www-form-urlencoded; charset=utf-8", place::in_query(VALUE).to_string()),
    ] {
        let text = format!("{}{}", "x".repeat(size), stage.placeholder);
        let cuts: Vec<usize> = (0..20).map(|n| n * 65_521 + 3).collect();
        let request = Request::post("https://x/v1/x")
            .header("content-type", kind)
            .header("content-length", text.len())
            .body(in_pieces(text.as_bytes(), &cuts))
            .unwrap();
        let rule = "r".into();
        let sent = stage.send_as(Leave::Rule(&rule), "api.example.com", request).await;
        let (sent, echo) = sent.unwrap();
        assert!(!echo.is_empty());
        assert_eq!(sent.body().len(), size + expected.len());
        assert!(sent.body().ends_with(expected.as_bytes()));
        let length =
            sent.headers().get("content-length").map(|length| length.to_str().unwrap().to_owned());
        let right = (size < WHOLE).then(|| sent.body().len().to_string());
        assert_eq!(length, right);
        assert_eq!(stage.told(), [What::Used]);
    }
}

proptest! {
    #[test]
    fn a_body_is_swapped_wherever_it_is_cut(
        filler in "[gb]?(hp_|yph0|ghp_byp){0,3}[a-z]{0,20}", copies in 0_usize..4,
        cuts in prop::collection::vec(0_usize..500, 0..12)
    ) {
        let stage = stage(&["body"], None);
        let make = |text: &str| format!("{filler}{}{filler}", format!("{text}{filler}").repeat(copies));
        let text = make(&stage.placeholder);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let body = || in_pieces(text.as_bytes(), &cuts);
        let (sent, _) = runtime.block_on(stage.send_body("api.example.com", body())).unwrap();
        prop_assert_eq!(std::str::from_utf8(sent.body()).unwrap(), make(VALUE));
        // In a body for somebody else it is stopped.
        let sent = runtime.block_on(stage.send_body("b.example", body()));
        prop_assert_eq!(sent.is_err(), copies > 0);
    }

    /// The same without reading it first.
    #[test]
    fn pieces_are_replaced_as_they_come(
        filler in "[gb]?(hp_|yph0|ghp_byp){0,3}[a-z]{0,20}", copies in 0_usize..4,
        cuts in prop::collection::vec(0_usize..500, 0..12)
    ) {
        let placeholder = "ghp_byph0ghp_byph1";
        let make = |text: &str| format!("{filler}{}{filler}", format!("{text}{filler}").repeat(copies));
        let text = make(placeholder);
        let told = Told {
            workspace: WorkspaceId::new(),
            host: String::new(),
            port: 0,
            method: String::new(),
            connection: None,
            what: What::Used,
        };
        let value = Zeroizing::new(VALUE.to_owned());
        let mut replace = Replace::new(placeholder.as_bytes(), Ok(value), told);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let mut out = Vec::new();
        for cut in cuts.windows(2) {
            let piece = Bytes::copy_from_slice(&text.as_bytes()[cut[0]..cut[1]]);
            out.extend(replace.pass(piece).unwrap());
            prop_assert!(replace.held.len() < placeholder.len());
        }
        out.extend(replace.rest());
        prop_assert_eq!(String::from_utf8(out).unwrap(), make(VALUE));
        prop_assert_eq!(replace.is_used, copies > 0);
    }
}
