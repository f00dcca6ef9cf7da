//! Credentials that are more than a key: subscriptions, clouds, and what is mended while it runs.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use boatyard_egress::gateway::{Api, Auth, Provider, Settings};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json as value};

use crate::{
    fixture::Fixture,
    stage::{Drawer, Stage, json},
};

const OLD: &str = "sk-ant-oat01-old-0123456789";
const NEW: &str = "sk-ant-oat01-new-0123456789";

fn millis(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

fn claude(access: &str, expires: SystemTime) -> String {
    let kept = value!({ "accessToken": access, "refreshToken": "refresh-1", "expiresAt": millis(expires), "scopes": ["x"] });
    value!({ "claudeAiOauth": kept }).to_string()
}

fn later() -> SystemTime {
    SystemTime::now() + Duration::from_secs(8 * 3600)
}

async fn fixture(api: Api, url: &str, drawer: &Drawer, auth: Auth, tokens: &Stage) -> Fixture {
    let token_url = Some(format!("{}/token", tokens.url()));
    let provider = Provider::new("one", api, url, drawer.credential(auth, token_url)).unwrap();
    Fixture::start(Settings::default(), vec![provider])
}

#[tokio::test]
async fn a_claude_subscription_goes_as_a_bearer_with_its_beta() {
    let mut stage = Stage::plays(vec![json("200 OK", "{}"); 2]).await;
    let tokens = Stage::plays(vec![]).await;
    let drawer = Drawer::with(OLD);
    let fixture = fixture(Api::Anthropic, &stage.url(), &drawer, Auth::Claude, &tokens).await;
    let headers = "anthropic-beta: claude-code-20250219\r\nauthorization: Bearer placeholder\r\n";
    fixture.ask("POST /one/v1/messages", headers, "{}").await;
    let asked = stage.asked().await;
    assert_eq!(asked.header("authorization"), Some(&*format!("Bearer {OLD}")));
    let betas = asked.header("anthropic-beta");
    assert_eq!(betas, Some("claude-code-20250219,oauth-2025-04-20"));
    assert_eq!(asked.header("x-api-key"), None);
    fixture.ask("POST /one/v1/messages", "anthropic-beta: oauth-2025-04-20\r\n", "{}").await;
    assert_eq!(stage.asked().await.header("anthropic-beta"), Some("oauth-2025-04-20"));
}

#[tokio::test]
async fn a_token_that_runs_out_is_renewed_before_and_what_renews_it_is_kept() {
    let mut stage = Stage::plays(vec![json("200 OK", "{}"); 2]).await;
    let fresh = value!({ "access_token": NEW, "refresh_token": "refresh-2", "expires_in": 28800 });
    let mut tokens = Stage::plays(vec![json("200 OK", &fresh.to_string())]).await;
    let drawer = Drawer::with(&claude(OLD, SystemTime::now()));
    let fixture = fixture(Api::Anthropic, &stage.url(), &drawer, Auth::Claude, &tokens).await;
    for _ in 0..2 {
        fixture.ask("POST /one/v1/messages", "", "{}").await;
        let bearer = format!("Bearer {NEW}");
        assert_eq!(stage.asked().await.header("authorization"), Some(&*bearer));
    }
    let asked: Value = serde_json::from_str(&tokens.asked().await.body).unwrap();
    assert_eq!(
        (&asked["grant_type"], &asked["refresh_token"]),
        (&"refresh_token".into(), &"refresh-1".into())
    );
    let kept: Value = serde_json::from_str(&drawer.text()).unwrap();
    let kept = &kept["claudeAiOauth"];
    assert_eq!((&kept["accessToken"], &kept["refreshToken"]), (&NEW.into(), &"refresh-2".into()));
    assert_eq!(kept["scopes"], value!(["x"]), "the rest stays");
}

#[tokio::test]
async fn a_refused_token_is_renewed_and_the_request_sent_again() {
    let mut stage =
        Stage::plays(vec![json("401 Unauthorized", "{}"), json("200 OK", "{\"ok\":1}")]).await;
    let fresh = value!({ "access_token": NEW, "expires_in": 28800 });
    let tokens = Stage::plays(vec![json("200 OK", &fresh.to_string())]).await;
    let drawer = Drawer::with(&claude(OLD, later()));
    let fixture = fixture(Api::Anthropic, &stage.url(), &drawer, Auth::Claude, &tokens).await;
    let answer = fixture.ask("POST /one/v1/messages", "", "{\"model\":\"m\"}").await;
    assert_eq!((answer.status(), &*answer.body), (200, "{\"ok\":1}"));
    for token in [OLD, NEW] {
        let asked = stage.asked().await;
        assert_eq!(asked.header("authorization"), Some(&*format!("Bearer {token}")));
        assert_eq!(asked.body, "{\"model\":\"m\"}");
    }
}

#[tokio::test]
async fn a_revoked_credential_is_told_clearly_and_goes_on_when_mended() {
    let mut stage = Stage::plays(vec![
        json("401 Unauthorized", "{\"theirs\":1}"),
        json("401 Unauthorized", "{\"theirs\":1}"),
        json("200 OK", "{}"),
    ])
    .await;
    let tokens = Stage::plays(vec![]).await;
    let drawer = Drawer::with("sk-revoked-0123456789");
    let mut fixture = fixture(Api::OpenAi, &stage.url(), &drawer, Auth::Key, &tokens).await;
    let answer = fixture.ask("POST /one/v1/responses", "", "{}").await;
    assert_eq!(answer.status(), 401);
    let said = answer.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(said.contains("refused") && said.contains("the drawer"), "{said}");
    assert!(fixture.call().await.is_unauthorized);
    stage.asked().await;
    // Somebody puts another one in; the request that finds it out goes on at once.
    *drawer.0.lock().unwrap() = "sk-good-0123456789".to_owned();
    let answer = fixture.ask("POST /one/v1/responses", "", "{}").await;
    assert_eq!(answer.status(), 200);
    assert_eq!(stage.asked().await.header("authorization"), Some("Bearer sk-revoked-0123456789"));
    assert_eq!(stage.asked().await.header("authorization"), Some("Bearer sk-good-0123456789"));
    assert!(!fixture.call().await.is_unauthorized);
}

#[tokio::test]
async fn a_service_that_renews_nothing_is_told_without_its_words() {
    let stage = Stage::plays(vec![]).await;
    let refusal = value!({ "error": "invalid_grant", "error_description": "secret words" });
    let tokens = Stage::plays(vec![json("400 Bad Request", &refusal.to_string())]).await;
    let drawer = Drawer::with(&claude(OLD, SystemTime::now()));
    let mut fixture = fixture(Api::Anthropic, &stage.url(), &drawer, Auth::Claude, &tokens).await;
    let answer = fixture.ask("POST /one/v1/messages", "", "{}").await;
    assert_eq!(answer.status(), 401);
    assert!(answer.body.contains("refused (400, invalid_grant)"), "{}", answer.body);
    assert!(!answer.body.contains("secret words") && !answer.body.contains(OLD));
    assert!(fixture.call().await.is_unauthorized);
}

#[tokio::test]
async fn a_chatgpt_subscription_names_its_account() {
    let mut stage = Stage::plays(vec![json("200 OK", "{}"); 1]).await;
    let tokens = Stage::plays(vec![]).await;
    let claims = value!({ "exp": 4_000_000_000_u64 });
    let token = format!("head.{}.sum", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let material = value!({ "tokens": { "access_token": token, "refresh_token": "r", "account_id": "acc-7" } });
    let drawer = Drawer::with(&material.to_string());
    let base = format!("{}/backend-api/codex", stage.url());
    let fixture = fixture(Api::OpenAi, &base, &drawer, Auth::ChatGpt, &tokens).await;
    fixture.ask("POST /one/v1/responses", "chatgpt-account-id: someone-else\r\n", "{}").await;
    let asked = stage.asked().await;
    assert_eq!(asked.line(), "POST /backend-api/codex/responses HTTP/1.1");
    assert_eq!(asked.header("authorization"), Some(&*format!("Bearer {token}")));
    assert_eq!(asked.header("chatgpt-account-id"), Some("acc-7"));
}

#[tokio::test]
async fn bedrock_is_asked_with_a_signature_over_the_whole_request() {
    let mut stage = Stage::plays(vec![
        json("200 OK", "{}"),
        json("403 Forbidden", "{}"),
        crate::stage::answer("403 Forbidden", "x-amzn-errortype: ExpiredTokenException\r\n", "{}"),
    ])
    .await;
    let tokens = Stage::plays(vec![]).await;
    let keys = value!({ "aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "hidden/secret", "aws_session_token": "session-token-0123" });
    let drawer = Drawer::with(&keys.to_string());
    let auth = Auth::Aws { region: "eu-west-1".to_owned() };
    let fixture = fixture(Api::Bedrock, &stage.url(), &drawer, auth, &tokens).await;
    let path = "/model/eu.anthropic.claude-haiku-4-5-20251001-v1%3A0/invoke";
    let placeholder = "authorization: Bearer placeholder\r\nx-amz-security-token: theirs\r\n";
    let answer = fixture.ask(&format!("POST /one{path}"), placeholder, "{\"a\":1}").await;
    assert_eq!(answer.status(), 200);
    let asked = stage.asked().await;
    assert_eq!(asked.line(), format!("POST {path} HTTP/1.1"));
    let authorization = asked.header("authorization").unwrap();
    assert!(
        authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"),
        "{authorization}"
    );
    assert!(authorization.contains("/eu-west-1/bedrock/aws4_request, SignedHeaders=host;x-amz-date;x-amz-security-token, Signature="), "{authorization}");
    assert_eq!(asked.header("x-amz-security-token"), Some("session-token-0123"));
    assert_eq!(asked.body, "{\"a\":1}");
    assert!(!asked.head.contains("hidden"));
    // A model that one may not use is another thing than a key that is none.
    let answer = fixture.ask(&format!("POST /one{path}"), "", "{}").await;
    assert_eq!((answer.status(), &*answer.body), (403, "{}"));
    let answer = fixture.ask(&format!("POST /one{path}"), "", "{}").await;
    assert_eq!(answer.status(), 401);
    assert!(answer.json()["message"].as_str().unwrap().contains("refused"), "{}", answer.body);
}

#[tokio::test]
async fn vertex_is_asked_with_a_token_for_a_service_accounts_claim() {
    let mut stage = Stage::plays(vec![json("200 OK", "{}"); 2]).await;
    let given = value!({ "access_token": "ya29.token-0123456789", "expires_in": 3600 });
    let mut tokens = Stage::plays(vec![json("200 OK", &given.to_string())]).await;
    let pem = include_str!("certificates/service-account.key");
    let account = value!({ "type": "service_account", "client_email": "yard@example.iam", "private_key": pem, "private_key_id": "k1", "token_uri": "https://evil.example/token" });
    let drawer = Drawer::with(&account.to_string());
    let fixture = fixture(Api::Vertex, &stage.url(), &drawer, Auth::Google, &tokens).await;
    let path = "/v1/projects/p/locations/l/publishers/anthropic/models/claude-haiku-4-5:rawPredict";
    for _ in 0..2 {
        let answer = fixture.ask(&format!("POST /one{path}"), "", "{}").await;
        assert_eq!(answer.status(), 200);
        let bearer = stage.asked().await;
        assert_eq!(bearer.header("authorization"), Some("Bearer ya29.token-0123456789"));
    }
    // Once for both.
    let asked = tokens.asked().await;
    let form: Vec<(String, String)> =
        url::form_urlencoded::parse(asked.body.as_bytes()).into_owned().collect();
    let claim = &form.iter().find(|(name, _)| name == "assertion").unwrap().1;
    let (text, signature) = claim.rsplit_once('.').unwrap();
    let body: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text.split('.').nth(1).unwrap()).unwrap())
            .unwrap();
    assert_eq!(body["iss"], "yard@example.iam");
    assert_eq!(body["aud"], format!("{}/token", tokens.url()), "not where the document says");
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).unwrap();
    let key = ring::rsa::KeyPair::from_pkcs8(key.secret_pkcs8_der()).unwrap();
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public());
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    public.verify(text.as_bytes(), &signature).expect("its own signature");
}
