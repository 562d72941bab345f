//! Images: the engine keeps them, also those of others; what is here gives them the names of Kubernetes.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bollard::auth::DockerCredentials;
use bollard::body_try_stream;
use bollard::query_parameters::{
    CreateImageOptionsBuilder, ImportImageOptionsBuilder, ListContainersOptionsBuilder, ListImagesOptions,
    RemoveImageOptions,
};
use futures::StreamExt;
use longshore_core::runtime::{Credentials, Error, Image, ImageId, ImageName, Images};
use tokio_util::io::ReaderStream;

use crate::archive::{self, ImageFile};
use crate::engine::{Engine, failed, refusal, status};

/// What the engine answers for each image that it has loaded.
const LOADED: [&str; 2] = ["Loaded image: ", "Loaded image ID: "];

#[derive(Debug)]
pub(crate) struct EngineImages {
    pub(crate) engine: Arc<Engine>,
}

fn wrong<E: ToString>(image: &str) -> impl Fn(E) -> Error {
    move |error| Error::Image { image: image.to_owned(), reason: error.to_string() }
}

/// A name as Docker gives it, completed; what it calls `<none>` has none.
fn complete(names: Vec<String>) -> Vec<String> {
    names.iter().filter_map(|name| Some(ImageName::parse(name).ok()?.to_string())).collect()
}

/// Says of an image whether no registry gave it.
fn pinned(image: Image) -> Image {
    Image { pinned: image.digests.is_empty() && !image.tags.is_empty(), ..image }
}

/// What `docker` asks for by this name: an id, or a complete name.
fn reference(name: &str) -> Result<String, Error> {
    if name.starts_with("sha256:") { Ok(name.to_owned()) } else { Ok(ImageName::parse(name)?.to_string()) }
}

impl Engine {
    /// An image by its name or id.
    pub(crate) async fn image(&self, name: &str) -> Result<Option<Image>, Error> {
        match self.client.inspect_image(name).await {
            Ok(found) => Ok(Some(pinned(Image {
                id: ImageId(found.id.unwrap_or_default()),
                tags: complete(found.repo_tags.unwrap_or_default()),
                digests: complete(found.repo_digests.unwrap_or_default()),
                size: found.size.unwrap_or_default().cast_unsigned(),
                pinned: false,
                user: found.config.and_then(|config| config.user).unwrap_or_default(),
            }))),
            Err(error) if status(&error) == 404 => Ok(None),
            Err(error) => Err(self.failed(format!("look up image {name}"), &error)),
        }
    }

    /// Whether any container of the engine's uses an image.
    async fn uses(&self, id: &str) -> Result<bool, Error> {
        let filters = [("ancestor", vec![id.to_owned()])].into();
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let listed = self.client.list_containers(Some(options)).await;
        Ok(!listed.map_err(|error| self.failed("list containers", &error))?.is_empty())
    }

    /// Hands the engine an archive and answers what it has loaded.
    pub(crate) async fn load(&self, what: &str, archive: File) -> Result<Vec<Image>, Error> {
        let body = body_try_stream(ReaderStream::new(tokio::fs::File::from_std(archive)));
        let options = ImportImageOptionsBuilder::default().quiet(true).build();
        let mut answers = self.client.import_image(options, body, None);
        let mut said = Vec::new();
        while let Some(answer) = answers.next().await {
            let answer = answer.map_err(|error| match refusal(&error) {
                Some((_, message)) => wrong(what)(message),
                None => wrong(what)(error),
            })?;
            said.extend(answer.stream);
        }
        let mut images = Vec::new();
        for name in said.iter().filter_map(|line| LOADED.iter().find_map(|start| line.strip_prefix(start))) {
            images.extend(self.image(name.trim()).await?);
        }
        if images.is_empty() {
            return Err(wrong(what)("there is no image in it"));
        }
        Ok(images)
    }
}

