//! Values of cells: what a field takes from one, and what is kept of another column's.
//!
//! A number cell has lost the text that was typed: only where its format shows plain digits is that text certain. Nothing
//! here guesses, because a wrong id enrols somebody as somebody else.

use std::borrow::Cow;

use jiff::civil::{Date, DateTime};

/// Numbers from here on have more digits than the 15 that a spreadsheet keeps.
const DIGITS_LIMIT: f64 = 1e15;
/// Days of a serial number from which the 1900 system is right; it has a day 60 that never was (1900-02-29).
const FIRST_TRUE_DAY: i64 = 61;
/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

/// Value of a cell that is not blank.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Text(String),
    /// A number, with the index of its format.
    Number(f64, usize),
    Bool(bool),
    /// A spreadsheet error such as `#N/A`.
    Error(String),
    /// A date that the file holds as text.
    IsoDate(String),
    /// A formula without a computed value.
    NotComputed,
    /// A picture inside the cell.
    Picture,
}

/// How a number is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NumberFormat {
    /// Plain digits: General, `0` and Text.
    Digits,
    /// Digits padded with zeros to this width, as by `00000`.
    Padded(usize),
    /// A date or a time.
    Date,
    /// Any other format code.
    Other(Box<str>),
}

/// Formats and date system of a workbook.
#[derive(Debug, Default)]
pub(super) struct Formats {
    /// Formats by the style of a cell.
    pub(super) by_style: Vec<NumberFormat>,
    /// Whether days count from 1904 instead of 1900.
    pub(super) is_1904: bool,
}

/// Why a cell can't be a field. The message follows the cell's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum CellFault {
    #[error("is a number shown as {0}: format the column as Text and enter the value again")]
    Formatted(Box<str>),
    #[error("is a number with decimals: format the column as Text and enter the value again")]
    Decimals,
    #[error("is a negative number: format the column as Text and enter the value again")]
    Negative,
    #[error(
        "is a number of more than 15 digits, of which a spreadsheet keeps only 15: format the column as Text and enter the value again"
    )]
    TooManyDigits,
    #[error("is a date: format the column as Text and enter the value again")]
    Date,
    #[error("is a boolean: format the column as Text and enter the value again")]
    Bool,
    #[error("is the spreadsheet error {0}: correct the cell")]
    Error(Box<str>),
    #[error("is a formula that was never computed: open the workbook in a spreadsheet and save it")]
    NotComputed,
    #[error(
        "is a picture inside the cell, which can't be read: save the photos as files and name the files in a column"
    )]
    Picture,
}

impl Formats {
    fn get(&self, style: usize) -> &NumberFormat {
        self.by_style.get(style).unwrap_or(&NumberFormat::Digits)
    }

    /// The text of a cell that is an id, a path, a link or a group.
    pub(super) fn field<'c>(&self, cell: &'c Cell) -> Result<Cow<'c, str>, CellFault> {
        match cell {
            Cell::Text(text) => Ok(Cow::Borrowed(text)),
            Cell::Number(number, style) => self.digits(*number, *style).map(Cow::Owned),
            Cell::IsoDate(_) => Err(CellFault::Date),
            Cell::Bool(_) => Err(CellFault::Bool),
            Cell::Error(error) => Err(CellFault::Error(error.as_str().into())),
            Cell::NotComputed => Err(CellFault::NotComputed),
            Cell::Picture => Err(CellFault::Picture),
        }
    }

    fn digits(&self, number: f64, style: usize) -> Result<String, CellFault> {
        let width = match self.get(style) {
            NumberFormat::Digits => 0,
            NumberFormat::Padded(width) => *width,
            NumberFormat::Date => return Err(CellFault::Date),
            NumberFormat::Other(code) => return Err(CellFault::Formatted(code.clone())),
        };
        if !number.is_finite() || number.abs() >= DIGITS_LIMIT {
            return Err(CellFault::TooManyDigits);
        }
        if number.fract() != 0.0 {
            return Err(CellFault::Decimals);
        }
        if number.is_sign_negative() && number != 0.0 {
            return Err(CellFault::Negative);
        }
        Ok(format!("{:0width$}", number as u64))
    }

    /// The text that is kept of a cell in another column: plain numbers, and dates as in ISO 8601.
    pub(super) fn shown<'c>(&self, cell: &'c Cell) -> Cow<'c, str> {
        match cell {
            Cell::Text(text) | Cell::Error(text) | Cell::IsoDate(text) => Cow::Borrowed(text),
            Cell::Number(number, style) => Cow::Owned(self.number(*number, *style)),
            Cell::Bool(true) => Cow::Borrowed("TRUE"),
            Cell::Bool(false) => Cow::Borrowed("FALSE"),
            Cell::NotComputed | Cell::Picture => Cow::Borrowed(""),
        }
    }

    fn number(&self, number: f64, style: usize) -> String {
        if let Ok(digits) = self.digits(number, style) {
            return digits;
        }
        let date = (*self.get(style) == NumberFormat::Date).then(|| self.date(number)).flatten();
        date.unwrap_or_else(|| {
            // As a spreadsheet does, so that 0.1 + 0.2 is 0.3.
            let rounded: f64 = format!("{number:.14e}").parse().unwrap_or(number);
            if (1e-5..DIGITS_LIMIT).contains(&rounded.abs()) || rounded == 0.0 {
                rounded.to_string()
            } else {
                format!("{rounded:e}")
            }
        })
    }

    /// A serial number as a date, a time, or both; `None` out of range.
    fn date(&self, serial: f64) -> Option<String> {
        // The year 9999 ends before this day.
        if !(0.0..2_958_466.0).contains(&serial) {
            return None;
        }
        let ms = (serial * DAY_MS as f64).round() as i64;
        let (days, ms) = (ms / DAY_MS, ms % DAY_MS);
        let time =
            DateTime::constant(2000, 1, 1, 0, 0, 0, 0).checked_add(jiff::Span::new().milliseconds(ms)).ok()?.time();
        if days == 0 {
            return Some(time.to_string());
        }
        let day_before_first = if self.is_1904 { Date::constant(1904, 1, 1) } else { Date::constant(1899, 12, 30) };
        let skipped = i64::from(!self.is_1904 && days < FIRST_TRUE_DAY);
        let date = day_before_first.checked_add(jiff::Span::new().days(days + skipped)).ok()?;
        Some(if ms == 0 { date.to_string() } else { date.to_datetime(time).to_string() })
    }
}

