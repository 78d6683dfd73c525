//! Stored password hashes: RabbitMQ's salted SHA-256 and SHA-512, and argon2id for new passwords.
//!
//! Owns the stored form and its verification. It must never keep a password, log one, or make one
//! hash from another. RabbitMQ's legacy MD5 is not accepted: such a user needs a new password.
//!
//! The stored form is one string without line breaks:
//!
//! ```text
//! $argon2id$v=19$m=19456,t=2,p=1$<salt, base64>$<output, base64>      a PHC string
//! rabbit_password_hashing_sha256:<base64 of salt (4 bytes) ‖ SHA-256(salt ‖ password)>
//! rabbit_password_hashing_sha512:<base64 of salt (4 bytes) ‖ SHA-512(salt ‖ password)>
//! ```

use std::fmt;

use argon2::password_hash::phc::{self, Output, ParamsString, Salt};
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use leveret_core::user::StoredPassword;
use rand::CryptoRng;
use sha2::{Digest, Sha256, Sha512};

use crate::scram::Verifier;

/// The longest password that is hashed or verified, in bytes: bounds what one login can cost.
pub const PASSWORD_BYTES_MAX: usize = 4_096;

/// The longest stored form that is parsed, in bytes: a PHC string has at most 255 or so.
pub const STORED_BYTES_MAX: usize = 512;

/// The most memory that a stored argon2id hash may ask for, in KiB. Hashes can be imported, and
/// an import must not make every login take gigabytes.
pub const ARGON2_MEMORY_KIB_MAX: u32 = 64 * 1_024;

/// The most passes that a stored argon2id hash may ask for.
pub const ARGON2_PASSES_MAX: u32 = 16;

/// The most lanes that a stored argon2id hash may ask for.
pub const ARGON2_LANES_MAX: u32 = 16;

/// How a password was hashed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Hashing {
    /// argon2id with the parameters in the hash; new hashes take 19 MiB, two passes, one lane.
    Argon2id,
    /// RabbitMQ's default: one round of SHA-256 over a salt of 4 bytes and the password.
    RabbitSha256,
    /// The same with SHA-512.
    RabbitSha512,
}

impl Hashing {
    /// The name used in stored hashes, in definitions and for `password_hashing_module`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Argon2id => "argon2id",
            Self::RabbitSha256 => "rabbit_password_hashing_sha256",
            Self::RabbitSha512 => "rabbit_password_hashing_sha512",
        }
    }

    /// The hashing with that name.
    ///
    /// # Errors
    /// [`HashError::Md5`] for RabbitMQ's legacy hashing, [`HashError::UnknownHashing`] otherwise.
    pub fn from_name(name: &str) -> Result<Self, HashError> {
        match name {
            "argon2id" => Ok(Self::Argon2id),
            "rabbit_password_hashing_sha256" => Ok(Self::RabbitSha256),
            "rabbit_password_hashing_sha512" => Ok(Self::RabbitSha512),
            "rabbit_password_hashing_md5" => Err(HashError::Md5),
            _ => Err(HashError::UnknownHashing),
        }
    }
}

/// Why there is no hash: the stored form cannot be read, or the password cannot be hashed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum HashError {
    /// The stored form is empty: a user without a password, who cannot log in with one.
    #[error("the password hash is empty")]
    Empty,
    /// The stored form is longer than [`STORED_BYTES_MAX`].
    #[error("the password hash is longer than {STORED_BYTES_MAX} bytes")]
    StoredTooLong,
    /// RabbitMQ's MD5, which is not accepted.
    #[error("rabbit_password_hashing_md5 is not accepted: set a new password")]
    Md5,
    /// No hashing has this name.
    #[error(
        "unknown password hashing: use argon2id, rabbit_password_hashing_sha256 or \
         rabbit_password_hashing_sha512"
    )]
    UnknownHashing,
    /// The part after a RabbitMQ name is not base64.
    #[error("the password hash is not base64")]
    NotBase64,
    /// The decoded bytes are not a salt and a digest of that hashing.
    #[error("the password hash has {actual} bytes where {expected} are needed")]
    WrongLength {
        /// Bytes of salt and digest.
        expected: usize,
        /// Bytes found.
        actual: usize,
    },
    /// Not a PHC string of argon2id with salt and output, or with parameters above the limits.
    #[error("the argon2id hash is not usable: {0}")]
    Argon2(String),
    /// A blank password is never hashed.
    #[error("the password is blank")]
    Blank,
    /// The password is longer than [`PASSWORD_BYTES_MAX`].
    #[error("the password is longer than {PASSWORD_BYTES_MAX} bytes")]
    TooLong,
}

