//! What was asked for, the codes and the tokens.
//!
//! Invariant: a code is redeemed at most once, by the client that asked for it, with the verifier of its challenge. A
//! code that comes a second time, or with a wrong verifier, was stolen: all tokens that came from it end.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use super::failure::Failure;

/// How long a code can be redeemed.
const CODE_LIFETIME: Duration = Duration::from_secs(60);
/// Questions, codes and tokens that are remembered, of each kind; beyond, the oldest is forgotten.
const MAX_REMEMBERED: usize = 1_000;

/// What a client asked a person for.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) client: String,
    pub(super) redirect: String,
    /// The hash of the verifier, by S256.
    pub(super) challenge: String,
    pub(super) state: Option<String>,
}

struct Code {
    text: String,
    question: Question,
    issued: Instant,
    grant: u64,
    redeemed: bool,
}

struct Token {
    text: String,
    client: String,
    grant: u64,
    refreshes: bool,
    /// `None`: until its grant ends.
    ends: Option<Instant>,
}

/// A new access token, and the refresh token that came with it.
#[cfg_attr(test, derive(Debug))]
pub(super) struct Issued {
    pub(super) access: String,
    pub(super) refresh: Option<String>,
}

/// How long tokens last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) lifetime: Duration,
    pub(super) refreshes: bool,
}

/// All that was granted. Each list has the oldest first.
#[derive(Default)]
pub(super) struct Grants {
    questions: VecDeque<(String, Question)>,
    codes: VecDeque<Code>,
    tokens: VecDeque<Token>,
    count: u64,
}

impl Grants {
    /// Remembers a question, and returns the number under which it is answered.
    pub(super) fn ask(&mut self, question: Question) -> Result<String, Failure> {
        let number = secret()?;
        push(&mut self.questions, (number.clone(), question));
        Ok(number)
    }

    /// The question under a number, once.
    pub(super) fn answer(&mut self, number: &str) -> Option<Question> {
        let found = self.questions.iter().position(|(it, _)| it == number)?;
        self.questions.remove(found).map(|(_, question)| question)
    }

    /// The code for a question that a person said yes to.
    pub(super) fn code(&mut self, question: Question) -> Result<String, Failure> {
        self.count += 1;
        let text = secret()?;
        let code = Code {
            text: text.clone(),
            question,
            issued: Instant::now(),
            grant: self.count,
            redeemed: false,
        };
        push(&mut self.codes, code);
        Ok(text)
    }

    /// Tokens for a code.
    pub(super) fn redeem(
        &mut self,
        code: &str,
        client: &str,
        redirect: &str,
        verifier: &str,
        terms: Terms,
    ) -> Result<Issued, Failure> {
        let refused = |why: &str| Failure::new("invalid_grant", why);
        let code = self.codes.iter_mut().find(|it| it.text == code);
        let code = code.ok_or_else(|| refused("the code is unknown"))?;
        let grant = code.grant;
        if code.redeemed {
            self.revoke(grant);
            return Err(refused("the code was used before: its tokens end"));
        }
        code.redeemed = true;
        if code.issued.elapsed() >= CODE_LIFETIME {
            return Err(refused("the code is expired"));
        }
        if code.question.client != client || code.question.redirect != redirect {
            return Err(refused("the code was given to another client or address"));
        }
        if challenge_of(verifier).as_deref() != Some(code.question.challenge.as_str()) {
            return Err(refused("the verifier does not match the challenge"));
        }
        self.issue(client, grant, terms)
    }

    /// New tokens for a refresh token, which ends.
    pub(super) fn refresh(
        &mut self,
        token: &str,
        client: &str,
        terms: Terms,
    ) -> Result<Issued, Failure> {
        let matches = |it: &Token| it.refreshes && it.text == token && it.client == client;
        let found = self.tokens.iter().position(matches);
        let old = found.and_then(|found| self.tokens.remove(found));
        let old =
            old.ok_or_else(|| Failure::new("invalid_grant", "the refresh token is unknown"))?;
        self.issue(client, old.grant, terms)
    }

    /// Whether an access token is known and not expired.
    pub(super) fn is_valid(&self, token: &str) -> bool {
        let now = Instant::now();
        self.tokens
            .iter()
            .any(|it| !it.refreshes && it.text == token && it.ends.is_none_or(|ends| ends > now))
    }

    /// Ends a token of a client: a refresh token with all tokens of its grant, an access token alone.
    pub(super) fn end(&mut self, token: &str, client: &str) -> Result<(), Failure> {
        let Some(found) = self.tokens.iter().find(|it| it.text == token) else {
            return Ok(());
        };
        if found.client != client {
            let why = "the token was issued to another client";
            return Err(Failure::new("invalid_grant", why));
        }
        let (grant, refreshes) = (found.grant, found.refreshes);
        match refreshes {
            true => self.revoke(grant),
            false => self.tokens.retain(|it| it.text != token),
        }
        Ok(())
    }

    /// Ends all access tokens.
    pub(super) fn expire(&mut self) {
        self.tokens.retain(|token| token.refreshes);
    }

    fn issue(&mut self, client: &str, grant: u64, terms: Terms) -> Result<Issued, Failure> {
        let access = secret()?;
        let refresh = terms.refreshes.then(secret).transpose()?;
        let token = |text: &String, refreshes, ends| Token {
            text: text.clone(),
            client: client.to_owned(),
            grant,
            refreshes,
            ends,
        };
        // Beyond what the clock can say, it does not end.
        let ends = Instant::now().checked_add(terms.lifetime);
        push(&mut self.tokens, token(&access, false, ends));
        if let Some(refresh) = &refresh {
            push(&mut self.tokens, token(refresh, true, None));
        }
        Ok(Issued { access, refresh })
    }

