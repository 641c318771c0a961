//! Variables: where they come from, and the expressions that use them.

use super::Maker;

/// Variables with values that a text may be broken by.
const VALUES: [(&str, &str); 10] = [
    ("DOMAIN", "'apps.example.com'"),
    ("ENV", "prod"),
    ("NUM", "'3'"),
    ("BOOL", "'true'"),
    ("EMPTY", "''"),
    ("MULTI", "\"one\\ntwo\\n\""),
    ("QUOTED", "'say \"hi\"'"),
    ("YAMLISH", "'a: b'"),
    ("ZERO", "'007'"),
    ("_under1", "'${ENV}'"),
];

/// What needs no variable to be set.
const FREE: [&str; 19] = [
    "${MISSING:=given}",
    "${MISSING:-y z}",
    "${MISSING=x}",
    "${MISSING:?x}",
    "${MISSING:+alt}",
    "${MISSING:-${ALSO:=deep}}",
    "${MISSING:=${ALSO:-${THIRD:-deepest}}}",
    "${ENV:=dev}",
    "${NUM:=2}",
    "${EMPTY:-}",
    "$${ESCAPED}",
    "$$",
    "$$$$",
    "$(not)",
    "$",
    "$ENV",
    "x{{ .Values.x }}",
    "a$",
    "$1",
];

/// What needs the variables of [`VALUES`].
const OF_VALUES: [&str; 42] = [
    "${DOMAIN}",
    "${ENV}",
    "${NUM}",
    "${BOOL}",
    "${EMPTY}",
    "${MULTI}",
    "${QUOTED}",
    "${YAMLISH}",
    "${ZERO}",
    "${_under1}",
    "${ENV}${NUM}",
    "${EMPTY:=used}",
    "${EMPTY:-${ENV}}",
    "${ENV:-${DOMAIN}}",
    "${ENV:+alt}",
    "${EMPTY:+alt}",
    "${DOMAIN/example/other}",
    "${DOMAIN/${ENV}/x}",
    "${DOMAIN//p/P}",
    "${DOMAIN//./-}",
    "${DOMAIN//[aeiou]/}",
    "${DOMAIN/a*e/x}",
    "${DOMAIN/#apps/x}",
    "${DOMAIN/%com/org}",
    "${DOMAIN/x}",
    "${DOMAIN^}",
    "${DOMAIN^^}",
    "${DOMAIN,}",
    "${DOMAIN,,}",
    "${#DOMAIN}",
    "${#MULTI}",
    "${DOMAIN:0:4}",
    "${DOMAIN:5}",
    "${DOMAIN:99}",
    "${DOMAIN:2:99}",
    "${DOMAIN%.*}",
    "${DOMAIN%%.*}",
    "${DOMAIN#*.}",
    "${DOMAIN##*.}",
    "${DOMAIN%${ENV}}",
    "${QUOTED// /_}",
    "$${ENV} ${ENV}",
];

/// What both have to refuse, or to take alike.
const ODD: [&str; 16] = [
    "${ENV",
    "${}",
    "${ENV:}",
    "${ENV!x}",
    "${1}",
    "${ENV.x}",
    "${ENV:x}",
    "${ENV:-1}",
    "${ENV:1:-1}",
    "${ENV /a/b}",
    "${ ENV }",
    "${NEVER_SET}",
    "${ENV^^p}",
    "${DOMAIN/[/x}",
    "${ENV:-}}",
    "${ENV:-{a}}",
];

/// Which variables a text may use, beside what needs none.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// Nothing is substituted, or there is no variable.
    Nothing,
    /// Those of ConfigMaps, known wherever something is read.
    Known,
    /// Those of Secrets too, which the agent puts into objects, not into names and Flux objects.
    Secret,
}

/// An expression for a text.
pub(super) fn expression(maker: &mut Maker, scope: Scope) -> &'static str {
    if maker.rng.below(400) == 0 {
        return maker.rng.word(&ODD);
    }
    if scope != Scope::Nothing && maker.rng.chance(70) {
        maker.rng.word(&OF_VALUES)
    } else {
        maker.rng.word(&FREE)
    }
}

/// The ConfigMaps and the Secret with variables, as the root defines them.
pub(super) fn objects(maker: &mut Maker) {
    let object = |kind: &str, name: &str, field: &str, data: &str| {
        format!(
            "apiVersion: v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: flux-system}}\n{field}:\n{data}  LAST: x\n"
        )
    };
    let lines = |maker: &mut Maker, percent: u64| {
        let chosen = VALUES.iter().filter(|_| maker.rng.chance(percent));
        chosen.map(|(name, value)| format!("  {name}: {value}\n")).collect::<String>()
    };
    let file = "clusters/prod/variables.yaml";
    let all = lines(maker, 100);
    maker.add(file, &object("ConfigMap", "variables", "data", &all));
    let some = lines(maker, 30).replace("  ENV: prod\n", "") + "  ENV: more\n";
    maker.add(file, &object("ConfigMap", "more", "data", &some));
    let secret = lines(maker, 40);
    maker.add(file, &object("Secret", "secrets", "stringData", &secret));
    maker.add(
        file,
        &object("Secret", "encoded", "data", "  ENV: cHJvZDI=\n  NUM: NA==\n")
            .replace("LAST: x", "LAST: eA=="),
    );
}

/// The fields of `spec.postBuild` below it, and what a text may use then.
pub(super) fn post_build(maker: &mut Maker) -> (String, Scope) {
    let (mut text, mut scope) = (String::new(), Scope::Nothing);
    text += &maker.maybe(
        65,
        &[
            "    substitute: {ENV: 'inline', 'MISSING_TOO': 'here', TEXT: \"a\\nb\"}\n",
            "    substitute: {ENV: \"in\\r\\nline\", NUM: '12', DOMAIN: ''}\n",
            "    substitute: {}\n",
            "    substitute: {_x: '$${ENV}'}\n",
        ],
    );
    if maker.rng.chance(75) {
        let (from, known) = *maker.rng.pick(&[
            ("{kind: ConfigMap, name: variables}", Scope::Known),
            ("{kind: ConfigMap, name: variables}, {kind: ConfigMap, name: more}", Scope::Known),
            (
                "{kind: ConfigMap, name: more}, {kind: ConfigMap, name: variables, optional: true}",
                Scope::Known,
            ),
            ("{kind: ConfigMap, name: variables}, {kind: Secret, name: secrets}", Scope::Secret),
            ("{kind: Secret, name: encoded}, {kind: ConfigMap, name: variables}", Scope::Secret),
            (
                "{kind: ConfigMap, name: variables}, {kind: Secret, name: nowhere, optional: true}",
                Scope::Secret,
            ),
            (
                "{kind: ConfigMap, name: variables}, {kind: ConfigMap, name: nowhere, optional: true}",
                Scope::Secret,
            ),
        ]);
        text += &format!("    substituteFrom: [{from}]\n");
        scope = known;
    }
    if maker.rng.chance(20) {
        text += "    substituteStrategy: Always\n";
    }
    if text.is_empty() { ("    substitute: {}\n".to_owned(), scope) } else { (text, scope) }
}
