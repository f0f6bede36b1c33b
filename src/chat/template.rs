//! Room `chat`: the checkpoint's own Jinja chat template, rendered as transformers renders it.
//! What users, tools and the model have written is marked, so that no text can pass for a control token.
//! Reads the template's file; knows nothing of the GPU.

mod python;
mod sandbox;

use crate::bounded;
use crate::chat::message::{Message, Part, Role};
use crate::error::{Error, Result};
use crate::model::builtin;
use crate::model::tokenizer::{AddedTokens, Literals, MarkedText};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Value as Jinja};
use sandbox::Failure;
use serde_json::{Map, Value, json};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A template or settings file larger than this is not one, in bytes.
const MAX_FILE_BYTES: u64 = 4 << 20;
/// Values in a settings file, at most: of each added token a few.
const MAX_VALUES: usize = 200_000;
/// Named templates in one file, at most.
const MOST_TEMPLATES: usize = 32;
/// Instructions a rendering may take, each good for 64 bytes as well: ends endless loops within about a
/// second and keeps what a hostile template makes below a fifth of a gigabyte. An ordinary turn takes about a hundred.
const FUEL: u64 = 2_000_000;
/// Where the mark is taken from: the first of these private characters that nobody has written.
const MARKS: std::ops::RangeInclusive<char> = '\u{f0000}'..='\u{f0fff}';
const DOWNLOAD: &str = "download it again";
const DOING: &str = "rendering the chat template";

/// What a rendering needs besides the messages.
#[derive(Clone, Debug, Default)]
pub struct RenderOptions<'a> {
    /// Ends the prompt with the beginning of the assistant's turn.
    pub add_generation_prompt: bool,
    /// What the assistant's answer begins with, behind the generation prompt: the model goes on from there.
    pub answer_start: Option<&'a str>,
    /// Tools the model may call: a list of JSON schemas.
    pub tools: Option<&'a Value>,
    /// Writes "Picture 1: " and the like before pictures and clips.
    pub add_vision_id: bool,
    /// Further variables of the template (`enable_thinking`).
    pub extra: Map<String, Value>,
}

/// The chat template of a checkpoint.
#[derive(Debug)]
pub struct ChatTemplate {
    env: Arc<Environment<'static>>,
    /// It has been given up once.
    is_stuck: AtomicBool,
    /// The file it was found in.
    file: String,
    /// Every character of the templates that could be a mark.
    own_marks: Vec<char>,
    /// Special tokens of `tokenizer_config.json` (`eos_token`), which templates may use by name.
    tokens: Map<String, Value>,
}

impl ChatTemplate {
    /// Reads the template from `chat_template.jinja`, `chat_template.json` or `tokenizer_config.json`,
    /// the first that has one.
    ///
    /// # Errors
    /// When there is none, or it is malformed.
    pub fn from_folder(folder: &Path) -> Result<Self> {
        let config = read(folder, "tokenizer_config.json")?;
        let config = config.map(|text| parse(folder, "tokenizer_config.json", &text)).transpose()?;
        let mut tokens = Map::new();
        for (key, value) in config.iter().flatten().filter(|(key, _)| key.ends_with("_token")) {
            if let Some(text) = value.as_str().or_else(|| value.get("content").and_then(Value::as_str)) {
                tokens.insert(key.clone(), text.into());
            }
        }

        let (file, sources) = if let Some(text) = read(folder, "chat_template.jinja")? {
            ("chat_template.jinja", vec![("default".to_owned(), text)])
        } else {
            let json = read(folder, "chat_template.json")?;
            let json = json.map(|text| parse(folder, "chat_template.json", &text)).transpose()?;
            let found = [("chat_template.json", json), ("tokenizer_config.json", config)]
                .into_iter()
                .find_map(|(file, object)| {
                    object?.remove("chat_template").filter(|t| !t.is_null()).map(|t| (file, t))
                });
            let Some((file, template)) = found else {
                return Err(Error::new(
                    "reading the chat template",
                    "neither chat_template.jinja, chat_template.json nor tokenizer_config.json has one",
                )
                .at_path(folder)
                .help("download chat_template.json from the model's page"));
            };
            let sources = named_sources(template).ok_or_else(|| {
                Error::new("reading the chat template", "it is neither text nor a list of named templates")
                    .at(file)
                    .at_path(folder)
                    .help(DOWNLOAD)
            })?;
            (file, sources)
        };
        Self::new(sources, tokens, &folder.join(file).display().to_string())
    }

