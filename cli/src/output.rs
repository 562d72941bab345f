//! What people see while a cluster starts: steps, then a table that fills until everything is ready.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressStyle};
use longshore_cluster::{Observer, Progress, Row};

/// Prints a line of a command's answer.
pub(crate) fn say(line: impl std::fmt::Display) {
    // Whoever closed the pipe has read enough.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Shows progress: a table that is redrawn on a terminal, lines where something changed elsewhere.
pub(crate) fn observer() -> Observer {
    let bar = std::io::stderr().is_terminal().then(|| {
        let bar = ProgressBar::new_spinner();
        bar.set_style(ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar
    });
    let last = Mutex::new(Vec::<Row>::new());
    std::sync::Arc::new(move |progress: Progress| {
        let mut last = last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match (progress, &bar) {
            (Progress::Step(text), Some(bar)) => bar.println(format!("  {text}")),
            (Progress::Step(text), None) => eprintln!("  {text}"),
            (Progress::Waiting(rows), Some(bar)) => bar.set_message(table(&rows)),
            (Progress::Waiting(rows), None) => {
                rows.iter().filter(|row| !last.contains(row)).for_each(|row| eprintln!("  {}", line(row, 0)));
                *last = rows;
            }
            (Progress::Ready(rows), Some(bar)) => {
                bar.finish_and_clear();
                eprintln!("{}", table(&rows));
            }
            (Progress::Ready(rows), None) => {
                rows.iter().filter(|row| !last.contains(row)).for_each(|row| eprintln!("  {}", line(row, 0)));
            }
        }
    })
}

/// Shows how many bytes of something came, on a terminal.
pub(crate) fn bytes(of: &str) -> ProgressBar {
    let bar = if std::io::stderr().is_terminal() { ProgressBar::new(0) } else { ProgressBar::hidden() };
    let style = ProgressStyle::with_template("  {msg}  {bar:24}  {bytes} of {total_bytes}, {bytes_per_sec}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.with_message(of.to_owned())
}

/// Hands progress on as lines of JSON, for the process that waits for this one.
pub(crate) fn reporter() -> Observer {
    std::sync::Arc::new(|progress: Progress| {
        // Nobody listens any more once the waiting process has ended.
        let line = serde_json::to_string(&progress).unwrap_or_default();
        say(line);
    })
}

fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or_default();
    rows.iter().map(|row| format!("  {}", line(row, width))).collect::<Vec<_>>().join("\n")
}

fn line(row: &Row, width: usize) -> String {
    let mark = if row.ready { '✓' } else { '…' };
    format!("{mark} {:width$}  {}", row.name, row.state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned() {
        let row = |name: &str, ready| Row { name: name.into(), state: "Ready".into(), ready };
        assert_eq!(table(&[row("node a", true), row("pod long", false)]), "  ✓ node a    Ready\n  … pod long  Ready");
    }
}
