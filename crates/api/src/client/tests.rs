//! The client against a small server of raw sockets that says what it is told to.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;
use crate::{ProblemKind, feed::FeedEvent};

/// Answers each connection with the next of these, and tells what was asked.
async fn server(answers: Vec<String>) -> (Client, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = tokio::spawn(async move {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.windows(4).any(|w| w == b"\r\n\r\n") {
                let mut piece = [0; 4096];
                let n = stream.read(&mut piece).await.unwrap();
                request.extend_from_slice(&piece[..n]);
            }
            asked.push(String::from_utf8(request).unwrap());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        asked
    });
    (Client::new(&address, Some("by_test")).unwrap(), asked)
}

fn answer(status: &str, mime: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-type: {mime}\r\nconnection: close\r\n\r\n{body}")
}

fn feed(seq: u64) -> String {
    let time = "2026-11-21T01:10:43.120Z";
    format!(
        "id: {seq}\ndata: {{\"seq\":{seq},\"time\":\"{time}\",\"type\":\"notice\",\
         \"level\":\"info\",\"code\":\"c\",\"text\":\"t\"}}\n\n"
    )
}

#[tokio::test]
async fn a_problem_is_read_and_another_answer_is_a_protocol_error() {
    let body = serde_json::to_string(&Problem::not_found("task", "x")).unwrap();
    let (client, _) = server(vec![
        answer("404 Not Found", problem::MEDIA_TYPE, &body),
        answer("404 X", "a/b", ""),
    ])
    .await;
    let error = client.find_task(Default::default()).await.unwrap_err();
    assert!(error.problem().unwrap().is(ProblemKind::NotFound));
    let error = client.find_task(Default::default()).await.unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }), "{error}");
}

#[tokio::test]
async fn a_stream_whose_right_is_gone_says_why_and_is_not_asked_for_again() {
    let events = format!(
        "event: presence\ndata: {{\"people\":[]}}\n\n{}event: closed\ndata: {{\"reason\":\"this \
         key was revoked\"}}\n\n",
        feed(1)
    );
    let (client, asked) = server(vec![answer("200 OK", "text/event-stream", &events)]).await;
    let mut feed = client.follow_feed(0);
    assert!(matches!(feed.next().await, Some(Ok(Step::Item(FeedEvent { seq: 1, .. })))));
    let error = feed.next().await.unwrap().unwrap_err();
    let problem = error.problem().unwrap();
    assert!(problem.is(ProblemKind::NotAllowed) && problem.detail == "this key was revoked");
    assert!(feed.next().await.is_none());
    assert_eq!(asked.await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_closed_port_is_unreachable_with_a_next_step() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = Client::new(&address, None).unwrap().health().await.unwrap_err();
    assert!(error.is_transient());
    assert!(error.to_string().contains("boatyard up"), "{error}");
}

#[tokio::test]
async fn a_stream_is_taken_up_after_the_last_event_and_repetition_is_skipped() {
    let sse = "text/event-stream";
    let first = format!("{}{}event: goodbye\nretry: 1\ndata: {{}}\n\n", feed(1), feed(4));
    let second = format!("{}{}", feed(4), feed(5));
    let third = format!(": kept alive\n\n{}event: end\ndata: {{}}\n\n", feed(6));
    let answers = [first, second, third].map(|body| answer("200 OK", sse, &body));
    let (client, asked) = server(answers.to_vec()).await;
    let mut follow: Follow<FeedEvent> = client.follow_feed(0);
    let mut seen = Vec::new();
    let (mut lost, mut resumed) = (0, 0);
    while let Some(step) = follow.next().await {
        match step.unwrap() {
            Step::Item(event) => seen.push(event.seq),
            Step::Lost(_) => lost += 1,
            Step::Resumed => resumed += 1,
        }
    }
    assert_eq!(seen, [1, 4, 5, 6]);
    assert_eq!((lost, resumed), (2, 2));
    let asked = asked.await.unwrap();
    assert!(asked[0].starts_with("GET /api/events?after=0 "), "{}", asked[0]);
    assert!(asked[1].starts_with("GET /api/events?after=4 "), "{}", asked[1]);
    assert!(asked[2].starts_with("GET /api/events?after=5 "), "{}", asked[2]);
    assert!(asked[0].contains("authorization: Bearer by_test"));
}

#[tokio::test]
async fn a_refusal_ends_the_stream_even_after_a_cut() {
    let problem = serde_json::to_string(&Problem::not_found("session", "x")).unwrap();
    let answers = vec![
        answer("200 OK", "text/event-stream", &format!("retry: 1\n\n{}", feed(1))),
        answer("404 Not Found", problem::MEDIA_TYPE, &problem),
    ];
    let (client, _) = server(answers).await;
    let mut follow: Follow<FeedEvent> = client.follow_feed(0);
    assert!(matches!(follow.next().await, Some(Ok(Step::Item(_)))));
    assert!(matches!(follow.next().await, Some(Ok(Step::Lost(_)))));
    let error = follow.next().await.unwrap().unwrap_err();
    assert!(error.problem().is_some());
    assert!(follow.next().await.is_none());
}

#[test]
fn addresses_and_keys_are_checked() {
    for bad in ["", "127.0.0.1:7070", "ftp://x", "unix:/x", "http://"] {
        assert!(Client::new(bad, None).is_err(), "{bad}");
    }
    assert!(Client::new("http://127.0.0.1:1", Some("by_\n")).is_err());
    let client = Client::new("https://boat.example/yard", Some("by_secret")).unwrap();
    assert_eq!(client.server(), "https://boat.example/yard/");
    assert!(!format!("{client:?}").contains("by_secret"));
}
