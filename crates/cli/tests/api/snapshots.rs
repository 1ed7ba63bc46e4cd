//! Snapshots, forks, groups of forks, and sandboxes that are set back.

use std::ffi::OsString;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use crate::server::{Server, send};
use crate::wait::until;

/// Makes every kind of change to an image that there is.
pub(crate) const CHANGES: &str = "\
    echo hello > /workspace/f; ln -s f /workspace/link; ln /workspace/f /workspace/hard; \
    mkdir -p '/opt/deep/er'; printf 'a\\nb' > '/opt/deep/er/a name with
a line break'; \
    truncate -s 1G /workspace/sparse; printf x | dd of=/workspace/sparse bs=1 seek=500M conv=notrunc 2>/dev/null; \
    mkfifo /workspace/fifo; chmod 4711 /workspace/f; touch -d '2001-02-03 04:05:06' /workspace/f; \
    rm /etc/hostname; rm -r /etc/skel; mkdir /etc/skel; echo new > /etc/skel/new; \
    rm -r /etc/terminfo; echo file > /etc/terminfo; mkdir /etc/shadow.d; chmod 750 /etc/shadow.d; \
    rm /usr/bin/env; echo mine > /usr/bin/mine; \
    name=$(printf '%0200d' 7); echo long > /workspace/$name";

/// Tells all of it, and what goes with it, in one text.
pub(crate) const LOOK: &str = "\
    cd /; for d in workspace opt etc/skel etc/shadow.d; do find $d -type d -printf '%p d %m %u %g\\n' -o -printf '%p %y %m %u %g %n %s %l\\n' | sort; done; \
    stat -c '%Y' /workspace/f; md5sum < /workspace/sparse; du -k /workspace/sparse | cut -f1; cat /opt/deep/er/a*; \
    ls /etc/hostname /usr/bin/env 2>&1; cat /etc/terminfo /usr/bin/mine /etc/skel/new";

pub(crate) async fn text(server: &Server, path: &str, line: &str) -> Result<String> {
    let result = server.shell(path, line).await?;
    Ok(result["stdout"].as_str().context("stdout")?.to_owned())
}

#[tokio::test]
async fn a_snapshot_has_every_change_and_a_fork_of_its_sandbox_too() -> Result<()> {
    let server = Server::start().await?;
    let origin = server.sandbox().await?;
    server.shell(&origin, CHANGES).await?;
    let before = text(&server, &origin, LOOK).await?;
    ensure!(before.contains("workspace/hard f 4711"), "the changes are made: {before}");
    let taken =
        server.post(&format!("{origin}/snapshot"), &json!({"id": "one", "labels": {"step": "3"}})).await?;
    let taken = taken.expect(201)?.json()?;
    ensure!(
        taken["holds"] == "files" && taken["image"] == "host" && taken["labels"]["step"] == "3",
        "{taken}"
    );
    ensure!(taken["bytes"].as_u64().is_some_and(|n| (10..100_000).contains(&n)), "holes are none: {taken}");
    // What comes later is not in it.
    server.shell(&origin, "rm /usr/bin/mine").await?;
    let made =
        server.post("/v1/sandboxes", &json!({"id": "made", "image": "snapshot:one"})).await?.expect(201)?;
    ensure!(made.json()?["spec"]["image"] == "snapshot:one");
    let made = "/v1/sandboxes/made";
    assert_eq!(text(&server, made, LOOK).await?, before);
    // A snapshot of what is made of one has both changes, in one layer: as many as wanted, none slower than the first.
    server.shell(made, "rm /workspace/link; mkdir /etc/hostname; echo 2 > /etc/hostname/two").await?;
    let look = "ls -R /workspace /etc/hostname /etc/skel; cat /usr/bin/mine";
    let mut path = made.to_owned();
    for depth in 0..3 {
        let fork = server.post(&format!("{path}/fork"), &json!({})).await?.expect(201)?.json()?;
        let fork = format!("/v1/sandboxes/{}", fork["id"].as_str().context("id")?);
        assert_eq!(text(&server, &fork, look).await?, text(&server, &path, look).await?, "{depth}");
        server.shell(&fork, &format!("touch /workspace/{depth}; rm -f /workspace/hard")).await?;
        path = fork;
    }
    // Nobody's changes are anybody else's.
    let apart = text(&server, made, "ls /workspace").await?;
    ensure!(apart.contains("hard") && !apart.lines().any(|name| name == "0"), "{apart}");
    server.stop().await
}

