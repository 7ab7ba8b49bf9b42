//! Messages about files that are not TOML.
use super::error::to_one_line;

const PREFIX: &str = "TOML parse error at line ";

/// The position and the reason of a TOML error. The parser's own message also quotes the line,
/// which may contain a secret.
pub(super) fn describe_toml_error(message: &str, source: &str) -> String {
    let Some((line, column, reason)) = split_message(message) else {
        return to_one_line(message);
    };
    match find_unquoted_string(source, line, column) {
        Some(start) => format!("line {line}, column {start}: a string must be in quotes"),
        None => format!("line {line}, column {column}: {}", to_one_line(reason)),
    }
}

/// Splits a message into line, column and reason, and drops the three lines that show the source.
fn split_message(message: &str) -> Option<(usize, usize, &str)> {
    let (position, rest) = message.strip_prefix(PREFIX)?.split_once('\n')?;
    let (line, column) = position.split_once(", column ")?;
    let reason = rest.splitn(4, '\n').nth(3)?;
    Some((line.parse().ok()?, column.parse().ok()?, reason))
}

/// The column where an unquoted string starts, if the error is within one. The parser takes it for
/// a number or a boolean, so its own reason does not mention the missing quotes.
fn find_unquoted_string(source: &str, line: usize, column: usize) -> Option<usize> {
    let line: Vec<char> = source.lines().nth(line.checked_sub(1)?)?.chars().collect();
    let before_error = line.get(..column.checked_sub(1)?)?;
    let token_start = before_error
        .iter()
        .rposition(|c| c.is_whitespace() || "=[,{".contains(*c))
        .map_or(0, |index| index + 1);
    let before_token = line.get(..token_start)?;
    let before_value = before_token.iter().rfind(|c| !c.is_whitespace())?;
    let is_value = "=[,".contains(*before_value) && before_token.contains(&'=');
    let token: String = line
        .get(token_start..)?
        .iter()
        .take_while(|c| !c.is_whitespace() && !",]}#".contains(**c))
        .collect();
    let starts_string = token.starts_with(|c: char| c.is_alphanumeric() || "./".contains(c));
    let is_literal = token.parse::<f64>().is_ok() || token.parse::<bool>().is_ok();
    (is_value && starts_string && !is_literal).then_some(token_start + 1)
}

#[cfg(test)]
mod tests {
    use ::config::{FileFormat, Format as _};

    use super::*;

    fn describe(source: &str) -> String {
        let error = FileFormat::Toml.parse(None, source).unwrap_err();
        describe_toml_error(&error.to_string(), source)
    }

    #[test]
    fn unquoted_strings_are_recognized() {
        for (value, column) in [
            ("hush-hush", 12),
            ("nope", 12),
            ("127.0.0.1:8080", 12),
            ("5s", 12),
            ("64KiB", 12),
            ("./data", 12),
            ("mongodb://db", 12),
            ("my shop", 12),
            ("[10.0.0.0/8]", 13),
            ("[\"a\", b]", 18),
        ] {
            let source = format!("[http]\nsetting  = {value}\n");
            let expected = format!("line 2, column {column}: a string must be in quotes");
            assert_eq!(describe(&source), expected, "{value}");
        }
    }

    #[test]
    fn other_errors_keep_the_reason_of_the_parser() {
        for (source, expected) in [
            ("[http\nbind = 1", "line 1, column 6: unclosed table"),
            ("a = \"b", "line 1, column 7: invalid basic string"),
            ("a b = 1", "line 1, column 3: key with no value"),
            ("a = 1\na = 2", "line 2, column 1: duplicate key"),
            ("a = [1", "line 1, column 6: "),
            ("a = 1 b", "line 1, column 5: "),
        ] {
            let described = describe(source);
            assert!(described.starts_with(expected), "{described}");
            assert!(!described.contains("in quotes"), "{described}");
        }
    }
}
