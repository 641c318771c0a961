//! What scalars mean to Kubernetes' tools.
//!
//! The rules are those of go-yaml's `resolve.go` (v2.4.2 and v3.0.3), which both tools share but for the words
//! that are booleans. Where they differ from YAML 1.2: `0644` is octal, `08` is the float 8, a number that
//! overflows a 64-bit float is a string, `_` may stand between digits.

use smol_str::SmolStr;

use crate::node::Style;
use crate::style::{Writer, analyze};
use crate::timestamp;

/// A scalar's text as written (after unquoting) and what it means. All nulls are equal; other scalars are if text and
/// kind are.
#[derive(Debug, Clone)]
pub struct Scalar {
    text: SmolStr,
    kind: Kind,
}

/// What a scalar is, under [`Schema::Kustomize`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Null,
    Bool,
    Int,
    Float,
    /// An unquoted date or time. A string to the API server's clients; kustomize prints it in full, as RFC 3339.
    Timestamp,
    String,
}

/// Whose reading of scalars.
///
/// Both know null (`~`, `null`, nothing), `true`/`false` in three spellings, decimal, hexadecimal (`0x`), octal
/// (`0644`, `0o644`) and binary (`0b`) integers with `_` between digits, floats, `.inf` and `.nan`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Schema {
    /// `sigs.k8s.io/yaml`, on `go.yaml.in/yaml/v2` (kubectl, client-go, Flux, kustomization files): YAML 1.1's
    /// `y/n/yes/no/on/off` are booleans, dates are strings.
    #[default]
    Kubernetes,
    /// kyaml, on `go.yaml.in/yaml/v3` (resources in `kustomize build`): `yes/no/on/off` are strings, dates are
    /// timestamps. kustomize writes each object as text and reads it again before it prints it, which changes some
    /// folded scalars (`>`): a line break before a more indented line, and kept ones at the end, come out once more
    /// often, and a missing value between brackets (`{a: }`) becomes an empty string. That is done here too, so that
    /// the result is the one that kustomize gives.
    Kustomize,
}

/// A number as Go would hold it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Number {
    Int(i64),
    /// More than an `i64` holds.
    Uint(u64),
    Float(f64),
}

impl PartialEq for Scalar {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && (self.kind == Kind::Null || self.text == other.text)
    }
}

impl Eq for Scalar {}

impl Scalar {
    /// What a plain scalar of this text means.
    pub fn plain(text: impl Into<SmolStr>) -> Self {
        let text = text.into();
        let kind = resolve(&text);
        Self { text, kind }
    }

    /// A string, whatever its text.
    pub fn string(text: impl Into<SmolStr>) -> Self {
        Self { text: text.into(), kind: Kind::String }
    }

    pub fn null() -> Self {
        Self { text: SmolStr::new_static("null"), kind: Kind::Null }
    }

    pub fn bool(value: bool) -> Self {
        Self { text: SmolStr::new_static(if value { "true" } else { "false" }), kind: Kind::Bool }
    }

    pub fn int(value: i64) -> Self {
        Self { text: smol_str::format_smolstr!("{value}"), kind: Kind::Int }
    }

    /// A kind that a tag gives to a text, which may not [fit](Self::fits) it.
    pub(crate) fn tagged(text: impl Into<SmolStr>, kind: Kind) -> Self {
        Self { text: text.into(), kind }
    }

