//! An agent whose models are at a provider of one's own, that speaks the same protocol.

use serde_json::json;

use crate::{
    provider::{Provider, has},
    talk::{LIMIT, Scene, Talk},
};

/// Its key.
const KEY: &str = "sk-made-up-key-of-ones-own-77c1";

/// The model that it is said to have.
const MODEL: &str = "own-model";

pub(super) async fn at_a_provider_of_ones_own(scene: Scene) -> Vec<Talk> {
    let (house, word) = (&scene.house, scene.word("said"));
    let own = Provider::start().await;
    let agent = house.agent;
    let mut settings = toml::toml! {
        [providers.own]
        models = ["own-model"]
    };
    let about = settings["providers"]["own"].as_table_mut().unwrap();
    about.insert("api".into(), agent.provider.into());
    about.insert("base_url".into(), own.base_url().into());
    about.insert("key_file".into(), house.secret("keys/own", KEY).into());
    let mut of_agent = toml::toml! { provider = "own" };
    if let Some(model) = agent.own_model {
        of_agent.insert("model".into(), model.replace("MODEL", MODEL).into());
    }
    let agents = toml::Table::from_iter([(agent.name.to_owned(), of_agent.into())]);
    settings.insert("agents".into(), agents.into());
    house.refurnish(settings).await;

    let mut talk = scene.order(&format!("[[run:echo {word}]] [[say:{word}]]"), json!({})).await;
    let turn = talk.turn(1).await;
    assert!(turn.completed().said().contains(&word), "{turn:?}");
    let asked = own.request("at the other provider", LIMIT, |seen| has(&seen.body, &word)).await;
    for seen in own.seen() {
        let keys = ["authorization", "x-api-key", "x-goog-api-key"];
        let given = keys.iter().filter_map(|name| seen.headers.get(*name)?.to_str().ok());
        let given: Vec<&str> = given.collect();
        assert!(given.len() == 1 && given[0].ends_with(KEY), "{} {given:?}", seen.uri);
    }
    if agent.own_model.is_some() {
        assert!(has(&asked.body, MODEL) || asked.uri.to_string().contains(MODEL), "{}", asked.uri);
    }
    assert!(house.provider.about(&word).is_empty(), "the usual one was asked");
    vec![talk]
}
