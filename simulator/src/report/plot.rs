//! Plots as SVG: lines with bands about them, and bars with whiskers.

use std::fmt::{self, Write};

/// Lines or bars over two axes.
#[derive(Debug, Clone, PartialEq)]
pub struct Plot {
    /// Its name, by which files are called.
    pub name: String,
    /// What it shows, over it.
    pub title: String,
    /// What the axis to the right is; empty of bars.
    pub x: String,
    /// What the axis upwards is.
    pub y: String,
    /// What is drawn.
    pub shapes: Shapes,
}

/// What is drawn.
#[derive(Debug, Clone, PartialEq)]
pub enum Shapes {
    /// Lines, each by name.
    Lines(Vec<(String, Vec<Point>)>),
    /// Bars, each by name: how long, and from where to where its whisker goes.
    Bars(Vec<(String, (f64, f64, f64))>),
}

/// A point of a line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// To the right.
    pub x: f64,
    /// Upwards.
    pub y: f64,
    /// Where the band about the line begins.
    pub low: f64,
    /// Where it ends.
    pub high: f64,
}

const WIDTH: f64 = 640.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = WIDTH - 16.0;
const TOP: f64 = 40.0;
const HEIGHT: f64 = 260.0;
const BOTTOM: f64 = TOP + HEIGHT;
const LEGEND: f64 = 18.0;
const BAR: f64 = 22.0;
/// About what a letter of the legend takes.
const LETTER: f64 = 6.6;
/// A line has as many points at most; further ones could not be told apart.
const POINTS_MAX: usize = 400;
/// As many colours there are; further lines are dashed.
const COLOURS: usize = 8;

/// Colours that stand out on white as on black and that the colour-blind can tell apart (after Okabe and Ito); texts and lines follow the
/// reader's choice.
pub(super) const STYLE: &str = "svg text{font:12px system-ui,sans-serif;fill:#1f2328}svg .title{font-size:14px;font-weight:600}\
svg .axis{fill:#59636e}svg .grid{stroke:#d1d9e0;stroke-width:1;fill:none}svg .line{fill:none;stroke-width:1.8}svg .band{opacity:.16;stroke:none}\
svg .whisker{stroke:#1f2328;stroke-width:1.5;fill:none}svg .d1{stroke-dasharray:6 3}svg .d2{stroke-dasharray:2 3}\
svg .c0{--c:#0072b2}svg .c1{--c:#d55e00}svg .c2{--c:#009e73}svg .c3{--c:#cc79a7}svg .c4{--c:#e69f00}svg .c5{--c:#56b4e9}svg .c6{--c:#8c6bb1}svg .c7{--c:#7f7f7f}\
svg .line{stroke:var(--c)}svg .band,svg .bar{fill:var(--c)}\
@media(prefers-color-scheme:dark){svg text{fill:#f0f6fc}svg .axis{fill:#9198a1}svg .grid{stroke:#3d444d}svg .whisker{stroke:#f0f6fc}\
svg .c0{--c:#4aa8e0}svg .c6{--c:#b39ddb}}";

/// An axis: from where to where, and at which numbers it is marked.
struct Axis {
    low: f64,
    high: f64,
    marks: Vec<f64>,
}

impl Axis {
    /// Round numbers about these.
    fn about(values: impl Iterator<Item = f64>, with_zero: bool, wanted: f64) -> Self {
        let (mut low, mut high) = values
            .filter(|value| value.is_finite())
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        if with_zero || (low > 0.0 && low < high / 3.0) {
            low = low.min(0.0);
            high = high.max(0.0);
        }
        if high - low < f64::EPSILON * high.abs().max(1.0) {
            high = low + 1.0;
        }
        let step = round_step((high - low) / wanted);
        let (first, last) = ((low / step).floor(), (high / step).ceil());
        #[expect(clippy::cast_possible_truncation, reason = "there are about as many as wanted")]
        let count = ((last - first) as i64).clamp(1, 50);
        let marks = (0..=count).map(|mark| (first + mark as f64) * step).collect();
        Self { low: first * step, high: last * step, marks }
    }

