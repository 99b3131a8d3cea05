//! Invisible characters in ids, and spaces that look like the usual one.
//!
//! Unicode properties decide: default-ignorable characters (zero-width characters, direction marks, variation selectors,
//! tags, soft hyphens), separators other than the space and the ideographic space, and a few blank characters with neither
//! property. ZERO WIDTH JOINER and NON-JOINER are part of the spelling of Arabic and Indic scripts, and allowed there.

use icu_properties::{
    CodePointMapData, CodePointSetData,
    props::{CanonicalCombiningClass, DefaultIgnorableCodePoint, GeneralCategory, Script},
};

const JOINERS: [char; 2] = ['\u{200C}', '\u{200D}'];

/// Scripts whose spelling needs the joiners: scripts with joining letters or conjuncts.
const JOINING_SCRIPTS: [Script; 25] = [
    Script::Arabic,
    Script::Syriac,
    Script::Nko,
    Script::Mandaic,
    Script::Mongolian,
    Script::Adlam,
    Script::HanifiRohingya,
    Script::Devanagari,
    Script::Bengali,
    Script::Gurmukhi,
    Script::Gujarati,
    Script::Oriya,
    Script::Tamil,
    Script::Telugu,
    Script::Kannada,
    Script::Malayalam,
    Script::Sinhala,
    Script::Khmer,
    Script::Myanmar,
    Script::Tibetan,
    Script::Balinese,
    Script::Javanese,
    Script::MeeteiMayek,
    Script::OlChiki,
    Script::Chakma,
];

/// Finds the first invisible character; positions start at 1.
pub(super) fn find_invisible(text: &str) -> Option<(usize, char)> {
    // The invisible ASCII characters are control characters, which are checked elsewhere.
    if text.is_ascii() {
        return None;
    }
    let mut before = "";
    for (number, (at, c)) in text.char_indices().enumerate() {
        let after = &text[at + c.len_utf8()..];
        if is_invisible(c) && !(JOINERS.contains(&c) && is_joiner_allowed(before, after)) {
            return Some((number + 1, c));
        }
        before = &text[..at + c.len_utf8()];
    }
    None
}

/// Whether a character shows nothing, or is a space other than the usual one.
pub fn is_invisible(c: char) -> bool {
    if c.is_ascii() {
        return false;
    }
    let is_ignorable = CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c);
    let is_separator = match CodePointMapData::<GeneralCategory>::new().get(c) {
        // IDEOGRAPHIC SPACE is as wide as a letter and occurs in Japanese names.
        GeneralCategory::SpaceSeparator => c != '\u{3000}',
        GeneralCategory::LineSeparator | GeneralCategory::ParagraphSeparator => true,
        _ => false,
    };
    // Annotation marks, the blank Braille pattern, and noncharacters.
    let is_blank =
        matches!(c, '\u{FFF9}'..='\u{FFFB}' | '\u{2800}' | '\u{FDD0}'..='\u{FDEF}') || u32::from(c) & 0xFFFE == 0xFFFE;
    is_ignorable || is_separator || is_blank
}

/// Whether a joiner belongs between these texts: after a letter of a script that needs it, and either before another such
/// letter or after a virama, which it also changes at the end of a word.
fn is_joiner_allowed(before: &str, after: &str) -> bool {
    let scripts = CodePointMapData::<Script>::new();
    let needs_joiner = |c: char| JOINING_SCRIPTS.contains(&scripts.get(c));
    // Vowel points are `Inherited`: they have the script of their letter.
    let letter = before.chars().rev().find(|&c| scripts.get(c) != Script::Inherited);
    let is_after_virama = before
        .chars()
        .next_back()
        .is_some_and(|c| CodePointMapData::<CanonicalCombiningClass>::new().get(c) == CanonicalCombiningClass::Virama);
    letter.is_some_and(needs_joiner) && (is_after_virama || after.chars().next().is_some_and(needs_joiner))
}

