//! `longshore store`, and the options that say how an etcd is reached.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use longshore_cluster::{Error, EtcdAccess, Keeper, Restoring, StoreKind};

use crate::Place;
use crate::output::say;
use crate::part::duration;

/// The user, where no file names it.
const USER: &str = "LONGSHORE_ETCD_USER";
/// That user's password.
const PASSWORD: &str = "LONGSHORE_ETCD_PASSWORD";

/// How an etcd is reached.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options for --store etcd=URL,URL...")]
pub(crate) struct EtcdOptions {
    /// Certificate of the authority that signed the members'
    #[arg(long, value_name = "FILE")]
    etcd_cafile: Option<PathBuf>,
    /// Certificate by which etcd knows this client
    #[arg(long, value_name = "FILE", requires_all = ["etcd_keyfile", "etcd_cafile"])]
    etcd_certfile: Option<PathBuf>,
    /// Key of that certificate
    #[arg(long, value_name = "FILE", requires = "etcd_certfile")]
    etcd_keyfile: Option<PathBuf>,
    /// File with USER:PASSWORD [default: $LONGSHORE_ETCD_USER and $LONGSHORE_ETCD_PASSWORD, if they are set]
    #[arg(long, value_name = "FILE")]
    etcd_credentials_file: Option<PathBuf>,
}

/// How often an etcd is compacted.
#[derive(Debug, Args)]
pub(crate) struct CompactionOptions {
    /// How often what is older than this is compacted, by one of the servers that share an etcd; 0 for never
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration_or_never)]
    etcd_compaction_interval: Duration,
}

fn duration_or_never(text: &str) -> Result<Duration, String> {
    if text == "0" { Ok(Duration::ZERO) } else { duration(text) }
}

impl EtcdOptions {
    pub(crate) fn access(self, compaction: Option<CompactionOptions>) -> Result<EtcdAccess, Error> {
        let credentials = match &self.etcd_credentials_file {
            Some(path) => {
                let cannot = |reason: String| Error::File { tried: "read", path: path.clone(), reason };
                let text = std::fs::read_to_string(path).map_err(|error| cannot(error.to_string()))?;
                let line = text.trim_end_matches(['\r', '\n']);
                let (user, password) = line.split_once(':').ok_or_else(|| cannot("it is not USER:PASSWORD".into()))?;
                Some((user.to_owned(), password.to_owned()))
            }
            None => std::env::var(USER).ok().map(|user| (user, std::env::var(PASSWORD).unwrap_or_default())),
        };
        let compaction = compaction.map(|options| options.etcd_compaction_interval);
        Ok(EtcdAccess {
            ca: self.etcd_cafile,
            identity: self.etcd_certfile.zip(self.etcd_keyfile),
            credentials,
            compaction: compaction.filter(|interval| !interval.is_zero()),
        })
    }
}

/// Which store.
#[derive(Debug, Args)]
pub(crate) struct Which {
    #[command(flatten)]
    place: Place,
    /// Another store than that of the directory's cluster
    #[arg(long, value_name = "embedded|etcd=URL,URL...")]
    store: Option<StoreKind>,
    #[command(flatten)]
    etcd: EtcdOptions,
}

/// Commands of `store`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Say how large the store is, and how its members are
    Status(Which),
    /// Forget history: what was before now, or before a revision
    Compact {
        #[command(flatten)]
        which: Which,
        /// The oldest revision to keep [default: the current one]
        #[arg(long, value_name = "N")]
        revision: Option<u64>,
    },
    /// Copy everything to a file; it holds Secrets
    Snapshot {
        #[command(flatten)]
        which: Which,
        /// The file, which must not exist yet
        file: PathBuf,
    },
    /// Check a snapshot, and restore it or say how that is done
    Restore {
        #[command(flatten)]
        which: Which,
        /// The snapshot
        file: PathBuf,
    },
}

/// Runs a command.
pub(crate) async fn run(command: Command) -> Result<ExitCode, Error> {
    match command {
        Command::Status(which) => {
            let keeper = open(which).await?;
            status(&keeper).await?;
            keeper.close().await;
        }
        Command::Compact { which, revision } => {
            let keeper = open(which).await?;
            let revision = keeper.compact(revision).await?;
            say(format_args!("compacted: revisions before {revision} are gone"));
            keeper.close().await;
        }
        Command::Snapshot { which, file } => {
            let keeper = open(which).await?;
            let bytes = keeper.snapshot(&file).await?;
            say(format_args!("wrote {} ({}), which holds Secrets", file.display(), size(bytes)));
            keeper.close().await;
        }
        Command::Restore { which, file } => {
            let directory = which.place.directory();
            match Keeper::restore(&directory, which.store, &which.etcd.access(None)?, &file).await? {
                Restoring::Done { keys, revision, replaced, .. } => {
                    say(format_args!("restored {keys} keys, at revision {revision}"));
                    if let Some(replaced) = replaced {
                        say(format_args!("the store before is in {}; remove it when all is well", replaced.display()));
                    }
                }
                Restoring::Commands(commands) => {
                    say(
                        "the snapshot is whole. A running etcd cannot be restored: stop the API servers and all members, copy the",
                    );
                    say("file to each member's machine, run there its command, and start it with the new --data-dir:");
                    commands.iter().for_each(|command| say(format_args!("\n  {command}")));
                    say(
                        "\n(`etcdutl snapshot restore` with etcd 3.5 and later, there best with --bump-revision 1000000000 --mark-compacted,",
                    );
                    say("so that whoever has seen later revisions notices.)");
                }
                _ => say("restored"),
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn open(which: Which) -> Result<Keeper, Error> {
    Keeper::open(&which.place.directory(), which.store, &which.etcd.access(None)?).await
}

async fn status(keeper: &Keeper) -> Result<(), Error> {
    let report = keeper.status().await?;
    say(format_args!("store      {}", report.kind));
    let compacted = match report.status.compacted {
        0 => String::new(),
        compacted => format!(", compacted until {compacted}"),
    };
    say(format_args!("revision   {}{compacted}", report.status.revision));
    if let Some(keys) = report.status.keys {
        say(format_args!("keys       {keys}"));
    }
    if let Some(bytes) = report.status.bytes {
        say(format_args!("size       {}", size(bytes)));
    }
    for member in &report.members {
        match member {
            Ok(member) => {
                let role = if member.leads { "leads" } else { "follows" };
                let (bytes, in_use) = (size(member.bytes), size(member.bytes_in_use));
                say(format_args!(
                    "member     {}  etcd {}, {role}, {bytes} of which {in_use} in use",
                    member.endpoint, member.version
                ));
                member.alarms.iter().for_each(|alarm| say(format_args!("           alarm: {alarm}")));
                if member.wants_defragmentation {
                    say(format_args!(
                        "           `etcdctl defrag --endpoints {}` gives back {}; it answers nothing meanwhile",
                        member.endpoint,
                        size(member.bytes.saturating_sub(member.bytes_in_use))
                    ));
                }
            }
            Err(reason) => say(format_args!("member     {reason}")),
        }
    }
    Ok(())
}

fn size(bytes: u64) -> String {
    if bytes < 10 << 20 { format!("{} KiB", bytes >> 10) } else { format!("{} MiB", bytes >> 20) }
}
