//! A value that fits a JSON Schema: the action of an environment of which nothing else is known.

use serde_json::{Map, Value};

/// Schemas within each other, at most.
const DEEPEST: usize = 32;

/// The simplest value that fits a schema; nothing where that cannot be told.
pub(super) fn specimen(schema: &Value) -> Option<Value> {
    of(schema, schema, 0)
}

fn of(schema: &Value, whole: &Value, depth: usize) -> Option<Value> {
    if depth > DEEPEST {
        return None;
    }
    if let Some(reference) = schema["$ref"].as_str() {
        return of(whole.pointer(reference.strip_prefix('#')?)?, whole, depth + 1);
    }
    for known in ["const", "default"] {
        if let Some(value) = schema.get(known) {
            return Some(value.clone());
        }
    }
    if let Some(first) = schema["enum"].get(0) {
        return Some(first.clone());
    }
    for choice in ["anyOf", "oneOf"] {
        if let Some(choices) = schema[choice].as_array() {
            return choices.iter().find_map(|each| of(each, whole, depth + 1));
        }
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds.first()?.as_str()?,
        kind => kind.as_str()?,
    };
    let size = |name: &str| schema[name].as_u64().and_then(|size| usize::try_from(size).ok()).unwrap_or(0);
    Some(match kind {
        "object" => {
            let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let fields: Option<Map<String, Value>> = required
                .map(|name| Some((name.to_owned(), of(&schema["properties"][name], whole, depth + 1)?)))
                .collect();
            Value::Object(fields?)
        }
        "array" => {
            let first = schema["prefixItems"].as_array().cloned().unwrap_or_default();
            let rest = std::iter::repeat(&schema["items"]);
            let wanted = size("minItems").max(first.len());
            first
                .iter()
                .chain(rest)
                .take(wanted)
                .map(|item| of(item, whole, depth + 1))
                .collect::<Option<_>>()?
        }
        "integer" => least(schema, 1)?.into(),
        "number" => least(schema, 1).map_or_else(|| schema["minimum"].clone(), Into::into),
        "string" => "a".repeat(size("minLength").max(1)).into(),
        "boolean" => false.into(),
        "null" => Value::Null,
        _ => return None,
    })
}

/// The whole number nearest to zero that is allowed.
fn least(schema: &Value, above: i64) -> Option<i64> {
    let whole = |name: &str| schema.get(name).and_then(Value::as_f64);
    #[expect(clippy::cast_possible_truncation, reason = "bounds beyond those of i64 are those of i64")]
    let bound = |value: f64| value as i64;
    let low = whole("minimum").map(|low| bound(low.ceil()));
    let low = low.or_else(|| whole("exclusiveMinimum").map(|low| bound(low.floor()).saturating_add(above)));
    let high = whole("maximum").map(|high| bound(high.floor()));
    let high =
        high.or_else(|| whole("exclusiveMaximum").map(|high| bound(high.ceil()).saturating_sub(above)));
    let value = 0.max(low.unwrap_or(i64::MIN)).min(high.unwrap_or(i64::MAX));
    (low.is_none_or(|low| value >= low)).then_some(value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use test_case::test_case;

    use super::*;

    #[test_case(&json!({"type": "object", "properties": {"a": {"type": "integer"}, "b": {}}, "required": ["a"]}), &json!({"a": 0}))]
    #[test_case(&json!({"type": "object"}), &json!({}))]
    #[test_case(&json!({"type": "integer", "minimum": 3, "maximum": 9}), &json!(3))]
    #[test_case(&json!({"type": "integer", "maximum": -2}), &json!(-2))]
    #[test_case(&json!({"type": "integer", "exclusiveMinimum": 0}), &json!(1))]
    #[test_case(&json!({"type": "number", "minimum": 0.25, "maximum": 0.5}), &json!(0.25))]
    #[test_case(&json!({"type": "string", "minLength": 3}), &json!("aaa"))]
    #[test_case(&json!({"enum": ["UP", "DOWN"], "type": "string"}), &json!("UP"))]
    #[test_case(&json!({"anyOf": [{"$ref": "#/nowhere"}, {"type": "null"}]}), &json!(null))]
    #[test_case(&json!({"type": "array", "items": {"type": "boolean"}, "minItems": 2}), &json!([false, false]))]
    #[test_case(&json!({"type": "array", "prefixItems": [{"const": 7}], "minItems": 1}), &json!([7]))]
    #[test_case(&json!({"$defs": {"x": {"type": "integer"}}, "$ref": "#/$defs/x"}), &json!(0))]
    fn the_simplest_value_fits(schema: &Value, value: &Value) {
        assert_eq!(specimen(schema).as_ref(), Some(value));
    }

    #[test_case(&json!({"$ref": "#"}); "a loop")]
    #[test_case(&json!({}); "anything")]
    #[test_case(&json!({"type": "object", "required": ["a"], "properties": {"a": {"$ref": "#"}}}); "without end")]
    #[test_case(&json!({"type": "integer", "minimum": 2, "maximum": 1}); "nothing")]
    fn what_cannot_be_told_is_not(schema: &Value) {
        assert_eq!(specimen(schema), None);
    }
}
