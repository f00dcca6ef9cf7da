//! The scripted model provider on a port of loopback, to point an agent at by hand.
//!
//! ```text
//!   cargo run -p boatyard-egress --example scripted [PORT]
//! ```
//!
//! It prints its address and serves until it is interrupted.

use std::io::Write;

use boatyard_egress::scripted;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port: u16 = std::env::args().nth(1).map_or(Ok(0), |port| port.parse())?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    writeln!(std::io::stdout(), "http://{}", listener.local_addr()?)?;
    scripted::service(scripted::Settings::default())
        .serve(listener, async {
            if let Err(error) = tokio::signal::ctrl_c().await {
                tracing::warn!(%error, "can't wait for an interrupt");
            }
        })
        .await?;
    Ok(())
}
