//! The messages of Kubernetes' device plug-in API `v1beta1`, as far as they are used, in protobuf's encoding.

use std::collections::BTreeMap;
use std::path::PathBuf;

use longshore_core::runtime::{Device, Mount, Propagation};

use super::{Allocation, PluginDevice, PluginError};

/// The API's version.
pub(crate) const VERSION: &str = "v1beta1";
/// The health of a device that works.
const HEALTHY: &str = "Healthy";

/// `RegisterRequest`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Register {
    pub(crate) version: String,
    /// Name of the plug-in's socket in the directory of plug-ins.
    pub(crate) endpoint: String,
    pub(crate) resource: String,
    /// Whether `PreStartContainer` is to be called.
    pub(crate) pre_start: bool,
}

impl Register {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut options = Vec::new();
        put_flag(&mut options, 1, self.pre_start);
        let mut out = Vec::new();
        for (number, text) in [(1, &self.version), (2, &self.endpoint), (3, &self.resource)] {
            put(&mut out, number, text.as_bytes());
        }
        put(&mut out, 4, &options);
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, PluginError> {
        let mut read = Self::default();
        for field in fields(bytes)? {
            match field {
                (1, Value::Bytes(text)) => read.version = string(text)?,
                (2, Value::Bytes(text)) => read.endpoint = string(text)?,
                (3, Value::Bytes(text)) => read.resource = string(text)?,
                (4, Value::Bytes(options)) => read.pre_start = decode_options(options)?,
                _ => {}
            }
        }
        Ok(read)
    }
}

/// Of `DevicePluginOptions`, whether `PreStartContainer` is to be called.
pub(crate) fn decode_options(bytes: &[u8]) -> Result<bool, PluginError> {
    Ok(fields(bytes)?.iter().any(|field| matches!(field, (1, Value::Number(flag)) if *flag != 0)))
}

/// `ListAndWatchResponse`.
pub(crate) fn encode_devices(devices: &[PluginDevice]) -> Vec<u8> {
    let mut out = Vec::new();
    for device in devices {
        let mut inner = Vec::new();
        put(&mut inner, 1, device.id.as_bytes());
        put(&mut inner, 2, if device.healthy { HEALTHY } else { "Unhealthy" }.as_bytes());
        put(&mut out, 1, &inner);
    }
    out
}

pub(crate) fn decode_devices(bytes: &[u8]) -> Result<Vec<PluginDevice>, PluginError> {
    let mut devices = Vec::new();
    for field in fields(bytes)? {
        let (1, Value::Bytes(inner)) = field else { continue };
        let mut device = PluginDevice { id: String::new(), healthy: false };
        for field in fields(inner)? {
            match field {
                (1, Value::Bytes(text)) => device.id = string(text)?,
                (2, Value::Bytes(text)) => device.healthy = text == HEALTHY.as_bytes(),
                _ => {}
            }
        }
        if device.id.is_empty() {
            return Err(PluginError::new("it told of a device without an id"));
        }
        devices.push(device);
    }
    Ok(devices)
}

/// `PreStartContainerRequest` and `ContainerAllocateRequest`.
pub(crate) fn encode_ids(ids: &[String]) -> Vec<u8> {
    let mut out = Vec::new();
    ids.iter().for_each(|id| put(&mut out, 1, id.as_bytes()));
    out
}

pub(crate) fn decode_ids(bytes: &[u8]) -> Result<Vec<String>, PluginError> {
    fields(bytes)?
        .into_iter()
        .filter_map(|field| if let (1, Value::Bytes(id)) = field { Some(string(id)) } else { None })
        .collect()
}

/// `AllocateRequest` for one container.
pub(crate) fn encode_allocate(ids: &[String]) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, 1, &encode_ids(ids));
    out
}

/// The devices of each container.
pub(crate) fn decode_allocate(bytes: &[u8]) -> Result<Vec<Vec<String>>, PluginError> {
    messages(bytes, 1)?.into_iter().map(decode_ids).collect()
}

