//! The description as a page: plain HTML, no script, nothing from elsewhere.

use std::fmt::Write as _;

use serde_json::Value;
use utoipa::openapi::OpenApi;

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8884;--soft:#8881;--accent:#0a7}\
body{font:15px/1.5 system-ui,sans-serif;margin:0 auto;max-width:1000px;padding:24px}\
code,pre{font:13px/1.5 ui-monospace,monospace}h2{margin-top:2.5em;border-bottom:1px solid var(--line)}\
details{border:1px solid var(--line);border-radius:6px;margin:6px 0;padding:0 12px}\
summary{cursor:pointer;padding:8px 0;overflow-wrap:anywhere}\
.m{display:inline-block;min-width:4.5em;font-weight:700;color:var(--accent)}\
table{border-collapse:collapse;width:100%;margin:6px 0 12px}\
td,th{border-top:1px solid var(--line);padding:4px 8px;text-align:left;vertical-align:top}\
th{background:var(--soft)}.d{opacity:.7}nav a{margin-right:1em}a{color:var(--accent)}";

/// The whole page.
pub(super) fn html(api: &OpenApi) -> String {
    // The typed document is read as JSON: one way through schemas, whatever they are made of.
    let document = serde_json::to_value(api).unwrap_or_default();
    let mut out = String::with_capacity(128 << 10);
    let title = "Boatyard API";
    // Writing to a string can't fail, here and below.
    let _ = write!(
        out,
        "<!doctype html><html lang=en><meta charset=utf-8>\
         <meta name=viewport content=\"width=device-width,initial-scale=1\">\
         <title>{title}</title><style>{STYLE}</style><h1>{title} {}</h1><p>{}</p>\
         <p>The same for programs: <a href=/api/openapi.json>/api/openapi.json</a>; \
         for agents: <a href=/skill.md>/skill.md</a>.</p><nav>",
        text(&document["info"]["version"]),
        text(&document["info"]["description"]),
    );
    let tags = document["tags"].as_array().cloned().unwrap_or_default();
    for tag in &tags {
        let name = text(&tag["name"]);
        let _ = write!(out, "<a href=#{name}>{name}</a>");
    }
    out.push_str("<a href=#types>types</a></nav>");
    for tag in &tags {
        let name = text(&tag["name"]);
        let _ = write!(out, "<h2 id={name}>{name}</h2><p>{}</p>", text(&tag["description"]));
        for (path, item) in object(&document["paths"]) {
            for (method, operation) in object(item) {
                if operation["tags"][0] == tag["name"] {
                    self::operation(&mut out, path, method, operation);
                }
            }
        }
    }
    out.push_str("<h2 id=types>types</h2>");
    for (name, schema) in object(&document["components"]["schemas"]) {
        let _ =
            write!(out, "<details id=type-{0}><summary><code>{0}</code></summary>", escape(name));
        self::schema(&mut out, schema);
        out.push_str("</details>");
    }
    out
}

fn operation(out: &mut String, path: &str, method: &str, operation: &Value) {
    let _ = write!(
        out,
        "<details><summary><span class=m>{}</span> <code>{}</code> <span class=d>{}</span></summary>\
         <p>{}</p><p class=d>Operation <code>{}</code></p>",
        method.to_uppercase(),
        escape(path),
        text(&operation["summary"]),
        text(&operation["description"]),
        text(&operation["operationId"]),
    );
    if let Some(parameters) = operation["parameters"].as_array() {
        out.push_str("<table><tr><th>parameter<th>in<th>type<th>");
        for parameter in parameters {
            let _ = write!(
                out,
                "<tr><td><code>{}</code>{}<td>{}<td>{}<td>{}",
                text(&parameter["name"]),
                if parameter["required"] == true { "" } else { "?" },
                text(&parameter["in"]),
                kind(&parameter["schema"]),
                text(&parameter["description"]),
            );
        }
        out.push_str("</table>");
    }
    for (mime, content) in object(&operation["requestBody"]["content"]) {
        let _ = write!(out, "<p>Body: <code>{}</code> {}", escape(mime), kind(&content["schema"]));
    }
    out.push_str("<table><tr><th>answer<th>body<th>");
    for (status, response) in object(&operation["responses"]) {
        let _ = write!(out, "<tr><td>{}<td>", escape(status));
        for (mime, content) in object(&response["content"]) {
            let _ =
                write!(out, "{} <span class=d>{}</span> ", kind(&content["schema"]), escape(mime));
        }
        let _ = write!(out, "<td>{}", text(&response["description"]));
    }
    out.push_str("</table></details>");
}

fn schema(out: &mut String, schema: &Value) {
    let _ = write!(out, "<p>{}</p>", text(&schema["description"]));
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if let Some(properties) = schema["properties"].as_object() {
        out.push_str("<table><tr><th>field<th>type<th>");
        for (name, property) in properties {
            let _ = write!(
                out,
                "<tr><td><code>{}</code>{}<td>{}<td>{}",
                escape(name),
                if required.contains(&name.as_str()) { "" } else { "?" },
                kind(property),
                text(&property["description"]),
            );
        }
        out.push_str("</table>");
        return;
    }
    for key in ["oneOf", "allOf", "anyOf"] {
        for variant in schema[key].as_array().into_iter().flatten() {
            if variant["properties"].is_object() || variant["allOf"].is_array() {
                self::schema(out, variant);
            } else {
                let _ = write!(out, "<p>{} {}</p>", kind(variant), text(&variant["description"]));
            }
        }
    }
    if !schema["enum"].is_null() || schema["oneOf"].is_null() && schema["allOf"].is_null() {
        let _ = write!(out, "<p>{}</p>", kind(schema));
    }
}

/// A type in a few words.
fn kind(schema: &Value) -> String {
    if let Some(to) = schema["$ref"].as_str() {
        let name = escape(to.rsplit('/').next().unwrap_or_default());
        return format!("<a href=#type-{name}><code>{name}</code></a>");
    }
    if let Some(values) = schema["enum"].as_array() {
        let values =
            values.iter().map(|value| format!("<code>{}</code>", escape(&value.to_string())));
        return values.collect::<Vec<_>>().join(" | ");
    }
    for key in ["oneOf", "anyOf", "allOf"] {
        if let Some(variants) = schema[key].as_array() {
            let shown = variants.iter().filter(|variant| variant["type"] != "null").map(kind);
            return shown.collect::<Vec<_>>().join(" | ");
        }
    }
    if schema["type"] == "array" || schema["type"][0] == "array" {
        return format!("list of {}", kind(&schema["items"]));
    }
    let name = match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).find(|name| *name != "null"),
        one => one.as_str(),
    };
    let name = name.unwrap_or("any");
    match schema["format"].as_str() {
        Some(format) => format!("{name} ({})", escape(format)),
        None => name.to_owned(),
    }
}

fn object(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// A text of the document, with `code` between backticks.
fn text(value: &Value) -> String {
    let mut out = String::new();
    for (n, part) in value.as_str().unwrap_or_default().split('`').enumerate() {
        let part = escape(part);
        if n % 2 == 1 {
            let _ = write!(out, "<code>{part}</code>");
        } else {
            out.push_str(&part);
        }
    }
    out
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}