impl EngineImages {
    /// Pulls an image, and tells how many bytes of how many are here.
    pub(crate) async fn pull_reporting(
        &self,
        name: &str,
        credentials: &Credentials,
        progress: &(dyn Fn(u64, u64) + Send + Sync),
    ) -> Result<Image, Error> {
        let name = ImageName::parse(name)?.to_string();
        let options = CreateImageOptionsBuilder::default().from_image(&name).build();
        let mut steps = self.engine.client.create_image(Some(options), None, login(&name, credentials));
        let mut layers = BTreeMap::new();
        while let Some(step) = steps.next().await {
            let step = step.map_err(|error| match (refusal(&error), &error) {
                (Some((_, message)), _) => wrong(&name)(message),
                (None, bollard::errors::Error::DockerStreamError { error }) => wrong(&name)(error),
                (None, _) => wrong(&name)(&error),
            })?;
            let Some((layer, detail)) = step.id.zip(step.progress_detail) else { continue };
            if step.status.as_deref() == Some("Downloading") {
                let bytes = |count: Option<i64>| count.unwrap_or_default().max(0).cast_unsigned();
                layers.insert(layer, (bytes(detail.current), bytes(detail.total)));
            }
            let sums = layers.values().fold((0, 0), |(a, b), (received, total)| (a + received, b + total));
            progress(sums.0, sums.1);
        }
        self.engine.image(&name).await?.ok_or_else(|| wrong(&name)("it is not on the node after it was pulled"))
    }

    pub(crate) async fn import(&self, path: &Path) -> Result<Vec<Image>, Error> {
        let (name, path) = (path.display().to_string(), path.to_owned());
        let opened =
            tokio::task::spawn_blocking(move || archive::packed(&path)).await.map_err(failed("read an image"))?;
        self.engine.load(&name, opened.map_err(wrong(&name))?).await
    }

    pub(crate) async fn build(
        &self,
        name: &str,
        files: Vec<ImageFile>,
        entrypoint: Vec<String>,
    ) -> Result<Image, Error> {
        let complete = ImageName::parse(name)?.to_string();
        let build = move || archive::build(&complete, &files, &entrypoint);
        let built = tokio::task::spawn_blocking(build).await.map_err(failed("build an image"))?;
        let mut images = self.engine.load(name, built.map_err(wrong(name))?).await?;
        images.pop().ok_or_else(|| wrong(name)("the image vanished"))
    }
}

/// As the engine sends credentials on.
fn login(name: &str, credentials: &Credentials) -> Option<DockerCredentials> {
    let registry = name.split('/').next().unwrap_or_default();
    let known = DockerCredentials {
        // The name by which Docker's own registry is logged in to.
        serveraddress: Some(if registry == "docker.io" { "https://index.docker.io/v1/" } else { registry }.to_owned()),
        ..DockerCredentials::default()
    };
    match credentials.clone() {
        Credentials::Anonymous => None,
        Credentials::Basic { user, password } => {
            Some(DockerCredentials { username: Some(user), password: Some(password), ..known })
        }
        Credentials::IdentityToken(token) => Some(DockerCredentials { identitytoken: Some(token), ..known }),
        Credentials::Token(token) => Some(DockerCredentials { registrytoken: Some(token), ..known }),
    }
}

#[async_trait]
impl Images for EngineImages {
    async fn resolve(&self, name: &str) -> Result<Option<Image>, Error> {
        self.engine.image(&reference(name)?).await
    }

    async fn pull(&self, name: &str, credentials: &Credentials) -> Result<Image, Error> {
        self.pull_reporting(name, credentials, &|_, _| {}).await
    }

    async fn list(&self) -> Result<Vec<Image>, Error> {
        let listed = self.engine.client.list_images(None::<ListImagesOptions>).await;
        let listed = listed.map_err(|error| self.engine.failed("list images", &error))?;
        Ok(listed
            .into_iter()
            .map(|image| Image {
                id: ImageId(image.id),
                tags: complete(image.repo_tags),
                digests: complete(image.repo_digests),
                size: image.size.cast_unsigned(),
                // The engine's list has none; `resolve` tells it.
                user: String::new(),
                pinned: false,
            })
            .filter(|image| !image.tags.is_empty() || !image.digests.is_empty())
            .map(pinned)
            .collect())
    }

    async fn remove(&self, name: &str) -> Result<(), Error> {
        let name = reference(name)?;
        let used = || Error::WrongState {
            operation: "remove".to_owned(),
            what: format!("image {name}"),
            state: "used by a container".to_owned(),
        };
        if name.starts_with("sha256:") {
            // The engine would not remove one with several names.
            let image = self.engine.image(&name).await?;
            let names = image.ok_or_else(|| Error::NotFound { what: format!("image {name}") })?.tags;
            if self.engine.uses(&name).await? {
                return Err(used());
            }
            for tag in &names {
                self.remove(tag).await?;
            }
            if !names.is_empty() {
                return Ok(());
            }
        }
        match self.engine.client.remove_image(&name, None::<RemoveImageOptions>, None).await {
            Ok(_) => Ok(()),
            Err(error) => Err(match status(&error) {
                404 => Error::NotFound { what: format!("image {name}") },
                409 => used(),
                _ => self.engine.failed(format!("remove image {name}"), &error),
            }),
        }
    }
}