/// A password's hash, legal by construction. `Display` writes the stored form, [`Self::parse`]
/// reads it. `Debug` shows the hashing only, so that no hash gets into a log by accident.
#[derive(Clone, PartialEq)]
pub struct PasswordHash(Form);

#[derive(Clone, PartialEq)]
enum Form {
    /// Boxed: it is eight times the size of the others.
    Argon2id(Box<phc::PasswordHash>),
    Rabbit {
        hashing: RabbitHashing,
        /// Salt, then digest.
        bytes: Box<[u8]>,
    },
}

#[derive(Clone, Copy, PartialEq)]
enum RabbitHashing {
    Sha256,
    Sha512,
}

impl RabbitHashing {
    const fn digest_bytes(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// Salt, then the digest of salt and password.
    fn salted(self, salt: [u8; RABBIT_SALT_BYTES], password: &[u8]) -> Box<[u8]> {
        let mut bytes = salt.to_vec();
        match self {
            Self::Sha256 => {
                bytes.extend_from_slice(
                    &Sha256::new()
                        .chain_update(salt)
                        .chain_update(password)
                        .finalize(),
                );
            }
            Self::Sha512 => {
                bytes.extend_from_slice(
                    &Sha512::new()
                        .chain_update(salt)
                        .chain_update(password)
                        .finalize(),
                );
            }
        }
        bytes.into_boxed_slice()
    }
}

impl PasswordHash {
    /// Reads a stored form.
    ///
    /// # Errors
    /// Every variant of [`HashError`] but [`HashError::Blank`] and [`HashError::TooLong`].
    pub fn parse(stored: &str) -> Result<Self, HashError> {
        if stored.is_empty() {
            return Err(HashError::Empty);
        }
        if stored.len() > STORED_BYTES_MAX {
            return Err(HashError::StoredTooLong);
        }
        if stored.starts_with('$') {
            return parse_phc(stored);
        }
        let (name, hash) = stored.split_once(':').ok_or(HashError::UnknownHashing)?;
        Self::from_parts(Hashing::from_name(name)?, hash)
    }

    /// Makes a hash of the two fields of a RabbitMQ definitions file: `hashing_algorithm` and
    /// `password_hash` (base64, or a PHC string for argon2id).
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn from_parts(hashing: Hashing, hash: &str) -> Result<Self, HashError> {
        if hash.is_empty() {
            return Err(HashError::Empty);
        }
        if hash.len() > STORED_BYTES_MAX {
            return Err(HashError::StoredTooLong);
        }
        let hashing = match hashing {
            Hashing::Argon2id => return parse_phc(hash),
            Hashing::RabbitSha256 => RabbitHashing::Sha256,
            Hashing::RabbitSha512 => RabbitHashing::Sha512,
        };
        let bytes = STANDARD.decode(hash).map_err(|_| HashError::NotBase64)?;
        let expected = RABBIT_SALT_BYTES + hashing.digest_bytes();
        if bytes.len() != expected {
            return Err(HashError::WrongLength {
                expected,
                actual: bytes.len(),
            });
        }
        Ok(Self(Form::Rabbit {
            hashing,
            bytes: bytes.into_boxed_slice(),
        }))
    }

    /// How the password was hashed: `hashing_algorithm` of a definitions file.
    pub fn hashing(&self) -> Hashing {
        match &self.0 {
            Form::Argon2id(_) => Hashing::Argon2id,
            Form::Rabbit {
                hashing: RabbitHashing::Sha256,
                ..
            } => Hashing::RabbitSha256,
            Form::Rabbit {
                hashing: RabbitHashing::Sha512,
                ..
            } => Hashing::RabbitSha512,
        }
    }

    /// The hash without its hashing's name: `password_hash` of a definitions file.
    pub fn hash_text(&self) -> String {
        match &self.0 {
            Form::Argon2id(hash) => hash.to_string(),
            Form::Rabbit { bytes, .. } => STANDARD.encode(bytes),
        }
    }

