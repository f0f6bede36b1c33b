//! Room `chat`, template: numbers and JSON as Python writes them, which is what transformers' templates
//! print. Pure text.

use super::MARKS;
use minijinja::Value as Jinja;
use minijinja::value::{Kwargs, ValueKind};
use std::fmt::Write as _;

/// Bytes of JSON that is made at once, at most.
const MOST_JSON_BYTES: usize = 64 << 20;

type Result<T> = std::result::Result<T, minijinja::Error>;

/// Python's `json.dumps`, with transformers' defaults: `ensure_ascii=False`, separators `", "` and `": "`.
#[expect(clippy::needless_pass_by_value, reason = "filters get their arguments by value")]
pub(super) fn tojson(value: &Jinja, args: Kwargs) -> Result<String> {
    let mut dump = Dump {
        out: String::new(),
        ascii: args.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        indent: args.get::<Option<usize>>("indent")?,
        sort: args.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        item: ", ".to_owned(),
        key: ": ".to_owned(),
    };
    if dump.indent.is_some() {
        ",".clone_into(&mut dump.item);
    }
    if let Some(separators) = args.get::<Option<Jinja>>("separators")? {
        let texts = separators.try_iter()?.map(|s| s.to_string()).collect::<Vec<_>>();
        if let [item, key] = texts.as_slice() {
            (dump.item, dump.key) = (item.clone(), key.clone());
        }
    }
    args.assert_all_used()?;
    dump.value(value, 0)?;
    Ok(dump.out)
}

struct Dump {
    out: String,
    ascii: bool,
    indent: Option<usize>,
    sort: bool,
    item: String,
    key: String,
}

impl Dump {
    fn value(&mut self, value: &Jinja, depth: usize) -> Result<()> {
        let bad = |what: String| minijinja::Error::new(minijinja::ErrorKind::BadSerialization, what);
        // Lists may hold each other many times, and that many times more.
        if self.out.len() > MOST_JSON_BYTES {
            return Err(minijinja::ErrorKind::OutOfFuel.into());
        }
        if depth > 200 {
            return Err(bad("tojson: nested too deeply".to_owned()));
        }
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number if value.is_integer() => {
                let _ = write!(self.out, "{value}");
            }
            ValueKind::Number => {
                let number = f64::try_from(value.clone())?;
                self.out.push_str(&match number {
                    n if n.is_nan() => "NaN".to_owned(),
                    n if n.is_infinite() => if n > 0.0 { "Infinity" } else { "-Infinity" }.to_owned(),
                    n => python_float(n),
                });
            }
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?.collect::<Vec<_>>();
                self.list('[', ']', depth, items, |dump, item| dump.value(&item, depth + 1))?;
            }
            ValueKind::Map => {
                let mut keys = value.try_iter()?.collect::<Vec<_>>();
                if self.sort {
                    keys.sort();
                }
                self.list('{', '}', depth, keys, |dump, key| {
                    if let Some(key) = key.as_str() {
                        dump.string(key);
                    } else {
                        // Python writes other keys as their JSON in quotes.
                        dump.out.push('"');
                        dump.value(&key, depth + 1)?;
                        dump.out.push('"');
                    }
                    dump.out.push_str(&dump.key.clone());
                    dump.value(&value.get_item(&key)?, depth + 1)
                })?;
            }
            other => return Err(bad(format!("tojson: {other} is not JSON serializable"))),
        }
        Ok(())
    }

    fn list(
        &mut self,
        open: char,
        close: char,
        depth: usize,
        items: Vec<Jinja>,
        mut write: impl FnMut(&mut Self, Jinja) -> Result<()>,
    ) -> Result<()> {
        self.out.push(open);
        let empty = items.is_empty();
        for (i, item) in items.into_iter().enumerate() {
            if i > 0 {
                self.out.push_str(&self.item.clone());
            }
            self.line(depth + 1);
            write(self, item)?;
        }
        if !empty {
            self.line(depth);
        }
        self.out.push(close);
        Ok(())
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = self.indent {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n(' ', indent.min(64) * depth));
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                c if c < ' ' => {
                    let _ = write!(self.out, "\\u{:04x}", u32::from(c));
                }
                // A mark stays a mark, or its token could not be told from the template's own.
                c if self.ascii && !c.is_ascii() && !MARKS.contains(&c) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let _ = write!(self.out, "\\u{unit:04x}");
                    }
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }
}

/// Python's `repr` of a float: the shortest digits that read back, with an exponent below 1e-4 and from 1e16.
pub(super) fn python_float(number: f64) -> String {
    let scientific = format!("{number:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return number.to_string() };
    match exponent.parse::<i32>() {
        Ok(e) if !(-4..16).contains(&e) => {
            format!("{digits}e{}{:02}", if e < 0 { '-' } else { '+' }, e.abs())
        }
        _ => format!("{number:?}"),
    }
}

#[cfg(test)]
mod tests {
    use minijinja::Environment;

    #[test]
    fn json_is_written_as_python_writes_it() {
        let mut env = Environment::new();
        env.add_filter("tojson", super::tojson);
        let value = r#"{"é": "<a&'\"\\\n\t\x01\x7f>", "n": [1, -2.5, 1e16, 1e-5, 1e22, 123456789012345680.0, 0.1, true, none], "e": {}, "l": []}"#;
        let dump = |filter: &str| env.render_str(&format!("{{{{ {value} | {filter} }}}}"), ()).unwrap();
        // Python 3.11: json.dumps(..., ensure_ascii=False)
        assert_eq!(
            dump("tojson"),
            "{\"é\": \"<a&'\\\"\\\\\\n\\t\\u0001\u{7f}>\", \"n\": [1, -2.5, 1e+16, 1e-05, 1e+22, 1.2345678901234568e+17, 0.1, true, null], \"e\": {}, \"l\": []}"
        );
        assert!(dump("tojson(ensure_ascii=true)").starts_with("{\"\\u00e9\": "));
        assert!(dump("tojson(sort_keys=true)").starts_with("{\"e\": {}, \"l\": []"));
        assert!(dump("tojson(indent=2)").starts_with("{\n  \"é\": \""));
        assert!(dump("tojson(separators=(',', ':'))").starts_with("{\"é\":\""));
    }

    #[test]
    fn floats_are_python_s() {
        for (number, text) in [
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (0.1 + 0.2, "0.30000000000000004"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e-5, "1.5e-05"),
            (1e-4, "0.0001"),
            (1e300, "1e+300"),
            (5e-324, "5e-324"),
        ] {
            assert_eq!(super::python_float(number), text);
        }
    }
}
