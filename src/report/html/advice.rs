//! What to do about rows that did not end well, by their codes.

use crate::domain::ItemState;

/// See the module. None: there is nothing to do.
pub(super) fn recommended_action(state: ItemState, code: &str) -> Option<&'static str> {
    match state {
        ItemState::Enrolled => match code {
            "AlreadyPresent" => Some("Nothing; but the record was there before, and its photo may be another one."),
            _ => None,
        },
        ItemState::Pending | ItemState::Sending => Some("Run again: it goes on where it stopped."),
        ItemState::InDoubt => Some("Run again: the service is asked about each before anything is sent again."),
        ItemState::Failed => Some("Put them back with face-enroll retry, then run again."),
        ItemState::Rejected => Some(of_rejected(code)),
    }
}

fn of_rejected(code: &str) -> &'static str {
    match code {
        "NotFound" | "NotAFile" | "NotFollowed" => "Put the photo where the manifest says it is, or mend the path.",
        "PermissionDenied" => "Give the user who runs this the right to read the file.",
        "OutsideRoot" => "Give --root, or --allow-outside-root if that is meant.",
        "Empty" | "Truncated" | "Malformed" | "Undecodable" | "NotAPicture" | "Unreadable" => {
            "The file is damaged: take it from its origin again, or take a new photo."
        }
        "NotPortrait" => "Crop it so that it is higher than wide, or give --landscape crop or pad.",
        "NeedsRotation" => "Save it upright, or let it be turned (--fit auto).",
        "TooLarge" | "TooLargeInline" | "TooLargeShape" | "TooManyPixels" | "NotFitted" => {
            "Scale its shorter side to 720 pixels, or let it be fitted (--fit auto)."
        }
        "NotJpeg" | "UnsupportedFormat" | "UnsupportedJpeg" => "Save it as a JPEG.",
        "TooDark" | "TooBright" | "Blurred" | "Passed=N" => {
            "Take a better photo: one face, from the front, evenly lit."
        }
        "MissingPicture" | "TwoPictures" | "InvalidUrl" => "Give the row one path or one url.",
        "MissingUserId" | "InvalidUserId" => "Give the row an id of 1 to 32 characters.",
        "SuspiciousUserId" => "Export the ids as text, with all their digits; --allow-odd-ids if they are meant so.",
        "MissingGroup" | "InvalidGroup" => "Give the row a face group, or all of them one with --group.",
        "DuplicateUserId" => "Keep one row for each id, or give each its own.",
        "UnreadableRow" | "WrongFieldCount" | "UnclosedQuote" | "RecordTooLong" => {
            "Mend the row: its quotes, its separators, its encoding (UTF-8)."
        }
        _ => "Read the service's message; mend the photo or the row, then run again.",
    }
}