    /// Whether [`verify`] takes microseconds, so that it may run where it must not block.
    pub(crate) fn is_quick(&self) -> bool {
        matches!(self.0, Form::Rabbit { .. })
    }

    /// A hash that costs what a new one costs and that no password has: salt and output are
    /// random. `None` only if the limits of argon2 and of this file contradict each other.
    pub(crate) fn of_nobody<R: CryptoRng + ?Sized>(rng: &mut R) -> Option<Self> {
        let mut salt = [0; ARGON2_SALT_BYTES];
        let mut output = [0; Params::DEFAULT_OUTPUT_LEN];
        rng.fill_bytes(&mut salt);
        rng.fill_bytes(&mut output);
        let hash = phc::PasswordHash {
            algorithm: Algorithm::Argon2id.ident(),
            version: Some(Version::V0x13.into()),
            params: ParamsString::try_from(&ARGON2_PARAMS).ok()?,
            salt: Some(Salt::new(&salt).ok()?),
            hash: Some(Output::new(&output).ok()?),
        };
        Some(Self(Form::Argon2id(Box::new(hash))))
    }
}

impl fmt::Display for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Form::Argon2id(hash) => hash.fmt(f),
            Form::Rabbit { bytes, .. } => {
                write!(f, "{}:{}", self.hashing().name(), STANDARD.encode(bytes))
            }
        }
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PasswordHash({})", self.hashing().name())
    }
}

impl std::str::FromStr for PasswordHash {
    type Err = HashError;

    fn from_str(stored: &str) -> Result<Self, HashError> {
        Self::parse(stored)
    }
}

/// Hashes a new password with a salt from `rng`. With [`Hashing::Argon2id`] (the one to use) it
/// takes some 20 ms of CPU and 19 MiB: never call it on a thread that serves connections.
///
/// # Errors
/// [`HashError::Blank`], [`HashError::TooLong`], and [`HashError::Argon2`] if memory is short.
pub fn hash_new<R: CryptoRng + ?Sized>(
    hashing: Hashing,
    password: &[u8],
    rng: &mut R,
) -> Result<PasswordHash, HashError> {
    if password.is_empty() {
        return Err(HashError::Blank);
    }
    if password.len() > PASSWORD_BYTES_MAX {
        return Err(HashError::TooLong);
    }
    let hashing = match hashing {
        Hashing::Argon2id => {
            let mut salt = [0; ARGON2_SALT_BYTES];
            rng.fill_bytes(&mut salt);
            let hash: phc::PasswordHash = argon2id()
                .hash_password_with_salt(password, &salt)
                .map_err(|error| HashError::Argon2(error.to_string()))?;
            return Ok(PasswordHash(Form::Argon2id(Box::new(hash))));
        }
        Hashing::RabbitSha256 => RabbitHashing::Sha256,
        Hashing::RabbitSha512 => RabbitHashing::Sha512,
    };
    let mut salt = [0; RABBIT_SALT_BYTES];
    rng.fill_bytes(&mut salt);
    let bytes = hashing.salted(salt, password);
    Ok(PasswordHash(Form::Rabbit { hashing, bytes }))
}

/// What is stored of a new password: its argon2id hash, and the verifier of SCRAM. As slow as
/// [`hash_new`].
///
/// # Errors
/// As [`hash_new`].
pub fn store<R: CryptoRng + ?Sized>(
    password: &[u8],
    rng: &mut R,
) -> Result<StoredPassword, HashError> {
    Ok(StoredPassword {
        hash: hash_new(Hashing::Argon2id, password, rng)?
            .to_string()
            .into(),
        scram: Verifier::new(password, rng)?.to_string().into(),
    })
}

/// Whether `password` is the one that was hashed; the comparison takes the same time wherever the
/// hashes differ. Blank passwords and those above [`PASSWORD_BYTES_MAX`] never verify. Takes
/// microseconds for RabbitMQ's hashes, some 20 ms for argon2id.
pub fn verify(hash: &PasswordHash, password: &[u8]) -> bool {
    if !is_acceptable(password) {
        return false;
    }
    match &hash.0 {
        Form::Argon2id(hash) => argon2id().verify_password(password, hash.as_ref()).is_ok(),
        Form::Rabbit { hashing, bytes } => match bytes.first_chunk() {
            Some(salt) => same(&hashing.salted(*salt, password), bytes),
            None => false,
        },
    }
}

