//! Room `remote`: a request as a server gets it: OpenAI's chat completions, with what vLLM and llama.cpp's server know besides.

use serde_json::{Map, Value, json};

use super::pictures::{data_url, frame_urls};
use crate::chat::message::{Message, Part};
use crate::engine::{Cancel, Request};
use crate::error::{Error, Result};
use crate::model::sampler::Sampling;

/// Letters of pictures in a request, at most.
const MOST_PICTURE_BYTES: usize = 256 << 20;
/// Alternatives of each token that are asked for: what all servers of this kind give.
pub(super) const ALTERNATIVES: usize = 5;
const DOING: &str = "writing the question for the server";

/// How tokens are to be chosen; what is `None` is left to the server.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Choosing {
    /// 0: greedy.
    pub temperature: Option<f32>,
    /// Keep the smallest set of tokens whose probability reaches this.
    pub top_p: Option<f32>,
    /// Keep the k most likely.
    pub top_k: Option<u32>,
    /// Keep tokens at least this likely against the most likely.
    pub min_p: Option<f32>,
    /// Taken off the logits of tokens of the answer.
    pub presence_penalty: Option<f32>,
    /// Divides the logits of tokens of prompt and answer.
    pub repetition_penalty: Option<f32>,
    /// Makes the draws repeatable, where the server can.
    pub seed: Option<u64>,
}

impl From<&Sampling> for Choosing {
    /// All that these settings say; those that do nothing are left out, as not every server knows them.
    fn from(s: &Sampling) -> Self {
        let draws = s.temperature > 0.0;
        let differs = |value: f32, off: f32| Some(value).filter(|value| (value - off).abs() > f32::EPSILON);
        Self {
            temperature: Some(s.temperature),
            top_p: Some(s.top_p).filter(|_| draws),
            top_k: Some(s.top_k).filter(|k| draws && *k > 0),
            min_p: differs(s.min_p, 0.0).filter(|_| draws),
            presence_penalty: differs(s.presence_penalty, 0.0),
            repetition_penalty: differs(s.repetition_penalty, 1.0),
            seed: Some(s.seed).filter(|_| draws),
        }
    }
}

/// A number as a person writes it: 0.7, not 0.699999988.
fn number(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}

impl Choosing {
    /// `own` with what is chosen in its place.
    #[must_use]
    pub fn over(&self, own: Sampling) -> Sampling {
        Sampling {
            temperature: self.temperature.unwrap_or(own.temperature),
            top_p: self.top_p.unwrap_or(own.top_p),
            top_k: self.top_k.unwrap_or(own.top_k),
            min_p: self.min_p.unwrap_or(own.min_p),
            presence_penalty: self.presence_penalty.unwrap_or(own.presence_penalty),
            repetition_penalty: self.repetition_penalty.unwrap_or(own.repetition_penalty),
            seed: self.seed.unwrap_or(own.seed),
        }
    }

    fn write(&self, to: &mut Map<String, Value>) {
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                to.insert(name.to_owned(), value);
            }
        };
        put("temperature", self.temperature.map(number));
        put("top_p", self.top_p.map(number));
        put("top_k", self.top_k.map(Value::from));
        put("min_p", self.min_p.map(number));
        put("presence_penalty", self.presence_penalty.map(number));
        put("repetition_penalty", self.repetition_penalty.map(number));
        put("seed", self.seed.map(Value::from));
    }
}

/// The body of a request. Of clips, frames are sent as pictures, in order. The range of image tokens, the form of clips' prompts
/// and the numbering of pictures are not sent: no server documents them.
///
/// # Errors
/// A picture cannot be read; tools are offered; a step is to be looked into; the pictures are too large together; the user has stopped it.
pub fn body(request: &Request, model: &str, choosing: &Choosing, cancel: &Cancel) -> Result<Value> {
    if request.tools.is_some() {
        return Err(Error::new(DOING, "tools cannot be offered to a server").help("ask without tools"));
    }
    if request.inside.is_some() {
        return Err(Error::new(DOING, "no server lays open a step of its model")
            .help("ask the model in this program, then look inside"));
    }
    let mut letters = 0;
    let mut messages = Vec::with_capacity(request.messages.len() + 1);
    for message in &request.messages {
        messages.push(message_json(message, &mut letters, cancel)?);
    }
    let mut body = Map::new();
    body.insert("model".to_owned(), model.into());
    if let Some(start) = &request.answer_start {
        messages.push(json!({"role": "assistant", "content": start}));
        body.insert("add_generation_prompt".to_owned(), false.into());
        body.insert("continue_final_message".to_owned(), true.into());
    }
    body.insert("messages".to_owned(), messages.into());
    choosing.write(&mut body);
    if let Some(most) = request.max_tokens {
        body.insert("max_tokens".to_owned(), most.into());
    }
    if !request.stop.is_empty() {
        body.insert("stop".to_owned(), json!(request.stop));
    }
    if request.ignore_end {
        body.insert("ignore_eos".to_owned(), true.into());
    }
    body.insert("stream".to_owned(), true.into());
    Ok(Value::Object(body))
}

