//! Results as files: tables as CSV and Parquet, plots as SVG, and one page of HTML that needs nothing else.
//!
//! The same results give the same bytes.

mod html;
#[cfg(feature = "parquet")]
mod parquet;
mod plot;
mod results;
mod table;
mod text;

use std::io::Write;
use std::path::{Path, PathBuf};

pub use plot::{Plot, Point, Shapes};
pub use results::{Case, Results, Run, Statistic, Summary};
pub use table::{Cell, Content, Table};

use crate::measures::Unit;

/// Why a report cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// A file or directory cannot be made.
    #[error("cannot write {}: {source}", .path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A table cannot be put into its format.
    #[error("cannot write table {table:?}: {reason}")]
    Table {
        /// The table.
        table: &'static str,
        /// Why.
        reason: String,
    },
}

/// Everything that is shown of results.
#[derive(Debug, Clone, PartialEq)]
pub struct Report<'r> {
    /// Of what.
    pub results: &'r Results,
    /// Each figure of each case.
    pub summary: Table,
    /// Each run.
    pub runs: Table,
    /// Each point of each line.
    pub curves: Table,
    /// The plots.
    pub plots: Vec<Plot>,
}

impl<'r> Report<'r> {
    /// Makes tables and plots.
    pub fn of(results: &'r Results) -> Self {
        Self { summary: summary(results), runs: runs(results), curves: curves(results), plots: plots(results), results }
    }

    /// The main figures as a table for a terminal.
    pub fn to_text(&self) -> String {
        text::table(self.results)
    }

    /// All files by name, with what is in them.
    ///
    /// # Errors
    /// A table cannot be put into its format.
    pub fn files(&self) -> Result<Vec<(String, Vec<u8>)>, ReportError> {
        let mut files = Vec::new();
        for table in [&self.summary, &self.runs, &self.curves] {
            let failed = |reason: String| ReportError::Table { table: table.name, reason };
            files.push((format!("{}.csv", table.name), table.to_csv().map_err(|error| failed(error.to_string()))?));
            #[cfg(feature = "parquet")]
            files.push((
                format!("{}.parquet", table.name),
                table.to_parquet().map_err(|error| failed(error.to_string()))?,
            ));
        }
        files.extend(self.plots.iter().map(|plot| (format!("{}.svg", plot.name), plot.to_svg().into_bytes())));
        files.push(("report.html".to_owned(), html::page(self).into_bytes()));
        Ok(files)
    }

    /// Writes all files into a directory, which is made if it is not there. What is there under these names is replaced, each file in one
    /// step, and the page last: if there is a new page, all of it is there.
    ///
    /// # Errors
    /// A file cannot be written; those before it are there.
    pub fn write(&self, directory: &Path) -> Result<Vec<PathBuf>, ReportError> {
        let failed = |path: &Path, source| ReportError::Write { path: path.to_owned(), source };
        let files = self.files()?;
        std::fs::create_dir_all(directory).map_err(|error| failed(directory, error))?;
        let mut written = Vec::new();
        for (name, bytes) in files {
            let path = directory.join(name);
            replace(&path, &bytes).map_err(|error| failed(&path, error))?;
            written.push(path);
        }
        Ok(written)
    }
}

/// Puts a file in its place when it is whole.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let aside = path.with_added_extension("part");
    let put = || {
        let mut file = std::fs::File::create(&aside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&aside, path)
    };
    put().inspect_err(|_| drop(std::fs::remove_file(&aside)))
}

/// The columns that tell which case it is.
fn settings(results: &Results) -> impl Iterator<Item = String> {
    results.cases.first().into_iter().flat_map(|case| case.settings.iter().map(|(name, _)| name.clone()))
}

fn values(results: &Results, case: usize) -> Vec<Cell> {
    results.cases.get(case).into_iter().flat_map(|case| case.settings.iter().map(|(_, value)| value.clone())).collect()
}

/// A name with its unit.
fn with_unit(name: &str, unit: Unit) -> String {
    if unit.sign().is_empty() { name.to_owned() } else { format!("{name}, {}", unit.sign()) }
}

