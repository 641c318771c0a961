package main

import (
	"encoding/json"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

type healths struct {
	Health []status.Status `json:"health"`
}

// healthOf is what Flux waits for: kstatus, but a Job counts only when it is complete, as in Flux's reader of Jobs
// (fluxcd/pkg, runtime/statusreaders).
func healthOf(objects []json.RawMessage) (*healths, error) {
	found := &healths{Health: []status.Status{}}
	for _, text := range objects {
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(text); err != nil {
			return nil, err
		}
		result, err := status.Compute(object)
		switch {
		case err != nil:
			found.Health = append(found.Health, status.UnknownStatus)
		case result.Status == status.CurrentStatus && isRunningJob(object):
			found.Health = append(found.Health, status.InProgressStatus)
		default:
			found.Health = append(found.Health, result.Status)
		}
	}
	return found, nil
}

func isRunningJob(object *unstructured.Unstructured) bool {
	if gvk := object.GroupVersionKind(); gvk.Group != "batch" || gvk.Kind != "Job" {
		return false
	}
	with, err := status.GetObjectWithConditions(object.Object)
	if err != nil {
		return true
	}
	for _, condition := range with.Status.Conditions {
		if condition.Type == "Complete" && condition.Status == "True" {
			return false
		}
	}
	return true
}
