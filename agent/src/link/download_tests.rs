use super::*;
use flotilla_proto::MAX_CHUNK;
use flotilla_proto::body::{Encoded, gone};

fn random(size: usize, seed: u64) -> Bytes {
    let blocks = (0..size as u64 / 32 + 1).flat_map(|n| Digest::of(&(n ^ seed << 32).to_be_bytes()).to_vec());
    Bytes::from(blocks.collect::<Vec<_>>()).slice(..size)
}

fn nothing(_: Digest) -> Option<Bytes> {
    None
}

fn wanting(body: &Bytes, base: Option<Digest>) -> (Download, Digest) {
    let digest = Digest::of(body);
    let mut download = Download::default();
    download.want(digest, base, body.len() as u32);
    assert_eq!(download.need().unwrap().bodies.len(), 1);
    (download, digest)
}

#[test]
fn pieces_come_in_any_order_and_more_than_once() {
    let body = random(5 * MAX_CHUNK / 2, 1);
    let (mut download, digest) = wanting(&body, None);
    let pieces = Encoded::of(&body, None).pieces(digest);
    assert_eq!(pieces.len(), 3);
    for at in [2, 0, 0, 2] {
        assert_eq!(download.take(pieces[at].clone(), nothing).unwrap(), Arrived::Nothing);
    }
    assert_eq!(download.take(pieces[1].clone(), nothing).unwrap(), Arrived::Body(digest, body));
    assert!(download.is_empty() && download.held == 0 && download.asked_bytes == 0);
    assert_eq!(download.take(pieces[1].clone(), nothing).unwrap(), Arrived::Nothing, "no longer asked for");
}

#[test]
fn a_base_that_went_away_makes_it_ask_for_the_whole() {
    let base = random(2_000, 1);
    let body = Bytes::from([&base[..], b"changed"].concat());
    let (mut download, digest) = wanting(&body, Some(Digest::of(&base)));
    let piece = Encoded::of(&body, Some((Digest::of(&base), &base))).pieces(digest).remove(0);
    assert!(piece.data.len() < 100);
    assert_eq!(download.take(piece.clone(), nothing).unwrap(), Arrived::Nothing);
    let need = download.need().unwrap();
    assert!(need.bodies[0].base.is_empty());
    assert_eq!(download.take(piece, |_| Some(base.clone())).unwrap(), Arrived::Body(digest, body));
}

#[test]
fn a_hub_that_sends_something_else_is_asked_again_and_then_left() {
    let body = random(1_000, 1);
    let (mut download, digest) = wanting(&body, None);
    let wrong = Encoded::of(&random(1_000, 2), None).pieces(digest).remove(0);
    for _ in 1..ATTEMPTS {
        assert_eq!(download.take(wrong.clone(), nothing).unwrap(), Arrived::Nothing);
        assert_eq!(download.need().unwrap().bodies.len(), 1);
    }
    assert!(
        matches!(download.take(wrong, nothing), Err(DownloadError::Body(bad, BadBody::Digest)) if bad == digest)
    );
}

#[test]
fn sizes_are_bounded_whatever_the_hub_says() {
    let body = random(1_000, 1);
    let good = Encoded::of(&body, None).pieces(Digest::of(&body)).remove(0);
    for bad in [
        v1::Body { size: MAX_BODY as u32 + 1, ..good.clone() },
        v1::Body { encoded_size: u32::MAX, ..good.clone() },
        v1::Body { offset: u32::MAX, ..good.clone() },
        v1::Body { offset: 1, ..good.clone() },
    ] {
        let (mut download, _) = wanting(&body, None);
        assert_eq!(download.take(bad, nothing).unwrap(), Arrived::Nothing);
        assert!(download.held == 0 && download.need().is_some());
    }
    let (mut download, digest) = wanting(&body, None);
    let chunk = random(MAX_CHUNK, 1);
    let flood = |offset: u32| v1::Body {
        digest: digest_bytes(Some(digest)),
        encoded_size: MAX_BODY as u32,
        size: MAX_BODY as u32,
        offset,
        data: chunk.clone(),
        ..Default::default()
    };
    let result = (0..100).map(|n| download.take(flood(n), nothing)).find(Result::is_err);
    assert!(result.is_some() || download.held <= MAX_BODY + MAX_CHUNK, "overlapping pieces end somewhere");
}

#[test]
fn batches_are_bounded_and_follow_each_other() {
    let mut download = Download::default();
    let bodies: Vec<Bytes> = (0..2_000).map(|n| random(200, n)).collect();
    for body in &bodies {
        download.want(Digest::of(body), None, body.len() as u32);
    }
    let mut asked = Vec::new();
    let mut at = 0;
    while !download.is_empty() {
        while let Some(need) = download.need() {
            asked.extend(need.bodies.iter().map(|body| Digest::try_from(&body.digest[..]).unwrap()));
        }
        assert!(asked.len() - at <= MAX_ASKED);
        let body = bodies.iter().find(|body| Digest::of(body) == asked[at]).unwrap();
        let piece = Encoded::of(body, None).pieces(asked[at]).remove(0);
        assert_eq!(download.take(piece, nothing).unwrap(), Arrived::Body(asked[at], body.clone()));
        at += 1;
    }
    assert_eq!(asked.len(), bodies.len());

    let mut download = Download::default();
    for n in 0..10 {
        download.want(Digest::of(&[n]), None, MAX_BODY as u32);
    }
    assert_eq!(download.need().unwrap().bodies.len(), 1, "large ones come one by one");
    assert_eq!(download.need(), None);
}

#[test]
fn what_is_gone_and_what_never_came() {
    let body = random(1_000, 1);
    let (mut download, digest) = wanting(&body, None);
    download.again();
    assert_eq!(download.need().unwrap().bodies.len(), 1);
    assert_eq!(download.take(gone(digest), nothing).unwrap(), Arrived::Gone(digest));
    assert_eq!(download.take(gone(digest), nothing).unwrap(), Arrived::Nothing);
    assert!(download.is_empty());
}
