//! Environments that an author wrote in Python, played by workers.
//!
//! ```text
//! Worker (host) ─► Link (one process, many sessions) ─► byte stream ─► python3 -m hothouse.worker
//!    └─► WorkerInstance (one session) ──┘
//! ```
//!
//! A worker's zygote has imported the author's module; each connection to it is served by a process of its own, forked
//! from it. Sessions share processes, so that thousands cost no process each; a process that dies takes its own
//! sessions with it and nobody else's.

#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod instance;
mod link;
mod protocol;

use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::environment::{Environment, Maker, Turns};
use crate::game::Failed;
use crate::instance::{Host, Instance, OpenError, Terms};
use crate::tasks::{TaskError, TaskQuery};
use instance::WorkerInstance;
use link::Link;
pub use protocol::Hello;
use protocol::{Ask, Told};

/// A byte stream to a worker.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Connects to a worker; each connection is a process.
pub type Dial = Arc<dyn Fn() -> BoxFuture<'static, Result<Box<dyn Stream>, String>> + Send + Sync>;

/// The workers of one environment.
pub struct Worker {
    dial: Dial,
    /// Processes at once.
    processes: usize,
    links: tokio::sync::Mutex<Vec<Arc<Link>>>,
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("processes", &self.processes).finish_non_exhaustive()
    }
}

impl Worker {
    /// Connects to a worker, and asks it what environment it plays.
    ///
    /// # Errors
    /// [`OpenError`]: it cannot be reached, or the author's module cannot be imported; then with its traceback.
    pub async fn environment(dial: Dial, processes: usize) -> Result<Environment, OpenError> {
        let first = Link::open(&dial).await?;
        let hello = first.hello().clone();
        let worker = Arc::new(Self {
            dial,
            processes: processes.max(1),
            links: tokio::sync::Mutex::new(vec![Arc::new(first)]),
        });
        Ok(hello.into_environment(Turns::ItsOwn, Maker::Host(worker)))
    }

    /// A process with room for another session: the one with the fewest, or a new one while there may be more.
    async fn link(&self) -> Result<Arc<Link>, OpenError> {
        let mut links = self.links.lock().await;
        links.retain(|link| link.is_alive());
        let most = links.first().and_then(|link| link.hello().max_sessions);
        let least = links.iter().min_by_key(|link| link.sessions()).cloned();
        match least {
            Some(link) if link.sessions() == 0 => Ok(link),
            Some(link) if links.len() >= self.processes && most.is_none_or(|most| link.sessions() < most) => {
                Ok(link)
            }
            // One session a process is what an author asks for who keeps state in globals.
            Some(_) | None => {
                let link = Arc::new(Link::open(&self.dial).await?);
                links.push(Arc::clone(&link));
                Ok(link)
            }
        }
    }
}

impl Host for Worker {
    fn open(&self, terms: Terms) -> BoxFuture<'_, Result<Box<dyn Instance>, OpenError>> {
        Box::pin(async move {
            let link = self.link().await?;
            Ok(Box::new(WorkerInstance::open(link, terms.arrays).await?) as Box<dyn Instance>)
        })
    }

    fn tasks<'a>(&'a self, query: &'a TaskQuery) -> BoxFuture<'a, Result<Value, TaskError>> {
        Box::pin(async {
            let link = self.link().await?;
            let request = json!({"method": query.method(), "arguments": query.arguments()}).to_string();
            // No session has this number: an instance made for this once answers.
            let number = link.admit();
            let told = link.ask(number, Ask::Tasks, request.as_bytes()).await;
            link.dismiss(number);
            match told.map_err(|lost| Failed::new(lost.to_string()))? {
                Told::Done(answer) => {
                    Ok(serde_json::from_slice(&answer).map_err(|error| Failed::new(error.to_string()))?)
                }
                Told::Failed(reason) => Err(protocol::no_tasks(query, &reason)),
                Told::Invalid(_) | Told::Hello(_) => {
                    Err(Failed::new(format!("its worker does not understand {}", query.method())).into())
                }
            }
        })
    }
}
