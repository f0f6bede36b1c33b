use std::fs;

use serde_json::{Value, json};

use super::*;
use crate::chat::history::{NewAttachment, NewMessage};
use crate::chat::message::Role;
use crate::chat::tree::{AttachmentKind, MessageId, MessageState};

fn says(text: &str) -> NewMessage<'_> {
    NewMessage {
        parent: None,
        role: Role::User,
        text,
        attachments: &[],
        state: MessageState::Complete,
        details: Value::Null,
    }
}

fn picture<'a>(name: &'a str, bytes: &'a [u8]) -> NewAttachment<'a> {
    NewAttachment { kind: AttachmentKind::Image, name, bytes }
}

/// A question with two pictures, two answers, the first of which is shown.
fn example(history: &mut History) -> ConversationId {
    let id = history.create(&json!({"system_prompt": "Be brief.\nAlways.", "n": 1.5})).unwrap();
    history.set_title(id, "About *a* cat", true).unwrap();
    let files =
        [picture("../cat.png", b"one"), picture("cat", b"\x89PNG\r\n\x1a\n"), picture("again.gif", b"one")];
    let question = history.add(id, &NewMessage { attachments: &files, ..says("What — 猫?\u{0}\n") }).unwrap();
    let answer = |text, state, details| NewMessage {
        parent: Some(question.id),
        role: Role::Assistant,
        state,
        details,
        ..says(text)
    };
    let first = answer("A cat.", MessageState::Stopped, json!({"model": "Qwen3-VL 2B", "seed": u64::MAX}));
    let first = history.add(id, &first).unwrap();
    history.add(id, &answer("No.", MessageState::Failed, json!({"error": "the *device*"}))).unwrap();
    history.choose(id, &[question.id, first.id]).unwrap();
    id
}

#[test]
fn what_is_exported_comes_back_with_nothing_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("a.json"), folder.path().join("b.json"));
    let mut history = History::in_memory().unwrap();
    example(&mut history);
    let other = history.create(&json!({})).unwrap();
    history.set_pinned(other, true).unwrap();
    history.set_folder(other, "work").unwrap();
    assert_eq!(export(&history, None, Format::Json, &first).unwrap(), 2);
    let mut copy = History::in_memory().unwrap();
    copy.create(&json!({})).unwrap();
    let ids = import(&mut copy, &first).unwrap();
    assert_eq!(export(&copy, Some(&ids), Format::Json, &second).unwrap(), 2);
    assert_eq!(fs::read_to_string(&first).unwrap(), fs::read_to_string(&second).unwrap());
    let tree = copy.tree(ids[1]).unwrap();
    assert_eq!(tree.path().len(), 2);
    assert_eq!(tree.get(tree.path()[1]).unwrap().text, "A cat.");
    assert_eq!(copy.file(&tree.get(tree.path()[0]).unwrap().attachments[2]).unwrap(), b"one");
    assert_eq!(copy.search("cat", 9).unwrap().len(), 1);
    // Only what was meant lies there.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    let error = export(&copy, Some(&[ConversationId(99)]), Format::Json, &second).unwrap_err().to_string();
    assert!(error.contains("conversation 99"), "{error}");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(40))]
    #[test]
    fn any_tree_comes_back(
        parents in proptest::collection::vec((0_usize..12, "\\PC{0,12}", 0_usize..4), 0..20),
        chosen in 0_usize..20,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut history = History::in_memory().unwrap();
        let id = history.create(&json!({"a": [1, {"b": null}]})).unwrap();
        let mut ids: Vec<MessageId> = Vec::new();
        for (parent, text, state) in &parents {
            let bytes = text.as_bytes();
            let files = [picture(text, bytes)];
            let parent = parent.checked_sub(1).and_then(|i| ids.get(i)).copied();
            let state = [MessageState::Complete, MessageState::Stopped, MessageState::Failed][state % 3];
            let message = NewMessage { parent, attachments: &files[..bytes.len() % 2], state, ..says(text) };
            ids.push(history.add(id, &message).unwrap().id);
        }
        if let Some(chosen) = ids.get(chosen) {
            history.choose(id, &history.tree(id).unwrap().path_to(*chosen)).unwrap();
        }
        let (first, second) = (folder.path().join("a"), folder.path().join("b"));
        export(&history, None, Format::Json, &first).unwrap();
        let mut copy = History::in_memory().unwrap();
        import(&mut copy, &first).unwrap();
        export(&copy, None, Format::Json, &second).unwrap();
        proptest::prop_assert_eq!(fs::read_to_string(first).unwrap(), fs::read_to_string(second).unwrap());
    }
}

