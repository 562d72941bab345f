//! Images: on the node already, or fetched as the container's policy says.

use longshore_core::api::Pod;
use longshore_core::api::pod::{Container, PullPolicy};
use longshore_core::runtime::{Credentials, Error, Image, ImageName};

use crate::pod::events::Events;
use crate::pull_secrets;
use crate::shared::Shared;

/// Why there is no image: the waiting reason and its message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoImage {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl NoImage {
    /// Whoever loaded an image as `latest` wonders why it is pulled.
    fn although_present(mut self) -> Self {
        self.message.push_str(" (an image of that name is on the node: imagePullPolicy IfNotPresent would use it)");
        self
    }
}

/// The image of a container, fetched if need be.
pub(crate) async fn ensure(
    shared: &Shared,
    events: &Events<'_>,
    pod: &Pod,
    container: &Container,
) -> Result<Image, NoImage> {
    let name = container.image.as_str();
    let images = shared.runtime.images();
    let present = match images.resolve(name).await {
        Ok(present) => present,
        Err(Error::Invalid { reason }) => {
            let message = format!("Failed to apply default image tag \"{name}\": {reason}");
            events.warning("InspectFailed", message.clone());
            return Err(NoImage { reason: "InvalidImageName", message });
        }
        Err(error) => {
            let message = format!("Failed to inspect image \"{name}\": {error}");
            events.warning("InspectFailed", message.clone());
            return Err(NoImage { reason: "ImageInspectError", message });
        }
    };
    let pulls = shared.info.capabilities.pull;
    match (&container.image_pull_policy, present) {
        (PullPolicy::Never, None) => {
            let message = format!("Container image \"{name}\" is not present with pull policy of Never");
            events.warning("ErrImageNeverPull", message.clone());
            Err(NoImage { reason: "ErrImageNeverPull", message })
        }
        (PullPolicy::Always, present) if pulls => {
            let pulled = pull(shared, events, pod, name).await;
            pulled.map_err(|none| if present.is_some() { none.although_present() } else { none })
        }
        // Without a registry, what is on the node is all there is.
        (_, Some(image)) => {
            events.normal("Pulled", format!("Container image \"{name}\" already present on machine"));
            Ok(image)
        }
        (_, None) if pulls => pull(shared, events, pod, name).await,
        (_, None) => {
            let message = format!(
                "image \"{name}\" is not on the node, and the {} runtime does not pull: run `longshore image load` with an archive of it",
                shared.info.name
            );
            events.warning("Failed", format!("Failed to pull image \"{name}\": {message}"));
            Err(NoImage { reason: "ErrImagePull", message })
        }
    }
}

async fn pull(shared: &Shared, events: &Events<'_>, pod: &Pod, name: &str) -> Result<Image, NoImage> {
    events.normal("Pulling", format!("Pulling image \"{name}\""));
    let start = shared.clock.elapsed();
    match pull_with_logins(shared, pod, name).await {
        Ok(image) => {
            let took = shared.clock.elapsed().saturating_sub(start);
            let took = format!("{}ms", took.as_millis());
            events.normal(
                "Pulled",
                format!(
                    "Successfully pulled image \"{name}\" in {took} ({took} including waiting). Image size: {} bytes.",
                    image.size
                ),
            );
            Ok(image)
        }
        Err(reason) => {
            let message = format!("failed to pull image \"{name}\": {reason}");
            events.warning("Failed", format!("Failed to pull image \"{name}\": {reason}"));
            Err(NoImage { reason: "ErrImagePull", message })
        }
    }
}

/// Pulls with the first login of the pod's that works, or without any if it has none for the image.
async fn pull_with_logins(shared: &Shared, pod: &Pod, name: &str) -> Result<Image, String> {
    let (keyring, missing) = pull_secrets::keyring(&shared.client, pod).await?;
    if !missing.is_empty() {
        let missing = missing.join(", ");
        Events::of_pod(&shared.recorder, pod).warning(
            "FailedToRetrieveImagePullSecret",
            format!(
                "Unable to retrieve some image pull secrets ({missing}); attempting to pull the image may not succeed."
            ),
        );
    }
    let parsed = ImageName::parse(name).map_err(|error| error.to_string())?;
    let mut logins = keyring.for_image(&parsed);
    if logins.is_empty() {
        logins.push(Credentials::Anonymous);
    }
    let mut errors: Vec<String> = Vec::new();
    for login in &logins {
        match shared.runtime.images().pull(name, login).await {
            Ok(image) => return Ok(image),
            Err(error) => errors.push(error.to_string()),
        }
    }
    errors.dedup();
    Err(if errors.len() == 1 { errors.remove(0) } else { format!("[{}]", errors.join(", ")) })
}
