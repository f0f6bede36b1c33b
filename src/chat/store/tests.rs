use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::json;

use super::*;
use crate::chat::history::History;

const C: ConversationId = ConversationId(FIRST_LOCAL_ID);
const BOUND: Duration = Duration::from_secs(30);

fn start(path: &Path) -> Store {
    Store::start(Some(path.to_owned()), Arc::new(|| {})).unwrap()
}

fn local(n: i64) -> MessageId {
    MessageId(FIRST_LOCAL_ID + n)
}

fn create(store: &Store) {
    store.send(Job::Create { id: C, settings: json!({"system_prompt": "s"}) });
}

fn add(store: &Store, id: i64, parent: Option<i64>, text: &str) {
    let bytes: Arc<[u8]> = text.as_bytes().into();
    store.send(Job::Add {
        conversation: C,
        id: local(id),
        parent: parent.map(local),
        role: Role::User,
        text: text.into(),
        attachments: vec![FileToKeep { kind: AttachmentKind::Image, name: "p".into(), bytes }],
        state: MessageState::Complete,
        details: Value::Null,
    });
}

fn update(store: &Store, id: MessageId, text: &str, state: MessageState) {
    store.send(Job::Update { id, text: text.into(), state, details: Value::Null });
}

fn barrier(store: &Store) {
    let (reached, wait) = mpsc::channel();
    store.send(Job::Barrier(reached));
    wait.recv_timeout(BOUND).unwrap();
}

/// The events up to the first that is wanted.
fn until(store: &Store, wanted: impl Fn(&Event) -> bool) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let event = store.events.recv_timeout(BOUND).unwrap_or_else(|e| panic!("{e} after {events:?}"));
        let found = wanted(&event);
        events.push(event);
        if found {
            return events;
        }
    }
}

fn opened(store: &Store, id: ConversationId) -> (ConversationId, Tree) {
    store.send(Job::Open(id));
    match until(store, |e| matches!(e, Event::Opened { .. } | Event::OpenFailed { .. })).pop() {
        Some(Event::Opened { conversation, tree, .. }) => (conversation, tree),
        other => panic!("{other:?}"),
    }
}

fn texts(tree: &Tree) -> Vec<String> {
    tree.path().iter().map(|id| tree.get(*id).unwrap().text.clone()).collect()
}

/// Somebody else who holds the database.
fn hold(path: &Path) -> Connection {
    let other = Connection::open(path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    other
}

#[test]
fn what_the_window_numbers_comes_out_with_its_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("h");
    let store = start(&path);
    create(&store);
    add(&store, 1, None, "a zebra");
    add(&store, 2, Some(1), "an answer");
    add(&store, 3, Some(1), "another answer");
    store.send(Job::Choose { conversation: C, path: vec![local(1), local(2)] });
    store.send(Job::SetTitle { id: C, title: "Animals".into(), own: true });
    let (id, tree) = opened(&store, C);
    assert_eq!(id, C);
    assert_eq!(tree.path(), [local(1), local(2)]);
    assert_eq!(tree.get(local(3)).unwrap().parent, Some(local(1)));
    // The database's numbers mean the same.
    let (id, tree) = opened(&store, ConversationId(1));
    assert_eq!((id, tree.path()), (C, &[local(1), local(2)][..]));
    update(&store, MessageId(2), "a better answer", MessageState::Complete);
    store.send(Job::Search { serial: 7, query: "zebra".into() });
    let events = until(&store, |e| matches!(e, Event::Found { .. }));
    let Some(Event::Found { serial: 7, hits }) = events.last() else { panic!("{events:?}") };
    assert_eq!((hits[0].conversation, hits[0].message), (C, local(1)));
    let attachment = tree.get(local(1)).unwrap().attachments[0].clone();
    store.send(Job::File(attachment.clone()));
    let events = until(&store, |e| matches!(e, Event::File { .. }));
    assert!(matches!(events.last(), Some(Event::File { hash, result: Ok(bytes) })
        if *hash == attachment.hash && &bytes[..] == b"a zebra"));
    store.send(Job::SetPinned { id: C, pinned: true });
    let events =
        until(&store, |e| matches!(e, Event::Listed(list) if list.first().is_some_and(|c| c.pinned)));
    let Some(Event::Listed(list)) = events.last() else { panic!() };
    assert_eq!((list[0].id, list[0].messages, list[0].title.as_str()), (C, 3, "Animals"));
    store.send(Job::DeleteMessages(vec![local(3)]));
    store.send(Job::Delete(C));
    store.send(Job::Restore(C));
    drop(store);

    let store = start(&path);
    let events = until(&store, |e| matches!(e, Event::Listed(_)));
    assert!(
        matches!(&events[..], [Event::Listed(list)] if list[0].id == ConversationId(1) && list[0].messages == 2)
    );
    assert_eq!(texts(&opened(&store, ConversationId(1)).1), ["a zebra", "a better answer"]);
}

