//! Room `chat`: what SQLite says when it fails, for people and for those who try again.

use crate::error::Error;

/// SQLite's words with ours around them.
pub(super) fn failed(doing: &str, e: &rusqlite::Error) -> Error {
    use rusqlite::ErrorCode::{
        DatabaseBusy, DatabaseCorrupt, DatabaseLocked, DiskFull, NotADatabase, ReadOnly,
    };
    if matches!(e, rusqlite::Error::QueryReturnedNoRows) {
        return Error::new(doing, "it is not in the database").help("it may have been deleted for good");
    }
    let error = Error::new(doing, e);
    match e.sqlite_error_code() {
        Some(DiskFull) => error.help("free some space on this disk; what was saved before is safe"),
        Some(DatabaseBusy | DatabaseLocked) => {
            error.help("another program holds the file: close it, for instance a second Ocelli or a backup")
        }
        Some(DatabaseCorrupt | NotADatabase) => {
            error.help("restart the program: it sets the damaged file aside and saves what it can read")
        }
        Some(ReadOnly) => error.help("make the file and its folder writable"),
        _ => error,
    }
}

/// May the same write succeed later, with nothing but time and the user's help?
pub(super) fn may_pass(e: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{
        CannotOpen, DatabaseBusy, DatabaseCorrupt, DatabaseLocked, DiskFull, FileLockingProtocolFailed,
        NotADatabase, OperationInterrupted, OutOfMemory, PermissionDenied, ReadOnly, SystemIoFailure,
    };
    matches!(
        e.sqlite_error_code(),
        Some(
            CannotOpen
                | DatabaseBusy
                | DatabaseCorrupt
                | DatabaseLocked
                | DiskFull
                | FileLockingProtocolFailed
                | NotADatabase
                | OperationInterrupted
                | OutOfMemory
                | PermissionDenied
                | ReadOnly
                | SystemIoFailure
        )
    )
}

/// A change of one row that must be there.
pub(super) fn changed(rows: usize) -> rusqlite::Result<()> {
    if rows == 0 { Err(rusqlite::Error::QueryReturnedNoRows) } else { Ok(()) }
}
