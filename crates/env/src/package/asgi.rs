//! A package's own OpenEnv server, unmodified: a session here is a WebSocket to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::BoxFuture;
use futures::{SinkExt as _, StreamExt as _};
use hothouse_sandbox::DialStream;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::description;
use super::home::Home;
use super::running::failed;
use crate::environment::{Environment, Maker, Schemas, Tool, Turns};
use crate::game::{Failed, Reset, ToolError};
use crate::instance::{Beside, Host, Instance, OpenError, Shown, Terms};
use crate::model::Wrong;
use crate::observed::{Observed, Reward};
use crate::session::StepError;
use crate::tasks::{TaskError, TaskQuery};

/// Bytes of the largest message of a server.
const LARGEST: usize = 100 << 20;

/// The servers of one package: another one is started when those that run take no more sessions.
#[derive(Debug)]
struct Servers(Mutex<Vec<Arc<Server>>>);

/// One of them, in a sandbox of its own.
#[derive(Debug)]
struct Server {
    home: Home,
    sessions: AtomicUsize,
    /// Sessions that it had when it took no more.
    most: AtomicUsize,
}

/// One session at a server.
#[derive(Debug)]
struct AsgiInstance {
    socket: WebSocketStream<DialStream>,
    _seat: Seat,
}

/// Counts a session as long as it lives.
#[derive(Debug)]
struct Seat(Arc<Server>);

impl Seat {
    fn new(server: &Arc<Server>) -> Self {
        server.sessions.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(server))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why a server takes no session.
#[derive(Debug)]
enum Refused {
    /// It has as many as it wants.
    Full,
    Failed(OpenError),
}

impl Server {
    fn new(home: Home) -> Self {
        Self { home, sessions: AtomicUsize::new(0), most: AtomicUsize::new(usize::MAX) }
    }

    fn has_room(&self) -> bool {
        self.sessions.load(Ordering::Relaxed) < self.most.load(Ordering::Relaxed)
    }
}

impl Servers {
    async fn open(&self) -> Result<AsgiInstance, OpenError> {
        let all = self.0.lock().await.clone();
        for server in all.iter().filter(|server| server.has_room()) {
            match AsgiInstance::open(server).await {
                Ok(instance) => return Ok(instance),
                Err(Refused::Full) => {}
                Err(Refused::Failed(error)) => return Err(error),
            }
        }
        let Some(first) = all.first() else { return Err(failed("no server of it was started")) };
        let another = Arc::new(Server::new(first.home.another()));
        match AsgiInstance::open(&another).await {
            Ok(instance) => {
                self.0.lock().await.push(another);
                Ok(instance)
            }
            Err(Refused::Full) => Err(failed("its server takes no session at all")),
            Err(Refused::Failed(error)) => Err(error),
        }
    }
}

/// Starts the server and asks it what it is.
pub(super) async fn environment(home: Home) -> Result<Environment, OpenError> {
    let server = Arc::new(Server::new(home));
    let schema = description::get(&server.home, "/schema").await?;
    let metadata = description::get(&server.home, "/metadata").await.unwrap_or_default();
    let tools = tools(&server).await;
    let text = |name: &str| metadata.get(name).and_then(Value::as_str).map(str::to_owned);
    let class = text("name").unwrap_or_else(|| "Environment".to_owned());
    let of = |name: &str| schema.get(name).cloned().unwrap_or_else(|| json!({"type": "object"}));
    let reset_observation = schema.get("reset_observation").cloned().unwrap_or_else(|| of("observation"));
    Ok(Environment {
        name: class.clone(),
        description: text("description").unwrap_or_default(),
        version: text("version").unwrap_or_else(|| "1.0.0".to_owned()),
        readme: text("readme_content"),
        class,
        schemas: Schemas {
            action: of("action"),
            observation: of("observation"),
            state: of("state"),
            reset_observation,
        },
        tools,
        turns: Turns::ItsOwn,
        maker: Maker::Host(Arc::new(Servers(Mutex::new(vec![server])))),
    })
}

/// Its tools; none where it has none, or is of a time before there were any.
async fn tools(server: &Arc<Server>) -> Option<Vec<Tool>> {
    #[derive(Deserialize)]
    struct Listed {
        name: String,
        description: Option<String>,
        #[serde(rename = "inputSchema", alias = "input_schema", default)]
        input_schema: Value,
        #[serde(rename = "outputSchema", default)]
        output_schema: Value,
    }
    let mut instance = AsgiInstance::open(server).await.ok()?;
    let result = instance.rpc("tools/list", &json!({})).await.ok()?;
    instance.say_goodbye().await;
    let listed: Vec<Listed> = serde_json::from_value(result.get("tools")?.clone()).ok()?;
    let tool = |listed: Listed| Tool {
        name: listed.name,
        description: listed.description.unwrap_or_default(),
        input_schema: listed.input_schema,
        output_schema: listed.output_schema,
    };
    Some(listed.into_iter().map(tool).collect())
}

impl Host for Servers {
    fn open(&self, _: Terms) -> BoxFuture<'_, Result<Box<dyn Instance>, OpenError>> {
        Box::pin(async {
            let instance = Self::open(self).await?;
            Ok(Box::new(instance) as Box<dyn Instance>)
        })
    }

