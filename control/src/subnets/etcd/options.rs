//! What the options of etcd come to.

use crate::flags::{EtcdOptions, Secret};

impl EtcdOptions {
    /// User and password, if there are both; etcd's Go client counts nothing else.
    pub(super) fn login(&self) -> Option<(&str, &Secret)> {
        let both = !self.username.is_empty() && !self.password.is_empty();
        both.then_some((self.username.as_str(), &self.password))
    }

    /// Whether there is anything to make TLS connections with.
    pub(super) fn has_tls_files(&self) -> bool {
        self.ca_file.is_some() || (self.cert_file.is_some() && self.key_file.is_some())
    }

    /// What is given and does not count, one line each.
    pub(super) fn ignored(&self) -> Vec<&'static str> {
        let mut lines = Vec::new();
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

#[cfg(test)]
mod tests {
    use super::*;

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
