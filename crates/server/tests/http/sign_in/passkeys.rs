//! Passkeys, with an authenticator in software.

use boatyard_api::{ProblemKind, sign_in::PasskeyList};
use boatyard_server::settings::Settings;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Browser, EMAIL, Machine, URL, admin, authenticator::Authenticator, problem_of};

#[tokio::test]
async fn a_passkey_is_made_and_signs_in() {
    let mut settings = Settings::default();
    settings.server.url = Some(URL.to_owned());
    let machine = Machine::with(settings, admin()).await;
    let mut ada = Browser::of_ada(&machine).await;
    let mut device = Authenticator::new(URL);
    let challenge = async |browser: &mut Browser<'_>, what: &str| -> Value {
        let answer = browser.post(&format!("/api/auth/passkeys/{what}/begin"), &json!({})).await;
        assert_eq!(answer.status(), 200);
        answer.json().await.unwrap()
    };
    let begun = challenge(&mut ada, "register").await;
    let credential = device.create(&begun["options"]);
    let new = json!({ "attempt": begun["attempt"], "name": "My key", "credential": credential });
    let made = ada.post("/api/auth/passkeys/register/finish", &new).await;
    assert_eq!(made.status(), 200, "{}", made.text().await.unwrap());
    // The same answer again answers nothing.
    let again = problem_of(ada.post("/api/auth/passkeys/register/finish", &new).await).await;
    assert_eq!(again.field.as_deref(), Some("attempt"));

    let login = async |device: &mut Authenticator| {
        let mut browser = Browser::new(&machine);
        let begun = challenge(&mut browser, "login").await;
        let credential = device.get(&begun["options"]);
        let shown = json!({ "attempt": begun["attempt"], "credential": credential });
        let answer = browser.post("/api/auth/passkeys/login/finish", &shown).await;
        (answer, browser)
    };
    let (answer, mut browser) = login(&mut device).await;
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    assert_eq!(browser.who().await.unwrap().email.as_deref(), Some(EMAIL));

    // Another site's page, somebody who did not show to be the one, a copy, somebody else's name.
    device.origin = "https://boat.example.com.evil.net".to_owned();
    let problem = problem_of(login(&mut device).await.0).await;
    assert!(problem.is(ProblemKind::Unauthenticated), "{problem:?}");
    device.origin = URL.to_owned();
    device.flags = 0x01;
    assert!(problem_of(login(&mut device).await.0).await.is(ProblemKind::Unauthenticated));
    device.flags = 0x05;
    let own = std::mem::replace(&mut device.user, vec![7; 16]);
    assert!(problem_of(login(&mut device).await.0).await.is(ProblemKind::Unauthenticated));
    device.user = own;
    assert_eq!(login(&mut device).await.0.status(), 200);
    device.rewind();
    assert!(problem_of(login(&mut device).await.0).await.is(ProblemKind::Unauthenticated));
    let mut stranger = Authenticator::new(URL);
    stranger.user.clone_from(&device.user);
    assert!(problem_of(login(&mut stranger).await.0).await.is(ProblemKind::Unauthenticated));

    let all: PasskeyList = ada.get("/api/auth/passkeys").await.json().await.unwrap();
    assert_eq!((all.items.len(), all.items[0].name.as_str()), (1, "My key"));
    assert!(all.items[0].last_used.is_some());
    let off = machine.request(Method::PUT, "/api/sign-in").json(&json!({ "passkeys": false }));
    assert_eq!(off.send().await.unwrap().status(), 200);
    let begin = Browser::new(&machine).post("/api/auth/passkeys/login/begin", &json!({})).await;
    assert!(problem_of(begin).await.is(ProblemKind::NotAllowed));
    let on = machine.request(Method::PUT, "/api/sign-in").json(&json!({ "passkeys": true }));
    assert_eq!(on.send().await.unwrap().status(), 200);
    let path = format!("/api/auth/passkeys/{}", all.items[0].id);
    let gone = ada.asks(Method::DELETE, &path);
    assert_eq!(ada.send(gone).await.status(), 204);
    for _ in 0..30 {
        device.get(&json!({ "rpId": "x", "challenge": "" }));
    }
    assert!(problem_of(login(&mut device).await.0).await.is(ProblemKind::Unauthenticated));
}
