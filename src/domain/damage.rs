//! Finds ids that a spreadsheet or a program has replaced by a number, an error or a null.
//!
//! The rules match what programs write, not what is unusual: `1E5` and `12.5` may well be ids, but `1E+05` and `12.0` come
//! from a spreadsheet or from pandas.

/// Damage to an id. The message follows "merchant_user_id".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// `6.22848E+17`
    #[error("is a number in scientific notation: format the column as text and export it again")]
    ScientificNotation,
    /// `1001.0`, `1,001`
    #[error("is a number with decimals or separators: format the column as text and export it again")]
    FormattedNumber,
    /// `1-Mar`
    #[error("is a date written by a spreadsheet: format the column as text and export it again")]
    Date,
    /// `="00123"`
    #[error("is a formula: export the values of the column")]
    Formula,
    /// `#N/A`
    #[error("is a spreadsheet error: fix the cell")]
    ErrorValue,
    /// `NULL`, `nan`
    #[error("is a placeholder for a missing value: give the row an id")]
    NoValue,
    /// `true`
    #[error("is a boolean: give the row an id")]
    TruthValue,
    /// `'0042`, `"0042"`
    #[error("begins with an apostrophe or is in quotes: export the values of the column")]
    Quoted,
    /// `???`, U+FFFD
    #[error("lost characters in a conversion: export it again as UTF-8")]
    LostCharacters,
    /// A list, an object or a fraction as the id in JSON.
    #[error("is neither text nor a whole number: write it in quotes")]
    JsonValue,
}

/// Words for a missing value, in any letter case.
const NULL_WORDS: [&str; 10] =
    ["null", "(null)", "<null>", "none", "undefined", "n/a", "<na>", "[object object]", "\\n", "infinity"];
