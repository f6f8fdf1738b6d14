//! The file with the network config: the same JSON as in etcd, but that the cluster gives out the
//! subnets. So the keys that say which ones do not count.

use crate::json::Object;
use crate::subnets::SubnetError;
use std::fs;
use std::path::Path;

/// Longer files are no configs.
const SIZE_MAX: u64 = 1 << 20;

/// Keys that say which subnets are given out.
const OF_ALLOCATION: [&str; 6] = [
    "SubnetLen",
    "SubnetMin",
    "SubnetMax",
    "IPv6SubnetLen",
    "IPv6SubnetMin",
    "IPv6SubnetMax",
];

/// The config, without what does not count.
pub(super) fn read(path: &Path) -> Result<String, SubnetError> {
    let text = text(path).map_err(|reason| SubnetError::ConfigFile {
        path: path.display().to_string(),
        reason,
    })?;
    // What is no object is left to whoever reads it.
    Ok(match Object::parse(&text) {
        Ok(keys) => keys.without(&OF_ALLOCATION),
        Err(_) => text,
    })
}

fn text(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("cannot be read: {error}");
    // Opening a pipe would wait for a writer.
    let metadata = fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        return Err("is not a file".to_owned());
    }
    if metadata.len() > SIZE_MAX {
        return Err(format!("is longer than {SIZE_MAX} bytes"));
    }
    let content = fs::read(path).map_err(failed)?;
    String::from_utf8(content).map_err(|_| "is not UTF-8 text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::NetworkConfig;
    use tempfile::TempDir;

    #[test]
    fn allocation_is_left_out_whatever_it_says() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("net-conf.json");
        fs::write(
            &path,
            r#"{ "network": "10.244.0.0/16", "subnetLEN": 99, "SubnetMin": "x", "SubnetMax": 1,
                 "EnableIPv6": true, "IPv6Network": "fd00:10:244::/56", "IPv6SubnetLen": -1,
                 "Backend": {"Type": "vxlan", "SubnetLen": 7} }"#,
        )
        .unwrap();
        let text = read(&path).unwrap();
        let config = NetworkConfig::parse(&text).unwrap();
        assert_eq!(config.families().count(), 2);
        assert!(text.contains(r#""SubnetLen": 7"#), "the backend's own stay");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("net-conf.json");
        let reason = |path: &Path| read(path).unwrap_err().to_string();
        assert!(reason(&path).contains("net-conf.json (-net-config-path) cannot be read"));
        assert!(reason(dir.path()).ends_with("is not a file"));
        fs::write(&path, b"\xff{").unwrap();
        assert!(reason(&path).ends_with("is not UTF-8 text"));
        fs::write(&path, vec![b' '; SIZE_MAX as usize + 1]).unwrap();
        assert!(reason(&path).contains("is longer than"));
        fs::write(&path, "no JSON").unwrap();
        assert_eq!(read(&path).unwrap(), "no JSON");
    }
}
