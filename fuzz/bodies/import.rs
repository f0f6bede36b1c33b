//! Imported conversations: exported ones, and lists of messages.

use ocelli::chat::history::History;
use ocelli::chat::transfer::{Format, export, import};

use super::{Folder, read};

/// The bytes of a file to import. What came in must go out, and come in again.
pub fn run(data: &[u8]) {
    // Messages name files, which would be looked for on this disk.
    if data.windows(2).any(|two| two == b"\"/" || two == b"..") || has(data, b"file:") || has(data, b"\\u") {
        return;
    }
    let folder = Folder::new();
    let from = folder.put("a.json", data);
    let mut history = History::in_memory().expect("a database in memory");
    let Some(ids) = read(import(&mut history, &from)) else {
        assert!(history.conversations().expect("readable").is_empty(), "all or nothing");
        return;
    };
    for id in &ids {
        let tree = history.tree(*id).expect("readable");
        let _ = (tree.path().len(), tree.len());
    }
    let to = folder.path().join("b.json");
    assert_eq!(export(&history, None, Format::Json, &to).expect("exported"), ids.len());
    let mut again = History::in_memory().expect("a database in memory");
    assert_eq!(import(&mut again, &to).expect("what was exported can be imported").len(), ids.len());
    export(&history, None, Format::Markdown, &folder.path().join("c.md")).expect("exported");
}

fn has(data: &[u8], part: &[u8]) -> bool {
    data.windows(part.len()).any(|window| window.eq_ignore_ascii_case(part))
}
