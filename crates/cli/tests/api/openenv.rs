//! Environments over OpenEnv's wire, of the real program: `hothouse env serve` on a free port.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use futures::{SinkExt, StreamExt};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::process::Running;
use crate::wait::{PATIENCE, by, client, within};

/// The subprotocol of what is ours alone.
const OURS: &str = "hothouse.env.v1";

/// A served environment, ended with the test.
pub(crate) struct Environment {
    pub(crate) running: Running,
    pub(crate) base: String,
    pub(crate) http: reqwest::Client,
}

impl Environment {
    pub(crate) fn serve(name: &str, flags: &[&str]) -> Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hothouse"));
        command.args(["env", "serve", name, "--port", "0"]).args(flags);
        let mut running = Running::start(&mut command);
        let said = running.read_until("\n");
        let base = said.trim().rsplit(' ').next().context("an address")?.to_owned();
        ensure!(base.starts_with("http://127.0.0.1:"), "said {said:?}");
        Ok(Self { running, base, http: client()? })
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<(StatusCode, Value)> {
        let answer =
            within("an answer", self.http.post(format!("{}{path}", self.base)).json(body).send()).await??;
        Ok((answer.status(), answer.json().await?))
    }

    pub(crate) async fn get(&self, path: &str) -> Result<(StatusCode, Value)> {
        let answer = within("an answer", self.http.get(format!("{}{path}", self.base)).send()).await??;
        Ok((answer.status(), answer.json().await?))
    }

    pub(crate) async fn connect(&self) -> Result<Client> {
        Client::open(&self.base, "/ws", None).await
    }

    /// A connection for many sessions.
    pub(crate) async fn connect_ours(&self) -> Result<Client> {
        Client::open(&self.base, "/ws", Some(OURS)).await
    }
}

/// A WebSocket.
pub(crate) struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    pub(crate) async fn open(base: &str, path: &str, protocol: Option<&str>) -> Result<Self> {
        let url = format!("{}{path}", base.replacen("http", "ws", 1));
        let mut request = url.into_client_request()?;
        if let Some(protocol) = protocol {
            request.headers_mut().insert("sec-websocket-protocol", protocol.parse()?);
        }
        let (socket, answer) = within("a connection", Box::pin(connect_async(request))).await??;
        let spoken =
            answer.headers().get("sec-websocket-protocol").map(|value| value.to_str().unwrap_or_default());
        ensure!(spoken == protocol, "the subprotocol is {spoken:?}");
        Ok(Self(socket))
    }

    pub(crate) async fn say(&mut self, text: impl Into<String>) -> Result<()> {
        Ok(within("a message to be taken", self.0.send(Message::text(text.into()))).await??)
    }

    pub(crate) async fn hear(&mut self) -> Result<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match by(deadline, "a message", self.0.next()).await?.context("the connection ended")?? {
                Message::Text(text) => return Ok(serde_json::from_str(&text)?),
                Message::Close(frame) => bail!("closed: {frame:?}"),
                _ => {}
            }
        }
    }

    pub(crate) async fn ask(&mut self, message: &Value) -> Result<Value> {
        self.say(message.to_string()).await?;
        self.hear().await
    }

    pub(crate) async fn closed(&mut self) -> Result<Option<CloseFrame>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match by(deadline, "the connection to close", self.0.next()).await? {
                None | Some(Err(_)) => return Ok(None),
                Some(Ok(Message::Close(frame))) => return Ok(frame),
                Some(Ok(_)) => {}
            }
        }
    }
}

