//! What helm says where it refuses a release.

/// Its reason, without what it says at every failure.
pub(super) fn reason(said: &str, memory: u64) -> String {
    if said.contains("out of memory") || said.contains("cannot allocate memory") {
        return format!("helm took more than its {} MiB of memory", memory >> 20);
    }
    let said = said.trim();
    let said = said.split_once("\nUse --debug flag").map_or(said, |(before, _)| before);
    let said = said.trim().strip_prefix("Error: ").unwrap_or(said.trim());
    let line = |line: &str| (!line.starts_with("level=") && !line.is_empty()).then(|| line.to_owned());
    said.lines().filter_map(line).collect::<Vec<_>>().join("\n")
}

/// So many places tell enough.
const PLACES: usize = 5;

/// The places that a reason names, and nothing that could be a value or a part of one, in whatever form: a chart may
/// say what it was given as it is, encoded, or cut.
pub(super) fn without_values(said: &str) -> String {
    let mut places: Vec<String> = Vec::new();
    let mut rest = said;
    while let Some(start) = rest.find(|c: char| !c.is_whitespace() && c != '(') {
        rest = &rest[start..];
        // `at <.Values.a>`: the words of the template, not of what it was given.
        let (place, length) = match rest.strip_prefix("at <").and_then(|inside| inside.split_once('>')) {
            Some((node, _)) if !node.contains(['<', '\n']) && is_node(node) => {
                (Some(format!("at <{node}>")), "at <>".len() + node.len())
            }
            _ => {
                let length = rest.find(|c: char| c.is_whitespace() || c == ')').unwrap_or(rest.len());
                let word = rest[..length].trim_end_matches([':', ',']);
                (is_place(word).then(|| word.to_owned()), length.max(1))
            }
        };
        places.extend(place.filter(|place| !places.contains(place)));
        rest = &rest[length..];
    }
    places.truncate(PLACES);
    let what = if said.contains("values don't meet the specifications of the schema") {
        "the values do not fit the chart's values.schema.json"
    } else {
        "the chart refuses the values"
    };
    let at = if places.is_empty() { String::new() } else { format!(" ({})", places.join(", ")) };
    format!("{what}{at}; helm's own message is not shown, as some of the values come from Secrets")
}

/// `CHART/templates/FILE:LINE:COLUMN`, of letters that files of charts have.
pub(super) fn is_place(word: &str) -> bool {
    let mut parts = word.rsplitn(3, ':');
    let is_number = |part: Option<&str>| {
        part.is_some_and(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
    };
    is_number(parts.next())
        && is_number(parts.next())
        && parts.next().is_some_and(|file| {
            file.contains("/templates/")
                && file.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b))
        })
}

/// A field or a function. Texts in a template may come from values, where it makes another one.
fn is_node(node: &str) -> bool {
    node.len() <= 100 && node.bytes().all(|b| b.is_ascii_alphanumeric() || b"._$ ".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_is_told() {
        let told = |what: &str| {
            format!("{what}; helm's own message is not shown, as some of the values come from Secrets")
        };
        for (said, expected) in [
            (
                "template: web/templates/a.yaml:3:5: executing \"web/templates/a.yaml\" at <fail>: error calling fail: \
                 aHVudGVyMg== hunter2",
                "the chart refuses the values (web/templates/a.yaml:3:5, at <fail>)",
            ),
            (
                "web/templates/a.yaml:17:3\n  executing \"web/templates/a.yaml\" at <.Values.auth.password>:\n    nil \
                 pointer evaluating hunter2",
                "the chart refuses the values (web/templates/a.yaml:17:3, at <.Values.auth.password>)",
            ),
            (
                "execution error at (web/charts/db/templates/b.yaml:1:4): hunter2/x:1:2 at <hunter\"2>",
                "the chart refuses the values (web/charts/db/templates/b.yaml:1:4)",
            ),
            (
                "values don't meet the specifications of the schema(s) in the following chart(s):\nweb:\n- at \
                 '/password': 'hunter2' does not match",
                "the values do not fit the chart's values.schema.json",
            ),
            ("", "the chart refuses the values"),
            ("(((é) hunter2", "the chart refuses the values"),
        ] {
            assert_eq!(without_values(said), told(expected), "{said}");
        }
    }
}
