//! `longshore image`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use longshore_cluster::{Error, images};
use longshore_core::runtime::{Credentials, Image};

use crate::{Place, output};

/// What to do with images.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Load images from OCI layouts or `docker save` archives, also compressed ones
    Load {
        #[command(flatten)]
        place: Place,
        /// Directories or files
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<PathBuf>,
    },
    /// Pull images from their registries
    Pull {
        #[command(flatten)]
        place: Place,
        /// Log in with this name and a password from standard input
        #[arg(long, value_name = "USER")]
        username: Option<String>,
        /// Names, such as `ghcr.io/team/web:1`
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// List images
    #[command(alias = "list")]
    Ls {
        #[command(flatten)]
        place: Place,
    },
    /// Remove images by name or id
    Rm {
        #[command(flatten)]
        place: Place,
        /// Names, such as `web:1`, or ids
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
}

/// Runs the command.
pub(crate) async fn run(command: Command) -> Result<ExitCode, Error> {
    match command {
        Command::Load { place, paths } => {
            for path in paths {
                for image in images::load(&place.directory(), &path).await? {
                    output::say(image.tags.first().unwrap_or(&image.id.0));
                }
            }
        }
        Command::Pull { place, username, names } => {
            let login = match username {
                Some(user) => Credentials::Basic { user, password: password()? },
                None => Credentials::Anonymous,
            };
            for name in names {
                let bar = output::bytes(&name);
                let progress = |so_far: images::PullProgress| {
                    bar.set_length(so_far.total);
                    bar.set_position(so_far.received);
                };
                let pulled = images::pull(&place.directory(), &name, &login, progress).await;
                bar.finish_and_clear();
                let image = pulled?;
                output::say(image.digests.first().unwrap_or(&image.id.0));
            }
        }
        Command::Ls { place } => {
            let images = images::list(&place.directory()).await?;
            let names: Vec<_> = images.iter().map(|image| (names(image), image.id.0.clone(), image.size)).collect();
            let width = names.iter().map(|(name, ..)| name.chars().count()).max().unwrap_or(0).max(4);
            output::say(format_args!("{:width$}  {:19}  SIZE", "NAME", "ID"));
            for (name, id, size) in names {
                #[allow(clippy::cast_precision_loss, reason = "shown with one digit")]
                let mebibytes = size as f64 / 1_048_576.0;
                output::say(format_args!("{name:width$}  {id:.19}  {mebibytes:.1} MiB"));
            }
        }
        Command::Rm { place, names } => {
            for name in names {
                images::remove(&place.directory(), &name).await?;
                output::say(name);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What an image is called; one whose names others have got since is not called anything.
fn names(image: &Image) -> String {
    if image.tags.is_empty() { "<none>".to_owned() } else { image.tags.join(", ") }
}

/// The first line of standard input.
fn password() -> Result<String, Error> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).map_err(|error| Error::File {
        tried: "read the password from",
        path: "standard input".into(),
        reason: error.to_string(),
    })?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
