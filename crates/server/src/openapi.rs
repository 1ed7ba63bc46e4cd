//! The API's own description.

use std::sync::LazyLock;

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use utoipa::OpenApi;
use utoipa::openapi::PathItem;

use crate::{
    archives, changes, contexts, events, execs, files, groups, health, images, metrics, owners, pools, ports,
    sandboxes, shells, snapshots, stats, templates, terminal,
};

/// Written once, when somebody first asks.
static TEXT: LazyLock<String> = LazyLock::new(openapi_json);

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Hothouse",
        description = "Isolated sandboxes. Every error is an RFC 9457 problem document with a stable `code`; unknown \
                       fields and parameters are refused.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
        contact(name = "Hothouse"),
    ),
    servers((url = "/")),
    tags(
        (name = "sandboxes", description = "Isolated places"),
        (name = "execs", description = "Commands in a sandbox"),
        (name = "shells", description = "Live shells that keep their directory and variables"),
        (name = "contexts", description = "Live Python interpreters that keep their variables"),
        (name = "ports", description = "What listens in a sandbox"),
        (name = "files", description = "Files of a sandbox"),
        (name = "snapshots", description = "The files of sandboxes, frozen, forked and set back"),
        (name = "templates", description = "What pools make sandboxes from"),
        (name = "pools", description = "Sandboxes that are ready before anybody asks"),
        (name = "groups", description = "Sandboxes that are made together and ended together"),
        (name = "images", description = "What sandboxes are made from"),
        (name = "events", description = "What happens to sandboxes"),
        (name = "server", description = "The server itself"),
    ),
    paths(
        sandboxes::create, sandboxes::list, sandboxes::get, sandboxes::delete, sandboxes::delete_many, sandboxes::freeze, sandboxes::thaw,
        execs::run, execs::list, execs::get, execs::output, execs::stream, execs::stdin, execs::signal, execs::resize,
        terminal::open,
        shells::open, shells::list, shells::run, shells::interrupt, shells::close,
        contexts::open, contexts::list, contexts::get, contexts::run, contexts::interrupt, contexts::reset, contexts::fork,
        contexts::close,
        ports::forward,
        files::read, files::write, files::remove, files::stat, files::list, files::mkdir, files::rename,
        archives::download, archives::upload, archives::patch,
        snapshots::create, snapshots::fork, snapshots::restore, snapshots::list, snapshots::get, snapshots::delete,
        changes::list, changes::patch, changes::layer, changes::of_snapshot,
        templates::list, templates::put, templates::get, templates::delete,
        pools::create, pools::list, pools::get, pools::delete, pools::scale, pools::drain, pools::claim,
        groups::create, groups::list, groups::get, groups::delete,
        images::list, images::get, images::pull, images::import, images::delete, images::prune, images::export,
        stats::of_one, stats::of_node,
        events::follow, owners::renew,
        health::capabilities, health::healthz, health::readyz, health::hello, metrics::metrics, openapi,
    ),
    components(schemas(terminal::TerminalInput, terminal::TerminalOutput)),
)]
struct Api;

/// The OpenAPI document of this server as JSON, ending in a newline; `api/openapi.json` is a copy of it.
///
/// # Panics
/// Never: the document is made of constants, and a test makes it.
#[must_use]
pub fn openapi_json() -> String {
    let mut api = Api::openapi();
    if let Some(item) = api.paths.paths.get_mut("/v1/sandboxes/{sandbox_id}/ports/{port}/{path}") {
        name_by_method(item);
    }
    let mut text = api.to_pretty_json().expect("the document is made of constants that can be written");
    text.push('\n');
    text
}

/// An operation that takes any method is one for each of them, with a name of its own.
fn name_by_method(item: &mut PathItem) {
    for (method, operation) in [
        ("get", &mut item.get),
        ("post", &mut item.post),
        ("put", &mut item.put),
        ("patch", &mut item.patch),
        ("delete", &mut item.delete),
        ("head", &mut item.head),
        ("options", &mut item.options),
    ] {
        if let Some(operation) = operation
            && let Some(id) = &mut operation.operation_id
        {
            *id = format!("{id}_{method}");
        }
    }
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "server", responses(
    (status = 200, description = "OpenAPI 3.1", body = Object, content_type = "application/json"),
))]
pub(crate) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], TEXT.as_str()).into_response()
}
