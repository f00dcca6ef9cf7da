//! Who is found behind what a request carries, over a real store.

use boatyard_api::identity::{CSRF_HEADER, ORGANIZATION_HEADER};
use boatyard_model::OrganizationId;
use boatyard_store::{BUILT_IN_PERSON, NewKey, NewPerson, Options, PersonUpdate};
use boatyard_testkit::ManualClock;
use http::{HeaderMap, Method, header};

use super::{code::Purpose, *};

struct Fixture {
    auth: Auth,
    store: Store,
    clock: Arc<ManualClock>,
    key: KeyId,
    secret: String,
    _data: tempfile::TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::default());
        let options = Options { clock: clock.clone(), ..Options::new(data.path().join("b.db")) };
        let store = Store::open(options).await.unwrap();
        let (secret, hash) = new_key();
        let new = NewKey::local(Owner::BUILT_IN, "test".into(), secret[..8].to_owned(), hash);
        let key = store.write(|tx| Box::pin(tx.create_key(new))).await.unwrap();
        let auth = Auth::open(store.clone(), clock.clone(), data.path()).unwrap();
        Self { auth, store, clock, key, secret, _data: data }
    }

    async fn asks(&self, method: Method, headers: &HeaderMap) -> Result<Known, Refusal> {
        let asked =
            Asked { method: &method, headers, address: None, site: &Site::Own, organization: None };
        self.auth.identify(&asked).await.unwrap()
    }

    async fn reads(&self, headers: &HeaderMap) -> Result<Known, Refusal> {
        self.asks(Method::GET, headers).await
    }

    /// A person with an account, who is nothing anywhere yet.
    async fn person(&self, email: &str) -> PersonId {
        let new = NewPerson {
            email: email.to_owned(),
            address: boatyard_store::Address::Claimed,
            name: email.split('@').next().unwrap().to_owned(),
            password: None,
        };
        let made =
            self.store.write(move |tx| Box::pin(async move { tx.create_person(&new).await }));
        made.await.unwrap().expect("nobody has the address")
    }

    async fn join(&self, person: PersonId, organization: OrganizationId, role: Role) -> Owner {
        let joined = self.store.write(move |tx| {
            Box::pin(async move { tx.join_organization(person, organization, role).await })
        });
        joined.await.unwrap()
    }

    async fn enter(&self, entrance: Entrance) -> HeaderMap {
        let signed_in = self.auth.enter(entrance, &Visitor::default()).await.unwrap();
        self.cookie(&signed_in.token)
    }

    fn cookie(&self, token: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, self.auth.signer().cookie(token).parse().unwrap());
        headers.insert(CSRF_HEADER, self.auth.signer().csrf(token).parse().unwrap());
        headers
    }

    /// Has what is remembered of callers forgotten, as some seconds do.
    async fn forget(&self) {
        let forgotten = self.store.write(|tx| {
            Box::pin(async move {
                tx.rights_changed();
                Ok(())
            })
        });
        forgotten.await.unwrap();
    }

    async fn revoke_key(&self) {
        let key = self.key;
        self.store.write(move |tx| Box::pin(tx.revoke_key(key))).await.unwrap();
    }
}

fn bearer(secret: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, format!("Bearer {secret}").parse().unwrap());
    headers
}

const FIRST: OrganizationId = boatyard_store::BUILT_IN_ORGANIZATION;

#[tokio::test]
async fn a_revoked_key_dies_at_once_with_its_browsers_and_its_use_is_noted() {
    let fixture = Fixture::new().await;
    let headers = bearer(&fixture.secret);
    for _ in 0..2 {
        let known = fixture.reads(&headers).await.unwrap();
        assert_eq!(known.caller.via, Via::Key(fixture.key));
        assert_eq!((known.caller.role, known.caller.operator), (Role::Owner, true));
    }
    let visitor = Visitor::default();
    let signed_in = fixture.auth.enter_by_secret(&fixture.secret, &visitor).await.unwrap();
    let cookie = fixture.cookie(&signed_in.token);
    let known = fixture.reads(&cookie).await.unwrap();
    assert_eq!((known.caller.person, known.caller.operator), (Some(BUILT_IN_PERSON), true));
    let row = fixture.store.find_key(fixture.key).await.unwrap().unwrap();
    assert!(row.last_used.is_some());
    fixture.revoke_key().await;
    assert_eq!(fixture.reads(&headers).await.unwrap_err(), Refusal::Revoked);
    assert_eq!(fixture.reads(&cookie).await.unwrap_err(), Refusal::SignedOut);
    assert!(fixture.auth.again(&known.caller).await.unwrap().is_err(), "nor does a stream go on");
}

