//! An explanation as text: as much as fits a terminal of eighty columns.

use std::fmt;

use super::explained::PodExplanation;
use super::record::{Decision, Verdict};
use crate::engine::Sampled;

/// Most rows of each table; programs get all.
const ROWS_MAX: usize = 20;
/// Most decisions that are listed.
const DECISIONS_MAX: usize = 5;
/// Columns of text in a line.
const WIDTH: usize = 80;

impl fmt::Display for PodExplanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes = self.feasible.len() + self.refused.len();
        write!(f, "pod {}/{}, profile {}: ", self.namespace, self.name, self.profile)?;
        match (&self.node, self.queue) {
            (Some(node), _) => writeln!(f, "on node {node}")?,
            (None, Some(queue)) => writeln!(f, "pending ({queue})\n{}", meaning(queue))?,
            (None, None) => writeln!(f, "pending")?,
        }
        if !self.assuming.is_empty() {
            writeln!(f, "What follows is {}.", self.assuming)?;
        }
        if !self.message.is_empty() {
            writeln!(f)?;
            wrap(f, &self.message)?;
        }
        if nodes > 0 && self.message.is_empty() {
            writeln!(f, "\n{} of {nodes} nodes can take the pod.", self.feasible.len())?;
        }
        if !self.hints.is_empty() {
            writeln!(f)?;
            self.hints.iter().try_for_each(|hint| wrap(f, hint))?;
        }
        self.remedies(f)?;
        self.scores(f)?;
        self.refusals(f)?;
        self.decisions(f)
    }
}

impl PodExplanation {
    fn remedies(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.remedies.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nIt would fit with:")?;
        for remedy in &self.remedies {
            writeln!(f, "  {}: {}", remedy.change, counted(remedy.nodes, "node"))?;
        }
        Ok(())
    }

    /// The best nodes, with a column for each policy; the policies' names, which are long, stand below.
    fn scores(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut nodes: Vec<_> = self.feasible.iter().collect();
        nodes.sort_by(|a, b| b.total.cmp(&a.total).then_with(|| a.node.cmp(&b.node)));
        let Some(first) = nodes.first() else { return Ok(()) };
        let shown = &nodes[..nodes.len().min(ROWS_MAX)];
        let width = width(shown.iter().map(|score| score.node.as_str()), "NODE");
        // A column of zeros tells nothing but that it is one.
        let of_policy = |policy: usize| nodes.iter().filter_map(move |node| node.scores.get(policy));
        let (told, zero): (Vec<usize>, Vec<usize>) =
            (0..first.scores.len()).partition(|policy| of_policy(*policy).any(|score| score.score != 0));
        write!(f, "\n{:width$}  {:>6}", "NODE", "TOTAL")?;
        for letter in letters().take(told.len()) {
            write!(f, "  {letter:>3}")?;
        }
        writeln!(f)?;
        for score in shown {
            let best = if self.best.contains(&score.node) { "  best" } else { "" };
            let here = if self.node.as_deref() == Some(&*score.node) { "  it is here" } else { "" };
            write!(f, "{:width$}  {:>6}", score.node, score.total)?;
            for policy in &told {
                write!(f, "  {:>3}", score.scores.get(*policy).map_or(0, |policy| policy.score))?;
            }
            writeln!(f, "{best}{here}")?;
        }
        more(f, nodes.len())?;
        for (letter, policy) in letters().zip(&told) {
            writeln!(f, "{letter}  {} x{}", first.scores[*policy].policy, first.scores[*policy].weight)?;
        }
        if !zero.is_empty() {
            let names: Vec<&str> = zero.iter().map(|policy| &*first.scores[*policy].policy).collect();
            writeln!(f, "0 for every node: {}", names.join(", "))?;
        }
        Ok(())
    }