    fn revoke(&mut self, grant: u64) {
        self.tokens.retain(|token| token.grant != grant);
    }
}

/// Adds an entry, and forgets the oldest one where there are too many.
fn push<T>(entries: &mut VecDeque<T>, entry: T) {
    if entries.len() >= MAX_REMEMBERED {
        entries.pop_front();
    }
    entries.push_back(entry);
}

/// The S256 challenge of a verifier; `None` for a text that cannot be one (RFC 7636, section 4.1).
pub(super) fn challenge_of(verifier: &str) -> Option<String> {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let valid = (43..=128).contains(&verifier.len()) && verifier.bytes().all(unreserved);
    valid.then(|| BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(verifier)))
}

/// A text that cannot be guessed.
pub(super) fn secret() -> Result<String, Failure> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| Failure::without_randomness(&error))?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const REDIRECT: &str = "http://127.0.0.1:1/callback";
    const TERMS: Terms = Terms {
        lifetime: Duration::from_secs(60),
        refreshes: true,
    };

    fn question() -> Question {
        Question {
            client: "one".to_owned(),
            redirect: REDIRECT.to_owned(),
            challenge: challenge_of(VERIFIER).unwrap(),
            state: None,
        }
    }

    #[test]
    fn a_challenge_is_that_of_the_standards_example() {
        let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
        assert_eq!(challenge_of(VERIFIER).as_deref(), Some(challenge));
        assert_eq!(challenge_of("short"), None);
        assert_eq!(challenge_of(&"a".repeat(129)), None);
        assert_eq!(challenge_of(&"ä".repeat(43)), None);
    }

    #[test]
    fn a_code_that_comes_twice_ends_its_tokens_and_no_others() {
        let mut grants = Grants::default();
        let code = grants.code(question()).unwrap();
        let issued = grants
            .redeem(&code, "one", REDIRECT, VERIFIER, TERMS)
            .unwrap();
        let other = grants.code(question()).unwrap();
        let other = grants
            .redeem(&other, "one", REDIRECT, VERIFIER, TERMS)
            .unwrap();
        assert!(grants.is_valid(&issued.access));
        let failure = grants
            .redeem(&code, "one", REDIRECT, VERIFIER, TERMS)
            .unwrap_err();
        assert_eq!(failure.code(), "invalid_grant");
        assert!(!grants.is_valid(&issued.access));
        grants
            .refresh(&issued.refresh.unwrap(), "one", TERMS)
            .unwrap_err();
        assert!(grants.is_valid(&other.access));
    }

    #[test]
    fn a_code_is_for_its_client_address_and_verifier() {
        let wrong = "a".repeat(43);
        for (client, redirect, verifier) in [
            ("two", REDIRECT, VERIFIER),
            ("one", "http://127.0.0.1:2/callback", VERIFIER),
            ("one", REDIRECT, wrong.as_str()),
        ] {
            let mut grants = Grants::default();
            let code = grants.code(question()).unwrap();
            grants
                .redeem(&code, client, redirect, verifier, TERMS)
                .unwrap_err();
            // It is used up: the next one who brings it may be the thief.
            grants
                .redeem(&code, "one", REDIRECT, VERIFIER, TERMS)
                .unwrap_err();
        }
    }

    #[test]
    fn a_refresh_token_is_used_once_and_is_no_access_token() {
        let mut grants = Grants::default();
        let code = grants.code(question()).unwrap();
        let issued = grants
            .redeem(&code, "one", REDIRECT, VERIFIER, TERMS)
            .unwrap();
        let refresh = issued.refresh.unwrap();
        assert!(!grants.is_valid(&refresh));
        grants.refresh(&issued.access, "one", TERMS).unwrap_err();
        grants.refresh(&refresh, "two", TERMS).unwrap_err();
        let next = grants.refresh(&refresh, "one", TERMS).unwrap();
        assert!(grants.is_valid(&next.access));
        grants.refresh(&refresh, "one", TERMS).unwrap_err();
        grants.expire();
        assert!(!grants.is_valid(&next.access));
        grants
            .refresh(&next.refresh.unwrap(), "one", TERMS)
            .unwrap();
    }

    #[test]
    fn a_token_is_ended_by_its_client_and_a_refresh_token_with_its_grant() {
        let mut grants = Grants::default();
        let issue = |grants: &mut Grants| {
            let code = grants.code(question()).unwrap();
            grants
                .redeem(&code, "one", REDIRECT, VERIFIER, TERMS)
                .unwrap()
        };
        let (first, second) = (issue(&mut grants), issue(&mut grants));
        grants.end(&first.access, "two").unwrap_err();
        assert!(grants.is_valid(&first.access));
        grants.end(&first.access, "one").unwrap();
        assert!(!grants.is_valid(&first.access));
        let next = grants.refresh(&first.refresh.unwrap(), "one", TERMS);
        let next = next.unwrap();
        grants.end(&next.refresh.unwrap(), "one").unwrap();
        assert!(!grants.is_valid(&next.access));
        assert!(grants.is_valid(&second.access));
        grants.end("unknown", "one").unwrap();
    }

    #[test]
    fn a_question_is_answered_once() {
        let mut grants = Grants::default();
        let number = grants.ask(question()).unwrap();
        assert!(grants.answer("another").is_none());
        assert!(grants.answer(&number).is_some());
        assert!(grants.answer(&number).is_none());
    }
}
