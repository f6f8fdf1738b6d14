//! Certificates and keys for etcd: read from files, and again when the files change.

use super::verifier::Verifier;
use crate::subnets::etcd::options::EtcdOptions;
use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tonic::transport::{ClientTlsConfig, Endpoint, Identity};
use tracing::{info, warn};

/// What connections with TLS are made with.
pub(super) struct Tls {
    files: Files,
    state: Mutex<Loaded>,
}

/// What was read last.
struct Loaded {
    material: Arc<Material>,
    /// How the files were when they were last looked at.
    stamps: Stamps,
    /// What was wrong with them then.
    complaint: Option<String>,
}

/// Which files to read.
struct Files {
    ca: Option<PathBuf>,
    /// Certificate and key.
    pair: Option<(PathBuf, PathBuf)>,
}

/// Device, inode, length and times of each file; `None` for one that is not there.
type Stamps = Vec<Option<(u64, u64, u64, [i64; 4])>>;

/// The contents of the files, each with what was made of them.
struct Material {
    contents: Contents,
    verifier: Arc<Verifier>,
    identity: Option<Identity>,
}

/// PEM texts.
#[derive(PartialEq, Eq)]
struct Contents {
    ca: Option<Vec<u8>>,
    pair: Option<(Vec<u8>, Vec<u8>)>,
}

impl Tls {
    /// Read what the options name. The error is one line that names file and flag.
    pub(super) fn new(options: &EtcdOptions) -> Result<Tls, String> {
        let files = Files {
            ca: options.ca_file.clone(),
            pair: options.cert_file.clone().zip(options.key_file.clone()),
        };
        let stamps = files.stamps();
        let contents = files.read()?;
        let material = Arc::new(files.parse(contents)?);
        Ok(Tls {
            files,
            state: Mutex::new(Loaded {
                material,
                stamps,
                complaint: None,
            }),
        })
    }

    /// Read the files again if they have changed, or in any case if `always`. What cannot be
    /// used is named in the log once, and what was read before stays in use. Returns whether
    /// connections should be made anew.
    pub(super) fn refresh(&self, always: bool) -> bool {
        let stamps = self.files.stamps();
        let mut state = self.state();
        if !always && stamps == state.stamps {
            return false;
        }
        state.stamps = stamps;
        let read = self.files.read().and_then(|contents| {
            if contents == state.material.contents {
                return Ok(None);
            }
            self.files.parse(contents).map(Some)
        });
        match read {
            Ok(material) => {
                state.complaint = None;
                let Some(material) = material else {
                    return false;
                };
                state.material = Arc::new(material);
                info!("certificates for etcd have changed: using the new ones");
                true
            }
            Err(complaint) => {
                if state.complaint.as_ref() != Some(&complaint) {
                    warn!(
                        code = "W0206",
                        "{complaint}; what was read before stays in use"
                    );
                    state.complaint = Some(complaint);
                }
                false
            }
        }
    }

    /// An endpoint whose connections are encrypted and checked.
    pub(super) fn secure(&self, endpoint: Endpoint) -> Result<Endpoint, tonic::transport::Error> {
        let material = self.state().material.clone();
        // Proxies in front of etcd that pass bytes on may not speak ALPN; Go's client does
        // not insist on it either.
        let mut config = ClientTlsConfig::new().assume_http2(true);
        if let Some(identity) = &material.identity {
            config = config.identity(identity.clone());
        }
        endpoint.tls_config_with_verifier(config, material.verifier.clone())
    }

    fn state(&self) -> MutexGuard<'_, Loaded> {
        // Each change is a plain assignment: a poisoned state is still a state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files {
    fn stamps(&self) -> Stamps {
        let pair = self.pair.iter().flat_map(|(cert, key)| [cert, key]);
        let stamp = |path: &PathBuf| {
            let meta = fs::metadata(path).ok()?;
            let times = [
                meta.mtime(),
                meta.mtime_nsec(),
                meta.ctime(),
                meta.ctime_nsec(),
            ];
            Some((meta.dev(), meta.ino(), meta.len(), times))
        };
        self.ca.iter().chain(pair).map(stamp).collect()
    }

