//! Room `app`: cuts an answer into blocks that can be drawn one by one (an answer of 200 kB is never laid out whole), and takes
//! from Markdown what must not happen: pictures that would be fetched, and nesting that would need too much stack or time.
//! Pure text work; an answer that is still coming in is as good as a whole one.

use std::ops::Range;

/// A block larger than this is cut, bytes.
const LARGE: usize = 12_000;
/// A list larger than this is cut at its next item, bytes.
const LARGE_LIST: usize = 4_000;
/// A table of more rows is cut; each part has the head.
const MANY_ROWS: usize = 60;
/// Quotes and lists that one line may open.
const DEEP: usize = 8;
/// How far in a list's item may stand, columns.
const FAR_IN: usize = 24;
/// More signs of one kind in one block are not Markdown a person wrote.
const MANY_SIGNS: usize = 1_500;

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Where it stands in the answer, in bytes.
    pub range: Range<usize>,
    /// What it is.
    pub kind: Kind,
    /// How far in it stands, columns: within an item of a list.
    pub indent: usize,
    /// Whether cutting the answer again from here gives the same: it is no part of something larger.
    pub clean: bool,
}

/// What a piece is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Markdown that can be drawn.
    Markdown(String),
    /// A fenced block of code: its language, which may be empty, and the code.
    Code(String, String),
    /// Text to be shown as it is.
    Plain,
}

/// Cuts the answer, from a byte at which a block begins.
#[must_use]
pub fn blocks(text: &str, from: usize) -> Vec<Block> {
    let mut cutter = Cutter { text, start: from, clean: true, ..Cutter::default() };
    let mut at = from;
    for line in text.get(from..).unwrap_or_default().split_inclusive('\n') {
        cutter.line(line, at);
        at += line.len();
    }
    cutter.end_block(at);
    let definitions = link_names(text);
    if !definitions.is_empty() {
        for block in &mut cutter.blocks {
            if let Kind::Markdown(text) = &mut block.kind
                && text.contains('[')
            {
                text.push_str("\n\n");
                text.push_str(&definitions);
            }
        }
    }
    cutter.blocks
}

#[derive(Default)]
struct Cutter<'a> {
    text: &'a str,
    blocks: Vec<Block>,
    start: usize,
    clean: bool,
    fence: Option<OpenFence>,
    blank: bool,
    is_list: bool,
    /// After code in an item of a list.
    in_item: bool,
    /// The head of the table that the last line belongs to, and rows since.
    table: Option<(Range<usize>, usize)>,
    head: Option<Range<usize>>,
    last_line: Range<usize>,
}

/// A fence that is a block of its own.
struct OpenFence {
    fence: Fence,
    language: String,
    /// Where the code begins.
    code: usize,
    indent: usize,
}

#[derive(Clone, Copy)]
struct Fence {
    sign: u8,
    length: usize,
}

