//! Mail that the server sends, by SMTP.
//!
//! One message at a time and each over a connection of its own: invitations are few, and whoever
//! invites is told at once whether the mail server took it.

use std::time::Duration;

use anyhow::Context as _;
use lettre::{
    Address, AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor,
    message::{Mailbox, header::ContentType},
    transport::smtp::{
        authentication::Credentials,
        client::{Certificate, Tls, TlsParameters},
    },
};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};

use crate::settings::{self, mail::Encryption};

/// How long the mail server may take for each step.
const STEP: Duration = Duration::from_secs(10);
/// How long it may take for all of it.
const WITHIN: Duration = Duration::from_secs(30);

/// Sends mail. A cheap clone.
#[derive(Clone)]
pub struct Mail {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    /// For messages about what went wrong.
    host: String,
}

/// Why a mail was not sent.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// The address can't be written into a message.
    #[error("mail can't be sent to `{0}`")]
    Address(String),
    /// The message can't be put together.
    #[error("the mail can't be written")]
    Message(#[from] lettre::error::Error),
    /// The mail server did not take it, or is not there.
    #[error("the mail server {host} did not take it")]
    Refused {
        /// Which.
        host: String,
        /// Why.
        #[source]
        source: lettre::transport::smtp::Error,
    },
    /// It took too long.
    #[error("the mail server {host} took longer than {} s", WITHIN.as_secs())]
    TimedOut {
        /// Which.
        host: String,
    },
}

impl Mail {
    /// As the settings say; none where they name no mail server.
    ///
    /// # Errors
    /// When they make no sense, or a file can't be read.
    pub fn new(settings: &settings::Mail) -> anyhow::Result<Option<Self>> {
        let Some(host) = settings.host.clone() else { return Ok(None) };
        let from = settings.from.as_deref().unwrap_or_default();
        let from = from.parse::<Mailbox>().context("[mail] from")?;
        let tls = || -> anyhow::Result<TlsParameters> {
            let mut parameters = TlsParameters::builder(host.clone());
            if let Some(file) = &settings.ca_file {
                let pem = std::fs::read(file)
                    .with_context(|| format!("[mail] ca_file: {} can't be read", file.display()))?;
                if CertificateDer::pem_slice_iter(&pem).next().is_none_or(|one| one.is_err()) {
                    let shown = file.display();
                    anyhow::bail!("[mail] ca_file: {shown} holds no certificate in PEM form");
                }
                let certificate = Certificate::from_pem(&pem)
                    .with_context(|| format!("[mail] ca_file: {}", file.display()))?;
                parameters = parameters.add_root_certificate(certificate);
            }
            parameters.build_rustls().context("[mail]: no TLS")
        };
        let (tls, port) = match settings.encryption {
            Encryption::StartTls => (Tls::Required(tls()?), 587),
            Encryption::Tls => (Tls::Wrapper(tls()?), 465),
            Encryption::None => (Tls::None, 25),
        };
        let port = settings.port.and_then(|port| u16::try_from(port).ok()).unwrap_or(port);
        let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host.clone())
            .port(port)
            .tls(tls)
            .timeout(Some(STEP));
        if let (Some(user), Some(password)) = (&settings.user, &settings.password) {
            let credentials = Credentials::new(user.clone(), password.expose().to_owned());
            transport = transport.credentials(credentials);
        }
        Ok(Some(Self { transport: transport.build(), from, host: format!("{host}:{port}") }))
    }

    /// Sends a text.
    ///
    /// # Errors
    /// When it was not taken; [`MailError`] says why.
    pub async fn send(&self, to: &str, subject: &str, text: String) -> Result<(), MailError> {
        let address = to.parse::<Address>().map_err(|_| MailError::Address(to.to_owned()))?;
        let message = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, address))
            .subject(subject)
            // Nobody answers what a program wrote: no replies of absence.
            .header(AutoSubmitted)
            .header(ContentType::TEXT_PLAIN)
            .body(text)?;
        match tokio::time::timeout(WITHIN, self.transport.send(message)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(source)) => Err(MailError::Refused { host: self.host.clone(), source }),
            Err(_) => Err(MailError::TimedOut { host: self.host.clone() }),
        }
    }

    /// Whether the mail server is there and lets us in.
    ///
    /// # Errors
    /// When it does not.
    pub async fn check(&self) -> Result<(), MailError> {
        match tokio::time::timeout(WITHIN, self.transport.test_connection()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(source)) => Err(MailError::Refused { host: self.host.clone(), source }),
            Err(_) => Err(MailError::TimedOut { host: self.host.clone() }),
        }
    }
}

/// `Auto-Submitted: auto-generated` (RFC 3834).
#[derive(Debug, Clone)]
struct AutoSubmitted;

impl lettre::message::header::Header for AutoSubmitted {
    fn name() -> lettre::message::header::HeaderName {
        lettre::message::header::HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> lettre::message::header::HeaderValue {
        lettre::message::header::HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

#[cfg(test)]
mod tests;
