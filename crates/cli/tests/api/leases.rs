//! Sandboxes that end by their lease, what is said of them afterwards, and the events that tell of it.

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use crate::events::Events;
use crate::server::{Answer, Server, send};
use crate::wait::until;

async fn create(server: &Server, body: &Value) -> Result<String> {
    let info = server.post("/v1/sandboxes", body).await?.expect(201)?.json()?;
    Ok(format!("/v1/sandboxes/{}", info["id"].as_str().context("id")?))
}

/// Waits until the sandbox has ended, and gives what is said of it.
async fn ending(server: &Server, path: &str) -> Result<Value> {
    let answer = until(&format!("the end of {path}"), async || {
        let answer = server.get(path).await?;
        Ok((answer.status != 200).then_some(answer))
    })
    .await?;
    ended(&answer)
}

fn ended(answer: &Answer) -> Result<Value> {
    Ok(answer.problem(410, "sandbox_ended")?["ending"].clone())
}

async fn follow(server: &Server, query: &str, last: Option<&str>) -> Result<Events> {
    let request = server.request(Method::GET, &format!("/v1/events{query}"));
    let request = if let Some(last) = last { request.header("last-event-id", last) } else { request };
    Events::of(request.send().await?).await
}

#[tokio::test]
async fn what_has_ended_says_who_ended_it_when_and_why_and_so_does_the_next_server() -> Result<()> {
    let server = Server::start().await?;
    let deleted = create(&server, &json!({"id": "deleted"})).await?;
    let outlived = create(&server, &json!({"id": "outlived", "lease": {"lifetime_s": 0.3}})).await?;
    let again = create(&server, &json!({"id": "again"})).await?;
    server.delete(&deleted).await?.expect(204)?;
    server.delete(&again).await?.expect(204)?;
    create(&server, &json!({"id": "again"})).await?;

    let ending = ending(&server, &outlived).await?;
    ensure!(ending["cause"] == "lifetime" && ending["by"] == "lease", "{ending}");
    ensure!(ending["why"].as_str().is_some_and(|why| why.contains("0.3 s")), "{ending}");
    let answer = server.post(&format!("{deleted}/exec"), &json!({"shell": "true"})).await?;
    let by_client = ended(&answer)?;
    ensure!(by_client["cause"] == "deleted" && by_client["by"] == "client", "{by_client}");
    let detail = answer.json()?["detail"].as_str().unwrap_or_default().to_owned();
    ensure!(detail.contains("it was deleted") && detail.contains("by client"), "{detail}");
    ensure!(ended(&server.delete(&deleted).await?)? == by_client, "ended once, by one");

    let server = server.killed_and_started_again().await?;
    ensure!(ended(&server.get(&deleted).await?)? == by_client);
    ensure!(ended(&server.get(&outlived).await?)? == ending);
    let metrics = String::from_utf8(server.get("/metrics").await?.expect(200)?.bytes)?;
    ensure!(
        !metrics.contains("hothouse_sandbox_endings_total{cause"),
        "none since it was started: {metrics}"
    );
    ensure!(server.shell(&again, "echo here").await?["stdout"] == "here\n", "the id is in use again");
    server.get("/v1/sandboxes/never").await?.problem(404, "sandbox_not_found")?;
    server.stop().await
}

#[tokio::test]
async fn what_is_used_or_busy_is_not_idle() -> Result<()> {
    let server = Server::start().await?;
    let lease = json!({"lease": {"idle_s": 0.5}});
    let (idle, busy) = (create(&server, &lease).await?, create(&server, &lease).await?);
    // Nobody follows it, and it runs until it is told not to.
    let wait = "while [ ! -e /tmp/done ]; do sleep 0.05; done; echo finished";
    let detached = json!({"shell": wait, "exec_id": "long", "detach": true});
    server.post(&format!("{busy}/exec"), &detached).await?.expect(202)?;
    ensure!(ending(&server, &idle).await?["cause"] == "idle");
    let looks = server.get(&format!("{busy}/execs/long")).await?.expect(200)?.json()?;
    ensure!(looks["state"] == "running", "{looks}");
    // As long again without any request: the one that is looked at meanwhile has ended long before.
    let other = create(&server, &json!({"lease": {"idle_s": 1.2}})).await?;
    ensure!(ending_unasked(&server, &other).await?["cause"] == "idle");
    ensure!(
        server.shell(&busy, "touch /tmp/done; echo told").await?["stdout"] == "told\n",
        "it was not ended"
    );
    ensure!(ending(&server, &busy).await?["cause"] == "idle", "when nothing runs in it any more");
    server.stop().await
}

/// As [`ending`], found in the listing: looking at a sandbox must not count as use of another.
async fn ending_unasked(server: &Server, path: &str) -> Result<Value> {
    until("gone from the list", async || {
        let page = server.get("/v1/sandboxes").await?.expect(200)?.json()?;
        let there = page["items"]
            .as_array()
            .context("items")?
            .iter()
            .any(|item| item["id"].as_str().is_some_and(|id| path.ends_with(&format!("/{id}"))));
        Ok((!there).then_some(()))
    })
    .await?;
    ended(&server.get(path).await?)
}

