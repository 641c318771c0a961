package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"reflect"
	"sort"

	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/chartutil"
	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const (
	fleetNamespace = "flux-system"
	fleetName      = "flux-system"
	// Each round sees the ConfigMaps and Secrets of the one before. A fleet that needs more does not settle.
	maxRounds = 12
)

type unit struct {
	Objects []*unstructured.Unstructured `json:"objects"`
	Error   string                       `json:"error,omitempty"`
}

type release struct {
	Values json.RawMessage `json:"values,omitempty"`
	Error  string          `json:"error,omitempty"`
}

type outcome struct {
	Units    map[string]unit    `json:"units"`
	Releases map[string]release `json:"releases"`
	Error    string             `json:"error,omitempty"`
}

// same tells whether two rounds came to the same. Words of errors may differ: they name maps in any order.
func (o *outcome) same(other *outcome) bool {
	return maps.EqualFunc(o.Units, other.Units, func(a, b unit) bool {
		return (a.Error == "") == (b.Error == "") && reflect.DeepEqual(a.Objects, b.Objects)
	}) && maps.EqualFunc(o.Releases, other.Releases, func(a, b release) bool {
		return (a.Error == "") == (b.Error == "") && bytes.Equal(a.Values, b.Values)
	})
}

// cluster renders the units of one cluster until what they render no longer changes, and what the source leaves out.
func cluster(tree, root string) (*outcome, error) {
	ignored := ""
	for range maxRounds {
		done, err := clusterOf(tree, root, ignored)
		if err != nil {
			return nil, err
		}
		next := ignoredBy(done)
		if next == ignored {
			return done, nil
		}
		ignored = next
	}
	return nil, fmt.Errorf("what the source leaves out does not settle in %d rounds", maxRounds)
}

// ignoredBy gives spec.ignore of the fleet's own source, as the root defines it.
func ignoredBy(done *outcome) string {
	for _, object := range done.Units[fleetNamespace+"/"+fleetName].Objects {
		if key(object) == "source.toolkit.fluxcd.io/GitRepository/"+fleetNamespace+"/"+fleetName {
			text, _, _ := unstructured.NestedString(object.Object, "spec", "ignore")
			return text
		}
	}
	return ""
}

func clusterOf(tree, root, ignored string) (*outcome, error) {
	fleet, err := newArtifact(tree, ignored)
	if err != nil {
		return nil, err
	}
	defer fleet.remove()
	// What the root takes its own variables from is there before it is: a person has put it there.
	known := newObjects()
	if bare, err := fleet.build(bareRoot(root), known); err == nil {
		known.add(bare)
	}
	var last *outcome
	for range maxRounds {
		next := fleet.round(root, known)
		if last != nil && last.same(next) {
			return next, nil
		}
		last = next
		known = newObjects()
		for _, one := range next.Units {
			known.add(one.Objects)
		}
	}
	return nil, fmt.Errorf("the fleet does not settle in %d rounds", maxRounds)
}

func (a *artifact) round(root string, known *objects) *outcome {
	done := &outcome{Units: map[string]unit{}, Releases: map[string]release{}}
	queue := []*unstructured.Unstructured{a.rootObject(root, known)}
	for len(queue) > 0 {
		object := queue[0]
		queue = queue[1:]
		id := object.GetNamespace() + "/" + object.GetName()
		if _, again := done.Units[id]; again {
			continue
		}
		rendered, err := a.build(object, known)
		if err != nil {
			done.Units[id] = unit{Objects: []*unstructured.Unstructured{}, Error: err.Error()}
			continue
		}
		one := unit{Objects: []*unstructured.Unstructured{}}
		for _, object := range rendered {
			one.Objects = append(one.Objects, object)
			switch object.GroupVersionKind().GroupKind().String() {
			case "Kustomization.kustomize.toolkit.fluxcd.io":
				if isFleetSource(object) {
					queue = append(queue, object)
				}
			case "HelmRelease.helm.toolkit.fluxcd.io":
				done.Releases[object.GetNamespace()+"/"+object.GetName()] = values(object, known)
			}
		}
		sort.SliceStable(one.Objects, func(i, j int) bool { return key(one.Objects[i]) < key(one.Objects[j]) })
		done.Units[id] = one
	}
	return done
}

// rootObject is the Kustomization by which the cluster applies its own path: the one that stands in there, or a bare one.
func (a *artifact) rootObject(root string, known *objects) *unstructured.Unstructured {
	object := bareRoot(root)
	for range 4 {
		rendered, err := a.build(object, known)
		if err != nil {
			return object
		}
		var own *unstructured.Unstructured
		for _, candidate := range rendered {
			is := candidate.GroupVersionKind().GroupKind().String() == "Kustomization.kustomize.toolkit.fluxcd.io"
			if is && isFleetSource(candidate) && clean(specPath(candidate)) == clean(root) {
				own = candidate
			}
		}
		if own == nil || reflect.DeepEqual(own, object) {
			return object
		}
		object = own
	}
	return object
}

func bareRoot(root string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "kustomize.toolkit.fluxcd.io/v1",
		"kind":       "Kustomization",
		"metadata":   map[string]any{"name": fleetName, "namespace": fleetNamespace},
		"spec":       map[string]any{"path": root},
	}}
}

func specPath(object *unstructured.Unstructured) string {
	text, _, _ := unstructured.NestedString(object.Object, "spec", "path")
	return text
}

func clean(text string) string { return path.Clean("/" + text) }

func isFleetSource(object *unstructured.Unstructured) bool {
	get := func(field string) string {
		text, _, _ := unstructured.NestedString(object.Object, "spec", "sourceRef", field)
		return text
	}
	namespace := get("namespace")
	if namespace == "" {
		namespace = object.GetNamespace()
	}
	return get("kind") == "GitRepository" && namespace == fleetNamespace && get("name") == fleetName
}

func key(object *unstructured.Unstructured) string {
	gvk := object.GroupVersionKind()
	return gvk.Group + "/" + gvk.Kind + "/" + object.GetNamespace() + "/" + object.GetName()
}

// values are what the chart of a HelmRelease gets, as helm-controller composes them.
func values(object *unstructured.Unstructured, known *objects) release {
	var spec struct {
		Spec struct {
			Values     map[string]any         `json:"values"`
			ValuesFrom []meta.ValuesReference `json:"valuesFrom"`
		} `json:"spec"`
	}
	text, err := object.MarshalJSON()
	if err == nil {
		err = json.Unmarshal(text, &spec)
	}
	if err != nil {
		return release{Error: err.Error()}
	}
	composed, err := chartutil.ChartValuesFromReferences(context.Background(), logr.Discard(), known,
		object.GetNamespace(), spec.Spec.Values, spec.Spec.ValuesFrom...)
	if err != nil {
		return release{Error: err.Error()}
	}
	written, err := json.Marshal(composed)
	if err != nil {
		return release{Error: err.Error()}
	}
	return release{Values: written}
}
