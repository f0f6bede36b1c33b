//! `ocelli trace`: every stage of a prompt, in files.

use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use super::ModelArgs;
use super::generate::{TokenLimits, read_messages};
use crate::engine::trace::{Trace, trace};
use crate::engine::{FrontEnd, Prepared, Request};
use crate::error::{Error, Result};
use crate::model::loaded::{LoadOptions, LoadedModel};
use crate::model::prompt::VideoPrompt;

/// Record every stage of a prompt, for comparing numbers with another implementation.
///
/// Runs greedily and writes trace.json (prompt_text, input_ids, image_grid_thw, video_grid_thw, rope_delta, greedy,
/// top5_logprobs) and trace.safetensors (position_ids, pixel_values, image_embeds, image_deepstack_i, the same of clips,
/// layer_inputs_last, layer_outputs_last, final_norm_last, logits). Use --recipe f32 to compare with an f32 reference.
#[derive(clap::Args, Clone, Debug)]
pub struct TraceArgs {
    /// Model and device
    #[command(flatten)]
    pub model: ModelArgs,

    /// The conversation, as JSON in OpenAI's content-list form; paths in it start at the current folder
    #[arg(long, value_name = "FILE")]
    pub messages: PathBuf,

    /// Greedy tokens to run
    #[arg(long, value_name = "N", default_value_t = 24)]
    pub tokens: usize,

    /// Folder for the two files, made if need be
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,

    /// Tokens a prefill pass takes
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub chunk: usize,

    /// Image tokens a picture may take, as MIN-MAX or MAX
    #[arg(long, value_name = "MIN-MAX")]
    pub image_tokens: Option<TokenLimits>,

    /// Write clips into the prompt as transformers 5 does, not as the release (4.57) did
    #[arg(long)]
    pub video_prompt_v5: bool,

    /// Write "Picture 1: " and so on before each picture
    #[arg(long)]
    pub add_vision_id: bool,
}

/// Runs the command.
///
/// # Errors
/// Whatever kept it from running or writing.
pub fn run(args: &TraceArgs) -> Result<()> {
    let conversation = read_messages(&args.messages)?;
    let mut request = Request::new(conversation.messages);
    request.tools = conversation.tools;
    request.add_vision_id = args.add_vision_id;
    if args.video_prompt_v5 {
        request.video_prompt = VideoPrompt::V5;
    }
    let (gpu, source) = args.model.open()?;
    let front_end = FrontEnd::from_folder(&source.folder, source.model.config())?;
    request.image_tokens = args.image_tokens.map(|limits| limits.resolve(front_end.image_tokens().0));
    let prepared = front_end.prepare(&request, &|| false)?;
    let (needed, context) = (prepared.prompt.input_ids.len() + args.tokens, args.model.context);
    if needed > context {
        let why = format!(
            "prompt and {} tokens need {needed} tokens of context and there are {context}",
            args.tokens
        );
        return Err(Error::new("tracing", why).help("set a larger --context"));
    }
    let options = LoadOptions { context, prefill_rows: args.chunk.clamp(1, 4096), ..LoadOptions::default() };
    let mut model = LoadedModel::load(&gpu, &source.model, &options, &mut |_, _| Ok(()))?;
    let result = trace(&mut model, &prepared, args.tokens, args.chunk)?;
    write(&args.out, &prepared, &result)
}

fn write(out: &Path, prepared: &Prepared, result: &Trace) -> Result<()> {
    let doing = "writing the trace";
    std::fs::create_dir_all(out).map_err(|e| Error::new(doing, e).at_path(out))?;
    let grids = |clips: bool| -> Value {
        let list: Vec<[u32; 3]> = if clips {
            prepared.clips.iter().map(|c| c.picture.grid().thw()).collect()
        } else {
            prepared.images.iter().map(|p| p.grid().thw()).collect()
        };
        if list.is_empty() { Value::Null } else { json!(list) }
    };
    let top5: Vec<Value> =
        result.greedy.iter().map(|r| json!(r.alternatives.iter().take(5).collect::<Vec<_>>())).collect();
    let prompt = &prepared.prompt;
    let summary = json!({
        "prompt_text": prompt.text,
        "input_ids": prompt.input_ids,
        "image_grid_thw": grids(false),
        "video_grid_thw": grids(true),
        "rope_delta": prompt.positions.rope_delta,
        "greedy": result.greedy.iter().map(|r| r.id).collect::<Vec<_>>(),
        "top5_logprobs": top5,
    });
    let path = out.join("trace.json");
    std::fs::write(&path, format!("{summary}\n")).map_err(|e| Error::new(doing, e).at_path(&path))?;

    let thw = &prompt.positions.thw;
    let positions: Vec<i64> = (0..3).flat_map(|axis| thw.iter().map(move |p| i64::from(p[axis]))).collect();
    let path = out.join("trace.safetensors");
    let refuse = |e: safetensors::SafeTensorError| Error::new(doing, e).at_path(&path);
    let mut views = vec![(
        "position_ids".to_owned(),
        TensorView::new(Dtype::I64, vec![3, thw.len()], bytemuck::cast_slice(&positions)).map_err(refuse)?,
    )];
    for (name, tensor) in &result.tensors {
        let view = TensorView::new(Dtype::F32, tensor.shape.clone(), bytemuck::cast_slice(&tensor.values));
        views.push((name.clone(), view.map_err(refuse)?));
    }
    safetensors::serialize_to_file(views, None, &path).map_err(refuse)
}
