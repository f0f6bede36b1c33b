//! The kernel registry: a typed key chooses a variant of a `.wgsl` file; each variant is compiled once
//! and kept. Bindings are read off the text: binding 0 is the uniform `Params`, storage buffers follow.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::device::Gpu;
use super::injected::Point;
use super::shader_source::{KernelEdit, expand};
use crate::error::{Error, Result};

/// Which variant of which kernel file: the file's name and its defines, in the file's own words.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KernelKey {
    file: &'static str,
    defines: Vec<(&'static str, String)>,
}

impl KernelKey {
    /// The plain variant of a file.
    #[must_use]
    pub fn new(file: &'static str) -> Self {
        Self { file, defines: Vec::new() }
    }

    /// Sets one of the file's defines.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl std::fmt::Display) -> Self {
        self.defines.push((key, value.to_string()));
        self
    }

    /// The kernel's file, without the extension.
    #[must_use]
    pub fn file(&self) -> &'static str {
        self.file
    }

    /// The WGSL text of this variant for an adapter with or without subgroups and native f16, with the tests' edits.
    ///
    /// # Errors
    /// A mistake in the kernel's directives.
    pub fn source(&self, subgroups: bool, f16: bool, edits: &[KernelEdit]) -> Result<String> {
        let mut defines: BTreeMap<&str, String> = self.defines.iter().map(|(k, v)| (*k, v.clone())).collect();
        defines.insert("SUBGROUPS", u8::from(subgroups).to_string());
        defines.insert("F16", u8::from(f16).to_string());
        let body = expand(self.file, &defines, edits)?;
        let f16 = if f16 && body.contains("f16") { "enable f16;\n" } else { "" };
        let cooperative = if body.contains("coop_mat") { "enable wgpu_cooperative_matrix;\n" } else { "" };
        Ok(format!("{f16}{cooperative}{body}"))
    }

    /// A short name for profiles and error messages.
    #[must_use]
    pub fn label(&self) -> String {
        let mut parts = vec![self.file.to_owned()];
        parts.extend(self.defines.iter().map(|(k, v)| format!("{k}={v}")));
        parts.join(" ")
    }
}

/// A kernel file and the values its defines may take; the tests validate the whole product.
#[derive(Debug)]
pub struct Family {
    /// The file, without the extension.
    pub file: &'static str,
    /// Each define and its possible values.
    pub axes: &'static [(&'static str, &'static [&'static str])],
}

const WEIGHTS: (&str, &[&str]) = ("WEIGHTS", &["int8", "f16", "f32"]);
const EPILOGUE: (&str, &[&str]) = ("EPILOGUE", &["none", "gelu_tanh", "gelu_erf", "swiglu"]);
const BATCH: (&str, &[&str]) = ("BATCH", &["1", "2", "4", "8"]);
/// Kernels that only devices with subgroups are asked to run, with 64-bit integers where WIDE is 1.
const WIDE: (&str, &[&str]) = ("WIDE", &["0", "1"]);
const KV: (&str, &[&str]) = ("KV", &["f16", "int8", "f32"]);

