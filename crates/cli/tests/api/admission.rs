//! Room that is short: queues, priorities, groups, and requests that are sent twice.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use crate::server::{Answer, Server, send};
use crate::wait::until;

/// A server with room for two sandboxes and three gpus.
async fn small() -> Result<Server> {
    Server::start_with(&["--max-sandboxes", "2", "--capacity", "gpus=3"]).await
}

async fn create(server: &Server, body: &Value) -> Result<Answer> {
    server.post("/v1/sandboxes", body).await
}

async fn keyed(server: &Server, path: &str, key: &str, body: &Value) -> Result<Answer> {
    send(server.request(Method::POST, path).header("Idempotency-Key", key).json(body)).await
}

async fn count(server: &Server) -> Result<usize> {
    let page = server.get("/v1/sandboxes?limit=1000").await?.expect(200)?.json()?;
    Ok(page["items"].as_array().context("items")?.len())
}

async fn waiting(server: &Server, count: usize) -> Result<()> {
    until(&format!("{count} in the queue"), async || {
        let metrics = String::from_utf8(server.get("/metrics").await?.expect(200)?.bytes)?;
        Ok(metrics.contains(&format!("hothouse_queue_waiting {count}\n")).then_some(()))
    })
    .await
}

#[tokio::test]
async fn who_waits_gets_room_by_priority_and_then_by_turn() -> Result<()> {
    let server = small().await?;
    for id in ["a", "b"] {
        create(&server, &json!({"id": id})).await?.expect(201)?;
    }
    let ask = |id: &'static str, priority: i32| {
        let request = server.request(Method::POST, &format!("/v1/sandboxes?wait_s=60&priority={priority}"));
        send(request.json(&json!({"id": id})))
    };
    let begin = async {
        waiting(&server, 3).await?;
        let ahead = create(&server, &json!({})).await?;
        let ahead =
            ahead.problem(429, "capacity_exceeded")?["detail"].as_str().unwrap_or_default().to_owned();
        ensure!(ahead.contains("3 requests wait"), "nobody is served before those who wait: {ahead}");
        for (free, next) in [("a", "urgent"), ("b", "first"), ("urgent", "second")] {
            server.delete(&format!("/v1/sandboxes/{free}")).await?.expect(204)?;
            until(&format!("{next} is served"), async || {
                Ok((server.get(&format!("/v1/sandboxes/{next}")).await?.status == 200).then_some(()))
            })
            .await?;
        }
        anyhow::Ok(())
    };
    let first = async { ask("first", 0).await?.expect(201) };
    let second = async {
        waiting(&server, 1).await?;
        ask("second", 0).await?.expect(201)
    };
    let urgent = async {
        waiting(&server, 2).await?;
        ask("urgent", 5).await?.expect(201)
    };
    tokio::try_join!(begin, first, second, urgent)?;
    waiting(&server, 0).await?;
    let metrics = String::from_utf8(server.get("/metrics").await?.bytes)?;
    for line in ["hothouse_queue_admitted_total 3", "hothouse_node_taken{of=\"sandboxes\"} 2"] {
        ensure!(metrics.contains(line), "{line} is not in {metrics}");
    }
    server.stop().await
}

#[tokio::test]
async fn a_wait_ends_in_time_and_with_its_client() -> Result<()> {
    let server = small().await?;
    for id in ["a", "b"] {
        create(&server, &json!({"id": id})).await?.expect(201)?;
    }
    let answer = server.post("/v1/sandboxes?wait_s=0.2", &json!({})).await?;
    answer.problem(429, "capacity_exceeded")?;
    ensure!(answer.header("retry-after") == "1");
    // A client that goes away leaves the queue, and nobody gets a sandbox for it.
    let body = json!({"id": "gone"});
    let mut gone = Box::pin(server.post("/v1/sandboxes?wait_s=60", &body));
    tokio::select! {
        answer = &mut gone => anyhow::bail!("{}", answer?.status),
        waits = waiting(&server, 1) => waits?,
    }
    drop(gone);
    waiting(&server, 0).await?;
    server.delete("/v1/sandboxes/a").await?.expect(204)?;
    create(&server, &json!({"id": "next"})).await?.expect(201)?;
    for (query, field) in [
        ("wait_s=601", "wait_s"),
        ("wait_s=-1", "wait_s"),
        ("wait_s=NaN", "wait_s"),
        ("priority=101", "priority"),
        ("priority=x", "priority"),
    ] {
        let answer = server.post(&format!("/v1/sandboxes?{query}"), &json!({})).await?;
        ensure!(answer.problem(400, "invalid_request")?["field"] == field, "{query}");
    }
    server.stop().await
}

