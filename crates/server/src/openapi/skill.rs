//! The description for agents: short, in Markdown, with what one must know first.

use std::fmt::Write as _;

use serde_json::Value;
use utoipa::openapi::OpenApi;

const HEAD: &str = "\
---
name: boatyard
description: Delegate coding tasks to agents in isolated workspaces, watch them, and get branches back, over Boatyard's HTTP API or command line.
---

# Boatyard

Boatyard runs coding agents in isolated workspaces. You give it a prompt and a repository; it makes a workspace, runs an agent in it, and hands back a branch with a diff.

## Before you call

- Every request needs `Authorization: Bearer $BOATYARD_API_KEY` (a key begins with `by_`).
- JSON in and out. Errors are `application/problem+json` with `type`, `detail`, `field` and `next` (what to do about it).
- Ids are opaque and name their kind: `tsk_…`, `ses_…`, `ws_…`, `rep_…`, `blb_…`.
- Lists take `limit` and `cursor`, and answer with `items` and `next_cursor`.
- Send an `Idempotency-Key` with each creation: asked twice, it happens once.
- Streams are Server-Sent Events with `id: <seq>`; after a cut, go on with `Last-Event-ID`. `event: end` means complete.

## The usual way

```
curl -s $BOATYARD_SERVER/api/tasks -H \"Authorization: Bearer $BOATYARD_API_KEY\" \\
  -H 'Content-Type: application/json' -d '{\"prompt\": \"Fix the failing test\", \"repository\": \"owner/repo\"}'
```

1. `POST /api/tasks` gives the task with its attempts; each gets a `session`.
2. `GET /api/sessions/{id}/events` shows what happens, live. `permission.requested` and `question.asked` wait for an answer.
3. `GET /api/tasks/{id}` tells the state: `queued`, `preparing`, `running`, `waiting`, then `succeeded`, `failed` or `cancelled` for good.
4. `GET /api/tasks/{id}/result` and `/diff` tell what came of it; `/bundle` is the branch for `git fetch`.
5. `POST /api/sessions/{id}/prompts` says more, with `mode` `queue`, `steer` or `interrupt`.

Several agents race at one task: `\"agents\": [{\"agent\": \"claude\"}, {\"agent\": \"codex\", \"model\": \"gpt-5.5\"}]`, with `\"attempts\"` of each. `GET /api/tasks/{id}/attempts` puts them side by side: state, change, time, tokens, cost, the outcome of the repository's check, and which is `best`. Result, diff, patch, bundle and push are those of the best one unless `attempt` says otherwise.

On the command line: `boatyard run \"PROMPT\" --repo R`, `boatyard logs ID`, `boatyard diff ID`, `boatyard apply ID`.

## Everything

The full description is at `/api/openapi.json`.
";

/// The whole summary.
pub(super) fn markdown(api: &OpenApi) -> String {
    let document = serde_json::to_value(api).unwrap_or_default();
    let mut out = HEAD.to_owned();
    for tag in document["tags"].as_array().into_iter().flatten() {
        let (name, about) = (text(&tag["name"]), text(&tag["description"]));
        // Writing to a string can't fail, here and below.
        let _ = write!(out, "\n### {name}\n\n{about}\n\n");
        for (path, item) in sorted(&document["paths"]) {
            for (method, operation) in sorted(item) {
                if operation["tags"][0] != tag["name"] {
                    continue;
                }
                let method = method.to_uppercase();
                let _ = write!(out, "- `{method} {path}`");
                let body = fields(&document, operation);
                if !body.is_empty() {
                    let _ = write!(out, " `{{{body}}}`");
                }
                let _ = writeln!(out, " {}", text(&operation["summary"]));
            }
        }
    }
    out
}

/// The fields of an operation's JSON body, optional ones with a question mark.
fn fields(document: &Value, operation: &Value) -> String {
    let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
    let name = schema["$ref"].as_str().and_then(|to| to.rsplit('/').next()).unwrap_or_default();
    let schema = &document["components"]["schemas"][name];
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let names = sorted(&schema["properties"]).map(|(name, _)| {
        let mark = if required.contains(&name.as_str()) { "" } else { "?" };
        format!("{name}{mark}")
    });
    names.collect::<Vec<_>>().join(", ")
}

/// An object's fields by name: whether a map keeps its order depends on what else is in the build.
fn sorted(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let mut fields: Vec<_> = object.as_object().into_iter().flatten().collect();
    fields.sort_by_key(|(name, _)| *name);
    fields.into_iter()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
