//! Requests that wait for a person.

use std::{sync::Arc, time::Duration};

use boatyard_egress::{
    Outcome, Policy, RuleSet, Settings,
    policy::{Answer, Asked, Asker, Question},
};
use boatyard_model::AskState;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{mpsc, oneshot},
};

use crate::{
    fixture::{Fixture, echo, read_head, rule, settings, soon},
    house::{Client, House, opening, spec},
};

/// Gives each question to a test, with where to put the answer.
#[derive(Debug)]
struct Person(mpsc::UnboundedSender<(Question, oneshot::Sender<Answer>)>);

type Questions = mpsc::UnboundedReceiver<(Question, oneshot::Sender<Answer>)>;

impl Asker for Person {
    fn ask(&self, question: Question) -> Asked {
        let (answer, answered) = oneshot::channel();
        self.0.send((question, answer)).unwrap();
        Box::pin(async move { answered.await.expect("an answer") })
    }
}

fn person(settings: Settings) -> (Settings, Questions) {
    let (asked, questions) = mpsc::unbounded_channel();
    (Settings { asker: Arc::new(Person(asked)), ..settings }, questions)
}

fn asking(port: u16) -> boatyard_egress::Rule {
    let text = serde_json::json!({ "host": "origin.example", "ports": [port], "action": "ask" });
    spec("ask first", text)
}

async fn connect(fixture: &Fixture, port: u16) -> TcpStream {
    let mut stream = fixture.connect().await;
    let request = format!("CONNECT origin.example:{port} HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

fn no() -> Answer {
    Answer::No { state: Some(AskState::Denied), why: "a person said no".into() }
}

#[tokio::test]
async fn a_tunnel_waits_for_its_answer() {
    let port = echo().await;
    let (settings, mut questions) = person(settings());
    let mut fixture = Fixture::start(settings, vec![asking(port)]);
    for (answer, expected) in [(Answer::Yes, "200"), (no(), "403")] {
        let mut stream = connect(&fixture, port).await;
        let (question, answers) = soon(questions.recv()).await.unwrap();
        assert_eq!(&*question.rule, "ask first");
        assert_eq!(question.peer, Some(stream.local_addr().unwrap()));
        assert_eq!((question.method, question.path), (None, None));
        answers.send(answer).unwrap();
        let head = read_head(&mut stream).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {expected}")), "{head}");
        drop(stream);
        let record = fixture.record().await;
        let asked = if expected == "200" { AskState::Allowed } else { AskState::Denied };
        assert_eq!(record.asked, Some(asked));
    }
}

#[tokio::test]
async fn a_question_ends_with_who_asked_it() {
    let port = echo().await;
    // Shorter than the wait: one that waits for a person is not idle.
    let idle = Settings { idle_after: Duration::from_millis(50), ..settings() };
    let (settings, mut questions) = person(idle);
    let mut fixture = Fixture::start(settings, vec![asking(port)]);
    let stream = connect(&fixture, port).await;
    let (_, mut answers) = soon(questions.recv()).await.unwrap();
    // A connection that is idle, and began later, has ended: this one is not taken for such.
    let mut silent = fixture.connect().await;
    assert_eq!(soon(silent.read(&mut [0; 1])).await.unwrap_or(0), 0);
    assert!(!answers.is_closed(), "it is still asked");
    drop(stream);
    soon(answers.closed()).await;
    let record = fixture.record().await;
    assert_eq!(record.asked, Some(AskState::Withdrawn), "{record:?}");
}

#[tokio::test]
async fn a_new_rule_answers_what_waits() {
    let port = echo().await;
    let (settings, mut questions) = person(settings());
    let mut fixture = Fixture::start(settings, vec![asking(port)]);
    let mut stream = connect(&fixture, port).await;
    let (_, mut answers) = soon(questions.recv()).await.unwrap();
    let rules = RuleSet::new(vec![rule("now allowed", "origin.example", port)]);
    fixture.policy.send_replace(Arc::new(Policy::from(rules)));
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200"));
    soon(answers.closed()).await;
    drop(stream);
    let record = fixture.record().await;
    assert_eq!((record.rule.as_deref(), record.asked), (Some("now allowed"), None));
    assert!(matches!(record.outcome, Outcome::Passed { .. }), "{record:?}");
}

#[tokio::test]
async fn requests_in_one_connection_wait_beside_each_other() {
    let house = House::new();
    let origin = house.serve(&["origin.example"], &["h2"]).await;
    let (settings, trusted) = opening(&house);
    let (settings, mut questions) = person(settings);
    let rules = vec![
        crate::house::reading("origin.example", origin.port),
        spec(
            "writes",
            serde_json::json!({
                "host": "origin.example", "ports": [origin.port], "methods": ["POST"],
                "action": "ask",
            }),
        ),
    ];
    let mut fixture = Fixture::start(settings, rules);
    let mut client = Client::through(&fixture, origin.port, &trusted, "h2").await;
    let Client::Http2(sender) = &client else { panic!("no HTTP/2") };
    let mut other = Client::Http2(sender.clone());
    let port = origin.port;
    let waiting = tokio::spawn(async move { other.ask(port, "POST", "/held", "x").await });
    let (question, answers) = soon(questions.recv()).await.unwrap();
    assert_eq!(question.path.as_deref(), Some("/held"));
    assert_eq!(question.method.unwrap(), "POST");
    // What needs no answer goes on meanwhile.
    assert_eq!(client.ask(port, "GET", "/free", "").await.0, 200);
    answers.send(Answer::Yes).unwrap();
    assert_eq!(soon(waiting).await.unwrap().0, 200);
    // A stream that its client resets takes its question with it.
    let Client::Http2(sender) = &client else { panic!("no HTTP/2") };
    let mut other = Client::Http2(sender.clone());
    let waiting = tokio::spawn(async move { other.ask(port, "POST", "/left", "x").await });
    let (_, mut answers) = soon(questions.recv()).await.unwrap();
    waiting.abort();
    soon(answers.closed()).await;
    let records = [fixture.record().await, fixture.record().await, fixture.record().await];
    let left = records.iter().find(|record| record.path.as_deref() == Some("/left")).unwrap();
    assert_eq!(left.asked, Some(AskState::Withdrawn));
}
