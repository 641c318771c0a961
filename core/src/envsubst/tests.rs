use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn check(text: &str, expected: &str) {
    let values = BTreeMap::from([
        ("v", "hello World"),
        ("empty", ""),
        ("file", "bash.string.txt"),
        ("path", "/etc/default/grub"),
        ("domain", "example.org"),
        ("n", "2"),
        ("ü", "straße"),
        ("_a1", "x"),
    ]);
    let value = |name: &str| values.get(name).copied();
    let got = Template::parse(text).and_then(|template| template.expand(&value));
    let got = got.unwrap_or_else(|error| format!("error: {error}"));
    assert_eq!(got, expected, "{text}");
}

#[test]
fn values_and_what_is_none() {
    check("plain text", "plain text");
    check("", "");
    check("${v}", "hello World");
    check("a${n}b${n}c", "a2b2c");
    check("[${empty}]", "[]");
    check("${_a1}", "x");
    check("$v $ {v} $(v) {v}", "$v $ {v} $(v) {v}");
    check("cost: $5, 100%", "cost: $5, 100%");
    check("$$", "$");
    check("$${v}", "${v}");
    check("$$${n}", "$2");
    check("$$$${n}", "$${n}");
    check("a$", "a$");
    check("\\${n}", "\\2");
    check("straße ${n} 日本", "straße 2 日本");
    check("${ü}", "straße");
}

#[test]
fn what_is_not_set_is_an_error() {
    let not_set = "error: variable not set: 'nope'; set it, or give a default by ${nope:=value}";
    for text in ["${nope}", "${#nope}", "${nope^^}", "${nope/a/b}", "${nope:1}", "${nope#a}", "${v:-${nope}}"]
    {
        check(text, not_set);
    }
    check("${nope:-}", "");
}

#[test]
fn what_is_no_expression_is_an_error() {
    let bad = |text: &str, shown: &str| {
        let hint = "a '$' that is meant as such before '{' is written '$$'";
        check(text, &format!("error: bad substitution: '{shown}'; {hint}"));
    };
    for text in [
        "${",
        "${}",
        "${v",
        "${v:",
        "${v:}",
        "${v:0:}",
        "${v:-",
        "${v:-a",
        "${v-a}",
        "${v?}",
        "${v!}",
        "${#}",
        "${#v:1}",
        "${ v}",
        "${v/",
        "${v/a}",
        "${v/a/b",
        "${v#}",
        "${v#a${n}}",
        "${v^x}",
        "${v.x}",
        "${1a b}",
    ] {
        bad(text, text);
    }
    bad("ok ${n}\nthen ${v\nx}", "${v");
    let deep = format!("{}{}", "${v:-".repeat(40), "}".repeat(40));
    assert!(matches!(Template::parse(&deep), Err(Error::TooDeep(_))));
}

#[test]
fn defaults() {
    for function in [":-", ":=", "=", ":+", ":?"] {
        check(&format!("${{v{function}d}}"), "hello World");
        check(&format!("${{nope{function}d}}"), "d");
        check(&format!("${{empty{function}d}}"), "d");
        check(&format!("${{nope{function}}}"), "");
    }
    check("${nope:-a b: [c]}", "a b: [c]");
    check("${nope:-${v}}", "hello World");
    check("${nope:-x${n}y${v^^}}", "x2yHELLO WORLD");
    check("${nope:-${nada:-deep}}", "deep");
    check("${nope:=$$x}", "$$x");
    check("${nope:-{a}}", "{a}");
}

#[test]
fn length_and_case() {
    check("${#v}", "11");
    check("${#empty}", "0");
    check("${#ü}", "7");
    check("${v^}", "Hello World");
    check("${v^^}", "HELLO WORLD");
    check("${v,}", "hello World");
    check("${v,,}", "hello world");
    check("${empty^}", "");
    check("${ü^^}", "STRAßE");
    check("${v,^}", "hello World");
}

#[test]
fn parts() {
    check("${v:0:5}", "hello");
    check("${v:6}", "World");
    check("${v:6:100}", "World");
    check("${v:100}", "");
    check("${v:-5}", "hello World");
    check("${v: -5}", "hello World");
    check("${v:0:-6}", "hello");
    check("${v:9:-6}", "");
    check("${v:x}", "hello World");
    check("${v:0:x}", "hello World");
    check("${v:${n}:${n}}", "ll");
    check("${v:+3}", "hello World");
    check("${v:0:9223372036854775807}", "hello World");
}

