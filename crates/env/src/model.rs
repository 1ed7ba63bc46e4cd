//! What a JSON object has to look like: its JSON Schema, and what is wrong with one that does not.
//!
//! Schemas and errors are those that pydantic v2 gives for the same model (`type`, `loc`, `msg`, `input`, `ctx`), since
//! clients and their users know these: <https://docs.pydantic.dev/latest/errors/validation_errors/>. Its lax mode is
//! followed too: `"7"` and `7.0` are whole numbers, a number is no text.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// What a value may be.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// A text.
    Text,
    /// A text of at most so many characters.
    ShortText(usize),
    /// A whole number within bounds, both of them allowed.
    Integer {
        /// The least.
        least: Option<i64>,
        /// The most.
        most: Option<i64>,
    },
    /// A number.
    Number,
    /// A number greater than zero.
    Positive,
    /// True or false.
    Flag,
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// A list of values.
    List(Box<Kind>),
    /// A value or null.
    Optional(Box<Kind>),
    /// Any object.
    Object,
}

/// One field of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    name: &'static str,
    kind: Kind,
    description: &'static str,
    default: Option<Value>,
}

impl Field {
    /// A field that has to be there.
    #[must_use]
    pub const fn new(name: &'static str, kind: Kind, description: &'static str) -> Self {
        Self { name, kind, description, default: None }
    }

    /// The same, with what it is when it is not there.
    #[must_use]
    pub fn or(mut self, default: impl Into<Value>) -> Self {
        self.default = Some(default.into());
        self
    }
}

/// Whether an object may have fields that its model does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Others {
    /// They are errors.
    Forbidden,
    /// They are taken as they are.
    Allowed,
}

/// What an object has to look like.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    title: &'static str,
    description: &'static str,
    others: Others,
    fields: Vec<Field>,
}

/// One thing that is wrong with an object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Wrong {
    /// What kind of mistake it is, e.g. `missing`.
    #[serde(rename = "type")]
    pub kind: std::borrow::Cow<'static, str>,
    /// Where: names of fields and places in lists.
    pub loc: Vec<Value>,
    /// What is allowed.
    pub msg: String,
    /// What was given.
    pub input: Value,
    /// Bounds that the message names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ctx: Option<Value>,
}

impl Wrong {
    fn at(loc: &[Value], kind: &'static str, msg: impl Into<String>, input: &Value) -> Box<Self> {
        Box::new(Self {
            kind: kind.into(),
            loc: loc.to_vec(),
            msg: msg.into(),
            input: input.clone(),
            ctx: None,
        })
    }

    fn with(mut self: Box<Self>, ctx: Value) -> Box<Self> {
        self.ctx = Some(ctx);
        self
    }

    /// A field that is not there.
    #[must_use]
    pub fn missing(loc: Vec<Value>, input: Value) -> Self {
        Self { kind: "missing".into(), loc, msg: "Field required".to_owned(), input, ctx: None }
    }

    /// A field that nobody knows.
    #[must_use]
    pub fn extra(loc: Vec<Value>, input: Value) -> Self {
        let msg = "Extra inputs are not permitted".to_owned();
        Self { kind: "extra_forbidden".into(), loc, msg, input, ctx: None }
    }

    /// Something else than an object.
    #[must_use]
    pub fn no_object(loc: Vec<Value>, input: Value) -> Self {
        Self {
            kind: "dict_type".into(),
            loc,
            msg: "Input should be a valid dictionary".to_owned(),
            input,
            ctx: None,
        }
    }
}

impl Model {
    /// A model of an object.
    #[must_use]
    pub const fn new(
        title: &'static str,
        description: &'static str,
        others: Others,
        fields: Vec<Field>,
    ) -> Self {
        Self { title, description, others, fields }
    }

    /// An action: its own fields, and `metadata`.
    #[must_use]
    pub fn action(title: &'static str, description: &'static str, fields: Vec<Field>) -> Self {
        let metadata =
            Field::new("metadata", Kind::Object, "Additional metadata for the action").or(json!({}));
        Self::new(title, description, Others::Forbidden, [vec![metadata], fields].concat())
    }

    /// An observation: `done`, `reward`, `metadata`, and its own fields.
    #[must_use]
    pub fn observation(title: &'static str, description: &'static str, fields: Vec<Field>) -> Self {
        let metadata =
            Field::new("metadata", Kind::Object, "Additional metadata for the observation").or(json!({}));
        let done = Field::new("done", Kind::Flag, "Whether the episode has terminated").or(false);
        Self::new(title, description, Others::Forbidden, [vec![done, metadata], fields].concat())
    }

