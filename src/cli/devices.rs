//! `ocelli devices`: the adapters of this machine.

use super::{print, print_json, say};
use std::fmt::Write as _;

use crate::error::Result;
use crate::gpu::list_adapters;

/// List the adapters of this machine, best first; the first one is used unless --adapter says otherwise.
#[derive(clap::Args, Clone, Debug)]
pub struct DevicesArgs {
    /// Print a JSON array instead
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
///
/// # Errors
/// Standard output fails.
pub fn run(args: &DevicesArgs) -> Result<()> {
    let adapters = list_adapters();
    if args.json {
        return print_json(&adapters);
    }
    if adapters.is_empty() {
        say(
            "no Vulkan, Metal or DX12 adapter was found; on Debian, `apt install mesa-vulkan-drivers` brings a software device",
        );
    }
    let mut text = String::new();
    for a in adapters {
        let yes = |has: bool, name: &'static str| if has { name } else { "-" };
        let _ = write!(
            text,
            "{}  {}\n   {} {}, driver {}\n   largest binding {} MiB, largest buffer {} MiB, subgroups of {}-{}, {} {} {} {}\n",
            a.index,
            a.name,
            a.kind,
            a.backend,
            a.driver,
            a.max_binding_bytes >> 20,
            a.max_buffer_bytes >> 20,
            a.subgroup_sizes.0,
            a.subgroup_sizes.1,
            yes(a.subgroups, "subgroup-operations"),
            yes(a.f16, "f16"),
            yes(a.timestamps, "timestamps"),
            a.cooperative_matrix.map_or("-".to_owned(), |side| format!("matrix-units {side}x{side}")),
        );
    }
    print(&text)
}