impl Cutter<'_> {
    fn line(&mut self, line: &str, at: usize) {
        let end = at + line.len();
        let content = line.trim_start_matches([' ', '\t']);
        let indent = columns(line.get(..line.len() - content.len()).unwrap_or_default());
        if let Some(open) = &self.fence {
            if closes(open.fence, content) {
                self.end_code(at, end);
            }
            return;
        }
        if content.trim().is_empty() {
            self.blank = true;
            self.table = None;
            self.last_line = 0..0;
            return;
        }
        let item = is_item(content);
        let large = at - self.start;
        if self.in_item && item && indent < indent_of(self.text.get(self.start..at).unwrap_or_default()) {
            // The next item: in a text that is not set in any more, it would go on with the paragraph.
            self.end_block(at);
            (self.is_list, self.in_item, self.clean) = (true, true, false);
        } else if self.blank && indent == 0 && !(self.is_list && item && large < LARGE_LIST) {
            self.end_block(at);
        } else if self.table.as_ref().is_some_and(|(_, rows)| *rows >= MANY_ROWS || large > LARGE) {
            let head = self.table.take().map(|(head, _)| head);
            self.end_block(at);
            self.table = head.clone().map(|head| (head, 0));
            self.head = head;
            self.clean = false;
        } else if large > LARGE {
            self.end_block(at);
            self.clean = false;
        }
        self.blank = false;
        self.is_list |= item && indent < 4;
        if let Some((fence, language)) = opens(content)
            && (indent < 4 || self.is_list)
        {
            let in_list = self.is_list;
            self.end_block(at);
            self.is_list = in_list;
            self.clean &= !in_list;
            self.fence = Some(OpenFence { fence, language, code: end, indent });
        } else if let Some((_, rows)) = &mut self.table {
            *rows += 1;
        } else if is_delimiter(content)
            && self.text.get(self.last_line.clone()).is_some_and(|line| line.contains('|'))
        {
            self.table = Some((self.last_line.start..end, 0));
        }
        self.last_line = at..end;
    }

    fn start_block(&mut self, at: usize) {
        self.start = at;
        self.clean = true;
        self.blank = false;
        self.is_list = false;
        self.in_item = false;
        self.table = None;
        self.head = None;
    }

    /// The code ends here, and its block with the line of the fence.
    fn end_code(&mut self, at: usize, end: usize) {
        let Some(open) = self.fence.take() else { return };
        let code = self.text.get(open.code.min(at)..at).unwrap_or_default();
        let kind = Kind::Code(open.language, without_indent(code, open.indent));
        let (range, indent, in_list) = (self.start..end, open.indent, self.is_list);
        self.blocks.push(Block { range, kind, indent, clean: self.clean });
        self.start_block(end);
        // What follows may belong to the same item: cutting again begins before it.
        (self.is_list, self.in_item, self.clean) = (in_list, in_list, !in_list);
    }

    /// The block ends here, if one has begun.
    fn end_block(&mut self, at: usize) {
        if self.fence.is_some() {
            self.end_code(at, at);
            return;
        }
        let block = self.text.get(self.start..at).unwrap_or_default();
        if block.trim().is_empty() {
            // Between two blocks: belongs to the one before, so that blocks follow one another.
            if let Some(last) = self.blocks.last_mut() {
                last.range.end = at;
            }
            self.start_block(at);
            return;
        }
        let head = self.head.take().and_then(|range| self.text.get(range)).unwrap_or_default();
        let mut start = self.start;
        // What stands far in only because it belongs to an item is not code.
        let indent = if self.in_item { indent_of(block) } else { 0 };
        for piece in pieces(block) {
            let kind = if is_drawable(piece) {
                let mut markdown = head.to_owned();
                without_pictures(&without_indent(piece, indent), &mut markdown);
                Kind::Markdown(markdown)
            } else {
                Kind::Plain
            };
            let clean = self.clean && start == self.start;
            self.blocks.push(Block { range: start..start + piece.len(), kind, indent, clean });
            start += piece.len();
        }
        self.start_block(at);
    }
}

/// How far in a text's first line stands.
fn indent_of(text: &str) -> usize {
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    line.len() - line.trim_start_matches(' ').len()
}

/// A text whose lines stand so much less far in.
fn without_indent(text: &str, indent: usize) -> String {
    if indent == 0 {
        return text.to_owned();
    }
    let lines = text.split_inclusive('\n').map(|line| {
        let spaces = line.bytes().take_while(|&byte| byte == b' ').count();
        line.get(spaces.min(indent)..).unwrap_or_default()
    });
    lines.collect()
}

fn columns(space: &str) -> usize {
    space.bytes().map(|byte| if byte == b'\t' { 4 } else { 1 }).sum()
}

/// The fence that a line opens, and the language it names.
fn opens(content: &str) -> Option<(Fence, String)> {
    let sign = *content.as_bytes().first()?;
    if sign != b'`' && sign != b'~' {
        return None;
    }
    let length = content.bytes().take_while(|&byte| byte == sign).count();
    let info = content.get(length..)?.trim();
    let opens = length >= 3 && !(sign == b'`' && info.contains('`'));
    let language = info.split([' ', ',', '{', '\t']).next().unwrap_or_default().to_owned();
    opens.then_some((Fence { sign, length }, language))
}

fn closes(fence: Fence, content: &str) -> bool {
    let length = content.bytes().take_while(|&byte| byte == fence.sign).count();
    length >= fence.length && content.get(length..).is_some_and(|rest| rest.trim().is_empty())
}

/// The rest after a list's sign at the beginning of a line.
fn after_item_sign(content: &str) -> Option<&str> {
    let digits = content.bytes().take_while(u8::is_ascii_digit).count();
    let rest = if digits == 0 {
        content.strip_prefix(['-', '*', '+'])?
    } else if digits < 10 {
        content.get(digits..)?.strip_prefix(['.', ')'])?
    } else {
        return None;
    };
    (rest.trim().is_empty() || rest.starts_with([' ', '\t'])).then_some(rest)
}