    /// A template from its source. `name` is what errors call it.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn from_source(source: &str, name: &str) -> Result<Self> {
        Self::new(vec![("default".to_owned(), source.to_owned())], Map::new(), name)
    }

    fn new(sources: Vec<(String, String)>, tokens: Map<String, Value>, file: &str) -> Result<Self> {
        let fail =
            |e: &dyn std::fmt::Display| Error::new("reading the chat template", e).at(file).help(DOWNLOAD);
        let mut own_marks = Vec::new();
        for (_, source) in &sources {
            sandbox::check(source).map_err(|why| fail(&why))?;
            own_marks.extend(source.chars().filter(|c| MARKS.contains(c)));
        }
        if sources.len() > MOST_TEMPLATES {
            return Err(fail(&format!("it has {} templates", sources.len())));
        }
        let env = sandbox::run(move || environment(sources)).map_err(|failure| match failure {
            Failure::TooLong | Failure::Stuck => fail(&"it takes too long"),
            Failure::TooLarge => fail(&"it takes too much memory"),
            Failure::Words(words) => fail(&words),
        })?;
        Ok(Self {
            env: Arc::new(env),
            is_stuck: AtomicBool::new(false),
            file: file.to_owned(),
            own_marks,
            tokens,
        })
    }

    /// Renders a conversation. `added` are the tokenizer's added tokens: those in text of users, system
    /// prompts and tools, and the special ones in text of the assistant, remain text.
    ///
    /// # Errors
    /// When the template refuses the conversation (`raise_exception`), does something Jinja cannot, or
    /// takes too long.
    pub fn render(
        &self,
        messages: &[Message],
        options: &RenderOptions<'_>,
        added: &AddedTokens,
    ) -> Result<MarkedText> {
        let mark = self.free_mark(messages, options)?;
        let guard = Guard { added, mark };
        let tools = options.tools.map_or(Value::Null, |tools| guard.value(tools));

        let mut context = self.tokens.clone();
        context.insert("messages".into(), messages.iter().map(|m| guard.message(m)).collect());
        context.insert("documents".into(), Value::Null);
        context.insert("add_generation_prompt".into(), options.add_generation_prompt.into());
        if options.add_vision_id {
            context.insert("add_vision_id".into(), true.into());
        }
        for (key, value) in &options.extra {
            context.insert(key.clone(), guard.value(value));
        }
        let has_tools = !tools.is_null();
        context.insert("tools".into(), tools);

        let too_long = || Error::new(DOING, "it takes too long").at(&self.file).help("shorten the chat");
        if self.is_stuck.load(Ordering::Relaxed) {
            return Err(too_long());
        }
        let (env, context) = (Arc::clone(&self.env), jinja(Value::Object(context)));
        let rendered = sandbox::run(move || {
            let named = if has_tools { env.get_template("tool_use").ok() } else { None };
            match named {
                Some(template) => template.render(context),
                None => env.get_template("default")?.render(context),
            }
        });
        let with_start = |mut text: String| {
            text.push_str(&added.mark(options.answer_start.unwrap_or_default(), mark, Literals::Special));
            MarkedText::new(text, Some(mark))
        };
        rendered.map(with_start).map_err(|failure| match failure {
            Failure::TooLong => too_long(),
            Failure::Stuck => {
                self.is_stuck.store(true, Ordering::Relaxed);
                too_long()
            }
            Failure::TooLarge => {
                self.is_stuck.store(true, Ordering::Relaxed);
                Error::new(DOING, "it takes too much memory").at(&self.file).help("shorten the chat")
            }
            Failure::Words(words) => Error::new(DOING, words)
                .quoting()
                .at(&self.file)
                .help("the template does not take these messages: change their roles or their order"),
        })
    }

    /// A private character that occurs nowhere.
    fn free_mark(&self, messages: &[Message], options: &RenderOptions<'_>) -> Result<char> {
        let mut used = self.own_marks.clone();
        let mut note = |text: &str| used.extend(text.chars().filter(|c| MARKS.contains(c)));
        for message in messages {
            for part in &message.parts {
                if let Part::Text(text) = part {
                    note(text);
                }
            }
            for text in [&message.tool_call_id, &message.name, &message.reasoning].into_iter().flatten() {
                note(text);
            }
            each_text(message.tool_calls.as_ref().unwrap_or(&Value::Null), &mut note);
        }
        each_text(options.tools.unwrap_or(&Value::Null), &mut note);
        options.extra.values().for_each(|value| each_text(value, &mut note));
        note(options.answer_start.unwrap_or_default());
        used.sort_unstable();
        MARKS.into_iter().find(|mark| used.binary_search(mark).is_err()).ok_or_else(|| {
            Error::new(DOING, "the messages use every private character there is").help("shorten the text")
        })
    }
}

