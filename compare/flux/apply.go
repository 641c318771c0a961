package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/polling"
	"github.com/fluxcd/pkg/ssa"
	"github.com/fluxcd/pkg/ssa/normalize"
	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
)

const (
	fluxGroup = "kustomize.toolkit.fluxcd.io"
	// What kustomize-controller applies as.
	fluxManager = "kustomize-controller"
)

// revision is one revision of a Kustomization that is to be applied to a cluster.
type revision struct {
	Name    string                       `json:"name"`
	Force   bool                         `json:"force"`
	Objects []*unstructured.Unstructured `json:"objects"`
	// Before is what the last revision that was applied had: what is no longer there is pruned.
	Before []*unstructured.Unstructured `json:"before"`
}

type applied struct {
	Error string `json:"error,omitempty"`
}

// serveApply applies revisions to the cluster of a kubeconfig, one a line, and answers each with a line.
func serveApply(kubeconfig string, in io.Reader, out io.Writer) error {
	ctrl.SetLogger(logr.Discard())
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return fmt.Errorf("read %s: %w", kubeconfig, err)
	}
	config.QPS = -1
	config.WarningHandler = rest.NoWarnings{}
	http, err := rest.HTTPClientFor(config)
	if err != nil {
		return err
	}
	mapper, err := apiutil.NewDynamicRESTMapper(config, http)
	if err != nil {
		return err
	}
	objects, err := client.New(config, client.Options{Mapper: mapper, HTTPClient: http})
	if err != nil {
		return err
	}
	poller := polling.NewStatusPoller(objects, mapper, polling.Options{})
	manager := ssa.NewResourceManager(objects, poller, ssa.Owner{Field: fluxManager, Group: fluxGroup})
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var asked revision
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			return fmt.Errorf("read a revision: %w", err)
		}
		var answer applied
		if err := apply(manager, &asked); err != nil {
			answer.Error = err.Error()
		}
		if err := json.NewEncoder(out).Encode(answer); err != nil {
			return err
		}
	}
	return lines.Err()
}

func says(word, value string) map[string]string {
	return map[string]string{fluxGroup + "/" + word: value}
}

// apply does to the cluster what kustomize-controller does for a revision with `prune: true`: its options are those of
// KustomizationReconciler.apply and deleteObjects.
func apply(manager *ssa.ResourceManager, asked *revision) error {
	ctx, stop := context.WithTimeout(context.Background(), 2*time.Minute)
	defer stop()
	manager.SetOwnerLabels(asked.Objects, asked.Name, fleetNamespace)
	if err := normalize.UnstructuredList(asked.Objects); err != nil {
		return err
	}
	options := ssa.DefaultApplyOptions()
	options.WaitInterval = 50 * time.Millisecond
	options.Force = asked.Force
	options.ExclusionSelector = map[string]string{fluxGroup + "/reconcile": "disabled", fluxGroup + "/ssa": "ignore"}
	options.IfNotPresentSelector = says("ssa", "ifnotpresent")
	options.ForceSelector = says("force", "enabled")
	options.Cleanup = ssa.ApplyCleanupOptions{
		Annotations: []string{
			"kubectl.kubernetes.io/last-applied-configuration",
			"kustomize.toolkit.fluxcd.io/checksum",
			"fluxcd.io/sync-checksum",
		},
		Labels: []string{"fluxcd.io/sync-gc-mark"},
		FieldManagers: []ssa.FieldManager{
			{Name: "kubectl", OperationType: metav1.ManagedFieldsOperationApply},
			{Name: "kubectl", OperationType: metav1.ManagedFieldsOperationUpdate},
			{Name: "before-first-apply", OperationType: metav1.ManagedFieldsOperationUpdate},
			{Name: fluxManager, OperationType: metav1.ManagedFieldsOperationUpdate},
		},
		Exclusions: says("ssa", "merge"),
	}
	if _, err := manager.ApplyAllStaged(ctx, asked.Objects, options); err != nil {
		return err
	}
	wanted := map[string]bool{}
	for _, object := range asked.Objects {
		wanted[key(object)] = true
	}
	var stale []*unstructured.Unstructured
	for _, object := range asked.Before {
		if !wanted[key(object)] {
			stale = append(stale, object)
		}
	}
	_, err := manager.DeleteAll(ctx, stale, ssa.DeleteOptions{
		PropagationPolicy: metav1.DeletePropagationBackground,
		Inclusions:        manager.GetOwnerLabels(asked.Name, fleetNamespace),
		Exclusions:        map[string]string{fluxGroup + "/prune": "disabled", fluxGroup + "/reconcile": "disabled"},
	})
	return err
}
