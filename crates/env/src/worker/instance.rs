//! One session in a worker.

use std::sync::Arc;

use futures::future::BoxFuture;
use serde_json::{Map, Value, json};

use super::link::Link;
use super::protocol::{self, Ask, Told};
use crate::game::{Failed, Reset, ToolError};
use crate::instance::{Arrays, Beside, Instance, OpenError, Shown};
use crate::observed::Observed;
use crate::session::StepError;

/// One session in a worker.
#[derive(Debug)]
pub(super) struct WorkerInstance {
    link: Arc<Link>,
    session: u32,
    arrays: Arrays,
}

/// Told to the worker however a session ends.
impl Drop for WorkerInstance {
    fn drop(&mut self) {
        self.link.dismiss(self.session);
    }
}

impl WorkerInstance {
    pub(super) async fn open(link: Arc<Link>, arrays: Arrays) -> Result<Self, OpenError> {
        let session = link.admit();
        let opened = Self { link, session, arrays };
        let how: &[u8] = match arrays {
            Arrays::Lists => b"{}",
            Arrays::Packed => br#"{"arrays":"packed"}"#,
        };
        match opened.ask(Ask::Open, how).await {
            Ok(_) => Ok(opened),
            Err(StepError::Failed(Failed { message, traceback })) => Err(OpenError { message, traceback }),
            Err(error) => Err(OpenError { message: error.to_string(), traceback: None }),
        }
    }

    async fn ask(&self, ask: Ask, payload: &[u8]) -> Result<Vec<u8>, StepError> {
        match self.link.ask(self.session, ask, payload).await? {
            Told::Done(payload) => Ok(payload),
            Told::Invalid(payload) => Err(protocol::invalid(&payload)),
            Told::Failed(payload) => Err(protocol::failed(&payload).into()),
            Told::Hello(_) => Err(StepError::Lost("its worker greets twice".to_owned())),
        }
    }
}

impl Instance for WorkerInstance {
    fn reset<'a>(&'a mut self, how: &'a Reset) -> BoxFuture<'a, Result<Observed, StepError>> {
        Box::pin(async {
            let given = serde_json::to_vec(&how.given).map_err(|error| Failed::new(error.to_string()))?;
            Ok(protocol::observed(&self.ask(Ask::Reset, &given).await?)?)
        })
    }

    fn step<'a>(
        &'a mut self,
        action: &'a str,
        beside: Beside<'a>,
    ) -> BoxFuture<'a, Result<Observed, StepError>> {
        Box::pin(async move {
            let answer = match beside.kwargs.filter(|kwargs| !kwargs.is_empty()) {
                None => self.ask(Ask::Step, action.as_bytes()).await?,
                Some(kwargs) => {
                    let kwargs = Value::Object(kwargs.clone());
                    let both = format!(r#"{{"action":{action},"kwargs":{kwargs}}}"#);
                    self.ask(Ask::StepWith, both.as_bytes()).await?
                }
            };
            Ok(protocol::observed(&answer)?)
        })
    }

    fn state(&mut self) -> BoxFuture<'_, Result<Shown, StepError>> {
        Box::pin(async {
            let state = self.ask(Ask::State, b"{}").await?;
            if state.first() == Some(&b'{') {
                Ok(Shown::Whole(state))
            } else {
                Err(Failed::new("the state is no object").into())
            }
        })
    }

    fn copy(&mut self) -> BoxFuture<'_, Result<Box<dyn Instance>, StepError>> {
        Box::pin(async {
            if !self.link.hello().has_checkpoints() {
                let environment = self.link.hello().name().to_owned();
                return Err(StepError::NotSupported { environment, what: "be copied" });
            }
            let checkpoint = self.ask(Ask::Checkpoint, b"{}").await?;
            // In the same process: what a checkpoint names may be known there alone.
            let copy = Self::open(Arc::clone(&self.link), self.arrays)
                .await
                .map_err(|error| Failed::new(error.message))?;
            copy.ask(Ask::Restore, &checkpoint).await?;
            Ok(Box::new(copy) as Box<dyn Instance>)
        })
    }

    fn call_tool<'a>(
        &'a mut self,
        name: &'a str,
        arguments: &'a Map<String, Value>,
    ) -> BoxFuture<'a, Result<Value, ToolError>> {
        Box::pin(async move {
            let request = json!({"method": "tools/call", "params": {"name": name, "arguments": arguments}});
            let answer = self.ask(Ask::Mcp, request.to_string().as_bytes()).await;
            match answer {
                Ok(result) => {
                    serde_json::from_slice(&result).map_err(|error| ToolError::Failed(error.to_string()))
                }
                Err(StepError::Invalid(wrong)) => {
                    let said: Vec<String> =
                        wrong.iter().map(|wrong| format!("{}: {}", json!(wrong.loc), wrong.msg)).collect();
                    Err(ToolError::Arguments(said.join("; ")))
                }
                Err(error) => Err(ToolError::Failed(error.to_string())),
            }
        })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        // Dropping it tells the worker.
        Box::pin(async move { drop(self) })
    }
}
