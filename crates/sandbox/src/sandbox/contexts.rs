//! Contexts: live interpreters.

use hothouse_domain::exec::DEFAULT_OUTPUT_LIMIT;
use hothouse_domain::{
    ContextCode, ContextForkSpec, ContextId, ContextInfo, ContextSpec, ContextState, ExecResult, Invalid,
};
use hothouse_guest::message::{self, ContextEntry, OutputMode, Reply, Request};

use super::Sandbox;
use super::requests::{Repeat, cut_short, strange};
use crate::error::SandboxError;
use crate::exec_request::{self, fresh};
use crate::stream::{ExecStream, StdinRoute};

impl Sandbox {
    /// Starts a context.
    ///
    /// # Errors
    /// [`SandboxError`]: id taken, no Python in the image, a module that cannot be imported, too many.
    pub async fn context_open(&self, mut spec: ContextSpec) -> Result<ContextInfo, SandboxError> {
        let context_id = spec.context_id.take().unwrap_or_else(|| fresh("py"));
        let request = exec_request::context_open(&self.terms().spec, spec, &context_id)?;
        self.opened(&request).await
    }

    async fn opened(&self, request: &Request) -> Result<ContextInfo, SandboxError> {
        match self.ask(request, Repeat::Never).await? {
            Reply::ContextOpened(entry) => info(entry).ok_or_else(cut_short),
            reply => Err(strange(&reply)),
        }
    }

    /// Runs code in a context to its end.
    ///
    /// # Errors
    /// [`SandboxError`]: no such context, busy, ended.
    pub async fn context_run(
        &self,
        context_id: &ContextId,
        mut code: ContextCode,
    ) -> Result<ExecResult, SandboxError> {
        let (exec_id, origin) = exec_request::exec_id(code.exec_id.take());
        let limit = code.output_limit_bytes.unwrap_or(DEFAULT_OUTPUT_LIMIT);
        let request = exec_request::context_run(context_id, code, &exec_id, OutputMode::Collect)?;
        self.collect(&request, (&exec_id, origin), limit).await
    }

    /// Runs code in a context and follows it live.
    ///
    /// # Errors
    /// As for [`Sandbox::context_run`].
    pub async fn context_stream(
        &self,
        context_id: &ContextId,
        mut code: ContextCode,
    ) -> Result<ExecStream, SandboxError> {
        let exec_id = exec_request::exec_id(code.exec_id.take()).0;
        let request = exec_request::context_run(context_id, code, &exec_id, OutputMode::Follow)?;
        self.follow(&request, exec_id, StdinRoute::Closed, (0, 0)).await
    }

    /// Forks a context that runs nothing; all forks or none.
    ///
    /// # Errors
    /// [`SandboxError`]: no such context, busy, ended, an id that is taken, too many.
    pub async fn context_fork(
        &self,
        context_id: &ContextId,
        spec: ContextForkSpec,
    ) -> Result<Vec<ContextInfo>, SandboxError> {
        spec.validate()?;
        let first = spec.context_id.unwrap_or_else(|| fresh("py"));
        let ids: Vec<ContextId> = match spec.count {
            None => vec![first],
            Some(count) => (1..=count)
                .map(|n| ContextId::try_from(format!("{first}-{n}")))
                .collect::<Result<_, _>>()
                .map_err(|error| Invalid::new("context_id", error.to_string()))?,
        };
        let forks = ids.iter().map(|new_id| async {
            let (context_id, new_id) = (context_id.to_string(), new_id.to_string());
            self.opened(&Request::ContextFork { context_id, new_id }).await
        });
        let forks = futures::future::join_all(forks).await;
        if forks.iter().all(Result::is_ok) {
            return forks.into_iter().collect();
        }
        for fork in forks.iter().flatten() {
            if let Err(error) = self.context_close(&fork.context_id).await {
                tracing::warn!(sandbox = %self.id(), context = %fork.context_id, %error, "a fork that is one too many stays");
            }
        }
        forks.into_iter().collect()
    }

    /// Ends a context's interpreter and starts a fresh one in its place.
    ///
    /// # Errors
    /// [`SandboxError`]: no such context.
    pub async fn context_reset(&self, context_id: &ContextId) -> Result<ContextInfo, SandboxError> {
        self.opened(&Request::ContextReset { context_id: context_id.to_string() }).await
    }

    /// Interrupts the code that a context runs.
    ///
    /// # Errors
    /// [`SandboxError`]: no such context.
    pub async fn context_interrupt(&self, context_id: &ContextId) -> Result<(), SandboxError> {
        self.tell(&Request::ContextInterrupt { context_id: context_id.to_string() }, Repeat::Never).await
    }

    /// Ends a context.
    ///
    /// # Errors
    /// [`SandboxError`]: no such context.
    pub async fn context_close(&self, context_id: &ContextId) -> Result<(), SandboxError> {
        self.tell(&Request::ContextClose { context_id: context_id.to_string() }, Repeat::Never).await
    }

    /// The contexts, oldest first.
    ///
    /// # Errors
    /// [`SandboxError`]: frozen, dead.
    pub async fn contexts(&self) -> Result<Vec<ContextInfo>, SandboxError> {
        match self.ask(&Request::ContextList, Repeat::Safe).await? {
            Reply::Contexts(entries) => Ok(entries.into_iter().filter_map(info).collect()),
            reply => Err(strange(&reply)),
        }
    }

    /// One context.
    ///
    /// # Errors
    /// [`SandboxError`]: no such context.
    pub async fn context(&self, context_id: &ContextId) -> Result<ContextInfo, SandboxError> {
        let found = self.contexts().await?.into_iter().find(|info| info.context_id == *context_id);
        found.ok_or_else(|| SandboxError::Guest {
            code: message::GuestErrorCode::ContextNotFound,
            message: format!("context {context_id}: no such context"),
        })
    }
}

fn info(entry: ContextEntry) -> Option<ContextInfo> {
    let state = match entry.state {
        message::ContextState::Starting => ContextState::Starting,
        message::ContextState::Idle => ContextState::Idle,
        message::ContextState::Busy => ContextState::Busy,
        message::ContextState::Ended(reason) => ContextState::Ended { reason },
    };
    Some(ContextInfo {
        context_id: ContextId::try_from(entry.context_id).ok()?,
        python: entry.version,
        forked_from: entry.forked_from.and_then(|id| ContextId::try_from(id).ok()),
        state,
    })
}