    /// Whether the text can be read as the kind, which a tag may have given to any text.
    pub fn fits(&self, schema: Schema) -> bool {
        match (resolve(&self.text), self.kind) {
            (_, Kind::String) | (Kind::Int, Kind::Float) => true,
            (Kind::String, Kind::Bool) if schema == Schema::Kubernetes => old_bool(&self.text).is_some(),
            (natural, kind) => natural == kind,
        }
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn as_bool(&self) -> Option<bool> {
        (self.kind == Kind::Bool).then(|| {
            matches!(self.text.as_bytes().first(), Some(b't' | b'T')) || old_bool(&self.text) == Some(true)
        })
    }

    /// An integer that fits, in any notation.
    pub fn as_i64(&self) -> Option<i64> {
        match self.int_value()? {
            Number::Int(value) => Some(value),
            _ => None,
        }
    }

    /// As [`as_i64`](Self::as_i64).
    pub fn as_u64(&self) -> Option<u64> {
        match self.int_value()? {
            Number::Int(value) => value.try_into().ok(),
            Number::Uint(value) => Some(value),
            Number::Float(_) => None,
        }
    }

    /// Any number, integers included.
    pub fn as_f64(&self) -> Option<f64> {
        match self.number()? {
            Number::Int(value) => Some(value as f64),
            Number::Uint(value) => Some(value as f64),
            Number::Float(value) => Some(value),
        }
    }

    /// A float as Go's `fmt` prints it in a text: with an exponent below 1e-4 and from 1e6, whole or not. `None` for any other
    /// scalar.
    pub fn printed_float(&self) -> Option<String> {
        let value = self.as_f64().filter(|value| self.kind == Kind::Float && value.is_finite())?;
        Some(general(&format!("{value:e}"), &value.to_string()))
    }

    /// A float as `sigs.k8s.io/yaml` gives it to a field that wants a text: with the precision of 32 bits. `None` for any
    /// other scalar.
    pub fn short_float(&self) -> Option<String> {
        self.as_f64().filter(|_| self.kind == Kind::Float).map(format_float_key)
    }

    /// The float that JSON decoders of Go make of a large integer, as go-yaml v3 writes it: with an exponent from 1e6.
    /// `None` for any other scalar.
    pub(crate) fn rounded(&self) -> Option<Self> {
        const DECIMAL: u64 = 1_000_000;
        let value = match self.int_value()? {
            Number::Int(value) if value.unsigned_abs() >= DECIMAL => value as f64,
            Number::Uint(value) => value as f64,
            _ => return None,
        };
        Some(Self::plain(general(&format!("{value:e}"), &value.to_string())))
    }

    fn int_value(&self) -> Option<Number> {
        (self.kind == Kind::Int).then(|| self.number())?
    }

    /// The number that an integer or float is.
    pub(crate) fn number(&self) -> Option<Number> {
        match self.kind {
            Kind::Int => parse_int(&self.text),
            Kind::Float => match parse_number(&self.text)? {
                Number::Int(value) => Some(Number::Float(value as f64)),
                Number::Uint(value) => Some(Number::Float(value as f64)),
                float => Some(float),
            },
            _ => None,
        }
    }

    /// Whether YAML 1.1 takes its text for a boolean where it is not quoted, and this does not.
    pub fn is_old_bool(&self) -> bool {
        self.kind == Kind::String && old_bool(&self.text).is_some()
    }

    /// Whether it is a string that would be a null, boolean or number without quotes.
    pub fn is_string_by_quotes(&self) -> bool {
        self.kind == Kind::String
            && !self.text.is_empty()
            && !matches!(resolve(&self.text), Kind::String | Kind::Timestamp)
    }

    /// The style in which a string stays one under both schemas.
    pub(crate) fn natural_style(&self) -> Style {
        if self.text.contains('\n') {
            Style::Literal
        } else if plain_is_string(&self.text) {
            Style::Plain
        } else {
            Style::DoubleQuoted
        }
    }

    /// The style that a string is written in which has none of its own: as bare as it can be.
    pub fn barest_style(&self) -> Style {
        match self.natural_style() {
            Style::Plain => {
                let analysis = analyze(&self.text, Writer::Kyaml);
                match (analysis.plain, analysis.single_quoted) {
                    (true, _) => Style::Plain,
                    (false, true) => Style::SingleQuoted,
                    (false, false) => Style::DoubleQuoted,
                }
            }
            style => style,
        }
    }
}

/// What a plain scalar means under [`Schema::Kustomize`].
pub(crate) fn resolve(text: &str) -> Kind {
    match text.as_bytes().first() {
        None => Kind::Null,
        Some(b'~' | b'n' | b'N' | b't' | b'T' | b'f' | b'F') => match text {
            "~" | "null" | "Null" | "NULL" => Kind::Null,
            "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => Kind::Bool,
            _ => Kind::String,
        },
        Some(b'+' | b'-' | b'.' | b'0'..=b'9') => match parse_number(text) {
            _ if timestamp::parse(text).is_some() => Kind::Timestamp,
            Some(Number::Int(_) | Number::Uint(_)) => Kind::Int,
            Some(Number::Float(_)) => Kind::Float,
            None => Kind::String,
        },
        Some(_) => Kind::String,
    }
}

/// The boolean that only YAML 1.1 sees in a plain scalar.
pub(crate) fn old_bool(text: &str) -> Option<bool> {
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(true),
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

/// Whether a text written plain reads back as a string with both libraries and YAML 1.1 parsers (whose numbers
/// to base 60, `12:30`, go-yaml quotes on output though it does not read them).
pub(crate) fn plain_is_string(text: &str) -> bool {
    match text.as_bytes().first() {
        None => false,
        Some(b'~' | b'n' | b'N' | b't' | b'T' | b'f' | b'F' | b'y' | b'Y' | b'o' | b'O') => {
            old_bool(text).is_none() && resolve(text) == Kind::String
        }
        Some(b'+' | b'-' | b'.' | b'0'..=b'9') => resolve(text) == Kind::String && !is_base60(text),
        Some(_) => true,
    }
}

fn is_base60(text: &str) -> bool {
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let Some((first, rest)) = text.split_once(':') else { return false };
    let (rest, fraction) = rest.split_once('.').unwrap_or((rest, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    first.starts_with(|c: char| c.is_ascii_digit())
        && digits(first)
        && digits(fraction)
        && rest.split(':').all(|part| match part.as_bytes() {
            [ones] => ones.is_ascii_digit(),
            [tens, ones] => (b'0'..=b'5').contains(tens) && ones.is_ascii_digit(),
            _ => false,
        })
}

fn parse_number(text: &str) -> Option<Number> {
    match text {
        ".nan" | ".NaN" | ".NAN" => return Some(Number::Float(f64::NAN)),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Some(Number::Float(f64::INFINITY)),
        "-.inf" | "-.Inf" | "-.INF" => return Some(Number::Float(f64::NEG_INFINITY)),
        _ => {}
    }
    if text.starts_with('.') {
        return parse_float(text);
    }
    parse_int(text).or_else(|| parse_float(&without_underscores(text)))
}

/// An integer in any notation: sign, `0x`, `0o`, `0b`, a leading `0` for octal, `_` anywhere.
fn parse_int(text: &str) -> Option<Number> {
    let text = without_underscores(text);
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, &text[..]),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, radix).ok()?;
    match (negative, i64::try_from(magnitude)) {
        (false, Ok(value)) => Some(Number::Int(value)),
        (false, Err(_)) if text.starts_with('+') => None,
        (false, Err(_)) => Some(Number::Uint(magnitude)),
        (true, _) => 0i64.checked_sub_unsigned(magnitude).map(Number::Int),
    }
}

/// A decimal float that is finite.
fn parse_float(text: &str) -> Option<Number> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mantissa_ok = digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty());
    let exponent_ok = exponent.is_none_or(|e| {
        let e = e.strip_prefix(['+', '-']).unwrap_or(e);
        !e.is_empty() && digits(e)
    });
    if !mantissa_ok || !exponent_ok {
        return None;
    }
    text.parse().ok().filter(|value: &f64| value.is_finite()).map(Number::Float)
}

