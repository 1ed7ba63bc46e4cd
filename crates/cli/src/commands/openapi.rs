//! `hothouse openapi`.

use crate::console;
use crate::failure::Failure;

/// Print the server's OpenAPI document
#[derive(Debug, clap::Args)]
pub(crate) struct OpenapiArgs {}

/// Prints it.
pub(crate) fn run(_args: &OpenapiArgs) -> Result<u8, Failure> {
    console::bytes(hothouse_server::openapi_json().as_bytes())?;
    Ok(0)
}
