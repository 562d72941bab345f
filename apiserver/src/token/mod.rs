//! Tokens of service accounts: how they are made, and whom they show.
//!
//! A token is a JWT, signed by ES256 with a key that all API servers of a cluster share (`sa.key` beside the authority's). It names a service
//! account, mostly also the pod that runs under it, and is good as long as both are there and its time is not over. Nothing of it is stored.

mod authenticate;
mod claims;
mod jwt;

use std::fmt;

use jiff::Timestamp;

pub use authenticate::BearerTokens;
pub(crate) use authenticate::review;
pub(crate) use claims::{Claims, Named, Private, USER_PREFIX};
pub use jwt::{Error as KeyError, SigningKey};

/// Clocks of API servers may differ by this much, in seconds.
const LEEWAY: i64 = 60;

/// Why a token is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// It is not one, or was signed with another key. Nothing in it is believed, so nothing of it is told.
    #[error("invalid bearer token")]
    Unknown,
    #[error("the token's issuer is {0:?}, which is not this cluster")]
    Issuer(String),
    #[error("the token's audiences are {0:?}, none of which was asked for")]
    Audience(Vec<String>),
    #[error("the token expired at {0}")]
    Expired(Timestamp),
    #[error("the token is not valid before {0}")]
    TooEarly(Timestamp),
    #[error("the token's {0} is no longer there")]
    Gone(String),
}

/// Makes tokens and knows its own again.
pub struct TokenIssuer {
    key: SigningKey,
    issuer: String,
}

impl fmt::Debug for TokenIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenIssuer").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl TokenIssuer {
    /// Signs with this key, in the name of the API server of a cluster whose names end in `domain`, such as `cluster.local`.
    pub fn new(key: SigningKey, domain: &str) -> Self {
        Self { key, issuer: format!("https://kubernetes.default.svc.{domain}") }
    }

    /// Who the tokens say made them, which is also the audience of those that are for the API server.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    pub(crate) fn sign(&self, claims: &Claims) -> Result<String, KeyError> {
        let text = serde_json::to_vec(claims).map_err(|error| KeyError::Sign(error.to_string()))?;
        self.key.sign(&text)
    }

    /// What a token of this issuer for one of these audiences says, if its time is not over.
    pub(crate) fn verify(&self, token: &str, audiences: &[&str], now: Timestamp) -> Result<Claims, Refusal> {
        let text = self.key.verify(token).ok_or(Refusal::Unknown)?;
        let claims: Claims = serde_json::from_slice(&text).map_err(|_| Refusal::Unknown)?;
        if claims.iss != self.issuer {
            return Err(Refusal::Issuer(claims.iss));
        }
        let time = |seconds: i64| Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
        let now = now.as_second();
        if claims.exp.saturating_add(LEEWAY) < now {
            return Err(Refusal::Expired(time(claims.exp)));
        }
        if claims.nbf.saturating_sub(LEEWAY) > now {
            return Err(Refusal::TooEarly(time(claims.nbf)));
        }
        if !claims.aud.iter().any(|own| audiences.contains(&own.as_str())) {
            return Err(Refusal::Audience(claims.aud));
        }
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::constant(1_735_689_600, 0);

    fn issuer() -> TokenIssuer {
        TokenIssuer::new(SigningKey::generate().unwrap(), "cluster.local")
    }

    fn claims(of: &TokenIssuer) -> Claims {
        let now = NOW.as_second();
        let named = |name: &str| Named { name: name.to_owned(), uid: format!("uid-{name}") };
        Claims {
            aud: vec![of.issuer().to_owned()],
            exp: now + 3600,
            iat: now,
            iss: of.issuer().to_owned(),
            jti: "1".to_owned(),
            kubernetes: Private {
                namespace: "ns".to_owned(),
                pod: Some(named("p")),
                serviceaccount: named("a"),
                ..Private::default()
            },
            nbf: now,
            sub: "system:serviceaccount:ns:a".to_owned(),
        }
    }

    #[test]
    fn a_token_says_again_what_was_put_into_it() {
        let own = issuer();
        let token = own.sign(&claims(&own)).unwrap();
        assert_eq!(own.verify(&token, &[own.issuer()], NOW), Ok(claims(&own)));
        assert!(!format!("{own:?}").contains("key"));
    }

    #[test]
    fn a_token_is_refused_for_what_is_wrong_with_it() {
        let own = issuer();
        let after = |seconds: i64| Timestamp::from_second(NOW.as_second() + seconds).unwrap();
        let of = |change: fn(&mut Claims)| {
            let mut claims = claims(&own);
            change(&mut claims);
            own.sign(&claims).unwrap()
        };
        let refused = |token: &str, now: Timestamp| own.verify(token, &[own.issuer()], now).unwrap_err();
        let plain = of(|_| {});
        assert_eq!(refused(&plain, after(3661)), Refusal::Expired(after(3600)));
        assert_eq!(own.verify(&plain, &[own.issuer()], after(3660)).map(|_| ()), Ok(()), "clocks may differ a little");
        assert_eq!(refused(&plain, after(-61)), Refusal::TooEarly(NOW));
        assert_eq!(refused(&of(|claims| claims.iss = "x".into()), NOW), Refusal::Issuer("x".into()));
        let vault = of(|claims| claims.aud = vec!["vault".into()]);
        assert_eq!(refused(&vault, NOW), Refusal::Audience(vec!["vault".into()]));
        assert!(own.verify(&vault, &["db", "vault"], NOW).is_ok());
        assert_eq!(issuer().verify(&plain, &[own.issuer()], NOW), Err(Refusal::Unknown), "another cluster's key");
        let extreme = of(|claims| (claims.exp, claims.nbf) = (i64::MAX, i64::MIN));
        assert!(own.verify(&extreme, &[own.issuer()], NOW).is_ok());
    }

    #[test]
    fn what_is_signed_and_no_claims_is_no_token() {
        let own = issuer();
        for text in ["", "{}", "[]", "null", "\"a\"", "{\"iss\":1}", "{\"aud\":\"x\"}"] {
            let token = own.key.sign(text.as_bytes()).unwrap();
            assert_eq!(own.verify(&token, &[own.issuer()], NOW), Err(Refusal::Unknown), "{text}");
        }
    }
}