/// Every kernel the program can dispatch, with its axes.
pub const FAMILIES: &[Family] = &[
    Family {
        file: "attention_decode",
        axes: &[KV, ("HEAD_DIM", &["64", "128"]), ("GROUP", &["1", "2", "4"])],
    },
    Family {
        file: "attention_flash",
        axes: &[("KV", &["f16", "int8", "f32", "dense"]), ("HEAD_DIM", &["32", "64", "72", "128"])],
    },
    // OWN is HEAD_DIM / 4 / LANES, rounded up.
    Family {
        file: "attention_lanes",
        axes: &[
            ("KV", &["f16", "int8", "f32", "dense"]),
            ("HEAD_DIM", &["32", "64", "72", "128"]),
            ("LANES", &["8", "16", "32"]),
            ("OWN", &["1", "2", "3", "4"]),
            WIDE,
        ],
    },
    Family { file: "attention_reduce", axes: &[("HEAD_DIM", &["64", "128"])] },
    Family { file: "attention_scores", axes: &[KV, ("HEAD_DIM", &["64", "128"])] },
    Family { file: "begin_step", axes: &[] },
    Family { file: "embed_pictures", axes: &[] },
    Family { file: "embed_tokens", axes: &[("WEIGHTS", &["f16", "f32"])] },
    Family { file: "flops_peak", axes: &[] },
    Family { file: "layer_norm", axes: &[] },
    Family { file: "matmul", axes: &[WEIGHTS, EPILOGUE] },
    // The grid and the fragments of a subgroup belong together: see `all_variants`.
    Family {
        file: "matmul_cooperative",
        axes: &[
            ("WEIGHTS", &["int8", "f16"]),
            EPILOGUE,
            ("SIZE", &["8", "16"]),
            ("GRID_M", &["1", "2", "4"]),
            ("GRID_N", &["2", "4"]),
            ("FM", &["1", "2", "4", "8"]),
            ("FN", &["1", "2", "4"]),
        ],
    },
    Family {
        file: "matmul_lanes",
        axes: &[WEIGHTS, EPILOGUE, ("GROUPS", &["1", "4"]), ("COLUMNS", &["4"]), WIDE],
    },
    Family { file: "matmul_packed", axes: &[EPILOGUE] },
    Family { file: "matvec", axes: &[WEIGHTS, EPILOGUE, BATCH, ("ROWS", &["4", "8"])] },
    Family { file: "matvec_lanes", axes: &[WEIGHTS, EPILOGUE, BATCH, WIDE] },
    Family { file: "narrow_rows", axes: &[("TO", &["f16", "int8"])] },
    Family { file: "read_bandwidth", axes: &[WIDE] },
    Family { file: "rms_norm", axes: &[] },
    Family { file: "rope_and_cache", axes: &[KV, ("HEAD_DIM", &["64", "128"])] },
    Family { file: "sample", axes: &[] },
    Family { file: "softmax_rows", axes: &[] },
    Family { file: "subgroup_size", axes: &[] },
    Family { file: "token_logprob", axes: &[] },
    Family { file: "vision_position", axes: &[] },
    Family { file: "vision_rope", axes: &[] },
];

/// All keys of [`FAMILIES`], for the tests that compile everything.
#[must_use]
pub fn all_variants() -> Vec<KernelKey> {
    let mut keys = Vec::new();
    for family in FAMILIES {
        let mut partial = vec![KernelKey::new(family.file)];
        for (axis, values) in family.axes {
            partial = partial
                .into_iter()
                .flat_map(|key| values.iter().map(move |value| key.clone().with(axis, value)))
                .collect();
        }
        keys.append(&mut partial);
    }
    let define = |key: &KernelKey, name: &str| -> Option<usize> {
        key.defines.iter().find(|(k, _)| *k == name).and_then(|(_, v)| v.parse().ok())
    };
    keys.retain(|key| match (define(key, "HEAD_DIM"), define(key, "LANES"), define(key, "OWN")) {
        (Some(head_dim), Some(lanes), Some(own)) => own == (head_dim / 4).div_ceil(lanes),
        _ => true,
    });
    keys.retain(|key| match (define(key, "SIZE"), define(key, "GRID_M"), define(key, "GRID_N")) {
        (Some(size), Some(m), Some(n)) => {
            let side = |grid: usize, own| define(key, own).is_some_and(|own| grid * own * size == 64);
            (m == n || 2 * m == n) && side(m, "FM") && side(n, "FN")
        }
        _ => true,
    });
    keys
}

/// A compiled kernel.
#[derive(Debug)]
pub struct Kernel {
    pub(super) pipeline: wgpu::ComputePipeline,
    pub(super) layout: wgpu::BindGroupLayout,
    /// Number of storage buffers, bound at 1, 2, …
    pub(super) storages: usize,
    pub(super) label: Arc<str>,
}

/// A kernel's place: locked while it is being compiled, so that nothing is compiled twice.
type Place = Arc<Mutex<Option<Arc<Kernel>>>>;

/// Compiled kernels by key.
#[derive(Debug, Default)]
pub(super) struct Registry {
    places: Mutex<HashMap<KernelKey, Place>>,
    compiled: AtomicU64,
}