#[tokio::test]
async fn a_browser_is_signed_in_until_it_is_not_used_or_signed_out() {
    let fixture = Fixture::new().await;
    let ada = fixture.person("ada@example.com").await;
    fixture.join(ada, FIRST, Role::Member).await;
    let headers = fixture.enter(Entrance::of(ada, "password")).await;
    let known = fixture.reads(&headers).await.unwrap();
    let Via::Device(device) = known.caller.via else { panic!("{known:?}") };
    assert_eq!((known.caller.role, known.caller.operator), (Role::Member, false));
    assert_eq!(&*known.caller.name, "ada");
    // Used again and again it stays; what it is remembered for does not outlive it.
    let half = fixture.auth.ways().device_lifetime.as_millis() as i64 / 2;
    for _ in 0..3 {
        fixture.clock.advance(half + 1);
        fixture.forget().await;
        fixture.reads(&headers).await.unwrap();
        // Behind the note of its use.
        fixture.forget().await;
    }
    let other = fixture.enter(Entrance::of(ada, "password")).await;
    let out =
        fixture.store.write(move |tx| Box::pin(async move { tx.revoke_device(ada, device).await }));
    out.await.unwrap();
    assert_eq!(fixture.reads(&headers).await.unwrap_err(), Refusal::SignedOut);
    fixture.reads(&other).await.unwrap();
    fixture.clock.advance(2 * half + 2);
    assert_eq!(fixture.reads(&other).await.unwrap_err(), Refusal::SignedOut);
}

#[tokio::test]
async fn a_change_by_cookie_needs_the_proof_of_that_cookie() {
    let fixture = Fixture::new().await;
    let headers = fixture.enter(Entrance::of(BUILT_IN_PERSON, "link")).await;
    let other = fixture.enter(Entrance::of(BUILT_IN_PERSON, "link")).await;
    fixture.asks(Method::POST, &headers).await.unwrap();
    let mut mixed = headers.clone();
    mixed.insert(CSRF_HEADER, other[CSRF_HEADER].clone());
    assert_eq!(fixture.asks(Method::POST, &mixed).await.unwrap_err(), Refusal::Csrf);
    mixed.remove(CSRF_HEADER);
    assert_eq!(fixture.asks(Method::DELETE, &mixed).await.unwrap_err(), Refusal::Csrf);
    assert!(fixture.reads(&mixed).await.is_ok());
}

#[tokio::test]
async fn who_is_removed_or_disabled_can_do_nothing_from_then_on() {
    let fixture = Fixture::new().await;
    let ada = fixture.person("ada@example.com").await;
    let owner = fixture.join(ada, FIRST, Role::Member).await;
    let headers = fixture.enter(Entrance::of(ada, "password")).await;
    let caller = fixture.reads(&headers).await.unwrap().caller;
    assert_eq!(caller.owner, owner);
    fixture.join(ada, FIRST, Role::Viewer).await;
    assert_eq!(fixture.reads(&headers).await.unwrap().caller.role, Role::Viewer, "at once");
    let again = fixture.auth.again(&caller).await.unwrap().unwrap();
    assert_eq!(again.caller.role, Role::Viewer);
    let mut rights = fixture.store.rights();
    rights.mark_unchanged();
    let disabled = PersonUpdate { disabled: Some(true), ..PersonUpdate::default() };
    let done = fixture
        .store
        .write(move |tx| Box::pin(async move { tx.update_person(ada, &disabled).await }));
    done.await.unwrap().unwrap();
    assert!(rights.has_changed().unwrap(), "those who wait are told");
    assert!(fixture.reads(&headers).await.is_err());
    assert!(fixture.auth.again(&caller).await.unwrap().is_err());
}

