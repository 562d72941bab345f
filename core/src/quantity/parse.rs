//! Reading quantities, as upstream's `ParseQuantity`.

use num_bigint::BigInt;

use super::amount::{Amount, NANO};
use super::{Form, Format, Quantity};

/// Most digits that a quantity may have. Upstream has no bound; nobody has more, and unbounded ones cost time.
const DIGITS_MAX: usize = 1000;

/// Largest exponent that a quantity may have, for the same reason.
const EXPONENT_MAX: u32 = 1000;

/// Why a text is no quantity, in upstream's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// The text has not the form of a quantity.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// The number is none, or is beyond all bounds.
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    /// There is no such suffix.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// The parts of a quantity's text.
struct Parts<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    suffix: &'a str,
}

fn split(text: &str) -> Result<Parts<'_>, ParseError> {
    if text.is_empty() {
        return Err(ParseError::Format);
    }
    let (negative, rest) = match text.as_bytes()[0] {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, rest) = rest.split_at(digits(rest));
    let (fraction, suffix) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(digits(rest)),
        None => ("", rest),
    };
    let letters = suffix.bytes().take_while(|byte| b"eEinumkKMGTP".contains(byte)).count();
    let mut tail = &suffix[letters..];
    if let Some(rest) = tail.strip_prefix(['-', '+']) {
        tail = rest;
    }
    if !tail.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ParseError::Format);
    }
    Ok(Parts { negative, whole, fraction, suffix })
}

/// The suffix's format and power, of 10 or (binary) of 2.
fn interpret(suffix: &str) -> Result<(Format, i32), ParseError> {
    let decimal = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
    let binary = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    if let Some(position) = (-9..).step_by(3).zip(decimal).find(|(_, name)| *name == suffix) {
        return Ok((Format::DecimalSi, position.0));
    }
    if let Some(position) = (10..).step_by(10).zip(binary).find(|(_, name)| *name == suffix) {
        return Ok((Format::BinarySi, position.0));
    }
    let exponent = suffix.strip_prefix(['e', 'E']).ok_or(ParseError::Suffix)?;
    let exponent: i64 = exponent.parse().map_err(|_| ParseError::Suffix)?;
    // Upstream cuts it to 32 bits.
    Ok((Format::DecimalExponent, exponent as i32))
}

pub(super) fn parse(text: &str) -> Result<Quantity, ParseError> {
    let Parts { negative, whole, fraction, suffix } = split(text)?;
    let (format, power) = interpret(suffix)?;
    let whole = whole.trim_start_matches('0');
    let length = whole.len().max(1) + fraction.len();
    if length > DIGITS_MAX || power.unsigned_abs() > EXPONENT_MAX {
        return Err(ParseError::Numeric);
    }
    let length = i32::try_from(length).expect("bounded above");
    let places = i32::try_from(fraction.len()).expect("bounded above");
    let digits = format!("{whole}{fraction}");
    let mut number: BigInt =
        if digits.is_empty() { BigInt::ZERO } else { digits.parse().map_err(|_| ParseError::Numeric)? };
    // Upstream keeps short numbers in 64 bits with a power of ten, all others in its arbitrary form.
    let (scale, short) = match format {
        Format::DecimalSi | Format::DecimalExponent => (power - places, length <= 18),
        Format::BinarySi => (-places, fraction.is_empty() && 15 - length - power * 3 / 10 > 0),
    };
    if format == Format::BinarySi {
        number <<= power;
    }
    let short = short && scale >= NANO && i64::try_from(&number).is_ok();
    let mut form = if short { Form::Short(scale) } else { Form::Long(NANO) };
    let mut nanos = Amount::rounded_up(number, scale);
    let most = Amount::from_scaled(i64::MAX, 0);
    if format == Format::BinarySi && nanos > most {
        nanos = most;
        form = Form::Long(0);
    }
    if negative {
        nanos = nanos.neg();
    }
    let tiny = format == Format::BinarySi && !short && nanos > Amount::default() && nanos < Amount::from_scaled(1, 0);
    let format = if tiny { Format::DecimalSi } else { format };
    let quantity = Quantity { form, nanos, format, text: None };
    let keeps = short
        && match format {
            Format::BinarySi => digits.parse::<u64>().is_ok_and(|digits| digits & 7 != 0),
            _ => scale % 3 == 0 && !digits.ends_with("000") && !whole.is_empty(),
        };
    Ok(if keeps { keep_text(quantity, text) } else { quantity })
}

/// Keeps a text that upstream takes for canonical although it prints such amounts otherwise (`5.`, `1E3`, `+1`).
fn keep_text(mut quantity: Quantity, text: &str) -> Quantity {
    if quantity.to_string() != text {
        quantity.text = Some(text.into());
    }
    quantity
}
