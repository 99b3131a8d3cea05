//! Connections to PostgreSQL: what an address means, where the password comes from, TLS, and which servers are refused.
//!
//! It follows libpq where a user would expect it: `PG*` variables, `~/.pgpass`, service files. It differs in three ways. A
//! password in the address is refused, because other users could see it. TLS to another machine always verifies the
//! certificate and the name. And the details of the server's errors are never shown, because they can quote rows.

mod address;
mod password_file;
mod service_file;

use std::{error::Error, sync::Arc, time::Duration};

use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio_postgres::{Client, NoTls, config::SslMode, config::TargetSessionAttrs, error::SqlState};
use tokio_postgres_rustls::MakeRustlsConnect;

pub use self::address::{Address, AddressError, Environment};

/// Time for one attempt to connect, from the socket to the first answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Oldest server whose behaviour is known (scaleout.md).
const OLDEST_VERSION: u32 = 14;

/// Why there is no usable connection.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// It may work later.
    #[error("the database at {address} does not answer: {message}")]
    Away {
        /// Host, port and database.
        address: String,
        /// The cause.
        message: String,
    },
    /// It can't work until someone acts.
    #[error("the database at {address} can't be used: {message}")]
    Refused {
        /// Host, port and database.
        address: String,
        /// The cause.
        message: String,
    },
}

impl DatabaseError {
    /// Whether trying again may help.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Away { .. })
    }
}

/// A connected client. The connection ends when the client is dropped. `extra_roots` are certificates (PEM) to trust beside
/// those of the system.
///
/// Changes no setting of the session, because a pooler may hand it to others.
pub async fn connect(address: &Address, extra_roots: &[u8]) -> Result<Client, DatabaseError> {
    // The crate's own limit covers the socket alone.
    tokio::time::timeout(TIMEOUT, connect_and_look(address, extra_roots)).await.unwrap_or_else(|_| {
        let message = format!("no connection within {} s", TIMEOUT.as_secs());
        Err(DatabaseError::Away { address: address.to_string(), message })
    })
}

async fn connect_and_look(address: &Address, extra_roots: &[u8]) -> Result<Client, DatabaseError> {
    let failed = |error: tokio_postgres::Error| failure(address, &error);
    let mut config = address.to_config();
    config
        .application_name("face-enroll")
        .connect_timeout(TIMEOUT)
        .tcp_user_timeout(TIMEOUT)
        .keepalives_idle(TIMEOUT)
        .target_session_attrs(TargetSessionAttrs::ReadWrite);
    // The connection is driven by a task of its own; it ends with the client.
    let client = if address.uses_tls() {
        let (client, connection) =
            config.ssl_mode(SslMode::Require).connect(tls(address, extra_roots)?).await.map_err(failed)?;
        tokio::spawn(connection);
        client
    } else {
        let (client, connection) = config.ssl_mode(SslMode::Disable).connect(NoTls).await.map_err(failed)?;
        tokio::spawn(connection);
        client
    };
    let server = client
        .query_typed_one("SELECT version(), current_setting('default_transaction_isolation')", &[])
        .await
        .map_err(failed)?;
    let read = |column| server.try_get::<_, String>(column).map_err(failed);
    let fitness = check_version(&read(0)?).and(check_isolation(&read(1)?));
    fitness.map_err(|message| DatabaseError::Refused { address: address.to_string(), message })?;
    Ok(client)
}

fn check_isolation(level: &str) -> Result<(), String> {
    if level == "read committed" {
        return Ok(());
    }
    Err(format!(
        "its default_transaction_isolation is {level:?}: set it to 'read committed' for this role \
         (ALTER ROLE ... SET default_transaction_isolation)"
    ))
}

/// Certificate and name are always verified.
fn tls(address: &Address, extra_roots: &[u8]) -> Result<MakeRustlsConnect, DatabaseError> {
    let refused = |message: String| DatabaseError::Refused { address: address.to_string(), message };
    let mut roots: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(extra_roots).filter_map(Result::ok).collect();
    if let Some(path) = address.root_certificate() {
        let unusable = |message: String| refused(format!("sslrootcert {}: {message}", path.display()));
        let pem = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
        let found: Vec<_> = CertificateDer::pem_slice_iter(&pem)
            .collect::<Result<_, _>>()
            .map_err(|error| unusable(error.to_string()))?;
        if found.is_empty() {
            return Err(unusable("it holds no certificate".to_owned()));
        }
        roots.extend(found);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = rustls_platform_verifier::Verifier::new_with_extra_roots(roots, Arc::clone(&provider))
        .map_err(|error| refused(error.to_string()))?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| refused(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

/// Servers that speak the protocol but keep other promises are refused by name.
fn check_version(version: &str) -> Result<(), String> {
    let number = version.strip_prefix("PostgreSQL ").and_then(|rest| {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u32>().ok()
    });
    let other = ["CockroachDB", "Yugabyte", "-YB-"].iter().find(|name| version.contains(*name));
    match (number, other) {
        (Some(number), None) if number >= OLDEST_VERSION => Ok(()),
        (Some(number), None) => {
            Err(format!("it is PostgreSQL {number}; PostgreSQL {OLDEST_VERSION} or newer is needed"))
        }
        (_, Some(&"CockroachDB")) => Err("it is CockroachDB, which was not tested: use PostgreSQL".to_owned()),
        (_, Some(_)) => Err("it is YugabyteDB, which was not tested: use PostgreSQL".to_owned()),
        (None, None) => Err("it is not PostgreSQL: use PostgreSQL".to_owned()),
    }
}

/// Sorts a failure by whether trying again may help. Leaves out details and hints of the server, which can quote rows.
pub fn failure(address: &Address, error: &tokio_postgres::Error) -> DatabaseError {
    let message = match error.as_db_error() {
        Some(answer) => answer.message().to_owned(),
        None => innermost(error),
    };
    let address = address.to_string();
    if is_refusal(error) {
        DatabaseError::Refused { address, message }
    } else {
        DatabaseError::Away { address, message }
    }
}

/// Whether the server, or our check of its certificate, said no for good.
fn is_refusal(error: &tokio_postgres::Error) -> bool {
    if let Some(code) = error.code() {
        // Class 28: authentication. 3D: no such database. 42: no permission, or no such schema.
        return ["28", "3D", "42"].iter().any(|class| code.code().starts_with(class))
            || *code == SqlState::READ_ONLY_SQL_TRANSACTION;
    }
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let nested = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(tls) = nested.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return matches!(tls, rustls::Error::InvalidCertificate(_));
        }
        cause = error.source();
    }
    // Such as a password that is needed and not given, or a server without TLS.
    let text = error.to_string();
    text.contains("configuration")
        || text.contains("authentication")
        || innermost(error).contains("does not support TLS")
}

fn innermost(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tested_servers_are_accepted() {
        assert!(check_version("PostgreSQL 15.18 (Debian 15.18-0+deb12u1) on x86_64-pc-linux-gnu").is_ok());
        for (version, reason) in [
            ("PostgreSQL 13.4 on x86_64", "PostgreSQL 13; PostgreSQL 14"),
            ("CockroachDB CCL v24.1.0", "CockroachDB"),
            ("PostgreSQL 15.2-YB-2.25.0.0-b0 on x86_64", "YugabyteDB"),
            ("", "not PostgreSQL"),
        ] {
            assert!(check_version(version).unwrap_err().contains(reason), "{version}");
        }
    }
}
