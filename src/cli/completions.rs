//! `souk completions` and `souk man` print what a shell and `man` need to know of the command line.

use std::{
    fs,
    io::{self, Write},
};

use anyhow::Context as _;
use clap::{Command, CommandFactory as _};

use super::{
    CompletionsArguments, ManArguments,
    arguments::{Arguments, LONG_VERSION},
};

pub(super) fn print(arguments: &CompletionsArguments) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command(), "souk", &mut script);
    write_out(&script)
}

pub(super) fn print_man(arguments: &ManArguments) -> anyhow::Result<()> {
    if let Some(dir) = &arguments.dir {
        fs::create_dir_all(dir).with_context(|| format!("failed to create {}", dir.display()))?;
        return clap_mangen::generate_to(command(), dir)
            .with_context(|| format!("failed to write to {}", dir.display()));
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command()).render(&mut page)?;
    write_out(&page)
}

/// The command line with a version of its own, which a page shows in one line.
fn command() -> Command {
    Arguments::command().version(LONG_VERSION)
}

/// Writes to standard output. A closed pipe, as after `| head`, is not an error.
fn write_out(bytes: &[u8]) -> anyhow::Result<()> {
    match io::stdout().write_all(bytes) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}
