//! Contexts of a sandbox, wherever it is.

use hothouse_domain::{ContextCode, ContextId, ContextInfo, ContextSpec, ExecResult};
use reqwest::{Method, header};

use super::events::EventStream;
use super::handle::{at, fresh_exec_id};
use super::live::Live;
use super::{ApiClient, SandboxHandle};
use crate::failure::Failure;

impl SandboxHandle {
    /// Opens a context.
    pub(crate) async fn context_open(&self, spec: ContextSpec) -> Result<ContextInfo, Failure> {
        match self {
            Self::Here { sandbox, .. } => Ok(sandbox.context_open(spec).await?),
            Self::There { client, id } => {
                client.send_json(at(client, id, Method::POST, &["contexts"]).json(&spec)).await
            }
        }
    }

    /// Runs code in a context to its end.
    pub(crate) async fn context_run(
        &self,
        context: &ContextId,
        code: ContextCode,
    ) -> Result<ExecResult, Failure> {
        match self {
            Self::Here { sandbox, .. } => Ok(sandbox.context_run(context, code).await?),
            Self::There { client, id } => {
                let path = ["contexts", context.as_str(), "run"];
                client.send_json(at(client, id, Method::POST, &path).json(&code)).await
            }
        }
    }

    /// Runs code in a context and follows it live.
    pub(crate) async fn context_stream(
        &self,
        context: &ContextId,
        mut code: ContextCode,
    ) -> Result<Live, Failure> {
        let exec_id = code.exec_id.get_or_insert_with(fresh_exec_id).clone();
        match self {
            Self::Here { sandbox, .. } => {
                let stream = sandbox.context_stream(context, code).await?;
                Ok(Live::here(sandbox.clone(), exec_id, stream))
            }
            Self::There { client, id } => {
                let request = at(client, id, Method::POST, &["contexts", context.as_str(), "run"])
                    .header(header::ACCEPT, "text/event-stream")
                    .json(&code);
                let events = EventStream::new(client.clone(), client.send(request).await?);
                Ok(Live::there(client.clone(), id.clone(), exec_id, events))
            }
        }
    }

    /// Ends a context's interpreter and starts a fresh one in its place.
    pub(crate) async fn context_reset(&self, context: &ContextId) -> Result<ContextInfo, Failure> {
        match self {
            Self::Here { sandbox, .. } => Ok(sandbox.context_reset(context).await?),
            Self::There { client, id } => {
                let path = ["contexts", context.as_str(), "reset"];
                client.send_json(at(client, id, Method::POST, &path)).await
            }
        }
    }

    /// Ends a context.
    pub(crate) async fn context_close(&self, context: &ContextId) -> Result<(), Failure> {
        match self {
            Self::Here { sandbox, .. } => Ok(sandbox.context_close(context).await?),
            Self::There { client, id } => close(client, id, context).await,
        }
    }
}

async fn close(
    client: &ApiClient,
    id: &hothouse_domain::SandboxId,
    context: &ContextId,
) -> Result<(), Failure> {
    client.send(at(client, id, Method::DELETE, &["contexts", context.as_str()])).await.map(drop)
}
