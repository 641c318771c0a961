//! Pod templates: every list that is merged by a key, and some that are not.

use serde_json::{Value, json};

use super::Draw;

/// The spec of a pod template.
pub(super) fn spec(draw: &mut Draw, restart: Option<&str>) -> Value {
    draw.inside("pod", |draw| {
        let mut pod = json!({});
        pod["containers"] = draw.items("containers", &["web", "side", "log"], 1, container);
        draw.maybe(&mut pod, "initContainers", 25, |draw, _| {
            draw.items("initContainers", &["init", "fetch"], 1, container)
        });
        // Mounts name these, whichever they are.
        pod["volumes"] = Value::Array(["one", "two"].into_iter().map(|name| volume(draw, name)).collect());
        draw.maybe(&mut pod, "hostAliases", 25, |draw, _| {
            draw.items(
                "hostAliases",
                &["10.0.0.1", "10.0.0.2", "10.0.0.3"],
                1,
                |draw, ip| json!({"ip": ip, "hostnames": hosts(draw)}),
            )
        });
        draw.maybe(&mut pod, "imagePullSecrets", 25, |draw, _| {
            draw.items("imagePullSecrets", &["reg-a", "reg-b", "reg-c"], 1, |_, name| json!({"name": name}))
        });
        draw.maybe(&mut pod, "tolerations", 25, |draw, _| {
            draw.items("tolerations", &["gpu", "spot"], 0, |_, key| json!({"key": key, "operator": "Exists"}))
        });
        draw.maybe(&mut pod, "topologySpreadConstraints", 25, |draw, _| {
            draw.items("topologySpreadConstraints", &["zone", "host"], 1, |draw, key| {
                let skew = draw.rng("maxSkew").between(1, 3);
                json!({"topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway", "maxSkew": skew})
            })
        });
        draw.maybe(&mut pod, "nodeSelector", 25, |draw, _| draw.texts("nodeSelector", 3).without_odd());
        draw.maybe(&mut pod, "securityContext", 30, |draw, _| {
            let mut context = json!({});
            draw.one_of(&mut context, "runAsNonRoot", 50, &[true.into(), false.into()]);
            draw.one_of(&mut context, "fsGroup", 50, &[0.into(), 1000.into()]);
            draw.maybe(
                &mut context,
                "sysctls",
                30,
                |_, _| json!([{"name": "net.ipv4.ip_local_port_range", "value": "1 2"}]),
            );
            context
        });
        draw.maybe(&mut pod, "affinity", 20, |draw, _| affinity(draw));
        draw.one_of(&mut pod, "terminationGracePeriodSeconds", 30, &[0.into(), 5.into(), 30.into()]);
        draw.one_of(&mut pod, "serviceAccountName", 30, &["default".into(), "other".into()]);
        draw.one_of(&mut pod, "priorityClassName", 10, &["system-node-critical".into()]);
        draw.one_of(&mut pod, "dnsPolicy", 20, &["ClusterFirst".into(), "Default".into()]);
        draw.one_of(&mut pod, "hostNetwork", 10, &[false.into()]);
        draw.one_of(&mut pod, "enableServiceLinks", 20, &[true.into(), false.into()]);
        if let Some(restart) = restart {
            pod["restartPolicy"] = restart.into();
        }
        pod
    })
}

trait WithoutOdd {
    fn without_odd(self) -> Self;
}

impl WithoutOdd for Value {
    /// Only texts that are values of labels.
    fn without_odd(mut self) -> Self {
        if let Some(map) = self.as_object_mut() {
            map.retain(|_, value| value.as_str().is_some_and(|text| !text.contains(' ')));
        }
        self
    }
}

fn hosts(draw: &mut Draw) -> Value {
    let mut rng = draw.rng("hostnames");
    let all = ["a.example", "b.example", "c.example"];
    let count = rng.between(1, 3);
    Value::Array(all[..count].iter().map(|host| Value::from(*host)).collect())
}

fn volume(draw: &mut Draw, name: &'static str) -> Value {
    draw.inside(&format!("volumes/{name}"), |draw| {
        let mut volume = json!({"name": name});
        match draw.rng("source").below(5) {
            0 => volume["emptyDir"] = json!({}),
            1 => volume["emptyDir"] = json!({"medium": "Memory"}),
            2 => {
                volume["configMap"] = json!({"name": "settings"});
                draw.maybe(&mut volume["configMap"], "items", 50, |draw, _| {
                    draw.items("items", &["a", "b"], 1, |_, key| json!({"key": key, "path": key}))
                });
                draw.one_of(&mut volume["configMap"], "defaultMode", 30, &[420.into(), 256.into()]);
            }
            3 => volume["secret"] = json!({"secretName": draw.rng("secretName").word(&["one", "two"])}),
            _ => {
                volume["projected"]["sources"] =
                    draw.items("sources", &["one", "two"], 1, |_, name| json!({"configMap": {"name": name}}));
            }
        }
        volume
    })
}

fn affinity(draw: &mut Draw) -> Value {
    let zone = draw.rng("zone").word(&["a", "b"]);
    let weight = draw.rng("weight").between(1, 100);
    let expressions = json!([{"key": "zone", "operator": "In", "values": [zone]}]);
    json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution":
        [{"weight": weight, "preference": {"matchExpressions": expressions}}]}})
}

