//! A connection's service, asked whether it knows the value.

use std::{sync::Arc, time::Duration};

use boatyard_api::connection::ConnectionBinding;
use boatyard_egress::{Cidr, Guard, Outgoing, gateway::Secret, https::Https, resolve::System};
use boatyard_store::ConnectionRow;
use bytes::Bytes;
use http::{Request, header};

use super::{kinds, spec};
use crate::app::App;

/// How long a service may take.
const WITHIN: Duration = Duration::from_secs(20);
/// The most of its answer that is read, in bytes.
const MOST: usize = 1 << 20;

/// What the service says to the value; none where it is not known how to ask.
pub(crate) async fn asked(
    app: &App,
    row: &ConnectionRow,
    binding: &ConnectionBinding,
    value: Secret,
) -> Option<Result<String, String>> {
    let path = kinds::kind(&row.kind)?.check?;
    let host = binding.hosts.iter().find(|host| !host.contains('*'))?;
    let port = match &binding.ports[..] {
        [] => 443,
        [port, ..] => port.first(),
    };
    let compiled = spec::compile(&row.name, binding).ok()?;
    let (name, header) = compiled.places.iter().find_map(|place| value.in_header(place))?;
    let mut request = Request::get(format!("https://{host}:{port}{path}"))
        .header(header::USER_AGENT, concat!("boatyard/", env!("CARGO_PKG_VERSION")))
        .header(header::ACCEPT, "*/*")
        .body(Bytes::new())
        .ok()?;
    request.headers_mut().insert(name, header);
    let answer = async {
        let https = https(app).map_err(|error| format!("{error:#}"))?;
        let ranges = app.settings.egress.allow_private.iter().map(|text| text.parse::<Cidr>());
        let guard = Guard::new(ranges.collect::<Result<_, _>>().map_err(|e| e.to_string())?);
        https.ask(request, &guard, MOST, WITHIN).await.map_err(|error| crate::chain(&error))
    };
    Some(match answer.await {
        Err(error) => Err(format!("{host} could not be asked: {error}.")),
        Ok(answer) => {
            app.store.note_connection_use(row.id);
            let status = answer.status();
            match status.as_u16() {
                200..=299 => Ok(format!("{host} knows it: it answered {status}.")),
                401 | 403 => {
                    app.store.note_connection_refused(row.id);
                    Err(format!("{host} does not know it, or lets it do nothing: {status}."))
                }
                _ => Ok(format!("{host} answered {status}, which says nothing about it.")),
            }
        }
    })
}

/// How the server's own requests go out.
fn https(app: &App) -> anyhow::Result<Https> {
    use anyhow::Context as _;
    let settings = &app.settings.egress;
    let outgoing = match settings.offline {
        true => Outgoing::offline(),
        false => Outgoing::from_env(|name| std::env::var(name).ok())?,
    };
    let authorities = match &settings.ca_file {
        Some(file) => std::fs::read(file)
            .with_context(|| format!("[egress] ca_file: {} can't be read", file.display()))?,
        None => Vec::new(),
    };
    Ok(Https::new(outgoing, &authorities, Arc::new(System))?)
}
