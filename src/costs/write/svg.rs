//! Plots as SVG: for papers and notes, without the window.

use std::fmt::Write;

use crate::costs::{Costs, Part, floor_ms, histogram, parts, rate_over_time};

/// What is plotted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plot {
    /// Latency of each token over its place in the context, with the bandwidth's floor.
    #[default]
    Latency,
    /// How often each latency occurs.
    Histogram,
    /// Tokens a second over time.
    Rate,
    /// Where the time went.
    Parts,
}

impl Plot {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Latency, Self::Histogram, Self::Rate, Self::Parts];
}

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 70.0;
const BOTTOM: f64 = 50.0;
const TOP: f64 = 40.0;
const RIGHT: f64 = 20.0;
/// Okabe and Ito's colours, which people of any sight tell apart.
const COLOURS: [&str; 8] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#f0e442", "#999999"];
/// Points drawn of one answer, at most.
const MOST_POINTS: usize = 20_000;

/// Axes from 0 (or a least value) to round ends.
struct Axes {
    x: [f64; 2],
    y: [f64; 2],
    out: String,
}

impl Axes {
    fn new(title: &str, x: ([f64; 2], &str), y: ([f64; 2], &str)) -> Self {
        let mut out = String::new();
        let _ = write!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n\
             <text x=\"{LEFT}\" y=\"22\" font-size=\"15\">{}</text>\n",
            escaped(title)
        );
        let mut axes = Self { x: x.0, y: y.0, out };
        for tick in ticks(axes.x) {
            let at = axes.at(tick, axes.y[0]);
            let _ = writeln!(
                axes.out,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                at.0,
                HEIGHT - BOTTOM + 18.0,
                short(tick)
            );
        }
        for tick in ticks(axes.y) {
            let at = axes.at(axes.x[0], tick);
            let _ = writeln!(
                axes.out,
                "<path d=\"M{LEFT} {:.1}H{}\" stroke=\"#dddddd\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                at.1,
                WIDTH - RIGHT,
                LEFT - 6.0,
                at.1 + 4.0,
                short(tick)
            );
        }
        let _ = writeln!(
            axes.out,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text><text transform=\"translate(16 {}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            (LEFT + WIDTH - RIGHT) / 2.0,
            HEIGHT - 10.0,
            x.1,
            (TOP + HEIGHT - BOTTOM) / 2.0,
            y.1
        );
        axes
    }

    fn at(&self, x: f64, y: f64) -> (f64, f64) {
        let share =
            |value: f64, [from, to]: [f64; 2]| ((value - from) / (to - from).max(1e-12)).clamp(0.0, 1.0);
        let right = LEFT + share(x, self.x) * (WIDTH - LEFT - RIGHT);
        let down = HEIGHT - BOTTOM - share(y, self.y) * (HEIGHT - TOP - BOTTOM);
        (right, down)
    }

    fn points(&mut self, points: impl Iterator<Item = (f64, f64)>, colour: &str) {
        let mut path = String::new();
        for (x, y) in points {
            let (x, y) = self.at(x, y);
            let _ = write!(path, "M{x:.1} {y:.1}h0");
        }
        let _ = writeln!(
            self.out,
            "<path d=\"{path}\" stroke=\"{colour}\" stroke-width=\"3.5\" stroke-linecap=\"round\" fill=\"none\" opacity=\"0.6\"/>"
        );
    }

    fn line(&mut self, points: impl Iterator<Item = (f64, f64)>, colour: &str, dashes: &str) {
        let mut path = String::new();
        for (x, y) in points {
            let (x, y) = self.at(x, y);
            let _ = write!(path, "{}{x:.1} {y:.1}", if path.is_empty() { 'M' } else { 'L' });
        }
        let _ = writeln!(
            self.out,
            "<path d=\"{path}\" stroke=\"{colour}\" stroke-width=\"1.8\" fill=\"none\" stroke-dasharray=\"{dashes}\"/>"
        );
    }

    fn legend(&mut self, entries: &[(String, &str)]) {
        let mut x = LEFT + 200.0;
        for (name, colour) in entries {
            let _ = writeln!(
                self.out,
                "<rect x=\"{x:.0}\" y=\"13\" width=\"11\" height=\"11\" fill=\"{colour}\"/><text x=\"{:.0}\" y=\"23\">{}</text>",
                x + 16.0,
                escaped(name)
            );
            x += 34.0 + 6.6 * name.chars().count() as f64;
        }
    }

    fn end(mut self) -> String {
        self.out += "</svg>\n";
        self.out
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

/// Round numbers along an axis, five or so.
fn ticks([from, to]: [f64; 2]) -> Vec<f64> {
    let raw = ((to - from) / 5.0).max(1e-9);
    let power = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].iter().map(|m| m * power).find(|step| *step >= raw).unwrap_or(raw);
    let first = (from / step).ceil() as i64;
    (first..first + 12).map(|n| n as f64 * step).take_while(|tick| *tick <= to + step * 1e-6).collect()
}

fn short(value: f64) -> String {
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text.is_empty() || text == "-0" { "0".to_owned() } else { text.to_owned() }
}

