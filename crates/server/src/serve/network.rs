//! Where the server listens: over https or in the clear, and on a second port that leads to https.

use std::sync::Arc;

use axum::Router;
use tokio::task::JoinHandle;

use super::Listeners;
use crate::{
    app::App,
    listener::{self, Encryption},
    settings::tls::From,
    tls::{
        Certificate, Tls,
        acme::{Acme, Question},
    },
};

/// Begins to listen, for the server that is reached under `url`.
///
/// # Errors
/// When there should be a certificate and can't be one.
pub(super) fn listen(
    app: &App,
    listeners: Listeners,
    router: Router,
    url: &str,
) -> anyhow::Result<JoinHandle<()>> {
    let Listeners { main, clear, certificate } = listeners;
    let stopping = &app.stopping;
    let tls = match app.settings.tls.from() {
        From::Nowhere => None,
        From::Files(file, key) => {
            let tls = Tls::new()?;
            let certificate = match certificate {
                Some(certificate) => certificate,
                None => Certificate::read(file, key)?,
            };
            tls.certificates.set(certificate);
            app.tasks.spawn(tls.clone().follow(file.clone(), key.clone(), stopping.clone()));
            Some(tls)
        }
        From::Acme => {
            let tls = Tls::new()?;
            let question = if clear.is_some() { Question::Http } else { Question::Tls };
            let certificates = Arc::clone(&tls.certificates);
            let acme = Acme::new(&app.settings, &app.data, question, certificates)?;
            acme.load();
            app.tasks.spawn(acme.run(stopping.clone()));
            Some(tls)
        }
    };
    warn(app, tls.as_ref());
    let led = listener::clear(url, tls.as_ref().map(|tls| Arc::clone(&tls.certificates)));
    if let Some(clear) = clear {
        app.tasks.spawn(listener::serve(clear, led.clone(), stopping.clone()));
    }
    let encryption = tls.map(|tls| Encryption { tls, clear: led });
    Ok(tokio::spawn(listener::serve_over(main, router, encryption, stopping.clone())))
}

/// Says what browsers will complain of.
fn warn(app: &App, tls: Option<&Tls>) {
    let Some(current) = tls.and_then(|tls| tls.certificates.current()) else { return };
    let url = app.settings.server.url.as_deref().and_then(|url| url::Url::parse(url).ok());
    let host = url.as_ref().and_then(|url| url.host_str()).unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if !current.is_for(bare) {
        let names = current.names.join(", ");
        tracing::warn!(host, names, "the certificate is for other names than the host of the url");
    }
    if current.left().is_some_and(|left| left.is_zero()) {
        tracing::warn!(host, "the certificate is not good any more");
    }
}
