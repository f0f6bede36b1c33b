//! `ocelli licences`: whose work the program is made of, and on what terms.

use super::print;
use crate::error::Result;
use crate::licences;

/// Print the licences of the program and of everything in it.
#[derive(clap::Args, Clone, Debug)]
pub struct LicencesArgs {}

/// Runs the command.
///
/// # Errors
/// Standard output fails.
pub fn run(_: &LicencesArgs) -> Result<()> {
    print(&format!("Ocelli {}\n{}\n\n", env!("CARGO_PKG_VERSION"), licences::OWN))?;
    print(&licences::third_party()?)
}
