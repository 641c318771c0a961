use super::*;

/// What is found in an object, as `role namespace/name field`.
fn found(yaml: &str) -> Vec<String> {
    let object = flotilla_yaml::parse(yaml).unwrap()[0].to_json().unwrap();
    let line = |SecretUse { namespace, name, field, role }| format!("{role:?} {namespace}/{name} {field}");
    secrets_of(&object).into_iter().map(line).collect()
}

#[test]
fn every_place_that_names_a_secret_is_found() {
    for (yaml, expected) in [
        (
            "{apiVersion: apps/v1, kind: Deployment, metadata: {name: a, namespace: web}, spec: {template: {spec: {
                containers: [{name: b, envFrom: [{configMapRef: {name: no}}, {secretRef: {name: one}}],
                  env: [{name: X, valueFrom: {secretKeyRef: {name: two, key: k}}}]}],
                imagePullSecrets: [{name: three}],
                volumes: [{name: v, secret: {secretName: four}}, {name: w, projected: {sources: [{secret: {name: five}}]}},
                  {name: c, configMap: {name: no}}, {name: d, csi: {nodePublishSecretRef: {name: six}}}]}}}}",
            vec![
                "Uses web/two spec.template.spec.containers[0].env[0].valueFrom.secretKeyRef.name",
                "Uses web/one spec.template.spec.containers[0].envFrom[1].secretRef.name",
                "Uses web/three spec.template.spec.imagePullSecrets[0].name",
                "Uses web/four spec.template.spec.volumes[0].secret.secretName",
                "Uses web/five spec.template.spec.volumes[1].projected.sources[0].secret.name",
                "Uses web/six spec.template.spec.volumes[3].csi.nodePublishSecretRef.name",
            ],
        ),
        (
            "{apiVersion: kustomize.toolkit.fluxcd.io/v1, kind: Kustomization, metadata: {name: a, namespace: flux-system},
              spec: {decryption: {secretRef: {name: keys}}, sourceRef: {kind: GitRepository, name: no},
                postBuild: {substituteFrom: [{kind: ConfigMap, name: no}, {kind: Secret, name: values}]}}}",
            vec![
                "Uses flux-system/keys spec.decryption.secretRef.name",
                "Uses flux-system/values spec.postBuild.substituteFrom[1].name",
            ],
        ),
        (
            "{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: a, namespace: web}, spec: {tls: [{secretName: tls}]}}",
            vec!["Uses web/tls spec.tls[0].secretName"],
        ),
        (
            "{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: a, namespace: web}, spec: {listeners: [
              {tls: {certificateRefs: [{name: own}, {name: other, namespace: certs}, {kind: ConfigMap, name: no}]}}]}}",
            vec![
                "Uses web/own spec.listeners[0].tls.certificateRefs[0].name",
                "Uses certs/other spec.listeners[0].tls.certificateRefs[1].name",
            ],
        ),
        (
            "{apiVersion: v1, kind: ServiceAccount, metadata: {name: a, namespace: web}, imagePullSecrets: [{name: pull}]}",
            vec!["Uses web/pull imagePullSecrets[0].name"],
        ),
        (
            "{apiVersion: cert-manager.io/v1, kind: ClusterIssuer, metadata: {name: a}, spec: {acme: {privateKeySecretRef: {name: key}}}}",
            vec!["Uses /key spec.acme.privateKeySecretRef.name"],
        ),
        (
            "{apiVersion: cert-manager.io/v1, kind: Certificate, metadata: {name: a, namespace: web}, spec: {secretName: tls}}",
            vec!["Makes web/tls spec.secretName"],
        ),
        (
            "{apiVersion: bitnami.com/v1alpha1, kind: SealedSecret, metadata: {name: a, namespace: web}, spec: {encryptedData: {x: y}}}",
            vec!["Makes web/a metadata.name"],
        ),
        (
            "{apiVersion: external-secrets.io/v1, kind: ExternalSecret, metadata: {name: a, namespace: web},
              spec: {target: {name: b}, secretStoreRef: {name: no, kind: SecretStore}}}",
            vec!["Makes web/b spec.target.name"],
        ),
        (
            "{apiVersion: secrets-store.csi.x-k8s.io/v1, kind: SecretProviderClass, metadata: {name: a, namespace: web},
              spec: {secretObjects: [{secretName: made, data: []}]}}",
            vec!["Makes web/made spec.secretObjects[0].secretName"],
        ),
        (
            "{apiVersion: v1, kind: Secret, metadata: {name: a, namespace: web}, data: {secretName: eA==}}",
            vec!["Makes web/a metadata.name"],
        ),
        ("{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: web}, data: {secretName: x}}", vec![]),
        ("{kind: none}", vec![]),
    ] {
        assert_eq!(found(yaml), expected, "{yaml}");
    }
}

#[test]
fn an_object_that_names_very_many_tells_the_first() {
    let entries = "{secretName: x},".repeat(2 * MOST);
    let yaml = format!("{{apiVersion: v1, kind: X, metadata: {{name: a}}, spec: [{entries}]}}");
    assert_eq!(found(&yaml).len(), MOST);
}
