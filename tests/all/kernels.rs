//! Every kernel variant, without a device: parsed, validated and translated by naga.

use naga::valid::{Capabilities, ValidationFlags, Validator};
use ocelli::gpu::all_variants;

fn check(label: &str, source: &str, subgroups: bool, f16: bool) {
    let module = naga::front::wgsl::parse_str(source)
        .unwrap_or_else(|e| panic!("{label}: {}\n", e.emit_to_string_with_path(source, label)));
    let mut capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    capabilities.set(Capabilities::SUBGROUP, subgroups);
    capabilities.set(Capabilities::SHADER_FLOAT16, f16);
    capabilities.set(Capabilities::SHADER_INT64, label.contains("WIDE=1"));
    let cooperative = source.contains("coop_mat");
    capabilities.set(Capabilities::COOPERATIVE_MATRIX, cooperative);
    let info = Validator::new(ValidationFlags::all(), capabilities)
        .validate(&module)
        .unwrap_or_else(|e| panic!("{label}: {}\n", e.emit_to_string_with_path(source, label)));

    let mut spv = naga::back::spv::Options { lang_version: (1, 3), ..Default::default() };
    spv.fake_missing_bindings = true;
    naga::back::spv::write_vec(&module, &info, &spv, None)
        .unwrap_or_else(|e| panic!("{label} to SPIR-V: {e}"));

    let msl =
        naga::back::msl::Options { lang_version: (2, 4), fake_missing_bindings: true, ..Default::default() };
    naga::back::msl::write_string(&module, &info, &msl, &naga::back::msl::PipelineOptions::default())
        .unwrap_or_else(|e| panic!("{label} to MSL: {e}"));

    // DX12 has no matrix units in wgpu.
    if cooperative {
        return;
    }
    let hlsl = naga::back::hlsl::Options {
        shader_model: naga::back::hlsl::ShaderModel::V6_2,
        fake_missing_bindings: true,
        ..Default::default()
    };
    let mut text = String::new();
    naga::back::hlsl::Writer::new(&mut text, &hlsl, &naga::back::hlsl::PipelineOptions::default())
        .write(&module, &info, None)
        .unwrap_or_else(|e| panic!("{label} to HLSL: {e}"));
    assert!(text.contains("main"), "{label}: HLSL has no entry point");
}

#[test]
fn every_variant_of_every_kernel_is_valid_and_translates_to_spirv_msl_and_hlsl() {
    let variants = all_variants();
    assert!(variants.len() > 60, "{} variants", variants.len());
    for key in variants {
        for (subgroups, f16) in [(false, false), (true, false), (false, true), (true, true)] {
            if !subgroups && key.file().ends_with("_lanes") {
                continue;
            }
            if key.file() == "matmul_cooperative" && !(subgroups && f16) {
                continue;
            }
            let label = format!("{} subgroups={subgroups} f16={f16}", key.label());
            let source = key.source(subgroups, f16, &[]).unwrap_or_else(|e| panic!("{e}"));
            check(&label, &source, subgroups, f16);
        }
    }
}
