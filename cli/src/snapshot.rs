//! `longshore snapshot`: a cluster as it is, in a file.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use longshore_cluster::{Error, Snapshot};
use longshore_core::api::{Node, Pod};
use longshore_core::kind::KindType;
use longshore_simulator::traces::Kubernetes;
use tempfile::NamedTempFile;
use tokio_util::sync::CancellationToken;

use crate::access::Access;
use crate::output::say;
use crate::signals::until_asked;

/// Options of `snapshot`.
#[derive(Debug, Args)]
#[command(
    after_help = "It has nodes, pods, and what else the scheduler's policies look at; no secrets and no config maps, but what pods' own \
                  specifications say. An experiment reads it as the source `kubernetes: { path: FILE }` (docs/workloads.md)."
)]
pub(crate) struct Options {
    /// The file to write, a list in JSON; - for standard output
    file: PathBuf,
    #[command(flatten)]
    access: Access,
}

/// Writes it, and says what it has.
pub(crate) async fn run(options: Options) -> Result<ExitCode, Error> {
    let kubeconfig = options.access.kubeconfig()?;
    let file = &options.file;
    if file.as_os_str() == "-" {
        let found = take(&kubeconfig, &mut std::io::stdout()).await?;
        found.left_out.iter().for_each(|(kind, why)| eprintln!("without {kind}: {why}"));
        return Ok(ExitCode::SUCCESS);
    }
    let unwritable = |error: std::io::Error| Error::File {
        tried: "write the snapshot",
        path: file.clone(),
        reason: error.to_string(),
    };
    // Whoever reads the file finds all of it, or what was there before.
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut written = NamedTempFile::new_in(directory).map_err(unwritable)?;
    let interrupted =
        || Err(Error::Part { part: "snapshot", reason: "interrupted, and nothing was written".to_owned() });
    let taken = async |cancel: CancellationToken| {
        cancel.run_until_cancelled(take(&kubeconfig, &mut written)).await.unwrap_or_else(interrupted)
    };
    let found = until_asked(taken).await?;
    written.persist(file).map_err(|error| unwritable(error.error))?;
    let counts = found.counts.iter().map(|(kind, count)| format!("{count} {kind}"));
    say(format_args!("{}: {}", file.display(), counts.collect::<Vec<_>>().join(", ")));
    found.left_out.iter().for_each(|(kind, why)| say(format_args!("without {kind}: {why}")));
    Ok(ExitCode::SUCCESS)
}

async fn take(kubeconfig: &str, to: &mut (impl Write + Send)) -> Result<Snapshot, Error> {
    let needed = [KindType::of::<Node>(), KindType::of::<Pod>()];
    let others: Vec<&KindType> = Kubernetes::looked_at().collect();
    longshore_cluster::snapshot(kubeconfig, &needed, &others, &mut BufWriter::new(to)).await
}
