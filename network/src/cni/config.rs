//! The configuration of a network as an administrator writes it, and what each plugin is given of it.

use std::fs;
use std::path::{Path, PathBuf};

use longshore_core::network::{Error, HostPort, Protocol};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::netlink::failed;

/// A network: plugins that are run one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct List {
    #[serde(default)]
    pub(super) cni_version: String,
    pub(super) name: String,
    #[serde(default)]
    pub(super) disable_check: bool,
    pub(super) plugins: Vec<Map<String, Value>>,
}

/// What can be told to plugins that say they want it.
const PORT_MAPPINGS: &str = "portMappings";

impl List {
    /// The first configuration of a directory, by name; a file with one plugin is a list of one.
    pub(super) fn load(directory: &Path) -> Result<Self, Error> {
        let missing = |what: String| Error::Missing {
            what,
            remedy: format!("put a network's configuration (*.conflist) into {}", directory.display()),
        };
        let entries = fs::read_dir(directory)
            .map_err(|error| missing(format!("a readable directory {} ({error})", directory.display())))?;
        let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.sort();
        let is = |path: &Path, endings: &[&str]| {
            path.extension().and_then(|ending| ending.to_str()).is_some_and(|ending| endings.contains(&ending))
        };
        let file = files.iter().find(|path| is(path, &["conflist", "conf", "json"]));
        let file = file.ok_or_else(|| missing(format!("a network's configuration in {}", directory.display())))?;
        let operation = || format!("read the network's configuration {}", file.display());
        let text = fs::read(file).map_err(failed(operation()))?;
        let value: Value = serde_json::from_slice(&text).map_err(failed(operation()))?;
        Self::parse(value, is(file, &["conflist"])).map_err(failed(operation()))
    }

    fn parse(value: Value, is_list: bool) -> Result<Self, String> {
        let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let list = if is_list || value.get("plugins").is_some() {
            serde_json::from_value(value).map_err(|error| error.to_string())?
        } else {
            let (cni_version, name) = (text("cniVersion"), text("name"));
            let Value::Object(plugin) = value else { return Err("it is no object".to_owned()) };
            Self { cni_version, name, disable_check: false, plugins: vec![plugin] }
        };
        if list.name.is_empty() || list.plugins.is_empty() {
            return Err("it needs a name and a plugin".to_owned());
        }
        if ["", "0.1.0", "0.2.0"].contains(&list.cni_version.as_str()) {
            return Err(format!("its cniVersion {:?} is older than 0.3.0", list.cni_version));
        }
        for plugin in &list.plugins {
            let type_ = plugin.get("type").and_then(Value::as_str).unwrap_or_default();
            if type_.is_empty() || type_.contains('/') || type_.starts_with('.') {
                return Err(format!("the plugin's type {type_:?} is not the name of a program"));
            }
        }
        Ok(list)
    }

    /// Whether a plugin opens ports of the node.
    pub(super) fn maps_ports(&self) -> bool {
        self.plugins.iter().any(|plugin| wants(plugin, PORT_MAPPINGS))
    }

    /// Whether plugins can be asked if all is right still: since version 0.4.0.
    pub(super) fn has_check(&self) -> bool {
        let older = ["", "0.1.0", "0.2.0", "0.3.0", "0.3.1"];
        !self.disable_check && !older.contains(&self.cni_version.as_str())
    }

    /// What a plugin reads: its part, with the list's name and version, what came before, and what it says it wants to know.
    pub(super) fn input(
        &self,
        plugin: &Map<String, Value>,
        host_ports: &[HostPort],
        previous: Option<&Value>,
    ) -> Map<String, Value> {
        let mut input = plugin.clone();
        input.remove("capabilities");
        input.insert("name".to_owned(), json!(self.name));
        input.insert("cniVersion".to_owned(), json!(self.cni_version));
        if wants(plugin, PORT_MAPPINGS) && !host_ports.is_empty() {
            let mappings: Vec<Value> = host_ports.iter().map(mapping).collect();
            input.insert("runtimeConfig".to_owned(), json!({ PORT_MAPPINGS: mappings }));
        }
        if let Some(previous) = previous {
            input.insert("prevResult".to_owned(), previous.clone());
        }
        input
    }
}

fn wants(plugin: &Map<String, Value>, capability: &str) -> bool {
    plugin.get("capabilities").and_then(|all| all.get(capability)).and_then(Value::as_bool).unwrap_or(false)
}

fn mapping(port: &HostPort) -> Value {
    let protocol = match port.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    };
    let mut mapping = json!({"hostPort": port.host_port, "containerPort": port.container_port, "protocol": protocol});
    if let Some(ip) = port.host_ip {
        mapping["hostIP"] = json!(ip);
    }
    mapping
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_file_by_name_is_the_network() {
        let directory = tempfile::tempdir().unwrap();
        let error = List::load(directory.path()).unwrap_err();
        assert!(matches!(error, Error::Missing { .. }), "{error}");
        fs::write(directory.path().join("20-b.conflist"), r#"{"name": "b", "plugins": [{"type": "bridge"}]}"#).unwrap();
        fs::write(directory.path().join("10-a.conf"), r#"{"name": "a", "cniVersion": "1.0.0", "type": "ptp"}"#)
            .unwrap();
        fs::write(directory.path().join("00-readme.txt"), "no configuration").unwrap();
        let list = List::load(directory.path()).unwrap();
        assert_eq!((list.name.as_str(), list.plugins.len(), list.has_check()), ("a", 1, true));
        fs::write(
            directory.path().join("05-c.conflist"),
            r#"{"name": "c", "cniVersion": "0.4.0", "plugins": [{"type": "../sh"}]}"#,
        )
        .unwrap();
        let error = List::load(directory.path()).unwrap_err().to_string();
        assert!(error.contains("is not the name of a program"), "{error}");
        fs::write(directory.path().join("01-old.conflist"), r#"{"name": "d", "plugins": [{"type": "ptp"}]}"#).unwrap();
        let error = List::load(directory.path()).unwrap_err().to_string();
        assert!(error.contains("is older than 0.3.0"), "{error}");
    }

    #[test]
    fn a_plugin_is_told_what_it_says_it_wants() {
        let value = json!({"name": "n", "cniVersion": "1.0.0", "plugins": [
            {"type": "bridge", "mtu": 1400}, {"type": "portmap", "capabilities": {"portMappings": true}},
        ]});
        let list = List::parse(value, true).unwrap();
        let port = HostPort { protocol: Protocol::Udp, host_ip: None, host_port: 5353, container_port: 53 };
        let input =
            |n: usize| Value::Object(list.input(&list.plugins[n], std::slice::from_ref(&port), Some(&json!({}))));
        assert_eq!(
            input(0),
            json!({"type": "bridge", "mtu": 1400, "name": "n", "cniVersion": "1.0.0", "prevResult": {}})
        );
        assert_eq!(
            input(1)["runtimeConfig"],
            json!({"portMappings": [{"hostPort": 5353, "containerPort": 53, "protocol": "udp"}]})
        );
        assert_eq!(input(1).get("capabilities"), None);
    }
}
