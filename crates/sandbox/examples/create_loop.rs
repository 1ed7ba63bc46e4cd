//! Creates and destroys sandboxes in a loop and prints how long that takes: `create_loop SPAWNER [COUNT] [IN_FLIGHT]`.
#![expect(clippy::print_stdout, reason = "it is a program that prints a measurement")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hothouse_domain::{SandboxId, SandboxSpec};
use hothouse_sandbox::native::{NativeBackend, NativeOptions, WhenOrphaned};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let spawner = PathBuf::from(arguments.next().context("usage: create_loop SPAWNER [COUNT] [IN_FLIGHT]")?);
    let count: usize = arguments.next().map_or(Ok(1000), |text| text.parse())?;
    let in_flight: usize = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let home = tempfile::tempdir()?;
    let options = NativeOptions {
        home: home.path().to_owned(),
        spawner,
        cgroup: None,
        when_orphaned: WhenOrphaned::End,
        ahead: 8,
        images: hothouse_sandbox::ImageLimits::default(),
    };
    let backend = Arc::new(NativeBackend::start(options).await?);
    for item in &backend.capabilities().items {
        println!("{:24} {:?}", item.name, item.enforcement);
    }
    let began = Instant::now();
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..in_flight {
        let backend = Arc::clone(&backend);
        workers.spawn(async move {
            let mut times = Vec::new();
            for number in 0..count / in_flight {
                let id: SandboxId = format!("w{worker}-{number}").parse()?;
                let begin = Instant::now();
                let running = backend.create(&id, &SandboxSpec::default()).await?;
                let created = begin.elapsed();
                running.destroy().await?;
                times.push((created, begin.elapsed()));
            }
            anyhow::Ok(times)
        });
    }
    let mut times = Vec::new();
    for worker in workers.join_all().await {
        times.extend(worker?);
    }
    let wall = began.elapsed();
    let (mut creates, mut wholes): (Vec<Duration>, Vec<Duration>) = times.into_iter().unzip();
    creates.sort();
    wholes.sort();
    let at = |times: &[Duration], share: usize| times[(times.len() * share / 100).min(times.len() - 1)];
    println!("create p50 {:?} p99 {:?}", at(&creates, 50), at(&creates, 99));
    println!("create+destroy p50 {:?} p99 {:?}", at(&wholes, 50), at(&wholes, 99));
    println!("{:.0}/s at {in_flight} in flight", wholes.len() as f64 / wall.as_secs_f64());
    Ok(())
}
