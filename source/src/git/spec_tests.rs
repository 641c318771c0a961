use super::*;

#[test]
fn addresses_are_parsed_and_show_no_secret() {
    for (text, shown) in [
        ("https://example.org/a/fleet.git", Ok("https://example.org/a/fleet.git")),
        ("https://jo:s3cret@example.org/fleet", Ok("https://example.org/fleet")),
        ("https://t0ken@example.org:8443/fleet", Ok("https://example.org:8443/fleet")),
        ("git@example.org:a/fleet.git", Ok("git@example.org:a/fleet.git")),
        ("ssh://git@example.org:2222/fleet", Ok("ssh://git@example.org:2222/fleet")),
        ("/srv/fleet.git", Ok("/srv/fleet.git")),
        ("file:///srv/fleet.git", Ok("file:///srv/fleet.git")),
        ("fleet.git", Err("relative")),
        ("../fleet", Err("relative")),
        ("", Err("empty")),
        (" https://example.org/x", Err("blanks")),
        ("git://example.org/fleet", Err("not supported")),
        ("ext::sh -c id", Err("not supported")),
        ("\u{22d}.example::x/y", Err("more than one way")),
        ("ssh://git@[::1]:2222/x", Ok("ssh://git@[::1]:2222/x")),
        ("ssh://git:s3cret@example.org/fleet", Err("key, not a password")),
        ("ssh://-oProxyCommand=id/x", Err("leading '-'")),
        ("ftp://jo:s3cret@example.org/fleet", Err("not supported")),
    ] {
        match (text.parse::<GitUrl>(), shown) {
            (Ok(url), Ok(shown)) => {
                assert_eq!(url.to_string(), shown, "{text}");
                assert!(
                    !format!("{:?}", GitSpec::new(url, Branch("main".into()))).contains("s3cret"),
                    "{text}"
                );
            }
            (Err(error), Err(part)) => {
                assert!(error.to_string().contains(part), "{text}: {error}");
                assert!(!format!("{error} {error:?}").contains("s3cret"), "{text}: {error}");
            }
            (parsed, expected) => panic!("{text}: {parsed:?}, expected {expected:?}"),
        }
    }
}

#[test]
fn hosts_are_kept_in_the_spelling_that_is_connected_to() {
    use crate::host::tests::{LOCAL_NAMES, SPELLINGS};
    for (spelling, means) in SPELLINGS {
        for (scheme, user) in [("http", ""), ("https", "jo:pw@"), ("ssh", "git@"), ("http", "1.1.1.1@")] {
            let text = format!("{scheme}://{user}{spelling}:8443/x.git");
            match text.parse::<GitUrl>() {
                Ok(url) => {
                    let host = url.host().unwrap_or_default();
                    assert_eq!(host.trim_matches(['[', ']']), means.trim_matches(['[', ']']), "{text}");
                }
                // What Git's own reading of addresses refuses is not fetched either.
                Err(error) => assert!(!spelling.is_ascii() || spelling.contains('%'), "{text}: {error}"),
            }
        }
    }
    for spelling in LOCAL_NAMES {
        if let Ok(url) = format!("http://{spelling}/x").parse::<GitUrl>() {
            assert_eq!(url.host(), Some("localhost"), "{spelling}");
        }
    }
    for text in [
        "http://public.example\\@127.0.0.1/x",
        "http://127.0.0.1\\@public.example/x",
        "http://a@b@127.0.0.1/x",
        "http://public.example%2f@127.0.0.1/x",
        "http://127.0.0.1%2f.public.example/x",
        "http://public.example#@127.0.0.1/x",
        "http://public.example?@127.0.0.1/x",
        "http://[::ffff:127.0.0.1%25lo]/x",
        "ssh://git@127.0.0.1%20-oProxyCommand=id/x",
        "git@a..b:x",
    ] {
        match text.parse::<GitUrl>() {
            Ok(url) => {
                let read = url::Url::parse(&url.to_string()).unwrap();
                assert_eq!(read.host_str(), url.host(), "{text} is read in two ways");
            }
            Err(error) => assert!(!error.reason.is_empty(), "{text}"),
        }
    }
}

#[test]
fn credentials_in_the_url_are_kept_apart_and_explicit_ones_win() {
    let url: GitUrl = "https://jo:s3cret@example.org/fleet".parse().unwrap();
    let mut spec = GitSpec::new(url, Branch("main".into()));
    let basic = |u: &str, p: &str| Credentials::Basic { username: u.into(), password: p.into() };
    assert_eq!(spec.credentials(), Some(&basic("jo", "s3cret")));
    spec.credentials = Some(basic("a", "b"));
    assert_eq!(spec.credentials(), Some(&basic("a", "b")));
}

#[test]
fn what_a_name_may_mean() {
    let id = "0123456789012345678901234567890123456789";
    for (name, meanings) in [
        ("", vec![Ok("HEAD".to_owned())]),
        ("v1.0", vec![Ok("refs/tags/v1.0".into()), Ok("refs/heads/v1.0".into())]),
        ("refs/pull/1/head", vec![Ok("refs/pull/1/head".into())]),
        (id, vec![Ok(id.into())]),
        ("a..b", vec![Err(())]),
    ] {
        let read = Reference::guesses(name).iter().map(|r| r.remote_name().map_err(drop)).collect::<Vec<_>>();
        assert_eq!(read, meanings, "{name}");
    }
}

#[test]
fn branches_are_valid_names() {
    for (name, valid) in [
        ("main", true),
        ("release/1.2", true),
        ("", false),
        ("a..b", false),
        ("-x", false),
        ("refs/heads/main", false),
        ("a b", false),
    ] {
        assert_eq!(name.parse::<Branch>().is_ok(), valid, "{name}");
    }
}