/// Whether a password can verify at all, whoever's it is.
pub(crate) fn is_acceptable(password: &[u8]) -> bool {
    (1..=PASSWORD_BYTES_MAX).contains(&password.len())
}

/// Equality in a time that depends on the lengths only.
pub(crate) fn same(left: &[u8], right: &[u8]) -> bool {
    if left.len() != right.len() {
        return false;
    }
    let difference = left.iter().zip(right).fold(0, |sum, (l, r)| sum | (l ^ r));
    // Opaque to the optimiser, which might otherwise leave the loop early.
    std::hint::black_box(difference) == 0u8
}

fn argon2id() -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, ARGON2_PARAMS)
}

fn parse_phc(stored: &str) -> Result<PasswordHash, HashError> {
    let bad = |why: &dyn fmt::Display| HashError::Argon2(why.to_string());
    let hash = phc::PasswordHash::new(stored).map_err(|error| bad(&error))?;
    if hash.algorithm != Algorithm::Argon2id.ident() {
        return Err(HashError::UnknownHashing);
    }
    if hash.salt.is_none() || hash.hash.is_none() {
        return Err(bad(&"salt or output is missing"));
    }
    if hash
        .version
        .is_some_and(|version| Version::try_from(version).is_err())
    {
        return Err(bad(&"unknown version"));
    }
    let params = Params::try_from(&hash).map_err(|error| bad(&error))?;
    if params.m_cost() > ARGON2_MEMORY_KIB_MAX
        || params.t_cost() > ARGON2_PASSES_MAX
        || params.p_cost() > ARGON2_LANES_MAX
    {
        return Err(bad(&"parameters above the limits"));
    }
    Ok(PasswordHash(Form::Argon2id(Box::new(hash))))
}

/// RabbitMQ's salt, in bytes.
const RABBIT_SALT_BYTES: usize = 4;

/// The salt length that RFC 9106 §3.1 recommends, in bytes.
const ARGON2_SALT_BYTES: usize = 16;

/// What OWASP's Password Storage Cheat Sheet asks for at least: m=19456 KiB, t=2, p=1. They are
/// also the crate's defaults; the assertions keep it so.
const ARGON2_PARAMS: Params = Params::DEFAULT;

