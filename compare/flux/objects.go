package main

import (
	"context"
	"encoding/base64"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// objects are the ConfigMaps and Secrets that stand in for a cluster: of a client's methods only Get is there.
type objects struct {
	client.Client
	all map[string]*unstructured.Unstructured
}

func newObjects() *objects { return &objects{all: map[string]*unstructured.Unstructured{}} }

func name(kind, namespace, name string) string { return kind + "/" + namespace + "/" + name }

func (o *objects) add(rendered []*unstructured.Unstructured) {
	for _, object := range rendered {
		if object.GetAPIVersion() == "v1" && (object.GetKind() == "ConfigMap" || object.GetKind() == "Secret") {
			o.all[name(object.GetKind(), object.GetNamespace(), object.GetName())] = object
		}
	}
}

// namedBy gives the data of those that a Kustomization takes variables from.
func (o *objects) namedBy(object *unstructured.Unstructured) []any {
	from, _ := nested(object, "spec", "postBuild", "substituteFrom")
	references, _ := from.([]any)
	named := []any{}
	for _, reference := range references {
		reference, _ := reference.(map[string]any)
		kind, _, _ := unstructured.NestedString(reference, "kind")
		called, _, _ := unstructured.NestedString(reference, "name")
		if found := o.all[name(kind, object.GetNamespace(), called)]; found != nil {
			named = append(named, found.Object)
		} else {
			named = append(named, nil)
		}
	}
	return named
}

func (o *objects) Get(_ context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	kind := "ConfigMap"
	if _, is := into.(*corev1.Secret); is {
		kind = "Secret"
	}
	object, found := o.all[name(kind, key.Namespace, key.Name)]
	if !found {
		return apierrors.NewNotFound(schema.GroupResource{Resource: kind}, key.Name)
	}
	data, _, err := unstructured.NestedStringMap(object.Object, "data")
	if err != nil {
		return fmt.Errorf("read %s: %w", kind, err)
	}
	switch into := into.(type) {
	case *corev1.ConfigMap:
		into.Data = data
	case *corev1.Secret:
		into.Data = map[string][]byte{}
		for key, text := range data {
			value, err := base64.StdEncoding.DecodeString(text)
			if err != nil {
				return fmt.Errorf("read %s: %w", kind, err)
			}
			into.Data[key] = value
		}
		clear, _, err := unstructured.NestedStringMap(object.Object, "stringData")
		if err != nil {
			return fmt.Errorf("read %s: %w", kind, err)
		}
		for key, text := range clear {
			into.Data[key] = []byte(text)
		}
	}
	return nil
}
