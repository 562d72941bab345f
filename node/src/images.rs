//! Images: on the node already, or fetched as the container's policy says.

use longshore_core::api::pod::{Container, PullPolicy};
use longshore_core::runtime::{Credentials, Error, Image};

use crate::pod::events::Events;
use crate::shared::Shared;

/// Why there is no image: the waiting reason and its message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoImage {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// The image of a container, fetched if need be.
pub(crate) async fn ensure(shared: &Shared, events: &Events<'_>, container: &Container) -> Result<Image, NoImage> {
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
        (PullPolicy::Always, _) if pulls => pull(shared, events, name).await,
        // Without a registry, what is on the node is all there is.
        (_, Some(image)) => {
            events.normal("Pulled", format!("Container image \"{name}\" already present on machine"));
            Ok(image)
        }
        (_, None) if pulls => pull(shared, events, name).await,
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

async fn pull(shared: &Shared, events: &Events<'_>, name: &str) -> Result<Image, NoImage> {
    events.normal("Pulling", format!("Pulling image \"{name}\""));
    let start = shared.clock.elapsed();
    match shared.runtime.images().pull(name, &Credentials::Anonymous).await {
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
        Err(error) => {
            let message = format!("failed to pull image \"{name}\": {error}");
            events.warning("Failed", format!("Failed to pull image \"{name}\": {error}"));
            Err(NoImage { reason: "ErrImagePull", message })
        }
    }
}