/// Name of a common invisible character; empty for the others.
pub(super) fn name(c: char) -> &'static str {
    match c {
        '\u{A0}' => " NO-BREAK SPACE",
        '\u{AD}' => " SOFT HYPHEN",
        '\u{34F}' => " COMBINING GRAPHEME JOINER",
        '\u{61C}' => " ARABIC LETTER MARK",
        '\u{115F}' | '\u{1160}' | '\u{3164}' | '\u{FFA0}' => " (a Hangul filler)",
        '\u{180B}'..='\u{180D}' | '\u{180F}' | '\u{FE00}'..='\u{FE0F}' | '\u{E0100}'..='\u{E01EF}' => {
            " (a variation selector)"
        }
        '\u{180E}' => " MONGOLIAN VOWEL SEPARATOR",
        '\u{2000}'..='\u{200A}' | '\u{1680}' | '\u{205F}' => " (a space)",
        '\u{200B}' => " ZERO WIDTH SPACE",
        '\u{200C}' => " ZERO WIDTH NON-JOINER",
        '\u{200D}' => " ZERO WIDTH JOINER",
        '\u{200E}' => " LEFT-TO-RIGHT MARK",
        '\u{200F}' => " RIGHT-TO-LEFT MARK",
        '\u{2028}' => " LINE SEPARATOR",
        '\u{2029}' => " PARAGRAPH SEPARATOR",
        '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' => " (a direction control)",
        '\u{202F}' => " NARROW NO-BREAK SPACE",
        '\u{2060}' => " WORD JOINER",
        '\u{2061}'..='\u{2064}' => " (an invisible operator)",
        '\u{2800}' => " BRAILLE PATTERN BLANK",
        '\u{FEFF}' => " ZERO WIDTH NO-BREAK SPACE (a byte-order mark)",
        '\u{E0000}'..='\u{E007F}' => " (a tag character)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Unicode 16's Default_Ignorable_Code_Point (DerivedCoreProperties.txt) and the other rejected characters.
    const REJECTED: [(u32, u32); 37] = [
        (0xA0, 0xA0),
        (0xAD, 0xAD),
        (0x34F, 0x34F),
        (0x61C, 0x61C),
        (0x115F, 0x1160),
        (0x1680, 0x1680),
        (0x17B4, 0x17B5),
        (0x180B, 0x180F),
        (0x2000, 0x200F),
        (0x2028, 0x202F),
        (0x205F, 0x206F),
        (0x2800, 0x2800),
        (0x3164, 0x3164),
        (0xFDD0, 0xFDEF),
        (0xFE00, 0xFE0F),
        (0xFEFF, 0xFEFF),
        (0xFFA0, 0xFFA0),
        (0xFFF0, 0xFFFB),
        (0xFFFE, 0xFFFF),
        (0x1BCA0, 0x1BCA3),
        (0x1D173, 0x1D17A),
        (0x1FFFE, 0x1FFFF),
        (0x2FFFE, 0x2FFFF),
        (0x3FFFE, 0x3FFFF),
        (0x4FFFE, 0x4FFFF),
        (0x5FFFE, 0x5FFFF),
        (0x6FFFE, 0x6FFFF),
        (0x7FFFE, 0x7FFFF),
        (0x8FFFE, 0x8FFFF),
        (0x9FFFE, 0x9FFFF),
        (0xAFFFE, 0xAFFFF),
        (0xBFFFE, 0xBFFFF),
        (0xCFFFE, 0xCFFFF),
        (0xDFFFE, 0xDFFFF),
        (0xE0000, 0xE0FFF),
        (0xFFFFE, 0xFFFFF),
        (0x10FFFE, 0x10FFFF),
    ];

    #[test]
    fn invisible_characters_match_the_unicode_table() {
        for c in '\0'..=char::MAX {
            let code = u32::from(c);
            // U+EFFFE and U+EFFFF are noncharacters too.
            let is_rejected =
                REJECTED.iter().any(|&(from, to)| (from..=to).contains(&code)) || code & 0xFFFFE == 0xEFFFE;
            assert_eq!(is_invisible(c), is_rejected, "U+{code:04X}");
        }
    }

    #[test]
    fn joiners_are_allowed_in_scripts_that_need_them() {
        for text in [
            "می\u{200C}خواهم",
            "क\u{94D}\u{200D}ष",
            "ක\u{DCA}\u{200D}ර",
            "അവന\u{D4D}\u{200D}",
            "র\u{200D}\u{9CD}য",
            "بَ\u{200C}ب",
        ] {
            assert_eq!(find_invisible(text), None, "{text}");
        }
        for (text, position) in [
            ("E\u{200D}1", 2),
            ("\u{200C}می", 1),
            ("می\u{200C}", 3),
            ("می\u{200C}1", 3),
            ("1\u{200D}क", 2),
            ("👩\u{200D}👧", 2),
            ("می\u{200C}\u{200C}خ", 3),
        ] {
            assert_eq!(find_invisible(text).map(|(position, _)| position), Some(position), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn one_invisible_character_anywhere_is_found(
            left in "[A-Za-z0-9 ]{0,8}", right in "[A-Za-z0-9张三ü ]{0,8}", range in 0..REJECTED.len(), step in 0u32..4096,
        ) {
            let (from, to) = REJECTED[range];
            let hidden = char::from_u32(from + step % (to - from + 1)).unwrap();
            let text = format!("{left}{hidden}{right}");
            prop_assert_eq!(find_invisible(&text), Some((left.chars().count() + 1, hidden)));
            prop_assert_eq!(find_invisible(&format!("{left}{right}")), None);
        }
    }
}