#[tokio::test]
async fn another_organization_of_the_same_person_is_chosen_by_a_header() {
    let fixture = Fixture::new().await;
    let ada = fixture.person("ada@example.com").await;
    let first = fixture.join(ada, FIRST, Role::Member).await;
    let second = fixture.store.write(move |tx| {
        Box::pin(async move { tx.create_organization("Second", Some(ada)).await })
    });
    let second = second.await.unwrap().0.id;
    let headers = fixture.enter(Entrance::of(ada, "password")).await;
    assert_eq!(fixture.reads(&headers).await.unwrap().caller.owner, first);
    let mut chosen = headers.clone();
    chosen.insert(ORGANIZATION_HEADER, second.to_string().parse().unwrap());
    let there = fixture.reads(&chosen).await.unwrap().caller;
    assert_eq!((there.owner.organization, there.role), (second, Role::Owner));
    assert_eq!(fixture.reads(&headers).await.unwrap().caller.owner, first, "for one request only");
    let mut foreign = headers.clone();
    foreign.insert(ORGANIZATION_HEADER, OrganizationId::new().to_string().parse().unwrap());
    assert_eq!(fixture.reads(&foreign).await.unwrap_err(), Refusal::NoMember);
    // The machine's own key is no way into an organization that its person is not in.
    let mut key = bearer(&fixture.secret);
    key.insert(ORGANIZATION_HEADER, second.to_string().parse().unwrap());
    assert_eq!(fixture.reads(&key).await.unwrap_err(), Refusal::NoMember);
    fixture.join(BUILT_IN_PERSON, second, Role::Viewer).await;
    let there = fixture.reads(&key).await.unwrap().caller;
    assert_eq!((there.owner.organization, there.role), (second, Role::Viewer));
}

#[tokio::test]
async fn a_link_signs_in_what_it_is_for() {
    let fixture = Fixture::new().await;
    let ada = fixture.person("ada@example.com").await;
    let visitor = Visitor::default();
    let purpose = Purpose::NewPassword;
    let (code, _) = fixture.auth.issue_code(Holder { person: ada, key: None, purpose });
    let refused = fixture.auth.enter_by_secret(&code, &visitor).await.unwrap_err();
    assert_eq!(refused.status, 403, "a member of nothing: {refused:?}");
    fixture.join(ada, FIRST, Role::Member).await;
    let (code, _) = fixture.auth.issue_code(Holder { person: ada, key: None, purpose });
    let signed_in = fixture.auth.enter_by_secret(&code, &visitor).await.unwrap();
    let Via::Device(device) = signed_in.known.caller.via else { panic!() };
    let row = fixture.store.find_device(device).await.unwrap().unwrap();
    assert_eq!((row.way.as_str(), row.person), ("reset", ada));
    // A browser that signs in anew does not stay signed in as it was.
    let again = Visitor { before: Some(device), ..Visitor::default() };
    fixture.auth.enter(Entrance::of(ada, "password"), &again).await.unwrap();
    assert!(fixture.store.find_device(device).await.unwrap().is_none());
}

#[tokio::test]
async fn a_server_that_nobody_could_enter_is_refused() {
    let mut fixture = Fixture::new().await;
    let mut settings = Settings::default();
    let (near, far) = ("127.0.0.1:7070".parse().unwrap(), "0.0.0.0:7070".parse().unwrap());
    for (passwords, passkeys, providers, listening, good) in [
        (None, None, 0, far, true),
        (Some(false), None, 0, far, true),
        (Some(false), Some(false), 0, far, false),
        (Some(false), Some(false), 0, near, false),
        (Some(false), Some(false), 1, far, true),
    ] {
        settings.sign_in.password = passwords;
        settings.sign_in.passkeys = passkeys;
        fixture.auth.prepare(&settings, listening).await.unwrap();
        let checked = fixture.auth.check_ways(&settings, providers);
        assert_eq!(checked.is_ok(), good, "{passwords:?} {passkeys:?} {providers} {listening}");
    }
    // What was set on the page counts where the settings say nothing.
    let off = StoredWays { password: Some(false), passkeys: Some(false), ..StoredWays::default() };
    fixture.auth.store_ways(off).await.unwrap();
    let settings = Settings::default();
    fixture.auth.prepare(&settings, far).await.unwrap();
    assert!(fixture.auth.check_ways(&settings, 0).is_err());
    fixture.auth.prepare(&settings, near).await.unwrap();
    assert!(fixture.auth.check_ways(&settings, 0).is_ok(), "for the one who started it");
}
