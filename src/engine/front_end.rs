//! From a request to a prompt, on the CPU: template, tokens, pictures cut into patches, positions.
//! Runs on threads of its own, so that sessions under way never wait for a large picture.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::api::{PictureReport, PromptPreview, Request};
use super::pages::TokenKey;
use super::session::position_after;
use crate::chat::message::{Part, Role};
use crate::chat::template::{ChatTemplate, RenderOptions};
use crate::error::{Error, Result};
use crate::model::clip::{PreparedClip, prepare_clip};
use crate::model::config::ModelConfig;
use crate::model::loaded::LoadedModel;
use crate::model::picture::{Picture, PreparedPicture, VisionKind, prepare_image};
use crate::model::positions::Span;
use crate::model::preprocessor::{Preprocessors, TokenRange};
use crate::model::prompt::{Prompt, VisionSpan, build_prompt};
use crate::model::tokenizer::{SpecialIds, Tokenizer};

/// A model's tokenizer, template and preprocessing.
pub struct FrontEnd {
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// How its pictures and clips are resized.
    pub preprocessors: Preprocessors,
    /// Its token ids with a meaning.
    pub special: SpecialIds,
    /// Requests with pictures are refused where this is false.
    pub takes_pictures: bool,
    template: ChatTemplate,
    resized: Mutex<ResizedPictures>,
}

/// Pictures of the prompts before, resized and in patches: a follow-up question resizes none of them again.
#[derive(Default)]
struct ResizedPictures {
    /// The one used last at the end.
    kept: VecDeque<(ResizedKey, PreparedPicture)>,
    bytes: usize,
}

/// A picture's content, and the tokens it may take.
type ResizedKey = ([u8; 32], Option<TokenRange>);

/// Bytes of resized pictures that are kept: some twenty of 2048 tokens.
const MAX_RESIZED_BYTES: usize = 128 << 20;

impl ResizedPictures {
    fn take(&mut self, key: &ResizedKey) -> Option<PreparedPicture> {
        let at = self.kept.iter().position(|(known, _)| known == key)?;
        let (key, picture) = self.kept.remove(at)?;
        self.kept.push_back((key, picture.clone()));
        Some(picture)
    }

    fn keep(&mut self, key: ResizedKey, picture: &PreparedPicture) {
        if picture.size_bytes() > MAX_RESIZED_BYTES {
            return;
        }
        self.bytes += picture.size_bytes();
        self.kept.push_back((key, picture.clone()));
        while self.bytes > MAX_RESIZED_BYTES
            && let Some((_, oldest)) = self.kept.pop_front()
        {
            self.bytes -= oldest.size_bytes();
        }
    }
}

/// A request made into tokens and patches.
#[derive(Debug)]
pub struct Prepared {
    /// Text, ids, positions.
    pub prompt: Prompt,
    /// Pictures in order of the prompt.
    pub images: Vec<PreparedPicture>,
    /// Clips in order of the prompt.
    pub clips: Vec<PreparedClip>,
    /// What stands at each place, for finding common beginnings.
    pub keys: Vec<TokenKey>,
    /// Tokens of the answer that is to be measured.
    pub reference: Vec<u32>,
}

impl Prepared {
    /// The picture or clip of a run of pads.
    #[must_use]
    pub fn picture(&self, span: &VisionSpan) -> &PreparedPicture {
        match span.kind {
            VisionKind::Image => &self.images[span.index],
            VisionKind::Video => &self.clips[span.index].picture,
        }
    }

    /// What is to be said of a picture or clip before it is encoded; `index` counts over both.
    #[must_use]
    pub fn report(&self, span: &VisionSpan, index: usize) -> PictureReport {
        let picture = self.picture(span);
        PictureReport {
            index,
            is_clip: span.kind == VisionKind::Video,
            resized: picture.resized_size(),
            grid: picture.grid().thw(),
            tokens: picture.num_tokens(),
            vision_secs: None,
        }
    }
}

impl std::fmt::Debug for FrontEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrontEnd").field("special", &self.special).finish_non_exhaustive()
    }
}

impl FrontEnd {
    /// Reads a model folder's tokenizer, template and preprocessor files and checks that they fit its
    /// configuration.
    ///
    /// # Errors
    /// A file is missing or damaged, or contradicts the configuration.
    pub fn from_folder(folder: &Path, config: &ModelConfig) -> Result<Self> {
        let tokenizer = Tokenizer::from_folder(folder)?;
        let special = SpecialIds {
            image_pad: config.image_token_id,
            video_pad: config.video_token_id,
            vision_start: config.vision_start_token_id,
            vision_end: config.vision_end_token_id,
            eos: config.eos_token_ids.clone(),
            vocab_size: u32::try_from(config.text.vocab_size).unwrap_or(u32::MAX),
        };
        tokenizer.check(&special).map_err(|e| e.at_path(folder))?;
        let preprocessors = Preprocessors::from_folder(folder)?;
        let merged = config.vision.patch_size * config.vision.spatial_merge_size;
        if preprocessors.image.factor() as usize != merged {
            let why = format!(
                "it cuts pictures into {} pixels and config.json into {merged}",
                preprocessors.image.factor()
            );
            return Err(Error::new("reading the preprocessor configuration", why)
                .at_path(folder)
                .help("download the model again"));
        }
        let template = ChatTemplate::from_folder(folder)?;
        Ok(Self {
            tokenizer: Arc::new(tokenizer),
            preprocessors,
            special,
            takes_pictures: true,
            template,
            resized: Mutex::default(),
        })
    }

