//! How the server is: in a word for everybody, in full for a caller.

use std::{
    sync::{LazyLock, Mutex, PoisonError},
    time::{Duration, Instant},
};

use boatyard_api::system::{
    DatabaseHealth, Health, HealthDetails, HealthStatus, RuntimeCheck, RuntimeHealth,
};
use boatyard_runtime::capabilities::Outcome;
use tokio_util::sync::CancellationToken;

use crate::app::App;

/// How long the database may take to answer before it counts as ill.
const DATABASE_DEADLINE: Duration = Duration::from_secs(2);

/// How long the database's answer counts.
const COUNTS_FOR: Duration = Duration::from_secs(1);

static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Remembers the moment of the start.
pub fn begin() {
    LazyLock::force(&STARTED);
}

/// Time since the start.
pub fn uptime() -> Duration {
    STARTED.elapsed()
}

/// How the server is. What the database said counts for a moment, so that those who ask often (or
/// in bad faith) cost it nothing.
#[derive(Default)]
pub struct Probe {
    last: Mutex<Option<(Instant, DatabaseHealth)>>,
}

impl Probe {
    /// In a word.
    pub async fn brief(&self, app: &App, stopping: &CancellationToken) -> Health {
        let status = match self.database(app).await.ok {
            _ if stopping.is_cancelled() => HealthStatus::Stopping,
            true => HealthStatus::Ok,
            false => HealthStatus::Degraded,
        };
        Health { status, details: None }
    }

    /// In full.
    pub async fn full(&self, app: &App, stopping: &CancellationToken) -> Health {
        let database = self.database(app).await;
        let runtime = runtime(app);
        let status = match database.ok && runtime.ready {
            _ if stopping.is_cancelled() => HealthStatus::Stopping,
            true => HealthStatus::Ok,
            false => HealthStatus::Degraded,
        };
        let details = HealthDetails {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime: uptime().as_secs(),
            database,
            runtimes: vec![runtime],
        };
        Health { status, details: Some(details) }
    }

    async fn database(&self, app: &App) -> DatabaseHealth {
        let known = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, health)) = known.filter(|(when, _)| when.elapsed() < COUNTS_FOR) {
            return health;
        }
        let schema = tokio::time::timeout(DATABASE_DEADLINE, app.store.schema()).await;
        let schema = schema.ok().and_then(Result::ok);
        let health = DatabaseHealth { kind: "sqlite".to_owned(), ok: schema.is_some(), schema };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some((Instant::now(), health.clone()));
        health
    }
}

fn runtime(app: &App) -> RuntimeHealth {
    // In the first moments nothing is known yet, and nothing can be made.
    let known = app.runtime.tried();
    let checks = known.map_or(&[][..], |known| &known.checks);
    let blocked = checks.iter().any(|check| check.outcome == Outcome::Blocks);
    let checks = checks.iter().map(|check| RuntimeCheck {
        name: check.name.clone(),
        outcome: match check.outcome {
            Outcome::Works => "works",
            Outcome::Missing => "missing",
            Outcome::Blocks => "blocks",
        }
        .to_owned(),
        detail: check.detail.clone(),
        hint: check.hint.clone(),
    });
    RuntimeHealth {
        name: app.runtime.name().to_owned(),
        ready: known.is_some() && !blocked,
        isolation: known.map(|known| known.isolation.to_string()),
        checks: checks.collect(),
    }
}
