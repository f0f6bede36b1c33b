//! The window's preferences.

use ocelli::app::reread_preferences;

/// The text of the file. What was read must be read again as the same.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let written = reread_preferences(text);
    assert_eq!(reread_preferences(&written), written);
}