    /// A state: `episode_id`, `step_count`, and its own fields.
    #[must_use]
    pub fn state(title: &'static str, description: &'static str, fields: Vec<Field>) -> Self {
        let text = Kind::Optional(Box::new(Kind::Text));
        let episode =
            Field::new("episode_id", text, "Unique identifier for the current episode").or(Value::Null);
        let count = Kind::Integer { least: Some(0), most: None };
        let steps = Field::new("step_count", count, "Number of steps taken in the current episode").or(0);
        Self::new(title, description, Others::Allowed, [vec![episode, steps], fields].concat())
    }

    /// Its name.
    #[must_use]
    pub fn title(&self) -> &'static str {
        self.title
    }

    /// A request, which may hold more than its fields.
    #[must_use]
    pub const fn request(title: &'static str, fields: Vec<Field>) -> Self {
        Self::new(title, "", Others::Allowed, fields)
    }

    /// Checks an object and fills in what is not there.
    ///
    /// # Errors
    /// All that is wrong with it, in the order of the model's fields; fields that it does not know come last.
    pub fn check(&self, input: Value) -> Result<Map<String, Value>, Vec<Wrong>> {
        let Value::Object(mut given) = input else { return Err(vec![Wrong::no_object(Vec::new(), input)]) };
        let mut checked = Map::new();
        let mut wrong = Vec::new();
        let whole =
            self.fields.iter().any(|field| field.default.is_none() && !given.contains_key(field.name));
        let whole = whole.then(|| Value::Object(given.clone()));
        for field in &self.fields {
            match (given.remove(field.name), &field.default) {
                (Some(value), _) => {
                    let value = field.kind.check(value, &mut vec![field.name.into()], &mut wrong);
                    checked.insert(field.name.to_owned(), value);
                }
                (None, Some(default)) => {
                    checked.insert(field.name.to_owned(), default.clone());
                }
                (None, None) => {
                    wrong.push(Wrong::missing(vec![field.name.into()], whole.clone().unwrap_or_default()));
                }
            }
        }
        match self.others {
            Others::Allowed => checked.extend(given),
            Others::Forbidden => {
                wrong.extend(given.into_iter().map(|(name, value)| Wrong::extra(vec![name.into()], value)));
            }
        }
        if wrong.is_empty() { Ok(checked) } else { Err(wrong) }
    }

    /// Its JSON Schema (draft 2020-12).
    #[must_use]
    pub fn schema(&self) -> Value {
        let properties: Map<String, Value> =
            self.fields.iter().map(|field| (field.name.to_owned(), field.schema())).collect();
        let required: Vec<&str> =
            self.fields.iter().filter(|f| f.default.is_none()).map(|field| field.name).collect();
        let mut schema = json!({
            "additionalProperties": self.others == Others::Allowed,
            "description": self.description,
            "properties": properties,
            "title": self.title,
            "type": "object",
        });
        if self.fields.iter().any(|field| field.name == "done") {
            schema["properties"]["reward"] = json!({
                "anyOf": [{"type": "boolean"}, {"type": "integer"}, {"type": "number"}, {"type": "null"}],
                "default": null, "description": "Reward signal from the last action", "title": "Reward",
            });
        }
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        schema
    }
}

impl Field {
    fn schema(&self) -> Value {
        let mut schema = self.kind.schema();
        schema["title"] = self.name.split('_').map(capital).collect::<Vec<_>>().join(" ").into();
        schema["description"] = self.description.into();
        // An object's default is made anew for each, which a schema does not show.
        if let Some(default) = self.default.as_ref().filter(|_| self.kind != Kind::Object) {
            schema["default"] = default.clone();
        }
        schema
    }
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

impl Kind {
    fn schema(&self) -> Value {
        match self {
            Self::Text => json!({"type": "string"}),
            Self::ShortText(most) => json!({"maxLength": most, "type": "string"}),
            Self::Integer { least, most } => {
                let mut schema = json!({"type": "integer"});
                for (name, bound) in [("minimum", least), ("maximum", most)] {
                    if let Some(bound) = bound {
                        schema[name] = json!(bound);
                    }
                }
                schema
            }
            Self::Number => json!({"type": "number"}),
            Self::Positive => json!({"exclusiveMinimum": 0.0, "type": "number"}),
            Self::Flag => json!({"type": "boolean"}),
            Self::OneOf(texts) => json!({"enum": texts, "type": "string"}),
            Self::List(of) => json!({"items": of.schema(), "type": "array"}),
            Self::Optional(of) => json!({"anyOf": [of.schema(), {"type": "null"}]}),
            Self::Object => json!({"additionalProperties": true, "type": "object"}),
        }
    }

