//! Address of a database: `postgres://USER@HOST:PORT/DATABASE?KEY=VALUE`, completed from the environment as libpq does.

use std::{
    collections::BTreeMap,
    fmt, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use secrecy::{ExposeSecret, SecretString};
use url::{Host, Url};

use super::{password_file, service_file};

/// Reads a variable of the environment.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

const DEFAULT_PORT: u16 = 5432;
/// Stands for a host that was left out. No host has this name.
const NO_HOST: &str = ".";
/// Where Debian's PostgreSQL and libpq put the socket.
const SOCKET_FOLDER: &str = "/var/run/postgresql";
/// A file that holds the password alone, such as a secret of Kubernetes or systemd.
const PASSWORD_FILE: &str = "FACE_ENROLL_DATABASE_PASSWORD_FILE";
/// Keys of addresses and service files, each with libpq's variable.
const KEYS: [(&str, &str); 7] = [
    ("host", "PGHOST"),
    ("port", "PGPORT"),
    ("user", "PGUSER"),
    ("dbname", "PGDATABASE"),
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("passfile", "PGPASSFILE"),
];

/// Where the database is and who connects. Its password is never shown.
#[derive(Clone)]
pub struct Address {
    host: String,
    port: u16,
    database: String,
    user: String,
    password: Option<SecretString>,
    tls: bool,
    root_certificate: Option<PathBuf>,
}

/// What is wrong with an address.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// Not an address of PostgreSQL.
    #[error("an address of a database looks like postgres://USER@HOST/DATABASE")]
    NotPostgres,
    /// The address holds a password, which other users could see.
    #[error(
        "the address holds a password, which other users of this machine can see: leave it out, and use ~/.pgpass, \
         PGPASSWORD or FACE_ENROLL_DATABASE_PASSWORD_FILE"
    )]
    Password,
    /// A key that does not exist, or that means something else here.
    #[error("unknown key {key:?}; known are host, port, user, dbname, service, sslmode, sslrootcert and passfile")]
    Key {
        /// The key.
        key: String,
    },
    /// A port that is none.
    #[error("port {port:?} is not a number from 1 to 65535")]
    Port {
        /// As given.
        port: String,
    },
    /// No user is named.
    #[error("no user is given: write postgres://USER@HOST/DATABASE or set PGUSER")]
    NoUser,
    /// A mode of TLS that does not protect.
    #[error(
        "sslmode={mode} does not verify who answers at {host}: leave it out (verify-full is the default for other machines)"
    )]
    Unverified {
        /// As given.
        mode: String,
        /// The host.
        host: String,
    },
    /// A mode that does not exist.
    #[error("unknown sslmode {mode:?}; known are verify-full, and disable for this machine")]
    Mode {
        /// As given.
        mode: String,
    },
    /// A file can't be read.
    #[error("{} can't be read: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A file with passwords is readable by others.
    #[error("{} can be read by other users: run chmod 600 on it", path.display())]
    NotPrivate {
        /// The file.
        path: PathBuf,
    },
    /// The service file names no such service.
    #[error("no service [{name}] in {}", path.display())]
    NoService {
        /// Its name.
        name: String,
        /// The file.
        path: PathBuf,
    },
}

