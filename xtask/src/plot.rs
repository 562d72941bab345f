//! Draws the plot of `docs/scheduler-speed.md` from the results of a bench.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::{Result, root};

#[derive(Args)]
pub(crate) struct Options {
    /// What `cargo bench --bench scheduler -- --json` printed [default: the newest file in benches/results]
    results: Option<PathBuf>,
    /// Where the plot goes
    #[arg(long, default_value = "docs/scheduler-speed.svg")]
    output: PathBuf,
}

/// kube-scheduler v1.35.4, pods a second: the decision alone, and the whole scheduler. Recorded, not measured here.
const UPSTREAM: [(&str, Option<f64>, Option<f64>); 12] = [
    ("SchedulingBasic", Some(500.0), Some(480.0)),
    ("NodeAffinity", Some(480.0), Some(440.0)),
    ("TopologySpreading", Some(220.0), Some(260.0)),
    ("PreferredTopologySpreading", Some(220.0), Some(215.0)),
    ("PodAntiAffinity", Some(135.0), Some(160.0)),
    ("PodAffinity", Some(55.0), Some(52.0)),
    ("PreferredPodAffinity", Some(127.0), Some(100.0)),
    ("PreferredPodAntiAffinity", Some(78.0), Some(81.0)),
    ("MixedSchedulingBasePod", Some(150.0), Some(139.0)),
    ("Unschedulable", Some(620.0), Some(530.0)),
    ("PreemptionBasic", Some(63.0), None),
    ("AllDifferent", None, None),
];

/// Nodes in the runs that are drawn.
const NODES: u64 = 5000;
/// Powers of ten at both ends of the axis.
const DECADES: (i32, i32) = (1, 6);

const LEFT: f64 = 200.0;
const TOP: f64 = 62.0;
const DECADE: f64 = 100.0;
const ROW: f64 = 34.0;
const BAR: f64 = 11.0;
/// Beside the longest bar, for its figure.
const RIGHT: f64 = 40.0;

