//! Databases with programs in them, and damaged ones with numbers that have no end.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ocelli::chat::history::{History, NewMessage, Opened};
use ocelli::chat::message::Role;
use ocelli::chat::tree::MessageState;
use rusqlite::Connection;
use serde_json::Value;

/// A history with a conversation of two messages.
fn sound(folder: &Path) -> PathBuf {
    let path = folder.join("history.db");
    let mut history = History::open(&path).unwrap().history;
    let conversation = history.create(&Value::Null).unwrap();
    let mut parent = None;
    for (role, text) in [(Role::User, "Where is the cat?"), (Role::Assistant, "On the mat.")] {
        let message = NewMessage {
            parent,
            role,
            text,
            attachments: &[],
            state: MessageState::Complete,
            details: Value::Null,
        };
        parent = Some(history.add(conversation, &message).unwrap().id);
    }
    history.keep_costs(parent.unwrap(), b"costs", false).unwrap();
    path
}

/// Opens it after somebody has run this in it; in no time, whatever that was.
fn opened_after(sql: &str) -> Opened {
    let folder = tempfile::tempdir().unwrap();
    let path = sound(folder.path());
    Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    let began = Instant::now();
    let opened = History::open(&path).unwrap();
    let list = opened.history.conversations().unwrap();
    opened.history.search("cat", 10).unwrap();
    for conversation in &list {
        opened.history.tree(conversation.id).unwrap();
    }
    assert!(began.elapsed() < Duration::from_secs(20), "{sql}: {:?}", began.elapsed());
    opened
}

#[test]
fn what_is_added_to_a_database_is_not_run_and_messages_are_kept() {
    for (what, sql) in [
        ("a trigger", "CREATE TRIGGER x AFTER UPDATE ON conversations BEGIN DELETE FROM messages; END;"),
        (
            "a trigger on messages",
            "CREATE TRIGGER y AFTER INSERT ON messages BEGIN UPDATE messages SET text = 'ha'; END;",
        ),
        (
            "a view",
            "CREATE VIEW v AS WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c;",
        ),
        ("an index", "CREATE INDEX i ON messages (length(text));"),
        ("a table", "CREATE TABLE t (a, b AS (zeroblob(1000000000)));"),
        ("numbers without end", "UPDATE sqlite_sequence SET seq = 9223372036854775807; CREATE TABLE t (a);"),
    ] {
        let opened = opened_after(sql);
        let damage = opened.damage.unwrap_or_else(|| panic!("{what}"));
        assert!(
            damage.why.contains("not those that Ocelli makes") && damage.saved == 2,
            "{what}: {damage:?}"
        );
        let list = opened.history.conversations().unwrap();
        let tree = opened.history.tree(list[0].id).unwrap();
        assert_eq!(tree.path().len(), 2, "{what}");
        let last = *tree.path().last().unwrap();
        assert_eq!(opened.history.costs(last).unwrap().as_deref(), Some(b"costs".as_slice()));
        assert_eq!(tree.get(last).unwrap().text, "On the mat.", "{what}");
    }
}

#[test]
fn a_table_that_is_another_thing_now_is_not_read() {
    let endless = "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)";
    let opened = opened_after(&format!(
        "PRAGMA foreign_keys = OFF; DROP TABLE messages;
        CREATE VIEW messages AS {endless} SELECT x AS id, x AS conversation, NULL AS parent, 'user' AS role, 'x' AS text,
            'complete' AS state, 'null' AS details, NULL AS chosen, 1 AS created_ms, NULL AS deleted_ms FROM c;"
    ));
    assert_eq!(opened.damage.unwrap().saved, 0);
    assert_eq!(opened.history.conversations().unwrap().len(), 1);
}

#[test]
fn a_database_that_sqlite_has_looked_over_is_as_sound_as_before() {
    assert_eq!(opened_after("ANALYZE").damage, None);
}

#[test]
fn a_database_of_an_older_sqlite_is_sound() {
    // Made by SQLite 3.40 for fuzzing.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.db");
    let seed = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/history.db");
    std::fs::copy(seed, &path).unwrap();
    let opened = History::open(&path).unwrap();
    assert_eq!((opened.damage, opened.history.conversations().unwrap().len()), (None, 2));
}