#[test]
fn patterns() {
    check("${file#*.}", "string.txt");
    check("${file##*.}", "txt");
    check("${file%.*}", "bash.string");
    check("${file%%.*}", "bash");
    check("${path##*/}", "grub");
    check("${path%/*}", "/etc/default");
    check("${path#/???/}", "default/grub");
    check("${path#/?????}", "/etc/default/grub");
    check("${file#b[a-c]s}", "h.string.txt");
    check("${file#b[^x]s}", "h.string.txt");
    check("${file#[}", "bash.string.txt");
    check("${file#\\b}", "ash.string.txt");
    check("${file#nope}", "bash.string.txt");
    check("${file##*}", "");
    check("${empty#*}", "");
}

#[test]
fn replacing() {
    check("${v/o/0}", "hell0 World");
    check("${v//o/0}", "hell0 W0rld");
    check("${v//o/}", "hell Wrld");
    check("${v/l*/x}", "hello World");
    check("${v/#hello/bye}", "bye World");
    check("${v/#World/bye}", "hello World");
    check("${v/%World/you}", "hello you");
    check("${v/%hello/you}", "hello World");
    check("${domain/example/sample}", "sample.org");
    check("${path//\\//-}", "-etc-default-grub");
    check("${v/${n}/x}", "hello World");
    check("${v/#/x}", "xhello World");
    check("${v/World/$${n}}", "hello ${n}");
}

/// What multiplies ends, whatever the machine: nested replacements, many of them, patterns with stars, and what reaches
/// through to the end of a text.
#[test]
fn what_costs_too_much_is_refused() {
    let value = "x".repeat(10_000);
    let many = |expression: &str, times: usize| expression.repeat(times);
    for (text, refused) in [
        ("${a//x/${a//x/${a//x/y}}}".to_owned(), true),
        ("${a//x/${a}}".to_owned(), true),
        ("${b:-".repeat(20) + &many("${a//x/yyyyyyyyyy}", 1000) + &"}".repeat(20), true),
        (many("${a}", 1000), true),
        (many("${a##*y}", 100), true),
        ("${a##*x*x*y}".to_owned(), true),
        ("${a%%y*x*x*}".to_owned(), true),
        ("${a#[a-bc-de-fg-h]*y}".to_owned(), false),
        (many("${a}", 400), false),
        ("${a//x/yyyyyyyyyy}".to_owned(), false),
        ("${a##*x}".to_owned(), false),
    ] {
        let result = Template::parse(&text).unwrap().expand(&|name| (name == "a").then_some(value.as_str()));
        let shown: String = text.chars().take(40).collect();
        match result {
            Ok(_) => assert!(!refused, "{shown}"),
            Err(Error::TooMuch(name)) => assert!(refused && name == "a" || name == "b", "{shown}: {name}"),
            Err(other) => panic!("{shown}: {other}"),
        }
    }
    assert_eq!(Template::parse(&many("${a}", EXPRESSIONS + 1)), Err(Error::TooMany));
    let long = format!("{}${{a}}", many(" ", LONGEST));
    assert_eq!(Template::parse(&long), Err(Error::TextTooLong(LONGEST + 4)));
    // Without expressions nothing is put in, and nothing grows.
    let plain = many(" ", LONGEST + 1);
    assert_eq!(Template::parse(&plain).unwrap().expand(&|_| None), Ok(plain));
}

#[test]
fn texts_share_what_they_may_cost() {
    let template = Template::parse("${a//x/yy}").unwrap();
    let value = "x".repeat(100);
    let mut shared = Work::new(1010);
    let mut expand = || template.expand_within(&|_| Some(value.as_str()), &mut shared);
    // The arguments and the value are read, 200 bytes are put in its place, and written.
    assert_eq!(expand().map(|text| text.len()), Ok(200));
    assert!(expand().is_ok());
    assert_eq!(expand(), Err(Error::TooMuch("a".to_owned())));
    assert_eq!(shared, Work::new(0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever is written and whatever the value is: an answer, never a panic.
    #[test]
    fn never_panics(
        text in r"([$]\{?|[a#%/:,^=+?*\[\]\\}-]|v|é|\PC){0,24}",
        value in r"(\PC|[a/.*]){0,12}",
    ) {
        if let Ok(template) = Template::parse(&text) {
            let value = value.as_str();
            let _ = template.expand(&|name| (name != "a").then_some(value));
            prop_assert!(template.variables().len() <= text.len());
        }
    }

    /// A text without a dollar sign stays as it is.
    #[test]
    fn other_text_is_untouched(text in "[^$]{0,40}") {
        prop_assert_eq!(Template::parse(&text).unwrap().expand(&|_| None).unwrap(), text);
    }
}
