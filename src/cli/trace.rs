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
    // Minutes of work need a place to go before they begin.
    let options = args.model.load_options()?;
    let out = OutFolder::open(&args.out)?;
    let (gpu, source) = args.model.open()?;
    let options = options.for_model(&source.model);
    let front_end = FrontEnd::from_folder(&source.files, source.model.config())?;
    request.image_tokens = args.image_tokens.map(|limits| limits.resolve(front_end.image_tokens().0));
    let prepared = front_end.prepare(&request, &|| false)?;
    let (needed, context) = (prepared.prompt.input_ids.len().saturating_add(args.tokens), options.context);
    if needed > context {
        let why = format!(
            "prompt and {} tokens need {needed} tokens of context and there are {context}",
            args.tokens
        );
        return Err(Error::new("tracing", why).help("set a larger --context"));
    }
    let options = LoadOptions { prefill_rows: args.chunk.clamp(1, 4096), ..options };
    let mut model =
        LoadedModel::load(&gpu, &source.model, &options, &mut |_, _| Ok(())).map_err(ModelArgs::advise)?;
    let result = trace(&mut model, &prepared, args.tokens, args.chunk)?;
    write(out, &prepared, &result)
}

const WRITING: &str = "writing the trace";

fn cannot_write(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::new(WRITING, why).at_path(path).help("choose another folder with --out")
}

const JSON: &str = "trace.json";
const TENSORS: &str = "trace.safetensors";

/// The folder that the files go to. They are written under hidden names and renamed when both are complete; the
/// folder is removed again if it was made here and they never are.
struct OutFolder {
    path: PathBuf,
    made: bool,
}

impl OutFolder {
    fn open(path: &Path) -> Result<Self> {
        let made = !path.exists();
        std::fs::create_dir_all(path).map_err(|e| cannot_write(path, e))?;
        let folder = Self { path: path.to_owned(), made };
        // Only writing shows whether one may write.
        for name in [JSON, TENSORS] {
            std::fs::write(folder.hidden(name), b"").map_err(|e| cannot_write(path, e))?;
        }
        Ok(folder)
    }

    fn hidden(&self, name: &str) -> PathBuf {
        self.path.join(format!(".{name}.partial-{}", std::process::id()))
    }

    /// Gives the files their names.
    fn finish(mut self) -> Result<()> {
        self.made = false;
        for name in [JSON, TENSORS] {
            let path = self.path.join(name);
            std::fs::rename(self.hidden(name), &path).map_err(|e| cannot_write(&path, e))?;
        }
        Ok(())
    }
}

impl Drop for OutFolder {
    fn drop(&mut self) {
        for name in [JSON, TENSORS] {
            drop(std::fs::remove_file(self.hidden(name)));
        }
        if self.made {
            drop(std::fs::remove_dir(&self.path));
        }
    }
}

fn write(out: OutFolder, prepared: &Prepared, result: &Trace) -> Result<()> {
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
    std::fs::write(out.hidden(JSON), format!("{summary}\n")).map_err(|e| cannot_write(&out.path, e))?;

    let thw = &prompt.positions.thw;
    let positions: Vec<i64> = (0..3).flat_map(|axis| thw.iter().map(move |p| i64::from(p[axis]))).collect();
    let refuse = |e: safetensors::SafeTensorError| cannot_write(&out.path, e);
    let mut views = vec![(
        "position_ids".to_owned(),
        TensorView::new(Dtype::I64, vec![3, thw.len()], bytemuck::cast_slice(&positions)).map_err(refuse)?,
    )];
    for (name, tensor) in &result.tensors {
        let view = TensorView::new(Dtype::F32, tensor.shape.clone(), bytemuck::cast_slice(&tensor.values));
        views.push((name.clone(), view.map_err(refuse)?));
    }
    safetensors::serialize_to_file(views, None, &out.hidden(TENSORS)).map_err(refuse)?;
    out.finish()
}