fn without_underscores(text: &str) -> std::borrow::Cow<'_, str> {
    if text.contains('_') { text.replace('_', "").into() } else { text.into() }
}

/// A float as Go writes it once it went through JSON: an integer where one of 64 bits holds it, else the shortest
/// digits, with an exponent below 1e-4 and from 1e6 (`strconv.FormatFloat(value, 'g', -1, 64)`).
pub(crate) fn format_float(value: f64) -> String {
    if value.is_nan() {
        return ".nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { ".inf" } else { "-.inf" }.into();
    }
    match integral(value) {
        Some(Number::Int(value)) => return value.to_string(),
        Some(Number::Uint(value)) => return value.to_string(),
        _ => {}
    }
    general(&format!("{value:e}"), &value.to_string())
}

/// A float key as `sigs.k8s.io/yaml` makes a string of it: with the precision of 32 bits.
pub(crate) fn format_float_key(value: f64) -> String {
    let value = value as f32;
    if value.is_finite() {
        general(&format!("{value:e}"), &value.to_string())
    } else {
        format_float(value.into())
    }
}

/// The form that Go's `strconv.FormatFloat(value, 'g', -1, …)` takes of two: with an exponent, and without.
fn general(scientific: &str, decimal: &str) -> String {
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        return decimal.into();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

/// The integer that a float is once it went through JSON; `None` if it has a fraction or no integer holds it.
pub(crate) fn integral(value: f64) -> Option<Number> {
    if value.fract() != 0.0 || value.abs() >= 1e21 {
        return None;
    }
    // The shortest digits that give the float, filled up with zeros: what Go's encoder writes.
    parse_int(&format!("{value}"))
}