/// `AllocateResponse`.
pub(crate) fn encode_allocations(allocations: &[Allocation]) -> Vec<u8> {
    let mut out = Vec::new();
    for allocation in allocations {
        let mut inner = Vec::new();
        let pair = |inner: &mut Vec<u8>, number, (key, value): (&String, &String)| {
            let mut entry = Vec::new();
            put(&mut entry, 1, key.as_bytes());
            put(&mut entry, 2, value.as_bytes());
            put(inner, number, &entry);
        };
        let path = |path: &PathBuf| path.to_string_lossy().into_owned().into_bytes();
        allocation.env.iter().for_each(|entry| pair(&mut inner, 1, entry));
        for mount in &allocation.mounts {
            let mut entry = Vec::new();
            put(&mut entry, 1, &path(&mount.target));
            put(&mut entry, 2, &path(&mount.source));
            put_flag(&mut entry, 3, mount.read_only);
            put(&mut inner, 2, &entry);
        }
        for device in &allocation.devices {
            let mut entry = Vec::new();
            put(&mut entry, 1, &path(&device.target));
            put(&mut entry, 2, &path(&device.source));
            put(&mut entry, 3, device.permissions.as_bytes());
            put(&mut inner, 3, &entry);
        }
        allocation.annotations.iter().for_each(|entry| pair(&mut inner, 4, entry));
        put(&mut out, 1, &inner);
    }
    out
}

/// The answer for one container.
pub(crate) fn decode_allocation(bytes: &[u8]) -> Result<Allocation, PluginError> {
    let [response] = messages(bytes, 1)?[..] else {
        return Err(PluginError::new("it did not answer for one container"));
    };
    let mut allocation = Allocation::default();
    for field in fields(response)? {
        match field {
            (1, Value::Bytes(entry)) => insert(&mut allocation.env, entry)?,
            (2, Value::Bytes(entry)) => {
                let (target, source, read_only) = three(entry)?;
                let (target, source) = (target.into(), source.into());
                let read_only = matches!(read_only, Some(Value::Number(flag)) if flag != 0);
                let (propagation, recursive_read_only) = (Propagation::Private, false);
                allocation.mounts.push(Mount { source, target, read_only, recursive_read_only, propagation });
            }
            (3, Value::Bytes(entry)) => {
                let (target, source, permissions) = three(entry)?;
                let permissions = match permissions {
                    Some(Value::Bytes(text)) => string(text)?,
                    _ => String::new(),
                };
                allocation.devices.push(Device { source: source.into(), target: target.into(), permissions });
            }
            (4, Value::Bytes(entry)) => insert(&mut allocation.annotations, entry)?,
            // Ignoring it would start a container without its device.
            (5, _) => return Err(PluginError::new("it answered with CDI devices, which are not supported")),
            _ => {}
        }
    }
    Ok(allocation)
}

/// An entry of a map.
fn insert(map: &mut BTreeMap<String, String>, bytes: &[u8]) -> Result<(), PluginError> {
    let (key, value, _) = three(bytes)?;
    map.insert(key, value);
    Ok(())
}

/// A message whose first two fields are texts.
fn three(bytes: &[u8]) -> Result<(String, String, Option<Value<'_>>), PluginError> {
    let mut read = (String::new(), String::new(), None);
    for field in fields(bytes)? {
        match field {
            (1, Value::Bytes(text)) => read.0 = string(text)?,
            (2, Value::Bytes(text)) => read.1 = string(text)?,
            (3, value) => read.2 = Some(value),
            _ => {}
        }
    }
    Ok(read)
}

/// The messages in a field.
fn messages(bytes: &[u8], wanted: u64) -> Result<Vec<&[u8]>, PluginError> {
    let fields = fields(bytes)?.into_iter();
    Ok(fields
        .filter_map(|(number, value)| match value {
            Value::Bytes(inner) if number == wanted => Some(inner),
            _ => None,
        })
        .collect())
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn malformed() -> PluginError {
    PluginError::new("what it sent is no message of the device plug-in API")
}

fn string(bytes: &[u8]) -> Result<String, PluginError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| malformed())
}

fn varint(bytes: &mut &[u8]) -> Result<u64, PluginError> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first().ok_or_else(malformed)?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(malformed())
}

