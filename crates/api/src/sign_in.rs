//! How people sign in: providers, passkeys, what is switched on.
//!
//! A browser signs in at a provider by `GET /api/auth/start/{provider}`, which leads it there; the
//! provider leads it back to `GET /api/auth/callback/{provider}`, which sets the cookie and leads to
//! the page. Where that is refused, the page is opened as `/?refused=CODE&provider=NAME`, with a
//! code of [`Refusal`].

use boatyard_model::{IdentityId, PasskeyId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{connection::SecretText, identity::SignUp};

/// A provider's name, which is a part of addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, pattern = "^[a-z0-9][a-z0-9-]{0,39}$", example = "github")]
pub struct ProviderName(String);

impl ProviderName {
    /// The most bytes of one.
    const MAX: usize = 40;

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for ProviderName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_name = !text.is_empty()
            && text.len() <= Self::MAX
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !text.starts_with('-');
        if is_name {
            return Ok(Self(text.to_owned()));
        }
        let shown: String = text.chars().take(60).collect();
        Err(format!(
            "`{shown}` is no name for a provider: small letters, digits and `-`, at most 40"
        ))
    }
}

impl<'de> Deserialize<'de> for ProviderName {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What a provider is, and so how it is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProviderKind {
    /// Anything that speaks OpenID Connect: Keycloak, Authentik, Entra, Okta, GitLab, Dex, …
    Oidc,
    /// Google, which is OpenID Connect at a known address.
    Google,
    /// GitHub, or a GitHub Enterprise Server.
    Github,
}

impl ProviderKind {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Oidc => "oidc",
            Self::Google => "google",
            Self::Github => "github",
        }
    }
}

/// Where a setting comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SetBy {
    /// Nobody: it is as it is by itself.
    Default,
    /// The settings file or a variable; it can't be changed here.
    File,
    /// This API.
    Api,
}

/// What a provider is, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProviderSettings {
    /// What it is.
    pub kind: ProviderKind,
    /// What the button says: `Sign in with LABEL`. The kind's own, if not given.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub label: Option<String>,
    /// Where it is: the issuer of OpenID Connect, exactly as the provider writes it, or the address
    /// of a GitHub Enterprise Server. Needed for `oidc`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub issuer: Option<String>,
    /// What the provider calls Boatyard.
    pub client_id: String,
    /// What is asked for beside what is needed anyway.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub scopes: Vec<String>,
    /// The claim that lists a person's groups; `groups`, if not given.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub groups_claim: Option<String>,
    /// What groups are in organizations: `GROUP=ROLE` or `GROUP=ROLE@ORGANIZATION`. On GitHub a
    /// group is an organization or `organization/team`; at Google, the domain of a Workspace.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub groups: Vec<String>,
    /// Whether the provider is your own and vouches for addresses: an account with the address of
    /// a person who is here already is taken for that person's.
    #[serde(default)]
    pub trust_email: bool,
    /// Whether people may sign in by it.
    #[serde(default = "yes")]
    pub enabled: bool,
}

const fn yes() -> bool {
    true
}

/// A provider to be set up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSignInProvider {
    /// Its name, in addresses: small letters, digits and `-`.
    pub name: String,
    /// What it is.
    pub settings: ProviderSettings,
    /// The client's secret, as the provider gave it out.
    pub client_secret: SecretText,
}

/// A change of a provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignInProviderUpdate {
    /// What it is from now on.
    pub settings: ProviderSettings,
    /// The client's new secret; the one that is there stays, if not given.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub client_secret: Option<SecretText>,
}

/// A provider by which people sign in. Its secret can't be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SignInProvider {
    /// Its name.
    pub name: String,
    /// What it is.
    pub settings: ProviderSettings,
    /// Where it is.
    pub issuer: String,
    /// What the button says.
    pub label: String,
    /// The address that the provider must be told to lead people back to.
    pub callback: String,
    /// Where it was set up: one of the settings file can't be changed here.
    pub set_by: SetBy,
    /// What keeps it from being used.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub warnings: Vec<String>,
}

/// The providers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SignInProviderList {
    /// By name.
    pub items: Vec<SignInProvider>,
}

/// What came of asking a provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SignInProviderCheck {
    /// Whether it can be used, as far as can be told without signing in.
    pub good: bool,
    /// What was found, a sentence each.
    pub findings: Vec<String>,
}

/// Something that is on or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Switch {
    /// Whether it is on.
    pub on: bool,
    /// Who said so.
    pub set_by: SetBy,
}

