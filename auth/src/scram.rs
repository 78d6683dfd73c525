//! SCRAM-SHA-256, the server's side: RFC 5802 with the hash of RFC 7677, without channel binding.
//!
//! ```text
//! client first   n,,n=user,r=<nonce>
//! server first   r=<nonce><more>,s=<salt>,i=<iterations>
//! client last    c=biws,r=<nonce><more>,p=<proof>
//! server last    v=<signature>
//! ```
//!
//! Owns the stored form of a verifier and the judgement of proofs. A verifier cannot be made of a
//! stored password hash, only of the password itself. Whoever is unknown, or has no verifier, is
//! given a salt that is the same each time and that nobody can tell from a true one.
//!
//! The stored form is `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, base64 each.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use leveret_core::login::scram::{ClientFirst, MESSAGE_BYTES_MAX, Malformed};
use leveret_core::login::{Challenge, Judge};
use rand::CryptoRng;
use sha2::{Digest, Sha256};

use crate::password::{HashError, is_acceptable, same};

/// The method's name, in MQTT and in the stored form.
pub const METHOD: &str = "SCRAM-SHA-256";

/// Iterations of a new verifier: the client runs them at each login, and a small one takes a part
/// of a second for them. RFC 7677 §4 asks for 4,096 at least.
pub const ITERATIONS: u32 = 15_000;

/// The fewest iterations of a stored verifier that is used.
pub const ITERATIONS_MIN: u32 = 4_096;

/// The most: a client should not be kept busy by what somebody has imported.
pub const ITERATIONS_MAX: u32 = 1_000_000;

/// The longest salt of a stored verifier, in bytes.
pub const SALT_BYTES_MAX: usize = 64;

const SALT_BYTES: usize = 16;
const KEY_BYTES: usize = 32;
const BLOCK_BYTES: usize = 64;
/// Random bytes that the server adds to the nonce: in base64 they are 24 letters.
const NONCE_BYTES: usize = 18;

type Key = [u8; KEY_BYTES];

/// What is stored of a password, so that a client can prove that it knows it and the server that it
/// was told. `Debug` shows no key.
#[derive(Clone, Eq, PartialEq)]
pub struct Verifier {
    iterations: u32,
    salt: Box<[u8]>,
    stored_key: Key,
    server_key: Key,
}

impl Verifier {
    /// The verifier of a new password. Takes some milliseconds of CPU: never call it on a thread
    /// that serves connections.
    ///
    /// # Errors
    /// [`HashError::Blank`] and [`HashError::TooLong`].
    pub fn new<R: CryptoRng + ?Sized>(password: &[u8], rng: &mut R) -> Result<Self, HashError> {
        let mut salt = [0; SALT_BYTES];
        rng.fill_bytes(&mut salt);
        Self::with(password, &salt, ITERATIONS)
    }

    /// The verifier of a password with this salt. Passwords are taken as they are: whoever prepares
    /// them otherwise (RFC 4013) gets the same for ASCII.
    ///
    /// # Errors
    /// [`HashError::Blank`] and [`HashError::TooLong`].
    pub fn with(password: &[u8], salt: &[u8], iterations: u32) -> Result<Self, HashError> {
        if password.is_empty() {
            return Err(HashError::Blank);
        }
        if !is_acceptable(password) {
            return Err(HashError::TooLong);
        }
        let mut salted: Key = [0; KEY_BYTES];
        pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, iterations, &mut salted);
        let client_key = sign(&salted, &[b"Client Key"]);
        Ok(Self {
            iterations,
            salt: salt.into(),
            stored_key: Sha256::digest(client_key).into(),
            server_key: sign(&salted, &[b"Server Key"]),
        })
    }

    /// Reads the stored form; nothing if it is empty, damaged or beyond the limits.
    #[must_use]
    pub fn parse(stored: &str) -> Option<Self> {
        let (method, rest) = stored.split_once('$')?;
        let (cost, keys) = rest.split_once('$')?;
        let (iterations, salt) = cost.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        let key = |text: &str| STANDARD.decode(text).ok()?.try_into().ok();
        let iterations = iterations.parse().ok()?;
        let salt = STANDARD.decode(salt).ok()?;
        let fits = (ITERATIONS_MIN..=ITERATIONS_MAX).contains(&iterations)
            && (1..=SALT_BYTES_MAX).contains(&salt.len());
        (method == METHOD && fits).then_some(Self {
            iterations,
            salt: salt.into(),
            stored_key: key(stored_key)?,
            server_key: key(server_key)?,
        })
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [salt, stored, server] =
            [&*self.salt, &self.stored_key, &self.server_key].map(|held| STANDARD.encode(held));
        let iterations = self.iterations;
        write!(f, "{METHOD}${iterations}:{salt}${stored}:{server}")
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verifier({METHOD}, {})", self.iterations)
    }
}

/// Opens exchanges, for all connections of a node.
pub struct Scram {
    /// What salts of nobody are made of: it survives restarts, since true salts do.
    secret: Key,
}

