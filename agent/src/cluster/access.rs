//! What accounts may do, asked of the API server.

use flotilla_core::plan::Access;
use flotilla_core::{ServiceAccount, UnitId, UnitKind};
use http::Method;
use serde::Deserialize;
use serde_json::json;

use super::Cluster;
use super::request::{Call, Failure};

impl Cluster {
    /// Whether an account may create the Flux object that defines a unit. The kind need not be served.
    ///
    /// # Errors
    /// If the API server cannot be asked.
    pub(crate) async fn may_create(
        &self,
        account: &ServiceAccount,
        unit: &UnitId,
    ) -> Result<Access, Failure> {
        #[derive(Deserialize)]
        struct Review {
            status: Status,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Status {
            allowed: bool,
            reason: String,
        }
        let (group, plural) = match unit.kind {
            UnitKind::HelmRelease => ("helm.toolkit.fluxcd.io", "helmreleases"),
            UnitKind::Kustomization | UnitKind::Root => ("kustomize.toolkit.fluxcd.io", "kustomizations"),
        };
        let groups = [
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{}", account.namespace),
            "system:authenticated".to_owned(),
        ];
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {
            "user": account.user(), "groups": groups,
            "resourceAttributes": {"group": group, "resource": plural, "verb": "create",
                "namespace": unit.namespace, "name": unit.name}}});
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        let call = Call::new(Method::POST, path).body("application/json", review.to_string());
        let review: Review = self.itself().ask(call).await?;
        if review.status.allowed {
            return Ok(Access::Allowed);
        }
        let reason = match review.status.reason.as_str() {
            "" => String::new(),
            reason => format!(" ({reason})"),
        };
        Ok(Access::Denied(format!(
            "{} may not create {plural}.{group} in namespace {}{reason}; its parent runs as that account, so grant it \
             that or give the parent another one",
            account.user(),
            unit.namespace
        )))
    }
}
