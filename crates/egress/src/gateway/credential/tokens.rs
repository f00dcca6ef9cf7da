//! Tokens of subscriptions, and how they are renewed: Claude's and ChatGPT's.
//!
//! Both come as the document that the agent itself keeps, or as a token alone, which can't be
//! renewed here. Who renews a token gets a new one to renew it with, and the old one is of no more
//! use: the document is kept anew each time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use serde_json::{Value, json};
use url::Url;

use super::{EARLY, Grant, Made, NoGrant, Why};
use crate::gateway::{Parts, secret::Secret, upstream};

/// Where Claude's are renewed, and as whom: what Claude Code does.
const CLAUDE_URL: &str = "https://console.anthropic.com/v1/oauth/token";
const CLAUDE_CLIENT: &str = "9d1c250a-e61b-44d9-88ed-5944d1962f5e";
/// Where ChatGPT's are renewed, and as whom: what Codex does.
const CHATGPT_URL: &str = "https://auth.openai.com/oauth/token";
const CHATGPT_CLIENT: &str = "app_EMoamEEZ73f0CkXaXp7hrann";
/// The claim in which OpenAI's tokens name the account.
const CHATGPT_CLAIM: &str = "https://api.openai.com/auth";

/// Whether material can be renewed.
pub(super) fn can_renew(material: &Secret) -> bool {
    document(material).is_some_and(|document| {
        let claude = &document["claudeAiOauth"]["refreshToken"];
        let chatgpt = &document["tokens"]["refresh_token"];
        claude.is_string() || chatgpt.is_string()
    })
}

/// What material looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// A Claude subscription's.
    Claude,
    /// A ChatGPT subscription's.
    ChatGpt,
    /// A Google service account's.
    Google,
    /// A key.
    Key,
}

/// Tells what material is by its look.
pub(super) fn look(material: &Secret) -> Look {
    match document(material) {
        Some(document) if document["claudeAiOauth"].is_object() => Look::Claude,
        Some(document) if document["tokens"].is_object() => Look::ChatGpt,
        Some(document) if document["type"] == "service_account" => Look::Google,
        // What `claude setup-token` prints.
        _ if material.expose().starts_with("sk-ant-oat") => Look::Claude,
        _ => Look::Key,
    }
}

fn document(material: &Secret) -> Option<Value> {
    serde_json::from_str(material.expose()).ok()
}

fn token(text: &str) -> Result<Secret, NoGrant> {
    let token = Secret::new(text.to_owned());
    let wrong =
        || NoGrant("it holds more than a token, or a character that no token has".to_owned());
    if token.is_key() { Ok(token) } else { Err(wrong()) }
}

/// A grant of a Claude subscription.
pub(super) async fn claude(
    material: &Secret,
    why: Why,
    url: Option<&str>,
    parts: &Parts,
) -> Result<Made, NoGrant> {
    let Some(mut document) = document(material) else {
        return Ok(Made::lasting(Grant::claude(token(material.expose())?)));
    };
    let kept = &document["claudeAiOauth"];
    let access = kept["accessToken"].as_str().unwrap_or_default();
    let until = kept["expiresAt"].as_u64().map(|ms| UNIX_EPOCH + Duration::from_millis(ms));
    let refresh = kept["refreshToken"].as_str().map(str::to_owned);
    if !is_needed(why, access, until) || refresh.is_none() {
        let grant = Grant::claude(token(access)?);
        return Ok(Made { grant, until: until.filter(|_| refresh.is_some()), renewed: None });
    }
    let asked = json!({
        "grant_type": "refresh_token",
        "refresh_token": refresh,
        "client_id": CLAUDE_CLIENT,
    });
    let Fresh { access, refresh, until, .. } =
        renew(url.unwrap_or(CLAUDE_URL), &asked, parts).await?;
    let grant = Grant::claude(token(&access)?);
    let kept = &mut document["claudeAiOauth"];
    kept["accessToken"] = access.into();
    if let Some(refresh) = refresh {
        kept["refreshToken"] = refresh.into();
    }
    if let Some(until) = until {
        kept["expiresAt"] = millis(until).into();
    }
    Ok(Made { grant, until, renewed: Some(Secret::new(document.to_string())) })
}