fn summary(results: &Results) -> Table {
    let figures = ["figure", "unit", "mean", "deviation", "confidence", "min", "p90", "max", "runs"].map(str::to_owned);
    let mut table = Table::new("summary", settings(results).chain(figures));
    for of in results.summary() {
        let mut row = values(results, of.case);
        row.extend([Cell::Text(of.figure), of.unit.sign().into()]);
        let numbers = [of.estimate.mean, of.estimate.deviation, of.estimate.confidence, of.min, of.p90, of.max];
        row.extend(numbers.map(Cell::Real));
        row.push(Cell::from(of.runs as u64));
        table.rows.push(row);
    }
    table
}

fn runs(results: &Results) -> Table {
    let figures = results.figures();
    let names = figures.iter().map(|(name, unit)| with_unit(name, *unit));
    let mut table = Table::new("runs", settings(results).chain(["seed".to_owned()]).chain(names));
    for run in &results.runs {
        let mut row = values(results, run.case);
        row.push(Cell::from(run.seed));
        row.extend(figures.iter().map(|(name, _)| {
            let figure = run.figures.iter().find(|figure| figure.name == *name);
            figure.map_or(Cell::None, |figure| Cell::Real(figure.value))
        }));
        table.rows.push(row);
    }
    table
}

fn curves(results: &Results) -> Table {
    let columns = ["plot", "line", "unit", "x", "x unit", "mean", "confidence", "runs"].map(str::to_owned);
    let mut table = Table::new("curves", settings(results).chain(columns));
    for mean in results.means() {
        let start = values(results, mean.case);
        for (x, estimate) in &mean.points {
            let mut row = start.clone();
            row.extend([mean.series.plot.as_str(), mean.series.line.as_str(), mean.series.unit.sign()].map(Cell::from));
            row.extend([Cell::Real(*x), mean.series.x.1.sign().into()]);
            row.extend([estimate.mean, estimate.confidence].map(Cell::Real));
            row.push(Cell::from(mean.runs as u64));
            table.rows.push(row);
        }
    }
    table
}

