//! Room `compare`: numbers, times and reasons as a report says them.

use serde_json::Value;

use crate::compare::judge::statistics::{Interval, Proportion};
use crate::compare::result::CellResult;
use crate::engine::StopReason;

/// Why a cell ended, in one word of the file of results; nothing where there is no answer.
pub(super) fn reason(result: &CellResult) -> &'static str {
    match result.reason {
        _ if result.error.is_some() => "",
        StopReason::End => "end",
        StopReason::StopString => "stop_string",
        StopReason::MaxTokens => "max_tokens",
        StopReason::ContextFull => "context_full",
        StopReason::Cancelled => "cancelled",
    }
}

/// The same for people, where it is worth a word.
pub(super) fn ended(result: &CellResult) -> Option<&'static str> {
    match result.reason {
        _ if result.error.is_some() => None,
        StopReason::End => None,
        StopReason::StopString => Some("ended at a stop text"),
        StopReason::MaxTokens => Some("cut off at max_tokens"),
        StopReason::ContextFull => Some("cut off: the context was full"),
        StopReason::Cancelled => Some("stopped"),
    }
}

/// A number with so many digits after the point, and a minus that is as wide as a digit.
pub(super) fn number(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    match text.strip_prefix('-') {
        Some(rest) if rest.chars().any(|c| c.is_ascii_digit() && c != '0') => format!("−{rest}"),
        Some(rest) => rest.to_owned(),
        None => text,
    }
}

/// Milliseconds.
pub(super) fn time(ms: f64) -> String {
    match ms {
        ms if ms < 9.95 => format!("{} ms", number(ms, 1)),
        ms if ms < 999.5 => format!("{} ms", number(ms, 0)),
        ms => format!("{} s", number(ms / 1e3, 2)),
    }
}

/// A whole number with its thousands apart.
pub(super) fn count(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 row`, `2 rows`.
pub(super) fn counted(n: usize, what: &str) -> String {
    format!("{} {what}{}", count(n), if n == 1 { "" } else { "s" })
}

/// A share, from 0 to 1.
pub(super) fn percent(share: f64) -> String {
    format!("{} %", number(share * 100.0, 0))
}

/// Where shares lie.
pub(super) fn percents(interval: Interval) -> String {
    format!("{}–{}", number(interval.low * 100.0, 0), percent(interval.high))
}

/// A share with how sure it is.
pub(super) fn share(of: Proportion) -> Option<String> {
    Some(format!("{} ({})", percent(of.rate()?), percents(of.interval()?)))
}

/// How likely chance alone is.
pub(super) fn p_value(p: f64) -> String {
    if p < 0.001 { "p < 0.001".to_owned() } else { format!("p = {}", number(p, if p < 0.1 { 3 } else { 2 })) }
}

/// A time as people write it: `2026-03-09 14:05 UTC`, of seconds since 1970. Days become dates as in Howard Hinnant's
/// `civil_from_days` (<https://howardhinnant.github.io/date_algorithms.html>).
pub(super) fn utc(secs: u64) -> String {
    let (days, rest) = (secs / 86_400, secs % 86_400);
    let z = days + 719_468;
    let (era, of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", rest / 3600, rest % 3600 / 60)
}

/// A setting's value as it is written.
pub(super) fn told(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(told).collect::<Vec<_>>().join(", "),
        // An earlier turn: its pictures and its text.
        Value::Object(table) => {
            let of = |name: &str| table.get(name).map(told).unwrap_or_default();
            let all = [of("pictures"), of("text")].into_iter().filter(|text| !text.is_empty());
            format!("{}: {}", of("role"), all.collect::<Vec<_>>().join(" "))
        }
        // Settings are f32: 0.7 is not to be 0.699999988.
        Value::Number(n) => match n.as_f64() {
            Some(value) if n.is_f64() && f64::from(value as f32).to_bits() == value.to_bits() => {
                (value as f32).to_string()
            }
            _ => n.to_string(),
        },
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        // `date -u -d @N`
        for (secs, text) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_399, "2000-02-28 23:59 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (1_709_251_200, "2024-03-01 00:00 UTC"),
            (4_107_542_400, "2100-03-01 00:00 UTC"),
            (1_798_761_599, "2026-12-31 23:59 UTC"),
        ] {
            assert_eq!(utc(secs), text);
        }
    }

    #[test]
    fn numbers_are_short_and_nothing_is_less_than_zero_by_rounding() {
        assert_eq!([number(-0.001, 2), number(-1.5, 1), number(12.0, 0)], ["0.00", "−1.5", "12"]);
        assert_eq!([time(3.21), time(812.4), time(1240.0)], ["3.2 ms", "812 ms", "1.24 s"]);
        assert_eq!([count(7), count(1000), count(1_234_567)], ["7", "1,000", "1,234,567"]);
        assert_eq!(counted(1, "row") + &counted(2, "row"), "1 row2 rows");
        assert_eq!(share(Proportion { yes: 1, of: 2 }).unwrap(), "50 % (9–91 %)");
        assert_eq!([p_value(0.0004), p_value(0.031), p_value(1.0)], ["p < 0.001", "p = 0.031", "p = 1.00"]);
        assert_eq!(told(&serde_json::json!(0.7_f32)), "0.7");
        assert_eq!(told(&serde_json::json!(["a", {"role": "user", "text": "b"}])), "a, user: b");
    }
}
