//! A live interpreter in a sandbox, which keeps its variables from run to run.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType};
use utoipa::{PartialSchema, ToSchema};

use crate::exec::{MAX_OUTPUT_LIMIT, MAX_TIMEOUT_S, check_seconds};
use crate::id::{ContextId, ExecId};
use crate::problem::Invalid;
use crate::sandbox::{check_env, check_path};

/// The longest code, in bytes.
pub const MAX_CODE_BYTES: usize = 1 << 20;
/// The most forks that are made at once.
pub const MAX_FORKS: u32 = 63;
/// The least memory that a context may be held to, in bytes.
pub const MIN_MEMORY_BYTES: u64 = 1 << 20;

/// What to open a context with: a live Python interpreter, the sandbox's own `python3` (3.8 or newer).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ContextSpec {
    /// The id; made by the server when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_id: Option<ContextId>,
    /// Modules that are loaded when it starts, at no cost to it: the first context with the same list, user and `env` waits
    /// for their import, later ones are forked from it. The usual ones when absent: json, re, math, random, collections,
    /// and numpy where it is installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub imports: Option<Vec<String>>,
    /// Added to the sandbox's own environment.
    pub env: BTreeMap<String, String>,
    /// Names of the sandbox's secrets that it gets as variables; a variable of the same name in `env` wins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// Where it starts; the sandbox's `workdir` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// A user name or number of the sandbox; root when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Bytes of data that it may have, beside the sandbox's own limit; more is a `MemoryError` in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
}

impl ContextSpec {
    /// Checks every field.
    ///
    /// # Errors
    /// [`Invalid`] names the first field that breaks a rule.
    pub fn validate(&self) -> Result<(), Invalid> {
        check_env(&self.env)?;
        if let Some(cwd) = &self.cwd {
            check_path("cwd", cwd)?;
        }
        let imports = self.imports.as_deref().unwrap_or_default();
        if imports.len() > 64 {
            return Err(Invalid::new("imports", format!("has {} modules; at most 64", imports.len())));
        }
        for (at, name) in imports.iter().enumerate() {
            check_module(name).map_err(|reason| Invalid::new(format!("imports[{at}]"), reason))?;
        }
        match self.memory_bytes {
            Some(bytes) if bytes < MIN_MEMORY_BYTES => Err(Invalid::new(
                "memory_bytes",
                format!("is {bytes}; at least {MIN_MEMORY_BYTES}, and what Python itself needs"),
            )),
            Some(_) | None => Ok(()),
        }
    }
}

fn check_module(name: &str) -> Result<(), String> {
    let is_word = |part: &str| {
        part.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_')
            && part.chars().all(|c| c.is_alphanumeric() || c == '_')
    };
    if name.len() <= 200 && name.split('.').all(is_word) {
        return Ok(());
    }
    let short: String = name.chars().take(64).collect();
    Err(format!("is {short:?}, no module's name; they look like json or os.path"))
}

/// Code for a context. Its result is an [`ExecResult`](crate::ExecResult) with `value` or `error`; the outcome `exited`
/// carries 0, or 1 when an exception ended it, or what `sys.exit` was given.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ContextCode {
    /// As an exec's id: a repeat returns the recorded result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exec_id: Option<ExecId>,
    /// Python. When its last statement is an expression, its value is the result's `value`. May `await`.
    pub code: String,
    /// Wall time until it is interrupted (`KeyboardInterrupt`), in seconds; none when absent. The context lives on when the
    /// code gives way to the interrupt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<f64>,
    /// Time from that interrupt to the end of the context, in seconds; 2 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_s: Option<f64>,
    /// How many bytes of each stream are kept; as for an exec.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_limit_bytes: Option<u64>,
}

impl ContextCode {
    /// Checks every field.
    ///
    /// # Errors
    /// [`Invalid`] names the first field that breaks a rule.
    pub fn validate(&self) -> Result<(), Invalid> {
        if self.code.len() > MAX_CODE_BYTES {
            let bytes = self.code.len();
            return Err(Invalid::new("code", format!("has {bytes} bytes; at most {MAX_CODE_BYTES}")));
        }
        if let Some(limit) = self.output_limit_bytes
            && limit > MAX_OUTPUT_LIMIT
        {
            return Err(Invalid::new(
                "output_limit_bytes",
                format!("is {limit}; at most {MAX_OUTPUT_LIMIT}"),
            ));
        }
        check_seconds("timeout_s", self.timeout_s, 0.001, MAX_TIMEOUT_S)?;
        check_seconds("grace_s", self.grace_s, 0.0, 3600.0)
    }
}

