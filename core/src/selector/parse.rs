//! Reads label selectors as people write them. The grammar and the errors are upstream's, which reads bytes.

use std::collections::BTreeSet;

use super::label::check_key;
use super::{Error, Operator, Requirement};
use crate::validation::Path;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    End,
    Close,
    Comma,
    Not,
    DoubleEquals,
    Equals,
    Greater,
    Identifier(&'a str),
    In,
    Less,
    NotEquals,
    NotIn,
    Open,
}

impl<'a> Token<'a> {
    fn text(self) -> &'a str {
        match self {
            Self::End => "",
            Self::Close => ")",
            Self::Comma => ",",
            Self::Not => "!",
            Self::DoubleEquals => "==",
            Self::Equals => "=",
            Self::Greater => ">",
            Self::Identifier(text) => text,
            Self::In => "in",
            Self::Less => "<",
            Self::NotEquals => "!=",
            Self::NotIn => "notin",
            Self::Open => "(",
        }
    }
}

/// The requirements of a text, in its order.
pub(super) fn requirements(text: &str) -> Result<Vec<Requirement>, Error> {
    let mut parser = Parser { tokens: tokens(text), at: 0 };
    let mut requirements = Vec::new();
    loop {
        match parser.peek() {
            Token::Identifier(_) | Token::Not => {}
            Token::End => return Ok(requirements),
            other => return Err(found(other, ", expected: !, identifier, or 'end of string'")),
        }
        requirements.push(parser.requirement().map_err(|error| Error::Requirement(Box::new(error)))?);
        match parser.next() {
            Token::End => return Ok(requirements),
            Token::Comma => match parser.peek() {
                Token::Identifier(_) | Token::Not => {}
                other => return Err(found(other, ", expected: identifier after ','")),
            },
            other => return Err(found(other, ", expected: ',' or 'end of string'")),
        }
    }
}

/// How upstream prints the path of a key that has none.
pub(super) fn no_path() -> Path {
    Path::new("<nil>")
}

fn found(token: Token<'_>, expected: &str) -> Error {
    Error::Syntax(format!("found '{}'{expected}", token.text()))
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let bytes = text.as_bytes();
    let special = |byte: u8| b"=!(),><".contains(&byte);
    let space = |byte: u8| b" \t\r\n".contains(&byte);
    let (mut at, mut tokens) = (0, Vec::new());
    loop {
        while bytes.get(at).is_some_and(|byte| space(*byte)) {
            at += 1;
        }
        let rest = &text[at..];
        let two = |sign: &str| rest.starts_with(sign);
        let (token, length) = match bytes.get(at) {
            // A zero byte ends a text for upstream.
            None | Some(0) => {
                tokens.push(Token::End);
                return tokens;
            }
            Some(b'=') if two("==") => (Token::DoubleEquals, 2),
            Some(b'!') if two("!=") => (Token::NotEquals, 2),
            Some(b'=') => (Token::Equals, 1),
            Some(b'!') => (Token::Not, 1),
            Some(b'(') => (Token::Open, 1),
            Some(b')') => (Token::Close, 1),
            Some(b',') => (Token::Comma, 1),
            Some(b'>') => (Token::Greater, 1),
            Some(b'<') => (Token::Less, 1),
            Some(_) => {
                let end = |byte: &u8| *byte == 0 || special(*byte) || space(*byte);
                let length = bytes[at..].iter().position(end).unwrap_or(rest.len());
                let token = match &rest[..length] {
                    "in" => Token::In,
                    "notin" => Token::NotIn,
                    word => Token::Identifier(word),
                };
                // The zero byte that ends a word is swallowed with it.
                (token, length + usize::from(bytes.get(at + length) == Some(&0)))
            }
        };
        tokens.push(token);
        at += length;
    }
}

struct Parser<'a> {
    /// Ends with [`Token::End`], which is never passed.
    tokens: Vec<Token<'a>>,
    at: usize,
}

impl<'a> Parser<'a> {
    /// The next token where `in` and `notin` are ordinary words.
    fn peek(&self) -> Token<'a> {
        match self.tokens[self.at] {
            word @ (Token::In | Token::NotIn) => Token::Identifier(word.text()),
            other => other,
        }
    }

    fn next(&mut self) -> Token<'a> {
        let token = self.peek();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }

    fn requirement(&mut self) -> Result<Requirement, Error> {
        let mut token = self.next();
        let negated = token == Token::Not;
        if negated {
            token = self.next();
        }
        let Token::Identifier(key) = token else { return Err(found(token, ", expected: identifier")) };
        let errors = check_key(key, &no_path());
        if !errors.is_empty() {
            return Err(Error::Invalid(errors));
        }
        if negated {
            return Requirement::new(key, Operator::DoesNotExist, []);
        }
        if matches!(self.peek(), Token::End | Token::Comma) {
            return Requirement::new(key, Operator::Exists, []);
        }
        let operator = self.operator()?;
        let values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            _ => BTreeSet::from([self.value()?]),
        };
        Requirement::new(key, operator, values)
    }

    fn operator(&mut self) -> Result<Operator, Error> {
        let token = self.tokens[self.at];
        self.next();
        Ok(match token {
            Token::DoubleEquals => Operator::DoubleEquals,
            Token::Equals => Operator::Equals,
            Token::Greater => Operator::GreaterThan,
            Token::In => Operator::In,
            Token::Less => Operator::LessThan,
            Token::NotEquals => Operator::NotEquals,
            Token::NotIn => Operator::NotIn,
            other => return Err(found(other, ", expected: in, notin, =, ==, !=, gt, lt")),
        })
    }

    /// One value; it may be empty.
    fn value(&mut self) -> Result<&'a str, Error> {
        if matches!(self.peek(), Token::End | Token::Comma) {
            return Ok("");
        }
        match self.next() {
            Token::Identifier(value) => Ok(value),
            other => Err(found(other, ", expected: identifier")),
        }
    }

    fn values(&mut self) -> Result<BTreeSet<&'a str>, Error> {
        let open = self.next();
        if open != Token::Open {
            return Err(found(open, " expected: '('"));
        }
        match self.peek() {
            Token::Identifier(_) | Token::Comma => self.list(),
            Token::Close => {
                self.next();
                Ok(BTreeSet::from([""]))
            }
            other => Err(found(other, ", expected: ',', ')' or identifier")),
        }
    }

    /// Values up to the closing parenthesis; a comma with nothing beside it stands for an empty value.
    fn list(&mut self) -> Result<BTreeSet<&'a str>, Error> {
        let mut values = BTreeSet::new();
        loop {
            match self.next() {
                Token::Identifier(value) => {
                    values.insert(value);
                    match self.peek() {
                        Token::Comma => {}
                        Token::Close => break,
                        other => return Err(found(other, ", expected: ',' or ')'")),
                    }
                }
                Token::Comma => {
                    if values.is_empty() {
                        values.insert("");
                    }
                    match self.peek() {
                        Token::Close => {
                            values.insert("");
                            break;
                        }
                        Token::Comma => {
                            self.next();
                            values.insert("");
                        }
                        _ => {}
                    }
                }
                other => return Err(found(other, ", expected: ',', or identifier")),
            }
        }
        self.next();
        Ok(values)
    }
}