pub(crate) fn code(message: &Value) -> &str {
    message["data"]["code"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_connection_is_a_session_of_its_own() -> Result<()> {
    let environment = Environment::serve("grid_world", &[])?;
    let (mut one, mut other) = (environment.connect().await?, environment.connect().await?);
    for client in [&mut one, &mut other] {
        let reset = client.ask(&json!({"type": "reset", "data": {"episode_id": "E"}})).await?;
        assert_eq!(reset["type"], "observation");
        assert_eq!(reset["data"]["observation"]["x"], 0);
    }
    one.ask(&json!({"type": "step", "data": {"action": "DOWN"}})).await?;
    let state = |x, steps| json!({"type": "state", "data": {"episode_id": "E", "step_count": steps, "agent_x": x, "agent_y": 0}});
    assert_eq!(one.ask(&json!({"type": "state"})).await?, state(1, 1));
    assert_eq!(other.ask(&json!({"type": "state"})).await?, state(0, 0));
    one.say(r#"{"type":"close"}"#).await?;
    assert_eq!(one.closed().await?.context("a close frame")?.code, 1000.into());
    assert_eq!(other.ask(&json!({"type": "state"})).await?, state(0, 0));
    Ok(())
}

#[tokio::test]
async fn what_is_wrong_is_told_and_the_session_goes_on() -> Result<()> {
    let environment = Environment::serve("grid_world", &[])?;
    let mut client = environment.connect().await?;
    for (text, wanted) in [
        (r#"{"type":"step","data":{"action":"UP"}}"#, "EXECUTION_ERROR"),
        ("{oops", "INVALID_JSON"),
        (r#"{"type":"dance"}"#, "UNKNOWN_TYPE"),
        (r#"{"type":"step"}"#, "VALIDATION_ERROR"),
        (r#"{"type":"step","data":{"action":"SIDEWAYS"}}"#, "VALIDATION_ERROR"),
        (r#"{"type":"step","data":{"action":"UP","speed":2}}"#, "VALIDATION_ERROR"),
        (r#"{"type":"reset","data":{"seed":"zz"}}"#, "VALIDATION_ERROR"),
        (r#"{"type":"state","request_id":1}"#, "VALIDATION_ERROR"),
    ] {
        client.say(text).await?;
        assert_eq!(code(&client.hear().await?), wanted, "{text}");
    }
    client.ask(&json!({"type": "reset"})).await?;
    for way in ["DOWN", "RIGHT"].repeat(4) {
        client.ask(&json!({"type": "step", "data": {"action": way}})).await?;
    }
    let over = client.ask(&json!({"type": "step", "data": {"action": "UP"}})).await?;
    assert_eq!(code(&over), "EXECUTION_ERROR");
    assert!(over["data"]["message"].as_str().unwrap_or_default().contains("over"), "{over}");
    let named = client.ask(&json!({"type": "step", "data": {"action": 5}})).await?;
    assert_eq!(named["data"]["errors"][0]["loc"], json!(["action"]), "the field is named");
    Ok(())
}

#[tokio::test]
async fn what_is_no_message_ends_its_session_alone() -> Result<()> {
    let environment = Environment::serve("echo", &[])?;
    let mut other = environment.connect().await?;
    for message in [Message::text("[]"), Message::binary(b"\xff\x00".to_vec())] {
        let mut client = environment.connect().await?;
        client.0.send(message).await?;
        assert_eq!(code(&client.hear().await?), "SESSION_ERROR");
        assert_eq!(client.closed().await?.context("a close frame")?.code, 1000.into());
    }
    let mut big = environment.connect().await?;
    // The server may close before all of it is sent.
    _ = big.0.send(Message::text("x".repeat(17 << 20))).await;
    big.closed().await?;
    assert_eq!(other.ask(&json!({"type": "reset"})).await?["type"], "observation");
    Ok(())
}

#[tokio::test]
async fn who_finds_no_place_is_told_or_waits() -> Result<()> {
    let environment = Environment::serve("echo", &["--capacity", "1"])?;
    let mut first = environment.connect().await?;
    first.ask(&json!({"type": "reset"})).await?;
    let mut second = environment.connect().await?;
    let refused = second.hear().await?;
    assert_eq!(code(&refused), "CAPACITY_REACHED");
    assert_eq!(refused["data"]["max_sessions"], 1);
    second.closed().await?;

    let patient = Environment::serve("echo", &["--capacity", "1", "--wait", "60"])?;
    let mut first = patient.connect().await?;
    first.ask(&json!({"type": "reset"})).await?;
    let mut second = patient.connect().await?;
    second.say(r#"{"type":"reset"}"#).await?;
    // The first one's client vanishes without a word.
    drop(first);
    assert_eq!(second.hear().await?["type"], "observation");
    Ok(())
}

#[tokio::test]
async fn a_session_that_nobody_uses_is_closed_and_its_client_told() -> Result<()> {
    let environment = Environment::serve("echo", &["--capacity", "1", "--idle-timeout", "0.2"])?;
    let mut client = environment.connect().await?;
    client.ask(&json!({"type": "reset"})).await?;
    let told = client.hear().await?;
    assert_eq!(code(&told), "SESSION_ERROR");
    assert!(told["data"]["message"].as_str().unwrap_or_default().contains("not used"), "{told}");
    assert_eq!(client.closed().await?.context("a close frame")?.code, 1001.into());
    let mut next = environment.connect().await?;
    assert_eq!(next.ask(&json!({"type": "reset"})).await?["type"], "observation", "its place is free");
    Ok(())
}

#[tokio::test]
async fn http_is_stateless_shared_or_each_clients_own() -> Result<()> {
    let say = |text: &str| json!({"action": {"message": text}});
    let stateless = Environment::serve("echo", &[])?;
    stateless.post("/step", &say("a")).await?;
    assert_eq!(stateless.get("/state").await?.1["step_count"], 0);

    let shared = Environment::serve("echo", &["--era", "seed"])?;
    assert_eq!(shared.post("/reset", &json!({"seed": -1, "foo": 2})).await?.0, 200);
    let worth = shared.post("/step", &say("Hello, World!")).await?.1;
    let wanted = json!({"observation": {"echoed_message": "Hello, World!", "message_length": 13}, "reward": 1.3, "done": false});
    assert_eq!(worth, wanted);
    assert_eq!(shared.get("/state").await?.1["step_count"], 1);

    let own = Environment::serve("echo", &["--http-session", "per-client"])?;
    let first = own.http.post(format!("{}/step", own.base)).json(&say("a")).send().await?;
    let cookie = first.headers().get("set-cookie").context("a cookie")?.to_str()?;
    let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
    let again =
        own.http.post(format!("{}/step", own.base)).header("cookie", &cookie).json(&say("b")).send().await?;
    assert!(again.headers().get("set-cookie").is_none(), "it is known already");
    let state = own.http.get(format!("{}/state", own.base)).header("cookie", &cookie).send().await?;
    assert_eq!(state.json::<Value>().await?["step_count"], 2);
    assert_eq!(own.get("/state").await?.1["step_count"], 0, "another client's session is another one");
    Ok(())
}

#[tokio::test]
async fn http_tells_what_is_wrong_with_a_request() -> Result<()> {
    let environment = Environment::serve("grid_world", &[])?;
    for (path, body, status) in [
        ("/step", json!({}), 422),
        ("/step", json!({"action": {"action": "BACK"}}), 422),
        ("/step", json!({"action": {"action": "UP"}, "timeout_s": 0}), 422),
        ("/step", json!({"action": {"action": "UP"}}), 409),
        ("/reset", json!({"seed": -1}), 422),
        ("/reset", json!({"episode_id": "x".repeat(256)}), 422),
        ("/reset", json!([]), 422),
        ("/nothing", json!({}), 404),
        ("/state", json!({}), 405),
        ("/grid_world/tasks", json!({"split": "train"}), 501),
        ("/other/tasks", json!({"split": "train"}), 404),
    ] {
        let (answered, told) = environment.post(path, &body).await?;
        assert_eq!(answered, status, "{path} {body}: {told}");
        assert!(!told["detail"].is_null(), "{path} {body}: {told}");
    }
    let production = Environment::serve("grid_world", &["--mode", "production"])?;
    assert_eq!(production.post("/reset", &json!({})).await?.0, 404);
    assert_eq!(production.get("/health").await?.1, json!({"status": "healthy"}));
    Ok(())
}

#[tokio::test]
async fn tools_are_listed_called_and_kept_in_a_session() -> Result<()> {
    let environment = Environment::serve("echo_mcp", &["--capacity", "2"])?;
    let rpc =
        |method: &str, params: Value| json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params});
    let call = async |method: &str, params: Value| -> Result<Value> {
        let (status, answer) = environment.post("/mcp", &rpc(method, params)).await?;
        ensure!(status == 200 && answer["id"] == 7, "{status} {answer}");
        Ok(answer)
    };
    let tools = call("tools/list", json!({})).await?;
    assert_eq!(tools["result"]["tools"][0]["name"], "echo_message");
    let said = call("tools/call", json!({"name": "echo_message", "arguments": {"message": "hi"}})).await?;
    assert_eq!(said["result"]["data"], "hi");
    for (method, params, wanted) in [
        ("initialize", json!({}), -32601),
        ("tools/call", json!({}), -32602),
        ("tools/call", json!({"name": "nothing"}), -32603),
        ("tools/call", json!({"name": "echo_message", "session_id": "nope"}), -32602),
    ] {
        assert_eq!(call(method, params).await?["error"]["code"], wanted, "{method}");
    }
    let created = call("openenv/session/create", json!({})).await?;
    let id = created["result"]["session_id"].as_str().context("an id")?.to_owned();
    let path = format!("/ws?session_id={id}");
    let mut attached = Client::open(&environment.base, &path, None).await?;
    attached.ask(&json!({"type": "reset", "data": {"episode_id": "mine"}})).await?;
    assert_eq!(attached.ask(&json!({"type": "state"})).await?["data"]["episode_id"], "mine");
    let mut second = Client::open(&environment.base, &path, None).await?;
    assert!(second.hear().await?["data"]["message"].as_str().unwrap_or_default().contains("already"));
    let closing = call("openenv/session/close", json!({"session_id": id})).await?;
    assert_eq!(closing["result"], json!({"session_id": id, "closed": false, "closing": true}));
    attached.say(r#"{"type":"close"}"#).await?;
    attached.closed().await?;
    let deadline = Instant::now() + PATIENCE;
    while call("openenv/session/close", json!({"session_id": id})).await?["error"]["code"] != -32602 {
        ensure!(Instant::now() < deadline, "it is never closed");
    }
    Ok(())
}

#[tokio::test]
async fn many_sessions_share_a_connection() -> Result<()> {
    let environment = Environment::serve("grid_world", &["--capacity", "10"])?;
    let mut client = environment.connect_ours().await?;
    assert_eq!(code(&client.ask(&json!({"type": "state"})).await?), "UNKNOWN_SESSION");
    let opened = client.ask(&json!({"type": "open", "count": 3, "request_id": "a"})).await?;
    assert_eq!(opened, json!({"type": "opened", "data": {"sessions": [0, 1, 2]}, "request_id": "a"}));
    let full = client.ask(&json!({"type": "open", "count": 8, "request_id": 2})).await?;
    assert_eq!((code(&full), &full["request_id"]), ("CAPACITY_REACHED", &json!(2)), "all or none");

    let reset = client.ask(&json!({"type": "reset_batch", "data": {"seed": 5}, "request_id": 3})).await?;
    assert_eq!((reset["data"].as_array().map(Vec::len), &reset["request_id"]), (Some(3), &json!(3)));
    let actions = json!([{"action": "DOWN"}, {"action": "NO"}, null]);
    let stepped = client.ask(&json!({"type": "step_batch", "data": actions})).await?;
    assert_eq!(stepped["data"][0]["observation"]["x"], 1);
    assert_eq!(stepped["data"][1]["error"]["code"], "VALIDATION_ERROR");
    assert_eq!(stepped["data"][2]["observation"]["x"], 0, "without an action it is reset");
    let few = client.ask(&json!({"type": "step_batch", "sessions": [2, 0], "data": [{"action": "RIGHT"}, {"action": "DOWN"}]})).await?;
    assert_eq!(
        (&few["data"][0]["observation"]["y"], &few["data"][1]["observation"]["x"]),
        (&json!(1), &json!(2))
    );
    for (sessions, wanted) in [
        (json!([0, 9]), "UNKNOWN_SESSION"),
        (json!([0, 0]), "VALIDATION_ERROR"),
        (json!([0]), "VALIDATION_ERROR"),
    ] {
        let refused =
            client.ask(&json!({"type": "step_batch", "sessions": sessions, "data": [null, null]})).await?;
        assert_eq!(code(&refused), wanted, "{sessions}");
    }

    let step = json!({"type": "step", "session": 1, "data": {"action": "DOWN"}, "step_id": "s1"});
    let first = client.ask(&step).await?;
    let again = client.ask(&step).await?;
    assert_eq!((&first["replayed"], &again["replayed"]), (&Value::Null, &json!(true)));
    assert_eq!(first["data"], again["data"]);
    let state = client.ask(&json!({"type": "state", "session": 1})).await?;
    assert_eq!((&state["data"]["step_count"], &state["session"]), (&json!(1), &json!(1)), "taken once");
    let ambiguous = client.ask(&json!({"type": "state"})).await?;
    assert_eq!(code(&ambiguous), "UNKNOWN_SESSION");

    let kept = client.ask(&json!({"type": "checkpoint", "session": 1})).await?;
    let forked = client.ask(&json!({"type": "fork", "session": 1, "count": 2})).await?;
    assert_eq!(forked["data"]["sessions"], json!([3, 4]));
    client.ask(&json!({"type": "step", "session": 3, "data": {"action": "DOWN"}})).await?;
    let places = async |client: &mut Client| -> Result<Vec<Value>> {
        let mut places = Vec::new();
        for session in [1, 3, 4] {
            places.push(
                client.ask(&json!({"type": "state", "session": session})).await?["data"]["agent_x"].clone(),
            );
        }
        Ok(places)
    };
    assert_eq!(places(&mut client).await?, [json!(1), json!(2), json!(1)]);
    let checkpoint = json!({"checkpoint_id": kept["data"]["checkpoint_id"]});
    client.ask(&json!({"type": "restore", "session": 3, "data": checkpoint})).await?;
    assert_eq!(places(&mut client).await?, [json!(1), json!(1), json!(1)]);

    let closed = client.ask(&json!({"type": "close", "session": 0})).await?;
    assert_eq!(closed, json!({"type": "closed", "data": {"session": 0}}));
    assert_eq!(
        code(&client.ask(&json!({"type": "step", "session": 0, "data": {"action": "UP"}})).await?),
        "UNKNOWN_SESSION"
    );
    client.say(r#"{"type":"close"}"#).await?;
    client.closed().await?;
    let mut next = environment.connect_ours().await?;
    let deadline = Instant::now() + PATIENCE;
    while next.ask(&json!({"type": "open", "count": 10})).await?["type"] != "opened" {
        ensure!(Instant::now() < deadline, "the places of a closed connection are never free");
    }
    Ok(())
}

#[tokio::test]
async fn at_the_end_clients_are_told() -> Result<()> {
    let environment = Environment::serve("echo", &[])?;
    let mut client = environment.connect().await?;
    client.ask(&json!({"type": "reset"})).await?;
    environment.running.signal("TERM");
    assert_eq!(client.closed().await?.context("a close frame")?.code, 1001.into());
    let answer = environment.running.answer();
    assert_eq!(answer.status, 0, "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn a_page_of_another_site_may_not_use_it() -> Result<()> {
    let environment = Environment::serve("echo", &[])?;
    for (name, value) in [("origin", "https://evil.example"), ("host", "evil.example")] {
        let answer =
            environment.http.post(format!("{}/reset", environment.base)).header(name, value).send().await?;
        assert_eq!(answer.status(), 403, "{name}");
    }
    let mut request = format!("{}/ws", environment.base.replacen("http", "ws", 1)).into_client_request()?;
    request.headers_mut().insert("origin", "https://evil.example".parse()?);
    assert!(Box::pin(connect_async(request)).await.is_err());
    Ok(())
}