    /// Without more room than the values take.
    fn tight(values: impl Iterator<Item = f64> + Clone, wanted: f64) -> Self {
        let mut axis = Self::about(values.clone(), false, wanted);
        let finite = values.filter(|value| value.is_finite());
        let high = finite.fold(f64::NEG_INFINITY, f64::max);
        if high > axis.low {
            axis.high = high;
        }
        axis.marks.retain(|mark| *mark <= axis.high);
        axis
    }

    fn at(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }
}

/// 1, 2 or 5 times a power of ten, not less than this.
fn round_step(least: f64) -> f64 {
    let mut power = 1.0;
    while power > least && power > 1e-12 {
        power /= 10.0;
    }
    while power * 10.0 <= least && power < 1e300 {
        power *= 10.0;
    }
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|times| times * power).find(|step| *step >= least).unwrap_or(power * 10.0)
}

/// As short as it can be told from its neighbours.
fn number(value: f64, step: f64) -> String {
    let digits = [(1.0, 0), (0.1, 1), (0.01, 2), (0.001, 3)].into_iter().find(|(least, _)| step >= *least);
    let text = digits.map_or_else(|| format!("{value:e}"), |(_, digits)| format!("{value:.digits$}"));
    let Some((whole, rest)) = text.split_once('.') else { return grouped(&text) };
    format!("{}.{rest}", grouped(whole))
}

/// `1234567` as `1,234,567`; what is not a whole number stays.
pub(crate) fn grouped(whole: &str) -> String {
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return whole.to_owned();
    }
    let mut text = sign.to_owned();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A text that means itself in XML and HTML.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            // XML has no place for them, not even escaped.
            letter if letter.is_control() && letter != '\n' && letter != '\t' => safe.push('\u{fffd}'),
            letter => safe.push(letter),
        }
    }
    safe
}

/// The lines of an SVG document.
struct Picture(String);

impl Picture {
    fn add(&mut self, line: fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        self.0.write_fmt(format_args!("{line}\n")).unwrap_or_default();
    }
}

impl Plot {
    /// The plot as an SVG document of its own.
    pub fn to_svg(&self) -> String {
        self.draw(true)
    }

    /// The plot for a page that has [`STYLE`].
    pub(super) fn inline(&self) -> String {
        self.draw(false)
    }

