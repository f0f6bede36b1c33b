//! The roofline of a profile as an SVG picture: operations a second over operations a byte, both axes logarithmic, the two
//! ceilings, and a dot for each kind of work of each part.

use crate::gpu::{Ceilings, Group, GroupBy, ProfileReport};

const WIDTH: f64 = 1080.0;
const HEIGHT: f64 = 720.0;
/// The plot's edges: left, top, right, bottom.
const EDGES: [f64; 4] = [90.0, 70.0, 1050.0, 600.0];
const COLOURS: [&str; 4] = ["#1b7f79", "#d1495b", "#30519c", "#8a6d1d"];
/// An average letter of a label and a line of labels, pixels.
const LETTER: f64 = 6.6;
const LINE: f64 = 14.0;

/// A range of powers of ten and the pixels it lies in.
#[derive(Clone, Copy)]
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// A little beyond all values.
    fn around(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|v| v.is_finite() && *v > 0.0) {
            (low, high) = (low.min(value.log10()), high.max(value.log10()));
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        Self { low: low - 0.25, high: high + 0.25, from, to }
    }

    fn place(self, value: f64) -> f64 {
        self.from + (value.log10() - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    fn decades(self) -> impl Iterator<Item = f64> {
        (self.low.ceil() as i32..=self.high.floor() as i32).map(|decade| 10f64.powi(decade))
    }
}

/// Left, top, right and bottom of something drawn.
type Area = [f64; 4];

fn meet(a: Area, b: Area) -> bool {
    a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3]
}

struct Dot<'a> {
    group: &'a Group,
    colour: &'a str,
    x: f64,
    y: f64,
    radius: f64,
}

/// The picture of a profile. Without ceilings there are dots only.
pub fn svg(profile: &ProfileReport) -> String {
    let groups: Vec<(usize, Group)> = profile
        .parts
        .iter()
        .enumerate()
        .flat_map(|(n, part)| profile.groups(&part.part, GroupBy::Kind).into_iter().map(move |g| (n, g)))
        .collect();
    let (drawn, without): (Vec<_>, Vec<_>) =
        groups.iter().partition(|(_, g)| g.totals.flops > 0.0 && g.totals.bytes > 0.0 && g.totals.ms > 0.0);
    let ceilings = profile.ceilings.as_ref();
    let ridge = ceilings.map(|c| c.gflop_s / c.read_gb_s);
    let [left, top, right, bottom] = EDGES;
    let intensities = drawn.iter().map(|(_, g)| g.totals.intensity());
    let x = Axis::around(intensities.chain(ridge), left, right);
    let rates = drawn.iter().map(|(_, g)| g.totals.gflop_s());
    let y = Axis::around(rates.chain(ceilings.map(|c| c.gflop_s)), bottom, top);

    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n"
    );
    out += &words(
        left,
        30.0,
        "start",
        "font-size=\"18\" fill=\"#222222\"",
        &format!("Roofline: {}", profile.adapter),
    );
    out += &grid(x, y);
    if let Some(ceilings) = ceilings {
        out += &roofs(ceilings, x, y);
    }
    out += &dots(profile, &drawn, x, y);
    out += &legend(profile, &without);
    out + "</svg>\n"
}

fn grid(x: Axis, y: Axis) -> String {
    let [left, top, right, bottom] = EDGES;
    let mut out = String::new();
    for value in x.decades() {
        let at = x.place(value);
        out += &line([at, top, at, bottom], "stroke=\"#e3e3e3\"");
        out += &words(at, bottom + 18.0, "middle", "fill=\"#555555\"", &value.to_string());
    }
    for value in y.decades() {
        let at = y.place(value);
        out += &line([left, at, right, at], "stroke=\"#e3e3e3\"");
        out += &words(left - 8.0, at + 4.0, "end", "fill=\"#555555\"", &value.to_string());
    }
    let middle = f64::midpoint(left, right);
    out += &words(middle, bottom + 40.0, "middle", "fill=\"#222222\"", "operations a byte (FLOP/B)");
    let turned = format!("fill=\"#222222\" transform=\"rotate(-90 24 {0})\"", f64::midpoint(top, bottom));
    out + &words(24.0, f64::midpoint(top, bottom), "middle", &turned, "GFLOP/s")
}

fn roofs(ceilings: &Ceilings, x: Axis, y: Axis) -> String {
    let right = EDGES[2];
    let ridge = ceilings.gflop_s / ceilings.read_gb_s;
    // The bandwidth's roof begins at the left edge or at the lower one.
    let first = (10f64.powf(y.low) / ceilings.read_gb_s).max(10f64.powf(x.low));
    let (fx, fy) = (x.place(first), y.place(first * ceilings.read_gb_s));
    let (rx, ry) = (x.place(ridge), y.place(ceilings.gflop_s));
    let mut out = format!(
        "<polyline points=\"{fx:.1},{fy:.1} {rx:.1},{ry:.1} {right:.1},{ry:.1}\" fill=\"none\" stroke=\"#222222\" stroke-width=\"2\"/>\n"
    );
    let peak = format!("{} GFLOP/s multiply-adds", significant(ceilings.gflop_s));
    out += &words(right - 4.0, ry - 8.0, "end", "fill=\"#222222\"", &peak);
    let read = format!("{} GB/s reading", significant(ceilings.read_gb_s));
    let (mx, my) = (f64::midpoint(fx, rx), f64::midpoint(fy, ry));
    let angle = (ry - fy).atan2(rx - fx).to_degrees();
    let turned = format!("fill=\"#222222\" transform=\"rotate({angle:.1} {mx:.1} {my:.1})\"");
    out += &words(mx, my - 8.0, "middle", &turned, &read);
    out
}

