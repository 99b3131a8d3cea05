//! What somebody may have meant.

/// Names less alike than this are not suggested (Jaro-Winkler; clap's own measure and bound for mistyped flags).
const ALIKE: f64 = 0.7;

/// The name that is most like what was written, if one is.
pub fn closest_match<'a>(written: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let alike = names.into_iter().map(|name| (strsim::jaro_winkler(written, name), name));
    alike.filter(|(alike, _)| *alike > ALIKE).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}

/// ` (did you mean NAME?)`, or nothing.
pub fn did_you_mean<'a>(written: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    closest_match(written, names).map(|name| format!(" (did you mean {name}?)")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_alike_is_suggested_and_nothing_else() {
        let names = ["path", "url", "merchant_user_id"];
        assert_eq!(closest_match("pth", names), Some("path"));
        assert_eq!(did_you_mean("merchant_userid", names), " (did you mean merchant_user_id?)");
        assert_eq!(did_you_mean("colour", names), "");
    }
}