/// Colours that stand out on white as on black; texts and lines follow the reader's choice.
const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#1f2328}.title{font-size:14px;font-weight:600}\
.axis{fill:#59636e}.grid{stroke:#d1d9e0}.upstream{fill:#8b949e}.own{fill:#2f81f7}.whole{stroke:#1f2328;stroke-width:2.5}\
@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.axis{fill:#9198a1}.grid{stroke:#3d444d}.whole{stroke:#f0f6fc}}";

/// What one workload was measured at.
struct Row {
    name: &'static str,
    upstream: (Option<f64>, Option<f64>),
    own: (Option<f64>, Option<f64>),
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let results = match &options.results {
        Some(path) => path.clone(),
        None => newest(&root().join("benches/results"))?,
    };
    let failed = |path: &Path| format!("cannot use {}", path.display());
    let text = std::fs::read_to_string(&results).map_err(|error| format!("{}: {error}", failed(&results)))?;
    let rows = rows(&text).map_err(|error| format!("{}: {error}", failed(&results)))?;
    let output = root().join(&options.output);
    std::fs::write(&output, draw(&rows)).map_err(|error| format!("cannot write {}: {error}", output.display()))
}

fn newest(directory: &Path) -> Result<PathBuf> {
    let files = std::fs::read_dir(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let paths = files.flatten().map(|file| file.path());
    let is_result = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("scheduler-") && name.ends_with(".jsonl")
    };
    paths.filter(is_result).max().ok_or_else(|| format!("{} holds no results of the scheduler", directory.display()))
}

/// The figures of each workload; of several runs, the middle one.
fn rows(results: &str) -> Result<Vec<Row>> {
    let lines = results.lines().filter(|line| !line.trim().is_empty());
    let runs = lines.map(|line| serde_json::from_str(line).map_err(|error| format!("{line}: {error}")));
    let runs: Vec<serde_json::Value> = runs.collect::<Result<_>>()?;
    let middle = |workload: &str, mode: &str| {
        let same = runs.iter().filter(|run| {
            run["workload"] == workload
                && run["mode"] == mode
                && run["nodes"] == NODES
                && run["threads"] == 1
                && run["store"] != "embedded"
        });
        let mut figures: Vec<f64> = same.filter_map(|run| run["pods_per_second"].as_f64()).collect();
        figures.sort_by(f64::total_cmp);
        figures.get(figures.len().saturating_sub(1) / 2).copied()
    };
    let rows = UPSTREAM.map(|(name, decision, whole)| Row {
        name,
        upstream: (decision, whole),
        own: (middle(name, "decision"), middle(name, "whole")),
    });
    if rows.iter().all(|row| row.own.0.is_none()) {
        return Err(format!("no decisions at {NODES} nodes were measured"));
    }
    Ok(rows.into())
}

/// Where a figure stands on the axis.
fn x(figure: f64) -> f64 {
    LEFT + (figure.log10() - f64::from(DECADES.0)).max(0.0) * DECADE
}

fn draw(rows: &[Row]) -> String {
    let end = LEFT + f64::from(DECADES.1 - DECADES.0) * DECADE;
    let bottom = TOP + f64::from(u32::try_from(rows.len()).unwrap_or(0)) * ROW;
    let (width, height) = (end + RIGHT, bottom + 26.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         role=\"img\" aria-label=\"Pods placed per second at {NODES} nodes, upstream and Longshore\">\n<style>{STYLE}</style>\n"
    );
    let mut add = |line: std::fmt::Arguments<'_>| svg.write_fmt(format_args!("{line}\n")).unwrap_or_default();
    add(format_args!(
        "<text class=\"title\" x=\"8\" y=\"20\">Pods placed per second at {NODES} nodes (logarithmic)</text>"
    ));
    for (at, class, text) in [(8.0, "upstream", "kube-scheduler v1.35.4 (recorded)"), (252.0, "own", "Longshore")] {
        add(format_args!("<rect class=\"{class}\" x=\"{at}\" y=\"32\" width=\"14\" height=\"{BAR}\"/>"));
        add(format_args!("<text x=\"{}\" y=\"42\">{text}</text>", at + 19.0));
    }
    add(format_args!("<path class=\"whole\" d=\"M362 31v13\"/>"));
    add(format_args!("<text x=\"372\" y=\"42\">whole scheduler; the bars are decisions alone</text>"));
    for decade in DECADES.0..=DECADES.1 {
        let at = x(10_f64.powi(decade));
        add(format_args!("<path class=\"grid\" d=\"M{at} {TOP}V{bottom}\"/>"));
        let label = ["1", "10", "100", "1,000", "10,000", "100,000", "1,000,000"][usize::try_from(decade).unwrap_or(0)];
        add(format_args!(
            "<text class=\"axis\" text-anchor=\"middle\" x=\"{at}\" y=\"{}\">{label}</text>",
            bottom + 17.0
        ));
    }
    let mut top = TOP;
    for row in rows {
        let middle = top + ROW / 2.0;
        add(format_args!("<text text-anchor=\"end\" x=\"{}\" y=\"{}\">{}</text>", LEFT - 8.0, middle + 4.0, row.name));
        for (class, (decision, whole), y) in
            [("upstream", row.upstream, middle - BAR - 0.5), ("own", row.own, middle + 0.5)]
        {
            let Some(decision) = decision else { continue };
            let length = x(decision) - LEFT;
            add(format_args!(
                "<rect class=\"{class}\" x=\"{LEFT}\" y=\"{y}\" width=\"{length:.1}\" height=\"{BAR}\"/>"
            ));
            if let Some(whole) = whole {
                add(format_args!("<path class=\"whole\" d=\"M{:.1} {}v{}\"/>", x(whole), y - 1.0, BAR + 2.0));
            }
            let beside = x(whole.unwrap_or(0.0).max(decision)) + 6.0;
            add(format_args!("<text x=\"{beside:.1}\" y=\"{}\">{}</text>", y + 10.0, grouped(decision)));
        }
        top += ROW;
    }
    svg.push_str("</svg>\n");
    svg
}

/// `267,376`.
fn grouped(figure: f64) -> String {
    let digits = format!("{figure:.0}");
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_runs_the_middle_one_is_drawn() {
        let run = |figure: u32| {
            format!(
                "{{\"workload\":\"PodAffinity\",\"mode\":\"decision\",\"nodes\":5000,\"threads\":1,\"pods_per_second\":{figure}}}\n"
            )
        };
        let rows = rows(&[run(1000), run(123_456), run(200_000)].concat()).unwrap();
        let row = rows.iter().find(|row| row.name == "PodAffinity").unwrap();
        assert_eq!(row.own, (Some(123_456.0), None));
        let svg = draw(&rows);
        assert!(svg.contains(">123,456</text>") && svg.contains(">55</text>"), "{svg}");
    }

    #[test]
    fn results_without_decisions_are_refused() {
        assert!(rows("{\"date\": \"2026-11-28\"}\n").is_err());
    }

    #[test]
    fn the_plot_is_that_of_the_newest_results() {
        let results = newest(&root().join("benches/results")).unwrap();
        let rows = rows(&std::fs::read_to_string(results).unwrap()).unwrap();
        let plot = std::fs::read_to_string(root().join("docs/scheduler-speed.svg")).unwrap();
        assert!(plot == draw(&rows), "draw it again with `cargo xtask plot`");
    }
}
