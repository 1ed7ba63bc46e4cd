//! Keys, tenants, roles, quotas, rates and TLS.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::events::Events;
use crate::server::{Answer, Server, send};
use crate::wait::{client, until};

/// A file of keys, and what makes them.
pub(crate) struct Keys {
    directory: TempDir,
}

pub(crate) struct Key {
    id: String,
    secret: String,
}

impl Keys {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { directory: tempfile::tempdir()? })
    }

    fn path(&self) -> String {
        self.directory.path().join("keys.json").display().to_string()
    }

    async fn hothouse(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hothouse"));
        let output = command.arg("keys").args(arguments).args(["--keys", &self.path()]).output().await?;
        ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    pub(crate) async fn create(&self, tenant: &str, more: &[&str]) -> Result<Key> {
        let arguments = [&["create", "--tenant", tenant, "--json"], more].concat();
        let made: Value = serde_json::from_str(&self.hothouse(&arguments).await?)?;
        let text = |name: &str| made[name].as_str().map(str::to_owned).context("a text");
        Ok(Key { id: text("id")?, secret: text("key")? })
    }

    /// Takes a key away.
    pub(crate) async fn revoke(&self, key: &Key) -> Result<()> {
        self.hothouse(&["revoke", &key.id]).await.map(drop)
    }

    pub(crate) async fn server(&self) -> Result<Server> {
        Server::start_with(&["--keys", &self.path()]).await
    }
}

impl Key {
    pub(crate) fn request(&self, server: &Server, method: Method, path: &str) -> RequestBuilder {
        server.request(method, path).bearer_auth(&self.secret)
    }

    pub(crate) async fn get(&self, server: &Server, path: &str) -> Result<Answer> {
        send(self.request(server, Method::GET, path)).await
    }

    pub(crate) async fn post(&self, server: &Server, path: &str, body: &Value) -> Result<Answer> {
        send(self.request(server, Method::POST, path).json(body)).await
    }

    async fn delete(&self, server: &Server, path: &str) -> Result<Answer> {
        send(self.request(server, Method::DELETE, path)).await
    }
}

#[tokio::test]
async fn who_has_no_good_key_is_told_so() -> Result<()> {
    let keys = Keys::new()?;
    let key = keys.create("a", &[]).await?;
    let short = keys.create("a", &["--expires", "0.2"]).await?;
    let server = keys.server().await?;
    let none = server.get("/v1/sandboxes").await?;
    let none_detail = none.problem(401, "unauthorized")?;
    ensure!(none.header("www-authenticate") == "Bearer");
    ensure!(none_detail["detail"].as_str().is_some_and(|text| text.contains("Authorization: Bearer")));
    for wrong in ["hh_wrong", "", &key.secret[..20]] {
        send(server.request(Method::GET, "/v1/sandboxes").bearer_auth(wrong))
            .await?
            .problem(401, "unauthorized")?;
    }
    let basic = server.request(Method::GET, "/v1/sandboxes").basic_auth("a", Some(&key.secret));
    send(basic).await?.problem(401, "unauthorized")?;
    key.get(&server, "/v1/sandboxes").await?.expect(200)?;
    until("the end of a short key", async || {
        Ok((short.get(&server, "/v1/sandboxes").await?.status == 401).then_some(()))
    })
    .await?;
    for open in ["/healthz", "/readyz", "/openapi.json"] {
        server.get(open).await?.expect(200)?;
    }
    ensure!(!server.log().contains(&key.secret), "a key must not be in the log");
    server.stop().await
}

