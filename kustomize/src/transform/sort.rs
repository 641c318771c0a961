//! The order of the output.

use crate::error::{Fail, Res, fail};
use crate::gvk::{ORDER_FIRST, ORDER_LAST, kind_order};
use crate::parts::SortOptions;
use crate::resmap::ResMap;
use crate::resource::Resource;

/// Sorts by the `sortOptions` of the kustomization that is built.
pub(crate) fn sort(map: &mut ResMap, options: &SortOptions) -> Res<()> {
    let failed = |message: String| Err(Fail::new(message).at(options.pos).field("sortOptions"));
    match (options.order.as_str(), &options.legacy) {
        ("fifo", None) => Ok(()),
        ("fifo", Some(_)) => failed(
            "the field 'sortOptions.legacySortOptions' is set but the selected sort order is 'fifo', not 'legacy'".into(),
        ),
        ("legacy", None) => legacy_default(map),
        ("legacy", Some((first, last))) => legacy(map, first, last),
        _ => failed("the field 'sortOptions.order' must be one of [fifo, legacy]".into()),
    }
}

/// The order of a plain `kustomize build`.
pub(crate) fn legacy_default(map: &mut ResMap) -> Res<()> {
    legacy(map, &ORDER_FIRST, &ORDER_LAST)
}

fn legacy<T: AsRef<str>>(map: &mut ResMap, first: &[T], last: &[T]) -> Res<()> {
    let keyed = |resource: Resource| {
        let id = resource.id();
        let namespace = if id.namespace.is_empty() { "~X" } else { &id.namespace };
        let name = if id.name.is_empty() { "~N" } else { &id.name };
        let order = kind_order(&id.gvk.kind, first, last);
        let key = (order, id.gvk.sorted_by(), format!("{}|{namespace}|{name}", id.gvk));
        (key, id, resource)
    };
    let mut keyed: Vec<_> = std::mem::take(&mut map.0).into_iter().map(keyed).collect();
    keyed.sort_by(|(a, a_id, _), (b, b_id, _)| {
        if a_id.gvk == b_id.gvk {
            return a.2.cmp(&b.2);
        }
        let by_kind = a.0.cmp(&b.0);
        let namespaces = a_id.gvk.kind == "Namespace" && b_id.gvk.kind == "Namespace";
        let core = a_id.gvk.group.is_empty() || b_id.gvk.group.is_empty();
        by_kind.then_with(|| if namespaces && core { b.1.cmp(&a.1) } else { a.1.cmp(&b.1) })
    });
    for pair in keyed.windows(2) {
        if pair[0].1.same(&pair[1].1) {
            return fail!(
                "SortOrderTransformer: Failed to append to resources: may not add resource with an already registered id: {}",
                pair[0].1
            );
        }
    }
    map.0 = keyed.into_iter().map(|(_, _, r)| r).collect();
    Ok(())
}