/// Words for a missing value in exactly this letter case; Nan and Nat are names of people.
const NULL_WORDS_EXACT_CASE: [&str; 9] = ["nan", "NaN", "NAN", "-nan", "NaT", "NA", "inf", "-inf", "-Infinity"];
/// Spreadsheet errors that don't end in `!` or `?`, in several languages.
const SPREADSHEET_ERRORS: [&str; 5] = ["#N/A", "#NV", "#N/D", "#ND", "#GETTING_DATA"];
const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// The damage to an id; `None` if the id looks sound.
pub fn find_damage(id: &str) -> Option<Damage> {
    // Fast path for most ids: every rule needs some other character, or a word without digits.
    if id.bytes().all(|byte| byte.is_ascii_alphanumeric()) && id.bytes().any(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let is_null_word =
        NULL_WORDS.iter().any(|known| known.eq_ignore_ascii_case(id)) || NULL_WORDS_EXACT_CASE.contains(&id);
    let rules = [
        (is_null_word, Damage::NoValue),
        (["true", "false"].iter().any(|known| known.eq_ignore_ascii_case(id)), Damage::TruthValue),
        (is_error(id), Damage::ErrorValue),
        (id.starts_with('='), Damage::Formula),
        (id.starts_with('\'') || (id.len() > 1 && id.starts_with('"') && id.ends_with('"')), Damage::Quoted),
        (id.contains('\u{FFFD}') || (!id.is_empty() && id.chars().all(|c| c == '?')), Damage::LostCharacters),
        (is_scientific(id), Damage::ScientificNotation),
        (is_formatted(id), Damage::FormattedNumber),
        (is_date(id), Damage::Date),
    ];
    rules.into_iter().find(|(applies, _)| *applies).map(|(_, damage)| damage)
}

fn are_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Spreadsheet errors (`#REF!`, `#NAME?`, `Err:502`) and the `####` of a column that is too narrow.
fn is_error(id: &str) -> bool {
    let is_known = SPREADSHEET_ERRORS.iter().any(|known| known.eq_ignore_ascii_case(id));
    let is_marked = id.starts_with('#') && (id.ends_with(['!', '?']) || id.bytes().all(|byte| byte == b'#'));
    is_known || is_marked || id.strip_prefix("Err:").is_some_and(are_digits)
}

/// A number whose exponent has a sign or whose mantissa has a decimal mark: `6.2E+17`, `1E+05`, `6.2e17`; not `1E5`.
fn is_scientific(id: &str) -> bool {
    let number = id.strip_prefix(['+', '-']).unwrap_or(id);
    let Some((mantissa, exponent)) = number.split_once(['E', 'e']) else { return false };
    let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    let (whole, fraction) = mantissa.split_once(['.', ',']).unwrap_or((mantissa, ""));
    let is_number = are_digits(whole) && (fraction.is_empty() || are_digits(fraction)) && are_digits(digits);
    is_number && (mantissa.len() > whole.len() || exponent.len() > digits.len())
}

/// A whole number with decimals or separators: `1001.0`, `1001,00`, `1,001`.
fn is_formatted(id: &str) -> bool {
    let number = id.strip_prefix(['+', '-']).unwrap_or(id);
    if let Some((whole, zeros)) = number.rsplit_once(['.', ',']) {
        let is_whole = !zeros.is_empty() && zeros.bytes().all(|byte| byte == b'0');
        if is_whole && (are_digits(whole) || is_grouped(whole)) {
            return true;
        }
    }
    is_grouped(number)
}

fn is_grouped(number: &str) -> bool {
    let mut groups = number.split(',');
    let first = groups.next().is_some_and(|first| are_digits(first) && first.len() <= 3);
    let mut others = groups.peekable();
    first && others.peek().is_some() && others.all(|group| are_digits(group) && group.len() == 3)
}

/// A date as spreadsheets convert `MAR1` and `3-1`: `1-Mar`, `3月1日`, `2024-03-01 00:00:00`.
fn is_date(id: &str) -> bool {
    let is_day = |text: &str| are_digits(text) && text.len() <= 2;
    let is_day_of_month = id
        .split_once('-')
        .is_some_and(|(day, month)| is_day(day) && MONTHS.iter().any(|known| known.eq_ignore_ascii_case(month)));
    let is_chinese = id
        .strip_suffix('日')
        .and_then(|rest| rest.split_once('月'))
        .is_some_and(|(month, day)| is_day(month) && is_day(day));
    let is_midnight = id.strip_suffix(" 00:00:00").is_some_and(|date| date.split('-').all(are_digits));
    is_day_of_month || is_chinese || is_midnight
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn damaged_ids_are_found() {
        for (damage, ids) in [
            (Damage::ScientificNotation, &["6.22848E+17", "1E+05", "1e-7", "6,22848E+17", "6.2E17", "-1.0E+20"][..]),
            (Damage::FormattedNumber, &["1001.0", "1001.00", "1001,0", "1,001", "12,345,678.00", "-7.0"]),
            (Damage::Formula, &["=\"00123\"", "=A1", "="]),
            (Damage::ErrorValue, &["#N/A", "#REF!", "#NAME?", "#DIV/0!", "#ÜBERLAUF!", "#NV", "####", "Err:502"]),
            (Damage::NoValue, &["NULL", "null", "None", "nan", "NaN", "<NA>", "NaT", "undefined", "[object Object]"]),
            (Damage::NoValue, &["\\N", "(null)", "N/A", "NA", "inf", "-inf"]),
            (Damage::TruthValue, &["true", "TRUE", "False"]),
            (Damage::Quoted, &["'0042", "\"0042\""]),
            (Damage::Date, &["1-Mar", "02-SEP", "3月1日", "2024-03-01 00:00:00"]),
            (Damage::LostCharacters, &["???", "E\u{FFFD}1"]),
        ] {
            for id in ids {
                assert_eq!(find_damage(id), Some(damage), "{id}");
            }
        }
    }

    #[test]
    fn unusual_ids_are_not_damaged() {
        for id in [
            "1E5", "12E3", "E5", "0x1E+5", "00123", "12.5", "1001.5", "1.0.0", "v1.0", "1.0a", "12,34", "1,0012",
            "#12", "Nan", "Nat", "Null-Meier", "Nancy", "nano", "O'Neill", "a=b", "who?", "2024-03-01", "Mar-12",
            "3月", "-5", "+8613800000000", "622848001234567890", "张三", "u1", "true1", "1.", ".0", "\"", "1-2", "e+5",
            "Err:",
        ] {
            assert_eq!(find_damage(id), None, "{id}");
        }
    }

    proptest! {
        #[test]
        fn whole_numbers_and_words_are_sound(number in "[0-9]{1,32}", word in "[A-Z][0-9]{1,3}-?[A-Z]{0,3}[0-9]{1,9}") {
            prop_assert_eq!(find_damage(&number), None);
            prop_assert_eq!(find_damage(&word), None);
        }

        #[test]
        fn numbers_as_programs_write_them_are_damaged(number in 1u64..u64::MAX, places in 1usize..4) {
            // As pandas and Python write a float.
            let (float, fixed) = (number as f64, format!("{number}.{}", "0".repeat(places)));
            prop_assert_eq!(find_damage(&fixed), Some(Damage::FormattedNumber));
            prop_assert_eq!(find_damage(&format!("{float:.1}")), Some(Damage::FormattedNumber));
            // As Excel writes it: %.5E with two digits of exponent and a sign.
            let written = format!("{float:.5e}");
            let (mantissa, exponent) = written.split_once('e').unwrap();
            let excel = format!("{mantissa}E+{:0>2}", exponent);
            prop_assert_eq!(find_damage(&excel), Some(Damage::ScientificNotation));
        }
    }
}
