use super::*;
use serde_json::json;

fn check(api_version: &str, kind: &str, spec: Value, status: Value, expected: Status, message: &str) {
    let object = json!({"apiVersion": api_version, "kind": kind,
        "metadata": {"name": "x", "generation": 2}, "spec": spec, "status": status});
    let health = Health::of(&Live::from(&object));
    assert_eq!((health.status, health.message.as_str()), (expected, message), "{object}");
}

fn conditions(list: &[(&str, &str, &str, &str)]) -> Value {
    let one = |(kind, status, reason, message): &(&str, &str, &str, &str)| json!({"type": kind, "status": status, "reason": reason, "message": message});
    Value::Array(list.iter().map(one).collect())
}

#[test]
fn workloads() {
    use Status::*;
    let d = |spec, status, expected, message| check("apps/v1", "Deployment", spec, status, expected, message);
    let full = |list: &[_]| {
        json!({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 3, "readyReplicas": 3,
            "availableReplicas": 3, "conditions": conditions(list)})
    };
    let three = json!({"replicas": 3});
    let with_deadline = json!({"replicas": 3, "progressDeadlineSeconds": 600});
    let available = ("Available", "True", "", "");
    let rolled_out = ("Progressing", "True", "NewReplicaSetAvailable", "");
    d(three.clone(), full(&[available]), Current, "");
    d(three.clone(), full(&[]), InProgress, "its controller has not set the condition Available yet");
    d(with_deadline.clone(), full(&[available, rolled_out]), Current, "");
    d(
        with_deadline,
        full(&[available, ("Progressing", "Unknown", "DeploymentPaused", "paused")]),
        InProgress,
        "Progressing is Unknown: DeploymentPaused: paused",
    );
    d(
        three.clone(),
        full(&[("Available", "False", "MinimumReplicasUnavailable", "too few")]),
        InProgress,
        "Available is False: MinimumReplicasUnavailable: too few",
    );
    d(three.clone(), json!({}), InProgress, "0 of 3 replicas are there");
    d(
        three.clone(),
        json!({"observedGeneration": 1, "replicas": 3}),
        InProgress,
        "its controller has not seen the last change yet",
    );
    d(
        three.clone(),
        json!({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 1}),
        InProgress,
        "1 of 3 replicas are updated",
    );
    d(
        three.clone(),
        json!({"observedGeneration": 2, "replicas": 4, "updatedReplicas": 3}),
        InProgress,
        "1 old replicas are still there",
    );
    d(
        three.clone(),
        json!({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 2}),
        InProgress,
        "2 of 3 replicas are available",
    );
    d(
        three.clone(),
        json!({"observedGeneration": 2, "conditions": conditions(&[("ReplicaFailure", "True", "FailedCreate", "exceeded quota: web")])}),
        InProgress,
        "0 of 3 replicas are there (FailedCreate: exceeded quota: web)",
    );
    d(
        three.clone(),
        json!({"observedGeneration": 2, "conditions": conditions(&[("Progressing", "False", "ProgressDeadlineExceeded", "timed out")])}),
        Failed,
        "ProgressDeadlineExceeded: timed out",
    );
    let none = json!({"observedGeneration": 2, "conditions": conditions(&[available])});
    d(json!({"replicas": 0}), none, Current, "");

    let s =
        |spec, status, expected, message| check("apps/v1", "StatefulSet", spec, status, expected, message);
    let up = json!({"observedGeneration": 2, "replicas": 3, "readyReplicas": 3, "currentReplicas": 3,
        "updatedReplicas": 3, "currentRevision": "a", "updateRevision": "a"});
    s(three.clone(), up, Current, "");
    s(
        three.clone(),
        json!({"observedGeneration": 2, "replicas": 2}),
        InProgress,
        "2 of 3 replicas are there",
    );
    let rolling = json!({"observedGeneration": 2, "replicas": 3, "readyReplicas": 3, "updatedReplicas": 1,
        "currentReplicas": 2, "currentRevision": "a", "updateRevision": "b"});
    s(three.clone(), rolling.clone(), InProgress, "2 of 3 replicas are of the current revision");
    let by_default = json!({"replicas": 3, "updateStrategy": {"rollingUpdate": {"partition": 0}}});
    s(by_default, rolling.clone(), InProgress, "1 of 3 replicas are updated");
    let partition = json!({"replicas": 3, "updateStrategy": {"rollingUpdate": {"partition": 2}}});
    s(partition, rolling.clone(), Current, "");
    s(json!({"replicas": 3, "updateStrategy": {"type": "OnDelete"}}), rolling, Current, "");

    let n = |status, expected, message| check("apps/v1", "DaemonSet", json!({}), status, expected, message);
    n(json!({"observedGeneration": 2, "desiredNumberScheduled": 0}), Current, "");
    n(json!({"observedGeneration": 2}), InProgress, "its controller has not counted the nodes yet");
    n(json!({"desiredNumberScheduled": 0}), InProgress, "its controller has not seen it yet");
    n(
        json!({"observedGeneration": 2, "desiredNumberScheduled": 2, "currentNumberScheduled": 2, "updatedNumberScheduled": 1}),
        InProgress,
        "1 of 2 pods are updated",
    );

    let r = |status, expected, message| {
        check("apps/v1", "ReplicaSet", json!({"replicas": 1}), status, expected, message)
    };
    r(
        json!({"replicas": 1, "fullyLabeledReplicas": 1, "availableReplicas": 1, "readyReplicas": 1}),
        Current,
        "",
    );
    r(json!({}), InProgress, "0 of 1 replicas are labelled");

    let j = |spec, status, expected, message| check("batch/v1", "Job", spec, status, expected, message);
    j(json!({}), json!({"active": 1}), InProgress, "0 of 1 completions; 1 running");
    j(json!({}), json!({"conditions": conditions(&[("Complete", "True", "", "")])}), Current, "");
    j(json!({"suspend": true}), json!({}), InProgress, "is suspended");
    j(
        json!({}),
        json!({"conditions": conditions(&[("Failed", "True", "BackoffLimitExceeded", "too many")])}),
        Failed,
        "BackoffLimitExceeded: too many",
    );
    check("batch/v1", "CronJob", json!({}), json!({}), Current, "");

    let p = |status, expected, message| check("v1", "Pod", json!({}), status, expected, message);
    p(json!({}), InProgress, "is not scheduled yet");
    p(json!({"phase": "Running", "conditions": conditions(&[("Ready", "True", "", "")])}), Current, "");
    p(json!({"phase": "Succeeded"}), Current, "");
    p(json!({"phase": "Failed", "message": "Evicted"}), Current, "");
    p(
        json!({"phase": "Pending", "conditions": conditions(&[("PodScheduled", "False", "Unschedulable", "0/1 nodes")])}),
        InProgress,
        "Unschedulable: 0/1 nodes",
    );
    let waiting = |reason: &str| {
        json!({"phase": "Running",
        "containerStatuses": [{"name": "web", "state": {"waiting": {"reason": reason, "message": "no such image"}}}]})
    };
    p(waiting("ImagePullBackOff"), InProgress, "container web: ImagePullBackOff no such image");
    p(waiting("CrashLoopBackOff"), Failed, "container web: CrashLoopBackOff no such image");
}

