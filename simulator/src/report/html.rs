//! The page: everything in one file, for a reader's eyes.

use std::fmt::{self, Write};

use super::plot::{self, escaped, grouped};
use super::{Cell, Report, Statistic, Table, with_unit};

const STYLE: &str = ":root{color-scheme:light dark;--text:#1f2328;--dim:#59636e;--line:#d1d9e0;--head:#f6f8fa;--page:#fff}\
@media(prefers-color-scheme:dark){:root{--text:#f0f6fc;--dim:#9198a1;--line:#3d444d;--head:#151b23;--page:#0d1117}}\
body{font:15px/1.5 system-ui,sans-serif;color:var(--text);background:var(--page);max-width:1360px;margin:2rem auto;padding:0 1.25rem}\
h1{font-size:1.6rem;margin:0 0 .25rem}h2{font-size:1.15rem;margin:2rem 0 .6rem}p{margin:.3rem 0}.dim{color:var(--dim)}\
dl{display:grid;grid-template-columns:max-content 1fr;gap:.1rem 1rem;margin:.8rem 0}dt{color:var(--dim)}dd{margin:0}\
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums}\
th,td{padding:.25rem .7rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}\
th{background:var(--head);font-weight:600}td:first-child,th:first-child{text-align:left;position:sticky;left:0;background:var(--page)}\
th:first-child{background:var(--head)}.of{color:var(--dim);font-size:12px}\
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(560px,100%),1fr));gap:1.2rem}\
.plots svg{width:100%;height:auto;border:1px solid var(--line);border-radius:6px}summary{cursor:pointer}";

struct Page(String);

impl Page {
    fn add(&mut self, line: fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        self.0.write_fmt(format_args!("{line}\n")).unwrap_or_default();
    }
}

/// The whole page.
pub(super) fn page(report: &Report<'_>) -> String {
    let results = report.results;
    let mut page = Page(String::new());
    let title = escaped(&results.name);
    page.add(format_args!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>{title}</title>\n\
         <style>{STYLE}{}</style>\n</head>\n<body>",
        plot::STYLE
    ));
    page.add(format_args!("<h1>{title}</h1>"));
    if !results.description.is_empty() {
        page.add(format_args!("<p>{}</p>", escaped(&results.description)));
    }
    page.add(format_args!("<dl>"));
    let version = ("made by".to_owned(), format!("longshore {}", env!("CARGO_PKG_VERSION")));
    for (name, text) in results.facts.iter().chain([&version]) {
        page.add(format_args!("<dt>{}</dt><dd>{}</dd>", escaped(name), escaped(text)));
    }
    page.add(format_args!("</dl>"));
    summary(report, &mut page);
    if !report.plots.is_empty() {
        page.add(format_args!("<h2>Plots</h2>\n<div class=\"plots\">"));
        for plot in &report.plots {
            page.add(format_args!("{}", plot.inline()));
        }
        page.add(format_args!("</div>"));
    }
    page.add(format_args!("<h2>Runs</h2>\n<details><summary>Every run by itself</summary>"));
    table(&report.runs, &mut page);
    page.add(format_args!("</details>\n</body>\n</html>"));
    page.0
}

/// A row for each figure, a column for each case.
fn summary(report: &Report<'_>, page: &mut Page) {
    let results = report.results;
    let summary = results.summary();
    page.add(format_args!("<h2>Summary</h2>"));
    if summary.iter().any(|of| of.runs > 1) {
        let told = match results.statistic {
            Statistic::Mean => {
                "Means over the seeds; ± is the 95 % confidence interval of the mean, and so are the bands and whiskers."
            }
            Statistic::NinetiethPercentile => {
                "What nine of ten runs do not pass; beside it, and as whiskers, the smallest and the largest."
            }
        };
        page.add(format_args!("<p class=\"dim\">{told}</p>"));
    }
    page.add(format_args!("<div class=\"wide\"><table>\n<thead><tr><th></th>"));
    for case in 0..results.cases.len() {
        page.add(format_args!("<th>{}</th>", escaped(&results.name_of(case))));
    }
    page.add(format_args!("</tr></thead>\n<tbody>"));
    for (figure, unit) in results.figures() {
        page.add(format_args!("<tr><td>{}</td>", escaped(&with_unit(figure, unit))));
        for case in 0..results.cases.len() {
            let of = summary.iter().find(|of| of.case == case && of.figure == figure);
            let cell = of.map_or_else(String::new, |of| {
                let (value, low, high) = of.told(results.statistic);
                let spread = match results.statistic {
                    _ if of.runs == 1 => String::new(),
                    Statistic::Mean => format!(" <span class=\"of\">± {}</span>", short(high - value)),
                    Statistic::NinetiethPercentile => {
                        format!(" <span class=\"of\">{}–{}</span>", short(low), short(high))
                    }
                };
                format!("{}{spread}", short(value))
            });
            page.add(format_args!("<td>{cell}</td>"));
        }
        page.add(format_args!("</tr>"));
    }
    page.add(format_args!("</tbody></table></div>"));
}

fn table(table: &Table, page: &mut Page) {
    page.add(format_args!("<div class=\"wide\"><table>\n<thead><tr>"));
    for column in &table.columns {
        page.add(format_args!("<th>{}</th>", escaped(column)));
    }
    page.add(format_args!("</tr></thead>\n<tbody>"));
    for row in &table.rows {
        let cells = row.iter().map(|cell| match cell {
            Cell::Real(number) => short(*number),
            cell => escaped(&cell.to_string()),
        });
        let cells: Vec<String> = cells.map(|cell| format!("<td>{cell}</td>")).collect();
        page.add(format_args!("<tr>{}</tr>", cells.concat()));
    }
    page.add(format_args!("</tbody></table></div>"));
}

/// As many digits as a reader wants to see: about four that count.
pub(crate) fn short(value: f64) -> String {
    let size = value.abs();
    let digits = match size {
        _ if !value.is_finite() => return value.to_string(),
        _ if value.fract() == 0.0 || size >= 1000.0 => 0,
        _ if size >= 1.0 => 2,
        _ if size >= 0.001 => 4,
        _ => return format!("{value:.1e}"),
    };
    let text = format!("{value:.digits$}");
    match text.split_once('.') {
        Some((whole, rest)) => format!("{}.{rest}", grouped(whole)),
        None => grouped(&text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::results::tests::results;

    #[test]
    fn the_page_needs_nothing_else() {
        let mut results = results();
        results.name = "<script>alert(1)</script>".to_owned();
        let page = page(&Report::of(&results));
        assert!(!page.contains("<script") && !page.contains("src=") && !page.contains("href="), "{page}");
        assert!(page.contains("<td>used, %</td>") && page.contains("15 <span class=\"of\">±"), "{page}");
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    }

    #[test]
    fn numbers_are_short() {
        let texts = [0.0, 1.0, 1_234_567.0, 1234.56, 99.987, 0.123_456, 0.000_012, f64::NAN].map(short);
        assert_eq!(texts, ["0", "1", "1,234,567", "1,235", "99.99", "0.1235", "1.2e-5", "NaN"]);
    }
}
