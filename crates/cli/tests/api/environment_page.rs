//! The web page of an environment and its API, of the real program. What the page does in a browser is tested in
//! `tests/web`.

use anyhow::{Context, Result, ensure};
use reqwest::Client as Http;
use reqwest::redirect::Policy;
use serde_json::{Value, json};

use crate::openenv::{Client, Environment};
use crate::server::{Answer, Server, send};
use crate::wait::PATIENCE;

/// A client that is told where a page has gone, and does not go there.
fn unled() -> Result<Http> {
    Ok(Http::builder().redirect(Policy::none()).timeout(PATIENCE).build()?)
}

async fn get(base: &str, path: &str) -> Result<Answer> {
    send(unled()?.get(format!("{base}{path}"))).await
}

/// What somebody is told who follows the page's session.
async fn told(follower: &mut Client) -> Result<Value> {
    let mut told = follower.hear().await?;
    assert_eq!(told["type"], "state_update");
    Ok(told["episode_state"].take())
}

#[tokio::test]
async fn the_page_is_found_and_allows_itself_nothing_but_itself() -> Result<()> {
    let environment = Environment::serve("echo", &[])?;
    for path in ["/", "/web"] {
        let moved = get(&environment.base, path).await?.expect(307)?;
        ensure!(moved.header("location") == "/web/", "{path} leads to {:?}", moved.header("location"));
    }
    let page = get(&environment.base, "/web/").await?.expect(200)?;
    ensure!(page.header("content-type") == "text/html; charset=utf-8");
    ensure!(page.header("x-content-type-options") == "nosniff");
    let policy = page.header("content-security-policy");
    for part in [
        "default-src 'none'",
        "script-src 'self'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    ] {
        ensure!(policy.contains(part), "{part} is not in {policy}");
    }
    ensure!(!policy.contains("unsafe"), "{policy}");
    let text = String::from_utf8(page.bytes.clone())?;
    let files: Vec<&str> = text
        .split('"')
        .filter(|part| [".js", ".css", ".svg"].iter().any(|end| part.ends_with(end)))
        .collect();
    ensure!(files.len() >= 3, "{files:?}");
    for file in files {
        let asset = get(&environment.base, &format!("/web/{file}")).await?.expect(200)?;
        ensure!(asset.header("content-security-policy") == policy && !asset.bytes.is_empty(), "{file}");
    }
    ensure!(get(&environment.base, "/web/other.js").await?.expect(404)?.json()?["detail"] == "Not Found");
    let wrong = send(environment.http.post(format!("{}/web/", environment.base))).await?.expect(405)?;
    ensure!(wrong.json()?["detail"] == "Method Not Allowed");
    let (_, metadata) = environment.get("/web/metadata").await?;
    assert_eq!(metadata, environment.get("/metadata").await?.1);
    ensure!(metadata.get("readme_content").is_some(), "{metadata}");
    Ok(())
}

#[tokio::test]
async fn all_who_use_the_pages_api_share_a_session_that_is_nobody_elses() -> Result<()> {
    let environment = Environment::serve("grid_world", &[])?;
    let mut own = environment.connect().await?;
    own.ask(&json!({"type": "reset"})).await?;
    let (status, reset) = environment.post("/web/reset", &json!({"episode_id": "E"})).await?;
    assert_eq!((status.as_u16(), &reset["observation"]["x"]), (200, &json!(0)));
    // The action by itself has a field of that name here.
    for body in [json!({"action": {"action": "DOWN"}}), json!({"action": "RIGHT"})] {
        let (status, stepped) = environment.post("/web/step", &body).await?;
        assert_eq!((status.as_u16(), &stepped["reward"]), (200, &json!(-0.1)), "{stepped}");
    }
    let wanted = json!({"episode_id": "E", "step_count": 2, "agent_x": 1, "agent_y": 1});
    assert_eq!(environment.get("/web/state").await?.1, wanted);
    let others = own.ask(&json!({"type": "state"})).await?;
    assert_eq!(others["data"]["step_count"], 0, "a session of a connection is another one");
    let (_, stateless) = environment.get("/state").await?;
    assert_eq!(stateless["step_count"], 0, "so is that of a request");
    Ok(())
}

#[tokio::test]
async fn who_follows_is_told_what_happens() -> Result<()> {
    let environment = Environment::serve("echo", &[])?;
    let mut one = Client::open(&environment.base, "/ws/ui", None).await?;
    let fresh = told(&mut one).await?;
    let nothing = json!({"episode_id": null, "step_count": 0, "current_observation": null, "action_logs": [], "is_reset": true});
    assert_eq!(fresh, nothing);
    environment.post("/web/reset", &json!({"episode_id": "E"})).await?;
    let begun = loop {
        // The session is opened for it, which is told too.
        let begun = told(&mut one).await?;
        if begun["episode_id"] == "E" {
            break begun;
        }
    };
    assert_eq!(begun["current_observation"]["echoed_message"], "Echo environment ready!");
    let mut other = Client::open(&environment.base, "/ws/ui", None).await?;
    assert_eq!(told(&mut other).await?, begun, "who comes later is told where it is");
    environment.post("/web/step", &json!({"message": "abc"})).await?;
    for follower in [&mut one, &mut other] {
        // What such a client says is of no meaning.
        follower.say("{}").await?;
        let told = told(follower).await?;
        assert_eq!((&told["step_count"], &told["is_reset"]), (&json!(1), &json!(false)));
        let entry = &told["action_logs"][0];
        assert_eq!(entry["action"], json!({"message": "abc"}));
        assert_eq!(entry["observation"]["echoed_message"], "abc");
        assert_eq!((&entry["done"], &entry["step_count"]), (&json!(false), &json!(1)));
        ensure!(entry["timestamp"].is_string() && entry["reward"].is_number(), "{entry}");
    }
    environment.post("/web/reset", &json!({})).await?;
    assert_eq!(told(&mut one).await?["action_logs"], json!([]));
    Ok(())
}

