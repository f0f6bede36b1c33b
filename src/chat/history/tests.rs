use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::json;

use super::*;

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

fn open(path: &Path) -> History {
    let opened = History::open(path).unwrap();
    assert!(opened.damage.is_none());
    opened.history
}

#[test]
fn a_conversation_comes_back_as_it_was_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/history.sqlite");
    let mut history = open(&path);
    let id = history.create(&json!({"system": "Be brief."})).unwrap();
    let picture =
        NewAttachment { kind: AttachmentKind::Image, name: "cat.png", bytes: b"not really a picture" };
    let question =
        history.add(id, &NewMessage { attachments: &[picture, picture], ..says("What is it?") }).unwrap();
    let details = json!({"seed": 7, "figures": {"ttft_ms": 12.5}});
    let answer = NewMessage {
        parent: Some(question.id),
        role: Role::Assistant,
        state: MessageState::Streaming,
        ..says("A c")
    };
    let answer = history.add(id, &answer).unwrap();
    history.update(answer.id, "A cat — 猫 🐈.", MessageState::Complete, &details).unwrap();
    let other = history
        .add(id, &NewMessage { parent: Some(question.id), role: Role::Assistant, ..says("No.") })
        .unwrap();
    history.choose(id, &[question.id, answer.id]).unwrap();
    history.set_title(id, "About a cat", false).unwrap();
    drop(history);

    let history = open(&path);
    let tree = history.tree(id).unwrap();
    assert_eq!(tree.path(), [question.id, answer.id]);
    let read = tree.get(answer.id).unwrap();
    assert_eq!(
        (read.text.as_str(), read.state, &read.details),
        ("A cat — 猫 🐈.", MessageState::Complete, &details)
    );
    assert_eq!(tree.siblings(other.id).unwrap().count, 2);
    let attachments = &tree.get(question.id).unwrap().attachments;
    assert_eq!(attachments, &question.attachments);
    assert_eq!(history.file(&attachments[1]).unwrap(), b"not really a picture");
    let list = history.conversations().unwrap();
    assert_eq!((list[0].title.as_str(), list[0].messages), ("About a cat", 3));
    assert_eq!(list[0].settings, json!({"system": "Be brief."}));
}

#[test]
fn an_automatic_title_never_replaces_a_typed_one() {
    let mut history = History::in_memory().unwrap();
    let id = history.create(&json!({})).unwrap();
    history.set_title(id, "automatic", false).unwrap();
    history.set_title(id, "mine", true).unwrap();
    history.set_title(id, "automatic again", false).unwrap();
    assert_eq!(history.conversations().unwrap()[0].title, "mine");
}

#[test]
fn pinned_conversations_come_first_and_then_the_ones_changed_last() {
    let mut history = History::in_memory().unwrap();
    let ids: Vec<_> = (0..3).map(|_| history.create(&json!({})).unwrap()).collect();
    history.add(ids[1], &says("now")).unwrap();
    history.connection.execute("UPDATE conversations SET changed_ms = id", []).unwrap();
    history.set_pinned(ids[0], true).unwrap();
    history.set_folder(ids[2], "work").unwrap();
    let list = history.conversations().unwrap();
    assert_eq!(list.iter().map(|c| c.id).collect::<Vec<_>>(), [ids[0], ids[2], ids[1]]);
    assert_eq!(list[1].folder, "work");
}

#[test]
fn what_is_deleted_can_be_had_back_until_it_is_forgotten() {
    let mut history = History::in_memory().unwrap();
    let kept = history.create(&json!({})).unwrap();
    let gone = history.create(&json!({})).unwrap();
    let picture = |name| [NewAttachment { kind: AttachmentKind::Image, name, bytes: b"shared" }];
    let own = [NewAttachment { kind: AttachmentKind::Image, name: "own", bytes: b"own" }];
    let first =
        history.add(kept, &NewMessage { attachments: &picture("a"), ..says("the first zebra") }).unwrap();
    let second =
        history.add(gone, &NewMessage { attachments: &picture("b"), ..says("the second zebra") }).unwrap();
    let third = history.add(gone, &NewMessage { attachments: &own, ..says("the third zebra") }).unwrap();
    history.delete_messages(&[third.id]).unwrap();
    assert_eq!(history.tree(gone).unwrap().len(), 1);
    history.restore_messages(&[third.id]).unwrap();
    assert_eq!(history.tree(gone).unwrap().len(), 2);
    history.delete(gone).unwrap();
    assert_eq!(history.search("zebra", 9).unwrap().len(), 1);
    history.restore(gone).unwrap();
    assert_eq!(history.search("zebra", 9).unwrap().len(), 3);
    history.delete(gone).unwrap();
    history.forget_deleted(i64::MAX).unwrap();
    assert_eq!(history.conversations().unwrap().len(), 1);
    assert!(history.tree(gone).unwrap().is_empty());
    assert_eq!(history.file(&first.attachments[0]).unwrap(), b"shared");
    assert_eq!(history.file(&second.attachments[0]).unwrap(), b"shared");
    let error = history.file(&third.attachments[0]).unwrap_err().to_string();
    assert!(error.contains("own") && error.contains("add the picture again"), "{error}");
    assert_eq!(history.search("zebra", 9).unwrap().len(), 1);
}

