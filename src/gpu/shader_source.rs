//! The kernels' text: the `.wgsl` files of the program and the small preprocessor that joins them.
//!
//! Directives stand alone on their line: `#import name` pastes `wgsl/name.wgsl` once; `#if KEY`,
//! `#if KEY == value`, `#else`, `#endif` choose lines; `#for i COUNT` … `#endfor` repeats lines with
//! `i` = 0, 1, … (drivers do not always unroll, and an array that is not unrolled leaves the registers).
//! `#{KEY}` in a line is replaced by the value of a define or a loop's variable.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Result};

macro_rules! wgsl_files {
    ($($name:literal),* $(,)?) => {
        /// Every kernel file with its text, by name without the extension.
        const FILES: &[(&str, &str)] = &[$(($name, include_str!(concat!("../../wgsl/", $name, ".wgsl")))),*];
    };
}

wgsl_files![
    "attention_decode",
    "attention_flash",
    "attention_lanes",
    "attention_reduce",
    "attention_rows",
    "attention_scores",
    "begin_step",
    "embed_pictures",
    "embed_tokens",
    "flops_peak",
    "gelu",
    "lanes_weights",
    "layer_norm",
    "matmul",
    "matmul_cooperative",
    "matmul_lanes",
    "matmul_packed",
    "matvec",
    "matvec_lanes",
    "narrow_rows",
    "paged_kv",
    "product_end",
    "read_bandwidth",
    "reduce",
    "rms_norm",
    "rope_and_cache",
    "row_info",
    "sample",
    "softmax_rows",
    "subgroup_size",
    "token_logprob",
    "vision_position",
    "vision_rope",
    "weights",
    "wide",
];

/// The text of `file` with imports pasted, conditions decided, loops unrolled and defines filled in.
///
/// # Errors
/// A file, define or directive that does not exist, or one left open: mistakes in the program itself,
/// named with file and line.
pub fn expand(file: &str, defines: &BTreeMap<&str, String>, edits: &[KernelEdit]) -> Result<String> {
    let defines = defines.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
    let mut expander = Expander { defines, seen: BTreeSet::new(), out: String::new(), edits };
    expander.file(file)?;
    Ok(expander.out)
}

/// A change to a kernel's text. Nothing but the tests makes any: they plant faults to show they would be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelEdit {
    /// The file, without the extension.
    pub file: &'static str,
    /// Text that must be there.
    pub find: &'static str,
    /// What stands there instead.
    pub replace: &'static str,
}

struct Expander<'a> {
    edits: &'a [KernelEdit],
    defines: BTreeMap<String, String>,
    seen: BTreeSet<String>,
    out: String,
}

impl Expander<'_> {
    fn file(&mut self, file: &str) -> Result<()> {
        if !self.seen.insert(file.to_owned()) {
            return Ok(());
        }
        let Some((_, text)) = FILES.iter().find(|(name, _)| *name == file) else {
            return Err(fail(file, 0, "there is no such kernel file"));
        };
        let mut text = (*text).to_owned();
        for edit in self.edits.iter().filter(|edit| edit.file == file) {
            if !text.contains(edit.find) {
                return Err(fail(file, 0, &format!("an edit looks for '{}', which is not there", edit.find)));
            }
            text = text.replace(edit.find, edit.replace);
        }
        let lines: Vec<&str> = text.lines().collect();
        self.lines(file, &lines, 0)
    }

    fn lines(&mut self, file: &str, lines: &[&str], first: usize) -> Result<()> {
        let mut at = 0;
        while at < lines.len() {
            let number = first + at + 1;
            let word = lines[at].trim_start();
            if let Some(condition) = word.strip_prefix("#if ") {
                let block = block(lines, at, "#if ", "#endif")
                    .ok_or_else(|| fail(file, number, "#if without #endif"))?;
                let holds = match condition.split_once("==") {
                    Some((key, value)) => self.defines.get(key.trim()).is_some_and(|v| v == value.trim()),
                    None => self.defines.get(condition.trim()).is_some_and(|v| v != "0"),
                };
                let middle = block.middle.unwrap_or(block.end);
                let (from, to) =
                    if holds { (at + 1, middle) } else { ((middle + 1).min(block.end), block.end) };
                self.lines(file, &lines[from..to], first + from)?;
                at = block.end;
            } else if let Some(head) = word.strip_prefix("#for ") {
                let block = block(lines, at, "#for ", "#endfor")
                    .ok_or_else(|| fail(file, number, "#for without #endfor"))?;
                let (name, count) = head
                    .trim()
                    .split_once(' ')
                    .ok_or_else(|| fail(file, number, "#for wants a name and a count"))?;
                let count = self.defines.get(count.trim()).map_or(count.trim(), String::as_str);
                let count: usize =
                    count.parse().map_err(|_| fail(file, number, "#for wants a number or a define"))?;
                for i in 0..count {
                    self.defines.insert(name.to_owned(), i.to_string());
                    self.lines(file, &lines[at + 1..block.end], first + at + 1)?;
                }
                self.defines.remove(name);
                at = block.end;
            } else if let Some(name) = word.strip_prefix("#import ") {
                self.file(name.trim())?;
            } else if word.starts_with("#e") {
                return Err(fail(file, number, "a directive that closes nothing"));
            } else {
                self.line(lines[at]).map_err(|why| fail(file, number, &why))?;
            }
            at += 1;
        }
        Ok(())
    }

    fn line(&mut self, line: &str) -> std::result::Result<(), String> {
        let mut rest = line;
        while let Some(start) = rest.find("#{") {
            let end = rest[start..].find('}').ok_or("#{ without }")?;
            let key = &rest[start + 2..start + end];
            let value = self.defines.get(key).ok_or_else(|| format!("nothing defines {key}"))?;
            self.out.push_str(&rest[..start]);
            self.out.push_str(value);
            rest = &rest[start + end + 1..];
        }
        self.out.push_str(rest);
        self.out.push('\n');
        Ok(())
    }
}

struct Block {
    middle: Option<usize>,
    end: usize,
}

/// Where the block opened at `lines[at]` ends, and its `#else` if it has one.
fn block(lines: &[&str], at: usize, open: &str, close: &str) -> Option<Block> {
    let (mut depth, mut middle) = (0usize, None);
    for (index, line) in lines.iter().enumerate().skip(at) {
        let word = line.trim_start();
        if word.starts_with(open) {
            depth += 1;
        } else if word == "#else" && depth == 1 && open == "#if " {
            middle = Some(index);
        } else if word == close {
            depth -= 1;
            if depth == 0 {
                return Some(Block { middle, end: index });
            }
        }
    }
    None
}

fn fail(file: &str, line: usize, why: &str) -> Error {
    Error::new("building a kernel", why).at(format!("wgsl/{file}.wgsl:{line}"))
}