#[test]
fn changes_wait_in_their_order_while_another_program_holds_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("h");
    let store = start(&path);
    create(&store);
    add(&store, 1, None, "one");
    barrier(&store);
    let other = hold(&path);
    add(&store, 2, Some(1), "two");
    let fails = until(&store, |e| matches!(e, Event::SavingFails(_)));
    assert!(format!("{fails:?}").contains("another program holds the file"), "{fails:?}");
    for n in 3..40 {
        add(&store, n, Some(n - 1), &format!("number {n}"));
        update(&store, local(n), &format!("changed {n}"), MessageState::Streaming);
        update(&store, local(n), &format!("final {n}"), MessageState::Complete);
    }
    store.send(Job::Create { id: ConversationId(FIRST_LOCAL_ID + 9), settings: json!({}) });
    // What is shown already has what is not saved yet.
    let (_, tree) = opened(&store, C);
    assert_eq!(tree.len(), 39);
    assert_eq!(texts(&tree).last().unwrap(), "final 39");
    store.send(Job::File(tree.get(local(20)).unwrap().attachments[0].clone()));
    let file = until(&store, |e| matches!(e, Event::File { .. }));
    assert!(matches!(file.last(), Some(Event::File { result: Ok(bytes), .. }) if &bytes[..] == b"number 20"));
    assert!(opened(&store, ConversationId(FIRST_LOCAL_ID + 9)).1.is_empty());
    other.execute_batch("ROLLBACK").unwrap();
    // It is tried again without being asked.
    let works = until(&store, |e| matches!(e, Event::SavingWorks));
    assert!(!format!("{works:?}").contains("SavingFails"));
    drop(store);
    let history = History::open(&path).unwrap().history;
    let tree = history.tree(ConversationId(1)).unwrap();
    let expected: Vec<String> = ["one".to_owned(), "two".to_owned()]
        .into_iter()
        .chain((3..40).map(|n| format!("final {n}")))
        .collect();
    assert_eq!(texts(&tree), expected);
    assert_eq!(history.conversations().unwrap().len(), 2);
}

