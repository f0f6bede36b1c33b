//! Room `app`: an answer without its Markdown, for pasting where Markdown is not understood.

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// The text of a Markdown document: headings and emphasis lose their marks, lists keep a dash or their number, tables become
/// lines with tabs, code stays as it is.
#[must_use]
pub fn plain_text(markdown: &str) -> String {
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    let mut out = String::with_capacity(markdown.len());
    let mut lists: Vec<Option<u64>> = Vec::new();
    let blank_line = |out: &mut String| {
        let end = out.trim_end().len();
        out.truncate(end);
        if !out.is_empty() {
            out.push_str("\n\n");
        }
    };
    let new_line = |out: &mut String| {
        if !out.is_empty() && !out.ends_with('\n') {
            out.push('\n');
        }
    };
    for event in Parser::new_ext(markdown, options) {
        match event {
            Event::Start(Tag::List(first)) => {
                if lists.is_empty() {
                    blank_line(&mut out);
                } else {
                    new_line(&mut out);
                }
                lists.push(first);
            }
            Event::End(TagEnd::List(_)) => {
                lists.pop();
            }
            Event::Start(Tag::Item) => {
                new_line(&mut out);
                out.push_str(&"  ".repeat(lists.len().saturating_sub(1)));
                match lists.last_mut() {
                    Some(Some(number)) => {
                        out.push_str(&format!("{number}. "));
                        *number += 1;
                    }
                    _ => out.push_str("- "),
                }
            }
            Event::Start(Tag::Paragraph) if lists.is_empty() => blank_line(&mut out),
            Event::Start(Tag::Heading { .. } | Tag::Table(_) | Tag::BlockQuote(_) | Tag::CodeBlock(_)) => {
                blank_line(&mut out);
            }
            Event::End(TagEnd::TableRow | TagEnd::TableHead) => {
                while out.ends_with('\t') {
                    out.pop();
                }
                out.push('\n');
            }
            Event::End(TagEnd::TableCell) => out.push('\t'),
            Event::Text(text) | Event::Code(text) | Event::Html(text) | Event::InlineHtml(text) => {
                out.push_str(&text);
            }
            Event::SoftBreak | Event::HardBreak => out.push('\n'),
            Event::Rule => {
                blank_line(&mut out);
                out.push_str("---");
            }
            Event::TaskListMarker(done) => out.push_str(if done { "[x] " } else { "[ ] " }),
            _ => {}
        }
    }
    out.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_go_and_words_stay() {
        let markdown = "# Two *shapes*\n\nA **red** `circle` and\na line.\n\n1. one\n2. two\n   - deep\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```rust\nfn x() {}\n```\nEnd";
        let expected = "Two shapes\n\nA red circle and\na line.\n\n1. one\n2. two\n  - deep\n\na\tb\n1\t2\n\nfn x() {}\n\nEnd";
        assert_eq!(plain_text(markdown), expected);
        assert_eq!(plain_text("[{\"bbox_2d\": [1, 2, 3, 4]}]"), "[{\"bbox_2d\": [1, 2, 3, 4]}]");
    }
}