#[tokio::test]
async fn a_fork_is_somebody_else() -> Result<()> {
    let server = Server::start().await?;
    let spec = json!({"id": "origin", "env": {"A": "1", "B": "1"}, "secrets": {"TOKEN": "t0p"}, "labels": {"l": "1"},
        "resources": {"memory_bytes": 268_435_456_u64, "cpus": 0.5}});
    server.post("/v1/sandboxes", &spec).await?.expect(201)?;
    let origin = "/v1/sandboxes/origin";
    let started = server
        .post(
            &format!("{origin}/exec"),
            &json!({"argv": ["sleep", "1000"], "exec_id": "long", "detach": true}),
        )
        .await?;
    started.expect(202)?;
    let claim = json!({"id": "fork", "claim": {"env": {"B": "2"}, "labels": {"m": "2"}}});
    let fork = server.post(&format!("{origin}/fork"), &claim).await?.expect(201)?.json()?;
    ensure!(fork["spec"]["resources"]["memory_bytes"] == 268_435_456_u64, "{fork}");
    ensure!(fork["spec"]["labels"] == json!({"l": "1", "m": "2"}), "{fork}");
    let fork = "/v1/sandboxes/fork";
    let who = "echo $A$B; hostname; python3 -c 'import uuid, random; print(uuid.uuid4(), random.random())'; cat /proc/sys/kernel/random/uuid";
    let (first, second) = (text(&server, origin, who).await?, text(&server, fork, who).await?);
    let (first, second): (Vec<_>, Vec<_>) = (first.lines().collect(), second.lines().collect());
    ensure!(first[0] == "11" && second[0] == "12", "{first:?} {second:?}");
    ensure!((first[1], second[1]) == ("origin", "fork"), "{first:?} {second:?}");
    ensure!(first[2] != second[2] && first[3] != second[3], "{first:?} {second:?}");
    // Files and no processes; the origin's go on.
    server.get(&format!("{fork}/execs/long")).await?.problem(404, "exec_not_found")?;
    let long = server.get(&format!("{origin}/execs/long")).await?.expect(200)?.json()?;
    ensure!(long["state"] == "running", "{long}");
    let result =
        server.post(&format!("{fork}/exec"), &json!({"shell": "echo $TOKEN", "secrets": ["TOKEN"]})).await?;
    ensure!(result.expect(200)?.json()?["stdout"] == "t0p\n", "it may do what its origin may");
    server.stop().await
}

#[tokio::test]
async fn a_group_of_forks_is_made_once_and_whole() -> Result<()> {
    let server = Server::start().await?;
    let origin = server.sandbox().await?;
    server.shell(&origin, "echo prepared > /workspace/state").await?;
    let id = origin.rsplit('/').next().context("id")?;
    let body = json!({"id": "fan", "count": 6, "fork_of": id, "claim": {"env": {"SIDE": "x"}}});
    let ask = || send(server.request(Method::POST, "/v1/groups").header("Idempotency-Key", "k").json(&body));
    let group = ask().await?.expect(201)?.json()?;
    let members = group["members"].as_array().context("members")?.clone();
    ensure!(members.len() == 6, "{group}");
    for member in &members {
        let path = format!("/v1/sandboxes/{}", member["id"].as_str().context("id")?);
        assert_eq!(text(&server, &path, "cat /workspace/state; echo $SIDE").await?, "prepared\nx\n");
        ensure!(member["spec"]["image"] == members[0]["spec"]["image"], "its files are copied once");
    }
    let again = ask().await?.expect(201)?;
    ensure!(again.header("idempotency-replayed") == "true", "{:?}", again.headers);
    // Their origin may go; they stay.
    server.delete(&origin).await?.expect(204)?;
    assert_eq!(text(&server, "/v1/sandboxes/fan-3", "cat /workspace/state").await?, "prepared\n");
    server.delete("/v1/groups/fan").await?.expect(200)?;
    forks_gone(&server).await?;
    server.stop().await
}

