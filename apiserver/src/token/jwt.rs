//! Signed text in the compact form of RFC 7515 (JWS), by ES256 (RFC 7518, section 3.4) and nothing else.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::KeyPair as NewKey;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Tokens that are longer are not looked at. Ours have some 1100 bytes; names can make them three times as long.
const LONGEST: usize = 16 << 10;

const ALGORITHM: &str = "ES256";

/// What can go wrong with a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text holds no such key.
    #[error("it holds no private key of the curve P-256 in PKCS #8 ({0})")]
    NoKey(String),
    /// The system did not give what is needed to make or use one.
    #[error("cannot sign: {0}")]
    Sign(String),
}

/// The head of a token.
#[derive(Serialize, Deserialize)]
struct Head {
    alg: String,
    #[serde(default)]
    kid: String,
}

/// A key that signs, and knows what it signed.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    head: String,
    random: SystemRandom,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").finish_non_exhaustive()
    }
}

impl SigningKey {
    /// The text (PEM) of a new key.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn new_pem() -> Result<String, Error> {
        NewKey::generate().map(|key| key.serialize_pem()).map_err(|error| Error::Sign(error.to_string()))
    }

    /// A new key in memory only.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn generate() -> Result<Self, Error> {
        Self::from_pem(&Self::new_pem()?)
    }

    /// Reads a key (PEM, PKCS #8).
    ///
    /// # Errors
    /// [`Error::NoKey`].
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        let der =
            PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes()).map_err(|error| Error::NoKey(error.to_string()))?;
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der(), &random)
            .map_err(|error| Error::NoKey(error.to_string()))?;
        let kid = URL_SAFE_NO_PAD.encode(Sha256::digest(pair.public_key()));
        let head = serde_json::to_vec(&Head { alg: ALGORITHM.to_owned(), kid })
            .map_err(|error| Error::Sign(error.to_string()))?;
        Ok(Self { pair, head: URL_SAFE_NO_PAD.encode(head), random })
    }

    /// The text, signed.
    pub(super) fn sign(&self, text: &[u8]) -> Result<String, Error> {
        let signed = format!("{}.{}", self.head, URL_SAFE_NO_PAD.encode(text));
        let signature = self.pair.sign(&self.random, signed.as_bytes());
        let signature = signature.map_err(|_| Error::Sign("the system has no randomness".to_owned()))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// The text that was signed; `None` if this key did not do it. Whatever the head says, the algorithm is the key's.
    pub(super) fn verify(&self, token: &str) -> Option<Vec<u8>> {
        if token.len() > LONGEST {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (head, text) = signed.split_once('.')?;
        let head: Head = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(head).ok()?).ok()?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.pair.public_key());
        if head.alg != ALGORITHM || key.verify(signed.as_bytes(), &signature).is_err() {
            return None;
        }
        URL_SAFE_NO_PAD.decode(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_signed_comes_back_also_by_a_key_that_was_kept() {
        let pem = SigningKey::new_pem().unwrap();
        let (first, again) = (SigningKey::from_pem(&pem).unwrap(), SigningKey::from_pem(&pem).unwrap());
        for text in [&b""[..], b"{}", &[0; 4000]] {
            assert_eq!(again.verify(&first.sign(text).unwrap()).as_deref(), Some(text));
        }
        let token = first.sign(b"x").unwrap();
        assert_eq!(SigningKey::generate().unwrap().verify(&token), None, "another key");
        assert!(matches!(SigningKey::from_pem("no key"), Err(Error::NoKey(_))));
        assert!(!format!("{first:?}").contains("pair"));
    }

    #[test]
    fn no_byte_of_a_token_can_be_another() {
        let key = SigningKey::generate().unwrap();
        let token = key.sign(b"{\"sub\":\"a\"}").unwrap();
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(key.verify(&String::from_utf8(bytes).unwrap()), None, "byte {at}");
        }
        for end in 0..token.len() {
            assert_eq!(key.verify(&token[..end]), None, "cut at {end}");
        }
        assert_eq!(key.verify(&format!("{token}A")), None);
    }

    #[test]
    fn the_head_chooses_no_algorithm() {
        let key = SigningKey::generate().unwrap();
        let token = key.sign(b"{}").unwrap();
        let (_, rest) = token.split_once('.').unwrap();
        for head in [r#"{"alg":"none"}"#, r#"{"alg":"HS256"}"#, r#"{"alg":"RS256"}"#, "{}", "no json", ""] {
            assert_eq!(key.verify(&format!("{}.{rest}", URL_SAFE_NO_PAD.encode(head))), None, "{head}");
        }
        let body = rest.split('.').next().unwrap();
        assert_eq!(key.verify(&format!("{}.{body}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#))), None);
    }

    #[test]
    fn anything_may_be_shown() {
        let key = SigningKey::generate().unwrap();
        let huge = "a.".repeat(10 << 20);
        let deep = format!("{}.e30.AA", URL_SAFE_NO_PAD.encode("[".repeat(10_000)));
        for token in ["", ".", "..", "...", "a.b.c", "ä.ö.ü", "\0.\0.\0", &huge, &deep] {
            assert_eq!(key.verify(token), None);
        }
        let large = key.sign(&vec![0; LONGEST]).unwrap();
        assert_eq!(key.verify(&large), None, "too long, though signed");
    }
}
