//! `longshore token`.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use longshore_cluster::Error;
use longshore_cluster::tokens::{TokenRecord, Tokens};
use longshore_core::age::human_duration;

use crate::access::Access;
use crate::output::say;
use crate::part::duration;

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a token and print the command that joins one machine with it, as a node or as a control plane
    Create(CreateOptions),
    /// List tokens, without their secrets
    #[command(alias = "ls")]
    List {
        #[command(flatten)]
        access: Access,
    },
    /// Delete a token
    #[command(alias = "rm")]
    Delete {
        #[command(flatten)]
        access: Access,
        /// The token, or its id
        token: String,
    },
}

/// Options of `token create`.
#[derive(Debug, Args)]
pub(crate) struct CreateOptions {
    #[command(flatten)]
    access: Access,
    /// How long it can be used
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration)]
    ttl: Duration,
    /// What it is for
    #[arg(long, default_value = "")]
    description: String,
    /// Where the machine reaches the API server [default: where it listens]
    #[arg(long, value_name = "ADDRESS:PORT")]
    server: Option<String>,
    /// Let the machine be one more control plane, over the same etcd; run it where an API server has its --data-dir
    #[arg(long, conflicts_with_all = ["server", "description", "kubeconfig"])]
    control_plane: bool,
}

/// Runs the command.
pub(crate) async fn run(command: Command) -> Result<ExitCode, Error> {
    match command {
        Command::Create(options) => {
            let tokens = Tokens::new(&options.access.kubeconfig()?)?;
            if options.control_plane {
                let directory = options.access.directory();
                let invitation = tokens.create_for_control_plane(options.ttl, &directory).await?;
                say(invitation.command());
                if invitation.store.contains("https://") {
                    eprintln!("with --etcd-cafile and the other --etcd-... options that this machine's API server has");
                }
                return Ok(ExitCode::SUCCESS);
            }
            let invitation = tokens.create(options.ttl, &options.description, options.server.as_deref()).await?;
            say(invitation.command());
        }
        Command::List { access } => {
            let tokens = Tokens::new(&access.kubeconfig()?)?.list().await?;
            say(format_args!("{:6}  {:7}  DESCRIPTION", "ID", "LEFT"));
            for (record, left) in tokens {
                let TokenRecord { id, description, used_by, .. } = record;
                let ended = if used_by.is_some() { "used" } else { "none" };
                let left = left.map_or_else(|| ended.to_owned(), human_duration);
                say(format_args!("{id:6}  {left:7}  {description}").to_string().trim_end());
            }
        }
        Command::Delete { access, token } => {
            Tokens::new(&access.kubeconfig()?)?.delete(&token).await?;
            say(format_args!("token {} deleted", token.split('.').next().unwrap_or_default()));
        }
    }
    Ok(ExitCode::SUCCESS)
}