/// What is switched on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SignInSettings {
    /// Signing in by a password.
    pub password: Switch,
    /// Signing in by a passkey.
    pub passkeys: Switch,
    /// Who may make an account without being invited.
    pub sign_up: SignUp,
    /// Who said so.
    pub sign_up_set_by: SetBy,
    /// The domains of addresses that may, where `sign_up` is `domains`.
    pub allowed_domains: Vec<String>,
    /// Who said so.
    pub allowed_domains_set_by: SetBy,
    /// The name that passkeys are for; none where the server has no name, and so no passkeys.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub passkeys_for: Option<String>,
    /// What keeps a way from being used.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub warnings: Vec<String>,
}

/// A change of what is switched on. What is not given stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SignInUpdate {
    /// Signing in by a password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<bool>,
    /// Signing in by a passkey.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passkeys: Option<bool>,
    /// Who may make an account without being invited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sign_up: Option<SignUp>,
    /// The domains of addresses that may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_domains: Option<Vec<String>>,
}

/// An account at a provider by which one signs in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LinkedAccount {
    /// Its id.
    pub id: IdentityId,
    /// The provider's name.
    pub provider: String,
    /// The address that the provider told last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub email: Option<String>,
    /// The name that the provider told last.
    pub name: String,
    /// When it was linked.
    pub created: Timestamp,
    /// When it was used last.
    pub last_used: Timestamp,
}

/// One's own accounts at providers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LinkedAccountList {
    /// Oldest first.
    pub items: Vec<LinkedAccount>,
}

/// A passkey.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Passkey {
    /// Its id.
    pub id: PasskeyId,
    /// As its owner calls it.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it was used last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_used: Option<Timestamp>,
}

/// One's own passkeys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PasskeyList {
    /// Oldest first.
    pub items: Vec<Passkey>,
}

/// What the browser's authenticator is to be asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PasskeyChallenge {
    /// What the answer must name; it works once, for five minutes.
    pub attempt: String,
    /// What `navigator.credentials.create` or `.get` takes as `publicKey`, in the JSON form that
    /// `PublicKeyCredential.parseCreationOptionsFromJSON` and `parseRequestOptionsFromJSON` read.
    #[schema(value_type = Object)]
    pub options: serde_json::Value,
}

/// A new passkey, as the browser made it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPasskey {
    /// The challenge's.
    pub attempt: String,
    /// What one calls it; the day, if not given.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// The `toJSON()` of what `navigator.credentials.create` gave.
    #[schema(value_type = Object)]
    pub credential: serde_json::Value,
}

/// A proof by a passkey.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasskeyLogin {
    /// The challenge's.
    pub attempt: String,
    /// The `toJSON()` of what `navigator.credentials.get` gave.
    #[schema(value_type = Object)]
    pub credential: serde_json::Value,
}

macro_rules! refusals {
    ($($(#[doc = $doc:literal])* $name:ident = $code:literal $sentence:literal,)*) => {
        /// Why a sign-in at a provider came to nothing, as the page is told it: `/?refused=CODE`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum Refusal { $($(#[doc = $doc])* $name,)* }

        impl Refusal {
            /// Every one.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The code.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// What to tell the person.
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$name => $sentence,)* }
            }
        }
    };
}

refusals! {
    /// The sign-in was not begun in this browser, or too long ago.
    NotBegun = "not_begun"
        "This sign-in was not begun in this browser, or too long ago. Begin again.",
    /// The person, or the provider, said no.
    Denied = "denied"
        "The provider did not let you in. Try again, or choose another way.",
    /// The provider can't be reached.
    Unreachable = "unreachable"
        "The provider can't be reached at the moment. Try again later, or choose another way.",
    /// The provider's answer can't be believed.
    Nonsense = "nonsense"
        "The provider's answer can't be used. The server's log says what is wrong with it.",
    /// The provider does not know the code: it was used, or is over.
    Code = "code"
        "The provider does not know this sign-in any more. Begin again.",
    /// There is no account, and nobody may make one just so.
    Closed = "closed"
        "There is no account for you on this server. Ask for an invitation.",
    /// An account with this address exists, and is signed in to in another way.
    AddressTaken = "address_taken"
        "There is an account with your address already. Sign in to it as before, then link this provider to it.",
    /// The provider tells no address that it has verified.
    NoAddress = "no_address"
        "The provider tells no address of yours that it has verified.",
    /// The account at the provider is another person's here.
    AccountTaken = "account_taken"
        "That account at the provider belongs to somebody else here.",
    /// The person is not let in any more.
    Disabled = "disabled"
        "Your account on this server was switched off. Ask one of its operators.",
    /// The invitation is used up, over, or not for this person.
    Invitation = "invitation"
        "The invitation is not valid: it was used, is over, or is for another address.",
    /// The person is in no organization.
    NoOrganization = "no_organization"
        "You are in no organization of this server any more. Ask for an invitation.",
    /// Nobody has set the server up yet.
    NotSetUp = "not_set_up"
        "This server is not set up yet: open the link that it printed when it was started.",
    /// The provider is not known, or switched off.
    NoProvider = "no_provider"
        "This way of signing in is switched off.",
}