    /// The value as it is meant; null, and an entry in `wrong`, for one that cannot be.
    fn check(&self, value: Value, loc: &mut Vec<Value>, wrong: &mut Vec<Wrong>) -> Value {
        let checked = match (self, &value) {
            (Self::Text, Value::String(_))
            | (Self::Number, Value::Number(_))
            | (Self::Flag, Value::Bool(_))
            | (Self::Object, Value::Object(_))
            | (Self::Optional(_), Value::Null) => return value,
            (Self::Optional(of), _) => return of.check(value, loc, wrong),
            (Self::ShortText(most), Value::String(text)) => {
                if text.chars().count() <= *most {
                    return value;
                }
                let msg = format!("String should have at most {most} characters");
                Err(Wrong::at(loc, "string_too_long", msg, &value).with(json!({"max_length": most})))
            }
            (Self::Positive, _) => {
                let before = wrong.len();
                let number = Self::Number.check(value.clone(), loc, wrong);
                if wrong.len() > before || number.as_f64().is_some_and(|number| number > 0.0) {
                    return number;
                }
                let msg = "Input should be greater than 0";
                Err(Wrong::at(loc, "greater_than", msg, &value).with(json!({"gt": 0.0})))
            }
            (Self::List(of), Value::Array(_)) => {
                let Value::Array(items) = value else { return Value::Null };
                let check = |(place, item)| {
                    loc.push(Value::from(place));
                    let checked = of.check(item, loc, wrong);
                    loc.pop();
                    checked
                };
                return items.into_iter().enumerate().map(check).collect();
            }
            (Self::Integer { least, most }, _) => integer(&value, loc).and_then(|number| {
                let bound = |kind, word, name: &str, bound: i64| {
                    let msg = format!("Input should be {word} than or equal to {bound}");
                    Err(Wrong::at(loc, kind, msg, &value).with(json!({name: bound})))
                };
                match (least, most) {
                    (Some(least), _) if number < *least => {
                        bound("greater_than_equal", "greater", "ge", *least)
                    }
                    (_, Some(most)) if number > *most => bound("less_than_equal", "less", "le", *most),
                    _ => Ok(Value::from(number)),
                }
            }),
            (Self::Number, Value::String(text)) => {
                let msg = "Input should be a valid number, unable to parse string as a number";
                let number = text.trim().parse::<f64>().ok().and_then(serde_json::Number::from_f64);
                number.map(Value::Number).ok_or_else(|| Wrong::at(loc, "float_parsing", msg, &value))
            }
            (Self::Flag, Value::Number(_) | Value::String(_)) => flag(&value, loc),
            (Self::OneOf(texts), _) => match value.as_str() {
                Some(text) if texts.contains(&text) => Ok(value.clone()),
                Some(_) | None => {
                    let expected = listed(texts);
                    let msg = format!("Input should be {expected}");
                    Err(Wrong::at(loc, "enum", msg, &value).with(json!({"expected": expected})))
                }
            },
            (Self::Text | Self::ShortText(_), _) => {
                Err(Wrong::at(loc, "string_type", "Input should be a valid string", &value))
            }
            (Self::Number, _) => Err(Wrong::at(loc, "float_type", "Input should be a valid number", &value)),
            (Self::Flag, _) => Err(Wrong::at(loc, "bool_type", "Input should be a valid boolean", &value)),
            (Self::List(_), _) => Err(Wrong::at(loc, "list_type", "Input should be a valid list", &value)),
            (Self::Object, _) => Err(Box::new(Wrong::no_object(loc.clone(), value.clone()))),
        };
        checked.unwrap_or_else(|mistake| {
            wrong.push(*mistake);
            Value::Null
        })
    }
}

/// `'a', 'b' or 'c'`.
fn listed(texts: &[&str]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| format!("'{text}'")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

fn integer(value: &Value, loc: &[Value]) -> Result<i64, Box<Wrong>> {
    let fraction = "Input should be a valid integer, got a number with a fractional part";
    match value {
        Value::Bool(flag) => Ok(i64::from(*flag)),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => Ok(number),
            #[expect(clippy::cast_possible_truncation, reason = "it has no fraction and is within bounds")]
            (None, Some(float)) if float.fract() == 0.0 && float.abs() < 9e15 => Ok(float as i64),
            _ => Err(Wrong::at(loc, "int_from_float", fraction, value)),
        },
        Value::String(text) => text.trim().parse().map_err(|_| {
            let msg = "Input should be a valid integer, unable to parse string as an integer";
            Wrong::at(loc, "int_parsing", msg, value)
        }),
        _ => Err(Wrong::at(loc, "int_type", "Input should be a valid integer", value)),
    }
}

fn flag(value: &Value, loc: &[Value]) -> Result<Value, Box<Wrong>> {
    let text = match value {
        Value::String(text) => text.to_lowercase(),
        other => other.to_string(),
    };
    match text.as_str() {
        "1" | "true" | "t" | "yes" | "y" | "on" => Ok(true.into()),
        "0" | "false" | "f" | "no" | "n" | "off" => Ok(false.into()),
        _ => {
            let msg = "Input should be a valid boolean, unable to interpret input";
            Err(Wrong::at(loc, "bool_parsing", msg, value))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn model() -> Model {
        let fields = vec![
            Field::new("message", Kind::Text, "Message to echo back"),
            Field::new("n", Kind::Integer { least: Some(0), most: Some(6) }, "A number").or(1),
            Field::new("way", Kind::OneOf(&["UP", "DOWN", "LEFT"]), "A way").or("UP"),
        ];
        Model::action("MyAction", "An action.", fields)
    }

    fn mistakes(input: Value) -> Vec<(String, String)> {
        let mistake = |wrong: Wrong| (wrong.kind.to_string(), format!("{}: {}", json!(wrong.loc), wrong.msg));
        model().check(input).unwrap_err().into_iter().map(mistake).collect()
    }

    #[test]
    fn what_is_meant_is_taken_and_what_is_not_there_filled_in() {
        let checked = model().check(json!({"message": "x", "n": "3"})).unwrap();
        assert_eq!(Value::Object(checked), json!({"message": "x", "n": 3, "way": "UP", "metadata": {}}));
        for n in [json!(2.0), json!(" 2 "), json!(2)] {
            assert_eq!(model().check(json!({"message": "", "n": n})).unwrap()["n"], 2);
        }
    }

    #[test]
    fn mistakes_are_named_as_pydantic_names_them() {
        assert_eq!(
            mistakes(json!({"x": 1})),
            [
                ("missing".to_owned(), r#"["message"]: Field required"#.to_owned()),
                ("extra_forbidden".to_owned(), r#"["x"]: Extra inputs are not permitted"#.to_owned()),
            ]
        );
        let wrong = model().check(json!({"x": 1})).unwrap_err();
        assert_eq!((&wrong[0].input, &wrong[1].input), (&json!({"x": 1}), &json!(1)));
        for (n, kind) in [
            (json!(-1), "greater_than_equal"),
            (json!(7), "less_than_equal"),
            (json!(1.5), "int_from_float"),
            (json!("x"), "int_parsing"),
            (json!([]), "int_type"),
        ] {
            assert_eq!(mistakes(json!({"message": "", "n": n}))[0].0, kind);
        }
        let way = mistakes(json!({"message": 5, "way": "BACK"}));
        assert_eq!(
            way[0],
            ("string_type".to_owned(), r#"["message"]: Input should be a valid string"#.to_owned())
        );
        assert_eq!(
            way[1],
            ("enum".to_owned(), r#"["way"]: Input should be 'UP', 'DOWN' or 'LEFT'"#.to_owned())
        );
        assert_eq!(mistakes(json!([]))[0].0, "dict_type");
    }

    #[test]
    fn the_schema_is_what_pydantic_makes_of_the_same_model() {
        let schema = Model::action(
            "MyAction",
            "An action.",
            vec![Field::new("message", Kind::Text, "Message to echo back")],
        )
        .schema();
        let wanted = json!({
            "additionalProperties": false, "description": "An action.",
            "properties": {
                "metadata": {"additionalProperties": true, "description": "Additional metadata for the action",
                    "title": "Metadata", "type": "object"},
                "message": {"description": "Message to echo back", "title": "Message", "type": "string"},
            },
            "required": ["message"], "title": "MyAction", "type": "object",
        });
        assert_eq!(schema, wanted);
    }

    fn anything() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(|float| json!(float)),
            ".{0,9}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            let names = prop_oneof![Just("message".to_owned()), Just("n".to_owned()), "[a-z]{1,4}"];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(names, inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_was_checked_is_right_and_stays_so(input in anything()) {
            if let Ok(checked) = model().check(input) {
                prop_assert_eq!(model().check(Value::Object(checked.clone())), Ok(checked));
            }
        }
    }
}
