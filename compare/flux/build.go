package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin"
	"github.com/fluxcd/pkg/kustomize"
	"github.com/fluxcd/pkg/kustomize/filesys"
	"github.com/fluxcd/pkg/sourceignore"
	ssautil "github.com/fluxcd/pkg/ssa/utils"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/api/types"
)

// An artifact is what source-controller would make of the fleet repository: a folder without what its rules leave out.
type artifact struct {
	folder string
	// Whether a file in it may hold a schema of its own.
	hasSchemas bool
	// What was built, by what it was built from.
	memory map[string]built
}

type built struct {
	objects []*unstructured.Unstructured
	err     error
}

// ignored are further patterns, of the source's spec.
func newArtifact(tree, ignored string) (*artifact, error) {
	tree, err := filepath.Abs(tree)
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "flux-artifact-")
	if err != nil {
		return nil, err
	}
	domain := strings.Split(tree, string(filepath.Separator))
	patterns, err := sourceignore.LoadIgnorePatterns(tree, domain)
	if err != nil {
		return nil, err
	}
	patterns = append(patterns, sourceignore.ReadPatterns(strings.NewReader(ignored), domain)...)
	made := &artifact{folder: folder, memory: map[string]built{}}
	matcher := sourceignore.NewDefaultMatcher(patterns, domain)
	err = filepath.WalkDir(tree, func(at string, entry fs.DirEntry, err error) error {
		if err != nil || at == tree {
			return err
		}
		if matcher.Match(strings.Split(at, string(filepath.Separator)), entry.IsDir()) || !entry.Type().IsRegular() {
			return nil
		}
		inside, err := filepath.Rel(tree, at)
		if err != nil {
			return err
		}
		content, err := os.ReadFile(at)
		if err != nil {
			return err
		}
		made.hasSchemas = made.hasSchemas || bytes.Contains(content, []byte("openapi"))
		to := filepath.Join(folder, inside)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		return os.WriteFile(to, content, 0o644)
	})
	return made, err
}

func (a *artifact) remove() { _ = os.RemoveAll(a.folder) }

// build is what kustomize-controller does between a fetched artifact and its apply; rounds that ask for the same again
// get it from memory.
func (a *artifact) build(object *unstructured.Unstructured, known *objects) ([]*unstructured.Unstructured, error) {
	asked, err := json.Marshal([]any{object.Object, known.namedBy(object)})
	if err != nil {
		return nil, err
	}
	done, found := a.memory[string(asked)]
	if !found {
		done.objects, done.err = a.buildAnew(object, known)
		a.memory[string(asked)] = done
	}
	return done.objects, done.err
}

func (a *artifact) buildAnew(object *unstructured.Unstructured, known *objects) ([]*unstructured.Unstructured, error) {
	folder, err := securejoin.SecureJoin(a.folder, specPath(object))
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(folder); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("kustomization path not found: %s", specPath(object))
	}
	action, err := kustomize.NewGenerator(a.folder, *object).WriteFile(folder, kustomize.WithSaveOriginalKustomization())
	if err != nil {
		return nil, err
	}
	defer func() { _ = kustomize.CleanDirectory(folder, action) }()
	resources, err := a.run(folder)
	if err != nil {
		return nil, err
	}
	_, substitutes := nested(object, "spec", "postBuild")
	strategy, _, _ := unstructured.NestedString(object.Object, "spec", "postBuild", "substituteStrategy")
	for _, resource := range resources.Resources() {
		if resource.GetName() == "" || resource.GetKind() == "" || resource.GetApiVersion() == "" {
			return nil, fmt.Errorf("failed to decode Kubernetes apiVersion, kind and name from: %v", resource.String())
		}
		if !substitutes {
			continue
		}
		changed, err := kustomize.SubstituteVariables(context.Background(), known, *object, resource,
			kustomize.SubstituteWithStrict(true), kustomize.SubstituteWithAlways(strategy == "Always"))
		if err != nil {
			return nil, err
		}
		if changed != nil {
			if _, err := resources.Replace(resource); err != nil {
				return nil, err
			}
		}
	}
	text, err := resources.AsYaml()
	if err != nil {
		return nil, err
	}
	rendered, err := ssautil.ReadObjects(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	labels, _, _ := unstructured.NestedStringMap(object.Object, "spec", "commonMetadata", "labels")
	annotations, _, _ := unstructured.NestedStringMap(object.Object, "spec", "commonMetadata", "annotations")
	ssautil.SetCommonMetadata(rendered, labels, annotations)
	return rendered, nil
}

// run is kustomize.SecureBuild, but for what that does around each build: loading the schema of Kubernetes anew takes
// longer than all else together, and makes a difference only where a kustomization has `openapi`.
func (a *artifact) run(folder string) (resources resmap.ResMap, err error) {
	defer func() {
		if panicked := recover(); panicked != nil {
			err = fmt.Errorf("recovered from kustomize build panic: %v", panicked)
		}
	}()
	if a.hasSchemas {
		return kustomize.SecureBuild(a.folder, folder, false)
	}
	secure, err := filesys.MakeFsOnDiskSecure(a.folder)
	if err != nil {
		return nil, err
	}
	options := &krusty.Options{
		LoadRestrictions: types.LoadRestrictionsNone,
		PluginConfig:     types.DisabledPluginConfig(),
	}
	return krusty.MakeKustomizer(options).Run(secure, folder)
}

func nested(object *unstructured.Unstructured, fields ...string) (any, bool) {
	value, found, err := unstructured.NestedFieldNoCopy(object.Object, fields...)
	return value, found && err == nil
}
