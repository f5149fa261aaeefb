//! TLS towards whoever the platform connects to in the name of functions, with the machine's roots, read once.

use std::sync::{Arc, OnceLock};

use tokio_rustls::TlsConnector;

/// The connector; `None` where the machine has no root certificates.
#[must_use]
pub fn connector() -> Option<TlsConnector> {
    static CONNECTOR: OnceLock<Option<TlsConnector>> = OnceLock::new();
    let made = CONNECTOR.get_or_init(|| {
        let mut roots = rustls::RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            tracing::error!(errors = ?found.errors, "no root certificates: nobody can be reached by TLS");
            return None;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config =
            rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.ok()?.with_root_certificates(roots).with_no_client_auth();
        Some(TlsConnector::from(Arc::new(config)))
    });
    made.clone()
}