#[test]
fn what_is_not_saved_yet_is_exported_too() {
    const NEW: ConversationId = ConversationId(FIRST_LOCAL_ID + 9);
    const THIRD: ConversationId = ConversationId(FIRST_LOCAL_ID + 10);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("h");
    let store = start(&path);
    create(&store);
    for (id, parent, text) in [(1, None, "one"), (2, Some(1), "brought back"), (3, Some(1), "deleted")] {
        add(&store, id, parent, text);
    }
    store.send(Job::DeleteMessages(vec![local(2)]));
    store.send(Job::Create { id: THIRD, settings: json!({}) });
    store.send(Job::Delete(THIRD));
    barrier(&store);

    let other = hold(&path);
    update(&store, local(1), "one, changed", MessageState::Complete);
    add(&store, 4, Some(2), "four");
    store.send(Job::RestoreMessages(vec![local(2)]));
    store.send(Job::DeleteMessages(vec![local(3)]));
    store.send(Job::Choose { conversation: C, path: vec![local(1), local(2), local(4)] });
    store.send(Job::SetTitle { id: C, title: "Rescued".into(), own: true });
    store.send(Job::SetTitle { id: C, title: "automatic".into(), own: false });
    store.send(Job::SetPinned { id: C, pinned: true });
    store.send(Job::SetFolder { id: C, folder: "f".into() });
    store.send(Job::SetSettings { id: C, settings: json!({"system_prompt": "new"}) });
    store.send(Job::Create { id: NEW, settings: json!({}) });
    let bytes: Arc<[u8]> = b"a new picture"[..].into();
    store.send(Job::Add {
        conversation: NEW,
        id: local(5),
        parent: None,
        role: Role::User,
        text: "nowhere else".into(),
        attachments: vec![FileToKeep { kind: AttachmentKind::Image, name: "n".into(), bytes }],
        state: MessageState::Complete,
        details: Value::Null,
    });
    store.send(Job::Delete(NEW));
    store.send(Job::Restore(NEW));
    store.send(Job::Restore(THIRD));
    let to = |name: &str| folder.path().join(name);
    let export = |conversations, format, name: &str| {
        store.send(Job::Export { conversations, format, to: to(name) });
        match until(&store, |e| matches!(e, Event::Exported { .. } | Event::Failed(_))).pop() {
            Some(Event::Exported { conversations, .. }) => conversations,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(export(None, Format::Json, "all.json"), 3);
    assert_eq!(export(Some(vec![NEW]), Format::Markdown, "new.md"), 1);
    let (_, tree) = opened(&store, C);
    assert_eq!(texts(&tree), ["one, changed", "brought back", "four"]);
    assert!(tree.get(local(3)).is_none());
    assert!(opened(&store, THIRD).1.is_empty(), "a deleted conversation that was had back is opened");
    store.send(Job::Delete(NEW));
    assert_eq!(export(None, Format::Json, "rest.json"), 2);
    other.execute_batch("ROLLBACK").unwrap();

    assert!(std::fs::read_to_string(to("new.md")).unwrap().contains("nowhere else"));
    let mut history = History::in_memory().unwrap();
    let ids = crate::chat::transfer::import(&mut history, &to("all.json")).unwrap();
    let list = history.conversations().unwrap();
    let rescued = list.iter().find(|c| c.title == "Rescued").unwrap();
    assert_eq!((rescued.pinned, rescued.folder.as_str(), rescued.messages), (true, "f", 3));
    assert_eq!(rescued.settings, json!({"system_prompt": "new"}));
    assert_eq!(texts(&history.tree(rescued.id).unwrap()), ["one, changed", "brought back", "four"]);
    let all: Vec<Tree> = ids.iter().map(|id| history.tree(*id).unwrap()).collect();
    let new = all.iter().find(|tree| texts(tree) == ["nowhere else"]).unwrap();
    let entry = new.entries().next().unwrap();
    assert_eq!(history.file(&entry.attachments[0]).unwrap(), b"a new picture");
    assert!(all.iter().any(Tree::is_empty));
}

#[test]
fn a_fault_ends_one_step_and_a_thread_that_is_gone_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("h");
    // The window is woken on the thread: something of it that panics there.
    let faulty = |faults: usize| -> Arc<dyn Fn() + Send + Sync> {
        let left = AtomicUsize::new(faults);
        Arc::new(move || {
            let here = thread::current().name() == Some("conversations");
            let is_left = |left: usize| left.checked_sub(1);
            let faulty = here && left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_left).is_ok();
            assert!(!faulty, "a fault of the test's");
        })
    };
    let store = Store::start(Some(path.clone()), faulty(1)).unwrap();
    let events = until(&store, |e| matches!(e, Event::Failed(_)));
    assert!(format!("{events:?}").contains("a fault of the test's"), "{events:?}");
    create(&store);
    add(&store, 1, None, "kept all the same");
    drop(store);
    assert_eq!(History::open(&path).unwrap().history.tree(ConversationId(1)).unwrap().len(), 1);

    // A fault while a fault is told: nothing catches that.
    let store = Store::start(Some(path), faulty(usize::MAX)).unwrap();
    let start = Instant::now();
    let mut unsaved = Vec::new();
    while unsaved.is_empty() && start.elapsed() < BOUND {
        create(&store);
        unsaved.extend(store.events().filter(|e| matches!(e, Event::Unsaved(_))));
        thread::park_timeout(Duration::from_millis(5));
    }
    assert!(format!("{unsaved:?}").contains("start the program again"), "{unsaved:?}");
    create(&store);
    assert_eq!(store.events().filter(|e| matches!(e, Event::Unsaved(_))).count(), 0, "it is said once");
}

#[test]
fn what_was_deleted_long_ago_is_forgotten_while_the_program_runs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("h");
    let store = start(&path);
    create(&store);
    add(&store, 1, None, "long deleted");
    store.send(Job::Delete(C));
    barrier(&store);
    let other = Connection::open(&path).unwrap();
    let count = || other.query_row("SELECT count(*) FROM messages", [], |row| row.get::<_, i64>(0)).unwrap();
    // Longer than the time between two looks: what was deleted just now stays.
    thread::park_timeout(Duration::from_millis(900));
    assert_eq!(count(), 1);
    other.execute("UPDATE conversations SET deleted_ms = 1", []).unwrap();
    let start = Instant::now();
    while count() > 0 {
        assert!(start.elapsed() < BOUND, "it is still there");
        thread::park_timeout(Duration::from_millis(20));
    }
}