fn container(draw: &mut Draw, name: &'static str) -> Value {
    let image = draw.rng("image").word(&["web:1", "web:2", "example.com/web@sha256:0"]);
    let mut container = json!({"name": name, "image": image});
    draw.maybe(&mut container, "env", 60, |draw, _| {
        draw.items("env", &["A", "B", "C", "D"], 0, |draw, name| {
            let mut env = json!({"name": name});
            match draw.rng("from").below(5) {
                0 => env["valueFrom"] = json!({"fieldRef": {"fieldPath": "metadata.name"}}),
                1 => env["valueFrom"] = json!({"secretKeyRef": {"name": "keys", "key": name}}),
                2 => {}
                _ => env["value"] = draw.rng("value").word(&["1", "2", ""]).into(),
            }
            env
        })
    });
    draw.maybe(&mut container, "envFrom", 25, |draw, _| {
        draw.items("envFrom", &["one", "two"], 0, |_, name| json!({"configMapRef": {"name": name}}))
    });
    draw.maybe(&mut container, "ports", 60, |draw, _| {
        draw.items("ports", &["80", "8080", "53"], 0, |draw, port| {
            let mut entry = json!({"containerPort": port.parse::<u16>().unwrap_or(1)});
            draw.one_of(&mut entry, "name", 50, &[format!("p{port}").into(), format!("q{port}").into()]);
            draw.one_of(&mut entry, "protocol", 50, &["TCP".into(), "UDP".into()]);
            entry
        })
    });
    draw.maybe(&mut container, "volumeMounts", 50, |draw, _| {
        draw.items("volumeMounts", &["/a", "/b", "/c"], 0, |draw, path| {
            let mut mount = json!({"mountPath": path, "name": draw.rng("name").word(&["one", "two"])});
            // Flux drops what is false here, and `tty`, before it applies: docs/flux.md.
            draw.one_of(&mut mount, "readOnly", 40, &[true.into()]);
            draw.one_of(&mut mount, "subPath", 20, &["x".into(), "y".into()]);
            mount
        })
    });
    draw.maybe(&mut container, "resources", 50, |draw, _| {
        let mut resources = json!({});
        draw.maybe(&mut resources, "requests", 60, |draw, _| {
            let mut requests = json!({});
            draw.one_of(&mut requests, "cpu", 60, &["100m".into(), "0.1".into(), 1.into()]);
            draw.one_of(&mut requests, "memory", 60, &["64Mi".into(), "67108864".into()]);
            requests
        });
        draw.maybe(&mut resources, "limits", 40, |draw, _| {
            let mut limits = json!({});
            draw.one_of(&mut limits, "cpu", 60, &[2.into(), "2000m".into(), "3".into()]);
            draw.one_of(&mut limits, "memory", 60, &["1Gi".into(), "2Gi".into()]);
            limits
        });
        resources
    });
    for (field, most) in [("args", 3), ("command", 2)] {
        draw.maybe(&mut container, field, 30, |draw, _| {
            let mut rng = draw.rng("words");
            // Flux drops an empty one before it applies: docs/flux.md.
            (0..=rng.below(most - 1)).map(|_| Value::from(rng.word(&["-v", "x", ""]))).collect()
        });
    }
    draw.maybe(&mut container, "securityContext", 30, |draw, _| {
        let mut context = json!({});
        draw.one_of(&mut context, "runAsUser", 50, &[0.into(), 1000.into()]);
        draw.one_of(&mut context, "readOnlyRootFilesystem", 50, &[true.into(), false.into()]);
        draw.maybe(&mut context, "capabilities", 40, |draw, _| {
            let mut capabilities = json!({});
            draw.one_of(
                &mut capabilities,
                "drop",
                60,
                &[json!(["ALL"]), json!(["NET_RAW", "KILL"]), json!([])],
            );
            draw.one_of(&mut capabilities, "add", 30, &[json!(["NET_ADMIN"])]);
            capabilities
        });
        context
    });
    draw.one_of(&mut container, "imagePullPolicy", 30, &["Always".into(), "IfNotPresent".into()]);
    draw.one_of(&mut container, "tty", 20, &[true.into()]);
    container
}

/// A probe and a way to end, for containers that are no init containers.
pub(super) fn lively(draw: &mut Draw, pod: &mut Value) {
    for (index, container) in pod["containers"].as_array_mut().into_iter().flatten().enumerate() {
        draw.inside(&format!("lively/{index}"), |draw| {
            draw.maybe(container, "readinessProbe", 30, |draw, rng| {
                let mut probe = match rng.below(3) {
                    0 => json!({"exec": {"command": ["true"]}}),
                    1 => json!({"tcpSocket": {"port": 80}}),
                    _ => json!({"httpGet": {"path": "/", "port": "http"}}),
                };
                draw.one_of(&mut probe, "periodSeconds", 50, &[1.into(), 10.into()]);
                probe
            });
            draw.maybe(container, "lifecycle", 20, |_, rng| match rng.below(2) {
                0 => json!({"preStop": {"exec": {"command": ["true"]}}}),
                _ => json!({"postStart": {"exec": {"command": ["true"]}}}),
            });
        });
    }
}
