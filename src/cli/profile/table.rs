//! A profile as tables of text.

use crate::gpu::{Ceilings, Group, GroupBy, PartTime, ProfileReport, Totals};

/// What rows are sorted by, the most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// Time.
    Ms,
    /// Bytes a second.
    GbS,
    /// Operations a second.
    GflopS,
    /// Dispatches.
    Count,
    /// The share of the roofline.
    Roofline,
}

impl std::str::FromStr for Sort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "ms" => Ok(Self::Ms),
            "gb_s" => Ok(Self::GbS),
            "gflop_s" => Ok(Self::GflopS),
            "count" => Ok(Self::Count),
            "roofline" => Ok(Self::Roofline),
            _ => Err("write ms, gb_s, gflop_s, count or roofline".to_owned()),
        }
    }
}

impl Sort {
    fn value(self, totals: &Totals, ceilings: Option<&Ceilings>) -> f64 {
        match self {
            Self::Ms => totals.ms,
            Self::GbS => totals.gb_s(),
            Self::GflopS => totals.gflop_s(),
            Self::Count => totals.count as f64,
            Self::Roofline => ceilings.map_or(0.0, |ceilings| totals.roofline_share(ceilings)),
        }
    }
}

/// Every part by kernel.
pub fn kernels(profile: &ProfileReport, sort: Sort) -> String {
    let part = |part: &PartTime| head(part) + &rows(profile, &part.part, GroupBy::Kernel, sort);
    profile.parts.iter().map(part).collect::<String>() + &ceilings(profile)
}

/// A part's whole and what it is made of.
pub fn head(part: &PartTime) -> String {
    let share = 100.0 * part.kernels_ms / part.whole_ms.max(1e-9);
    let mut text = format!(
        "{}: {} step{}, {:.2} ms from begin to end = {:.2} ms in kernels ({share:.1} %) + {:.2} ms between them",
        part.part,
        part.steps,
        if part.steps == 1 { "" } else { "s" },
        part.whole_ms,
        part.kernels_ms,
        part.gaps_ms
    );
    let mut notes = Vec::new();
    if part.between_submissions_ms > 0.0 {
        notes.push(format!("{:.2} ms between submissions", part.between_submissions_ms));
    }
    if part.copies > 0 {
        notes.push(format!("{} copies", part.copies));
    }
    if part.untimed > 0 {
        notes.push(format!("{} kernels whose times were missing or reversed", part.untimed));
    }
    if part.overlap_ms > 0.0 {
        notes.push(format!("kernels beside each other take {:.2} ms off", part.overlap_ms));
    }
    if !notes.is_empty() {
        text += &format!(" ({})", notes.join(", "));
    }
    text + "\n"
}

/// The rows of a part, by kernel or by kind.
pub fn rows(profile: &ProfileReport, part: &str, by: GroupBy, sort: Sort) -> String {
    let ceilings = profile.ceilings.as_ref();
    let mut groups = profile.groups(part, by);
    let value = |group: &Group| sort.value(&group.totals, ceilings);
    groups.sort_by(|a, b| value(b).total_cmp(&value(a)));
    let whole = profile.totals(part).ms;
    let mut text = format!(
        "{:>10} {:>6} {:>7} {:>10} {:>8} {:>9} {:>6}  {:<8} {:<15} {}\n",
        "ms",
        "%",
        "count",
        "us each",
        "GB/s",
        "GFLOP/s",
        "roof",
        "bound by",
        "kind",
        if by == GroupBy::Kernel { "kernel" } else { "" }
    );
    text.truncate(text.trim_end().len());
    text.push('\n');
    for group in groups {
        let line = format!("{} {:<15} {}", figures(&group.totals, whole, ceilings), group.kind, group.kernel);
        text += &format!("{}\n", line.trim_end());
    }
    text
}

fn figures(totals: &Totals, whole_ms: f64, ceilings: Option<&Ceilings>) -> String {
    let (share, bound) = match ceilings {
        Some(c) => (format!("{:.0} %", 100.0 * totals.roofline_share(c)), totals.bound(c).name()),
        None => ("-".to_owned(), "-"),
    };
    format!(
        "{:>10.3} {:>6.1} {:>7} {:>10.1} {:>8.2} {:>9.2} {share:>6}  {bound:<8}",
        totals.ms,
        100.0 * totals.ms / whole_ms.max(1e-9),
        totals.count,
        totals.us_each(),
        totals.gb_s(),
        totals.gflop_s(),
    )
}

/// Layers in a line.
const IN_LINE: usize = 4;

