//! Room `chat`: opening the database: a new one, an older one, one that a killed program left, a damaged one, one from
//! a newer program.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{History, failed, now_ms, schema};
use crate::error::{Error, Result};

const OPENING: &str = "opening the history of conversations";
/// How long to wait for another program that is writing.
const BUSY: Duration = Duration::from_secs(3);
/// Rows of a damaged table that are asked for in vain, at most: a damaged number must not keep the program busy for ever.
const MOST_TRIES: usize = 1_000_000;

/// An open history, and what the user must be told of it.
#[derive(Debug)]
pub struct Opened {
    /// The history.
    pub history: History,
    /// The database was damaged.
    pub damage: Option<Damage>,
}

/// A damaged database, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// What SQLite says.
    pub why: String,
    /// Messages that could be read and are here.
    pub saved: usize,
    /// Where the damaged file was put.
    pub aside: PathBuf,
}

impl History {
    /// Opens the database at `path`, or makes it. A damaged one is set aside under another name, and what can still be
    /// read of it is carried over.
    ///
    /// # Errors
    /// It is from a newer program, is no database of ours, is held by another program, or cannot be written.
    pub fn open(path: &Path) -> Result<Opened> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)
                .map_err(|e| Error::new(OPENING, e).at_path(folder).help("make this folder writable"))?;
        }
        match Self::open_sound(path) {
            Ok(history) => Ok(Opened { history, damage: None }),
            Err(Trouble::Damaged(why)) => Self::set_aside(path, &why),
            Err(Trouble::Error(error)) => Err(error.at_path(path)),
        }
    }

    /// A history that is gone with the program: for tests, and where nothing can be written.
    ///
    /// # Errors
    /// SQLite cannot make it.
    pub fn in_memory() -> Result<Self> {
        let connection = Connection::open_in_memory().map_err(|e| failed(OPENING, &e))?;
        match Self::prepare(connection) {
            Ok(history) => Ok(history),
            Err(Trouble::Error(error)) => Err(error),
            Err(Trouble::Damaged(why)) => Err(Error::new(OPENING, why)),
        }
    }

    fn open_sound(path: &Path) -> Result<Self, Trouble> {
        let connection = Connection::open(path)?;
        Self::prepare(connection)
    }

    fn prepare(mut connection: Connection) -> Result<Self, Trouble> {
        connection.busy_timeout(BUSY)?;
        guard(&connection)?;
        let version = schema::version_of(&connection)?;
        let application: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
        let things: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        if (version != 0 || application != 0 || things > 0) && application != schema::APPLICATION_ID {
            return Err(Trouble::Error(
                Error::new(OPENING, "it is a database of another program").help("move it away"),
            ));
        }
        if version > schema::version() {
            return Err(Trouble::Error(
                Error::new(
                    OPENING,
                    format!(
                        "it was written by a newer Ocelli (version {version}, this one knows {})",
                        schema::version()
                    ),
                )
                .help(
                    "use the newer program, or move the file away to begin anew; nothing in it was changed",
                ),
            ));
        }
        // Before anything in it is run: a view may go on for ever, a trigger may change what nobody asked it to.
        if version > 0 && !schema::is_as_made(&connection, version)? {
            return Err(Trouble::Damaged("its tables are not those that Ocelli makes".to_owned()));
        }
        // Many changes, each safe against a killed program; a power cut may take the last few, never the database.
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "normal")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        // What is deleted is written over: otherwise it stays readable in the file until something else needs its place.
        connection.pragma_update(None, "secure_delete", true)?;
        if version > 0 {
            let sound: String = connection.pragma_query_value(None, "quick_check", |row| row.get(0))?;
            if sound != "ok" {
                return Err(Trouble::Damaged(sound));
            }
        }
        let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        schema::migrate(&transaction)?;
        // What was coming in when the program ended is kept as far as it had come.
        transaction.execute("UPDATE messages SET state = 'stopped' WHERE state = 'streaming'", [])?;
        transaction.commit()?;
        Ok(Self { connection, may_pass: false, log_remembers: false })
    }

    /// Puts the damaged database (and its log) under another name, begins a new one, and carries over what can be
    /// read.
    fn set_aside(path: &Path, why: &str) -> Result<Opened> {
        let aside = damaged_name(path);
        let fail = |e: std::io::Error| {
            Error::new(OPENING, format!("it is damaged ({why}) and cannot be set aside: {e}"))
                .at_path(path)
                .help("move the file away by hand")
        };
        fs::rename(path, &aside).map_err(fail)?;
        for end in ["-wal", "-shm"] {
            let (from, to) = (with_end(path, end), with_end(&aside, end));
            if from.exists() {
                fs::rename(&from, &to).map_err(fail)?;
            }
        }
        let mut history = match Self::open_sound(path) {
            Ok(history) => history,
            Err(Trouble::Error(error)) => return Err(error.at_path(path)),
            Err(Trouble::Damaged(why)) => return Err(Error::new(OPENING, why).at_path(path)),
        };
        let saved = history.carry_over(&aside);
        Ok(Opened { history, damage: Some(Damage { why: why.to_owned(), saved, aside }) })
    }

    /// Copies every row that can be read; gives the number of messages.
    fn carry_over(&mut self, damaged: &Path) -> usize {
        let Ok(old) = Connection::open_with_flags(damaged, OpenFlags::SQLITE_OPEN_READ_WRITE) else {
            return 0;
        };
        // Children before parents would be refused.
        if self.connection.pragma_update(None, "foreign_keys", false).is_err() {
            return 0;
        }
        let mut messages = 0;
        if guard(&old)
            .and_then(|()| old.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false).map(drop))
            .is_err()
        {
            return 0;
        }
        for table in ["conversations", "messages", "files", "attachments", "costs"] {
            // What another has made in its place is not read: reading it may run what they please.
            if !schema::is_table_as_made(&old, table).unwrap_or(false) {
                continue;
            }
            let count = copy_rows(&old, &self.connection, table);
            if table == "messages" {
                messages = count;
            }
        }
        // Rows whose other half is lost.
        let cleared = self.connection.execute_batch(
            "INSERT OR IGNORE INTO conversations (id, title, created_ms, changed_ms)
                SELECT DISTINCT conversation, 'Recovered', created_ms, created_ms FROM messages
                WHERE conversation NOT IN (SELECT id FROM conversations) GROUP BY conversation;
            DELETE FROM costs WHERE message NOT IN (SELECT id FROM messages);
            DELETE FROM attachments WHERE hash NOT IN (SELECT hash FROM files) OR message NOT IN (SELECT id FROM messages);
            UPDATE messages SET state = 'stopped' WHERE state = 'streaming';",
        );
        let checked = self.connection.pragma_update(None, "foreign_keys", true);
        if let Err(e) = cleared.and(checked) {
            tracing::warn!("after carrying over a damaged history: {e}");
        }
        messages
    }
}

