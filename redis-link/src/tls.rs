//! The TLS side of a connection, from the operator's files.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::error::LinkError;
use crate::options::LinkOptions;
use crate::secret::{read_private, read_public};

/// Reads the certificates and the key as they are now, so that renewed ones need no restart.
///
/// The cryptography is named here rather than installed for the process: nginx is a house with
/// other tenants.
pub fn client_config(options: &LinkOptions) -> Result<Arc<ClientConfig>, LinkError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(LinkError::Identity)?
        .with_root_certificates(authorities(options)?);
    let config = match (&options.cert, &options.key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(cert), Some(key)) => builder
            .with_client_auth_cert(certificates("cert", cert)?, private_key(key)?)
            .map_err(LinkError::Identity)?,
        _ => return Err(LinkError::HalfIdentity),
    };
    Ok(Arc::new(config))
}

fn authorities(options: &LinkOptions) -> Result<RootCertStore, LinkError> {
    let mut store = RootCertStore::empty();
    let found = match &options.ca {
        Some(path) => certificates("ca", path)?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    store.add_parsable_certificates(found);
    match (&options.ca, store.is_empty()) {
        (_, false) => Ok(store),
        (None, true) => Err(LinkError::NoAuthority),
        (Some(path), true) => Err(pem("ca", path, "none of its certificates can sign another")),
    }
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, LinkError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read_public(path, what)?).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(pem(what, path, "no certificate in it; it must be PEM")),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, LinkError> {
    PrivateKeyDer::from_pem_slice(&read_private(path, "key")?)
        .map_err(|_| pem("key", path, "no private key in it; it must be PEM without a passphrase"))
}

fn pem(what: &'static str, path: &Path, reason: &'static str) -> LinkError {
    LinkError::Pem { what, path: path.to_owned(), reason }
}
