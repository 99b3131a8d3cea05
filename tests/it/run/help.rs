//! The help of `run`, as a person reads it on a terminal of 100 columns.

use crate::support::Enroll;

fn help(flag: &str) -> String {
    let ended = Enroll::new("run").env("COLUMNS", "100").arg(flag).end();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    // Spaces at line ends, which editors remove.
    ended.stdout.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

#[test]
fn short_help_fits_on_one_screen() {
    let help = help("-h");
    assert!(help.lines().count() <= 32, "{help}");
    insta::assert_snapshot!(help);
}

#[test]
fn long_help_shows_all_flags_in_groups() {
    insta::assert_snapshot!(help("--help"));
}
