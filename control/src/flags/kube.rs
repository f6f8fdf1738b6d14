//! The flags of the Kubernetes API.

use super::flag::{By, Flag};
use super::value::parse_bool;
use crate::subnets::kube::KubeOptions;

/// What the names of most begin with.
pub(super) const PREFIX: &str = "kube-";

/// Those of which they do not.
pub(super) const OTHERS: [&str; 3] = [
    "kubeconfig-file",
    "net-config-path",
    "set-node-network-unavailable",
];

/// Set one value; the error is the rule it breaks.
pub(super) fn set(options: &mut KubeOptions, name: &str, value: &str) -> Result<(), String> {
    match name {
        "kube-api-url" => options.api_url = api_url(value)?,
        "kubeconfig-file" => options.kubeconfig = (!value.is_empty()).then(|| value.into()),
        "kube-annotation-prefix" => options.prefix = value.parse()?,
        "net-config-path" if value.is_empty() => return Err("must not be empty".to_owned()),
        "net-config-path" => options.net_config = value.into(),
        "set-node-network-unavailable" => {
            options.set_condition = parse_bool(value).unwrap_or_default();
        }
        _ => {}
    }
    Ok(())
}

/// Whether a flag says how the API is to be used, if it is.
pub(super) fn is_for_cluster(flag: &Flag) -> bool {
    flag.name != "kube-subnet-mgr" && (flag.name.starts_with(PREFIX) || OTHERS.contains(&flag.name))
}

/// What is given of that without -kube-subnet-mgr, and so has no effect.
pub(super) fn unused(settings: &[(&'static Flag, String, By)]) -> Vec<String> {
    let unused = settings
        .iter()
        .filter(|(flag, value, _)| is_for_cluster(flag) && !flag.is_default(value));
    unused
        .map(|(flag, _, by)| {
            format!(
                "{} has no effect: it is for -kube-subnet-mgr",
                flag.called(*by)
            )
        })
        .collect()
}

/// The URL of a server; an empty value is none.
fn api_url(value: &str) -> Result<Option<String>, String> {
    if value.is_empty() {
        return Ok(None);
    }
    let host = value
        .strip_prefix("https://")
        .or_else(|| value.strip_prefix("http://"));
    match host {
        Some(host) if host.contains('@') => {
            Err("must be without user and password: a kubeconfig has them".to_owned())
        }
        Some(host) if !host.is_empty() && !host.contains(char::is_whitespace) => {
            Ok(Some(value.to_owned()))
        }
        _ => Err("must be a URL such as https://10.0.0.1:6443".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use crate::agent::AgentOptions;
    use crate::flags::{Command, FlagError, parse};
    use std::path::Path;

    fn run(args: &[&str]) -> Result<Box<AgentOptions>, FlagError> {
        let env = |name: &str| (name == "NODE_NAME").then(|| "node-1".to_owned());
        let args = args.iter().map(|arg| (*arg).to_owned());
        match parse(args, env)? {
            Command::Run { options, .. } => Ok(options),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_flags_of_the_manifest_are_taken() {
        let options = run(&["--ip-masq", "--kube-subnet-mgr", "--healthz-port=8081"]).unwrap();
        assert!(options.kube_subnets && options.kube.set_condition);
        let kube = &options.kube;
        assert_eq!(
            kube.net_config,
            Path::new("/etc/kube-flannel/net-conf.json")
        );
        assert_eq!(kube.prefix.as_str(), "flannel.alpha.coreos.com/");
        assert_eq!(kube.node.name.as_deref(), Some("node-1"));
        assert_eq!((&kube.api_url, &kube.kubeconfig), (&None, &None));
        let off = run(&["-kube-subnet-mgr", "-set-node-network-unavailable=false"]).unwrap();
        assert!(!off.kube.set_condition);
        assert!(!run(&["-kube-subnet-mgr=F"]).unwrap().kube_subnets);
    }

    #[test]
    fn what_cannot_go_together_is_said() {
        for (args, reason) in [
            (
                &["-kube-subnet-mgr", "-subnets-file=/x.toml"][..],
                "or in the Kubernetes API",
            ),
            (
                &["-drain"],
                "-drain says what -remove takes away in a cluster",
            ),
            (&["-drain", "-remove"], "and -kube-subnet-mgr"),
            (&["-kube-api-url=10.0.0.1:6443"], "must be a URL such as"),
            (&["-kube-api-url=https://"], "must be a URL such as"),
            (
                &["-kube-api-url=https://root:x@a"],
                "without user and password",
            ),
            (&["-net-config-path="], "must not be empty"),
            (&["-kube-annotation-prefix=a.b/c/d"], "at most one slash"),
        ] {
            let error = run(args).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        let drain = run(&["-drain", "-remove", "-kube-subnet-mgr"]).unwrap();
        assert!(drain.drain && drain.remove);
    }
}
