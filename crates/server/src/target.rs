//! What a request's path names: the sandbox, the exec, the shell session.

use std::convert::Infallible;
use std::fmt::Display;
use std::num::NonZeroU16;
use std::str::FromStr;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use hothouse_domain::{
    ContextId, ErrorCode, ExecId, GroupId, ImageRef, OwnerName, PoolName, SandboxId, ShellId, SnapshotId,
    TemplateName,
};
use hothouse_sandbox::{Sandbox, SandboxError};

use crate::app::App;
use crate::auth::Caller;
use crate::problem::Refusal;

/// The sandbox that the path names.
pub(crate) struct InSandbox(pub(crate) Sandbox);

/// The id of an exec in the path.
pub(crate) struct AtExec(pub(crate) ExecId);

/// The id of a shell session in the path.
pub(crate) struct AtShell(pub(crate) ShellId);

/// The id of a context in the path.
pub(crate) struct AtContext(pub(crate) ContextId);

/// The name of a template in the path, which may not exist.
pub(crate) struct AtTemplate(pub(crate) TemplateName);

/// The id of a group in the path, which may not exist.
pub(crate) struct AtGroup(pub(crate) GroupId);

/// The id of a snapshot in the path, which may not exist.
pub(crate) struct AtSnapshot(pub(crate) SnapshotId);

/// The TCP port of the sandbox that the path names.
pub(crate) struct AtPort(pub(crate) u16);

/// The name of an owner in the path, who may have no sandbox.
pub(crate) struct AtOwner(pub(crate) OwnerName);

/// The name of a pool in the path, which may not exist.
pub(crate) struct AtPool(pub(crate) PoolName);

/// The image that the path names, which may not exist.
pub(crate) struct AtImage(pub(crate) ImageRef);

async fn parameter<T>(parts: &mut Parts, name: &'static str) -> Result<T, Refusal>
where
    T: FromStr<Err: Display>,
{
    let parameters = RawPathParams::from_request_parts(parts, &())
        .await
        .map_err(|error| Refusal::field(name, error.body_text()))?;
    let found = parameters.iter().find(|(given, _)| *given == name);
    let Some((_, text)) = found else {
        return Err(Refusal::new(ErrorCode::Internal, format!("the route has no {name}")));
    };
    text.parse().map_err(|error: T::Err| Refusal::field(name, error.to_string()))
}

impl FromRequestParts<App> for Caller {
    type Rejection = Infallible;
    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, Infallible> {
        Ok(caller(parts))
    }
}

fn caller(parts: &Parts) -> Caller {
    parts.extensions.get::<Caller>().cloned().unwrap_or_else(Caller::anybody)
}

impl FromRequestParts<App> for InSandbox {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        let id: SandboxId = parameter(parts, "sandbox_id").await?;
        let caller = caller(parts);
        match app.node.get(&id) {
            Ok(sandbox) if caller.knows(&sandbox.terms().claimant) => Ok(Self(sandbox)),
            // What is another tenant's is not there, ended or not.
            Ok(_) => Err(SandboxError::NotFound(id.to_string()).into()),
            Err(SandboxError::Ended { .. })
                if !app.node.ended(&id).is_some_and(|e| caller.knows(&e.claimant)) =>
            {
                Err(SandboxError::NotFound(id.to_string()).into())
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl FromRequestParts<App> for AtExec {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, Refusal> {
        parameter(parts, "exec_id").await.map(Self)
    }
}

impl FromRequestParts<App> for AtContext {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, Refusal> {
        parameter(parts, "context_id").await.map(Self)
    }
}

impl FromRequestParts<App> for AtTemplate {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, Refusal> {
        parameter(parts, "template_name").await.map(Self)
    }
}

impl FromRequestParts<App> for AtGroup {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, Refusal> {
        parameter(parts, "group_id").await.map(Self)
    }
}

impl FromRequestParts<App> for AtSnapshot {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, Refusal> {
        parameter(parts, "snapshot_id").await.map(Self)
    }
}

impl FromRequestParts<App> for AtOwner {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, Refusal> {
        parameter(parts, "owner").await.map(Self)
    }
}

impl FromRequestParts<App> for AtPort {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, Refusal> {
        match parameter::<NonZeroU16>(parts, "port").await {
            Ok(port) => Ok(Self(port.get())),
            Err(_) => Err(Refusal::field("port", "is no number from 1 to 65535")),
        }
    }
}

impl FromRequestParts<App> for AtPool {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, Refusal> {
        parameter(parts, "pool_name").await.map(Self)
    }
}

impl FromRequestParts<App> for AtImage {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, Refusal> {
        parameter(parts, "image").await.map(Self)
    }
}

impl FromRequestParts<App> for AtShell {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, Refusal> {
        parameter(parts, "shell_id").await.map(Self)
    }
}