#[test]
fn what_never_can_be_saved_blocks_nothing() {
    let store = Store::start(None, Arc::new(|| {})).unwrap();
    create(&store);
    store.send(Job::SetPinned { id: ConversationId(77), pinned: true });
    store.send(Job::SetPinned { id: ConversationId(FIRST_LOCAL_ID + 5), pinned: true });
    store.send(Job::Create { id: ConversationId(3), settings: Value::Null });
    add(&store, 2, Some(1), "no such parent");
    update(&store, local(9), "", MessageState::Complete);
    update(&store, MessageId(99), "", MessageState::Complete);
    add(&store, 3, None, "kept");
    barrier(&store);
    let events: Vec<Event> = store.events().collect();
    let failed = events.iter().filter(|e| matches!(e, Event::Failed(_))).count();
    assert_eq!(failed, 6, "{events:?}");
    assert!(!events.iter().any(|e| matches!(e, Event::SavingFails(_))));
    assert_eq!(texts(&opened(&store, C).1), ["kept"]);
    store.send(Job::Open(ConversationId(77)));
    until(&store, |e| matches!(e, Event::OpenFailed { .. }));
}

#[test]
fn dropping_the_store_saves_everything_and_gives_up_after_a_while() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("h");
    let store = start(&path);
    create(&store);
    for n in 1..200 {
        add(&store, n, (n > 1).then_some(n - 1), "x");
    }
    drop(store);
    assert_eq!(History::open(&path).unwrap().history.tree(ConversationId(1)).unwrap().len(), 199);
    let store = start(&path);
    create(&store);
    barrier(&store);
    let other = hold(&path);
    store.send(Job::Delete(C));
    let before = Instant::now();
    drop(store);
    assert!(before.elapsed() < Duration::from_secs(10));
    drop(other);
    assert_eq!(History::open(&path).unwrap().history.conversations().unwrap().len(), 2);
}

#[test]
fn a_database_that_cannot_be_opened_stays_as_it_is_and_the_user_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("h");
    drop(start(&path));
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 999).unwrap();
    let before = std::fs::read(&path).unwrap();
    let blocked = path.join("inside a file/h");
    let held = folder.path().join("held");
    drop(start(&held));
    let other = hold(&held);
    for (path, why) in [(&path, "newer Ocelli"), (&blocked, "make this folder writable"), (&held, "close it")]
    {
        let store = start(path);
        create(&store);
        add(&store, 1, None, "only here");
        let events = until(&store, |e| matches!(e, Event::Unsaved(_)));
        let Some(Event::Unsaved(error)) = events.last() else { panic!() };
        assert!(error.to_string().contains(why), "{error}");
        assert_eq!(texts(&opened(&store, C).1), ["only here"]);
    }
    drop(other);
    assert_eq!(std::fs::read(&path).unwrap(), before);
    let damaged = folder.path().join("damaged");
    std::fs::write(&damaged, "no database ".repeat(999)).unwrap();
    let store = start(&damaged);
    until(&store, |e| matches!(e, Event::Damaged(_)));
}

#[test]
fn lists_come_once_for_many_changes_and_not_while_an_answer_comes_in() {
    let wakes = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&wakes);
    let wake = Arc::new(move || {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let store = Store::start(None, wake).unwrap();
    create(&store);
    add(&store, 1, None, "");
    barrier(&store);
    opened(&store, C);
    store.events().for_each(drop);
    for n in 0..500 {
        update(&store, local(1), &"x".repeat(n), MessageState::Streaming);
    }
    opened(&store, C);
    assert_eq!(store.events().count(), 0);
    for n in 0..2000 {
        store.send(Job::SetTitle { id: C, title: format!("{n}"), own: false });
    }
    let last = |e: &Event| matches!(e, Event::Listed(list) if list[0].title == "1999");
    assert!(until(&store, last).len() < 1000);
    assert!(wakes.load(Ordering::Relaxed) >= 4);
}

#[test]
fn files_are_written_whole_and_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::start(None, Arc::new(|| {})).unwrap();
    let path = folder.path().join("deep/preferences.json");
    for text in ["old", "new"] {
        store.send(Job::WritePreferences { path: path.clone(), before: String::new(), text: text.into() });
    }
    create(&store);
    add(&store, 1, None, "exported");
    let to = folder.path().join("out.json");
    store.send(Job::Export { conversations: Some(vec![C]), format: Format::Json, to: to.clone() });
    let events = until(&store, |e| matches!(e, Event::Exported { .. }));
    assert!(matches!(events.last(), Some(Event::Exported { conversations: 1, .. })));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
    store.send(Job::Import { from: to });
    let events = until(&store, |e| matches!(e, Event::Imported(_)));
    let Some(Event::Imported(ids)) = events.last() else { panic!() };
    assert_eq!(texts(&opened(&store, ids[0]).1), ["exported"]);
    store.send(Job::Import { from: path.clone() });
    until(&store, |e| matches!(e, Event::Failed(_)));
    // A folder is in the way: it waits, and the conversations do not.
    let blocked = folder.path().join("blocked");
    std::fs::create_dir(&blocked).unwrap();
    store.send(Job::WritePreferences { path: blocked.clone(), before: String::new(), text: "late".into() });
    until(&store, |e| matches!(e, Event::SavingFails(_)));
    add(&store, 2, Some(1), "on time");
    barrier(&store);
    std::fs::remove_dir(&blocked).unwrap();
    until(&store, |e| matches!(e, Event::SavingWorks));
    assert_eq!(std::fs::read_to_string(&blocked).unwrap(), "late");
}

