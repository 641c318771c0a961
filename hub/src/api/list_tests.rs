use super::*;

/// As the API reads a query.
fn query(text: &str) -> Result<Query, String> {
    let uri: http::Uri = format!("/x?{text}").parse().unwrap();
    axum::extract::Query::<Query>::try_from_uri(&uri).map(|query| query.0).map_err(|error| {
        std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string)
    })
}

#[test]
fn what_is_not_understood_is_refused_with_the_parameter() {
    let long = format!("search={}", "x".repeat(MAX_TEXT + 1));
    let words = format!("search={}", "x%20".repeat(MAX_WORDS + 1));
    for (text, error) in [
        ("phse=Ready", "unknown field `phse`"),
        ("labelSelector=a%20b", "`labelSelector` in the query: "),
        ("phase=Readyy", "`phase` in the query: 'Readyy' is none of Pending, "),
        ("phase=", "`phase` in the query: it is empty"),
        ("sync=InSync,", "`sync` in the query: '' is none of InSync, "),
        ("connection=on", "`connection` in the query: 'on' is none of NotEnrolled, "),
        ("unit=a/b/c/d", "`unit` in the query: 'a/b/c/d' names no unit"),
        ("commit=xyz1", "`commit` in the query: a commit is named by 4 to 64"),
        ("commit=abc", "`commit` in the query: a commit is named by 4 to 64"),
        (&long, "`search` in the query: it is longer than 1000 bytes"),
        (&words, "`search` in the query: it has more than 16 words"),
        ("limit=0", "`limit` in the query: it is a number from 1 to 5000"),
        ("limit=-1", "`limit` in the query: it is a number from 1 to 5000"),
        ("sortBy=size", "`sortBy` in the query: 'size' is none of name, connection, "),
        ("continue=abc", "`continue` in the query: it is not a `next` that this hub gave"),
        ("cluster=a", "`cluster` in the query: there is no such parameter here"),
    ] {
        let refused = match query(text) {
            Err(error) => error,
            Ok(query) => match (query.filter(), query.part_of_clusters()) {
                (Err(error), _) | (_, Err(error)) => error.text().to_owned(),
                (Ok(_), Ok(_)) => "nothing".to_owned(),
            },
        };
        assert!(refused.contains(error), "{text}: {refused}");
    }
    let query = query("phase=ready,FAILED&unit=web/front&sortBy=-problems&limit=999999").unwrap();
    assert!(query.filter().is_ok() && query.part_of_units().is_ok());
    assert_eq!(query.part_of_clusters().unwrap().limit, MAX_PAGE);
}

/// All pages of a list that changes between them: a number is a thing, and its tens what it is sorted by.
fn walk(sort_by: &str, change: impl Fn(usize, &mut Vec<u32>)) -> Vec<u32> {
    let mut things: Vec<u32> = (0..100).collect();
    let (mut seen, mut next) = (Vec::new(), String::new());
    for page in 0.. {
        let query = query(&format!("sortBy={sort_by}&limit=7&continue={next}")).unwrap();
        let part = query.part_of_clusters().unwrap();
        let key =
            |thing: u32| if sort_by == "name" { String::new() } else { Part::number((thing % 10).into()) };
        let found = things.iter().map(|thing| (key(*thing), format!("{thing:03}"), *thing));
        let found = found.filter(|(_, name, _)| !part.is_past(name)).collect();
        let Page { items, next: more } = part.cut(found);
        assert!(items.len() <= 7);
        seen.extend(items);
        let Some(more) = more else { return seen };
        next = more;
        change(page, &mut things);
    }
    unreachable!("the list ends")
}

#[test]
fn pages_hold_each_thing_once_in_order_whatever_comes_and_goes() {
    let still = |_: usize, _: &mut Vec<u32>| {};
    assert_eq!(walk("name", still), (0..100).collect::<Vec<_>>());
    let by_tens = |thing: &u32| (thing % 10, *thing);
    let mut expected: Vec<u32> = (0..100).collect();
    expected.sort_by_key(by_tens);
    assert_eq!(walk("problems", still), expected);
    expected.sort_by_key(|thing| (std::cmp::Reverse(thing % 10), *thing));
    assert_eq!(walk("-problems", still), expected);
    // What the part ended with goes, and more comes before it.
    let shift = |page: usize, things: &mut Vec<u32>| {
        let end = (page as u32 + 1) * 7 - 1;
        things.retain(|thing| *thing != end);
        things.insert(0, 0);
    };
    assert_eq!(walk("name", shift), (0..100).collect::<Vec<_>>());
}

#[test]
fn a_part_is_of_one_list() {
    let first = query("sortBy=problems&limit=1").unwrap().part_of_clusters().unwrap();
    let next = first.cut(vec![("1".into(), "a".into(), ()), ("2".into(), "b".into(), ())]).next.unwrap();
    for (text, is_good) in [
        (format!("sortBy=problems&limit=5&continue={next}"), true),
        (format!("sortBy=problems&after={next}"), true),
        (format!("sortBy=-problems&continue={next}"), false),
        (format!("continue={next}"), false),
        (format!("sortBy=problems&phase=Failed&continue={next}"), false),
    ] {
        let part = query(&text).unwrap().part_of_clusters();
        assert_eq!(part.is_ok(), is_good, "{text}");
    }
}