    fn tasks<'a>(&'a self, query: &'a TaskQuery) -> BoxFuture<'a, Result<Value, TaskError>> {
        Box::pin(async {
            let first = self.0.lock().await.first().cloned();
            let server = first.ok_or_else(|| failed("no server of it was started"))?;
            description::tasks(&server.home, query).await
        })
    }
}

/// A message of a server.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    data: &'a RawValue,
}

#[derive(Deserialize)]
struct Shows<'a> {
    #[serde(borrow)]
    observation: &'a RawValue,
    #[serde(borrow, default)]
    reward: Option<&'a RawValue>,
    #[serde(default)]
    done: bool,
    #[serde(borrow, default)]
    metadata: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Told {
    message: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    errors: Vec<Wrong>,
}

fn lost(why: impl std::fmt::Display) -> StepError {
    StepError::Lost(format!("the environment's server: {why}"))
}

impl AsgiInstance {
    async fn open(server: &Arc<Server>) -> Result<Self, Refused> {
        let seat = Seat::new(server);
        let stream = server.home.connect().await.map_err(|error| Refused::Failed(failed(error)))?;
        let config = WebSocketConfig::default().max_message_size(Some(LARGEST)).max_frame_size(Some(LARGEST));
        let config = config.read_buffer_size(16 << 10);
        let opened =
            tokio_tungstenite::client_async_with_config("ws://localhost/ws", stream, Some(config)).await;
        let (socket, _) = opened
            .map_err(|error| Refused::Failed(failed(format!("its server takes no session: {error}"))))?;
        let mut instance = Self { socket, _seat: seat };
        // A server that is full says so instead of answering; whatever else it answers, there is a session.
        let answer = instance.ask(r#"{"type":"state"}"#.to_owned()).await;
        let answer = answer.map_err(|error| Refused::Failed(failed(error)))?;
        let told = parse(&answer).ok().filter(|answer| answer.kind == "error");
        let told = told.and_then(|answer| serde_json::from_str::<Told>(answer.data.get()).ok());
        match told {
            Some(told) if told.code == "CAPACITY_REACHED" => {
                let others = server.sessions.load(Ordering::Relaxed).saturating_sub(1);
                server.most.store(others.max(1), Ordering::Relaxed);
                Err(Refused::Full)
            }
            Some(told) if told.code == "FACTORY_ERROR" => Err(Refused::Failed(failed(told.message))),
            Some(_) | None => Ok(instance),
        }
    }

    /// Says something and hears the answer's kind and data.
    async fn ask(&mut self, message: String) -> Result<String, StepError> {
        self.socket.send(Message::text(message)).await.map_err(lost)?;
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => return Ok(text.as_str().to_owned()),
                Some(Ok(Message::Close(frame))) => {
                    let why = frame.map_or_else(String::new, |frame| format!(" ({})", frame.reason));
                    return Err(lost(format!("it closed the session{why}")));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(lost(error)),
                None => return Err(lost("it closed the connection")),
            }
        }
    }

    async fn observed(&mut self, message: String) -> Result<Observed, StepError> {
        let text = self.ask(message).await?;
        let answer = parse(&text)?;
        if answer.kind != "observation" {
            return Err(refused(&answer));
        }
        let shows: Shows<'_> =
            serde_json::from_str(answer.data.get()).map_err(|e| Failed::new(e.to_string()))?;
        let reward = shows.reward.map_or(Ok(Reward::None), |reward| Reward::parse(reward.get()))?;
        let (fields, inner) = without_metadata(shows.observation.get())?;
        // The older servers tell it within the observation alone.
        let metadata = shows.metadata.map_or(inner.as_str(), RawValue::get);
        Ok(Observed::from_json(&fields, reward, shows.done, metadata)?)
    }

    async fn rpc(&mut self, method: &str, params: &Value) -> Result<Value, ToolError> {
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let message = json!({"type": "mcp", "data": request}).to_string();
        let text = self.ask(message).await.map_err(|error| ToolError::Failed(error.to_string()))?;
        let failed = |error: &dyn std::fmt::Display| ToolError::Failed(error.to_string());
        let answer = parse(&text).map_err(|error| failed(&error))?;
        if answer.kind != "mcp" {
            return Err(failed(&refused(&answer)));
        }
        let mut data: Value = serde_json::from_str(answer.data.get()).map_err(|error| failed(&error))?;
        if let Some(result) = data.get_mut("result") {
            return Ok(result.take());
        }
        let message = data["error"]["message"].as_str().unwrap_or("it failed").to_owned();
        match data["error"]["code"].as_i64() {
            Some(-32602) => Err(ToolError::Arguments(message)),
            _ => Err(ToolError::Failed(message)),
        }
    }

