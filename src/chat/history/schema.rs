//! Room `chat`: the database's tables, and how older ones become newer ones. A step that was released is never
//! changed: a new one is added behind it.

use rusqlite::{Connection, Transaction};

/// "Ocel": tells our databases from others' in SQLite's header.
pub(super) const APPLICATION_ID: i32 = 0x4f63_656c;

/// Each step's SQL; a database of version n has had the first n.
const STEPS: &[&str] = &[
    // 1: conversations, messages, what came with them, and the index over their words.
    "
    CREATE TABLE conversations (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        title TEXT NOT NULL DEFAULT '',
        title_is_own INTEGER NOT NULL DEFAULT 0,   -- typed by the user: automatic titles leave it alone
        pinned INTEGER NOT NULL DEFAULT 0,
        folder TEXT NOT NULL DEFAULT '',
        settings TEXT NOT NULL DEFAULT '{}',       -- JSON object
        chosen_beginning INTEGER,
        created_ms INTEGER NOT NULL,
        changed_ms INTEGER NOT NULL,
        deleted_ms INTEGER                         -- deleted, and can still be had back
    ) STRICT;
    CREATE TABLE messages (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        conversation INTEGER NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
        parent INTEGER,
        role TEXT NOT NULL,
        text TEXT NOT NULL,
        state TEXT NOT NULL,
        details TEXT NOT NULL DEFAULT 'null',      -- JSON
        chosen INTEGER,
        created_ms INTEGER NOT NULL,
        deleted_ms INTEGER
    ) STRICT;
    CREATE INDEX messages_of_conversation ON messages (conversation, id);
    CREATE TABLE files (
        hash BLOB PRIMARY KEY,                     -- SHA-256
        bytes BLOB NOT NULL
    ) STRICT;
    CREATE TABLE attachments (
        message INTEGER NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
        place INTEGER NOT NULL,
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        hash BLOB NOT NULL REFERENCES files (hash),
        PRIMARY KEY (message, place)
    ) STRICT;
    CREATE INDEX attachments_of_file ON attachments (hash);
    -- Trigrams: parts of words are found, and languages that do not part their words.
    CREATE VIRTUAL TABLE words USING fts5 (text, content = 'messages', content_rowid = 'id', tokenize = 'trigram');
    CREATE TRIGGER words_added AFTER INSERT ON messages BEGIN
        INSERT INTO words (rowid, text) VALUES (new.id, new.text);
    END;
    CREATE TRIGGER words_removed AFTER DELETE ON messages BEGIN
        INSERT INTO words (words, rowid, text) VALUES ('delete', old.id, old.text);
    END;
    CREATE TRIGGER words_changed AFTER UPDATE OF text ON messages BEGIN
        INSERT INTO words (words, rowid, text) VALUES ('delete', old.id, old.text);
        INSERT INTO words (rowid, text) VALUES (new.id, new.text);
    END;
    ",
    // 2: what the tokens of answers cost, packed.
    "
    CREATE TABLE costs (
        message INTEGER PRIMARY KEY REFERENCES messages (id) ON DELETE CASCADE,
        bytes BLOB NOT NULL
    ) STRICT;
    ",
];

/// Name, type and SQL of everything that a database has. What SQLite notes of its own for planning is left aside.
fn things(connection: &Connection) -> rusqlite::Result<Vec<[String; 4]>> {
    let sql = "SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_schema
        WHERE name NOT LIKE 'sqlite\\_stat%' ESCAPE '\\' ORDER BY type, name LIMIT 100";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?]))?;
    rows.collect()
}

/// The same of a new database of this version.
fn made(version: i64) -> rusqlite::Result<Vec<[String; 4]>> {
    let new = Connection::open_in_memory()?;
    for step in STEPS.iter().take(usize::try_from(version).unwrap_or(0)) {
        new.execute_batch(step)?;
    }
    things(&new)
}

/// Has a database the tables, indexes and triggers of its version, and nothing else? Only reads what SQLite lists.
pub(super) fn is_as_made(connection: &Connection, version: i64) -> rusqlite::Result<bool> {
    Ok(things(connection)? == made(version)?)
}

/// Is that table made as this program makes it?
pub(super) fn is_table_as_made(connection: &Connection, table: &str) -> rusqlite::Result<bool> {
    let of = |things: Vec<[String; 4]>| things.into_iter().find(|[_, name, ..]| name == table);
    let found = of(things(connection)?);
    Ok(found.is_some() && found == of(made(version())?))
}

/// The version this program writes.
pub(super) fn version() -> i64 {
    i64::try_from(STEPS.len()).unwrap_or(i64::MAX)
}

/// The version of a database; 0: an empty one.
pub(super) fn version_of(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Brings a database to [`version`], all or nothing. The caller has seen that it is not newer.
pub(super) fn migrate(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let from = version_of(transaction)?;
    let missing = STEPS.get(usize::try_from(from).unwrap_or(usize::MAX)..).unwrap_or(&[]);
    if missing.is_empty() {
        return Ok(());
    }
    for step in missing {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", version())
}