    fn draw(&self, own_style: bool) -> String {
        let mut picture = Picture(String::new());
        let height = match &self.shapes {
            Shapes::Lines(lines) => self.lines(lines, &mut picture),
            Shapes::Bars(bars) => self.bars(bars, &mut picture),
        };
        let (title, style) =
            (escaped(&self.title), if own_style { format!("<style>{STYLE}</style>\n") } else { String::new() });
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" role=\"img\" \
             aria-label=\"{title}\">\n{style}<text class=\"title\" x=\"8\" y=\"20\">{title}</text>\n{}</svg>\n",
            picture.0
        )
    }

    fn lines(&self, lines: &[(String, Vec<Point>)], picture: &mut Picture) -> f64 {
        let points = || lines.iter().flat_map(|(_, points)| points);
        let across = Axis::tight(points().map(|point| point.x), 8.0);
        // Where no value is below 0, neither is the true one.
        let floor = if points().all(|point| point.y >= 0.0) { 0.0 } else { f64::NEG_INFINITY };
        let upwards = Axis::about(points().flat_map(|point| [point.low.max(floor), point.high]), false, 5.0);
        let x = |value: f64| LEFT + (RIGHT - LEFT) * across.at(value);
        let y = |value: f64| BOTTOM - HEIGHT * upwards.at(value);
        let step = |marks: &[f64]| marks.get(1).zip(marks.first()).map_or(1.0, |(second, first)| second - first);
        for mark in &upwards.marks {
            let (at, text) = (y(*mark), number(*mark, step(&upwards.marks)));
            picture.add(format_args!("<path class=\"grid\" d=\"M{LEFT} {at:.1}H{RIGHT}\"/>"));
            picture.add(format_args!(
                "<text class=\"axis\" text-anchor=\"end\" x=\"{}\" y=\"{:.1}\">{text}</text>",
                LEFT - 6.0,
                at + 4.0
            ));
        }
        for mark in &across.marks {
            let (at, text) = (x(*mark), number(*mark, step(&across.marks)));
            picture.add(format_args!("<path class=\"grid\" d=\"M{at:.1} {BOTTOM}v4\"/>"));
            picture.add(format_args!(
                "<text class=\"axis\" text-anchor=\"middle\" x=\"{at:.1}\" y=\"{}\">{text}</text>",
                BOTTOM + 18.0
            ));
        }
        picture.add(format_args!(
            "<text class=\"axis\" text-anchor=\"end\" x=\"{RIGHT}\" y=\"{}\">{}</text>",
            BOTTOM + 34.0,
            escaped(&self.x)
        ));
        picture.add(format_args!("<text class=\"axis\" x=\"8\" y=\"{}\">{}</text>", TOP - 6.0, escaped(&self.y)));
        // Bands lie below all lines.
        for (place, (_, points)) in lines.iter().enumerate() {
            let points = thinned(points);
            if points.iter().any(|point| point.high > point.low) {
                let above = points.iter().map(|point| (x(point.x), y(point.high)));
                let below = points.iter().rev().map(|point| (x(point.x), y(point.low.max(floor))));
                let class = format!("band {}", colour(place));
                picture.add(format_args!("<path class=\"{class}\" d=\"{}Z\"/>", path(above.chain(below))));
            }
        }
        for (place, (_, points)) in lines.iter().enumerate() {
            let points = thinned(points);
            let class = format!("line {}", colour(place));
            if let [only] = &points[..] {
                let (x, y) = (x(only.x), y(only.y));
                picture.add(format_args!("<path class=\"{class}\" d=\"M{:.1} {y:.1}h6\"/>", x - 3.0));
            } else {
                let d = path(points.iter().map(|point| (x(point.x), y(point.y))));
                picture.add(format_args!("<path class=\"{class}\" d=\"{d}\"/>"));
            }
        }
        legend(lines.iter().map(|(name, _)| name.as_str()), picture)
    }

    fn bars(&self, bars: &[(String, (f64, f64, f64))], picture: &mut Picture) -> f64 {
        let longest = bars.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        let left = (longest as f64 * LETTER + 24.0).clamp(LEFT, WIDTH / 2.0);
        let right = RIGHT - 64.0;
        let across = Axis::about(bars.iter().flat_map(|(_, (value, _, high))| [*value, *high]), true, 6.0);
        let x = |value: f64| left + (right - left) * across.at(value);
        let bottom = TOP + bars.len() as f64 * BAR;
        let step = across.marks.get(1).zip(across.marks.first()).map_or(1.0, |(second, first)| second - first);
        for mark in &across.marks {
            let (at, text) = (x(*mark), number(*mark, step));
            picture.add(format_args!("<path class=\"grid\" d=\"M{at:.1} {TOP}V{bottom}\"/>"));
            picture.add(format_args!(
                "<text class=\"axis\" text-anchor=\"middle\" x=\"{at:.1}\" y=\"{}\">{text}</text>",
                bottom + 16.0
            ));
        }
        for (place, (name, (value, low, high))) in bars.iter().enumerate() {
            let top = TOP + place as f64 * BAR;
            let (start, end) = (x(0.0).min(x(*value)), x(0.0).max(x(*value)));
            picture.add(format_args!(
                "<text text-anchor=\"end\" x=\"{}\" y=\"{}\">{}</text>",
                left - 8.0,
                top + 15.0,
                escaped(name)
            ));
            picture.add(format_args!(
                "<rect class=\"bar {}\" x=\"{start:.1}\" y=\"{}\" width=\"{:.1}\" height=\"{}\"/>",
                colour(place),
                top + 3.0,
                end - start,
                BAR - 6.0
            ));
            if high > low {
                let (from, to, middle) = (x(*low), x(*high), top + BAR / 2.0);
                picture.add(format_args!(
                    "<path class=\"whisker\" d=\"M{from:.1} {middle}H{to:.1}M{from:.1} {}v8M{to:.1} {}v8\"/>",
                    middle - 4.0,
                    middle - 4.0
                ));
            }
            let beside = x(value.max(*high)).max(x(0.0)) + 6.0;
            picture.add(format_args!(
                "<text x=\"{beside:.1}\" y=\"{}\">{}</text>",
                top + 15.0,
                number(*value, step / 100.0)
            ));
        }
        picture.add(format_args!(
            "<text class=\"axis\" text-anchor=\"end\" x=\"{RIGHT}\" y=\"{}\">{}</text>",
            bottom + 32.0,
            escaped(&self.y)
        ));
        bottom + 40.0
    }
}