/// The layers of a part, a few in a line.
pub fn layers(profile: &ProfileReport, part: &str) -> String {
    let whole = profile.totals(part).ms.max(1e-9);
    let mut cells = Vec::new();
    for group in profile.groups(part, GroupBy::Layer) {
        let name = group.layer.map_or("no layer".to_owned(), |n| format!("layer {n:>2}"));
        let (ms, share) = (group.totals.ms, 100.0 * group.totals.ms / whole);
        cells.push(format!("{name} {ms:>9.3} ms {share:>4.1} %"));
    }
    cells.chunks(IN_LINE).map(|line| line.join("   ") + "\n").collect()
}

/// The device's limits, in a line.
pub fn ceilings(profile: &ProfileReport) -> String {
    match &profile.ceilings {
        Some(c) => {
            let ridge = c.gflop_s / c.read_gb_s;
            format!(
                "ceilings: {:.2} GB/s of reading, {:.1} GFLOP/s of f32 multiply-adds; they meet at {ridge:.1} operations a byte\n",
                c.read_gb_s, c.gflop_s
            )
        }
        None => "ceilings: not measured\n".to_owned(),
    }
}

/// Lines of at most `width` characters.
pub fn wrapped(text: &str, width: usize) -> String {
    let (mut all, mut line) = (String::new(), String::new());
    for word in text.split_whitespace() {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            all += &(std::mem::take(&mut line) + "\n");
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    all + &line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::KernelRow;

    fn row(layer: Option<u32>, kind: &str, ms: f64, flops: f64, bytes: f64) -> KernelRow {
        KernelRow {
            part: "decode".to_owned(),
            layer,
            kind: kind.to_owned(),
            kernel: format!("kernel of {kind}"),
            workgroups: [1, 1, 1],
            totals: Totals { count: 3, untimed: 0, ms, flops, bytes },
        }
    }

    fn profile(ceilings: Option<Ceilings>) -> ProfileReport {
        ProfileReport {
            adapter: "a".to_owned(),
            driver: "d".to_owned(),
            method: "how".to_owned(),
            rows: vec![
                row(Some(0), "down", 6.0, 12e6, 3e6),
                row(Some(1), "norm", 3.0, 1e6, 27e6),
                row(None, "head", 1.0, 9e6, 1e6),
            ],
            parts: Vec::new(),
            ceilings,
        }
    }

    #[test]
    fn rows_come_in_the_order_asked_for_and_say_which_ceiling_they_are_under() {
        let ceilings = Ceilings { read_gb_s: 10.0, gflop_s: 20.0, how: String::new() };
        let profile = profile(Some(ceilings));
        let kinds = |sort| -> Vec<String> {
            let table = rows(&profile, "decode", GroupBy::Kind, sort);
            table.lines().skip(1).map(|l| l.split_whitespace().last().unwrap().to_owned()).collect()
        };
        assert_eq!(kinds(Sort::Ms), ["down", "norm", "head"]);
        assert_eq!(kinds(Sort::GbS), ["norm", "head", "down"]);
        assert_eq!(kinds(Sort::GflopS), ["head", "down", "norm"]);
        assert_eq!(kinds(Sort::Roofline), ["norm", "head", "down"]);
        let table = rows(&profile, "decode", GroupBy::Kernel, Sort::Ms);
        let line = table.lines().nth(1).unwrap();
        let expected = ["6.000", "60.0", "3", "2000.0", "0.50", "2.00", "10", "%", "compute", "down"];
        assert!(line.split_whitespace().take(10).eq(expected), "{line}");
        assert!(line.ends_with("kernel of down"), "{line}");
        assert!(layers(&profile, "decode").contains("layer  1     3.000 ms 30.0 %"));
        assert!(layers(&profile, "decode").contains("no layer     1.000 ms 10.0 %"));
    }

    #[test]
    fn without_ceilings_a_table_says_so() {
        let profile = profile(None);
        assert!(rows(&profile, "decode", GroupBy::Kind, Sort::Roofline).contains(" -  -  "));
        assert_eq!(ceilings(&profile), "ceilings: not measured\n");
    }

    #[test]
    fn a_part_says_what_its_whole_is_made_of() {
        let part = PartTime {
            part: "decode".to_owned(),
            steps: 2,
            whole_ms: 10.0,
            kernels_ms: 9.0,
            gaps_ms: 1.0,
            between_submissions_ms: 0.5,
            overlap_ms: 0.0,
            copies: 0,
            untimed: 3,
        };
        let text = head(&part);
        for words in ["2 steps", "10.00 ms", "9.00 ms in kernels (90.0 %)", "+ 1.00 ms", "0.50", "3 kernels"]
        {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert!(!text.contains("copies"), "{text}");
    }

    #[test]
    fn lines_are_no_longer_than_asked_for() {
        assert_eq!(wrapped("one two three", 7), "one two\nthree\n");
    }
}