/// Copies every row of a table that can be read. Reading through ends at the first damaged page, so each row is asked
/// for by its number, and behind a damaged page number by number.
fn copy_rows(old: &Connection, new: &Connection, table: &str) -> usize {
    let Ok(columns) = new
        .prepare(&format!("SELECT * FROM {table} LIMIT 0"))
        .map(|statement| statement.column_names().map(str::to_owned).collect::<Vec<_>>())
    else {
        return 0;
    };
    let list = columns.join(", ");
    let marks = vec!["?"; columns.len()].join(", ");
    let insert = format!("INSERT OR IGNORE INTO {table} (rowid, {list}) VALUES (?, {marks})");
    let read = format!("SELECT rowid, {list} FROM {table} WHERE rowid = ?1");
    let next = format!("SELECT min(rowid) FROM {table} WHERE rowid > ?1");
    let (last, mut number, mut copied, mut tries) = (last_row(old, table), 0, 0, 0);
    while number < last && tries < MOST_TRIES {
        let found = old
            .prepare_cached(&next)
            .and_then(|mut statement| statement.query_row([number], |row| row.get::<_, Option<i64>>(0)));
        number = match found {
            Ok(Some(found)) if found > number => found,
            Ok(_) => break,
            Err(_) => {
                tries += 1;
                number + 1
            }
        };
        let row = old.prepare_cached(&read).and_then(|mut statement| {
            statement.query_row([number], |row| {
                (0..=columns.len())
                    .map(|i| row.get(i))
                    .collect::<rusqlite::Result<Vec<rusqlite::types::Value>>>()
            })
        });
        if let Ok(values) = row
            && let Ok(mut statement) = new.prepare_cached(&insert)
            && let Ok(changed) = statement.execute(rusqlite::params_from_iter(values))
        {
            copied += changed;
        }
    }
    copied
}

/// The highest row number a table may have: by the table itself or, where that cannot be read, by SQLite's own notes.
fn last_row(old: &Connection, table: &str) -> i64 {
    let whole =
        old.query_row(&format!("SELECT max(rowid) FROM {table}"), [], |row| row.get::<_, Option<i64>>(0));
    let noted = old.query_row("SELECT seq FROM sqlite_sequence WHERE name = ?1", [table], |row| row.get(0));
    // Numbers that were made up would have the loop count for ever.
    whole.ok().flatten().unwrap_or(0).max(noted.unwrap_or(0)).min(i64::MAX - 1)
}

/// The file may have been made by anyone: nothing in its schema is trusted to call functions, there are no views, and a page whose
/// cells lie is an error.
fn guard(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false)?;
    connection.pragma_update(None, "cell_size_check", true)
}

enum Trouble {
    Damaged(String),
    Error(Error),
}

impl From<rusqlite::Error> for Trouble {
    fn from(e: rusqlite::Error) -> Self {
        match e.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged(e.to_string()),
            _ => Self::Error(failed(OPENING, &e)),
        }
    }
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// A name beside the database that nothing has yet.
fn damaged_name(path: &Path) -> PathBuf {
    let stamp = now_ms() / 1000;
    (0..10_000)
        .map(|n| {
            with_end(
                path,
                &if n == 0 { format!(".damaged-{stamp}") } else { format!(".damaged-{stamp}-{n}") },
            )
        })
        .find(|name| !name.exists())
        .unwrap_or_else(|| with_end(path, ".damaged"))
}