fn is_item(content: &str) -> bool {
    after_item_sign(content).is_some()
}

/// The line between a table's head and its rows.
fn is_delimiter(content: &str) -> bool {
    let content = content.trim();
    content.contains('-')
        && content.contains('|')
        && content.bytes().all(|byte| matches!(byte, b'|' | b'-' | b':' | b' ' | b'\t'))
}

/// A text in pieces that are not large, cut at spaces where there are any.
fn pieces(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while rest.len() > LARGE + LARGE / 2 {
        let limit = rest.floor_char_boundary(LARGE);
        let cut = rest
            .get(..limit)
            .and_then(|part| part.rfind('\n').or_else(|| part.rfind(' ')))
            .map_or(limit, |i| i + 1);
        let (piece, after) = rest.split_at(cut);
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    pieces
}

/// Whether drawing it as Markdown needs neither a deep stack nor many thousand labels.
fn is_drawable(text: &str) -> bool {
    let mut signs = [0_usize; 8];
    for byte in text.bytes() {
        if let Some(i) = b"[*_`<!~>".iter().position(|&sign| sign == byte)
            && let Some(count) = signs.get_mut(i)
        {
            *count += 1;
        }
    }
    signs.iter().all(|&count| count <= MANY_SIGNS) && text.lines().all(is_shallow)
}

fn is_shallow(line: &str) -> bool {
    let (mut rest, mut depth) = (line, 0);
    loop {
        let content = rest.trim_start_matches([' ', '\t']);
        let space = rest.get(..rest.len() - content.len()).unwrap_or_default();
        let behind = content.strip_prefix('>').or_else(|| after_item_sign(content));
        let Some(behind) = behind else { return true };
        depth += 1;
        if depth > DEEP || columns(space) > FAR_IN {
            return false;
        }
        rest = behind;
    }
}

/// Appends the text, in which what would be a picture is text: its words and its address. Code stays as it is.
fn without_pictures(text: &str, out: &mut String) {
    let mut fence: Option<Fence> = None;
    let mut skip_to = 0;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let start = at;
        at += line.len();
        let content = line.trim_start();
        if let Some(open) = fence {
            if closes(open, content) {
                fence = None;
            }
            out.push_str(line);
            continue;
        }
        if skip_to <= start
            && let Some((open, _)) = opens(content)
        {
            fence = Some(open);
            out.push_str(line);
            continue;
        }
        let bytes = text.as_bytes();
        let (mut i, mut written) = (start, start);
        while i < at {
            if i < skip_to {
                i = skip_to.min(at);
                continue;
            }
            match bytes.get(i) {
                Some(b'\\') => i += 2,
                Some(b'`') => {
                    let length = run(bytes, i);
                    skip_to = code_end(bytes, i + length, length).unwrap_or(i + length);
                    i = skip_to.min(at);
                }
                Some(b'!') if bytes.get(i + 1) == Some(&b'[') => {
                    out.push_str(text.get(written..=i).unwrap_or_default());
                    out.push('\\');
                    written = i + 1;
                    i += 2;
                }
                _ => i += 1,
            }
        }
        out.push_str(text.get(written..at).unwrap_or_default());
    }
}

fn run(bytes: &[u8], at: usize) -> usize {
    bytes.iter().skip(at).take_while(|&&byte| byte == b'`').count()
}

/// The byte after the run of as many backticks that closes code in a line of text; code does not go beyond a paragraph.
fn code_end(bytes: &[u8], from: usize, length: usize) -> Option<usize> {
    let mut i = from;
    while let Some(&byte) = bytes.get(i) {
        match byte {
            b'`' => {
                let found = run(bytes, i);
                if found == length {
                    return Some(i + found);
                }
                i += found;
            }
            b'\n' if bytes.get(i + 1) == Some(&b'\n') => return None,
            _ => i += 1,
        }
    }
    None
}

/// The lines that say where a link's name leads, for blocks that use the name.
#[must_use]
pub fn link_names(text: &str) -> String {
    let mut lines = String::new();
    for line in text.lines().filter(|line| line.starts_with('[') && !line.starts_with("[^")) {
        if line.find("]:").is_some_and(|end| end < 100) && line.len() < 500 && lines.len() < 4_000 {
            lines.push_str(line);
            lines.push('\n');
        }
    }
    lines
}

#[cfg(test)]
mod tests;
