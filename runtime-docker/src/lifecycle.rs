//! Making, starting, stopping and removing.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::Duration;

use bollard::query_parameters::{
    CreateContainerOptionsBuilder, KillContainerOptionsBuilder, RemoveContainerOptionsBuilder, RemoveImageOptions,
    StartContainerOptions, WaitContainerOptions,
};
use futures::StreamExt;
use futures::future::{join_all, try_join_all};
use longshore_core::runtime::{
    Container, ContainerConfig, ContainerRef, ContainerState, Error, Event, Resources, Sandbox, SandboxConfig,
};

use crate::cgroup;
use crate::config::{self, Place};
use crate::engine::{Engine, check_name, failed, refusal, status};
use crate::list::wrong_state;
use crate::notes::Unstarted;

/// A killed process that is not gone by then hangs in the kernel.
const KILL_MAX: Duration = Duration::from_secs(10);

impl Engine {
    pub(crate) async fn create_sandbox(&self, config: &SandboxConfig) -> Result<Sandbox, Error> {
        let uid = &config.pod.uid;
        check_name("pod uid", uid)?;
        let _held = self.alone(uid).await;
        let name = self.sandbox_name(uid);
        let operation = format!("create sandbox of pod {}", config.pod);
        let body = config::sandbox(config, &self.instance, self.pause_image(), self.pod_group(uid));
        let options = CreateContainerOptionsBuilder::default().name(&name).build();
        let make = || self.client.create_container(Some(options.clone()), body.clone());
        let mut made = make().await;
        if made.as_ref().is_err_and(|error| status(error) == 404) {
            self.make_pause_image().await?;
            made = make().await;
        }
        if made.as_ref().is_err_and(|error| status(error) == 409) {
            match self.find_sandbox(uid).await {
                // One that was made, but not started before whoever did, or the engine, was killed. What is with it is
                // uncertain.
                Err(Error::NotFound { .. }) => self.clear(uid).await?,
                found => {
                    found?;
                    return Err(Error::AlreadyExists { what: format!("sandbox of pod {}", config.pod) });
                }
            }
            made = make().await;
        }
        made.map_err(|error| self.refused(operation.clone(), &error))?;
        if let Err(error) = self.client.start_container(&name, None::<StartContainerOptions>).await {
            // The first error is the one to tell; what is left is removed when the runtime is opened.
            let _ = self.clear(uid).await;
            let message = refusal(&error).map_or("", |(_, message)| message);
            let path = |name: &str| format!("/proc/sys/{}", config::dotted(name).replace('.', "/"));
            return Err(match config.sysctls.keys().find(|name| message.contains(&path(name))) {
                Some(name) => Error::Invalid { reason: format!("sysctl {name:?} cannot be set: {message}") },
                None => self.refused(operation, &error),
            });
        }
        if let Err(error) = self.limit(uid, config.resources).await {
            let _ = self.clear(uid).await;
            return Err(error);
        }
        Ok(self.find_sandbox(uid).await?.sandbox)
    }

    /// Sets the limits of a whole pod.
    async fn limit(&self, uid: &str, resources: Resources) -> Result<(), Error> {
        let group = self.pod_group_path(uid);
        let limited = tokio::task::spawn_blocking(move || cgroup::limit(&group, &resources)).await;
        let operation = format!("limit pod {uid}");
        limited.map_err(failed(operation.clone()))?.map_err(failed(operation))
    }

    pub(crate) async fn update_sandbox(&self, uid: &str, resources: &Resources) -> Result<(), Error> {
        let _held = self.alone(uid).await;
        self.find_sandbox(uid).await?;
        self.limit(uid, *resources).await
    }

    pub(crate) async fn update_container(&self, name: &ContainerRef, resources: &Resources) -> Result<(), Error> {
        let _held = self.alone(&name.pod_uid).await;
        let found = self.running("update", name).await?;
        let operation = format!("update container {name}");
        let used = self.usage(&found.container).await?.memory_working_set;
        if let Some(limit) = resources.memory_limit.filter(|limit| *limit < used) {
            return Err(failed(operation)(format!("it uses {used} bytes of memory, more than {limit}")));
        }
        let updated = self.client.update_container(&found.container.id, config::update(resources)).await;
        updated.map_err(|error| self.failed(operation.clone(), &error))?;
        self.notes.note_resources(name, resources).map_err(failed(operation))
    }

    pub(crate) async fn remove_sandbox(&self, uid: &str) -> Result<(), Error> {
        check_name("pod uid", uid)?;
        // Before waiting for others: what they wait for in turn may be what is killed here.
        let ids = self.ids(Some(uid)).await?;
        join_all(ids.iter().map(|id| self.kill(id, "SIGKILL"))).await;
        let _held = self.alone(uid).await;
        self.clear(uid).await
    }