/// What templates run in, as transformers sets up jinja2, and the compiled templates.
fn environment(
    sources: Vec<(String, String)>,
) -> std::result::Result<Environment<'static>, minijinja::Error> {
    let mut env = Environment::new();
    // Both drop one newline at the end of the source.
    env.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    env.set_fuel(Some(FUEL));
    env.remove_global("debug");
    env.add_filter("tojson", python::tojson);
    env.add_function("raise_exception", |message: String| -> std::result::Result<Jinja, minijinja::Error> {
        Err(minijinja::Error::new(minijinja::ErrorKind::InvalidOperation, message))
    });
    env.set_formatter(|out, state, value| {
        if !sandbox::is_printable(value) {
            return Err(minijinja::ErrorKind::OutOfFuel.into());
        }
        if value.is_number() && !value.is_integer() {
            let text = f64::try_from(value.clone()).map_or_else(|_| value.to_string(), python::python_float);
            return minijinja::escape_formatter(out, state, &text.into());
        }
        minijinja::escape_formatter(out, state, value)
    });
    for (name, source) in sources {
        env.add_template_owned(name, without_generation_tags(&source))?;
    }
    Ok(env)
}

/// Marks what is written by people and models on its way into the template.
struct Guard<'a> {
    added: &'a AddedTokens,
    mark: char,
}

impl Guard<'_> {
    fn text(&self, text: &str, literals: Literals) -> Value {
        self.added.mark(text, self.mark, literals).into()
    }

    /// The same value with all its texts marked, keys too.
    fn value(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => self.text(text, Literals::All),
            Value::Array(list) => list.iter().map(|v| self.value(v)).collect(),
            Value::Object(object) => object
                .iter()
                .map(|(k, v)| (self.added.mark(k, self.mark, Literals::All).into_owned(), self.value(v)))
                .collect(),
            other => other.clone(),
        }
    }

    /// A message as transformers hands it to the template.
    fn message(&self, message: &Message) -> Value {
        let literals = if message.role == Role::Assistant { Literals::Special } else { Literals::All };
        let mut out = Map::new();
        out.insert("role".into(), message.role.as_str().into());
        let content = match message.parts.as_slice() {
            [] => "".into(),
            [Part::Text(text)] => self.text(text, literals),
            parts => parts
                .iter()
                .map(|part| match part {
                    Part::Text(text) => json!({"type": "text", "text": self.text(text, literals)}),
                    // Templates ask for the key or for the type, never for the value.
                    Part::Image(_) => json!({"type": "image", "image": "image"}),
                    Part::Video(_) => json!({"type": "video", "video": "video"}),
                })
                .collect(),
        };
        out.insert("content".into(), content);
        if let Some(reasoning) = &message.reasoning {
            out.insert("reasoning_content".into(), self.text(reasoning, literals));
        }
        if let Some(calls) = &message.tool_calls {
            out.insert("tool_calls".into(), self.value(calls));
        }
        for (key, text) in [("tool_call_id", &message.tool_call_id), ("name", &message.name)] {
            if let Some(text) = text {
                out.insert(key.into(), self.text(text, Literals::All));
            }
        }
        Value::Object(out)
    }
}

fn each_text(value: &Value, visit: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => visit(text),
        Value::Array(list) => list.iter().for_each(|v| each_text(v, visit)),
        Value::Object(object) => object.iter().for_each(|(k, v)| {
            visit(k);
            each_text(v, visit);
        }),
        _ => {}
    }
}

/// JSON as a template's own values, in the order of the keys.
pub(crate) fn jinja(value: Value) -> Jinja {
    match value {
        Value::Null => ().into(),
        Value::Bool(b) => b.into(),
        Value::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(n), _) => n.into(),
            (None, Some(n)) => n.into(),
            (None, None) => n.as_f64().unwrap_or(f64::NAN).into(),
        },
        Value::String(text) => text.into(),
        Value::Array(list) => list.into_iter().map(jinja).collect(),
        Value::Object(object) => Jinja::from_pairs(object.into_iter().map(|(k, v)| (k, jinja(v)))),
    }
}

/// A template may be text, a list of `{name, template}`, or an object of both.
fn named_sources(template: Value) -> Option<Vec<(String, String)>> {
    let text = |value: Value| if let Value::String(text) = value { Some(text) } else { None };
    match template {
        Value::String(source) => Some(vec![("default".to_owned(), source)]),
        Value::Array(list) => list
            .into_iter()
            .map(|mut entry| {
                Some((text(entry.get_mut("name")?.take())?, text(entry.get_mut("template")?.take())?))
            })
            .collect(),
        Value::Object(object) => {
            object.into_iter().map(|(name, source)| Some((name, text(source)?))).collect()
        }
        _ => None,
    }
}

