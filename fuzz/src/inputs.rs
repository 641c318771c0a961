//! What targets share: the format of their inputs, archives, and the stack that they run on.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use flotilla_kustomize::files::TreePath;

/// What stands between the parts of an input.
const BREAK: &[u8] = b"\n=====\n";

/// The parts of an input. No more than are of use: an input that is longer only takes time.
pub(crate) fn parts(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    const MOST: usize = 24;
    let mut parts = Vec::new();
    while parts.len() < MOST {
        match bytes.windows(BREAK.len()).position(|window| window == BREAK) {
            Some(at) => {
                parts.push(bytes[..at].to_vec());
                bytes = &bytes[at + BREAK.len()..];
            }
            None => {
                parts.push(bytes.to_vec());
                break;
            }
        }
    }
    parts
}

/// What a text of the table stands for: `\xFF` is a byte, `\u{85}` a character, `\r`, `\t`, `\\`; a `\` at a line's end joins
/// lines. What is no escape stands for itself.
pub(crate) fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        let mut buffer = [0; 4];
        let byte = after.strip_prefix('x').and_then(|after| {
            let (digits, after) = (after.get(..2)?, after.get(2..)?);
            Some((vec![u8::from_str_radix(digits, 16).ok()?], after))
        });
        let mut character = || {
            let (code, after) = after.strip_prefix("u{")?.split_once('}')?;
            let c = u32::from_str_radix(code, 16).ok().and_then(char::from_u32)?;
            Some((c.encode_utf8(&mut buffer).as_bytes().to_vec(), after))
        };
        let short = [("r", &b"\r"[..]), ("t", b"\t"), ("\\", b"\\"), ("\n", b"")];
        let short = short.iter().find_map(|(name, means)| Some((means.to_vec(), after.strip_prefix(name)?)));
        let (means, next) = byte.or_else(&mut character).or(short).unwrap_or_else(|| (b"\\".to_vec(), after));
        bytes.extend(means);
        rest = next;
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// The files of a text in the format of `kustomize/tests/table`: `-- PATH` before each.
pub(crate) fn files(text: &str) -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix("-- "), files.last_mut()) {
            (Some(path), _) => files.push((path.to_owned(), String::new())),
            (None, Some((_, content))) => {
                content.push_str(line);
                content.push('\n');
            }
            (None, None) => {}
        }
    }
    files
}

/// The files of a tree as there are such: paths without empty parts and dots.
pub(crate) fn tree(text: &str) -> Vec<(String, String)> {
    let is_plain =
        |path: &str| TreePath::from_root(path).is_ok_and(|read| read.as_str() == path && !path.is_empty());
    files(text).into_iter().filter(|(path, _)| is_plain(path)).collect()
}

/// Runs a target on a thread with the stack that the hub gives to renders: what is too deep for it ends with an artifact,
/// not with a signal that nobody hears of.
pub(crate) fn on_thread(work: impl FnOnce() + Send) {
    const STACK: usize = 16 << 20;
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
        thread.expect("the machine has a thread more").join().expect("it panics by aborting");
    });
}

/// Puts what a part has been made to (an id, a digest) where the parts before it name it: `@N@`, and `#N#` for its bytes.
/// `make` is called for the last part first, with what it names filled in.
pub(crate) fn linked(mut parts: Vec<Vec<u8>>, make: impl Fn(&[u8]) -> (String, Vec<u8>)) -> Vec<Vec<u8>> {
    let mut made: Vec<(usize, String, Vec<u8>)> = Vec::new();
    for at in (0..parts.len()).rev() {
        for (number, text, bytes) in &made {
            parts[at] = replaced(&parts[at], format!("@{number}@").as_bytes(), text.as_bytes());
            parts[at] = replaced(&parts[at], format!("#{number}#").as_bytes(), bytes);
        }
        let (text, bytes) = make(&parts[at]);
        made.push((at, text, bytes));
    }
    parts
}

fn replaced(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.windows(from.len()).position(|window| window == from) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    out.extend_from_slice(rest);
    out
}

/// The files as an archive, without any check of their names.
pub(crate) fn tar(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut out = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        let name = &path.as_bytes()[..path.len().min(100)];
        header.as_gnu_mut().expect("it was made so").name[..name.len()].copy_from_slice(name);
        header.set_cksum();
        out.append(&header, content.as_slice()).expect("memory takes everything");
    }
    out.into_inner().expect("memory takes everything")
}

/// Compressed as little as can be, so that inputs show through.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::none());
    out.write_all(bytes).expect("memory takes everything");
    out.finish().expect("memory takes everything")
}