    /// Removes all there is of a pod, while nobody else does anything with it.
    async fn clear(&self, uid: &str) -> Result<(), Error> {
        let sandbox = self.inspect(&self.sandbox_name(uid)).await?.and_then(|sandbox| sandbox.id);
        let ids = self.ids(Some(uid)).await?;
        let containers = ids.iter().filter(|id| Some(*id) != sandbox.as_ref());
        try_join_all(containers.map(|id| self.take_away(id))).await?;
        // It goes last, so that one that could not be removed is still listed.
        if let Some(id) = sandbox {
            self.take_away(&id).await?;
        }
        self.destroy_group(self.pod_group(uid)).await?;
        self.notes.forget_pod(uid).map_err(failed(format!("remove sandbox of pod {uid}")))
    }

    /// Removes a control group, which systemd does itself.
    async fn destroy_group(&self, group: String) -> Result<(), Error> {
        if self.systemd {
            return Ok(());
        }
        tokio::task::spawn_blocking(move || cgroup::destroy(&group)).await.map_err(failed("remove a control group"))
    }

    pub(crate) async fn create_container(&self, config: &ContainerConfig) -> Result<Container, Error> {
        let name = &config.container;
        check_name("pod uid", &name.pod_uid)?;
        check_name("container name", &name.name)?;
        let _held = self.alone(&name.pod_uid).await;
        let found = self.find_sandbox(&name.pod_uid).await?;
        if !found.sandbox.ready {
            let (operation, state) = ("create a container in".to_owned(), "not ready".to_owned());
            return Err(Error::WrongState { operation, what: format!("sandbox of pod {}", name.pod_uid), state });
        }
        let missing = || Error::Image {
            image: config.image_name.clone(),
            reason: "it is not on the node; load or pull it first".to_owned(),
        };
        let image = self.image(&config.image.0).await?.ok_or_else(missing)?;
        if config.security.strict_groups {
            let what = "leaving out the groups that an image gives its user".to_owned();
            return Err(Error::Unsupported { runtime: crate::NAME.to_owned(), what });
        }
        let processes_of = match &config.process_namespace_of {
            Some(other) => Some(self.running("share the processes of", other).await?.container.id),
            None => None,
        };
        let operation = format!("create container {name}");
        let message = self.notes.message_file(name).map_err(failed(operation.clone()))?;
        let place = Place {
            instance: &self.instance,
            sandbox: &found.record,
            sandbox_id: &found.sandbox.id,
            group: self.pod_group(&name.pod_uid),
            image_user: &image.user,
            message: &message,
            processes_of,
            recursive: self.recursive,
        };
        let body = config::container(config, &place)?;
        let options = CreateContainerOptionsBuilder::default().name(&self.container_name(name)).build();
        match self.client.create_container(Some(options), body).await {
            Ok(_) => Ok(self.find(name).await?.container),
            Err(error) if status(&error) == 409 => Err(Error::AlreadyExists { what: format!("container {name}") }),
            Err(error) if status(&error) == 404 => Err(missing()),
            Err(error) => Err(self.refused(operation, &error)),
        }
    }

    /// What the engine's refusal of a configuration means.
    fn refused(&self, operation: String, error: &bollard::errors::Error) -> Error {
        match refusal(error) {
            Some((400, message)) => Error::Invalid { reason: message.to_owned() },
            _ => self.failed(operation, error),
        }
    }

    pub(crate) async fn start_container(&self, name: &ContainerRef) -> Result<(), Error> {
        let _held = self.alone(&name.pod_uid).await;
        let found = self.find(name).await?;
        if found.container.state != ContainerState::Created {
            return Err(wrong_state("start", name, &found.container.state));
        }
        let started = self.client.start_container(&found.container.id, None::<StartContainerOptions>).await;
        let Err(error) = started else {
            // Its log is followed from here on.
            self.find(name).await?;
            return Ok(());
        };
        let Some((_, message)) = refusal(&error) else {
            return Err(self.failed(format!("start container {name}"), &error));
        };
        // It never ran, and is not tried again.
        let code = match self.find(name).await?.container.state {
            ContainerState::Exited { code, .. } => code,
            _ => 128,
        };
        self.end_unstarted(name, &found.container.id, code, message)?;
        Err(Error::Invalid { reason: message.to_owned() })
    }

    /// Notes the end of a container that never ran.
    fn end_unstarted(&self, name: &ContainerRef, id: &str, code: i32, message: &str) -> Result<(), Error> {
        let how = Unstarted { finished_at: self.clock.now(), code, message: message.to_owned() };
        self.notes.note_unstarted(name, &how).map_err(failed(format!("note the end of container {name}")))?;
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        // Nobody may listen.
        let _ = self.changes.send(Event::Container(name.clone()));
        Ok(())
    }