#[tokio::test]
async fn needs_are_counted_and_what_can_never_be_is_said_at_once() -> Result<()> {
    let server = small().await?;
    let made = create(&server, &json!({"id": "two", "needs": {"gpus": 2}})).await?.expect(201)?.json()?;
    ensure!(made["spec"]["needs"]["gpus"] == 2.0, "{made}");
    let short = create(&server, &json!({"needs": {"gpus": 1.5}})).await?.problem(429, "capacity_exceeded")?;
    ensure!(
        short["detail"].as_str().is_some_and(|text| text.contains("3 gpus, of which 2 are taken")),
        "{short}"
    );
    for (needs, text) in [
        (json!({"gpus": 4}), "is 4 in all; this node has 3"),
        (json!({"tpus": 1}), "it has gpus"),
        (json!({"gpus": -1}), "use 0 to"),
        (json!({"cpus": 1}), "resources"),
    ] {
        let refused = server.post("/v1/sandboxes?wait_s=30", &json!({"needs": needs})).await?;
        let refused = refused.problem(400, "invalid_request")?;
        ensure!(refused["detail"].as_str().is_some_and(|detail| detail.contains(text)), "{refused}");
    }
    // A start that fails gives back what it had taken.
    let failed = create(&server, &json!({"image": "dir:/nothing/there", "needs": {"gpus": 1}})).await?;
    ensure!(failed.status.is_client_error(), "{}", failed.json()?);
    create(&server, &json!({"needs": {"gpus": 1}})).await?.expect(201)?;
    // It counts in the next server too.
    let server = server.killed_and_started_again().await?;
    create(&server, &json!({"needs": {"gpus": 0.5}})).await?.problem(429, "capacity_exceeded")?;
    server.stop().await
}

#[tokio::test]
async fn a_request_with_a_key_makes_one_sandbox_however_often_it_is_sent() -> Result<()> {
    let server = Server::start().await?;
    let body = json!({"labels": {"job": "1"}});
    let sent = (0..8).map(|_| keyed(&server, "/v1/sandboxes", "key-1", &body));
    let answers = futures::future::try_join_all(sent).await?;
    let mut first = 0;
    let id = answers[0].json()?["id"].clone();
    for answer in answers {
        first += usize::from(answer.header("idempotency-replayed").is_empty());
        ensure!(answer.expect(201)?.json()?["id"] == id);
    }
    ensure!(first == 1 && count(&server).await? == 1, "{first} were carried out");
    let other = keyed(&server, "/v1/sandboxes", "key-1", &json!({})).await?;
    other.problem(409, "idempotency_conflict")?;

    // A client that goes away comes back.
    let slow = keyed(&server, "/v1/sandboxes", "key-2", &body);
    ensure!(tokio::time::timeout(Duration::from_micros(300), slow).await.is_err(), "nothing is that fast");
    let back = keyed(&server, "/v1/sandboxes", "key-2", &body).await?.expect(201)?.json()?;
    ensure!(count(&server).await? == 2, "{back}");

    let server = server.killed_and_started_again().await?;
    let again = keyed(&server, "/v1/sandboxes", "key-1", &body).await?.expect(201)?;
    ensure!(again.header("idempotency-replayed") == "true" && again.json()?["id"] == id);
    keyed(&server, "/v1/sandboxes", "key-1", &json!({})).await?.problem(409, "idempotency_conflict")?;
    server.delete(&format!("/v1/sandboxes/{}", id.as_str().context("id")?)).await?.expect(204)?;
    keyed(&server, "/v1/sandboxes", "key-1", &body).await?.problem(410, "sandbox_ended")?;
    let server = server.killed_and_started_again().await?;
    keyed(&server, "/v1/sandboxes", "key-1", &body).await?.problem(410, "sandbox_ended")?;
    let long = keyed(&server, "/v1/sandboxes", &"k".repeat(256), &body).await?;
    ensure!(long.problem(400, "invalid_request")?["field"] == "Idempotency-Key");
    server.stop().await
}