/// Which of these the database's files have.
fn still_there<'a>(folder: &Path, marks: &[&'a str]) -> Vec<&'a str> {
    let files: Vec<Vec<u8>> =
        std::fs::read_dir(folder).unwrap().map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
    let has = |mark: &str| {
        files.iter().any(|bytes| bytes.windows(mark.len()).any(|window| window == mark.as_bytes()))
    };
    marks.iter().copied().filter(|mark| has(mark)).collect()
}

#[test]
fn what_is_forgotten_is_in_no_file_any_more() {
    // The last one only in the index over words, which has these three signs one after the other as they are.
    const GONE: [&str; 7] =
        ["MARKTITLE", "MARKPROMPT", "MARKTEXT", "MARKPICTURE", "MARKCOST", "MARKDETAIL", "龘靐齉"];
    const KEPT: [&str; 2] = ["STAYS", "龖龘龗"];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("h");
    let mut history = open(&path);
    let keep = history.create(&json!({})).unwrap();
    let gone = history.create(&json!({"system_prompt": "MARKPROMPT"})).unwrap();
    history.set_title(gone, "MARKTITLE", true).unwrap();
    let large = "MARKPICTURE".repeat(9000);
    for i in 0..40 {
        let details = json!({"about": format!("MARKDETAIL {i}")});
        let file = [NewAttachment { kind: AttachmentKind::Image, name: "p", bytes: large.as_bytes() }];
        let text = format!("{} MARKTEXT {i} 龘靐齉", "and so on ".repeat(i * 20));
        // Some in a conversation that is deleted, some deleted from one that stays.
        let conversation = if i % 2 == 0 { gone } else { keep };
        let message = NewMessage { details, attachments: &file, ..says("coming") };
        let entry = history.add(conversation, &message).unwrap();
        for end in [text.len() / 3, text.len()] {
            let part = &text[..text.floor_char_boundary(end)];
            history.update(entry.id, part, MessageState::Complete, &message.details).unwrap();
        }
        history.keep_costs(entry.id, &b"MARKCOST".repeat(200), false).unwrap();
        history.add(keep, &says(&format!("{} STAYS {i} 龖龘龗", "what else ".repeat(i)))).unwrap();
        if conversation == keep {
            history.delete_messages(&[entry.id]).unwrap();
        }
    }
    history.delete(gone).unwrap();
    assert_eq!(still_there(folder.path(), &GONE), GONE, "otherwise nothing is tested");
    assert!(history.forget_deleted(i64::MAX).unwrap());
    assert_eq!(still_there(folder.path(), &GONE), Vec::<&str>::new());
    assert_eq!(still_there(folder.path(), &KEPT), KEPT);
    assert_eq!(history.search("STAYS", 99).unwrap().len(), 40);
    assert!(history.search("MARKTEXT", 99).unwrap().is_empty());
    assert!(!history.forget_deleted(i64::MAX).unwrap(), "there is nothing more");

    // Somebody reads meanwhile: the log cannot be emptied, and is as soon as it can be.
    history.wait_at_most(Duration::from_millis(20)).unwrap();
    let entry = history.add(keep, &says("MARKTEXT again")).unwrap();
    let reader = Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM messages;").unwrap();
    history.delete_messages(&[entry.id]).unwrap();
    let error = history.forget_deleted(i64::MAX).unwrap_err().to_string();
    assert!(error.contains("another program is reading the file"), "{error}");
    drop(reader);
    assert!(!history.forget_deleted(i64::MAX).unwrap());
    assert_eq!(still_there(folder.path(), &GONE), Vec::<&str>::new());
    drop(history);
    assert_eq!(open(&path).tree(keep).unwrap().len(), 40);
}