#[tokio::test]
async fn an_owner_keeps_all_of_its_sandboxes_by_being_heard_of() -> Result<()> {
    let server = Server::start().await?;
    let lease = |owner: &str, seconds: f64| json!({"lease": {"owner": owner, "owner_s": seconds}});
    let (first, second) =
        (create(&server, &lease("job-7", 1.5)).await?, create(&server, &lease("job-7", 1.5)).await?);
    let lost = create(&server, &lease("job-8", 0.4)).await?;
    // One of them is used until the other owner's is gone, and for the time of its own lease after that.
    let gone = until("the end of the lost one", async || {
        server.shell(&first, "true").await?;
        let answer = server.get(&lost).await?;
        Ok((answer.status == 410).then_some(answer))
    })
    .await?;
    let gone = ended(&gone)?;
    ensure!(
        gone["cause"] == "owner_gone" && gone["why"].as_str().is_some_and(|w| w.contains("job-8")),
        "{gone}"
    );
    let clock = create(&server, &json!({"lease": {"lifetime_s": 1.6}})).await?;
    until("longer than the lease", async || {
        let renewed = server.post_nothing("/v1/owners/job-7/renew").await?.expect(200)?.json()?;
        ensure!(renewed["sandboxes"] == 2, "{renewed}");
        Ok((server.get(&clock).await?.status == 410).then_some(()))
    })
    .await?;
    server.get(&second).await?.expect(200)?;
    server.get(&first).await?.expect(200)?;
    // And when it is silent, both go.
    for path in [&first, &second] {
        ensure!(ending_unasked(&server, path).await?["cause"] == "owner_gone");
    }
    server.post_nothing("/v1/owners/job-7/renew").await?.problem(404, "not_found")?;
    server.stop().await
}

#[tokio::test]
async fn a_template_s_lease_counts_from_the_claim_and_a_claim_may_say_another() -> Result<()> {
    let server = Server::start().await?;
    let template = json!({"lease": {"lifetime_s": 0.5, "idle_s": 600}});
    send(server.request(Method::PUT, "/v1/templates/py").json(&template)).await?.expect(200)?;
    server
        .post("/v1/pools", &json!({"name": "p", "template": "py", "min": 2, "max": 2}))
        .await?
        .expect(201)?;
    let ready = async || {
        until("two are ready", async || {
            let pool = server.get("/v1/pools/p").await?.json()?;
            Ok((pool["ready"] == 2 && pool["making"] == 0).then_some(()))
        })
        .await
    };
    ready().await?;
    let before = server.get("/v1/sandboxes").await?.json()?["items"].clone();
    let clock = create(&server, &json!({"lease": {"lifetime_s": 0.8}})).await?;
    ending(&server, &clock).await?;
    let after = server.get("/v1/sandboxes").await?.json()?["items"].clone();
    ensure!(before == after, "those that wait have no lease yet: {before}, then {after}");

    let short = server.post("/v1/pools/p/claim", &json!({})).await?.expect(201)?.json()?;
    let long = json!({"lease": {"lifetime_s": 500}});
    let long = server.post("/v1/pools/p/claim", &long).await?.expect(201)?.json()?;
    ensure!(long["spec"]["lease"] == json!({"lifetime_s": 500.0, "idle_s": 600.0}), "{long}");
    let short = format!("/v1/sandboxes/{}", short["id"].as_str().context("id")?);
    ensure!(ending(&server, &short).await?["cause"] == "lifetime");
    let long = format!("/v1/sandboxes/{}", long["id"].as_str().context("id")?);
    // Leases are among what is found again.
    let server = server.killed_and_started_again().await?;
    let found = server.get(&long).await?.expect(200)?.json()?;
    ensure!(found["spec"]["lease"]["lifetime_s"] == 500.0, "{found}");
    server.stop().await
}

#[tokio::test]
async fn a_lease_that_breaks_a_rule_is_named() -> Result<()> {
    let server = Server::start().await?;
    for (lease, field) in [
        (json!({"lifetime_s": 0}), "lease.lifetime_s"),
        (json!({"idle_s": -1}), "lease.idle_s"),
        (json!({"owner": "a"}), "lease.owner_s"),
        (json!({"owner_s": 3}), "lease.owner"),
        (json!({"reclaim": "sometimes"}), "lease.reclaim"),
    ] {
        let answer = server.post("/v1/sandboxes", &json!({"lease": lease})).await?;
        ensure!(answer.problem(400, "invalid_request")?["field"] == field, "{field}: {}", answer.json()?);
    }
    server.stop().await
}

#[tokio::test]
async fn followers_hear_of_all_that_happens_from_wherever_they_were() -> Result<()> {
    let server = Server::start().await?;
    let mut live = follow(&server, "?sandbox_id=one", None).await?;
    let one = create(&server, &json!({"id": "one"})).await?;
    create(&server, &json!({"id": "two"})).await?;
    server.delete(&one).await?.expect(204)?;
    let created = live.next().await?.context("an event")?;
    ensure!(created.name == "created" && created.data["sandbox_id"] == "one", "{created:?}");
    let ended = live.next().await?.context("an event")?;
    ensure!(ended.name == "ended" && ended.data["ending"]["cause"] == "deleted", "{ended:?}");

    let mut late = follow(&server, "", Some(&created.id)).await?;
    let next = late.next().await?.context("an event")?;
    ensure!(next.data["sandbox_id"] == "two", "it goes on behind the one it had: {next:?}");
    let mut all = follow(&server, "?after=0", None).await?;
    ensure!(all.next().await?.context("an event")?.data["seq"] == 1);

    let server = server.killed_and_started_again().await?;
    let mut again = follow(&server, "", Some(&ended.id)).await?;
    ensure!(again.next().await?.context("an event")?.name == "missed", "another server cannot know");
    let adopted = again.next().await?.context("an event")?;
    ensure!(adopted.name == "adopted" && adopted.data["sandbox_id"] == "two", "{adopted:?}");
    let wrong = server.get("/v1/events?after=x").await?;
    ensure!(wrong.problem(400, "invalid_request")?["field"] == "after");
    drop((again, live));
    server.stop().await
}
