//! One entry of the list of etcd servers.

use tonic::transport::{Endpoint, Uri};

/// What an entry asks for when it names no scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
    Unix,
}

/// An etcd server as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    scheme: Scheme,
    /// With its scheme.
    url: String,
}

impl Server {
    /// Read an entry by the rules of etcd's Go client: the scheme decides on TLS, and a bare
    /// `host:port` uses it if there is something to use it with (clientv3/internal/endpoint).
    /// The error is one line.
    pub(super) fn parse(text: &str, tls_given: bool) -> Result<Server, String> {
        let refused = |why: &str| Err(format!("etcd endpoint {:?}: {why}", without_user(text)));
        let (scheme, rest) = match text.split_once("://") {
            Some(("http", rest)) => (Scheme::Http, rest),
            Some(("https", rest)) => (Scheme::Https, rest),
            Some(("unix", "")) => return refused("the path is missing"),
            Some(("unix", path)) => (Scheme::Unix, path),
            Some((other, _)) => {
                let why = format!("{other}:// is not supported: use https://, http:// or unix://");
                return refused(&why);
            }
            None if tls_given => (Scheme::Https, text),
            None => (Scheme::Http, text),
        };
        let url = match scheme {
            Scheme::Unix => format!("unix://{rest}"),
            Scheme::Http => format!("http://{rest}"),
            Scheme::Https => format!("https://{rest}"),
        };
        if without_user(text) != text && scheme != Scheme::Unix {
            return refused("use -etcd-username and -etcd-password instead of user:password@host");
        }
        let server = Server { scheme, url };
        match server.endpoint() {
            Ok(endpoint) if scheme == Scheme::Unix || has_sound_port(endpoint.uri()) => Ok(server),
            _ => refused("not of the form https://host:port"),
        }
    }

    /// Whether connections to it are encrypted.
    pub(super) fn uses_tls(&self) -> bool {
        self.scheme == Scheme::Https
    }

    /// Whether it was given, or is understood, as `http://`.
    pub(super) fn is_http(&self) -> bool {
        self.scheme == Scheme::Http
    }

    /// As it is shown to people.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Where to connect, without TLS yet.
    pub(super) fn endpoint(&self) -> Result<Endpoint, tonic::transport::Error> {
        Endpoint::from_shared(self.url.clone())
    }
}

/// Whether what follows the host is nothing or a port.
fn has_sound_port(uri: &Uri) -> bool {
    uri.authority().is_some_and(|authority| {
        authority.as_str() == authority.host() || authority.port_u16().is_some()
    })
}

/// A URL or what follows its scheme without `user:password@`.
fn without_user(text: &str) -> String {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), text),
    };
    let authority = rest.find('/').unwrap_or(rest.len());
    let host = rest[..authority].rfind('@').map_or(0, |at| at + 1);
    scheme + &rest[host..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_decides_on_tls() {
        for (text, tls_given, url) in [
            ("http://10.0.0.1:2379", true, "http://10.0.0.1:2379"),
            (
                "https://etcd.example:2379",
                false,
                "https://etcd.example:2379",
            ),
            ("10.0.0.1:2379", false, "http://10.0.0.1:2379"),
            ("10.0.0.1:2379", true, "https://10.0.0.1:2379"),
            ("etcd-1:2379", true, "https://etcd-1:2379"),
            ("[fd00::1]:2379", true, "https://[fd00::1]:2379"),
            ("https://10.0.0.1:2379/", false, "https://10.0.0.1:2379/"),
            ("unix:///run/etcd.sock", true, "unix:///run/etcd.sock"),
            ("unix://localhost:2379", true, "unix://localhost:2379"),
        ] {
            let server = Server::parse(text, tls_given).unwrap();
            assert_eq!(server.url(), url, "{text}");
            assert_eq!(server.uses_tls(), url.starts_with("https"), "{text}");
            assert_eq!(server.is_http(), url.starts_with("http:"), "{text}");
        }
    }

    #[test]
    fn what_is_no_server_is_named_in_one_line() {
        for (text, words) in [
            ("unixs://localhost:2379", "unixs:// is not supported"),
            ("ftp://10.0.0.1", "ftp:// is not supported"),
            ("unix://", "the path is missing"),
            ("http://", "not of the form"),
            ("https://", "not of the form"),
            ("", "not of the form"),
            ("a b:2379", "not of the form"),
            ("http://10.0.0.1:port", "not of the form"),
        ] {
            let error = Server::parse(text, false).unwrap_err();
            assert!(
                error.starts_with(&format!("etcd endpoint {text:?}: ")),
                "{error}"
            );
            assert!(error.contains(words), "{error}");
            assert_eq!(error.lines().count(), 1);
        }
    }

    #[test]
    fn passwords_in_urls_are_neither_used_nor_shown() {
        for (text, rest) in [
            ("https://weft:secret@10.0.0.1:2379", "https://10.0.0.1:2379"),
            ("https://weft:secr@secret@h:2379/", "https://h:2379/"),
            ("weft:secret@10.0.0.1:2379", "10.0.0.1:2379"),
            ("http://weft@10.0.0.1:2379", "http://10.0.0.1:2379"),
        ] {
            let error = Server::parse(text, true).unwrap_err();
            let line = format!(
                "etcd endpoint {rest:?}: use -etcd-username and -etcd-password instead of \
                 user:password@host"
            );
            assert_eq!(error, line);
        }
        let error = Server::parse("ftp://weft:secret@10.0.0.1", true).unwrap_err();
        assert!(!error.contains("secret"), "{error}");
    }
}