#[tokio::test]
async fn a_claim_with_a_key_spends_one_sandbox() -> Result<()> {
    let server = Server::start().await?;
    send(server.request(Method::PUT, "/v1/templates/py").json(&json!({}))).await?.expect(200)?;
    server
        .post("/v1/pools", &json!({"name": "p", "template": "py", "min": 1, "max": 1}))
        .await?
        .expect(201)?;
    let claim = async || {
        keyed(&server, "/v1/pools/p/claim", "c", &json!({"env": {"A": "1"}})).await?.expect(201)?.json()
    };
    let (first, second) = (claim().await?, claim().await?);
    ensure!(first["id"] == second["id"], "{first}, then {second}");
    let other = keyed(&server, "/v1/sandboxes", "c", &json!({})).await?;
    other.problem(409, "idempotency_conflict")?;
    server.stop().await
}

#[tokio::test]
async fn a_group_is_whole_or_not_there() -> Result<()> {
    let server = Server::start_with(&["--max-sandboxes", "6"]).await?;
    let spec = json!({"id": "g", "count": 4, "sandbox": {"env": {"A": "1"}}});
    let made = keyed(&server, "/v1/groups", "k", &spec).await?.expect(201)?.json()?;
    let ids: Vec<&str> =
        made["members"].as_array().context("members")?.iter().filter_map(|m| m["id"].as_str()).collect();
    ensure!(ids == ["g-0", "g-1", "g-2", "g-3"], "{made}");
    ensure!(made["members"][0]["group"] == "g", "{made}");
    let again = keyed(&server, "/v1/groups", "k", &spec).await?.expect(201)?;
    ensure!(again.header("idempotency-replayed") == "true" && again.json()?["members"] == made["members"]);
    server.post("/v1/groups", &spec).await?.problem(409, "group_exists")?;

    let short = server.post("/v1/groups", &json!({"count": 3})).await?;
    short.problem(429, "capacity_exceeded")?;
    ensure!(count(&server).await? == 4, "none of it is left");
    let taken = json!({"id": "h", "count": 2, "sandbox": {}});
    create(&server, &json!({"id": "h-1"})).await?.expect(201)?;
    server.post("/v1/groups", &taken).await?.problem(409, "sandbox_exists")?;
    let never =
        server.post("/v1/groups?wait_s=60", &json!({"count": 7})).await?.problem(400, "invalid_request")?;
    ensure!(never["field"] == "count", "{never}");

    let server = server.killed_and_started_again().await?;
    let found = server.get("/v1/groups/g").await?.expect(200)?.json()?;
    ensure!(found["members"].as_array().map(Vec::len) == Some(4), "{found}");
    server.delete("/v1/sandboxes/g-2").await?.expect(204)?;
    let found = server.get("/v1/groups/g").await?.json()?;
    ensure!(found["ended"][0]["id"] == "g-2" && found["ended"][0]["ending"]["cause"] == "deleted", "{found}");
    ensure!(server.get("/v1/groups").await?.json()?["items"] == json!([{"id": "g", "members": 3}]));
    ensure!(server.delete("/v1/groups/g").await?.expect(200)?.json()? == json!({"ended": 3}));
    let gone = server.get("/v1/sandboxes/g-0").await?.problem(410, "sandbox_ended")?;
    ensure!(gone["ending"]["cause"] == "group", "{gone}");
    server.delete("/v1/groups/g").await?.problem(404, "group_not_found")?;
    server.get("/v1/groups/never").await?.problem(404, "group_not_found")?;
    for (body, field) in [
        (json!({"count": 0}), "count"),
        (json!({"count": 1025}), "count"),
        (json!({"count": 1, "sandbox": {"id": "x"}}), "sandbox.id"),
        (json!({"count": 1, "sandbox": {"resources": {"cpus": -1}}}), "sandbox.resources.cpus"),
        (json!({"count": 1, "sandbox": {}, "pool": "p"}), "sandbox"),
        (json!({"count": 1, "claim": {}}), "claim"),
    ] {
        let answer = server.post("/v1/groups", &body).await?;
        ensure!(answer.problem(400, "invalid_request")?["field"] == field, "{body}: {}", answer.json()?);
    }
    server.stop().await
}

