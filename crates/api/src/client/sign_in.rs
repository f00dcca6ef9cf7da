//! The endpoints of how people sign in. A browser's way to a provider and back is none of a
//! program's.

use boatyard_model::{IdentityId, PasskeyId};
use reqwest::Method;

use super::{Client, Result};
use crate::sign_in::{
    LinkedAccountList, NewPasskey, NewSignInProvider, Passkey, PasskeyChallenge, PasskeyList,
    SignInProvider, SignInProviderCheck, SignInProviderList, SignInProviderUpdate, SignInSettings,
    SignInUpdate,
};

#[expect(clippy::missing_errors_doc, reason = "all fail as the other endpoints do")]
impl Client {
    /// What is switched on, and who said so.
    pub async fn find_sign_in(&self) -> Result<SignInSettings> {
        self.json(self.call(Method::GET, "api/sign-in")).await
    }

    /// Switches ways of signing in on and off.
    pub async fn change_sign_in(&self, update: &SignInUpdate) -> Result<SignInSettings> {
        self.json(self.call(Method::PUT, "api/sign-in").json(update)).await
    }

    /// The providers by which people sign in.
    pub async fn list_sign_in_providers(&self) -> Result<SignInProviderList> {
        self.json(self.call(Method::GET, "api/sign-in/providers")).await
    }

    /// Sets a provider up.
    pub async fn create_sign_in_provider(&self, new: &NewSignInProvider) -> Result<SignInProvider> {
        self.json(self.call(Method::POST, "api/sign-in/providers").json(new)).await
    }

    /// A provider.
    pub async fn find_sign_in_provider(&self, name: &str) -> Result<SignInProvider> {
        self.json(self.call(Method::GET, format!("api/sign-in/providers/{name}"))).await
    }

    /// Changes a provider.
    pub async fn change_sign_in_provider(
        &self,
        name: &str,
        update: &SignInProviderUpdate,
    ) -> Result<SignInProvider> {
        let path = format!("api/sign-in/providers/{name}");
        self.json(self.call(Method::PUT, path).json(update)).await
    }

    /// Removes a provider.
    pub async fn remove_sign_in_provider(&self, name: &str) -> Result<()> {
        self.empty(self.call(Method::DELETE, format!("api/sign-in/providers/{name}"))).await
    }

    /// Asks a provider whether it is there.
    pub async fn check_sign_in_provider(&self, name: &str) -> Result<SignInProviderCheck> {
        self.json(self.call(Method::POST, format!("api/sign-in/providers/{name}/check"))).await
    }

    /// One's own accounts at providers.
    pub async fn list_accounts(&self) -> Result<LinkedAccountList> {
        self.json(self.call(Method::GET, "api/auth/accounts")).await
    }

    /// Takes an account away from oneself.
    pub async fn remove_account(&self, id: IdentityId) -> Result<()> {
        self.empty(self.call(Method::DELETE, format!("api/auth/accounts/{id}"))).await
    }

    /// One's own passkeys.
    pub async fn list_passkeys(&self) -> Result<PasskeyList> {
        self.json(self.call(Method::GET, "api/auth/passkeys")).await
    }

    /// What one's authenticator is to be asked for a new passkey.
    pub async fn begin_passkey(&self) -> Result<PasskeyChallenge> {
        self.json(self.call(Method::POST, "api/auth/passkeys/register/begin")).await
    }

    /// Keeps the passkey that one's authenticator made.
    pub async fn finish_passkey(&self, new: &NewPasskey) -> Result<Passkey> {
        self.json(self.call(Method::POST, "api/auth/passkeys/register/finish").json(new)).await
    }

    /// Removes one's passkey.
    pub async fn remove_passkey(&self, id: PasskeyId) -> Result<()> {
        self.empty(self.call(Method::DELETE, format!("api/auth/passkeys/{id}"))).await
    }
}
