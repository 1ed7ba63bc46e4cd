//! The web page of an environment: try it by hand. And the page's API, as OpenEnv's own page had it, see [`shared`].
//!
//! The page plays in a session of its own, over `/ws`; it loads nothing from elsewhere, and all that an environment says
//! is shown as text. Its policy holds it to that: no script but its own, and no way to make one from a text.

mod shared;

use axum::Router;
use axum::extract::OriginalUri;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};

pub(super) use shared::Shared;

use super::described;
use super::served::{For, Mode, Openenv};

/// What the page may do. `connect-src 'self'` is this server's WebSockets too; `data:` images are observations.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

/// A file of the page.
#[derive(Debug, Clone, Copy)]
struct Asset {
    name: &'static str,
    media_type: &'static str,
    text: &'static str,
}

const PAGE: Asset =
    Asset { name: "", media_type: "text/html; charset=utf-8", text: include_str!("web/page.html") };

macro_rules! script {
    ($name:literal) => {
        Asset {
            name: $name,
            media_type: "text/javascript; charset=utf-8",
            text: include_str!(concat!("web/", $name)),
        }
    };
}

const ASSETS: [Asset; 12] = [
    PAGE,
    Asset { name: "page.css", media_type: "text/css; charset=utf-8", text: include_str!("web/page.css") },
    Asset { name: "icon.svg", media_type: "image/svg+xml", text: include_str!("web/icon.svg") },
    script!("page.js"),
    script!("curve.js"),
    script!("element.js"),
    script!("form.js"),
    script!("json.js"),
    script!("log.js"),
    script!("observation.js"),
    script!("session.js"),
    script!("tools.js"),
];

/// The page's routes, below an environment's.
pub(super) fn routes(base: &str, mode: Mode) -> Router<Openenv> {
    let at = |path: &str| format!("{base}{path}");
    let mut router = Router::new()
        .route(&at("/"), get(to_page))
        .route(&at("/web"), get(to_page))
        .route(&at("/web/metadata"), get(described::metadata));
    if !base.is_empty() {
        router = router.route(base, get(to_page));
    }
    for asset in ASSETS {
        router = router.route(&at(&format!("/web/{}", asset.name)), get(move |_: For| async move { asset }));
    }
    match mode {
        Mode::Simulation => router
            .route(&at("/web/reset"), post(shared::reset))
            .route(&at("/web/step"), post(shared::step))
            .route(&at("/web/state"), get(shared::state))
            .route(&at("/ws/ui"), any(shared::follow)),
        // As elsewhere: agents that are in production must not be able to begin anew.
        Mode::Production => router,
    }
}

/// From `/` and `/web` to `/web/`, below which the page's files lie.
async fn to_page(_: For, OriginalUri(uri): OriginalUri) -> Response {
    let path = uri.path().trim_end_matches('/');
    let base = path.strip_suffix("/web").unwrap_or(path);
    (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, format!("{base}/web/"))]).into_response()
}

impl IntoResponse for Asset {
    fn into_response(self) -> Response {
        let headers: [(HeaderName, &str); 6] = [
            (header::CONTENT_TYPE, self.media_type),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
            (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
            // Another version of the server brings another page.
            (header::CACHE_CONTROL, "no-cache"),
        ];
        (headers, self.text).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_on_the_page_can_make_markup_of_a_text() {
        for asset in ASSETS {
            for way in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "DOMParser",
                "createContextualFragment",
                "setHTMLUnsafe",
                "eval(",
                "new Function",
                "javascript:",
                " onclick=",
                " style=",
                "http:",
                "https:",
            ] {
                // The namespace of SVG is a name, not a place.
                let text = asset.text.replace("http://www.w3.org/2000/svg", "");
                assert!(!text.contains(way), "{:?} has {way:?}", asset.name);
            }
        }
    }

    #[test]
    fn every_module_that_a_script_needs_is_served() {
        let names = ASSETS.map(|asset| asset.name);
        for asset in ASSETS.iter().filter(|asset| asset.name.ends_with(".js")) {
            for import in asset.text.lines().filter_map(|line| line.split_once("from \"./")) {
                let name = import.1.trim_end_matches("\";");
                assert!(names.contains(&name), "{} imports {name}", asset.name);
            }
        }
    }
}
