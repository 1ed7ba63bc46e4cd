//! Every wrong field, parameter, id, path and size gets an error that names it.

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use crate::server::{Answer, Server, send};

/// One wrong request: what to send, and the status, code and field that must come back.
struct Case {
    method: Method,
    /// `S` stands for the path of a live sandbox.
    path: &'static str,
    body: Option<Value>,
    status: u16,
    code: &'static str,
    field: &'static str,
}

fn case(method: Method, path: &'static str, body: Option<Value>, field: &'static str) -> Case {
    Case { method, path, body, status: 400, code: "invalid_request", field }
}

fn post(path: &'static str, body: Value, field: &'static str) -> Case {
    case(Method::POST, path, Some(body), field)
}

fn get(path: &'static str, field: &'static str) -> Case {
    case(Method::GET, path, None, field)
}

fn put(path: &'static str, field: &'static str) -> Case {
    case(Method::PUT, path, None, field)
}

fn creates() -> Vec<Case> {
    let one = |body: Value, field: &'static str| post("/v1/sandboxes", body, field);
    let labels: serde_json::Map<String, Value> = (0..65).map(|at| (format!("l{at}"), json!("x"))).collect();
    let env: serde_json::Map<String, Value> = (0..1025).map(|at| (format!("E{at}"), json!("x"))).collect();
    vec![
        one(json!({"id": ""}), "id"),
        one(json!({"id": "../etc"}), "id"),
        one(json!({"id": "a/b"}), "id"),
        one(json!({"id": "a".repeat(129)}), "id"),
        one(json!({"id": 7}), "id"),
        one(json!({"image": "UBUNTU"}), "image"),
        one(json!({"image": "https://example.org/a"}), "image"),
        one(json!({"image": "debian:12", "pull": "sometimes"}), "pull"),
        one(json!({"user": ""}), "user"),
        one(json!({"image": "dir:relative"}), "image"),
        one(json!({"layers": ["host"]}), "layers[0]"),
        one(json!({"layers": ["dir:/a", "dir:b"]}), "layers[1]"),
        one(json!({"layers": ["dir:/a", "dir:/a"]}), "layers"),
        one(json!({"layers": (0..17).map(|at| format!("dir:/{at}")).collect::<Vec<_>>()}), "layers"),
        one(json!({"imagee": "host"}), "imagee"),
        one(json!({"network": "host"}), "network"),
        one(json!({"resources": {"cpus": 0}}), "resources.cpus"),
        one(json!({"resources": {"cpus": "two"}}), "resources.cpus"),
        one(json!({"resources": {"memory_bytes": 1}}), "resources.memory_bytes"),
        one(json!({"resources": {"memory_bytes": -1}}), "resources.memory_bytes"),
        one(json!({"resources": {"memory_bytes": 1e30}}), "resources.memory_bytes"),
        one(json!({"resources": {"pids": 0}}), "resources.pids"),
        one(json!({"resources": {"pids": 4_294_967_296_u64}}), "resources.pids"),
        one(json!({"resources": {"disk_bytes": 0}}), "resources.disk_bytes"),
        one(json!({"resources": {"disk_inodes": 1}}), "resources.disk_inodes"),
        one(json!({"resources": {"gpus": 1}}), "resources.gpus"),
        one(json!({"env": {"": "x"}}), "env."),
        one(json!({"env": {"A=B": "x"}}), "env.A=B"),
        one(json!({"env": {"A": "x\u{0}"}}), "env.A"),
        one(json!({"env": {"A": "x".repeat(100_000)}}), "env.A"),
        one(json!({"env": {"A": 1}}), "env.A"),
        one(Value::from_iter([("env", Value::Object(env))]), "env"),
        one(json!({"workdir": "tmp"}), "workdir"),
        one(json!({"workdir": format!("/{}", "x".repeat(5000))}), "workdir"),
        one(json!({"labels": {"bad name": "x"}}), "labels.bad name"),
        one(json!({"labels": {"a": "x".repeat(257)}}), "labels.a"),
        one(Value::from_iter([("labels", Value::Object(labels))]), "labels"),
        one(json!([]), "body"),
        post("/v1/sandboxes?wait=1", json!({}), "wait"),
    ]
}

fn listings_and_ids() -> Vec<Case> {
    let no_sandbox =
        |method, path| Case { method, path, body: None, status: 404, code: "sandbox_not_found", field: "" };
    vec![
        get("/v1/sandboxes?limit=0", "limit"),
        get("/v1/sandboxes?limit=1001", "limit"),
        get("/v1/sandboxes?limit=ten", "limit"),
        get("/v1/sandboxes?limit=1&limit=2", "limit"),
        get("/v1/sandboxes?after=../x", "after"),
        get("/v1/sandboxes?label=team", "label"),
        get("/v1/sandboxes?label=b%20d%3Dx", "label"),
        get("/v1/sandboxes?labels=a%3Db", "labels"),
        get("/v1/sandboxes?after=%ff", "after"),
        get("/v1/sandboxes/-x", "sandbox_id"),
        get("/v1/sandboxes/a%2Fb", "sandbox_id"),
        get("/v1/sandboxes/%ff", "sandbox_id"),
        get("/v1/sandboxes/a%00b", "sandbox_id"),
        get("S?verbose=1", "verbose"),
        get("S/execs/-x", "exec_id"),
        case(Method::DELETE, "S/shells/a%20b", None, "shell_id"),
        no_sandbox(Method::GET, "/v1/sandboxes/nope"),
        no_sandbox(Method::DELETE, "/v1/sandboxes/nope"),
        no_sandbox(Method::POST, "/v1/sandboxes/nope/freeze"),
        no_sandbox(Method::GET, "/v1/sandboxes/nope/execs"),
        no_sandbox(Method::GET, "/v1/sandboxes/nope/files?path=/x"),
    ]
}