fn message_json(message: &Message, letters: &mut usize, cancel: &Cancel) -> Result<Value> {
    let mut out = Map::new();
    out.insert("role".to_owned(), message.role.as_str().into());
    let only_text = message.parts.iter().all(|part| matches!(part, Part::Text(_)));
    let content = if only_text { message.plain_text().into() } else { parts_json(message, letters, cancel)? };
    out.insert("content".to_owned(), content);
    if let Some(calls) = &message.tool_calls {
        out.insert("tool_calls".to_owned(), tool_calls(calls));
    }
    for (name, value) in [("tool_call_id", &message.tool_call_id), ("name", &message.name)] {
        if let Some(value) = value {
            out.insert(name.to_owned(), value.as_str().into());
        }
    }
    Ok(out.into())
}

fn parts_json(message: &Message, letters: &mut usize, cancel: &Cancel) -> Result<Value> {
    let mut parts = Vec::new();
    for part in &message.parts {
        if cancel.is_cancelled() {
            return Err(Error::cancelled(DOING));
        }
        let urls = match part {
            Part::Text(text) => {
                parts.push(json!({"type": "text", "text": text}));
                continue;
            }
            Part::Image(source) => vec![data_url(source)?],
            Part::Video(source) => frame_urls(source)?,
        };
        for url in urls {
            *letters += url.len();
            if *letters > MOST_PICTURE_BYTES {
                let most = MOST_PICTURE_BYTES >> 20;
                return Err(Error::new(DOING, format!("its pictures are larger than {most} MiB together"))
                    .help("send fewer or smaller pictures"));
            }
            parts.push(json!({"type": "image_url", "image_url": {"url": url}}));
        }
    }
    Ok(parts.into())
}

