//! The plugin's own network configuration.

use crate::error::{Code, Error};
use crate::invocation::{NAME_MAX, check_name};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::path::PathBuf;

/// A JSON object.
pub type Object = Map<String, Value>;

/// What the configuration on standard input says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NetConf {
    /// `cniVersion`; empty if not given, which means 0.1.0.
    pub cni_version: String,
    /// `name` of the network: a plain name.
    pub name: String,
    /// `subnetFile`, `/run/flannel/subnet.env` by default.
    pub subnet_file: PathBuf,
    /// `dataDir`, `/var/lib/cni/flannel` by default.
    pub data_dir: PathBuf,
    /// `delegate`: how the other plugin is to be configured.
    pub delegate: Object,
    /// `ipam`: what the other plugin's `ipam` starts from.
    pub ipam: Object,
    /// `runtimeConfig`: the runtime's arguments for capabilities of this entry.
    pub runtime_config: Option<Object>,
    /// `prevResult`, which comes with CHECK: what ADD answered.
    pub prev_result: Option<Value>,
    /// `cni.dev/valid-attachments`, which come with GC: `containerID` and `ifname` of each
    /// interface that is still wanted.
    pub valid_attachments: Option<Vec<Object>>,
}

/// The JSON as it is; null counts as absent, as it does in Go.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    cni_version: Option<String>,
    name: Option<String>,
    subnet_file: Option<PathBuf>,
    data_dir: Option<PathBuf>,
    delegate: Option<Object>,
    ipam: Option<Object>,
    runtime_config: Option<Object>,
    prev_result: Option<Value>,
    #[serde(rename = "cni.dev/valid-attachments")]
    valid_attachments: Option<Vec<Object>>,
}

impl NetConf {
    /// Read a configuration and check its name. Keys that are not known are ignored.
    pub fn parse(json: &[u8]) -> Result<NetConf, Error> {
        let raw: Raw = serde_json::from_slice(json).map_err(|e| {
            Error::new(Code::Decode, format!("cannot read the network config: {e}"))
        })?;
        let name = raw.name.unwrap_or_default();
        if name.is_empty() {
            return Err(Error::new(Code::InvalidConfig, "missing network name"));
        }
        check_name(&name, NAME_MAX).map_err(|why| {
            Error::new(
                Code::InvalidConfig,
                format!("the network's name is not a plain name: {why}"),
            )
        })?;
        let or = |path: Option<PathBuf>, default: &str| path.unwrap_or_else(|| default.into());
        Ok(NetConf {
            cni_version: raw.cni_version.unwrap_or_default(),
            name,
            subnet_file: or(raw.subnet_file, "/run/flannel/subnet.env"),
            data_dir: or(raw.data_dir, "/var/lib/cni/flannel"),
            delegate: raw.delegate.unwrap_or_default(),
            ipam: raw.ipam.unwrap_or_default(),
            runtime_config: raw.runtime_config,
            prev_result: raw.prev_result,
            valid_attachments: raw.valid_attachments,
        })
    }

    /// Position of the configuration's version in [`crate::VERSIONS`].
    pub fn version(&self) -> Result<usize, Error> {
        let version = match self.cni_version.as_str() {
            "" => crate::VERSIONS[0],
            version => version,
        };
        let known = crate::VERSIONS.iter().position(|known| *known == version);
        known.ok_or_else(|| {
            Error::new(Code::IncompatibleVersion, "incompatible CNI versions").with_details(
                format!(
                    "config is {version:?}, plugin supports {:?}",
                    crate::VERSIONS
                ),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn c5_subnet_file_and_data_dir_have_defaults() {
        let conf = NetConf::parse(br#"{"name":"cni-flannel","type":"flannel"}"#).unwrap();
        assert_eq!(conf.name, "cni-flannel");
        assert_eq!(conf.subnet_file, Path::new("/run/flannel/subnet.env"));
        assert_eq!(conf.data_dir, Path::new("/var/lib/cni/flannel"));
        assert_eq!(conf.version(), Ok(0), "the oldest");
        let null =
            br#"{"name":"n","subnetFile":null,"delegate":null,"ipam":null,"runtimeConfig":null}"#;
        let null = NetConf::parse(null).unwrap();
        assert_eq!(null.subnet_file, conf.subnet_file);
        assert_eq!((null.delegate, null.runtime_config), (Object::new(), None));
    }

    #[test]
    fn c5_subnet_file_and_data_dir_may_be_given() {
        // They are the same for all stacks: what the file holds is not looked at here.
        for file in ["/tmp/v4.env", "/tmp/v6.env", "/tmp/dual.env"] {
            let json = format!(
                r#"{{"name":"n","type":"flannel","cniVersion":"1.0.0","subnetFile":"{file}",
                     "dataDir":"/data","unknown":[1,{{}}]}}"#
            );
            let conf = NetConf::parse(json.as_bytes()).unwrap();
            assert_eq!(conf.subnet_file, Path::new(file));
            assert_eq!(conf.data_dir, Path::new("/data"));
            assert_eq!(conf.version(), Ok(5));
        }
    }

    #[test]
    fn bad_configurations_are_refused_with_the_specs_codes() {
        for (json, code) in [
            ("", 6),
            ("[]", 6),
            ("{", 6),
            (r#"{"name":1}"#, 6),
            (r#"{"name":"n","delegate":"bridge"}"#, 6),
            (r#"{"name":"n","ipam":[]}"#, 6),
            ("{}", 7),
            (r#"{"name":""}"#, 7),
            (r#"{"name":"../n"}"#, 7),
            (&format!(r#"{{"name":"{}"}}"#, "n".repeat(256)), 7),
        ] {
            let error = NetConf::parse(json.as_bytes()).unwrap_err();
            assert_eq!(error.code, code, "{json}: {error}");
            assert!(!error.msg.contains('\n'), "{error}");
        }
        let future = NetConf::parse(br#"{"name":"n","cniVersion":"9.0.0"}"#).unwrap();
        let error = future.version().unwrap_err();
        assert_eq!(error.code, 1);
        assert!(error.details.contains("9.0.0"), "{error}");
    }
}
