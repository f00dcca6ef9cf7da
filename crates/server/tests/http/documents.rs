//! What is read rather than asked.

use boatyard_api::{ProblemKind, system::HealthStatus};
use reqwest::{Method, header};

use crate::machine::{Machine, problem_of};

#[tokio::test]
async fn health_tells_everybody_a_word_and_a_caller_the_rest() {
    let machine = Machine::start().await;
    let word = machine.anonymous(Method::GET, "/health").send().await.unwrap();
    assert_eq!(word.status(), 200);
    assert_eq!(word.text().await.unwrap(), r#"{"status":"ok"}"#);
    let health = machine.client.health().await.unwrap();
    let details = health.details.unwrap();
    assert_eq!(health.status, HealthStatus::Ok);
    assert!(details.database.ok && details.database.schema.is_some());
    assert_eq!(details.runtimes[0].isolation.as_deref(), Some("rootless"));
}

#[tokio::test]
async fn figures_and_the_description_are_for_callers() {
    let machine = Machine::start().await;
    machine.get("/api/tasks").await;
    let figures = machine.client.metrics().await.unwrap();
    let figures = String::from_utf8(figures.to_vec()).unwrap();
    for name in [
        "boatyard_http_requests_total",
        "route=\"/api/tasks\"",
        "boatyard_build_info",
        "\nboatyard_jobs_due ",
        "\nboatyard_jobs_oldest_seconds ",
        "\nboatyard_jobs_running ",
        "boatyard_sessions{state=\"waiting\"} 0",
    ] {
        assert!(figures.contains(name), "{name} in {figures}");
    }
    for (path, mime) in [
        ("/api/openapi.json", "application/json"),
        ("/api/docs", "text/html; charset=utf-8"),
        ("/skill.md", "text/markdown; charset=utf-8"),
    ] {
        let answer = machine.get(path).await;
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()[header::CONTENT_TYPE]),
            (200, &mime.parse().unwrap())
        );
    }
    assert_eq!(machine.anonymous(Method::GET, "/skill.md").send().await.unwrap().status(), 200);
    assert_eq!(machine.anonymous(Method::GET, "/metrics").send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn the_page_answers_to_its_own_addresses_only() {
    let machine = Machine::start().await;
    let page = |path: &str| {
        machine.anonymous(Method::GET, path).header(header::ACCEPT, "text/html,*/*").send()
    };
    for path in ["/", "/tasks/tsk_1", "/sessions"] {
        let answer = page(path).await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        assert!(answer.headers()[header::CONTENT_TYPE].to_str().unwrap().starts_with("text/html"));
        assert!(answer.headers().contains_key(header::CONTENT_SECURITY_POLICY));
    }
    for path in ["/assets/none.js", "/none.png", "/../../etc/passwd", "/%2e%2e/etc/passwd"] {
        let answer = page(path).await.unwrap();
        assert!(!answer.text().await.unwrap().contains("root:"), "{path}");
    }
    let missing = problem_of(page("/assets/none.js").await.unwrap()).await;
    assert!(missing.is(ProblemKind::NotFound));
    let unknown = problem_of(machine.get("/api/none").await).await;
    assert!(unknown.is(ProblemKind::NotFound));
    let posted = machine.request(Method::POST, "/tasks").send().await.unwrap();
    assert!(problem_of(posted).await.is(ProblemKind::NotFound));
}