/// Imports a text; gives the error, and sees that nothing stayed.
fn refused(text: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in.json");
    fs::write(&path, text).unwrap();
    let mut history = History::in_memory().unwrap();
    let error = import(&mut history, &path).unwrap_err().to_string();
    assert!(history.conversations().unwrap().is_empty());
    assert!(error.contains("in.json"), "{error}");
    error
}

#[test]
fn what_cannot_be_is_refused_and_named() {
    let file = |conversation: &str| {
        format!(
            r#"{{"format": "ocelli-conversations", "version": 1, "conversations": [{{"messages": []}}, {conversation}], "files": {{}}}}"#
        )
    };
    let message =
        |rest: &str| file(&format!(r#"{{"messages": [{{"id": 1, "role": "user", "text": ""}}, {rest}]}}"#));
    for (text, part) in [
        (String::new(), "ends in the middle"),
        ("{}".to_owned(), "ocelli-conversations"),
        (r#"{"format": "other", "version": 1}"#.to_owned(), "ocelli-conversations"),
        (r#"{"format": "ocelli-conversations", "version": 2}"#.to_owned(), "newer Ocelli"),
        (r#"{"format": "ocelli-conversations", "version": "1"}"#.to_owned(), "version"),
        (r#"{"format": "ocelli-conversations", "version": 1}"#.to_owned(), "`conversations`"),
        (file("7"), "conversation 2"),
        (file("{}"), "messages"),
        (file(r#"{"messages": [], "pinned": 3}"#), "`pinned`"),
        (file(r#"{"messages": [], "created_ms": -3}"#), "`created_ms`"),
        (file(r#"{"messages": [], "created_ms": 1e300}"#), "`created_ms`"),
        (file(r#"{"messages": [], "settings": []}"#), "`settings`"),
        (file(r#"{"messages": [], "chosen_beginning": 3}"#), "chosen_beginning 3"),
        (file("{\"messages\": []}") + "x", "trailing"),
        (message(r#"{"role": "user", "text": ""}"#), "message 2 in conversation 2"),
        (message(r#"{"id": 2, "role": "robot", "text": ""}"#), "\"robot\" is no role"),
        (message(r#"{"id": 2, "role": "user", "text": "", "state": "odd"}"#), "\"odd\" is no state"),
        (message(r#"{"id": 1, "role": "user", "text": ""}"#), "id 1 is that of message 1"),
        (message(r#"{"id": 2, "role": "user", "text": "", "parent": 9}"#), "parent 9"),
        (message(r#"{"id": 2, "role": "user", "text": "", "chosen": 9}"#), "chosen 9"),
        (message(r#"{"id": 2, "role": "user", "text": "", "parent": 2}"#), "circle"),
        (
            message(
                r#"{"id": 2, "role": "user", "text": "", "parent": 3}, {"id": 3, "role": "user", "text": "", "parent": 2}"#,
            ),
            "circle",
        ),
        (message(r#"{"id": 2, "role": "user", "text": 5}"#), "`text`"),
        (
            message(
                r#"{"id": 2, "role": "user", "text": "", "attachments": [{"kind": "image", "sha256": "12"}]}"#,
            ),
            "sha256",
        ),
        (
            message(&format!(
                r#"{{"id": 2, "role": "user", "text": "", "attachments": [{{"kind": "image", "sha256": "{}"}}]}}"#,
                "ab".repeat(32)
            )),
            "is not in `files`",
        ),
        (file("{\"messages\": []}").replace("{}}", "{\"12\": \"\"}}"), "no SHA-256"),
        (
            file("{\"messages\": []}").replace("{}}", &format!("{{\"{}\": \"AAAA\"}}}}", "ab".repeat(32))),
            "do not have",
        ),
        (
            file("{\"messages\": []}").replace("{}}", &format!("{{\"{}\": \"?\"}}}}", "ab".repeat(32))),
            "not base64",
        ),
        ("[{\"role\": \"user\"}]".to_owned(), "content"),
        (
            "[{\"role\": \"user\", \"content\": [{\"type\": \"image\", \"image\": \"gone.png\"}]}]"
                .to_owned(),
            "gone.png",
        ),
    ] {
        let error = refused(text.as_bytes());
        assert!(error.contains(part), "{text}: {error}");
    }
    let mut broken = file("{\"messages\": [], \"title\": \"x\"}").into_bytes();
    let at = broken.windows(3).position(|w| w == b"\"x\"").unwrap() + 1;
    broken[at] = 0xff;
    assert!(refused(&broken).contains("UTF-8"));
    assert!(import(&mut History::in_memory().unwrap(), Path::new("/")).is_err());
}

#[test]
fn a_file_cut_short_anywhere_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.json");
    let mut history = History::in_memory().unwrap();
    example(&mut history);
    export(&history, None, Format::Json, &path).unwrap();
    let whole = fs::read(&path).unwrap();
    let mut empty = History::in_memory().unwrap();
    for end in (0..whole.len() - 2).step_by(37) {
        fs::write(&path, &whole[..end]).unwrap();
        import(&mut empty, &path).unwrap_err();
    }
    assert!(empty.conversations().unwrap().is_empty());
    assert!(empty.search("cat", 9).unwrap().is_empty());
}

#[test]
fn messages_may_come_in_any_order_and_files_first() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.json");
    let text = r#"{"files": {}, "conversations": [{"messages": [
        {"id": 30, "parent": 10, "role": "assistant", "text": "b", "state": "streaming"},
        {"id": 10, "role": "user", "text": "a"}]}], "version": 1, "format": "ocelli-conversations", "more": [1]}"#;
    fs::write(&path, text).unwrap();
    let mut history = History::in_memory().unwrap();
    let ids = import(&mut history, &path).unwrap();
    let tree = history.tree(ids[0]).unwrap();
    let shown: Vec<_> = tree.path().iter().map(|id| tree.get(*id).unwrap().clone()).collect();
    assert_eq!((shown[0].text.as_str(), shown[1].text.as_str()), ("a", "b"));
    assert_eq!(shown[1].state, MessageState::Stopped);
}

#[test]
fn a_list_of_messages_becomes_a_conversation() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("cat.png"), b"bytes").unwrap();
    let list = r#"[{"role": "system", "content": "Be brief."}, {"role": "user", "content": [
        {"type": "image", "image": "cat.png"}, {"type": "text", "text": "What?"}]},
        {"role": "assistant", "content": "A cat."}]"#;
    for (name, text) in [("talk.json", list.to_owned()), ("talk2.json", format!("{{\"messages\": {list}}}"))]
    {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        let mut history = History::in_memory().unwrap();
        let ids = import(&mut history, &path).unwrap();
        let tree = history.tree(ids[0]).unwrap();
        let path = tree.path();
        let question = tree.get(path[0]).unwrap();
        assert_eq!((path.len(), question.text.as_str()), (2, "What?"));
        assert_eq!(question.attachments[0].name, "cat.png");
        assert_eq!(history.file(&question.attachments[0]).unwrap(), b"bytes");
        assert_eq!(history.settings(ids[0]).unwrap(), json!({"system_prompt": "Be brief."}));
        assert!(history.conversations().unwrap()[0].title.starts_with("talk"));
    }
}

#[test]
fn markdown_holds_what_is_shown_and_its_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("my talk.md");
    fs::create_dir(folder.path().join("my talk-pictures")).unwrap();
    let mut history = History::in_memory().unwrap();
    example(&mut history);
    assert_eq!(export(&history, None, Format::Markdown, &path).unwrap(), 1);
    let text = fs::read_to_string(&path).unwrap();
    let expected = "# About *a* cat\n\n> Be brief.\n> Always.\n\n## You\n\n\
        ![../cat.png](my%20talk-pictures-2/01-cat.png)\n\n![cat](my%20talk-pictures-2/02-cat.png)\n\n\
        ![again.gif](my%20talk-pictures-2/01-cat.png)\n\nWhat — 猫?\u{0}\n\n## Qwen3-VL 2B\n\nA cat.\n\n*(stopped here)*\n\n";
    assert_eq!(text, expected);
    let pictures = folder.path().join("my talk-pictures-2");
    assert_eq!(fs::read(pictures.join("01-cat.png")).unwrap(), b"one");
    assert_eq!(fs::read_dir(pictures).unwrap().count(), 2);
    assert_eq!(fs::read_dir(folder.path().join("my talk-pictures")).unwrap().count(), 0);
}
