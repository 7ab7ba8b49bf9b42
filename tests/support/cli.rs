//! The command line.

use std::{
    io::Write,
    process::{Command, Stdio},
};

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Cli {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Cli {
    /// Runs `command` to its end.
    pub(crate) fn run(command: &mut Command) -> Self {
        Self::run_with_input(command, "")
    }

    /// Runs `command` to its end, with this on its standard input.
    pub(crate) fn run_with_input(command: &mut Command, input: &str) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let run = Self {
            code: output.status.code().unwrap(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        };
        assert!(!run.stderr.contains("panicked"), "{run:?}");
        run
    }

    /// Asserts success; what it wrote to standard output.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.stdout
    }
}
