//! ConfigMap and Secret generators with the files that they read.

use super::kustomization::Maker;
use super::rng::Rng;
use super::value::{Value, map, plain, texts};
use super::words::{NAMES, strings};

/// What a generator makes, as later layers name it to merge into it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Generated {
    pub(super) kind: &'static str,
    pub(super) name: String,
    pub(super) namespace: Option<&'static str>,
}

/// The list for `configMapGenerator` or `secretGenerator`.
pub(super) fn list(maker: &mut Maker, kind: &'static str, folder: &str) -> Value {
    let count = maker.rng.between(1, 2);
    let mut entries = Vec::new();
    for _ in 0..count {
        entries.push(one(maker, kind, folder));
    }
    entries.into()
}

/// One generator's arguments.
pub(super) fn one(maker: &mut Maker, kind: &'static str, folder: &str) -> Value {
    let earlier: Vec<Generated> = maker.generated.iter().filter(|one| one.kind == kind).cloned().collect();
    if !earlier.is_empty() && maker.rng.chance(40) {
        return onto(maker, &earlier, folder);
    }
    let serial = maker.serial();
    let name = format!("{}-{serial}", maker.rng.word(&NAMES));
    let mut args = map([("name", name.as_str())]);
    let namespace = maker.rng.chance(15).then(|| maker.rng.word(&["ns1", "ns2"]));
    if let Some(namespace) = namespace {
        args.set("namespace", namespace);
    }
    if maker.rng.chance(10) {
        args.set("behavior", "create");
    }
    if kind == "Secret" && maker.rng.chance(30) {
        args.set("type", maker.rng.word(&["Opaque", "kubernetes.io/tls", "x/y"]));
    }
    content(maker, &mut args, folder);
    if maker.rng.chance(30) {
        args.set("options", options(maker.rng));
    }
    maker.new_generated.push(Generated { kind, name, namespace });
    args
}

/// A generator that changes what a layer below generated.
fn onto(maker: &mut Maker, earlier: &[Generated], folder: &str) -> Value {
    let target = maker.rng.pick(earlier).clone();
    // Twice in one layer is another matter; each is changed once.
    maker.generated.retain(|one| *one != target);
    let mut args = map([("name", target.name.as_str())]);
    if let Some(namespace) = target.namespace {
        args.set("namespace", namespace);
    }
    args.set("behavior", maker.rng.word(&["merge", "merge", "replace"]));
    content(maker, &mut args, folder);
    if maker.rng.chance(15) {
        args.set("options", map([("labels", strings(maker.rng))]));
    }
    maker.new_generated.push(target);
    args
}

fn content(maker: &mut Maker, args: &mut Value, folder: &str) {
    const LITERALS: [&str; 12] = [
        "a=1",
        "b=\"q\"",
        "c=x=y",
        "d=",
        "e='z'",
        "f=on",
        "g=l1\\nl2",
        "h= lead",
        "i={\"a\": 1}",
        "j=é",
        "k=v",
        "l=a,b:c",
    ];
    let mut literals: Vec<&str> = Vec::new();
    for _ in 0..maker.rng.between(0, 3) {
        let literal = maker.rng.word(&LITERALS);
        if !literals.contains(&literal) {
            literals.push(literal);
        }
    }
    if !literals.is_empty() {
        args.set("literals", texts(literals));
    }
    if maker.rng.chance(30) {
        let serial = maker.serial();
        let text = maker.rng.word(&[
            "hello\nworld\n",
            "x",
            "trailing  \n\n",
            "",
            "a: 1\nb:\n  - c\n",
            "\n lead\n",
            "no end\nhere",
            "# only a comment\n",
        ]);
        let binary = maker.rng.chance(8);
        let bytes = if binary { vec![0, 159, 146, 150] } else { text.as_bytes().to_vec() };
        maker.bytes(folder, &format!("f{serial}.txt"), bytes);
        let file = format!("f{serial}.txt");
        args.set("files", texts([if maker.rng.chance(50) { file } else { format!("key.txt={file}") }]));
    }
    if maker.rng.chance(20) {
        let serial = maker.serial();
        let text = maker.rng.word(&["# c\nX=1\n\n Y=a b\nZ=\"q\"\n", "W=", "V=1=2\nU='x'\n"]);
        maker.bytes(folder, &format!("e{serial}.env"), text.as_bytes().to_vec());
        let file = format!("e{serial}.env");
        if maker.rng.chance(20) {
            args.set("env", file);
        } else {
            args.set("envs", texts([file]));
        }
    }
}

/// `generatorOptions`, or the options of one generator.
pub(super) fn options(rng: &mut Rng) -> Value {
    let mut options = Value::Map(Vec::new());
    if rng.chance(40) {
        options.set("labels", strings(rng));
    }
    if rng.chance(40) {
        options.set("annotations", strings(rng));
    }
    if rng.chance(35) {
        options.set("disableNameSuffixHash", plain("true"));
    }
    if rng.chance(20) {
        options.set("immutable", plain("true"));
    }
    options
}