    pub(crate) async fn stop_container(&self, name: &ContainerRef, grace: Duration) -> Result<(), Error> {
        let steps = [(false, grace), (true, KILL_MAX)];
        for (kill, patience) in steps.into_iter().skip(usize::from(grace.is_zero())) {
            let found = match self.find(name).await {
                Err(Error::NotFound { .. }) => return Ok(()),
                found => found?,
            };
            match found.container.state {
                ContainerState::Exited { .. } => return Ok(()),
                ContainerState::Created => {
                    let _held = self.alone(&name.pod_uid).await;
                    match self.find(name).await {
                        Ok(found) if found.container.state == ContainerState::Created => {
                            return self.end_unstarted(name, &found.container.id, 137, "");
                        }
                        Err(error) if !matches!(error, Error::NotFound { .. }) => return Err(error),
                        // Somebody has started or removed it meanwhile.
                        _ => {}
                    }
                }
                ContainerState::Running { .. } => {}
            }
            let asked = [found.stop_signal.as_str(), "SIGTERM"].into_iter().find(|signal| !signal.is_empty());
            self.kill(&found.container.id, if kill { "SIGKILL" } else { asked.unwrap_or("SIGTERM") }).await?;
            tokio::select! {
                biased;
                ended = self.wait(&found.container.id) => return ended,
                () = self.clock.sleep(patience) => {}
            }
        }
        Err(failed(format!("stop container {name}"))("its process does not end"))
    }

    /// Sends a signal to a container; one that does not run has no need of it.
    async fn kill(&self, id: &str, signal: &str) -> Result<(), Error> {
        let options = KillContainerOptionsBuilder::default().signal(signal).build();
        match self.client.kill_container(id, Some(options)).await {
            Err(error) if !matches!(status(&error), 404 | 409) => {
                Err(self.failed(format!("send {signal} to {id}"), &error))
            }
            _ => Ok(()),
        }
    }

    /// Waits until a container does not run any more.
    async fn wait(&self, id: &str) -> Result<(), Error> {
        let mut ends = std::pin::pin!(self.client.wait_container(id, None::<WaitContainerOptions>));
        match ends.next().await {
            // A code other than 0 is an error, too.
            None | Some(Ok(_) | Err(bollard::errors::Error::DockerContainerWaitError { .. })) => Ok(()),
            Some(Err(error)) if status(&error) == 404 => Ok(()),
            Some(Err(error)) => Err(self.failed(format!("wait for the end of {id}"), &error)),
        }
    }

    pub(crate) async fn remove_container(&self, name: &ContainerRef) -> Result<(), Error> {
        check_name("pod uid", &name.pod_uid)?;
        check_name("container name", &name.name)?;
        let engine_name = self.container_name(name);
        // As for sandboxes: whoever starts it waits for what is killed here.
        self.kill(&engine_name, "SIGKILL").await?;
        let _held = self.alone(&name.pod_uid).await;
        self.take_away(&engine_name).await?;
        self.notes.forget_container(name).map_err(failed(format!("remove container {name}")))
    }

    /// Kills a container, completes its log, and removes it.
    async fn take_away(&self, name: &str) -> Result<(), Error> {
        self.kill(name, "SIGKILL").await?;
        self.wait(name).await?;
        let Some(inspected) = self.inspect(name).await? else { return Ok(()) };
        let id = inspected.id.clone().unwrap_or_default();
        // The engine removes its own log with it.
        self.container(&inspected).await?;
        self.logs.forget(&id);
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        match self.client.remove_container(&id, Some(options)).await {
            Ok(()) => {}
            Err(error) if status(&error) == 404 => {}
            // Somebody else removes it.
            Err(error) if status(&error) == 409 => {
                let gone = || async { Ok(self.inspect(&id).await?.is_none().then_some(())) };
                self.until(format!("remove {name}"), gone).await?;
            }
            Err(error) => return Err(self.failed(format!("remove {name}"), &error)),
        }
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        Ok(())
    }

    /// Removes what a crash left half-made: sandboxes that were never started, and containers without a sandbox.
    pub(crate) async fn remove_half_made(&self) -> Result<(), Error> {
        for uid in self.uids().await? {
            if let Err(Error::NotFound { .. }) = self.find_sandbox(&uid).await {
                self.remove_sandbox(&uid).await?;
            }
        }
        Ok(())
    }

    /// Ends and removes everything of this instance.
    pub(crate) async fn clean_up(&self) -> Result<(), Error> {
        for uid in self.uids().await? {
            self.remove_sandbox(&uid).await?;
        }
        let image = self.pause_image();
        match self.client.remove_image(&image, None::<RemoveImageOptions>, None).await {
            // An engine that gives up the names of one content at once may stumble over the last; what counts is that it is gone.
            Err(error) if status(&error) != 404 && self.client.inspect_image(&image).await.is_ok() => {
                return Err(self.failed(format!("remove image {image}"), &error));
            }
            _ => {}
        }
        self.destroy_group(format!("longshore-{}", self.instance)).await?;
        self.notes.forget_all().map_err(failed("remove the state directory"))
    }

    /// The pods of which the engine has anything.
    async fn uids(&self) -> Result<BTreeSet<String>, Error> {
        let mut uids = BTreeSet::new();
        for id in self.ids(None).await? {
            let labels = self.inspect(&id).await?.and_then(|found| found.config).and_then(|config| config.labels);
            uids.extend(labels.and_then(|mut labels| labels.remove(config::UID)));
        }
        Ok(uids)
    }
}
