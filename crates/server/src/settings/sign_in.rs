//! `[sign_in]`: how people sign in, and who may.

use boatyard_api::identity::SignUp;
use boatyard_model::Role;
use toml::Value;

use super::value::{Kind, Setting, Span};

super::table::section! {
    /// How people sign in, and who may. Any key here makes the server one for several people: its
    /// first start prints a link that sets it up. Without any, a server that listens on loopback
    /// only is for the one who started it, and its printed link signs the browser in. What is set
    /// here goes before what is set on the page; docs/sign-in.md tells how each way is set up.
    SignIn = "sign_in" {
        /// Whether an address and a password sign in. They do where nobody says otherwise.
        password: Option<bool> = None, example "true";
        /// Whether passkeys sign in. They do where nobody says otherwise, and where browsers reach
        /// the server over https or as `localhost`.
        passkeys: Option<bool> = None, example "true";
        /// Who may make an account without an invitation: `closed` (nobody), `domains` (who has an
        /// address of an allowed domain, for which a provider vouches: that somebody writes one
        /// into a form proves nothing) or `open` (everybody who reaches the server). Nobody, where
        /// nobody says otherwise.
        sign_up: Option<SignUp> = None, example "\"domains\"";
        /// The domains whose addresses may sign up.
        allowed_domains: Option<Vec<String>> = None, example "[\"example.com\"]";
        /// What those who sign up without an invitation are in the server's first organization:
        /// `viewer`, `member` or `admin`.
        sign_up_role: Option<Role> = None, example "\"member\"";
        /// How long a browser stays signed in when it isn't used: between 10 minutes and 400 days.
        /// 30 days, where nobody says otherwise.
        device_lifetime: Option<Span> = None, example "\"30 d\"";
    }
}

impl SignIn {
    /// Whether anything of it is set.
    pub fn is_set(&self) -> bool {
        *self != Self::default()
    }

    /// What is wrong with it, and with which key.
    ///
    /// # Errors
    /// The first value that makes no sense.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        if let Some(lifetime) = self.device_lifetime
            && !(Span::minutes(10)..=Span::days(400)).contains(&lifetime)
        {
            let reason = format!("expected between 10 min and 400 d, got {lifetime}");
            return Err(("device_lifetime", reason));
        }
        if self.sign_up_role == Some(Role::Owner) {
            let reason = "an owner is made by an owner; write viewer, member or admin".to_owned();
            return Err(("sign_up_role", reason));
        }
        let domains = self.allowed_domains.as_deref().unwrap_or_default();
        if let Some(bad) = domains.iter().find(|domain| !is_domain(domain)) {
            let reason = format!("expected domains such as \"example.com\", got \"{bad}\"");
            return Err(("allowed_domains", reason));
        }
        Ok(())
    }

    /// What is odd but harmless, a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let names_none = self.allowed_domains.as_ref().is_none_or(Vec::is_empty);
        let mut warnings = Vec::new();
        if self.sign_up == Some(SignUp::Domains) && names_none {
            warnings.push(
                "`sign_in.sign_up` is \"domains\" and `sign_in.allowed_domains` names none: nobody \
                 signs up without an invitation unless the page names some"
                    .to_owned(),
            );
        }
        if self.sign_up.is_some_and(|who| who != SignUp::Domains) && !names_none {
            warnings.push(
                "`sign_in.allowed_domains` counts with `sign_up = \"domains\"` only".to_owned(),
            );
        }
        warnings
    }
}

/// Whether a text is a domain: what stands behind the `@`.
pub fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

impl Setting for SignUp {
    const KIND: Kind = Kind::Text;

    fn read(value: &Value) -> Result<Self, String> {
        const WHAT: &str = "\"closed\", \"domains\" or \"open\"";
        value
            .as_str()
            .and_then(Self::from_text)
            .ok_or_else(|| format!("expected {WHAT}, got {value}"))
    }

    fn show(&self) -> Option<Value> {
        Some(Value::String(self.as_str().to_owned()))
    }
}

impl Setting for Role {
    const KIND: Kind = Kind::Text;

    fn read(value: &Value) -> Result<Self, String> {
        const WHAT: &str = "\"viewer\", \"member\", \"admin\" or \"owner\"";
        value
            .as_str()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| format!("expected {WHAT}, got {value}"))
    }

    fn show(&self) -> Option<Value> {
        Some(Value::String(self.to_string()))
    }
}
