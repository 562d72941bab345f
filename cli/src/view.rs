//! `longshore down`, `status` and `kubeconfig`.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;
use longshore_cluster::{Error, Report, Row};

use crate::{Place, output, signals};

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
    let mut out = std::io::stdout().lock();
    let mut say = |text: String| {
        // Whoever closed the pipe has read enough.
        let _ = writeln!(out, "{text}");
    };
    say(format!("directory  {}", directory.path().display()));
    say(format!("instance   {}, store {}, runtime {}", settings.instance, settings.store, settings.runtime));
    let Some(pid) = pid else {
        say("state      stopped: `longshore up` starts it".to_owned());
        return Ok(ExitCode::from(3));
    };
    say(format!("state      running, process {pid}, https://{}", settings.address));
    let width = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or_default();
    for Row { name, state, ready } in &rows {
        say(format!("{} {name:width$}  {state}", if *ready { '✓' } else { '…' }));
    }
    Ok(ExitCode::from(u8::from(!rows.iter().all(|row| row.ready))))
}

/// Prints the administrator's kubeconfig.
pub(crate) fn kubeconfig(place: &Place) -> Result<ExitCode, Error> {
    let text = longshore_cluster::kubeconfig(&place.directory())?;
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    Ok(ExitCode::SUCCESS)
}
