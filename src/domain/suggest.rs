//! Suggestions for mistyped names.

/// Least Jaro-Winkler similarity of a suggestion; clap uses the same measure and limit for flags.
const MIN_SIMILARITY: f64 = 0.7;

/// The most similar name, if any is similar enough.
pub fn closest_match<'a>(written: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = names.into_iter().map(|name| (strsim::jaro_winkler(written, name), name));
    scored
        .filter(|(similarity, _)| *similarity > MIN_SIMILARITY)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// Returns ` (did you mean NAME?)`, or an empty string.
pub fn did_you_mean<'a>(written: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    closest_match(written, names).map(|name| format!(" (did you mean {name}?)")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_similar_names_are_suggested() {
        let names = ["path", "url", "merchant_user_id"];
        assert_eq!(closest_match("pth", names), Some("path"));
        assert_eq!(did_you_mean("merchant_userid", names), " (did you mean merchant_user_id?)");
        assert_eq!(did_you_mean("colour", names), "");
    }
}