/// The ids of the snapshots that there are files of; half-made ones have an empty one.
fn files_of_snapshots(server: &Server) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(server.home().join("snapshots"))?;
    let id = |name: OsString| name.to_string_lossy().split('.').next().unwrap_or_default().to_owned();
    Ok(entries.flatten().map(|entry| id(entry.file_name())).collect())
}

/// Waits until nothing is left of what forks were made of.
async fn forks_gone(server: &Server) -> Result<()> {
    let forks = server.home().join("sandboxes/.forks");
    until("the files of forks are gone", async || {
        Ok(std::fs::read_dir(&forks).map_or(0, Iterator::count).eq(&0).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_restored_sandbox_is_as_it_was_and_nothing_of_before_is_left() -> Result<()> {
    let server = Server::start().await?;
    let path = server.sandbox().await?;
    server.shell(&path, "echo base > /workspace/base; touch /tmp/t").await?;
    server.post(&format!("{path}/snapshot"), &json!({"id": "base"})).await?.expect(201)?;
    for round in 0..3 {
        let to = if round == 0 { json!({"snapshot": "base"}) } else { json!({}) };
        server.shell(&path, "rm -rf /workspace /tmp/t; echo x > /etc/passwd; ipcmk -M 4096 >/dev/null; echo x > /dev/shm/x; (setsid sleep 1000 &)").await?;
        let body = json!({"shell": "sleep 1000", "cwd": "/", "exec_id": format!("held-{round}")});
        let exec = format!("{path}/exec");
        let held = server.post(&exec, &body);
        let restore = async {
            until("the exec runs", async || {
                Ok((server.get(&format!("{path}/execs/held-{round}")).await?.status == 200).then_some(()))
            })
            .await?;
            server.post(&format!("{path}/restore"), &to).await?.expect(200)?.json()
        };
        let (held, info) = tokio::join!(held, restore);
        held?.problem(409, "sandbox_restored")?;
        ensure!(info?["spec"]["image"] == "snapshot:base");
        let look = "cat /workspace/base; ls /tmp/t; head -c 4 /etc/passwd; echo; ls /dev/shm; ipcs -m | grep -c 4096; cat /proc/[0-9]*/comm 2>/dev/null | grep -c sleep";
        assert_eq!(text(&server, &path, look).await?, "base\n/tmp/t\nroot\n0\n0\n", "{round}");
        let execs = server.get(&format!("{path}/execs")).await?.expect(200)?.json()?;
        ensure!(execs["items"].as_array().is_some_and(|items| items.len() == 1), "{execs}");
    }
    // It is found again as it is now.
    let server = server.killed_and_started_again().await?;
    assert_eq!(text(&server, &path, "cat /workspace/base").await?, "base\n");
    server.delete("/v1/snapshots/base").await?.problem(409, "snapshot_in_use")?;
    server.delete(&path).await?.expect(204)?;
    server.delete("/v1/snapshots/base").await?.expect(204)?;
    server.stop().await
}

#[tokio::test]
async fn snapshots_and_forks_survive_a_killed_server() -> Result<()> {
    let server = Server::start().await?;
    let path = server.sandbox().await?;
    server.shell(&path, "echo kept > /workspace/f").await?;
    server.post(&format!("{path}/snapshot"), &json!({"id": "s"})).await?.expect(201)?;
    server.post(&format!("{path}/fork"), &json!({"id": "fork"})).await?.expect(201)?;
    let server = server.killed_and_started_again().await?;
    let listed = server.get("/v1/snapshots").await?.expect(200)?.json()?;
    ensure!(
        listed["items"][0]["id"] == "s" && listed["items"].as_array().is_some_and(|i| i.len() == 1),
        "{listed}"
    );
    server.post("/v1/sandboxes", &json!({"id": "later", "image": "snapshot:s"})).await?.expect(201)?;
    for id in ["fork", "later"] {
        assert_eq!(text(&server, &format!("/v1/sandboxes/{id}"), "cat /workspace/f").await?, "kept\n");
    }
    // A fork of a fork that an earlier server made.
    server.post("/v1/sandboxes/fork/fork", &json!({"id": "second"})).await?.expect(201)?;
    assert_eq!(text(&server, "/v1/sandboxes/second", "cat /workspace/f").await?, "kept\n");
    for id in ["fork", "second"] {
        server.delete(&format!("/v1/sandboxes/{id}")).await?.expect(204)?;
    }
    forks_gone(&server).await?;
    server.stop().await
}

#[tokio::test]
async fn a_server_that_is_killed_while_it_copies_leaves_a_sandbox_that_serves() -> Result<()> {
    let server = Server::start().await?;
    server.post("/v1/sandboxes", &json!({"id": "big"})).await?.expect(201)?;
    let path = "/v1/sandboxes/big";
    server.shell(path, "head -c 200M /dev/zero > /workspace/f; echo kept > /workspace/small").await?;
    let snapshots = server.home().join("snapshots");
    let mut asking = tokio::task::JoinSet::new();
    let request = server.request(Method::POST, &format!("{path}/snapshot")).json(&json!({"id": "half"}));
    asking.spawn(async move { request.send().await.map(drop) });
    until("files are copied", async || {
        Ok(std::fs::exists(snapshots.join(".unfinished-half/u0/workspace/f"))?.then_some(()))
    })
    .await?;
    let server = server.killed_and_started_again().await?;
    while let Some(asked) = asking.join_next().await {
        // It was cut off: that is what it is for.
        _ = asked?;
    }
    assert_eq!(text(&server, path, "cat /workspace/small").await?, "kept\n");
    server.get("/v1/snapshots/half").await?.problem(404, "snapshot_not_found")?;
    server.post(&format!("{path}/snapshot"), &json!({"id": "half"})).await?.expect(201)?;
    until(
        "what was half made is gone",
        async || Ok((files_of_snapshots(&server)? == ["half"]).then_some(())),
    )
    .await?;
    server.stop().await
}

#[tokio::test]
async fn a_snapshot_may_be_the_end_of_its_sandbox() -> Result<()> {
    let server = Server::start().await?;
    let path = server.sandbox().await?;
    server.shell(&path, "echo last > /workspace/f").await?;
    let body = json!({"id": "last", "afterwards": "end"});
    server.post(&format!("{path}/snapshot"), &body).await?.expect(201)?;
    server.get(&path).await?.problem(410, "sandbox_ended")?;
    server.post("/v1/sandboxes", &json!({"id": "next", "image": "snapshot:last"})).await?.expect(201)?;
    assert_eq!(text(&server, "/v1/sandboxes/next", "cat /workspace/f").await?, "last\n");
    server.stop().await
}

#[tokio::test]
async fn an_id_may_be_used_again_and_means_the_new_one() -> Result<()> {
    let server = Server::start().await?;
    let path = server.sandbox().await?;
    for round in 0..20 {
        server.shell(&path, &format!("echo {round} > /workspace/f")).await?;
        server.post(&format!("{path}/snapshot"), &json!({"id": "again"})).await?.expect(201)?;
        server.post("/v1/sandboxes", &json!({"id": "made", "image": "snapshot:again"})).await?.expect(201)?;
        assert_eq!(text(&server, "/v1/sandboxes/made", "cat /workspace/f").await?, format!("{round}\n"));
        server.delete("/v1/sandboxes/made").await?.expect(204)?;
        server.delete("/v1/snapshots/again").await?.expect(204)?;
    }
    server.stop().await
}

#[tokio::test]
async fn what_cannot_be_taken_forked_or_deleted_says_why_and_leaves_nothing() -> Result<()> {
    let server = Server::start().await?;
    let path = server.sandbox().await?;
    let snapshot = format!("{path}/snapshot");
    server.post(&snapshot, &json!({"id": "s"})).await?.expect(201)?;
    server.post(&snapshot, &json!({"id": "s"})).await?.problem(409, "snapshot_exists")?;
    server
        .post("/v1/sandboxes", &json!({"image": "snapshot:none"}))
        .await?
        .problem(404, "snapshot_not_found")?;
    server.get("/v1/snapshots/none").await?.problem(404, "snapshot_not_found")?;
    server.delete("/v1/snapshots/none").await?.problem(404, "snapshot_not_found")?;
    server
        .post(&format!("{path}/restore"), &json!({"snapshot": "none"}))
        .await?
        .problem(404, "snapshot_not_found")?;
    let group = json!({"count": 2, "fork_of": "none"});
    server.post("/v1/groups", &group).await?.problem(404, "sandbox_not_found")?;
    for (body, field) in [
        (json!({"count": 2, "fork_of": "a", "sandbox": {}}), "fork_of"),
        (
            json!({"count": 2, "fork_of": "a", "claim": {"files": [{"path": "/x", "content": "x"}]}}),
            "claim.files",
        ),
    ] {
        let problem = server.post("/v1/groups", &body).await?.problem(400, "invalid_request")?;
        ensure!(problem["field"] == field, "{problem}");
    }
    let problem = server
        .post(&snapshot, &json!({"labels": {"bad name": "x"}}))
        .await?
        .problem(400, "invalid_request")?;
    ensure!(problem["field"] == "labels.bad name", "{problem}");
    server.post_nothing(&format!("{path}/freeze")).await?.expect(200)?;
    for what in ["snapshot", "fork", "restore"] {
        server.post(&format!("{path}/{what}"), &json!({})).await?.problem(409, "sandbox_frozen")?;
    }
    server.post_nothing(&format!("{path}/thaw")).await?.expect(200)?;
    server.shell(&path, "echo alive").await?;
    // Deeper than is copied: an error, and nothing of it stays.
    let deep = "cd /workspace; for i in $(seq 600); do mkdir d && cd d || exit 1; done";
    server.shell(&path, deep).await?;
    let problem = server.post(&snapshot, &json!({"id": "deep"})).await?.problem(500, "internal")?;
    ensure!(problem["detail"].as_str().is_some_and(|text| text.contains("directories deep")), "{problem}");
    let names = files_of_snapshots(&server)?;
    ensure!(names == ["s"], "{names:?}");
    assert_eq!(text(&server, &path, "echo alive").await?, "alive\n", "it goes on");
    dead(&server).await?;
    server.stop().await
}

async fn dead(server: &Server) -> Result<()> {
    server.post("/v1/sandboxes", &json!({"id": "dead"})).await?.expect(201)?;
    let path = "/v1/sandboxes/dead";
    let state: Value =
        serde_json::from_slice(&std::fs::read(server.home().join("sandboxes/dead/state.json"))?)?;
    let pid = state["body"]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).context("pid")?;
    let pid = rustix::process::Pid::from_raw(pid).context("pid")?;
    rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
    until("it is dead", async || Ok((server.get(path).await?.json()?["phase"] == "dead").then_some(())))
        .await?;
    for what in ["snapshot", "fork", "restore"] {
        server.post(&format!("{path}/{what}"), &json!({})).await?.problem(410, "sandbox_dead")?;
    }
    Ok(())
}

#[tokio::test]
async fn what_was_changed_is_listed_and_carried_away() -> Result<()> {
    let server = Server::start().await?;
    let path = server.sandbox().await?;
    let before = "mkdir -p /workspace/src; cd /workspace/src; printf 'one\\ntwo\\nthree\\n' > a.txt; echo gone > b.txt; mkdir d; echo x > d/x";
    server.shell(&path, before).await?;
    server.post(&format!("{path}/snapshot"), &json!({"id": "task"})).await?.expect(201)?;
    server.post("/v1/sandboxes", &json!({"id": "try", "image": "snapshot:task"})).await?.expect(201)?;
    let attempt = "/v1/sandboxes/try";
    let change = "cd /workspace/src; sed -i s/two/2/ a.txt; rm b.txt; rm -r d; mkdir d; echo new > d/new.txt; touch /etc/profile; \
                  printf '\\0\\1' > bin; ln -s a.txt link; rm -r /etc/skel; chmod 600 /etc/host.conf";
    server.shell(attempt, change).await?;
    let list = async |query: &str| {
        let diff = server.get(&format!("{attempt}/diff{query}")).await?.expect(200)?.json()?;
        let changes = diff["changes"].as_array().context("changes")?.clone();
        ensure!(diff["count"] == changes.len(), "{diff}");
        let shown = |c: &Value| Some(format!("{} {}", c["change"].as_str()?, c["path"].as_str()?));
        changes.iter().map(|c| shown(c).with_context(|| c.to_string())).collect::<Result<Vec<_>>>()
    };
    // Against what it is made of: the snapshot's own changes are none of its.
    let wanted = [
        "modified /etc/host.conf",
        "deleted /etc/skel",
        "modified /workspace/src/a.txt",
        "deleted /workspace/src/b.txt",
        "added /workspace/src/bin",
        "added /workspace/src/d/new.txt",
        "deleted /workspace/src/d/x",
        "added /workspace/src/link",
    ];
    assert_eq!(list("").await?, wanted);
    ensure!(list("?path=/etc/skel").await? == ["deleted /etc/skel"]);
    server.get(&format!("{attempt}/diff?path=etc")).await?.problem(400, "invalid_request")?;
    // What a task's attempt submits: its patch fits what the task began with.
    let patch = server.get(&format!("{attempt}/diff/patch?path=/workspace/src")).await?.expect(200)?;
    let patch = String::from_utf8(patch.bytes)?;
    ensure!(
        patch.contains("-two\n+2\n")
            && patch.contains("+++ /dev/null")
            && patch.contains("Binary files a/bin and b/bin differ"),
        "{patch}"
    );
    let layer = server.get(&format!("{attempt}/diff/layer")).await?.expect(200)?.bytes;
    let mut names = Vec::new();
    for entry in tar::Archive::new(layer.as_slice()).entries()? {
        names.push(entry?.path()?.to_string_lossy().into_owned());
    }
    for wanted in ["etc/.wh.skel", "workspace/src/a.txt", "workspace/src/link", "workspace/src/d/new.txt"] {
        ensure!(names.iter().any(|name| name == wanted), "{wanted}: {names:?}");
    }
    let exported = server.get("/v1/snapshots/task/layer").await?.expect(200)?.bytes;
    let count = tar::Archive::new(exported.as_slice()).entries()?.count();
    ensure!(count >= 5, "the snapshot's own layer: {count}");
    server.stop().await
}

#[tokio::test]
async fn layers_of_a_template_are_in_all_that_is_made_of_it() -> Result<()> {
    let layer = tempfile::tempdir()?;
    std::fs::create_dir_all(layer.path().join("opt/env"))?;
    std::fs::write(layer.path().join("opt/env/main.py"), "print('from the layer')\n")?;
    let layers = json!([format!("dir:{}", layer.path().display())]);
    let server = Server::start().await?;
    let run = async |sandbox: &str| text(&server, sandbox, "python3 /opt/env/main.py").await;
    let template = json!({"layers": layers, "setup": ["echo prepared > /opt/env/state"]});
    send(server.request(Method::PUT, "/v1/templates/env").json(&template)).await?.expect(200)?;
    server
        .post("/v1/pools", &json!({"name": "envs", "template": "env", "min": 1, "max": 2}))
        .await?
        .expect(201)?;
    let claimed = server.post("/v1/pools/envs/claim", &json!({})).await?.expect(201)?.json()?;
    let claimed = format!("/v1/sandboxes/{}", claimed["id"].as_str().context("id")?);
    ensure!(run(&claimed).await? == "from the layer\n");
    server.shell(&claimed, "echo mine > /opt/env/mine").await?;
    let fork = server.post(&format!("{claimed}/fork"), &json!({})).await?.expect(201)?.json()?;
    ensure!(fork["spec"]["layers"] == layers, "{fork}");
    let fork = format!("/v1/sandboxes/{}", fork["id"].as_str().context("id")?);
    ensure!(run(&fork).await? == "from the layer\n");
    assert_eq!(text(&server, &fork, "cat /opt/env/state /opt/env/mine").await?, "prepared\nmine\n");
    let diff = server.get(&format!("{claimed}/diff?path=/opt")).await?.expect(200)?.json()?;
    ensure!(diff["changes"] == json!([{"path": "/opt/env/mine", "change": "added", "size": 5}]), "{diff}");
    let taken =
        server.post(&format!("{claimed}/snapshot"), &json!({"id": "s"})).await?.expect(201)?.json()?;
    ensure!(taken["image"] == "host" && taken["image_layers"] == layers, "{taken}");

    // A server that is killed is followed by one that knows.
    let server = server.killed_and_started_again().await?;
    let info = server.get(&claimed).await?.expect(200)?.json()?;
    ensure!(info["spec"]["layers"] == layers, "{info}");
    server.post(&format!("{claimed}/restore"), &json!({})).await?.expect(200)?;
    let gone = text(&server, &claimed, "python3 /opt/env/main.py; ls /opt/env").await?;
    ensure!(gone == "from the layer\nmain.py\nstate\n", "{gone}");
    server.stop().await
}
