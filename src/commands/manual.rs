//! `face-enroll completions SHELL` and `face-enroll man`, generated from the definition of the command line.

use std::io::{Write, stdout};

use clap::CommandFactory;
use clap_complete::Shell;

use super::{CliError, error::exit_after_writing};
use crate::{
    cli::{Cli, CompletionsArgs},
    exit::Exit,
    report::ExportError,
};

/// Prints a completion script.
pub(super) fn completions(args: &CompletionsArgs) -> Result<Exit, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "face-enroll", &mut script);
    if args.shell == Shell::Bash {
        // clap_complete 4.6 defines and calls the functions of a program with a hyphen under different names.
        script = String::from_utf8_lossy(&script).replace("face__subcmd__enroll", "face__enroll").into_bytes();
    }
    exit_after_writing(stdout().lock().write_all(&script).map_err(ExportError::Write))
}

/// Prints the manual page: the program, each command, the exit codes.
pub(super) fn man() -> Result<Exit, CliError> {
    let mut page = Vec::new();
    let mut command = Cli::command();
    // Sets the full names of the subcommands.
    command.build();
    let written = clap_mangen::Man::new(command.clone()).render(&mut page).and_then(|()| {
        command.get_subcommands().filter(|sub| !sub.is_hide_set()).try_for_each(|sub| {
            let man = clap_mangen::Man::new(sub.clone());
            man.render_name_section(&mut page)?;
            man.render_synopsis_section(&mut page)?;
            man.render_options_section(&mut page)
        })
    });
    let written = written.and_then(|()| {
        writeln!(page, ".SH \"EXIT STATUS\"")?;
        // No text in the table begins with a character that roff takes for a request.
        Exit::TABLE
            .iter()
            .try_for_each(|(code, meaning)| writeln!(page, ".TP\n\\fB{code}\\fR\n{}", meaning.replace('-', "\\-")))
    });
    written.map_err(|error| CliError::from(ExportError::Write(error)))?;
    exit_after_writing(stdout().lock().write_all(&page).map_err(ExportError::Write))
}