    fn read(&self) -> Result<Contents, String> {
        let ca = self.ca.as_deref().map(|path| read(path, "etcd-cafile"));
        let pair = self.pair.as_ref().map(|(cert, key)| {
            Ok::<_, String>((read(cert, "etcd-certfile")?, read(key, "etcd-keyfile")?))
        });
        Ok(Contents {
            ca: ca.transpose()?,
            pair: pair.transpose()?,
        })
    }

    fn parse(&self, contents: Contents) -> Result<Material, String> {
        let provider = Arc::new(ring::default_provider());
        let (roots, own) = match (&self.ca, &contents.ca) {
            (Some(path), Some(pem)) => given_roots(path, pem)?,
            _ => (system_roots()?, Vec::new()),
        };
        if let (Some((cert_file, key_file)), Some((cert, key))) = (&self.pair, &contents.pair) {
            check_pair(cert_file, cert, key_file, key, &provider)?;
        }
        let identity = contents.pair.as_ref();
        let identity = identity.map(|(cert, key)| Identity::from_pem(cert, key));
        let verifier = Verifier::new(roots, own, provider).map_err(|error| {
            format!("the certificates that etcd is to be checked against cannot be used: {error}")
        })?;
        Ok(Material {
            contents,
            verifier: Arc::new(verifier),
            identity,
        })
    }
}

fn read(path: &Path, flag: &str) -> Result<Vec<u8>, String> {
    let failed = |error| format!("cannot read {} (-{flag}): {error}", path.display());
    fs::read(path).map_err(failed)
}

fn certificates(
    path: &Path,
    pem: &[u8],
    flag: &str,
) -> Result<Vec<CertificateDer<'static>>, String> {
    let path = path.display();
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => {
            Err(format!("{path} (-{flag}) holds no certificate in PEM form"))
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(format!("{path} (-{flag}) is malformed: {error}")),
    }
}

/// The roots of a CA file, and the certificates themselves.
fn given_roots(
    path: &Path,
    pem: &[u8],
) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), String> {
    let flag = "etcd-cafile";
    let certificates = certificates(path, pem, flag)?;
    let mut roots = RootCertStore::empty();
    for certificate in &certificates {
        let added = roots.add(certificate.clone());
        added.map_err(|error| format!("{} (-{flag}) is malformed: {error}", path.display()))?;
    }
    Ok((roots, certificates))
}

fn system_roots() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Among a hundred and more some are too old for anybody to read.
    roots.add_parsable_certificates(found.certs);
    match roots.is_empty() {
        false => Ok(roots),
        true => Err(
            "this system trusts no certificate authority: give the one of etcd with -etcd-cafile"
                .to_owned(),
        ),
    }
}

fn check_pair(
    cert_file: &Path,
    cert: &[u8],
    key_file: &Path,
    key: &[u8],
    provider: &CryptoProvider,
) -> Result<(), String> {
    let chain = certificates(cert_file, cert, "etcd-certfile")?;
    let (cert_file, key_file) = (cert_file.display(), key_file.display());
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => {
            format!("{key_file} (-etcd-keyfile) holds no unencrypted private key in PEM form")
        }
        error => format!("{key_file} (-etcd-keyfile) is malformed: {error}"),
    })?;
    match CertifiedKey::from_der(chain, key, provider) {
        Ok(_) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => Err(format!(
            "the key {key_file} (-etcd-keyfile) does not belong to the certificate {cert_file} (-etcd-certfile)"
        )),
        Err(error) => Err(format!(
            "the certificate {cert_file} (-etcd-certfile) with the key {key_file} (-etcd-keyfile) cannot be used: {error}"
        )),
    }
}

#[cfg(test)]
mod tests;
