//! A large tree as a platform team has it: 1,000 objects and more in three layers, with patches, replacements, images,
//! labels and generators in each.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::tree::{Content, Tree};

/// Applications of the base; each is five objects.
const APPS: usize = 200;
/// Applications in one file.
const IN_FILE: usize = 10;

/// The tree; its root is `fleet`.
pub fn tree() -> Tree {
    let mut files = BTreeMap::new();
    let mut put = |path: &str, text: String| files.insert(path.to_owned(), Content::Bytes(text.into_bytes()));
    let mut resources = String::new();
    for file in 0..APPS / IN_FILE {
        let text: String = (file * IN_FILE..(file + 1) * IN_FILE).map(app).collect();
        let _ = writeln!(resources, "- apps-{file}.yaml");
        put(&format!("base/apps-{file}.yaml"), text);
    }
    put("base/kustomization.yaml", format!("{BASE}resources:\n{resources}"));
    put("base/settings.env", "LOG_LEVEL=info\nREGION=north\nTIMEOUT=30\n".to_owned());

    let mut patches = String::new();
    for app in (0..APPS).step_by(10) {
        let _ = write!(
            patches,
            "- target: {{kind: Deployment, name: app-{app}}}\n  patch: |\n    - op: replace\n      path: /spec/replicas\n      \
             value: 4\n    - op: add\n      path: /spec/template/spec/containers/0/env/-\n      value: {{name: SIZE, value: big}}\n"
        );
        put(&format!("environment/patch-{app}.yaml"), resources_patch(app));
        let _ = writeln!(patches, "- path: patch-{app}.yaml");
    }
    put("environment/kustomization.yaml", format!("{ENVIRONMENT}patches:\n{patches}"));
    put("fleet/kustomization.yaml", FLEET.to_owned());
    put("fleet/tolerate.yaml", TOLERATE.to_owned());
    Tree { files, root: "fleet".to_owned() }
}

fn app(n: usize) -> String {
    format!(
        "apiVersion: v1
kind: ServiceAccount
metadata:
  name: app-{n}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: app-{n}-files
data:
  app.conf: |
    listen = 0.0.0.0:8080
    name = app-{n}
  threads: \"{threads}\"
---
apiVersion: v1
kind: Service
metadata:
  name: app-{n}
  labels: {{app: app-{n}}}
spec:
  selector: {{app: app-{n}}}
  ports:
  - name: http
    port: 80
    targetPort: 8080
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: app-{n}
  labels:
    app: app-{n}
    tier: {tier}
spec:
  replicas: 2
  selector:
    matchLabels: {{app: app-{n}}}
  template:
    metadata:
      labels: {{app: app-{n}}}
      annotations:
        prometheus.io/scrape: \"true\"
    spec:
      serviceAccountName: app-{n}
      containers:
      - name: main
        image: registry.example/apps/app-{n}:1.0.0
        args: [--listen, \"0.0.0.0:8080\"]
        env:
        - name: NAME
          value: app-{n}
        - name: ENVIRONMENT
          value: unknown
        envFrom:
        - configMapRef:
            name: settings
        ports:
        - containerPort: 8080
        resources:
          requests: {{cpu: 50m, memory: 64Mi}}
        volumeMounts:
        - name: files
          mountPath: /etc/app
      - name: proxy
        image: registry.example/proxy
        ports:
        - containerPort: 9000
      volumes:
      - name: files
        configMap:
          name: app-{n}-files
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: app-{n}
spec:
  rules:
  - host: app-{n}.example
    http:
      paths:
      - path: /
        pathType: Prefix
        backend:
          service:
            name: app-{n}
            port: {{number: 80}}
---
",
        threads = n % 8 + 1,
        tier = ["front", "middle", "back"][n % 3],
    )
}

fn resources_patch(app: usize) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata:
  name: app-{app}
spec:
  template:
    spec:
      containers:
      - name: main
        resources:
          limits: {{cpu: 500m, memory: 256Mi}}
      - name: proxy
        $patch: delete
"
    )
}

const BASE: &str = "apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
labels:
- pairs: {part-of: platform}
  includeSelectors: true
configMapGenerator:
- name: settings
  envs: [settings.env]
secretGenerator:
- name: token
  literals: [token=none]
";

const ENVIRONMENT: &str = "apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [../base]
namespace: production
nameSuffix: -v2
images:
- name: registry.example/proxy
  newTag: 2.1.0
configMapGenerator:
- name: settings
  behavior: merge
  literals: [LOG_LEVEL=warn]
- name: environment
  literals: [name=production]
";

const FLEET: &str = "apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [../environment]
namePrefix: fleet-
commonAnnotations:
  owner: platform-team
labels:
- pairs: {cluster: north}
  includeTemplates: true
secretGenerator:
- name: token
  behavior: replace
  literals: [token=secret]
patches:
- path: tolerate.yaml
  target: {kind: Deployment, labelSelector: tier=back}
replacements:
- source: {kind: ConfigMap, name: environment, fieldPath: data.name}
  targets:
  - select: {kind: Deployment}
    fieldPaths:
    - spec.template.spec.containers.[name=main].env.[name=ENVIRONMENT].value
  - select: {kind: Ingress}
    fieldPaths: [spec.rules.0.host]
    options: {delimiter: ., index: 1}
sortOptions:
  order: legacy
";

const TOLERATE: &str = "apiVersion: apps/v1
kind: Deployment
metadata:
  name: any
spec:
  template:
    spec:
      tolerations:
      - key: dedicated
        operator: Exists
";