fn reach(values: impl Iterator<Item = f64>) -> [f64; 2] {
    let (least, most) = values.fold((f64::INFINITY, 0f64), |(a, b), v| (a.min(v), b.max(v)));
    let least = if least.is_finite() { least } else { 0.0 };
    [least, if most > least { most } else { least + 1.0 }]
}

fn colour(n: usize) -> &'static str {
    COLOURS[n % COLOURS.len()]
}

/// A plot of one answer, or of several to compare.
#[must_use]
pub fn svg(all: &[Costs], plot: Plot) -> String {
    let all: Vec<&Costs> = all.iter().filter(|costs| !costs.is_copied).collect();
    let name = |n: usize, costs: &Costs| format!("{}. {}", n + 1, costs.model);
    let names: Vec<(String, &str)> = all.iter().enumerate().map(|(n, c)| (name(n, c), colour(n))).collect();
    let mut axes = match plot {
        Plot::Latency => latency(&all),
        Plot::Histogram => bars(&all),
        Plot::Rate => rate(&all),
        Plot::Parts => return shares(&all),
    };
    axes.legend(&names);
    axes.end()
}

fn latencies(costs: &Costs) -> Vec<(f64, f64)> {
    let every = costs.tokens.len().div_ceil(MOST_POINTS).max(1);
    let tokens = costs.tokens.iter().enumerate().skip(1).step_by(every);
    tokens.filter_map(|(n, token)| Some((f64::from(token.index), costs.latency_ms(n)?))).collect()
}

fn latency(all: &[&Costs]) -> Axes {
    let points: Vec<Vec<(f64, f64)>> = all.iter().map(|costs| latencies(costs)).collect();
    let x = reach(points.iter().flatten().map(|p| p.0));
    let y = [0.0, reach(points.iter().flatten().map(|p| p.1))[1] * 1.05];
    let mut axes = Axes::new("Latency per token", (x, "tokens in the context"), (y, "ms"));
    for (n, (points, costs)) in points.into_iter().zip(all).enumerate() {
        axes.points(points.into_iter(), colour(n));
        let floor = x.iter().filter_map(|&at| floor_ms(costs, at as u32).map(|ms| (at, ms)));
        let floor: Vec<(f64, f64)> = floor.collect();
        if !floor.is_empty() {
            axes.line(floor.into_iter(), colour(n), "6 4");
        }
    }
    axes
}

fn bars(all: &[&Costs]) -> Axes {
    let bins: Vec<Vec<(f64, f64, usize)>> = all.iter().map(|costs| histogram(costs, 40)).collect();
    let x = reach(bins.iter().flatten().flat_map(|bin| [bin.0, bin.1]));
    let y = [0.0, reach(bins.iter().flatten().map(|bin| bin.2 as f64))[1] * 1.05];
    let mut axes = Axes::new("Latencies", (x, "ms"), (y, "tokens"));
    for (n, bins) in bins.into_iter().enumerate() {
        for (from, to, count) in bins {
            let ((left, top), (right, bottom)) = (axes.at(from, count as f64), axes.at(to, 0.0));
            let (width, height) = ((right - left - 1.0).max(1.0), bottom - top);
            let fill = colour(n);
            let _ = writeln!(
                axes.out,
                "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{fill}\" opacity=\"0.65\"/>"
            );
        }
    }
    axes
}

fn rate(all: &[&Costs]) -> Axes {
    let rates: Vec<Vec<(f64, f64)>> = all.iter().map(|costs| rate_over_time(costs, 1.0, 2000)).collect();
    let x = [0.0, reach(rates.iter().flatten().map(|p| p.0))[1]];
    let y = [0.0, reach(rates.iter().flatten().map(|p| p.1))[1] * 1.05];
    let mut axes = Axes::new("Tokens a second", (x, "s since the question"), (y, "tok/s"));
    for (n, rates) in rates.into_iter().enumerate() {
        axes.line(rates.into_iter(), colour(n), "");
    }
    axes
}

/// One bar for each answer, all parts beside each other.
fn shares(all: &[&Costs]) -> String {
    let most = all.iter().map(|costs| costs.finished as f64 / 1e9).fold(0.0, f64::max).max(1e-9);
    let y = [0.0, all.len().max(1) as f64];
    let mut axes = Axes::new("Where the time went", ([0.0, most], "s"), (y, ""));
    let part_colour = |part: Part| colour(Part::SHOWN.iter().position(|p| *p == part).unwrap_or(0));
    for (n, costs) in all.iter().enumerate() {
        let mut from = 0.0;
        for time in parts(costs) {
            let to = from + time.ns as f64 / 1e9;
            let lane = (all.len() - n) as f64;
            let ((left, top), (right, bottom)) = (axes.at(from, lane - 0.2), axes.at(to, lane - 0.8));
            let (width, height, fill) = (right - left, bottom - top, part_colour(time.part));
            let _ = writeln!(
                axes.out,
                "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.2}\" height=\"{height:.1}\" fill=\"{fill}\"><title>{}: {:.3} s</title></rect>",
                time.part.name(),
                time.ns as f64 / 1e9
            );
            from = to;
        }
    }
    let names: Vec<(String, &str)> =
        Part::SHOWN.iter().map(|&part| (part.name().to_owned(), part_colour(part))).collect();
    axes.legend(&names);
    axes.end()
}
