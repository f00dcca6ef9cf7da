//! `[mail]`: how the server sends mail.

use std::path::PathBuf;

use toml::Value;

use super::value::{Kind, Secret, Setting};

super::table::section! {
    /// How the server sends mail: invitations go to the address that they are for. Without `host`
    /// it sends none, and gives the links to whoever invites.
    Mail = "mail" {
        /// The server that takes mail (SMTP).
        host: Option<String> = None, example "\"smtp.example.com\"";
        /// Its port. Without it: 587, 465 with `encryption = "tls"`, 25 with `"none"`.
        port: Option<u32> = None, example "587";
        /// How the connection is encrypted: `starttls` (it begins in the clear and must become
        /// encrypted before anything is said), `tls` (from the beginning) or `none`.
        encryption: Encryption = Encryption::StartTls;
        /// Whom mail comes from: an address, or a name with one.
        from: Option<String> = None, example "\"Boatyard <boatyard@example.com>\"";
        /// The account there, where it asks for one.
        user: Option<String> = None, example "\"boatyard\"";
        /// Its password: a text, `{ file = "/path" }` or `{ variable = "NAME" }`.
        password: Option<Secret> = None, example "{ file = \"/etc/boatyard/mail.password\" }";
        /// Certificates of authorities that are trusted there beside those of the system, as one
        /// PEM file.
        ca_file: Option<PathBuf> = None, example "\"/etc/ssl/certs/company.pem\"";
    }
}

/// How a connection to a mail server is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// Once it is made, before anything else.
    StartTls,
    /// From the beginning.
    Tls,
    /// Not at all.
    None,
}

impl Setting for Encryption {
    const KIND: Kind = Kind::Text;

    fn read(value: &Value) -> Result<Self, String> {
        match value.as_str() {
            Some("starttls") => Ok(Self::StartTls),
            Some("tls") => Ok(Self::Tls),
            Some("none") => Ok(Self::None),
            _ => Err(format!("expected \"starttls\", \"tls\" or \"none\", got {value}")),
        }
    }

    fn show(&self) -> Option<Value> {
        let text = match self {
            Self::StartTls => "starttls",
            Self::Tls => "tls",
            Self::None => "none",
        };
        Some(Value::String(text.to_owned()))
    }
}

impl Mail {
    /// What is wrong with it, and with which key.
    ///
    /// # Errors
    /// The first value that makes no sense.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        if self.port.is_some_and(|port| !(1..=65_535).contains(&port)) {
            return Err(("port", "expected a port between 1 and 65535".to_owned()));
        }
        let sender = self.from.as_deref().map(str::parse::<lettre::message::Mailbox>);
        if let Some(Err(error)) = sender {
            let reason = format!("expected an address such as \"boatyard@example.com\" ({error})");
            return Err(("from", reason));
        }
        if let Some(host) = self.host.as_deref()
            && host.parse::<std::net::IpAddr>().is_err()
            && url::Host::parse(host).is_err()
        {
            let reason = format!("expected a name such as \"smtp.example.com\", got \"{host}\"");
            return Err(("host", reason));
        }
        if self.host.is_some() && self.from.is_none() {
            return Err(("host", "mail needs `from`, the address that it comes from".to_owned()));
        }
        match (&self.user, &self.password) {
            (Some(_), None) => Err(("user", "an account needs its `password`".to_owned())),
            (None, Some(_)) => Err(("password", "a password needs its `user`".to_owned())),
            (Some(_), Some(_)) if self.encryption == Encryption::None && !self.is_near() => {
                let reason = "a password does not go over the network without encryption";
                Err(("encryption", reason.to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// Whether the mail server is on this machine.
    fn is_near(&self) -> bool {
        let host = self.host.as_deref().unwrap_or_default();
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let check = |mail: Mail, expected: Option<&str>| {
            assert_eq!(mail.check().err().map(|(key, _)| key), expected, "{mail:?}");
        };
        let good = || Mail {
            host: Some("smtp.example.com".to_owned()),
            from: Some("Boatyard <boatyard@example.com>".to_owned()),
            ..Mail::default()
        };
        check(Mail::default(), None);
        check(good(), None);
        check(Mail { from: None, ..good() }, Some("host"));
        check(Mail { from: Some("nobody".to_owned()), ..good() }, Some("from"));
        for host in ["http://smtp.example.com", "smtp.example.com:25", ""] {
            check(Mail { host: Some(host.to_owned()), ..good() }, Some("host"));
        }
        check(Mail { host: Some("::1".to_owned()), ..good() }, None);
        check(Mail { port: Some(0), ..good() }, Some("port"));
        check(Mail { user: Some("me".to_owned()), ..good() }, Some("user"));
        let user = |mail| Mail {
            user: Some("me".to_owned()),
            password: Secret::read(&Value::String("made-up".to_owned())).ok(),
            ..mail
        };
        check(user(good()), None);
        check(user(Mail { encryption: Encryption::None, ..good() }), Some("encryption"));
        let near = Mail { host: Some("127.0.0.1".to_owned()), ..good() };
        check(user(Mail { encryption: Encryption::None, ..near }), None);
    }
}
