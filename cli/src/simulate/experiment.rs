//! An experiment from a file.

use std::num::NonZeroU32;
use std::path::Path;

use longshore_simulator::experiment::Experiment;
use longshore_simulator::report::Report;
use serde_json::json;

use super::progress::Bar;
use super::{Options, Told};
use crate::output::say;

/// Runs it and prints what came out.
pub(super) fn run(options: &Options, file: &Path) -> Result<(), Told> {
    let mut experiment = Experiment::read(file)?;
    experiment.seed = options.seed.unwrap_or(experiment.seed);
    experiment.seeds = options.seeds.map_or(experiment.seeds, NonZeroU32::get);
    if options.check {
        experiment.check()?;
        say(format_args!("{}: ready to be run, by {} seeds", file.display(), experiment.seeds));
        return Ok(());
    }
    if let Some(out) = &options.out {
        // What cannot be written is better told before hours of work than after.
        std::fs::create_dir_all(out).map_err(|error| format!("cannot write {}: {error}", out.display()))?;
    }
    let bar = Bar::new();
    let results = experiment.run(options.jobs(), &|progress| bar.hear(progress))?;
    let wall = bar.finish();
    let report = Report::of(&results);
    if let Some(out) = &options.out {
        options.write(&report, out)?;
    }
    if options.json {
        let mut value = serde_json::to_value(&results)?;
        value["summary"] = serde_json::to_value(results.summary())?;
        value["wall_seconds"] = json!(wall);
        say(value);
    } else {
        say(format_args!("{}: {} runs in {wall:.2} s\n", results.name, results.runs.len()));
        say(report.to_text().trim_end());
    }
    Ok(())
}
