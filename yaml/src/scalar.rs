//! What scalars mean to Kubernetes' tools.

use smol_str::SmolStr;

use crate::node::Style;

/// A scalar's text as written (after unquoting) and what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// timestamps.
    Kustomize,
}

impl Scalar {
    /// What a plain scalar of this text means.
    pub fn plain(text: impl Into<SmolStr>) -> Self {
        let text = text.into();
        let kind = resolve(&text, Schema::Kustomize);
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

    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn as_bool(&self) -> Option<bool> {
        (self.kind == Kind::Bool).then(|| matches!(self.text.as_bytes().first(), Some(b't' | b'T')))
    }

    /// An integer that fits, in any notation.
    pub fn as_i64(&self) -> Option<i64> {
        unimplemented!("follows")
    }

    /// As [`as_i64`](Self::as_i64).
    pub fn as_u64(&self) -> Option<u64> {
        unimplemented!("follows")
    }

    /// Any number, integers included.
    pub fn as_f64(&self) -> Option<f64> {
        unimplemented!("follows")
    }

    /// The style in which the scalar keeps its kind under both schemas.
    pub(crate) fn natural_style(&self) -> Style {
        unimplemented!("follows")
    }
}

/// What a plain scalar means.
pub(crate) fn resolve(text: &str, schema: Schema) -> Kind {
    let _ = (text, schema);
    unimplemented!("follows")
}