const _: () = {
    assert!(ARGON2_PARAMS.m_cost() == 19_456);
    assert!(ARGON2_PARAMS.t_cost() == 2);
    assert!(ARGON2_PARAMS.p_cost() == 1);
    assert!(ARGON2_PARAMS.m_cost() <= ARGON2_MEMORY_KIB_MAX);
};

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    const SHA256: &str = "rabbit_password_hashing_sha256:\
        kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR";
    const SHA512: &str = "rabbit_password_hashing_sha512:\
        kI3GChuNuIYf8lRbCCxZjgjKwsY19ns6+uFO0zcXRBGA/XGJPYD8OWMy7EB8\
        TaOmAzjP2azv84GbINYwX2cDWb4DHnc=";
    /// What the reference implementation prints for
    /// `printf password | argon2 somesalt -id -t 2 -m 8 -p 1`.
    const ARGON2ID: &str = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ\
        $nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";

    #[test]
    fn stored_forms_verify_and_survive_parsing() {
        let table: &[(&str, Hashing, &str)] = &[
            // The example of RabbitMQ's passwords guide: salt 908D C60A, password test12.
            (SHA256, Hashing::RabbitSha256, "test12"),
            (SHA512, Hashing::RabbitSha512, "test12"),
            (ARGON2ID, Hashing::Argon2id, "password"),
        ];
        for (stored, hashing, password) in table {
            let hash = PasswordHash::parse(stored).expect(stored);
            assert_eq!(hash.hashing(), *hashing, "{stored}");
            assert_eq!(hash.to_string(), *stored);
            assert!(verify(&hash, password.as_bytes()), "{stored}");
            for wrong in [
                "",
                " ",
                "Test12",
                "test1",
                "test123",
                "passwor",
                "password\0",
            ] {
                assert!(!verify(&hash, wrong.as_bytes()), "{stored} {wrong}");
            }
            let again = PasswordHash::from_parts(*hashing, &hash.hash_text()).expect(stored);
            assert_eq!(again.to_string(), *stored);
            assert!(!format!("{hash:?}").contains(&hash.hash_text()), "{stored}");
        }
    }

    #[test]
    fn refused_forms() {
        let long = format!(
            "rabbit_password_hashing_sha256:{}",
            "A".repeat(STORED_BYTES_MAX)
        );
        let table: &[(&str, HashError)] = &[
            ("", HashError::Empty),
            ("rabbit_password_hashing_sha256:", HashError::Empty),
            (&long, HashError::StoredTooLong),
            ("rabbit_password_hashing_md5:AAAA", HashError::Md5),
            ("kI3GCqW5JLMJa4iX1lo7X4D6", HashError::UnknownHashing),
            ("bcrypt:AAAA", HashError::UnknownHashing),
            ("rabbit_password_hashing_sha256:****", HashError::NotBase64),
            (
                "rabbit_password_hashing_sha256:kI3GCqW5",
                HashError::WrongLength {
                    expected: 36,
                    actual: 6,
                },
            ),
            (
                &SHA256.replace("sha256", "sha512"),
                HashError::WrongLength {
                    expected: 68,
                    actual: 36,
                },
            ),
            (
                &ARGON2ID.replace("argon2id", "argon2i"),
                HashError::UnknownHashing,
            ),
        ];
        for (stored, error) in table {
            assert_eq!(
                PasswordHash::parse(stored).err().as_ref(),
                Some(error),
                "{stored}"
            );
        }
    }

    #[test]
    fn refused_argon2id_forms() {
        for (from, to) in [
            ("m=256", "m=1000000"),
            ("t=2", "t=1000"),
            ("p=1", "p=100"),
            ("v=19", "v=20"),
            ("$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", ""),
            ("m=256,", "m=256,x=1,"),
            ("m=256", "m=-1"),
        ] {
            let stored = ARGON2ID.replace(from, to);
            let error = PasswordHash::parse(&stored).expect_err(&stored);
            assert!(matches!(error, HashError::Argon2(_)), "{stored}: {error}");
        }
    }

    #[test]
    fn new_hashes_verify() {
        let mut rng = StdRng::seed_from_u64(1);
        for hashing in [
            Hashing::Argon2id,
            Hashing::RabbitSha256,
            Hashing::RabbitSha512,
        ] {
            let hash = hash_new(hashing, b"hunter2", &mut rng).expect("hashes");
            let other = hash_new(hashing, b"hunter2", &mut rng).expect("hashes");
            assert_eq!(hash.hashing(), hashing);
            assert_ne!(hash.to_string(), other.to_string(), "salts differ");
            let parsed = PasswordHash::parse(&hash.to_string()).expect("parses");
            assert!(verify(&parsed, b"hunter2") && !verify(&parsed, b"hunter3"));
            assert_eq!(Hashing::from_name(hashing.name()), Ok(hashing));
        }
    }

    #[test]
    fn bounds() {
        let mut rng = StdRng::seed_from_u64(2);
        let longest = vec![b'x'; PASSWORD_BYTES_MAX];
        let longer = vec![b'x'; PASSWORD_BYTES_MAX + 1];
        let hash = hash_new(Hashing::RabbitSha256, &longest, &mut rng).expect("hashes");
        assert!(verify(&hash, &longest));
        assert!(!verify(&hash, &longer));
        for hashing in [Hashing::Argon2id, Hashing::RabbitSha256] {
            assert_eq!(hash_new(hashing, b"", &mut rng), Err(HashError::Blank));
            assert_eq!(
                hash_new(hashing, &longer, &mut rng),
                Err(HashError::TooLong)
            );
        }
        // A hash of the blank password itself does not verify either.
        let blank = PasswordHash(Form::Rabbit {
            hashing: RabbitHashing::Sha256,
            bytes: RabbitHashing::Sha256.salted([1; 4], b""),
        });
        assert!(!verify(&blank, b""));
    }

    #[test]
    fn nobody_has_the_password_and_the_usual_cost() {
        let nobody = PasswordHash::of_nobody(&mut StdRng::seed_from_u64(3)).expect("legal");
        assert!(
            nobody
                .to_string()
                .starts_with("$argon2id$v=19$m=19456,t=2,p=1$")
        );
        assert_eq!(
            PasswordHash::parse(&nobody.to_string()).as_ref(),
            Ok(&nobody)
        );
        assert!(!verify(&nobody, b"guest"));
    }
}