#[tokio::test]
async fn a_group_of_a_pool_is_undone_or_kept_as_far_as_it_goes() -> Result<()> {
    let server = Server::start_with(&["--max-sandboxes", "3"]).await?;
    send(server.request(Method::PUT, "/v1/templates/py").json(&json!({}))).await?.expect(200)?;
    server
        .post("/v1/pools", &json!({"name": "p", "template": "py", "min": 1, "max": 1}))
        .await?
        .expect(201)?;
    let undo = server.post("/v1/groups", &json!({"count": 5, "pool": "p"})).await?;
    let undo = undo.problem(429, "capacity_exceeded")?;
    ensure!(
        undo["detail"].as_str().is_some_and(|text| text.contains("nothing of the group is left")),
        "{undo}"
    );
    until("the pool is as before", async || {
        let pool = server.get("/v1/pools/p").await?.json()?;
        Ok((pool["claimed"] == 0 && pool["ready"] == 1 && pool["making"] == 0).then_some(()))
    })
    .await?;
    let keep = json!({"count": 5, "pool": "p", "on_failure": "keep", "claim": {"labels": {"job": "9"}}});
    let kept = server.post("/v1/groups", &keep).await?.expect(201)?.json()?;
    let (members, failures) = (kept["members"].as_array().context("members")?, kept["failures"].as_array());
    // The pool may have made another one meanwhile, which is nobody's yet.
    ensure!((2..=3).contains(&members.len()), "{kept}");
    ensure!(failures.map(Vec::len) == Some(5 - members.len()), "{kept}");
    ensure!(kept["failures"][0]["problem"]["code"] == "capacity_exceeded", "{kept}");
    let ended = server.delete("/v1/sandboxes?label=job%3D9").await?.expect(200)?.json()?;
    ensure!(ended["ended"] == members.len(), "{ended}");
    server.delete("/v1/sandboxes").await?.problem(400, "invalid_request")?;
    server.stop().await
}

#[tokio::test]
async fn a_group_to_be_kept_is_what_can_be_had_with_a_key_and_without() -> Result<()> {
    let server = small().await?;
    create(&server, &json!({"id": "there"})).await?.expect(201)?;
    let keep = json!({"count": 3, "on_failure": "keep"});
    let kept = keyed(&server, "/v1/groups", "k", &keep).await?.expect(201)?.json()?;
    let (members, failures) = (kept["members"].as_array().context("members")?, kept["failures"].as_array());
    ensure!(members.len() == 1 && failures.map(Vec::len) == Some(2), "{kept}");
    let none = keyed(&server, "/v1/groups", "none", &keep).await?.expect(201)?.json()?;
    ensure!(none["members"] == json!([]) && none["failures"].as_array().map(Vec::len) == Some(3), "{none}");
    let again = keyed(&server, "/v1/groups", "none", &keep).await?.expect(201)?;
    ensure!(again.header("idempotency-replayed") == "true" && again.json()?["members"] == json!([]));
    server.stop().await
}

#[tokio::test]
async fn a_group_that_a_killed_server_had_half_made_is_made_whole_when_it_is_asked_for_again() -> Result<()> {
    let mut server = Server::start().await?;
    let mut halves = 0;
    for round in 0..12_u64 {
        let (key, spec) = (format!("k{round}"), json!({"count": 24}));
        let asked = keyed(&server, "/v1/groups", &key, &spec);
        let wait = Duration::from_millis(5 + 7 * round);
        let answered = tokio::time::timeout(wait, asked).await.is_ok_and(|answer| answer.is_ok());
        server = server.killed_and_started_again().await?;
        halves += usize::from(!answered);
        let whole = keyed(&server, "/v1/groups", &key, &spec).await?.expect(201)?.json()?;
        let members = whole["members"].as_array().context("members")?;
        ensure!(members.len() == 24, "round {round}, answered {answered}: {whole}");
        let id = whole["id"].as_str().context("id")?;
        server.delete(&format!("/v1/groups/{id}")).await?.expect(200)?;
        ensure!(count(&server).await? == 0, "and nothing beside it");
    }
    ensure!(halves > 0, "no round was cut off");
    server.stop().await
}

#[tokio::test]
async fn no_sandbox_is_made_when_the_machine_is_short_of_memory() -> Result<()> {
    let server = Server::start_with(&["--min-free-memory", "16T"]).await?;
    let refused = create(&server, &json!({})).await?;
    let detail = refused.problem(429, "capacity_exceeded")?;
    ensure!(detail["detail"].as_str().is_some_and(|text| text.contains("memory left")), "{detail}");
    ensure!(refused.header("retry-after") == "1" && count(&server).await? == 0);
    server.stop().await
}
