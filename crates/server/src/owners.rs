//! Owners of leases.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use hothouse_domain::{ErrorCode, OwnerName, Problem};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::auth::Caller;
use crate::problem::{Refusal, json_response};
use crate::query::Query;
use crate::target::AtOwner;

/// What a renewal did.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Renewed {
    /// Sandboxes whose owner lease begins anew.
    sandboxes: usize,
}

/// Let word of an owner be heard: the leases of all its sandboxes begin anew.
#[utoipa::path(post, operation_id = "owner_renew", path = "/v1/owners/{owner}/renew", tag = "sandboxes",
    params(("owner" = OwnerName, Path)), responses(
    (status = 200, body = Renewed),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn renew(
    State(app): State<App>,
    caller: Caller,
    AtOwner(owner): AtOwner,
    query: Query,
) -> Result<Response, Refusal> {
    query.finish()?;
    let sandboxes = app.node.renew(caller.tenant, owner.clone());
    if sandboxes == 0 {
        let detail = format!("owner {owner} has no sandbox left; its leases are over, or none was made");
        return Err(Refusal::new(ErrorCode::NotFound, detail));
    }
    Ok(json_response(StatusCode::OK, &Renewed { sandboxes }))
}
