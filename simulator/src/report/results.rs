//! What an experiment came to: cases, each run by many seeds.

use serde::{Serialize, Serializer};

use super::table::Cell;
use crate::Estimate;
use crate::measures::{Figure, Series, Unit};

/// One way to do it, told by what may differ from case to case.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Case {
    /// Names and values; every case of an experiment has the same names in the same order.
    #[serde(serialize_with = "as_map")]
    pub settings: Vec<(String, Cell)>,
}

impl Case {
    /// The case of one policy.
    pub fn of_policy(name: &str) -> Self {
        Self { settings: vec![("policy".to_owned(), name.into())] }
    }

    /// With one more setting.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Cell>) -> Self {
        self.settings.push((name.to_owned(), value.into()));
        self
    }
}

/// In their order.
fn as_map<V: Serialize, S: Serializer>(pairs: &[(String, V)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(name, value)| (name, value)))
}

/// One run of one case.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// The place of its case.
    pub case: usize,
    /// What chance depended on.
    pub seed: u64,
    /// What it came to.
    pub figures: Vec<Figure>,
    /// The same as time goes by, or as load grows.
    pub series: Vec<Series>,
}

/// What an experiment came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Results {
    /// The experiment's name.
    pub name: String,
    /// What it is about; may be empty.
    pub description: String,
    /// What else is to be known, beside each other as name and text.
    #[serde(serialize_with = "as_map")]
    pub facts: Vec<(String, String)>,
    /// The names of the figures that matter most, which are drawn.
    pub headlines: Vec<String>,
    /// What is said of many runs.
    pub statistic: Statistic,
    /// The cases, in their order.
    pub cases: Vec<Case>,
    /// The runs, case by case in the order of their seeds.
    pub runs: Vec<Run>,
}

/// What is said of many runs at first sight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Statistic {
    /// The mean, and its 95 % confidence interval.
    Mean,
    /// What nine of ten runs do not pass, and the smallest and largest.
    NinetiethPercentile,
}

/// What the runs of one case say about one figure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The place of the case.
    pub case: usize,
    /// The figure.
    pub figure: String,
    /// In what it is counted.
    pub unit: Unit,
    /// Mean, deviation and confidence.
    #[serde(flatten)]
    pub estimate: Estimate,
    /// The smallest.
    pub min: f64,
    /// What nine of ten runs do not pass (nearest rank).
    pub p90: f64,
    /// The largest.
    pub max: f64,
    /// How many runs have it.
    pub runs: usize,
}

impl Summary {
    /// What is said of the runs, and how far it may be down and up.
    pub fn told(&self, statistic: Statistic) -> (f64, f64, f64) {
        let Estimate { mean, confidence, .. } = self.estimate;
        match statistic {
            Statistic::Mean => (mean, mean - confidence, mean + confidence),
            Statistic::NinetiethPercentile => (self.p90, self.min, self.max),
        }
    }
}

/// What the runs of one case say about one series.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Mean<'r> {
    pub(crate) case: usize,
    pub(crate) series: &'r Series,
    /// To the right, and upwards the mean of all runs.
    pub(crate) points: Vec<(f64, Estimate)>,
    pub(crate) runs: usize,
}

impl Results {
    /// The names and units of all figures, in the order in which runs have them.
    pub fn figures(&self) -> Vec<(&str, Unit)> {
        let mut all: Vec<(&str, Unit)> = Vec::new();
        for run in &self.runs {
            // What the run before does not have stands where it stands in this one.
            let mut after = 0;
            for figure in &run.figures {
                match all.iter().position(|(name, _)| *name == figure.name) {
                    Some(place) => after = place + 1,
                    None => {
                        all.insert(after.min(all.len()), (&figure.name, figure.unit));
                        after += 1;
                    }
                }
            }
        }
        all
    }

    /// What a case is called: what sets it apart from the others, or of a single one its first setting.
    pub fn name_of(&self, case: usize) -> String {
        let Some(of) = self.cases.get(case) else { return String::new() };
        let differs = |place: usize| self.cases.iter().any(|other| other.settings.get(place) != of.settings.get(place));
        let told: Vec<String> = (of.settings.iter().enumerate())
            .filter(|(place, _)| differs(*place) || (self.cases.len() == 1 && *place == 0))
            .map(|(_, (name, value))| match value {
                Cell::Text(text) => text.clone(),
                value => format!("{name} {value}"),
            })
            .collect();
        told.join(", ")
    }

