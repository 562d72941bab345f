//! The wire format: numbered fields, each a number or bytes.

use super::Error;

/// A field's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// Four or eight bytes; nothing that is read here has such fields.
    Fixed,
}

pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next field's number and content; `None` at the end.
    pub(super) fn field(&mut self) -> Result<Option<(u64, Wire<'a>)>, Error> {
        let Some(tag) = self.varint_or_end()? else { return Ok(None) };
        let wire = match tag & 7 {
            0 => Wire::Varint(self.varint_or_end()?.ok_or(Error::Malformed)?),
            1 => self.take(8).map(|_| Wire::Fixed)?,
            2 => {
                let length = self.varint_or_end()?.ok_or(Error::Malformed)?;
                Wire::Bytes(self.take(usize::try_from(length).map_err(|_| Error::Malformed)?)?)
            }
            5 => self.take(4).map(|_| Wire::Fixed)?,
            _ => return Err(Error::Malformed),
        };
        Ok(Some((tag >> 3, wire)))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Error::Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    /// A number in groups of seven bits; `None` at the end.
    pub(super) fn varint_or_end(&mut self) -> Result<Option<u64>, Error> {
        let mut number = 0u64;
        for (at, byte) in self.rest.iter().enumerate() {
            if at == 10 {
                return Err(Error::Malformed);
            }
            number |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[at + 1..];
                return Ok(Some(number));
            }
        }
        if self.rest.is_empty() { Ok(None) } else { Err(Error::Malformed) }
    }
}
