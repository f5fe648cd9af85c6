//! Settings of SASL: what is refused, and what is never shown.

use super::*;

#[test]
fn a_secret_that_would_be_readable_needs_permission() {
    let token = || Sasl::oauth_bearer(|| async { Ok::<_, std::io::Error>(OauthToken::new("t", Duration::from_secs(60))) });
    for sasl in [Sasl::plain("alice", "secret"), token()] {
        let why = sasl.check(false).unwrap_err();
        assert!(why.contains("Sasl::send_credentials_unencrypted") && why.contains("tls"), "{why}");
        assert!(sasl.check(true).is_ok());
        assert!(sasl.send_credentials_unencrypted().check(false).is_ok());
    }
    for scram in [Sasl::scram_sha_256("alice", "secret"), Sasl::scram_sha_512("alice", "secret")] {
        assert!(scram.check(false).is_ok());
    }
}

#[test]
fn credentials_that_cannot_be_right_are_refused() {
    for sasl in [
        Sasl::plain("", "p"),
        Sasl::plain("u", ""),
        Sasl::plain("u\0", "p"),
        Sasl::plain("u", "p\0"),
        Sasl::scram_sha_256("", "p"),
        Sasl::scram_sha_512("u", ""),
    ] {
        assert!(sasl.check(true).is_err(), "{sasl:?}");
    }
}

#[test]
fn nothing_secret_is_printed() {
    let token = OauthToken::new("open-sesame", Duration::from_secs(60)).extension("pool", "open-sesame");
    for printed in [
        format!("{:?}", Sasl::plain("alice", "open-sesame")),
        format!("{:?}", Sasl::scram_sha_256("alice", "open-sesame")),
        format!("{token:?}"),
    ] {
        assert!(!printed.contains("sesame"), "{printed}");
    }
}

#[tokio::test]
async fn what_a_provider_says_is_a_token_or_its_words() {
    async fn ask(sasl: Sasl) -> Result<Token, String> {
        sasl.tokens().unwrap().ask().await
    }
    let good = Sasl::oauth_bearer(|| async {
        Ok::<_, std::io::Error>(OauthToken::new("t", Duration::from_secs(60)).extension("a", "b"))
    });
    assert_eq!(ask(good).await, Token::new("t", &[("a".into(), "b".into())], Duration::from_secs(60)));
    let failed = Sasl::oauth_bearer(|| async { Err::<OauthToken, _>("the server is down") });
    assert_eq!(ask(failed).await, Err("the token provider failed: the server is down".into()));
    let odd = Sasl::oauth_bearer(|| async { Ok::<_, std::io::Error>(OauthToken::new("a b", Duration::from_secs(60))) });
    assert!(ask(odd).await.is_err());
    assert!(Sasl::plain("u", "p").tokens().is_none());
}