fn colour(place: usize) -> String {
    format!("c{} d{}", place % COLOURS, (place / COLOURS).min(2))
}

/// As many points as can be told apart, each the mean of those it stands for.
fn thinned(points: &[Point]) -> Vec<Point> {
    let together = points.len().div_ceil(POINTS_MAX).max(1);
    let mean = |some: &[Point]| {
        let of = |value: fn(&Point) -> f64| some.iter().map(value).sum::<f64>() / some.len() as f64;
        Point {
            x: of(|point| point.x),
            y: of(|point| point.y),
            low: of(|point| point.low),
            high: of(|point| point.high),
        }
    };
    points.chunks(together).map(mean).collect()
}

fn path(points: impl Iterator<Item = (f64, f64)>) -> String {
    let mut d = String::new();
    for (place, (x, y)) in points.filter(|(x, y)| x.is_finite() && y.is_finite()).enumerate() {
        let command = if place == 0 { 'M' } else { 'L' };
        write!(d, "{command}{x:.1} {y:.1}").unwrap_or_default();
    }
    d
}

/// Draws which line is which, and says where it ends.
fn legend<'n>(names: impl Iterator<Item = &'n str>, picture: &mut Picture) -> f64 {
    let (mut x, mut y) = (LEFT, BOTTOM + 54.0);
    for (place, name) in names.enumerate() {
        let width = 40.0 + name.chars().count() as f64 * LETTER;
        if x > LEFT && x + width > RIGHT {
            (x, y) = (LEFT, y + LEGEND);
        }
        picture.add(format_args!("<path class=\"line {}\" d=\"M{x:.1} {}h20\"/>", colour(place), y - 4.0));
        picture.add(format_args!("<text x=\"{:.1}\" y=\"{y}\">{}</text>", x + 26.0, escaped(name)));
        x += width;
    }
    y + 12.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(shapes: Shapes) -> Plot {
        Plot { name: "p".to_owned(), title: "a < b".to_owned(), x: "time, h".to_owned(), y: "%".to_owned(), shapes }
    }

    #[test]
    fn axes_are_marked_at_round_numbers() {
        let axis = Axis::about([3.0, 97.0].into_iter(), false, 5.0);
        assert_eq!((axis.low, axis.high, axis.marks.len()), (0.0, 100.0, 6));
        let axis = Axis::about([91.2, 94.9].into_iter(), false, 5.0);
        assert_eq!((axis.low, axis.high), (91.0, 95.0));
        for values in [vec![], vec![f64::NAN], vec![7.0], vec![0.0], vec![1e300, -1e300], vec![1e-300]] {
            let axis = Axis::about(values.iter().copied(), false, 5.0);
            assert!(axis.low < axis.high && (2..20).contains(&axis.marks.len()), "{values:?}");
        }
        assert_eq!(
            [number(1_234_567.0, 1.0), number(0.25, 0.05), number(-1500.5, 0.1)],
            ["1,234,567", "0.25", "-1,500.5"]
        );
    }

    #[test]
    fn lines_have_bands_and_names_are_escaped() {
        let points = |spread| {
            (0..1000)
                .map(|x| Point { x: f64::from(x), y: 1.0, low: 1.0 - spread, high: 1.0 + spread })
                .collect::<Vec<_>>()
        };
        let svg =
            plot(Shapes::Lines(vec![("<one>".to_owned(), points(0.5)), ("two".to_owned(), points(0.0))])).to_svg();
        assert!(svg.starts_with("<svg ") && svg.contains("a &lt; b") && svg.contains("&lt;one&gt;"), "{svg}");
        assert_eq!((svg.matches("class=\"band").count(), svg.matches("NaN").count()), (1, 0));
        assert!(svg.len() < 30_000, "{}", svg.len());
        assert!(!plot(Shapes::Lines(Vec::new())).to_svg().contains("NaN"));
    }

    #[test]
    fn bars_have_whiskers_where_there_is_a_spread() {
        let svg =
            plot(Shapes::Bars(vec![("a".to_owned(), (10.0, 9.0, 12.0)), ("b".to_owned(), (0.0, 0.0, 0.0))])).inline();
        assert_eq!((svg.matches("<rect").count(), svg.matches("whisker").count()), (2, 1));
        assert!(!svg.contains("<style>"));
    }
}