/// Not a test of its own: the program that the next test kills. Says each message's number once it is kept.
#[test]
#[ignore = "is started and killed by the test below"]
fn works_until_it_is_killed() {
    let Some(folder) = std::env::var_os("OCELLI_TEST_STORE").map(PathBuf::from) else { return };
    let store = start(&folder.join("h"));
    create(&store);
    let noise: Arc<[u8]> = (0..100_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for n in 1..1_000_000 {
        let attachment =
            FileToKeep { kind: AttachmentKind::Image, name: "noise".into(), bytes: noise.clone() };
        store.send(Job::Add {
            conversation: C,
            id: local(n),
            // An edited question now and then: a branch.
            parent: (n > 1).then(|| local(if n % 5 == 0 { n / 2 } else { n - 1 })),
            role: Role::Assistant,
            text: String::new(),
            attachments: vec![attachment],
            state: MessageState::Streaming,
            details: Value::Null,
        });
        for piece in 0..3 {
            update(&store, local(n), &"coming ".repeat(piece), MessageState::Streaming);
        }
        let id = std::process::id();
        update(&store, local(n), &format!("kept {id}-{n}"), MessageState::Complete);
        if n % 4 == 0 {
            store.send(Job::Import { from: folder.join("in.json") });
        }
        barrier(&store);
        println!("kept {id}-{n}");
    }
}

#[test]
fn nothing_saved_is_lost_when_the_program_is_killed() {
    let kills: u32 = std::env::var("OCELLI_TEST_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(6);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("h");
    let messages: Vec<Value> = (1..=20)
        .map(|n| json!({"id": n, "parent": if n > 1 { json!(n - 1) } else { Value::Null }, "role": "user", "text": "imported"}))
        .collect();
    let file = json!({"format": "ocelli-conversations", "version": 1, "conversations": [
        {"messages": messages.clone()}, {"messages": messages}], "files": {}});
    std::fs::write(folder.path().join("in.json"), file.to_string()).unwrap();
    let mut said: Vec<String> = Vec::new();
    let mut imported = 0;
    for round in 0..kills {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "chat::store::tests::works_until_it_is_killed", "--ignored", "--nocapture"])
            .env("OCELLI_TEST_STORE", folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let number = |line: &str| line.find("kept ").map(|at| line[at..].to_owned());
        let wanted = said.len() + 1 + (round as usize * 7) % 9;
        while said.len() < wanted {
            let line = lines.next().expect("the program ended by itself").unwrap();
            said.extend(number(&line));
        }
        // Some microseconds more, another number each time.
        let moment =
            Instant::now() + Duration::from_micros(u64::from(round.wrapping_mul(2_654_435_761) % 8000));
        while Instant::now() < moment {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        said.extend(lines.map_while(std::result::Result::ok).filter_map(|line| number(&line)));

        let opened = History::open(&path).unwrap();
        assert!(opened.damage.is_none());
        let mut kept = std::collections::HashSet::new();
        imported = 0;
        for conversation in opened.history.conversations().unwrap() {
            let tree = opened.history.tree(conversation.id).unwrap();
            let is_imported = tree.entries().next().is_some_and(|entry| entry.text == "imported");
            imported += usize::from(is_imported);
            assert!(!is_imported || tree.path().len() == 20, "an import came in part");
            for entry in tree.entries().filter(|entry| !entry.attachments.is_empty()) {
                assert_eq!(opened.history.file(&entry.attachments[0]).unwrap().len(), 100_000);
                kept.insert(entry.text.clone());
            }
        }
        assert_eq!(imported % 2, 0, "an import came in part");
        for message in &said {
            assert!(kept.contains(message), "{message} is lost");
        }
        drop(opened);
        let check: String = Connection::open(&path)
            .unwrap()
            .pragma_query_value(None, "integrity_check", |row| row.get(0))
            .unwrap();
        assert_eq!(check, "ok");
    }
    println!("{kills} kills, {} messages kept, {imported} conversations imported", said.len());
}
