//! Results as a text for a terminal.

use super::html::short;
use super::{Results, Statistic, with_unit};

/// A table: of several cases those figures that matter most, of a single one all.
pub(super) fn table(results: &Results) -> String {
    let summary = results.summary();
    let cell = |case: usize, figure: &str| {
        let of = summary.iter().find(|of| of.case == case && of.figure == figure);
        of.map_or_else(String::new, |of| {
            let (value, low, high) = of.told(results.statistic);
            match results.statistic {
                _ if of.runs == 1 => short(value),
                Statistic::Mean => format!("{} ± {}", short(value), short(high - value)),
                Statistic::NinetiethPercentile => format!("{} ({} to {})", short(value), short(low), short(high)),
            }
        })
    };
    let figures = results.figures();
    let rows: Vec<Vec<String>> = if results.cases.len() == 1 {
        figures.iter().map(|(figure, unit)| vec![with_unit(figure, *unit), cell(0, figure)]).collect()
    } else {
        let told: Vec<_> =
            figures.iter().filter(|(figure, _)| results.headlines.iter().any(|name| name == figure)).collect();
        let names = told.iter().map(|(figure, unit)| with_unit(figure, *unit));
        let first = std::iter::once(String::new()).chain(names).collect();
        let row = |case: usize| {
            let cells = told.iter().map(|(figure, _)| cell(case, figure));
            std::iter::once(results.name_of(case)).chain(cells).collect()
        };
        std::iter::once(first).chain((0..results.cases.len()).map(row)).collect()
    };
    let mut text = aligned(&rows);
    if summary.iter().any(|of| of.runs > 1) {
        text.push_str(match results.statistic {
            Statistic::Mean => "\n± is the 95 % confidence interval of the mean\n",
            Statistic::NinetiethPercentile => "\nwhat nine of ten runs do not pass, and the smallest and the largest\n",
        });
    }
    text
}

/// The first column to the left, the others to the right.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(place, (cell, width))| {
            if place == 0 { format!("{cell:width$}") } else { format!("{cell:>width$}") }
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        format!("{}\n", line.trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::results::tests::results;

    #[test]
    fn several_cases_are_rows_and_one_has_all_figures() {
        let mut results = results();
        let text = table(&results);
        assert!(text.contains("           used, %\nfgd     15 ± 63.53\nrandom           5\n"), "{text}");
        results.cases.pop();
        assert!(table(&results).starts_with("used, %  15 ± 63.53\n"), "{}", table(&results));
    }
}