#[test]
fn search_finds_parts_of_words_in_any_language_and_shows_them() {
    let mut history = History::in_memory().unwrap();
    let id = history.create(&json!({})).unwrap();
    let long = format!("{} A Kingfisher on a branch {}", "word ".repeat(200), "word ".repeat(200));
    for text in [long.as_str(), "これは猫です", "100% \"quoted\" a_b", "nothing of the kind"] {
        history.add(id, &says(text)).unwrap();
    }
    let found = |query: &str| -> Vec<String> {
        let hits = history.search(query, 10).unwrap();
        hits.into_iter()
            .map(|hit| hit.excerpt.into_iter().map(|(t, f)| if f { format!("[{t}]") } else { t }).collect())
            .collect()
    };
    let kingfisher = found("fish KING");
    assert_eq!(kingfisher.len(), 1);
    assert!(kingfisher[0].contains("[Kingfish]") && kingfisher[0].len() < 400, "{kingfisher:?}");
    assert_eq!(found("猫"), ["これは[猫]です"]);
    assert_eq!(found("0%").len(), 1);
    assert_eq!(found("a_b").len(), 1);
    assert_eq!(found("a_").len(), 1);
    assert_eq!(found("\"quoted\"").len(), 1);
    assert!(found("AND OR NOT *").is_empty());
    assert!(found("  ").is_empty());
    // Changed words are found, the old ones no more.
    let entry = history.tree(id).unwrap().entries().last().unwrap().clone();
    let mut history = history;
    history.update(entry.id, "a heron", MessageState::Complete, &Value::Null).unwrap();
    assert_eq!(history.search("heron", 10).unwrap().len(), 1);
    assert!(history.search("nothing", 10).unwrap().is_empty());
}

#[test]
fn what_was_coming_in_when_the_program_ended_is_kept_and_marked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("h");
    let mut history = open(&path);
    let id = history.create(&json!({})).unwrap();
    let entry =
        history.add(id, &NewMessage { state: MessageState::Streaming, ..says("half an ans") }).unwrap();
    drop(history);
    let tree = open(&path).tree(id).unwrap();
    let entry = tree.get(entry.id).unwrap();
    assert_eq!((entry.text.as_str(), entry.state), ("half an ans", MessageState::Stopped));
}

#[test]
fn a_database_of_a_newer_program_or_of_another_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("h");
    drop(open(&path));
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 999).unwrap();
    let before = std::fs::read(&path).unwrap();
    let error = History::open(&path).unwrap_err().to_string();
    assert!(
        error.contains("newer Ocelli (version 999") && error.contains(&path.display().to_string()),
        "{error}"
    );
    assert_eq!(std::fs::read(&path).unwrap(), before);

    let other = folder.path().join("other");
    let connection = Connection::open(&other).unwrap();
    connection.execute_batch("CREATE TABLE theirs (x); PRAGMA user_version = 1;").unwrap();
    drop(connection);
    let error = History::open(&other).unwrap_err().to_string();
    assert!(error.contains("another program"), "{error}");

    // Most programs leave the version at 0.
    let plain = folder.path().join("plain");
    Connection::open(&plain).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    let before = std::fs::read(&plain).unwrap();
    assert!(History::open(&plain).unwrap_err().to_string().contains("another program"));
    assert_eq!(std::fs::read(&plain).unwrap(), before);
}

#[test]
fn a_held_database_is_waited_for_and_then_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("h");
    let mut history = open(&path);
    let id = history.create(&json!({})).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    history.connection.busy_timeout(Duration::from_millis(50)).unwrap();
    let error = history.add(id, &says("lost?")).unwrap_err().to_string();
    assert!(error.contains("another program holds the file"), "{error}");
    other.execute_batch("ROLLBACK").unwrap();
    history.add(id, &says("not lost")).unwrap();
    assert_eq!(history.tree(id).unwrap().len(), 1);
}

#[test]
fn a_full_disk_is_named_and_takes_nothing_that_was_saved() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("h");
    let mut history = open(&path);
    let id = history.create(&json!({})).unwrap();
    history.add(id, &says("safe")).unwrap();
    let pages: i64 = history.connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    history.connection.pragma_update(None, "max_page_count", pages + 2).unwrap();
    let large = vec![7; 1 << 20];
    let file = [NewAttachment { kind: AttachmentKind::Image, name: "large", bytes: &large }];
    let error =
        history.add(id, &NewMessage { attachments: &file, ..says("too much") }).unwrap_err().to_string();
    assert!(error.contains("free some space"), "{error}");
    history.add(id, &says("small")).unwrap();
    drop(history);
    let tree = open(&path).tree(id).unwrap();
    assert_eq!(tree.entries().map(|entry| entry.text.as_str()).collect::<Vec<_>>(), ["safe", "small"]);
}