/// How to fork a context that runs nothing: each fork begins with all that it has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ContextForkSpec {
    /// The id of the fork; with `count`, what the ids of the forks begin with: `ID-1`, `ID-2`, … Made by the server when
    /// absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_id: Option<ContextId>,
    /// How many; one when absent, at most 63. All or none are made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
}

impl ContextForkSpec {
    /// Checks every field.
    ///
    /// # Errors
    /// [`Invalid`] names the first field that breaks a rule.
    pub fn validate(&self) -> Result<(), Invalid> {
        match self.count {
            Some(count) if !(1..=MAX_FORKS).contains(&count) => {
                Err(Invalid::new("count", format!("is {count}; use 1 to {MAX_FORKS}")))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// One context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ContextInfo {
    /// Its id.
    pub context_id: ContextId,
    /// The version of its interpreter, e.g. `3.11.2`.
    pub python: String,
    /// The context that it was forked from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forked_from: Option<ContextId>,
    /// What it is doing.
    #[serde(flatten)]
    pub state: ContextState,
}

/// What a context is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ContextState {
    /// It is being made.
    Starting,
    /// It waits for code.
    Idle,
    /// It runs code.
    Busy,
    /// Its interpreter is gone. Reset it, or delete it.
    Ended {
        /// Why, e.g. `signal 11 ended it`.
        reason: String,
    },
}

/// Forms of a value by MIME type: text as it is, anything else as base64.
pub type Mime = BTreeMap<String, String>;

/// A value that JSON has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number from 0 up.
    Whole(u64),
    /// A whole number below 0.
    Negative(i64),
    /// Any other number.
    Number(f64),
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Json>),
    /// An object.
    Object(JsonObject),
}

/// The fields of an object, in the order in which they were told: Python's dictionaries have one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JsonObject(pub Vec<(String, Json)>);

impl Serialize for JsonObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl<'de> Deserialize<'de> for JsonObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = JsonObject;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JsonObject, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(JsonObject(fields))
            }
        }
        deserializer.deserialize_map(Read)
    }
}

impl PartialSchema for Json {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(SchemaType::AnyValue).description(Some("Any JSON")).build().into()
    }
}

impl ToSchema for Json {}

/// What the last expression of a context's code came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Value {
    /// Its `repr`; the middle is left out of a long one.
    #[serde(default)]
    pub repr: String,
    /// The value itself, where it consists of what JSON has and is not too large.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<Json>,
    /// Other forms that it has, e.g. `text/html`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub mime: Mime,
}

/// The exception that ended a context's code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Raised {
    /// The exception's class; `ContextEnded` when the interpreter itself ended.
    pub name: String,
    /// Its text.
    pub message: String,
    /// As Python prints it, with the lines of the code that it came from.
    pub traceback: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_spec_is_named() {
        let imports = |names: &[&str]| ContextSpec {
            imports: Some(names.iter().map(|&name| name.to_owned()).collect()),
            ..ContextSpec::default()
        };
        for (spec, field) in [
            (imports(&["os.path", "a b"]), "imports[1]"),
            (imports(&[""]), "imports[0]"),
            (ContextSpec { memory_bytes: Some(5), ..ContextSpec::default() }, "memory_bytes"),
            (ContextSpec { cwd: Some("tmp".to_owned()), ..ContextSpec::default() }, "cwd"),
        ] {
            assert_eq!(spec.validate().unwrap_err().field, field);
        }
    }

    #[test]
    fn any_json_comes_back_as_it_was() {
        for text in
            ["null", "[true,0,-5,1.5,18446744073709551615]", r#"{"a":{"b":["é",null]},"c":""}"#, "1e300"]
        {
            let read: Json = serde_json::from_str(text).unwrap();
            let again: Json = serde_json::from_str(&serde_json::to_string(&read).unwrap()).unwrap();
            assert_eq!(read, again, "{text}");
        }
        let ordered = r#"{"b":1,"a":{"z":[],"y":{}}}"#;
        let read: Json = serde_json::from_str(ordered).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), ordered, "in their order");
        let read: Json = serde_json::from_str("[1, -1, 1.0]").unwrap();
        assert_eq!(read, Json::List(vec![Json::Whole(1), Json::Negative(-1), Json::Number(1.0)]));
    }

    #[test]
    fn forks_are_counted() {
        let count = |count| ContextForkSpec { count: Some(count), ..Default::default() }.validate();
        assert!(count(0).is_err() && count(1).is_ok() && count(63).is_ok() && count(64).is_err());
    }
}
