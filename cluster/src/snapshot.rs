//! What a cluster that runs is like at a moment: its objects in a file, for the simulator and whoever else reads lists of them.

use std::collections::BTreeMap;
use std::io::Write;

use longshore_core::client::{Client, Error as ClientError};
use longshore_core::kind::{DynObject, KindType};

use crate::Error;
use crate::connection::remote_client;
use crate::listing::each_page;

/// What a snapshot has.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// How many objects there are of each kind that the cluster has.
    pub counts: BTreeMap<&'static str, usize>,
    /// Kinds that the server does not tell of, and why.
    pub left_out: BTreeMap<&'static str, String>,
}

/// Writes all objects of some kinds as one list in JSON, an object a line, without `managedFields`. Of `others` those are left out that the
/// server does not serve or does not show to this caller; `needed` must be had.
///
/// Each kind is as it was at one moment, but not all at the same.
///
/// # Errors
/// [`Error::Part`]: the kubeconfig cannot be used, the server does not answer, or it cannot be written.
pub async fn snapshot(
    kubeconfig: &str,
    needed: &[&'static KindType],
    others: &[&'static KindType],
    to: &mut (dyn Write + Send),
) -> Result<Snapshot, Error> {
    let failed = |reason: String| Error::Part { part: "snapshot", reason };
    let client = remote_client(kubeconfig).map_err(failed)?;
    write(&*client, needed, others, to).await.map_err(failed)
}

async fn write(
    client: &dyn Client,
    needed: &[&'static KindType],
    others: &[&'static KindType],
    to: &mut (dyn Write + Send),
) -> Result<Snapshot, String> {
    let mut found = Snapshot::default();
    let mut list = List { to, begun: false, wrote: Ok(()) };
    list.text("{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[");
    for kind in needed.iter().chain(others) {
        let mut count = 0;
        let listed = each_page(client, kind, |page| {
            count += page.len();
            page.iter().for_each(|object| list.object(object));
        });
        match listed.await {
            Ok(()) if count > 0 => drop(found.counts.insert(kind.info.kind, count)),
            Ok(()) => {}
            Err(error) if !needed.contains(kind) && count == 0 && is_not_shown(&error) => {
                found.left_out.insert(kind.info.kind, error.to_string());
            }
            Err(error) => return Err(format!("cannot list {}: {error}", kind.info.resource())),
        }
    }
    list.text("\n]}\n");
    list.wrote.and_then(|()| list.to.flush()).map_err(|error| format!("cannot be written: {error}"))?;
    Ok(found)
}

fn is_not_shown(error: &ClientError) -> bool {
    error.is_not_found() || matches!(error.code(), 403 | 404)
}

/// A list that is being written. After a failure nothing more is.
struct List<'w> {
    to: &'w mut (dyn Write + Send),
    begun: bool,
    wrote: std::io::Result<()>,
}

impl List<'_> {
    fn text(&mut self, text: &str) {
        if self.wrote.is_ok() {
            self.wrote = self.to.write_all(text.as_bytes());
        }
    }

    fn object(&mut self, object: &DynObject) {
        let mut object = object.clone_box();
        object.meta_mut().managed_fields = None;
        let between = if self.begun { ",\n" } else { "\n" };
        self.begun = true;
        self.text(between);
        if self.wrote.is_ok() {
            self.wrote = self.to.write_all(&object.to_vec());
        }
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use longshore_core::api::{Node, Pod, PodGroup};
    use longshore_core::client::params::PostParams;
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::Cluster;

    #[tokio::test]
    async fn objects_are_written_kind_by_kind() {
        let pods_groups = KindType::of::<PodGroup>();
        let without =
            |options: &mut crate::ControlPlaneOptions| options.registry.kinds.retain(|kind| *kind != pods_groups);
        let cluster = Cluster::builder().nodes(3).control_plane(without).virtual_time().start().await;
        let pod = json!({"metadata": {"name": "web"}, "spec": {"containers": [{"name": "web", "image": "web:1"}]}});
        let pod = serde_json::from_value(pod).unwrap();
        cluster.api::<Pod>("default").create(pod, &PostParams::default()).await.unwrap();
        cluster.until("default", "web", |pod: &Pod| !pod.spec.node_name.is_empty()).await;
        let (needed, mut bytes) = ([KindType::of::<Node>(), KindType::of::<Pod>()], Vec::new());
        let found = write(&**cluster.client(), &needed, &[pods_groups], &mut bytes).await.unwrap();
        assert_eq!(found.counts, BTreeMap::from([("Node", 3), ("Pod", 1)]));
        assert!(found.left_out.keys().eq(&["PodGroup"]), "{found:?}");
        let list: Value = serde_json::from_slice(&bytes).unwrap();
        let items = list["items"].as_array().unwrap();
        let kinds: Vec<&str> = items.iter().map(|item| item["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["Node", "Node", "Node", "Pod"]);
        assert!(items[3]["spec"]["nodeName"].is_string() && items[3]["metadata"]["managedFields"].is_null());
        assert_eq!(String::from_utf8(bytes).unwrap().lines().count(), 4 + 2);

        let error = write(&**cluster.client(), &[pods_groups], &[], &mut Vec::new()).await.unwrap_err();
        assert!(error.starts_with("cannot list podgroups"), "{error}");
        let mut full = std::io::Cursor::new([0_u8; 8]);
        let error = write(&**cluster.client(), &needed, &[], &mut full).await.unwrap_err();
        assert!(error.starts_with("cannot be written: "), "{error}");
    }
}
