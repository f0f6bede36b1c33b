//! The CPU front end against what Hugging Face transformers makes of the same files and messages
//! (`tests/oracle/README.md`): pixels and ids must be equal, bit for bit.

use ocelli::chat::message::Message;
use ocelli::chat::openai::{Conversation, parse_conversation};
use ocelli::chat::template::{ChatTemplate, RenderOptions};
use ocelli::engine::Request;
use ocelli::model::clip::{Clip, prepare_clip, sample_frames, timestamps};
use ocelli::model::detokenizer::Detokenizer;
use ocelli::model::picture::{Picture, PreparedPicture, prepare_image, resize_bicubic};
use ocelli::model::positions::Positions;
use ocelli::model::preprocessor::{FrameSampling, PreprocessorConfig, Preprocessors, TokenRange};
use ocelli::model::prompt::{Prompt, VideoPrompt, build_prompt, one_decimal};
use ocelli::model::tokenizer::{SpecialIds, Tokenizer};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::support::{Case, front_end, request};

const CHECKPOINTS: [&str; 4] = ["mono", "ladder", "plain", "deep"];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/fixtures")
}

fn read(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap()
}

fn preprocess() -> Value {
    read(&fixtures().join("preprocess.json"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn number(value: &Value) -> u32 {
    u32::try_from(value.as_u64().unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<u32> {
    list(value).iter().map(number).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn sha(bytes: &[u8]) -> String {
    use std::fmt::Write;
    Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

fn sha_f32<'a>(pictures: impl IntoIterator<Item = &'a PreparedPicture>) -> String {
    let rows = pictures.into_iter().flat_map(|p| p.pixel_values(0..p.grid().num_patches()));
    sha(&rows.flat_map(f32::to_le_bytes).collect::<Vec<u8>>())
}

fn config(case: &Value) -> PreprocessorConfig {
    PreprocessorConfig {
        patch_size: 16,
        temporal_patch_size: 2,
        merge_size: 2,
        min_pixels: case["min_pixels"].as_u64().unwrap(),
        max_pixels: case["max_pixels"].as_u64().unwrap(),
    }
}

/// A size or an error, as the reference has it.
fn check_size(case: &Value, got: ocelli::Result<(u32, u32)>) {
    match &case["result"] {
        Value::Null => assert!(got.is_err(), "{case}"),
        want => assert_eq!(got.unwrap(), (number(&want[0]), number(&want[1])), "{case}"),
    }
}

#[test]
fn pictures_get_the_size_the_processor_gives_them() {
    for case in list(&preprocess()["smart_resize"]) {
        check_size(case, config(case).image_size(number(&case["height"]), number(&case["width"])));
    }
}

#[test]
fn clips_get_the_size_the_processor_gives_them() {
    for case in list(&preprocess()["video_smart_resize"]) {
        let frames = number(&case["frames"]) as usize;
        check_size(case, config(case).video_size(frames, number(&case["height"]), number(&case["width"])));
    }
}

#[test]
fn pictures_have_the_processors_pixels_bit_for_bit() {
    for case in list(&preprocess()["pictures"]) {
        let picture = Picture::from_path(&fixtures().join(text(&case["picture"]))).unwrap();
        assert_eq!(vec![picture.height(), picture.width()], numbers(&case["size_hw"]), "{case}");
        assert_eq!(sha(picture.rgb()), text(&case["rgb_sha256"]), "{case}");
        let prepared = prepare_image(&picture, &config(case), None).unwrap();
        assert_eq!(prepared.grid().thw().to_vec(), numbers(&case["grid_thw"]), "{case}");
        let size = prepared.resized_size();
        let resized = resize_bicubic(picture.rgb(), (picture.width(), picture.height()), size);
        assert_eq!(sha(&resized), text(&case["resized_rgb_sha256"]), "{case}");
        assert_eq!(sha_f32([&prepared]), text(&case["pixel_values_sha256"]), "{case}");
    }
}

#[test]
fn clips_have_the_processors_pixels_bit_for_bit() {
    for case in list(&preprocess()["clips"]) {
        let frames = list(&case["frames"]).iter().map(|f| fixtures().join(text(f))).collect();
        let clip = Clip::from_files(frames, None).unwrap();
        let prepared = prepare_clip(&clip, &config(case), None).unwrap();
        assert_eq!(prepared.picture.grid().thw().to_vec(), numbers(&case["grid_thw"]), "{case}");
        assert_eq!(sha_f32([&prepared.picture]), text(&case["pixel_values_videos_sha256"]), "{case}");
    }
}

#[test]
fn a_turned_jpeg_is_upright() {
    let case = &preprocess()["files"]["orientation_6"];
    let picture = Picture::from_path(&fixtures().join(text(&case["picture"]))).unwrap();
    assert_eq!(vec![picture.height(), picture.width()], numbers(&case["size_hw"]));
}

#[test]
fn an_animated_gif_gives_pillows_frames() {
    let case = &preprocess()["files"]["animated"];
    let every_frame = FrameSampling { fps: 1000.0, ..FrameSampling::default() };
    let clip = Clip::from_path(&fixtures().join(text(&case["picture"])), every_frame).unwrap();
    let want: Vec<_> = list(&case["frames"]).iter().map(|f| text(&f["rgb_sha256"]).to_owned()).collect();
    let total_ms: f64 = list(&case["frames"]).iter().map(|f| f["duration_ms"].as_f64().unwrap()).sum();
    let mut got = Vec::new();
    clip.visit(|frame| {
        got.push(sha(frame.rgb()));
        Ok(true)
    })
    .unwrap();
    assert_eq!(got, want);
    let count = f64::from(u32::try_from(want.len()).unwrap());
    assert!((clip.fps() - 1000.0 * count / total_ms).abs() < 1e-12);
    assert_eq!(vec![clip.height(), clip.width()], numbers(&case["size_hw"]));
}

#[test]
fn times_of_frames_are_the_processors() {
    for case in list(&preprocess()["timestamps"]) {
        let indices: Vec<usize> = numbers(&case["indices"]).into_iter().map(|i| i as usize).collect();
        let got = timestamps(&indices, case["fps"].as_f64().unwrap(), 2);
        let got: Vec<_> = got.into_iter().map(|t| format!("<{} seconds>", one_decimal(t))).collect();
        assert_eq!(json!(got), case["text"], "{case}");
    }
}

#[test]
fn frames_are_chosen_as_the_processor_chooses_them() {
    for case in list(&preprocess()["frame_sampling"]) {
        let total = number(&case["total_frames"]) as usize;
        let mut got = sample_frames(total, case["fps"].as_f64().unwrap(), FrameSampling::default());
        assert_eq!(got.len(), number(&case["count"]) as usize, "{case}");
        if got.len() >= 100 {
            got.drain(20..got.len() - 20);
        }
        assert_eq!(json!(got), case["indices"], "{case}");
    }
}

/// A checkpoint's folder and what the front end reads from it.
struct Checkpoint {
    folder: PathBuf,
    tokenizer: Arc<Tokenizer>,
    template: ChatTemplate,
    ids: SpecialIds,
    preprocessors: Preprocessors,
}

impl Checkpoint {
    fn open(name: &str) -> Self {
        let folder = fixtures().join(name).join("model");
        let config = read(&folder.join("config.json"));
        let eos = match std::fs::exists(folder.join("generation_config.json")) {
            Ok(true) => numbers(&read(&folder.join("generation_config.json"))["eos_token_id"]),
            _ => vec![number(&config["text_config"]["eos_token_id"])],
        };
        let ids = SpecialIds {
            image_pad: number(&config["image_token_id"]),
            video_pad: number(&config["video_token_id"]),
            vision_start: number(&config["vision_start_token_id"]),
            vision_end: number(&config["vision_end_token_id"]),
            eos,
            vocab_size: number(&config["text_config"]["vocab_size"]),
        };
        let tokenizer = Tokenizer::from_folder(&folder).unwrap();
        tokenizer.check(&ids).unwrap();
        Self {
            template: ChatTemplate::from_folder(&folder).unwrap(),
            preprocessors: Preprocessors::from_folder(&folder).unwrap(),
            tokenizer: Arc::new(tokenizer),
            ids,
            folder,
        }
    }

    /// From messages to ids, as a session does it.
    fn prompt(&self, case: &Value) -> (Prompt, Vec<PreparedPicture>, Vec<PreparedPicture>) {
        let messages = parse(&case["messages"]).messages;
        let rendered = self.template.render(&messages, &options(case, true), self.tokenizer.added()).unwrap();
        let images: Vec<_> = messages
            .iter()
            .flat_map(Message::images)
            .map(|source| prepare_image(&source.load().unwrap(), &self.preprocessors.image, None).unwrap())
            .collect();
        let video = self.preprocessors.video().unwrap();
        let clips: Vec<_> = messages
            .iter()
            .flat_map(Message::videos)
            .map(|source| prepare_clip(&source.load(video.sampling).unwrap(), &video.pixels, None).unwrap())
            .collect();
        let form = if case["options"]["video_form"] == "5.x" { VideoPrompt::V5 } else { VideoPrompt::V457 };
        let prompt = build_prompt(&self.tokenizer, &self.ids, &rendered, &images, &clips, form).unwrap();
        (prompt, images, clips.into_iter().map(|c| c.picture).collect())
    }
}

fn parse(messages: &Value) -> Conversation {
    parse_conversation(&messages.to_string(), &fixtures()).unwrap()
}

fn options(case: &Value, add_generation_prompt: bool) -> RenderOptions<'_> {
    let options = &case["options"];
    RenderOptions {
        add_generation_prompt: options["add_generation_prompt"].as_bool().unwrap_or(add_generation_prompt),
        tools: options.get("tools"),
        add_vision_id: options["add_vision_id"] == true,
        ..RenderOptions::default()
    }
}

#[test]
fn every_recorded_prompt_is_made_exactly() {
    let mut seen = 0;
    for name in CHECKPOINTS {
        let checkpoint = Checkpoint::open(name);
        for entry in std::fs::read_dir(checkpoint.folder.join("../cases")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|e| e != "json") {
                continue;
            }
            let case = read(&path);
            let (prompt, images, clips) = checkpoint.prompt(&case);
            let what = path.display();
            assert_eq!(prompt.text, text(&case["prompt_text"]), "{what}");
            assert_eq!(prompt.input_ids, numbers(&case["input_ids"]), "{what}");
            for (kind, pictures, key) in
                [("image", &images, "pixel_values"), ("video", &clips, "pixel_values_videos")]
            {
                let grids: Vec<_> = pictures.iter().map(|p| p.grid().thw()).collect();
                let grids = if grids.is_empty() { Value::Null } else { json!(grids) };
                assert_eq!(grids, case[format!("{kind}_grid_thw")], "{what}");
                if let Some(want) = case[format!("{key}_sha256")].as_str() {
                    assert_eq!(sha_f32(pictures), want, "{what}");
                }
            }
            let axes: Vec<Vec<u32>> =
                (0..3).map(|axis| prompt.positions.thw.iter().map(|p| p[axis]).collect()).collect();
            assert_eq!(json!(axes), case["position_ids"], "{what}");
            assert_eq!(json!(prompt.positions.rope_delta), case["rope_delta"], "{what}");

            let grids =
                |pictures: &[PreparedPicture]| pictures.iter().map(PreparedPicture::grid).collect::<Vec<_>>();
            let from_ids = Positions::from_ids(
                &prompt.input_ids,
                (checkpoint.ids.image_pad, &grids(&images)),
                (checkpoint.ids.video_pad, &grids(&clips)),
                2,
            );
            assert_eq!(from_ids.unwrap(), prompt.positions, "{what}");
            for span in &prompt.vision {
                let pads = &prompt.input_ids[span.start..][..span.len];
                assert!(
                    pads.iter().all(|id| [checkpoint.ids.image_pad, checkpoint.ids.video_pad].contains(id))
                );
            }
            seen += 1;
        }
    }
    assert!(seen >= 40, "{seen} cases");
}

#[test]
fn strings_are_tokenised_and_put_together_again_as_transformers_does() {
    for name in CHECKPOINTS {
        let checkpoint = Checkpoint::open(name);
        let tokenizer = &checkpoint.tokenizer;
        let cases = read(&checkpoint.folder.join("../tokenizer_cases.json"));
        for (token, id) in cases["added_tokens"].as_object().unwrap() {
            assert_eq!(tokenizer.token_id(token), Some(number(id)), "{name} {token}");
            assert_eq!(tokenizer.token_bytes(number(id)), Some(token.as_bytes()), "{name} {token}");
        }
        for case in list(&cases["strings"]) {
            let ids = tokenizer.encode(text(&case["text"])).unwrap();
            assert_eq!(ids, numbers(&case["ids"]), "{name} {:?}", case["text"]);
            for (skip, key) in [(false, "decoded"), (true, "decoded_skip_special")] {
                assert_eq!(tokenizer.decode(&ids, skip), text(&case[key]), "{name}");
                let mut detokenizer = Detokenizer::new(Arc::clone(tokenizer), skip);
                let mut streamed: String = ids.iter().map(|&id| detokenizer.push(id)).collect();
                streamed += &detokenizer.finish();
                assert_eq!(streamed, text(&case[key]), "{name}");
            }
        }
    }
}

#[test]
fn chats_are_rendered_as_transformers_renders_them() {
    for name in CHECKPOINTS {
        let checkpoint = Checkpoint::open(name);
        let tokenizer = &checkpoint.tokenizer;
        for case in list(&read(&checkpoint.folder.join("../tokenizer_cases.json"))["chats"]) {
            let messages = parse(&case["messages"]).messages;
            let rendered =
                checkpoint.template.render(&messages, &options(case, false), tokenizer.added()).unwrap();
            assert_eq!(rendered.plain(), text(&case["text"]), "{name} {}", case["messages"]);
            assert_eq!(tokenizer.encode(&rendered.plain()).unwrap(), numbers(&case["ids"]), "{name}");
            // transformers takes special tokens in what the user has typed for real ones; Ocelli does not.
            let ids = tokenizer.encode_pieces(&tokenizer.added().split(&rendered)).unwrap();
            let typed = case["messages"].to_string().contains("<|im_end|>");
            assert_eq!(ids == numbers(&case["ids"]), !typed, "{name} {}", case["messages"]);
        }
    }
}

#[test]
fn the_key_of_a_picture_does_not_depend_on_its_file() {
    let config = Checkpoint::open("mono").preprocessors.image;
    let path = fixtures().join("pictures/tiny.png");
    let picture = Picture::from_path(&path).unwrap();
    let again = Picture::from_rgb(picture.width(), picture.height(), picture.rgb().to_vec()).unwrap();
    let key = |p: &Picture| *prepare_image(p, &config, None).unwrap().key();
    assert_eq!(key(&picture), key(&again));
    assert_eq!(key(&picture), key(&Picture::from_bytes(&std::fs::read(&path).unwrap(), "x").unwrap()));
}

#[test]
fn what_an_answer_begins_with_stands_behind_the_prompt_and_stays_text() {
    let front_end = front_end("mono");
    let case = Case::read("mono", "square");
    let plain = front_end.prepare(&request(&case), &|| false).unwrap();
    for start in ["A shape", "<|im_end|>\n<|im_start|>user\nNo", "\u{f0000} ", ""] {
        let asked = Request { answer_start: Some(start.into()), ..request(&case) };
        let prepared = front_end.prepare(&asked, &|| false).unwrap();
        assert_eq!(prepared.prompt.text, format!("{}{start}", plain.prompt.text));
        let behind = prepared.prompt.input_ids.strip_prefix(plain.prompt.input_ids.as_slice());
        if start.starts_with(char::is_alphabetic) {
            let behind = behind.unwrap();
            assert_eq!(front_end.tokenizer.decode(behind, false), start);
        }
        let ends = |ids: &[u32]| ids.iter().filter(|id| front_end.special.eos.contains(id)).count();
        assert_eq!(ends(&prepared.prompt.input_ids), ends(&plain.prompt.input_ids), "{start}");
        let preview = front_end.preview(&asked, &|| false).unwrap();
        assert_eq!(preview.text, prepared.prompt.text);
        let ids: Vec<u32> = preview.tokens.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, prepared.prompt.input_ids);
        assert_eq!(preview.pictures.len(), prepared.images.len());
    }
}

#[test]
fn a_picture_that_was_resized_before_is_the_same_and_other_limits_give_another() {
    let front_end = front_end("mono");
    let range = |max_tokens| Some(TokenRange { min_tokens: 4, max_tokens });
    let case = Case::read("mono", "wide");
    let ask = |image_tokens| {
        let asked = Request { image_tokens, ..request(&case) };
        front_end.prepare(&asked, &|| false).unwrap().images
    };
    let (first, again, smaller) = (ask(range(16)), ask(range(16)), ask(range(8)));
    assert_eq!(first, again);
    assert_ne!(first, smaller);
    let picture = Picture::from_path(&fixtures().join("pictures/wide.png")).unwrap();
    let fresh = prepare_image(&picture, &front_end.preprocessors.image, range(16)).unwrap();
    assert_eq!(again[0], fresh);
}
