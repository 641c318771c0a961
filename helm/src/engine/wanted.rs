//! A release as the hub sends it: what a unit's policy says, and the two bodies that it names.

use flotilla_core::unit::{ReleaseSpec, UnitManifest};
use flotilla_core::{Digest, UnitId};

use super::{Target, Wanted};
use crate::content::{Content, unpack_chart};
use crate::names::{Namespace, ReleaseName};
use crate::record::RecordError;

/// Why a unit is no release that could be installed. The hub checks all of it before it sends one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WantedError {
    #[error("the {field} of the release of {unit} is wrong: {why}")]
    Name { unit: UnitId, field: &'static str, why: String },
    #[error("{what} of the release of {unit} cannot be read: {error}")]
    Body { unit: UnitId, what: &'static str, error: RecordError },
}

impl Wanted {
    /// The release of a unit. `content` and `chart` are the bodies that `release` names.
    ///
    /// # Errors
    /// If a name is none that Helm takes, or a body is not what the hub packs.
    pub fn of_unit(
        unit: &UnitManifest,
        release: &ReleaseSpec,
        content: &[u8],
        chart: &[u8],
    ) -> Result<Self, WantedError> {
        let body = |what, error| WantedError::Body { unit: unit.id.clone(), what, error };
        Ok(Self {
            target: Target::of_unit(&unit.id, release)?,
            digest: Digest::of_parts(
                [release.chart.digest, release.content.digest].iter().map(|it| &it.as_bytes()[..]),
            ),
            spec: unit.digest(),
            chart: unpack_chart(chart).map_err(|error| body("the chart", error))?,
            content: Content::unpack(content).map_err(|error| body("the content", error))?,
            options: release.options.clone(),
        })
    }
}

impl Target {
    /// # Errors
    /// If a name is none that Helm takes.
    pub fn of_unit(unit: &UnitId, release: &ReleaseSpec) -> Result<Self, WantedError> {
        let wrong = |field, why: String| WantedError::Name { unit: unit.clone(), field, why };
        let namespace =
            |field, text: &str| text.parse::<Namespace>().map_err(|error| wrong(field, error.to_string()));
        Ok(Self {
            name: release.name.parse::<ReleaseName>().map_err(|error| wrong("name", error.to_string()))?,
            namespace: namespace("namespace", &release.namespace)?,
            storage_namespace: namespace("storageNamespace", &release.storage_namespace)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use flotilla_core::UnitSpec;
    use flotilla_core::unit::Blob;
    use flotilla_core::unit::release::Options;
    use serde_json::json;

    use super::*;
    use crate::content::pack_chart;
    use crate::record::Json;

    fn unit(name: &str, max_history: u32) -> UnitManifest {
        let blob = |text: &str| Blob { digest: Digest::of(text.as_bytes()), size: 1 };
        let release = ReleaseSpec {
            name: name.to_owned(),
            namespace: "apps".to_owned(),
            storage_namespace: "records".to_owned(),
            content: blob("content"),
            chart: blob("chart"),
            options: Options { max_history, ..Options::default() },
        };
        let spec = UnitSpec { release: Some(release.into()), ..UnitSpec::default() };
        UnitManifest::new(UnitId::helm_release("apps", "web"), spec, vec![])
    }

    fn read(unit: &UnitManifest, content: &[u8], chart: &[u8]) -> Result<Wanted, WantedError> {
        Wanted::of_unit(unit, unit.spec.release.as_deref().unwrap(), content, chart)
    }

    #[test]
    fn what_the_hub_packs_is_a_release() {
        let content = Content {
            config: Json::of(&json!({"a": 1})),
            manifest: "---\na: 1\n".to_owned(),
            hooks: Vec::new(),
            notes: String::new(),
        };
        let chart = Json::of(&json!({"metadata": {"name": "own", "version": "1.0.0"}}));
        let (packed, packed_chart) = (content.pack(), pack_chart(&chart));
        let first = read(&unit("web", 5), &packed, &packed_chart).unwrap();
        let names = (first.target.name.as_str(), first.target.namespace.as_str());
        assert_eq!((names, first.target.storage_namespace.as_str()), (("web", "apps"), "records"));
        assert_eq!((&first.content, &first.chart, first.options.max_history), (&content, &chart, 5));

        // Other options are not another revision, but what failed counts anew.
        let other = read(&unit("web", 6), &packed, &packed_chart).unwrap();
        assert_eq!(other.digest, first.digest);
        assert_ne!(other.spec, first.spec);

        for (found, says) in [
            (
                read(&unit("Web!", 5), &packed, &packed_chart),
                "the name of the release of helmrelease/apps/web is wrong",
            ),
            (
                read(&unit("web", 5), b"no gzip", &packed_chart),
                "the content of the release of helmrelease/apps/web",
            ),
            (read(&unit("web", 5), &packed, b"no gzip"), "the chart of the release of helmrelease/apps/web"),
        ] {
            let error = found.unwrap_err().to_string();
            assert!(error.starts_with(says), "{error}");
        }
    }
}
