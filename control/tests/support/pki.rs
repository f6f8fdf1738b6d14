//! Certificates for tests.

// Each test binary needs another part of it.
#![allow(dead_code)]

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    date_time_ymd,
};
use std::fs;
use std::path::{Path, PathBuf};

/// A certificate authority, its certificate in a file.
pub(crate) struct Pki {
    dir: PathBuf,
    ca: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// The files of a certificate and its key.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Pki {
    /// A new authority, whose certificate is `<dir>/<name>.pem`.
    pub(crate) fn new(dir: &Path, name: &str) -> Pki {
        let mut params = named(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        let ca = dir.join(format!("{name}.pem"));
        fs::write(&ca, issuer.pem()).unwrap();
        Pki {
            dir: dir.to_owned(),
            ca,
            issuer,
        }
    }

    /// The file of the authority's certificate.
    pub(crate) fn ca(&self) -> &Path {
        &self.ca
    }

    /// A server's certificate for these addresses, in `<file>.pem` and `<file>.key`. It names
    /// no user: etcd refuses to let its own gateway be one.
    pub(crate) fn server(&self, file: &str, addresses: &[String]) -> Pair {
        self.issue(file, named("", addresses))
    }

    /// A client's certificate for an etcd user; files that are there are written anew.
    pub(crate) fn client(&self, file: &str, user: &str) -> Pair {
        self.issue(file, named(user, &[]))
    }

    /// A client's certificate that has expired.
    pub(crate) fn expired(&self, file: &str, user: &str) -> Pair {
        let mut params = named(user, &[]);
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 1);
        self.issue(file, params)
    }

    fn issue(&self, file: &str, params: CertificateParams) -> Pair {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let pair = Pair {
            cert: self.dir.join(format!("{file}.pem")),
            key: self.dir.join(format!("{file}.key")),
        };
        fs::write(&pair.cert, certificate.pem()).unwrap();
        fs::write(&pair.key, key.serialize_pem()).unwrap();
        pair
    }
}

fn named(common_name: &str, addresses: &[String]) -> CertificateParams {
    let mut params = CertificateParams::new(addresses).unwrap();
    params.distinguished_name = DistinguishedName::new();
    if !common_name.is_empty() {
        let name = &mut params.distinguished_name;
        name.push(DnType::CommonName, common_name);
    }
    params
}
