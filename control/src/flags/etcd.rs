//! The flags of etcd, which `weft leases` has in common with the agent.

use super::error::FlagError;
use super::flag::{By, Flag};
use super::table::TABLE;
use crate::subnets::etcd::{EtcdOptions, Secret};
use std::path::PathBuf;

/// What their names begin with.
pub(super) const PREFIX: &str = "etcd-";

/// What is wrong with a list of servers that has none, or something else in it.
const NO_LIST: &str = "must be a comma-separated list such as http://10.0.0.1:2379";

/// The flags of etcd, for commands beside the agent.
pub fn etcd_flags() -> impl Iterator<Item = &'static Flag> {
    TABLE.iter().filter(|flag| flag.name.starts_with(PREFIX))
}

/// The options of etcd, each as `given` by the name of its flag, or by default.
pub fn etcd_options(
    given: impl Fn(&str) -> Option<(String, By)>,
) -> Result<EtcdOptions, FlagError> {
    let mut options = EtcdOptions::default();
    for flag in etcd_flags() {
        let default = || (flag.default.to_owned(), By::Flag);
        let (value, by) = given(flag.name).unwrap_or_else(default);
        set(&mut options, flag.name, &value).map_err(|rule| flag.refusal(&value, by, &rule))?;
    }
    Ok(options)
}

/// Set one value; the error is the rule it breaks.
pub(super) fn set(options: &mut EtcdOptions, name: &str, value: &str) -> Result<(), String> {
    let path = || (!value.is_empty()).then(|| PathBuf::from(value));
    match name {
        "etcd-endpoints" => options.endpoints = endpoints(value)?,
        "etcd-prefix" => options.prefix = value.to_owned(),
        "etcd-keyfile" => options.key_file = path(),
        "etcd-certfile" => options.cert_file = path(),
        "etcd-cafile" => options.ca_file = path(),
        "etcd-username" => options.username = value.to_owned(),
        "etcd-password" => options.password = Secret::new(value),
        _ => {}
    }
    Ok(())
}

/// etcd servers, split at commas as flanneld does. Blanks and empty entries, which flanneld takes
/// for servers, are left out with a warning when the list is used.
fn endpoints(value: &str) -> Result<Vec<String>, String> {
    let endpoints: Vec<String> = value.split(',').map(str::to_owned).collect();
    let servers = endpoints.iter().map(|text| text.trim());
    let mut servers = servers.filter(|text| !text.is_empty()).peekable();
    if servers.peek().is_none() {
        return Err(NO_LIST.to_owned());
    }
    for endpoint in servers {
        let host = match endpoint.split_once("://") {
            None => endpoint,
            Some(("http" | "https" | "unix", host)) => host,
            Some((scheme, _)) => {
                return Err(format!(
                    "{scheme}:// is none of http://, https:// and unix://"
                ));
            }
        };
        if host.is_empty() || host.contains(char::is_whitespace) {
            return Err(NO_LIST.to_owned());
        }
        if host.contains('@') {
            let rule = "use -etcd-username and -etcd-password instead of user:password@host";
            return Err(rule.to_owned());
        }
    }
    Ok(endpoints)
}
