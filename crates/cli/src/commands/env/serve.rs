//! `hothouse env serve`.

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use hothouse_domain::ErrorCode;
use hothouse_env::{Environment, Era, SessionLimits};
use hothouse_server::dialects::openenv::{HttpSessions, Mode, Openenv, Settings};
use hothouse_server::{BindError, EnvServer, EnvServerOptions, ServerLimits};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::stage::{Stage, StageFlags};
use crate::commands::serve::{raise_descriptors, until_told_twice};
use crate::console;
use crate::failure::Failure;
use crate::flags::duration;
use crate::interrupt::Interrupts;

/// Connections beyond those of the sessions.
const MORE_CONNECTIONS: usize = 1024;

/// Serve one environment as OpenEnv servers do: HTTP and WebSocket, its paths at the root
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  hothouse env serve echo\n  hothouse env serve echo --era seed          # for clients of openenv-core 0.1\n  \
                  hothouse env serve grid_world --port 0 --json\n  hothouse env serve coding --memory 1G --warm 8"
)]
pub(super) struct ServeArgs {
    /// Which: one of `hothouse env ls`, a directory with an openenv.yaml, gym:ID, or pettingzoo:FAMILY/NAME
    name: String,
    /// Where to listen
    #[arg(
        long,
        value_name = "IP",
        default_value = "127.0.0.1",
        env = "HOTHOUSE_ENV_HOST",
        hide_env_values = true
    )]
    host: IpAddr,
    /// Port to listen on; 0 takes a free one
    #[arg(
        long,
        value_name = "PORT",
        default_value_t = 8000,
        env = "HOTHOUSE_ENV_PORT",
        hide_env_values = true
    )]
    port: u16,
    /// Sessions at once
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1024,
        env = "MAX_CONCURRENT_ENVS",
        hide_env_values = true
    )]
    capacity: usize,
    /// Clients that may wait for a session when all are taken
    #[arg(long, value_name = "N", default_value_t = 1024)]
    queue: usize,
    /// How long they wait before they are told that the server is at capacity
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = duration)]
    wait: f64,
    /// Close a session that is not used for so long [default: never, as long as its client is there]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    idle_timeout: Option<f64>,
    /// Time for a reset
    #[arg(long, value_name = "TIME", default_value = "120", value_parser = duration)]
    reset_timeout: f64,
    /// Time for a step
    #[arg(long, value_name = "TIME", default_value = "60", value_parser = duration)]
    step_timeout: f64,
    /// Whose clients' rules hold where they differ
    #[arg(long, value_name = "ERA", default_value = "today")]
    era: EraFlag,
    /// Whose session a request over HTTP is for [default: stateless; shared with --era seed]
    #[arg(long, value_name = "WHOSE")]
    http_session: Option<HttpSessionFlag>,
    /// What clients may do
    #[arg(
        long,
        value_name = "MODE",
        default_value = "simulation",
        env = "OPENENV_MODE",
        hide_env_values = true,
        ignore_case = true
    )]
    mode: ModeFlag,
    /// Listen on an address that other machines reach, although nobody there is asked who they are
    #[arg(long)]
    insecure: bool,
    /// Say where it listens as JSON: {"url", "pid", "environment"}
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    stage: StageFlags,
}

/// Which time's rules hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum EraFlag {
    /// The first clients': openenv-core 0.1
    Seed,
    /// Those of all later ones
    Today,
}

/// Whose session a request over HTTP is for.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum HttpSessionFlag {
    /// Nobody's: each request has one of its own
    Stateless,
    /// One for all clients
    Shared,
    /// One for each client that keeps cookies
    PerClient,
}

/// What clients may do.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum ModeFlag {
    /// Reset, step and state over HTTP too
    Simulation,
    /// Over HTTP nothing but tools
    Production,
}

/// What a program learns when the server is ready.
#[derive(Debug, Serialize)]
struct Ready<'a> {
    url: &'a str,
    pid: u32,
    environment: &'a str,
}