    /// Every figure of every case, figure by figure.
    pub fn summary(&self) -> Vec<Summary> {
        let mut all = Vec::new();
        for (figure, unit) in self.figures() {
            for case in 0..self.cases.len() {
                let mut values: Vec<f64> = self.values(case, figure).collect();
                if values.is_empty() {
                    continue;
                }
                let estimate = Estimate::of(&values);
                values.sort_by(f64::total_cmp);
                let p90 = values[(values.len() * 9).div_ceil(10) - 1];
                let (min, max, runs) = (values[0], values[values.len() - 1], values.len());
                all.push(Summary { case, figure: figure.to_owned(), unit, estimate, min, p90, max, runs });
            }
        }
        all
    }

    fn values<'r>(&'r self, case: usize, figure: &'r str) -> impl Iterator<Item = f64> + 'r {
        let runs = self.runs.iter().filter(move |run| run.case == case);
        runs.filter_map(move |run| Some(run.figures.iter().find(|of| of.name == figure)?.value))
    }

    /// Every series of every case, with those points that all of its runs have.
    pub(crate) fn means(&self) -> Vec<Mean<'_>> {
        let mut all = Vec::new();
        for case in 0..self.cases.len() {
            let runs: Vec<&Run> = self.runs.iter().filter(|run| run.case == case).collect();
            let mut told: Vec<&Series> = Vec::new();
            for series in runs.iter().flat_map(|run| &run.series) {
                if !told.iter().any(|other| (&other.plot, &other.line) == (&series.plot, &series.line)) {
                    told.push(series);
                }
            }
            for series in told {
                let like = |other: &&Series| (&other.plot, &other.line) == (&series.plot, &series.line);
                let same: Vec<&Series> = runs.iter().filter_map(|run| run.series.iter().find(like)).collect();
                all.push(Mean { case, series, points: mean(&same), runs: same.len() });
            }
        }
        all
    }
}

fn mean(all: &[&Series]) -> Vec<(f64, Estimate)> {
    let Some((first, others)) = all.split_first() else { return Vec::new() };
    let at = |series: &Series, x: f64| {
        let place = series.points.binary_search_by(|point| point.0.total_cmp(&x)).ok()?;
        Some(series.points[place].1)
    };
    let point = |(x, y): &(f64, f64)| {
        let mut values = vec![*y];
        for series in others {
            values.push(at(series, *x)?);
        }
        Some((*x, Estimate::of(&values)))
    };
    first.points.iter().filter_map(point).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn results() -> Results {
        let run = |case, seed, value: f64, points: &[(f64, f64)]| Run {
            case,
            seed,
            figures: vec![Figure::new("used", Unit::Percent, value)],
            series: vec![Series::over_time("used", "", Unit::Percent, points.to_vec())],
        };
        Results {
            name: "two policies".to_owned(),
            description: "a < b".to_owned(),
            facts: vec![("nodes".to_owned(), "3".to_owned())],
            headlines: vec!["used".to_owned()],
            statistic: Statistic::Mean,
            cases: vec![Case::of_policy("fgd"), Case::of_policy("random")],
            runs: vec![
                run(0, 1, 10.0, &[(0.0, 0.0), (1.0, 10.0)]),
                run(0, 2, 20.0, &[(0.0, 2.0), (1.0, 20.0), (2.0, 30.0)]),
                run(1, 1, 5.0, &[(0.0, 1.0)]),
            ],
        }
    }

    #[test]
    fn a_case_is_summed_up_over_its_seeds() {
        let mut results = results();
        results.runs[2].figures.insert(0, Figure::new("first", Unit::Count, 1.0));
        let summary = results.summary();
        assert_eq!(results.figures(), [("first", Unit::Count), ("used", Unit::Percent)]);
        let told: Vec<_> = summary.iter().map(|of| (of.figure.as_str(), of.case, of.estimate.mean, of.runs)).collect();
        assert_eq!(told, [("first", 1, 1.0, 1), ("used", 0, 15.0, 2), ("used", 1, 5.0, 1)]);
        assert_eq!((summary[1].min, summary[1].p90, summary[1].max), (10.0, 20.0, 20.0));
        let means = results.means();
        let points: Vec<_> = means[0].points.iter().map(|(x, of)| (*x, of.mean)).collect();
        assert_eq!(points, [(0.0, 1.0), (1.0, 15.0)], "not all runs have the third");
    }

    #[test]
    fn cases_are_called_by_what_differs() {
        let mut results = results();
        assert_eq!(results.name_of(1), "random");
        results.cases = vec![Case::of_policy("fgd").with("load", 0.5), Case::of_policy("fgd").with("load", 2.0)];
        assert_eq!(results.name_of(1), "load 2");
        results.cases.pop();
        assert_eq!((results.name_of(0), results.name_of(7)), ("fgd".to_owned(), String::new()));
    }
}
