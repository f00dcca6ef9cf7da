//! The API's description: the OpenAPI document, a page to read it, a summary for agents.
//!
//! All three come from what the routes and types say about themselves; nothing is written twice.
//! The document is committed as a snapshot, so that a change of the contract shows in review.

use std::sync::LazyLock;

use boatyard_api::{Problem, feed::FeedEvent, workspace::ExecOutput};
use boatyard_model::Event;
use utoipa::{
    OpenApi,
    openapi::{
        ContentBuilder, InfoBuilder, LicenseBuilder, Ref, RefOr, Response, ResponseBuilder,
        path::Operation,
        security::{
            ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
        },
        tag::TagBuilder,
    },
};

use crate::access::{Entry, Need, table::TABLE};

mod page;
mod skill;

/// The resources, in the order in which one meets them.
const TAGS: &[(&str, &str)] = &[
    (
        "tasks",
        "Orders: this prompt, on this repository, with this agent. Results come back as a branch.",
    ),
    ("sessions", "Conversations with an agent: prompts, events, permissions, questions."),
    ("workspaces", "The places where work happens: their life, files, commands, git."),
    ("repositories", "What Boatyard keeps a mirror of."),
    ("egress", "What may leave workspaces, what waits for a person before it does, what left."),
    ("blobs", "Pictures and attachments."),
    ("feed", "What changes in the organization."),
    ("agents", "The agents that this server knows."),
    ("connections", "Credentials for outside services, which workspaces use without having them."),
    ("usage", "What was used and what it cost, and what may be."),
    ("jobs", "Durable background work."),
    ("keys", "API keys: what each may be used for, until when, and what was called with it."),
    ("identity", "Who calls."),
    ("organizations", "Teams: members and their roles, invitations."),
    ("shares", "Links to single tasks, workspaces and sessions; who sees what; who looks."),
    (
        "audit",
        "Who changed what, when and from where, and whether that is still as it was written.",
    ),
    ("system", "The server itself."),
];

/// Types that streams carry: clients get them as a union although no JSON answer has them.
#[derive(OpenApi)]
#[openapi(components(schemas(Event, FeedEvent, ExecOutput, Problem)))]
struct Types;

static API: LazyLock<utoipa::openapi::OpenApi> = LazyLock::new(build);
static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    // The document is maps, lists and texts: it can be written.
    let mut text = API.to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
});
static PAGE: LazyLock<String> = LazyLock::new(|| page::html(&API));
static SKILL: LazyLock<String> = LazyLock::new(|| skill::markdown(&API));

/// The OpenAPI document as JSON.
pub fn document() -> &'static str {
    &DOCUMENT
}

/// A page to read it.
pub fn html() -> &'static str {
    &PAGE
}

/// A summary for agents, in Markdown.
pub fn skill() -> &'static str {
    &SKILL
}

fn build() -> utoipa::openapi::OpenApi {
    let mut api = crate::routes::description();
    api.merge(Types::openapi());
    api.info = InfoBuilder::new()
        .title("Boatyard")
        .description(Some(
            "Runs coding agents in isolated workspaces. Times are RFC 3339 in UTC, durations in \
             seconds unless the name says otherwise. Lists take `limit` and `cursor`. Errors are \
             problem documents (RFC 9457) with a stable `type`.",
        ))
        .version(env!("CARGO_PKG_VERSION"))
        .license(Some(
            LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build(),
        ))
        .build();
    let tag = |(name, about): &(&str, &str)| {
        TagBuilder::new().name(*name).description(Some(*about)).build()
    };
    api.tags = Some(TAGS.iter().map(tag).collect());
    let components = api.components.get_or_insert_default();
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("An API key: `by_…`."))
        .build();
    components.add_security_scheme("key", SecurityScheme::Http(bearer));
    let cookie = ApiKeyValue::with_description(
        "boatyard_00000000",
        "The page's session, in a cookie whose digits differ between servers; changes need the header \
         `X-Boatyard-CSRF` as well.",
    );
    components.add_security_scheme("session", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
    let none: [String; 0] = [];
    let callers = vec![
        SecurityRequirement::new("key", none.clone()),
        SecurityRequirement::new("session", none),
    ];
    for item in api.paths.paths.values_mut() {
        let operations =
            [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            complete(operation, &callers);
        }
    }
    api
}

/// Adds what all operations have: errors, and who may call.
fn complete(operation: &mut Operation, callers: &[SecurityRequirement]) {
    let id = operation.operation_id.as_deref().unwrap_or_default();
    let open = |entry: &Entry| entry.operation == id && entry.need == Need::Open;
    let security = if TABLE.iter().any(open) { Vec::new() } else { callers.to_vec() };
    operation.security = Some(security);
    operation.responses.responses.insert("default".to_owned(), RefOr::T(problem()));
}

fn problem() -> Response {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    ResponseBuilder::new()
        .description("Why it could not be done.")
        .content(boatyard_api::problem::MEDIA_TYPE, content)
        .build()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// `BOATYARD_UPDATE=1 cargo test -p boatyard-server openapi` writes the contract anew. A plain
    /// file: the page's types are generated from it.
    #[test]
    fn the_contract_is_as_committed() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
        if std::env::var_os("BOATYARD_UPDATE").is_some() {
            std::fs::write(path, document()).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap();
        assert!(committed == document(), "docs/openapi.json differs; see above");
    }

    #[test]
    fn the_summary_is_as_committed() {
        insta::assert_snapshot!("skill", skill());
    }

    /// One that is not listed is on no page.
    #[test]
    fn every_operation_has_a_listed_resource() {
        let document: serde_json::Value = serde_json::from_str(document()).unwrap();
        for (path, item) in document["paths"].as_object().unwrap() {
            for operation in item.as_object().unwrap().values() {
                let tag = operation["tags"][0].as_str().unwrap_or_default();
                assert!(TAGS.iter().any(|(name, _)| *name == tag), "{path}: {tag}");
            }
        }
    }

    #[test]
    fn every_reference_leads_somewhere_and_names_are_unique() {
        let document: serde_json::Value = serde_json::from_str(document()).unwrap();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let mut missing = BTreeSet::new();
        let mut open = vec![&document];
        while let Some(value) = open.pop() {
            match value {
                serde_json::Value::Object(map) => {
                    if let Some(to) = map.get("$ref").and_then(|to| to.as_str()) {
                        let name = to.trim_start_matches("#/components/schemas/");
                        if !schemas.contains_key(name) {
                            missing.insert(to.to_owned());
                        }
                    }
                    open.extend(map.values());
                }
                serde_json::Value::Array(list) => open.extend(list),
                _ => {}
            }
        }
        assert_eq!(missing, BTreeSet::new());
        let mut ids = BTreeSet::new();
        for item in document["paths"].as_object().unwrap().values() {
            for operation in item.as_object().unwrap().values() {
                let id = operation["operationId"].as_str().unwrap();
                assert!(ids.insert(id), "{id} twice");
                assert!(operation["summary"].as_str().is_some(), "{id} has no summary");
                assert!(operation["tags"][0].as_str().is_some(), "{id} has no tag");
            }
        }
    }

    #[test]
    fn the_reading_page_needs_no_network_and_no_script() {
        let page = html();
        for word in ["<script", "src=", "@import", "url(", "href=http", "href=\"http"] {
            assert!(!page.contains(word), "{word}");
        }
        assert!(page.contains("create_task") && page.contains("/api/tasks/{id}/result"));
    }
}
