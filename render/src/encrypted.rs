//! Recognising content that SOPS encrypted: it must not reach a cluster as it is.

use flotilla_yaml::{Node, Value};

/// How each value that SOPS encrypted begins.
const VALUE: &str = "ENC[AES256_GCM,data:";

/// Whether an object was encrypted as a whole. A `sops` field of its own making is a custom resource's business; SOPS's
/// has a checksum.
pub(crate) fn is_whole(node: &Node) -> bool {
    node.at(&["sops", "mac"]).is_some()
}

/// Whether an object, or a file within one (a value of a Secret or ConfigMap), is encrypted.
pub(crate) fn is_encrypted(node: &Node) -> bool {
    // A `sops` field of its own making is a custom resource's business; SOPS's has a checksum.
    node.at(&["sops", "mac"]).is_some()
        || node.any(&|node| matches!(&node.value, Value::Scalar(_)) && hides(node))
}

fn hides(node: &Node) -> bool {
    let text = node.text().unwrap_or_default();
    text.contains(VALUE) || is_base64_of(text)
}

/// Whether base64 text holds an encrypted value. Three bytes make four characters, so the beginning of the value reads
/// in one of three ways, by where in the text it stands.
fn is_base64_of(text: &str) -> bool {
    // `ENC[AES256_GCM,` behind 0, 1 or 2 bytes of a group, without the characters that other bytes share.
    const CORES: [&str; 3] = ["RU5DW0FFUzI1Nl9HQ00s", "VOQ1tBRVMyNTZfR0NN", "FTkNbQUVTMjU2X0dDT"];
    text.len() >= CORES[0].len() && CORES.iter().any(|core| text.contains(core))
}

/// Whether a value of a variable is encrypted.
pub(crate) fn is_encrypted_value(text: &str) -> bool {
    text.contains(VALUE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encrypted_content_is_told_from_other() {
        for (yaml, expected) in [
            ("kind: Secret\nsops: {mac: 'ENC[AES256_GCM,data:x,type:str]', lastmodified: t}\n", true),
            ("kind: Secret\nstringData: {a: 'ENC[AES256_GCM,data:abc,iv:x]'}\n", true),
            ("kind: ConfigMap\ndata:\n  a.env: |\n    KEY=ENC[AES256_GCM,data:abc]\n    sops_mac=x\n", true),
            // echo -n 'X=ENC[AES256_GCM,data:abc]' | base64, with X of no, one, two and three characters
            ("kind: Secret\ndata: {a: RU5DW0FFUzI1Nl9HQ00sZGF0YTphYmNd}\n", true),
            ("kind: Secret\ndata: {a: PUVOQ1tBRVMyNTZfR0NNLGRhdGE6YWJjXQ==}\n", true),
            ("kind: Secret\ndata: {a: WD1FTkNbQUVTMjU2X0dDTSxkYXRhOmFiY10=}\n", true),
            ("kind: Secret\ndata: {a: WFg9RU5DW0FFUzI1Nl9HQ00sZGF0YTphYmNd}\n", true),
            ("kind: Secret\nstringData: {a: 'ENC'}\ndata: {b: aGVsbG8=}\n", false),
            ("kind: Operator\nsops: {version: 1}\n", false),
        ] {
            assert_eq!(is_encrypted(&flotilla_yaml::parse(yaml).unwrap()[0]), expected, "{yaml}");
        }
    }
}