#[tokio::test]
async fn a_tenant_knows_nothing_of_another_and_an_admin_of_all() -> Result<()> {
    let keys = Keys::new()?;
    let (a, b) = (keys.create("a", &[]).await?, keys.create("b", &[]).await?);
    let admin = keys.create("ops", &["--role", "admin"]).await?;
    let server = keys.server().await?;
    let made =
        a.post(&server, "/v1/sandboxes", &json!({"id": "mine", "labels": {"x": "1"}})).await?.expect(201)?;
    ensure!(made.json()?["tenant"] == "a");
    a.post(&server, "/v1/sandboxes", &json!({"id": "ended"})).await?.expect(201)?;
    a.delete(&server, "/v1/sandboxes/ended").await?.expect(204)?;
    let group = json!({"id": "g", "count": 2});
    a.post(&server, "/v1/groups", &group).await?.expect(201)?;

    let exec = json!({"shell": "echo hi"});
    for path in [
        "/v1/sandboxes/mine",
        "/v1/sandboxes/ended",
        "/v1/sandboxes/mine/execs",
        "/v1/sandboxes/mine/files?path=/etc/hosts",
    ] {
        b.get(&server, path).await?.problem(404, "sandbox_not_found")?;
    }
    b.post(&server, "/v1/sandboxes/mine/exec", &exec).await?.problem(404, "sandbox_not_found")?;
    b.delete(&server, "/v1/sandboxes/mine").await?.problem(404, "sandbox_not_found")?;
    b.get(&server, "/v1/groups/g").await?.problem(404, "group_not_found")?;
    b.delete(&server, "/v1/groups/g").await?.problem(404, "group_not_found")?;
    ensure!(b.delete(&server, "/v1/sandboxes?label=x%3D1").await?.expect(200)?.json()?["ended"] == 0);
    for list in ["/v1/sandboxes", "/v1/groups"] {
        let items = b.get(&server, list).await?.expect(200)?.json()?["items"].clone();
        ensure!(items == json!([]), "{list}: {items}");
    }
    let mut events = Events::of(b.request(&server, Method::GET, "/v1/events?after=0").send().await?).await?;
    b.post(&server, "/v1/sandboxes", &json!({"id": "theirs"})).await?.expect(201)?;
    let first = events.next().await?.context("an event")?;
    ensure!(first.data["sandbox_id"] == "theirs", "{first:?}");

    ensure!(
        a.post(&server, "/v1/sandboxes/mine/exec", &exec).await?.expect(200)?.json()?["stdout"] == "hi\n"
    );
    ensure!(a.get(&server, "/v1/sandboxes").await?.json()?["items"].as_array().map(Vec::len) == Some(3));
    ensure!(admin.get(&server, "/v1/sandboxes").await?.json()?["items"].as_array().map(Vec::len) == Some(4));
    let ended = a.get(&server, "/v1/sandboxes/ended").await?.problem(410, "sandbox_ended")?;
    ensure!(ended["ending"]["by"] == "a", "{ended}");

    // Whose a sandbox is stands in its state.
    let server = server.killed_and_started_again().await?;
    b.get(&server, "/v1/sandboxes/mine").await?.problem(404, "sandbox_not_found")?;
    b.get(&server, "/v1/sandboxes/ended").await?.problem(404, "sandbox_not_found")?;
    a.get(&server, "/v1/sandboxes/mine").await?.expect(200)?;
    drop(events);
    server.stop().await
}

#[tokio::test]
async fn roles_say_who_may_change_what_all_share() -> Result<()> {
    let keys = Keys::new()?;
    let (user, admin) = (keys.create("a", &[]).await?, keys.create("ops", &["--role", "admin"]).await?);
    let server = keys.server().await?;
    let template = |key: &Key| send(key.request(&server, Method::PUT, "/v1/templates/py").json(&json!({})));
    let refused = template(&user).await?.problem(403, "forbidden")?;
    ensure!(
        refused["detail"]
            .as_str()
            .is_some_and(|text| text.contains("role user") && text.contains("role admin"))
    );
    template(&admin).await?.expect(200)?;
    let pool = json!({"name": "p", "template": "py", "min": 1, "max": 1});
    user.post(&server, "/v1/pools", &pool).await?.problem(403, "forbidden")?;
    admin.post(&server, "/v1/pools", &pool).await?.expect(201)?;
    user.get(&server, "/v1/pools/p").await?.expect(200)?;
    user.get(&server, "/metrics").await?.problem(403, "forbidden")?;
    admin.get(&server, "/metrics").await?.expect(200)?;
    until("one is ready", async || {
        Ok((user.get(&server, "/v1/pools/p").await?.json()?["ready"] == 1).then_some(()))
    })
    .await?;
    ensure!(
        user.get(&server, "/v1/sandboxes").await?.json()?["items"] == json!([]),
        "what waits is nobody's yet"
    );
    let claimed = user.post(&server, "/v1/pools/p/claim", &json!({})).await?.expect(201)?.json()?;
    ensure!(claimed["tenant"] == "a", "{claimed}");
    server.stop().await
}

