//! ConfigMaps and Secrets from files, env files and literals, and the hash in their names.

use std::collections::BTreeMap;

use base64::Engine;
use flotilla_yaml::{Entry, Map, Node, Scalar, Schema, Style};

use crate::decode::Text;
use crate::error::{Fail, Res, fail};
use crate::load::{Context, Loaded, Loader};
use crate::node_ops::{stamp, style_of_new, text_at};
use crate::parts::GeneratorArgs;
use crate::resource::{Behavior, Resource};

/// What a generator makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Made {
    ConfigMap,
    Secret,
}

/// Makes the resource of one `configMapGenerator` or `secretGenerator` entry.
pub(crate) fn generate(cx: &mut Context, loader: &Loader, made: Made, args: &GeneratorArgs) -> Res<Resource> {
    generate_unplaced(cx, loader, made, args).map_err(|e| e.at(args.pos))
}

fn generate_unplaced(cx: &mut Context, loader: &Loader, made: Made, args: &GeneratorArgs) -> Res<Resource> {
    if args.name.is_empty() {
        return fail!("a configmap must have a name").map_err(|e: Fail| e.field("name").hint("give it one"));
    }
    let mut object = Map::with_capacity(6);
    let string = |text: &str| Node::string(text).at_pos(args.pos);
    object.insert("apiVersion", string("v1"));
    object.insert("kind", string(if made == Made::Secret { "Secret" } else { "ConfigMap" }));
    let mut metadata = Map::with_capacity(4);
    metadata.insert("name", string(&args.name));
    if !args.namespace.is_empty() {
        metadata.insert("namespace", string(&args.namespace));
    }
    if made == Made::Secret {
        object.insert("type", string(if args.secret_type.is_empty() { "Opaque" } else { &args.secret_type }));
    }
    let (mut data, mut binary) = (Map::default(), Map::default());
    for (key, value) in pairs(cx, loader, args)? {
        let (key, (value, pos)) = (key.as_str(), value);
        match (made, String::from_utf8(value)) {
            (Made::ConfigMap, Ok(text)) => data.push(Node::string(key), block(text).at_pos(pos)),
            (Made::ConfigMap, Err(e)) => {
                binary.push(Node::string(key), block(base64(e.as_bytes())).at_pos(pos))
            }
            (Made::Secret, Ok(text)) => {
                data.push(Node::string(key), block(base64(text.as_bytes())).at_pos(pos))
            }
            (Made::Secret, Err(e)) => data.push(Node::string(key), block(base64(e.as_bytes())).at_pos(pos)),
        };
    }
    if made == Made::Secret || !data.is_empty() {
        object.insert("data", Node::from(data));
    }
    if !binary.is_empty() {
        object.insert("binaryData", Node::from(binary));
    }
    let options = args.options.as_ref();
    if let Some(options) = options {
        let strings = |map: &BTreeMap<String, Text>| {
            let entries = map.iter().map(|(k, v)| Entry {
                key: Node::string(k.as_str()),
                value: Node::string(v.text.as_str()).at_pos(v.pos),
            });
            Node::from(entries.collect::<Map>())
        };
        if !options.labels.is_empty() {
            // kustomize puts quotes around each.
            let mut labels = strings(&options.labels);
            let values = labels.as_map_mut().into_iter().flat_map(Map::values_mut);
            values.for_each(|label| label.style = Style::SingleQuoted);
            metadata.insert("labels", labels);
        }
        if !options.annotations.is_empty() {
            metadata.insert("annotations", strings(&options.annotations));
        }
        if options.immutable {
            object.insert("immutable", Node::from(true));
        }
    }
    object.insert("metadata", Node::from(metadata));
    let mut object = Node::from(object);
    stamp(&mut object, args.pos);
    let mut resource = Resource::new(object);
    resource.needs_hash = !options.is_some_and(|o| o.disable_name_suffix_hash);
    resource.behavior = Some(Behavior::read(&args.behavior));
    resource.ensure_annotations();
    Ok(resource)
}