#[test]
fn a_damaged_database_is_set_aside_and_what_can_be_read_is_carried_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("h");
    let mut history = open(&path);
    let id = history.create(&json!({})).unwrap();
    for i in 0..400 {
        history.add(id, &says(&format!("message {i}: {}", "x".repeat(500)))).unwrap();
    }
    history.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(history);
    // Somebody writes over the page that holds one of the messages.
    let bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(12).position(|window| window == b"message 200:").unwrap() / 4096 * 4096;
    let mut file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.seek(SeekFrom::Start(at as u64)).unwrap();
    file.write_all(&[0xA5; 4096]).unwrap();
    drop(file);

    let opened = History::open(&path).unwrap();
    let damage = opened.damage.expect("the user is told");
    let tree = opened.history.tree(id).unwrap();
    // A page holds about seven of them.
    assert!((380..400).contains(&tree.len()), "{} of 400, {damage:?}", tree.len());
    assert_eq!(damage.saved, tree.len());
    let kept: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .filter_map(|e| e.ok()?.file_name().into_string().ok())
        .filter(|name| name.contains(".damaged-"))
        .collect();
    assert!(!kept.is_empty());
    drop(opened.history);
    assert_eq!(open(&path).tree(id).unwrap().len(), tree.len());
}

#[test]
fn a_file_that_is_no_database_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("h");
    std::fs::write(
        &path,
        "these are my notes, not a database, and there are more than a few of them\n".repeat(99),
    )
    .unwrap();
    let opened = History::open(&path).unwrap();
    assert_eq!(opened.damage.unwrap().saved, 0);
    assert!(opened.history.conversations().unwrap().is_empty());
}

/// Not a test of its own: the program that the next test kills. Adds messages and, for each, says its number once it
/// is kept.
#[test]
#[ignore = "is started and killed by the test below"]
fn writes_until_it_is_killed() {
    let Some(path) = std::env::var_os("OCELLI_TEST_HISTORY") else { return };
    let mut history = History::open(Path::new(&path)).unwrap().history;
    let id = match history.conversations().unwrap().first() {
        Some(conversation) => conversation.id,
        None => history.create(&json!({})).unwrap(),
    };
    let noise: Vec<u8> = (0..200_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut parent = history.tree(id).unwrap().path().last().copied();
    for _ in 0..1_000_000 {
        let file = [NewAttachment { kind: AttachmentKind::Image, name: "noise", bytes: &noise }];
        let message =
            NewMessage { parent, attachments: &file, state: MessageState::Streaming, ..says("coming") };
        let entry = history.add(id, &message).unwrap();
        history
            .update(entry.id, &format!("kept {}", entry.id.0), MessageState::Complete, &Value::Null)
            .unwrap();
        println!("kept {}", entry.id.0);
        parent = Some(entry.id);
    }
}

#[test]
fn nothing_saved_is_lost_when_the_program_is_killed() {
    let kills: u32 = std::env::var("OCELLI_TEST_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(12);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("h");
    let mut said = Vec::new();
    for round in 0..kills {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "chat::history::tests::writes_until_it_is_killed", "--ignored", "--nocapture"])
            .env("OCELLI_TEST_HISTORY", &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // At another moment each time: a few messages, and then some microseconds.
        let until = 1 + round % 5;
        let mut count = 0;
        while count < until
            && let Some(Ok(line)) = lines.next()
        {
            if let Some(id) = line.rsplit("kept ").next().and_then(|id| id.parse::<i64>().ok()) {
                said.push(id);
                count += 1;
            }
        }
        assert_eq!(count, until, "the writer ended by itself");
        let moment = Instant::now() + Duration::from_micros(u64::from(round * 379 % 4000));
        while Instant::now() < moment {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        said.extend(
            lines
                .map_while(std::result::Result::ok)
                .filter_map(|line| line.strip_prefix("kept ")?.parse::<i64>().ok()),
        );
        let history = open(&path);
        let list = history.conversations().unwrap();
        let tree = history.tree(list[0].id).unwrap();
        for id in &said {
            let entry = tree.get(MessageId(*id)).expect("a message that was saved is there");
            assert_eq!(entry.text, format!("kept {id}"));
            assert_eq!(history.file(&entry.attachments[0]).unwrap().len(), 200_000);
        }
    }
    assert!(said.len() >= kills as usize);
}
