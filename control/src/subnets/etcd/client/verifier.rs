//! Whether to believe a server that it is etcd.

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{VerifierBuilderError, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::sync::Arc;

/// Checks as the web's public key infrastructure does, and also believes a server that shows
/// one of the given authorities' own certificates, as Go does (crypto/x509, `Verify`): small
/// set-ups have a single self-signed certificate for both.
#[derive(Debug)]
pub(super) struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
    /// The certificates of the CA file.
    own: Vec<CertificateDer<'static>>,
}

impl Verifier {
    pub(super) fn new(
        roots: RootCertStore,
        own: Vec<CertificateDer<'static>>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Verifier, VerifierBuilderError> {
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        Ok(Verifier {
            inner: inner.build()?,
            own,
        })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let outcome = self.inner.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match outcome {
            // That an authority's certificate is shown has no variant of its own. Its dates
            // are checked before, its name is not.
            Err(Error::InvalidCertificate(CertificateError::Other(_)))
                if self.own.iter().any(|own| own == end_entity) =>
            {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            outcome => outcome,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use rustls::crypto::ring;

    /// An authority whose certificate is also a server's, for 127.0.0.1.
    fn authority(change: impl FnOnce(&mut CertificateParams)) -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut params);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    /// What becomes of a server that shows `shown` where `trusted` is the CA file.
    fn verify(
        trusted: &CertificateDer<'static>,
        shown: &CertificateDer<'_>,
        name: &str,
    ) -> Result<(), Error> {
        let mut roots = RootCertStore::empty();
        roots.add(trusted.clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let verifier = Verifier::new(roots, vec![trusted.clone()], provider).unwrap();
        let name = ServerName::try_from(name).unwrap();
        let outcome = verifier.verify_server_cert(shown, &[], &name, &[], UnixTime::now());
        outcome.map(|_| ())
    }

    #[test]
    fn a_certificate_of_the_ca_file_may_be_the_servers_own() {
        let issuer = authority(|_| {});
        let own = issuer.as_ref().der();
        assert_eq!(verify(own, own, "127.0.0.1"), Ok(()));
        let error = verify(own, own, "127.0.0.2").unwrap_err();
        assert!(error.to_string().contains("not valid for name"), "{error}");
    }

    #[test]
    fn an_expired_certificate_is_refused_wherever_it_stands() {
        let issuer = authority(|params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
        let own = issuer.as_ref().der();
        let error = verify(own, own, "127.0.0.1").unwrap_err();
        assert!(error.to_string().contains("expired"), "{error}");
    }

    #[test]
    fn servers_are_believed_if_an_authority_has_signed_their_certificates() {
        let (issuer, other) = (authority(|_| {}), authority(|_| {}));
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["etcd.example".to_owned()]).unwrap();
        let leaf = params.signed_by(&key, &issuer).unwrap();
        assert_eq!(
            verify(issuer.as_ref().der(), leaf.der(), "etcd.example"),
            Ok(())
        );
        for (trusted, shown, name) in [
            (other.as_ref().der(), leaf.der(), "etcd.example"),
            (issuer.as_ref().der(), leaf.der(), "127.0.0.1"),
            (issuer.as_ref().der(), other.as_ref().der(), "127.0.0.1"),
        ] {
            assert!(verify(trusted, shown, name).is_err(), "{name}");
        }
    }
}