#[tokio::test]
async fn quotas_and_rates_are_a_tenant_s_own_and_change_while_it_runs() -> Result<()> {
    let keys = Keys::new()?;
    let (a, b) = (keys.create("a", &[]).await?, keys.create("b", &[]).await?);
    let admin = keys.create("ops", &["--role", "admin"]).await?;
    keys.hothouse(&["limit", "a", "--quota", "sandboxes=1", "--quota", "cpus=2"]).await?;
    let server = keys.server().await?;
    a.post(&server, "/v1/sandboxes", &json!({"id": "one"})).await?.expect(201)?;
    let over = a.post(&server, "/v1/sandboxes", &json!({})).await?;
    let detail = over.problem(429, "quota_exceeded")?;
    ensure!(
        detail["detail"].as_str().is_some_and(|text| text.contains("tenant a may have 1 sandboxes")),
        "{detail}"
    );
    ensure!(!over.header("retry-after").is_empty());
    // Who is over a quota may wait for it, and nobody else waits behind them.
    let body = json!({"id": "waited"});
    let waits = a.post(&server, "/v1/sandboxes?wait_s=60&priority=100", &body);
    let meanwhile = async {
        until("one waits", async || {
            let metrics = admin.get(&server, "/metrics").await?.expect(200)?.bytes;
            Ok(String::from_utf8(metrics)?.contains("hothouse_queue_waiting 1\n").then_some(()))
        })
        .await?;
        b.post(&server, "/v1/sandboxes", &json!({"id": "others"})).await?.expect(201)?;
        b.delete(&server, "/v1/sandboxes/others").await?.expect(204)?;
        a.delete(&server, "/v1/sandboxes/one").await?.expect(204)?;
        anyhow::Ok(())
    };
    let (waited, ()) = tokio::try_join!(waits, meanwhile)?;
    waited.expect(201)?;
    let never = a.post(&server, "/v1/sandboxes", &json!({"resources": {"cpus": 3}})).await?;
    ensure!(never.problem(400, "invalid_request")?["field"] == "resources.cpus");
    b.post(&server, "/v1/sandboxes", &json!({})).await?.expect(201)?;
    // A ready sandbox counts for whoever claims it.
    send(admin.request(&server, Method::PUT, "/v1/templates/py").json(&json!({}))).await?.expect(200)?;
    let pool = json!({"name": "p", "template": "py", "min": 1, "max": 1});
    admin.post(&server, "/v1/pools", &pool).await?.expect(201)?;
    a.post(&server, "/v1/pools/p/claim", &json!({})).await?.problem(429, "quota_exceeded")?;
    a.delete(&server, "/v1/sandboxes/waited").await?.expect(204)?;
    a.post(&server, "/v1/pools/p/claim", &json!({})).await?.expect(201)?;

    keys.hothouse(&["limit", "a", "--requests", "1"]).await?;
    let slow = until("the rate", async || {
        let answer = a.get(&server, "/v1/sandboxes").await?;
        Ok((answer.status != 200).then_some(answer))
    })
    .await?;
    slow.problem(429, "rate_limited")?;
    ensure!(!slow.header("retry-after").is_empty());
    for _ in 0..20 {
        b.get(&server, "/v1/sandboxes").await?.expect(200)?;
    }
    // A file that is of no use changes nothing.
    std::fs::write(keys.path(), "{")?;
    until("the complaint", async || Ok(server.log().contains("keys stay as they were").then_some(())))
        .await?;
    b.get(&server, "/v1/sandboxes").await?.expect(200)?;
    server.stop().await
}

#[tokio::test]
async fn a_key_that_is_revoked_ends_what_it_follows_and_nothing_else() -> Result<()> {
    let keys = Keys::new()?;
    let (gone, stays) = (keys.create("a", &[]).await?, keys.create("a", &[]).await?);
    let server = keys.server().await?;
    gone.post(&server, "/v1/sandboxes", &json!({"id": "s"})).await?.expect(201)?;
    let line = "echo begun; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo done";
    let exec = json!({"shell": line, "exec_id": "long"});
    let request =
        gone.request(&server, Method::POST, "/v1/sandboxes/s/exec").header("accept", "text/event-stream");
    let mut follower = Events::of(request.json(&exec).send().await?).await?;
    while follower.next().await?.context("an event")?.name != "stdout" {}
    let again = json!({"shell": line});
    let waits = gone.post(&server, "/v1/sandboxes/s/exec", &again);
    let revoke = async {
        keys.hothouse(&["revoke", &gone.id]).await?;
        let rest = follower.rest().await?;
        let last = rest.last().context("a last event")?;
        ensure!(last.name == "error" && last.data["code"] == "key_revoked", "{rest:?}");
        anyhow::Ok(())
    };
    let (waited, ()) = tokio::try_join!(waits, revoke)?;
    waited.problem(401, "key_revoked")?;
    gone.get(&server, "/v1/sandboxes").await?.problem(401, "unauthorized")?;
    // What was begun goes on, for whoever has a good key of the tenant.
    stays.post(&server, "/v1/sandboxes/s/exec", &json!({"shell": "touch /tmp/go"})).await?.expect(200)?;
    let result = stays.post(&server, "/v1/sandboxes/s/exec", &exec).await?.expect(200)?.json()?;
    ensure!(result["stdout"] == "begun\ndone\n", "{result}");
    server.stop().await
}