impl Address {
    /// Parses an address. What it does not say comes from the service file, then from `PG*` variables, then from libpq's
    /// defaults. The password comes from the file that `FACE_ENROLL_DATABASE_PASSWORD_FILE` names, the service file,
    /// `PGPASSWORD` or the password file, the first that there is.
    pub fn parse(text: &str, environment: Environment<'_>) -> Result<Self, AddressError> {
        let mut given = parse_url(text)?;
        let environment = &|name: &str| environment(name).filter(|value| !value.is_empty());
        let service = given.remove("service").or_else(|| environment("PGSERVICE"));
        let service = service.map(|name| service_file::read(&name, environment)).transpose()?.unwrap_or_default();
        let value = |key: &str| {
            let variable = KEYS.iter().find(|(known, _)| *known == key).map(|(_, variable)| *variable);
            given.get(key).or_else(|| service.get(key)).cloned().or_else(|| environment(variable?))
        };
        let user = value("user").or_else(|| environment("USER")).ok_or(AddressError::NoUser)?;
        let host = value("host").unwrap_or_else(|| {
            if Path::new(SOCKET_FOLDER).is_dir() { SOCKET_FOLDER.to_owned() } else { "localhost".to_owned() }
        });
        let port = value("port").map_or(Ok(DEFAULT_PORT), |port| {
            port.parse().ok().filter(|&number| number > 0).ok_or(AddressError::Port { port })
        })?;
        let database = value("dbname").unwrap_or_else(|| user.clone());
        let tls = uses_tls(value("sslmode").as_deref(), &host)?;
        let root_certificate = value("sslrootcert").filter(|path| path != "system").map(PathBuf::from);
        let mut address = Self { host, port, database, user, password: None, tls, root_certificate };
        address.password = match environment(PASSWORD_FILE) {
            Some(path) => Some(password_file::read_alone(Path::new(&path))?),
            None => match service.get("password").cloned().or_else(|| environment("PGPASSWORD")) {
                Some(password) => Some(password.into()),
                None => password_file::find(&address, value("passfile").map(PathBuf::from), environment)?,
            },
        };
        Ok(address)
    }

    /// Whether the connection uses TLS: always to another machine.
    pub fn uses_tls(&self) -> bool {
        self.tls
    }

    /// File of certificates to trust besides the system's.
    pub(super) fn root_certificate(&self) -> Option<&Path> {
        self.root_certificate.as_deref()
    }

    pub(super) fn to_config(&self) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config.host(&self.host).port(self.port).user(&self.user).dbname(&self.database);
        if let Some(password) = &self.password {
            config.password(password.expose_secret());
        }
        config
    }

    /// Host, port, database and user as a password file names them.
    pub(super) fn parts(&self) -> [String; 4] {
        // A password file names the default socket as localhost.
        let host = if self.host == SOCKET_FOLDER { "localhost" } else { &self.host };
        [host.to_owned(), self.port.to_string(), self.database.clone(), self.user.clone()]
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.host, self.port, self.database)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

fn parse_url(text: &str) -> Result<BTreeMap<String, String>, AddressError> {
    let url = Url::parse(&with_host(text)).map_err(|_| AddressError::NotPostgres)?;
    if !matches!(url.scheme(), "postgres" | "postgresql") {
        return Err(AddressError::NotPostgres);
    }
    if url.password().is_some() || url.query_pairs().any(|(key, _)| key == "password") {
        return Err(AddressError::Password);
    }
    let decode = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    let mut given = BTreeMap::new();
    let mut put = |key: &str, value: String| {
        if !value.is_empty() {
            given.insert(key.to_owned(), value);
        }
    };
    put("user", decode(url.username()));
    put(
        "host",
        match url.host() {
            Some(Host::Ipv6(ip)) => ip.to_string(),
            Some(Host::Ipv4(ip)) => ip.to_string(),
            Some(Host::Domain(NO_HOST)) => String::new(),
            Some(Host::Domain(name)) => decode(name),
            None => String::new(),
        },
    );
    put("port", url.port().map_or_else(String::new, |port| port.to_string()));
    put("dbname", decode(url.path().trim_start_matches('/')));
    for (key, value) in url.query_pairs() {
        if key != "service" && !KEYS.iter().any(|(known, _)| *known == key) {
            return Err(AddressError::Key { key: key.into_owned() });
        }
        put(&key, value.into_owned());
    }
    Ok(given)
}

/// Puts [`NO_HOST`] where libpq allows an empty host and a URL does not, as in `postgres://user@/jobs?host=/run/pg`.
fn with_host(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    let (user, host) = authority.rsplit_once('@').map_or(("", authority), |(user, host)| (user, host));
    if host.is_empty() || host.starts_with(':') {
        let at = if user.is_empty() { "" } else { "@" };
        return format!("{scheme}://{user}{at}{NO_HOST}{host}{rest}");
    }
    text.to_owned()
}

