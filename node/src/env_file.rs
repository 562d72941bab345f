//! Files of variables, in the syntax that Kubernetes gives them since 1.35: a part of what a POSIX shell reads.
//!
//! A line is blank, a comment that begins with `#`, or `NAME='value'`. A value stands in single quotes, is taken as it is, and may
//! go on over several lines; after it there may be a comment.

/// The value of a name, the first of several; `None` if the file does not have it.
///
/// # Errors
/// What is wrong with the file, and in which line, as far as it had to be read.
pub(crate) fn value<'a>(text: &'a str, name: &str) -> Result<Option<&'a str>, String> {
    let mut rest = text;
    while !rest.is_empty() {
        let line = rest.split('\n').next().unwrap_or_default();
        let before = &text[..text.len() - rest.len()];
        let wrong = |what: &str| Err(format!("{what} at line {}", before.matches('\n').count() + 1));
        let own = line.trim_start_matches([' ', '\t']);
        if own.trim_end().is_empty() || own.starts_with('#') {
            rest = after_line(rest);
            continue;
        }
        let Some((found, value)) = own.split_once('=').filter(|(found, _)| !found.is_empty()) else {
            return wrong("invalid environment variable format");
        };
        if found.ends_with([' ', '\t']) {
            return wrong("invalid environment variable format: whitespace before '=' is not allowed");
        }
        if !value.starts_with('\'') {
            return wrong("invalid environment variable format: value must be enclosed in single quotes");
        }
        // The value may be longer than the line.
        let from = line.len() - value.len() + 1;
        let Some((value, behind)) = rest[from..].split_once('\'') else {
            return wrong("invalid environment variable format: unclosed single quote");
        };
        let tail = behind.split('\n').next().unwrap_or_default();
        let comment = tail.trim_start();
        let is_comment = comment.is_empty() || comment.starts_with('#') && comment.len() < tail.len();
        if !is_comment {
            return wrong("invalid environment variable format: unexpected content after closing quote");
        }
        if found == name {
            return Ok(Some(value));
        }
        rest = after_line(behind);
    }
    Ok(None)
}

fn after_line(text: &str) -> &str {
    text.split_once('\n').map_or("", |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# a comment\n\n  A='one'\n\tB='  two = 2 # $HOME \"x\" \\n '  # why\nC='first\n\n# no comment\nlast'\nA='again'\nE=''";

    #[test]
    fn values_are_what_stands_between_quotes() {
        for (name, expected) in [
            ("A", Some("one")),
            ("B", Some("  two = 2 # $HOME \"x\" \\n ")),
            ("C", Some("first\n\n# no comment\nlast")),
            ("E", Some("")),
            ("D", None),
        ] {
            assert_eq!(value(FILE, name), Ok(expected), "{name}");
        }
        assert_eq!(value("", "A"), Ok(None));
        assert_eq!(value("A='x'\r\nB='y'\r\n", "B"), Ok(Some("y")));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let format = "invalid environment variable format";
        for (file, expected) in [
            ("B='1'\nnothing\n", format!("{format} at line 2")),
            ("='1'", format!("{format} at line 1")),
            ("A ='1'", format!("{format}: whitespace before '=' is not allowed at line 1")),
            ("A= '1'", format!("{format}: value must be enclosed in single quotes at line 1")),
            ("B='1\n2'\nA=\"1\"", format!("{format}: value must be enclosed in single quotes at line 3")),
            ("A='1", format!("{format}: unclosed single quote at line 1")),
            ("A='1''2'", format!("{format}: unexpected content after closing quote at line 1")),
            ("A='1'#2", format!("{format}: unexpected content after closing quote at line 1")),
        ] {
            assert_eq!(value(file, "A"), Err(expected), "{file:?}");
        }
        // What comes after the value is not looked at.
        assert_eq!(value("A='1'\nnothing", "A"), Ok(Some("1")));
    }
}
