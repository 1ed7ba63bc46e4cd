//! Templates: what pools make sandboxes from.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use hothouse_domain::{Problem, TemplateInfo, TemplateName, TemplateSpec};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::body::JsonBody;
use crate::problem::{Refusal, json_response};
use crate::query::Query;
use crate::target::AtTemplate;

/// All templates, sorted by name.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Templates {
    /// The templates.
    items: Vec<TemplateInfo>,
}

/// List templates, sorted by name.
#[utoipa::path(get, operation_id = "template_list", path = "/v1/templates", tag = "templates", responses(
    (status = 200, body = Templates),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn list(State(app): State<App>, query: Query) -> Result<Response, Refusal> {
    query.finish()?;
    Ok(json_response(StatusCode::OK, &Templates { items: app.fleet.templates() }))
}

/// Make a template, or a new version of one; the same spec again changes nothing. Pools replace what they keep ready.
#[utoipa::path(put, operation_id = "template_put", path = "/v1/templates/{template_name}", tag = "templates",
    params(("template_name" = TemplateName, Path)), request_body = TemplateSpec, responses(
    (status = 200, body = TemplateInfo),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn put(
    State(app): State<App>,
    AtTemplate(name): AtTemplate,
    query: Query,
    JsonBody(spec): JsonBody<TemplateSpec>,
) -> Result<Response, Refusal> {
    query.finish()?;
    Ok(json_response(StatusCode::OK, &app.fleet.put_template(&name, spec)?))
}

/// Look at one template.
#[utoipa::path(get, operation_id = "template_get", path = "/v1/templates/{template_name}", tag = "templates",
    params(("template_name" = TemplateName, Path)), responses(
    (status = 200, body = TemplateInfo),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn get(
    State(app): State<App>,
    AtTemplate(name): AtTemplate,
    query: Query,
) -> Result<Response, Refusal> {
    query.finish()?;
    Ok(json_response(StatusCode::OK, &app.fleet.template(&name)?))
}

/// Delete a template that no pool uses.
#[utoipa::path(delete, operation_id = "template_delete", path = "/v1/templates/{template_name}", tag = "templates",
    params(("template_name" = TemplateName, Path)), responses(
    (status = 204, description = "Gone"),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn delete(
    State(app): State<App>,
    AtTemplate(name): AtTemplate,
    query: Query,
) -> Result<Response, Refusal> {
    query.finish()?;
    app.fleet.remove_template(&name)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