    fn refusals(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.refused.is_empty() {
            return Ok(());
        }
        let shown = &self.refused[..self.refused.len().min(ROWS_MAX)];
        let width = width(shown.iter().map(|refused| refused.node.as_str()), "NODE");
        let policies = self::width(shown.iter().map(|refused| refused.why.policy.as_str()), "REFUSED BY");
        writeln!(f, "\n{:width$}  {:policies$}  REASON", "NODE", "REFUSED BY")?;
        for refused in shown {
            let why = &refused.why;
            let reasons = why.reasons.join(", ");
            let text = if refused.detail.is_empty() { &reasons } else { &refused.detail };
            writeln!(f, "{:width$}  {:policies$}  {text}", refused.node, why.policy)?;
        }
        more(f, self.refused.len())?;
        writeln!(f, "\n{:>6}  REASON", "NODES")?;
        let mut reasons: Vec<_> = self.reasons.iter().collect();
        reasons.sort_by_key(|(_, nodes)| std::cmp::Reverse(**nodes));
        reasons.into_iter().try_for_each(|(reason, nodes)| writeln!(f, "{nodes:>6}  {reason}"))
    }

    fn decisions(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.decisions.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nLast decisions:")?;
        let shown = self.decisions.iter().rev().take(DECISIONS_MAX);
        shown.into_iter().try_for_each(|decision| match &decision.verdict {
            // What follows in the message is only that evicting pods would not help.
            Verdict::Refused { message, nominated: None, .. }
                if !self.message.is_empty() && message.starts_with(&self.message) =>
            {
                writeln!(f, "  {}refused, as above", head(decision))
            }
            _ => writeln!(f, "  {}", cut(&decision.to_string(), WIDTH - 2)),
        })
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&head(self))?;
        match &self.verdict {
            Verdict::Placed { node, score, sampled: None } => write!(f, "placed on {node}, total {score}"),
            Verdict::Placed { node, score, sampled: Some(Sampled { looked_at, best_score, .. }) } => {
                write!(
                    f,
                    "placed on {node}, total {score} of a sample of {looked_at} nodes; the best of all has {best_score}"
                )
            }
            Verdict::Refused { message, nominated: Some(node), .. } => {
                write!(f, "refused, room is made on {node}: {message}")
            }
            Verdict::Refused { message, .. } => write!(f, "refused: {message}"),
            Verdict::Lost { node, message } => write!(f, "not bound to {node}: {message}"),
        }
    }
}

/// When it was decided, and which try that was.
fn head(decision: &Decision) -> String {
    let time = decision.time.strftime("%Y-%m-%dT%H:%M:%SZ");
    format!("{time}  try {} ({} µs): ", decision.attempt, decision.micros)
}

/// What it means to wait there.
fn meaning(queue: &str) -> &'static str {
    match queue {
        "active" => "It is tried next.",
        "backoff" => "It is tried again in a moment.",
        "gated" => "It is held back and not tried.",
        _ => "It waits until something changes that may help.",
    }
}

/// As much of the text as fits; programs get all.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let head: String = text.chars().take(width - 1).collect();
    format!("{}…", head.trim_end())
}

fn letters() -> impl Iterator<Item = char> {
    ('A'..='Z').chain('a'..='z')
}

fn width<'t>(texts: impl Iterator<Item = &'t str>, title: &'t str) -> usize {
    texts.chain([title]).map(|text| text.chars().count()).max().unwrap_or_default()
}

fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn more(f: &mut fmt::Formatter<'_>, all: usize) -> fmt::Result {
    match all.checked_sub(ROWS_MAX) {
        None | Some(0) => Ok(()),
        Some(left) => writeln!(f, "and {} more", counted(left, "node")),
    }
}

fn wrap(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let mut column = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > WIDTH {
            writeln!(f)?;
            column = 0;
        }
        if column > 0 {
            f.write_str(" ")?;
            column += 1;
        }
        f.write_str(word)?;
        column += length;
    }
    writeln!(f)
}
