//! What a report of a fault needs, as text: versions, the machine, the adapter with its driver, features and limits, the model, and the last
//! things that went wrong. Nothing that somebody wrote, showed or was answered; the user's folder is written as `~`.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::engine::ModelInfo;
use crate::gpu::Gpu;
use crate::gpu::memory::machine_memory;
use crate::{licences, log};

const MIB: f64 = 1_048_576.0;

/// The text, in Markdown, so that it can be pasted into a report as it is.
#[must_use]
pub fn report(gpu: Option<&Gpu>, model: Option<&ModelInfo>, notes: &[String]) -> String {
    let mut text = String::from("### Ocelli\n\n");
    let mut line = |what: &str, is: &str| {
        let _ = writeln!(text, "- {what}: {is}");
    };
    let build = if cfg!(debug_assertions) { "with debug assertions" } else { "release" };
    line("version", &format!("{} ({build}, {})", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH));
    line("libraries", &licences::versions_of(&["wgpu", "naga", "egui", "tokenizers"]).join(", "));
    line("system", &system());
    if let Some(memory) = machine_memory() {
        let (has, free) = (memory.total_bytes as f64 / MIB, memory.available_bytes as f64 / MIB);
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        line("machine", &format!("{cores} cores, {has:.0} MiB of memory, {free:.0} MiB free"));
    }
    for name in ["XDG_SESSION_TYPE", "XDG_CURRENT_DESKTOP", "LANG"] {
        if let Ok(value) = std::env::var(name) {
            line(name, &value);
        }
    }
    for note in notes {
        line("window", note);
    }
    if let Some(gpu) = gpu {
        adapter(&mut text, gpu);
    }
    match model {
        Some(info) => model_part(&mut text, info),
        None => text.push_str("\n### Model\n\n- none is loaded\n"),
    }
    text.push_str("\n### What went wrong last\n\n");
    let incidents = log::last_incidents();
    if incidents.is_empty() {
        text.push_str("- nothing since the start\n");
    }
    let now = SystemTime::now();
    for incident in incidents {
        let ago = now.duration_since(incident.at).map_or(0, |ago| ago.as_secs());
        let _ = writeln!(text, "- {ago} s ago, {}: {}", incident.level, incident.text);
    }
    let at = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let _ = writeln!(text, "\n(made at {at} s of Unix time)");
    without_home(&text)
}

fn system() -> String {
    let of = |value: Option<String>| value.unwrap_or_else(|| "unknown".to_owned());
    let name = of(sysinfo::System::long_os_version());
    format!("{name}, kernel {}", of(sysinfo::System::kernel_version()))
}

fn adapter(text: &mut String, gpu: &Gpu) {
    let (summary, limits) = (gpu.summary(), gpu.device().limits());
    let _ = writeln!(text, "\n### Adapter\n");
    let _ = writeln!(text, "- name: {} ({}, {})", summary.name, summary.kind, summary.backend);
    let _ = writeln!(text, "- driver: {}", summary.driver);
    let has = |has: bool| if has { "yes" } else { "no" };
    let _ = writeln!(
        text,
        "- features in use: subgroups {} ({} to {} lanes), f16 {}, int64 {}, timestamps {}, matrix units {}",
        has(gpu.has_subgroups()),
        summary.subgroup_sizes.0,
        summary.subgroup_sizes.1,
        has(gpu.has_f16()),
        has(gpu.has_int64()),
        has(gpu.has_timestamps()),
        gpu.cooperative_matrix().map_or("no".to_owned(), |side| format!("{side}x{side}")),
    );
    let _ = writeln!(
        text,
        "- limits: binding {:.0} MiB, buffer {:.0} MiB, {} storage buffers a kernel, {} bytes of workgroup memory, {} invocations a workgroup",
        gpu.max_binding_bytes() as f64 / MIB,
        limits.max_buffer_size as f64 / MIB,
        limits.max_storage_buffers_per_shader_stage,
        limits.max_compute_workgroup_storage_size,
        limits.max_compute_invocations_per_workgroup,
    );
    let _ = writeln!(text, "- kernels: {:?}, {} compiled", gpu.tuning(), gpu.kernels_compiled());
    let _ = writeln!(text, "- buffers: {:.1} MiB", gpu.allocated_bytes() as f64 / MIB);
    let _ = writeln!(text, "- lost: {}", has(gpu.is_lost()));
}

fn model_part(text: &mut String, info: &ModelInfo) {
    let _ = writeln!(text, "\n### Model\n");
    let _ = writeln!(text, "- name: {}", info.name);
    let _ = writeln!(
        text,
        "- weights: {}, {:.0} MiB loaded in {:.1} s",
        info.recipe,
        info.measured_bytes as f64 / MIB,
        info.load_secs
    );
    let _ = writeln!(
        text,
        "- context: {} tokens, {} bytes each; pictures: {}",
        info.context,
        info.kv_bytes_per_token,
        if info.takes_pictures { "yes" } else { "no" }
    );
    for note in &info.notes {
        let _ = writeln!(text, "- note: {note}");
    }
}

/// The user's folder is nobody's business.
fn without_home(text: &str) -> String {
    let Some(home) = directories::BaseDirs::new().map(|dirs| dirs.home_dir().display().to_string()) else {
        return text.to_owned();
    };
    if home.len() > 1 { text.replace(&home, "~") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_folder_is_not_told() {
        let home = directories::BaseDirs::new().unwrap().home_dir().display().to_string();
        assert_eq!(
            without_home(&format!("reading {home}/models/x: it ends early")),
            "reading ~/models/x: it ends early"
        );
    }
}
