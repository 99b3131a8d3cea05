//! Recommended action for each state and error code.

use crate::domain::ItemState;

/// `None` if there is nothing to do.
pub(super) fn recommended_action(state: ItemState, code: &str) -> Option<&'static str> {
    match state {
        ItemState::Enrolled => match code {
            "AlreadyPresent" => {
                Some("Nothing to do, but the record existed before this run and may have another photo.")
            }
            "NewPhotoRefused" => {
                Some("The old photo stays enrolled. Correct the new one, then run again with --on-change replace.")
            }
            _ => None,
        },
        ItemState::Pending | ItemState::Sending => Some("Run again to continue."),
        ItemState::InDoubt => Some("Run again: each row is checked at the service before it is sent again."),
        ItemState::Failed => Some("Reset them with face-enroll retry, then run again."),
        ItemState::Rejected => Some(action_for_rejected(code)),
    }
}

fn action_for_rejected(code: &str) -> &'static str {
    match code {
        "NotFound" | "NotAFile" | "NotFollowed" => "Put the photo where the manifest says it is, or fix the path.",
        "PermissionDenied" => "Give the user who runs face-enroll permission to read the file.",
        "OutsideRoot" => "Give --root, or --allow-outside-root if this is intended.",
        "Empty" | "Truncated" | "Malformed" | "Undecodable" | "NotAPicture" | "Unreadable" => {
            "The file is damaged: copy it from the original again, or take a new photo."
        }
        "NotPortrait" => "Crop it to portrait format, or give --landscape crop or pad.",
        "NeedsRotation" => "Save it upright, or give --fit auto to rotate it.",
        "TooLarge" | "TooLargeInline" | "TooLargeShape" | "TooManyPixels" | "NotFitted" => {
            "Scale its shorter side to 720 pixels, or give --fit auto."
        }
        "NotJpeg" | "UnsupportedFormat" | "UnsupportedJpeg" => "Save it as JPEG.",
        "TooDark" | "TooBright" | "Blurred" | "Passed=N" => {
            "Take a better photo: one face, from the front, evenly lit."
        }
        "NoFace" => "Take a photo of the person's face, from the front.",
        "SeveralFaces" => "Crop it to one person, or take a photo with one face.",
        "MissingPicture" | "TwoPictures" | "InvalidUrl" => "Give the row either a path or a url.",
        "MissingUserId" | "InvalidUserId" => "Give the row an id of 1 to 32 characters.",
        "SuspiciousUserId" => {
            "Export the ids as text, with all their digits; or give --allow-odd-ids if they are correct."
        }
        "MissingGroup" | "InvalidGroup" => "Give the row a face group, or set one for all rows with --group.",
        "DuplicateUserId" => "Keep one row for each id, or give each row its own id.",
        "UnreadableRow" | "WrongFieldCount" | "UnclosedQuote" | "RecordTooLong" => {
            "Fix the quotes, the separators or the encoding (UTF-8) of the row."
        }
        _ => "Read the service's message, fix the photo or the row, then run again.",
    }
}