#[tokio::test]
async fn keys_open_the_network_and_tls_hides_what_goes_over_it() -> Result<()> {
    let keys = Keys::new()?;
    let key = keys.create("a", &[]).await?;
    let certificate =
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    let file = |name: &str, text: String| -> Result<String> {
        let path = keys.directory.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path.display().to_string())
    };
    let cert = file("cert.pem", certificate.cert.pem())?;
    let secret = file("key.pem", certificate.signing_key.serialize_pem())?;
    // 127.0.0.2 would be loopback too; any address of this machine shows that keys are enough.
    let flags = ["--listen", "0.0.0.0:0", "--keys", &keys.path(), "--tls-cert", &cert, "--tls-key", &secret];
    let server = Server::start_with(&flags).await?;
    let port = server.base.rsplit_once(':').context("a port")?.1.to_owned();
    ensure!(server.base.starts_with("https://"), "{}", server.base);
    let url = format!("https://localhost:{port}");
    let hothouse = async |arguments: &[&str], ca: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hothouse"));
        command.args(arguments).env("HOTHOUSE_SERVER", &url).env("HOTHOUSE_API_KEY", &key.secret);
        anyhow::Ok(command.env("HOTHOUSE_CA", ca).output().await?)
    };
    let made = hothouse(&["create", "--id", "s"], Path::new(&cert)).await?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let ran = hothouse(&["exec", "s", "--", "echo", "over TLS"], Path::new(&cert)).await?;
    ensure!(ran.stdout == b"over TLS\n", "{}", String::from_utf8_lossy(&ran.stderr));
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let other = file("other.pem", other.cert.pem())?;
    let untrusted = hothouse(&["ps"], Path::new(&other)).await?;
    ensure!(!untrusted.status.success(), "a certificate of somebody else");
    let plain = client()?.get(format!("http://127.0.0.1:{port}/healthz")).send();
    if plain.await.is_ok_and(|answer| answer.status() == 200) {
        bail!("it speaks without TLS too");
    }
    server.stop().await
}

#[tokio::test]
async fn a_users_images_are_those_of_the_store() -> Result<()> {
    let keys = Keys::new()?;
    let admin = keys.create("ops", &["--role", "admin"]).await?;
    let user = keys.create("acme", &[]).await?;
    let server = keys.server().await?;
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_file("bin/sh", &mut std::fs::File::open("/bin/busybox")?)?;
    let archive = archive.into_inner()?;
    let upload = |key: &Key| {
        key.request(&server, Method::POST, "/v1/images/import?name=shared:1").body(archive.clone())
    };
    let refused = send(upload(&user)).await?;
    refused.problem(403, "forbidden")?;
    ensure!(refused.header("connection") == "close", "its body is not read: {:?}", refused.headers);
    send(upload(&admin)).await?.expect(201)?;
    user.get(&server, "/v1/images").await?.expect(200)?;
    user.delete(&server, "/v1/images/shared:1").await?.problem(403, "forbidden")?;
    user.post(&server, "/v1/images/pull", &json!({"image": "docker://x"}))
        .await?
        .problem(403, "forbidden")?;
    let create = async |key: &Key, image: &str| {
        let groups = json!({"count": 1, "sandbox": {"image": image}});
        let grouped = key.post(&server, "/v1/groups", &groups).await?.status;
        let alone = key.post(&server, "/v1/sandboxes", &json!({"image": image})).await?;
        ensure!(alone.status == grouped, "{image}: {} alone, {grouped} in a group", alone.status);
        anyhow::Ok(alone)
    };
    create(&user, "shared:1").await?.expect(201)?;
    // Files of the node are not a tenant's to look into, nor is the network the node's to use for one.
    for image in ["dir:/", "tarball:/etc/shadow", "oci:/srv", "docker-archive:/etc/shadow", "docker-daemon:x"]
    {
        let problem = create(&user, image).await?.problem(403, "forbidden")?;
        ensure!(problem["field"] == "image", "{problem}");
    }
    let above = json!({"layers": ["dir:/srv"]});
    for (path, body) in
        [("/v1/sandboxes", above.clone()), ("/v1/groups", json!({"count": 1, "sandbox": above}))]
    {
        let problem = user.post(&server, path, &body).await?.problem(403, "forbidden")?;
        ensure!(problem["field"] == "layers", "{problem}");
    }
    admin.post(&server, "/v1/sandboxes", &above).await?.expect(201)?;
    create(&user, "docker://127.0.0.1:9/x").await?.problem(404, "image_not_found")?;
    create(&admin, "docker://127.0.0.1:9/x").await?.problem(502, "image_unavailable")?;
    server.stop().await
}