/// A string, in block style if it has several lines.
pub(crate) fn block(text: String) -> Node {
    let style = if text.contains('\n') { Style::Literal } else { style_of_new(&text) };
    Node::from(Scalar::string(text)).with_style(style)
}

/// Base64, in lines of 70 characters if it is longer than that.
fn base64(bytes: &[u8]) -> String {
    const LINE: usize = 70;
    let text = base64::engine::general_purpose::STANDARD.encode(bytes);
    if text.len() < LINE {
        return text;
    }
    let mut lines = String::with_capacity(text.len() + text.len() / LINE + 1);
    for (n, c) in text.chars().enumerate() {
        if n > 0 && n % LINE == 0 {
            lines.push('\n');
        }
        lines.push(c);
    }
    lines.push('\n');
    lines
}

type Pairs = BTreeMap<String, (Vec<u8>, flotilla_yaml::Pos)>;

/// All keys and values of a generator.
fn pairs(cx: &mut Context, loader: &Loader, args: &GeneratorArgs) -> Res<Pairs> {
    let mut pairs = Pairs::new();
    let mut put = |key: String, value: Vec<u8>, pos| -> Res<()> {
        if pairs.contains_key(&key) {
            return fail!("configmap {} illegally repeats the key `{key}`", args.name)
                .map_err(|e: Fail| e.at(pos).hint("keep one of them"));
        }
        pairs.insert(key, (value, pos));
        Ok(())
    };
    for (n, env) in args.envs.iter().enumerate() {
        let loaded =
            loader.load(cx, env).map_err(|e| e.field(format!("envs[{n}]")).context("loading KV pairs"))?;
        let failed = |e: Fail| e.field(format!("envs[{n}]"));
        for (key, value, line) in env_lines(&loaded).map_err(failed)? {
            let pos = flotilla_yaml::Pos { source: loaded.source, line, column: 1 };
            put(key, value.into_bytes(), pos)?;
        }
    }
    for (n, literal) in args.literals.iter().enumerate() {
        let (key, value) = literal_pair(literal).map_err(|e| e.field(format!("literals[{n}]")))?;
        put(key, value.into_bytes(), literal.pos)?;
    }
    for (n, file) in args.files.iter().enumerate() {
        let (key, path) = file_pair(file).map_err(|e| e.at(file.pos).field(format!("files[{n}]")))?;
        let path = Text::new(path, file.pos);
        let loaded =
            loader.load(cx, &path).map_err(|e| e.field(format!("files[{n}]")).context("loading KV pairs"))?;
        let pos = flotilla_yaml::Pos { source: loaded.source, line: 1, column: 1 };
        put(key, loaded.bytes.to_vec(), pos)?;
    }
    Ok(pairs)
}

/// `KEY=value` lines; blank ones and comments are left out.
fn env_lines(file: &Loaded) -> Res<Vec<(String, String, u32)>> {
    let bytes = file.bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&file.bytes);
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let line = bytes[..e.valid_up_to()].iter().filter(|b| **b == b'\n').count() as u32 + 1;
        let pos = flotilla_yaml::Pos { source: file.source, line, column: 0 };
        Fail::new("the line has invalid utf8 bytes")
            .at(pos)
            .hint("a value that is not text has to be a file of its own, named by files")
    })?;
    let mut result = Vec::new();
    for (n, line) in text.split_terminator('\n').enumerate() {
        // The carriage return at the end of the last line goes too where no line feed follows.
        let line = line.strip_suffix('\r').unwrap_or(line).trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        if !key.is_empty() {
            result.push((key.to_owned(), value.to_owned(), n as u32 + 1));
        }
    }
    Ok(result)
}

fn literal_pair(literal: &Text) -> Res<(String, String)> {
    let text = &literal.text;
    let Some((key, value)) = text.split_once('=').filter(|(key, _)| !key.is_empty()) else {
        return fail!("invalid literal source {text}, expected key=value").map_err(|e: Fail| {
            e.at(literal.pos).hint("a file is named by files, lines of key=value by envs")
        });
    };
    let quoted = value.len() >= 2
        && (value.starts_with('"') && value.ends_with('"')
            || value.starts_with('\'') && value.ends_with('\''));
    let value = if quoted { &value[1..value.len() - 1] } else { value };
    Ok((key.to_owned(), value.to_owned()))
}