fn take<'a>(bytes: &mut &'a [u8], length: u64) -> Result<&'a [u8], PluginError> {
    let length = usize::try_from(length).map_err(|_| malformed())?;
    let (taken, rest) = bytes.split_at_checked(length).ok_or_else(malformed)?;
    *bytes = rest;
    Ok(taken)
}

/// The fields of a message with their numbers; those of fixed size, of which the API has none, are passed over.
fn fields(mut bytes: &[u8]) -> Result<Vec<(u64, Value<'_>)>, PluginError> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        match tag & 7 {
            0 => fields.push((tag >> 3, Value::Number(varint(&mut bytes)?))),
            1 => drop(take(&mut bytes, 8)?),
            2 => {
                let length = varint(&mut bytes)?;
                fields.push((tag >> 3, Value::Bytes(take(&mut bytes, length)?)));
            }
            5 => drop(take(&mut bytes, 4)?),
            _ => return Err(malformed()),
        }
    }
    Ok(fields)
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    put_varint(out, number << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_flag(out: &mut Vec<u8>, number: u64, flag: bool) {
    if flag {
        put_varint(out, number << 3);
        put_varint(out, 1);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn allocation() -> Allocation {
        Allocation {
            env: [("A".to_owned(), "b".to_owned()), ("EMPTY".to_owned(), String::new())].into(),
            mounts: vec![Mount {
                source: "/lib/gpu".into(),
                target: "/usr/lib/gpu".into(),
                read_only: true,
                recursive_read_only: false,
                propagation: Propagation::Private,
            }],
            devices: vec![Device {
                source: "/dev/null".into(),
                target: "/dev/gpu".into(),
                permissions: "rw".to_owned(),
            }],
            annotations: [("k".to_owned(), "v".repeat(300))].into(),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let register = Register {
            version: VERSION.to_owned(),
            endpoint: "gpu.sock".to_owned(),
            resource: "example.com/gpu".to_owned(),
            pre_start: true,
        };
        assert_eq!(Register::decode(&register.encode()).unwrap(), register);
        let devices = [("a", true), ("b", false)].map(|(id, healthy)| PluginDevice { id: id.to_owned(), healthy });
        assert_eq!(decode_devices(&encode_devices(&devices)).unwrap(), devices);
        let ids = ["a".to_owned(), "b".to_owned()];
        assert_eq!(decode_allocate(&encode_allocate(&ids)).unwrap(), [ids.to_vec()]);
        assert_eq!(decode_allocation(&encode_allocations(&[allocation()])).unwrap(), allocation());
    }

    #[test]
    fn bytes_are_those_of_the_api() {
        // version: "v1beta1", endpoint: "e", resource_name: "a/b", options: { pre_start_required: true }
        let bytes = b"\x0a\x07v1beta1\x12\x01e\x1a\x03a/b\x22\x02\x08\x01";
        assert_eq!(Register::decode(bytes).unwrap().encode(), bytes);
        // devices: { ID: "g", health: "Healthy", topology: {} }
        let devices = decode_devices(b"\x0a\x0e\x0a\x01g\x12\x07Healthy\x1a\x00").unwrap();
        assert_eq!(devices, [PluginDevice { id: "g".to_owned(), healthy: true }]);
    }

    #[test]
    fn what_cannot_be_obeyed_is_refused() {
        assert!(decode_allocation(&encode_allocations(&[])).is_err());
        assert!(decode_allocation(&encode_allocations(&[allocation(), allocation()])).is_err());
        let (mut cdi, mut outer) = (Vec::new(), Vec::new());
        put(&mut cdi, 5, b"\x0a\x01x");
        put(&mut outer, 1, &cdi);
        assert!(decode_allocation(&outer).unwrap_err().to_string().contains("CDI"));
        assert!(decode_devices(b"\x0a\x00").is_err(), "a device without an id");
        for bytes in [&b"\xff"[..], b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x0a\x05ab", b"\x0b", b"\x09abc"]
        {
            assert!(Register::decode(bytes).is_err(), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = (Register::decode(&bytes), decode_devices(&bytes), decode_allocate(&bytes), decode_allocation(&bytes));
        }
    }
}
