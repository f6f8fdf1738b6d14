//! Certificates for tests, which end with a panic where one cannot be made.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    date_time_ymd,
};
use std::fs;
use std::path::{Path, PathBuf};

/// A certificate authority, its certificate in a file.
pub struct Pki {
    dir: PathBuf,
    ca: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// The files of a certificate and its key.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Of the certificate.
    pub cert: PathBuf,
    /// Of the key.
    pub key: PathBuf,
}

impl Pki {
    /// A new authority, whose certificate is `<dir>/<name>.pem`.
    pub fn new(dir: &Path, name: &str) -> Pki {
        let mut params = named(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let ca = dir.join(format!("{name}.pem"));
        write(&ca, &issuer.pem());
        Pki {
            dir: dir.to_owned(),
            ca,
            issuer,
        }
    }

    /// The file of the authority's certificate.
    pub fn ca(&self) -> &Path {
        &self.ca
    }

    /// A server's certificate for these addresses, in `<file>.pem` and `<file>.key`. It names
    /// no user: etcd refuses to let its own gateway be one.
    pub fn server(&self, file: &str, addresses: &[String]) -> Pair {
        self.issue(file, named("", addresses))
    }

    /// A client's certificate for an etcd user; files that are there are written anew.
    pub fn client(&self, file: &str, user: &str) -> Pair {
        self.issue(file, named(user, &[]))
    }

    /// A client's certificate that has expired.
    pub fn expired(&self, file: &str, user: &str) -> Pair {
        let mut params = named(user, &[]);
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 1);
        self.issue(file, params)
    }

    fn issue(&self, file: &str, params: CertificateParams) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a signature");
        let pair = Pair {
            cert: self.dir.join(format!("{file}.pem")),
            key: self.dir.join(format!("{file}.key")),
        };
        write(&pair.cert, &certificate.pem());
        write(&pair.key, &key.serialize_pem());
        pair
    }
}

fn write(path: &Path, pem: &str) {
    if let Err(error) = fs::write(path, pem) {
        panic!("{}: {error}", path.display());
    }
}

fn named(common_name: &str, addresses: &[String]) -> CertificateParams {
    let mut params = CertificateParams::new(addresses).expect("addresses");
    params.distinguished_name = DistinguishedName::new();
    if !common_name.is_empty() {
        let name = &mut params.distinguished_name;
        name.push(DnType::CommonName, common_name);
    }
    params
}