impl Gpu {
    /// The compiled kernel for `key`, compiling it the first time.
    ///
    /// # Errors
    /// The driver or the validator refuses the kernel.
    pub fn kernel(&self, key: &KernelKey) -> Result<Arc<Kernel>> {
        let place = {
            let mut places = self.registry().places.lock().unwrap_or_else(PoisonError::into_inner);
            places.entry(key.clone()).or_default().clone()
        };
        let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kernel) = &*place {
            return Ok(kernel.clone());
        }
        let kernel = Arc::new(self.compile(key)?);
        self.registry().compiled.fetch_add(1, Ordering::Relaxed);
        *place = Some(kernel.clone());
        Ok(kernel)
    }

    /// Kernels compiled so far: where a step took long and there are more than before it, that is why.
    #[must_use]
    pub fn kernels_compiled(&self) -> u64 {
        self.registry().compiled.load(Ordering::Relaxed)
    }

    /// Compiles kernels that will be wanted, while something else is done; ends early when `stop` is set. What fails here fails
    /// again, and is reported, where it is used.
    pub fn compile_ahead(&self, keys: &[KernelKey], stop: &AtomicBool) {
        for key in keys {
            if stop.load(Ordering::Relaxed) || self.is_lost() {
                break;
            }
            if let Err(error) = self.kernel(key) {
                tracing::debug!("{error}");
            }
        }
    }

    fn compile(&self, key: &KernelKey) -> Result<Kernel> {
        let label = key.label();
        let source = key.source(self.has_subgroups(), self.has_f16(), self.kernel_edits())?;
        let read_only = storage_bindings(&source);
        let limit = self.device().limits().max_storage_buffers_per_shader_stage as usize;
        if read_only.len() > limit {
            let why = format!("it binds {} storage buffers and this adapter allows {limit}", read_only.len());
            return Err(Error::new("compiling kernel", why).at(&label).help("choose another adapter"));
        }
        self.scoped("compiling kernel", &label, Point::Compile, |device| {
            let descriptor = wgpu::ShaderModuleDescriptor {
                label: Some(&label),
                source: wgpu::ShaderSource::Wgsl(source.into()),
            };
            let module = if self.has_checked_kernels() {
                device.create_shader_module(descriptor)
            } else {
                trusted_module(device, descriptor)
            };
            let entry = |binding: u32, ty, has_dynamic_offset| wgpu::BindGroupLayoutEntry {
                binding,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset, min_binding_size: None },
                count: None,
            };
            let mut entries = vec![entry(0, wgpu::BufferBindingType::Uniform, true)];
            entries.extend((1..).zip(&read_only).map(|(binding, &read_only)| {
                entry(binding, wgpu::BufferBindingType::Storage { read_only }, false)
            }));
            let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                label: Some(&label),
                entries: &entries,
            });
            let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some(&label),
                bind_group_layouts: &[Some(&layout)],
                immediate_size: 0,
            });
            let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(&label),
                layout: Some(&pipeline_layout),
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    // No kernel reads workgroup memory it has not written.
                    zero_initialize_workgroup_memory: false,
                    ..Default::default()
                },
                cache: None,
            });
            Kernel { pipeline, layout, storages: read_only.len(), label: label.as_str().into() }
        })
    }
}

/// A module without checks of indices and loops: on Metal they cost loads and branches in the innermost loops.
#[expect(unsafe_code, reason = "the checks are what is dropped; the tests run every kernel with them too")]
fn trusted_module(device: &wgpu::Device, descriptor: wgpu::ShaderModuleDescriptor<'_>) -> wgpu::ShaderModule {
    // SAFETY: the texts are the program's own files. Each clamps or tests its indices against the sizes in its parameters,
    // which the host computes from the buffers it binds, and every loop ends. tests/all/matrix_products.rs, narrow_products.rs and parity.rs run
    // them with the checks too.
    unsafe { device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
}

/// For each storage binding of a kernel text, by its number: is it read-only?
fn storage_bindings(source: &str) -> Vec<bool> {
    let mut all: Vec<(u32, bool)> = source
        .lines()
        .filter_map(|line| {
            let (number, rest) = line.strip_prefix("@group(0) @binding(")?.split_once(')')?;
            rest.contains("var<storage").then_some((number.parse().ok()?, !rest.contains("read_write")))
        })
        .collect();
    // Imported pieces declare theirs first.
    all.sort_unstable();
    all.into_iter().map(|(_, read_only)| read_only).collect()
}
