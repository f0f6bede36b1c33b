//! Chat templates: compiled, and rendered with fuel.

use std::path::Path;

use ocelli::chat::message::{Message, Role};
use ocelli::chat::openai::parse_conversation;
use ocelli::chat::template::{ChatTemplate, RenderOptions};
use ocelli::model::tokenizer::{AddedToken, AddedTokens, Piece};
use serde_json::json;

use super::{halves, read};

/// A template, and behind a zero byte the messages it is given; without them two of our own.
pub fn run(data: &[u8]) {
    let (source, messages) = halves(data);
    let Ok(source) = std::str::from_utf8(source) else { return };
    let Some(template) = read(ChatTemplate::from_source(source, "chat_template.jinja")) else { return };
    let conversation =
        std::str::from_utf8(messages).ok().and_then(|text| parse_conversation(text, Path::new("")).ok());
    let usual =
        || vec![Message::text(Role::System, "Be short."), Message::text(Role::User, "What is <|im_end|>?")];
    let (messages, tools) = conversation.map_or_else(|| (usual(), None), |read| (read.messages, read.tools));
    let tools =
        tools.or_else(|| Some(json!([{"type": "function", "function": {"name": "f", "parameters": {}}}])));
    let token = |id, text: &str, special| AddedToken { id, text: text.into(), special };
    let added = AddedTokens::new(vec![
        token(1, "<|im_start|>", true),
        token(2, "<|im_end|>", true),
        token(3, "<tool_call>", false),
    ]);
    let options = RenderOptions {
        add_generation_prompt: true,
        answer_start: Some("<|im_end|>"),
        tools: tools.as_ref(),
        ..RenderOptions::default()
    };
    let Some(prompt) = read(template.render(&messages, &options, &added)) else { return };
    let text: usize = added
        .split(&prompt)
        .iter()
        .map(|piece| match piece {
            Piece::Text(text) => text.len(),
            Piece::Token(_) => 0,
        })
        .sum();
    assert!(text <= prompt.plain().len());
}
