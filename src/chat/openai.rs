//! Room `chat`: conversations as JSON in the content-list form of `OpenAI`, as `--messages` reads it. Only parses;
//! the files it names are opened later.

use crate::bounded;
use crate::chat::message::{ImageSource, Message, Part, Role, VideoSource};
use crate::error::{Error, Result};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// Largest JSON text that is parsed, in bytes; pictures may be inside as data URLs.
pub const MAX_JSON_BYTES: usize = 512 << 20;
/// Values in it, at most: a few for each part that it may have.
pub const MAX_VALUES: usize = 2_000_000;
const MAX_MESSAGES: usize = 10_000;
const MAX_PARTS: usize = 100_000;
const DOING: &str = "reading the messages";

/// A parsed conversation.
#[derive(Clone, Debug)]
pub struct Conversation {
    /// The messages, at least one.
    pub messages: Vec<Message>,
    /// Tools the model may call, a list of JSON schemas as they were given.
    pub tools: Option<Value>,
}

/// Parses a list of messages, or an object with `messages` and perhaps `tools`. Relative paths in it
/// start at `base` (an empty path: the current folder).
///
/// # Errors
/// When the JSON is malformed or a message is not as it should be; the error names message and key.
pub fn parse_conversation(json: &str, base: &Path) -> Result<Conversation> {
    // Some editors put a mark before the text.
    read_json(json.trim_start_matches('\u{feff}')).map_err(advise).and_then(|v| conversation_from(v, base))
}

/// [`parse_conversation`] of JSON that is parsed already. Other keys of the object are ignored.
///
/// # Errors
/// As there.
pub fn conversation_from(value: Value, base: &Path) -> Result<Conversation> {
    conversation(value, base).map_err(advise)
}