/// A text as the name of a file: small letters, digits and `-`.
fn file_name(text: &str) -> String {
    let mut name = String::new();
    for letter in text.chars().filter(|letter| *letter != '\'') {
        if letter.is_ascii_alphanumeric() {
            name.push(letter.to_ascii_lowercase());
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
    }
    name.trim_end_matches('-').to_owned()
}

fn plots(results: &Results) -> Vec<Plot> {
    let mut plots: Vec<Plot> = headlines(results);
    for mean in results.means() {
        let (case, series) = (results.name_of(mean.case), mean.series);
        let line = match (series.line.as_str(), results.cases.len()) {
            ("", _) => case,
            (line, 1) => line.to_owned(),
            (line, _) => format!("{case}, {line}"),
        };
        let points: Vec<Point> = mean
            .points
            .iter()
            .map(|(x, of)| Point { x: *x, y: of.mean, low: of.mean - of.confidence, high: of.mean + of.confidence })
            .collect();
        let name = file_name(&series.plot);
        match plots.iter_mut().find(|plot| plot.name == name) {
            Some(Plot { shapes: Shapes::Lines(lines), .. }) => lines.push((line, points)),
            _ => plots.push(Plot {
                name,
                title: with_unit(&series.plot, series.unit),
                x: with_unit(series.x.0, series.x.1),
                y: String::new(),
                shapes: Shapes::Lines(vec![(line, points)]),
            }),
        }
    }
    plots
}

/// The figures that matter most: as lines over the one setting that is a number and differs, else as bars.
fn headlines(results: &Results) -> Vec<Plot> {
    let summary = results.summary();
    let number = |case: usize, place: usize| match results.cases.get(case)?.settings.get(place)?.1 {
        Cell::Real(value) => Some(value),
        Cell::Whole(value) => Some(value as f64),
        Cell::None | Cell::Text(_) => None,
    };
    let count = results.cases.first().map_or(0, |case| case.settings.len());
    let varied: Vec<usize> = (0..count)
        .filter(|place| (1..results.cases.len()).any(|case| number(case, *place) != number(0, *place)))
        .collect();
    let mut plots = Vec::new();
    for headline in &results.headlines {
        let of = || summary.iter().filter(|of| of.figure == *headline);
        let Some(unit) = of().map(|of| of.unit).next() else { continue };
        let (title, name) = (with_unit(headline, unit), file_name(&format!("{headline} by case")));
        let plot = if let [place] = varied[..] {
            let mut lines: Vec<(String, Vec<Point>)> = Vec::new();
            for of in of() {
                let Some(x) = number(of.case, place) else { continue };
                let settings = results.cases[of.case].settings.iter().enumerate();
                let others = settings.filter(|(other, _)| *other != place).map(|(_, (_, value))| value.to_string());
                let (line, (y, low, high)) = (others.collect::<Vec<_>>().join(", "), of.told(results.statistic));
                let point = Point { x, y, low, high };
                match lines.iter_mut().find(|(name, _)| *name == line) {
                    Some((_, points)) => points.push(point),
                    None => lines.push((line, vec![point])),
                }
            }
            for (_, points) in &mut lines {
                points.sort_by(|a, b| a.x.total_cmp(&b.x));
            }
            let x = results.cases.first().and_then(|case| case.settings.get(place)).map(|(name, _)| name.clone());
            Plot { name, title, x: x.unwrap_or_default(), y: String::new(), shapes: Shapes::Lines(lines) }
        } else {
            let bars = of().map(|of| (results.name_of(of.case), of.told(results.statistic))).collect();
            Plot { name, title, x: String::new(), y: String::new(), shapes: Shapes::Bars(bars) }
        };
        plots.push(plot);
    }
    plots
}

#[cfg(test)]
mod tests {
    use super::results::tests::results;
    use super::*;

    #[test]
    fn a_report_is_written_whole_and_the_same_again() {
        let (results, directory) = (results(), tempfile::tempdir().unwrap());
        let report = Report::of(&results);
        let out = directory.path().join("a/b");
        let written = report.write(&out).unwrap();
        let names: Vec<String> =
            written.iter().map(|path| path.file_name().unwrap().to_string_lossy().into()).collect();
        for name in ["summary.csv", "runs.csv", "curves.csv", "used-by-case.svg", "used.svg", "report.html"] {
            assert!(names.iter().any(|other| other == name), "{names:?}");
        }
        let read = || names.iter().map(|name| std::fs::read(out.join(name)).unwrap()).collect::<Vec<_>>();
        let before = read();
        report.write(&out).unwrap();
        assert_eq!(read(), before);
        assert_eq!(std::fs::read_dir(&out).unwrap().count(), names.len(), "nothing else is left");
        let runs = String::from_utf8(std::fs::read(out.join("runs.csv")).unwrap()).unwrap();
        assert_eq!(runs, "policy,seed,\"used, %\"\nfgd,1,10\nfgd,2,20\nrandom,1,5\n");
        let page = std::fs::read_to_string(out.join("report.html")).unwrap();
        assert!(page.contains("<p>a &lt; b</p>"), "{page}");
    }

    #[test]
    fn where_it_cannot_be_written_is_told() {
        let (results, directory) = (results(), tempfile::tempdir().unwrap());
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = Report::of(&results).write(&file.join("out")).unwrap_err().to_string();
        assert!(error.contains("file/out") && error.starts_with("cannot write"), "{error}");
        std::fs::create_dir_all(directory.path().join("report.html")).unwrap();
        assert!(Report::of(&results).write(directory.path()).is_err());
        let left = std::fs::read_dir(directory.path()).unwrap().flatten();
        assert!(left.into_iter().all(|entry| !entry.file_name().to_string_lossy().ends_with(".part")));
    }

    #[test]
    fn a_number_that_is_varied_is_an_axis() {
        let mut results = results();
        results.cases = vec![Case::of_policy("fgd").with("load", 2.0), Case::of_policy("fgd").with("load", 1.0)];
        let plots = plots(&results);
        let Shapes::Lines(lines) = &plots[0].shapes else { panic!("{plots:?}") };
        let (name, points) = &lines[0];
        assert_eq!((name.as_str(), plots[0].x.as_str(), points[0].x, points[1].y), ("fgd", "load", 1.0, 15.0));
    }

    #[test]
    fn names_of_files_are_plain() {
        assert_eq!(file_name("Jain's index, % of \"x\"/.."), "jains-index-of-x");
    }
}