impl Scram {
    /// With the node's secret.
    #[must_use]
    pub fn new(secret: [u8; 32]) -> Self {
        Self { secret }
    }

    /// The server's nonce for one exchange.
    pub fn nonce<R: CryptoRng + ?Sized>(rng: &mut R) -> String {
        let mut bytes = [0; NONCE_BYTES];
        rng.fill_bytes(&mut bytes);
        STANDARD.encode(bytes)
    }

    /// Answers the client's first message. `stored` is the user's verifier, `None` for an unknown
    /// user; `nonce` is printable ASCII without a comma, and new each time.
    ///
    /// # Errors
    /// The message cannot be answered, whoever the user is.
    pub fn open(
        &self,
        user: &str,
        stored: Option<&str>,
        message: &[u8],
        nonce: &str,
    ) -> Result<Challenge, Malformed> {
        let first = ClientFirst::parse(message)?;
        // Made in any case: it takes no less time where there is a true one.
        let nobody = self.of_nobody(user);
        let known = stored.and_then(Verifier::parse);
        if stored.is_some() && known.is_none() {
            tracing::warn!(
                user,
                "this user has no verifier for {METHOD}: set the password anew"
            );
        }
        let is_known = known.is_some();
        let verifier = known.unwrap_or(nobody);
        let nonce = [first.nonce, nonce].concat();
        let salt = STANDARD.encode(&verifier.salt);
        let message = format!("r={nonce},s={salt},i={}", verifier.iterations);
        Ok(Challenge {
            judge: Box::new(Exchange {
                is_known,
                header: STANDARD.encode(first.header),
                opening: format!("{},{message}", first.bare),
                nonce,
                verifier,
            }),
            message: message.into_bytes().into(),
        })
    }

    /// What an unknown user is judged by: nobody has the password.
    fn of_nobody(&self, user: &str) -> Verifier {
        let derive = |what: &[u8]| sign(&self.secret, &[what, user.as_bytes()]);
        Verifier {
            iterations: ITERATIONS,
            salt: derive(b"salt ")[..SALT_BYTES].into(),
            stored_key: derive(b"stored "),
            server_key: derive(b"server "),
        }
    }
}

impl fmt::Debug for Scram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scram").finish_non_exhaustive()
    }
}

/// One exchange, between the server's first message and the client's last.
struct Exchange {
    is_known: bool,
    verifier: Verifier,
    /// What `c=` must be.
    header: String,
    nonce: String,
    /// The first messages of both, as they are signed.
    opening: String,
}

impl Judge for Exchange {
    fn judge(self: Box<Self>, answer: &[u8]) -> Option<Box<[u8]>> {
        let answer = std::str::from_utf8(answer).ok()?;
        if answer.len() > MESSAGE_BYTES_MAX {
            return None;
        }
        let (signed, proof) = answer.rsplit_once(",p=")?;
        let mut attributes = signed.split(',');
        let header = attributes.next()?.strip_prefix("c=")?;
        let nonce = attributes.next()?.strip_prefix("r=")?;
        if header != self.header || nonce != self.nonce {
            return None;
        }
        let proof: Key = STANDARD.decode(proof).ok()?.try_into().ok()?;
        let signed = [self.opening.as_bytes(), b",", signed.as_bytes()];
        let Verifier {
            stored_key,
            server_key,
            ..
        } = &self.verifier;
        let mut client_key = sign(stored_key, &signed);
        for (byte, of_proof) in client_key.iter_mut().zip(proof) {
            *byte ^= of_proof;
        }
        let proved = same(&Sha256::digest(client_key), stored_key);
        let signature = sign(server_key, &signed);
        (proved && self.is_known).then(|| {
            format!("v={}", STANDARD.encode(signature))
                .into_bytes()
                .into()
        })
    }
}