#[tokio::test]
async fn a_follower_is_not_idle_and_takes_no_place() -> Result<()> {
    let environment = Environment::serve("echo", &["--capacity", "1", "--idle-timeout", "200ms"])?;
    let mut follower = Client::open(&environment.base, "/ws/ui", None).await?;
    told(&mut follower).await?;
    let mut own = environment.connect().await?;
    own.ask(&json!({"type": "reset"})).await?;
    assert_eq!(own.hear().await?["data"]["code"], "SESSION_ERROR", "it was idle for long enough");
    environment.post("/web/reset", &json!({"episode_id": "E"})).await?;
    while told(&mut follower).await?["episode_id"] != "E" {}
    Ok(())
}

#[tokio::test]
async fn what_is_wrong_is_told() -> Result<()> {
    let environment = Environment::serve("grid_world", &[])?;
    let (status, early) = environment.post("/web/step", &json!({"action": "UP"})).await?;
    assert_eq!(status.as_u16(), 409);
    ensure!(early["detail"].as_str().is_some_and(|text| text.contains("reset first")), "{early}");
    environment.post("/web/reset", &json!({})).await?;
    for wrong in [json!({"action": {"action": "SIDEWAYS"}}), json!({"action": "SIDEWAYS"}), json!({})] {
        let (status, told) = environment.post("/web/step", &wrong).await?;
        assert_eq!((status.as_u16(), &told["detail"][0]["loc"]), (500, &json!(["action"])), "{told}");
    }
    for (path, wrong) in
        [("/web/reset", json!({"seed": -1})), ("/web/reset", json!([])), ("/web/step", json!([]))]
    {
        let (status, told) = environment.post(path, &wrong).await?;
        ensure!(status == 422 && told["detail"].is_array(), "{path} {wrong}: {status} {told}");
    }
    let (_, state) = environment.get("/web/state").await?;
    assert_eq!(state["step_count"], 0, "nothing of that was a step");
    Ok(())
}

#[tokio::test]
async fn in_production_there_is_a_page_and_no_api_to_begin_anew() -> Result<()> {
    let environment = Environment::serve("echo", &["--mode", "production"])?;
    get(&environment.base, "/web/").await?.expect(200)?;
    for path in ["/web/reset", "/web/step"] {
        let (status, _) = environment.post(path, &json!({})).await?;
        assert_eq!(status.as_u16(), 404, "{path}");
    }
    for path in ["/web/state", "/ws/ui"] {
        get(&environment.base, path).await?.expect(404)?;
    }
    Ok(())
}

#[tokio::test]
async fn the_first_clients_page_shows_no_metadata() -> Result<()> {
    let environment = Environment::serve("echo", &["--era", "seed"])?;
    let (status, stepped) = environment.post("/web/step", &json!({"message": "Hello, World!"})).await?;
    assert_eq!(status.as_u16(), 200);
    let wanted = json!({"observation": {"echoed_message": "Hello, World!", "message_length": 13}, "reward": 1.3, "done": false});
    assert_eq!(stepped, wanted);
    Ok(())
}

#[tokio::test]
async fn pages_of_other_sites_reach_neither_page_nor_session() -> Result<()> {
    let environment = Environment::serve("echo", &[])?;
    for path in ["/web/", "/web/state", "/web/metadata"] {
        let request =
            unled()?.get(format!("{}{path}", environment.base)).header("origin", "https://evil.example");
        send(request).await?.problem(403, "forbidden").with_context(|| path.to_owned())?;
    }
    let upgrade = unled()?
        .get(format!("{}/ws/ui", environment.base))
        .header("origin", "https://evil.example")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    send(upgrade.try_clone().context("a request without a body")?).await?.problem(403, "forbidden")?;
    let own = upgrade.build().map(|mut request| {
        request.headers_mut().insert("origin", environment.base.parse().expect("an address is a header"));
        request
    })?;
    assert_eq!(unled()?.execute(own).await?.status(), 101, "the server's own pages may");
    Ok(())
}

#[tokio::test]
async fn a_server_of_all_environments_has_a_page_for_each() -> Result<()> {
    let server = Server::start().await?;
    for path in ["/openenv/echo", "/openenv/echo/", "/openenv/echo/web"] {
        let moved = get(&server.base, path).await?.expect(307)?;
        ensure!(moved.header("location") == "/openenv/echo/web/", "{:?}", moved.header("location"));
    }
    let page = get(&server.base, "/openenv/echo/web/").await?.expect(200)?;
    ensure!(page.bytes == get(&server.base, "/openenv/grid_world/web/").await?.expect(200)?.bytes);
    get(&server.base, "/openenv/echo/web/page.js").await?.expect(200)?;
    for path in ["/openenv/nope/web", "/openenv/nope/web/", "/openenv/nope/web/page.js"] {
        let none = get(&server.base, path).await?.expect(404)?.json()?;
        ensure!(none["detail"].as_str().is_some_and(|text| text.contains("nope")), "{path}: {none}");
    }
    for (name, action) in [("echo", json!({"message": "x"})), ("grid_world", json!({"action": "DOWN"}))] {
        server.post(&format!("/openenv/{name}/web/reset"), &json!({})).await?.expect(200)?;
        server.post(&format!("/openenv/{name}/web/step"), &json!({"action": action})).await?.expect(200)?;
        let state = server.get(&format!("/openenv/{name}/web/state")).await?.expect(200)?.json()?;
        assert_eq!(state["step_count"], 1, "{name}: each environment has a session of its own");
    }
    server.stop().await
}