impl NumberFormat {
    /// Format of a built-in number format, by its id; `None` for a custom one.
    pub(super) fn built_in(id: u32) -> Option<Self> {
        match id {
            0 | 1 | 49 => Some(Self::Digits),
            14..=22 | 27..=36 | 45..=47 | 50..=58 | 71..=81 => Some(Self::Date),
            2..=163 => Some(Self::Other(built_in_code(id).into())),
            _ => None,
        }
    }

    /// Format by its code. The first section is for positive numbers.
    pub(super) fn parse(code: &str) -> Self {
        let section = first_section(code);
        // `_x` leaves as much space as x is wide.
        let mut shown = String::new();
        let mut chars = section.chars();
        while let Some(c) = chars.next() {
            match c {
                '_' => {
                    chars.next();
                }
                c => shown.push(c),
            }
        }
        let shown = shown.trim();
        if shown.eq_ignore_ascii_case("general") || matches!(shown, "0" | "@") {
            Self::Digits
        } else if !shown.is_empty() && shown.len() <= 15 && shown.bytes().all(|byte| byte == b'0') {
            Self::Padded(shown.len())
        } else if is_date(section) {
            Self::Date
        } else {
            Self::Other(code.chars().take(64).collect::<String>().into())
        }
    }
}

/// Codes of built-in formats that are neither plain digits nor dates.
fn built_in_code(id: u32) -> &'static str {
    match id {
        2 => "0.00",
        3 => "#,##0",
        4 => "#,##0.00",
        9 => "0%",
        10 => "0.00%",
        11 | 48 => "0.00E+00",
        12 | 13 => "a fraction",
        5..=8 | 37..=44 => "an amount of money",
        _ => "a format of its own",
    }
}

/// The code up to the first `;` outside quotes.
fn first_section(code: &str) -> &str {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let end = code.find(|c| {
        let is_end = c == ';' && !is_quoted && !is_escaped;
        is_quoted ^= c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        is_end
    });
    &code[..end.unwrap_or(code.len())]
}

/// Whether a section shows a date or a time: it has a letter of one, outside quotes and brackets.
fn is_date(section: &str) -> bool {
    let mut chars = section.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' | '_' | '*' => {
                chars.next();
            }
            '"' => while chars.next().is_some_and(|c| c != '"') {},
            '[' => {
                let inner: String = chars.by_ref().take_while(|c| *c != ']').collect();
                // Elapsed hours, minutes or seconds; colours and conditions have other letters.
                if !inner.is_empty() && inner.chars().all(|c| "hmsHMS".contains(c)) {
                    return true;
                }
            }
            c if "ymdhsYMDHS".contains(c) => return true,
            _ => {}
        }
    }
    false
}