/// HMAC-SHA-256 of the parts, one after the other.
fn sign(key: &Key, parts: &[&[u8]]) -> Key {
    // RFC 2104: a key that is shorter than a block of the hash is one with zeros behind it.
    let mut block = [0; BLOCK_BYTES];
    block[..KEY_BYTES].copy_from_slice(key);
    let mut mac = Hmac::<Sha256>::new(&block.into());
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    const SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";
    const MORE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const CLIENT_FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                                s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const CLIENT_LAST: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                               p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    const SERVER_LAST: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    fn verifier(password: &str) -> Verifier {
        let salt = STANDARD.decode(SALT).expect("is base64");
        Verifier::with(password.as_bytes(), &salt, 4_096).expect("a password")
    }

    fn open(stored: Option<&str>) -> Challenge {
        let scram = Scram::new([7; 32]);
        let challenge = scram.open("user", stored, CLIENT_FIRST, MORE);
        challenge.expect("is legal")
    }

    fn judged(stored: Option<&str>, answer: &str) -> Option<String> {
        let proof = open(stored).judge.judge(answer.as_bytes())?;
        Some(String::from_utf8(proof.into()).expect("is text"))
    }

    /// The exchange of RFC 7677 §3.
    #[test]
    fn m13_rfc_7677_s_exchange() {
        let stored = verifier("pencil").to_string();
        let challenge = open(Some(&stored));
        assert_eq!(&*challenge.message, SERVER_FIRST.as_bytes());
        let proof = judged(Some(&stored), CLIENT_LAST);
        assert_eq!(proof.as_deref(), Some(SERVER_LAST));
    }

    #[test]
    fn m13_a_proof_that_is_not_right_proves_nothing() {
        let stored = verifier("pencil").to_string();
        let other = verifier("pencils").to_string();
        assert_eq!(judged(Some(&other), CLIENT_LAST), None, "another password");
        assert_eq!(judged(Some(""), CLIENT_LAST), None, "no verifier");
        assert_eq!(judged(None, CLIENT_LAST), None, "nobody");
        for (what, with) in [
            ("c=biws", "c=eSws"),
            ("c=biws", "c=biws,x=y"),
            ("c=biws", "c="),
            ("c=biws,", ""),
            ("r=rOpr", "r=qOpr"),
            ("k0,p", "k1,p"),
            ("p=dHzb", "p=eHzb"),
            ("p=dHzb", "p=dHz"),
            (",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", ""),
            ("p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", "p="),
        ] {
            let answer = CLIENT_LAST.replace(what, with);
            assert_ne!(answer, CLIENT_LAST, "{what}");
            assert_eq!(judged(Some(&stored), &answer), None, "{what} -> {with}");
        }
        let nothing = open(Some(&stored)).judge.judge(b"\xff");
        assert!(nothing.is_none());
        let long = format!("c=biws,r=x,{}", "x".repeat(MESSAGE_BYTES_MAX));
        assert!(open(Some(&stored)).judge.judge(long.as_bytes()).is_none());
    }

    /// FEATURES P10: nobody learns which users there are.
    #[test]
    fn m13_nobody_looks_like_somebody() {
        let scram = Scram::new([7; 32]);
        let answer = |scram: &Scram, user: &str, stored: Option<&str>| {
            let challenge = scram.open(user, stored, CLIENT_FIRST, MORE);
            let message = challenge.expect("is legal").message;
            String::from_utf8(message.into()).expect("is text")
        };
        let mut rng = StdRng::seed_from_u64(3);
        let real = Verifier::new(b"secret", &mut rng).expect("a password");
        let real = answer(&scram, "real", Some(&real.to_string()));
        let nobody = answer(&scram, "nobody", None);
        let shape = |text: &str| {
            let salt = text
                .split(",s=")
                .nth(1)
                .and_then(|rest| rest.split(',').next());
            let salt = STANDARD.decode(salt.expect("a salt")).expect("is base64");
            let cost = text.split(",i=").nth(1).map(str::to_owned);
            (text.len(), salt.len(), cost)
        };
        assert_eq!(shape(&real), shape(&nobody));
        assert_eq!(nobody, answer(&scram, "nobody", None), "each time");
        assert_eq!(
            nobody,
            answer(&scram, "nobody", Some("")),
            "has no verifier"
        );
        assert_ne!(nobody, answer(&scram, "nobodx", None), "of each user");
        assert_ne!(
            nobody,
            answer(&Scram::new([8; 32]), "nobody", None),
            "of each node"
        );
    }

    #[test]
    fn m13_verifiers_are_read_as_they_were_written() {
        let made = verifier("pencil");
        let stored = made.to_string();
        assert_eq!(Verifier::parse(&stored), Some(made));
        for (what, with) in [
            ("SCRAM-SHA-256", "SCRAM-SHA-1"),
            ("4096", "4095"),
            ("4096", "1000001"),
            ("4096", "-1"),
            (SALT, ""),
            (SALT, "W22"),
            ("$", ":"),
        ] {
            let damaged = stored.replace(what, with);
            assert_ne!(damaged, stored);
            assert_eq!(Verifier::parse(&damaged), None, "{what} -> {with}");
        }
        assert_eq!(Verifier::parse(&stored[..stored.len() - 4]), None);
        let long = STANDARD.encode([1; SALT_BYTES_MAX + 1]);
        assert_eq!(Verifier::parse(&stored.replace(SALT, &long)), None);
        assert!(!format!("{:?}", verifier("pencil")).contains('='));
    }

    #[test]
    fn m13_passwords_that_nobody_may_have_have_no_verifier() {
        let mut rng = StdRng::seed_from_u64(3);
        assert_eq!(Verifier::new(b"", &mut rng), Err(HashError::Blank));
        let long = vec![b'x'; crate::password::PASSWORD_BYTES_MAX + 1];
        assert_eq!(Verifier::new(&long, &mut rng), Err(HashError::TooLong));
        assert_ne!(Scram::nonce(&mut rng), Scram::nonce(&mut rng));
        assert_eq!(Scram::nonce(&mut rng).len(), 24);
    }
}
