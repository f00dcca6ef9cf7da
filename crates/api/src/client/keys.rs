//! The endpoints of API keys, and of programs that are let in by a code.

use boatyard_model::KeyId;
use reqwest::{Method, StatusCode, header};
use serde::{Serialize, de::DeserializeOwned};

use super::{Client, REQUEST_TIMEOUT, Result};
use crate::{
    device_code::{
        DeviceCodeDetail, DeviceCodeRequest, DeviceCodes, DeviceDecision, DeviceError, DeviceToken,
        DeviceTokenRequest, GRANT_TYPE,
    },
    key::{ApiKey, ApiKeyFilter, ApiKeyList, KeyCallFilter, KeyCallPage, MadeApiKey, NewApiKey},
};

/// The kind of a form's body.
const FORM: &str = "application/x-www-form-urlencoded";

/// What a program that wants to be let in hears.
#[derive(Debug, Clone)]
pub enum Grant<T> {
    /// What it asked for.
    Given(T),
    /// Not, or not yet, in the words of RFC 8628.
    Refused(DeviceError),
}

#[expect(clippy::missing_errors_doc, reason = "all fail as the other endpoints do")]
impl Client {
    /// Keys, those that work first.
    pub async fn list_keys(&self, filter: &ApiKeyFilter) -> Result<ApiKeyList> {
        self.json(self.call(Method::GET, "api/api-keys").query(filter)).await
    }

    /// Makes a key; its secret is in the answer and nowhere else.
    pub async fn create_key(&self, new: &NewApiKey) -> Result<MadeApiKey> {
        self.json(self.call(Method::POST, "api/api-keys").json(new)).await
    }

    /// A key.
    pub async fn find_key(&self, id: KeyId) -> Result<ApiKey> {
        self.json(self.call(Method::GET, format!("api/api-keys/{id}"))).await
    }

    /// Makes a key cease to work.
    pub async fn revoke_key(&self, id: KeyId) -> Result<()> {
        self.empty(self.call(Method::DELETE, format!("api/api-keys/{id}"))).await
    }

    /// What was called with a key, the newest first.
    pub async fn list_key_calls(&self, id: KeyId, filter: &KeyCallFilter) -> Result<KeyCallPage> {
        self.json(self.call(Method::GET, format!("api/api-keys/{id}/calls")).query(filter)).await
    }

    /// The key that this client uses.
    pub async fn find_own_key(&self) -> Result<ApiKey> {
        self.json(self.call(Method::GET, "api/auth/key")).await
    }

    /// Makes the key that this client uses cease to work.
    pub async fn revoke_own_key(&self) -> Result<()> {
        self.empty(self.call(Method::DELETE, "api/auth/key")).await
    }

    /// Codes for a program that wants to be let in.
    pub async fn create_device_code(
        &self,
        request: &DeviceCodeRequest,
    ) -> Result<Grant<DeviceCodes>> {
        self.granted("api/auth/device/code", request).await
    }

    /// The program's key, once somebody has let it in.
    pub async fn redeem_device_code(&self, device_code: &str) -> Result<Grant<DeviceToken>> {
        let request = DeviceTokenRequest {
            grant_type: GRANT_TYPE.to_owned(),
            device_code: device_code.to_owned(),
            client_id: None,
        };
        self.granted("api/auth/device/token", &request).await
    }

    /// What waits behind a code that somebody typed.
    pub async fn find_device_code(&self, code: &str) -> Result<DeviceCodeDetail> {
        self.json(self.call(Method::GET, format!("api/auth/device/{code}"))).await
    }

    /// Lets a program in, or refuses it.
    pub async fn decide_device_code(
        &self,
        code: &str,
        decision: &DeviceDecision,
    ) -> Result<DeviceCodeDetail> {
        self.json(self.call(Method::POST, format!("api/auth/device/{code}")).json(decision)).await
    }

    /// Asks with a form, as the RFC has it, and reads its errors.
    async fn granted<T: DeserializeOwned>(
        &self,
        path: &str,
        form: &impl Serialize,
    ) -> Result<Grant<T>> {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path()));
        let body = serde_urlencoded::to_string(form).unwrap_or_default();
        // Nobody needs to be known for this, so no key is sent.
        let request = self.http.post(url).header(header::ACCEPT, "application/json");
        let request = request.header(header::CONTENT_TYPE, FORM).body(body);
        let response = request.timeout(REQUEST_TIMEOUT).send().await;
        let response = response.map_err(|error| self.unreachable(error))?;
        let status = response.status();
        let is_json = response
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|mime| mime.as_bytes().starts_with(b"application/json"));
        match (status, is_json) {
            (StatusCode::OK, true) => {
                let bytes = self.collect(response).await?;
                let value = serde_json::from_slice(&bytes);
                let value = value.map_err(|e| self.protocol(format!("not as expected: {e}")))?;
                Ok(Grant::Given(value))
            }
            (StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED, true) => {
                let bytes = self.collect(response).await?;
                let error = serde_json::from_slice(&bytes);
                let error = error.map_err(|e| self.protocol(format!("not as expected: {e}")))?;
                Ok(Grant::Refused(error))
            }
            _ => Err(self.failed(response).await),
        }
    }
}