fn dots(profile: &ProfileReport, drawn: &[&(usize, Group)], x: Axis, y: Axis) -> String {
    let mut all: Vec<Dot<'_>> = drawn
        .iter()
        .map(|(part, group)| {
            let share = group.totals.ms / profile.totals(&group.part).ms.max(1e-9);
            Dot {
                group,
                colour: COLOURS[part % COLOURS.len()],
                x: x.place(group.totals.intensity()),
                y: y.place(group.totals.gflop_s()),
                radius: 3.0 + 14.0 * share.sqrt(),
            }
        })
        .collect();
    // Large ones first, so that none hides a smaller one.
    all.sort_by(|a, b| b.radius.total_cmp(&a.radius));
    let mut out = String::new();
    for dot in &all {
        let totals = &dot.group.totals;
        out += &format!(
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"{:.1}\" fill=\"{}\" fill-opacity=\"0.75\" stroke=\"#ffffff\"><title>{} {}: {:.3} ms, {} GFLOP/s, {} GB/s, {} FLOP/B</title></circle>\n",
            dot.x,
            dot.y,
            dot.radius,
            dot.colour,
            escaped(&dot.group.part),
            escaped(&dot.group.kind),
            totals.ms,
            significant(totals.gflop_s()),
            significant(totals.gb_s()),
            significant(totals.intensity()),
        );
    }
    let round = |d: &Dot<'_>| [d.x - d.radius, d.y - d.radius, d.x + d.radius, d.y + d.radius];
    let mut taken: Vec<Area> = all.iter().map(round).collect();
    for dot in &all {
        let label = &dot.group.kind;
        let width = label.chars().count() as f64 * LETTER;
        let (place, area) = free_place(dot, width, &taken);
        taken.push(area);
        let near = [place[0].clamp(area[0], area[2]), f64::midpoint(area[1], area[3])];
        let far = (near[0] - dot.x).hypot(near[1] - dot.y) > dot.radius + 24.0;
        if far {
            out += &line(
                [dot.x, dot.y, near[0], near[1]],
                &format!("stroke=\"{}\" stroke-opacity=\"0.5\"", dot.colour),
            );
        }
        // White around the letters first: not every reader knows `paint-order`.
        let halo = "fill=\"#ffffff\" stroke=\"#ffffff\" stroke-width=\"3\" stroke-linejoin=\"round\" aria-hidden=\"true\"";
        out += &words(area[0], area[3] - 3.0, "start", halo, label);
        out += &words(area[0], area[3] - 3.0, "start", &format!("fill=\"{}\"", dot.colour), label);
    }
    out
}

/// Where a label of this width meets nothing that is there: beside the dot, or as near to it as can be.
fn free_place(dot: &Dot<'_>, width: f64, taken: &[Area]) -> ([f64; 2], Area) {
    let area = |left: f64, middle: f64| [left, middle - LINE / 2.0, left + width, middle + LINE / 2.0];
    let [left, top, right, bottom] = EDGES;
    let fits = |a: &Area| {
        a[0] >= left && a[2] <= right && a[1] >= top && a[3] <= bottom && !taken.iter().any(|b| meet(*a, *b))
    };
    for ring in 0..24 {
        let away = dot.radius + 4.0 + 9.0 * f64::from(ring);
        for step in 0..16 {
            // Right, left, then up and down in turn.
            let angle = match step {
                0 => 0.0,
                1 => 180.0,
                n => 22.5 * f64::from(n / 2) * if n % 2 == 0 { 1.0 } else { -1.0 },
            };
            let (sin, cos) = f64::to_radians(angle).sin_cos();
            let (px, py) = (dot.x + away * cos, dot.y + away * sin);
            let from = if cos.abs() < 0.3 {
                px - width / 2.0
            } else if cos < 0.0 {
                px - width
            } else {
                px
            };
            let candidate = area(from, py);
            if fits(&candidate) {
                return ([px, py], candidate);
            }
        }
    }
    ([dot.x, dot.y], area(dot.x + dot.radius + 4.0, dot.y))
}

