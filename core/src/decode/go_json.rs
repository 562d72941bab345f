//! JSON as Go's decoder reads it: what is a syntax error, and in which words.

use serde_json::Value;

/// The deepest nesting that is read. Go's decoder has the same limit.
pub(super) const MAX_DEPTH: usize = 10_000;

/// The JSON type of a value as Go's type errors name it.
pub(crate) fn json_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Checks the syntax without recursion; the error is Go's.
pub(crate) fn check_syntax(text: &[u8]) -> Result<(), String> {
    Scanner { text, at: 0 }.document()
}

struct Scanner<'t> {
    text: &'t [u8],
    at: usize,
}

type Outcome = Result<(), String>;

const END: &str = "unexpected end of JSON input";

fn invalid(found: u8, context: &str) -> String {
    let found = match found {
        b'\'' => r"'\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        b'\\' => r"'\\'".to_owned(),
        b'\n' => r"'\n'".to_owned(),
        b'\r' => r"'\r'".to_owned(),
        b'\t' => r"'\t'".to_owned(),
        0x20..=0x7e => format!("'{}'", char::from(found)),
        0x07 => r"'\a'".to_owned(),
        0x08 => r"'\b'".to_owned(),
        0x0b => r"'\v'".to_owned(),
        0x0c => r"'\f'".to_owned(),
        0..0x20 | 0x7f => format!("'\\x{found:02x}'"),
        0x80..=0xa0 | 0xad => format!("'\\u{found:04x}'"),
        _ => format!("'{}'", char::from(found)),
    };
    format!("invalid character {found} {context}")
}

impl Scanner<'_> {
    fn document(&mut self) -> Outcome {
        let mut open: Vec<u8> = Vec::new();
        loop {
            // Here a value must start.
            let mut complete = match self.next_token()? {
                start @ (b'{' | b'[') => {
                    if open.len() >= MAX_DEPTH {
                        return Err("exceeded max depth".to_owned());
                    }
                    open.push(start);
                    let close = if start == b'{' { b'}' } else { b']' };
                    if self.peek_token()? == close {
                        self.at += 1;
                        open.pop();
                        true
                    } else {
                        if start == b'{' {
                            self.key("looking for beginning of object key string")?;
                        }
                        false
                    }
                }
                b'"' => self.string().map(|()| true)?,
                b't' => self.literal("true").map(|()| true)?,
                b'f' => self.literal("false").map(|()| true)?,
                b'n' => self.literal("null").map(|()| true)?,
                start @ (b'-' | b'0'..=b'9') => self.number(start).map(|()| true)?,
                other => return Err(invalid(other, "looking for beginning of value")),
            };
            while complete {
                let Some(container) = open.last() else {
                    self.skip_space();
                    return match self.text.get(self.at) {
                        None => Ok(()),
                        Some(&other) => Err(invalid(other, "after top-level value")),
                    };
                };
                match (container, self.next_token()?) {
                    (b'{', b',') => {
                        self.key("looking for beginning of object key string")?;
                        complete = false;
                    }
                    (b'[', b',') => complete = false,
                    (b'{', b'}') | (b'[', b']') => {
                        open.pop();
                    }
                    (b'{', other) => return Err(invalid(other, "after object key:value pair")),
                    (_, other) => return Err(invalid(other, "after array element")),
                }
            }
        }
    }

    fn skip_space(&mut self) {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn peek_token(&mut self) -> Result<u8, String> {
        self.skip_space();
        self.text.get(self.at).copied().ok_or_else(|| END.to_owned())
    }

    fn next_token(&mut self) -> Result<u8, String> {
        let token = self.peek_token()?;
        self.at += 1;
        Ok(token)
    }

    fn next(&mut self) -> Result<u8, String> {
        let found = self.text.get(self.at).copied().ok_or_else(|| END.to_owned())?;
        self.at += 1;
        Ok(found)
    }

    fn key(&mut self, context: &str) -> Outcome {
        match self.next_token()? {
            b'"' => self.string()?,
            other => return Err(invalid(other, context)),
        }
        match self.next_token()? {
            b':' => Ok(()),
            other => Err(invalid(other, "after object key")),
        }
    }

    fn string(&mut self) -> Outcome {
        loop {
            match self.next()? {
                b'"' => return Ok(()),
                b'\\' => match self.next()? {
                    b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => {}
                    b'u' => {
                        for _ in 0..4 {
                            let digit = self.next()?;
                            if !digit.is_ascii_hexdigit() {
                                return Err(invalid(digit, r"in \u hexadecimal character escape"));
                            }
                        }
                    }
                    other => return Err(invalid(other, "in string escape code")),
                },
                control @ 0..0x20 => return Err(invalid(control, "in string literal")),
                _ => {}
            }
        }
    }

    fn literal(&mut self, word: &str) -> Outcome {
        for expected in word.bytes().skip(1) {
            let found = self.next()?;
            if found != expected {
                return Err(invalid(found, &format!("in literal {word} (expecting '{}')", char::from(expected))));
            }
        }
        Ok(())
    }

    fn number(&mut self, start: u8) -> Outcome {
        let first = if start == b'-' { self.next()? } else { start };
        match first {
            b'0' => {}
            b'1'..=b'9' => self.digits(),
            other => return Err(invalid(other, "in numeric literal")),
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            match self.next()? {
                b'0'..=b'9' => self.digits(),
                other => return Err(invalid(other, "after decimal point in numeric literal")),
            }
        }
        if matches!(self.text.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            let mut found = self.next()?;
            if matches!(found, b'+' | b'-') {
                found = self.next()?;
            }
            match found {
                b'0'..=b'9' => self.digits(),
                other => return Err(invalid(other, "in exponent of numeric literal")),
            }
        }
        Ok(())
    }

    fn digits(&mut self) {
        while self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
    }
}