fn uses_tls(mode: Option<&str>, host: &str) -> Result<bool, AddressError> {
    let is_here = host.starts_with('/')
        || host == "localhost"
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
    match mode {
        None => Ok(!is_here),
        Some("verify-full") => Ok(!host.starts_with('/')),
        Some("disable" | "allow" | "prefer") if is_here => Ok(false),
        Some(mode @ ("disable" | "allow" | "prefer" | "require" | "verify-ca")) => {
            Err(AddressError::Unverified { mode: mode.to_owned(), host: host.to_owned() })
        }
        Some(mode) => Err(AddressError::Mode { mode: mode.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, variables: &[(&str, &str)]) -> Result<Address, AddressError> {
        Address::parse(text, &|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    /// The password file of whoever runs the tests is left out.
    fn address(text: &str, variables: &[(&str, &str)]) -> Address {
        parse(text, &[variables, &[("PGPASSWORD", "secret-7")]].concat()).unwrap()
    }

    #[test]
    fn address_names_host_database_and_user() {
        for (text, expected, tls) in [
            ("postgres://enroll@db.internal/jobs", ["db.internal", "5432", "jobs", "enroll"], true),
            ("postgresql://a%40b@[::1]:6000/jobs", ["::1", "6000", "jobs", "a@b"], false),
            ("postgres://u@127.0.0.1", ["127.0.0.1", "5432", "u", "u"], false),
            ("postgres://u@127.0.0.1/d?sslmode=verify-full", ["127.0.0.1", "5432", "d", "u"], true),
            ("postgres:///d?host=/run/pg&user=u", ["/run/pg", "5432", "d", "u"], false),
            ("postgres://u@/d?host=/run/pg", ["/run/pg", "5432", "d", "u"], false),
            ("postgres://u@:6000?host=localhost", ["localhost", "6000", "u", "u"], false),
            ("postgres:///d?user=u&host=/var/run/postgresql", ["localhost", "5432", "d", "u"], false),
            ("postgres://u@%2Frun%2Fpg/d", ["/run/pg", "5432", "d", "u"], false),
        ] {
            let address = address(text, &[]);
            assert_eq!(address.parts(), expected, "{text}");
            assert_eq!(address.uses_tls(), tls, "{text}");
        }
    }

    #[test]
    fn environment_completes_what_the_address_leaves_out() {
        let variables =
            [("PGHOST", "db"), ("PGPORT", "7000"), ("PGUSER", "u"), ("PGDATABASE", "d"), ("PGSSLMODE", "verify-full")];
        assert_eq!(address("postgres://", &variables).parts(), ["db", "7000", "d", "u"]);
        assert_eq!(address("postgres://me@other/x", &variables).parts(), ["other", "7000", "x", "me"]);
    }

    #[test]
    fn passwords_in_addresses_are_refused() {
        for text in ["postgres://u:secret-7@h/d", "postgres://u@h/d?password=secret-7"] {
            let error = parse(text, &[]).unwrap_err();
            assert!(matches!(error, AddressError::Password), "{error}");
            assert!(!format!("{error:?} {error}").contains("secret-7"));
        }
    }

    #[test]
    fn unverified_tls_to_another_machine_is_refused() {
        for mode in ["disable", "allow", "prefer", "require", "verify-ca"] {
            let error = parse(&format!("postgres://u@db.internal/d?sslmode={mode}"), &[]).unwrap_err();
            assert!(matches!(error, AddressError::Unverified { .. }), "{mode}: {error}");
        }
        assert!(matches!(parse("postgres://u@h/d?sslmode=full", &[]), Err(AddressError::Mode { .. })));
    }

    #[test]
    fn wrong_addresses_say_what_is_wrong() {
        for (text, part) in [
            ("mysql://u@h/d", "postgres://USER@HOST"),
            ("h/d", "postgres://USER@HOST"),
            ("postgres://u@h/d?sslcert=x", "\"sslcert\""),
            ("postgres://u@h/d?port=0", "\"0\""),
            ("postgres://h/d", "no user"),
        ] {
            let error = parse(text, &[("PGPASSWORD", "x")]).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn debug_and_display_hide_the_password() {
        let address = address("postgres://u@h/d", &[]);
        assert_eq!(address.to_config().get_password(), Some(&b"secret-7"[..]));
        assert!(!format!("{address} {address:?}").contains("secret-7"));
    }
}
