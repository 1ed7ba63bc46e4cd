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
        Field::new("type", Kind::OneOf(&["call_tool", "list_tools"]), "Call a tool, or list them")
            .or("call_tool"),
        Field::new("tool_name", Kind::Text, "Name of the tool to call").or(""),
        Field::new("arguments", Kind::Object, "Arguments to pass to the tool").or(json!({})),
    ];
    let nothing = || Kind::Optional(Box::new(Kind::Object));
    let observation = vec![
        Field::new("tool_name", Kind::Text, "Name of the tool that was called").or(""),
        Field::new("result", nothing(), "The tool's result").or(Value::Null),
        Field::new("error", nothing(), "Why it failed").or(Value::Null),
        Field::new("tools", Kind::List(Box::new(Kind::Object)), "The tools, where they were listed")
            .or(json!([])),
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
    kind: ActionKind,
    #[serde(default)]
    tool_name: String,
    #[serde(default)]
    arguments: Map<String, Value>,
    #[serde(default, rename = "metadata")]
    _metadata: Metadata,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ActionKind {
    #[default]
    CallTool,
    ListTools,
}

#[derive(Serialize)]
struct Ready {
    status: &'static str,
    message: &'static str,
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
        shown.tell(&Ready { status: "ready", message: "Echo environment ready!" })
    }

    fn step(&mut self, action: Action, shown: &mut Observed) -> Result<(), Failed> {
        if let ActionKind::ListTools = action.kind {
            let told = |tool: Tool| json!({"name": tool.name, "description": tool.description, "input_schema": tool.input_schema});
            let tools: Vec<Value> = tools().into_iter().map(told).collect();
            return shown.show(&json!({"tools": tools}), Reward::None, false);
        }
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
            _ => {
                let length = message.chars().count();
                // In this order, which a JSON value does not keep.
                let text = format!("{{\"message\":{},\"length\":{length}}}", Value::from(message));
                structured(&text, &json!({"message": message, "length": length}))
            }
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
fn structured(text: &str, value: &Value) -> Value {
    json!({
        "content": [{"type": "text", "text": text, "annotations": null, "meta": null}],
        "structured_content": value,
        "meta": null,
        "data": value,
        "is_error": false,
    })
}
