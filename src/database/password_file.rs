//! Files with passwords: libpq's `~/.pgpass`, and a file that holds one password alone.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use secrecy::SecretString;

use super::address::{Address, AddressError, Environment};

/// Reads a file that holds nothing but a password, with or without a line end.
pub(super) fn read_alone(path: &Path) -> Result<SecretString, AddressError> {
    // Not checked to be private: secrets of Kubernetes are readable by their group.
    let text = fs::read_to_string(path).map_err(|source| AddressError::File { path: path.to_owned(), source })?;
    Ok(text.trim_end_matches(['\r', '\n']).into())
}

/// Password of the first matching line of the password file. Without a file there is none.
pub(super) fn find(
    address: &Address,
    given: Option<PathBuf>,
    environment: Environment<'_>,
) -> Result<Option<SecretString>, AddressError> {
    let in_home = || environment("HOME").map(|home| Path::new(&home).join(".pgpass"));
    let Some(path) = given.or_else(in_home) else { return Ok(None) };
    match fs::metadata(&path) {
        // Libpq ignores such a file, and the server then refuses an empty password: an error tells more.
        Ok(found) if found.is_file() && found.mode() & 0o077 != 0 => return Err(AddressError::NotPrivate { path }),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(AddressError::File { path, source }),
    }
    let text = fs::read_to_string(&path).map_err(|source| AddressError::File { path, source })?;
    Ok(password_of(&text, &address.parts()))
}

fn password_of(text: &str, parts: &[String; 4]) -> Option<SecretString> {
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = fields(line);
        let [password] = fields.get(4..)? else { return None };
        let matches = fields.iter().zip(parts).all(|(field, part)| field == "*" || field == part);
        matches.then(|| password.as_str().into())
    })
}

/// Splits a line at its colons. `\:` and `\\` stand for a colon and a backslash; the fifth field is the rest.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        let is_last = fields.len() == 5;
        let field = fields.last_mut().expect("there is always a field");
        match c {
            '\\' => field.extend(characters.next()),
            ':' if !is_last => fields.push(String::new()),
            c => field.push(c),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn first_matching_line_gives_the_password() {
        let parts = ["db.internal", "5432", "jobs", "enroll"].map(str::to_owned);
        for (text, password) in [
            ("db.internal:5432:jobs:enroll:p1", Some("p1")),
            ("# db.internal:5432:jobs:enroll:p0\n*:*:*:enroll:p2", Some("p2")),
            ("other:*:*:*:p3\ndb.internal:*:jobs:*:p4\n*:*:*:*:p5", Some("p4")),
            (r"db.internal:5432:jobs:enroll:a\:b\\c", Some(r"a:b\c")),
            ("db.internal:5432:jobs:enroll:a:b", Some("a:b")),
            ("db.internal:5432:jobs:p6", None),
            ("db.internal:5433:*:*:p7", None),
            ("", None),
        ] {
            let found = password_of(text, &parts);
            assert_eq!(found.as_ref().map(ExposeSecret::expose_secret), password, "{text}");
        }
        let parts = ["::1", "5432", "a:b", "u"].map(str::to_owned);
        let found = password_of(r"\:\:1:5432:a\:b:u:p8", &parts).unwrap();
        assert_eq!(found.expose_secret(), "p8");
    }

    #[test]
    fn password_file_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pgpass");
        fs::write(&path, "*:*:*:*:secret-7\n").unwrap();
        let parse = |mode| {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            Address::parse("postgres://u@h/d", &|name| {
                (name == "PGPASSFILE").then(|| path.to_string_lossy().into_owned())
            })
        };
        assert_eq!(parse(0o600).unwrap().to_config().get_password(), Some(&b"secret-7"[..]));
        assert!(matches!(parse(0o640), Err(AddressError::NotPrivate { .. })));
    }

    #[test]
    fn password_alone_comes_before_all_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        fs::write(&path, "secret-8\n").unwrap();
        let address = Address::parse("postgres://u@h/d", &|name| match name {
            "FACE_ENROLL_DATABASE_PASSWORD_FILE" => Some(path.to_string_lossy().into_owned()),
            "PGPASSWORD" => Some("secret-7".to_owned()),
            _ => None,
        });
        assert_eq!(address.unwrap().to_config().get_password(), Some(&b"secret-8"[..]));
    }
}