fn execs() -> Vec<Case> {
    let one = |body: Value, field: &'static str| post("S/exec", body, field);
    vec![
        one(json!({}), "argv"),
        one(json!({"argv": []}), "argv"),
        one(json!({"argv": [""]}), "argv"),
        one(json!({"argv": ["a"], "shell": "b"}), "argv"),
        one(json!({"argv": "ls"}), "argv"),
        one(json!({"argv": ["ls", 5]}), "argv[1]"),
        one(json!({"argv": ["a", "b\u{0}"]}), "argv[1]"),
        one(json!({"argv": ["a", "x".repeat(1 << 20)]}), "argv"),
        one(json!({"shell": "x".repeat(131_072)}), "shell"),
        one(json!({"shell": "a\u{0}b"}), "shell"),
        one(json!({"shell": "true", "exec_id": "a b"}), "exec_id"),
        one(json!({"shell": "true", "cwd": "x"}), "cwd"),
        one(json!({"shell": "true", "user": ""}), "user"),
        one(json!({"shell": "true", "timeout_s": 0}), "timeout_s"),
        one(json!({"shell": "true", "timeout_s": -1}), "timeout_s"),
        one(json!({"shell": "true", "timeout_s": 1e9}), "timeout_s"),
        one(json!({"shell": "true", "timeout_s": "1s"}), "timeout_s"),
        one(json!({"shell": "true", "grace_s": 1e6}), "grace_s"),
        one(json!({"shell": "true", "output_limit_bytes": 1 << 30}), "output_limit_bytes"),
        one(json!({"shell": "true", "stdin": "%%", "stdin_encoding": "base64"}), "stdin"),
        one(json!({"shell": "true", "stdin_encoding": "latin1"}), "stdin_encoding"),
        one(json!({"shell": "true", "pty": {"rows": 0, "cols": 80}}), "pty.rows"),
        one(json!({"shell": "true", "pty": {"rows": 24}}), "pty.cols"),
        one(json!({"shell": "true", "env": {"A=": "1"}}), "env.A="),
        one(json!({"shell": "true", "nice": 5}), "nice"),
        post("S/exec?stream=maybe", json!({"shell": "true"}), "stream"),
        post("S/exec?stream=true", json!({"shell": "true", "detach": true}), "detach"),
        post("S/exec?timeout=1", json!({"shell": "true"}), "timeout"),
        get("S/execs/e?wait_s=-1", "wait_s"),
        get("S/execs/e?wait_s=NaN", "wait_s"),
        get("S/execs/e/output?stream=stdin", "stream"),
        get("S/execs/e/output?max=0", "max"),
        get("S/execs/e/output?max=2000000", "max"),
        get("S/execs/e/output?offset=-1", "offset"),
        get("S/execs/e/stream?stdout_from=x", "stdout_from"),
        post("S/execs/e/signal", json!({"signal": 0}), "signal"),
        post("S/execs/e/signal", json!({"signal": 65}), "signal"),
        post("S/execs/e/signal", json!({"signal": "SIGNOPE"}), "signal"),
        post("S/execs/e/signal", json!({}), "signal"),
        post("S/execs/e/signal", json!({"signal": 9, "target": "all"}), "target"),
        post("S/execs/e/resize", json!({"rows": 0, "cols": 80}), "rows"),
        post("S/execs/e/resize", json!({"rows": 24, "cols": 70_000}), "cols"),
        case(Method::POST, "S/execs/e/stdin?close=perhaps", None, "close"),
        get("S/terminal?rows=0", "rows"),
        get("S/terminal?attach=a%20b", "attach"),
        get("S/terminal?attach=e&shell=true", "attach"),
        get("S/terminal?argv=a&shell=b", "argv"),
    ]
}

