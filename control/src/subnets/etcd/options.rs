//! How to reach etcd, and what such options come to.

use std::fmt;
use std::path::PathBuf;

/// How to reach etcd.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EtcdOptions {
    /// Servers, as given: `http://host:port`, `https://host:port`, `unix://path` or `host:port`.
    pub endpoints: Vec<String>,
    /// Path that `config` and `subnets` are under.
    pub prefix: String,
    /// The client's certificate, PEM. Without `key_file` it does not count.
    pub cert_file: Option<PathBuf>,
    /// The client's key, PEM.
    pub key_file: Option<PathBuf>,
    /// Certificates that the servers' ones are checked against, PEM.
    pub ca_file: Option<PathBuf>,
    /// User name; empty: none.
    pub username: String,
    /// Password; empty: none.
    pub password: Secret,
}

impl EtcdOptions {
    /// The servers, without the blanks and the empty entries of a list typed by hand.
    pub(super) fn servers(&self) -> impl Iterator<Item = &str> {
        let trimmed = self.endpoints.iter().map(|text| text.trim());
        trimmed.filter(|text| !text.is_empty())
    }

    /// User and password, if there are both; etcd's Go client counts nothing else.
    pub(super) fn login(&self) -> Option<(&str, &Secret)> {
        let both = !self.username.is_empty() && !self.password.is_empty();
        both.then_some((self.username.as_str(), &self.password))
    }

    /// Whether there is anything to make TLS connections with.
    pub(super) fn has_tls_files(&self) -> bool {
        self.ca_file.is_some() || (self.cert_file.is_some() && self.key_file.is_some())
    }

    /// How etcdctl is called for the same servers. It asks for the password by itself.
    pub(super) fn etcdctl(&self) -> String {
        let servers: Vec<&str> = self.servers().collect();
        let mut words = format!("etcdctl --endpoints={}", servers.join(","));
        let pair = self.cert_file.as_ref().zip(self.key_file.as_ref());
        let files = [
            ("cacert", self.ca_file.as_ref()),
            ("cert", pair.map(|(cert, _)| cert)),
            ("key", pair.map(|(_, key)| key)),
        ];
        for (flag, file) in files {
            if let Some(file) = file {
                words += &format!(" --{flag}={}", file.display());
            }
        }
        if let Some((user, _)) = self.login() {
            words += &format!(" --user={user}");
        }
        words
    }

    /// What is given and does not count, one line each.
    pub(super) fn ignored(&self) -> Vec<&'static str> {
        let mut lines = Vec::new();
        if !self.servers().eq(&self.endpoints) {
            lines.push("blanks and empty entries in -etcd-endpoints are left out");
        }
        match (&self.cert_file, &self.key_file) {
            (Some(_), None) => lines.push(
                "-etcd-certfile is given without -etcd-keyfile: no client certificate is used",
            ),
            (None, Some(_)) => lines.push(
                "-etcd-keyfile is given without -etcd-certfile: no client certificate is used",
            ),
            _ => {}
        }
        match (self.username.is_empty(), self.password.is_empty()) {
            (false, true) => {
                lines.push("-etcd-username is given without -etcd-password: no user is used");
            }
            (true, false) => {
                lines.push("-etcd-password is given without -etcd-username: no user is used");
            }
            _ => {}
        }
        lines
    }
}

/// A text that is never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keep `text` from being printed.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself, to be handed to whom it is for.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.is_empty() {
            true => "none",
            false => "***",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etcdctl_is_called_for_the_same_servers_without_the_password() {
        let mut options = EtcdOptions {
            endpoints: vec!["https://a:2379".to_owned(), "https://b:2379".to_owned()],
            ..EtcdOptions::default()
        };
        let bare = "etcdctl --endpoints=https://a:2379,https://b:2379";
        assert_eq!(options.etcdctl(), bare);
        options.ca_file = Some("/ca.pem".into());
        options.cert_file = Some("/client.pem".into());
        options.username = "weft".to_owned();
        options.password = Secret::new("7-warp-threads");
        let half = format!("{bare} --cacert=/ca.pem --user=weft");
        assert_eq!(options.etcdctl(), half, "a certificate without its key");
        options.key_file = Some("/client.key".into());
        let whole = "--cacert=/ca.pem --cert=/client.pem --key=/client.key --user=weft";
        assert_eq!(options.etcdctl(), format!("{bare} {whole}"));
    }

    #[test]
    fn slips_in_the_list_of_servers_are_left_out_and_named() {
        let given = |list: &str| EtcdOptions {
            endpoints: list.split(',').map(str::to_owned).collect(),
            ..EtcdOptions::default()
        };
        for (list, servers, lines) in [
            ("http://a:1,b:2", &["http://a:1", "b:2"][..], 0),
            ("http://a:1,", &["http://a:1"], 1),
            (",http://a:1,,b:2", &["http://a:1", "b:2"], 1),
            (" http://a:1, b:2\t", &["http://a:1", "b:2"], 1),
            (" ,", &[], 1),
        ] {
            let options = given(list);
            assert!(options.servers().eq(servers.iter().copied()), "{list:?}");
            assert_eq!(options.ignored().len(), lines, "{list:?}");
        }
    }

    #[test]
    fn halves_do_not_count_and_are_named() {
        let none = EtcdOptions::default();
        assert_eq!(none.ignored(), [""; 0]);
        assert!(none.login().is_none() && !none.has_tls_files());
        let halves = EtcdOptions {
            cert_file: Some("client.pem".into()),
            username: "weft".to_owned(),
            ..none.clone()
        };
        assert_eq!(halves.ignored().len(), 2);
        assert!(halves.login().is_none() && !halves.has_tls_files());
        let others = EtcdOptions {
            key_file: Some("client.key".into()),
            password: Secret::new("7-warp-threads"),
            ..none
        };
        assert_eq!(others.ignored().len(), 2);
        let whole = EtcdOptions {
            key_file: others.key_file,
            password: others.password,
            ..halves
        };
        assert_eq!(whole.ignored(), [""; 0]);
        assert!(whole.login().is_some() && whole.has_tls_files());
    }
}