#[test]
fn everything_else() {
    use Status::*;
    let s = |spec, status, expected, message| check("v1", "Service", spec, status, expected, message);
    s(json!({"type": "ClusterIP"}), json!({}), Current, "");
    // Nothing in this cluster may ever give it an address.
    let balanced = json!({"type": "LoadBalancer", "clusterIP": "10.0.0.1"});
    s(balanced, json!({"loadBalancer": {}}), Current, "");
    s(json!({"type": "LoadBalancer"}), json!({}), InProgress, "has no address in the cluster yet");

    let c = |status, expected, message| {
        check("v1", "PersistentVolumeClaim", json!({}), status, expected, message)
    };
    c(json!({"phase": "Bound"}), Current, "");
    c(json!({"phase": "Pending"}), InProgress, "is Pending, not Bound");
    c(json!({"phase": "Lost"}), InProgress, "is Lost: the volume that it was bound to is gone");
    check("v1", "Namespace", json!({}), json!({"phase": "Active"}), Current, "");

    // It may stand before the pods that it is for, in a unit that they depend on.
    for status in [json!({}), json!({"observedGeneration": 2, "currentHealthy": 0, "desiredHealthy": 2})] {
        check("policy/v1", "PodDisruptionBudget", json!({}), status, Current, "");
    }
    let unavailable = json!({"conditions": conditions(&[("Available", "False", "MissingEndpoints", "")])});
    check("apiregistration.k8s.io/v1", "APIService", json!({}), unavailable, Current, "");

    let d = |list: &[_], expected, message| {
        let status = json!({"conditions": conditions(list)});
        check("apiextensions.k8s.io/v1", "CustomResourceDefinition", json!({}), status, expected, message);
    };
    d(&[("Established", "True", "", "")], Current, "");
    d(&[], InProgress, "is not established yet");
    d(&[("NamesAccepted", "False", "ListKindConflict", "taken")], Failed, "ListKindConflict: taken");
    d(&[("Established", "False", "Installing", "soon")], InProgress, "Installing: soon");
    d(&[("Established", "False", "NotAccepted", "never")], Failed, "NotAccepted: never");

    let x = |status, expected, message| {
        check("example.com/v1", "Widget", json!("text"), status, expected, message)
    };
    x(json!({}), Current, "");
    x(Value::Null, Current, "");
    x(json!({"observedGeneration": 1}), InProgress, "its controller has not seen the last change yet");
    x(json!({"conditions": conditions(&[("Ready", "True", "", "")])}), Current, "");
    x(
        json!({"conditions": conditions(&[("Ready", "False", "Wait", "soon\nlater")])}),
        InProgress,
        "Wait: soon",
    );
    x(
        json!({"conditions": conditions(&[("Ready", "True", "", ""), ("Stalled", "True", "Bad", "")])}),
        Failed,
        "Bad",
    );
    x(json!({"conditions": conditions(&[("Reconciling", "True", "Busy", "")])}), InProgress, "Busy");
    x(
        json!({"conditions": conditions(&[("Ready", "True", "", ""), ("Reconciling", "True", "Busy", ""), ("Stalled", "True", "Bad", "")])}),
        InProgress,
        "Busy",
    );
    x(json!({"observedGeneration": 3}), InProgress, "its controller has not seen the last change yet");
    x(json!({"observedGeneration": "2"}), InProgress, "its status.observedGeneration is not a whole number");
    let unreadable = "its status cannot be read: the conditions are not a list of conditions";
    for status in [
        json!("up"),
        json!({"conditions": "none"}),
        json!({"conditions": {"Ready": true}}),
        json!({"conditions": ["Ready"]}),
        json!({"conditions": [{"type": "Ready", "status": true}]}),
    ] {
        x(status, InProgress, unreadable);
    }
    x(json!({"conditions": [null, {"type": "Ready", "status": "True"}]}), Current, "");
}

#[test]
fn what_is_being_deleted_says_what_it_waits_for() {
    let object = json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "x",
        "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["a/b", "c"]}, "status": {"phase": "Active"}});
    let health = Health::of(&Live::from(&object));
    assert_eq!(health.status, Status::Terminating);
    assert_eq!(health.message, "is being deleted; waits for a/b, c");
}