/// Serves until a signal comes.
pub(super) async fn run(args: ServeArgs) -> Result<u8, Failure> {
    let mut interrupts = Interrupts::listen()?;
    let (settings, descriptors) = (settings(&args)?, raise_descriptors());
    let opening = Box::pin(Stage::open(&args.name, &args.stage, args.capacity));
    let (environment, stage) = opening.await?;
    let served = Box::pin(serve(&args, environment, settings, descriptors, &mut interrupts)).await;
    stage.close().await;
    served.map(|()| 0)
}

async fn serve(
    args: &ServeArgs,
    environment: Arc<Environment>,
    settings: Settings,
    descriptors: u64,
    interrupts: &mut Interrupts,
) -> Result<(), Failure> {
    let name = environment.name.clone();
    let openenv = Openenv::only(environment, settings);
    let limits = ServerLimits {
        max_connections: args.capacity.saturating_add(MORE_CONNECTIONS),
        ..ServerLimits::default()
    };
    let listen = SocketAddr::new(args.host, args.port);
    let options = EnvServerOptions { listen, insecure: args.insecure, limits: limits.within(descriptors) };
    let server = EnvServer::bind(openenv, options).await.map_err(|error| refused(&error))?;
    let url = format!("http://{}", server.local_addr());
    let shutdown = CancellationToken::new();
    let serving = pin!(Box::pin(server.serve(shutdown.clone())));
    tracing::info!(url, environment = name, "ready");
    if args.json {
        console::json(&Ready { url: &url, pid: std::process::id(), environment: &name })?;
    } else {
        console::line(&format!("listening on {url}"))?;
    }
    tokio::select! {
        () = serving => {}
        () = until_told_twice(interrupts, &shutdown) => {
            tracing::warn!("told to end again: sessions are cut off");
        }
    }
    Ok(())
}

fn settings(args: &ServeArgs) -> Result<Settings, Failure> {
    let time = |flag: &str, seconds: f64| {
        let time = Duration::try_from_secs_f64(seconds);
        time.map_err(|_| Failure::usage(flag, format!("is {seconds} seconds; that is too long")))
    };
    if args.capacity == 0 {
        return Err(Failure::usage("--capacity", "is 0; nobody could open a session"));
    }
    let idle = args.idle_timeout.map(|seconds| time("--idle-timeout", seconds)).transpose()?;
    if idle.is_some_and(|idle| idle.is_zero()) {
        return Err(Failure::usage("--idle-timeout", "is 0; leave it out for never"));
    }
    let http_sessions = match (args.http_session, args.era) {
        (Some(HttpSessionFlag::Stateless), _) | (None, EraFlag::Today) => HttpSessions::Stateless,
        (Some(HttpSessionFlag::Shared), _) | (None, EraFlag::Seed) => HttpSessions::Shared,
        (Some(HttpSessionFlag::PerClient), _) => HttpSessions::PerClient,
    };
    Ok(Settings {
        era: if args.era == EraFlag::Seed { Era::Seed } else { Era::Today },
        http_sessions,
        mode: match args.mode {
            ModeFlag::Simulation => Mode::Simulation,
            ModeFlag::Production => Mode::Production,
        },
        capacity: args.capacity,
        queue: args.queue,
        patience: time("--wait", args.wait)?,
        idle,
        limits: SessionLimits {
            reset: time("--reset-timeout", args.reset_timeout)?,
            step: time("--step-timeout", args.step_timeout)?,
            ..SessionLimits::default()
        },
        ..Settings::default()
    })
}

fn refused(error: &BindError) -> Failure {
    match error {
        BindError::Exposed(address) => Failure::usage(
            "--host",
            format!("{address} is reached from other machines, and nobody there is asked who they are"),
        )
        .hint("listen on 127.0.0.1, or pass --insecure when only trusted machines reach this address"),
        BindError::Listen { address, source } => Failure::io(format_args!("listening on {address}"), source)
            .hint("choose another --port; 0 takes a free one"),
        BindError::Keys(_) | BindError::Tls(_) => Failure::new(ErrorCode::InvalidRequest, error.to_string()),
    }
}