fn file_pair(source: &Text) -> Res<(String, String)> {
    let text = &source.text;
    match text.matches('=').count() {
        0 => Ok((text.rsplit('/').next().unwrap_or_default().to_owned(), text.clone())),
        1 if text.starts_with('=') => {
            fail!("missing key name for file path \"{}\" in source \"{text}\"", &text[1..])
        }
        1 if text.ends_with('=') => {
            fail!("missing file path for key name \"{}\" in source \"{text}\"", &text[..text.len() - 1])
        }
        1 => {
            let (key, path) = text.split_once('=').expect("counted above");
            Ok((key.to_owned(), path.to_owned()))
        }
        _ => fail!("source \"{text}\" key name or file path contains '='"),
    }
}

/// Appends the content's hash to the names of generated resources that want one.
pub(crate) fn add_hash(resource: &mut Resource) -> Res<()> {
    if !resource.needs_hash {
        return Ok(());
    }
    let hash = hash(&resource.node)?;
    let name = format!("{}-{hash}", resource.name());
    resource.store_previous();
    resource.set_name(&name, resource.pos)
}

/// Ten characters of the SHA-256 of kind and content, in an alphabet that spells no words.
fn hash(node: &Node) -> Res<String> {
    let field = |name: &str| -> Res<serde_json::Value> {
        let by_key = |value: serde_json::Value| match value {
            serde_json::Value::Object(map) => {
                let sorted: BTreeMap<String, serde_json::Value> = map.into_iter().collect();
                serde_json::Value::Object(sorted.into_iter().collect())
            }
            other => other,
        };
        Ok(match node.get(name) {
            None => "".into(),
            Some(node) if node.is_scalar() => {
                node.text().filter(|_| !node.is_null()).unwrap_or_default().into()
            }
            Some(node) => {
                by_key(node.to_json_as(Schema::Kustomize).map_err(|e| Fail::new(e.message).at(e.pos))?)
            }
        })
    };
    let mut content: BTreeMap<&str, serde_json::Value> = BTreeMap::new();
    // kustomize looks for the name where it is not, so that the hash is one of the content alone.
    content.insert("name", "".into());
    let kind = text_at(node, &["kind"]);
    content.insert("kind", kind.into());
    match kind {
        "ConfigMap" | "Secret" => {
            content.insert("data", field("data")?);
            let other = if kind == "Secret" { "stringData" } else { "binaryData" };
            if node.get(other).is_some_and(Node::is_map) {
                content.insert(other, field(other)?);
            }
            if kind == "Secret" {
                content.insert("type", field("type")?);
            }
        }
        _ => {
            let json = node.to_json_as(Schema::Kustomize).map_err(|e| Fail::new(e.message).at(e.pos))?;
            content.insert("object", json);
        }
    }
    let text = serde_json::to_string(&content).map_err(|e| Fail::new(e.to_string()))?;
    let digest = ring::digest::digest(&ring::digest::SHA256, as_go_writes(&text).as_bytes());
    let hex = digest.as_ref().iter().take(5).map(|b| format!("{b:02x}")).collect::<String>();
    let letter = |c| match c {
        '0' => 'g',
        '1' => 'h',
        '3' => 'k',
        'a' => 'm',
        'e' => 't',
        c => c,
    };
    Ok(hex.chars().map(letter).collect())
}

/// JSON as Go's encoder writes it: some characters escaped that need not be.
fn as_go_writes(json: &str) -> String {
    let mut result = String::with_capacity(json.len());
    let mut chars = json.chars();
    while let Some(c) = chars.next() {
        match c {
            '<' => result.push_str("\\u003c"),
            '>' => result.push_str("\\u003e"),
            '&' => result.push_str("\\u0026"),
            '\u{2028}' => result.push_str("\\u2028"),
            '\u{2029}' => result.push_str("\\u2029"),
            '\\' => {
                result.push('\\');
                result.extend(chars.next());
            }
            c => result.push(c),
        }
    }
    result
}
