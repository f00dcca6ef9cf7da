//! Something that fits a JSON schema: for answers that must be JSON and for arguments that must be
//! there. Small on purpose: what agents ask for is plain objects of plain values.

use serde_json::{Map, Value, json};

/// Deeper than this, schemas are left: one that refers to itself has no end.
const DEEPEST: usize = 16;

/// A value of this schema: the first of what it allows. Texts say that they are scripted.
pub(super) fn example(schema: &Value) -> Value {
    at(schema, DEEPEST)
}

fn at(schema: &Value, depth: usize) -> Value {
    if depth == 0 {
        return Value::Null;
    }
    if let Some(value) = schema.get("const").or_else(|| schema.get("default")) {
        return value.clone();
    }
    if let Some(value) = schema.get("enum").and_then(|values| values.get(0)) {
        return value.clone();
    }
    for choice in ["anyOf", "oneOf", "allOf"] {
        if let Some(first) = schema.get(choice).and_then(|choices| choices.get(0)) {
            return at(first, depth - 1);
        }
    }
    let kind = match schema.get("type") {
        Some(Value::Array(kinds)) => kinds.first().and_then(Value::as_str),
        Some(kind) => kind.as_str(),
        None => schema.get("properties").map(|_| "object"),
    };
    // Gemini writes them in capitals.
    match kind.unwrap_or("string").to_ascii_lowercase().as_str() {
        "object" => {
            let properties = schema.get("properties").and_then(Value::as_object);
            let values: Map<String, Value> = properties
                .into_iter()
                .flatten()
                .map(|(name, schema)| (name.clone(), at(schema, depth - 1)))
                .collect();
            Value::Object(values)
        }
        "array" => {
            let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or(0).min(16);
            (0..least).map(|_| at(&schema["items"], depth - 1)).collect()
        }
        "integer" | "number" => schema.get("minimum").cloned().unwrap_or_else(|| json!(0)),
        "boolean" => json!(false),
        "null" => Value::Null,
        _ => json!("[scripted]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_example_fits() {
        let check = |schema, expected| assert_eq!(example(&schema), expected);
        check(json!({"type": "STRING"}), json!("[scripted]"));
        check(json!({"enum": ["a", "b"]}), json!("a"));
        check(json!({"type": ["integer", "null"], "minimum": 3}), json!(3));
        check(
            json!({"properties": {"t": {"type": "string"}, "l": {"type": "array"}, "b": {"type": "boolean"}}}),
            json!({"t": "[scripted]", "l": [], "b": false}),
        );
        check(json!({"anyOf": [{"type": "null"}, {"type": "string"}]}), json!(null));
    }
}