fn legend(profile: &ProfileReport, without: &[&(usize, Group)]) -> String {
    let mut out = String::new();
    let mut at = EDGES[0];
    for (n, part) in profile.parts.iter().enumerate() {
        let colour = COLOURS[n % COLOURS.len()];
        out += &format!("<circle cx=\"{:.1}\" cy=\"50\" r=\"6\" fill=\"{colour}\"/>\n", at + 6.0);
        let text = format!("{} ({:.1} ms in kernels)", part.part, part.kernels_ms);
        out += &words(at + 18.0, 54.0, "start", "fill=\"#222222\"", &text);
        at += 40.0 + text.chars().count() as f64 * LETTER;
    }
    let style = "fill=\"#555555\"";
    let text = "A dot grows with its share of its part's time. Operations and bytes are what the work asks for at least; \
                dots pass the slope where data comes out of caches.";
    out += &words(EDGES[0], EDGES[3] + 68.0, "start", style, text);
    if !without.is_empty() {
        let names: Vec<String> = without.iter().map(|(_, g)| format!("{} ({})", g.kind, g.part)).collect();
        let text = format!("Not shown, without operations: {}.", names.join(", "));
        out += &words(EDGES[0], EDGES[3] + 86.0, "start", style, &text);
    }
    out
}

fn words(x: f64, y: f64, anchor: &str, style: &str, text: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" {style}>{}</text>\n", escaped(text))
}

fn line([x1, y1, x2, y2]: [f64; 4], style: &str) -> String {
    format!("<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" {style}/>\n")
}

/// Three digits that say something.
fn significant(value: f64) -> String {
    let digits = 2 - value.abs().max(1e-9).log10().floor() as i32;
    format!("{value:.*}", usize::try_from(digits).unwrap_or(0))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{KernelRow, PartTime, Totals};

    fn profile(ceilings: Option<Ceilings>) -> ProfileReport {
        let row = |kind: &str, ms, flops, bytes| KernelRow {
            part: "decode".to_owned(),
            layer: None,
            kind: kind.to_owned(),
            kernel: "k".to_owned(),
            workgroups: [1, 1, 1],
            totals: Totals { count: 1, untimed: 0, ms, flops, bytes },
        };
        ProfileReport {
            adapter: "A & B <C>".to_owned(),
            driver: String::new(),
            method: String::new(),
            rows: vec![
                row("down", 2.0, 1e7, 5e6),
                row("up", 2.0, 1.01e7, 5e6),
                row("norm", 0.1, 1e5, 2e5),
                row("embedding", 0.1, 0.0, 2e5),
            ],
            parts: vec![PartTime {
                part: "decode".to_owned(),
                steps: 1,
                whole_ms: 4.5,
                kernels_ms: 4.2,
                gaps_ms: 0.3,
                between_submissions_ms: 0.0,
                overlap_ms: 0.0,
                copies: 0,
                untimed: 0,
            }],
            ceilings,
        }
    }

    #[test]
    fn a_dot_stands_under_the_roof_where_its_figures_say_and_labels_do_not_meet() {
        let ceilings = Ceilings { read_gb_s: 10.0, gflop_s: 100.0, how: String::new() };
        let text = svg(&profile(Some(ceilings)));
        assert_eq!(text.matches("<circle").count(), 4, "three kinds and the legend's");
        assert!(text.contains("Not shown, without operations: embedding (decode)."), "{text}");
        assert!(text.contains("100 GFLOP/s") && text.contains("10.0 GB/s reading"), "{text}");
        assert!(
            text.contains("A &amp; B &lt;C&gt;") && !text.contains("NaN") && !text.contains("inf"),
            "{text}"
        );
        for kind in ["down", "up", "norm"] {
            assert!(text.contains(&format!(">{kind}</text>")), "{kind}");
        }
        let groups = [(0.0, 0.0, 3.0), (1.0, 1.0, 3.0)];
        let group = profile(None).groups("decode", GroupBy::Kind).swap_remove(0);
        let mut taken = Vec::new();
        for (dx, dy, radius) in groups {
            let dot = Dot { group: &group, colour: "", x: 400.0 + dx, y: 300.0 + dy, radius };
            let (_, area) = free_place(&dot, 40.0, &taken);
            assert!(!taken.iter().any(|other| meet(area, *other)));
            taken.push(area);
        }
    }

    #[test]
    fn decades_lie_at_equal_distances_and_all_values_between_the_edges() {
        let axis = Axis::around([0.5, 400.0].into_iter(), 0.0, 300.0);
        let decades: Vec<f64> = axis.decades().collect();
        assert_eq!(decades, [1.0, 10.0, 100.0]);
        let [a, b, c] = [0, 1, 2].map(|n| axis.place(decades[n]));
        assert!((b - a - (c - b)).abs() < 1e-9 && a > 0.0 && c < 300.0, "{a} {b} {c}");
        assert!(axis.place(0.5) > 0.0 && axis.place(400.0) < 300.0);
    }

    #[test]
    fn without_ceilings_or_work_there_is_a_picture_all_the_same() {
        assert!(!svg(&profile(None)).contains("<polyline"));
        let empty = ProfileReport { rows: Vec::new(), ..profile(None) };
        assert!(svg(&empty).ends_with("</svg>\n"));
    }

    #[test]
    fn numbers_have_three_digits() {
        assert_eq!(significant(1234.5), "1234");
        assert_eq!(significant(12.345), "12.3");
        assert_eq!(significant(0.012_345), "0.0123");
    }
}