    /// Smallest and largest number of image tokens the model's own limits give a picture.
    #[must_use]
    pub fn image_tokens(&self) -> (usize, usize) {
        let unit = u64::from(self.preprocessors.image.factor()).pow(2);
        let tokens = |pixels: u64| usize::try_from(pixels / unit).unwrap_or(usize::MAX);
        (tokens(self.preprocessors.image.min_pixels), tokens(self.preprocessors.image.max_pixels))
    }

    /// A picture resized and in patches, now or before.
    fn image(&self, picture: &Picture, tokens: Option<TokenRange>) -> Result<PreparedPicture> {
        let key = (*picture.content_hash(), tokens);
        // A thread that panicked while it had them left whole pictures behind: they are of use.
        let kept = || self.resized.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(prepared) = kept().take(&key) {
            return Ok(prepared);
        }
        let prepared = prepare_image(picture, &self.preprocessors.image, tokens)?;
        kept().keep(key, &prepared);
        Ok(prepared)
    }

    /// Makes the prompt of a request: reads and resizes its pictures, renders, tokenises.
    /// `stop` is asked between pictures.
    ///
    /// # Errors
    /// A picture cannot be read, the template refuses the messages, or `stop` said so.
    pub fn prepare(&self, request: &Request, stop: &dyn Fn() -> bool) -> Result<Prepared> {
        let (mut images, mut clips) = (Vec::new(), Vec::new());
        for (index, message) in request.messages.iter().enumerate() {
            for part in &message.parts {
                if stop() {
                    return Err(Error::cancelled("making the prompt"));
                }
                // The template shows pictures of the user and of tools only.
                let shown = matches!(message.role, Role::User | Role::Tool);
                let name = |e: Error| e.at(format!("message {index}"));
                match part {
                    Part::Text(_) => {}
                    _ if !shown => {
                        tracing::warn!("pictures in {} messages are ignored by the template", message.role);
                    }
                    Part::Image(_) | Part::Video(_) if !self.takes_pictures => {
                        return Err(name(LoadedModel::no_vision("making the prompt")));
                    }
                    Part::Image(source) => {
                        let picture = source.load().map_err(name)?;
                        images.push(self.image(&picture, request.image_tokens).map_err(name)?);
                    }
                    Part::Video(source) => {
                        let config = self.preprocessors.video().map_err(name)?;
                        let clip = source.load(config.sampling).map_err(name)?;
                        clips.push(prepare_clip(&clip, &config.pixels, request.image_tokens).map_err(name)?);
                    }
                }
            }
        }
        let options = RenderOptions {
            add_generation_prompt: true,
            answer_start: request.answer_start.as_deref(),
            tools: request.tools.as_ref(),
            add_vision_id: request.add_vision_id,
            ..RenderOptions::default()
        };
        let rendered = self.template.render(&request.messages, &options, self.tokenizer.added())?;
        let mut prompt =
            build_prompt(&self.tokenizer, &self.special, &rendered, &images, &clips, request.video_prompt)?;
        for &id in &request.answer_ids {
            if id >= self.special.vocab_size || [self.special.image_pad, self.special.video_pad].contains(&id)
            {
                let why = format!("{id} is no token of text of this model");
                return Err(Error::new("going on with an answer", why).help("answer the question anew"));
            }
            prompt.positions.thw.push(position_after(&prompt, 0));
            prompt.input_ids.push(id);
        }
        if !request.answer_ids.is_empty() {
            prompt.spans.push(Span::Text(request.answer_ids.len()));
        }
        prompt.text += &self.tokenizer.decode(&request.answer_ids, false);
        let reference = match &request.reference {
            Some(text) => self.tokenizer.encode_plain(text)?,
            None => Vec::new(),
        };
        if request.reference.is_some() && reference.is_empty() {
            return Err(Error::new("measuring an answer", "it is empty").help("give the text of the answer"));
        }
        if let Some(step) = &request.inside {
            step.check(self.special.vocab_size, request.reference.is_some())?;
        }
        let mut prepared = Prepared { prompt, images, clips, keys: Vec::new(), reference };
        prepared.keys = keys(&prepared);
        Ok(prepared)
    }

    /// The text that an id stands for, for a person to read; bytes that are half a character: U+FFFD.
    #[must_use]
    pub fn text_of(&self, id: u32) -> String {
        String::from_utf8_lossy(self.tokenizer.token_bytes(id).unwrap_or_default()).into_owned()
    }

    /// The prompt of a request for a person to read.
    ///
    /// # Errors
    /// As [`FrontEnd::prepare`].
    pub fn preview(&self, request: &Request, stop: &dyn Fn() -> bool) -> Result<PromptPreview> {
        let prepared = self.prepare(request, stop)?;
        let spans = prepared.prompt.vision.iter().filter(|span| span.frame == 0);
        let pictures = spans.enumerate().map(|(index, span)| prepared.report(span, index)).collect();
        Ok(PromptPreview {
            tokens: prepared.prompt.input_ids.iter().map(|&id| (id, self.text_of(id))).collect(),
            text: prepared.prompt.text,
            pictures,
        })
    }
}

fn keys(prepared: &Prepared) -> Vec<TokenKey> {
    let mut keys: Vec<TokenKey> = prepared.prompt.input_ids.iter().map(|&id| TokenKey::from(id)).collect();
    for span in &prepared.prompt.vision {
        let picture = prepared.picture(span).key();
        for (row, key) in (span.first_row()..).zip(&mut keys[span.start..span.start + span.len]) {
            let mut hash = Sha256::new();
            hash.update(picture);
            hash.update(row.to_le_bytes());
            let digest: [u8; 32] = hash.finalize().into();
            let mut word = [0u8; 8];
            word.copy_from_slice(&digest[..8]);
            // The top bit keeps them apart from text ids.
            *key = u64::from_le_bytes(word) | (1 << 63);
        }
    }
    keys
}