    async fn say_goodbye(&mut self) {
        // A server that is gone needs no goodbye.
        _ = self.socket.send(Message::text(r#"{"type":"close"}"#)).await;
        _ = self.socket.close(None).await;
    }
}

fn parse(text: &str) -> Result<Answer<'_>, StepError> {
    serde_json::from_str(text)
        .map_err(|error| Failed::new(format!("its server's answer cannot be read: {error}")).into())
}

fn refused(answer: &Answer<'_>) -> StepError {
    match serde_json::from_str::<Told>(answer.data.get()) {
        Ok(told) if told.code == "VALIDATION_ERROR" && !told.errors.is_empty() => {
            StepError::Invalid(told.errors)
        }
        Ok(told) if matches!(told.code.as_str(), "CAPACITY_REACHED" | "FACTORY_ERROR" | "SESSION_ERROR") => {
            lost(told.message)
        }
        Ok(told) => Failed::new(told.message).into(),
        Err(error) => Failed::new(format!("its server answers {:?}: {error}", answer.kind)).into(),
    }
}

/// An observation's own fields, and the metadata within it.
fn without_metadata(observation: &str) -> Result<(String, String), StepError> {
    // Most have none, or say it again beside.
    if !observation.contains("\"metadata\"") {
        return Ok((observation.to_owned(), String::new()));
    }
    let fields: Vec<(String, Box<RawValue>)> = ordered(observation)?;
    let (mut out, mut metadata) = ("{".to_owned(), String::new());
    for (name, value) in fields {
        if name == "metadata" {
            value.get().clone_into(&mut metadata);
            continue;
        }
        if out.len() > 1 {
            out.push(',');
        }
        out.push_str(&Value::from(name).to_string());
        out.push(':');
        out.push_str(value.get());
    }
    out.push('}');
    Ok((out, metadata))
}

/// The fields of an object, in their order.
fn ordered(object: &str) -> Result<Vec<(String, Box<RawValue>)>, StepError> {
    struct Fields(Vec<(String, Box<RawValue>)>);
    impl<'de> Deserialize<'de> for Fields {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Visitor;
            impl<'de> serde::de::Visitor<'de> for Visitor {
                type Value = Fields;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("an object")
                }
                fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                    let mut fields = Vec::new();
                    while let Some(field) = map.next_entry()? {
                        fields.push(field);
                    }
                    Ok(Fields(fields))
                }
            }
            deserializer.deserialize_map(Visitor)
        }
    }
    let fields: Fields =
        serde_json::from_str(object).map_err(|e| Failed::new(format!("the observation: {e}")))?;
    Ok(fields.0)
}

impl Instance for AsgiInstance {
    fn reset<'a>(&'a mut self, how: &'a Reset) -> BoxFuture<'a, Result<Observed, StepError>> {
        Box::pin(async { self.observed(json!({"type": "reset", "data": how.given}).to_string()).await })
    }

    fn step<'a>(
        &'a mut self,
        action: &'a str,
        // These servers take nothing beside an action in a session.
        _: Beside<'a>,
    ) -> BoxFuture<'a, Result<Observed, StepError>> {
        Box::pin(async move { self.observed(format!(r#"{{"type":"step","data":{action}}}"#)).await })
    }

    fn state(&mut self) -> BoxFuture<'_, Result<Shown, StepError>> {
        Box::pin(async {
            let text = self.ask(r#"{"type":"state"}"#.to_owned()).await?;
            let answer = parse(&text)?;
            if answer.kind != "state" {
                return Err(refused(&answer));
            }
            Ok(Shown::Whole(answer.data.get().into()))
        })
    }

    fn copy(&mut self) -> BoxFuture<'_, Result<Box<dyn Instance>, StepError>> {
        Box::pin(async {
            let environment = "an environment with a server of its own".to_owned();
            Err(StepError::NotSupported { environment, what: "be copied" })
        })
    }

    fn call_tool<'a>(
        &'a mut self,
        name: &'a str,
        arguments: &'a Map<String, Value>,
    ) -> BoxFuture<'a, Result<Value, ToolError>> {
        Box::pin(async move { self.rpc("tools/call", &json!({"name": name, "arguments": arguments})).await })
    }

    fn close(mut self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move { self.say_goodbye().await })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_taken_out_of_an_observation_and_nothing_else_changes() {
        let (fields, metadata) = without_metadata(r#"{"metadata":{"a":1},"x":1.50,"s":"\u00e9"}"#).unwrap();
        assert_eq!((fields.as_str(), metadata.as_str()), (r#"{"x":1.50,"s":"\u00e9"}"#, r#"{"a":1}"#));
        assert_eq!(without_metadata(r#"{"x":1}"#).unwrap().0, r#"{"x":1}"#);
    }
}
