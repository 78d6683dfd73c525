//! The client's first message of SCRAM, as far as it says who the client is. RFC 5802 §7.
//!
//! ```text
//! n,,n=vhost:user,r=nonce       n: no channel binding; y: would have, and knows of none here
//! └┬┘└────────┬────────┘
//! header     bare
//! ```
//!
//! Owns the grammar of that message; must never know a key or a password.

use std::borrow::Cow;

/// The longest message of an exchange, in bytes: a name, a nonce and a proof.
pub const MESSAGE_BYTES_MAX: usize = 2_048;

/// Why a message cannot be answered. None of it says anything about a user.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Malformed {
    /// `p=`: the client wants it bound to a channel of TLS.
    #[error("channel binding is not served")]
    ChannelBinding,
    /// It does not keep to the grammar, or is too long.
    #[error("the authentication data is no message of SCRAM")]
    Grammar,
    /// `m=`: an extension that the server must know.
    #[error("the authentication data asks for an extension that is not served")]
    Extension,
    /// `a=`: the client wants to act as somebody else.
    #[error("an authorization identity is not served")]
    OtherIdentity,
}

/// The client's first message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientFirst<'a> {
    /// What the client's last message repeats.
    pub header: &'a str,
    /// What is behind the header: it is signed.
    pub bare: &'a str,
    /// The user name, `vhost:user` perhaps.
    pub name: Cow<'a, str>,
    /// The client's nonce.
    pub nonce: &'a str,
}

impl<'a> ClientFirst<'a> {
    /// Reads the message.
    ///
    /// # Errors
    /// Every variant of [`Malformed`].
    pub fn parse(message: &'a [u8]) -> Result<Self, Malformed> {
        let text = std::str::from_utf8(message).map_err(|_| Malformed::Grammar)?;
        if text.len() > MESSAGE_BYTES_MAX || text.contains('\0') {
            return Err(Malformed::Grammar);
        }
        let (flag, rest) = text.split_once(',').ok_or(Malformed::Grammar)?;
        let (identity, bare) = rest.split_once(',').ok_or(Malformed::Grammar)?;
        match flag {
            "n" | "y" => {}
            _ if flag.starts_with("p=") => return Err(Malformed::ChannelBinding),
            _ => return Err(Malformed::Grammar),
        }
        let mut attributes = bare.split(',');
        let first = attributes.next().unwrap_or_default();
        if first.starts_with("m=") {
            return Err(Malformed::Extension);
        }
        let name = first.strip_prefix("n=").ok_or(Malformed::Grammar)?;
        let nonce = attributes.next().and_then(|held| held.strip_prefix("r="));
        let nonce = nonce.filter(|nonce| is_nonce(nonce));
        let header = &text[..text.len() - bare.len()];
        let first = Self {
            header,
            bare,
            name: unescape(name)?,
            nonce: nonce.ok_or(Malformed::Grammar)?,
        };
        match identity.strip_prefix("a=") {
            None if identity.is_empty() => Ok(first),
            Some(acts_as) if unescape(acts_as)? == first.name => Ok(first),
            Some(_) => Err(Malformed::OtherIdentity),
            None => Err(Malformed::Grammar),
        }
    }
}

/// Printable ASCII without a comma; commas were split at.
fn is_nonce(nonce: &str) -> bool {
    !nonce.is_empty() && nonce.bytes().all(|byte| (0x21..=0x7e).contains(&byte))
}

/// A `saslname`: `=2C` is a comma, `=3D` an equals sign, and there is no other.
fn unescape(name: &str) -> Result<Cow<'_, str>, Malformed> {
    if name.is_empty() {
        return Err(Malformed::Grammar);
    }
    if !name.contains('=') {
        return Ok(name.into());
    }
    let mut parts = name.split('=');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (letter, rest) = match part {
            _ if part.starts_with("2C") => (',', &part[2..]),
            _ if part.starts_with("3D") => ('=', &part[2..]),
            _ => return Err(Malformed::Grammar),
        };
        out.push(letter);
        out.push_str(rest);
    }
    Ok(out.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m13_scram_says_who_the_client_is() {
        let name = |message: &str| {
            let first = ClientFirst::parse(message.as_bytes());
            first.map(|first| first.name.into_owned())
        };
        let table: &[(&str, Result<&str, Malformed>)] = &[
            ("n,,n=user,r=abc", Ok("user")),
            ("y,,n=user,r=abc", Ok("user")),
            ("n,,n=blue:user,r=abc", Ok("blue:user")),
            ("n,,n=a=2Cb=3Dc,r=abc", Ok("a,b=c")),
            ("n,,n==3D=2C,r=abc", Ok("=,")),
            ("n,,n=dé,r=abc", Ok("dé")),
            ("n,,n=user,r=abc,x=more", Ok("user")),
            ("n,a=user,n=user,r=abc", Ok("user")),
            ("n,a=x=2C,n=x=2C,r=abc", Ok("x,")),
            ("n,a=root,n=user,r=abc", Err(Malformed::OtherIdentity)),
            ("p=tls-unique,,n=user,r=abc", Err(Malformed::ChannelBinding)),
            ("n,,m=x,n=user,r=abc", Err(Malformed::Extension)),
            ("", Err(Malformed::Grammar)),
            ("n", Err(Malformed::Grammar)),
            ("n,,", Err(Malformed::Grammar)),
            ("n,x,n=user,r=abc", Err(Malformed::Grammar)),
            ("x,,n=user,r=abc", Err(Malformed::Grammar)),
            ("n,,n=,r=abc", Err(Malformed::Grammar)),
            ("n,,n=user", Err(Malformed::Grammar)),
            ("n,,n=user,r=", Err(Malformed::Grammar)),
            ("n,,n=user,r=a b", Err(Malformed::Grammar)),
            ("n,,n=user,r=é", Err(Malformed::Grammar)),
            ("n,,r=abc,n=user", Err(Malformed::Grammar)),
            ("n,,n=a=2c,r=abc", Err(Malformed::Grammar)),
            ("n,,n=a=,r=abc", Err(Malformed::Grammar)),
            ("n,,n=a=é,r=abc", Err(Malformed::Grammar)),
            ("n,,n=a\0,r=abc", Err(Malformed::Grammar)),
        ];
        for (message, expected) in table {
            assert_eq!(name(message), expected.map(str::to_owned), "{message:?}");
        }
        assert_eq!(
            ClientFirst::parse(b"n,,n=\xff,r=abc"),
            Err(Malformed::Grammar)
        );
        let long = format!("n,,n=user,r={}", "x".repeat(MESSAGE_BYTES_MAX));
        assert_eq!(ClientFirst::parse(long.as_bytes()), Err(Malformed::Grammar));
    }

    #[test]
    fn m13_scram_keeps_what_is_signed() {
        let first = ClientFirst::parse(b"n,a=user,n=user,r=abc,x=y").expect("is legal");
        assert_eq!(
            (first.header, first.bare, first.nonce),
            ("n,a=user,", "n=user,r=abc,x=y", "abc")
        );
    }
}