/// A grant of a ChatGPT subscription.
pub(super) async fn chatgpt(
    material: &Secret,
    why: Why,
    url: Option<&str>,
    parts: &Parts,
) -> Result<Made, NoGrant> {
    let Some(mut document) = document(material) else {
        let access = material.expose();
        let account = claims(access).and_then(|claims| account(&claims));
        return Ok(Made::lasting(Grant::chatgpt(token(access)?, account)));
    };
    let kept = &document["tokens"];
    let access = kept["access_token"].as_str().unwrap_or_default();
    let until = claims(access).and_then(|claims| expiry(&claims));
    let refresh = kept["refresh_token"].as_str().map(str::to_owned);
    let known = kept["account_id"].as_str().map(str::to_owned);
    if !is_needed(why, access, until) || refresh.is_none() {
        let account = known.or_else(|| account(&claims(access)?));
        let grant = Grant::chatgpt(token(access)?, account);
        return Ok(Made { grant, until: until.filter(|_| refresh.is_some()), renewed: None });
    }
    let asked = json!({
        "client_id": CHATGPT_CLIENT,
        "grant_type": "refresh_token",
        "refresh_token": refresh,
        "scope": "openid profile email",
    });
    let fresh = renew(url.unwrap_or(CHATGPT_URL), &asked, parts).await?;
    let until = claims(&fresh.access).and_then(|claims| expiry(&claims)).or(fresh.until);
    let account = known.or_else(|| account(&claims(&fresh.access)?));
    let grant = Grant::chatgpt(token(&fresh.access)?, account);
    let kept = &mut document["tokens"];
    kept["access_token"] = fresh.access.into();
    for (name, value) in [("refresh_token", fresh.refresh), ("id_token", fresh.id)] {
        if let Some(value) = value {
            kept[name] = value.into();
        }
    }
    Ok(Made { grant, until, renewed: Some(Secret::new(document.to_string())) })
}

/// Whether another token is to be asked for.
fn is_needed(why: Why, access: &str, until: Option<SystemTime>) -> bool {
    let runs_out = until.is_some_and(|until| SystemTime::now() + EARLY >= until);
    access.is_empty() || runs_out || why == Why::Refused
}

/// What a token service gave.
struct Fresh {
    access: String,
    refresh: Option<String>,
    id: Option<String>,
    until: Option<SystemTime>,
}

async fn renew(url: &str, asked: &Value, parts: &Parts) -> Result<Fresh, NoGrant> {
    let url = Url::parse(url).map_err(|_| NoGrant("its token_url is no URL".to_owned()))?;
    let body = asked.to_string().into();
    let answer = upstream::ask(parts, &url, "application/json", body).await.map_err(NoGrant)?;
    fresh(answer)
}

/// What a token service answered, as OAuth has it.
fn fresh((status, answer): (u16, Value)) -> Result<Fresh, NoGrant> {
    let text = |name: &str| answer[name].as_str().map(str::to_owned);
    let Some(access) = text("access_token").filter(|_| status == 200) else {
        return Err(NoGrant(refusal(status, &answer)));
    };
    let seconds = answer["expires_in"].as_u64();
    let until = seconds.map(|seconds| SystemTime::now() + Duration::from_secs(seconds));
    Ok(Fresh { access, refresh: text("refresh_token"), id: text("id_token"), until })
}

/// Why a token service gives none. Of its words only a code is repeated.
pub(super) fn refusal(status: u16, answer: &Value) -> String {
    let error = &answer["error"];
    let code = error.as_str().or_else(|| error["type"].as_str()).or_else(|| error["code"].as_str());
    let code = code.filter(|code| {
        code.len() <= 60 && code.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    });
    let code = code.map(|code| format!(", {code}")).unwrap_or_default();
    format!("the service that renews it refused ({status}{code})")
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What a token says of itself. It is the service's to judge, not ours: it is not verified.
fn claims(token: &str) -> Option<Value> {
    let body = token.split('.').nth(1)?;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(body).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn expiry(claims: &Value) -> Option<SystemTime> {
    claims["exp"].as_u64().map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds))
}

fn account(claims: &Value) -> Option<String> {
    claims[CHATGPT_CLAIM]["chatgpt_account_id"].as_str().map(str::to_owned)
}
