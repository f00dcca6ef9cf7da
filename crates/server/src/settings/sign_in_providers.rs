//! `[sign_in.providers.NAME]`: GitHub, Google and OpenID Connect.
//!
//! What becomes of it is in [`crate::auth::providers`].

use boatyard_api::sign_in::{ProviderKind, ProviderSettings};
use toml::Value;

use super::value::{Kind, Secret, Setting};
use crate::auth::providers::spec;

super::table::section! {
    /// Somebody else's word for who a person is: GitHub, Google, or anything that speaks OpenID
    /// Connect. NAME is a part of addresses: small letters, digits and `-`. The provider must be told
    /// to lead people back to `https://YOUR-SERVER/api/auth/callback/NAME`. docs/sign-in.md goes
    /// through it step by step for each.
    SignInProvider = "sign_in.providers.NAME" {
        /// What it is: `oidc`, `google` or `github`. Where NAME is `google` or `github`, that; else
        /// `oidc`.
        kind: Option<ProviderKind> = None, example "\"oidc\"";
        /// What the button says behind `Sign in with`.
        label: Option<String> = None, example "\"Example ID\"";
        /// Where it is: the issuer, exactly as the provider writes it, or the address of a GitHub
        /// Enterprise Server. Needed for `oidc`.
        issuer: Option<String> = None, example "\"https://id.example.com/realms/team\"";
        /// What the provider calls Boatyard.
        client_id: Option<String> = None, example "\"boatyard\"";
        /// The secret that the provider gave out with it: a text, `{ file = "/path" }` or
        /// `{ variable = "NAME" }`.
        client_secret: Option<Secret> = None, example "{ file = \"/etc/boatyard/id.secret\" }";
        /// What is asked for beside what is needed anyway.
        scopes: Vec<String> = Vec::new(), example "[\"groups\"]";
        /// The claim that lists a person's groups, or a path to it with dots: `groups`, if not said.
        groups_claim: Option<String> = None, example "\"realm_access.roles\"";
        /// What groups are in organizations: `GROUP=ROLE`, in the first one, or
        /// `GROUP=ROLE@ORGANIZATION`, by its name or id. Roles are given, changed and taken at each
        /// sign-in; what was given by hand stays. On GitHub a group is an organization, or
        /// `organization/team`; at Google, the domain of a Workspace.
        groups: Vec<String> = Vec::new(), example "[\"platform=admin\", \"everyone=member\"]";
        /// Whether the provider is your own and vouches for addresses: who comes with the address of
        /// somebody who is here already is taken for that person.
        trust_email: bool = false;
        /// Whether people may sign in by it.
        enabled: bool = true;
    }
}

impl Setting for ProviderKind {
    const KIND: Kind = Kind::Text;

    fn read(value: &Value) -> Result<Self, String> {
        match value.as_str() {
            Some("oidc") => Ok(Self::Oidc),
            Some("google") => Ok(Self::Google),
            Some("github") => Ok(Self::Github),
            _ => Err(format!("expected \"oidc\", \"google\" or \"github\", got {value}")),
        }
    }

    fn show(&self) -> Option<Value> {
        Some(Value::String(self.as_str().to_owned()))
    }
}

impl SignInProvider {
    /// What it is, as the API says it.
    pub(crate) fn settings(&self, name: &str) -> ProviderSettings {
        let by_name = match name {
            "google" => ProviderKind::Google,
            "github" => ProviderKind::Github,
            _ => ProviderKind::Oidc,
        };
        ProviderSettings {
            kind: self.kind.unwrap_or(by_name),
            label: self.label.clone(),
            issuer: self.issuer.clone(),
            client_id: self.client_id.clone().unwrap_or_default(),
            scopes: self.scopes.clone(),
            groups_claim: self.groups_claim.clone(),
            groups: self.groups.clone(),
            trust_email: self.trust_email,
            enabled: self.enabled,
        }
    }

    /// What is wrong with it.
    ///
    /// # Errors
    /// The first value that makes no sense.
    pub(crate) fn check(&self, name: &str) -> Result<(), String> {
        let wrong = |(field, reason): spec::Wrong| format!("`{field}`: {reason}");
        spec::compile(name, &self.settings(name)).map_err(wrong)?;
        match self.client_secret {
            Some(_) => Ok(()),
            None => Err("it needs `client_secret`, as the provider gave it out".to_owned()),
        }
    }
}
