//! Reading octets in network order.
//!
//! Owns the position only. Never reads beyond the end.

use anyhow::{Result, bail};

/// What is left of a run of octets.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(octets: &'a [u8]) -> Self {
        Self(octets)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// The next `count` octets.
    ///
    /// # Errors
    /// There are fewer.
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let Some((taken, rest)) = self.0.split_at_checked(count) else {
            bail!("{count} octets wanted, {} left", self.0.len());
        };
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn octet(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn short(&mut self) -> Result<u16> {
        Ok(u16::from_be_bytes(self.take(2)?.try_into()?))
    }

    pub(super) fn long(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.take(4)?.try_into()?))
    }

    pub(super) fn long_long(&mut self) -> Result<u64> {
        Ok(u64::from_be_bytes(self.take(8)?.try_into()?))
    }

    pub(super) fn short_string(&mut self) -> Result<&'a [u8]> {
        let length = self.octet()?;
        self.take(length.into())
    }

    pub(super) fn long_string(&mut self) -> Result<&'a [u8]> {
        let length = self.long()?;
        self.take(usize::try_from(length)?)
    }
}
