//! Images that are names only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use longshore_core::runtime::{Credentials, Error, Image, ImageDisk, ImageId, ImageName, Images};

use crate::Host;

/// The names on a node and those that no registry has.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub(crate) present: BTreeSet<ImageName>,
    pub(crate) absent: BTreeSet<ImageName>,
    /// Those that are given for a login only.
    pub(crate) guarded: BTreeMap<ImageName, Credentials>,
    /// Bytes of the disk, and of each image on it.
    pub(crate) disk: Option<(u64, u64)>,
}

impl Names {
    fn image(&self, name: &ImageName) -> Image {
        Image { size: self.disk.map_or(0, |(_, image)| image), ..image(name) }
    }
}

#[derive(Debug)]
pub(crate) struct SimulatedImages {
    pub(crate) host: Arc<Host>,
    pub(crate) names: Mutex<Names>,
}

impl SimulatedImages {
    pub(crate) fn names(&self) -> std::sync::MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn has(&self, id: &ImageId) -> bool {
        self.names().present.iter().any(|name| id_of(name) == *id)
    }
}

#[async_trait]
impl Images for SimulatedImages {
    async fn resolve(&self, name: &str) -> Result<Option<Image>, Error> {
        let name = ImageName::parse(name)?;
        let names = self.names();
        Ok(names.present.contains(&name).then(|| names.image(&name)))
    }

    async fn pull(&self, name: &str, credentials: &Credentials) -> Result<Image, Error> {
        let parsed = ImageName::parse(name)?;
        self.host.clock.sleep(self.host.options.pull_delay).await;
        let mut names = self.names();
        if names.absent.contains(&parsed) {
            return Err(Error::Image { image: name.to_owned(), reason: "not found".to_owned() });
        }
        if names.guarded.get(&parsed).is_some_and(|login| login != credentials) {
            return Err(Error::Image { image: name.to_owned(), reason: "access is refused".to_owned() });
        }
        let pulled = names.image(&parsed);
        names.present.insert(parsed);
        Ok(pulled)
    }

    async fn list(&self) -> Result<Vec<Image>, Error> {
        let names = self.names();
        Ok(names.present.iter().map(|name| names.image(name)).collect())
    }

    async fn remove(&self, name: &str) -> Result<(), Error> {
        let found = if name.starts_with("sha256:") {
            self.names().present.iter().find(|known| id_of(known).0 == name).cloned()
        } else {
            Some(ImageName::parse(name)?)
        };
        let missing = || Error::NotFound { what: format!("image {name}") };
        let name = found.ok_or_else(missing)?;
        if self.host.lock().uses(&id_of(&name)) {
            return Err(Error::WrongState {
                operation: "remove".to_owned(),
                what: format!("image {name}"),
                state: "used by a container".to_owned(),
            });
        }
        if !self.names().present.remove(&name) {
            return Err(missing());
        }
        Ok(())
    }

    async fn disk(&self) -> Result<Option<ImageDisk>, Error> {
        let names = self.names();
        let disk = |(capacity, image): (u64, u64)| {
            let taken = image.saturating_mul(names.present.len() as u64);
            ImageDisk { capacity, available: capacity.saturating_sub(taken) }
        };
        Ok(names.disk.map(disk))
    }
}

fn image(name: &ImageName) -> Image {
    let id = id_of(name);
    Image {
        tags: name.tagged().into_iter().collect(),
        digests: vec![format!("{}@{}", name.repository(), name.digest().unwrap_or(&id.0))],
        id,
        size: 0,
        user: String::new(),
        pinned: false,
    }
}

/// A stable stand-in for a digest: FNV-1a of the name, with four starting values.
fn id_of(name: &ImageName) -> ImageId {
    let name = name.to_string();
    let mut id = "sha256:".to_owned();
    for start in 0..4_u64 {
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325 ^ start, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        id.push_str(&format!("{hash:016x}"));
    }
    ImageId(id)
}