/// Arguments of tool calls as text, which is how servers want them.
fn tool_calls(calls: &Value) -> Value {
    let mut calls = calls.clone();
    for call in calls.as_array_mut().into_iter().flatten() {
        if let Some(arguments) = call.pointer_mut("/function/arguments")
            && !arguments.is_string()
        {
            *arguments = Value::String(arguments.to_string());
        }
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::message::{ImageSource, Role, VideoSource};
    use crate::model::preprocessor::TokenRange;
    use std::io::Cursor;

    fn written(request: &Request, choosing: &Choosing) -> Value {
        body(request, "Qwen3-VL", choosing, &Cancel::default()).unwrap()
    }

    fn png(shade: u8) -> ImageSource {
        let mut file = Cursor::new(Vec::new());
        let pixels = image::RgbImage::from_pixel(8, 8, image::Rgb([shade; 3]));
        pixels.write_to(&mut file, image::ImageFormat::Png).unwrap();
        ImageSource::Bytes { name: "a.png".into(), bytes: file.into_inner().into() }
    }

    #[test]
    fn a_question_is_written_as_servers_read_it() {
        let picture = png(7);
        let frames = vec![png(1), png(2)];
        let url = |source: &ImageSource| json!({"type": "image_url", "image_url": {"url": data_url(source).unwrap()}});
        let expected_parts = json!([
            url(&picture), url(&frames[0]), url(&frames[1]), {"type": "text", "text": "What?"}
        ]);
        let mut request = Request::new(vec![
            Message::text(Role::System, "Be brief."),
            Message::text(Role::User, "Hello"),
            Message::text(Role::Assistant, "Hi"),
            Message::new(
                Role::User,
                vec![
                    Part::Image(picture),
                    Part::Video(VideoSource::Frames { frames, fps: Some(2.0) }),
                    Part::Text("What?".into()),
                ],
            ),
        ]);
        request.max_tokens = Some(64);
        request.stop = vec!["END".into()];
        request.image_tokens = Some(TokenRange { min_tokens: 4, max_tokens: 64 });
        let sampling = Sampling {
            temperature: 0.7,
            top_p: 0.8,
            top_k: 20,
            presence_penalty: 1.5,
            seed: 42,
            ..Sampling::GREEDY
        };
        let expected = json!({
            "model": "Qwen3-VL",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Hello"},
                {"role": "assistant", "content": "Hi"},
                {"role": "user", "content": expected_parts},
            ],
            "temperature": 0.7, "top_p": 0.8, "top_k": 20, "presence_penalty": 1.5, "seed": 42,
            "max_tokens": 64, "stop": ["END"], "stream": true,
        });
        assert_eq!(written(&request, &Choosing::from(&sampling)), expected);
    }

    #[test]
    fn greedy_is_a_temperature_of_nothing_and_the_servers_own_way_is_no_word() {
        let request = Request::new(vec![Message::text(Role::User, "Hello")]);
        let messages = json!([{"role": "user", "content": "Hello"}]);
        assert_eq!(
            written(&request, &Choosing::from(&Sampling::GREEDY)),
            json!({"model": "Qwen3-VL", "messages": messages, "temperature": 0.0, "stream": true})
        );
        assert_eq!(
            written(&request, &Choosing::default()),
            json!({"model": "Qwen3-VL", "messages": messages, "stream": true})
        );
        let all = Sampling { temperature: 1.0, min_p: 0.1, repetition_penalty: 1.05, ..Sampling::GREEDY };
        let all = written(&request, &Choosing::from(&all));
        assert_eq!((&all["min_p"], &all["repetition_penalty"]), (&json!(0.1), &json!(1.05)));
        assert_eq!(all.get("top_k"), None);
    }

    #[test]
    fn an_answer_that_has_begun_is_the_last_message() {
        let mut request = Request::new(vec![Message::text(Role::User, "Tell")]);
        request.answer_start = Some("Once".into());
        let written = written(&request, &Choosing::default());
        assert_eq!(written["messages"][1], json!({"role": "assistant", "content": "Once"}));
        assert_eq!(
            (&written["add_generation_prompt"], &written["continue_final_message"]),
            (&json!(false), &json!(true))
        );
    }

    #[test]
    fn an_animation_goes_as_frames_and_arguments_of_tools_as_text() {
        let mut file = Vec::new();
        let mut encoder = image::codecs::gif::GifEncoder::new(&mut file);
        for shade in 0..50_u8 {
            let pixels = image::RgbaImage::from_pixel(30, 20, image::Rgba([shade * 5, 0, 0, 255]));
            let delay = image::Delay::from_numer_denom_ms(500, 1);
            encoder.encode_frame(image::Frame::from_parts(pixels, 0, 0, delay)).unwrap();
        }
        drop(encoder);
        let file = ImageSource::Bytes { name: "a.gif".into(), bytes: file.into() };
        let clip = Part::Video(VideoSource::Animation { file, fps: None });
        let mut call = Message::text(Role::Assistant, "");
        call.tool_calls = Some(json!([{"function": {"name": "f", "arguments": {"a": 1}}}]));
        let mut result = Message::text(Role::Tool, "2");
        result.tool_call_id = Some("c1".into());
        let request = Request::new(vec![Message::new(Role::User, vec![clip]), call, result]);
        let written = written(&request, &Choosing::default());
        let parts = written["messages"][0]["content"].as_array().unwrap();
        assert_eq!(parts.len(), super::super::CLIP_FRAMES);
        assert!(
            parts.iter().all(|part| part["image_url"]["url"].as_str().unwrap().starts_with("data:image/png"))
        );
        assert_eq!(written["messages"][1]["tool_calls"][0]["function"]["arguments"], json!("{\"a\":1}"));
        assert_eq!(written["messages"][2]["tool_call_id"], json!("c1"));
    }

    #[test]
    fn tools_steps_to_look_into_and_a_stopped_question_are_not_sent() {
        let mut request = Request::new(vec![Message::new(Role::User, vec![Part::Image(png(1))])]);
        let cancel = Cancel::default();
        cancel.cancel();
        let error = body(&request, "m", &Choosing::default(), &cancel).unwrap_err();
        assert_eq!(error.get_kind(), crate::error::ErrorKind::Cancelled);
        request.tools = Some(json!([]));
        assert!(body(&request, "m", &Choosing::default(), &Cancel::default()).is_err());
        let inside = Some(crate::engine::Step { answer: vec![1].into(), token: 0 });
        let request = Request { inside, ..Request::new(Vec::new()) };
        let error = body(&request, "m", &Choosing::default(), &Cancel::default()).unwrap_err();
        assert!(error.to_string().contains("no server lays open a step"), "{error}");
    }
}
