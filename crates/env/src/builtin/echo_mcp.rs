//! `echo_mcp`: says what it is told, by tools alone, as the newer echo environments of OpenEnv do.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Metadata;
use crate::environment::{About, Environment, Models, Tool, Turns};
use crate::game::{Failed, Reset, Rules, ToolError, Typed};
use crate::model::{Field, Kind, Model};
use crate::observed::{Observed, Reward};

/// What it is.
pub(super) fn environment() -> Environment {
    let about = About {
        name: "echo_mcp",
        class: "EchoEnvironment",
        description: "Echoes a message by the tools echo_message and echo_with_length",
        version: "1.0.0",
    };
    let action = vec![
        Field::new("type", Kind::OneOf(&["call_tool"]), "Action type discriminator").or("call_tool"),
        Field::new("tool_name", Kind::Text, "Name of the tool to call"),
        Field::new("arguments", Kind::Object, "Arguments to pass to the tool").or(json!({})),
    ];
    let nothing = || Kind::Optional(Box::new(Kind::Object));
    let observation = vec![
        Field::new("tool_name", Kind::Text, "Name of the tool that was called").or(""),
        Field::new("result", nothing(), "The tool's result").or(Value::Null),
        Field::new("error", nothing(), "Why it failed").or(Value::Null),
    ];
    let models = Models {
        action: Model::action("CallToolAction", "Which tool to call.", action),
        observation: Model::observation("CallToolObservation", "What came of the call.", observation),
        state: Model::state("State", "Where the episode is.", Vec::new()),
    };
    Environment::in_memory(about, models, Turns::AtOnce, |_| Box::new(Typed(EchoMcp))).with_tools(tools())
}

fn tools() -> Vec<Tool> {
    let input = |of: &str| json!({"additionalProperties": false, "properties": {of: {"type": "string"}}, "required": [of], "type": "object"});
    let text = json!({"properties": {"result": {"type": "string"}}, "required": ["result"], "type": "object",
        "x-fastmcp-wrap-result": true});
    vec![
        Tool {
            name: "echo_message".to_owned(),
            description: "Echo back the message.".to_owned(),
            input_schema: input("message"),
            output_schema: text,
        },
        Tool {
            name: "echo_with_length".to_owned(),
            description: "Echo back the message with its length.".to_owned(),
            input_schema: input("message"),
            output_schema: json!({"additionalProperties": true, "type": "object"}),
        },
    ]
}

#[derive(Debug, Clone)]
struct EchoMcp;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Action {
    #[serde(default, rename = "type")]
    _type: CallTool,
    tool_name: String,
    #[serde(default)]
    arguments: Map<String, Value>,
    #[serde(default, rename = "metadata")]
    _metadata: Metadata,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum CallTool {
    #[default]
    CallTool,
}

#[derive(Serialize)]
struct Observation<'a> {
    tool_name: &'a str,
    result: Value,
    error: Option<Value>,
}

impl Rules for EchoMcp {
    type Action = Action;

    fn reset(&mut self, _: &Reset, shown: &mut Observed) -> Result<(), Failed> {
        shown.show(&json!({}), Reward::Number(0.0), false)?;
        shown.tell(&json!({"status": "ready", "message": "Echo environment ready!"}))
    }

    fn step(&mut self, action: Action, shown: &mut Observed) -> Result<(), Failed> {
        let (result, error) = match self.call_tool(&action.tool_name, &action.arguments) {
            Ok(result) => (result, None),
            Err(error) => {
                let kind = match &error {
                    ToolError::Unknown(_) | ToolError::None => "tool_not_found",
                    ToolError::Arguments(_) => "invalid_args",
                    ToolError::Failed(_) => "execution_error",
                };
                (Value::Null, Some(json!({"error_type": kind, "message": error.to_string()})))
            }
        };
        shown.show(&Observation { tool_name: &action.tool_name, result, error }, Reward::None, false)
    }

    fn call_tool(&mut self, name: &str, arguments: &Map<String, Value>) -> Result<Value, ToolError> {
        if name != "echo_message" && name != "echo_with_length" {
            return Err(ToolError::Unknown(name.to_owned()));
        }
        if let Some(other) = arguments.keys().find(|key| *key != "message") {
            return Err(ToolError::Arguments(format!("{name} has no argument {other:?}")));
        }
        let Some(message) = arguments.get("message").and_then(Value::as_str) else {
            return Err(ToolError::Arguments(format!("{name} needs the argument \"message\", a string")));
        };
        Ok(match name {
            "echo_message" => wrapped(message),
            _ => structured(&json!({"message": message, "length": message.chars().count()})),
        })
    }
}

/// A tool's plain value, as MCP has it.
fn wrapped(text: &str) -> Value {
    json!({
        "content": [{"type": "text", "text": text, "annotations": null, "meta": null}],
        "structured_content": {"result": text},
        "meta": {"fastmcp": {"wrap_result": true}},
        "data": text,
        "is_error": false,
    })
}

/// A tool's object, as MCP has it.
fn structured(value: &Value) -> Value {
    json!({
        "content": [{"type": "text", "text": value.to_string(), "annotations": null, "meta": null}],
        "structured_content": value,
        "meta": null,
        "data": value,
        "is_error": false,
    })
}