/// Name of a cell, such as B7, from its column and row counted from 0 and 1.
pub(super) fn cell_name(column: u32, row: u32) -> String {
    let (mut letters, mut rest) = (Vec::new(), column + 1);
    while rest > 0 {
        rest -= 1;
        letters.push(char::from(b'A' + (rest % 26) as u8));
        rest /= 26;
    }
    letters.into_iter().rev().chain(row.to_string().chars()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn formats(code: &str) -> Formats {
        Formats { by_style: vec![NumberFormat::parse(code)], is_1904: false }
    }

    fn field(number: f64, code: &str) -> Result<String, CellFault> {
        formats(code).field(&Cell::Number(number, 0)).map(Cow::into_owned)
    }

    #[test]
    fn format_codes_are_understood() {
        for (code, format) in [
            ("General", NumberFormat::Digits),
            ("GENERAL", NumberFormat::Digits),
            ("0", NumberFormat::Digits),
            ("@", NumberFormat::Digits),
            ("0_ ", NumberFormat::Digits),
            ("0_);[Red]\\(0\\)", NumberFormat::Digits),
            ("000000", NumberFormat::Padded(6)),
            ("yyyy-mm-dd", NumberFormat::Date),
            ("[$-804]yyyy\"年\"m\"月\"", NumberFormat::Date),
            ("[h]:mm", NumberFormat::Date),
            ("[ss]", NumberFormat::Date),
        ] {
            assert_eq!(NumberFormat::parse(code), format, "{code}");
        }
        for code in ["0.00", "#,##0", "0%", "0.00E+00", "\"E\"0", "\"day \"00", "[Red]0", "0\\d", "", "000-000", "#"] {
            assert!(matches!(NumberFormat::parse(code), NumberFormat::Other(_)), "{code}");
        }
    }

    #[test]
    fn number_is_a_field_only_where_its_digits_are_certain() {
        assert_eq!(field(6.0, "00000").unwrap(), "00006");
        assert_eq!(field(1_234_567.0, "00000").unwrap(), "1234567");
        assert_eq!(field(999_999_999_999_999.0, "0").unwrap(), "999999999999999");
        assert_eq!(field(0.0, "General").unwrap(), "0");
        assert_eq!(field(-0.0, "General").unwrap(), "0");
        assert_eq!(field(1e15, "0"), Err(CellFault::TooManyDigits));
        assert_eq!(field(1.234_567_890_123_457e17, "General"), Err(CellFault::TooManyDigits));
        assert_eq!(field(f64::NAN, "General"), Err(CellFault::TooManyDigits));
        assert_eq!(field(12.5, "General"), Err(CellFault::Decimals));
        assert_eq!(field(-6.0, "00000"), Err(CellFault::Negative));
        assert_eq!(field(45_000.0, "d-mmm"), Err(CellFault::Date));
        assert_eq!(field(6.0, "#,##0"), Err(CellFault::Formatted("#,##0".into())));
    }

    #[test]
    fn other_cells_are_never_a_field() {
        let formats = Formats::default();
        for (cell, fault) in [
            (Cell::Bool(true), CellFault::Bool),
            (Cell::Error("#N/A".into()), CellFault::Error("#N/A".into())),
            (Cell::IsoDate("2024-03-01".into()), CellFault::Date),
            (Cell::NotComputed, CellFault::NotComputed),
            (Cell::Picture, CellFault::Picture),
        ] {
            assert_eq!(formats.field(&cell), Err(fault));
        }
        assert_eq!(formats.field(&Cell::Text(" 007".into())).unwrap(), " 007");
    }

    #[test]
    fn other_columns_keep_plain_numbers_and_iso_dates() {
        let shown = |number, code: &str| formats(code).shown(&Cell::Number(number, 0)).into_owned();
        assert_eq!(shown(0.1 + 0.2, "0.00"), "0.3");
        assert_eq!(shown(1234.5, "#,##0.00"), "1234.5");
        assert_eq!(shown(-3.0, "General"), "-3");
        assert_eq!(shown(1e21, "General"), "1e21");
        assert_eq!(shown(7.0, "000"), "007");
        assert_eq!(shown(45_352.0, "d-mmm"), "2024-03-01");
        assert_eq!(shown(45_352.25, "d-mmm"), "2024-03-01T06:00:00");
        assert_eq!(shown(0.5, "hh:mm"), "12:00:00");
        assert_eq!(
            (shown(1.0, "d"), shown(59.0, "d"), shown(61.0, "d")),
            ("1900-01-01".into(), "1900-02-28".into(), "1900-03-01".into())
        );
        let old_mac = Formats { is_1904: true, ..formats("d") };
        assert_eq!(old_mac.shown(&Cell::Number(43_890.0, 0)), "2024-03-01");
    }

    #[test]
    fn cells_have_the_names_that_a_spreadsheet_shows() {
        assert_eq!(cell_name(0, 1), "A1");
        assert_eq!(cell_name(27, 7), "AB7");
        assert_eq!(cell_name(16_383, 1_048_576), "XFD1048576");
    }

    proptest! {
        #[test]
        fn accepted_number_reads_back_as_itself(number in any::<f64>(), whole in any::<u32>(), width in 1_usize..16) {
            for number in [number, f64::from(whole), f64::from(whole) * 1e6, f64::from(whole) / 8.0] {
                for code in ["General", "0", &"0".repeat(width)] {
                    if let Ok(digits) = field(number, code) {
                        prop_assert!(digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.len() <= 15);
                        prop_assert_eq!(digits.parse::<f64>().unwrap(), number);
                    }
                }
            }
        }

        #[test]
        fn whole_number_of_up_to_15_digits_is_accepted(number in 0_u64..1_000_000_000_000_000, width in 2_usize..15) {
            prop_assert_eq!(field(number as f64, "General").unwrap(), number.to_string());
            let zeros = "0".repeat(width);
            prop_assert_eq!(field(number as f64, &zeros).unwrap(), format!("{number:0width$}"));
        }

        #[test]
        fn any_format_code_is_parsed(code in "\\PC{0,20}", number in any::<f64>()) {
            formats(&code).shown(&Cell::Number(number, 0));
        }
    }
}