fn shells_and_files() -> Vec<Case> {
    vec![
        post("S/shells", json!({"shell_id": "a/b"}), "shell_id"),
        post("S/shells", json!({"cwd": "x"}), "cwd"),
        post("S/shells", json!({"program": "/bin/zsh"}), "program"),
        post("S/shells/s/run", json!({"command": "a\u{0}"}), "command"),
        post("S/shells/s/run", json!({"command": "true", "timeout_s": 0}), "timeout_s"),
        post("S/shells/s/run", json!({"line": "true"}), "line"),
        get("S/files", "path"),
        get("S/files?path=", "path"),
        get("S/files?path=etc/passwd", "path"),
        get("S/files?path=/a%00b", "path"),
        get("S/files?path=/a&path=/b", "path"),
        get("S/files?path=/%ff", "query"),
        get("S/files?path=/a&offset=x", "offset"),
        get("S/files?path=/a&length=-1", "length"),
        get("S/files?file=/a&path=/a", "file"),
        get("S/files/stat", "path"),
        get("S/files/list?path=x", "path"),
        put("S/files", "path"),
        put("S/files?path=x", "path"),
        put("S/files?path=/tmp/x&mode=rwx", "mode"),
        put("S/files?path=/tmp/x&mode=888", "mode"),
        put("S/files?path=/tmp/x&mode=70000", "mode"),
        put("S/files?path=/tmp/x&sha256=abc", "sha256"),
        put("S/archive", "path"),
        put("S/archive?path=x", "path"),
        get("S/archive?path=x", "path"),
        case(Method::POST, "S/patch?path=/tmp&strip=-1", None, "strip"),
        case(Method::POST, "S/patch?path=/tmp&strip=65", None, "strip"),
        case(Method::POST, "S/patch", None, "path"),
        case(Method::DELETE, "S/files?path=/tmp/x&recursive=maybe", None, "recursive"),
        post("S/files/mkdir", json!({}), "path"),
        post("S/files/mkdir", json!({"path": "x"}), "path"),
        post("S/files/mkdir", json!({"path": "/x", "mode": "9"}), "mode"),
        post("S/files/mkdir", json!({"path": "/x", "parents": true}), "parents"),
        post("S/files/rename", json!({"from": "/a"}), "to"),
        post("S/files/rename", json!({"from": "a", "to": "/b"}), "from"),
        case(Method::POST, "S/freeze?force=1", None, "force"),
    ]
}

#[tokio::test]
async fn every_wrong_request_is_told_what_is_wrong() -> Result<()> {
    let server = Server::start().await?;
    let sandbox = server.sandbox().await?;
    let mut wrong = Vec::new();
    for case in [creates(), listings_and_ids(), execs(), shells_and_files()].into_iter().flatten() {
        let path = match case.path.strip_prefix('S') {
            Some(rest) => format!("{sandbox}{rest}"),
            None => case.path.to_owned(),
        };
        let request = server.request(case.method.clone(), &path);
        let answer = send(match &case.body {
            Some(body) => request.json(body),
            None => request,
        })
        .await
        .with_context(|| format!("{} {}", case.method, case.path))?;
        if let Err(error) = judge(&case, &answer) {
            let body = case.body.map(|body| body.to_string().chars().take(80).collect::<String>());
            wrong.push(format!("{} {} {}: {error:#}", case.method, case.path, body.unwrap_or_default()));
        }
    }
    ensure!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
    ensure!(server.shell(&sandbox, "echo unharmed").await?["stdout"] == "unharmed\n");
    server.stop().await
}

fn judge(case: &Case, answer: &Answer) -> Result<()> {
    let problem = answer.problem(case.status, case.code)?;
    let field = problem["field"].as_str().unwrap_or_default();
    ensure!(field == case.field, "names the field {field:?}, wanted {:?}: {}", case.field, problem["detail"]);
    let detail = problem["detail"].as_str().unwrap_or_default();
    // What is wrong is named in the sentence too, and the sentence stays readable.
    ensure!(case.field == "body" || case.field == "query" || detail.contains(case.field), "{detail}");
    ensure!(detail.len() < 500, "{} characters", detail.len());
    Ok(())
}

#[tokio::test]
async fn a_body_must_be_json_and_say_so() -> Result<()> {
    let server = Server::start().await?;
    let exec = format!("{}/exec", server.sandbox().await?);
    let with = |media_type: &'static str, body: &'static str| {
        send(server.request(Method::POST, &exec).header("content-type", media_type).body(body))
    };
    let body = r#"{"shell": "true"}"#;
    with("application/json; charset=utf-8", body).await?.expect(200)?;
    for media_type in ["text/plain", "application/x-www-form-urlencoded", ""] {
        let refused = with(media_type, body).await?;
        ensure!(refused.problem(415, "invalid_request")?["field"] == "Content-Type", "{media_type}");
    }
    for (body, part) in [
        ("{\"shell\":\n \"true\"", "line 2"),
        ("{\"shell\": \"true\"} x", "line 1, column 19"),
        ("", "line 1"),
        ("{'shell': 'true'}", "column 2"),
    ] {
        let problem = with("application/json", body).await?.problem(400, "invalid_request")?;
        ensure!(
            problem["detail"].as_str().is_some_and(|detail| detail.contains(part)),
            "{body:?}: {problem}"
        );
    }
    server.stop().await
}

#[tokio::test]
async fn a_body_over_8_mib_is_413() -> Result<()> {
    let server = Server::start().await?;
    let body = json!({"shell": "x".repeat(8 << 20)});
    let answer = server.post(&format!("{}/exec", server.sandbox().await?), &body).await?;
    let problem = answer.problem(413, "too_large")?;
    ensure!(problem["detail"].as_str().is_some_and(|detail| detail.contains("8388608")), "{problem}");
    server.stop().await
}
