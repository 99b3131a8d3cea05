//! Libpq's service files: sections of `KEY=VALUE` lines.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use super::address::{AddressError, Environment};

/// The keys of a service: of the user's file, or else of the system's.
pub(super) fn read(name: &str, environment: Environment<'_>) -> Result<BTreeMap<String, String>, AddressError> {
    let in_home = || environment("HOME").map(|home| Path::new(&home).join(".pg_service.conf"));
    let of_user = environment("PGSERVICEFILE").map(PathBuf::from).or_else(in_home);
    let folder = environment("PGSYSCONFDIR").unwrap_or_else(|| "/etc/postgresql-common".to_owned());
    let of_system = Path::new(&folder).join("pg_service.conf");
    let named = of_user.clone().unwrap_or_else(|| of_system.clone());
    for path in of_user.into_iter().chain([of_system]) {
        match fs::read_to_string(&path) {
            Ok(text) => {
                if let Some(keys) = section(&text, name) {
                    return Ok(keys);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(AddressError::File { path, source }),
        }
    }
    Err(AddressError::NoService { name: name.to_owned(), path: named })
}

fn section(text: &str, name: &str) -> Option<BTreeMap<String, String>> {
    let heading = format!("[{name}]");
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut lines = lines.skip_while(|line| *line != heading);
    lines.next()?;
    let keys = lines.take_while(|line| !line.starts_with('['));
    Some(
        keys.filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key.trim().into(), value.trim().into()))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::super::Address;
    use super::*;

    #[test]
    fn service_completes_the_address() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("services");
        fs::write(
            &path,
            "# ours\n[other]\nhost=x\n\n[night]\nhost=db.internal\nport=6000\nuser=u\npassword=secret-7\n",
        )
        .unwrap();
        let variables = |name: &str| match name {
            "PGSERVICEFILE" => Some(path.to_string_lossy().into_owned()),
            "PGPORT" => Some("7000".to_owned()),
            _ => None,
        };
        let address = Address::parse("postgres:///jobs?service=night", &variables).unwrap();
        assert_eq!(address.parts(), ["db.internal", "6000", "jobs", "u"]);
        assert_eq!(address.to_config().get_password(), Some(&b"secret-7"[..]));
        let error = Address::parse("postgres:///jobs?service=day", &variables).unwrap_err();
        assert!(error.to_string().contains("no service [day]"), "{error}");
    }
}
