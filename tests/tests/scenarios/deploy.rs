//! What `deploy/` has for Kubernetes, on a real API server: it is taken as it is, and its pods are let in where the strictest
//! pod security is enforced.

use std::path::Path;

use flotilla_tests::objects::apply;
use flotilla_tests::{ClusterOptions, Clusters};
use serde_json::{Value, json};

/// The pod that a StatefulSet would make.
fn pod(stateful_set: &Value) -> Value {
    let mut spec = stateful_set["spec"]["template"]["spec"].clone();
    let claims = stateful_set["spec"]["volumeClaimTemplates"].as_array().unwrap();
    let volumes = claims.iter().map(|claim| json!({"name": claim["metadata"]["name"], "emptyDir": {}}));
    let volumes: Vec<Value> = spec["volumes"].as_array().unwrap().iter().cloned().chain(volumes).collect();
    spec["volumes"] = volumes.into();
    let mut metadata = stateful_set["spec"]["template"]["metadata"].clone();
    metadata["name"] = json!("one");
    metadata["namespace"] = stateful_set["metadata"]["namespace"].clone();
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
}

#[tokio::test]
async fn the_manifests_are_taken_where_pod_security_is_strictest() {
    let clusters = Clusters::new().await.unwrap();
    let cluster = clusters.start_one("deploy", &ClusterOptions::bare()).await.unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let mut pods = 0;
    for file in [
        "hub.yaml",
        "hub-backup.yaml",
        "agent.yaml",
        "agent-reads-everything.yaml",
        "agent-cluster-admin.yaml",
    ] {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        for document in flotilla_yaml::parse(&text).unwrap().iter().map(|node| node.to_json().unwrap()) {
            apply(&cluster.client(), "kubectl", &document).await.unwrap();
            if document["kind"] == "StatefulSet" {
                apply(&cluster.client(), "kubectl", &pod(&document)).await.unwrap();
                // It is the label that lets in no other.
                let mut lax = pod(&document);
                lax["metadata"]["name"] = json!("two");
                lax["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = json!(true);
                let refused = apply(&cluster.client(), "kubectl", &lax).await.unwrap_err();
                assert!(format!("{refused:#}").contains("restricted"), "{refused:#}");
                pods += 1;
            }
        }
    }
    assert_eq!(pods, 2);
}
