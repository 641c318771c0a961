//! What a Git server sends, through a whole fetch and every file that comes of it. An input is the conversation as it
//! stands (`raw`, then a part for each answer), or the objects of a pack that is put together rightly: a part for each, of
//! which the first letter is its kind, and the first one the branch's commit. Parts name each other by `@N@` and `#N#`.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::inputs::{linked, parts};
use crate::server::{self, Answer};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use flotilla_kustomize::files::{Files, Kind, TreePath};
use flotilla_source::{GitLimits, GitRepo, GitSpec};
use gix::objs::Kind as Object;

pub fn run(bytes: &[u8]) {
    let mut parts = parts(bytes);
    let address = if parts[0] == b"raw" {
        parts.remove(0);
        let asked = AtomicUsize::new(0);
        server::answer(move |request| {
            let number = asked.fetch_add(1, Ordering::SeqCst).min(parts.len());
            answer(&request.line, parts.get(number).or(parts.last()).cloned().unwrap_or_default())
        })
    } else {
        let (pack, tip) = pack(parts);
        server::answer(move |request| {
            let text =
                |needle: &str| request.body.windows(needle.len()).any(|window| window == needle.as_bytes());
            let said = if request.line.starts_with("GET ") {
                lines(&["# service=git-upload-pack\n", "", "version 2\n", "ls-refs\n", "fetch=shallow\n", ""])
            } else if text("command=ls-refs") {
                lines(&[&format!("{tip} refs/heads/main\n"), ""])
            } else {
                let mut said = lines(&["packfile\n"]);
                for chunk in pack.chunks(60_000) {
                    said.extend(format!("{:04x}\x01", chunk.len() + 5).as_bytes());
                    said.extend(chunk);
                }
                said.extend(b"0000");
                said
            };
            answer(&request.line, said)
        })
    };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let url = format!("http://{address}/fleet.git").parse().expect("an address");
    let limits = GitLimits {
        file_bytes: 1 << 20,
        clone_bytes: 4 << 20,
        object_bytes: 1 << 20,
        timeout: Duration::from_secs(8),
    };
    let spec = GitSpec { limits, ..GitSpec::new(url, "main".parse().expect("a branch")) };
    let mut repo = GitRepo::open(dir.path().join("clone"), spec).expect("a new folder");
    let Ok(commit) = repo.fetch(&AtomicBool::new(false)) else { return };
    assert_eq!(repo.newest().map(|newest| newest.id), Some(commit.id.clone()));
    if let Ok(files) = repo.tree(&commit.id) {
        walk(&files, &TreePath::root(), &mut 200);
    }
}

fn walk(files: &dyn Files, folder: &TreePath, left: &mut u32) {
    let Ok(entries) = files.list(folder) else { return };
    for (name, entry) in entries {
        let Some(less) = left.checked_sub(1) else { return };
        *left = less;
        // Names that lead out are refused where the folder is listed; too deep ones here.
        let Ok(path) = folder.join(&name) else { continue };
        assert!(files.entry(&path).is_ok_and(|found| found == Some(entry)), "{path}");
        match entry.kind {
            Kind::Folder => walk(files, &path, left),
            Kind::File => drop(files.read(&path)),
            _ => {}
        }
    }
}

fn answer(request: &str, body: Vec<u8>) -> Answer {
    let kind = if request.starts_with("GET ") { "advertisement" } else { "result" };
    (format!("200 OK\r\ncontent-type: application/x-git-upload-pack-{kind}\r\n"), body)
}

/// Lines of the protocol; an empty one ends a group of them.
fn lines(lines: &[&str]) -> Vec<u8> {
    let line = |line: &&str| match line.len() {
        0 => "0000".to_owned(),
        length => format!("{:04x}{line}", length + 4),
    };
    lines.iter().map(line).collect::<String>().into_bytes()
}

fn kind(letter: Option<&u8>) -> (Object, u8) {
    match letter {
        Some(b'c') => (Object::Commit, 1),
        Some(b't') => (Object::Tree, 2),
        Some(b'g') => (Object::Tag, 4),
        // A difference to the object whose id stands before it.
        Some(b'd') => (Object::Blob, 7),
        _ => (Object::Blob, 3),
    }
}

/// A pack of the objects, and the id of the first.
fn pack(parts: Vec<Vec<u8>>) -> (Vec<u8>, String) {
    let id = |part: &[u8]| {
        let (kind, _) = kind(part.first());
        let id = gix::objs::compute_hash(gix::hash::Kind::Sha1, kind, part.get(1..).unwrap_or_default());
        id.unwrap_or_else(|_| gix::ObjectId::null(gix::hash::Kind::Sha1))
    };
    let parts = linked(parts, |part| (id(part).to_string(), id(part).as_slice().to_vec()));
    let tip = id(&parts[0]).to_string();
    let mut pack = b"PACK\0\0\0\x02".to_vec();
    pack.extend(u32::try_from(parts.len()).expect("parts are few").to_be_bytes());
    for part in &parts {
        let (_, number) = kind(part.first());
        let mut content = part.get(1..).unwrap_or_default();
        let mut base = &[][..];
        if number == 7 {
            (base, content) = content.split_at(content.len().min(20));
        }
        let mut size = content.len();
        let mut byte = number << 4 | (size & 15) as u8;
        size >>= 4;
        while size > 0 {
            pack.push(byte | 0x80);
            byte = (size & 0x7f) as u8;
            size >>= 7;
        }
        pack.push(byte);
        pack.extend(base);
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::none());
        zlib.write_all(content).expect("memory takes everything");
        pack.extend(zlib.finish().expect("memory takes everything"));
    }
    let mut hasher = gix::hash::hasher(gix::hash::Kind::Sha1);
    hasher.update(&pack);
    if let Ok(sum) = hasher.try_finalize() {
        pack.extend(sum.as_slice());
    }
    (pack, tip)
}