fn advise(error: Error) -> Error {
    error.quoting().help(r#"messages look like [{"role": "user", "content": "…"}], and are counted from 0"#)
}

fn read_json(json: &str) -> Result<Value> {
    if json.len() > MAX_JSON_BYTES {
        let most = MAX_JSON_BYTES >> 20;
        return Err(Error::new(DOING, format!("the JSON is larger than {most} MiB")));
    }
    // serde_json itself refuses to nest deeper than 128.
    bounded::json(json.as_bytes(), MAX_VALUES).map_err(|e| Error::new(DOING, format!("it is not JSON: {e}")))
}

fn conversation(value: Value, base: &Path) -> Result<Conversation> {
    let (messages, tools) = match value {
        Value::Array(messages) => (messages, None),
        Value::Object(mut object) => {
            let Some(Value::Array(messages)) = object.remove("messages") else {
                return Err(Error::new(DOING, "the object has no list `messages`"));
            };
            let tools = object.remove("tools").filter(|tools| !tools.is_null());
            if let Some(tools) = &tools
                && !tools.as_array().is_some_and(|list| list.iter().all(Value::is_object))
            {
                return Err(Error::new(DOING, "it is not a list of objects").at("tools"));
            }
            (messages, tools)
        }
        other => return Err(Error::new(DOING, format!("it holds {}, not a list of messages", kind(&other)))),
    };
    if messages.is_empty() || messages.len() > MAX_MESSAGES {
        let what = format!("there are {} messages; 1 to {MAX_MESSAGES} are possible", messages.len());
        return Err(Error::new(DOING, what));
    }
    let messages = messages
        .into_iter()
        .enumerate()
        .map(|(i, value)| message(value, base).map_err(|e| e.at(format!("message {i}"))))
        .collect::<Result<_>>()?;
    Ok(Conversation { messages, tools })
}

fn message(value: Value, base: &Path) -> Result<Message> {
    let mut object = object(value)?;
    let role = match string(&mut object, "role")?.as_deref() {
        Some("system" | "developer") => Role::System,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("tool") => Role::Tool,
        Some(other) => {
            return Err(Error::new(DOING, format!("{other:?} is no role"))
                .at("role")
                .help("one of system, user, assistant, tool"));
        }
        None => return Err(missing("role")),
    };
    let tool_calls = match object.remove("tool_calls") {
        None | Some(Value::Null) => None,
        Some(calls) if calls.as_array().is_some_and(|list| list.iter().all(Value::is_object)) => Some(calls),
        Some(other) => return Err(wrong("tool_calls", &other, "a list of objects")),
    };
    let parts = match object.remove("content") {
        Some(Value::String(text)) => vec![Part::Text(text)],
        Some(Value::Array(parts)) if parts.len() <= MAX_PARTS => parts
            .into_iter()
            .enumerate()
            .map(|(i, value)| part(value, base).map_err(|e| e.at(format!("content {i}"))))
            .collect::<Result<_>>()?,
        Some(Value::Array(parts)) => {
            return Err(Error::new(DOING, format!("{} parts are too many", parts.len())).at("content"));
        }
        None | Some(Value::Null) if tool_calls.is_some() => Vec::new(),
        None | Some(Value::Null) => return Err(missing("content")),
        Some(other) => return Err(wrong("content", &other, "text or a list of parts")),
    };
    Ok(Message {
        role,
        parts,
        tool_calls,
        tool_call_id: string(&mut object, "tool_call_id")?,
        name: string(&mut object, "name")?,
        reasoning: string(&mut object, "reasoning_content")?,
    })
}

fn part(value: Value, base: &Path) -> Result<Part> {
    const IMAGE: [&str; 5] = ["image", "image_url", "input_image", "url", "path"];
    const VIDEO: [&str; 4] = ["video", "video_url", "url", "path"];
    if let Value::String(text) = value {
        return Ok(Part::Text(text));
    }
    let mut object = object(value)?;
    let kind = match string(&mut object, "type")? {
        Some(kind) => kind,
        // As the chat template does: the key tells what the part is.
        None => ["image", "image_url", "video", "video_url", "text"]
            .into_iter()
            .find(|key| object.contains_key(*key))
            .ok_or_else(|| missing("type"))?
            .to_owned(),
    };
    match kind.as_str() {
        "text" | "input_text" => Ok(Part::Text(string(&mut object, "text")?.ok_or_else(|| missing("text"))?)),
        "image" | "image_url" | "input_image" => {
            let (key, value) = first_of(&mut object, &IMAGE).ok_or_else(|| missing("image"))?;
            image(value, key, base).map(Part::Image).map_err(|e| e.at(key))
        }
        "video" | "video_url" => {
            let (key, value) = first_of(&mut object, &VIDEO).ok_or_else(|| missing("video"))?;
            let fps = match object.remove("fps") {
                None | Some(Value::Null) => None,
                Some(fps) => Some(
                    fps.as_f64()
                        .filter(|f| *f > 0.0)
                        .ok_or_else(|| wrong("fps", &fps, "a number above 0"))?,
                ),
            };
            video(value, key, fps, base).map(Part::Video).map_err(|e| e.at(key))
        }
        other => Err(Error::new(DOING, format!("{other:?} is no type of part"))
            .at("type")
            .help("one of text, image, video")),
    }
}

fn first_of(object: &mut Map<String, Value>, keys: &[&'static str]) -> Option<(&'static str, Value)> {
    keys.iter().find_map(|&key| object.remove(key).filter(|v| !v.is_null()).map(|v| (key, v)))
}

/// A location, or an object with `url`.
fn image(value: Value, key: &'static str, base: &Path) -> Result<ImageSource> {
    match value {
        Value::String(location) => source(&location, base),
        Value::Object(mut object) => match string(&mut object, "url")? {
            Some(location) => source(&location, base),
            None => Err(missing("url")),
        },
        other => Err(wrong(key, &other, "a path, a data URL, or an object with `url`")),
    }
}

fn video(value: Value, key: &'static str, fps: Option<f64>, base: &Path) -> Result<VideoSource> {
    if let Value::Array(frames) = value {
        if frames.len() > MAX_PARTS {
            return Err(Error::new(DOING, format!("{} frames are too many", frames.len())));
        }
        let frames = frames
            .into_iter()
            .enumerate()
            .map(|(i, frame)| image(frame, "frame", base).map_err(|e| e.at(format!("frame {i}"))))
            .collect::<Result<_>>()?;
        return Ok(VideoSource::Frames { frames, fps });
    }
    Ok(VideoSource::Animation { file: image(value, key, base)?, fps })
}

/// The file behind a path, a `file:` URL or a `data:` URL.
fn source(location: &str, base: &Path) -> Result<ImageSource> {
    let scheme = location.split_once(':').map(|(scheme, rest)| (scheme.to_ascii_lowercase(), rest));
    match scheme {
        Some((scheme, _)) if scheme == "http" || scheme == "https" => Err(Error::new(
            DOING,
            format!("{} lies on the network, and nothing is fetched", shorten(location)),
        )
        .help("download it and give the file's path")),
        Some((scheme, rest)) if scheme == "data" => {
            let unreadable = || {
                Error::new(DOING, format!("{} is no data URL in base64", shorten(location)))
                    .help("data:image/png;base64,…")
            };
            let (media, data) = rest.split_once(',').ok_or_else(unreadable)?;
            let (media, "base64") = media.rsplit_once(';').ok_or_else(unreadable)? else {
                return Err(unreadable());
            };
            let bytes = base64(data).ok_or_else(unreadable)?;
            let name =
                if media.is_empty() { "the data URL".to_owned() } else { format!("the data URL ({media})") };
            Ok(ImageSource::Bytes { name, bytes: bytes.into() })
        }
        Some((scheme, rest)) if scheme == "file" => {
            let path = rest.strip_prefix("//localhost").or_else(|| rest.strip_prefix("//")).unwrap_or(rest);
            let path = percent_decoded(path).ok_or_else(|| {
                Error::new(DOING, format!("{} is no file URL", shorten(location)))
                    .help("file:///folder/file.png")
            })?;
            // file:///C:/folder on Windows.
            let bytes = path.as_bytes();
            let drive =
                bytes.len() > 2 && bytes[0] == b'/' && bytes[1].is_ascii_alphabetic() && bytes[2] == b':';
            Ok(ImageSource::Path(PathBuf::from(if drive { &path[1..] } else { &path })))
        }
        _ if location.is_empty() => Err(Error::new(DOING, "the path is empty")),
        _ => Ok(ImageSource::Path(base.join(location))),
    }
}

/// The bytes of base64 text, in the usual or the URL alphabet, with or without padding; space is skipped.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0_u32, 0_u32);
    let mut digits = 0_usize;
    let mut text = text.bytes().filter(|b| !b.is_ascii_whitespace());
    for byte in text.by_ref().take_while(|&b| b != b'=') {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        digits += 1;
        bits = (bits << 6) | u32::from(digit);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xff).ok()?);
            bits &= (1 << held) - 1;
        }
    }
    // Nothing but padding may follow, and one digit alone is no byte.
    (text.all(|b| b == b'=') && digits % 4 != 1).then_some(bytes)
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' {
            let digit = |b: u8| char::from(b).to_digit(16);
            u8::try_from(digit(rest.next()?)? * 16 + digit(rest.next()?)?).ok()?
        } else {
            byte
        });
    }
    String::from_utf8(bytes).ok()
}

