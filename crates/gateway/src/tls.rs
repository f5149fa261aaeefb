//! TLS towards callers: a certificate and a key from PEM files, HTTP/2 and HTTP/1.1 by ALPN.
//!
//! The files are read once; a new certificate takes a restart.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::options::TlsOptions;

/// The certificate or its key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or is not PEM of the right kind.
    #[error("cannot read {path}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: pem::Error,
    },
    /// The certificate and the key do not fit each other, or are of a kind that is not supported.
    #[error("the certificate cannot be used")]
    Certificate(#[from] rustls::Error),
}

/// Reads the files and makes the server's side of TLS.
pub(crate) fn config(options: &TlsOptions) -> Result<Arc<ServerConfig>, TlsError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::File { path, source }
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&options.certificate)
        .and_then(Iterator::collect)
        .map_err(unreadable(&options.certificate))?;
    let key = PrivateKeyDer::from_pem_file(&options.key).map_err(unreadable(&options.key))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
