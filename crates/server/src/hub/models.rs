//! The gateway to models, as the settings have it; what was asked of it is counted.

use boatyard_egress::{
    Outgoing,
    gateway::{Call, Calls, End, Gateway, Settings as GatewaySettings},
    git::GitGateway,
    resolve::System,
};
use tokio::sync::mpsc;

use super::{Hub, retries::Retries};
use crate::{
    connections::{Connections, Lenders},
    ledger::Ledger,
    providers::Providers,
    settings::Settings,
};

/// Calls that wait to be counted; past it they are dropped, and that is counted.
const CALLS: usize = 1024;

/// What a request is counted under that named no provider.
const UNKNOWN: &str = "unknown";

/// The gateway to these providers and the scripted ones, and what is asked of it.
///
/// # Errors
/// When `[egress] ca_file` can't be read.
pub(super) fn gateway(
    settings: &Settings,
    providers: Providers,
    outgoing: Outgoing,
    ledger: Ledger,
    git: GitGateway,
    connections: &Connections,
) -> anyhow::Result<(Gateway, mpsc::Receiver<Call>)> {
    use anyhow::Context as _;
    let authorities = match &settings.egress.ca_file {
        Some(file) => std::fs::read(file)
            .with_context(|| format!("[egress] ca_file: {} can't be read", file.display()))?,
        None => Vec::new(),
    };
    let lender = Lenders { connections: connections.clone(), ledger: ledger.clone() };
    let lender = std::sync::Arc::new(lender);
    let purse = std::sync::Arc::new(ledger);
    let git = Some(git);
    let settings =
        GatewaySettings { outgoing, authorities, purse, lender, git, ..GatewaySettings::default() };
    let (calls, told) = Calls::new(CALLS);
    let resolver = std::sync::Arc::new(System);
    Ok((Gateway::new(providers.with_demo(Some(connections))?, settings, resolver, calls)?, told))
}

/// A gateway to the scripted providers alone, for agents that are only tried: the others are there
/// by name, without their keys.
///
/// # Errors
/// Never in practice: the built-in providers make sense.
pub(super) fn keyless() -> anyhow::Result<Gateway> {
    // Nobody counts what is asked of it.
    let (calls, _) = Calls::new(1);
    let providers = Providers::default().with_demo(None)?;
    let resolver = std::sync::Arc::new(System);
    let settings = GatewaySettings { outgoing: Outgoing::offline(), ..GatewaySettings::default() };
    Ok(Gateway::new(providers, settings, resolver, calls)?)
}

/// Counts, and has told what agents may be silent about, until the gateway is gone. Nothing that is
/// told of a call is a key: paths come without their queries, and headers not at all.
pub(super) async fn count(mut calls: mpsc::Receiver<Call>, hub: Hub, retries: Retries) {
    while let Some(call) = calls.recv().await {
        hub.shared.traffic.call(&call, &hub.shared.gateway);
        retries.saw(&call);
        tracing::debug!(target: "boatyard::gateway", ?call);
        let provider = match call.provider.as_str() {
            "" => UNKNOWN.to_owned(),
            name => name.to_owned(),
        };
        let end = match &call.end {
            End::Complete => "complete",
            End::Refused(_) => "refused",
            End::Broken(_) => "broken",
            End::Cancelled => "cancelled",
        };
        let status = match call.status.map(|status| status / 100) {
            Some(2) => "2xx",
            Some(3) => "3xx",
            Some(4) => "4xx",
            Some(5) => "5xx",
            _ => "none",
        };
        let labels = [
            ("provider", provider.clone()),
            ("status", status.to_owned()),
            ("end", end.to_owned()),
        ];
        metrics::counter!("boatyard_model_requests_total", &labels).increment(1);
        for (direction, bytes) in [("sent", call.sent), ("received", call.received)] {
            let labels = [("provider", provider.clone()), ("direction", direction.to_owned())];
            metrics::counter!("boatyard_model_bytes_total", &labels).increment(bytes);
        }
        if let Some(usage) = &call.usage {
            let tokens = usage.tokens;
            for (kind, count) in [
                ("input", tokens.input),
                ("output", tokens.output),
                ("cache_read", tokens.cache_read),
                ("cache_write", tokens.cache_write),
            ] {
                let labels = [("provider", provider.clone()), ("kind", kind.to_owned())];
                metrics::counter!("boatyard_model_tokens_total", &labels).increment(count);
            }
            let micros = call.micros.unwrap_or_default();
            metrics::counter!("boatyard_model_micros_total", "provider" => provider.clone())
                .increment(micros);
        }
        metrics::histogram!("boatyard_model_request_seconds", "provider" => provider)
            .record(call.duration.as_secs_f64());
    }
}
