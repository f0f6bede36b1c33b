//! Room `compare`: variables. `{{name}}` in a text stands for a value; values may hold variables in turn.

use std::collections::HashMap;

use crate::error::{Error, Result};

const DOING: &str = "filling in variables";
/// Bytes of a text with its variables filled in, at most: values that hold each other twice grow fast.
const MAX_BYTES: usize = 4 << 20;

/// Bytes between the braces of a name, at most.
const MOST_NAME_BYTES: usize = 200;

/// Is that a name `{{…}}` can hold?
///
/// # Errors
/// It is not.
pub fn check_name(name: &str) -> Result<()> {
    if is_name(name) {
        return Ok(());
    }
    let shown: String = name.chars().take(MOST_NAME_BYTES).collect();
    let why = format!("{shown:?} is no name of a variable");
    Err(Error::new("reading the comparison", why).quoting().help("letters, digits, _ and -, a letter first"))
}

fn is_name(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next().is_some_and(|c| c.is_alphabetic() || c == '_')
        && letters.all(|c| c.is_alphanumeric() || c == '_' || c == '-')
}

/// A text in pieces: what stands as it is, and names.
fn pieces(text: &str) -> Vec<(&str, Option<&str>)> {
    let mut pieces = Vec::new();
    let (mut from, mut at) = (0, 0);
    while let Some(open) = text[at..].find("{{").map(|n| at + n) {
        let inner = &text[open + 2..];
        // Not the whole rest: a text may be braces for megabytes.
        let near = &inner.as_bytes()[..inner.len().min(MOST_NAME_BYTES)];
        let close = near.windows(2).position(|two| two == b"}}");
        let name = close.map(|n| inner[..n].trim()).filter(|name| is_name(name));
        match (name, close) {
            (Some(name), Some(close)) => {
                pieces.push((&text[from..open], Some(name)));
                at = open + 2 + close + 2;
                from = at;
            }
            // Braces that hold no name are braces.
            _ => at = open + 1,
        }
    }
    pieces.push((&text[from..], None));
    pieces
}

/// The names in a text, in order.
pub fn names(text: &str) -> impl Iterator<Item = &str> {
    pieces(text).into_iter().filter_map(|(_, name)| name)
}

/// A text with its variables filled in.
///
/// # Errors
/// A variable is not known, holds itself, or the text grows beyond any prompt.
pub fn fill(text: &str, values: &HashMap<&str, &str>) -> Result<String> {
    let mut out = String::new();
    fill_into(text, values, &mut Vec::new(), &mut out)?;
    Ok(out)
}

fn fill_into<'t>(
    text: &'t str,
    values: &HashMap<&'t str, &'t str>,
    inside: &mut Vec<&'t str>,
    out: &mut String,
) -> Result<()> {
    for (plain, name) in pieces(text) {
        out.push_str(plain);
        if out.len() > MAX_BYTES {
            return Err(Error::new(DOING, format!("the text grows beyond {} MiB", MAX_BYTES >> 20)));
        }
        let Some(name) = name else { continue };
        if inside.contains(&name) {
            let around = inside.iter().chain([&name]).copied().collect::<Vec<_>>().join(" → ");
            return Err(Error::new(DOING, format!("{around}: it holds itself")).quoting());
        }
        let Some(value) = values.get(name) else {
            let mut known: Vec<&str> = values.keys().copied().collect();
            known.sort_unstable();
            let known = if known.is_empty() { "there is none".to_owned() } else { known.join(", ") };
            return Err(Error::new(DOING, format!("there is no variable {name} (known: {known})"))
                .quoting()
                .help("give it values under [variables]"));
        };
        inside.push(name);
        fill_into(value, values, inside, out)?;
        inside.pop();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str, values: &[(&str, &str)]) -> Result<String> {
        fill(text, &values.iter().copied().collect())
    }

    #[test]
    fn names_in_double_braces_become_values_also_in_values() {
        let values = [("a", "1"), ("b", "<{{a}}{{ a }}>"), ("größe-2", "x")];
        assert_eq!(filled("{{b}} {{größe-2}}.", &values).unwrap(), "<11> x.");
        assert_eq!(names("{{b}}{{ c }}").collect::<Vec<_>>(), ["b", "c"]);
    }

    #[test]
    fn braces_that_hold_no_name_stay_as_they_are() {
        for text in ["{{", "}}", "{{}}", "{{ a b }}", "{a}", r#"{"x": {"y": 1}}"#, "{{1}}", "\u{4e2d}{{"] {
            assert_eq!(filled(text, &[("a", "1")]).unwrap(), text);
        }
        assert_eq!(filled("{{{a}}}", &[("a", "1")]).unwrap(), "{1}");
    }

    #[test]
    fn cycles_unknown_names_and_endless_growth_are_refused() {
        let error = filled("{{a}}", &[("a", "{{b}}"), ("b", "{{a}}")]).unwrap_err().to_string();
        assert!(error.contains("a → b → a: it holds itself"), "{error}");
        let error = filled("{{c}}", &[("b", ""), ("a", "")]).unwrap_err().to_string();
        assert!(error.contains("no variable c (known: a, b)"), "{error}");
        let doubled: Vec<(String, String)> = (0..40)
            .map(|n| {
                (
                    format!("v{n}"),
                    if n == 0 { "xxxxxxxx".into() } else { format!("{{{{v{}}}}}{{{{v{}}}}}", n - 1, n - 1) },
                )
            })
            .collect();
        let doubled: Vec<(&str, &str)> = doubled.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert!(filled("{{v39}}", &doubled).unwrap_err().to_string().contains("grows beyond"));
    }
}
