//! What goes into one request.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue, header, request};

use super::{super::provider::Api, aws::Keys};
use crate::gateway::{echo, secret::Secret};

/// What Anthropic wants to see beside a subscription's token.
const OAUTH_BETA: &str = "oauth-2025-04-20";
const BETA: HeaderName = HeaderName::from_static("anthropic-beta");
const ACCOUNT: HeaderName = HeaderName::from_static("chatgpt-account-id");

/// A credential as a request has it.
pub(in crate::gateway) struct Grant {
    how: How,
    /// For finding it in what comes back.
    echo: Box<[usize]>,
}

enum How {
    Nothing,
    Key(Secret),
    Bearer(Secret),
    Claude(Secret),
    ChatGpt { token: Secret, account: Option<String> },
    Aws(Keys),
}

impl Grant {
    /// Nothing: a provider that asks for none.
    pub(in crate::gateway) fn nothing() -> Self {
        Self::of(How::Nothing)
    }

    pub(in crate::gateway) fn key(key: Secret) -> Self {
        Self::of(How::Key(key))
    }

    pub(super) fn bearer(token: Secret) -> Self {
        Self::of(How::Bearer(token))
    }

    pub(super) fn claude(token: Secret) -> Self {
        Self::of(How::Claude(token))
    }

    pub(super) fn chatgpt(token: Secret, account: Option<String>) -> Self {
        Self::of(How::ChatGpt { token, account })
    }

    pub(super) fn aws(keys: Keys) -> Self {
        Self::of(How::Aws(keys))
    }

    fn of(how: How) -> Self {
        let mut grant = Self { how, echo: Box::default() };
        grant.echo = grant.sent().map(|secret| echo::table(secret.expose())).unwrap_or_default();
        grant
    }

    /// What of it goes out as it is, and could come back.
    fn sent(&self) -> Option<&Secret> {
        match &self.how {
            How::Nothing => None,
            How::Key(secret) | How::Bearer(secret) | How::Claude(secret) => Some(secret),
            How::ChatGpt { token, .. } => Some(token),
            How::Aws(keys) => keys.session(),
        }
    }

    /// The secret and [`echo::table`] of it, where it is one to look for in answers.
    pub(in crate::gateway) fn echo(&self) -> Option<(&[u8], &[usize])> {
        let secret = self.sent().filter(|_| !self.echo.is_empty())?;
        Some((secret.expose().as_bytes(), &*self.echo))
    }

    /// Whether there is anything that a provider could refuse.
    pub(in crate::gateway) fn is_something(&self) -> bool {
        !matches!(self.how, How::Nothing)
    }

    /// Whether requests are signed, for which their whole body must be known.
    pub(in crate::gateway) fn signs(&self) -> bool {
        matches!(self.how, How::Aws(_))
    }

    /// Puts it into the head of a request, but for what is signed.
    pub(in crate::gateway) fn put(&self, headers: &mut HeaderMap, api: Api) {
        let bearer = |token: &Secret| HeaderValue::try_from(format!("Bearer {}", token.expose()));
        let (name, value) = match &self.how {
            How::Nothing | How::Aws(_) => return,
            How::Key(key) => match api {
                Api::Anthropic => {
                    (HeaderName::from_static("x-api-key"), HeaderValue::try_from(key.expose()))
                }
                Api::Gemini => {
                    (HeaderName::from_static("x-goog-api-key"), HeaderValue::try_from(key.expose()))
                }
                Api::OpenAi | Api::Bedrock | Api::Vertex => (header::AUTHORIZATION, bearer(key)),
            },
            How::Bearer(token) => (header::AUTHORIZATION, bearer(token)),
            How::Claude(token) => {
                add_beta(headers);
                (header::AUTHORIZATION, bearer(token))
            }
            How::ChatGpt { token, account } => {
                let account = account.as_deref().and_then(|id| HeaderValue::try_from(id).ok());
                if let Some(account) = account {
                    headers.insert(ACCOUNT, account);
                }
                (header::AUTHORIZATION, bearer(token))
            }
        };
        // A key was seen to fit when it was taken.
        if let Ok(mut value) = value {
            value.set_sensitive(true);
            headers.insert(name, value);
        }
    }

    /// Signs a request with this body, whose head is else as it goes out.
    pub(in crate::gateway) fn sign(&self, head: &mut request::Parts, body: &[u8]) {
        if let How::Aws(keys) = &self.how {
            keys.sign(head, body, std::time::SystemTime::now());
        }
    }
}

/// Says that a subscription's token is used, beside what the client says.
fn add_beta(headers: &mut HeaderMap) {
    let said = headers.get_all(&BETA).iter().filter_map(|value| value.to_str().ok());
    let mut betas: Vec<&str> = said.flat_map(|value| value.split(',')).map(str::trim).collect();
    if betas.contains(&OAUTH_BETA) {
        return;
    }
    betas.push(OAUTH_BETA);
    betas.retain(|beta| !beta.is_empty());
    if let Ok(value) = HeaderValue::try_from(betas.join(",")) {
        headers.insert(BETA, value);
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Grant")
    }
}
