//! Terminals over a WebSocket.

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::server::Server;
use crate::wait::{PATIENCE, by, within};

struct Terminal {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    shown: String,
}

impl Terminal {
    async fn open(server: &Server, path: &str) -> Result<Self> {
        let url = format!("{}{path}", server.base.replacen("http", "ws", 1));
        let (socket, _) = within("the terminal to open", Box::pin(connect_async(url))).await??;
        Ok(Self { socket, shown: String::new() })
    }

    async fn say(&mut self, message: &Value) -> Result<()> {
        Ok(within("a message to be taken", self.socket.send(Message::text(message.to_string()))).await??)
    }

    async fn type_in(&mut self, text: &str) -> Result<()> {
        let keys = Message::binary(text.as_bytes().to_vec());
        Ok(within("keys to be taken", self.socket.send(keys)).await??)
    }

    /// The next text message; what is shown before it is collected.
    async fn told(&mut self) -> Result<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.message(deadline, "to be told something").await? {
                Message::Text(text) => return Ok(serde_json::from_str(&text)?),
                Message::Close(frame) => bail!("closed: {frame:?}"),
                _ => {}
            }
        }
    }

    /// Waits until this is shown.
    async fn shows(&mut self, text: &str) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !self.shown.contains(text) {
            if let Message::Text(told) = self.message(deadline, &format!("{text:?} to be shown")).await? {
                bail!("told {told} before {text:?} was shown: {:?}", self.shown);
            }
        }
        Ok(())
    }

    async fn message(&mut self, deadline: Instant, awaited: &str) -> Result<Message> {
        let message = by(deadline, awaited, self.socket.next()).await;
        let message = message.with_context(|| format!("shown: {:?}", self.shown))?.context("the end")??;
        if let Message::Binary(bytes) = &message {
            self.shown.push_str(&String::from_utf8_lossy(bytes));
        }
        Ok(message)
    }

    async fn closed(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match by(deadline, "the terminal to close", self.socket.next()).await? {
                None | Some(Ok(Message::Close(_)) | Err(_)) => return Ok(()),
                Some(Ok(_)) => {}
            }
        }
    }
}

#[tokio::test]
async fn a_terminal_echoes_resizes_interrupts_and_ends() -> Result<()> {
    let server = Server::start().await?;
    let sandbox = server.sandbox().await?;
    let query = "argv=/bin/sh&argv=-i&rows=30&cols=100&exec_id=tty";
    let mut terminal = Terminal::open(&server, &format!("{sandbox}/terminal?{query}")).await?;
    let started = terminal.told().await?;
    ensure!(started == json!({"started": {"exec_id": "tty", "replayed": false}}), "{started}");
    terminal.type_in("test -t 0 && stty size\n").await?;
    terminal.shows("30 100").await?;
    terminal.say(&json!({"resize": {"rows": 41, "cols": 77}})).await?;
    terminal.type_in("stty size\n").await?;
    terminal.shows("41 77").await?;
    // Told by the program itself, in the foreground: before, the shell would take the key for itself and go on to wait.
    terminal.type_in("sh -c 'echo beg\"\"un; exec sleep 600'; echo after=$?\n").await?;
    terminal.shows("begun").await?;
    // Ctrl-C ends the sleep, not the shell.
    terminal.type_in("\u{3}").await?;
    terminal.type_in("echo sum=$((40+2))\n").await?;
    terminal.shows("sum=42").await?;
    terminal.type_in("exit 5\n").await?;
    let finished = terminal.told().await?;
    ensure!(finished["finished"]["outcome"] == json!({"kind": "exited", "code": 5}), "{finished}");
    terminal.closed().await?;
    let status = server.get(&format!("{sandbox}/execs/tty")).await?.expect(200)?.json()?;
    ensure!(status["state"] == "finished", "{status}");
    server.stop().await
}

#[tokio::test]
async fn the_first_message_may_say_what_to_run_and_a_lost_client_may_come_back() -> Result<()> {
    let server = Server::start().await?;
    let sandbox = server.sandbox().await?;
    let path = format!("{sandbox}/terminal");
    let mut terminal = Terminal::open(&server, &path).await?;
    let spec = json!({"argv": ["/bin/sh"], "exec_id": "kept", "env": {"PS1": "ready> "}});
    terminal.say(&spec).await?;
    terminal.told().await?;
    terminal.type_in("stty size; X=here\n").await?;
    terminal.shows("24 80").await?;
    drop(terminal);
    let mut terminal = Terminal::open(&server, &format!("{path}?attach=kept")).await?;
    ensure!(terminal.told().await?["started"]["exec_id"] == "kept");
    terminal.shows("24 80").await?;
    terminal.type_in("echo still $X\n").await?;
    terminal.shows("still here").await?;
    // A message that is wrong is answered, and the terminal stays.
    terminal.say(&json!({"resize": {"rows": 0, "cols": 1}})).await?;
    let told = terminal.told().await?;
    ensure!(told["problem"]["field"] == "resize.rows", "{told}");
    terminal.say(&json!({"resized": {}})).await?;
    let told = terminal.told().await?;
    ensure!(told["problem"]["field"] == "resized", "{told}");
    terminal.say(&json!({"signal": {"signal": "KILL"}})).await?;
    let finished = terminal.told().await?;
    ensure!(finished["finished"]["outcome"] == json!({"kind": "signalled", "signal": 9}), "{finished}");
    server.stop().await
}

#[tokio::test]
async fn what_is_wrong_is_said_before_or_after_the_upgrade() -> Result<()> {
    let server = Server::start().await?;
    let sandbox = server.sandbox().await?;
    let path = format!("{sandbox}/terminal");
    for (spec, field) in [
        (json!({"argv": ["true"], "shell": "true"}), "argv"),
        (json!({"argv": ["true"], "detach": true}), "detach"),
        (json!({"argv": ["true"], "pty": {"rows": 0, "cols": 3}}), "pty.rows"),
        (json!({"argc": 1}), "argc"),
    ] {
        let mut terminal = Terminal::open(&server, &path).await?;
        terminal.say(&spec).await?;
        let told = terminal.told().await?;
        ensure!(
            told["problem"]["code"] == "invalid_request" && told["problem"]["field"] == field,
            "{spec}: {told}"
        );
        terminal.closed().await?;
    }
    let mut terminal = Terminal::open(&server, &format!("{path}?attach=nope")).await?;
    ensure!(terminal.told().await?["problem"]["code"] == "exec_not_found");
    // Not a WebSocket at all.
    server.get(&format!("{path}?shell=true")).await?.problem(400, "invalid_request")?;
    server.get("/v1/sandboxes/nope/terminal").await?.problem(404, "sandbox_not_found")?;
    server.stop().await
}
