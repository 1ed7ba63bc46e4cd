//! The JSON Schema of all rows, made from the types that read them.

use serde_json::{Map, Value, json};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::row::{FunctionTask, ProgramTask, SolutionRow};
use super::verdict::Record;

/// The schema of a row of a tasks file; rows of solutions and results files stand in its `$defs`.
pub(crate) fn schema() -> Value {
    let mut definitions = Vec::new();
    add::<FunctionTask>(&mut definitions);
    add::<ProgramTask>(&mut definitions);
    add::<SolutionRow>(&mut definitions);
    add::<Record>(&mut definitions);
    definitions.sort_by(|a, b| a.0.cmp(&b.0));
    let mut all = Map::new();
    for (name, schema) in definitions {
        // Schemas of our own types always have a JSON form.
        all.insert(name, serde_json::to_value(schema).map(local).unwrap_or_default());
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A row of a tasks file of `hothouse score`",
        "description": "Rows of a solutions file are `#/$defs/SolutionRow`, rows of a results file `#/$defs/Record`.",
        "anyOf": [{"$ref": "#/$defs/FunctionTask"}, {"$ref": "#/$defs/ProgramTask"}],
        "$defs": all,
    })
}

fn add<T: ToSchema + PartialSchema>(definitions: &mut Vec<(String, RefOr<Schema>)>) {
    definitions.push((T::name().into_owned(), T::schema()));
    T::schemas(definitions);
    definitions.dedup_by(|a, b| a.0 == b.0);
}

/// The same with references into this document instead of an API's.
fn local(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(text.replace("#/components/schemas/", "#/$defs/")),
        Value::Array(items) => items.into_iter().map(local).collect(),
        Value::Object(fields) => Value::Object(fields.into_iter().map(|(k, v)| (k, local(v))).collect()),
        other => other,
    }
}
