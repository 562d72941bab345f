//! The files of volumes that are made from objects: ConfigMaps, Secrets, fields of the pod; and tokens.

use longshore_core::api::pod::{Container, DownwardAPIVolumeFile, KeyToPath, Volume};
use longshore_core::api::{Pod, ResourceList};

use super::atomic_writer::{File, Payload};
use crate::sources::{self, Data, Missing, Place, Sources};
use crate::tokens::Tokens;

const MODE_DEFAULT: i32 = 0o644;

/// The files of a volume.
///
/// # Errors
/// A source or a key that is not optional is missing.
pub(super) async fn payload(
    pod: &Pod,
    volume: &Volume,
    sources: &mut Sources,
    tokens: &Tokens,
    place: &Place,
    allocatable: &ResourceList,
) -> Result<Payload, Missing> {
    let mut files = Payload::new();
    if let Some(source) = &volume.config_map {
        let data = sources.config_map(&source.name).await;
        let about = About { kind: "configmap", mode: source.default_mode, optional: source.optional };
        keys(&about, data, &source.items, &mut files)?;
    } else if let Some(source) = &volume.secret {
        let data = sources.secret(&source.secret_name).await;
        let about = About { kind: "secret", mode: source.default_mode, optional: source.optional };
        keys(&about, data, &source.items, &mut files)?;
    } else if let Some(source) = &volume.downward_api {
        fields(pod, &source.items, source.default_mode, place, allocatable, &mut files)?;
    } else if let Some(projected) = &volume.projected {
        let mode = projected.default_mode;
        for source in &projected.sources {
            if let Some(source) = &source.config_map {
                let data = sources.config_map(&source.name).await;
                keys(&About { kind: "configmap", mode, optional: source.optional }, data, &source.items, &mut files)?;
            } else if let Some(source) = &source.secret {
                let data = sources.secret(&source.name).await;
                keys(&About { kind: "secret", mode, optional: source.optional }, data, &source.items, &mut files)?;
            } else if let Some(source) = &source.downward_api {
                fields(pod, &source.items, mode, place, allocatable, &mut files)?;
            } else if let Some(source) = &source.service_account_token {
                let token = tokens.get(pod, source).await.map_err(Missing::failed)?;
                files.insert(source.path.clone(), token_file(pod, token, mode));
            } else {
                let message = "this node projects ConfigMaps, Secrets, fields of the pod and tokens, no certificates";
                return Err(Missing::failed(message));
            }
        }
    }
    Ok(files)
}

struct About {
    kind: &'static str,
    mode: Option<i32>,
    optional: Option<bool>,
}

fn keys(
    about: &About,
    data: Result<std::sync::Arc<Data>, Missing>,
    items: &[KeyToPath],
    files: &mut Payload,
) -> Result<(), Missing> {
    let data = match data {
        Ok(data) => data,
        Err(missing) => return missing.unless(about.optional),
    };
    if items.is_empty() {
        for (key, content) in &*data {
            files.insert(key.clone(), File { content: content.clone(), mode: mode(about.mode), owner: None });
        }
    }
    for item in items {
        match data.get(&item.key) {
            Some(content) => {
                let file = File { content: content.clone(), mode: mode(item.mode.or(about.mode)), owner: None };
                files.insert(item.path.clone(), file);
            }
            None => {
                let message = format!("{} references non-existent {} key: {}", about.kind, about.kind, item.key);
                Missing::absent(message).unless(about.optional)?;
            }
        }
    }
    Ok(())
}

fn fields(
    pod: &Pod,
    items: &[DownwardAPIVolumeFile],
    default: Option<i32>,
    place: &Place,
    allocatable: &ResourceList,
    files: &mut Payload,
) -> Result<(), Missing> {
    for item in items {
        let text = if let Some(selector) = &item.field_ref {
            sources::field(pod, place, selector)?
        } else if let Some(selector) = &item.resource_field_ref {
            sources::resource(pod, "", selector, allocatable)?
        } else {
            continue;
        };
        let file = File { content: text.into_bytes(), mode: mode(item.mode.or(default)), owner: None };
        files.insert(item.path.clone(), file);
    }
    Ok(())
}

/// A token is for the one user of the pod's containers, or for its group, where there is such; else whoever runs in it must be able to read it.
pub(super) fn token_file(pod: &Pod, token: String, default: Option<i32>) -> File {
    let owner = only_user(pod);
    let has_group = pod.spec.security_context.as_ref().is_some_and(|context| context.fs_group.is_some());
    let mode = if owner.is_some() || has_group { 0o600 } else { mode(default) };
    File { content: token.into_bytes(), mode, owner }
}

/// The user that all containers say they run as.
fn only_user(pod: &Pod) -> Option<u32> {
    let of_pod = pod.spec.security_context.as_ref().and_then(|context| context.run_as_user);
    let user =
        |container: &Container| container.security_context.as_ref().and_then(|context| context.run_as_user).or(of_pod);
    let mut users = pod.spec.init_containers.iter().chain(&pod.spec.containers).map(user);
    let first = users.next()??;
    users.all(|user| user == Some(first)).then(|| u32::try_from(first).ok()).flatten()
}

fn mode(given: Option<i32>) -> u32 {
    u32::try_from(given.unwrap_or(MODE_DEFAULT)).unwrap_or(0o644) & 0o777
}