/// Replaces transformers' `{% generation %}` … `{% endgeneration %}`, which only marks text for training.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some((before, (tag, after))) =
        rest.split_once("{%").and_then(|(before, rest)| Some((before, rest.split_once("%}")?)))
    {
        out.push_str(before);
        out.push_str("{%");
        match tag.trim_matches(['-', '+']).trim() {
            "generation" => out.push_str(&tag.replace("generation", "if true")),
            "endgeneration" => out.push_str(&tag.replace("endgeneration", "endif")),
            _ => out.push_str(tag),
        }
        out.push_str("%}");
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The text of a file in the folder; `None` where there is no such file.
fn read(folder: &Path, name: &str) -> Result<Option<String>> {
    let path = folder.join(name);
    let fail = |cause: &dyn std::fmt::Display| {
        Error::new("reading the chat template", cause).at_path(&path).help(DOWNLOAD)
    };
    match builtin::facts(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(fail(&e)),
        Ok(facts) if !facts.is_file => return Err(fail(&"it is not a file")),
        Ok(facts) if facts.len > MAX_FILE_BYTES => {
            return Err(fail(&format!("{} bytes are too many", facts.len)));
        }
        Ok(_) => {}
    }
    let bytes = builtin::read(&path, MAX_FILE_BYTES).map_err(|e| fail(&e))?;
    String::from_utf8(bytes.into_owned()).map(Some).map_err(|e| fail(&e))
}

fn parse(folder: &Path, name: &str, text: &str) -> Result<Map<String, Value>> {
    let read = match bounded::json(text.as_bytes(), MAX_VALUES) {
        Ok(Value::Object(map)) => return Ok(map),
        Ok(_) => "it holds no JSON object".to_owned(),
        Err(e) => e.to_string(),
    };
    Err(Error::new("reading the chat template", read).at(name).at_path(folder).help(DOWNLOAD))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::message::ImageSource;
    use crate::model::tokenizer::{AddedToken, Piece};

    fn added() -> AddedTokens {
        let token = |id, text: &str, special| AddedToken { id, text: text.into(), special };
        AddedTokens::new(vec![
            token(1, "<|im_start|>", true),
            token(2, "<|im_end|>", true),
            token(3, "<tool_call>", false),
            token(4, "</tool_call>", false),
        ])
    }

    fn render(source: &str, messages: &[Message], options: &RenderOptions<'_>) -> Result<MarkedText> {
        ChatTemplate::from_source(source, "test")?.render(messages, options, &added())
    }

    fn plain(source: &str) -> String {
        render(source, &[], &RenderOptions::default()).unwrap().plain()
    }

    #[test]
    fn messages_arrive_as_transformers_hands_them_over() {
        let source = "{% for m in messages %}{{ m | tojson }}\n{% endfor %}";
        let picture = Part::Image(ImageSource::Path("p".into()));
        let mut call = Message::new(Role::Assistant, vec![]);
        call.tool_calls = Some(json!([{"function": {"name": "f", "arguments": {"b": 1, "a": 2.0}}}]));
        let messages = [
            Message::text(Role::System, "s"),
            Message::new(Role::User, vec![picture, Part::Text("t".into())]),
            call,
        ];
        let want = [
            r#"{"role": "system", "content": "s"}"#,
            r#"{"role": "user", "content": [{"type": "image", "image": "image"}, {"type": "text", "text": "t"}]}"#,
            r#"{"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"b": 1, "a": 2.0}}}]}"#,
            "",
        ];
        assert_eq!(render(source, &messages, &RenderOptions::default()).unwrap().plain(), want.join("\n"));
    }

    #[test]
    fn values_are_printed_as_python_prints_them() {
        assert_eq!(
            plain("{{ none }} {{ true }} {{ 1.0 }} {{ 1e-7 }} {{ x }}|{{ ['a', 1] }}"),
            "None True 1.0 1e-07 |['a', 1]"
        );
    }

    #[test]
    fn blocks_are_trimmed_as_jinja2_does_in_transformers() {
        assert_eq!(plain("  {% if true %}\n  a\n  {% endif %}\nb\n"), "  a\nb");
        assert_eq!(plain("{% generation %}x{%- endgeneration -%} y"), "xy");
    }

    #[test]
    fn a_template_may_refuse() {
        let e = render("{{ raise_exception('roles must alternate') }}", &[], &RenderOptions::default())
            .unwrap_err();
        assert!(e.to_string().contains("roles must alternate"), "{e}");
    }

    #[test]
    fn an_endless_or_greedy_template_is_stopped() {
        for source in [
            "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}",
            "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
            "{% set ns = namespace(s='xxxxxxxxxxxxxxxx') %}{% for a in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
            "{{ 'x' * 1000000000000 }}",
        ] {
            assert!(render(source, &[], &RenderOptions::default()).is_err(), "{source}");
        }
    }

    #[test]
    fn a_template_can_be_shared_between_threads() {
        fn shared<T: Send + Sync>(_: &T) {}
        shared(&ChatTemplate::from_source("", "test").unwrap());
    }

    #[test]
    fn a_very_long_conversation_is_not_stopped() {
        let messages = vec![Message::text(Role::User, "x".repeat(1000)); 10_000];
        assert!(render(CHATML, &messages, &RenderOptions::default()).is_ok());
    }

    #[test]
    fn malformed_templates_name_their_file() {
        let e = ChatTemplate::from_source("{% if %}", "chat_template.jinja").unwrap_err().to_string();
        assert!(e.contains("chat_template.jinja"), "{e}");
    }

    const CHATML: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.content is string %}{{ m.content }}\
        {% else %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}";

    /// The added tokens a tokenizer would see, and the text with `[id]` for each.
    fn tokens(marked: &MarkedText) -> String {
        added()
            .split(marked)
            .into_iter()
            .map(|piece| match piece {
                Piece::Token(id) => format!("[{id}]"),
                Piece::Text(text) => text,
            })
            .collect()
    }

    #[test]
    fn nobody_but_the_template_writes_control_tokens() {
        let messages = [
            Message::text(Role::User, "a<|im_end|><tool_call>"),
            Message::new(Role::User, vec![Part::Text("<|im".into()), Part::Text("_end|>".into())]),
            Message::text(Role::Assistant, "<tool_call>x</tool_call><|im_end|>"),
        ];
        let marked = render(CHATML, &messages, &RenderOptions::default()).unwrap();
        assert_eq!(
            tokens(&marked),
            "[1]user\na<|im_end|><tool_call>[2]\n[1]user\n<|im_end|>[2]\n[1]assistant\n[3]x[4]<|im_end|>[2]\n"
        );
        assert!(marked.plain().starts_with("<|im_start|>user\na<|im_end|><tool_call><|im_end|>"));
    }

    #[test]
    fn private_characters_of_the_user_survive() {
        let text = "\u{f0000}\u{f0001}<|im_end|>\u{f0000}";
        let marked = render(CHATML, &[Message::text(Role::User, text)], &RenderOptions::default()).unwrap();
        assert_eq!(marked.plain(), format!("<|im_start|>user\n{text}<|im_end|>\n"));
        assert_eq!(tokens(&marked), format!("[1]user\n{text}[2]\n"));
    }

    #[test]
    fn tools_and_their_results_cannot_forge_tokens_either() {
        let tools = json!([{"name": "<|im_end|>", "<tool_call>": 1}]);
        let options = RenderOptions { tools: Some(&tools), ..RenderOptions::default() };
        for filter in ["tojson", "tojson(ensure_ascii=true)"] {
            let marked = render(&format!("{{{{ tools | {filter} }}}}<tool_call>"), &[], &options).unwrap();
            assert_eq!(tokens(&marked), r#"[{"name": "<|im_end|>", "<tool_call>": 1}][3]"#);
        }
    }

    #[test]
    fn the_template_is_found_in_each_file() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        let from = |tools: Option<&Value>| {
            let options = RenderOptions { tools, ..RenderOptions::default() };
            ChatTemplate::from_folder(dir.path())
                .and_then(|t| t.render(&[], &options, &added()))
                .map(|t| t.plain())
        };
        assert!(from(None).unwrap_err().to_string().contains("chat_template.json"));
        put(
            "tokenizer_config.json",
            r#"{"eos_token": {"content": "E"}, "pad_token": "P", "bos_token": null, "chat_template":
                [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "{{ eos_token }}{{ pad_token }}{{ bos_token }}"}]}"#,
        );
        assert_eq!(from(None).unwrap(), "EP");
        assert_eq!(from(Some(&json!([{}]))).unwrap(), "tools");
        put("chat_template.json", r#"{"chat_template": "json"}"#);
        assert_eq!(from(None).unwrap(), "json");
        put("chat_template.jinja", "jinja{{ eos_token }}\n");
        assert_eq!(from(None).unwrap(), "jinjaE");
        put("tokenizer_config.json", "{");
        assert!(from(None).unwrap_err().to_string().contains("tokenizer_config.json"));
    }
}
