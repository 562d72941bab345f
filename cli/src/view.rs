//! `longshore down`, `status` and `kubeconfig`.

use std::process::ExitCode;

use clap::Args;
use longshore_cluster::{Error, Report, Row};

use crate::output::{self, say};
use crate::{Place, signals};

/// Options of `down`.
#[derive(Debug, Args)]
pub(crate) struct DownOptions {
    #[command(flatten)]
    place: Place,
    /// Delete the cluster's data too, and leave no trace
    #[arg(long)]
    purge: bool,
}

/// Stops the cluster.
pub(crate) async fn down(options: DownOptions) -> Result<ExitCode, Error> {
    signals::until_asked(async |cancel| {
        let directory = options.place.directory();
        let work = longshore_cluster::down(&directory, options.purge, output::observer());
        match cancel.run_until_cancelled(work).await {
            Some(done) => done.map(|()| ExitCode::SUCCESS),
            None => Err(Error::Part {
                part: "down",
                reason: "interrupted: pods may be left; `longshore down` again finishes it".to_owned(),
            }),
        }
    })
    .await
}

/// Says how the cluster is: exit code 0 if everything is ready, 1 if not, 3 if it does not run.
pub(crate) async fn status(place: &Place) -> Result<ExitCode, Error> {
    let directory = place.directory();
    let Report { settings, pid, rows } = longshore_cluster::status(&directory).await?;
    say(format_args!("directory  {}", directory.path().display()));
    say(format_args!("instance   {}, store {}, runtime {}", settings.instance, settings.store, settings.runtime));
    let Some(pid) = pid else {
        say("state      stopped: `longshore up` starts it");
        return Ok(ExitCode::from(3));
    };
    say(format_args!("state      running, process {pid}, https://{}", settings.address));
    let width = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or_default();
    for Row { name, state, ready } in &rows {
        say(format_args!("{} {name:width$}  {state}", if *ready { '✓' } else { '…' }));
    }
    Ok(ExitCode::from(u8::from(!rows.iter().all(|row| row.ready))))
}

/// Prints the administrator's kubeconfig.
pub(crate) fn kubeconfig(place: &Place) -> Result<ExitCode, Error> {
    let text = longshore_cluster::kubeconfig(&place.directory())?;
    say(text.trim_end());
    Ok(ExitCode::SUCCESS)
}