fn object(value: Value) -> Result<Map<String, Value>> {
    match value {
        Value::Object(object) => Ok(object),
        other => Err(Error::new(DOING, format!("it is {}, not an object", kind(&other)))),
    }
}

fn string(object: &mut Map<String, Value>, key: &str) -> Result<Option<String>> {
    match object.remove(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(wrong(key, &other, "text")),
    }
}

fn missing(key: &str) -> Error {
    Error::new(DOING, format!("the key `{key}` is missing"))
}

fn wrong(key: &str, value: &Value, wanted: &str) -> Error {
    Error::new(DOING, format!("it is {}, not {wanted}", kind(value))).at(key)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Enough of a URL to know it again.
fn shorten(location: &str) -> String {
    match location.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &location[..end]),
        None => location.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Conversation> {
        parse_conversation(json, Path::new("base"))
    }

    fn said(json: &str) -> String {
        parse(json).unwrap_err().to_string()
    }

    fn images(json: &str) -> Vec<ImageSource> {
        parse(json).unwrap().messages[0].images().cloned().collect()
    }

    #[test]
    fn text_and_lists_of_parts_are_read() {
        let c = parse(
            r#"[{"role": "system", "content": "s"},
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image", "image": "p.png"},
                    {"type": "video", "video": ["1.png", "2.png"], "fps": 4}, "b"]},
                {"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]},
                {"role": "tool", "content": "r", "tool_call_id": "x", "name": "f"}]"#,
        )
        .unwrap();
        assert_eq!(
            c.messages.iter().map(|m| m.role.as_str()).collect::<Vec<_>>(),
            ["system", "user", "assistant", "tool"]
        );
        assert_eq!(c.messages[1].plain_text(), "ab");
        assert_eq!(c.messages[1].images().next(), Some(&ImageSource::Path("base/p.png".into())));
        assert!(matches!(c.messages[1].videos().next(),
            Some(VideoSource::Frames { frames, fps: Some(4.0) }) if frames.len() == 2));
        assert!(c.messages[2].tool_calls.is_some() && c.messages[2].parts.is_empty());
        assert_eq!(c.messages[3].tool_call_id.as_deref(), Some("x"));
    }

    #[test]
    fn a_byte_order_mark_is_skipped() {
        assert!(parse("\u{feff}[{\"role\": \"user\", \"content\": \"\"}]").is_ok());
    }

    #[test]
    fn an_object_may_carry_tools() {
        let c =
            parse(r#"{"messages": [{"role": "user", "content": ""}], "tools": [{"name": "f"}]}"#).unwrap();
        assert_eq!(c.tools.unwrap()[0]["name"], "f");
        assert!(said(r#"{"messages": [{"role": "user", "content": ""}], "tools": 1}"#).contains("tools"));
        assert!(said(r#"{"other": []}"#).contains("`messages`"));
    }

    #[test]
    fn pictures_are_found_under_every_usual_key() {
        let path = |p: &str| ImageSource::Path(p.into());
        let json = r#"[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a.png"}},
            {"type": "image_url", "image_url": "b.png"}, {"image": "c.png"}, {"type": "image", "path": "/d.png"},
            {"type": "image", "image": "file:///e%20f.png"}, {"type": "image", "image": "file://localhost/g.png"},
            {"type": "image", "image": "file:///C:/h.png"}]}]"#;
        let want = [
            path("base/a.png"),
            path("base/b.png"),
            path("base/c.png"),
            path("/d.png"),
            path("/e f.png"),
            path("/g.png"),
            path("C:/h.png"),
        ];
        assert_eq!(images(json), want);
    }

    #[test]
    fn an_animated_file_is_a_clip() {
        let c = parse(r#"[{"role": "user", "content": [{"type": "video", "video": "a.gif", "fps": 1.5}]}]"#)
            .unwrap();
        assert!(matches!(c.messages[0].videos().next(), Some(VideoSource::Animation { fps: Some(1.5), .. })));
    }

    #[test]
    fn numbers_are_read_to_the_last_bit() {
        // Wants serde_json's feature `float_roundtrip`; tools and frame rates would differ from Python's without.
        let number: f64 = serde_json::from_str("96.64999999999999").unwrap();
        assert_eq!(number.to_bits(), 96.649_999_999_999_99_f64.to_bits());
    }

    #[test]
    fn a_data_url_is_decoded() {
        let json = r#"[{"role": "user", "content": [{"type": "image", "image": "data:image/png;base64,iVBORw0K"}]}]"#;
        let [ImageSource::Bytes { bytes, name }] = &images(json)[..] else { panic!("not bytes") };
        assert_eq!((&bytes[..], name.as_str()), (b"\x89PNG\r\n".as_slice(), "the data URL (image/png)"));
        let bad = |url: &str| said(&format!(r#"[{{"role": "user", "content": [{{"image": "{url}"}}]}}]"#));
        assert!(bad("data:image/png,x").contains("base64"));
        assert!(bad("data:image/png;base64,i").contains("base64"));
        assert!(bad("data:image/png;base64,iV*O").contains("base64"));
    }

    #[test]
    fn base64_is_decoded_with_or_without_padding() {
        let cases: [(&str, &[u8]); 7] = [
            ("", b""),
            ("Zg==", b"f"),
            ("Zg", b"f"),
            ("Zm8=", b"fo"),
            ("Zm9v", b"foo"),
            ("Zm9v\nYmFy", b"foobar"),
            ("-_+/", b"\xfb\xff\xbf"),
        ];
        for (text, want) in cases {
            assert_eq!(base64(text).as_deref(), Some(want), "{text}");
        }
        assert_eq!(base64("Zg==Zg"), None);
    }

    #[test]
    fn the_network_is_not_touched() {
        let e = said(
            r#"[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.org/a.png"}}]}]"#,
        );
        assert!(e.contains("https://x.org/a.png") && e.contains("download it"), "{e}");
    }

    #[test]
    fn errors_name_the_message_and_the_key() {
        for (json, words) in [
            ("[", "JSON"),
            ("3", "a number, not a list of messages"),
            ("[]", "there are 0 messages"),
            (r#"[{"content": ""}]"#, "message 0: the key `role` is missing"),
            (r#"[{"role": "user"}]"#, "message 0: the key `content` is missing"),
            (r#"[{"role": "king", "content": ""}]"#, "role in message 0: \"king\" is no role"),
            (
                r#"[{"role": "user", "content": ""}, {"role": "user", "content": 1}]"#,
                "content in message 1: it is a number",
            ),
            (r#"[{"role": "user", "content": [{"type": "audio"}]}]"#, "type in content 0 in message 0"),
            (r#"[{"role": "user", "content": [{"type": "text"}]}]"#, "`text` is missing"),
            (r#"[{"role": "user", "content": [{"type": "image"}]}]"#, "`image` is missing"),
            (
                r#"[{"role": "user", "content": [{"type": "image", "image": 3}]}]"#,
                "image in image in content 0 in message 0",
            ),
            (
                r#"[{"role": "user", "content": [{"type": "video", "video": "a.gif", "fps": 0}]}]"#,
                "fps in content 0",
            ),
            (
                r#"[{"role": "user", "content": [{"type": "video", "video": ["a", 1]}]}]"#,
                "frame 1 in video in content 0",
            ),
            (r#"[{"role": "assistant", "content": "", "tool_calls": "f"}]"#, "tool_calls in message 0"),
        ] {
            let e = said(json);
            assert!(e.contains(words), "{words}: {e}");
        }
        let deep = "[".repeat(1000);
        assert!(said(&deep).contains("recursion"));
    }
}
